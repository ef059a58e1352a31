"""One SQLite connection per thread and process, with transactions that nest and errors in the words of the house."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from treadle.backends.os_errors import storage_error
from treadle.backends.sqlite_migrations import Schema, migrate
from treadle.core.errors import Corrupt, StorageError, TreadleError, Unavailable, UsageError

BUSY_SECONDS = 30.0
_OLDEST_SQLITE = (3, 38, 0)  # the first with the -> operator of `find`


class Session:
    """One thread's connection. `depth` counts the transaction blocks it is inside of."""

    def __init__(self, path: Path, schema: Schema, synchronous: str, checkpoint: int) -> None:
        self.path = path
        self.pid = os.getpid()
        self.depth = 0
        self.connection = _open(path, schema, synchronous, checkpoint)

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        try:
            return self.connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise failure(error, self.path) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """BEGIN IMMEDIATE to COMMIT for the outermost block, a savepoint for a block inside it."""
        inner = self.depth > 0
        if inner and not self.connection.in_transaction:
            raise self._rolled_back()
        begin, commit, undo = ("SAVEPOINT inside", "RELEASE inside", "ROLLBACK TO inside") if inner else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        self.depth += 1
        begun = False
        try:
            self.connection.execute(begin)
            begun = True
            yield self.connection
            if not self.connection.in_transaction:
                raise self._rolled_back()
            self.connection.execute(commit)
        except BaseException as error:
            # After a full disk SQLite may have rolled back by itself: then there is nothing left to undo.
            if begun and self.connection.in_transaction:
                with suppress(sqlite3.Error):
                    self.connection.execute(undo)
                    if inner:
                        self.connection.execute(commit)
            if isinstance(error, sqlite3.Error):
                raise failure(error, self.path) from error
            raise
        finally:
            self.depth -= 1

    def close(self) -> None:
        if self.pid == os.getpid():
            with suppress(sqlite3.Error):
                self.connection.close()

    def __del__(self) -> None:
        if hasattr(self, "connection"):
            self.close()

    def _rolled_back(self) -> StorageError:
        hint = "Nothing of it was kept; run it again as a whole."
        return StorageError(f"{self.path} gave up the transaction after an earlier error in it.", hint=hint)


_live: weakref.WeakSet[Session] = weakref.WeakSet()
_live_lock = threading.Lock()
_inherited: list[Session] = []


def _before_fork() -> None:
    """Keep every connection from being collected in the child: closing one there could disturb the parent's."""
    _live_lock.acquire()
    _inherited.extend(_live)


def _after_fork_in_parent() -> None:
    _inherited[:] = [session for session in _inherited if session.pid != os.getpid()]
    _live_lock.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_live_lock.release)


class Sessions:
    """Hands every thread its own Session, a new one after fork and after `close`.

    Args:
        checkpoint: pages of the write-ahead log after which they are brought into the file.
    """

    def __init__(self, path: str | Path, schema: Schema, *, synchronous: Literal["FULL", "NORMAL"], checkpoint: int = 1_000) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            raise UsageError(f"Python's SQLite is {sqlite3.sqlite_version}, but 3.38 or newer is needed.", hint="Use a newer Python build.")
        self.path = Path(path).absolute()  # so that a later chdir does not move the store
        self._schema = schema
        self._synchronous, self._checkpoint = synchronous, checkpoint
        self._local = threading.local()
        self._open: weakref.WeakSet[Session] = weakref.WeakSet()
        self._era = 0
        self.mine()  # a path that cannot be used is said now, not at the first write

    def mine(self) -> Session:
        """The calling thread's session."""
        session: Session | None = getattr(self._local, "session", None)
        if session is not None and session.pid == os.getpid() and self._local.era == self._era:
            return session
        session = Session(self.path, self._schema, self._synchronous, self._checkpoint)
        self._local.session, self._local.era = session, self._era
        with _live_lock:
            _live.add(session)
            self._open.add(session)
        return session

    def scrub(self) -> None:
        """Write the file anew, without the pages and the log that still hold what was replaced or removed.

        Raises: Unavailable when somebody reads an old state for too long; StorageError when there is no room for the new file.
        """
        session = self.mine()
        try:
            session.connection.execute("PRAGMA secure_delete = ON")
            session.connection.execute("VACUUM")
            give_up = time.monotonic() + BUSY_SECONDS
            while session.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                if time.monotonic() > give_up:
                    raise Unavailable(
                        f"{self.path} is being read by another process all the time, so its log of past writes cannot be emptied.",
                        hint="Stop what reads it (treadle stop, the console), then run the same command again.",
                    )
                time.sleep(0.05)
        except sqlite3.Error as error:
            raise failure(error, self.path) from error

    def close(self) -> None:
        """Close the connections of all threads. Used again, the store opens anew."""
        self._era += 1
        with _live_lock:
            sessions = list(self._open)
        for session in sessions:
            session.close()


def failure(error: sqlite3.Error, path: Path) -> TreadleError | sqlite3.Error:
    """The house's error for SQLite's. A mistake in our own calls (ProgrammingError) stays what it is."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = None if code is None else code & 0xFF
    if primary == sqlite3.SQLITE_FULL:
        return StorageError(f"{path} is on a disk that is full.", hint="Free some space and try again; nothing half-written was kept.")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return StorageError(f"{path} cannot be written.", hint="Check the permissions of the file and its folder, and that the disk is writable.")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return StorageError(f"{path} cannot be opened.", hint="Check that the folder exists, is writable, and is no file.")
    if primary == sqlite3.SQLITE_IOERR:
        return StorageError(f"{path} could not be read or written ({error}).", hint="Check the disk and its free space; nothing half-done was kept.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(f"{path} was locked by another writer for more than {BUSY_SECONDS:g} s.", hint="Try again, or see which process holds it.")
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return Corrupt(f"{path} is damaged or not a database ({error}).", hint="Restore it from a backup.")
    if primary is None or isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error
    return StorageError(f"{path} refused the operation ({error}).", hint="If it says 'no such table', the file was replaced while it was in use.")


def _open(path: Path, schema: Schema, synchronous: str, checkpoint: int) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path.parent) from error
    try:
        # isolation_level=None: we say BEGIN ourselves. check_same_thread=False: close() may come from another thread.
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256)
    except sqlite3.Error as error:
        raise failure(error, path) from error
    try:
        _wal(connection)
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint}")
        connection.execute("PRAGMA cache_size = -16000")  # 16 MB a thread instead of 2: keeps the inner pages of the trees at hand
        migrate(connection, schema, path)
    except sqlite3.Error as error:
        connection.close()
        raise failure(error, path) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log. SQLite does not wait for its lock here when two processes open a new file at once, so we do."""
    give_up = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)
