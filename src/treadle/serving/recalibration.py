"""Online recalibration: two weights over a batch model's log-odds that learn from each outcome when it becomes known, and not before.

    answer      p' = 1 / (1 + exp(-(a z + b))),  z = ln(p / (1 - p)) of the batch model's probability p of the positive class
    learning    a <- a - eta_a (p' - y) z - rho (a - 1),   b <- b - eta_b (p' - y) - rho b

Stochastic gradient descent on the log loss (Bottou 1998, "Online Learning and Stochastic Approximations"), with a constant step, because the world
moves, and a pull rho back to the batch model (a = 1, b = 0), so that what was learned is forgotten when nothing supports it any more. The scaling of
log-odds by two weights is Platt's (1999). `b` follows how good or bad a day is, `a` how much the model is to be believed.

On flights from February to December 2013 (`treadle backtest`, outcomes known on average 2.8 h later) it lifted a model that is retrained monthly from
a ROC-AUC of 0.749 to 0.754, and one that never is from 0.706 to 0.722; over rates from a fifth to six times these it was 0.752 to 0.754.

The same rows learned in the same order give the same weights to the last bit (`mark`), so a state can be made again from what was learned. A state
answers the same to the last bit in the endpoint, in a bulk scoring and in a backtest: one function, a row at a time (`answer`).
Unit of independence: the row, one after the other. For binary tasks.

What production has learned is a record of kind `recalibration` (`treadle.live.learning`); `applied` reads it for whoever answers.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from treadle.ports.ledger import Ledger
from treadle.ports.predictions import Prediction

KIND = "recalibration"
LOGGED = "__recalibrated__"  # in the logged inputs: the weights a, b, and how many outcomes they had learned
RATE_A, RATE_B, PULL = 0.0005, 0.01, 0.002
_LARGEST = 30.0  # log-odds beyond which nothing more is believed
_FURTHEST = 8.0  # how far the weights may go: a flood of one answer must not end in infinity


@dataclass(frozen=True, slots=True)
class Recalibration:
    """The two weights, how they learn, and from how many rows they have."""

    a: float = 1.0
    b: float = 0.0
    learned: int = 0
    rate_a: float = RATE_A
    rate_b: float = RATE_B
    pull: float = PULL

    def answer(self, p: float) -> float:
        """The recalibrated probability.

        >>> round(Recalibration(1.0, 0.5).answer(0.5), 4)
        0.6225
        """
        return _sigmoid(self.a * log_odds(p) + self.b)

    def learn(self, p: float, positive: bool) -> Recalibration:
        """The state after the outcome of one row to which the batch model had given probability p."""
        z = log_odds(p)
        error = _sigmoid(self.a * z + self.b) - float(positive)
        a = self.a - self.rate_a * error * z - self.pull * (self.a - 1.0)
        b = self.b - self.rate_b * error - self.pull * self.b
        return replace(self, a=min(max(a, 0.0), _FURTHEST), b=min(max(b, -_FURTHEST), _FURTHEST), learned=self.learned + 1)

    def lists(self, outputs: Iterable[Sequence[float]]) -> list[list[float]]:
        """Recalibrated probabilities of rows of a batch model's two."""
        answer = self.answer
        return [[1.0 - q, q] for q in [answer(p) for _, p in outputs]]

    def answers(self, outputs: np.ndarray) -> np.ndarray:
        """The same (n, 2) of (n, 2), to the last bit: what NumPy's logarithm gives depends on the processor."""
        answer = self.answer
        q = np.array([answer(p) for p in outputs[:, 1].tolist()])
        return np.column_stack([1.0 - q, q])

    def mark(self) -> str:
        """A digest of the state, to the last bit."""
        return hashlib.sha256(struct.pack("<ddqddd", self.a, self.b, self.learned, self.rate_a, self.rate_b, self.pull)).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """As JSON values: the weights as hexadecimal floats, so that nothing is lost."""
        return {**asdict(self), "a": self.a.hex(), "b": self.b.hex()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Recalibration:
        return cls(**{**stored, "a": float.fromhex(stored["a"]), "b": float.fromhex(stored["b"])})


def applied(ledger: Ledger, model: str, version: int) -> Recalibration | None:
    """The state that a version is answered through now; None while it is not seen to help."""
    record = ledger.get(KIND, f"{model}-v{version}")
    return Recalibration.from_json(record["state"]) if record is not None and record["status"] == "helps" else None


def told(prediction: Prediction) -> tuple[tuple[float, ...], dict[str, Any] | None]:
    """What the caller of a logged prediction was told, and the state through which: (output, {'a', 'b', 'learned'} or None).

    The log's `output` is the version's own: what it is watched, compared and recalibrated by.
    """
    if LOGGED.encode() not in prediction.inputs:
        return prediction.output, None
    logged = json.loads(prediction.inputs).get(LOGGED)
    if not (isinstance(logged, list) and len(logged) == 3 and len(prediction.output) == 2):  # a field of that name that a caller sent
        return prediction.output, None
    a, b, learned = logged
    return tuple(Recalibration(a, b, learned).lists([prediction.output])[0]), {"a": a, "b": b, "learned": learned}


def log_odds(p: float) -> float:
    """ln(p / (1 - p)), within what is believed."""
    if p <= 0.0 or p >= 1.0:
        return -_LARGEST if p <= 0.0 else _LARGEST
    return min(max(math.log(p / (1.0 - p)), -_LARGEST), _LARGEST)


def prequential(
    outputs: np.ndarray, versions: np.ndarray, truth: np.ndarray, moments: np.ndarray, known: np.ndarray, start: Recalibration | None = None
) -> tuple[np.ndarray, dict[int, Recalibration]]:
    """What would have been answered: each row by the state of its moment, each outcome learned when it was known; a state for each version.

    Args:
        outputs: probabilities (n, 2), rows in order of time; truth: 1, 0, or -1 where it never became known.
        moments, known: microseconds. An outcome known at the very moment of a prediction is learned before it; one known before its own
            prediction is not learned at all.
    Returns: answers (n, 2), and the last state of each version.
    """
    n = len(outputs)
    states: dict[int, Recalibration] = {}
    begin = start or Recalibration()
    said, p, of = np.empty(n), outputs[:, 1].tolist(), versions.tolist()
    there = np.flatnonzero((truth >= 0) & (known >= moments))
    when = np.concatenate([known[there], moments])
    what = np.concatenate([there, np.arange(n)])
    learning = np.concatenate([np.zeros(len(there), bool), np.ones(n, bool)])
    for k in np.lexsort((what, learning, when)).tolist():
        i = int(what[k])
        state = states.get(of[i], begin)
        if learning[k]:
            said[i] = state.answer(p[i])
        else:
            states[of[i]] = state.learn(p[i], bool(truth[i]))
    return np.column_stack([1 - said, said]), states


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else 1.0 - 1.0 / (1.0 + math.exp(z))
