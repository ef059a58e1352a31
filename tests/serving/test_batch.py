"""Many rows at once are answered as the endpoint answers each of them alone, and refused where it refuses them."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.backends.memory_online import MemoryOnline
from treadle.core.errors import Corrupt, DataError, InvalidRequest
from treadle.features.parity import request_of
from treadle.serving.batch import Batch
from treadle.serving.encode import Encoder
from treadle.serving.loaded import Loaded
from treadle.serving.matrix import ColumnEncoder
from treadle.serving.requests import micros

NOW = datetime(2026, 5, 1, 13, 30, tzinfo=UTC)
TYPES = {
    "distance": pl.Float64, "seats": pl.Int64, "carrier": pl.String, "wet": pl.Boolean, "zone": pl.Int64, "at": pl.Datetime("us", "UTC"),
    "x": pl.Float64, "word": pl.String,
}  # fmt: skip
_rows = st.fixed_dictionaries(
    {
        "distance": st.one_of(st.none(), st.sampled_from([math.nan, math.inf, -math.inf, 6000.0, 6000.5, -0.0]), st.floats(0, 6000)),
        "seats": st.one_of(st.none(), st.integers(-2, 400), st.just(2**53 + 1)),
        "carrier": st.one_of(st.none(), st.sampled_from(["UA", "AA", "", "never seen", "ünï"])),
        "wet": st.one_of(st.none(), st.booleans()),
        "zone": st.one_of(st.none(), st.integers(0, 3)),
        "at": st.one_of(st.none(), st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda t: t.replace(tzinfo=UTC))),
        "x": st.one_of(st.none(), st.floats(-5, 5), st.just(math.nan)),
        "word": st.one_of(st.none(), st.sampled_from(["calm", "storm", "", "gale"])),
    }
)


def alone(loaded: Loaded, row: dict[str, Any]) -> np.ndarray | None:
    """What the endpoint's way gives of one row whose view features are sent; None where it refuses."""
    try:
        values = loaded.parser.parse(request_of(row, list(TYPES)))
    except InvalidRequest:
        return None
    at = values.get("at")
    values["at"] = micros(NOW) if at is None else at
    features, _ = loaded.feature_values({"x": None, "word": None, **values}, values["at"], MemoryOnline())
    return loaded.outputs([features])[0]


@settings(max_examples=150)
@given(rows=st.lists(_rows, min_size=1, max_size=12))
def test_rows_together_are_answered_as_each_is_alone(make_loaded: Callable[..., Loaded], rows: list[dict[str, Any]]) -> None:
    loaded = make_loaded()
    frame = pl.DataFrame(rows, schema=TYPES)
    answered = Batch(loaded, now=NOW, sent=("x", "word")).answer(frame)
    expected = [alone(loaded, row) for row in frame.iter_rows(named=True)]
    assert answered.refused.is_null().to_list() == [output is not None for output in expected]
    assert answered.outputs.tolist() == [output.tolist() for output in expected if output is not None]
    assert [p is None for p in answered.answers["probability"]] == [output is None for output in expected]
    assert answered.answers.height == len(rows)


@settings(max_examples=100)
@given(
    numbers=st.lists(st.one_of(st.none(), st.just(math.nan), st.floats(allow_infinity=False, allow_nan=False)), min_size=1, max_size=20), fill=st.one_of(st.none(), st.floats(-9, 9)),
    mean=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3), words=st.data(),
)  # fmt: skip
def test_a_matrix_of_columns_is_bit_for_bit_that_of_rows(
    numbers: list[float | None], fill: float | None, mean: float, scale: float, words: st.DataObject
) -> None:
    texts = words.draw(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "", "?"])), min_size=len(numbers), max_size=len(numbers)))
    encoder = [
        {"name": "n", "kind": "number", "fill": fill, "mean": mean, "scale": scale},
        {"name": "w", "kind": "category", "table": {"a": [1.0, 0.0], "": [0.25, -0.0]}, "unknown": [0.0, 1.0]},
    ]
    rows = [list(pair) for pair in zip(numbers, texts)]
    expected = Encoder(encoder, ["n", "w"]).matrix(rows)
    found = ColumnEncoder(encoder).matrix(pl.DataFrame({"n": numbers, "w": texts}, schema={"n": pl.Float64, "w": pl.String}))
    assert found.tobytes() == expected.tobytes()


def test_a_row_that_is_refused_says_why_and_the_others_are_answered(make_loaded: Callable[..., Loaded]) -> None:
    frame = pl.DataFrame({"distance": [100.0, 7000.0, None], "seats": [5.0, 2.5, 1.0]})
    batch = Batch(make_loaded(), now=NOW, sent=("x", "word"))
    found = batch.answer(frame.with_columns(x=pl.lit(None, pl.Float64), word=pl.lit("calm")))
    assert found.refused.to_list() == [
        None, "distance must be at most 6000, not 7000.0; seats must be a whole number, not 2.5", "distance is missing",
    ]  # fmt: skip
    assert found.answers["probability"].null_count() == 2


def test_texts_of_a_csv_file_are_read_as_the_fields_are_declared(make_loaded: Callable[..., Loaded]) -> None:
    batch = Batch(make_loaded(), now=NOW, sent=("x", "word"))
    texts = {"distance": ["100", "far", "7000"], "wet": ["true", "no", None], "at": ["2026-01-01T05:00:00Z", "2026-01-02", None], "x": ["1.5", None, ""],
             "word": ["calm", "storm", None]}  # fmt: skip
    found = batch.answer(pl.DataFrame(texts, schema=dict.fromkeys(texts, pl.String)), text=True)
    assert found.refused.to_list() == [None, "distance must be a number, not 'far'", "distance must be at most 6000, not 7000.0"]
    typed = pl.DataFrame({"distance": [100.0], "wet": [True], "at": [datetime(2026, 1, 1, 5, tzinfo=UTC)], "x": [1.5], "word": ["calm"]})
    assert batch.answer(typed).outputs.tolist() == found.outputs.tolist()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pl.Series("distance", ["far"]), "'distance' holds String, where the model takes numbers"),
        (pl.Series("distance", [True]), "'distance' holds Boolean"),
        (pl.Series("seats", [1]), "Column 'distance' is missing"),
        (pl.Series("carrier", [3]), "'carrier' holds Int64, where the model takes text"),
        (pl.Series("wet", [1]), "'wet' holds Int64, where the model takes true or false"),
    ],
)
def test_a_column_that_no_value_could_fit_is_said_at_once(make_loaded: Callable[..., Loaded], column: pl.Series, message: str) -> None:
    frame = pl.DataFrame([column]) if column.name in ("distance", "seats") else pl.DataFrame({"distance": [1.0]}).with_columns(column)
    with pytest.raises(DataError, match=message):
        Batch(make_loaded(), now=NOW, sent=("x", "word")).answer(frame)


def test_a_version_whose_view_has_no_history_is_not_asked(make_loaded: Callable[..., Loaded]) -> None:
    with pytest.raises(DataError, match="needs view 'last'"):
        Batch(make_loaded(), now=NOW)


def test_a_model_that_answers_otherwise_alone_is_found_out(make_loaded: Callable[..., Loaded]) -> None:
    loaded = make_loaded()
    batch = Batch(loaded, now=NOW, sent=("x", "word"))
    frame = pl.DataFrame({"distance": [1.0, 2.0], "x": [0.0, 1.0], "word": ["calm", "calm"]})
    found = batch.answer(frame)
    assert batch.agree(found) == 2
    found.outputs[1] += 0.001
    with pytest.raises(Corrupt, match="among others and"):
        batch.agree(found)
