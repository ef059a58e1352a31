"""Two tables, windows or sets of sketches compared column by column: what moved, by how much, and what looks broken rather than moved.

| verdict | when |
|---|---|
| broken | a data-quality measure is above its limit: missing, one value, new categories, outside the range, another type; or a unit changed |
| moved | PSI above 0.25: another population (Siddiqi 2006) |
| shifted | PSI above 0.1 |
| alike | below |
| unlike | nothing can be compared: nearly every row has a value of its own, or there are fewer than `LEAST` rows |

The effect decides, never a p-value: with a million rows every column of the world differs "significantly". One binning is used, that of
`detectors/psi.py`: deciles of the reference, categories of at least 1 %, missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from treadle.monitoring.detectors import chi_square, jensen_shannon, ks, psi, quality, units, wasserstein
from treadle.monitoring.detectors.psi import Bin
from treadle.monitoring.sketches import CategorySketch, NumberSketch, Sketch
from treadle.monitoring.thresholds import LIMITS, MOVED

Verdict = Literal["broken", "moved", "shifted", "alike", "unlike"]
ORDER: tuple[Verdict, ...] = ("broken", "moved", "shifted", "unlike", "alike")
_PLURAL = {"number": "numbers", "category": "categories"}
SHIFTED = 0.1
LEAST = 100  # rows of either side
_OWN = 0.5  # share of rows with a value beyond the tracked ones, above which a column is taken for an identifier
_CATEGORIES = 30  # different new values that are named


@dataclass(frozen=True)
class ColumnDrift:
    """One column. `sizes`: measure to value; `broken`: data-quality measure to value where it is above its limit; `sentence` says what was found."""

    name: str
    verdict: Verdict
    sentence: str
    kind: str
    rows: tuple[int, int]
    missing: tuple[float, float]
    sizes: dict[str, float] = field(default_factory=dict)
    broken: dict[str, float] = field(default_factory=dict)
    bins: tuple[Bin, ...] = ()
    summary: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def compare(reference: Mapping[str, Sketch], now: Mapping[str, Sketch], limits: Mapping[str, float] = LIMITS) -> list[ColumnDrift]:
    """Every column of either, worst first: broken ones, then by PSI. A column that one side lacks is broken."""
    found = [_column(name, reference.get(name), now.get(name), limits) for name in dict.fromkeys([*reference, *now])]
    return sorted(found, key=lambda c: (ORDER.index(c.verdict), -c.sizes.get("psi", 0.0), c.name))


def _column(name: str, before: Sketch | None, after: Sketch | None, limits: Mapping[str, float]) -> ColumnDrift:
    if before is None or after is None:
        there = before if before is not None else after
        assert there is not None
        gone = after is None
        sentence = f"{name!r} is not in the new rows." if gone else f"{name!r} is new: the reference has no such column."
        rows = (there.count, 0) if gone else (0, there.count)
        return ColumnDrift(name, "broken", sentence, _kind(there), rows, (0.0, 0.0), broken={"gone" if gone else "added": 1.0})
    rows = (before.count, after.count)
    missing = (_share(before.missing, before.count), _share(after.missing, after.count))
    if type(before) is not type(after):
        empty = not before.present or not after.present
        words = f"{name!r} held {_PLURAL[_kind(before)]} and now holds {_PLURAL[_kind(after)]}."
        if empty:
            words = f"{name!r} is empty on one side, so it cannot be compared."
        return ColumnDrift(name, "broken", words, _kind(after), rows, missing, broken={"type": 1.0})
    summary = _summary(before, after)
    if min(rows) < LEAST:
        words = f"{name!r} has {min(rows):,} rows on one side; {LEAST} are needed to compare."
        return ColumnDrift(name, "unlike", words, _kind(after), rows, missing, summary=summary)
    if isinstance(before, CategorySketch) and before.other > _OWN * before.present:
        words = f"{name!r} has a value of its own in most rows, so there is nothing to compare."
        return ColumnDrift(name, "unlike", words, "identifier", rows, missing)
    stability = psi.score(before, after)
    sizes = {"psi": stability.value, "jensen_shannon": jensen_shannon.score(before, after)}
    broken: dict[str, float] = {}
    measured = quality.score(before, after)
    for metric, limit in limits.items():
        value = float(getattr(measured, metric))
        if value > limit:
            broken[metric] = value
    if measured.constant:
        broken["constant"] = 1.0
    changed = None
    if isinstance(before, NumberSketch) and isinstance(after, NumberSketch):
        sizes |= {"ks": ks.score(before, after), "wasserstein": wasserstein.score(before, after)}
        changed = units.score(before, after)
        if changed is not None:
            broken["unit"] = changed.factor
    else:
        sizes["cramers_v"] = chi_square.score(before, after)
    verdict: Verdict = "broken" if broken else "moved" if stability.value > MOVED else "shifted" if stability.value > SHIFTED else "alike"
    sentence = _sentence(name, verdict, sizes, broken, stability.bins, changed, before, after)
    return ColumnDrift(name, verdict, sentence, _kind(after), rows, missing, sizes, broken, stability.bins, summary)


def _sentence(
    name: str, verdict: Verdict, sizes: Mapping[str, float], broken: Mapping[str, float], bins: Sequence[Bin], changed: units.Change | None,
    before: Sketch, after: Sketch,
) -> str:  # fmt: skip
    if changed is not None:
        return f"{name!r} looks like a change of unit, {changed.name}: the new values are {changed.factor:.4g} times the old ones" + (
            f" plus {changed.offset:.4g}." if changed.offset else "."
        )
    said = []
    if "missing_jump" in broken:
        said.append(f"missing in {broken['missing_jump']:.0%} more of the rows")
    if "constant" in broken:
        said.append("every row has the same value")
    if "new_share" in broken and isinstance(before, CategorySketch) and isinstance(after, CategorySketch):
        fresh = [v for v, _ in after.counts.most_common(_CATEGORIES) if v not in before.counts][:3]
        said.append(f"{broken['new_share']:.0%} of the values are new categories, such as {', '.join(map(repr, fresh))}")
    if "out_of_range" in broken:
        said.append(f"{broken['out_of_range']:.0%} of the values lie outside the reference's range")
    if said:
        return f"{name!r}: {'; '.join(said)}."
    if verdict == "alike" or not bins:
        return f"{name!r} is as it was."
    most = max(bins, key=lambda b: b.part)
    return f"{name!r} has {verdict} (PSI {sizes['psi']:.2f}), most in {most.name}: {most.reference:.1%} of the rows before, {most.now:.1%} now."


def _summary(before: Sketch, after: Sketch) -> dict[str, tuple[float | None, float | None]]:
    if not isinstance(before, NumberSketch) or not isinstance(after, NumberSketch):
        return {}

    def of(sketch: NumberSketch) -> dict[str, float | None]:
        if not sketch.present:
            return dict.fromkeys(("mean", "sd", "minimum", "median", "maximum"))
        sd = sketch.sd
        return {
            "mean": sketch.mean, "sd": sd if sd == sd else None, "minimum": sketch.minimum, "median": float(sketch.quantiles([0.5])[0]),
            "maximum": sketch.maximum,
        }  # fmt: skip

    first, second = of(before), of(after)
    return {name: (first[name], second[name]) for name in first}


def _kind(sketch: Sketch) -> str:
    return "number" if isinstance(sketch, NumberSketch) else "category"


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
