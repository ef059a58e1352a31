"""Where the files of tables lie: a folder, or a bucket with copies of its files here.

Both hold `<table>/<sha256>.parquet` and `<table>/_delta_log/<number>.json`. A path is relative to the root.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from treadle.backends.hashed_file import finish
from treadle.backends.os_errors import storage_error
from treadle.core.errors import Corrupt, NotFound
from treadle.core.ids import new_id

SUFFIX = ".parquet"


class Place(Protocol):
    """A tree of files in which one is there whole or not at all."""

    shown: str
    options: dict[str, str]  # for delta-rs

    def uri(self, table: str) -> str: ...
    def tables(self) -> list[str]: ...
    def names(self, folder: str) -> dict[str, tuple[int, float]]:
        """The files in a folder: name to bytes and the time they were written, in seconds."""
        ...

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        ...

    def replace(self, path: str, data: bytes) -> None: ...
    def remove(self, path: str) -> None: ...
    def writing(self, table: str) -> Path:
        """A new name for a temporary file on this machine."""
        ...

    def clear(self, table: str) -> None:
        """Remove temporary files of a table, whose writers are kept out."""
        ...

    def add(self, table: str, pending: Path, digest: str) -> None:
        """Give a temporary file its name in a table; it is on the disk then."""
        ...

    def local(self, table: str, digest: str) -> Path:
        """A data file on this machine. Raises NotFound; Corrupt when it was fetched and is not what was written."""
        ...

    def verify(self, table: str, digest: str) -> None:
        """Read a data file where it lies. Raises NotFound, Corrupt."""
        ...

    def settle(self, path: str) -> None:
        """Force a file that another library wrote to the disk."""
        ...

    @contextmanager
    def lock(self, table: str, *, alone: bool) -> Iterator[None]:
        """Keeps those out who remove files, or everybody else if `alone`, on this machine."""
        ...

    def sweep(self, older_than_seconds: float) -> int: ...


class Folder:
    """A folder of this machine, or one that is shared."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self.shown = str(self._root)
        self.options: dict[str, str] = {}

    def uri(self, table: str) -> str:
        return (self._root / table).as_uri()

    def tables(self) -> list[str]:
        if not self._root.is_dir():
            return []
        return sorted(p.name for p in self._root.iterdir() if not p.name.startswith(".") and (p / "_delta_log").is_dir())

    def names(self, folder: str) -> dict[str, tuple[int, float]]:
        found = {}
        try:
            for entry in os.scandir(self._root / folder):
                with suppress(FileNotFoundError):
                    if entry.is_file():
                        said = entry.stat()
                        found[entry.name] = (said.st_size, said.st_mtime)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise storage_error(error, self._root / folder) from error
        return found

    def read(self, path: str) -> bytes:
        try:
            return (self._root / path).read_bytes()
        except FileNotFoundError:
            raise
        except OSError as error:
            raise storage_error(error, self._root / path) from error

    def replace(self, path: str, data: bytes) -> None:
        pending = self.writing("_log")
        try:
            (self._root / path).parent.mkdir(parents=True, exist_ok=True)
            with pending.open("xb") as out:
                out.write(data)
                out.flush()
                os.fsync(out.fileno())
            os.replace(pending, self._root / path)
            _sync((self._root / path).parent)
        except OSError as error:
            with suppress(OSError):
                pending.unlink()
            raise storage_error(error, self._root / path) from error

    def remove(self, path: str) -> None:
        try:
            (self._root / path).unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, self._root / path) from error

    def writing(self, table: str) -> Path:
        folder = self._root / ".pending"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._root) from error
        return folder / f"{table}@{new_id('table')}"

    def clear(self, table: str) -> None:
        _clear(self._root / ".pending", table)

    def add(self, table: str, pending: Path, digest: str) -> None:
        place = self._root / table / (digest + SUFFIX)
        try:
            place.parent.mkdir(exist_ok=True)
            with pending.open("rb+") as out:
                finish(out, durable=True)
            os.replace(pending, place)
            _sync(place.parent)
        except OSError as error:
            raise storage_error(error, place) from error

    def local(self, table: str, digest: str) -> Path:
        path = self._root / table / (digest + SUFFIX)
        if not path.is_file():
            raise _gone(str(path))
        return path

    def verify(self, table: str, digest: str) -> None:
        path = self.local(table, digest)
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise _gone(str(path)) from None
        except OSError as error:
            raise storage_error(error, path) from error
        if found != digest:
            raise _damaged(str(path))

    def settle(self, path: str) -> None:
        try:
            handle = os.open(self._root / path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
            _sync((self._root / path).parent)
        except OSError as error:
            raise storage_error(error, self._root / path) from error

    @contextmanager
    def lock(self, table: str, *, alone: bool) -> Iterator[None]:
        folder = self._root / ".locks"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder / table, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise storage_error(error, folder) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            yield
        finally:
            os.close(handle)  # which unlocks

    def sweep(self, older_than_seconds: float) -> int:
        return _sweep(self._root / ".pending", older_than_seconds)


class Bucket:
    """A prefix of a bucket. Data files are read from copies in a local cache of a given size, named by their hash.

    Args:
        url: `s3://bucket/prefix?cache=/folder&cache_gb=20`; keys, region and endpoint come from the usual variables, as for blobs.
    """

    def __init__(self, url: str) -> None:
        from treadle.backends.s3_blobs import S3Blobs, _endpoint

        parts = urlsplit(url)
        cache = dict(parse_qsl(parts.query)).get("cache") or str(
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "treadle" / "tables"
        )
        asked = parts._replace(query="&".join([f"cache={cache}", *(p for p in parts.query.split("&") if p and not p.startswith("cache="))]))
        self._store = S3Blobs(asked.geturl())  # it knows how to ask, again if need be, and keeps the copies
        self._base = f"s3://{parts.netloc}/{parts.path.strip('/')}".rstrip("/")
        self.shown = self._base
        self._tmp = Path(cache).absolute() / "pending"
        endpoint = _endpoint()
        self.options = {"aws_conditional_put": "etag", **({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})}
        if endpoint.startswith("http://"):
            self.options["AWS_ALLOW_HTTP"] = "true"

    def uri(self, table: str) -> str:
        return f"{self._base}/{table}"

    def tables(self) -> list[str]:
        import obstore

        found = self._store._ask(lambda store: obstore.list_with_delimiter(store))
        return sorted(str(p).rstrip("/") for p in found["common_prefixes"] if self.names(f"{str(p).rstrip('/')}/_delta_log"))

    def names(self, folder: str) -> dict[str, tuple[int, float]]:
        import obstore

        found = self._store._ask(lambda store: obstore.list_with_delimiter(store, prefix=folder))
        return {str(o["path"]).rpartition("/")[2]: (int(o["size"]), o["last_modified"].timestamp()) for o in found["objects"]}

    def read(self, path: str) -> bytes:
        import obstore

        return self._store._ask(lambda store: bytes(obstore.get(store, path).bytes()))

    def replace(self, path: str, data: bytes) -> None:
        import obstore

        self._store._ask(lambda store: obstore.put(store, path, data))

    def remove(self, path: str) -> None:
        import obstore

        with suppress(FileNotFoundError):
            self._store._ask(lambda store: obstore.delete(store, path))
        name = path.rpartition("/")[2]
        if name.endswith(SUFFIX):
            self._store._cache.remove(name.removesuffix(SUFFIX))

    def writing(self, table: str) -> Path:
        try:
            self._tmp.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, self._tmp) from error
        return self._tmp / f"{table}@{new_id('table')}"

    def clear(self, table: str) -> None:
        """A writer on this machine may be at work; what it has under way is about to be refused."""
        _clear(self._tmp, table)

    def add(self, table: str, pending: Path, digest: str) -> None:
        import obstore

        self._store._ask(lambda store: obstore.put(store, f"{table}/{digest}{SUFFIX}", pending))
        self._store._cache.keep(pending, digest)

    def local(self, table: str, digest: str) -> Path:
        kept = self._store._cache.path(digest)
        if kept is not None:
            return kept
        with self._store._cache.writing(lambda out: out.writelines(self._fetch(table, digest))) as (pending, found):
            if found != digest:
                raise _damaged(f"{self._base}/{table}/{digest}{SUFFIX}")
            return self._store._cache.keep(pending, digest)

    def verify(self, table: str, digest: str) -> None:
        hashing = hashlib.sha256()
        for part in self._fetch(table, digest):
            hashing.update(part)
        if hashing.hexdigest() != digest:
            raise _damaged(f"{self._base}/{table}/{digest}{SUFFIX}")

    def settle(self, path: str) -> None:
        """An object store has it when it said so."""

    @contextmanager
    def lock(self, table: str, *, alone: bool) -> Iterator[None]:
        yield  # there is none that all machines see; what is removed has to be old, and a writer looks again after it committed

    def sweep(self, older_than_seconds: float) -> int:
        return _sweep(self._tmp, older_than_seconds) + self._store.sweep(older_than_seconds)

    def _fetch(self, table: str, digest: str) -> Iterator[bytes]:
        import obstore

        path = f"{table}/{digest}{SUFFIX}"
        try:
            size = self._store._ask(lambda store: int(obstore.head(store, path)["size"]))
            for begin in range(0, size, 8 << 20):
                end = min(begin + (8 << 20), size)
                yield self._store._ask(lambda store, a=begin, b=end: bytes(obstore.get_range(store, path, start=a, end=b)))  # type: ignore[misc]
        except FileNotFoundError:
            raise _gone(f"{self._base}/{path}") from None


def _gone(where: str) -> NotFound:
    return NotFound("A file of a table is gone.", where=where, hint="Restore it from a backup, or take the data again with: treadle run")


def _damaged(where: str) -> Corrupt:
    hint = "Restore it from a backup, or delete it and run again."
    return Corrupt("A file of a table is damaged: its bytes have another hash.", where=where, hint=hint)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clear(folder: Path, table: str) -> None:
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(f"{table}@"):
            path.unlink(missing_ok=True)


def _sweep(folder: Path, older_than_seconds: float) -> int:
    limit, removed = time.time() - older_than_seconds, 0
    for path in list(folder.iterdir()) if folder.is_dir() else []:
        with suppress(FileNotFoundError):
            if path.stat().st_mtime <= limit:
                path.unlink()
                removed += 1
    return removed
