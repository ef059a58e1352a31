"""Policies by name, faults by text, and the rules of a retraining, which are the same in production and in a backtest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.backtest.faults import fault
from treadle.backtest.policies import USUAL, policies
from treadle.core.declare.operations import Rate, Retrain, Watch, on_evidence, rate
from treadle.core.errors import ProjectError, UsageError
from treadle.governance.reaction import Before, Cause, Evidence, Held, due

NOW = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def asked(policy: Retrain, now: datetime = NOW, **more: object) -> Cause | Held | None:
    given: dict = {"model": "m", "alarms": [], "newest": NOW - 10 * DAY, "before": [], **more}
    return due(policy, now, **given)


def alarm(number: int, kind: str = "quality", ago: float = 1.0) -> Evidence:
    return Evidence(f"alarm-{number}", kind, NOW - ago * DAY, f"alarm {number}")


def test_a_storm_of_alarms_is_one_cause_that_names_the_others() -> None:
    found = asked(on_evidence("1 per 30d"), alarms=[alarm(i, ago=1 + i / 1000) for i in range(1000)])
    assert isinstance(found, Cause)
    assert found.id == "alarm-999"  # the oldest
    assert len(found.also) == 999


def test_only_kinds_the_policy_names_start_anything() -> None:
    assert asked(on_evidence(), alarms=[alarm(1, "input"), alarm(2, "data_quality")]) is None


def test_a_spent_budget_holds_the_cause_until_there_is_room_again() -> None:
    found = asked(on_evidence("1 per 30d"), alarms=[alarm(1)], before=[Before(NOW - 10 * DAY)])
    assert isinstance(found, Held)
    assert found.until == NOW + 20 * DAY
    assert isinstance(asked(on_evidence("1 per 30d"), found.until + DAY / 24, alarms=[alarm(1)], before=[Before(NOW - 10 * DAY)]), Cause)


def test_a_cooldown_and_the_cpu_time_hold_too() -> None:
    assert isinstance(asked(on_evidence("9 per 30d", cooldown="3d"), alarms=[alarm(1)], before=[Before(NOW - 2 * DAY)]), Held)
    held = asked(on_evidence("9 per 30d", cpu="1h"), alarms=[alarm(1)], before=[Before(NOW - 9 * DAY, 3000.0), Before(NOW - 2 * DAY, 700.0)])
    assert isinstance(held, Held)
    assert held.until == NOW + 21 * DAY  # when the first of the two falls out of the span


def test_new_rows_count_as_a_number_or_as_a_part_of_what_the_champion_learned_from() -> None:
    assert asked(on_evidence(new_rows="20%"), rows=199, learned_from=1000) is None
    assert isinstance(asked(on_evidence(new_rows="20%"), rows=200, learned_from=1000), Cause)
    assert isinstance(asked(on_evidence(new_rows=5000), rows=5000, learned_from=10**6), Cause)


def test_a_clock_that_jumps_starts_nothing_twice() -> None:
    policy = on_evidence("1 per 30d", every="7d")
    later = NOW + 400 * DAY
    first = asked(policy, later)
    assert isinstance(first, Cause)
    # It jumped a year ahead, retrained once, and comes back: what was started then counts as recent, and nothing is older than the newest.
    assert asked(policy, NOW, newest=later, before=[Before(later)]) is None
    assert isinstance(asked(policy, NOW, newest=later, before=[Before(later)], alarms=[alarm(1)]), Held)
    # And the same moment gives the same cause again, so that its run is found and not started once more.
    assert asked(policy, later) == first


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 5), st.integers(1, 40))
def test_no_more_trainings_start_in_any_span_than_the_budget_says(gaps: list[float], most: int, days: int) -> None:
    policy, moment, started = Retrain(Rate(most, days * DAY)), NOW, []
    for gap in gaps:
        moment += gap * DAY / 10
        found = due(policy, moment, model="m", alarms=[alarm(1)], newest=NOW, before=[Before(s) for s in started])
        if isinstance(found, Cause):
            started.append(moment)
        elif isinstance(found, Held):
            assert found.until > moment
    for s in started:
        assert sum(s - days * DAY < other <= s for other in started) <= most


def test_policies_have_names_and_what_is_none_is_said() -> None:
    watch = Watch(None, DAY, DAY, rate("1 per quarter"), on_evidence("1 per 21d", every="35d"))  # type: ignore[arg-type]
    found = {p.name: p for p in policies([], watch)}
    assert tuple(found) == USUAL
    assert found["never"].retrain is None
    assert found["every:30d"].retrain.every == 30 * DAY
    assert found["quality"].retrain.at_most == rate("1 per 21d")
    for wrong in (["often"], ["every:"], ["new:0"], ["never", "never"]):
        with pytest.raises(UsageError):
            policies(wrong, watch)
    with pytest.raises(UsageError, match="declares no retraining"):
        policies(["project"], Watch(None, DAY, DAY, rate("1 per quarter")))  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "missing@2024-01-01", "labels:x@2024-01-01", "burnt:x@2024-01-01", "missing:x@soon", "missing:x"])
def test_a_fault_that_is_none_is_said(text: str) -> None:
    with pytest.raises(UsageError):
        fault(text)


@pytest.mark.parametrize(("given", "says"), [
    ({"new_rows": "0%"}, "number of rows"), ({"new_rows": "many"}, "number of rows"), ({"ask": "sometimes"}, "not known"), ({"every": "0s"}, "above zero"),
])  # fmt: skip
def test_a_policy_that_cannot_be_is_refused_where_it_is_declared(given: dict, says: str) -> None:
    with pytest.raises(ProjectError, match=says):
        on_evidence(**given)


def test_an_interval_from_sums_by_day_is_that_of_the_rows() -> None:
    import numpy as np

    from treadle.backtest.compared import _area_drawn, _mean_drawn
    from treadle.training.losses import auc_each

    rng = np.random.default_rng(0)
    n, days = 20_000, 40
    truth, day = rng.integers(0, 2, n), rng.integers(0, days, n)
    score = rng.normal(truth * 0.8, 1)
    draws = rng.multinomial(days, np.full(days, 1 / days), size=30).astype(float)
    assert np.abs(_area_drawn(truth, score, day, draws) - auc_each(truth, score, draws[:, day])).max() < 1e-4
    assert np.allclose(_mean_drawn(score, day, draws), (draws[:, day] @ score) / draws[:, day].sum(axis=1))
