"""A version made at a moment of the history, as a turn would have made it then: fitted on what was known, tested on the newest rows.

What depends on nothing but the rows, the moment and the settings is kept (blobs, found by a record in the ledger): policies that train at the same
moment share it, and a backtest that was stopped does not train again. CPU time is what the training took when it was done; it counts for each policy.
"""

from __future__ import annotations

import io
import json
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle.assemble import Workspace
from treadle.backtest.history import History, moment_of, numbers_and_categories
from treadle.core.canonical import canonical, digest, plain
from treadle.core.declare.model import Candidate, Model
from treadle.core.errors import DataError
from treadle.features.rows import MOMENT, TARGET
from treadle.monitoring.reference import Normal, read_reference, write_reference
from treadle.provenance.origin import environment_state
from treadle.training import estimators
from treadle.training.evaluate import evaluate
from treadle.training.search import outputs, search
from treadle.training.split import split

KIND = "backtest_training"


@dataclass(frozen=True)
class Version:
    """What a training made.

    Args:
        first: position of the first row it says something of: its first test row. `outputs[i - first]` is of row i, (classes) or (1).
        test: positions of its test rows; `days`: the block each lies in.
        evaluation: as the gates look at it, without a champion.
        learned: how many rows it learned from. cpu: seconds the training took, with its evaluation.
    """

    as_of: int
    family: str
    params: dict[str, Any]
    first: int
    outputs: np.ndarray
    test: np.ndarray
    days: np.ndarray
    evaluation: dict[str, Any]
    normal: Normal | None
    learned: int
    cpu: float
    reused: bool = False

    def of(self, rows: slice | np.ndarray) -> np.ndarray:
        """What it says of rows, as numbers of double length."""
        at = np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        return np.asarray(self.outputs[at - self.first], dtype=np.float64)


def trained(
    ws: Workspace, model: Model, history: History, as_of: int, *, settings: dict[str, Any] | None = None, window: int | None = None
) -> Version:  # fmt: skip
    """Train as of a moment, or find that it was done. Raises DataError when what was known then is not enough."""
    watch = ws.watch_of(model)
    assert watch is not None
    id = digest([
        "training 2", history.address, as_of, plain(settings), window, plain(model.split), model.seed, model.trials, environment_state(),
        [c.said() for c in model.candidates], model.metric, history.every, plain(watch.false_alarms), list(watch.kinds), plain(watch.groups),
    ])[:24]  # fmt: skip
    record = ws.ledger.get(KIND, id)
    if record is not None and record.get("error"):
        raise DataError(record["error"])
    if record is not None and record["address"] and ws.blobs.exists(record["address"]):
        return _loaded(ws, record["address"], reused=True)
    try:
        files = _train(ws, model, history, as_of, settings, window)
    except DataError as error:
        ws.ledger.put(KIND, id, {"model": model.name, "error": error.what})
        raise
    address = ws.blobs.put(files)
    ws.ledger.put(KIND, id, {"model": model.name, "address": address})
    return _loaded(ws, address, reused=False)


def _train(ws: Workspace, model: Model, history: History, as_of: int, settings: dict[str, Any] | None, window: int | None) -> bytes:
    from threadpoolctl import threadpool_limits

    begun = time.process_time()
    visible = history.known_by(as_of)
    rows, target = history.rows[visible], history.target
    parts = split(model, rows, target, moment_of(as_of), window=None if window is None else timedelta(microseconds=window))
    numbers, categories = numbers_and_categories(history)
    frame = rows[parts.search].select(numbers + categories)
    truth = target.codes(rows[TARGET].gather(parts.search))
    if settings:
        tried: tuple[Candidate, ...] = tuple(
            Candidate(c.family, {k: [v] for k, v in settings["params"].items()}, c.make)
            for c in (model.candidates or (Candidate(settings["family"]),)) if c.family == settings["family"]
        )  # fmt: skip
        folds, trials = parts.folds[-1:], 1
    else:
        tried, folds, trials = tuple(estimators.candidates(model, target.task, len(frame))), parts.folds, model.trials
    with threadpool_limits(ws.threads):
        found = search(
            target.task, frame, truth, folds, numbers, categories, tried, trials=trials, seed=model.seed, threads=ws.threads, kind=model.kind,
            metric=model.metric, budget=model.budget.total_seconds() if model.budget and not settings else 0.0,
        )  # fmt: skip
        test = visible[parts.test]
        first = int(test.min())
        later = history.rows[first:].select(numbers + categories)
        fitted = time.process_time()
        said = outputs(target.task, found.pipeline, later, len(target.labels))
        scored = time.process_time()
        trivial = outputs(target.task, found.baseline, later[test - first], len(target.labels))
        shown = {"model": said[test - first], "baseline": trivial}
        slices = {s: history.rows[f"slice:{s}"].gather(test).to_list() for s in model.slices}
        evaluation = evaluate(target.judged_as, target.codes(history.rows[TARGET].gather(test)), shown, parts.blocks, slices, model.seed)
        normal = _normal(ws, model, history, rows[parts.search], found.validation, test, shown["model"])
    body = {
        "as_of": as_of, "family": found.family, "params": plain(found.params), "first": first, "evaluation": evaluation, "normal": normal,
        "learned": len(frame), "cpu": round(fitted - begun + time.process_time() - scored, 3),
    }  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, outputs=said.astype(np.float32), test=test, days=parts.blocks, about=np.frombuffer(canonical(body), dtype=np.uint8))
    return buffer.getvalue()


def _normal(
    ws: Workspace, model: Model, history: History, learned: pl.DataFrame, validation: list[tuple[np.ndarray, np.ndarray]], test: np.ndarray,
    said: np.ndarray,
) -> str:  # fmt: skip
    """What is normal for this version, as its package would carry it."""
    watch = ws.watch_of(model)
    assert watch is not None
    order = [f.name for f in history.features]
    tested = history.rows[test]
    unseen = pl.concat([*(learned[positions] for positions, _ in validation), tested])
    answers = np.concatenate([*(output for _, output in validation), said])
    labels = plain(list(history.target.labels))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "reference.json")
        write_reference(
            file, history.features, learned.select(order), unseen.select(order), unseen[MOMENT].cast(pl.Int64).to_numpy(), answers,
            history.target.codes(unseen[TARGET]), labels, history.target.task, watch, model.seed,
        )  # fmt: skip
        return file.read_text()


def _loaded(ws: Workspace, address: str, *, reused: bool) -> Version:
    with np.load(ws.blobs.path(address)) as stored:
        said, test, days, about = stored["outputs"], stored["test"], stored["days"], json.loads(stored["about"].tobytes())
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "reference.json").write_text(about["normal"])
        normal = read_reference(Path(folder))
    return Version(
        about["as_of"], about["family"], about["params"], about["first"], said, test, days, about["evaluation"], normal, about["learned"],
        about["cpu"], reused,
    )  # fmt: skip
