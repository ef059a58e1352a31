"""Where an erasure looks for a person: the bytes of every store of this project, on this machine and in buckets, and files of no store."""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from treadle.assemble import Workspace
from treadle.core.errors import NotFound
from treadle.data import suppressed
from treadle.governance import erased_answers, erasure
from treadle.governance.erasure import Plan
from treadle.governance.traces import Marks, files
from treadle.ports.online import Key
from treadle.ports.scrub import Scrubbable
from treadle.serving.logged import hashed_value

STAYS = ("event ", "link ", "metric ")  # never changed once written
_LEFTOVERS = ("treadle-table-*", "treadle-reproduce-*", "treadle-blobs-*")
_ABANDONED = 3600.0  # seconds after which a temporary folder has been left over


def search(ws: Workspace, plan: Plan, needed: Callable[[], set[str]]) -> tuple[dict[str, Any], list[str]]:
    """(how much was searched, where something was found). `needed`: addresses of blobs that something on record names."""
    marks = plan.marks
    searched: Counter[str] = Counter()
    found: list[str] = []
    for path in files(ws.settings.home):
        with suppress(FileNotFoundError):
            searched["files"] += 1
            searched["bytes"] += path.stat().st_size
            if marks.in_file(path):
                found.append(f"file {path.relative_to(ws.settings.home)}")
    assert isinstance(ws.ledger, Scrubbable)
    for ref, text in ws.ledger.everything():
        searched["records"] += 1
        if marks.in_text(text):
            found.append(f"{ref.kind} {ref.id}" if not marks.in_text(ref.id) else f"{ref.kind} (its id)")
    for setting in ("blobs", "tables"):
        if _inside(ws, setting):
            continue
        if "s3" in urlsplit(ws.settings[setting]).scheme:
            from treadle.backends.s3_objects import objects

            for name, data in objects(ws.settings[setting]):
                searched["objects"] += 1
                if marks.in_content(data):
                    found.append(f"object {marks.blot(name)}")
        for folder in (p for p in _paths(ws, setting) if p.is_dir()):
            for path in files(folder):
                searched["files"] += 1
                if marks.in_file(path):
                    found.append(f"file {path.relative_to(folder)}")
    shared = needed() if plan.files else set()
    found += [f"file blobs/{a[:2]}/{a[2:]}" for a in plan.files if a not in shared and ws.blobs.exists(a)]
    for view, keys in plan.entities.items():
        left = sum(v is not None for v in ws.online.get_many([Key(view, key) for key in keys]))
        searched["online keys"] += len(keys)
        if left:
            found.append(f"online view {view}: {left} values")
            ws.online.forget(view, keys)
    told = logged(ws, marks)
    if told or ws.has_opened("predictions"):
        searched["predictions"] += sum(ws.predictions.count(model)[0] for model in ws.project.models)
    found += [f"prediction log of {model or 'outcomes alone'}: {len(ids)} predictions" for model, ids in told.items()]
    if any(place.startswith(STAYS) for place in found):  # then of course the ledger's own files hold it
        own = {f"file {p.relative_to(ws.settings.home)}" for p in _paths(ws, "ledger") if p.is_relative_to(ws.settings.home)}
        found = [place for place in found if place not in own]
    return dict(searched), found


def logged(ws: Workspace, marks: Marks) -> dict[str, list[str]]:
    """The predictions about a person, by model."""
    place = _paths(ws, "predictions")
    if place and not place[0].exists():  # nothing was ever asked; looking must not make the file
        return {}
    named = [c for columns in erasure.person_columns(ws.project).values() for c in columns]
    hashed = None
    with suppress(NotFound):  # a log holds no hashes if there is no key
        key = suppressed.read_key(ws.settings.home)
        hashed = lambda text: hashed_value(key, text)  # noqa: E731
    return erased_answers.predictions_of(ws.predictions, ws.project.models, named, marks, hashed)


def loose_files(ws: Workspace) -> Iterator[Path]:
    """Files of the home that belong to no store, and what programs that died left among the temporary files."""
    home = ws.settings.home
    yield from files(home, leave_out=_stores(ws))
    for pattern in _LEFTOVERS:
        for folder in Path(tempfile.gettempdir()).glob(pattern):
            with suppress(OSError):
                said = folder.stat()
                if said.st_uid == os.getuid() and said.st_mtime < time.time() - _ABANDONED:  # a younger one may be in use
                    yield from files(folder)
    for folder in _caches(ws):
        yield from files(folder)


def _paths(ws: Workspace, setting: str) -> list[Path]:
    """The files or the folder of a store on this machine; nothing for one elsewhere."""
    address = ws.settings.values.get(setting, "")
    parts = urlsplit(address)
    if parts.scheme not in ("sqlite", "file", "delta", "parquet") or not parts.path:
        return []
    path = Path(parts.path[1:] if parts.path.startswith("//") else parts.path)
    return [path, *(path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal"))]


def _stores(ws: Workspace) -> list[Path]:
    return [p for name in ("ledger", "blobs", "tables", "online", "predictions") for p in _paths(ws, name)] + [ws.settings.home / suppressed.KEY_FILE]


def _caches(ws: Workspace) -> list[Path]:
    """Where copies of what lies in buckets are kept on this machine."""
    found = []
    for setting in ("blobs", "tables"):
        parts = urlsplit(ws.settings[setting])
        if "s3" in parts.scheme:
            usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "treadle" / setting
            found.append(Path(dict(parse_qsl(parts.query)).get("cache") or usual))
    return found


def _inside(ws: Workspace, setting: str) -> bool:
    """Whether a store lies in the home, and is searched with it."""
    home = ws.settings.home.resolve()
    return any(p.resolve().is_relative_to(home) for p in _paths(ws, setting))
