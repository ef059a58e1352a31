"""What differs between two versions of a data set: rows by key, columns and types, how each column is distributed.

Files that both versions have are not read to find rows: their rows are the same. Of the others keys and hashes are compared, a part of the keys at a
time; distributions are measured a column at a time. So memory is bounded by a part and by a column, not by the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from treadle.core.masking import masked_row
from treadle.data.distances import distances
from treadle.ports.tables import Tables

PART = 1 << 22  # rows compared at once, about
_TOP = 5
_HASH = "__hash__"
_NEW = ":new"


@dataclass(frozen=True)
class Rows:
    """Rows of two versions by key. None where the key does not tell them apart; `note` says why, or what else there is to know.

    Args:
        columns: column to number of rows in which it changed, of those that are in both.
        samples: 'added' and 'removed' rows; 'changed' rows as key and {column: [old, new]}.
    """

    added: int | None
    removed: int | None
    changed: int | None
    note: str = ""
    columns: Mapping[str, int] = field(default_factory=dict)
    samples: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True)
class Shape:
    """Columns: new ones, those that are gone, those of another type as [old, new]."""

    added: Sequence[str]
    removed: Sequence[str]
    retyped: Mapping[str, Sequence[str]]


def shape(tables: Tables, old: str, new: str) -> Shape:
    """How the columns of two tables differ."""
    a, b = tables.scan(old).collect_schema(), tables.scan(new).collect_schema()
    retyped = {c: [str(a[c]), str(b[c])] for c in a if c in b and a[c] != b[c]}
    return Shape([c for c in b if c not in a], [c for c in a if c not in b], retyped)


def rows(tables: Tables, old: str, new: str, key: Sequence[str], *, samples: int = 0, personal: Mapping[str, str] | None = None) -> Rows:
    """Compare the rows of two tables.

    Args:
        samples: how many rows of each sort to show; values of `personal` columns (name to sort) are masked in them.
    """
    if old == new:
        return Rows(0, 0, 0)
    if not tables.exists(old) or not tables.exists(new):
        return Rows(None, None, None, "the rows of one of the two are gone")
    key = list(key)
    known = [tables.scan(address).collect_schema() for address in (old, new)]
    if not key or any(k not in schema for schema in known for k in key):
        return Rows(None, None, None, f"one of the two has no key {', '.join(key)}")
    found = shape(tables, old, new)
    a, b = _apart(tables, old, new, found)
    a, b = (frame.with_columns(pl.col(list(found.retyped)).cast(pl.String, strict=False)) if found.retyped else frame for frame in (a, b))
    shared = [c for c in known[0] if c in known[1] and c not in key]
    parts = 1 + sum(int(frame.select(pl.len()).collect().item()) for frame in (a, b)) // PART
    counts = [0, 0, 0]
    columns: dict[str, int] = dict.fromkeys(shared, 0)
    shown: dict[str, list[Mapping[str, Any]]] = {"added": [], "removed": [], "changed": []}
    for part in range(parts):
        mine = pl.struct(key).hash(seed=2) % parts == part
        x, y = (frame.filter(mine).collect() if parts > 1 else frame.collect() for frame in (a, b))
        if any(frame.select(pl.struct(key).is_duplicated().any()).item() for frame in (x, y) if frame.height):
            return Rows(None, None, None, f"{', '.join(key)} is not unique in one of the two")
        came = y.join(x.select(key), on=key, how="anti", nulls_equal=True, maintain_order="left")
        went = x.join(y.select(key), on=key, how="anti", nulls_equal=True, maintain_order="left")
        both = x.select(*key, *shared).join(y.select(*key, *shared), on=key, how="inner", nulls_equal=True, suffix=_NEW, maintain_order="left")
        counts[0] += came.height
        counts[1] += went.height
        if shared and both.height:
            marks = both.select(_differs(c, both.schema[c]).alias(c) for c in shared)
            differ = marks.select(pl.any_horizontal(shared)).to_series()
            counts[2] += int(differ.sum())
            for column, number in zip(shared, marks.sum().row(0)):
                columns[column] += int(number)
            changed = both.filter(differ).head(max(0, samples - len(shown["changed"])))
            where = marks.filter(differ).head(changed.height)
            for row, which in zip(changed.iter_rows(named=True), where.iter_rows(named=True)):
                now = masked_row({c: row[f"{c}{_NEW}"] for c in shared}, personal or {})
                was = masked_row({c: row[c] for c in [*key, *shared]}, personal or {})
                shown["changed"].append({**{k: was[k] for k in key}, "changed": {c: [was[c], now[c]] for c in shared if which[c]}})
        for sort, frame in (("added", came), ("removed", went)):
            left = max(0, samples - len(shown[sort]))
            shown[sort] += [masked_row(row, personal or {}) for row in frame.head(left).iter_rows(named=True)]
    notes = _words(found)
    return Rows(counts[0], counts[1], counts[2], notes, {c: n for c, n in columns.items() if n}, shown if samples else {})


def distributions(tables: Tables, old: str, new: str, *, skip: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """How each column that both have is distributed, as old and new.

    Returns: column to the share of missing values, mean and quantiles or range or the most frequent values, and the effect sizes of
        `data/distances.py` (PSI, Kolmogorov-Smirnov). Of the columns in `skip` no values are told.
    """
    a, b = tables.scan(old), tables.scan(new)
    first, second = a.collect_schema(), b.collect_schema()
    said: dict[str, dict[str, Any]] = {}
    for name in (c for c in first if c in second):
        if any(s[name].is_nested() or s[name] in (pl.Binary, pl.Null) for s in (first, second)):
            continue
        x, y = (frame.select(name).collect()[name] for frame in (a, b))
        measured = distances(x, y)
        effect = {k: round(v, 4) for k, v in measured.sizes.items() if k != "missing"}
        told: dict[str, Any] = {"missing": [_missing(x), _missing(y)], "effect": effect}
        if name not in skip:
            told["moved"] = measured.moved
            if all(t.is_numeric() for t in (first[name], second[name])):
                told |= {"mean": [_mean(x), _mean(y)], "quantiles": [_quantiles(x), _quantiles(y)]}
            elif all(t.is_temporal() for t in (first[name], second[name])):
                told["range"] = [[s.min(), s.max()] for s in (x, y)]
            else:
                told["top"] = [_most(x), _most(y)]
        said[name] = told
    return said


def _apart(tables: Tables, old: str, new: str, found: Shape) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The rows of both that can differ."""
    a, b = tables.scan(old), tables.scan(new)
    if found.added or found.removed or found.retyped:
        return a, b
    files = [{p.name: p for p in tables.files(address)} for address in (old, new)]
    shared = files[0].keys() & files[1].keys()
    if not shared:
        return a, b
    # Rows as they are stored: both sides alike, which is all that comparing needs.
    mine, theirs = ([p for name, p in side.items() if name not in shared] for side in files)
    some = pl.scan_parquet(files[0][next(iter(shared))], glob=False, hive_partitioning=False)
    return (
        pl.scan_parquet(mine, glob=False, hive_partitioning=False) if mine else some.head(0),
        pl.scan_parquet(theirs, glob=False, hive_partitioning=False) if theirs else some.head(0),
    )


def _differs(column: str, dtype: pl.DataType) -> pl.Expr:
    return pl.col(column).ne_missing(pl.col(f"{column}{_NEW}"))


def _words(found: Shape) -> str:
    parts = [("without", found.removed), ("with", found.added)]
    text = ", ".join(f"{word} column{'s' if len(names) > 1 else ''} {', '.join(names[:5])}" for word, names in parts if names)
    return "; ".join(filter(None, [text, f"other type: {', '.join(list(found.retyped)[:5])}" if found.retyped else ""]))


def _missing(values: pl.Series) -> float:
    gaps = values.null_count() + (int(values.is_nan().sum()) if values.dtype.is_float() else 0)
    return round(gaps / len(values), 6) if len(values) else 0.0


def _numbers(values: pl.Series) -> pl.Series:
    plain = values.drop_nulls().cast(pl.Float64)
    return plain.filter(plain.is_finite())


def _mean(values: pl.Series) -> float | None:
    mean = _numbers(values).mean()
    return float(mean) if isinstance(mean, int | float) else None


def _quantiles(values: pl.Series) -> list[float | None]:
    """Smallest, 5 %, median, 95 %, largest."""
    numbers = _numbers(values)
    return [None if (q := numbers.quantile(p, "nearest")) is None else float(q) for p in (0.0, 0.05, 0.5, 0.95, 1.0)]


def _most(values: pl.Series) -> list[list[Any]]:
    counted = values.drop_nulls().cast(pl.String, strict=False).alias("v").value_counts(sort=True).head(_TOP)
    return [[value, int(count)] for value, count in counted.iter_rows()]
