"""River's models: one pass in order of time, outcomes learned when known, the same state after a crash, and served like any linear model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from treadle.backends.onnx_format import OnnxFormat
from treadle.core.declare.model import Candidate
from treadle.core.errors import Corrupt, UsageError
from treadle.training import estimators
from treadle.training.losses import auc
from treadle.training.online import OnlineModel, prequential

HOUR = 3_600_000_000


def stream(n: int = 3_000, seed: int = 0) -> tuple[list[dict], list[bool], np.ndarray]:
    """Rows whose outcome depends on a number and a word; in the middle the word changes what it means."""
    rng = np.random.default_rng(seed)
    x, word = rng.normal(0, 1, n), rng.choice(["calm", "storm"], n)
    moments = np.arange(n) * HOUR // 4
    sign = np.where(np.arange(n) < n // 2, 1.0, -1.0)
    truth = rng.random(n) < 1 / (1 + np.exp(-(1.5 * x + 2.0 * sign * np.where(word == "storm", 1, -1))))
    rows = [{"x": None if rng.random() < 0.05 else float(v), "word": str(w), "wet": bool(v > 0)} for v, w in zip(x, word)]
    return rows, truth.tolist(), moments


def test_it_follows_a_change_that_a_frozen_model_does_not() -> None:
    rows, truth, moments = stream()
    model = OnlineModel(rate=0.05)
    said = prequential(model, rows, truth, moments, moments + HOUR)
    late = slice(2_500, 3_000)
    frozen = OnlineModel(rate=0.05)
    for row, y in zip(rows[:1_000], truth[:1_000]):
        frozen.learn(row, y)
    alone = np.array([frozen.answer(row) for row in rows[late]])
    y = np.array(truth).astype(int)
    assert auc(y[late], said[late]) > auc(y[late], alone) + 0.2


def test_learning_before_an_outcome_is_known_would_look_better_and_is_not_done() -> None:
    rows, truth, moments = stream()
    said = prequential(OnlineModel(rate=0.05), rows, truth, moments, moments + 200 * HOUR)
    turned = [t if k + 200 * HOUR <= moments[2_000] else not t for t, k in zip(truth, moments)]  # what is not known by then, turned round
    again = prequential(OnlineModel(rate=0.05), rows, turned, moments, moments + 200 * HOUR)
    assert np.array_equal(said[:2_000], again[:2_000])
    y = np.array(truth).astype(int)
    soon = prequential(OnlineModel(rate=0.05), rows, truth, moments, moments + HOUR)
    assert auc(y[1_500:2_000], soon[1_500:2_000]) > auc(y[1_500:2_000], said[1_500:2_000])


def test_stopped_after_any_moment_and_gone_on_with_from_a_checkpoint_it_is_in_the_same_state() -> None:
    rows, truth, moments = stream(1_200)
    known = moments + 7 * HOUR
    whole = OnlineModel()
    said = prequential(whole, rows, truth, moments, known)
    part = OnlineModel()
    cut = int(moments[700]) + 1
    first = prequential(part, rows, truth, moments, known, until=cut)
    killed = OnlineModel.from_bytes(part.to_bytes())  # what it did after the checkpoint is lost, and done again
    prequential(part, rows, truth, moments, known, begin=cut, until=cut + 50 * HOUR)
    rest = prequential(killed, rows, truth, moments, known, begin=cut)
    assert killed.mark() == whole.mark()
    assert killed.learned == whole.learned
    assert np.array_equal(np.where(np.isnan(first), rest, first), said)
    assert killed.answer(rows[5]) == whole.answer(rows[5])


def test_a_checkpoint_that_was_changed_is_refused() -> None:
    stored = bytearray(OnlineModel().to_bytes())
    stored[-3] ^= 1
    with pytest.raises(Corrupt):
        OnlineModel.from_bytes(bytes(stored))
    with pytest.raises(UsageError):
        OnlineModel("multiclass")  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_as_a_family_it_is_packaged_and_answers_the_same(task: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n = 1_500
    frame = pl.DataFrame({"x": rng.normal(50, 10, n), "word": rng.choice(["calm", "storm"], n)})
    level = (frame["x"].to_numpy() - 50) / 10 + np.where(frame["word"].to_numpy() == "storm", 1.0, -1.0)
    truth = (rng.random(n) < 1 / (1 + np.exp(-level))).astype(np.int64) if task == "binary" else 100 + 20 * level
    pipeline = estimators.pipeline(Candidate("online"), {"rate": 0.02}, task, ["x"], ["word"], 0, 1)  # type: ignore[arg-type]
    pipeline.fit(frame, truth)
    assert estimators.pipeline(Candidate("online"), {"rate": 0.02}, task, ["x"], ["word"], 0, 1).fit(frame, truth)[-1].coef_ == pytest.approx(  # type: ignore[arg-type]
        pipeline[-1].coef_, abs=0.0
    )
    info = OnnxFormat().save(pipeline, tmp_path)
    assert info["format"] == "onnx"
    if task == "binary":
        assert auc(truth, pipeline.predict_proba(frame)[:, 1]) > 0.75
    else:
        assert np.abs(pipeline.predict(frame) - truth).mean() < 3
