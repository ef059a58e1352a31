"""A few PostgreSQL connections a process, transactions that nest, and errors in the words of the house.

A thread holds a connection for the length of a verb or of a transaction. Connections that died while nobody used them are replaced unseen; one that
dies in use raises Unavailable, and the next use opens another.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus

from treadle.backends.postgres_address import Address, address
from treadle.backends.postgres_errors import failure
from treadle.backends.postgres_migrations import Schema, migrate
from treadle.core.errors import StorageError, TreadleError, Unavailable, UsageError

CONNECTIONS = 8  # a process; writers take turns anyway, so more would only wait in the server instead of here
CONNECT_SECONDS = 10
LOCK_SECONDS = 30.0  # for a writer's turn
STATEMENT_SECONDS = 120.0
IDLE_SECONDS = 60.0  # a transaction that asks nothing for so long is ended by the server: its process hangs, and others wait for it
_OLDEST_SERVER = 130000

Statement = tuple[str, Sequence[Any]]

_BEGIN: Statement = ("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", ())
_COMMIT: Statement = ("COMMIT", ())
_SAVEPOINT: Statement = ("SAVEPOINT inside", ())
_RELEASE: Statement = ("RELEASE inside", ())


class Lost(Unavailable):
    """The connection went away while it was used."""


class Session:
    """One connection. `depth` counts the transaction blocks its thread is inside of."""

    def __init__(self, at: Address, era: int) -> None:
        self.at = at
        self.era = era
        self.depth = 0
        self.failed = False  # an error has spoilt the transaction, and nothing more gets into it
        self.connection = _open(at)

    def run(self, *statements: Statement) -> list[list[Any]]:
        """Send statements and return the rows of each: in one go, but one by one inside a block.

        (A pipeline in the middle of a transaction leaves PostgreSQL's clock for idle transactions standing still.)
        """
        if self.failed:
            raise self._gave_up()
        try:
            if len(statements) == 1 or self.depth:
                cursors = [self.connection.execute(sql, values) for sql, values in statements]  # type: ignore[arg-type]
            else:
                with self.connection.pipeline():
                    cursors = [self.connection.execute(sql, values) for sql, values in statements]  # type: ignore[arg-type]
            return [cursor.fetchall() if cursor.description else [] for cursor in cursors]
        except BaseException as error:
            self._settle()
            if isinstance(error, psycopg.Error):
                raise self._said(error, statements) from error
            raise

    def write(self, *statements: Statement, alone: bool = True) -> list[list[Any]]:
        """Run statements as a transaction of their own, or as part of the one we are in.

        Writers take turns, from the first statement to the commit, so what a statement reads is what is so when it writes. `alone` is False for what
        may be written beside others of its kind.
        """
        if self.depth:
            return self.run(*statements)
        try:
            return self.run(_BEGIN, self._turn(alone), *statements, _COMMIT)[2:-1]
        except BaseException:
            self.undo()
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """BEGIN and the writers' lock, to COMMIT, for the outermost block; a savepoint for a block inside it."""
        inner = self.depth > 0
        try:
            self.run(*((_SAVEPOINT,) if inner else (_BEGIN, self._turn(True))))
        except BaseException:
            if not inner:
                self.undo()
            raise
        self.depth += 1
        try:
            yield
            self.run(_RELEASE if inner else _COMMIT)
        except BaseException:
            self.undo(to_savepoint=inner)
            raise
        finally:
            self.depth -= 1
            self.failed = self.failed and self.depth > 0

    def alive(self) -> bool:
        return not self.connection.closed

    def stale(self) -> bool:
        """Whether the server has hung up while nobody listened: an idle connection has nothing to read, except its end."""
        if not self.alive():
            return True
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN)
        if not poll.poll(0):
            return False
        with suppress(psycopg.Error):
            self.connection.pgconn.consume_input()  # or a message that a setting has changed
            return not self.alive() or bool(poll.poll(0))
        return True

    def close(self) -> None:
        with suppress(psycopg.Error):
            self.connection.close()

    def _turn(self, alone: bool) -> Statement:
        return (f"SELECT pg_advisory_xact_lock{'' if alone else '_shared'}({self.at.lock})", ())

    def _settle(self) -> None:
        """After an error: give up a connection that was interrupted in the middle of an answer, and remember a transaction that is spoilt."""
        info = self.connection.info
        if self.alive() and (info.transaction_status == TransactionStatus.ACTIVE or info.pipeline_status != PipelineStatus.OFF):
            self.close()
        self.failed = self.depth > 0 and (not self.alive() or info.transaction_status != TransactionStatus.INTRANS)

    def undo(self, *, to_savepoint: bool = False) -> None:
        """Give up the transaction that was begun, or the block inside it."""
        if not self.alive() or self.connection.info.transaction_status == TransactionStatus.IDLE:
            return
        try:
            for sql in ("ROLLBACK TO inside", "RELEASE inside") if to_savepoint else ("ROLLBACK",):
                self.connection.execute(sql)
            self.failed = False
        except psycopg.Error:
            self.close()
            self.failed = True

    def _said(self, error: psycopg.Error, statements: Sequence[Statement]) -> TreadleError | psycopg.Error:
        if self.alive():
            return failure(error, self.at)
        if self.depth and _COMMIT not in statements:
            return Lost(f"{self.at.shown} was lost in the middle of a transaction.", hint="Nothing of it was kept; run it again as a whole.")
        if _COMMIT in statements:
            return Lost(f"{self.at.shown} was lost before it confirmed a write.", hint="It may have been kept or not; read it again first.")
        return Lost(f"{self.at.shown} was lost.", hint="Try again; look at the server's log if it happens often.")

    def _gave_up(self) -> TreadleError:
        hint = "Nothing of it was kept; run it again as a whole."
        if not self.alive():
            return Lost(f"{self.at.shown} was lost in the middle of a transaction.", hint=hint)
        return StorageError(f"{self.at.shown} gave up the transaction after an earlier error in it.", hint=hint)


_inherited: list[object] = []  # sessions of a parent process: kept, because letting go of them would complain or disturb


class Sessions:
    """Hands a thread one of a few sessions, the same for the length of a transaction; new ones after fork and after `close`."""

    _pid: int
    _era: int
    _free: list[Session]
    _lock: threading.Lock
    _local: threading.local
    _places: threading.BoundedSemaphore

    def __init__(self, url: str, schema: Schema) -> None:
        self.at = address(url)
        self._start()
        with self.mine() as session:  # an address that cannot be used is said now, not at the first write
            try:
                migrate(session.connection, schema, self.at.schema, self.at.lock + 1, self.at.shown)
            except psycopg.Error as error:
                raise failure(error, self.at) from error
            except BaseException:
                session.close()
                raise

    @contextmanager
    def mine(self) -> Iterator[Session]:
        """The calling thread's session: the one its transaction is in, or any that is free."""
        if os.getpid() != self._pid:
            _inherited.append((self._free, self._local))
            self._start()
        session: Session | None = getattr(self._local, "session", None)
        if session is not None:
            yield session
            return
        session = self._local.session = self._borrow()
        try:
            yield session
        finally:
            self._local.session = None
            self._give_back(session)

    def rows(self, statement: Statement) -> list[Any]:
        """All rows of a query. One that finds its connection dead is asked again on a new one, unless a transaction went with it."""
        try:
            with self.mine() as session:
                return session.run(statement)[0]
        except Lost:
            if getattr(self._local, "session", None) is not None:
                raise
        with self.mine() as session:
            return session.run(statement)[0]

    def close(self) -> None:
        """Close the connections that are free, and the others when their work is done. Used again, the store opens anew."""
        with self._lock:
            self._era += 1
            free, self._free = self._free, []
        for session in free:
            session.close()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._era = 0
        self._free = []
        self._lock = threading.Lock()
        self._local = threading.local()
        self._places = threading.BoundedSemaphore(CONNECTIONS)

    def _borrow(self) -> Session:
        if not self._places.acquire(timeout=LOCK_SECONDS):
            raise Unavailable(
                f"All {CONNECTIONS} connections of this process to {self.at.shown} were busy for {LOCK_SECONDS:g} s.",
                hint="Try again, with fewer threads or shorter transactions.",
            )
        try:
            while True:
                with self._lock:
                    session = self._free.pop() if self._free else None
                if session is None:
                    return Session(self.at, self._era)
                if not session.stale():
                    return session
                session.close()
        except BaseException:
            self._places.release()
            raise

    def _give_back(self, session: Session) -> None:
        with self._lock:
            keep = session.alive() and session.era == self._era and session.connection.info.transaction_status == TransactionStatus.IDLE
            if keep:
                self._free.append(session)
        if not keep:
            session.close()
        self._places.release()


def _open(at: Address) -> psycopg.Connection[Any]:
    give_up = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            connection = psycopg.connect(**at.parameters(_settings(), CONNECT_SECONDS), autocommit=True)
            break
        except psycopg.Error as error:
            if "starting up" not in str(error) or time.monotonic() > give_up:
                raise failure(error, at) from at.safe(error)
        time.sleep(0.1)
    try:
        _check(connection, at)
        # What is acknowledged is on the server's disk, whatever the server thinks of that; more than that (a second server's disk) stays.
        how = "CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END"
        connection.execute(f"SELECT set_config('synchronous_commit', {how}, false)")
    except psycopg.Error as error:
        connection.close()
        raise failure(error, at) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: psycopg.Connection[Any], at: Address) -> None:
    if connection.info.server_version < _OLDEST_SERVER:
        found = connection.info.parameter_status("server_version")
        raise UsageError(f"{at.shown} is PostgreSQL {found}, but 13 or newer is needed.", hint="Use a newer server.")
    if connection.info.parameter_status("server_encoding") != "UTF8":
        raise UsageError(
            f"The database of {at.shown} does not keep its text as UTF-8.", hint="Make another: createdb --encoding=UTF8 --template=template0 NAME."
        )


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _settings() -> dict[str, object]:
    return {
        "lock_timeout": _milliseconds(LOCK_SECONDS),
        "statement_timeout": _milliseconds(STATEMENT_SECONDS),
        "idle_in_transaction_session_timeout": _milliseconds(IDLE_SECONDS),
        # So that the server lets go of what a machine held that is no longer there.
        "tcp_keepalives_idle": 30,
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 3,
    }
