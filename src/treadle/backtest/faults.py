"""Faults that are put into a recorded history, to see which policy's alarms find them and how soon.

They are put into the rows as they come from the feed: what is served in that time is broken, and what is learned from it later too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from treadle.core.clock import iso, parse_time, span
from treadle.core.errors import UsageError
from treadle.features.rows import MOMENT, TARGET
from treadle.training.target import Target

KINDS = {
    "missing": "the feature is missing", "constant": "the feature holds one value", "scale": "the feature is ten times what it was",
    "rename": "the feature's categories have other names", "labels": "30 % of the outcomes are another's",
}  # fmt: skip
_SPEC = re.compile(r"(\w+)(?::([^@]+))?@(\S+?)(?:\+(\S+))?")


@dataclass(frozen=True)
class Fault:
    """One fault: what is broken, in which feature, from when, and for how long."""

    kind: str
    feature: str
    start: datetime
    length: timedelta

    def said(self) -> list[str]:
        """As texts, for a digest."""
        return [self.kind, self.feature, iso(self.start), str(self.length)]

    def sentence(self) -> str:
        """In words."""
        what = KINDS[self.kind] if not self.feature else KINDS[self.kind].replace("the feature", repr(self.feature), 1)
        return f"from {self.start:%Y-%m-%d} for {self.length / timedelta(days=1):g} days {what}"


def fault(text: str) -> Fault:
    """A fault from 'missing:temp@2013-06-01+7d', 'labels@2013-06-01+7d'. Raises UsageError.

    >>> fault("scale:distance@2013-06-01+7d").feature
    'distance'
    """
    found = _SPEC.fullmatch(text.strip())
    if found is None or found[1] not in KINDS or (found[1] != "labels") != bool(found[2]):
        hint = f"Write KIND:FEATURE@DATE+TIME, for example missing:temp@2013-06-01+7d; kinds are {', '.join(KINDS)} (labels has no feature)."
        raise UsageError(f"{text!r} is no fault.", hint=hint)
    return Fault(found[1], found[2] or "", parse_time(found[3]), span(found[4] or "7d"))


def broken(rows: pl.DataFrame, faults: Sequence[Fault], features: Sequence[str], target: Target) -> pl.DataFrame:
    """The rows with the faults in them. Raises UsageError for a feature that is not there, or cannot have this fault."""
    for one in faults:
        hit = (pl.col(MOMENT) >= one.start) & (pl.col(MOMENT) < one.start + one.length)
        if one.kind == "labels":
            rows = _shuffled(rows, rows.select(hit).to_series().to_numpy())
            continue
        if one.feature not in features:
            raise UsageError(f"There is no feature {one.feature!r} to break.", hint=f"Features are: {', '.join(features)}.")
        text = rows.schema[one.feature] == pl.String
        if (one.kind == "scale" and text) or (one.kind == "rename" and not text):
            raise UsageError(f"{one.feature!r} is {'no number' if text else 'no category'}, and cannot have the fault {one.kind!r}.")
        value = {
            "missing": pl.lit("" if text else None, rows.schema[one.feature]), "constant": pl.col(one.feature).mode().first(),
            "scale": pl.col(one.feature) * 10 if not text else pl.col(one.feature), "rename": pl.lit("new_") + pl.col(one.feature).cast(pl.String),
        }[one.kind]  # fmt: skip
        rows = rows.with_columns(pl.when(hit).then(value).otherwise(pl.col(one.feature)).alias(one.feature))
    return rows


def _shuffled(rows: pl.DataFrame, hit: np.ndarray, share: float = 0.3) -> pl.DataFrame:
    chosen = np.flatnonzero(hit)
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(chosen)[: int(share * len(chosen))])
    position = np.arange(rows.height)
    position[chosen] = rng.permutation(chosen)
    return rows.with_columns(rows[TARGET].gather(position))
