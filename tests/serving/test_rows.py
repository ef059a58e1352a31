"""Reading JSON into the compiled type and checking it field by field are the same: the same rows are taken, with the same values."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from treadle.core.errors import InvalidRequest, UsageError
from treadle.core.schema import Field
from treadle.serving.requests import MOST_REASONS, Parser
from treadle.serving.rows import Reader, inputs_json

REQUEST = [
    Field("distance (km)", "number", nullable=False, ge=0, le=6000), Field("seats", "integer", ge=1), Field("carrier", "category"),
    Field("remark", "text"), Field("wet", "boolean"), Field("at", "timestamp"), Field("class", "category"), Field("sure", "boolean", nullable=False),
]  # fmt: skip
FEATURES = [Field("distance (km)", "number"), Field("x", "number", source="view", view="last"), Field("word", "category", source="view", view="last")]
READER, PARSER = Reader(REQUEST, FEATURES, "at"), Parser(REQUEST, FEATURES)

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-5, 6005) | st.sampled_from([3.0, -0.0, 1e300, 2**53 + 1, 10**400, 1.5])
texts = st.text(max_size=8) | st.sampled_from(["UA", "2013-04-01T12:30:00+02:00", "2013-04-01", "0001-01-01", "é\u0000", "x" * 10_001, "x" * 10_000])
values = st.none() | st.booleans() | numbers | texts | st.lists(st.integers(), max_size=1) | st.just({})
names = st.sampled_from([*(f.name for f in REQUEST), "x", "word", "f0", "distance"])
good = st.fixed_dictionaries(
    {"distance (km)": st.floats(0, 6000), "sure": st.booleans()},
    optional={"seats": st.none() | st.integers(1, 9).map(float), "carrier": st.none() | texts, "wet": st.none() | st.booleans(), "at": values, "x": numbers, "word": texts},
)


def both(row: Any) -> tuple[Any, Any]:
    body = json.dumps(row).encode()
    try:
        slow = PARSER.parse(msgspec.json.decode(body))
    except (InvalidRequest, msgspec.DecodeError):
        slow = None
    try:
        (read,), _, _ = READER.read(body)
        return READER.values(read), slow
    except (InvalidRequest, UsageError):
        return None, slow


@given(good | st.dictionaries(names, values, max_size=5) | st.builds(lambda a, b: {**a, **b}, good, st.dictionaries(names, values, max_size=2)))
@example({"distance (km)": True, "sure": True})
@example({"distance (km)": 1, "sure": True, "at": 999_999_999_999})
@example({"distance (km)": 1, "sure": True, "at": 253_402_300_799})
@example({"distance (km)": 1, "sure": True, "at": 0.1})
def test_both_take_the_same_rows_with_the_same_values(row: dict[str, Any]) -> None:
    fast, slow = both(row)
    assert fast == slow
    if fast is not None:
        assert {k: type(v) for k, v in fast.items()} == {k: type(v) for k, v in slow.items()}


@given(good)
def test_most_good_rows_are_read_by_the_compiled_type_alone(row: dict[str, Any]) -> None:
    if both(row)[1] is not None:
        READER._read_one(json.dumps(row).encode())


@given(st.lists(good, min_size=1, max_size=4))
def test_many_rows_are_read_as_each_alone(rows: list[dict[str, Any]]) -> None:
    alone = [both(row)[1] for row in rows]
    try:
        read, ids, many = READER.read(json.dumps({"rows": rows, "ids": ["a"] * len(rows)}).encode())
    except InvalidRequest:
        assert None in alone
        return
    assert many
    assert ids == ["a"] * len(rows)
    assert [READER.values(row) for row in read] == alone


def test_a_field_sent_twice_counts_as_the_last_one_said() -> None:
    (row,), _, _ = READER.read(b'{"distance (km)": "far", "distance (km)": 3, "sure": true}')
    assert READER.values(row) == {"distance (km)": 3.0, "sure": 1.0}


def test_what_is_logged_is_what_was_sent_typed_under_its_own_names() -> None:
    (row,), _, _ = READER.read(b'{"distance (km)": 3, "sure": true, "at": "1970-01-01T00:00:01Z", "carrier": null, "class": "b"}')
    assert json.loads(inputs_json(row)) == {"distance (km)": 3.0, "sure": 1.0, "at": 1_000_000, "carrier": None, "class": "b"}


def test_the_moment_of_a_row_is_the_one_it_says_or_now() -> None:
    rows, _, _ = READER.read(b'{"rows": [{"distance (km)": 3, "sure": true, "at": 1}, {"distance (km)": 3, "sure": true}, {"distance (km)": 3, "sure": true, "at": null}]}')
    assert READER.moments(rows, 77) == [1_000_000, 77, 77]
    assert [READER.values(row)["at"] for row in rows] == [1_000_000, 77, 77]


def test_the_reasons_name_the_row_and_its_fields() -> None:
    with pytest.raises(InvalidRequest, match="row 1: Field 'distance") as caught:
        READER.read(b'{"rows": [{"distance (km)": 3, "sure": true}, {"distance (km)": -3, "sure": 1}]}')
    assert caught.value.fields == {"distance (km)": "must be at least 0, not -3", "sure": "must be true or false, not 1"}


def test_a_hundred_thousand_unknown_fields_are_refused_without_a_hundred_thousand_reasons() -> None:
    with pytest.raises(InvalidRequest) as caught:
        READER.read(json.dumps({f"field {i}": i for i in range(100_000)}).encode())
    assert MOST_REASONS <= len(caught.value.fields) <= MOST_REASONS + 2


@pytest.mark.parametrize("body", [b"[" * 1_000_000, b'{"a":' * 1_000_000, b'{"rows": [' + b"[" * 1_000_000, b'{"at": ' + b"1" * 1_000_000 + b"}"], ids=["lists", "objects", "rows", "digits"])
def test_what_is_deep_or_long_beyond_reason_is_refused(body: bytes) -> None:
    with pytest.raises((UsageError, InvalidRequest)):
        READER.read(body)
