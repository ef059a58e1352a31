"""A CSV text that keeps strictly to the form is taken apart by Polars; it gives what Python's csv gives, and no text is read that csv refuses."""

from __future__ import annotations

import random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.core.errors import DataError
from treadle.data import csv_text

PIECES = st.sampled_from(['"', '""', ",", "\n", "a", "ż", " ", ";", '","', '"\n"', "x,y", "\t", "0"])


def slowly(text: str, separator: str) -> pl.DataFrame | str:
    known = csv_text._body
    csv_text._body = lambda *given: 0
    try:
        return quickly(text, separator)
    finally:
        csv_text._body = known


def quickly(text: str, separator: str) -> pl.DataFrame | str:
    try:
        return csv_text.missing_as_null(csv_text.split_fields(text, separator, "rows.csv"), ("",))
    except DataError as error:
        return str(error)


def same(text: str, separator: str = ",") -> None:
    one, other = slowly(text, separator), quickly(text, separator)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        assert one.columns == other.columns
        assert one.equals(other, null_equal=True)


@given(st.integers(1, 3), st.lists(PIECES, max_size=25), st.sampled_from([",", ";", "\t"]), st.sampled_from(["c", '"c"', '"c""\n"']))
@settings(max_examples=400, deadline=None)
def test_any_text_gives_the_same_quickly_and_slowly(width: int, pieces: list[str], separator: str, last: str) -> None:
    same(separator.join([*(f"c{i}" for i in range(width - 1)), last]) + "\n" + "".join(pieces), separator)


CELL = st.text(st.sampled_from('a",\n; ż'), max_size=6)


@given(st.lists(st.lists(CELL, min_size=2, max_size=2), max_size=6))
@settings(max_examples=150, deadline=None)
def test_what_a_program_writes_is_read_back(rows: list[list[str]]) -> None:
    quoted = "\n".join(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in [["a", "b"], *rows])
    assert csv_text._body(quoted.encode(), b",", 2)
    same(quoted)


def test_a_large_text_with_line_breaks_in_its_cells_is_the_same_whatever_its_parts() -> None:
    chance = random.Random(4)
    cells = ['"two\nlines"', '"a ""quoted"", word"', "plain", "", "1.5", '"' + "x" * 300 + '\n"']
    text = "a,b,c\n" + "\n".join(",".join(chance.choice(cells) for _ in range(3)) for _ in range(20_000))
    assert csv_text._body(text.encode(), b",", 3)
    same(text)


@pytest.mark.parametrize("text", ["a,b\n1,2,3", 'a,b\n"1,2', 'a,b\n"1"2,3', 'a,b\n1"2,3', "a,b\n\n1,2", "\na,b\n1,2", "a,b\n1,2\n3", 'a,b\n"1",2 "'])
def test_a_text_that_does_not_keep_to_the_form_goes_the_slow_way(text: str) -> None:
    assert not csv_text._body(text.encode(), b",", 2)
    same(text)


@pytest.mark.parametrize("text", ['"say ""hi""","a\nb"\n1,2', '"say ""hi""",b', "a\n1\n\n2"])
def test_names_of_columns_are_read_as_csv_reads_them(text: str) -> None:
    same(text)
