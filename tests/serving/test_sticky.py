"""A caller stays on one side of a split, by a field or a header, and what is logged of the header is a hash."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from treadle.backends.memory_online import MemoryOnline
from treadle.ports.predictions import Prediction
from treadle.serving.endpoint import Endpoint, Traffic
from treadle.serving.entries import KEY
from treadle.serving.loaded import Loaded

ROW: dict[str, Any] = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}


@pytest.fixture
def ask(make_loaded: Callable[..., Loaded]) -> Callable[..., Prediction]:
    endpoint = Endpoint("late", MemoryOnline())

    def asked(key: str, share: float = 0.5, caller: str = "", **row: Any) -> Prediction:
        endpoint.traffic = Traffic(make_loaded(1), make_loaded(2), "canary", share, key)
        return endpoint.predict([{**ROW, **row}], None, caller).predictions()[0]

    return asked


def test_a_caller_is_on_the_same_side_each_time_and_callers_are_on_both(ask: Callable[..., Prediction]) -> None:
    sides = {caller: {ask("header:x-user", caller=caller).version for _ in range(3)} for caller in map(str, range(60))}
    assert all(len(seen) == 1 for seen in sides.values())
    assert {v for seen in sides.values() for v in seen} == {1, 2}
    assert len({ask("field:seats", seats=9).version for _ in range(20)}) == 1
    assert {ask("field:seats", seats=n).version for n in range(1, 40)} == {1, 2}


def test_who_is_in_a_small_canary_stays_in_it_when_it_grows(ask: Callable[..., Prediction]) -> None:
    users = [str(n) for n in range(60)]
    early = {u for u in users if ask("header:x-user", 0.2, u).version == 2}
    assert early
    assert early <= {u for u in users if ask("header:x-user", 0.6, u).version == 2}


def test_without_its_key_a_request_is_split_on_its_own(ask: Callable[..., Prediction]) -> None:
    assert {ask("header:x-user").version for _ in range(40)} == {1, 2}
    assert {ask("field:carrier", carrier=None).version for _ in range(40)} == {1, 2}


def test_of_the_header_only_a_hash_is_logged(ask: Callable[..., Prediction]) -> None:
    entry = ask("header:x-user", caller="ann@example.org")
    assert b"ann" not in entry.inputs
    assert json.loads(entry.inputs)[KEY] == json.loads(ask("header:x-user", caller="ann@example.org").inputs)[KEY]
    assert KEY not in json.loads(ask("field:seats", caller="ann").inputs)
