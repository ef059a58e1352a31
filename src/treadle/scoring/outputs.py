"""Where the answers go: a version of a table, a folder of Parquet files, one file (Parquet, CSV, JSON lines), or an object store.

Nothing is written over that another program, or another scoring, put there.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import polars as pl

from treadle.assemble import Workspace
from treadle.core.declare.source import OBJECTS, Source
from treadle.core.errors import Conflict, UsageError
from treadle.scoring.parts import digest_of

SAYS = "_scoring.json"  # beside the parts in a folder: which scoring they are of
FILES = (".parquet", ".csv", ".jsonl", ".ndjson")


class Stores(Protocol):
    """An object store that takes files."""

    def put(self, name: str, path: Path) -> None: ...

    def listed(self, pattern: str) -> Sequence[Any]: ...


def check_output(to: str, *, resumed: bool) -> None:
    """Say now what cannot be written later. `resumed`: what is there may be our own. Raises UsageError, Conflict."""
    if not to:
        return
    scheme = to.partition("://")[0] if "://" in to else ""
    if scheme and scheme not in OBJECTS:
        raise UsageError(f"Answers are not written to {scheme!r}.", hint=f"Give a file, a folder, or an address of {', '.join(OBJECTS)}.")
    if not scheme:
        path = Path(to)
        if _is_file(to) and path.exists() and not resumed:
            raise Conflict(f"{path.name} is there already.", where=str(path.parent), hint="Give another --to; nothing is written over.")
        if not _is_file(to) and path.exists() and (not path.is_dir() or any(path.iterdir())) and not (path / SAYS).exists():
            raise Conflict(f"{path} is there already and is not an empty folder.", hint="Give another --to; nothing is written over.")


def deliver(ws: Workspace, to: str, table: str, parts: Sequence[Path], about: Mapping[str, Any]) -> dict[str, Any]:
    """Bring finished parts to where they were asked for; doing it again finishes what was cut off.

    Args:
        table: the name of the table, when `to` is empty.
    Returns: what the record says of it. Raises Conflict, StorageError, Unavailable.
    """
    if not to:
        commit = ws.tables.commit(table, _frames(parts), mode="replace", key=(), sort=())
        return {"table": table, "number": commit.number, "address": commit.address, "digest": commit.digest}
    digests = [digest_of(p) for p in parts]
    whole_of = [{"file": p.name, "sha256": d} for p, d in zip(parts, digests)]
    said = json.dumps({**about, "status": "done", "parts": whole_of}, indent=2).encode()
    if "://" in to:
        store = cast(Stores, ws.reach(Source("parquet", path=to)))
        if _is_file(to):
            whole = _together(parts, parts[0].with_name("whole" + Path(to).suffix), about)
            if store.listed(to):
                raise Conflict(f"{to} is there already.", hint="Give another --to; nothing is written over.")
            store.put(to, whole)
            return {"object": to, "sha256": digest_of(whole)}
        base = to.rstrip("/")
        for part in parts:
            store.put(f"{base}/{part.name}", part)
        note = parts[0].with_name(SAYS)
        note.write_bytes(said)
        store.put(f"{base}/{SAYS}", note)
        return {"objects": f"{base}/", "parts": len(parts), "sha256": digests}
    target = Path(to)
    target.parent.mkdir(parents=True, exist_ok=True)
    if _is_file(to):
        made = _together(parts, target.with_name(f".{target.name}.unfinished"), about, like=target.suffix)
        digest = digest_of(made)
        if target.exists() and digest_of(target) != digest:  # the same bytes are ours, of a scoring that was cut off here
            made.unlink()
            raise Conflict(f"{target.name} is there already.", where=str(target.parent), hint="Give another --to; nothing is written over.")
        os.replace(made, target)
        return {"file": str(target), "sha256": digest}
    target.mkdir(parents=True, exist_ok=True)
    told = target / SAYS
    if told.exists() and json.loads(told.read_bytes()).get("scoring") != about["scoring"]:
        raise Conflict(f"{target} holds the answers of another scoring.", hint="Give another --to; nothing is written over.")
    _put(told, json.dumps({**about, "status": "under way"}).encode())
    for part, digest in zip(parts, digests):
        place = target / part.name
        if not (place.exists() and digest_of(place) == digest):
            unfinished = place.with_name(f".{place.name}.unfinished")
            shutil.copyfile(part, unfinished)
            _sync(unfinished)
            os.replace(unfinished, place)
    _put(told, said)
    return {"folder": str(target), "parts": len(parts), "sha256": digests}


def _frames(parts: Sequence[Path]) -> Iterator[pl.DataFrame]:
    for part in parts:
        yield pl.read_parquet(part, glob=False)


def _together(parts: Sequence[Path], out: Path, about: Mapping[str, Any], like: str = "") -> Path:
    """One file of all parts, streamed."""
    kind = like or out.suffix
    if kind == ".parquet" and len(parts) == 1:
        shutil.copyfile(parts[0], out)
    else:
        rows = pl.scan_parquet([str(p) for p in parts], glob=False)
        if kind == ".parquet":
            rows.sink_parquet(out, compression="lz4", metadata={str(k): str(v) for k, v in about.items()})
        elif kind == ".csv":
            rows.sink_csv(out)
        else:
            rows.sink_ndjson(out)
    _sync(out)
    return out


def _is_file(to: str) -> bool:
    return to.endswith(FILES)


def _put(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_bytes(content)
    _sync(unfinished)
    os.replace(unfinished, path)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
