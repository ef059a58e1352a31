"""What the product stands for: noise does not pass the gates, and a real signal does.

Each generated data set goes the whole way a training goes (target, split, search, one look at the test rows, the default gates), with logistic
regression only, so that a hundred of them fit into a test.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits

import treadle as tr
from treadle.core.declare.model import Model
from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
from treadle.governance.gates import Verdict, judge
from treadle.training.evaluate import evaluate
from treadle.training.leakage import Looked, suspects
from treadle.training.search import outputs, search
from treadle.training.split import split
from treadle.training.target import target_of

TIME = pl.Datetime("us", "UTC")


def model_of(families: tuple[str, ...] = ("logistic",), trials: int = 3) -> Model:
    project = tr.Project("p")
    rows = project.dataset("rows", source=tr.rows(list), key="id")
    return project.model("m", rows=rows, target="y", inputs=["a", "b", "c"], candidates=[tr.candidate(f) for f in families], split=tr.at_random(folds=2), trials=trials)


def verdict_on(columns: dict[str, np.ndarray], target: np.ndarray, model: Model | None = None) -> Verdict:
    n, model = len(target), model or model_of()
    nothing = pl.Series([None] * n, dtype=TIME)
    rows = pl.DataFrame({KEY: [str(i) for i in range(n)], MOMENT: nothing, KNOWN: nothing, TARGET: target, **columns})
    kind = target_of(model, rows)
    parts = split(model, rows, kind)
    numbers, labels = [c for c in columns if rows.schema[c] == pl.Float64], [c for c in columns if rows.schema[c] == pl.String]
    frame, test = rows[parts.search], rows[parts.test]
    with threadpool_limits(1):
        found = search(
            kind.task, frame.select(*columns), kind.codes(frame[TARGET]), parts.folds, numbers, labels, model.candidates,
            trials=model.trials, seed=0, threads=1,
        )  # fmt: skip
    said = {name: outputs(kind.task, fitted, test.select(*columns), 2) for name, fitted in (("model", found.pipeline), ("baseline", found.baseline))}
    evaluation = evaluate(kind.task, kind.codes(test[TARGET]), said, parts.blocks, {})
    leaks = suspects(Looked(kind.task, rows, parts.search, parts.test, kind.codes(rows[TARGET]), numbers, labels, "random"))
    return judge(model.gates, {**evaluation, "leakage": leaks})


def noise(seed: int, n: int = 100) -> Verdict:
    rng = np.random.default_rng(seed)
    columns = {"a": rng.normal(size=n), "b": rng.uniform(size=n), "c": rng.choice(["x", "y", "z"], n)}
    return verdict_on(columns, rng.integers(0, 2, n))


def signal(seed: int, n: int = 600) -> Verdict:
    rng = np.random.default_rng(1_000 + seed)
    a, b, c = rng.normal(size=n), rng.uniform(size=n), rng.choice(["x", "y", "z"], n)
    p = 1 / (1 + np.exp(-(1.3 * a + 1.0 * (c == "x") - 0.3)))  # an AUC of about 0.8
    return verdict_on({"a": a, "b": b, "c": c}, (rng.uniform(size=n) < p).astype(int))


@pytest.mark.parametrize("sets", [20, pytest.param(60, marks=pytest.mark.slow)])
def test_of_many_sets_of_noise_at_most_one_in_twenty_passes(sets: int) -> None:
    verdicts = [noise(seed) for seed in range(sets)]
    assert sum(v.passed for v in verdicts) <= sets / 20
    reasons = [reason for v in verdicts for reason in v.reasons]
    assert sum("no evidence of signal" in r for r in reasons) >= sets * 5 / 6
    assert any("does not beat the baseline beyond chance" in r for r in reasons)


def test_of_twenty_sets_with_a_real_signal_nine_in_ten_pass() -> None:
    verdicts = [signal(seed) for seed in range(20)]
    assert sum(v.passed for v in verdicts) >= 18, [v.reasons for v in verdicts if not v.passed]


@pytest.mark.parametrize("seed", range(3))
def test_a_large_heap_of_noise_does_not_pass_either(seed: int) -> None:
    assert not noise(seed, 3_000).passed


@pytest.mark.slow
def test_of_two_hundred_draws_like_the_published_case_study_at_most_one_in_twenty_passes() -> None:
    """100 rows, two columns of random integers, a coin for a label; every family that 'auto' would try."""
    model = model_of(("logistic", "forest", "boosting", "lightgbm"), trials=8)
    passed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        columns = {name: rng.integers(1, 100, 100).astype(float) for name in ("a", "b")} | {"c": rng.choice(["x", "y"], 100)}
        passed += verdict_on(columns, rng.integers(0, 2, 100), model).passed
    print(f"{passed} of 200 draws of noise would be promoted")
    assert passed <= 10
