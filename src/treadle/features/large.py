"""The point-in-time join where it does not fit into memory: on DuckDB, which spills to disk; and cut by entity into tasks for an executor.

Both read Parquet files and write one, and give what `history.join_all` gives of the same rows. What is held in memory is DuckDB's limit and, of each
view, the history of one part of its entities at a time. `treadle run` asks `fits` and goes by `file_history` and `join_values` where it does not.

    >>> join_files(rows, "asked", [(view, source_files)], out, memory=200_000_000)       # doctest: +SKIP
"""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.declare.data import View
from treadle.core.errors import DataError, ProjectError, StorageError, UsageError
from treadle.features.history import AT, UNTIL, compute, fact_of, history, join_all
from treadle.ports.executor import Executor, Task

_ROW = "__join_row__"
_HOST = socket.gethostname()
_PART = "__part__"
_PART_ROWS = 2_000_000  # rows of a source that one part holds, about
_LEAST_ROWS = 10_000  # smaller parts spare nothing
_LEAST = 64_000_000  # bytes that DuckDB needs to sort at all
_SAMPLE = 20_000  # rows by which a source's size is told, and whether a function looks from one entity to another


@dataclass(frozen=True)
class Limits:
    """What a join may take: bytes of memory, threads; where it spills to (a folder is made there and removed, as are those of killed joins)."""

    memory: int
    threads: int = 1
    spill: Path | None = None


def fits(view: View, rows: int, limit: int) -> bool:
    """Whether the history of a view over `rows` bytes is computed in memory, of which `limit` bytes may be taken."""
    return rows * growth(view) <= limit


def growth(view: View) -> int:
    """How many times the bytes of its source a view's history takes while it is computed, about: the source, its order and the result; of windows
    each row as often as it counts, of a function what it makes, and makes again to see whether it looks ahead."""
    if view.aggregates and view.every:
        spans = {view.windows.get(name, view.window) for name in view.aggregates}
        return 4 + sum(-(-span // view.every) for span in spans if span is not None)
    return 8 if view.function is not None else 4


def size_of(rows: pl.LazyFrame) -> int:
    """About how many bytes rows take in memory, told by the first ones."""
    first = rows.head(_SAMPLE).collect()
    if first.height < _SAMPLE:
        return int(first.estimated_size())
    return int(first.estimated_size() / first.height * int(rows.select(pl.len()).collect().item()))


def file_history(view: View, files: Sequence[Path], out: Path, limits: Limits) -> None:
    """Write a view's history to `out` (Parquet), holding no more of it at a time than the limit: each part of its entities on its own.

    It has the rows of `history.history` that can ever be joined, and of each entity in the same order.
    Raises: ProjectError for a function that looks from one entity to another.
    """
    if find_spec("duckdb") is None:
        raise UsageError(
            f"The history of view {view.name!r} does not fit into memory, and DuckDB, which joins it on the disk, is not installed.",
            where=view.place, hint="Run: pip install 'treadle[sql]'",
        )  # fmt: skip
    scan = pl.scan_parquet([str(f) for f in files], glob=False)
    _check_function(view, scan.head(_SAMPLE).collect())
    rows = int(scan.select(pl.len()).collect().item())
    parts = max(1, min(-(-size_of(scan) * growth(view) // max(1, limits.memory)), -(-rows // _LEAST_ROWS)))
    with _Folder(limits.spill) as folder:
        made = _write_parts(view, files, folder, parts, rows)
        pl.scan_parquet([str(f) for f in made], glob=False).sink_parquet(out, compression="lz4", row_group_size=100_000)


def join_values(rows: pl.DataFrame, moment: str, views: Sequence[tuple[View, pl.DataFrame | Path]], limits: Limits) -> pl.DataFrame:
    """As `history.join_all`, where some histories are frames and others are files, which DuckDB joins without loading them."""
    columns: dict[str, pl.Series] = {}
    framed = [(view, values) for view, values in views if isinstance(values, pl.DataFrame)]
    filed = [(view, values) for view, values in views if not isinstance(values, pl.DataFrame)]
    if framed:
        columns |= {c.name: c for c in join_all(rows, moment, framed).get_columns()}
    if filed:
        with _Folder(limits.spill) as folder:
            asked, out = folder / "asked.parquet", folder / "out.parquet"
            rows.select(list(dict.fromkeys([moment, *(c for view, _ in filed for c in view.entity)]))).write_parquet(asked)
            _check_names([asked], [(view, ()) for view, _ in filed])
            _asof([asked], moment, [(view, [path]) for view, path in filed], out, limits, folder)
            for view, path in filed:
                types = pl.read_parquet_schema(path)
                found = pl.read_parquet(out, columns=list(view.feature_names()))
                columns |= {c.name: c for c in found.cast({f: types[f] for f in view.feature_names()}).get_columns()}
    return pl.DataFrame([columns[f] for view, _ in views for f in view.feature_names()])


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
    """A view's history as Parquet files, one for each part of its entities; no more than a part of the source is held at a time.

    Of values of an entity that became known at once it has the last one only: that is the one that counts.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for part in range(parts):
        made = _one_at_a_time(view, _part_history(view, files, part, parts))
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


def _one_at_a_time(view: View, values: pl.DataFrame) -> pl.DataFrame:
    """A history without what is never looked at: of values of an entity that became known at once the last one counts."""
    return values.unique([*view.entity, AT], keep="last", maintain_order=True)


def _in_part(view: View, part: int, parts: int) -> pl.Expr:
    """Whether a row is of a part of a view's entities: the same for its source and for the rows that ask, on every node with the same Polars."""
    return pl.struct(view.entity).hash(seed=0) % parts == part


def _check_function(view: View, sample: pl.DataFrame) -> None:
    """Raise ProjectError when a view's function says otherwise of an entity when others are not there: then it cannot be computed in parts."""
    if view.function is None or sample.height < 2:
        return
    entity = list(view.entity)
    some = sample.select(entity).unique(maintain_order=True).gather_every(2)
    times = filter(None, (view.source.event_time, view.source.known_time))
    features = list(dict.fromkeys([*entity, *times, *view.feature_names()]))
    alone = compute(view, sample.join(some, on=entity, how="semi", nulls_equal=True, maintain_order="left")).select(features)
    among = compute(view, sample).join(some, on=entity, how="semi", nulls_equal=True).select(features)
    if not alone.sort(pl.all()).equals(among.sort(pl.all())):
        raise ProjectError(
            f"{view.function.__name__} looks from one entity to another, so it needs all rows at once, and they do not fit into memory.",
            where=f"view {view.name!r} ({view.place})", hint="Give it more memory (the setting 'memory'), or let it use each entity's own rows only.",
        )  # fmt: skip


def _write_parts(view: View, files: Sequence[Path], folder: Path, parts: int, rows: int) -> list[Path]:
    """As `write_history`, with the source read once: first its rows are cut into files by part."""
    fact = fact_of(view.source)
    if parts == 1 or (fact and view.function is None and not set(view.entity) <= set(fact)):
        return write_history(view, files, folder / "parts", parts)  # a fact may go from one part to another
    cut = folder / "cut"
    cut.mkdir()
    pieces: dict[int, list[Path]] = {}
    step = max(_LEAST_ROWS, rows // parts)
    scan = pl.scan_parquet([str(f) for f in files], glob=False).with_columns((pl.struct(view.entity).hash(seed=0) % parts).alias(_PART))
    for start in range(0, rows, step):
        for (part,), piece in scan.slice(start, step).collect().partition_by(_PART, as_dict=True, include_key=False, maintain_order=True).items():
            pieces.setdefault(int(part), []).append(cut / f"{part}-{start}.parquet")
            piece.write_parquet(pieces[int(part)][-1], compression="lz4")
    written: list[Path] = []
    for part in sorted(pieces):
        made = _one_at_a_time(view, history(view, pl.scan_parquet([str(f) for f in pieces[part]], glob=False).collect()))
        for path in pieces[part]:
            path.unlink()
        if made.height or not written:
            written.append(folder / f"{part:05}.parquet")
            made.write_parquet(written[-1], compression="lz4")
    return written


def _bare(view: View) -> View:
    """A view as it can be sent to another process: without what only the project knows."""
    source = replace(view.source, source=None, contract=None, exclude={}, datasheet=None)  # type: ignore[arg-type]
    return replace(view, source=source)


def _asof(
    rows: Sequence[Path], moment: str, histories: Sequence[tuple[View, Sequence[Path]]], out: Path, limits: Limits, folder: Path
) -> int:
    select, joins = ["r.* EXCLUDE (file_row_number, filename)"], []
    for i, (view, files) in enumerate(histories):
        until = f"h{i}.{_name(UNTIL)}"
        for feature in view.feature_names():
            value = f"h{i}.{_name(feature)}"
            select.append(f"CASE WHEN {until} IS NULL OR r.{_name(moment)} < {until} THEN {value} END AS {_name(feature)}")
        joins.append(
            f"ASOF LEFT JOIN {_files(files)} h{i} ON "
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
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UsageError("Joins larger than memory are done by DuckDB, which is not installed.", hint="Run: pip install 'treadle[sql]'") from None
    unfinished = out.with_name(f".{out.name}.{os.getpid()}")
    connection = duckdb.connect(
        config={"memory_limit": f"{max(limits.memory, _LEAST) // 1_000_000}MB", "threads": limits.threads, "temp_directory": str(folder / "spill")}
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


def sweep(spill: Path) -> None:
    """Remove what joins of killed processes of this machine left where they spilled to."""
    for left in spill.glob(f"join-{_HOST}-*"):
        pid = left.name.removeprefix(f"join-{_HOST}-").split("-")[0]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
            shutil.rmtree(left, ignore_errors=True)


def working_folder(limits: Limits) -> _Folder:
    """A folder to work in, on the disk that is spilled to; it is gone afterwards."""
    return _Folder(limits.spill)


class _Folder:
    """A folder to work in, which is gone afterwards."""

    def __init__(self, inside: Path | None) -> None:
        if inside is not None:
            inside.mkdir(parents=True, exist_ok=True)
            sweep(inside)
        self._inside = inside

    def __enter__(self) -> Path:
        self._path = Path(tempfile.mkdtemp(prefix=f"join-{_HOST}-{os.getpid()}-", dir=self._inside))
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

