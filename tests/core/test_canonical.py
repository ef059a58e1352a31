"""Equal values have equal digests, whatever order or type they were made in; different ones do not."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core.canonical import canonical, digest, plain

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def shuffled(value: Any) -> Any:
    """The same value, made in another order and of other sequence types."""
    if isinstance(value, dict):
        return {k: shuffled(v) for k, v in reversed(value.items())}
    return tuple(shuffled(v) for v in value) if isinstance(value, list) else value


@given(values)
def test_the_order_of_making_does_not_show(value: Any) -> None:
    assert digest(value) == digest(shuffled(value))
    assert canonical(plain(value)) == canonical(value)


@given(values, values)
def test_different_values_have_different_digests(left: Any, right: Any) -> None:
    if digest(left) == digest(right):
        assert plain(left) == plain(right)


@given(st.sets(st.integers() | st.text(), max_size=8))
def test_a_set_has_one_spelling(value: set[Any]) -> None:
    assert canonical(value) == canonical(frozenset(value)) == canonical(set(value))


def test_a_moment_is_the_same_in_every_time_zone() -> None:
    moment = datetime(2013, 4, 1, 12, tzinfo=UTC)
    assert digest(moment) == digest(moment.astimezone(timezone(timedelta(hours=-5))))
    assert digest(moment) != digest(moment + timedelta(microseconds=1))
    assert plain(date(2013, 4, 1)) == "2013-04-01"
    assert plain(timedelta(hours=1)) == 3600.0


def test_numpy_scalars_count_as_what_they_hold() -> None:
    assert digest([np.int64(3), np.float32(0.5), np.bool_(True)]) == digest([3, 0.5, True])


@dataclass(frozen=True)
class Thing:
    size: int
    place: str = field(default="", compare=False)


@dataclass(frozen=True)
class Other:
    size: int


def test_a_dataclass_counts_by_its_name_and_what_it_compares() -> None:
    assert digest(Thing(1, "here")) == digest(Thing(1, "there"))
    assert len({digest(Thing(1)), digest(Thing(2)), digest(Other(1))}) == 3


def test_what_has_no_spelling_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no canonical form"):
        canonical({"a": [object()]})
