"""What a call of a model costs is learned from the calls: a busy machine does not make a quick model a slow one."""

from __future__ import annotations

import random

from treadle.serving.endpoint import AT_ONCE
from treadle.serving.timing import Timing


def test_a_quick_model_on_a_machine_that_often_waits_is_still_called_at_once() -> None:
    timing, chance = Timing(), random.Random(1)
    for rows in (1, 1, 1, 32, 32):  # warmed up while everything waits
        timing.note(rows, 0.05)
    for _ in range(1_000):
        timing.note(1, chance.choice([8e-6, 8e-6, 8e-6, 0.02, 0.3]))
    assert timing.at_best(1) < AT_ONCE
    assert timing.expected(1) > AT_ONCE  # what waits is judged by the mean


def test_one_call_that_waited_long_changes_nothing() -> None:
    timing = Timing()
    for _ in range(20):
        timing.note(1, 8e-6)
    timing.note(1, 10.0)
    assert timing.at_best(1) < 1e-5
    assert timing.expected(1) < 1e-5


def test_a_model_that_has_become_slow_leaves_the_event_loop() -> None:
    timing = Timing()
    for _ in range(100):
        timing.note(1, 8e-6)
    for _ in range(8):
        timing.note(1, 0.05)
    assert timing.at_best(1) > AT_ONCE


def test_many_rows_cost_what_they_cost() -> None:
    timing = Timing()
    for _ in range(5):
        timing.note(1, 1e-5)
        timing.note(1_001, 0.00101)
    assert abs(timing.at_best(2_001) - 0.00201) < 1e-6
