"""A request is checked field by field; whatever does not fit is named with its reason, and nothing else ever happens."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core.errors import InvalidRequest
from treadle.core.schema import Field, Kind
from treadle.features import derived
from treadle.serving.requests import Parser, fields_of, micros, moment

REQUEST = [
    Field("distance", "number", nullable=False, ge=0, le=6000), Field("seats", "integer", ge=1), Field("carrier", "category"),
    Field("remark", "text"), Field("wet", "boolean"), Field("at", "timestamp"),
]  # fmt: skip
FEATURES = [Field("distance", "number"), Field("x", "number", source="view", view="last"), Field("word", "category", source="view", view="last")]
PARSER = Parser(REQUEST, FEATURES)


def refused(row: Any, where: str = "") -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        PARSER.parse(row, where)
    return caught.value.fields


def test_a_good_row_comes_typed() -> None:
    row = {"distance": 733, "seats": 150.0, "carrier": "UA", "remark": "", "wet": True, "at": "2013-04-01T12:30:00+02:00"}
    found = PARSER.parse(row)
    assert found == {"distance": 733.0, "seats": 150.0, "carrier": "UA", "remark": "", "wet": 1.0, "at": micros(datetime(2013, 4, 1, 10, 30, tzinfo=UTC))}
    assert [type(found[k]) for k in ("distance", "wet", "at")] == [float, float, int]


def test_what_may_be_missing_may_be_null_or_left_out() -> None:
    assert PARSER.parse({"distance": 1, "wet": None}) == {"distance": 1.0, "wet": None}


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("distance", "733", "must be a number, not '733'"),
        ("distance", True, "must be a number, not True"),
        ("distance", [1], "must be a number, not [1]"),
        ("distance", float("nan"), "must be a finite number"),
        ("distance", float("inf"), "must be a finite number"),
        ("distance", 10**400, "is too large for a number"),
        ("distance", -1, "must be at least 0, not -1"),
        ("distance", 6000.5, "must be at most 6000, not 6000.5"),
        ("distance", None, "is missing"),
        ("seats", 1.5, "must be a whole number, not 1.5"),
        ("seats", 0, "must be at least 1, not 0"),
        ("seats", {"a": 1}, "must be a number, not {'a': 1}"),
        ("carrier", 3, "must be text, not 3"),
        ("carrier", ["UA"], "must be text, not ['UA']"),
        ("remark", "x" * 10_001, "is longer than 10,000 characters"),
        ("remark", ["y" * 100], "must be text, not ['yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy..."),
        ("wet", 1, "must be true or false, not 1"),
        ("wet", "yes", "must be true or false, not 'yes'"),
        ("at", "tomorrow", "must be a time like 2013-04-01T12:30:00Z, not 'tomorrow'"),
        ("at", True, "must be a time like 2013-04-01T12:30:00Z, not True"),
        ("at", float("nan"), "must be a time like 2013-04-01T12:30:00Z, not nan"),
        ("at", 1e300, "must be a time like 2013-04-01T12:30:00Z, not 1e+300"),
        ("at", -1e11, "must be a time like 2013-04-01T12:30:00Z, not -100000000000.0"),
        ("at", "0001-01-01T00:00:00+02:00", "must be a time like 2013-04-01T12:30:00Z, not '0001-01-01T00:00:00+02:00'"),
        ("at", "9999-12-31T23:59:59-02:00", "must be a time like 2013-04-01T12:30:00Z, not '9999-12-31T23:59:59-02:00'"),
        ("x", "1", "must be a number, not '1'"),
        ("word", 1, "must be text, not 1"),
        ("distanse", 1, "is not a field of this model; did you mean 'distance'?"),
        ("wrod", "calm", "is not a field of this model; did you mean 'word'?"),
        ("zzz", 1, "is not a field of this model"),
    ],
)
def test_what_does_not_fit_is_named_with_its_reason(field: str, value: Any, sentence: str) -> None:
    assert refused({"distance": 1, field: value}) == {field: sentence}


def test_every_field_that_does_not_fit_is_told_at_once() -> None:
    with pytest.raises(InvalidRequest) as caught:
        PARSER.parse({"carrier": 3, "zzz": 1}, "row 7")
    assert caught.value.fields == {"carrier": "must be text, not 3", "zzz": "is not a field of this model", "distance": "is missing"}
    assert str(caught.value) == "row 7: Field 'carrier' must be text, not 3 (and 2 more)."


@pytest.mark.parametrize("row", [None, 3, "text", [1], [{}], True])
def test_a_row_is_an_object(row: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"A row is a JSON object of fields\."):
        PARSER.parse(row)


def test_a_looked_up_feature_may_be_sent_and_may_be_null() -> None:
    assert PARSER.parse({"distance": 1, "x": 2, "word": None}) == {"distance": 1.0, "x": 2.0, "word": None}


def test_moments_are_exact_to_the_microsecond() -> None:
    assert moment("2013-04-01T12:30:00.123457Z") % 1_000_000 == 123_457
    assert moment("1969-12-31T23:59:59.999999") == -1
    assert moment("2013-04-01") == moment("2013-04-01T00:00:00Z") == moment(1364774400) == moment(1364774400.0)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(-(10**400), 10**400) | st.floats() | st.text() | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
names = st.sampled_from([*(f.name for f in (*REQUEST, *FEATURES)), "distanse"]) | st.text(max_size=5)


@given(json_values | st.dictionaries(names, json_values, max_size=8))
def test_on_any_json_it_answers_or_refuses_and_a_moment_it_took_can_be_used(row: Any) -> None:
    try:
        values, said = PARSER.parse(row), None
    except InvalidRequest as error:
        values, said = {}, error
    if said is not None:
        assert all(isinstance(k, str) and v for k, v in said.fields.items())
        return
    assert "distance" in values
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):  # the first and the last place where a day begins
        derived.function(("hour", "at", zone))(values)


@given(st.datetimes(timezones=st.timezones()) | st.integers(-(10**12), 10**12) | st.floats())
def test_any_moment_is_taken_or_refused_and_one_that_is_taken_has_a_calendar(value: Any) -> None:
    try:
        values = PARSER.parse({"distance": 1, "at": value.isoformat() if isinstance(value, datetime) else value})
    except InvalidRequest as error:
        values, reason = {}, error.fields["at"]
    if not values:
        assert "must be a time like" in reason
        return
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"):
        assert derived.function(("weekday", "at", zone))(values) in range(1, 8)


@pytest.mark.parametrize("kind", ["number", "integer", "category", "text", "boolean", "timestamp"])
def test_the_signature_of_a_package_is_read_as_it_was_written(kind: Kind) -> None:
    entries = [{"name": "a", "kind": kind, "nullable": False, "ge": 0, "le": None, "rule": []}]
    features = [{"name": "b", "kind": "number", "source": "derived", "rule": ["hour", "a", "UTC"]}]
    assert fields_of({"request": entries, "features": features}) == (
        [Field("a", kind, nullable=False, ge=0)], [Field("b", "number", source="derived", rule=("hour", "a", "UTC"))],
    )  # fmt: skip


@pytest.mark.parametrize("value", [10**400, 10**5000, -(10**400), float("nan"), float("inf")], ids=["large", "huge", "low", "nan", "inf"])
def test_a_number_without_a_place_in_time_is_refused(value: float) -> None:
    with pytest.raises(InvalidRequest, match="'at' must be a time like"):
        PARSER.parse({"at": value})
