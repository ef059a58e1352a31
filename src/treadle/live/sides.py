"""Where the two sides of a drift report come from: files, versions and windows of a project's data sets, and what a model was trained on or asked.

    flights.parquet                  a file (Parquet, CSV, JSON lines) or a folder of Parquet files
    flights                          the newest version of a data set; flights@3 its version number 3
    flights@2013-01-01..2013-02-01   rows of that window (by event time; of a file: by the column named as time); either end may be left out
    late-arrival                     as the older side: what the champion was trained on; as the newer side: all it was asked
    late-arrival@2013-06-01..        what a model was asked in that window
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from treadle.core.clock import parse_time
from treadle.core.errors import DataError, NotFound, UsageError
from treadle.monitoring.columns import Table, open_file, sketch_table
from treadle.monitoring.compared import Side

if TYPE_CHECKING:  # a comparison of two files needs no project
    from treadle.assemble import Workspace

_WINDOW = re.compile(r"(?P<name>.*)@(?P<start>[^@]*)\.\.(?P<end>[^@]*)")


@dataclass(frozen=True)
class Found:
    """One side: its sketches, and its rows where there are rows to be read again."""

    side: Side
    table: Table | None
    time: str = ""


def find(
    text: str, workspace: Callable[[], Workspace], *, time: str = "", columns: Sequence[str] | None = None, older: bool = False
) -> Found:
    """The side that a text names: see the module.

    Args:
        workspace: opens the project; only called for what is no file.
        time: the column of moments, of a file.
        columns: only these are sketched.
        older: whether it is the older side.
    Raises: DataError, NotFound, UsageError.
    """
    name, start, end, number = _parts(text)
    path = Path(name)
    if path.exists() or path.suffix or "/" in name:
        if number is not None:
            raise UsageError(f"{text!r}: a file has no versions.", hint="Leave out what stands behind '@', or write a window: FILE@FROM..TO")
        table = open_file(path)
        return _of_table(table, time, start, end, columns)
    ws = workspace()
    if name in ws.project.datasets:
        table, column = _dataset(ws, name, number)
        return _of_table(table, time or column, start, end, columns)
    if name in ws.project.models:
        return Found(_asked(ws, name, start, end, number, columns, older), None)
    known = ", ".join([*ws.project.datasets, *ws.project.models])
    raise NotFound(f"There is no file, data set or model {name!r}.", hint=f"The project declares: {known or 'nothing'}.")


def _parts(text: str) -> tuple[str, datetime | None, datetime | None, int | None]:
    if Path(text).exists():
        return text, None, None, None
    window = _WINDOW.fullmatch(text)
    if window:
        start, end = (parse_time(part) if part else None for part in (window["start"], window["end"]))
        if start is not None and end is not None and start >= end:
            raise UsageError(f"The window {window['start']}..{window['end']} is empty.", hint="Write the earlier moment first.")
        return window["name"], start, end, None
    name, at, number = text.rpartition("@")
    if at and number.lstrip("v").isdecimal():
        return name, None, None, int(number.lstrip("v"))
    return text, None, None, None


def _of_table(table: Table, time: str, start: datetime | None, end: datetime | None, columns: Sequence[str] | None) -> Found:
    if start is not None or end is not None:
        if not time:
            raise UsageError(f"{table.name}: a window needs a column of moments.", hint="Name it: --time COLUMN")
        cut = table.between(time, start, end)
        table = replace(cut, name=f"{table.name} from {_said(start, 'the start')} to {_said(end, 'the end')}")
    return Found(Side(table.name, sketch_table(table, columns)), table, time)


def _dataset(ws: Workspace, name: str, number: int | None) -> tuple[Table, str]:
    from treadle.data import versions

    newest = versions.newest(name, ws.ledger)
    if newest is None:
        raise NotFound(f"Data set {name!r} has no version yet.", hint="Take one: treadle run")
    address, shown = newest.address, newest.number
    if number is not None:
        found = next((c for c in ws.tables.commits(name) if c.number == number), None)
        if found is None:
            numbers = ", ".join(str(c.number) for c in ws.tables.commits(name)) or "none"
            raise NotFound(f"Data set {name!r} has no version {number}.", hint=f"There are: {numbers}.")
        address, shown = found.address, number
    files = ws.tables.files(address)
    if not files:
        raise DataError(f"Version {shown} of data set {name!r} has no rows.", hint="Name another version: treadle data list")
    rows = pl.scan_parquet(files)
    event = ws.project.datasets[name].event_time or ""
    return Table(f"{name}, version {shown}", rows, dict(rows.collect_schema()), True), event


def _asked(
    ws: Workspace, name: str, start: datetime | None, end: datetime | None, number: int | None, columns: Sequence[str] | None, older: bool
) -> Side:
    """What a model was trained on, or asked in a window."""
    from treadle.monitoring.reference import read_reference
    from treadle.monitoring.watch import Watched, summarise
    from treadle.registry import packages, promote, versions
    from treadle.serving.requests import fields_of, micros

    if number is None:
        deployed = promote.deployment(name, ws.ledger)
        if deployed is None:
            raise NotFound(f"Model {name!r} answers nothing yet.", hint=f"Deploy it, or name a version: {name}@1")
        number = int(deployed["champion"])
    version = versions.get(name, number, ws.ledger)
    folder, manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)
    normal = read_reference(folder)
    if normal is None:
        raise DataError(
            f"Version {number} of {name!r} carries no sketches: it was made without a watch.", hint="Add project.watch(model), and train."
        )
    if older and start is None and end is None:
        sketches, said = normal.sketches, f"what version {number} of {name} was trained on"
    else:
        watched = Watched(name, number, version["task"], version["labels"], fields_of(manifest["signature"])[1], normal)
        first, last = (micros(start) if start is not None else 0), (micros(end) if end is not None else 2**62)
        _, found = summarise(watched, ws.predictions, first, last)
        sketches, said = found, f"what version {number} of {name} was asked from {_said(start, 'the start')} to {_said(end, 'now')}"
    return Side(said, {k: s for k, s in sketches.items() if columns is None or k in columns})


def _said(moment: datetime | None, otherwise: str) -> str:
    return otherwise if moment is None else f"{moment:%Y-%m-%d %H:%M}".removesuffix(" 00:00")
