"""What was normal: sketches of the training rows and of the model's own answers, and thresholds calibrated on rows it was not fitted on.

Written into a model's package when it is made, so that every version carries its own measure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.operations import Watch
from treadle.core.schema import Field
from treadle.monitoring import sketches
from treadle.monitoring.aspects import Aspects, Weigh, grouped
from treadle.monitoring.blocks import BlockStats, block_stats, prediction_sketches
from treadle.monitoring.calibrate import calibrate_watch
from treadle.monitoring.detectors import outliers
from treadle.monitoring.detectors.outliers import Outliers
from treadle.monitoring.explain import sums_of
from treadle.monitoring.sketches import Sketch, sketch_column
from treadle.monitoring.thresholds import Thresholds
from treadle.monitoring.usual import SAMPLE

FILE = "reference.json"


@dataclass(frozen=True)
class Normal:
    """What `write_reference` wrote, read back."""

    sketches: dict[str, Sketch]
    thresholds: Thresholds
    blocks: int


def write_reference(
    file: Path, features: Sequence[Field], training: pl.DataFrame, unseen: pl.DataFrame, moments: np.ndarray, outputs: np.ndarray, truth: np.ndarray,
    labels: Sequence[Any], task: Any, watch: Watch, seed: int, weigh: Weigh | None = None,
) -> None:  # fmt: skip
    """Sketch and calibrate.

    Args:
        training: the features of the rows the model was fitted on.
        unseen, moments, outputs, truth: features, moments (microseconds), the model's outputs and the truth on rows it was not fitted on.
        weigh: what the version leans on, over some rows; without it that is not judged.
    """
    reference = {f.name: sketch_column(_values(training[f.name]), f.kind) for f in features}
    reference.update(prediction_sketches(labels, outputs))
    every = int(watch.every.total_seconds() * 1e6)
    groups = watch.compared(features)
    scores = _unusual(features, reference, unseen)
    odd_score = float(np.quantile(scores, 1 - outliers.SHARE)) if len(scores) else float("inf")
    blocks: list[BlockStats] = []
    columns: list[dict[str, Sketch]] = []
    aspects: list[Aspects] = []
    for block, chosen in _blocks(moments // every):
        blocks.append(block_stats(task, labels, outputs[chosen], truth[chosen], moments[chosen], start=block * every, end=(block + 1) * every))
        part = unseen[chosen]
        columns.append({**{f.name: sketch_column(_values(part[f.name]), f.kind) for f in features}, **prediction_sketches(labels, outputs[chosen])})
        sums = sums_of(task, labels, {name: part[name].to_list() for name in groups}, outputs[chosen], truth[chosen])
        weights = weigh(part.head(SAMPLE).rows()) if weigh is not None else {}
        aspects.append(Aspects(
            part.height, 1 - part.n_unique() / part.height, float((scores[chosen] > odd_score).mean()), {}, *grouped(sums, groups), dict(weights),
        ))  # fmt: skip
    thresholds = calibrate_watch(blocks, watch, seed, features=columns, reference=reference, aspects=aspects, odd_score=odd_score)
    file.write_text(json.dumps({"sketches": sketches.dump(reference), "thresholds": thresholds.to_json(), "blocks": len(blocks)}))


def read_reference(folder: Path) -> Normal | None:
    """The measure in an opened package; None when it was made without a watch."""
    file = folder / FILE
    if not file.exists():
        return None
    stored = json.loads(file.read_text())
    return Normal(sketches.load(stored["sketches"]), Thresholds.from_json(stored["thresholds"]), stored["blocks"])


def _blocks(position: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each block's number and the rows in it, old to new."""
    for block in np.unique(position):
        yield int(block), np.flatnonzero(position == block)


def _unusual(features: Sequence[Field], reference: dict[str, Sketch], rows: pl.DataFrame) -> np.ndarray:
    """How unusual each row is against the training rows."""
    known = Outliers({f.name: reference[f.name] for f in features})
    return known.score({f.name: _values(rows[f.name]) for f in features})[0] if rows.height else np.zeros(0)


def _values(column: pl.Series) -> Any:
    return column.to_numpy() if column.dtype.is_numeric() else column.to_list()
