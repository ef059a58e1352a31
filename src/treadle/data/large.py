"""Taking a version of files that do not fit into memory: read, checked and stored in parts; sorted and searched for duplicates on the disk by DuckDB.

The outcome is that of reading everything at once, for CSV and Parquet files of this machine. What needs all rows to be decided is decided over all of
them: keys and columns that must be unique, the promises about the rows together, the order. Dates like 03/04/2013 are refused where parts of the file
would read them differently. Row rules see the rows of a part only, so an expression that aggregates is one over the part.
"""

from __future__ import annotations

import errno
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.declare.data import STOPS, Dataset, names
from treadle.core.errors import DataError, StorageError, UsageError
from treadle.data import promises, quarantine, sources
from treadle.data.memory import free_memory
from treadle.data.parsing import day_first
from treadle.data.parts import SLICE, parts
from treadle.data.source_files import _GROWTH as GROWTH
from treadle.data.source_files import LocalFiles
from treadle.data.suppressed import Suppressed
from treadle.ports.ledger import Ledger
from treadle.ports.source import Rows
from treadle.ports.tables import Commit, Tables

KINDS = ("csv", "parquet")
_SHARE = 0.5  # of the free memory; what would need more is read in parts
_LEAST, _MOST = 1 << 20, 64 << 20  # bytes of CSV in a part
MOST_REFUSED = 200_000  # rows set aside that are shown of a file with so many that it is refused, about
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
    aside: int = 0
    second: list[Path] = field(default_factory=list)  # lines of rows that stand in an earlier part already
    untold: int = 0  # of these, the ones that no frame holds
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
    uses: Mapping[str, Sequence[str]] | None, scratch: Path | None = None, say: Callable[[str], None] = lambda line: None,
) -> tuple[Commit, quarantine.SortedOut, dict[str, int]]:  # fmt: skip
    """Read, check and store all rows; returns the commit, what was set aside (its `good` only counts), and what was out of scope.

    Args:
        scratch: a folder for files that are not kept, about twice the size of the source; the system's own if None.
        say: told how far it is, after each part.
    Raises: as `versions.take`; UsageError without DuckDB; DataError where the memory, and StorageError where the disk is not enough.
    """
    try:
        import duckdb
    except ModuleNotFoundError:
        raise UsageError(
            f"Files as large as {dataset.source.path!r} are sorted by DuckDB, which is not installed.", hint="Run: pip install 'treadle[sql]'"
        ) from None
    with tempfile.TemporaryDirectory(prefix="treadle-large-", dir=scratch) as within, _enough(dataset, memory, Path(within)):
        place = Path(within)
        found = _sift(dataset, folder, place, ledger, memory, now, erased, say)
        say(f"{found.rows:,} rows read; looking for doubles")
        engine = duckdb.connect(config={"memory_limit": f"{max(64, memory // 3 >> 20)}MB", "temp_directory": str(place / "spill"), "threads": 1})
        try:
            engine.execute("SET enable_progress_bar = false")
            doubles = _doubles(dataset, found, engine, place)
            sorted_out = _told(dataset, found, doubles)
            if not found.good:
                nothing = pl.LazyFrame(schema=found.schema)
                promises.keep(dataset, nothing, sorted_out, ledger=ledger, tables=tables, now=now, uses=uses)
                raise DataError(f"None of the {found.rows:,} rows is left after exclusions and contract.", where=f"data set {dataset.name!r}")
            say(f"{found.rows:,} rows read; putting them in order")
            ready = _sorted(dataset, found, engine, place)
        finally:
            engine.close()
        scan = pl.scan_parquet(ready, glob=False, hive_partitioning=False).select(found.schema.names() if found.schema else [])
        promises.keep(dataset, scan, sorted_out, ledger=ledger, tables=tables, now=now, uses=uses)
        sort = [dataset.event_time, *dataset.key] if dataset.event_time else []
        made = tables.commit(dataset.name, _slices(ready, found.schema, say), mode="replace", key=dataset.key, sort=sort)
        return made, sorted_out, dict(found.excluded)


@contextmanager
def _enough(dataset: Dataset, memory: int, place: Path) -> Iterator[None]:
    """Says in one sentence that memory or disk ran out."""
    try:
        yield
    except Exception as error:
        said = str(error).partition("\n")[0]
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryException":
            raise too_little(dataset, memory, said or "There was no more memory") from error
        if (isinstance(error, OSError) and error.errno == errno.ENOSPC) or "No space left on device" in str(error):
            raise StorageError(
                "The disk is full: reading a file larger than memory takes about twice its size of temporary files.", where=str(place),
                hint="Make room there, or set TREADLE_HOME to a folder on a larger disk. Nothing was changed.",
            ) from error  # fmt: skip
        raise


def too_little(dataset: Dataset, memory: int, what: str) -> DataError:
    """The error that says a data set was not read for want of memory."""
    return DataError(
        f"{what.rstrip('.')}; reading {dataset.source.path!r} in parts was to get by with {memory / 1e9:.2f} GB.", where=f"data set {dataset.name!r}",
        hint="Nothing was changed. Raise the limit on this process, close other programs, or say that less may be taken, which makes the parts "
        f"smaller (TREADLE_MEMORY={max(64, memory // 2 >> 20)}MB). A limit of 1 GB was enough for what was tried.",
    )  # fmt: skip


def _sift(
    dataset: Dataset, folder: Path, place: Path, ledger: Ledger, memory: int, now: datetime, erased: Suppressed, say: Callable[[str], None]
) -> Sifted:
    from treadle.data.versions import sift

    found = Sifted()
    unique = _unique(dataset)
    needed = list(dict.fromkeys(c for group in unique for c in group))
    orders: dict[str, bool] = {}
    size = min(_MOST, max(_LEAST, memory // 48))
    for number, (raw, share) in enumerate(parts(dataset, folder, size)):
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
        found.aside += out.bad.height
        found.counts.update(out.counts)
        found.excluded.update(passed.excluded)
        found.fixed += out.fixed
        found.released += out.released
        found.again = min(filter(None, (found.again, out.again)), default="")
        found.used += out.used
        found.outdated = set(out.outdated) if found.outdated is None else found.outdated & set(out.outdated)
        say(f"{found.rows:,} rows read, {share:.0%}")
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


def _doubles(dataset: Dataset, found: Sifted, engine: Any, place: Path) -> pl.DataFrame:
    """Rows whose values, where they must be unique, stood in an earlier part: their lines and reasons."""
    files = [str(p) for p in found.keys]
    told = [pl.DataFrame(schema={_LINE: pl.Int64, "reason": pl.String})]
    for i, group in enumerate(_unique(dataset)):
        columns = ", ".join(map(_quoted, group))
        same = " AND ".join(f"k.{_quoted(c)} IS NOT DISTINCT FROM d.{_quoted(c)}" for c in group)
        known = "TRUE" if i == 0 else " AND ".join(f"{_quoted(c)} IS NOT NULL" for c in group)
        second = place / f"second-{i}.parquet"
        count = engine.execute(
            f"""COPY (WITH doubled AS (SELECT {columns}, min({_LINE} >> 32) AS first FROM read_parquet(?) WHERE {known} GROUP BY {columns}
            HAVING count(*) > 1) SELECT k.{_LINE} FROM read_parquet(?) k JOIN doubled d ON {same} WHERE k.{_LINE} >> 32 > d.first)
            TO {_text(second)} (FORMAT parquet)""",
            [files, files],
        ).fetchone()[0]
        if count:
            said, lines = f"{' + '.join(group)} is not unique", pl.scan_parquet(second, glob=False)
            if _refused(dataset, found, count) and count > MOST_REFUSED:
                found.counts[said] += count - MOST_REFUSED
                found.untold += count - MOST_REFUSED
                lines = lines.head(MOST_REFUSED)
            told.append(lines.select(pl.col(_LINE).cast(pl.Int64), pl.lit(said).alias("reason")).collect())
            found.second.append(second)
    return pl.concat(told)


def _refused(dataset: Dataset, found: Sifted, more: int = 0) -> bool:
    """Whether so many rows are set aside that the run stops: then the first of them say what is wrong, and all might not fit into memory."""
    stops, limit = (dataset.contract.stop_on, dataset.contract.at_most) if dataset.contract else (STOPS, 0.05)
    return "at_most" in stops and found.aside + more > limit * (found.good + found.aside)


def _told(dataset: Dataset, found: Sifted, doubles: pl.DataFrame) -> quarantine.SortedOut:
    """All rows set aside: those of the parts, and those that only the whole showed to be second."""
    kept, told = found.bad, found.aside
    if _refused(dataset, found):
        kept, told = [], 0
        for path in found.bad:
            if told < MOST_REFUSED:
                kept.append(path)
                told += int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
    more = found.aside - told + found.untold
    bad = pl.concat([pl.read_parquet(p, glob=False) for p in kept])
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
        outdated=tuple(sorted(found.outdated or ())), more=more,
    )  # fmt: skip


def _sorted(dataset: Dataset, found: Sifted, engine: Any, place: Path) -> Path:
    ready = place / "sorted.parquet"
    by = [dataset.event_time, *dataset.key] if dataset.event_time else [_LINE]
    order = ", ".join(f"{_quoted(c)} ASC NULLS FIRST" for c in by if c)
    if not dataset.event_time:  # the parts are in order
        engine.execute("SET preserve_insertion_order = true")
    once = f"WHERE {_LINE} NOT IN (SELECT {_LINE} FROM read_parquet(?))" if found.second else ""
    ordered = f"ORDER BY {order}" if dataset.event_time else ""
    engine.execute(
        f"""COPY (SELECT * FROM read_parquet(?) {once} {ordered})
        TO {_text(ready)} (FORMAT parquet, COMPRESSION lz4, ROW_GROUP_SIZE 65536)""",
        [[str(p) for p in found.parts], *([[str(p) for p in found.second]] if once else [])],
    )
    for path in found.parts:
        path.unlink()
    return ready


def _slices(ready: Path, schema: pl.Schema | None, say: Callable[[str], None]) -> Iterator[pl.DataFrame]:
    assert schema is not None
    scan = pl.scan_parquet(ready, glob=False, hive_partitioning=False)
    total = int(scan.select(pl.len()).collect().item())
    for start in range(0, total, SLICE):
        say(f"{start:,} rows stored, {start / total:.0%}")
        yield scan.slice(start, SLICE).select(schema.names()).collect().cast(dict(schema))  # type: ignore[arg-type]


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


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

