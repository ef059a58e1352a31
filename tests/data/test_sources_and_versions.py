"""From a source to a version: bad rows are set aside with their reasons, none is lost unseen, and equal rows are one version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.declare.data import Dataset
from treadle.core.errors import ContractViolated, DataError
from treadle.data import sources, versions
from treadle.data.versions import Version

CONTRACT = {"id": tr.integer(), "at": tr.timestamp(), "size": tr.number(ge=0, le=10), "colour": tr.category(isin=("red", "blue"), nullable=True)}


class World:
    """A folder with a file of rows, and stores in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = DeltaTables(folder / "tables", MemoryBlobs())
        self.ledger = MemoryLedger()

    def dataset(self, lines: Sequence[str] | None = None, **changes: Any) -> Dataset:
        if lines is not None:
            (self.folder / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        declared: dict[str, Any] = {"source": tr.csv("rows.csv"), "key": "id", "event_time": "at", "contract": tr.Contract(CONTRACT, at_most=1.0)}
        return tr.Project("p").dataset("rows", **{**declared, **changes})

    def take(self, dataset: Dataset) -> Version:
        return versions.take(dataset, self.folder, self.tables, self.ledger)

    def good(self, version: Version) -> pl.DataFrame:
        return self.tables.scan(version.address).collect()

    def quarantine(self, version: Version) -> dict[Any, str]:
        return dict(self.tables.scan(version.quarantine).select("id", "reason").collect().iter_rows())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


HEADER = "id,at,size,colour"
GOOD = ["1,2013-01-01,1.5,red", "2,2013-01-02,2.5,blue", "3,2013-01-03,3.5,"]


def test_good_rows_come_typed_and_in_the_order_of_their_time(world: World) -> None:
    version = world.take(world.dataset([HEADER, *reversed(GOOD)]))
    frame = world.good(version)
    assert frame.schema == {"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "size": pl.Float64, "colour": pl.String}
    assert frame["id"].to_list() == [1, 2, 3]
    assert (version.rows, version.quarantined, version.quarantine, version.reasons) == (3, 0, "", {})
    assert (version.start, version.end) == ("2013-01-01T00:00:00.000000Z", "2013-01-03T00:00:00.000000Z")


def test_a_missing_column_is_named_with_the_ones_there_are(world: World) -> None:
    with pytest.raises(DataError, match="Column 'size' is missing") as caught:
        world.take(world.dataset(["id,at,colour", "1,2013-01-01,red"]))
    assert caught.value.where == "data set 'rows' (rows.csv)"
    assert caught.value.hint == "It has: id, at, colour."


@pytest.mark.parametrize("declared", [{"key": "number"}, {"event_time": "when"}, {"known_time": "told"}])
def test_a_missing_key_or_time_is_named_too(world: World, declared: dict[str, str]) -> None:
    with pytest.raises(DataError, match=f"Column '{next(iter(declared.values()))}' is missing"):
        world.take(world.dataset([HEADER, *GOOD], contract=None, **declared))


@pytest.mark.parametrize("lines", [[HEADER], [""]])
def test_a_file_without_rows_is_refused(world: World, lines: list[str]) -> None:
    with pytest.raises(DataError, match=r"no rows|empty|no header|no columns"):
        world.take(world.dataset(lines))


def test_a_file_that_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(DataError, match=r"There is no file 'rows\.csv'") as caught:
        world.take(world.dataset())
    assert "relative to the project folder" in str(caught.value)


def test_a_folder_is_no_file(world: World) -> None:
    (world.folder / "rows.csv").mkdir()
    with pytest.raises(DataError, match="is a folder"):
        world.take(world.dataset())


def test_cells_of_a_wrong_type_set_their_row_aside_with_the_reason(world: World) -> None:
    version = world.take(world.dataset([HEADER, *GOOD, "4,soon,1,red", "5,2013-01-01,big,red", "6,soon,big,red", "x,2013-01-01,1,red"]))
    assert world.good(version)["id"].to_list() == [1, 2, 3]
    reasons = world.quarantine(version)
    assert "at does not read as timestamp" in reasons[4]
    assert "size does not read as number" in reasons[5]
    assert {"at does not read as timestamp", "size does not read as number"} <= set(reasons[6].split("; "))
    assert {"id does not read as integer", "id is missing"} <= set(reasons[None].split("; "))
    assert version.reasons["size does not read as number"] == 2


def test_values_outside_the_contract_set_their_row_aside_with_the_reason(world: World) -> None:
    version = world.take(world.dataset([HEADER, *GOOD, "4,2013-01-04,-1,red", "5,2013-01-05,11,red", "6,2013-01-06,,red", "7,2013-01-07,1,pink"]))
    assert world.quarantine(version) == {
        4: "size is below 0", 5: "size is above 10", 6: "size is missing", 7: "colour is not one of the allowed values",
    }  # fmt: skip


def test_a_broken_rule_is_told_in_its_own_words_and_an_undecided_one_is_not_broken(world: World) -> None:
    rule = {"red ones are small; at most 2": (pl.col("colour") != "red") | (pl.col("size") <= 2)}
    lines = [HEADER, *GOOD, "4,2013-01-04,9,red", "5,2013-01-05,9,"]
    version = world.take(world.dataset(lines, contract=tr.Contract(CONTRACT, rule, at_most=1.0)))
    assert world.quarantine(version) == {4: "rule broken: red ones are small; at most 2"}
    assert version.reasons == {"rule broken: red ones are small; at most 2": 1}


@pytest.mark.parametrize("column", [tr.integer(), tr.integer(unique=True)])
def test_of_rows_with_one_key_the_first_is_kept_and_the_others_are_set_aside(world: World, column: Any) -> None:
    lines = [HEADER, *GOOD, "2,2013-01-05,9,red", "2,2013-01-06,9,red"]
    version = world.take(world.dataset(lines, contract=tr.Contract({**CONTRACT, "id": column}, at_most=1.0)))
    assert world.good(version).rows()[1][2:] == (2.5, "blue")
    assert version.rows == 3
    assert version.reasons == {"id is not unique": 2}


def test_a_key_of_several_columns_is_one_key(world: World) -> None:
    version = world.take(world.dataset([HEADER, *GOOD, "1,2013-01-02,2,red", "1,2013-01-01,2,red"], key=("id", "at")))
    assert (version.rows, version.reasons) == (4, {"id + at is not unique": 1})


def test_a_column_declared_unique_keeps_its_first_value_and_may_be_missing_many_times(world: World) -> None:
    contract = tr.Contract({"name": tr.text(unique=True, nullable=True)}, at_most=1.0)
    version = world.take(world.dataset(["id,name", "1,a", "2,", "3,", "4,a"], event_time=None, contract=contract))
    assert (version.rows, version.reasons) == (3, {"name is not unique": 1})


def test_more_bad_rows_than_allowed_stop_the_run_and_the_worst_reasons_are_named(world: World) -> None:
    lines = [HEADER, *GOOD, "4,2013-01-04,-1,red", "5,2013-01-05,-2,red", "6,2013-01-06,-2,pink", "7,2013-01-06,1,pink", "8,x,1,red"]
    with pytest.raises(ContractViolated) as caught:
        world.take(world.dataset(lines, contract=tr.Contract(CONTRACT, at_most=0.5)))
    assert caught.value.what.startswith("5 of 8 rows (62.5%) break the contract, more than the 50.0% it allows: size is below 0 (3 rows); ")
    assert "colour is not one of the allowed values (2 rows)" in caught.value.what
    assert "test_sources_and_versions.py:" in (caught.value.where or "")
    assert world.take(world.dataset(lines, contract=tr.Contract(CONTRACT, at_most=0.625))).quarantined == 5


def test_rows_out_of_scope_are_counted_and_break_nothing(world: World) -> None:
    exclude = {"of another year": pl.col("at").dt.year() != 2013, "too small to matter": pl.col("size") < 2}
    lines = [HEADER, *GOOD, "4,2012-01-04,99,pink", "5,2012-01-05,1,red", "6,2013-01-05,,red"]
    version = world.take(world.dataset(lines, exclude=exclude))
    assert version.excluded == {"of another year": 2, "too small to matter": 1}
    assert (version.rows, version.quarantined, version.reasons) == (2, 1, {"size is missing": 1})


def test_a_row_out_of_scope_does_not_take_the_key_of_one_within(world: World) -> None:
    lines = [HEADER, "1,2012-01-01,9,red", *GOOD]
    version = world.take(world.dataset(lines, exclude={"of another year": pl.col("at").dt.year() != 2013}))
    assert (version.rows, version.quarantined) == (3, 0)


def test_when_nothing_is_left_it_is_said(world: World) -> None:
    with pytest.raises(DataError, match="None of the 3 rows is left"):
        world.take(world.dataset([HEADER, *GOOD], exclude={"all": pl.lit(True)}))
    with pytest.raises(DataError, match="None of the 3 rows is left"):
        world.take(world.dataset(contract=tr.Contract({**CONTRACT, "size": tr.number(ge=100)}, at_most=1.0)))


def test_the_same_rows_are_the_same_version_and_a_changed_one_is_another(world: World) -> None:
    first = world.take(world.dataset([HEADER, *GOOD]))
    again = world.take(world.dataset([HEADER, *(f"{line}  " for line in GOOD)]))
    moved = world.take(world.dataset([HEADER, *reversed(GOOD)]))
    changed = world.take(world.dataset([HEADER, *GOOD[:2], "3,2013-01-03,3.6,"]))
    assert first == again == moved
    assert changed.address != first.address
    assert (first.id, changed.id) == (f"rows-{first.digest[:12]}", f"rows-{changed.digest[:12]}")
    assert (first.number, changed.number) == (0, 1)


def test_a_version_is_recorded_once(world: World) -> None:
    version = world.take(world.dataset([HEADER, *GOOD]))
    for _ in range(2):
        versions.record(version, world.ledger)
    (found,) = world.ledger.find(versions.KIND)
    assert Version(**found.body) == version
    assert [e.kind for e in world.ledger.events_since()] == ["dataset.versioned"]


def test_rows_are_counted_when_nothing_names_them(world: World) -> None:
    version = world.take(world.dataset([HEADER, *GOOD], key="row_number"))
    assert world.good(version)["row_number"].to_list() == [0, 1, 2]


def test_times_are_read_as_times_even_where_no_contract_says_so(world: World) -> None:
    version = world.take(world.dataset([HEADER, *GOOD, "4,soon,1,red"], contract=tr.Contract({}, at_most=1.0), known_time="at"))
    assert world.good(version).schema["at"] == pl.Datetime("us", "UTC")
    assert (version.start, version.reasons) == ("2013-01-01T00:00:00.000000Z", {"at does not read as timestamp": 1})


def test_a_function_may_return_a_frame_a_lazy_one_or_a_list(world: World) -> None:
    data = [{"id": 1, "at": datetime(2013, 1, 1, tzinfo=UTC), "size": 1.0, "colour": "red"}]
    made: list[Callable[[], Any]] = [lambda: data, lambda: pl.DataFrame(data), lambda: pl.LazyFrame(data)]
    taken = {world.take(world.dataset(source=tr.rows(function))).address for function in made}
    assert len(taken) == 1
    with pytest.raises(DataError, match="returned dict"):
        world.take(world.dataset(source=tr.rows(lambda: {"id": [1]})))


def test_a_pattern_of_parquet_files_is_one_data_set(world: World) -> None:
    for i in range(3):
        pl.DataFrame({"id": [i], "at": [datetime(2013, 1, 1 + i)], "size": [1.0], "colour": ["red"]}).write_parquet(world.folder / f"part{i}.parquet")
    version = world.take(world.dataset(source=tr.parquet("part*.parquet")))
    assert version.rows == 3
    (world.folder / "part1.parquet").write_bytes(b"PAR1 no parquet")
    with pytest.raises(DataError, match="does not parse"):
        world.take(world.dataset(source=tr.parquet("part*.parquet")))


def test_a_pattern_of_csv_files_is_one_data_set_and_other_headers_are_named(world: World) -> None:
    for i in range(2):
        (world.folder / f"part{i}.csv").write_text("\n".join([HEADER, GOOD[i]]))
    assert world.take(world.dataset(source=tr.csv("part*.csv"))).rows == 2
    (world.folder / "part2.csv").write_text("id,at,size,shade\n3,2013-01-03,3.5,red\n")
    with pytest.raises(DataError, match=r"part2\.csv has other columns than part0\.csv: it lacks 'colour' and has also 'shade'"):
        world.take(world.dataset(source=tr.csv("part*.csv")))


@pytest.mark.parametrize("name", ["rows[1].csv", "rows[1].parquet"])
def test_a_file_whose_name_looks_like_a_pattern_is_found(world: World, name: str) -> None:
    lines = [HEADER, *GOOD]
    (world.folder / name).write_text("\n".join(lines))
    if name.endswith("parquet"):
        pl.read_csv((world.folder / name).read_bytes()).write_parquet(world.folder / name)
    source = tr.csv(name) if name.endswith("csv") else tr.parquet(name)
    assert world.take(world.dataset(source=source)).rows == 3


def test_the_fingerprint_of_files_is_their_content(world: World) -> None:
    first = sources.fingerprint(world.dataset([HEADER, *GOOD]), world.folder)
    (world.folder / "rows.csv").touch()
    assert sources.fingerprint(world.dataset(), world.folder) == first
    assert sources.fingerprint(world.dataset([HEADER, *GOOD[:2]]), world.folder) != first


def test_a_function_has_a_fingerprint_only_when_it_names_its_package(world: World) -> None:
    assert sources.fingerprint(world.dataset(source=tr.rows(partial(list))), world.folder) is None
    assert sources.fingerprint(world.dataset(source=tr.rows(list, package="polars")), world.folder) is not None
    with pytest.raises(DataError, match="The package 'no-such-package' is not installed"):
        sources.fingerprint(world.dataset(source=tr.rows(list, package="no-such-package")), world.folder)
