"""Erased persons stay out when a source is read again, and what is kept of them names nobody."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.declare.data import Dataset
from treadle.core.declare.source import csv
from treadle.core.errors import Corrupt, NotFound, UsageError
from treadle.data import suppressed
from treadle.data.suppressed import Suppressed, drop, subject_digest

KEY = b"k" * 32
PEOPLE = Dataset("people", csv("people.csv"), ("row",), subject="person")


def gone(*subjects: str) -> Suppressed:
    return Suppressed(KEY, frozenset(subject_digest(KEY, s) for s in subjects))


def erased(ledger: MemoryLedger, home: Path, subject: str, **says: object) -> None:
    key = suppressed.own_key(home, ledger)
    body = {"subject": subject_digest(key, subject), "key": suppressed.key_name(key), "columns": {"people": ["person"]}, **says}
    ledger.put(suppressed.KIND, f"erasure-{subject}", body)


@pytest.mark.parametrize(
    ("values", "subject", "left"),
    [
        (["p-1", "p-2", None, "p-1"], "p-1", ["p-2", None]),
        ([" p-1 ", "p-12"], "p-1", ["p-12"]),
        ([17, 170, None], "17", [170, None]),
        ([17.0, 17.5], "17", [17.5]),
        (["Ümlaut", "umlaut"], "Ümlaut", ["umlaut"]),
    ],
)
def test_rows_about_the_person_are_dropped_whatever_the_type_of_the_column(values: list[object], subject: str, left: list[object]) -> None:
    frame = pl.DataFrame({"person": values})
    kept, dropped = drop(frame, PEOPLE, gone(subject))
    assert kept["person"].to_list() == left
    assert dropped == len(values) - len(left)


@given(st.lists(st.one_of(st.none(), st.text(max_size=6)), min_size=1, max_size=30), st.text(min_size=1, max_size=6))
def test_everybody_else_stays_in_the_same_order(values: list[str | None], subject: str) -> None:
    frame = pl.DataFrame({"person": values, "n": range(len(values))}, schema={"person": pl.String, "n": pl.Int64})
    kept, dropped = drop(frame, PEOPLE, gone(subject))
    expected = [n for n, v in enumerate(values) if v is None or v.strip() != subject.strip()]
    assert kept["n"].to_list() == expected
    assert dropped == len(values) - len(expected)


def test_nobody_erased_costs_nothing_and_changes_no_ingredient() -> None:
    frame = pl.DataFrame({"person": ["p-1"]})
    assert drop(frame, PEOPLE, suppressed.NOBODY)[0] is frame
    assert suppressed.NOBODY.mark == ""
    assert gone("a").mark != gone("b").mark != ""


def test_a_data_set_without_subject_is_left_as_it_is_unless_a_column_of_it_was_found_to_name_persons() -> None:
    frame = pl.DataFrame({"person": ["p-1", "p-2"]})
    plain = replace(PEOPLE, subject="")
    assert drop(frame, plain, gone("p-1"))[1] == 0
    assert drop(frame, plain, replace(gone("p-1"), columns=(("people", "person"),)))[1] == 1


def test_what_is_kept_holds_no_id_and_cannot_be_tried_out_without_the_key(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    erased(ledger, tmp_path, "p-1")
    found = suppressed.known(ledger, tmp_path)
    assert drop(pl.DataFrame({"person": ["p-1", "p-2"]}), PEOPLE, found)[1] == 1
    assert subject_digest(b"another key", "p-1") not in found.digests
    file = tmp_path / suppressed.KEY_FILE
    assert file.stat().st_mode & 0o777 == 0o600
    key = file.read_text().strip()
    record = ledger.find(suppressed.KIND)[0]
    assert key not in str(record.body)
    assert key not in repr(found), "not in a log by accident"
    assert suppressed.own_key(tmp_path, ledger).hex() == key, "made once"


def test_without_the_key_or_with_another_nothing_is_read(tmp_path: Path) -> None:
    ledger = MemoryLedger()
    erased(ledger, tmp_path, "p-1")
    file = tmp_path / suppressed.KEY_FILE
    kept = file.read_text()
    file.unlink()
    with pytest.raises(NotFound, match="they would come back"):
        suppressed.known(ledger, tmp_path)
    with pytest.raises(NotFound, match="is not here"):
        suppressed.own_key(tmp_path, ledger)
    file.write_text("ab" * 32)
    with pytest.raises(Corrupt, match="not the one"):
        suppressed.known(ledger, tmp_path)
    for damaged in ("", "ab", "no hex at all", kept[:-5]):
        file.write_text(damaged)
        with pytest.raises(Corrupt, match="damaged"):
            suppressed.known(ledger, tmp_path)


def test_an_empty_id_names_nobody() -> None:
    with pytest.raises(UsageError, match="--subject is empty"):
        suppressed.checked("  ")
