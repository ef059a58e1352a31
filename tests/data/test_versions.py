"""Versions over time: what is new is put onto what was there, equal content is one version, and an id stays when a person is erased from it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle as tr
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.declare.data import Dataset
from treadle.core.declare.source import Source
from treadle.data import suppressed, versions
from treadle.data.suppressed import Suppressed, subject_digest
from treadle.data.versions import Version
from treadle.ports.source import Rows

DAY = datetime(2013, 1, 1, tzinfo=UTC)
NOW = datetime(2014, 1, 1, tzinfo=UTC)


class Shop:
    """A database of orders that says what changed since; each row counts its changes."""

    shown = "shop"
    forgets = False

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.count = 0
        self.reads: list[str] = []

    def put(self, id: int, paid: float | None, status: str = "open", who: str = "p-1", day: int = 0) -> None:
        self.count += 1
        self.rows[id] = {"id": id, "at": DAY + timedelta(days=day), "paid": paid, "status": status, "who": who, "count": self.count}

    def fingerprint(self, since: Mapping[str, Any] | None = None) -> str | None:
        return str(self.count)

    def read(self, since: Mapping[str, Any] | None = None) -> Rows:
        after = since["count"] if since else 0
        self.reads.append("some" if since else "all")
        found = [{k: v for k, v in row.items() if k != "count"} for row in self.rows.values() if row["count"] > after]
        schema = {"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "paid": pl.Float64, "status": pl.String, "who": pl.String}
        return Rows(pl.DataFrame(found, schema=schema), {"count": self.count}, full=since is None)


class World:
    def __init__(self, folder: Path) -> None:
        self.tables, self.ledger, self.shop, self.folder = DeltaTables(folder / "tables", MemoryBlobs()), MemoryLedger(), Shop(), folder
        self.erased = suppressed.NOBODY

    def dataset(self, **changes: Any) -> Dataset:
        contract = tr.Contract({"paid": tr.number(ge=0), "status": tr.category()}, at_most=1.0)
        declared: dict[str, Any] = {"key": "id", "event_time": "at", "contract": contract, "exclude": {"cancelled": pl.col("status") == "cancelled"}}
        source = Source("sql", options={"table": "orders"})
        return tr.Project("p").dataset("orders", source=source, subject="who", **{**declared, **changes})

    def take(self, **changes: Any) -> Version:
        version = versions.take(
            self.dataset(**changes), self.folder, self.tables, self.ledger, now=NOW, reach=lambda source: self.shop, erased=self.erased
        )
        versions.record(version, self.ledger)
        return version

    def rows(self, version: Version) -> dict[int, tuple[Any, ...]]:
        return {r[0]: r[1:] for r in self.tables.scan(version.address).select("id", "paid", "status").collect().rows()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_only_what_is_new_is_read_and_put_onto_what_is_there(world: World) -> None:
    for i in range(5):
        world.shop.put(i, 10.0 * i, day=i)
    first = world.take()
    world.shop.put(1, 99.0, day=1)
    world.shop.put(7, 70.0, day=7)
    second = world.take()
    assert world.shop.reads == ["all", "some"]
    assert (second.added, second.changed, second.removed, second.rows) == (1, 1, 0, 6)
    assert world.rows(second)[1] == (99.0, "open")
    assert (second.parent, second.number, second.end[:10]) == (first.id, first.number + 1, "2013-01-08")
    assert world.rows(first)[1] == (10.0, "open")


def test_when_nothing_is_new_it_is_the_same_version(world: World) -> None:
    world.shop.put(1, 1.0)
    first = world.take()
    assert world.take() == first
    world.shop.count += 5  # the database has counted on
    assert world.take() == first
    record = world.ledger.get(versions.KIND, first.id)
    assert record is not None
    assert record["position"]["at"] == {"count": 6}
    assert [e.kind for e in world.ledger.events_since()].count("dataset.versioned") == 1
    assert versions.result(first) == versions.result(world.take())  # so that nothing after it is done again


def test_a_row_that_goes_out_of_scope_or_breaks_its_contract_leaves_the_data_set(world: World) -> None:
    for i in range(4):
        world.shop.put(i, 1.0)
    world.take()
    world.shop.put(0, 1.0, status="cancelled")
    world.shop.put(1, -5.0)
    second = world.take()
    assert set(world.rows(second)) == {2, 3}
    assert (second.removed, second.quarantined, second.excluded) == (2, 1, {"cancelled": 1})
    world.shop.put(2, 2.0)
    third = world.take()
    assert third.quarantined == 1  # still set aside
    world.shop.put(1, 5.0)
    fourth = world.take()
    assert (set(world.rows(fourth)), fourth.quarantined, fourth.quarantine) == ({1, 2, 3}, 0, "")


def test_content_that_comes_back_is_the_version_it_was(world: World) -> None:
    (world.folder / "rows.csv").write_text("id,paid\n1,1\n")
    csv = {"source": tr.csv("rows.csv"), "event_time": None, "exclude": {}, "contract": None, "subject": ""}

    def take() -> Version:
        version = versions.take(replace(world.dataset(contract=None, exclude={}, event_time=None), source=csv["source"], subject=""), world.folder, world.tables, world.ledger)
        versions.record(version, world.ledger)
        return version

    first = take()
    (world.folder / "rows.csv").write_text("id,paid\n1,2\n")
    second = take()
    (world.folder / "rows.csv").write_text("id,paid\n1,1\n")
    third = take()
    assert third.id == first.id != second.id
    assert (first.number, second.number, third.number) == (0, 1, 2)
    newest = versions.newest("orders", world.ledger)
    assert newest == third
    assert len(world.ledger.find(versions.KIND)) == 2


def test_an_erased_person_stays_out_and_the_version_keeps_its_id(world: World) -> None:
    for i in range(4):
        world.shop.put(i, 1.0, who="p-2" if i == 2 else "p-1")
    first = world.take()
    told = world.tables.rewrite([first.address], lambda rows: rows.filter(pl.col("who") != "p-2"))
    record = world.ledger.get(versions.KIND, first.id)
    assert record is not None
    world.ledger.put(versions.KIND, first.id, {**record.body, "address": told[first.address], "position": {}})
    world.erased = Suppressed(b"k" * 32, frozenset({subject_digest(b"k" * 32, "p-2")}))
    again = world.take()
    assert (again.id, again.number, set(world.rows(again))) == (first.id, first.number, {0, 1, 3})
    world.shop.put(2, 7.0, who="p-2")
    assert world.take().id == first.id
    world.shop.put(3, 7.0)
    assert set(world.rows(world.take())) == {0, 1, 3}


def test_when_the_rows_from_before_are_gone_everything_is_read_again(world: World) -> None:
    for i in range(4):
        world.shop.put(i, 1.0)
    first = world.take()
    for file in world.tables.files(first.address):
        file.unlink()
    world.shop.put(9, 1.0)
    second = world.take()
    assert world.shop.reads == ["all", "all"]
    assert set(world.rows(second)) == {0, 1, 2, 3, 9}


def test_a_version_from_before_there_were_numbers_is_known(world: World) -> None:
    address = world.tables.put(pl.DataFrame({"id": [1]}))
    old = {"dataset": "orders", "address": address, "rows": 1, "quarantined": 0, "quarantine": "", "reasons": {}, "excluded": {}, "start": "", "end": ""}
    world.ledger.put(versions.KIND, f"orders-{address[:12]}", old)
    found = versions.newest("orders", world.ledger)
    assert found is not None
    assert (found.id, found.number) == (f"orders-{address[:12]}", -1)
    world.shop.put(1, 1.0)
    assert world.take().number == 0


change = st.tuples(st.integers(0, 8), st.sampled_from([1.0, 2.0, -1.0, None]), st.sampled_from(["open", "cancelled"]), st.integers(0, 3))


@given(st.lists(st.lists(change, max_size=6), min_size=1, max_size=6), st.booleans())
@settings(max_examples=40)
def test_what_was_put_together_bit_by_bit_is_what_one_reading_gives(steps: list[list[tuple[int, float | None, str, int]]], ordered: bool) -> None:
    changes: dict[str, Any] = {} if ordered else {"event_time": None}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        bit_by_bit = World(Path(one))
        bit_by_bit.shop.put(100, 1.0)
        taken = bit_by_bit.take(**changes)
        for step in steps:
            for id, paid, status, day in step:
                bit_by_bit.shop.put(id, paid, status, day=day)
            taken = bit_by_bit.take(**changes)
        at_once = World(Path(other))
        at_once.shop = bit_by_bit.shop
        whole = at_once.take(**changes)
        assert at_once.rows(whole) == bit_by_bit.rows(taken)
        assert (whole.quarantined, whole.rows) == (taken.quarantined, taken.rows)
        if ordered:
            assert whole.digest == taken.digest
