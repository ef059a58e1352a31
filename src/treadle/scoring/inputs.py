"""Where the rows to be scored come from: a version of a data set, files of this machine, or objects of a store; as Parquet files read in parts.

What is not Parquet, or not here, is put into the working folder first, streamed; a killed scoring finds it there again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl

from treadle.assemble import Workspace
from treadle.core.declare.source import OBJECTS, Source
from treadle.core.errors import DataError, NotFound, UsageError
from treadle.data import versions
from treadle.data.source_files import LocalFiles
from treadle.ports.files import Files, Listed

KINDS = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
NULLS = ("", "NA", "N/A", "NULL", "null", "NaN")


@dataclass(frozen=True)
class Input:
    """What is scored.

    Args:
        said: as it was asked for. `dataset`: id of the version of a data set, if it is one.
        tags: name to a tag of the content, of every file; for a data set the address of the version.
        key: columns that name a row.
        text: cells are texts that are read as the model's fields are declared.
        files: opens the Parquet files, given a folder to work in.
    """

    said: str
    tags: dict[str, str]
    files: Callable[[Path], list[Path]] = field(repr=False)
    dataset: str = ""
    key: tuple[str, ...] = ()
    text: bool = False


def find_input(ws: Workspace, said: str, take: Callable[[Any], versions.Version]) -> Input:
    """What `--data` names: a declared data set (`flights`, or `flights@VERSION`), or files ('rows.parquet', 'data/*.csv', 's3://bucket/x.parquet').

    Args:
        take: takes the newest version of a data set.
    Raises: NotFound, DataError, UsageError.
    """
    name, _, version = said.partition("@")
    if name in ws.project.datasets:
        return _dataset(ws, name, version, take)
    remote = said.partition("://")[0] in OBJECTS and "://" in said
    kind = KINDS.get(Path(said.split("?")[0]).suffix.lower())
    if kind is None:
        declared = ", ".join(ws.project.datasets) or "none"
        raise UsageError(
            f"{said!r} is neither a data set nor a file whose kind its name says.",
            hint=f"Declared data sets: {declared}. Files end in {', '.join(KINDS)}.",
        )
    files = cast(Files, ws.reach(Source(kind, path=said))) if remote else LocalFiles(ws.folder)
    listed = list(files.listed(said))
    if not listed:
        raise NotFound(f"There is no file {said!r}.", hint="A path is relative to where the command is typed.")
    tags = {one.name: one.tag for one in listed}

    def opened(folder: Path) -> list[Path]:
        if kind == "parquet" and not remote:
            found = [ws.folder / one.name for one in listed]
        else:
            found = [_staged(files, one, kind, folder / f"input-{i:05}.parquet") for i, one in enumerate(listed)]
        _same_columns(found)
        return found

    return Input(said, tags, opened, text=kind == "csv")


def _dataset(ws: Workspace, name: str, version: str, take: Callable[[Any], versions.Version]) -> Input:
    dataset = ws.project.datasets[name]
    if version:
        known = ws.ledger.find(versions.KIND, {"dataset": name})
        record = next((r for r in known if version in (r.id, r.id.removeprefix(f"{name}-"), str(r.get("number")))), None)
        if record is None:
            raise NotFound(f"Data set {name!r} has no version {version!r}.", hint=f"See: treadle data {name}")
        found = versions.read(record)
    else:
        found = take(dataset)
    if not ws.tables.exists(found.address):
        raise NotFound(f"The rows of {found.id} were dropped.", hint=f"See: treadle data {name}")
    address = found.address
    return Input(f"{name}@{found.id}", {found.id: address}, lambda folder: ws.tables.files(address), dataset=found.id, key=dataset.key)


def _staged(files: Files, one: Listed, kind: str, target: Path) -> Path:
    if target.exists():
        return target
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with files.fetched(one) as path:
            if kind == "parquet":
                pl.scan_parquet(path, glob=False).sink_parquet(unfinished, compression="lz4", row_group_size=100_000)
            elif kind == "csv":
                rows = pl.scan_csv(path, infer_schema=False, null_values=list(NULLS), glob=False)
                rows.sink_parquet(unfinished, compression="lz4", row_group_size=100_000)
            else:
                pl.scan_ndjson(path, infer_schema_length=None).sink_parquet(unfinished, compression="lz4", row_group_size=100_000)
        os.replace(unfinished, target)
    except pl.exceptions.PolarsError as error:
        if "os error" in str(error):  # the disk, not the file
            raise
        hint = "Declare it as a data set, whose reader knows more spellings of files, or save it as Parquet."
        raise DataError(f"The file does not parse: {str(error).splitlines()[0]}", where=one.name, hint=hint) from None
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _same_columns(files: Sequence[Path]) -> None:
    first = _schema(files[0])
    for path in files[1:]:
        other = _schema(path)
        if other != first:
            odd = sorted({str(c) for c in set(first.items()) ^ set(other.items())})[0]
            raise DataError(f"{path.name} has other columns than {files[0].name}: {odd}.", where=str(path), hint="Score them one by one.")


def _schema(path: Path) -> pl.Schema:
    try:
        return pl.read_parquet_schema(path)  # type: ignore[return-value]
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The file does not parse: {str(error).splitlines()[0]}", where=str(path)) from None
