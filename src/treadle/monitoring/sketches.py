"""Summaries of one column in constant memory: they grow with neither the rows nor the days, merge, and travel as bytes.

    >>> monday = sketch_column([1.0, 2.0, None], "number")
    >>> tuesday = sketch_column([3.0], "number")
    >>> week = monday.merge(tuesday)
    >>> week.count, week.missing, week.mean
    (4, 1, 2.0)

Numbers are kept as a KLL quantile sketch (Karnin, Lang, Liberty 2016, "Optimal Quantile Approximation in Streams"; Apache DataSketches): at K = 400 a
rank is off by at most 0.7 % with 99 % confidence, and exact while no more than K values were seen. Categories are counted exactly up to CAP
values. KLL halves its buffers by coin flips that cannot be seeded, so two sketches of the same long column agree within that error, not to the byte.
"""

from __future__ import annotations

import base64
import json
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from math import inf, isfinite, nan, sqrt
from typing import Any

import datasketches
import numpy as np

from treadle.core.clock import parse_time
from treadle.core.errors import Corrupt
from treadle.core.schema import Kind

K = 400
CAP = 1_000  # categories tracked; the rest is counted together
LONGEST = 120  # characters of a category that are kept
_LARGEST = float(np.finfo(np.float32).max)
_NUMBER, _CATEGORY = b"TN1", b"TC1"  # format and its number; old ones stay readable
_HEAD = struct.Struct("<3sqqdddd")

Values = np.ndarray | Sequence[Any]


class NumberSketch:
    """Count, missing, extremes, mean and quantiles of a column of numbers.

    `count` is of all rows, `missing` of those without a finite value. Mean and squared deviations are combined by Chan, Golub and LeVeque (1979).
    """

    __slots__ = ("count", "kll", "m2", "maximum", "mean", "minimum", "missing")

    def __init__(self) -> None:
        self.count, self.missing = 0, 0
        self.minimum, self.maximum, self.mean, self.m2 = inf, -inf, 0.0, 0.0
        self.kll: Any = datasketches.kll_floats_sketch(K)

    @property
    def present(self) -> int:
        return self.count - self.missing

    @property
    def sd(self) -> float:
        """The standard deviation of the present values; nan below two."""
        return sqrt(self.m2 / (self.present - 1)) if self.present > 1 else nan

    def update(self, values: Values) -> None:
        """Add values; None, NaN and infinities count as missing. Moments (also as ISO text) are seconds since 1970 UTC."""
        numbers = _numbers(values)
        known = numbers[np.isfinite(numbers)]
        self.missing += len(numbers) - len(known)
        self.count += len(numbers)
        if len(known):
            before, mean = self.present - len(known), float(known.mean())
            self._moments(before, len(known), mean, float(np.square(known - mean).sum()))
            self.minimum, self.maximum = min(self.minimum, float(known.min())), max(self.maximum, float(known.max()))
            self.kll.update(np.clip(known, -_LARGEST, _LARGEST).astype(np.float32))

    def merge(self, other: NumberSketch) -> NumberSketch:
        """A new sketch of both columns together; neither is changed."""
        both = NumberSketch()
        for part in (self, other):
            both._moments(both.present, part.present, part.mean, part.m2)
            both.count, both.missing = both.count + part.count, both.missing + part.missing
            both.minimum, both.maximum = min(both.minimum, part.minimum), max(both.maximum, part.maximum)
            both.kll.merge(part.kll)
        return both

    def quantiles(self, ranks: Sequence[float]) -> np.ndarray:
        """The values at these ranks (0 to 1); empty when nothing is present."""
        return np.array(self.kll.get_quantiles(list(ranks)) if self.present else [], dtype=np.float64)

    def below(self, points: Sequence[float] | np.ndarray, *, inclusive: bool = True) -> np.ndarray:
        """The share of present values <= each point, or < it; zeros when empty. Points are distinct and increasing as 32-bit floats."""
        if not self.present or not len(points):
            return np.zeros(len(points))
        return np.array(self.kll.get_cdf([float(p) for p in points], inclusive)[:-1])

    def to_bytes(self) -> bytes:
        return _HEAD.pack(_NUMBER, self.count, self.missing, self.minimum, self.maximum, self.mean, self.m2) + bytes(self.kll.serialize())

    def _moments(self, before: int, added: int, mean: float, m2: float) -> None:
        if added:
            total, apart = before + added, mean - self.mean
            self.mean += apart * added / total
            self.m2 += m2 + apart * apart * before * added / total


class CategorySketch:
    """Count, missing and how often each value came, for a column of categories, texts or truth values.

    Exact up to CAP different values. Above, the most frequent CAP are kept and the rows of all others are added to `other`; a value that
    comes back after it was dropped is counted from there on.
    """

    __slots__ = ("count", "counts", "missing", "other")

    def __init__(self) -> None:
        self.count, self.missing, self.other = 0, 0, 0
        self.counts: Counter[str] = Counter()

    @property
    def present(self) -> int:
        return self.count - self.missing

    def update(self, values: Values) -> None:
        """Add values; None and NaN count as missing, everything else by its text."""
        items = values.tolist() if isinstance(values, np.ndarray) else values
        self.count += len(items)
        for value, times in _tally(items):
            if value is None or value != value:
                self.missing += times
            else:
                self.counts[_text(value)] += times
        self._trim(2 * CAP)

    def merge(self, other: CategorySketch) -> CategorySketch:
        """A new sketch of both columns together; neither is changed."""
        both = CategorySketch()
        both.count, both.missing, both.other = self.count + other.count, self.missing + other.missing, self.other + other.other
        both.counts = self.counts + other.counts
        both._trim(CAP)
        return both

    def to_bytes(self) -> bytes:
        short = self.merge(CategorySketch())
        return _CATEGORY + json.dumps([short.count, short.missing, short.other, short.counts], ensure_ascii=False).encode("utf-8", "surrogatepass")

    def _trim(self, limit: int) -> None:
        if len(self.counts) <= limit:
            return
        kept = Counter(dict(sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:CAP]))
        self.other += self.counts.total() - kept.total()
        self.counts = kept


Sketch = NumberSketch | CategorySketch


def empty_sketch(kind: Kind) -> Sketch:
    """A sketch of no rows, fit for a column of this kind."""
    return NumberSketch() if kind in ("number", "integer", "timestamp") else CategorySketch()


def sketch_column(values: Values, kind: Kind) -> Sketch:
    """The sketch of a whole column."""
    sketch = empty_sketch(kind)
    sketch.update(values)
    return sketch


def merged(sketches: Iterable[Sketch]) -> Sketch:
    """One sketch of all of them (at least one, all of one kind)."""
    first, *rest = sketches
    for sketch in rest:
        first = first.merge(sketch)  # type: ignore[arg-type]
    return first


def rolling(blocks: Sequence[Mapping[str, Sketch]], longest: int = 7) -> dict[str, Sketch]:
    """The last `longest` blocks together, by name. `blocks` run from old to new."""
    window = blocks[-longest:]
    names = dict.fromkeys(name for block in window for name in block)
    return {name: merged(block[name] for block in window if name in block) for name in names}


def from_bytes(data: bytes) -> Sketch:
    """The sketch whose `to_bytes` this is. Raises Corrupt."""
    try:
        if data[:3] == _NUMBER:
            number = NumberSketch()
            _, number.count, number.missing, number.minimum, number.maximum, number.mean, number.m2 = _HEAD.unpack_from(data)
            number.kll = datasketches.kll_floats_sketch.deserialize(data[_HEAD.size :])
            return number
        if data[:3] == _CATEGORY:
            category = CategorySketch()
            category.count, category.missing, category.other, counts = json.loads(data[3:].decode("utf-8", "surrogatepass"))
            category.counts = Counter(counts)
            return category
    except (struct.error, ValueError, TypeError, IndexError, RuntimeError) as error:
        raise Corrupt(f"A sketch of {len(data)} bytes cannot be read: {error}.") from error
    raise Corrupt(f"A sketch begins with an unknown format, {data[:3]!r}.", hint="It may have been written by a newer Treadle.")


Reference = dict[str, Sketch]
"""Feature name to the sketch of its training rows, and '@prediction...' to those of the model's own predictions."""


def dump(sketches: Mapping[str, Sketch]) -> dict[str, str]:
    """Sketches as one JSON-able object: name to base64."""
    return {name: base64.b64encode(sketch.to_bytes()).decode("ascii") for name, sketch in sketches.items()}


def load(stored: Mapping[str, str]) -> Reference:
    """The sketches whose `dump` this is. Raises Corrupt."""
    try:
        return {name: from_bytes(base64.b64decode(text, validate=True)) for name, text in stored.items()}
    except ValueError as error:
        raise Corrupt(f"Stored sketches are not base64: {error}.") from error


def _numbers(values: Values) -> np.ndarray:
    if isinstance(values, np.ndarray) and values.dtype.kind == "M":
        return np.array([_seconds(v) for v in values])
    try:
        return np.atleast_1d(np.asarray(values, dtype=np.float64))  # None becomes NaN
    except (TypeError, ValueError):
        return np.array([_seconds(v) for v in values])


def _seconds(value: Any) -> float:
    if value is None or value != value:
        return nan
    if isinstance(value, np.datetime64):
        return float((value - np.datetime64(0, "s")) / np.timedelta64(1, "s"))
    if isinstance(value, str):
        value = parse_time(value)
    return value.timestamp() if isinstance(value, datetime) else float(value)


def _tally(items: Sequence[Any]) -> Iterable[tuple[Any, int]]:
    try:
        return Counter(items).items()
    except TypeError:  # an unhashable value, such as a list
        return Counter(v if v is None else _text(v) for v in items).items()


def _text(value: Any) -> str:
    """One spelling for equal values: True is 'true', 3.0 is '3'. It follows JSON, so that a value reads the same from a request and from a table."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and isfinite(value) and value.is_integer():
        value = int(value)
    return str(value)[:LONGEST]
