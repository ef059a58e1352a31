"""What was normal: sketches of the training rows and of the model's own answers, and thresholds calibrated on rows it was not fitted on.

Written into a model's package when it is made, so that every version carries its own measure.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.operations import Watch
from treadle.core.schema import Field
from treadle.monitoring import sketches
from treadle.monitoring.blocks import BlockStats, block_stats, prediction_sketches
from treadle.monitoring.sketches import Sketch, sketch_column
from treadle.monitoring.thresholds import Thresholds, calibrate_watch

FILE = "reference.json"


@dataclass(frozen=True)
class Normal:
    """What `write_reference` wrote, read back."""

    sketches: dict[str, Sketch]
    thresholds: Thresholds
    blocks: int


def write_reference(
    file: Path, features: Sequence[Field], training: pl.DataFrame, unseen: pl.DataFrame, moments: np.ndarray, outputs: np.ndarray, truth: np.ndarray,
    labels: Sequence[Any], task: Any, watch: Watch, seed: int,
) -> None:  # fmt: skip
    """Sketch and calibrate.

    Args:
        training: the features of the rows the model was fitted on.
        unseen, moments, outputs, truth: features, moments (microseconds), the model's outputs and the truth on rows it was not fitted on.
    """
    reference = {f.name: sketch_column(_values(training[f.name]), f.kind) for f in features}
    reference.update(prediction_sketches(labels, outputs))
    every = int(watch.every.total_seconds() * 1e6)
    position = moments // every
    blocks: list[BlockStats] = []
    columns: list[dict[str, Sketch]] = []
    for block in np.unique(position):
        chosen = np.flatnonzero(position == block)
        blocks.append(
            block_stats(task, labels, outputs[chosen], truth[chosen], moments[chosen], start=int(block) * every, end=int(block + 1) * every)
        )
        part = unseen[chosen]
        columns.append({**{f.name: sketch_column(_values(part[f.name]), f.kind) for f in features}, **prediction_sketches(labels, outputs[chosen])})
    thresholds = calibrate_watch(blocks, watch, seed, features=columns, reference=reference)
    file.write_text(json.dumps({"sketches": sketches.dump(reference), "thresholds": thresholds.to_json(), "blocks": len(blocks)}))


def read_reference(folder: Path) -> Normal | None:
    """The measure in an opened package; None when it was made without a watch."""
    file = folder / FILE
    if not file.exists():
        return None
    stored = json.loads(file.read_text())
    return Normal(sketches.load(stored["sketches"]), Thresholds.from_json(stored["thresholds"]), stored["blocks"])


def _values(column: pl.Series) -> Any:
    return column.to_numpy() if column.dtype.is_numeric() else column.to_list()
