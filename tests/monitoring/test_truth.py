"""Delayed truth: late, corrected, doubled and contradicting outcomes end in the figures of a computation from scratch, and nothing said is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.core.declare.truth import Truth
from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.monitoring import review, truth
from treadle.monitoring.estimate import estimate
from treadle.ports.predictions import Outcome, Prediction

START = datetime(2024, 1, 4, tzinfo=UTC)  # weeks since 1970 begin on Thursdays
DAY = 86_400_000_000
ZERO = int(START.timestamp() * 1e6)
ABOUT = truth.Answering("binary", ["no", "yes"])
DECLARED = Truth(None, timedelta(days=7), timedelta(days=60))  # type: ignore[arg-type]


def predictions(days: int = 21, a_day: int = 40, seed: int = 0) -> tuple[list[Prediction], np.ndarray, np.ndarray]:
    """Two versions answer in turns; their probabilities are right. Returns them, the probabilities, and the truth."""
    rng = np.random.default_rng(seed)
    count = days * a_day
    p = rng.beta(1, 2, count)
    made = [
        Prediction(f"p{i}", "m", ZERO + i * DAY // a_day, 0, 1 + i % 2, "champion", (1 - p[i], p[i]), 0, (), b"{}", b"[]", 1) for i in range(count)
    ]
    return made, p, (rng.random(count) < p).astype(int)


def outcome(p: Prediction, value: object, after_days: float = 1, source: str = "crew") -> Outcome:
    return Outcome(p.id, value, p.moment + int(after_days * DAY), source)


def settled(log: MemoryPredictions, ledger: MemoryLedger, day: float, **more: object) -> list:
    options: dict = {"again": True, **more}
    declared = options.pop("declared", DECLARED)
    return truth.settle("m", declared, DAY, lambda number: ABOUT, log, ledger, START + timedelta(days=day), **options)


def test_a_window_matures_when_its_label_window_has_passed() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, _, y = predictions()
    log.write(made, [outcome(p, ["no", "yes"][v]) for p, v in zip(made, y)])
    assert settled(log, ledger, 7.9) == []
    assert {r["version"] for r in settled(log, ledger, 8)} == {1, 2}
    assert settled(log, ledger, 9) == []  # nothing new came


def test_figures_are_those_of_a_computation_from_scratch_with_intervals_over_days() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, p, y = predictions()
    log.write(made, [outcome(q, ["no", "yes"][v]) for q, v in zip(made, y)])
    settled(log, ledger, 30)
    for record in truth.figures("m", ledger):
        mine = [i for i, q in enumerate(made) if q.version == record["version"] and record["start"] <= q.moment < record["end"]]
        assert record["metrics"]["roc_auc"]["value"] == pytest.approx(roc_auc_score(y[mine], p[mine]))
        assert record["metrics"]["log_loss"]["value"] == pytest.approx(log_loss(y[mine], p[mine]))
        assert record["interval_of"] == "days"
        assert record["metrics"]["roc_auc"]["low"] < record["metrics"]["roc_auc"]["value"] < record["metrics"]["roc_auc"]["high"]


def test_outcomes_thirty_days_late_and_corrections_restate_their_window_and_the_history_is_kept() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, _, y = predictions()
    said = [["no", "yes"][v] for v in y]
    log.write(made, [outcome(p, v) for p, v in zip(made[::3], said[::3])])
    settled(log, ledger, 30)
    first = {r.id: r for r in truth.figures("m", ledger)}
    log.write([], [outcome(p, v, 30) for p, v in zip(made[1::3], said[1::3])])  # 30 days late
    settled(log, ledger, 31)
    log.write([], [outcome(p, {"no": "yes", "yes": "no"}[v], 31) for p, v in zip(made[:60:3], said[:60:3])])  # and some were wrong
    settled(log, ledger, 32)
    last = {r.id: r for r in truth.figures("m", ledger)}
    assert any(r["restated"] == 2 for r in last.values())
    for id, record in last.items():
        assert record["history"][0]["metrics"] == first[id]["metrics"]
    # In another order and all at once: the same figures.
    other_log, other_ledger = MemoryPredictions(), MemoryLedger()
    right = dict(zip((p.id for p in made[1::3]), said[1::3])) | dict(zip((p.id for p in made[::3]), said[::3]))
    for p, v in zip(made[:60:3], said[:60:3]):
        right[p.id] = {"no": "yes", "yes": "no"}[v]
    of = {p.id: p for p in made}
    other_log.write([], [outcome(of[id], v, 40) for id, v in reversed(right.items())])  # before their predictions are logged
    other_log.write(made[::-1])
    settled(other_log, other_ledger, 50)
    for id, record in {r.id: r for r in truth.figures("m", other_ledger)}.items():
        assert record["metrics"] == last[id]["metrics"]
        assert record["matured"] == last[id]["matured"]


@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 79), st.sampled_from(["yes", "no", "perhaps"]), st.integers(-3, 20)), max_size=120), st.integers(1, 5))
def test_whatever_comes_in_whatever_order_the_last_word_of_each_prediction_counts(events: list, looks: int) -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, _, _ = predictions(2)
    log.write(made)
    for k, (i, value, after) in enumerate(events):
        log.write([], [outcome(made[i], value, after + k * 1e-6)])
        if k % looks == 0:
            settled(log, ledger, 30)
    settled(log, ledger, 30)
    for record in truth.figures("m", ledger):
        gathered = truth.gather("m", record["start"], record["end"], lambda n: ABOUT, log)[record["version"]]
        fresh = truth.measure(ABOUT, gathered)
        assert {k: record[k] for k in fresh} == fresh
        last = {made[i].id: (v, after) for i, v, after in events}
        counts = [id for id, (v, after) in last.items() if v != "perhaps" and after >= 0 and id in gathered.ids]
        assert record["matured"] == len(counts)


def test_a_source_decides_no_more_of_a_window_than_it_may() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, _, y = predictions(7)
    log.write(made, [outcome(p, ["no", "yes"][v], source="crew") for p, v in zip(made[:100], y)])
    log.write([], [outcome(p, "yes", source="app") for p in made[100:]])  # somebody says yes to everything
    settled(log, ledger, 30, declared=Truth(None, timedelta(days=7), timedelta(days=60), {"app": 0.2}))  # type: ignore[arg-type]
    for record in truth.figures("m", ledger):
        assert record["matured"] == 50 + 12  # 12 of 62 are 20 %
        assert record["over_limit"] == 140 - 50 - 12


def test_a_window_without_outcomes_or_with_one_class_has_no_figures_and_says_so() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, _, _ = predictions(14)
    log.write(made, [outcome(p, "no") for p in made if p.moment >= ZERO + 7 * DAY])
    settled(log, ledger, 30)
    first, second = truth.figures("m", ledger)[0], truth.figures("m", ledger)[-1]
    assert first["metrics"] == {}
    assert first["matured"] == 0
    assert second["metrics"]["roc_auc"] == {"value": None, "low": None, "high": None}
    assert second["metrics"]["log_loss"]["value"] > 0


def test_an_empty_log_and_a_clock_that_goes_back_change_nothing() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    assert settled(log, ledger, 30) == []
    made, _, y = predictions()
    log.write(made, [outcome(p, ["no", "yes"][v]) for p, v in zip(made, y)])
    before = {r.id: r.body for r in settled(log, ledger, 30)}
    assert settled(log, ledger, 3) == []
    assert settled(log, ledger, 31) == []
    assert {r.id: r.body for r in truth.figures("m", ledger)} == before


def test_the_estimate_is_right_where_probabilities_are_and_its_error_is_measured() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, p, y = predictions(35, a_day=400)
    log.write(made, [outcome(q, ["no", "yes"][v]) for q, v in zip(made, y) if q.moment < ZERO + 28 * DAY])
    settled(log, ledger, 30)
    told = truth.estimated("m", 1, ZERO + 28 * DAY, ZERO + 35 * DAY, lambda n: ABOUT, log, ledger)
    assert told is not None
    assert told.windows == 4
    for name in ("roc_auc", "log_loss", "accuracy", "brier"):
        assert told.error[name] < 0.03
    mine = [i for i, q in enumerate(made) if q.moment >= ZERO + 28 * DAY and q.version == 1]
    assert told.metrics["roc_auc"] == pytest.approx(roc_auc_score(y[mine], p[mine]), abs=0.04)
    assert told.metrics["log_loss"] == pytest.approx(log_loss(y[mine], p[mine]), abs=0.04)


def test_the_estimate_does_not_see_that_a_model_became_wrong_and_its_error_does() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, _, y = predictions(28, a_day=100)
    log.write(made, [outcome(q, ["yes", "no"][v]) for q, v in zip(made, y)])  # the opposite of what it says
    settled(log, ledger, 30)
    errors = truth.errors_of(truth.figures("m", ledger), 1)
    assert np.mean(errors["roc_auc"]) < -0.3
    assert estimate("regression", [], np.ones((3, 1))) is None


def test_people_are_asked_about_the_same_share_whatever_was_predicted_and_answer_once() -> None:
    log, ledger = MemoryPredictions(), MemoryLedger()
    made, _, _ = predictions(21, a_day=200)
    log.write(made)
    asked = list(review.waiting("m", 0.05, log, limit=10_000))
    assert 0.03 < len(asked) / len(made) < 0.07
    assert {p.id for p in asked} <= {p.id for p in review.waiting("m", 0.1, log, limit=10_000)}
    one = asked[0].id
    review.answer(one, "YES", ["no", "yes"], log, ledger, START, person="ada")
    review.answer(one, "yes", ["no", "yes"], log, ledger, START, person="ada")
    assert [o.value for o in log.outcomes_of(one)] == ["yes"]
    assert one not in {p.id for p in review.waiting("m", 0.05, log, limit=10_000)}
    with pytest.raises(Conflict):
        review.answer(one, "no", ["no", "yes"], log, ledger, START, person="ada")
    with pytest.raises(UsageError):
        review.answer(one, "maybe", ["no", "yes"], log, ledger, START, person="bob")
    with pytest.raises(NotFound):
        review.answer("nobody", "yes", ["no", "yes"], log, ledger, START, person="bob")
