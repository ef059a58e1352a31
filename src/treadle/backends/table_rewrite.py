"""Taking rows out of what is stored for good: from every version of a table, its log included, and from lone tables.

New files are written first, then the log's commits are replaced one by one, oldest first, then a commit that changes nothing is added, and only
then are the old files removed. Each commit lists all files of its version, so at any moment each version can be read, as it was or as it is to be.
Whoever prepared a version from the old files finds the added commit in his way, and starts again from the new ones. Done again, it finishes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from treadle.backends.table_places import SUFFIX
from treadle.core.errors import NotFound

if TYPE_CHECKING:
    import polars as pl

    from treadle.backends.delta_tables import DeltaTables, _Version
    from treadle.backends.parquet_tables import ParquetTables
    from treadle.ports.blobs import Blobs

Change = Callable[["pl.LazyFrame"], "pl.LazyFrame"]


def rewrite_table(store: DeltaTables, table: str, change: Change) -> dict[str, str]:
    """Rewrite every version; old address to new address. The caller keeps other writers out where that is possible."""
    from treadle.backends.delta_tables import _folder

    told: dict[str, str] = {}
    whole: set[str] = set()  # files that hold nothing to be taken out
    while True:
        numbers = store._numbers(table)
        changed = False
        before: _Version | None = None
        for number in numbers:
            version = store._at(table, number)
            if version is None:
                raise NotFound(f"Version {number} of table {table!r} was written by another program.", where=store._place.uri(_folder(table)))
            now = version if version.said.get("dropped") else _without(store, version, change, whole)
            if now.address != version.address:
                if not changed:
                    _remove_summaries(store, table)
                changed = True
                for old, new in told.items():
                    told[old] = now.address if new == version.address else new
            if not version.said.get("dropped") and not version.said.get("mark"):
                told.setdefault(version.address, now.address)
            if now.address != version.address or _stale(store, now, before):
                _write_log(store, version, now, before)
            before = now
        if not changed or before is None or _mark(store, before):
            break
    _remove_summaries(store, table)
    kept = {f.digest + SUFFIX for v in store._versions(table) if not v.said.get("dropped") for f in v.files}
    for name in store._place.names(_folder(table)):
        if name not in kept and name.endswith(SUFFIX):
            store._place.remove(f"{_folder(table)}/{name}")
    store._place.clear(_folder(table))
    return told


def rewrite_lone(store: DeltaTables, lone: ParquetTables, blobs: Blobs, address: str, change: Change) -> str:
    """Rewrite a lone table; its new address."""
    note = f".rewritten/{address}"
    if not lone.exists(address):
        try:  # an earlier attempt came as far as removing it
            return store._place.read(note).decode()
        except FileNotFoundError:
            raise NotFound(f"There is no table {address!r}.") from None
    frame = lone.scan(address).collect()
    left = change(frame.lazy()).collect()
    if left.equals(frame, null_equal=True):
        return address
    new = lone.put(left)
    store._place.replace(note, new.encode())
    blobs.delete(address)
    return new


def _without(store: DeltaTables, version: _Version, change: Change, whole: set[str]) -> _Version:
    """The version with the rows gone; itself if it has none of them."""
    from treadle.backends.chunks import Chunker, target_rows
    from treadle.backends.delta_tables import _Writer
    from treadle.backends.stored_types import as_given, as_stored

    if all(file.digest in whole for file in version.files):
        return version
    writer = _Writer(store._place, version.table, version.said["key"] or None, version.schema)
    chunker: Any = None
    for file in version.files:
        if file.digest in whole and (chunker is None or chunker.between):
            writer.share(file)
            continue
        frame = store._load(version, file).collect()
        left = frame if file.digest in whole else as_stored(change(as_given(frame.lazy(), version.schema)).collect())
        if left.equals(frame, null_equal=True):
            whole.add(file.digest)
            if chunker is None or chunker.between:
                writer.share(file)
                continue
        if chunker is None:
            chunker = Chunker(version.said["key"], target_rows(frame.schema))
        for chunk in chunker.feed(left):
            writer.chunk(chunk)
    for chunk in chunker.finish() if chunker is not None else ():
        writer.chunk(chunk)
    whole.update(file.digest for file in writer.files)
    made = writer.version(version.said["mode"], version.said["key"], version.said["sort"])
    kept = {k: v for k, v in version.said.items() if k not in made.said or k in ("added", "changed", "removed")}
    return type(version)(version.table, version.number, {**made.said, **kept})


def _active(version: _Version | None) -> dict[str, Any]:
    return {} if version is None else {f.digest + SUFFIX: f for f in version.files}


def _lines(store: DeltaTables, version: _Version) -> list[dict[str, Any]]:
    from treadle.backends.delta_tables import _log

    return [json.loads(line) for line in store._place.read(_log(version.table, version.number)).splitlines() if line.strip()]


def _stale(store: DeltaTables, version: _Version, before: _Version | None) -> bool:
    """Whether the commit does not lead from the version before to this one, because that one was rewritten."""
    lines = _lines(store, version)
    added = {line["add"]["path"] for line in lines if "add" in line}
    removed = {line["remove"]["path"] for line in lines if "remove" in line}
    old, new = _active(before), _active(version)
    return added != new.keys() - old.keys() or removed != old.keys() - new.keys()


def _write_log(store: DeltaTables, version: _Version, now: _Version, before: _Version | None) -> None:
    from treadle.backends.delta_tables import _log

    lines = _lines(store, version)
    said = next(line["commitInfo"] for line in lines if "commitInfo" in line)
    old, new = _active(before), _active(now)
    moment = int(said["timestamp"])
    out: list[dict[str, Any]] = [{"commitInfo": {**said, "treadle": now.said}}]
    out += [line for line in lines if "protocol" in line or "metaData" in line]
    out += [
        {"add": {"path": p, "partitionValues": {}, "size": f.bytes, "modificationTime": moment, "dataChange": True,
                 "stats": json.dumps({"numRecords": f.rows})}}
        for p, f in new.items() if p not in old
    ]  # fmt: skip
    out += [
        {"remove": {"path": p, "dataChange": True, "deletionTimestamp": moment, "extendedFileMetadata": True, "partitionValues": {}, "size": f.bytes}}
        for p, f in old.items() if p not in new
    ]  # fmt: skip
    store._place.replace(_log(now.table, now.number), b"".join(json.dumps(line).encode() + b"\n" for line in out))


def _remove_summaries(store: DeltaTables, table: str) -> None:
    """Checkpoints and the like, made from the log as it was; Delta Lake reads the commits themselves where there are none."""
    from treadle.backends.delta_tables import _NUMBER, _folder

    log = f"{_folder(table)}/_delta_log"
    for name in sorted(store._place.names(log)):  # _last_checkpoint last would name one that is gone; readers then look themselves
        if not _NUMBER.fullmatch(name):
            store._place.remove(f"{log}/{name}")


def _mark(store: DeltaTables, newest: _Version) -> bool:
    """Add a commit that changes nothing; False when somebody else committed first."""
    real = newest.said.get("version", newest.number)
    said = {**newest.said, "mark": "rows were erased", "version": real}
    return store._append(type(newest)(newest.table, newest.number + 1, said), newest)
