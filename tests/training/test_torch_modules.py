"""A PyTorch module is searched, seeded and fitted like any other estimator. Runs where torch is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")

from treadle.core.declare.model import candidate  # noqa: E402
from treadle.training.search import Found, outputs, search  # noqa: E402
from treadle.training.torch_modules import TorchModel  # noqa: E402


def network(width: int, outputs: int, hidden: int = 8) -> Any:
    return torch.nn.Sequential(torch.nn.Linear(width, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, outputs))


def find(task: Any) -> tuple[Found, pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 600))
    frame = pl.DataFrame({"a": a, "b": b, "c": rng.choice(["x", "y"], 600)})
    truth = (a * b > 0).astype(np.int64) if task == "binary" else 5 + a * b
    cut = [(np.arange(400), np.arange(400, 600)), (np.arange(200, 600), np.arange(200))]
    tried = candidate("network", TorchModel(network), hidden=[4, 32], learning_rate=[0.01], epochs=[20, 40])
    return search(task, frame, truth, cut, ["a", "b"], ["c"], (tried,), trials=4, seed=0, threads=1), frame, truth


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_a_network_learns_what_no_linear_model_can_and_the_same_seed_gives_the_same_network(task: Any) -> None:
    found, frame, _ = find(task)
    again, _, _ = find(task)
    assert [t.fold_losses for t in found.trials] == [t.fold_losses for t in again.trials]
    assert np.array_equal(outputs(task, found.pipeline, frame, 2), outputs(task, again.pipeline, frame, 2))
    assert found.best is not None
    assert found.best.loss is not None
    assert found.best.loss < 0.6 * float(np.mean(found.baseline_losses))
    assert found.params["hidden"] == 32
