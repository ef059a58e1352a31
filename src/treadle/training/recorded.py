"""A search on record: each trial is in the ledger when it has ended, point by point, and a search that was killed takes over what is there.

    record 'trial'   GROUP-NUMBER: the setting, its losses fold by fold, what it said of the validation rows (address of a blob)
    points           of that id: `loss` with the fold as step; of GROUP: `best` with the number of the trial as step
    record 'search'  GROUP: the leaderboard, and in plain words what was tried and why the winner won
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from treadle.core.canonical import digest
from treadle.core.declare.model import Candidate, Like, Model
from treadle.core.errors import Corrupt, NotFound
from treadle.core.records import Point
from treadle.pipelines.meaning import meaning
from treadle.ports.blobs import Blobs
from treadle.ports.ledger import Ledger
from treadle.training.search import taken_over
from treadle.training.trials import Asked, Said, Trial

TRIAL, SEARCH = "trial", "search"


class Recorded:
    """The trials of one search. `group` names it: the same rows, declaration, seed and libraries have the same name."""

    def __init__(self, group: str, scope: str, model: str, ledger: Ledger, blobs: Blobs) -> None:
        self.group, self._scope, self._model, self._ledger, self._blobs = group, scope, model, ledger, blobs
        self._found = {int(r["number"]): r for r in ledger.find(TRIAL, {"group": group})}
        self.taken = 0
        self._best: float | None = None

    def known(self, asked: Asked) -> tuple[Trial, Said] | None:
        """What is on record of a setting."""
        record = self._found.get(asked.number)
        trial = taken_over(dict(record.body), asked) if record is not None else None
        if record is None or trial is None:
            return None
        said = Said()
        if record.get("said"):
            try:
                said = _unpacked(self._blobs.get(record["said"]))
            except (NotFound, Corrupt):
                return None  # tried again
        self.taken += 1
        self._note(trial)
        return trial, said

    def keep(self, trial: Trial, said: Said) -> None:
        """Put a trial on record."""
        id = f"{self.group}-{trial.number:03d}"
        address = self._blobs.put(_packed(said)) if trial.status in ("done", "small") else ""
        better = self._note(trial)
        points = [Point(id, "loss", loss, fold) for fold, loss in enumerate(trial.fold_losses)]
        if better is not None:
            points.append(Point(self.group, "best", better, trial.number))
        body = {"scope": self._scope, "model": self._model, "group": self.group, "said": address, **asdict(trial)}
        body["params"] = Candidate("", trial.params).said()[1]
        with self._ledger.transaction():
            self._ledger.put(TRIAL, id, body)
            self._ledger.log_points(points)

    def tell(self, body: Mapping[str, Any]) -> None:
        """What came of the whole search."""
        self._ledger.put(SEARCH, self.group, {"scope": self._scope, "model": self._model, **body})

    def _note(self, trial: Trial) -> float | None:
        if trial.status != "done" or trial.loss is None or (self._best is not None and trial.loss >= self._best):
            return None
        self._best = trial.loss
        return trial.loss


def name_of(scope: str, learning: Mapping[str, Any], as_of: str, settings: Any, frame: pl.DataFrame, model: Model, environment: Any) -> str:
    """The name of a search: a digest of all that its trials depend on."""
    rows = hashlib.sha256(frame.hash_rows(0).to_numpy().tobytes()).hexdigest()
    makers = [_code(c.make) for c in model.candidates if c.make is not None]
    return digest([scope, dict(learning), as_of, settings, frame.height, frame.columns, rows, makers, environment])[:12]


def _code(make: Any) -> Any:
    """What a project's function or class means now, so that a changed one is tried anew."""
    thing = type(make.estimator) if isinstance(make, Like) else make
    try:
        return meaning(thing)
    except Exception:  # what has no source is told by its name
        return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', repr(thing))}"


def _packed(said: Said) -> bytes:
    buffer = io.BytesIO()
    arrays = {f"{kind}{i}": a for kind, parts in (("r", said.rows), ("o", said.outputs), ("l", said.losses)) for i, a in enumerate(parts)}
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _unpacked(content: bytes) -> Said:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        count = sum(name.startswith("r") for name in arrays.files)
        return Said(*([arrays[f"{kind}{i}"] for i in range(count)] for kind in "rol"))
