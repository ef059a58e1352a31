"""What differs between two versions, and that a part at a time gives the same answer."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.data import differences
from treadle.testing.tables_contract import KEYED, TIMED, timed


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(tmp_path, MemoryBlobs())


def test_rows_columns_and_samples(tables: DeltaTables) -> None:
    old = pl.DataFrame({"id": [1, 2, 3, 4], "name": ["Ada", "Bob", "Cy", "Di"], "x": [1.0, 2.0, None, float("nan")]})
    new = pl.DataFrame({"id": [2, 3, 4, 5], "name": ["Bob", "Cyd", "Di", "Ed"], "x": [2.5, 3.0, float("nan"), 5.0]})
    a, b = tables.put(old), tables.put(new)
    found = differences.rows(tables, a, b, ["id"], samples=2, personal={"name": "name"})
    assert (found.added, found.removed, found.changed, found.note) == (1, 1, 2, "")
    assert found.columns == {"name": 1, "x": 2}
    assert found.samples["added"] == [{"id": 5, "name": "<name>", "x": 5.0}]
    assert found.samples["changed"][1] == {"id": 3, "changed": {"name": ["<name>", "<name>"], "x": [None, 3.0]}}


def test_columns_that_came_went_or_have_another_type(tables: DeltaTables) -> None:
    a, b = tables.put(pl.DataFrame({"id": [1], "x": [1], "old": [1]})), tables.put(pl.DataFrame({"id": [1], "x": ["1"], "new": [1]}))
    found = differences.shape(tables, a, b)
    assert (found.added, found.removed, found.retyped) == (["new"], ["old"], {"x": ["Int64", "String"]})
    assert differences.rows(tables, a, b, ["id"]).changed == 0


def test_files_that_both_have_are_not_read(tables: DeltaTables) -> None:
    frame = timed(range(400_000))
    first = tables.commit("t", frame, mode="replace", **TIMED)
    second = tables.commit("t", pl.concat([frame[:-5], timed(range(400_000, 400_003))]), mode="replace", **TIMED)
    shared = {p.name for p in tables.files(first.address)} & {p.name for p in tables.files(second.address)}
    assert shared
    for path in tables.files(first.address):
        if path.name in shared and path != tables.files(first.address)[0]:
            path.chmod(0o644)
            path.write_bytes(b"no parquet")
    found = differences.rows(tables, first.address, second.address, ["id"])
    assert (found.added, found.removed, found.changed) == (3, 5, 0)


def test_distributions_say_how_far_a_column_moved(tables: DeltaTables) -> None:
    def frame(shift: float, kind: str) -> pl.DataFrame:
        return pl.DataFrame(
            {"id": range(1000), "x": [i / 10 + shift for i in range(1000)], "kind": [kind if i % 2 else "c" for i in range(1000)],
             "gap": [None if i < 100 * shift else i for i in range(1000)], "at": [datetime(2013, 1, 1, tzinfo=UTC)] * 1000, "name": ["secret"] * 1000}
        )  # fmt: skip

    a, b = tables.put(frame(0, "a")), tables.put(frame(2, "b"))
    found = differences.distributions(tables, a, b, skip=["name"])
    assert found["x"]["mean"] == pytest.approx([49.95, 51.95])
    assert found["x"]["effect"]["ks"] == pytest.approx(0.02)
    assert found["kind"]["top"] == [[["a", 500], ["c", 500]], [["b", 500], ["c", 500]]] or found["kind"]["effect"]["psi"] > 1
    assert found["gap"]["missing"] == [0.0, 0.2]
    assert "secret" not in str(found)
    assert found["id"]["effect"]["psi"] < 0.01


row = st.tuples(st.integers(0, 30), st.integers(0, 2))


@given(st.lists(row, unique_by=lambda r: r[0]), st.lists(row, unique_by=lambda r: r[0]), st.integers(1, 9))
@settings(max_examples=50)
def test_it_is_what_comparing_dictionaries_gives_however_small_the_parts(old: list[Any], new: list[Any], part: int) -> None:
    tables = DeltaTables("/nowhere", MemoryBlobs())
    schema = {"id": pl.Int64, "v": pl.Int64}
    a, b = (tables.put(pl.DataFrame(rows, schema=schema, orient="row")) for rows in (old, new))
    was, now = dict(old), dict(new)
    before = differences.PART
    differences.PART = part
    try:
        found = differences.rows(tables, a, b, ["id"], samples=100)
    finally:
        differences.PART = before
    expected = (len(now.keys() - was.keys()), len(was.keys() - now.keys()), sum(was[k] != now[k] for k in was.keys() & now.keys()))
    assert (found.added, found.removed, found.changed) == expected
    if a != b:
        assert {r["id"] for r in found.samples["added"]} == now.keys() - was.keys()


def test_keyed_tables_with_a_dropped_version_say_so(tables: DeltaTables) -> None:
    first = tables.commit("t", pl.DataFrame({"id": [1]}), mode="replace", **KEYED)
    second = tables.commit("t", pl.DataFrame({"id": [2]}), mode="replace", **KEYED)
    tables.drop("t", [first.number])
    assert differences.rows(tables, first.address, second.address, ["id"]).note == "the rows of one of the two are gone"
