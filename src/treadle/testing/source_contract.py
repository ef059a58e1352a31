"""What every source must do, whatever it is: the promises of `treadle.ports.source`, one test each, against the real thing.

An `Origin` is a place that rows can be put into, as their owner would, and the declaration that reads them from there.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from treadle.backends.catalog import open_source
from treadle.core.declare.data import Contract, Dataset, boolean, category, integer, number, text, timestamp
from treadle.core.declare.project import Project
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, TreadleError, Unavailable
from treadle.data import sources
from treadle.data.sources import Extract

Row = Mapping[str, Any]
NOON = datetime(2024, 3, 30, 12, 0, 0, 123456, tzinfo=UTC)
SECRET = "s3cret-wörd"
COLUMNS = {
    "id": integer(), "name": text(nullable=True), "amount": number(nullable=True), "price": number(nullable=True),
    "paid": boolean(nullable=True), "day": timestamp(nullable=True), "seen_at": timestamp(nullable=True), "updated_at": timestamp(),
}  # fmt: skip
TYPES: dict[str, Any] = {
    "id": pl.Int64, "name": pl.String, "amount": pl.Float64, "price": pl.Float64, "paid": pl.Boolean, "day": pl.Datetime("us", "UTC"),
    "seen_at": pl.Datetime("us", "UTC"), "updated_at": pl.Datetime("us", "UTC"),
}  # fmt: skip
NAMES = ["Ada", "żółw 🚲", 'say "hi", then go', "two\nlines", "a\ttab", r"back\slash \N \t", "O'Brien; --", "100 %"]


def row(n: int, **changes: Any) -> dict[str, Any]:
    """A row with something in each column, or a gap in some."""
    return {
        "id": n, "name": NAMES[n % len(NAMES)], "amount": None if n % 7 == 3 else n / 3, "price": (n * 110 + 5) / 100,
        "paid": None if n % 5 == 4 else n % 2 == 0, "day": None if n % 6 == 5 else date(2024, 2, 28) + timedelta(days=n % 40),
        "seen_at": NOON + timedelta(seconds=n), "updated_at": NOON + timedelta(minutes=n), **changes,
    }  # fmt: skip


def expected(rows: Sequence[Row]) -> pl.DataFrame:
    """The rows as a data set holds them, by id; of several with one id the last."""
    last = {r["id"]: r for r in rows}
    days = {i: r["day"] and datetime(r["day"].year, r["day"].month, r["day"].day, tzinfo=UTC) for i, r in last.items()}
    return pl.DataFrame([{**last[i], "day": days[i]} for i in sorted(last)], schema=TYPES)


class Origin(Protocol):
    source: Source

    def put(self, rows: Sequence[Row]) -> None:
        """Add rows, or change those whose id is there, all at once."""
        ...


class SourceContract:
    """What every kind does. Inherit, and say in `make` how rows get where the source reads them; and inherit those below that fit the kind."""

    changes = True  # a row can be changed there

    def make(self, folder: Path, **options: Any) -> Origin:
        """A new place without rows."""
        raise NotImplementedError

    def absent(self, folder: Path) -> tuple[Source, str]:
        """A source that is not there, and what the error says."""
        raise NotImplementedError

    # What the tests say

    def dataset(self, source: Source, **changes: Any) -> Dataset:
        declared: dict[str, Any] = {"source": source, "key": "id", "contract": Contract(COLUMNS, at_most=1.0)}
        return Project("p").dataset("rows", **{**declared, **changes})

    def extract(self, source: Source, folder: Path, since: Mapping[str, Any] | None = None, **changes: Any) -> Extract:
        found = sources.extract(self.dataset(source, **changes), folder, since, lambda declared: open_source(declared, folder))
        assert json.loads(json.dumps(found.position)) == found.position
        return found

    def fingerprint(self, source: Source, folder: Path, since: Mapping[str, Any] | None = None) -> str | None:
        return sources.fingerprint(self.dataset(source), folder, lambda declared: open_source(declared, folder), since)

    def test_rows_are_the_same_whatever_holds_them(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        rows = [*(row(n) for n in range(60)), {**row(77), "id": 2**53 + 1}]
        origin.put(rows)
        found = self.extract(origin.source, tmp_path)
        assert (found.full, found.unparsed, found.more) == (True, [], False)
        assert_frame_equal(_sorted(found.frame), expected(rows))

    def test_reading_twice_gives_the_same(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n) for n in range(30)])
        first, second = (self.extract(origin.source, tmp_path) for _ in range(2))
        assert_frame_equal(_sorted(first.frame), _sorted(second.frame))
        assert _stable(first.position) == _stable(second.position)

    def test_what_came_since_put_onto_what_was_there_is_everything(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        rows: list[dict[str, Any]] = []
        kept: Extract | None = None
        for batch in range(4):
            new = [row(n) for n in range(batch * 25, batch * 25 + 25)]
            if self.changes and batch:
                new += [row(n, name="changed", updated_at=NOON + timedelta(minutes=batch * 25 + 24)) for n in (0, batch * 25 - 1)]
            origin.put(new)
            rows += new
            more = self.extract(origin.source, tmp_path, kept.position if kept else None)
            assert more.full == (kept is None)
            kept = Extract(_onto(kept.frame if kept else None, more), [], more.position)
            assert_frame_equal(_sorted(kept.frame), expected(rows))
            assert_frame_equal(_sorted(self.extract(origin.source, tmp_path).frame), expected(rows))

    def test_with_nothing_new_nothing_changes(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n) for n in range(12)])
        first = self.extract(origin.source, tmp_path)
        for _ in range(2):
            again = self.extract(origin.source, tmp_path, first.position)
            assert not again.full
            assert set(again.frame.columns) >= {"id", "name", "updated_at"}
            assert_frame_equal(_sorted(_onto(first.frame, again)), expected([row(n) for n in range(12)]))

    def test_what_was_read_and_not_recorded_is_read_again(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n) for n in range(10)])
        first = self.extract(origin.source, tmp_path)
        origin.put([row(n) for n in range(10, 20)])
        lost = self.extract(origin.source, tmp_path, first.position)  # whoever read it died before it had a version
        origin.put([row(n) for n in range(20, 25)])
        again = self.extract(origin.source, tmp_path, first.position)
        assert {*lost.frame["id"]} - {*first.frame["id"]} == set(range(10, 20))
        assert_frame_equal(_sorted(_onto(first.frame, again)), expected([row(n) for n in range(25)]))

    def test_another_declaration_is_read_from_the_start(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n) for n in range(10)])
        first = self.extract(origin.source, tmp_path)
        stricter = Contract({**COLUMNS, "amount": number(nullable=True, le=1)}, at_most=1.0)
        assert self.extract(origin.source, tmp_path, first.position, contract=stricter).frame.height == 10
        elsewhere = Source(origin.source.kind, origin.source.path, options={**origin.source.options, "tz": "Asia/Tokyo"})
        assert self.extract(elsewhere, tmp_path, first.position).full

    def test_the_fingerprint_says_whether_rows_have_changed(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n) for n in range(5)])
        first = self.fingerprint(origin.source, tmp_path)
        position = self.extract(origin.source, tmp_path).position
        assert first is not None
        assert self.fingerprint(origin.source, tmp_path) == first == self.fingerprint(origin.source, tmp_path, position)
        origin.put([row(5)])
        assert self.fingerprint(origin.source, tmp_path) != first
        assert self.fingerprint(origin.source, tmp_path, position) != first

    def test_nothing_at_all_is_an_error(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        with pytest.raises(DataError, match=r"There are no rows|There is no|The file is empty"):
            self.extract(origin.source, tmp_path)

    def test_a_missing_column_is_named_with_those_there_are(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(1)])
        contract = Contract({**COLUMNS, "colour": category()})
        with pytest.raises(DataError, match="Column 'colour' is missing") as caught:
            self.extract(origin.source, tmp_path, contract=contract)
        assert "name" in str(caught.value.hint)
        assert "data set 'rows'" in str(caught.value.where)

    def test_what_is_not_there_is_named(self, tmp_path: Path) -> None:
        source, says = self.absent(tmp_path)
        with pytest.raises(DataError, match=says) as caught:
            self.extract(source, tmp_path)
        assert caught.value.hint
        assert "data set 'rows'" in str(caught.value.where)


class LooseSource(SourceContract):
    """A source where anything can stand in a column."""

    def test_a_cell_that_does_not_read_is_named_and_stops_no_other(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(1), row(2, seen_at="31.02.2024"), row(3)])
        found = self.extract(origin.source, tmp_path)
        assert [(found.frame["id"][u.row], u.column, u.text) for u in found.unparsed] == [(2, "seen_at", "31.02.2024")]
        assert dict(found.frame.select("id", "seen_at").iter_rows()) == {1: row(1)["seen_at"], 2: None, 3: row(3)["seen_at"]}


class AnsweringSource(SourceContract):
    """A source behind a server, which may not answer."""

    def unreachable(self, folder: Path) -> tuple[Source, str]:
        """A source on a port where nobody listens, and what the error says."""
        raise NotImplementedError

    def test_who_does_not_answer_is_named_with_host_and_port(self, tmp_path: Path) -> None:
        case = self.unreachable(tmp_path)
        for ask in (self.extract, self.fingerprint):
            with pytest.raises(Unavailable, match=case[1]) as caught:
                ask(case[0], tmp_path)
            assert caught.value.hint
            assert caught.value.transient


class GuardedSource(SourceContract):
    """A source that asks for a password."""

    def forbidden(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Source, str]:
        """A source that is shown the password SECRET and refuses it, and what the error says."""
        raise NotImplementedError

    def test_a_wrong_password_is_refused_and_never_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        case = self.forbidden(tmp_path, monkeypatch)
        with pytest.raises(TreadleError, match=case[1]) as caught:
            self.extract(case[0], tmp_path)
        assert not caught.value.transient
        assert SECRET not in repr(caught.value) + str(caught.value) + repr(case[0]) + repr(caught.value.__cause__)


class WatermarkedSource(SourceContract):
    """A source that is read on from a watermark; `make` takes an `overlap`, and its origin can `alter` the columns."""

    def test_rows_at_the_last_watermark_are_neither_missed_nor_doubled(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n, updated_at=NOON) for n in range(3)])
        first = self.extract(origin.source, tmp_path)
        origin.put([row(3, updated_at=NOON)])  # at the same moment, but committed after the first were read
        more = self.extract(origin.source, tmp_path, first.position)
        whole = _onto(first.frame, more)
        assert whole["id"].sort().to_list() == [0, 1, 2, 3]

    def test_a_row_that_was_committed_late_is_found_within_the_overlap(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path, overlap="10m")
        origin.put([row(n, updated_at=NOON + timedelta(minutes=n)) for n in range(30)])
        first = self.extract(origin.source, tmp_path)
        origin.put([row(98, updated_at=NOON + timedelta(minutes=19)), row(99, updated_at=NOON + timedelta(minutes=2))])
        more = self.extract(origin.source, tmp_path, first.position)
        assert not more.full
        assert 98 in more.frame["id"]
        assert 99 not in more.frame["id"]  # beyond the overlap: what was declared is what is done
        assert more.frame["id"].min() == 19

    def test_a_row_from_the_future_hides_none_that_come_before(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(1, updated_at=datetime(2999, 1, 1, tzinfo=UTC)), row(2)])
        first = self.extract(origin.source, tmp_path)
        origin.put([row(3, updated_at=datetime.now(UTC) + timedelta(hours=1))])
        assert {1, 3} <= {*self.extract(origin.source, tmp_path, first.position).frame["id"]}

    def test_columns_that_changed_mean_that_everything_is_read(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n) for n in range(8)])
        first = self.extract(origin.source, tmp_path)
        origin.alter()  # type: ignore[attr-defined]
        more = self.extract(origin.source, tmp_path, first.position)
        assert more.full
        assert more.frame.height == 8
        assert "extra" in more.frame.columns


class WrittenSource(SourceContract):
    """A source that others write while it is read."""

    def test_everything_read_is_of_one_moment_while_others_write(self, tmp_path: Path) -> None:
        origin = self.make(tmp_path)
        origin.put([row(n, amount=100.0) for n in range(400)])
        stop, errors = threading.Event(), []

        def transfer() -> None:
            try:
                for n in range(100_000):
                    one, other, sum_ = n % 400, (n * 7 + 201) % 400, float(n % 50)
                    if stop.is_set():
                        return
                    if one != other:
                        origin.put([row(one, amount=100.0 + sum_), row(other, amount=100.0 - sum_)])
                        origin.put([row(one, amount=100.0), row(other, amount=100.0)])
            except Exception as error:
                errors.append(error)

        writer = threading.Thread(target=transfer)
        writer.start()
        try:
            sums = [self.extract(origin.source, tmp_path).frame.select(pl.col("amount").sum(), pl.len()).row(0) for _ in range(15)]
        finally:
            stop.set()
            writer.join()
        assert not errors
        assert set(sums) == {(40_000.0, 400)}


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(list(TYPES)).sort("id")


def _onto(kept: pl.DataFrame | None, more: Extract) -> pl.DataFrame:
    """Rows put onto those that were there, by key."""
    if kept is None or more.full:
        return more.frame
    return pl.concat([kept.join(more.frame.select("id"), on="id", how="anti"), more.frame], how="diagonal")


def _stable(position: Mapping[str, Any]) -> Mapping[str, Any]:
    """A position without the moment it was taken at."""
    return {**position, "at": {name: said for name, said in position["at"].items() if name != "whole_at"}}
