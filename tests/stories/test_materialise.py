"""The online store follows the data: new versions, rows that arrive, processes that are killed; and it never serves a gap or an older value."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.clock import ReplayClock, iso
from treadle.core.errors import NotFound, ProjectError, UsageError
from treadle.features.history import history, known_at
from treadle.features.online import look_up, packed
from treadle.monitoring import alarms
from treadle.ports.online import Key
from treadle.testing import servers
from treadle.wheel import steps as work
from treadle.wheel.materialise import STREAM, follow, materialise, note_stale, push, standing, view_of

NOW = datetime.now(UTC).replace(microsecond=0)
TIME = pl.Datetime("us", "UTC")
PROJECT = '''
import polars as pl
import treadle as tr

project = tr.Project("shop")
sales = project.dataset("sales", source={source}, key="id", event_time="at", known_time="known", contract=tr.Contract({{
    "id": tr.integer(), "shop": tr.category(), "at": tr.timestamp(), "known": tr.timestamp(), "price": tr.number(ge=0, nullable=True),
}}, at_most=1.0))
project.view("last-sale", source=sales, entity="shop", features=["price"], ttl="30d")
project.view("day", source=sales, entity="shop", window="24h", every="1h", features={{"n": pl.len(), "mean": pl.col("price").mean()}})

@project.view(source=sales, entity="shop", features=["total"], ttl="30d")
def totals(sales: pl.LazyFrame) -> pl.LazyFrame:
    return sales.sort("known", "at", "id").with_columns(pl.col("price").cum_sum().over("shop").alias("total"))
'''


def frame(*rows: tuple[int, str, float, float, float | None]) -> pl.DataFrame:
    """(id, shop, minutes ago that it happened and became known, price)."""
    told = [(id, shop, NOW - timedelta(minutes=at), NOW - timedelta(minutes=known), price) for id, shop, at, known, price in rows]
    return pl.DataFrame(told, schema={"id": pl.Int64, "shop": pl.String, "at": TIME, "known": TIME, "price": pl.Float64}, orient="row")


def project(folder: Path, rows: pl.DataFrame | None = None, source: str = 'tr.parquet("sales.parquet")', **settings: str) -> Workspace:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.py").write_text(PROJECT.format(source=source))
    (folder / "treadle.toml").write_text("".join(f'{name} = "{value}"\n' for name, value in settings.items()))
    if rows is not None:
        rows.write_parquet(folder / "sales.parquet")
    return open_workspace(folder)


def prices(ws: Workspace, *shops: str) -> list[Any]:
    view = ws.project.views["last-sale"]
    return [found["last-sale"].values["price"] for found in look_up(ws.online, [view], [{"shop": shop} for shop in shops], datetime.now(UTC))]


def as_fresh(ws: Workspace, name: str, rows: pl.DataFrame) -> bool:
    """Whether the store holds just what a history of the rows says is known now."""
    view = ws.project.views[name]
    moment = datetime.now(UTC)
    wanted = {key.entity: value.packed for key, value in packed(view, known_at(view, history(view, rows), moment))}
    return {entity: value.packed for entity, value in ws.online.scan(name)} == wanted


FIRST = [(1, "a", 600, 590, 10.0), (2, "b", 500, 490, 20.0), (3, "a", 300, 100, 12.0)]


def test_a_view_of_each_kind_holds_what_its_history_says_is_known_now(tmp_path: Path) -> None:
    rows = frame(*FIRST)
    ws = project(tmp_path, rows)
    for name in ("last-sale", "day", "totals"):
        done = materialise(ws, view_of(ws, name))
        assert (done.entities, done.written, done.rows) == (2, 2, 0 if name == "day" else 3)
        assert as_fresh(ws, name, rows)
    assert prices(ws, "a", "b", "c") == [12.0, 20.0, None]


def test_again_only_what_is_new_is_read_and_nothing_is_written_twice(tmp_path: Path) -> None:
    ws = project(tmp_path, frame(*FIRST, (4, "c", 10, -60, 99.0)))
    view = view_of(ws, "last-sale")
    assert materialise(ws, view).how == "all rows"
    assert prices(ws, "c") == [None]  # it happened, and nobody knows yet
    again = materialise(ws, view)
    assert (again.rows, again.written, again.how) == (0, 0, "rows known since the last time")
    later = materialise(ws, view, until=NOW + timedelta(minutes=61))
    assert (later.rows, later.written) == (1, 1)


def test_of_a_new_version_the_new_rows_are_written_and_late_ones_are_not(tmp_path: Path) -> None:
    rows = frame(*FIRST)
    ws = project(tmp_path, rows)
    view = view_of(ws, "last-sale")
    materialise(ws, view)
    more = pl.concat([rows, frame((4, "b", 400, 2, 21.0), (5, "a", 350, 2, 11.0), (6, "d", 5, 2, 4.0))])
    more.write_parquet(tmp_path / "sales.parquet")
    done = materialise(ws, view)
    assert done.written == 2
    assert prices(ws, "a", "b", "d") == [12.0, 21.0, 4.0]
    assert as_fresh(ws, "last-sale", more)


def test_rows_that_were_taken_out_or_changed_leave_the_store(tmp_path: Path) -> None:
    ws = project(tmp_path, frame(*FIRST, (4, "c", 30, 20, 7.0)))
    view = view_of(ws, "last-sale")
    materialise(ws, view)
    fewer = frame(FIRST[0], FIRST[1], (5, "d", 10, 5, 1.0))
    fewer.write_parquet(tmp_path / "sales.parquet")
    done = materialise(ws, view)
    assert done.removed == 1
    assert prices(ws, "a", "b", "c", "d") == [10.0, 20.0, None, 1.0]
    assert as_fresh(ws, "last-sale", fewer)


def test_a_range_fills_in_what_became_known_in_it_and_takes_nothing_newer_away(tmp_path: Path) -> None:
    ws = project(tmp_path, frame(*FIRST))
    view = view_of(ws, "last-sale")
    first = materialise(ws, view, since=NOW - timedelta(minutes=500), until=NOW - timedelta(minutes=400))
    assert (first.written, prices(ws, "a", "b")) == (1, [None, 20.0])
    materialise(ws, view)
    earlier = materialise(ws, view, since=NOW - timedelta(minutes=700), until=NOW - timedelta(minutes=200))
    assert (earlier.written, prices(ws, "a", "b")) == (0, [12.0, 20.0])


def test_another_definition_under_the_same_name_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    ws = project(tmp_path, frame(*FIRST))
    materialise(ws, view_of(ws, "last-sale"))
    text = (tmp_path / "project.py").read_text()
    (tmp_path / "project.py").write_text(text.replace('ttl="30d")\nproject.view("day"', 'ttl="8h")\nproject.view("day"'))
    ws = open_workspace(tmp_path)
    done = materialise(ws, view_of(ws, "last-sale"))
    assert (done.removed, prices(ws, "a", "b")) == (1, [12.0, None])


# --- rows as they arrive


def test_pushed_rows_are_served_at_once_through_the_same_contract_and_late_ones_change_nothing(tmp_path: Path) -> None:
    ws = project(tmp_path, frame(*FIRST))
    view = view_of(ws, "last-sale")
    materialise(ws, view)
    new = {"id": 9, "shop": "a", "at": iso(NOW - timedelta(minutes=3)), "known": iso(NOW - timedelta(minutes=1)), "price": 13.5}
    late = {**new, "id": 10, "at": iso(NOW - timedelta(minutes=400)), "price": 1.0}
    bad = {**new, "id": 11, "shop": "b", "price": -4.0}
    pushed = push(ws, view, [new, late, bad])
    assert (pushed.rows, pushed.set_aside, pushed.written) == (3, 1, 1)
    assert prices(ws, "a", "b") == [13.5, 20.0]
    assert push(ws, view, [new]).written == 0
    assert push(ws, view, [late]).written == 0
    assert prices(ws, "a") == [13.5]
    assert push(ws, view, []).rows == 0
    assert materialise(ws, view, exact=True).removed == 0  # what no version has yet stays
    assert prices(ws, "a") == [13.5]


@pytest.mark.parametrize("name", ["day", "totals"])
def test_a_view_that_needs_more_than_the_new_rows_says_so(tmp_path: Path, name: str) -> None:
    ws = project(tmp_path, frame(*FIRST))
    with pytest.raises(UsageError, match=f"cannot be told from new rows alone.*treadle materialise {name}"):
        push(ws, view_of(ws, name), frame(*FIRST))
    with pytest.raises(NotFound, match=r"There is no view 'nobody'\. The project declares: last-sale, day, totals"):
        view_of(ws, "nobody")


# --- killed


FILL = """
import sys
from treadle.wheel import materialise as m
from treadle.assemble import open_workspace
ws = open_workspace(sys.argv[1])
m.CHUNK = 50
write = ws.online.put_many
def slowly(values):
    stored = write(values)
    print(stored, flush=True)
    import time; time.sleep(0.05)
    return stored
ws.online.put_many = slowly
{call}
print("done", flush=True)
"""


def run_and_kill(folder: Path, call: str, after: int) -> int:
    """Start the program, and kill it with -9 once it has written so many times; returns how many it had."""
    with subprocess.Popen([sys.executable, "-c", FILL.format(call=call), str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            seen += line.strip() != "done"
            if seen == after:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    return seen


@pytest.mark.parametrize("store", ["sqlite", "redis", "postgres"])
def test_a_fill_that_is_killed_in_the_middle_is_done_again_and_ends_as_a_fresh_one(tmp_path: Path, store: str) -> None:
    name = servers.schema_of(tmp_path)
    address = {"sqlite": "sqlite:///{home}/online.db", "redis": "" if store != "redis" else servers.redis_url(prefix=f"{name}:"),
               "postgres": "" if store != "postgres" else servers.postgres_url(schema=name)}[store]  # fmt: skip
    rows = frame(*((i, f"shop {i % 700}", 5000 - i, 4000 - i, float(i)) for i in range(2000)))
    ws = project(tmp_path / "killed", rows, online=address)
    view = view_of(ws, "last-sale")
    assert run_and_kill(tmp_path / "killed", 'm.materialise(ws, m.view_of(ws, "last-sale"))', 5) == 5
    assert 0 < ws.online.count("last-sale") < 700
    done = materialise(ws, view)
    assert (done.entities, ws.online.count("last-sale")) == (700, 700)
    assert done.written <= 700 - 200
    assert as_fresh(ws, "last-sale", rows)
    ws.online.close()


def rows_stream(*, prefix: str = "") -> tuple[Any, str]:
    import redis

    server = servers.redis()
    return redis.Redis(port=server.port), f"redis://127.0.0.1:{server.port}/0"


def test_a_stream_is_pushed_row_by_row_and_a_killed_consumer_loses_none(tmp_path: Path) -> None:
    broker, address = rows_stream()
    stream = servers.schema_of(tmp_path)

    def send(begin: int, end: int) -> None:
        for i in range(begin, end):
            at = NOW - timedelta(minutes=3000 - i)
            broker.xadd(stream, {"id": i, "shop": f"shop {i % 400}", "at": iso(at), "known": iso(at), "price": float(i)})

    ws = project(tmp_path, source=f'tr.stream("{address}", topic="{stream}")')
    view = view_of(ws, "last-sale")
    send(0, 1000)
    assert run_and_kill(tmp_path, 'm.follow(ws, m.view_of(ws, "last-sale"))', 3) == 3
    assert ws.ledger.get(STREAM, "last-sale") is None  # it died before it could say how far it was
    send(1000, 1100)
    pushed = follow(ws, view)
    assert (pushed.rows, ws.online.count("last-sale")) == (1100, 400)
    assert prices(ws, "shop 99", "shop 100", "shop 399") == [899.0, 900.0, 799.0]
    assert follow(ws, view).rows == 0
    send(1100, 1101)
    assert (follow(ws, view).written, prices(ws, "shop 300")) == (1, [1100.0])
    broker.delete(stream)


# --- how fresh


def test_what_is_too_old_is_said_and_is_one_event_until_it_is_fresh_again(tmp_path: Path) -> None:
    ws = project(tmp_path, frame((1, "a", 40 * 1440, 40 * 1440, 1.0)))
    views = list(ws.project.views.values())
    assert [standing(ws, v).entities for v in views] == [0, 0, 0]
    assert note_stale(ws, views) == []
    view = view_of(ws, "last-sale")
    materialise(ws, view, until=NOW - timedelta(days=39))
    found = standing(ws, view)
    assert (found.entities, found.stale, found.limit) == (1, True, 30 * 86400)
    assert [s.view for s in note_stale(ws, views)] == ["last-sale"]
    note_stale(ws, views)
    events = ws.ledger.events_since(kinds=["features.stale"])
    assert [(e.subject.id, round(e.body["age"] / 86400)) for e in events] == [("last-sale", 40)]
    push(ws, view, frame((2, "a", 1, 1, 2.0)))
    assert not standing(ws, view).stale
    assert note_stale(ws, views) == []
    note_stale(ws, views)
    assert [e.kind for e in ws.ledger.events_since(kinds=["features.stale", "features.fresh"])] == ["features.stale", "features.fresh"]


def test_values_that_are_too_old_are_one_alarm_to_the_owner_of_the_view_until_they_are_fresh_again(tmp_path: Path) -> None:
    ws = project(tmp_path, frame((1, "a", 600, 600, 1.0)))
    text = (tmp_path / "project.py").read_text()
    (tmp_path / "project.py").write_text(text.replace('ttl="30d")\nproject.view("day"', 'ttl="30d", fresh="2h", owner="ann")\nproject.view("day"'))
    plain_digest = work.view_digest(ws.project.views["last-sale"])
    ws = open_workspace(tmp_path)
    sent: list[Any] = []
    ws.__dict__["notifiers"] = [SimpleNamespace(send=sent.append)]
    view = view_of(ws, "last-sale")
    assert work.view_digest(view) == plain_digest  # how fresh it must be changes none of its values
    materialise(ws, view)
    for _ in range(3):
        assert [s.view for s in note_stale(ws, [view])] == ["last-sale"]
    (alarm,) = alarms.open_data_alarms(ws.ledger)
    assert (alarm["kind"], alarm["view"], alarm["dataset"], alarm["owner"], alarm["for"]) == ("stale", "last-sale", "sales", "ann", ["ann"])
    at = f"{NOW - timedelta(minutes=600):%Y-%m-%d %H:%M} UTC"
    assert alarm["sentence"] == f"The newest online value of view 'last-sale' is of {at}; it may be 2h old."
    assert [(m.title, m.text) for m in sent] == [("view last-sale, for ann: stale", alarm["sentence"])]
    push(ws, view, frame((2, "a", 500, 500, 2.0)))  # newer, and too old as well: the same cause
    note_stale(ws, [view])
    (same,) = alarms.open_data_alarms(ws.ledger, "sales")
    assert (same.id, len(same["again"]), len(sent)) == (alarm.id, 1, 1)
    push(ws, view, frame((3, "a", 1, 1, 3.0)))
    note_stale(ws, [view])
    assert alarms.open_data_alarms(ws.ledger) == []
    resolved = ws.ledger.get(alarms.KIND, alarm.id)
    assert resolved is not None
    assert resolved["resolution"] == f"the newest value is of {NOW - timedelta(minutes=1):%Y-%m-%d %H:%M} UTC"
    ws.__dict__["clock"] = ReplayClock(NOW + timedelta(hours=3))
    note_stale(ws, [view])
    assert [a.id for a in alarms.open_data_alarms(ws.ledger)] != [alarm.id]  # too old once more is a new alarm
    (tmp_path / "project.py").write_text(text.replace('project.view("last-sale"', 'project.view("other"'))
    later = open_workspace(tmp_path)
    note_stale(later, [])
    assert alarms.open_data_alarms(later.ledger) == []  # nobody looks after a view that is gone


def test_a_view_over_data_without_time_cannot_be_fresh(tmp_path: Path) -> None:
    project(tmp_path)
    text = (tmp_path / "project.py").read_text().replace(', event_time="at", known_time="known"', "").replace('ttl="30d")\nproject.view("day"', 'fresh="2h")\nproject.view("day"')
    (tmp_path / "project.py").write_text(text)
    with pytest.raises(ProjectError, match="is to be fresh, and its source 'sales' has no known_time or event_time"):
        _ = open_workspace(tmp_path).project
    (tmp_path / "project.py").write_text(text.replace('"2h"', '"0s"'))
    with pytest.raises(ProjectError, match="fresh='0s', which is no time"):
        _ = open_workspace(tmp_path).project


def test_the_commands_fill_and_tell(tmp_path: Path) -> None:
    project(tmp_path, frame(*FIRST))

    def treadle(*words: str, code: int = 0) -> str:
        done = subprocess.run([sys.executable, "-m", "treadle.cli.main", "-C", str(tmp_path), *words], capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})
        assert done.returncode == code, done.stderr
        return done.stdout if code == 0 else done.stderr

    assert "last-sale: 2 newer values of 2 entities (all rows;" in treadle("materialise")
    said = treadle("online")
    assert "last-sale" in said
    assert "fresh" in said
    assert '"written": 0' in treadle("materialise", "last-sale", "--json")
    assert "There is no view 'x'" in treadle("materialise", "x", code=5)
    assert "is not before" in treadle("materialise", "--from", "2026-02-01", "--to", "2026-01-01", code=2)


# --- never a gap


def test_while_the_store_is_brought_forward_no_reader_sees_a_gap_or_an_older_value(tmp_path: Path) -> None:
    rows = frame(*((i, f"shop {i % 300}", 3000 - i, 3000 - i, float(i)) for i in range(600)))
    ws = project(tmp_path, rows)
    view = view_of(ws, "last-sale")
    materialise(ws, view)
    reader = """
import sys
from treadle.assemble import open_workspace
from treadle.ports.online import Key
store = open_workspace(sys.argv[1]).online
keys = [Key("last-sale", f"shop {n}") for n in range(300)]
last = [0] * 300
print("ready", flush=True)
while True:
    found = store.get_many(keys)
    if any(v is None for v in found): print("gap", flush=True); break
    if any(v.time < t for v, t in zip(found, last)): print("older", flush=True); break
    last = [v.time for v in found]
    if max(last) == int(sys.argv[2]): print("good", flush=True); break
"""
    end = (NOW - timedelta(minutes=1) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    with subprocess.Popen([sys.executable, "-c", reader, str(tmp_path), str(end)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for i in range(600, 1500, 100):
            more = frame(*((n, f"shop {n % 300}", 3000 - n, 3000 - n, float(n)) for n in range(i + 100)))
            more.write_parquet(tmp_path / "sales.parquet")
            materialise(ws, view, exact=i % 200 == 0)
        push(ws, view, frame((9999, "shop 7", 1, 1, 5.0)))
        assert process.stdout.readline() == "good\n"
    assert ws.online.get_many([Key("last-sale", "shop 7")]) != [None]


