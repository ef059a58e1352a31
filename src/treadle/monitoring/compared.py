"""What a drift report is made of: two sides, their columns compared, single days of the newer side, and whether a model can tell the sides apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from treadle.core.errors import DataError
from treadle.monitoring import drift
from treadle.monitoring.columns import Table, add_column, batches, kind_of, sketch_table
from treadle.monitoring.detectors import domain_classifier, psi
from treadle.monitoring.drift import LEAST, ColumnDrift
from treadle.monitoring.sketches import Sketch, empty_sketch

MOST_BLOCKS = 1_000
_SAMPLE = 20_000


@dataclass(frozen=True)
class Side:
    """One side of a comparison: what it is called, its sketches by column, and how many rows it has."""

    name: str
    sketches: Mapping[str, Sketch]

    @property
    def rows(self) -> int:
        return max((s.count for s in self.sketches.values()), default=0)


@dataclass(frozen=True)
class DriftReport:
    """All of it, as data. `days`: start of a block (ISO) to column to PSI against the reference; `together`: AUC of telling the sides apart."""

    reference: Side
    now: Side
    columns: Sequence[ColumnDrift]
    days: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    together: domain_classifier.Told | None = None

    def counts(self) -> dict[str, int]:
        """Columns by verdict."""
        return {verdict: n for verdict in drift.ORDER if (n := sum(c.verdict == verdict for c in self.columns))}

    def to_json(self) -> dict[str, Any]:
        together = None if self.together is None else {"auc": self.together.auc, "columns": dict(self.together.columns)}
        return {
            "reference": {"name": self.reference.name, "rows": self.reference.rows}, "now": {"name": self.now.name, "rows": self.now.rows},
            "counts": self.counts(), "columns": [c.to_json() for c in self.columns], "days": {day: dict(v) for day, v in self.days.items()},
            "together": together,
        }  # fmt: skip


def report(
    reference: Side, now: Side, days: Mapping[str, Mapping[str, float]] | None = None, together: domain_classifier.Told | None = None
) -> DriftReport:
    """Compare two sides. Raises DataError where one has no rows or they share no column."""
    for side in (reference, now):
        if not side.rows:
            raise DataError(f"{side.name} has no rows.", hint="Name another file, version or window.")
    if not set(reference.sketches) & set(now.sketches):
        raise DataError(f"{reference.name} and {now.name} have no column in common.", hint="Compare two tables of the same rows.")
    return DriftReport(reference, now, drift.compare(reference.sketches, now.sketches), days or {}, together)


def side(table: Table, columns: Sequence[str] | None = None) -> Side:
    """One side from a table of any size."""
    return Side(table.name, sketch_table(table, columns))


def by_block(reference: Side, table: Table, column: str, every: str, columns: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    """PSI of each block of time of a table (`every` as Polars writes it: '1d', '6h') against the reference. Raises DataError.

    Memory is one sketch a column and block.
    """
    table.between(column, None, None)
    wanted = {c for c in reference.sketches if c != column and (columns is None or c in columns)}
    kinds = {c: k for c, t in table.schema.items() if c in wanted and (k := kind_of(t))}
    moment = pl.col(column) if table.schema[column].is_temporal() else pl.col(column).str.to_datetime(time_unit="us", time_zone="UTC", strict=False)
    found: dict[str, dict[str, Sketch]] = {}
    for batch in batches(table, [column, *kinds]):
        parts = batch.with_columns(moment.cast(pl.Datetime("us")).dt.truncate(every).alias("__block__")).drop_nulls("__block__")
        for (start,), part in parts.partition_by("__block__", as_dict=True).items():
            sketches = found.setdefault(f"{start:%Y-%m-%dT%H:%M}", {name: empty_sketch(kind) for name, kind in kinds.items()})
            if len(found) > MOST_BLOCKS:
                raise DataError(f"{table.name} has more than {MOST_BLOCKS:,} blocks of {every}.", hint="Take longer ones, or a shorter window.")
            for name, sketch in sketches.items():
                add_column(sketch, part[name])
    return {
        start: {
            name: psi.score(reference.sketches[name], sketch).value for name, sketch in sketches.items()
            if sketch.count >= LEAST and type(sketch) is type(reference.sketches[name])
        }
        for start, sketches in sorted(found.items())
    }  # fmt: skip


def told_apart(reference: Table, now: Table, columns: Sequence[str], seed: int = 0) -> domain_classifier.Told:
    """Whether a model can tell a sample of either side's rows apart; columns must be in both."""
    samples = []
    for table in (reference, now):
        rows = int(table.rows.select(pl.len()).collect().item())
        samples.append(table.rows.select(columns).gather_every(max(1, rows // _SAMPLE)).head(_SAMPLE).collect())
    blocks = tuple(np.arange(s.height) * 30 // max(1, s.height) for s in samples)  # neighbours in the table stay together
    return domain_classifier.score(samples[0], samples[1], blocks=(blocks[0], blocks[1]), seed=seed)
