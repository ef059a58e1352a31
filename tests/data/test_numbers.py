"""Numbers read at once are what the rules for people's numbers make of them."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.core.schema import Kind
from treadle.data import parsing

texts = st.text(alphabet="0123456789+-.,eE _xinfatyNA'٥１\u00a0%", max_size=7) | st.integers().map(str) | st.floats().map(repr)


@pytest.mark.parametrize("kind", ["integer", "number"])
@settings(max_examples=400, deadline=None)
@given(text=texts, decimal_comma=st.booleans())
def test_a_number_reads_alike_by_itself_and_beside_what_is_no_number(kind: Kind, text: str, decimal_comma: bool) -> None:
    alone = parsing.parse(pl.Series("x", [text, None]), kind, decimal_comma=decimal_comma)
    beside = parsing.parse(pl.Series("x", [text, None, "no number"]), kind, decimal_comma=decimal_comma)
    assert alone.equals(beside[:2], check_dtypes=True)
