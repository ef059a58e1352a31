"""What every table store must do: the promises of `treadle.ports.tables`, one test each."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from treadle.core.errors import Conflict, Corrupt, DataError, NotFound
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


def every_type() -> pl.DataFrame:
    """Types that Delta Lake has no equal of."""
    moment = datetime(2013, 5, 1, 12, 30, 15, 123456)
    return pl.DataFrame(
        {
            "id": pl.Series([1, 2, 3], dtype=pl.UInt64),
            "u8": pl.Series([1, None, 255], dtype=pl.UInt8),
            "u32": pl.Series([1, None, 2**32 - 1], dtype=pl.UInt32),
            "i16": pl.Series([1, None, -5], dtype=pl.Int16), "f32": pl.Series([0.5, None, float("nan")], dtype=pl.Float32),
            "naive": pl.Series([moment, None, moment], dtype=pl.Datetime("us")),
            "milli": pl.Series([moment, None, moment], dtype=pl.Datetime("ms")),
            "nano": pl.Series([1, None, 10**18 + 1], dtype=pl.Int64).cast(pl.Datetime("ns")),
            "warsaw": pl.Series([moment, None, moment]).dt.replace_time_zone("Europe/Warsaw"),
            "span": pl.Series([timedelta(seconds=1), None, timedelta(days=-3)], dtype=pl.Duration("ms")),
            "clock": pl.Series([time(1, 2, 3), None, time(23)]),
            "price": pl.Series([Decimal("1.25"), None, Decimal("-3.50")], dtype=pl.Decimal(10, 2)),
            "kind": pl.Series(["a", None, "b"], dtype=pl.Categorical),
            "bytes": [b"\x00\xff", None, b""], "nothing": pl.Series([None] * 3, dtype=pl.Null),
            "parts": pl.Series([{"a": 1, "b": ["x"]}, None, {"a": None, "b": []}], dtype=pl.Struct({"a": pl.UInt16, "b": pl.List(pl.String)})),
            "pair": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int64, 2)),
            "days": pl.Series([[date(2013, 1, 1)], None, []], dtype=pl.List(pl.Date)),
        }
    )  # fmt: skip


def rows(**columns: Any) -> pl.DataFrame:
    return pl.DataFrame(columns)


KEYED: dict[str, Any] = {"key": ["id"], "sort": []}
TIMED: dict[str, Any] = {"key": ["id"], "sort": ["at", "id"]}


def timed(ids: range, *, step: int = 1, start: datetime = datetime(2013, 1, 1, tzinfo=UTC)) -> pl.DataFrame:
    """Rows a minute apart, in another order than that of their keys' hashes."""
    numbers = pl.Series("id", ids, dtype=pl.Int64)
    return pl.DataFrame({"id": numbers}).with_columns(
        at=pl.lit(start) + pl.duration(minutes=pl.col("id") * step), value=(pl.col("id") * 7919) % 1000 / 10, name=pl.format("row {}", "id")
    )


class TablesContract:
    """Inherit, and say in `make` how to open a store that lives in a folder."""

    def make(self, folder: Path) -> Tables:
        raise NotImplementedError

    @pytest.fixture
    def tables(self, tmp_path: Path) -> Tables:
        return self.make(tmp_path)

    def test_rows_come_back_with_their_order_names_and_types(self, tables: Tables) -> None:
        frame = flights()
        address = tables.put(frame)
        assert tables.exists(address)
        assert_frame_equal(tables.scan(address).collect(), frame, check_exact=True)

    @pytest.mark.parametrize("frame", [flights(0), flights(1), pl.DataFrame({"x": [None, None]}), pl.DataFrame({"x": [float("nan"), float("-inf")]})])
    def test_small_and_odd_tables_come_back_too(self, tables: Tables, frame: pl.DataFrame) -> None:
        assert_frame_equal(tables.scan(tables.put(frame)).collect(), frame, check_exact=True)

    def test_a_scan_reads_only_what_is_asked_for(self, tables: Tables) -> None:
        scanned = tables.scan(tables.put(flights()))
        assert isinstance(scanned, pl.LazyFrame)
        assert scanned.filter(pl.col("id") >= 990).select("id").collect().to_series().to_list() == list(range(990, 1000))

    def test_equal_rows_have_one_address_however_the_frame_was_put_together(self, tables: Tables) -> None:
        frame = flights(1000)
        in_pieces = pl.concat([frame.slice(0, 333), frame.slice(333, 500), frame.slice(833)], rechunk=False)
        filtered = pl.concat([frame, frame]).with_row_index("row").filter(pl.col("row") < 1000).drop("row")
        assert {tables.put(frame) for _ in range(3)} == {tables.put(in_pieces)} == {tables.put(filtered)} == {tables.put(frame.clone())}

    def test_another_order_name_type_or_value_is_another_version(self, tables: Tables) -> None:
        frame = flights(10)
        others = [
            frame.reverse(), frame.rename({"id": "key"}), frame.cast({"id": pl.Int32}), frame.with_columns(pl.col("id") + 1), frame.head(9),
            frame.select(frame.columns[::-1]),
        ]  # fmt: skip
        assert len({tables.put(each) for each in [frame, *others]}) == 7

    def test_a_new_version_leaves_the_old_one_as_it_was(self, tables: Tables) -> None:
        first = tables.put(flights(10))
        tables.put(flights(11))
        assert_frame_equal(tables.scan(first).collect(), flights(10))

    def test_what_was_never_written_is_not_found(self, tables: Tables) -> None:
        tables.put(flights(1))
        for address in (ABSENT, "../flights", ""):
            assert not tables.exists(address)
            with pytest.raises(NotFound):
                tables.scan(address)

    def test_another_process_gives_equal_rows_the_same_address(self, tables: Tables, tmp_path: Path) -> None:
        here = tables.put(pl.concat([flights()] * 200))  # more rows than one row group holds
        kind = type(self)
        code = (
            "import importlib.util, sys, pathlib\n"
            "spec = importlib.util.spec_from_file_location('contract_test', sys.argv[1]); module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\n"
            "import polars as pl; from treadle.testing.tables_contract import flights\n"
            "print(getattr(module, sys.argv[2])().make(pathlib.Path(sys.argv[3])).put(pl.concat([flights()] * 200)))\n"
        )
        file = sys.modules[kind.__module__].__file__
        assert file is not None
        other = tmp_path / "other"
        other.mkdir()
        done = subprocess.run([sys.executable, "-c", code, file, kind.__name__, str(other)], capture_output=True, text=True, check=True, timeout=120)
        assert done.stdout.strip() == here

    # Named tables

    def test_a_commit_is_a_numbered_version_whose_rows_come_back(self, tables: Tables) -> None:
        frame = flights()
        first = tables.commit("flights", frame, mode="replace", **KEYED)
        assert (first.table, first.rows, first.added, first.changed, first.removed) == ("flights", 1000, 1000, 0, 0)
        assert first.bytes == sum(p.stat().st_size for p in tables.files(first.address))
        assert_frame_equal(tables.scan(first.address).collect(), frame, check_exact=True)
        assert tables.exists(first.address)
        assert tables.commits("flights") == [first]
        assert tables.names() == ["flights"]

    @pytest.mark.parametrize("frame", [flights(0), flights(1), every_type(), every_type().head(0), pl.DataFrame({"id": [1], "a b;c=ü": [None]})])
    def test_odd_types_names_and_sizes_come_back_from_a_named_table_too(self, tables: Tables, frame: pl.DataFrame) -> None:
        made = tables.commit("odd", frame, mode="replace", **KEYED)
        assert_frame_equal(tables.scan(made.address).collect(), frame, check_exact=True, categorical_as_str=True)

    def test_equal_content_is_no_new_version_in_whatever_way_it_comes(self, tables: Tables) -> None:
        frame = timed(range(1000))
        first = tables.commit("t", frame, mode="replace", **TIMED)
        assert tables.commit("t", frame.reverse(), mode="replace", **TIMED) == first
        assert tables.commit("t", [frame[:300], frame[300:300], frame[300:]], mode="replace", **TIMED) == first
        assert tables.commit("t", frame[5:50], mode="upsert", **TIMED) == first
        assert tables.commit("t", frame[:0], mode="upsert", **TIMED) == first
        assert tables.commit("t", frame[5:50], mode="append", **TIMED) == first
        assert tables.commits("t") == [first]

    def test_a_replacement_says_what_it_changed_and_leaves_the_old_version_as_it_was(self, tables: Tables) -> None:
        frame = timed(range(100))
        first = tables.commit("t", frame, mode="replace", **TIMED)
        other = pl.concat([frame[10:], timed(range(100, 103))]).with_columns(value=pl.when(pl.col("id") == 50).then(-1.0).otherwise("value"))
        second = tables.commit("t", other, mode="replace", **TIMED)
        assert (second.added, second.changed, second.removed, second.rows) == (3, 1, 10, 93)
        assert second.number > first.number
        assert_frame_equal(tables.scan(first.address).collect(), frame)
        assert_frame_equal(tables.scan(second.address).collect(), other)

    def test_appended_rows_come_in_at_their_place_and_a_taken_key_is_refused(self, tables: Tables) -> None:
        frame = timed(range(0, 100, 2))
        tables.commit("t", frame, mode="replace", **TIMED)
        made = tables.commit("t", timed(range(1, 100, 2)), mode="append", **TIMED)
        assert (made.added, made.changed, made.removed) == (50, 0, 0)
        assert_frame_equal(tables.scan(made.address).collect(), timed(range(100)))
        with pytest.raises(DataError, match="1 rows are appended under a key"):
            tables.commit("t", timed(range(1)).with_columns(value=pl.lit(-1.0)), mode="append", **TIMED)

    def test_upserted_rows_change_what_is_there_and_add_what_is_not(self, tables: Tables) -> None:
        frame = timed(range(100))
        tables.commit("t", frame, mode="replace", **TIMED)
        coming = pl.concat([frame[20:22].with_columns(value=pl.lit(-1.0)), frame[22:30], timed(range(100, 101))])
        made = tables.commit("t", coming, mode="upsert", remove=frame[:2].select("id"), **TIMED)
        assert (made.added, made.changed, made.removed, made.rows) == (1, 2, 2, 99)
        found = tables.scan(made.address).collect()
        assert found["id"].to_list() == list(range(2, 101))
        assert found.filter(pl.col("value") == -1.0)["id"].to_list() == [20, 21]

    def test_a_row_whose_time_changed_moves_to_its_new_place(self, tables: Tables) -> None:
        frame = timed(range(10))
        tables.commit("t", frame, mode="replace", **TIMED)
        late = frame[:1].with_columns(at=pl.lit(datetime(2014, 1, 1, tzinfo=UTC)).cast(frame.schema["at"]))
        found = tables.scan(tables.commit("t", late, mode="upsert", **TIMED).address).collect()
        assert found["id"].to_list() == [*range(1, 10), 0]

    def test_without_an_order_changed_rows_keep_their_place_and_new_ones_go_to_the_end(self, tables: Tables) -> None:
        tables.commit("t", rows(id=["c", "a", "b"], n=[1, 2, 3]), mode="replace", **KEYED)
        made = tables.commit("t", rows(id=["d", "a"], n=[5, 9]), mode="upsert", remove=rows(id=["b", "x"]), **KEYED)
        assert tables.scan(made.address).collect().rows() == [("c", 1), ("a", 9), ("d", 5)]
        assert (made.added, made.changed, made.removed) == (1, 1, 1)

    def test_a_new_column_is_missing_in_the_rows_from_before_and_another_type_is_refused(self, tables: Tables) -> None:
        tables.commit("t", rows(id=[1, 2], n=[1, 2]), mode="replace", **KEYED)
        made = tables.commit("t", rows(id=[2, 3], n=[2, 3], more=["x", "y"]), mode="upsert", **KEYED)
        assert tables.scan(made.address).collect().rows() == [(1, 1, None), (2, 2, "x"), (3, 3, "y")]
        with pytest.raises(DataError, match="Column 'n' holds String now, and Int64"):
            tables.commit("t", rows(id=[4], n=["four"]), mode="upsert", **KEYED)
        whole = tables.commit("t", rows(id=[4], n=["four"]), mode="replace", **KEYED)
        assert tables.scan(whole.address).collect().rows() == [(4, "four")]

    def test_rows_that_come_twice_under_one_key_are_refused(self, tables: Tables) -> None:
        tables.commit("t", rows(id=[1]), mode="replace", **KEYED)
        with pytest.raises(DataError, match="2 rows share their key"):
            tables.commit("t", rows(id=[2, 2]), mode="upsert", **KEYED)

    def test_a_table_without_a_key_takes_equal_rows_again_and_again(self, tables: Tables) -> None:
        one = rows(n=[1, 1])
        for _ in range(3):
            made = tables.commit("t", one, mode="append", key=[], sort=[])
        assert (made.rows, made.added) == (6, 2)
        assert tables.scan(made.address).collect()["n"].to_list() == [1] * 6

    def test_whoever_goes_on_from_an_older_version_is_told_so(self, tables: Tables) -> None:
        first = tables.commit("t", rows(id=[1]), mode="replace", expect=-1, **KEYED)
        with pytest.raises(Conflict, match="has version"):
            tables.commit("t", rows(id=[2]), mode="replace", expect=-1, **KEYED)
        second = tables.commit("t", rows(id=[2]), mode="replace", expect=first.number, **KEYED)
        with pytest.raises(Conflict):
            tables.commit("t", rows(id=[3]), mode="upsert", expect=first.number, **KEYED)
        assert tables.commits("t") == [first, second]

    def test_a_large_table_is_many_files_and_a_small_change_writes_few_of_them(self, tables: Tables) -> None:
        frame = timed(range(600_000))
        first = tables.commit("t", frame, mode="replace", **TIMED)
        files = tables.files(first.address)
        assert 3 <= len(files) <= 12
        late = timed(range(300_000, 300_001)).with_columns(id=pl.lit(-5, pl.Int64))
        second = tables.commit("t", late, mode="upsert", **TIMED)
        assert len(set(tables.files(second.address)) - set(files)) <= 2
        assert_frame_equal(tables.scan(second.address).collect(), pl.concat([frame, late]).sort("at", "id"))
        again = tables.commit("t", frame, mode="replace", **TIMED)
        assert (again.digest, again.removed, again.added) == (first.digest, 1, 0)
        grown = tables.commit("t", timed(range(600_000, 600_100)), mode="append", **TIMED)
        assert len(set(tables.files(grown.address)) - set(files)) == 1
        anew = tables.commit("other", timed(range(600_100)), mode="replace", **TIMED)
        assert anew.digest == grown.digest  # however it came about

    def test_files_can_be_read_by_others_in_order(self, tables: Tables) -> None:
        made = tables.commit("t", timed(range(300_000)), mode="replace", **TIMED)
        assert pl.concat([pl.read_parquet(p, glob=False) for p in tables.files(made.address)])["id"].to_list() == list(range(300_000))

    def test_damage_is_found_and_named_and_the_same_rows_mend_it(self, tables: Tables) -> None:
        made = tables.commit("t", timed(range(1000)), mode="replace", **TIMED)
        tables.verify(made.address)
        self.damage(tables, made.address)
        with pytest.raises(Corrupt, match="another hash") as caught:
            tables.verify(made.address)
        assert "parquet" in (caught.value.where or "")
        assert tables.discard(made.address) == 1
        assert not tables.exists(made.address)
        with pytest.raises(NotFound):
            tables.verify(made.address)
        assert tables.commit("t", timed(range(1000)), mode="replace", **TIMED) == made
        tables.verify(made.address)
        assert tables.discard(made.address) == 0

    def damage(self, tables: Tables, address: str) -> None:
        """Change a byte of the first file where it is stored."""
        path = tables.files(address)[0]
        path.chmod(0o644)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 255
        path.write_bytes(data)

    def test_a_dropped_version_is_gone_and_the_others_stay(self, tables: Tables) -> None:
        frame = timed(range(400_000))
        first = tables.commit("t", frame, mode="replace", **TIMED)
        second = tables.commit("t", frame[-10:].with_columns(value=pl.lit(-1.0)), mode="upsert", **TIMED)
        third = tables.commit("t", frame[-10:], mode="upsert", **TIMED)
        only = set(tables.files(second.address)) - set(tables.files(third.address))
        freed = tables.drop("t", [second.number])
        assert freed > 0
        assert only
        assert not tables.exists(second.address)
        with pytest.raises(NotFound, match="was dropped"):
            tables.scan(second.address)
        assert [c.number for c in tables.commits("t")] == [first.number, third.number]
        for kept in (first, third):
            tables.verify(kept.address)
        assert tables.drop("t", [second.number]) == 0
        with pytest.raises(Conflict, match="newest"):
            tables.drop("t", [third.number])
        with pytest.raises(NotFound):
            tables.drop("nothing", [0])
        tables.commit("t", frame[:10].with_columns(value=pl.lit(-1.0)), mode="upsert", **TIMED)
        assert tables.commits("t")[-1].changed == 10

    def test_rows_are_taken_out_of_every_version_for_good(self, tables: Tables) -> None:
        frame = timed(range(200_000))
        lone, other = tables.put(frame[:10]), tables.put(frame[10:20])
        first = tables.commit("t", frame, mode="replace", **TIMED)
        second = tables.commit("t", frame[-10:].with_columns(value=pl.lit(-1.0)), mode="upsert", **TIMED)
        untouched = tables.commit("u", frame[10:20], mode="replace", **TIMED)
        old_files = {p.name for a in (first, second) for p in tables.files(a.address)}

        def change(lazy: pl.LazyFrame) -> pl.LazyFrame:
            return lazy.filter(pl.col("id") != 7).with_columns(name=pl.col("name").str.replace("row 8$", "[erased]"))

        told = tables.rewrite([second.address, lone, other, untouched.address], change)
        assert set(told) == {first.address, second.address, lone, other, untouched.address}
        assert told[other] == other
        assert told[untouched.address] == untouched.address
        for before, rows_before in ((first.address, frame), (lone, frame[:10])):
            assert not tables.exists(before)
            found = tables.scan(told[before]).collect()
            assert found["id"].to_list() == [i for i in rows_before["id"].to_list() if i != 7]
            assert found.filter(pl.col("id") == 8)["name"].to_list() == ["[erased]"]
        assert tables.scan(told[second.address]).filter(pl.col("value") == -1.0).collect().height == 10
        assert [c.number for c in tables.commits("t")] == [first.number, second.number]
        assert tables.rewrite([told[second.address], told[lone]], change) == {a: a for a in (told[first.address], told[second.address], told[lone])}
        assert tables.rewrite([second.address, lone], change)[lone] == told[lone]  # done again with what was known before
        assert tables.rewrite([second.address], change)[second.address] == told[second.address]
        new_files = {p.name for a in (first, second) for p in tables.files(told[a.address])}
        assert old_files - new_files
        third = tables.commit("t", frame[:1].with_columns(value=pl.lit(-2.0)), mode="upsert", **TIMED)
        assert (third.changed, third.rows) == (1, 199_999)
        again = tables.commit("t", change(tables.scan(told[first.address])).collect(), mode="replace", **TIMED)
        assert again.digest == tables.commits("t")[0].digest

    def test_left_overs_are_swept_and_nothing_else(self, tables: Tables) -> None:
        made = tables.commit("t", timed(range(1000)), mode="replace", **TIMED)
        assert tables.sweep(0) == 0
        self.leave(tables, "t")
        assert tables.sweep(3600) == 0
        assert tables.sweep(0) == 1
        tables.verify(made.address)

    def leave(self, tables: Tables, table: str) -> None:
        """What a writer leaves that died before its commit: a data file nobody names."""
        raise NotImplementedError

    @pytest.mark.parametrize("table", ["", ".hidden", "a@b", "x" * 300])
    def test_a_name_that_can_be_no_table_is_refused(self, tables: Tables, table: str) -> None:
        from treadle.core.errors import UsageError

        with pytest.raises(UsageError, match="no name of a table"):
            tables.commit(table, rows(id=[1]), mode="replace", **KEYED)

    @pytest.mark.parametrize("address", ["t@0:" + "0" * 64, "nothing@0:" + "0" * 64, "t@9:" + "0" * 64, "t@x", "../t@0:" + "0" * 64])
    def test_an_address_that_was_never_given_is_not_found(self, tables: Tables, address: str) -> None:
        tables.commit("t", rows(id=[1]), mode="replace", **KEYED)
        assert not tables.exists(address)
        for ask in (tables.scan, tables.files, tables.verify):
            with pytest.raises(NotFound):
                ask(address)
        assert tables.commits("nothing") == []

    def test_names_that_need_care_are_kept_apart(self, tables: Tables) -> None:
        names = ["a/b", "a b", "ż%2F!", "A"]
        made = {name: tables.commit(name, rows(id=[i]), mode="replace", **KEYED) for i, name in enumerate(names)}
        assert sorted(tables.names()) == sorted(names)
        for i, name in enumerate(names):
            assert tables.scan(made[name].address).collect()["id"].to_list() == [i]

    def test_two_columns_that_differ_in_case_only_are_refused(self, tables: Tables) -> None:
        with pytest.raises(DataError, match="differ only in case"):
            tables.commit("t", rows(id=[1], ID=[2]), mode="replace", **KEYED)

    def test_writers_at_once_lose_nothing(self, tables: Tables, tmp_path: Path) -> None:
        tables.commit("t", rows(id=[-1]), mode="replace", **KEYED)
        code = (
            "for i in range(5):\n"
            "    tables.commit('t', pl.DataFrame({'id': [int(sys.argv[4]) * 100 + i]}), mode='upsert', key=['id'], sort=['id'])"
        )
        writers = [self.elsewhere(tmp_path, code, str(w)) for w in range(3)]
        for writer in writers:
            _, said = writer.communicate(timeout=240)
            assert writer.returncode == 0, said
        newest = tables.commits("t")[-1]
        assert sorted(tables.scan(newest.address).collect()["id"].to_list()) == [-1, *(w * 100 + i for w in range(3) for i in range(5))]
        assert len(tables.commits("t")) == 16

    def elsewhere(self, folder: Path, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Run code in another process that has `tables` and `pl`."""
        kind = type(self)
        file = sys.modules[kind.__module__].__file__
        assert file is not None
        begin = (
            "import importlib.util, sys, pathlib\n"
            "spec = importlib.util.spec_from_file_location('contract_test', sys.argv[1]); module = importlib.util.module_from_spec(spec)\n"
            "spec.loader.exec_module(module)\nimport polars as pl\n"
            "tables = getattr(module, sys.argv[2])().make(pathlib.Path(sys.argv[3]))\n"
        )
        command = [sys.executable, "-c", begin + code, file, kind.__name__, str(folder), *arguments]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
