"""Traces of a person in bytes: what to look for, and looking for it, also inside Parquet pages and archives, where bytes are packed.

A text is looked for as UTF-8, UTF-16, UTF-32 and as JSON escapes it. One that is short would be found in any file by chance: it counts only where
it stands alone. A short number says nothing at all: it counts as the value of a column, or of a JSON field, that names persons.

>>> marks = Marks(("p-0042", "ada@example.org"))
>>> marks.in_bytes(b'{"who": "p-0042"}'), marks.in_bytes(b"p-0043"), marks.in_bytes("ada@example.org".encode("utf-16"))
(True, False, True)
>>> Marks(("17",), frozenset({"person"})).in_bytes(b'{"n": 17}'), Marks(("17",), frozenset({"person"})).in_bytes(b'{"person": 17}')
(False, True)
"""

from __future__ import annotations

import gzip
import io
import json
import mmap
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

ERASED = "[erased]"
SHORT = 5  # characters below which a text is found anywhere by chance
MOST = 24  # texts that are looked for as bytes
_UNPACKED = 1 << 30  # bytes of one packed file that are looked into
_ALONE = re.compile(r"[0-9a-fA-F]{1,12}")  # stands in digests and numbers by chance
_WEAK = re.compile(r"[\d.]{1,7}|..?", re.DOTALL)  # stands anywhere by chance


@dataclass(frozen=True)
class Marks:
    """What would show that a person is still there.

    Args:
        texts: the person's id, and what only the person's rows hold: name, address, ...
        columns: columns whose whole values are compared with the id, whatever their type.
        crowded: texts that other persons' ids contain, so they count only where they stand alone.
    """

    texts: tuple[str, ...] = field(repr=False)
    columns: frozenset[str] = frozenset()
    crowded: frozenset[str] = frozenset()

    @property
    def subject(self) -> str:
        return self.texts[0]

    @cached_property
    def _loose(self) -> list[bytes]:
        return [spelling for text in self._told if not self._alone(text) for spelling in spellings(text)]

    @cached_property
    def _strict(self) -> re.Pattern[bytes] | None:
        found = [re.escape(spelling) for text in self._told if self._alone(text) for spelling in spellings(text)]
        alone = [rb"(?<![0-9A-Za-z_])(?:" + b"|".join(found) + rb")(?![0-9A-Za-z_])"] if found else []
        said = [self._field().encode()] if self.weak else []
        return re.compile(b"|".join(alone + said)) if alone or said else None

    @cached_property
    def _told(self) -> list[str]:
        return [text for text in self.texts if not _WEAK.fullmatch(text)]

    @property
    def weak(self) -> bool:
        """Whether the id is so short a number that it can only be compared with the values of columns."""
        return _WEAK.fullmatch(self.subject) is not None

    def _field(self) -> str:
        """The id as a field of JSON that names persons."""
        names = "|".join(map(re.escape, sorted(self.columns)))
        return rf'"(?:{names})"\s*:\s*"?{re.escape(self.subject)}(?:\.0)?"?\s*[,}}\]]' if names else r"[^\s\S]"

    @cached_property
    def pattern(self) -> str:
        """A regular expression for them in text, as Python and Polars read it; longer ones first."""
        told = [self._bounded(t) if self._alone(t) else re.escape(t) for t in sorted(self._told, key=len, reverse=True)]
        return "|".join(told + ([self._field()] if self.weak else []))

    @cached_property
    def _words(self) -> re.Pattern[str]:
        return re.compile(self.pattern)

    def _bounded(self, text: str) -> str:
        before, after = (r"\b" if c.isalnum() or c == "_" else "" for c in (text[0], text[-1]))
        return f"{before}{re.escape(text)}{after}"

    def _alone(self, text: str) -> bool:
        return len(text) < SHORT or text in self.crowded or _ALONE.fullmatch(text) is not None

    def in_bytes(self, data: Any) -> bool:
        """Whether any of them stands in bytes (or a memory map)."""
        if any(data.find(spelling) >= 0 for spelling in self._loose):
            return True
        return self._strict is not None and self._strict.search(data) is not None

    def in_text(self, text: str) -> bool:
        """Whether any of them stands in a text."""
        return self._words.search(text) is not None

    def blot(self, text: str) -> str:
        """The text with '[erased]' in their places."""
        return self._words.sub(ERASED, text)

    def blotted(self, value: Any) -> Any:
        """JSON with '[erased]' in their places, in keys too; a number that is the id becomes null."""
        if isinstance(value, str):
            return self.blot(value)
        if isinstance(value, dict):
            return {self.blot(k): None if k in self.columns and self._is(v) else self.blotted(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self.blotted(v) for v in value]
        return value

    def _is(self, value: Any) -> bool:
        return isinstance(value, int | float | str) and not isinstance(value, bool) and str(value).removesuffix(".0").strip() == self.subject

    def in_frame(self, frame: Any) -> bool:
        """Whether any value of a Polars frame holds one of them."""
        import polars as pl

        from treadle.data.suppressed import spelt

        for name, dtype in frame.schema.items():
            if dtype in (pl.String, pl.Categorical, pl.Enum) or dtype.base_type() in (pl.Categorical, pl.Enum):
                texts = frame[name].cast(pl.String).unique().drop_nulls()
                if bool(texts.str.contains(self.pattern).any()) or (name in self.columns and bool((texts.str.strip_chars() == self.subject).any())):
                    return True
            elif name in self.columns and not dtype.is_nested() and dtype != pl.Binary:
                if bool((spelt(frame[name].unique()) == self.subject).any()):
                    return True
            elif (dtype.is_nested() or dtype in (pl.Binary, pl.Object)) and any(
                self.in_bytes(value) if isinstance(value, bytes) else self.in_text(repr(value)) for value in frame[name].to_list()
            ):
                return True
        return False

    def in_file(self, path: Path) -> bool:
        """Whether a file holds any of them: in its bytes, its Parquet pages, or what is packed in it. Raises OSError."""
        with path.open("rb") as file:
            if not path.stat().st_size:
                return False
            head = file.read(8)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                if self.in_bytes(data):
                    return True
        if head.startswith(b"PAR1"):
            return self._in_parquet(path)
        return any(self.in_content(part) for part in unpacked(path, head))

    def in_content(self, data: bytes) -> bool:
        """As `in_file`, of bytes."""
        if self.in_bytes(data):
            return True
        if data.startswith(b"PAR1"):
            return self._in_parquet(data)
        return any(self.in_content(part) for part in unpacked(data, data[:8]))

    def _in_parquet(self, source: Path | bytes) -> bool:
        """Its values, page after page: compressed, they are not in the file's bytes."""
        import polars as pl

        try:
            if isinstance(source, bytes):
                return self.in_frame(pl.read_parquet(io.BytesIO(source)))
            scan = pl.scan_parquet(source, glob=False, hive_partitioning=False)
            return any(self.in_frame(scan.select(name).collect()) for name in scan.collect_schema())
        except pl.exceptions.PolarsError:
            return False  # damaged, and so nothing can be read from it


def spellings(text: str) -> Iterator[bytes]:
    """The bytes a text may stand as. UTF-16 of either order has the same middle, unless it goes beyond Latin letters."""
    plain = text.encode("utf-8", "surrogatepass")
    yield plain
    wide = text.encode("utf-16-le", "surrogatepass")
    yield wide[:-1] if wide.endswith(b"\0") else wide
    if max(text) > "\xff":
        yield text.encode("utf-16-be", "surrogatepass")
    yield text.encode("utf-32-le", "surrogatepass").rstrip(b"\0")
    escaped = json.dumps(text)[1:-1].encode()
    if escaped != plain:
        yield escaped


def unpacked(source: Path | bytes, head: bytes) -> Iterator[bytes]:
    """What is packed in a gzip or zip file, part by part; nothing for another or a damaged one. (A tar holds its files as they are.)"""
    try:
        opened: Any = source if isinstance(source, Path) else io.BytesIO(source)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(opened) as file:
                yield file.read(_UNPACKED)
        elif head.startswith(b"PK"):
            with zipfile.ZipFile(opened) as archive:
                for entry in archive.infolist():
                    yield entry.filename.encode()
                    if entry.file_size <= _UNPACKED:
                        yield archive.read(entry)
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError, NotImplementedError):
        return


def files(folder: Path, *, leave_out: Iterable[Path] = ()) -> Iterator[Path]:
    """Every file beneath a folder, links not followed; nothing where there is no folder."""
    out = {path.resolve() for path in leave_out}
    if folder.is_file():
        yield folder
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink() or entry.resolve() in out:
            continue
        if entry.is_dir():
            yield from files(entry, leave_out=out)
        elif entry.is_file():
            yield entry
