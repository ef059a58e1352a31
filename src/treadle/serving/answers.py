"""What was answered to one request: the bodies its caller gets, and the entries of the prediction log, written out when the log's thread asks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec

from treadle.ports.prediction_blocks import Block
from treadle.ports.predictions import Prediction
from treadle.serving.entries import CANARY, CHAMPION, entries
from treadle.serving.loaded import Features, Loaded
from treadle.serving.recalibration import Recalibration
from treadle.serving.rows import Row


class Body(msgspec.Struct, omit_defaults=True):
    """One answer, as the caller gets it."""

    id: str
    model: str
    version: int
    prediction: Any
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    missing: list[str] | None = None
    missing_because: Mapping[str, str] | None = None
    interval: dict[str, Any] | None = None
    explanation: dict[str, Any] | None = None
    instead: list[dict[str, Any]] | None = None
    recalibrated: int | None = None


@dataclass(slots=True, eq=False)
class Answered:
    """The rows of one request with their answers.

    Args:
        outputs, other: of the champion, and of the challenger if it was asked and answered.
        canary: for each row whether the challenger is heard; None if it is for none.
        missing: of each row which views had nothing, and why; None if all had.
        micros: microseconds a row took.
        prepared: seconds before the model was asked.
        base: what the ids of many rows begin with, '' where the caller chose them or there is one.
        caller: the header that keeps a caller on one side of a split; only its hash is logged.
        own, state: where the champion is answered through a recalibration, its own outputs and the state; `outputs` is what callers are told then.
    """

    model: str
    ids: Sequence[str]
    moments: Sequence[int]
    now: int
    rows: Sequence[Row]
    features: Sequence[Features]
    missing: Sequence[Mapping[str, str]] | None
    champion: Loaded
    outputs: Sequence[Sequence[float]]
    challenger: Loaded | None = None
    other: Sequence[Sequence[float]] | None = None
    canary: Sequence[bool] | None = None
    micros: int = 0
    caller: str = ""
    prepared: float = 0.0
    base: str = ""
    own: Sequence[Sequence[float]] | None = None
    state: Recalibration | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def heard(self, i: int) -> tuple[Loaded, Sequence[float]]:
        """The version whose answer to row `i` the caller gets, and the answer."""
        if self.canary is not None and self.canary[i] and self.challenger is not None and self.other is not None:
            return self.challenger, self.other[i]
        return self.champion, self.outputs[i]

    def own_output(self, i: int) -> Sequence[float]:
        """What the version that is heard says of row `i` by itself: the answer, but for a recalibration."""
        version, output = self.heard(i)
        return self.own[i] if self.own is not None and version is self.champion else output

    def bodies(self) -> list[Body]:
        """What the caller gets, in order."""
        return [self.body(i) for i in range(len(self.ids))]

    def rows_json(self) -> Sequence[Any]:
        """The same for very many, to be written as JSON."""
        version = self.champion
        if self.canary is not None or self.missing is not None or self.state is not None or version.task == "regression":
            return self.bodies()
        model, number, labels = self.model, version.number, version.labels
        row, shares = _types(tuple(version.label_texts), version.task == "binary")
        if version.task == "binary":
            no, yes = labels
            return [row(id, model, number, yes if p[1] > p[0] else no, p[1], shares(*p)) for id, p in zip(self.ids, self.outputs)]
        return [row(id, model, number, labels[p.index(max(p))], shares(*p)) for id, p in zip(self.ids, self.outputs)]

    def body(self, i: int) -> Body:
        """What the caller gets for row `i`."""
        version, output = self.heard(i)
        missing = self.missing[i] if self.missing is not None else None
        if version.task == "regression":
            body = Body(self.ids[i], self.model, version.number, output[0])
        else:
            best = version.labels[output.index(max(output))]
            shown = dict(zip(version.label_texts, output))
            body = Body(self.ids[i], self.model, version.number, best, output[1] if version.task == "binary" else None, shown)
        if missing:
            body.missing, body.missing_because = list(missing), missing
        if self.state is not None and version is self.champion:
            body.recalibrated = self.state.learned
        return body

    def counts(self) -> list[tuple[int, str, int]]:
        """How many rows each version answered: (version, variant, rows)."""
        canaries = sum(self.canary) if self.canary is not None and self.challenger is not None and self.other is not None else 0
        found = [(self.champion.number, CHAMPION, len(self.ids) - canaries)]
        if canaries and self.challenger is not None:
            found.append((self.challenger.number, CANARY, canaries))
        return [entry for entry in found if entry[2]]

    def predictions(self) -> Sequence[Prediction | Block]:
        """The entries of the prediction log."""
        return entries(self)


@cache
def _types(labels: tuple[str, ...], binary: bool) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`Body` for very many rows of one version: types whose fields are always there, and whose probabilities need no dict."""
    names = [f"p{i}" for i in range(len(labels))]
    shares = msgspec.defstruct("Shares", [(name, float) for name in names], rename=dict(zip(names, labels)), gc=False)
    fields: list[Any] = [("id", str), ("model", str), ("version", int), ("prediction", Any)]
    return msgspec.defstruct("Row", [*fields, *([("probability", float)] if binary else []), ("probabilities", shares)], gc=False), shares


def side(key: str, caller: str, values: Mapping[str, Any]) -> str:
    """What decides a request's side of a split: the caller's sticky key, '' when there is none."""
    value = caller if key.startswith("header:") else values.get(key[6:])
    return "" if value is None or value == "" else f"{key}={value}"


def share_of(id: str) -> float:
    """A number in [0, 1) that depends on nothing but the id: the same request is always on the same side of a split."""
    return int.from_bytes(hashlib.blake2b(id.encode(), digest_size=7).digest(), "big") / 2**56
