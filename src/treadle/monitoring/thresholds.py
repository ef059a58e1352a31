"""What a watch compares with: the charts of outcomes, the levels and limits of columns, and what is usual beside them.

`calibrate.py` makes them from drift-free blocks and the tolerated rate of false alarms; a version carries them in its package.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from math import inf, nan, sqrt
from typing import Any

from treadle.monitoring.usual import Usual

MOVED = 0.25  # PSI: another population (Siddiqi 2006)
LIMITS = {"missing_jump": 0.20, "new_share": 0.05, "out_of_range": 0.05}
LEAST_MATURED = 10  # outcomes a block needs to be judged by them
LEAST_WINDOW = 100  # rows PSI needs
LEAST_BLOCK = 200  # rows with which data quality is judged on the block alone, not on the window
LEAST_REFERENCE = 5  # blocks from which a spread can be measured; below, only what the model's probabilities imply is known


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """When a standardised statistic alarms: its CUSUM above `threshold`, a single block above `single`, a CUSUM of larger slack above `fast`, a rise
    of Page-Hinkley above `hinkley`, a change that is `adwin` times the bound of ADWIN.

    `rate` and `achieved` are false alarms per block: tolerated, and had by simulation.
    """

    threshold: float
    rate: float
    achieved: float
    single: float = inf
    fast: float = inf
    hinkley: float = inf
    adwin: float = inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart(Limits):
    """How one statistic is standardised, and its limits. `row_variance` is None where each block brings its own."""

    mean: float
    between: float
    scale: float
    row_variance: float | None

    def z(self, value: float, variance: float, rows: int) -> float:
        spread = self.scale * sqrt(self.between**2 + (variance if self.row_variance is None else self.row_variance) / rows)
        return (value - self.mean) / spread if spread > 0 else nan


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Everything `judge_block` compares with. A chart is None where nothing is known to calibrate it: then that kind is not judged.

    Args:
        week: how many blocks a rolling week has.
        block_levels, week_levels: name to the PSI of one block, and of a rolling week, above which it is a finding. A name without a block level
            is judged by the week alone, against 0.25.
        limits: data-quality metric to feature to limit.
        usually_constant: features that hold one value in whole blocks without being broken; None when it is not known.
        jump_levels: name to how far the mean of a block may lie from those of the fortnight before it. A name without one is not judged so.
        unit_levels: name to how strange a block must be, in spreads of the fortnight before it, for a change of unit to be told. Only names that
            drift-free blocks once made look so have one.
        left_levels: name to the share of values outside the range of the last four weeks above which it is a finding.
        usual: what drift-free blocks showed beside outcomes and columns.
        achieved: false alarms per block by kind, as far as they were simulated.
    """

    quality: Chart | None = None
    calibration: Chart | None = None
    week: int = 7
    block_levels: Mapping[str, float] = field(default_factory=dict)
    week_levels: Mapping[str, float] = field(default_factory=dict)
    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    usually_constant: tuple[str, ...] | None = None
    jump_levels: Mapping[str, float] = field(default_factory=dict)
    unit_levels: Mapping[str, float] = field(default_factory=dict)
    left_levels: Mapping[str, float] = field(default_factory=dict)
    ranking: Chart | None = None
    usual: Usual = field(default_factory=Usual)
    achieved: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Thresholds:
        known = {f.name: stored[f.name] for f in fields(cls) if f.name in stored}
        charts = {name: None if (kept := stored.get(name)) is None else Chart(**kept) for name in ("quality", "calibration", "ranking")}
        constant = known.get("usually_constant")
        return cls(**{
            **known, **charts, "usually_constant": None if constant is None else tuple(constant), "usual": Usual.from_json(stored.get("usual") or {}),
        })  # fmt: skip
