"""Arrow bodies get the answers that JSON gets, and nothing that is sent as one takes more memory than it has bytes, or brings the server down."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.core.errors import UsageError
from treadle.serving.loaded import Loaded
from treadle.serving.rows import MOST_ROWS
from treadle.web.api import arrow

from .test_endpoint_routes import ROW, World

ROWS = [{**ROW, "distance": float(d), "wet": wet, "carrier": carrier} for d, wet, carrier in ((100, True, "UA"), (5000, False, None), (733, None, "nobody"))]


@pytest.fixture
def world(make_loaded: Callable[..., Loaded]) -> Iterator[World]:
    world = World(make_loaded)
    yield world
    world.journal.close()


def stream(frame: pl.DataFrame, **options: Any) -> bytes:
    out = io.BytesIO()
    frame.write_ipc_stream(out, **options)
    return out.getvalue()


def ask(world: World, body: bytes) -> tuple[int, Any]:
    status, headers, data = world.raw("POST", "/predict", body, arrow.STREAM)
    return status, pl.read_ipc_stream(io.BytesIO(data)) if headers["content-type"] == arrow.STREAM else json.loads(data)


def test_the_answers_are_those_of_json_and_are_logged(world: World) -> None:
    said = world.call("POST", "/predict", {"rows": ROWS})[1]["predictions"]
    status, found = ask(world, stream(pl.DataFrame(ROWS)))
    assert status == 200
    assert found.columns == ["id", "version", "prediction", "probability", "p:in time", "p:late", "missing"]
    assert found["prediction"].to_list() == [p["prediction"] for p in said]
    assert found["probability"].to_list() == [p["probability"] for p in said]
    assert all(world.log.get(id) is not None for id in found["id"])


@pytest.mark.parametrize("dtype", [pl.Datetime("us", "UTC"), pl.Datetime("ms", "Europe/Berlin"), pl.Datetime("ns"), pl.String, pl.Int64])
def test_moments_come_in_any_type_that_has_them(world: World, dtype: Any) -> None:
    at = datetime(2013, 4, 1, 12, tzinfo=UTC)
    if dtype == pl.String:
        column = pl.Series("at", [at.isoformat()])
    elif dtype == pl.Int64:
        column = pl.Series("at", [int(at.timestamp())])
    elif dtype == pl.Datetime("ns"):
        column = pl.Series("at", [at.replace(tzinfo=None)]).cast(dtype)
    else:
        column = pl.Series("at", [at]).dt.convert_time_zone(dtype.time_zone).cast(dtype)
    frame = pl.DataFrame([{k: v for k, v in ROW.items() if k != "at"}]).with_columns(column)
    status, found = ask(world, stream(frame))
    assert (status, found["probability"][0]) == (200, world.call("POST", "/predict", ROW)[1]["probability"])


def test_categories_and_nan_are_text_and_missing(world: World) -> None:
    frame = pl.DataFrame(ROWS).with_columns(pl.col("carrier").cast(pl.Categorical), seats=pl.Series([150.0, float("nan"), None]))
    status, found = ask(world, stream(frame))
    rows = [{**row, "seats": seats} for row, seats in zip(ROWS, (150, None, None), strict=True)]
    assert (status, found["probability"].to_list()) == (200, [p["probability"] for p in world.call("POST", "/predict", {"rows": rows})[1]["predictions"]])


@pytest.mark.parametrize(
    ("change", "field"),
    [({"distance": "far"}, "distance"), ({"distance": float("inf")}, "distance"), ({"distance": -1.0}, "distance"), ({"more": 1}, "more"), ({"distance": None}, "distance"), ({"wet": 1}, "wet")],
)
def test_what_does_not_fit_is_named_as_in_json(world: World, change: dict[str, Any], field: str) -> None:
    status, said = ask(world, stream(pl.DataFrame([{**ROW, **change}])))
    assert (status, list(said["fields"])) == (422, [field])


def test_more_rows_than_may_be_and_columns_no_field_takes_are_400(world: World) -> None:
    assert ask(world, stream(pl.DataFrame({"distance": [1.0] * (MOST_ROWS + 1)})))[0] == 400
    assert ask(world, stream(pl.DataFrame({"nothing": pl.Series([None] * 10**6, dtype=pl.Null)})))[0] == 400
    assert ask(world, stream(pl.DataFrame({"distance": [[1.0]]})))[0] == 400
    assert ask(world, stream(pl.DataFrame({"distance": pl.Series([], dtype=pl.Float64)})))[0] == 422


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_body_is_refused_before_it_is_unpacked(world: World, compression: str) -> None:
    body = stream(pl.DataFrame({"distance": [0.0] * 10_000}), compression=compression)
    status, said = ask(world, body)
    assert (status, "compressed" in said["message"]) == (400, True)


good = stream(pl.DataFrame(ROWS))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(at=st.integers(0, len(good) - 1), byte=st.integers(0, 255), end=st.integers(0, len(good)))
def test_a_broken_body_is_refused_or_answered_and_never_the_server_s_fault(world: World, at: int, byte: int, end: int) -> None:
    broken = bytearray(good)
    broken[at] = byte
    for body in (bytes(broken), good[:end]):
        assert ask(world, body)[0] in (200, 400, 422)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_stream_are_told_so(body: bytes) -> None:
    with contextlib.suppress(UsageError):
        arrow.check(body)
