"""The point-in-time join where it does not fit into memory: on DuckDB, which spills to disk; and cut by entity into tasks for an executor.

Both read Parquet files and write one, and give what `history.join_all` gives of the same rows. What is held in memory is DuckDB's limit and, of each
view, the history of one part of its entities at a time.

    >>> join_files(rows, "asked", [(view, source_files)], out, memory=200_000_000)       # doctest: +SKIP
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.declare.data import View
from treadle.core.errors import DataError, StorageError
from treadle.features.history import AT, UNTIL, fact_of, history, join_all
from treadle.ports.executor import Executor, Task

_ROW = "__join_row__"
_PART_ROWS = 2_000_000  # rows of a source that one part holds, about


@dataclass(frozen=True)
class Limits:
    """What a join may take: bytes of memory, threads; where it spills to (a folder of its own is made there and removed)."""

    memory: int
    threads: int = 1
    spill: Path | None = None


def fits(bytes_of_rows: int, limit: int = 0) -> bool:
    """Whether frames of so many bytes are joined in memory: they, their order and the result take about four times as much.

    Args:
        limit: bytes that may be used; half of what the machine has free if 0.
    """
    return bytes_of_rows * 4 <= (limit or _free() // 2)


def join_files(rows: Sequence[Path], moment: str, views: Sequence[tuple[View, Sequence[Path]]], out: Path, limits: Limits, *, parts: int = 0) -> int:
    """Write `rows` with the features of views, as they were known at column `moment`, to `out` (Parquet): same rows, same order. Returns how many.

    Args:
        rows: Parquet files, in order.
        views: each with the Parquet files of its source, in order.
        parts: into how many parts by entity a view's source is cut while its history is computed; by its size if 0.
    Raises: StorageError when memory and disk together do not suffice.
    """
    _check_names(rows, views)
    with _Folder(limits.spill) as folder:
        histories = []
        for view, files in views:
            histories.append((view, write_history(view, files, folder / f"history-{view.name}", parts or _parts_of(files))))
        return _asof(rows, moment, histories, out, limits, folder)


def write_history(view: View, files: Sequence[Path], folder: Path, parts: int) -> list[Path]:
    """A view's history as Parquet files, one for each part of its entities; no more than a part of the source is held at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for part in range(parts):
        made = _part_history(view, files, part, parts)
        if made.height:
            written.append(folder / f"{part:05}.parquet")
            made.write_parquet(written[-1])
    if not written:
        written = [folder / "00000.parquet"]
        _part_history(view, files[:1], 0, 1).clear().write_parquet(written[0])
    return written


def join_on(
    executor: Executor, rows: Sequence[Path], moment: str, views: Sequence[tuple[View, Sequence[Path]]], out: Path, limits: Limits, *, parts: int = 0
) -> int:
    """As `join_files`, with each part of each view's entities a task of an executor: of other processes, or of a cluster whose nodes see the files.

    A view's function is sent to the workers by pickle; the folder to spill to (`limits.spill`) must be one that all nodes see.
    """
    _check_names(rows, views)
    with _Folder(limits.spill) as folder:
        waiting: list[tuple[View, list[tuple[Future[Any], Path]]]] = []
        for view, files in views:
            pieces = []
            for part in range(count := parts or max(_parts_of(files), executor.slots)):
                target = folder / f"joined-{view.name}-{part:05}.parquet"
                arguments = {
                    "view": _bare(view), "source": [str(f) for f in files], "rows": [str(f) for f in rows], "moment": moment, "part": part,
                    "parts": count, "out": str(target),
                }  # fmt: skip
                pieces.append((executor.submit(Task(join_part, arguments, f"{view.name} {part + 1}/{count}")), target))
            waiting.append((view, pieces))
        try:
            done = [(view, [path for future, path in pieces if future.result()]) for view, pieces in waiting]
        except BaseException:
            for _, pieces in waiting:
                for future, _ in pieces:
                    future.cancel()
            raise
        return _put_together(rows, done, out, limits, folder)


def join_part(view: View, source: list[str], rows: list[str], moment: str, part: int, parts: int, out: str) -> int:
    """One task: the features of one view for the rows of one part of its entities, with the rows' numbers. Returns how many rows."""
    values = _part_history(view, [Path(f) for f in source], part, parts)
    asked = (
        pl.scan_parquet(rows, glob=False)
        .select(moment, *view.entity)
        .with_row_index(_ROW)
        .filter(_in_part(view, part, parts))
        .collect()
    )  # fmt: skip
    if not asked.height:
        return 0
    asked.select(_ROW).hstack(join_all(asked, moment, [(view, values)]).get_columns()).write_parquet(out)
    return asked.height


def _check_names(rows: Sequence[Path], views: Sequence[tuple[View, Sequence[Path]]]) -> None:
    columns = set(pl.scan_parquet([str(f) for f in rows], glob=False).collect_schema().names())
    for view, _ in views:
        twice = next((f for f in view.feature_names() if f in columns), None)
        if twice is not None:
            raise DataError(f"{twice!r} is a feature of view {view.name!r} and a column of the rows.", where=view.place, hint="Rename one of them.")


def _part_history(view: View, files: Sequence[Path], part: int, parts: int) -> pl.DataFrame:
    scan = pl.scan_parquet([str(f) for f in files], glob=False)
    if parts == 1:
        return history(view, scan.collect())
    mine = _in_part(view, part, parts)
    fact = fact_of(view.source)
    if not fact or view.function is not None:
        return history(view, scan.filter(mine).collect())
    # A fact that was corrected may have been of another entity before: all that was told of the facts of this part is looked at.
    facts = scan.filter(mine).select(fact).unique()
    made = history(view, scan.join(facts, on=list(fact), how="semi", maintain_order="left").collect())
    return made.filter(mine)


def _in_part(view: View, part: int, parts: int) -> pl.Expr:
    """Whether a row is of a part of a view's entities: the same for its source and for the rows that ask, on every node with the same Polars."""
    return pl.struct(view.entity).hash(seed=0) % parts == part


def _bare(view: View) -> View:
    """A view as it can be sent to another process: without what only the project knows."""
    source = replace(view.source, source=None, contract=None, exclude={}, datasheet=None)  # type: ignore[arg-type]
    return replace(view, source=source)


def _asof(
    rows: Sequence[Path], moment: str, histories: Sequence[tuple[View, Sequence[Path]]], out: Path, limits: Limits, folder: Path
) -> int:
    select, joins = ["r.* EXCLUDE (file_row_number, filename)"], []
    for i, (view, files) in enumerate(histories):
        entity = ", ".join(_name(c) for c in view.entity)
        until = f"h{i}.{_name(UNTIL)}"
        for feature in view.feature_names():
            value = f"h{i}.{_name(feature)}"
            select.append(f"CASE WHEN {until} IS NULL OR r.{_name(moment)} < {until} THEN {value} END AS {_name(feature)}")
        # Of values known at once the last one counts: each history is in order within its file, and an entity is in one file only.
        newest = f"row_number() OVER (PARTITION BY {entity}, {_name(AT)} ORDER BY file_row_number DESC) = 1"
        joins.append(
            f"ASOF LEFT JOIN (SELECT * FROM {_files(files, numbered=True)} QUALIFY {newest}) h{i} ON "
            + " AND ".join([*(f"r.{_name(c)} = h{i}.{_name(c)}" for c in view.entity), f"r.{_name(moment)} >= h{i}.{_name(AT)}"])
        )
    order = "ORDER BY array_position(" + _list([str(f) for f in rows]) + ", r.filename), r.file_row_number"
    return _run(f"SELECT {', '.join(select)} FROM {_files(rows, numbered=True)} r {' '.join(joins)} {order}", out, limits, folder)


def _put_together(rows: Sequence[Path], done: Sequence[tuple[View, Sequence[Path]]], out: Path, limits: Limits, folder: Path) -> int:
    """The rows with the features that tasks found, in the rows' order."""
    scan = pl.scan_parquet([str(f) for f in rows], glob=False).with_row_index(_ROW)
    numbered = folder / "numbered.parquet"
    scan.sink_parquet(numbered)
    select, joins = [f"r.* EXCLUDE ({_name(_ROW)})"], []
    for i, (view, files) in enumerate(done):
        select += [f"j{i}.{_name(f)} AS {_name(f)}" for f in view.feature_names()]
        if files:
            joins.append(f"LEFT JOIN {_files(files)} j{i} ON r.{_name(_ROW)} = j{i}.{_name(_ROW)}")
        else:
            nothing = ", ".join(f"NULL::DOUBLE AS {_name(f)}" for f in view.feature_names())
            joins.append(f"LEFT JOIN (SELECT {nothing}) j{i} ON false")
    return _run(f"SELECT {', '.join(select)} FROM {_files([numbered])} r {' '.join(joins)} ORDER BY r.{_name(_ROW)}", out, limits, folder)


def _run(query: str, out: Path, limits: Limits, folder: Path) -> int:
    import duckdb

    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    connection = duckdb.connect(
        config={"memory_limit": f"{limits.memory // 1_000_000}MB", "threads": limits.threads, "temp_directory": str(folder / "spill")}
    )
    try:
        connection.execute("SET TimeZone = 'UTC'").fetchall()
        copied = connection.execute(f"COPY ({query}) TO {_text(str(unfinished))} (FORMAT parquet)").fetchone()
        os.replace(unfinished, out)
    except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
        raise StorageError(
            f"The join does not fit: {str(error).splitlines()[0]}", where=str(folder),
            hint="Give it more memory, or a folder on a larger disk to spill to.",
        ) from None  # fmt: skip
    finally:
        connection.close()
        unfinished.unlink(missing_ok=True)
    return int(copied[0]) if copied else 0


class _Folder:
    """A folder to work in, which is gone afterwards."""

    def __init__(self, inside: Path | None) -> None:
        if inside is not None:
            inside.mkdir(parents=True, exist_ok=True)
        self._inside = inside

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix="join-", dir=self._inside))
        return self._path

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self._path, ignore_errors=True)


def _parts_of(files: Sequence[Path]) -> int:
    rows = int(pl.scan_parquet([str(f) for f in files], glob=False).select(pl.len()).collect().item())
    return max(1, -(-rows // _PART_ROWS))


def _files(files: Sequence[Path], *, numbered: bool = False) -> str:
    return f"read_parquet({_list([str(f) for f in files])}{', file_row_number = true, filename = true' if numbered else ''})"


def _list(texts: Sequence[str]) -> str:
    return "[" + ", ".join(_text(t) for t in texts) + "]"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'


def _free() -> int:
    """Bytes of memory this process may still take: of the machine, or of its control group."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            free = min(free, int(text))
    return free
