"""Training and serving are one: proved before a version answers, recorded, and watched while it does."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from treadle.assemble import Workspace, open_workspace
from treadle.cli.main import cli
from treadle.client import Endpoint
from treadle.features import online
from treadle.live import feature_checks
from treadle.live.deploy import deploy, refresh, running_endpoint, stop
from treadle.monitoring import alarms
from treadle.ports.online import Key, Value
from treadle.reactions import step
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story
PROJECT = '''
    import polars as pl

    import treadle as tr

    project = tr.Project("deliveries", owner="dispatch", goal="call before a late delivery")
    orders = project.dataset(
        "orders", source=tr.parquet("orders.parquet"), key="id", event_time="ordered", known_time="delivered",
        contract=tr.Contract({"id": tr.integer(), "city": tr.category(), "km": tr.number(), "minutes": tr.number(nullable=True), "ordered": tr.timestamp(),
                              "delivered": tr.timestamp(), "late": tr.boolean()}),
    )
    load = project.view("load", source=orders, entity="city", window="3h", every="1h", features={"share": pl.col("late").mean(), "n": tr.within("6h", pl.len())})
    late = project.model(
        "late", rows=orders, target="late",
        inputs=["city", "km", tr.formula("speed", "km / (minutes / 60) if minutes > 0 else missing"), tr.formula("rush", "share * km if n > 2 else 0"),
                tr.formula("part", "'night' if hour(ordered, 'Europe/Zurich') < 6 else lower(city)")],
        views=[load], candidates=[tr.candidate("logistic")], trials=1, split=tr.at_random(test=0.3), gates=[tr.enough_rows(20)],
    )
    project.serve(late, shadow="1h")
    project.watch(late, every="1d", label_window="1d", skew_sample=50)
'''


def orders(count: int, until: datetime) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    ordered = [until - timedelta(minutes=float(m)) for m in np.sort(rng.uniform(60, 60 * 24 * 8, count))[::-1]]
    km = rng.uniform(1, 30, count)
    return pl.DataFrame(
        {
            "id": range(count), "city": rng.choice(["Bern", "Basel", "Zug"], count), "km": km,
            "minutes": [None if i % 17 == 0 else float(m) for i, m in enumerate(rng.uniform(0, 90, count))],
            "ordered": ordered, "delivered": [o + timedelta(minutes=float(m)) for o, m in zip(ordered, rng.uniform(5, 90, count), strict=True)],
            "late": (km + rng.normal(0, 8, count)) > 18,
        },
        schema_overrides={"ordered": pl.Datetime("us", "UTC"), "delivered": pl.Datetime("us", "UTC")},
    )  # fmt: skip


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    folder = tmp_path_factory.mktemp("deliveries")
    (folder / "project.py").write_text(textwrap.dedent(PROJECT))
    orders(900, datetime.now(UTC)).write_parquet(folder / "orders.parquet")
    made = open_workspace(folder)
    turn(made, made.model(), cause={"kind": "person", "id": "", "text": "test"})
    yield made
    if running_endpoint(made, "late") is not None:
        stop(made, "late")
    made.close()


def run(ws: Workspace, *arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(cli, ["-C", str(ws.folder), *arguments], standalone_mode=False)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return int(done.return_value or 0), done.output


def test_rows_go_again_through_the_serving_path_and_the_evidence_is_kept(ws: Workspace) -> None:
    code, said = run(ws, "features", "check", "late", "--rows", "120")
    assert (code, "120 rows through the serving path, 7 features each, 0 differ" in said) == (0, True), said
    evidence = ws.ledger.get("parity", "late.v1")
    assert evidence is not None
    assert (evidence["rows"], evidence["mismatches"], evidence["version"]) == (120, 0, 1)
    assert json.loads(run(ws, "features", "check", "late", "--json")[1])["mismatches"] == 0


def test_the_features_are_listed_shown_and_drawn(ws: Workspace) -> None:
    listed = {f["feature"]: f for f in json.loads(run(ws, "features", "--json")[1])}
    assert listed["share"]["columns"] == ["orders.city", "orders.delivered", "orders.late"]
    assert (listed["speed"]["kind"], listed["speed"]["columns"]) == ("formula", ["orders.km", "orders.minutes"])
    assert "share" in run(ws, "features")[1]
    shown = json.loads(run(ws, "features", "show", "load", "--json")[1])
    assert [(v["now"], v["used_by"]) for v in shown["versions"]] == [(True, ["late version 1"])]
    assert "computed as" in run(ws, "features", "show", "speed")[1]
    assert "model late" in run(ws, "features", "graph")[1]
    page = ws.folder / "graph.html"
    run(ws, "features", "graph", "--html", "--out", str(page))
    assert "load.share" in page.read_text()


def test_what_breaks_without_a_column_is_said(ws: Workspace) -> None:
    code, said = run(ws, "features", "breaks", "orders.minutes")
    assert code == 1
    assert "late.speed" in said
    assert run(ws, "features", "breaks", "orders.late", "--json")[0] == 1


def test_a_corrupted_online_store_is_an_alarm_that_names_view_feature_and_predictions_and_ends_when_it_is_mended(ws: Workspace) -> None:
    model = ws.model()
    deploy(ws, model)
    running = running_endpoint(ws, "late")
    assert running is not None
    endpoint = Endpoint(running["url"])

    def ask(count: int) -> None:
        refresh(ws, model)
        for i in range(count):
            endpoint.predict({"city": ["Bern", "Basel", "Zug"][i % 3], "km": 3.0 + i, "minutes": float(i % 4 * 10)})

    def look(hours: float) -> list[str]:
        ws.clock = _Shifted(hours)
        return step(ws, model)

    ask(12)
    assert [line for line in look(0) if "skew" in line] == []
    first = feature_checks.last_look(ws, "late")
    assert (first["rows"], first["skewed"], first["not_compared"]) == (12, 0, "")

    held = list(ws.online.scan("load"))
    for entity, value in held:  # somebody writes other values into the store of a live endpoint
        until, *numbers = stored(value.packed)
        wrong = msgspec.msgpack.encode((until, *[None if n is None else n + 0.5 for n in numbers]))
        ws.online.forget("load", [entity])
        ws.online.put_many([(Key("load", entity), Value(value.time, wrong, value.event, value.until))])
    for i in range(9):
        endpoint.predict({"city": ["Bern", "Basel", "Zug"][i % 3], "km": 3.0 + i})
    look(2)
    (alarm,) = [a for a in alarms.open_alarms("late", ws.ledger) if a["kind"] == "skew"]
    assert alarm["severity"] == "high"
    assert "of view 'load'" in alarm["sentence"]
    assert "'share'" in alarm["sentence"]
    assert "For example p" in alarm["sentence"]
    look(4)
    assert len([a for a in alarms.open_alarms("late", ws.ledger) if a["kind"] == "skew"]) == 1  # one cause, one alarm

    ws.online.clear("load")
    ws.clock = _Shifted(0)
    ws.ledger.put("online_view", "load", {**ws.ledger.get("online_view", "load").body, "layout": []})  # type: ignore[union-attr]
    refresh(ws, model)
    for i in range(6):
        endpoint.predict({"city": ["Bern", "Basel", "Zug"][i % 3], "km": 3.0 + i})
    look(6)
    assert [a for a in alarms.open_alarms("late", ws.ledger) if a["kind"] == "skew"] == []


def stored(packed: bytes) -> list[object]:
    """The end of a stored value and its features; a city without an order within the window has none of one, and is packed in the other way."""
    if packed[0] == online._NUMBERS:
        *numbers, until = online._numbers(packed)
        return [until, *numbers]
    return list(msgspec.msgpack.decode(packed))


class _Shifted:
    """The wall clock, some hours on."""

    def __init__(self, hours: float) -> None:
        self._hours = hours

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(hours=self._hours)
