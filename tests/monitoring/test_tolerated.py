"""What is said of the false alarms that are tolerated, and had on replays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from treadle.core.clock import span
from treadle.core.declare.operations import rate
from treadle.monitoring.thresholds import Thresholds
from treadle.monitoring.tolerated import rates


def watch(false_alarms: str, every: str) -> Any:
    return SimpleNamespace(false_alarms=rate(false_alarms), every=span(every))


def test_the_rate_that_was_had_is_told_by_the_quarter_whatever_the_length_of_a_block() -> None:
    daily = rates(watch("1 per quarter", "1d"), Thresholds(achieved={"quality": 0.25 / 91, "calibration": 0.5 / 91}), 3)
    assert daily.startswith("1 false alarms a quarter are tolerated")
    assert daily.endswith("the thresholds of version 3 gave 0.75 (quality 0.25, calibration 0.50)")
    hourly = rates(watch("1 per quarter", "1h"), Thresholds(achieved={"quality": 0.25 / 91 / 24}), 3)
    assert hourly.endswith("gave 0.25 (quality 0.25)")


@pytest.mark.parametrize(("tolerated", "told"), [("2 per week", "26 false"), ("1 per 182d", "0.5 false")])
def test_what_is_tolerated_is_told_by_the_quarter_too(tolerated: str, told: str) -> None:
    assert rates(watch(tolerated, "1d"), Thresholds(), 1).startswith(told)


def test_thresholds_that_were_not_tried_on_anything_say_so() -> None:
    assert "not known" in rates(watch("1 per quarter", "1d"), Thresholds(), 1)
