"""What every table store must do: the promises of `treadle.ports.tables`, one test each."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from treadle.core.errors import NotFound
from treadle.ports.tables import Tables

ABSENT = "0" * 64


def flights(rows: int = 1000) -> pl.DataFrame:
    """A frame with every kind of column a data set has, and gaps in each."""
    numbers = pl.Series("n", range(rows), dtype=pl.Int64)
    gap = numbers % 7 == 0
    return pl.DataFrame(
        {
            "id": numbers,
            "delay": pl.Series([n / 3 for n in range(rows)]),
            "origin": pl.Series([("JFK", "LGA", "żółw 🚲")[n % 3] for n in range(rows)]),
            "late": pl.Series([n % 2 == 0 for n in range(rows)]),
            "day": pl.Series([date(2013, 1, 1 + n % 28) for n in range(rows)]),
            "at": pl.Series([datetime(2013, 1, 1, n % 24, tzinfo=UTC) for n in range(rows)], dtype=pl.Datetime("us", "UTC")),
            "small": numbers.cast(pl.Int8, strict=False),
            "carrier": pl.Series([("AA", "UA")[n % 2] for n in range(rows)], dtype=pl.Enum(["UA", "AA"])),
            "tags": pl.Series([["a"] * (n % 3) for n in range(rows)], dtype=pl.List(pl.String)),
        }
    ).with_columns(pl.when(~gap).then(pl.col("delay", "origin", "late", "day", "at")))


class TablesContract:
    """Inherit, and say in `make` how to open a store that lives in a folder."""

    def make(self, folder: Path) -> Tables:
        raise NotImplementedError

    @pytest.fixture
    def tables(self, tmp_path: Path) -> Tables:
        return self.make(tmp_path)

    def test_rows_come_back_with_their_order_names_and_types(self, tables: Tables) -> None:
        frame = flights()
        address = tables.write(frame)
        assert tables.exists(address)
        assert_frame_equal(tables.scan(address).collect(), frame, check_exact=True)

    @pytest.mark.parametrize("frame", [flights(0), flights(1), pl.DataFrame({"x": [None, None]}), pl.DataFrame({"x": [float("nan"), float("-inf")]})])
    def test_small_and_odd_tables_come_back_too(self, tables: Tables, frame: pl.DataFrame) -> None:
        assert_frame_equal(tables.scan(tables.write(frame)).collect(), frame, check_exact=True)

    def test_a_scan_reads_only_what_is_asked_for(self, tables: Tables) -> None:
        scanned = tables.scan(tables.write(flights()))
        assert isinstance(scanned, pl.LazyFrame)
        assert scanned.filter(pl.col("id") >= 990).select("id").collect().to_series().to_list() == list(range(990, 1000))

    def test_equal_rows_have_one_address_however_the_frame_was_put_together(self, tables: Tables) -> None:
        frame = flights(1000)
        in_pieces = pl.concat([frame.slice(0, 333), frame.slice(333, 500), frame.slice(833)], rechunk=False)
        filtered = pl.concat([frame, frame]).with_row_index("row").filter(pl.col("row") < 1000).drop("row")
        assert {tables.write(frame) for _ in range(3)} == {tables.write(in_pieces)} == {tables.write(filtered)} == {tables.write(frame.clone())}

    def test_another_order_name_type_or_value_is_another_version(self, tables: Tables) -> None:
        frame = flights(10)
        others = [
            frame.reverse(), frame.rename({"id": "key"}), frame.cast({"id": pl.Int32}), frame.with_columns(pl.col("id") + 1), frame.head(9),
            frame.select(frame.columns[::-1]),
        ]  # fmt: skip
        assert len({tables.write(each) for each in [frame, *others]}) == 7

    def test_a_new_version_leaves_the_old_one_as_it_was(self, tables: Tables) -> None:
        first = tables.write(flights(10))
        tables.write(flights(11))
        assert_frame_equal(tables.scan(first).collect(), flights(10))

    def test_what_was_never_written_is_not_found(self, tables: Tables) -> None:
        tables.write(flights(1))
        for address in (ABSENT, "../flights", ""):
            assert not tables.exists(address)
            with pytest.raises(NotFound):
                tables.scan(address)

    def test_another_process_gives_equal_rows_the_same_address(self, tables: Tables, tmp_path: Path) -> None:
        here = tables.write(pl.concat([flights()] * 200))  # more rows than one row group holds
        kind = type(self)
        code = (
            "import importlib.util, sys, pathlib\n"
            "spec = importlib.util.spec_from_file_location('contract_test', sys.argv[1]); module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "import polars as pl; from treadle.testing.tables_contract import flights\n"
            "print(getattr(module, sys.argv[2])().make(pathlib.Path(sys.argv[3])).write(pl.concat([flights()] * 200)))\n"
        )
        file = sys.modules[kind.__module__].__file__
        assert file is not None
        other = tmp_path / "other"
        other.mkdir()
        done = subprocess.run([sys.executable, "-c", code, file, kind.__name__, str(other)], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip() == here
