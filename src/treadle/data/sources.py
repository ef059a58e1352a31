"""Reading the rows of a declared source into a typed frame: all of them, or those since the last version.

    >>> first = extract(orders, folder)                             # doctest: +SKIP
    >>> more = extract(orders, folder, since=first.position)        # doctest: +SKIP
    >>> more.full                                                   # doctest: +SKIP
    False

Then `more.frame` holds the rows to put onto the first ones by their key. `reach` opens what lies outside this machine's files (databases, brokers,
object stores); the workspace hands it in.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import polars as pl

from treadle.core.canonical import digest, plain
from treadle.core.declare.data import Dataset
from treadle.core.declare.source import FILES, Source
from treadle.core.errors import DataError, TreadleError, UsageError
from treadle.core.schema import Column
from treadle.data import messages
from treadle.data.parsing import MOMENT, Unparsed, parse_columns
from treadle.data.source_files import FileConnector, LocalFiles
from treadle.ports.files import Files
from treadle.ports.source import Connector, Reach, Rows

ROW_NUMBER = "row_number"
_EMPTY: dict[str, Any] = {"number": pl.Float64, "integer": pl.Int64, "boolean": pl.Boolean, "timestamp": MOMENT}


@dataclass(frozen=True)
class Extract:
    """Rows of a source.

    Args:
        frame: typed as the contract says.
        unparsed: cells that do not read as declared, null in the frame; column 'message' is a whole message of a stream.
        position: where the source was read to, as JSON; handed back as `since` it gives what came after.
        full: these are all rows; else they are rows to put onto the ones before, by key, and there may be none.
        more: a limit of the source was reached, and more waits.
    """

    frame: pl.DataFrame
    unparsed: list[Unparsed]
    position: dict[str, Any] = field(default_factory=dict)
    full: bool = True
    more: bool = False


def extract(dataset: Dataset, folder: Path, since: Mapping[str, Any] | None = None, reach: Reach | None = None) -> Extract:
    """The rows of a data set, with the columns of its contract in their declared types: all, or those since a position.

    A position of a data set that was declared otherwise is not gone on from: all rows are read again, and checked again. (Of a stream all that
    the broker still has, put onto what is kept.)
    Raises: DataError when the source is missing, empty, or lacks a declared column; Unavailable when it does not answer now.
    """
    source, where = dataset.source, f"data set {dataset.name!r}"
    if source.kind == "rows":
        read = Rows(_from_function(source, where), {}, full=True)
    else:
        connector = _connector(dataset, folder, reach)
        asked, checked = digest([source.kind, source.path, plain(dict(source.options))]), _rules(dataset)
        known = since if since and since.get("source") == asked and since.get("at") and ROW_NUMBER not in dataset.key else None
        again = known is not None and known.get("checked") != checked
        with _Placed(dataset):
            read = connector.read(None if known is None or again else known["at"])
        full = read.full and not (again and connector.forgets)
        read = replace(read, position={"source": asked, "checked": checked, "at": read.position}, full=full)
    return _typed(read, dataset, _origin(source, where))


def read(dataset: Dataset, folder: Path, reach: Reach | None = None) -> tuple[pl.DataFrame, list[Unparsed]]:
    """All rows of a data set, as `extract` gives them, and the cells that could not be read."""
    found = extract(dataset, folder, None, reach)
    return found.frame, found.unparsed


def fingerprint(dataset: Dataset, folder: Path, reach: Reach | None = None, since: Mapping[str, Any] | None = None) -> str | None:
    """A digest that changes whenever the source's rows may have changed; None when only reading it tells.

    Files of a folder count by content, objects by the tag of their store, tables by what their database says without reading them, streams by their
    end. A function counts by its code (the pipeline adds that) and the version of the package it names.

    Args:
        since: the position of the newest version, if there is one: None is also the answer when it did not take in everything yet.
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
    connector = _connector(dataset, folder, reach)
    with _Placed(dataset):
        return connector.fingerprint(since.get("at") if since else None)


def is_local(source: Source) -> bool:
    """Whether its rows lie in files of this machine."""
    return source.kind in FILES and "://" not in source.path


def files(source: Source, folder: Path) -> list[Path]:
    """The files of a source of local files. Raises DataError when there is none."""
    found = LocalFiles(folder).paths(source.path)
    if not found:
        raise DataError(f"There is no file {source.path!r}.", where=str(folder), hint="The path is relative to the project folder.")
    if found[0].is_dir():
        raise DataError(f"{source.path!r} is a folder.", where=str(folder), hint="Name a file, or a pattern like 'data/*.parquet'.")
    return found


class _Placed:
    """An error within names the data set, if it names no place of its own."""

    def __init__(self, dataset: Dataset) -> None:
        self._where = f"data set {dataset.name!r}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TreadleError):
            error.where = f"{self._where} ({error.where})" if error.where else self._where


def _connector(dataset: Dataset, folder: Path, reach: Reach | None) -> Connector:
    source = dataset.source
    if is_local(source):
        return FileConnector(source, LocalFiles(folder), str(folder))
    if reach is None:
        raise UsageError(f"Data set {dataset.name!r} lies in a {source.kind} source, which was not opened.", hint="Hand in a workspace's reach.")
    with _Placed(dataset):
        opened = reach(source)
    return FileConnector(source, cast(Files, opened), source.path) if source.kind in FILES else cast(Connector, opened)


def _rules(dataset: Dataset) -> str:
    """What decides which rows are good."""
    contract = dataset.contract
    parts = {name: getattr(contract, name) for name in contract.__dataclass_fields__} if contract else {}
    return digest([dataset.key, dataset.event_time, dataset.known_time, _said(dict(dataset.exclude)), _said(parts)])


def _said(value: Any) -> Any:
    """A declared value as JSON; expressions as they serialise."""
    if isinstance(value, pl.Expr):
        return hashlib.sha256(value.meta.serialize()).hexdigest()
    if isinstance(value, Mapping):
        return {str(name): _said(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_said(one) for one in value]
    try:
        return plain(value)
    except TypeError:
        return repr(value)


def _typed(read: Rows, dataset: Dataset, where: str) -> Extract:
    source, frame, unparsed = dataset.source, read.frame, list(read.unparsed)
    columns = dataset.contract.columns if dataset.contract else {}
    times = {t: Column("timestamp", nullable=True) for t in (dataset.event_time, dataset.known_time) if t}
    declared = {**times, **columns}
    if read.messages:
        frame, broken = messages.decoded(frame, declared)
        unparsed += broken
        if not read.full or broken:  # none of a few messages may have a column that others have
            frame = _completed(frame, [*declared, *dataset.key], declared)
    if read.messages or source.kind == "jsonl":  # what no JSON object names is null, if it may be
        frame = _completed(frame, [name for name, column in declared.items() if column.nullable and name not in times], declared)
    if ROW_NUMBER in dataset.key and ROW_NUMBER not in frame.columns:
        frame = frame.with_row_index(ROW_NUMBER).with_columns(pl.col(ROW_NUMBER).cast(pl.Int64))
    if frame.height == 0 and read.full:
        raise DataError("There are no rows.", where=where, hint="Check that the source is the one you mean and has been filled.")
    missing = [c for c in columns if c not in frame.columns]
    if missing:
        raise DataError(
            f"Column {missing[0]!r} is missing" + (f" (and {len(missing) - 1} more: {', '.join(missing[1:6])})." if len(missing) > 1 else "."),
            where=where,
            hint=f"It has: {', '.join(frame.columns[:30])}.",
        )
    for name in (*dataset.key, *times):
        if name not in frame.columns:
            raise DataError(f"Column {name!r} is missing.", where=where, hint=f"It has: {', '.join(frame.columns[:30])}.")
    # Exact decimals stay text where they name rows; where nobody says what they are they become numbers.
    numbers = [c for c in frame.columns if c in read.decimals and c not in declared and c not in dataset.key]
    frame = frame.with_columns(pl.col(numbers).cast(pl.Float64, strict=False))
    comma, tz = bool(source.options.get("decimal_comma", False)), str(source.options.get("tz", "UTC"))
    frame, misread = parse_columns(frame, declared, decimal_comma=comma, tz=tz)
    unparsed += misread
    if read.messages:
        frame, unparsed = _last_of_each(frame, dataset.key, unparsed)
    return Extract(frame, unparsed, read.position, read.full, read.more)


def _last_of_each(frame: pl.DataFrame, key: Sequence[str], unparsed: list[Unparsed]) -> tuple[pl.DataFrame, list[Unparsed]]:
    """Of messages about the same row the last: as if they had come one by one. Those that do not read are kept, to be set aside."""
    bad = pl.Series("bad", sorted({cell.row for cell in unparsed}), dtype=pl.UInt32)
    numbered = frame.with_row_index("__row__").with_columns(__bad__=pl.col("__row__").is_in(bad.implode()))
    last = numbered.filter(~pl.col("__bad__")).unique(list(key), keep="last", maintain_order=True)["__row__"]
    nameless = pl.any_horizontal(pl.col(key).is_null())
    kept = numbered.filter(pl.col("__bad__") | nameless | pl.col("__row__").is_in(last.implode()))
    if kept.height == frame.height:
        return frame, unparsed
    place = {row: i for i, row in enumerate(kept["__row__"].to_list())}
    return kept.drop("__row__", "__bad__"), [replace(cell, row=place[cell.row]) for cell in unparsed]


def _completed(frame: pl.DataFrame, names: list[str], declared: Mapping[str, Column]) -> pl.DataFrame:
    """The frame with these columns, null where it had none."""
    lacking = [name for name in dict.fromkeys(names) if name not in frame.columns]
    types = {name: _EMPTY.get(declared[name].kind, pl.String) if name in declared else pl.String for name in lacking}
    return frame.with_columns(pl.lit(None, dtype=dtype).alias(name) for name, dtype in types.items())


def _origin(source: Source, where: str) -> str:
    shown = source.path or str(source.options.get("table") or source.options.get("topic") or "")
    return f"{where} ({shown})" if shown else where


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
