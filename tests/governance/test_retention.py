"""Old versions that nothing uses go, physically and on record; all others stay."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.clock import ReplayClock, parse_time
from treadle.data import versions
from treadle.data.versions import Version
from treadle.governance import retention
from treadle.pipelines.lease import owner
from treadle.pipelines.run import RUN

PROJECT = """
import treadle as tr
project = tr.Project("shop")
orders = project.dataset("orders", source=tr.csv("orders.csv"), key="id", keep="30d")
forever = project.dataset("forever", source=tr.csv("orders.csv"), key="id")
images = project.dataset("images", source=tr.files("images/*.png"), key="path", keep="30d")
"""
START = parse_time("2024-01-01T00:00:00Z")


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "images").mkdir()
    return open_workspace(tmp_path, clock=ReplayClock(START))


def take(ws: Workspace, name: str, day: int) -> Version:
    assert isinstance(ws.clock, ReplayClock)
    ws.clock.set(START + timedelta(days=day))
    (ws.folder / "orders.csv").write_text(f"id,paid\n1,{day}\n2,7\n")
    (ws.folder / "images" / "a.png").write_bytes(f"picture of day {day}".encode())
    (ws.folder / "images" / "b.png").write_bytes(b"always the same")
    version = versions.take(ws.project.datasets[name], ws.folder, ws.tables, ws.ledger, now=ws.clock.now(), blobs=ws.blobs)
    versions.record(version, ws.ledger)
    return version


def old(ws: Workspace) -> list[retention.Old]:
    return retention.old(ws.project.datasets.values(), ws.ledger, ws.tables, ws.blobs, ws.clock.now())


def drop(ws: Workspace, found: list[retention.Old]) -> int:
    return retention.drop(found, ws.project.datasets.values(), ws.ledger, ws.tables, ws.blobs, ws.clock.now(), "ada")


def test_versions_older_than_keep_that_nothing_uses_are_dropped(ws: Workspace) -> None:
    taken = [take(ws, "orders", day) for day in (0, 10, 20, 45)]
    kept = [take(ws, "forever", day) for day in (45, 46)]
    ws.ledger.put("model_version", "late.v1", {"model": "late", "data": {"orders": taken[1].id}})
    found = old(ws)
    assert [o.id for o in found] == [taken[0].id]  # of day 10 a model was trained; the one of day 20 is 26 days old
    assert ws.tables.exists(taken[0].address)
    assert drop(ws, found) > 0
    assert [ws.tables.exists(v.address) for v in (*taken, *kept)] == [False, True, True, True, True, True]
    record = ws.ledger.get(versions.KIND, taken[0].id)
    assert record is not None
    assert record["dropped"] == "2024-02-16T00:00:00.000000Z"
    (event,) = [e for e in ws.ledger.events_since() if e.kind == "dataset.dropped"]
    assert (event.subject.id, event.actor, event.body["numbers"], event.body["versions"]) == ("orders", "ada", [0], [taken[0].id])
    assert old(ws) == []


def test_the_newest_version_stays_however_old_it_is(ws: Workspace) -> None:
    version = take(ws, "orders", 0)
    assert isinstance(ws.clock, ReplayClock)
    ws.clock.set(START + timedelta(days=500))
    assert old(ws) == []
    assert ws.tables.exists(version.address)


def test_the_bytes_of_files_go_with_the_last_version_that_has_them(ws: Workspace) -> None:
    first, second = take(ws, "images", 0), take(ws, "images", 45)
    before = set(ws.blobs.addresses())
    drop(ws, old(ws))
    assert len(before - set(ws.blobs.addresses())) == 1
    assert not ws.tables.exists(first.address)
    from treadle.data import filesets

    assert filesets.whole(ws.tables, ws.blobs, second.address)


def test_a_run_under_way_is_seen(ws: Workspace) -> None:
    take(ws, "orders", 0)
    assert retention.under_way(ws.ledger) == []
    ws.ledger.put(RUN, "run-1", {"status": "running", "owner": owner(), "scope": "shop.late", "started": ""})
    assert [r.id for r in retention.under_way(ws.ledger)] == ["run-1"]


def test_a_drop_that_was_interrupted_is_finished_by_doing_it_again(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = take(ws, "orders", 0)
    take(ws, "orders", 45)
    found = old(ws)
    with monkeypatch.context() as patched:
        patched.setattr(ws.ledger, "transaction", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            drop(ws, found)
    assert not ws.tables.exists(first.address)
    drop(ws, found)
    record = ws.ledger.get(versions.KIND, first.id)
    assert record is not None
    assert record["dropped"]
