"""The guard throws out what breaks its limits for sure, says on how many calls it knows it, and leaves alone what keeps them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from treadle.core.declare.rollout import Rollback, as_json, from_json, rollback_when
from treadle.core.errors import ProjectError
from treadle.serving.guard import FEWEST, Guard, judge
from treadle.serving.service import Counts, Service

START = datetime(2013, 4, 1, tzinfo=UTC)
LIMITS = Rollback(errors=0.01, slow=(0.05, 0.01), slower=3.0)
MS = 1_000_000


def test_a_version_that_always_fails_is_thrown_out_after_a_few_calls() -> None:
    guard, service = Guard(LIMITS), Service()
    verdicts = []
    for _ in range(10):
        service.broke()
        if not verdicts:
            guard.look(2, service, START, START) if service.failed == 1 else None
        verdicts.append(guard.look(2, service, START, START))
    first = next(v for v in verdicts if v)
    assert (first.version, first.limit) == (2, "errors")
    assert FEWEST <= first.evidence["times"] <= 6
    assert f"{first.evidence['times']} of {first.evidence['of']} calls failed; 1 % are allowed" == first.sentence


def test_a_version_within_its_limits_is_seldom_thrown_out_in_a_whole_day_of_looks() -> None:
    rng = np.random.default_rng(9)
    thrown = 0
    for _ in range(60):
        out = False
        for hour in range(24):
            failed = np.cumsum(rng.random(500) < LIMITS.errors)
            out = out or any(
                judge(LIMITS, LIMITS.alpha * LIMITS.tests, 1, Counts(int(n), int(failed[n - 1])), hour) for n in range(10, 501, 10)
            )  # fmt: skip
        thrown += out
    assert thrown <= 6  # 5 % of 60 a stage would be 1 with the real, smaller share


@pytest.mark.parametrize(("rate", "within"), [(0.02, 6_000), (0.05, 600), (0.2, 120)])
def test_a_bad_canary_is_found_within_its_stated_sample(rate: float, within: int) -> None:
    rng = np.random.default_rng(10)
    found = 0
    for _ in range(40):
        failed = np.cumsum(rng.random(within) < rate)
        found += any(judge(LIMITS, LIMITS.alpha, 1, Counts(n, int(failed[n - 1]))) for n in range(10, within + 1, 10))
    assert found >= 36


def test_one_that_takes_three_times_as_long_is_found_and_one_that_takes_twice_is_not() -> None:
    for times, found in ((3.5, True), (2.0, False)):
        guard, mine, other = Guard(LIMITS), Service(), Service()
        guard.look(2, mine, START, START)
        rng = np.random.default_rng(3)
        verdict = None
        for _ in range(300):
            other.done(1, int(MS * rng.uniform(0.8, 1.25)))
            mine.done(1, int(times * MS * rng.uniform(0.9, 1.1)))
            mine.beside(other)
            verdict = verdict or guard.look(2, mine, START, START)
        assert (verdict is not None and verdict.limit == "slower") is found


def test_slow_calls_count_against_their_own_limit() -> None:
    guard, service = Guard(LIMITS), Service()
    guard.look(2, service, START, START)
    for i in range(400):
        service.done(1, 60 * MS if i % 5 == 0 else MS)
    verdict = guard.look(2, service, START, START)
    assert verdict is not None
    assert (verdict.limit, verdict.sentence) == ("slow", "80 of 400 calls took more than 50 ms; 1 % are allowed")


def test_what_a_version_did_before_its_stage_began_or_in_an_earlier_hour_does_not_count() -> None:
    guard, service = Guard(LIMITS), Service()
    for _ in range(50):
        service.broke()
    assert guard.look(2, service, START, START) is None
    service.broke()
    assert guard.look(2, service, START, START + timedelta(minutes=59)) is None
    assert guard.look(2, service, START, START + timedelta(hours=1)) is None
    for _ in range(6):
        service.broke()
    late = guard.look(2, service, START, START + timedelta(hours=1, minutes=1))
    assert late is not None
    assert late.evidence["hour"] == 1
    assert late.evidence["needed"] == pytest.approx(6 / LIMITS.alpha)


def test_several_processes_share_the_tolerated_false_alarms() -> None:
    counts = Counts(4, 4)
    assert judge(LIMITS, LIMITS.alpha, 1, counts) is not None
    assert Guard(LIMITS, processes=4)._alpha == pytest.approx(LIMITS.alpha / 4)


def test_a_declaration_survives_the_record_and_nonsense_is_refused() -> None:
    declared = rollback_when(errors="2%", slow="200ms", slower="3x", alarms=("skew", "prediction"), trial="3d")
    assert from_json(as_json(declared)) == declared
    assert declared.tests == 5
    assert from_json(as_json(None)) is None
    for wrong in ({"errors": "0%"}, {"errors": 1.0}, {"slow": "fast"}, {"slow": "0ms"}, {"slower": "0.5x"}, {"alarms": ("moon",)}, {"trial": "soon"}, {"false_alarms": 0}):
        with pytest.raises(ProjectError):
            rollback_when(**wrong)  # type: ignore[arg-type]
