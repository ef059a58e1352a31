"""Files as ingredients: what a file or a folder holds, as a digest that is remembered as long as the file surely did not change.

Remembered digests lie in one JSON file. It is replaced whole, so a reader never sees half of it; what two processes write at once may be
lost, which only costs the time to read those files again.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

from treadle.core.errors import ProjectError

MISSING = "missing"
UNREADABLE = "unreadable"
MOST_FILES = 100_000
MOST_REMEMBERED = 200_000
_RACY = 2_000_000_000  # ns; a file changed so shortly before it was read may change again within the same tick of its file system's clock
_SKIPPED = {"__pycache__", ".git"}
_NAME = "file_digests.json"


class FileMemo:
    """Digests of files, trusted while size, times and inode stand. `save` keeps them for the next process.

    Args:
        home: the folder the memo is kept in; without one nothing outlives the process. A folder that is hashed leaves it out.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = os.path.realpath(home) if home is not None else None
        self._known: dict[str, list[Any]] | None = None
        self._new: dict[str, list[Any]] = {}

    def digest(self, path: str | os.PathLike[str]) -> str:
        """SHA-256 of a file's bytes, in hexadecimal. Raises OSError when it cannot be read."""
        name = os.path.realpath(path)
        before = _state(os.stat(name))
        if self._known is None:
            self._known = self._read()
        known = self._new.get(name) or self._known.get(name)
        if known is not None and known[:4] == before:
            return str(known[4])
        now = time.time_ns()
        with open(name, "rb") as file:
            said = hashlib.file_digest(file, "sha256").hexdigest()
            after = _state(os.fstat(file.fileno()))
        if before == after and now - max(before[1], before[2]) > _RACY:
            self._new[name] = [*before, said]
        return said

    def save(self) -> None:
        """Keep what was learned. A memo that cannot be written is no error."""
        if self.home is None or not self._new:
            return
        kept = {**self._read(), **self._new}
        if len(kept) > MOST_REMEMBERED:
            kept = dict(list(kept.items())[-MOST_REMEMBERED:])
        unfinished = ""
        try:
            os.makedirs(self.home, exist_ok=True)
            handle, unfinished = tempfile.mkstemp(prefix=f".{_NAME}.", dir=self.home)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(kept, file, separators=(",", ":"))
            os.replace(unfinished, os.path.join(self.home, _NAME))
        except OSError:
            if unfinished:
                Path(unfinished).unlink(missing_ok=True)
            return
        self._known, self._new = kept, {}

    def _read(self) -> dict[str, list[Any]]:
        """What is kept; nothing when there is none or it is damaged."""
        if self.home is None:
            return {}
        try:
            with open(os.path.join(self.home, _NAME), encoding="utf-8") as file:
                kept = json.load(file)
        except (OSError, ValueError, RecursionError):
            return {}
        return {k: v for k, v in kept.items() if _sound(v)} if isinstance(kept, dict) else {}


def _state(found: os.stat_result) -> list[int]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _sound(entry: Any) -> bool:
    if not isinstance(entry, list) or len(entry) != 5 or any(type(n) is not int for n in entry[:4]):
        return False
    return isinstance(entry[4], str) and len(entry[4]) == 64


def content(path: str | os.PathLike[str], memo: FileMemo | None = None) -> str:
    """What a file or a folder holds: SHA-256, in hexadecimal.

    A folder counts by the sorted names of its files, relative to it, and what they hold; `.git`, `__pycache__` and the memo's own folder are
    left out. A path that ends in '/*' stands for the names in that folder, not for what they hold. Gives 'missing' when there is nothing,
    'unreadable' for what may not be read or is no file.
    Raises: ProjectError for a folder of more than 100,000 files.
    """
    memo = memo or FileMemo()
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            return memo.digest(path)
        if not stat.S_ISDIR(mode):
            return UNREADABLE
    except (FileNotFoundError, NotADirectoryError):
        folder, name = os.path.split(path)
        return _names(folder, memo.home) if name == "*" else MISSING
    except (OSError, ValueError):
        return UNREADABLE
    said = hashlib.sha256(b"folder\n")
    for name, file in sorted(_files(os.fspath(path), memo.home)):
        try:
            held = memo.digest(file) if os.path.isfile(file) else MISSING if os.path.islink(file) else UNREADABLE
        except FileNotFoundError:
            held = MISSING
        except OSError:
            held = UNREADABLE
        said.update(f"{name!r} {held}\n".encode())
    return said.hexdigest()


def _names(folder: str, home: str | None) -> str:
    try:
        names = sorted(n for n in os.listdir(folder) if n not in _SKIPPED and (home is None or os.path.realpath(os.path.join(folder, n)) != home))
    except OSError:
        return MISSING
    return hashlib.sha256(repr(names).encode("utf-8", "surrogateescape")).hexdigest()


def _files(folder: str, home: str | None) -> Iterator[tuple[str, str]]:
    """(name relative to the folder, path) of each file in it; links to folders are followed, each folder once."""
    count = 0
    been = {os.path.realpath(folder), home}
    for at, folders, names in os.walk(folder, followlinks=True):
        kept = []
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(at, name))
            if name not in _SKIPPED and real not in been:
                been.add(real)
                kept.append(name)
        folders[:] = kept
        for name in names:
            count += 1
            if count > MOST_FILES:
                raise ProjectError(
                    f"It holds more than {MOST_FILES:,} files, too many to look at in each run.", where=folder,
                    hint="Name a smaller folder, or pack the files into one.",
                )  # fmt: skip
            file = os.path.join(at, name)
            yield os.path.relpath(file, folder), file


def file_params(params: Mapping[str, Any], folder: Path, memo: FileMemo | None = None) -> dict[str, str]:
    """What the files hold that parameters name: where the parameter is, for example 'path', 'parts[0]' or 'options.file', to a digest.

    A `Path` always names a file or folder ('missing' if there is none). A text does if there is a file of that name, relative to the project
    folder or absolute; a text that names a folder is just a text.

    Args:
        folder: the project folder.
    Raises: ProjectError for a folder of more than 100,000 files.
    """
    memo = memo or FileMemo()
    found: dict[str, str] = {}
    for name, value in params.items():
        for place, path in _paths(str(name), value, os.fspath(folder), ()):
            found[place] = content(path, memo)
    return found


def _paths(place: str, value: Any, folder: str, inside: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if 0 < len(value) < 1000 and "\n" not in value and "\0" not in value:
            path = os.path.join(folder, value)
            try:
                if os.path.isfile(path):
                    yield place, path
            except (OSError, ValueError):  # a surrogate, a name that is too long
                return
    elif isinstance(value, PurePath):
        yield place, os.path.join(folder, os.fspath(value))
    elif isinstance(value, Mapping | list | tuple | set | frozenset) or (is_dataclass(value) and not isinstance(value, type)):
        if id(value) in inside:
            return
        inner = (*inside, id(value))
        if isinstance(value, Mapping):
            entries = [(f"{place}.{key}", entry) for key, entry in value.items()]
        elif isinstance(value, list | tuple):
            entries = [(f"{place}[{i}]", entry) for i, entry in enumerate(value)]
        elif isinstance(value, set | frozenset):
            entries = [(f"{place}[{entry}]", entry) for entry in value if isinstance(entry, str | PurePath)]
        else:
            entries = [(f"{place}.{f.name}", getattr(value, f.name)) for f in fields(value) if hasattr(value, f.name)]
        for name, entry in entries:
            yield from _paths(name, entry, folder, inner)
