"""Who was erased stays out: rows of erased persons are dropped when a source is read again, by a keyed hash that names nobody.

The ledger keeps, in records of kind `erasure`, a hash of the person's id (HMAC-SHA256). The key is random and lies in a file of the project's home
that only its owner may read; it is in no record, package or export. Who has the ledger and not the key cannot try out names.

    >>> import polars as pl
    >>> from treadle.core.declare.data import Dataset
    >>> from treadle.core.declare.source import csv
    >>> people = Dataset("people", csv("people.csv"), ("person",), subject="person")
    >>> gone = Suppressed(b"k" * 32, frozenset({subject_digest(b"k" * 32, "p-1")}))
    >>> drop(pl.DataFrame({"person": ["p-1", "p-2"]}), people, gone)[0]["person"].to_list()
    ['p-2']
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.canonical import digest
from treadle.core.declare.data import Dataset
from treadle.core.errors import Corrupt, NotFound, StorageError, UsageError
from treadle.ports.ledger import Ledger

KIND = "erasure"
KEY_FILE = "subject.key"
PARTS = "/*"
_BYTES = 32


@dataclass(frozen=True)
class Suppressed:
    """The digests of erased persons, the key they were made with, and the columns that name persons in data sets that declare no `subject`."""

    key: bytes = field(repr=False)
    digests: frozenset[str]
    columns: tuple[tuple[str, str], ...] = ()  # (data set, column)

    def __bool__(self) -> bool:
        return bool(self.digests)

    @property
    def mark(self) -> str:
        """Changes when another person is erased: an ingredient of what is read from a source. Empty when nobody was."""
        return digest([sorted(self.digests), list(self.columns)]) if self.digests else ""

    def columns_of(self, dataset: Dataset) -> tuple[str, ...]:
        """The columns of a data set that name a person, as `named_by` says them."""
        return tuple(dict.fromkeys((*named_by(dataset), *(column for name, column in self.columns if name == dataset.name))))

    def holds(self, subject: str) -> bool:
        """Whether this person was erased."""
        return subject_digest(self.key, subject) in self.digests


NOBODY = Suppressed(b"", frozenset())


def known(ledger: Ledger, home: Path) -> Suppressed:
    """Everybody who was erased or is being erased. Raises NotFound or Corrupt when there are erasures and their key is not here."""
    found = ledger.find(KIND)
    if not found:
        return NOBODY
    key = read_key(home)
    wrong = next((r for r in found if r["key"] != key_name(key)), None)
    if wrong is not None:
        raise Corrupt(
            f"The key in {KEY_FILE} is not the one that erasure {wrong.id} was made with; erased persons would come back.",
            where=str(home / KEY_FILE), hint="Put the right key there: it lies in the home of the project that erased, and in its backups.",
        )  # fmt: skip
    columns = sorted({(name, column) for r in found for name, names in r["columns"].items() for column in names})
    return Suppressed(key, frozenset(r["subject"] for r in found), tuple(columns))


def drop(frame: pl.DataFrame, dataset: Dataset, digests: Suppressed) -> tuple[pl.DataFrame, int]:
    """The rows that are about nobody who was erased, and how many others there were. A column that is not in the frame drops nothing."""
    before = frame.height
    for column in digests.columns_of(dataset) if digests else ():
        name = column.removesuffix(PARTS)
        if name in frame.columns:
            values = frame[name].unique()
            texts = spelt(values).to_list()
            named = zip(values.to_list(), (parts(t) if column.endswith(PARTS) else [t] for t in texts))
            gone = [value for value, ids in named if any(text is not None and digests.holds(text) for text in ids)]
            if gone:
                frame = frame.filter(~pl.col(name).is_in(gone).fill_null(False))
    return frame, before - frame.height


def path_of_erased(dataset: Dataset, digests: Suppressed, path: str) -> bool:
    """Whether a file of a file set is about a person who was erased: then its bytes are not even stored."""
    return bool(digests) and any(c.endswith(PARTS) for c in digests.columns_of(dataset)) and any(digests.holds(part) for part in parts(path))


def named_by(dataset: Dataset) -> tuple[str, ...]:
    """The columns that name the person a row is about; of a path each part does, and the file's name without its ending: 'path/*'."""
    if not dataset.subject:
        return ()
    return (dataset.subject + PARTS,) if dataset.source.kind == "files" and dataset.subject == "path" else (dataset.subject,)


def parts(path: str | None) -> list[str]:
    """The folders of a path, its file's name, and that without its ending.

    >>> parts("photos/p-1/left.png")
    ['photos', 'p-1', 'left.png', 'left']
    """
    if path is None:
        return []
    names = path.split("/")
    return [*names, names[-1].split(".")[0]]


def spelt(values: pl.Series) -> pl.Series:
    """Ids as people write them: a whole number without a point, text without spaces around it."""
    if values.dtype.is_float():
        whole = values == values.floor()
        return values.to_frame("v").select(
            pl.when(pl.Series(whole)).then(pl.col("v").cast(pl.Int64, strict=False).cast(pl.String)).otherwise(pl.col("v").cast(pl.String))
        )["v"]  # fmt: skip
    text = values.cast(pl.String, strict=False)
    return text.str.strip_chars()


def subject_digest(key: bytes, subject: str) -> str:
    """A person's id as the record keeps it: HMAC-SHA256 (RFC 2104), in hexadecimal."""
    return hmac.digest(key, b"treadle subject\x1f" + subject.strip().encode("utf-8", "surrogatepass"), "sha256").hex()


def key_name(key: bytes) -> str:
    """What a key is called in the record: it says whether a key is the right one, and not the key."""
    return hashlib.sha256(b"treadle key name\x1f" + key).hexdigest()[:16]


def read_key(home: Path) -> bytes:
    """The key of a project's home. Raises NotFound, Corrupt."""
    file = home / KEY_FILE
    try:
        key = bytes.fromhex(file.read_text("ascii").strip())
    except FileNotFoundError:
        raise NotFound(
            "The key that erased persons are known by is not here; without it they would come back with the next read of a source.",
            where=str(file), hint="Copy the file from the home of the project that erased (or from its backup) to here.",
        ) from None  # fmt: skip
    except (ValueError, UnicodeDecodeError):
        raise Corrupt("The key that erased persons are known by is damaged.", where=str(file), hint="Restore the file from a backup.") from None
    except OSError as error:
        raise StorageError(f"The key that erased persons are known by cannot be read: {error.strerror}.", where=str(file)) from None
    if len(key) != _BYTES:
        raise Corrupt("The key that erased persons are known by is damaged.", where=str(file), hint="Restore the file from a backup.")
    return key


def own_key(home: Path, ledger: Ledger) -> bytes:
    """The key of a project's home, made when nobody was erased yet. Raises as `known`."""
    file = home / KEY_FILE
    if not file.exists() and not ledger.find(KIND, limit=1):
        home.mkdir(parents=True, exist_ok=True)
        pending = home / f".{KEY_FILE}.{os.getpid()}"
        handle = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(handle, secrets.token_bytes(_BYTES).hex().encode() + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        with suppress(FileExistsError):  # another process was first: its key counts
            os.link(pending, file)
        pending.unlink()
    known(ledger, home)
    return read_key(home)


def seal(key: bytes, subject: str, nonce: str, text: str) -> str:
    """Text that only who has the key and knows the person's id can read again: XOR with HMAC-SHA256 in counter mode, then an HMAC over it.

    It keeps what an erasure searches for while it is under way, so that one that was killed can be finished. `nonce` is never used twice.

    >>> sealed = seal(b"k" * 32, "p-1", "erasure-1", "Ada")
    >>> unseal(b"k" * 32, "p-1", "erasure-1", sealed), "Ada" in sealed
    ('Ada', False)
    """
    plain = text.encode("utf-8", "surrogatepass")
    hidden = bytes(a ^ b for a, b in zip(plain, _stream(key, subject, nonce, len(plain))))
    return (hmac.digest(_derived(key, subject, nonce, "tag"), hidden, "sha256") + hidden).hex()


def unseal(key: bytes, subject: str, nonce: str, sealed: str) -> str:
    """What was sealed. Raises Corrupt for another key, person or text."""
    data = bytes.fromhex(sealed)
    tag, hidden = data[:32], data[32:]
    if not hmac.compare_digest(tag, hmac.digest(_derived(key, subject, nonce, "tag"), hidden, "sha256")):
        raise Corrupt(f"What erasure {nonce} searches for cannot be read again.", hint="Restore the ledger from a backup.")
    return bytes(a ^ b for a, b in zip(hidden, _stream(key, subject, nonce, len(hidden)))).decode("utf-8", "surrogatepass")


def _derived(key: bytes, subject: str, nonce: str, use: str) -> bytes:
    return hmac.digest(key, f"treadle {use}\x1f{nonce}\x1f{subject.strip()}".encode("utf-8", "surrogatepass"), "sha256")


def _stream(key: bytes, subject: str, nonce: str, length: int) -> bytes:
    own = _derived(key, subject, nonce, "stream")
    return b"".join(hmac.digest(own, n.to_bytes(8, "big"), "sha256") for n in range(-(-length // 32)))


def checked(subject: Any) -> str:
    """A person's id as given. Raises UsageError for one that can name nobody."""
    text = str(subject).strip()
    if not text:
        raise UsageError("--subject is empty.", hint="Give the value that names the person in the data, for example --subject p-0042")
    return text
