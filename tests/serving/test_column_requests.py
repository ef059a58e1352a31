"""Columns are answered, and logged, as the same rows are; what columns cannot settle goes the way of rows."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.backends.memory_online import MemoryOnline
from treadle.backends.onnx_format import OnnxFormat
from treadle.core.errors import InvalidRequest
from treadle.ports.prediction_blocks import each
from treadle.serving.answers import Answered
from treadle.serving.column_requests import AnsweredColumns, read_columns
from treadle.serving.endpoint import Endpoint, Traffic
from treadle.serving.loaded import Loaded
from treadle.serving.requests import micros
from treadle.web.api import arrow

AT = datetime(2013, 4, 1, 12, tzinfo=UTC)
NOW = micros(AT)


@pytest.fixture(scope="module")
def versions(make_loaded: Callable[..., Loaded]) -> list[Loaded]:
    """The model of `make_loaded`, twice, with every feature a field of the request."""
    found = []
    for number in (1, 2):
        packed = make_loaded(number)
        manifest = dict(packed.manifest)
        kinds = {f.name: f.kind for f in packed.features}
        request = [
            {"name": name, "kind": kind, "rule": [], **({"nullable": False, "ge": 0, "le": 6000} if name == "distance" else {})}
            for name, kind in {**kinds, "wet": "boolean", "seats": "integer", "at": "timestamp"}.items()
        ]
        features = [{"name": name, "kind": kind, "rule": []} for name, kind in kinds.items()]
        manifest |= {"signature": {"request": request, "features": features}, "views": {}}
        found.append(Loaded(packed.folder, manifest, {"onnx": OnnxFormat}, number))
    return found


@pytest.fixture(scope="module")
def endpoint(versions: list[Loaded]) -> Endpoint:
    endpoint = Endpoint("late", MemoryOnline(), now=lambda: NOW)
    endpoint.traffic = Traffic(versions[0])
    return endpoint


def _column(values: st.SearchStrategy[Any], dtype: Any, *, nullable: bool = True) -> st.SearchStrategy[Callable[[int], st.SearchStrategy[pl.Series]]]:
    cell = st.none() | values if nullable else values
    return st.just(lambda n: st.lists(cell, min_size=n, max_size=n).map(lambda v: pl.Series(v, dtype=dtype)))


floats = st.floats(-1e6, 1e6) | st.just(float("nan"))
COLUMNS: dict[str, list[Any]] = {
    "distance": [_column(st.floats(0, 6000), pl.Float64, nullable=False), _column(st.integers(0, 6000), pl.Int16, nullable=False),
                 _column(st.floats(-10, 7000, width=32), pl.Float32)],
    "seats": [_column(st.integers(-5, 300), pl.Int64), _column(st.just(2.0) | st.just(2.5), pl.Float64)],
    "wet": [_column(st.booleans(), pl.Boolean)],
    "at_hour": [_column(floats, pl.Float64), _column(st.integers(0, 2**63), pl.UInt64)],
    "x": [_column(floats, pl.Float64), _column(st.just(None), pl.Null)],
    "carrier": [_column(st.sampled_from(["UA", "AA", "", "nobody", "ü"]), pl.String), _column(st.sampled_from(["UA", "AA"]), pl.Categorical)],
    "word": [_column(st.sampled_from(["calm", "storm"]), pl.String)],
    "at": [_column(st.datetimes(datetime(2013, 4, 1), datetime(2013, 4, 1, 23)), pl.Datetime("us", "UTC"), nullable=False),
           _column(st.datetimes(datetime(1960, 1, 1), datetime(2100, 1, 1)), pl.Datetime("ms", "UTC")), _column(st.just("2013-04-01"), pl.String)],
}  # fmt: skip


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(1, 12))
    names = ["distance", *draw(st.lists(st.sampled_from([n for n in COLUMNS if n != "distance"]), unique=True))]
    made = {name: draw(draw(draw(st.sampled_from(COLUMNS[name])))(rows)) for name in names}
    return pl.DataFrame(made)


def _without_nothing(inputs: bytes) -> dict[str, Any]:
    return {name: value for name, value in json.loads(inputs).items() if value is not None}


def _said(found: Any) -> Any:
    """At once, or by a thread, whatever this machine is like."""

    async def wait() -> Any:
        return await found

    return asyncio.run(wait()) if inspect.isawaitable(found) else found


def _as_rows(endpoint: Endpoint, frame: pl.DataFrame) -> Answered:
    found = _said(endpoint.answer(arrow.rows_of(frame, endpoint.champion())))
    assert isinstance(found, Answered)
    return found


@given(frames())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_columns_are_answered_and_logged_as_rows_are(endpoint: Endpoint, frame: pl.DataFrame) -> None:
    asked = read_columns(frame, endpoint.champion(), NOW)
    if asked is None:
        return
    answered = _said(endpoint.answer_columns(asked))
    rows = _as_rows(endpoint, frame)
    assert isinstance(answered, AnsweredColumns)
    assert np.array_equal(answered.outputs, np.array(rows.outputs))
    for column, row in zip(each(answered.predictions()), each(rows.predictions()), strict=True):
        assert (column.moment, column.version, column.output, json.loads(column.features)) == (
            row.moment, row.version, row.output, json.loads(row.features)
        )  # fmt: skip
        assert _without_nothing(column.inputs) == _without_nothing(row.inputs)


PLAIN = pl.DataFrame({"distance": [100.0, 5000.0], "carrier": ["UA", None], "wet": [True, None], "seats": [1, 2], "at": [AT, AT]})


def test_most_requests_need_no_rows(endpoint: Endpoint) -> None:
    asked = read_columns(PLAIN, endpoint.champion(), NOW)
    assert asked is not None
    assert len(asked) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"distance": [1.0, None]}, {"distance": [1.0, 6001.0]}, {"distance": [1.0, float("nan")]}, {"x": [1.0, float("inf")]}, {"seats": [1.5, 2.0]},
        {"rian": [1, 2]}, {"carrier": [1, 2]}, {"carrier": ["x" * 10_001, ""]}, {"at": ["2013-04-01", "2013-04-01"]}, {"distance": ["1", "2"]},
    ],
)  # fmt: skip
def test_whatever_may_not_fit_is_left_to_rows_which_say_why(endpoint: Endpoint, change: dict[str, Any]) -> None:
    frame = PLAIN.with_columns(pl.Series(name, values, strict=False) for name, values in change.items())
    assert read_columns(frame, endpoint.champion(), NOW) is None
    if "at" not in change:
        with pytest.raises(InvalidRequest):
            arrow.rows_of(frame, endpoint.champion())


def test_rows_of_two_days_are_left_to_rows(endpoint: Endpoint) -> None:
    frame = PLAIN.with_columns(at=pl.Series([AT, AT.replace(day=2)]))
    assert read_columns(frame, endpoint.champion(), NOW) is None
    assert len(each(_as_rows(endpoint, frame).predictions())) == 2


def test_in_shadow_both_are_asked_about_the_columns_and_in_a_canary_rows_are(endpoint: Endpoint, versions: list[Loaded]) -> None:
    asked = read_columns(PLAIN, versions[0], NOW)
    assert asked is not None
    before = endpoint.traffic
    try:
        endpoint.traffic = replace(before, challenger=versions[1], stage="shadow")
        answered, rows = _said(endpoint.answer_columns(asked)), _as_rows(endpoint, PLAIN)
        assert isinstance(answered, AnsweredColumns)
        for column, row in zip(each(answered.predictions()), each(rows.predictions()), strict=True):
            assert (column.version, column.variant, column.output, column.other_version, column.other_output) == (
                1, "champion", row.output, 2, row.other_output,
            )  # fmt: skip
        endpoint.traffic = replace(before, challenger=versions[1], stage="canary", share=0.5)
        assert endpoint.answer_columns(asked) is None
    finally:
        endpoint.traffic = before


def test_columns_read_for_another_version_are_not_answered_by_this_one(endpoint: Endpoint, versions: list[Loaded]) -> None:
    asked = read_columns(PLAIN, versions[1], NOW)
    assert asked is not None
    assert endpoint.answer_columns(asked) is None


def test_a_row_is_erased_from_columns_to_its_last_byte(endpoint: Endpoint) -> None:
    frame = PLAIN.with_columns(carrier=pl.Series(["ada-lovelace", "grace-hopper"]))
    asked = read_columns(frame, endpoint.champion(), NOW)
    assert asked is not None
    answered = _said(endpoint.answer_columns(asked))
    assert isinstance(answered, AnsweredColumns)
    [block] = answered.predictions()
    assert b"ada-lovelace" in block.inputs
    left = block.without({f"{block.base}.0"})
    assert left is not None
    assert b"ada-lovelace" not in left.inputs + left.features
    assert left.predictions() == block.predictions()[1:]
