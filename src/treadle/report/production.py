"""What the loop earned: the answers that were given, and those the first version would have given, on the same rows, against the truth.

The log is read once, in batches. What is kept is a few sums a day and, for a binary task, how many rows of each class scored how high: by month in
65,536 bins of equal width in log odds, for the AUC, and by day in 2,048, for its interval. So memory grows with the days, by 0.1 MB each at most, and
not with the rows. Rows within one fine bin, 0.0004 wide, count as tied.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from treadle.assemble import Workspace
from treadle.core.declare.model import Model, Task
from treadle.core.errors import TreadleError
from treadle.core.records import Record
from treadle.ports.predictions import Outcome, Prediction
from treadle.registry import packages
from treadle.report.summed import summed
from treadle.report.sums import BINS, DAY, FINE, FROZEN, LOOP, SPREAD, Day, Sums, date_of
from treadle.wheel.turn import load_version

Known = tuple[Prediction, float]


def earned(ws: Workspace, model: Model, known: Sequence[Record], deployed: Record | None) -> dict[str, Any] | None:
    """The whole of it, as JSON; None when nothing was ever answered."""
    if not known or deployed is None or not ws.predictions.last(model.name):
        return None
    first = next(v for v in known if v["number"] == [*deployed["previous"], deployed["champion"]][0])
    alike = _alike(ws, first, known)
    frozen: Any = None
    problem = ""
    try:
        frozen = load_version(ws, first)
    except (TreadleError, ImportError) as error:
        problem = f"version {first['number']} cannot be opened: {error}"
    sums, labels = Sums(), list(first["labels"])
    for batch in ws.predictions.between(model.name, 0, 2**62):
        _add(sums, batch, first["task"], labels, alike, frozen)
    return summed(sums, first, problem, model.seed)


def _alike(ws: Workspace, first: Record, known: Sequence[Record]) -> set[int]:
    """The versions with the first one's labels and features: what was logged for them can be scored with the first."""

    def shape(version: Record) -> Any:
        try:
            manifest = json.loads(ws.blobs.get(version["package"]["files"][packages.MANIFEST]))
        except TreadleError:
            return None
        return [manifest["labels"], manifest["signature"]["features"]]

    wanted = shape(first)
    return {int(v["number"]) for v in known if wanted is not None and shape(v) == wanted}


def _add(sums: Sums, batch: Sequence[tuple[Prediction, Outcome | None]], task: Task, labels: list[Any], alike: set[int], frozen: Any) -> None:
    from treadle.monitoring.watch import code_of

    comparable: list[Known] = []
    for prediction, outcome in batch:
        day = sums.days.setdefault(prediction.moment // DAY, Day())
        day.rows += 1
        day.answering.add(prediction.version)
        _serve(sums.served, prediction)
        truth = code_of(outcome, labels)
        if not np.isfinite(truth) or (labels and truth < 0) or len(prediction.output) != max(1, len(labels)):
            continue
        predicted, observed = _held(task, prediction.output, truth)
        day.matured += 1
        day.predicted += predicted
        day.observed += observed
        sums.example = prediction
        if labels:
            sums.classes[int(truth)] = sums.classes.get(int(truth), 0) + 1
        if frozen is not None and prediction.version in alike and (not prediction.other_version or prediction.other_version in alike):
            comparable.append((prediction, truth))
    if comparable:
        _compare(sums, comparable, task, bool(labels), frozen)


def _held(task: Task, output: Sequence[float], truth: float) -> tuple[float, float]:
    """What was expected of a row and what came: of the positive class, of the number, or of the class held most probable."""
    if task == "regression":
        return output[0], truth
    if task == "binary":
        return output[1], float(truth == 1)
    best = max(range(len(output)), key=output.__getitem__)
    return output[best], float(truth == best)


def _serve(served: dict[int, dict[str, Any]], prediction: Prediction) -> None:
    entry = served.setdefault(
        prediction.version, {"answered": 0, "as_canary": 0, "first": prediction.moment, "first_canary": None, "first_champion": None}
    )
    entry["answered"] += 1
    entry["as_canary"] += prediction.variant == "canary"
    entry["last"] = prediction.moment
    name = "first_canary" if prediction.variant == "canary" else "first_champion"
    if entry[name] is None:
        entry[name] = prediction.moment


def _compare(sums: Sums, rows: Sequence[Known], task: Task, classes: bool, frozen: Any) -> None:
    from treadle.training.losses import row_loss

    truth = np.array([t for _, t in rows])
    truth = truth.astype(np.int64) if classes else truth
    said = [np.array([p.output for p, _ in rows]), frozen.outputs([json.loads(p.features) for p, _ in rows])]
    losses = np.stack([row_loss(task, truth, outputs) for outputs in said])
    position = np.array([p.moment // DAY for p, _ in rows])
    for number in np.unique(position):
        mine = position == number
        day = sums.days[int(number)]
        day.compared += int(mine.sum())
        day.loss += losses[:, mine].sum(axis=1)
        if task == "binary":
            if day.scored is None:
                day.scored = np.zeros((2, 2, BINS), np.uint32)
            month = sums.scored.setdefault(date_of(int(number))[:7], np.zeros((2, 2, FINE), np.uint32))
            for who in (LOOP, FROZEN):
                for counts in (day.scored, month):
                    np.add.at(counts[who], (truth[mine], _bin(said[who][mine, 1], counts.shape[-1])), 1)


def _bin(probability: np.ndarray, bins: int) -> np.ndarray:
    p = np.clip(probability.astype(np.float64), 1e-9, 1 - 1e-9)
    position: np.ndarray = np.clip(((np.log(p / (1 - p)) + SPREAD) / (2 * SPREAD) * bins).astype(np.int64), 0, bins - 1)
    return position
