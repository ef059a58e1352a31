"""Tables in Delta Lake: one Delta table for each named table, written by us and read by Spark, Polars, delta-rs and whatever else knows the format.

A version is a list of Parquet files named by their SHA-256, cut so that versions share them (`chunks.py`), and one commit in the table's log. Its
commit says which files there are and in which order, so one small file tells all about a version, and reading needs no library for it. The log
is written with delta-rs: the creation of the next number is what makes of two writers one the first. Lone tables are blobs.

Log files are kept for ever (`delta.enableExpiredLogCleanup` is off): they are what makes old versions readable.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from treadle.backends.parquet_tables import ParquetTables, write_parquet
from treadle.backends.table_places import SUFFIX, Bucket, Folder, Place
from treadle.core.canonical import digest as digest_of
from treadle.core.clock import iso
from treadle.core.errors import Conflict, Corrupt, DataError, NotFound, StorageError, UsageError
from treadle.ports.tables import Commit, Mode

if TYPE_CHECKING:
    import polars as pl

    from treadle.ports.blobs import Blobs

ATTEMPTS = 20
_ADDRESS = re.compile(r"(?P<table>[^@]+)@(?P<number>[0-9]+):(?P<digest>[0-9a-f]{64})")
_NUMBER = re.compile(r"([0-9]{20})\.json")
_DATA = re.compile(r"[0-9a-f]{64}\.parquet")
_FORMAT = 1
_PART = 1 << 22  # rows whose keys are compared at once
_KEPT = {"delta.enableExpiredLogCleanup": "false", "delta.logRetentionDuration": "interval 36500 days"}


@dataclass(frozen=True, slots=True)
class _File:
    digest: str
    rows: int
    bytes: int


@dataclass(frozen=True)
class _Version:
    """What the commit of a version says."""

    table: str
    number: int
    said: dict[str, Any]

    @cached_property
    def files(self) -> list[_File]:
        return [_File(*file) for file in self.said["files"]]

    @cached_property
    def schema(self) -> pl.Schema:
        import polars as pl

        from treadle.backends.stored_types import read_type

        return pl.Schema([(name, read_type(spelled)) for name, spelled in self.said["schema"]])

    @property
    def address(self) -> str:
        return f"{self.table}@{self.number}:{self.said['digest']}"

    @property
    def shown(self) -> bool:
        """Whether it is a version of its own: not dropped, and not only a mark that rows were erased."""
        return not self.said.get("dropped") and not self.said.get("mark")

    def commit(self) -> Commit:
        said = self.said
        return Commit(
            self.table, self.number, self.address, said["digest"], said["rows"], sum(f.bytes for f in self.files), said["added"], said["changed"],
            said["removed"], said["moment"],
        )  # fmt: skip


class DeltaTables:
    """Named tables in Delta Lake below one root, and lone tables in a blob store.

    Args:
        root: a folder, or `s3://bucket/prefix?cache=/folder&cache_gb=20`.
    """

    def __init__(self, root: str | Path, blobs: Blobs) -> None:
        self._root, self._blobs = str(root), blobs
        self._place: Place = Bucket(self._root) if self._root.startswith("s3:") else Folder(Path(self._root))
        self._lone = ParquetTables(blobs)

    def __reduce__(self) -> tuple[object, ...]:
        return (DeltaTables, (self._root, self._blobs))

    def put(self, frame: pl.DataFrame) -> str:
        return self._lone.put(frame)

    def scan(self, address: str) -> pl.LazyFrame:
        import polars as pl

        from treadle.backends.stored_types import as_given

        if not _named(address):
            return self._lone.scan(address)
        version = self._version(address)
        if not version.files:
            return pl.LazyFrame(schema=version.schema)
        paths = [self._local(version, file) for file in version.files]
        return as_given(pl.scan_parquet(paths, glob=False, hive_partitioning=False), version.schema)

    def files(self, address: str) -> list[Path]:
        if not _named(address):
            return self._lone.files(address)
        version = self._version(address)
        return [self._local(version, file) for file in version.files]

    def exists(self, address: str) -> bool:
        if not _named(address):
            return self._lone.exists(address)
        try:
            version = self._version(address)
        except NotFound:
            return False
        held = self._place.names(_folder(version.table)) if version.files else {}
        return all(file.digest + SUFFIX in held for file in version.files)

    def verify(self, address: str) -> None:
        if not _named(address):
            return self._lone.verify(address)
        version = self._version(address)
        for file in version.files:
            self._place.verify(_folder(version.table), file.digest)
        return None

    def discard(self, address: str) -> int:
        if not _named(address):
            return self._lone.discard(address)
        version = self._version(address)
        removed = 0
        for file in version.files:
            try:
                self._place.verify(_folder(version.table), file.digest)
            except Corrupt:
                self._place.remove(f"{_folder(version.table)}/{file.digest}{SUFFIX}")
                removed += 1
            except NotFound:
                continue
        return removed

    def commits(self, table: str) -> list[Commit]:
        return [version.commit() for version in self._versions(table) if version.shown]

    def names(self) -> list[str]:
        return [unquote(folder.replace("!", "%")) for folder in self._place.tables()]

    def commit(
        self, table: str, rows: pl.DataFrame | Iterable[pl.DataFrame], *, mode: Mode, key: Sequence[str], sort: Sequence[str],
        expect: int | None = None, remove: pl.DataFrame | None = None,
    ) -> Commit:  # fmt: skip
        import polars as pl

        _check(table)
        if mode not in ("replace", "append", "upsert"):
            raise UsageError(f"{mode!r} is no way to commit rows.", hint="Use 'replace', 'append' or 'upsert'.")
        pieces = [rows.sort(*sort, maintain_order=True) if sort else rows] if isinstance(rows, pl.DataFrame) else rows
        writer: _Writer | None = None
        with self._place.lock(_folder(table), alone=False):
            for attempt in range(ATTEMPTS):
                head = self._newest(table)
                number = head.said.get("version", head.number) if head else -1
                if expect is not None and number != expect:
                    raise Conflict(
                        f"Table {table!r} has version {number} by now, and not {expect}, which these rows go on from.", hint="Take the data again."
                    )
                if mode == "replace" or head is None:
                    if writer is None:  # rows that came in pieces can be read once only, and their files are there when we come again
                        writer = _Writer(self._place, table, list(key) or None)
                        writer.all(pieces)
                else:
                    if attempt == 0:
                        whole = list(pieces)
                        if not whole:
                            raise DataError("There are no rows to commit, not even their columns.", where=f"table {table!r}")
                        pieces = [pl.concat(whole)]
                    writer = self._merged(head, pieces[0], mode, key, sort, remove)  # type: ignore[index]
                made = writer.version(mode, key, sort)
                if head is not None and self._same(head, made, writer):
                    return self._shown(head).commit()
                if head is not None:
                    added, changed, removed = self._differences(head, made, list(key)) if writer.counts is None else writer.counts
                    made = replace(made, said={**made.said, "added": added, "changed": changed, "removed": removed})
                if self._append(made, head):
                    self._look_again(made, writer)
                    return made.commit()
                time.sleep(0.01 * attempt)
        raise Conflict(f"Table {table!r} is written by others all the time.", hint="Try again.")

    def drop(self, table: str, numbers: Iterable[int]) -> int:
        wanted = set(numbers)
        with self._place.lock(_folder(table), alone=True):
            versions = self._versions(table)
            shown = [v for v in versions if v.shown]
            if not shown:
                raise NotFound(f"There is no table {table!r}.", where=self._place.shown)
            if shown[-1].number in wanted:
                raise Conflict(f"Version {shown[-1].number} is the newest of table {table!r} and cannot be dropped.", hint="Drop older ones.")
            going = [v for v in shown if v.number in wanted]
            for version in going:
                self._say_again(version, {**version.said, "dropped": iso(datetime.now(UTC))})
            kept = {f.digest for v in versions if v.number not in wanted and not v.said.get("dropped") for f in v.files}
            # Also files of versions dropped before, when the removal was interrupted.
            gone = {f.digest: f for v in versions if v.number in wanted or v.said.get("dropped") for f in v.files if f.digest not in kept}
            held = self._place.names(_folder(table))
            freed = 0
            for digest in gone:
                if digest + SUFFIX in held:
                    self._place.remove(f"{_folder(table)}/{digest}{SUFFIX}")
                    freed += held[digest + SUFFIX][0]
        return freed

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        removed = self._place.sweep(older_than_seconds)
        for table in self.names():
            with self._place.lock(_folder(table), alone=True):
                limit = time.time() - older_than_seconds
                held = self._place.names(_folder(table))
                kept = {f.digest + SUFFIX for v in self._versions(table) if not v.said.get("dropped") for f in v.files}
                for name, (_, written) in held.items():
                    if name not in kept and written <= limit and _DATA.fullmatch(name):
                        self._place.remove(f"{_folder(table)}/{name}")
                        removed += 1
        return removed

    def rewrite(self, addresses: Iterable[str], change: Callable[[pl.LazyFrame], pl.LazyFrame]) -> dict[str, str]:
        from treadle.backends.table_rewrite import rewrite_lone, rewrite_table

        asked = list(dict.fromkeys(addresses))
        tables = list(dict.fromkeys(_parsed(a)[0] for a in asked if _named(a)))
        told = {a: rewrite_lone(self, self._lone, self._blobs, a, change) for a in asked if not _named(a)}
        for table in tables:
            _check(table)
            with self._place.lock(_folder(table), alone=True):
                told.update(rewrite_table(self, table, change))
        for address in asked:  # an address from before a rewriting that was interrupted is the one its version has now
            if address not in told:
                number = _parsed(address)[1]
                now = next((v for v in self._versions(_parsed(address)[0]) if v.number == number), None)
                if now is not None:
                    told[address] = now.address
        return told

    # What the log says

    def _versions(self, table: str) -> list[_Version]:
        return [v for number in self._numbers(table) if (v := self._at(table, number)) is not None]

    def _numbers(self, table: str) -> list[int]:
        return sorted(int(m[1]) for name in self._place.names(f"{_folder(table)}/_delta_log") if (m := _NUMBER.fullmatch(name)))

    def _at(self, table: str, number: int) -> _Version | None:
        """One version by its number; None for a commit of another program. Raises NotFound."""
        try:
            text = self._place.read(_log(table, number))
        except FileNotFoundError:
            raise NotFound(f"Table {table!r} has no version {number}.", where=self._place.shown, hint="See: treadle data versions") from None
        for line in text.splitlines():
            if line.startswith(b'{"commitInfo"'):
                said = json.loads(line)["commitInfo"].get("treadle")
                return _Version(table, number, said) if said else None
        return None

    def _newest(self, table: str) -> _Version | None:
        numbers = self._numbers(table)
        if not numbers:
            return None
        found = self._at(table, numbers[-1])
        if found is None:
            raise Conflict(
                f"Version {numbers[-1]} of table {table!r} was written by another program.", where=self._place.uri(_folder(table)),
                hint="Only Treadle writes its tables; restore the version before it with that program.",
            )  # fmt: skip
        return found

    def _shown(self, version: _Version) -> _Version:
        """The version itself, where this one is only a mark."""
        if version.shown:
            return version
        real = self._at(version.table, version.said["version"])
        return real if real is not None else version

    def _version(self, address: str) -> _Version:
        table, number, digest = _parsed(address)
        found = self._at(table, number)
        if found is None or found.said["digest"] != digest:
            raise NotFound(
                f"Version {number} of table {table!r} holds other rows now.", where=self._place.shown,
                hint="Rows were erased from it; its record says its present address.",
            )  # fmt: skip
        if found.said.get("dropped"):
            raise NotFound(f"Version {number} of table {table!r} was dropped at {found.said['dropped']}.", where=self._place.shown)
        return found

    def _local(self, version: _Version, file: _File) -> Path:
        return self._place.local(_folder(version.table), file.digest)

    def _load(self, version: _Version, file: _File, columns: Sequence[str] | None = None) -> pl.LazyFrame:
        """The rows of one file, as they are stored."""
        import polars as pl

        scanned = pl.scan_parquet(self._local(version, file), glob=False, hive_partitioning=False)
        return scanned if columns is None else scanned.select(columns)

    # What makes a version

    def _merged(
        self, head: _Version, rows: pl.DataFrame, mode: str, key: Sequence[str], sort: Sequence[str], remove: pl.DataFrame | None
    ) -> _Writer:
        """The newest version with the rows in it."""
        from treadle.backends.stored_types import as_stored
        from treadle.backends.table_merge import compare, merge

        schema, incoming = _aligned(head, rows)
        writer = _Writer(self._place, head.table, list(key) or None, schema)
        stored_schema = as_stored(incoming.head(0)).schema
        wider = [name for name in schema if name not in head.schema]

        def load(file: _File, columns: Sequence[str] | None) -> pl.LazyFrame:
            import polars as pl

            found = self._load(head, file)
            if wider:
                found = found.with_columns(pl.lit(None, stored_schema[name]).alias(name) for name in wider).select(list(schema))
            return found if columns is None else found.select(list(columns))

        gone = as_stored(remove.select(list(key)).cast({k: schema[k] for k in key})) if remove is not None and remove.height else None
        merged = compare(head.files, load, as_stored(incoming), mode=mode, key=key, sort=sort, remove=gone)
        if merged.rows.height or merged.removed or wider:
            chunks = merge(head.files, load, stored_schema, merged, by=key, key=key, sort=sort)
            for chunk in chunks:
                if isinstance(chunk, _File):
                    if wider:
                        writer.chunk(load(chunk, None).collect())
                    else:
                        writer.share(chunk)
                else:
                    writer.chunk(chunk)
        else:
            for file in head.files:
                writer.share(file)
        writer.counts = (merged.added, merged.changed, merged.removed)
        return writer

    def _same(self, head: _Version, made: _Version, writer: _Writer) -> bool:
        """Whether this is what the newest version holds. The same rows may have other bytes when another version of Polars wrote them."""
        if head.said["digest"] == made.said["digest"]:
            return True
        if head.said["schema"] != made.said["schema"] or head.said["rows"] != made.said["rows"] or not made.files:
            return False
        if head.said.get("polars") == made.said["polars"] or {f.digest for f in head.files} & {f.digest for f in made.files}:
            return False
        with suppress(NotFound):
            return all(a.equals(b, null_equal=True) for a, b in zip(self._slices(head), self._slices(made)))
        return False

    def _slices(self, version: _Version, rows: int = 1 << 16) -> Iterator[pl.DataFrame]:
        """All rows in pieces of one size."""
        import polars as pl

        rest: pl.DataFrame | None = None
        for file in version.files:
            read = self._load(version, file).collect()
            rest = read if rest is None else pl.concat([rest, read])
            while rest.height >= rows:
                yield rest[:rows]
                rest = rest[rows:]
        if rest is not None and rest.height:
            yield rest

    def _differences(self, head: _Version, made: _Version, key: list[str]) -> tuple[int, int, int]:
        """Rows added, changed and removed, by key; files that both have are not read."""
        import polars as pl

        before, after = {f.digest for f in head.files}, {f.digest for f in made.files}
        old, new = [f for f in head.files if f.digest not in after], [f for f in made.files if f.digest not in before]
        comparable = [k for k in key if head.schema.get(k) == made.schema.get(k)]
        by = comparable if key and len(comparable) == len(key) else []
        parts = 1 + (sum(f.rows for f in old) + sum(f.rows for f in new)) // _PART

        def narrow(version: _Version, files: list[_File], part: int) -> pl.DataFrame:
            found = []
            for file in files:
                frame = self._load(version, file).collect()
                keys = frame.select(by) if by else frame.select(frame.hash_rows(seed=1).alias("__row__"))
                said = keys.with_columns(frame.hash_rows(seed=0).alias("__hash__"))
                found.append(said.filter(keys.hash_rows(seed=2) % parts == part) if parts > 1 else said)
            return pl.concat(found, how="vertical_relaxed") if found else pl.DataFrame()

        added = changed = removed = 0
        for part in range(parts):
            try:
                a, b = narrow(head, old, part), narrow(made, new, part)
            except (NotFound, Corrupt):  # what is gone cannot be compared: it counts as gone
                return sum(f.rows for f in new), 0, sum(f.rows for f in old)
            if a.width and b.width:
                on = by or ["__row__"]
                both = a.join(b, on=on, how="inner", nulls_equal=True, suffix=":new")
                changed += both.select((pl.col("__hash__") != pl.col("__hash__:new")).sum()).item()
                added, removed = added + max(0, b.height - both.height), removed + max(0, a.height - both.height)
            else:
                added, removed = added + b.height, removed + a.height
        return added, changed, removed

    def _append(self, made: _Version, head: _Version | None) -> bool:
        """Write the commit after `head`; False when somebody else did."""
        if importlib.util.find_spec("deltalake") is None:
            raise UsageError("Keeping versions of data needs the package deltalake, which is not installed.", hint="Run: pip install 'treadle[data]'")
        from deltalake import DeltaTable, Schema
        from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
        from deltalake.transaction import CommitProperties, PostCommitHookProperties, RemoveAction, create_table_with_add_actions

        from treadle.backends.stored_types import delta_schema

        uri, now = self._place.uri(_folder(made.table)), int(time.time() * 1000)
        number = 0 if head is None else head.number + 1
        made.said["moment"] = iso(datetime.now(UTC))
        object.__setattr__(made, "number", number)
        properties = CommitProperties(custom_metadata={"treadle": made.said}, max_commit_retries=0)
        hooks = PostCommitHookProperties(create_checkpoint=True, cleanup_expired_logs=False)
        schema = Schema.from_json(json.dumps(delta_schema(made.schema)))
        options = self._place.options
        try:
            if head is None:
                create_table_with_add_actions(
                    uri, schema, [_add(f, now) for f in made.files], "error", name=made.table, configuration=_KEPT, storage_options=options,
                    commit_properties=properties, post_commithook_properties=hooks,
                )  # fmt: skip
            else:
                table = DeltaTable(uri, version=head.number, storage_options=options)
                if self._numbers(made.table)[-1] != head.number:
                    return False
                before, after = {f.digest for f in head.files}, {f.digest for f in made.files}
                changes: list[Any] = [_add(f, now) for f in made.files if f.digest not in before]
                mode = "append"
                if head.said["schema"] != made.said["schema"]:
                    mode = "overwrite"
                else:
                    changes += [RemoveAction(f.digest + SUFFIX, True, now, f.bytes, {}) for f in head.files if f.digest not in after]
                table.create_write_transaction(changes, mode, schema, commit_properties=properties, post_commithook_properties=hooks)
        except (CommitFailedError, TableNotFoundError):
            return False
        except (DeltaError, OSError) as error:
            if "already exists" in str(error):
                return False
            raise _refused(error, uri) from error
        self._place.settle(_log(made.table, number))
        return True

    def _look_again(self, made: _Version, writer: _Writer) -> None:
        """Files that were there already may have been removed between then and the commit, where there is no lock; they are here in the cache."""
        held = self._place.names(_folder(made.table))
        for file in made.files:
            if file.digest + SUFFIX not in held:
                copy = self._place.writing(_folder(made.table))
                copy.write_bytes(self._local(made, file).read_bytes())
                self._place.add(_folder(made.table), copy, file.digest)

    def _say_again(self, version: _Version, said: dict[str, Any]) -> None:
        """Change what the commit of a version says about itself. To Delta Lake it is a remark."""
        lines = self._place.read(_log(version.table, version.number)).splitlines()
        for i, line in enumerate(lines):
            if line.startswith(b'{"commitInfo"'):
                told = json.loads(line)
                told["commitInfo"]["treadle"] = said
                lines[i] = json.dumps(told).encode()
        self._place.replace(_log(version.table, version.number), b"\n".join(lines) + b"\n")


class _Writer:
    """Stores the chunks of one version and remembers them in order."""

    def __init__(self, place: Place, table: str, by: list[str] | None, schema: pl.Schema | None = None) -> None:
        self._place, self._table, self._by = place, table, by
        self._held = {n for n, (size, _) in place.names(_folder(table)).items() if size}
        self.schema = schema
        self.files: list[_File] = []
        self.counts: tuple[int, int, int] | None = None

    def all(self, pieces: Iterable[pl.DataFrame]) -> None:
        """Frames with the types they were given in, in order."""
        from treadle.backends.chunks import cut
        from treadle.backends.stored_types import as_stored

        def stored() -> Iterator[pl.DataFrame]:
            for piece in pieces:
                if self.schema is None:
                    self.schema = piece.schema
                elif piece.schema != self.schema:
                    raise DataError(f"The rows come with other columns or types than those before them: {dict(piece.schema)}.", where=self._table)
                yield as_stored(piece)

        for chunk in cut(stored(), self._by or []):
            self.chunk(chunk)
        if self.schema is None:
            raise DataError("There are no rows to commit, not even their columns.", where=f"table {self._table!r}")

    def share(self, file: _File) -> None:
        self.files.append(file)

    def chunk(self, chunk: pl.DataFrame) -> None:
        """Store a chunk, unless a file with these bytes is there."""
        pending = self._place.writing(_folder(self._table))
        try:
            notes: dict[str, str] = {}
            while True:
                write_parquet(chunk, pending, **notes)
                with pending.open("rb") as opened:
                    digest = hashlib.file_digest(opened, "sha256").hexdigest()
                if all(f.digest != digest for f in self.files):
                    break
                notes = {"repeated": str(int(notes.get("repeated", "0")) + 1)}  # the very same rows again: a table names a file only once
            file = _File(digest, chunk.height, pending.stat().st_size)
            if digest + SUFFIX not in self._held:
                self._place.add(_folder(self._table), pending, digest)
        finally:
            with suppress(OSError):
                pending.unlink(missing_ok=True)
        self.files.append(file)

    def version(self, mode: str, key: Sequence[str], sort: Sequence[str]) -> _Version:
        """What is to be committed: as the first version, if there is none before it."""
        import polars as pl

        from treadle.backends.stored_types import spelled

        assert self.schema is not None
        schema = [[name, spelled(dtype)] for name, dtype in self.schema.items()]
        rows = sum(f.rows for f in self.files)
        said = {
            "format": _FORMAT, "digest": digest_of([schema, [f.digest for f in self.files]]), "schema": schema, "rows": rows,
            "files": [[f.digest, f.rows, f.bytes] for f in self.files], "mode": mode, "key": list(key), "sort": list(sort),
            "added": rows, "changed": 0, "removed": 0, "polars": pl.__version__,
        }  # fmt: skip
        return _Version(self._table, 0, said)


def _aligned(head: _Version, rows: pl.DataFrame) -> tuple[pl.Schema, pl.DataFrame]:
    """The columns of a table with these rows in it, and the rows with those columns. Raises DataError when a type changed."""
    import polars as pl

    for name, dtype in head.schema.items():
        if name in rows.columns and rows.schema[name] != dtype:
            raise DataError(
                f"Column {name!r} holds {rows.schema[name]} now, and {dtype} in what is stored.", where=f"table {head.table!r}",
                hint="Read the whole source again, so that all rows get the new type.",
            )  # fmt: skip
    schema = pl.Schema({**head.schema, **{n: t for n, t in rows.schema.items() if n not in head.schema}})
    lacking = [pl.lit(None, t).alias(n) for n, t in schema.items() if n not in rows.columns]
    return schema, rows.with_columns(lacking).select(list(schema))


def _add(file: _File, moment: int) -> Any:
    from deltalake.transaction import AddAction

    # No smallest and largest values: they would be data, in a place that is read by everybody.
    return AddAction(file.digest + SUFFIX, file.bytes, {}, moment, True, json.dumps({"numRecords": file.rows}))


def _refused(error: Exception, uri: str) -> Exception:
    said = str(error).splitlines()[0]
    return StorageError(f"Delta Lake could not write its log: {said}", where=uri, hint="Nothing was changed. Make room or give the right to write.")


def _named(address: str) -> bool:
    return "@" in address


def _parsed(address: str) -> tuple[str, int, str]:
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise NotFound(f"{address!r} is no address of a table.")
    return found["table"], int(found["number"]), found["digest"]


def _check(table: str) -> None:
    if not table or table.startswith(".") or "@" in table or len(table) > 200:
        raise UsageError(f"{table!r} is no name of a table.", hint="Use letters, digits, - and _.")


def _folder(table: str) -> str:
    return quote(table, safe="").replace("%", "!")  # delta-rs reads % in a path in two ways


def _log(table: str, number: int) -> str:
    return f"{_folder(table)}/_delta_log/{number:020}.json"
