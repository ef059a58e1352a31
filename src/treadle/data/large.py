"""Taking a version of files that do not fit into memory: read, checked and stored in parts; sorted and searched for duplicates on the disk by DuckDB.

The outcome is that of reading everything at once, for CSV and Parquet files of this machine. What needs all rows to be decided is decided over all of
them: keys and columns that must be unique, the promises about the rows together, the order. Dates like 03/04/2013 are refused where parts of the file
would read them differently. Row rules see the rows of a part only, so an expression that aggregates is one over the part.
"""

from __future__ import annotations

import codecs
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.declare.data import Dataset, names
from treadle.core.errors import DataError, UsageError
from treadle.data import promises, quarantine, sources
from treadle.data.memory import free_memory
from treadle.data.parsing import day_first, missing_as_null, split_fields
from treadle.data.source_files import _GROWTH as GROWTH
from treadle.data.source_files import LocalFiles
from treadle.data.suppressed import Suppressed
from treadle.ports.ledger import Ledger
from treadle.ports.source import Rows
from treadle.ports.tables import Commit, Tables

KINDS = ("csv", "parquet")
_SHARE = 0.5  # of the free memory; what would need more is read in parts
_LEAST, _MOST = 1 << 20, 64 << 20  # bytes of CSV in a part
_SLICE = 1 << 17  # rows of Parquet in a part
_LINE = "__line__"  # part and place in it: the order of the source, as far as rows of one sort go
_DAY = r"^\s*[0-9]{1,2}[/-][0-9]{1,2}[/-][0-9]{4}"


@dataclass
class Sifted:
    """What the parts were sorted into: files of good rows, rows set aside, counts."""

    parts: list[Path] = field(default_factory=list)
    keys: list[Path] = field(default_factory=list)
    bad: list[Path] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    excluded: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    good: int = 0
    fixed: int = 0
    released: int = 0
    again: str = ""
    used: tuple[str, ...] = ()
    schema: pl.Schema | None = None
    outdated: set[str] | None = None  # decisions that no part had the row of


def too_large(dataset: Dataset, folder: Path, memory: int | None = None) -> int | None:
    """The memory to get by with, in bytes, where the source's files would need more than a good share of what is free; else None.

    Args:
        memory: what may be taken; measured if None.
    """
    if dataset.source.kind not in KINDS or not sources.is_local(dataset.source):
        return None
    free = memory if memory is not None else free_memory()
    size = sum(path.stat().st_size for path in LocalFiles(folder).paths(dataset.source.path) if path.is_file())
    return free if free is not None and size * GROWTH[dataset.source.kind] > free * _SHARE else None


def commit(
    dataset: Dataset, folder: Path, tables: Tables, ledger: Ledger, *, memory: int, now: datetime, erased: Suppressed,
    uses: Mapping[str, Sequence[str]] | None,
) -> tuple[Commit, quarantine.SortedOut, dict[str, int]]:  # fmt: skip
    """Read, check and store all rows; returns the commit, what was set aside (its `good` only counts), and what was out of scope.

    Raises: as `versions.take`; UsageError without DuckDB.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UsageError(
            f"Files as large as {dataset.source.path!r} are sorted by DuckDB, which is not installed.", hint="Run: pip install 'treadle[sql]'"
        ) from None
    with tempfile.TemporaryDirectory(prefix="treadle-large-") as scratch:
        place = Path(scratch)
        found = _sift(dataset, folder, place, ledger, memory, now, erased)
        engine = duckdb.connect(config={"memory_limit": f"{max(64, memory // 3 >> 20)}MB", "temp_directory": str(place / "spill"), "threads": 1})
        try:
            engine.execute("SET enable_progress_bar = false")
            doubles = _doubles(dataset, found, engine)
            sorted_out = _told(dataset, found, doubles)
            if not found.good:
                nothing = pl.LazyFrame(schema=found.schema)
                promises.keep(dataset, nothing, sorted_out, ledger=ledger, tables=tables, now=now, uses=uses)
                raise DataError(f"None of the {found.rows:,} rows is left after exclusions and contract.", where=f"data set {dataset.name!r}")
            ready = _sorted(dataset, found, doubles, engine, place)
        finally:
            engine.close()
        scan = pl.scan_parquet(ready, glob=False, hive_partitioning=False).select(found.schema.names() if found.schema else [])
        promises.keep(dataset, scan, sorted_out, ledger=ledger, tables=tables, now=now, uses=uses)
        sort = [dataset.event_time, *dataset.key] if dataset.event_time else []
        made = tables.commit(dataset.name, _slices(ready, found.schema), mode="replace", key=dataset.key, sort=sort)
        return made, sorted_out, dict(found.excluded)


def _sift(
    dataset: Dataset, folder: Path, place: Path, ledger: Ledger, memory: int, now: datetime, erased: Suppressed
) -> Sifted:
    from treadle.data.versions import sift

    found = Sifted()
    unique = _unique(dataset)
    needed = list(dict.fromkeys(c for group in unique for c in group))
    orders: dict[str, bool] = {}
    size = min(_MOST, max(_LEAST, memory // 48))
    for number, raw in enumerate(_parts(dataset, folder, size)):
        _one_order(raw, dataset, orders)
        if sources.ROW_NUMBER in dataset.key and sources.ROW_NUMBER not in raw.columns:
            raw = raw.with_row_index(sources.ROW_NUMBER, found.rows).with_columns(pl.col(sources.ROW_NUMBER).cast(pl.Int64))
        typed = sources._typed(Rows(raw, {}, full=True), dataset, f"data set {dataset.name!r} ({dataset.source.path})")
        found.rows += raw.height
        passed = sift(typed.frame, typed.unparsed, dataset, ledger, now, erased)
        out = passed.sorted_out
        if found.schema is None:
            found.schema = out.good.schema
        elif out.good.schema != found.schema:
            raise DataError("Parts of the file have other columns or types.", where=f"data set {dataset.name!r} ({dataset.source.path})")
        path, keys = place / f"good-{number:06}.parquet", place / f"keys-{number:06}.parquet"
        good, bad = _numbered(out.good, number << 32), _numbered(out.bad, (number << 32) + (1 << 31))
        good.write_parquet(path, compression="lz4")
        pl.concat([f.select(_LINE, *needed) for f in (good, bad)]).write_parquet(keys, compression="lz4")
        found.parts.append(path)
        found.keys.append(keys)
        if bad.height or not found.bad:  # a few rows in memory would keep the text of their whole part there
            found.bad.append(place / f"bad-{number:06}.parquet")
            bad.write_parquet(found.bad[-1], compression="lz4")
        found.good += out.good.height
        found.counts.update(out.counts)
        found.excluded.update(passed.excluded)
        found.fixed += out.fixed
        found.released += out.released
        found.again = min(filter(None, (found.again, out.again)), default="")
        found.used += out.used
        found.outdated = set(out.outdated) if found.outdated is None else found.outdated & set(out.outdated)
    if not found.rows:
        where = f"data set {dataset.name!r} ({dataset.source.path})"
        raise DataError("There are no rows.", where=where, hint="Check that the source is the one you mean and has been filled.")
    return found


def _numbered(frame: pl.DataFrame, first: int) -> pl.DataFrame:
    return frame.with_columns(pl.int_range(first, first + frame.height, dtype=pl.Int64).alias(_LINE))


def _unique(dataset: Dataset) -> list[tuple[str, ...]]:
    contract = dataset.contract
    columns = [(n,) for n, c in contract.columns.items() if c.unique and (n,) != dataset.key] if contract else []
    return [dataset.key, *columns, *(names(group) for group in (contract.unique if contract else ()))]


def _doubles(dataset: Dataset, found: Sifted, engine: Any) -> pl.DataFrame:
    """Rows whose values, where they must be unique, stood in an earlier part: their lines and reasons."""
    files = [str(p) for p in found.keys]
    told = [pl.DataFrame(schema={_LINE: pl.Int64, "reason": pl.String})]
    for i, group in enumerate(_unique(dataset)):
        columns = ", ".join(map(_quoted, group))
        same = " AND ".join(f"k.{_quoted(c)} IS NOT DISTINCT FROM d.{_quoted(c)}" for c in group)
        known = "TRUE" if i == 0 else " AND ".join(f"{_quoted(c)} IS NOT NULL" for c in group)
        rows = engine.execute(
            f"""WITH doubled AS (SELECT {columns}, min({_LINE} >> 32) AS first FROM read_parquet(?) WHERE {known} GROUP BY {columns}
            HAVING count(*) > 1) SELECT k.{_LINE} FROM read_parquet(?) k JOIN doubled d ON {same} WHERE k.{_LINE} >> 32 > d.first""",
            [files, files],
        ).fetchall()
        if rows:
            said = f"{' + '.join(group)} is not unique"
            told.append(pl.DataFrame({_LINE: [r[0] for r in rows], "reason": said}, schema={_LINE: pl.Int64, "reason": pl.String}))
    return pl.concat(told)


def _told(dataset: Dataset, found: Sifted, doubles: pl.DataFrame) -> quarantine.SortedOut:
    """All rows set aside: those of the parts, and those that only the whole showed to be second."""
    bad = pl.concat([pl.read_parquet(p, glob=False) for p in found.bad])
    unread, reason = bad.columns[-3:-1]
    if doubles.height:
        own = bad.select(_LINE, pl.col(reason).alias("__own__"))  # a row that is bad in its part may say already that it is second
        fresh = doubles.join(own, on=_LINE, how="left").filter(~pl.col("__own__").str.contains(pl.col("reason"), literal=True).fill_null(False))
        found.counts.update(fresh["reason"].to_list())
        said = fresh.group_by(_LINE, maintain_order=True).agg(pl.col("reason").str.join("; ").alias("__said__"))
        bad = bad.join(said, on=_LINE, how="left", maintain_order="left")
        bad = bad.with_columns(pl.concat_str(reason, "__said__", separator="; ", ignore_nulls=True).alias(reason)).drop("__said__")
        late = said.join(own, on=_LINE, how="anti")
        rows = pl.concat([pl.scan_parquet(p, glob=False).join(late.lazy(), on=_LINE, how="inner").collect() for p in found.parts])
        rows = rows.rename({"__said__": reason}).with_columns(pl.lit(None, pl.String).alias(unread))
        bad = pl.concat([bad, rows.select(bad.columns)])
        found.good -= rows.height
    bad = bad.sort(_LINE).drop(_LINE)
    nothing = pl.DataFrame({"rows": pl.repeat(None, found.good, dtype=pl.Null, eager=True)})  # only counted
    return quarantine.SortedOut(
        nothing, bad, dict(found.counts.most_common()), fixed=found.fixed, released=found.released, again=found.again, used=found.used,
        outdated=tuple(sorted(found.outdated or ())),
    )  # fmt: skip


def _sorted(dataset: Dataset, found: Sifted, doubles: pl.DataFrame, engine: Any, place: Path) -> Path:
    ready = place / "sorted.parquet"
    engine.execute(f"CREATE TEMP TABLE doubles ({_LINE} BIGINT)")
    late = doubles[_LINE].unique().to_list()
    if late:
        engine.executemany("INSERT INTO doubles VALUES (?)", [[row] for row in late])
    by = [dataset.event_time, *dataset.key] if dataset.event_time else [_LINE]
    order = ", ".join(f"{_quoted(c)} ASC NULLS FIRST" for c in by if c)
    if not dataset.event_time:  # the parts are in order
        engine.execute("SET preserve_insertion_order = true")
    ordered = f"ORDER BY {order}" if dataset.event_time else ""
    engine.execute(
        f"""COPY (SELECT * FROM read_parquet(?) WHERE {_LINE} NOT IN (SELECT {_LINE} FROM doubles) {ordered})
        TO '{ready}' (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE 65536)""",
        [[str(p) for p in found.parts]],
    )
    for path in found.parts:
        path.unlink()
    return ready


def _slices(ready: Path, schema: pl.Schema | None) -> Iterator[pl.DataFrame]:
    assert schema is not None
    scan = pl.scan_parquet(ready, glob=False, hive_partitioning=False)
    total = int(scan.select(pl.len()).collect().item())
    for start in range(0, total, _SLICE):
        yield scan.slice(start, _SLICE).select(schema.names()).collect().cast(dict(schema))  # type: ignore[arg-type]


def _parts(dataset: Dataset, folder: Path, size: int) -> Iterator[pl.DataFrame]:
    files = LocalFiles(folder)
    columns: list[str] | None = None
    for file in files.listed(dataset.source.path):
        with files.fetched(file) as path:
            for frame in _csv(path, dataset, size) if dataset.source.kind == "csv" else _parquet(path):
                if columns is None:
                    columns = frame.columns
                elif set(columns) != set(frame.columns):
                    raise DataError(f"{file.name} has other columns than the files before it.", where=file.name, hint="Give them the same columns.")
                if frame.height:
                    yield frame.select(columns)


def _parquet(path: Path) -> Iterator[pl.DataFrame]:
    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        total = int(scan.select(pl.len()).collect().item())
        for start in range(0, total, _SLICE):
            yield scan.slice(start, _SLICE).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The file does not parse: {str(error).splitlines()[0]}", where=path.name) from None


def _csv(path: Path, dataset: Dataset, size: int) -> Iterator[pl.DataFrame]:
    """The file in parts that end where a record ends, each read as a file with the same header."""
    options = dataset.source.options
    header, line = "", 1
    for text in _texts(path, str(options.get("encoding", "")), size):
        whole = header + text
        try:
            frame = split_fields(whole, options["separator"], path.name)
        except DataError as error:
            if header:
                error.where = f"{path.name}, the part from line {line:,} on, lines counted from there"
            raise
        if not header:
            header = text[: text.index("\n") + 1] if "\n" in text else text + "\n"
        line += text.count("\n")
        yield missing_as_null(frame, options["null_values"])


def _texts(path: Path, encoding: str, size: int) -> Iterator[str]:
    """Pieces of a text that end after a line break outside of quotes."""
    decoder = codecs.getincrementaldecoder(encoding or "utf-8-sig")()
    waiting, limit = "", 16 * size
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not encoding:
            decoder = codecs.getincrementaldecoder("utf-16")()
        file.seek(0)
        while data := file.read(size):
            try:
                waiting += decoder.decode(data)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"Around byte {file.tell() - len(data) + error.start:,} it is not {encoding or 'UTF-8'}.", where=path.name,
                    hint="A file this large is read in parts, and its encoding has to be said: tr.csv(..., encoding='cp1252').",
                ) from None  # fmt: skip
            if "\r" in waiting:
                held = waiting.endswith("\r")
                waiting = waiting[: len(waiting) - held].replace("\r\n", "\n").replace("\r", "\n") + "\r" * held
            end = _record_end(waiting)
            if end:
                yield waiting[:end]
                waiting = waiting[end:]
            elif len(waiting) > limit:
                raise DataError(f"A record of more than {limit:,} characters.", where=path.name, hint="Is a quote opened and never closed?")
    waiting += decoder.decode(b"", final=True)
    if waiting.strip("\r\n"):
        yield waiting.replace("\r", "\n")


def _record_end(text: str) -> int:
    """Where the last whole record ends: after a line break with an even number of quotes before it; 0 if there is none."""
    quotes, end = text.count('"'), len(text)
    while (at := text.rfind("\n", 0, end)) >= 0:
        quotes -= text.count('"', at, end)
        if quotes % 2 == 0:
            return at + 1
        end = at
    return 0


def _one_order(raw: pl.DataFrame, dataset: Dataset, orders: dict[str, bool]) -> None:
    """Refuse dates that are read by what stands in other rows, where parts would read them differently."""
    columns = [n for n, c in (dataset.contract.columns if dataset.contract else {}).items() if c.kind == "timestamp"]
    for name in dict.fromkeys([*columns, *filter(None, (dataset.event_time, dataset.known_time))]):
        if name not in raw.columns or raw.schema[name] != pl.String or not raw[name].str.contains(_DAY).any():
            continue
        order = day_first(raw[name])
        if order is None or orders.setdefault(name, order) != order:
            raise DataError(
                f"Column {name!r} has dates like 03/04/2013, and a part of the file does not say which of the two is the day.",
                where=f"data set {dataset.name!r} ({dataset.source.path})", hint="Write dates as 2013-04-03 in a file this large, or split it.",
            )  # fmt: skip


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

