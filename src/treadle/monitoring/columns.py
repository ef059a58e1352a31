"""Sketches of the columns of a table of any size: read column by column and part by part, so that memory does not grow with the rows.

A column is read in slices of `SLICE` rows and sketched in parts of `PART`. What is in memory is one slice of one column; a Parquet file whose row
groups hold more than a slice needs one column of one row group. Text files are read once, all columns of a part together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.declare.source import csv as as_csv
from treadle.core.errors import DataError
from treadle.core.schema import Kind
from treadle.data.columns import sniff
from treadle.monitoring.sketches import CAP, CategorySketch, NumberSketch, Sketch, empty_sketch

PART = 1 << 17
SLICE = 1 << 20
_FIRST = 1 << 16  # bytes of a text file that tell its separator
_JSON = (".jsonl", ".ndjson", ".json")


@dataclass(frozen=True)
class Table:
    """Rows somewhere. `sliced` says that rows can be read from the middle at little cost, as those of Parquet can."""

    name: str
    rows: pl.LazyFrame
    schema: Mapping[str, pl.DataType]
    sliced: bool

    def between(self, column: str, start: datetime | None, end: datetime | None) -> Table:
        """The rows with start <= column < end. Raises DataError."""
        if column not in self.schema:
            raise DataError(f"{self.name} has no column {column!r}.", hint=f"It has {_some(self.schema)}.")
        kind = self.schema[column]
        moment = pl.col(column).str.to_datetime(time_unit="us", time_zone="UTC", strict=False) if kind == pl.String else pl.col(column)
        if not (kind.is_temporal() or kind == pl.String):
            raise DataError(f"Column {column!r} of {self.name} holds no moments but {kind}.", hint="Name a column of dates or times.")
        if kind.is_temporal() and getattr(kind, "time_zone", None) != "UTC":
            moment = moment.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
        rows = self.rows
        rows = rows if start is None else rows.filter(moment >= start)
        rows = rows if end is None else rows.filter(moment < end)
        return Table(self.name, rows, self.schema, False)


def open_file(path: Path) -> Table:
    """The rows of a Parquet file, a folder of them, a CSV file or JSON lines, not yet read. Raises DataError."""
    name = str(path)
    if not path.exists():
        raise DataError(f"There is no file {name!r}.", hint="Check the name and the folder you are in.")
    try:
        if path.is_dir():
            if not any(path.glob("*.parquet")):
                raise DataError(f"The folder {name!r} holds no Parquet files.", hint="Name a file, or a folder of Parquet files.")
            rows, sliced = pl.scan_parquet(path / "*.parquet"), True
        else:
            with path.open("rb") as file:
                first = file.read(_FIRST)
            if not first.strip():
                raise DataError(f"{name!r} is empty.", hint="Name a file with rows.")
            sliced = first.startswith(b"PAR1")
            rows = pl.scan_parquet(path) if sliced else _text(path, first)
        schema = rows.collect_schema()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{name!r} does not read: {str(error).splitlines()[0]}", hint="Name a Parquet, CSV or JSON lines file.") from None
    return Table(name, rows, dict(schema), sliced)


def _text(path: Path, first: bytes) -> pl.LazyFrame:
    if path.suffix.lower() in _JSON:
        return pl.scan_ndjson(path, infer_schema_length=10_000)
    nulls = list(as_csv("").options["null_values"])
    return pl.scan_csv(path, separator=sniff(first.decode("utf-8", "replace")), null_values=nulls, infer_schema_length=10_000)


def kind_of(dtype: pl.DataType) -> Kind | None:
    """As what a column of this type is sketched; None for lists and the like, which are not."""
    if dtype.is_numeric():
        return "number"
    if dtype.is_temporal():
        return "timestamp"
    return "category" if dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Null) or isinstance(dtype, pl.Categorical | pl.Enum) else None


def sketch_table(table: Table, columns: Sequence[str] | None = None) -> dict[str, Sketch]:
    """The sketch of each column that can be sketched, in the table's order.

    Args:
        columns: only these; all where None. Raises DataError for one that is not there, and for rows that do not read.
    """
    unknown = [c for c in columns or () if c not in table.schema]
    if unknown:
        raise DataError(f"{table.name} has no column {unknown[0]!r}.", hint=f"It has {_some(table.schema)}.")
    kinds = {c: k for c, t in table.schema.items() if (columns is None or c in columns) and (k := kind_of(t)) is not None}
    sketches = {c: empty_sketch(k) for c, k in kinds.items()}
    try:
        if table.sliced:
            rows = table.rows.select(pl.len()).collect().item()
            for name, sketch in sketches.items():
                for start in range(0, rows, SLICE):
                    add_column(sketch, table.rows.select(name).slice(start, SLICE).collect()[name])
        elif sketches:
            for part in table.rows.select(*sketches).collect_batches(chunk_size=PART, maintain_order=True, lazy=True):
                for name, sketch in sketches.items():
                    add_column(sketch, part[name])
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The rows of {table.name} do not read: {str(error).splitlines()[0]}", hint="Repair or leave out the file.") from None
    return sketches


def add_column(sketch: Sketch, values: pl.Series) -> None:
    """Add the values of a column to its sketch."""
    for start in range(0, len(values), PART):
        part = values.slice(start, PART)
        if isinstance(sketch, NumberSketch):
            sketch.update(_numbers(part))
        else:
            sketch.add(_counted(sketch, part))


def _numbers(values: pl.Series) -> Any:
    if values.dtype == pl.Date:
        values = values.cast(pl.Datetime("us"))
    if values.dtype.is_temporal():
        per_second = {"ms": 1e3, "us": 1e6, "ns": 1e9}[getattr(values.dtype, "time_unit", None) or "ns"]
        return (values.to_physical().cast(pl.Float64) / per_second).to_numpy()
    return values.cast(pl.Float64).to_numpy() if values.null_count() else values.to_numpy()


def _counted(sketch: CategorySketch, values: pl.Series) -> Iterable[tuple[Any, int]]:
    """How often each value came; of a part with very many values, the most frequent ones, the others counted together."""
    values = values.alias("v") if values.dtype == pl.Boolean else values.cast(pl.String).alias("v")
    counted = values.value_counts(name="n")
    if counted.height > 2 * CAP:
        counted = counted.sort("n", "v", descending=[True, False], nulls_last=False)
        rest = int(counted.slice(2 * CAP).filter(pl.col("v").is_not_null())["n"].sum())
        sketch.count += rest
        sketch.other += rest
        missing = counted.slice(2 * CAP).filter(pl.col("v").is_null())
        counted = pl.concat([counted.head(2 * CAP), missing])
    return counted.iter_rows()


def _some(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8} more" if len(shown) > 8 else "")


def batches(table: Table, columns: Sequence[str], size: int = PART) -> Iterator[pl.DataFrame]:
    """The rows of some columns, part by part, in their order."""
    yield from table.rows.select(columns).collect_batches(chunk_size=size, maintain_order=True, lazy=True)
