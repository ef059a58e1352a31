"""Predictions as files of columns: Parquet, a row a prediction in the order of (moment, number), small enough in parts that one row is read in
milliseconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from treadle.ports.predictions import Numbered, Prediction

ROWS = 4_096  # of a row group: what is unpacked to get at one row
_BATCH = 16_384
SCHEMA: dict[str, Any] = {
    "seq": pl.Int64, "id": pl.String, "moment": pl.Int64, "answered": pl.Int64, "version": pl.Int64, "variant": pl.String,
    "output": pl.List(pl.Float64), "other_version": pl.Int64, "other_output": pl.List(pl.Float64), "inputs": pl.Binary, "features": pl.Binary,
    "micros": pl.Int64,
}  # fmt: skip


def frame_of(numbered: Sequence[Numbered]) -> pl.DataFrame:
    """Predictions of one model as columns."""
    columns: dict[str, list[object]] = {"seq": [n.seq for n in numbered]}
    for name in list(SCHEMA)[1:]:
        columns[name] = [getattr(n.prediction, name) for n in numbered]
    return pl.DataFrame({name: pl.Series(name, values, dtype=SCHEMA[name]) for name, values in columns.items()})


def write(frame: pl.DataFrame, out: BinaryIO) -> None:
    """Write columns, compressed."""
    frame.write_parquet(out, compression="zstd", row_group_size=ROWS)


def row(path: Path, model: str, number: int) -> Prediction | None:
    """The prediction in one row of a file."""
    found = list(_read(pl.scan_parquet(path, glob=False).slice(number, 1), model))
    return found[0].prediction if found else None


def after(path: Path, model: str, cursor: tuple[int, int], end: int, last: int) -> Iterator[Numbered]:
    """Predictions after (moment, number), before moment `end`, numbered up to `last`; a few thousand of them in memory at a time."""
    scan = pl.scan_parquet(path, glob=False)
    moments = scan.select("moment", "seq").collect()
    passed = (pl.col("moment") > cursor[0]) | ((pl.col("moment") == cursor[0]) & (pl.col("seq") > cursor[1]))
    rows = moments.select((passed & (pl.col("moment") < end)).alias("in"))["in"].arg_true()
    if not len(rows):
        return
    first, past = int(rows[0]), int(rows[-1]) + 1  # in their order, so what is asked for lies together
    for start in range(first, past, _BATCH):
        for numbered in _read(scan.slice(start, min(_BATCH, past - start)), model):
            if numbered.seq <= last:
                yield numbered


def newest(path: Path, model: str, count: int) -> list[Numbered]:
    """The predictions answered last."""
    scan = pl.scan_parquet(path, glob=False)
    order = scan.select("answered", "seq").with_row_index("row").collect().sort("answered", "seq", descending=True).head(count)["row"]
    return list(_read(scan.with_row_index("row").filter(pl.col("row").is_in(order.implode())).drop("row"), model))


def _read(scan: pl.LazyFrame, model: str) -> Iterator[Numbered]:
    rows = scan.select(list(SCHEMA)).collect().iter_rows()
    for seq, id, moment, answered, version, variant, output, other, other_output, inputs, features, micros in rows:
        said = Prediction(id, model, moment, answered, version, variant, tuple(output), other, tuple(other_output), inputs, features, micros)
        yield Numbered(seq, said)
