"""Online features in Redis: one packed value per view and entity, read by one MGET, written by a script that keeps what is newer.

Keys, after the prefix: `v:VIEW<US>ENTITY` holds event, time (each 8 bytes, above 2**63) and the packed value; `e:VIEW` is the set of a view's
entities; `m:VIEW` says how fresh it is and whether its values expire. One server, with replicas or without; not a cluster, whose MGET would not
reach all keys.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from treadle.core.errors import StorageError, Unavailable, UsageError
from treadle.ports.online import Key, Value

PREFIX = "treadle:"
SECONDS = 2.0  # for an answer; a batch of 500 values takes milliseconds
CONNECT_SECONDS = 1.0
FILE_SECONDS = 600.0  # for the server to write its files anew
_BATCH = 500  # values a script
_SLACK = 3_600_000  # ms that an expiring value outlives its end: the clocks of two machines differ
_HEAD = struct.Struct(">QQ")
_TIME = struct.Struct(">8xQ")
_HALF = 2**63
_HINT = "Write redis://user:password@host:6379/0?prefix=treadle:, or rediss:// for TLS; and '@' or '%' in a password as %40 or %25."

# Numbers of Lua are floats, exact to 2**53: 64 bits are compared as two halves.
_COMPARE = """
local function compare(a, b, size)
  for i = 1, size, 4 do
    local x, y = struct.unpack('>I4', a, i), struct.unpack('>I4', b, i)
    if x ~= y then return x > y and 1 or -1 end
  end
  return 0
end
"""
# KEYS: entities, about, then a value's each. ARGV: entity, value and when it expires (ms, or nothing) for each.
_PUT = (
    _COMPARE
    + """
local stored, newest, before = 0, redis.call('HGET', KEYS[2], 'newest'), nil
before = newest
for i = 3, #KEYS do
  local j = (i - 3) * 3
  local value, expires = ARGV[j + 2], ARGV[j + 3]
  local old = redis.call('GET', KEYS[i])
  local order = old and compare(value, old, 16) or 1
  if order > 0 or (order == 0 and value ~= old) then
    if expires == '' then redis.call('SET', KEYS[i], value) else
      redis.call('SET', KEYS[i], value, 'PXAT', expires)
      redis.call('HSET', KEYS[2], 'expires', 1)
    end
    redis.call('SADD', KEYS[1], ARGV[j + 1])
    stored = stored + 1
    local time = string.sub(value, 9, 16)
    if not newest or compare(time, newest, 8) > 0 then newest = time end
  end
end
if newest ~= before then redis.call('HSET', KEYS[2], 'newest', newest) end
return stored
"""
)
# KEYS: entities, about, then a value's each. ARGV: the entities. Returns how many were there.
_FORGET = """
local gone = 0
for i = 3, #KEYS do
  gone = gone + redis.call('UNLINK', KEYS[i])
  redis.call('SREM', KEYS[1], ARGV[i - 2])
end
return gone
"""
# KEYS: about. ARGV: what `newest` was, and what it is to be (nothing: no value is left). Somebody who wrote meanwhile knows better.
_FRESH = """
if redis.call('HGET', KEYS[1], 'newest') == ARGV[1] then
  if ARGV[2] == '' then redis.call('HDEL', KEYS[1], 'newest') else redis.call('HSET', KEYS[1], 'newest', ARGV[2]) end
end
"""
# KEYS: entities, about. ARGV: what a value's key begins with. Returns how many were there; 0 at the end.
_CLEAR = """
local entities = redis.call('SPOP', KEYS[1], 1000)
for _, entity in ipairs(entities) do redis.call('UNLINK', ARGV[1] .. entity) end
if #entities == 0 then redis.call('DEL', KEYS[2]) end
return #entities
"""
# KEYS: entities, then a value's each. ARGV: the entities. Those whose value has expired leave the set, unless one was written meanwhile.
_PRUNE = """
for i = 2, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then redis.call('SREM', KEYS[1], ARGV[i - 1]) end
end
"""


class RedisOnline:
    """An online store that any number of machines share."""

    def __init__(self, url: str) -> None:
        self._url, self._prefix, self._wait, self.shown = _address(url)
        self._values = f"{self._prefix}v:".encode()
        self._starts: dict[str, bytes] = {}
        self._pid = 0
        self._lock = threading.Lock()
        self._own = threading.local()
        with suppress(Unavailable), self._said():  # an address that cannot be used is said now; a server that is down may come back
            self._server().ping()

    def put_many(self, values: Iterable[tuple[Key, Value]]) -> int:
        """Store values unless a newer one is there; returns how many were stored (an exact repeat is not)."""
        by_view: dict[str, list[tuple[str, Value]]] = {}
        for key, value in values:
            by_view.setdefault(key.view, []).append((key.entity, value))
        if not by_view:
            return 0
        with self._said(), self._server().pipeline(transaction=True) as together:  # MULTI to EXEC: all or nothing
            for view, rows in by_view.items():
                start = self._start(view)
                for at in range(0, len(rows), _BATCH):
                    keys, given = self._about(view), []
                    for entity, value in rows[at : at + _BATCH]:
                        name = entity.encode()
                        keys.append(start + name)
                        event = value.time if value.event is None else value.event
                        expires = b"" if value.until is None else b"%d" % max(1, value.until // 1000 + _SLACK)
                        given += [name, _HEAD.pack(event + _HALF, value.time + _HALF) + value.packed, expires]
                    together.eval(_PUT, len(keys), *keys, *given)
            return sum(together.execute())

    def get_many(self, keys: Sequence[Key]) -> list[Value | None]:
        if not keys:
            return []
        starts = self._starts
        try:
            names = [starts[view] + entity.encode() for view, entity in keys]
        except KeyError:
            names = [self._start(view) + entity.encode() for view, entity in keys]
        with self._said():
            found = self._mget(names)
        time_of, new = _TIME.unpack_from, tuple.__new__  # Value(...) would go through a function of Python for each
        return [None if held is None else new(Value, (time_of(held)[0] - _HALF, held[16:], None, None)) for held in found]

    def _mget(self, names: list[bytes]) -> list[bytes | None]:
        """MGET on the thread's own connection: half the way of the client's, which looks after pools, retries and events."""
        server, own = self._server(), self._own
        if getattr(own, "pid", 0) != self._pid:
            own.connection, own.pid = server.connection_pool.make_connection(), self._pid
        connection = own.connection
        for last in (False, True):
            try:
                connection.send_command("MGET", *names)
                found: list[bytes | None] = connection.read_response()
                return found
            except redis.TimeoutError:
                connection.disconnect()
                raise
            except (redis.ConnectionError, OSError):  # it may have gone while nobody used it: once more, on a new one
                connection.disconnect()
                if last:
                    raise
            except redis.RedisError:
                raise
            except BaseException:  # interrupted: the answer would be taken for that of the next question
                connection.disconnect()
                raise
        raise AssertionError

    def scan(self, view: str) -> Iterator[tuple[str, Value]]:
        start, seen = self._start(view), set()
        for entities in self._entities(view):
            fresh = [entity for entity in entities if entity not in seen]  # Redis may name one twice while the set grows
            seen.update(fresh)
            with self._said():
                found: Any = self._server().mget([start + entity for entity in fresh]) if fresh else []
            for entity, held in zip(fresh, found):
                if held is not None:
                    event, time = _HEAD.unpack_from(held)
                    yield entity.decode(), Value(time - _HALF, held[16:], event - _HALF)

    def count(self, view: str) -> int:
        start, about = self._start(view), self._about(view)
        with self._said():
            if self._server().hexists(about[1], "expires"):
                for entities in self._entities(view):
                    if entities:
                        self._server().eval(_PRUNE, len(entities) + 1, about[0], *(start + entity for entity in entities), *entities)
            return int(self._server().scard(about[0]))

    def newest(self, view: str) -> int | None:
        with self._said():
            held: Any = self._server().hget(self._about(view)[1], "newest")
        return None if held is None else int.from_bytes(held, "big") - _HALF

    def compact(self) -> None:
        """Nothing to do: the server sees to its memory itself."""

    def forget(self, view: str, entities: Iterable[str]) -> int:
        """Remove values. Where the server writes files, they are written anew: they hold the values until that is done."""
        wanted = [entity.encode() for entity in dict.fromkeys(entities)]
        start, about = self._start(view), self._about(view)
        gone = 0
        with self._said():
            before = self._server().hget(about[1], "newest")
            for at in range(0, len(wanted), _BATCH):
                names = wanted[at : at + _BATCH]
                gone += self._server().eval(_FORGET, len(names) + 2, *about, *(start + name for name in names), *names)
            if gone and before is not None:
                left = max((value.time for _, value in self.scan(view)), default=None)
                self._server().eval(_FRESH, 1, about[1], before, b"" if left is None else (left + _HALF).to_bytes(8, "big"))
            if wanted:  # also when nothing was there: an earlier call may have been killed before its end
                self._write_files_anew()
        return gone

    def clear(self, view: str) -> None:
        with self._said():
            while self._server().eval(_CLEAR, 2, *self._about(view), self._start(view)):
                pass

    def close(self) -> None:
        """Close this process's connections. Used again, the store opens anew."""
        with self._lock:
            pid, self._pid = self._pid, 0
        if pid == os.getpid():
            self._own = threading.local()
            self._client.close()

    def _server(self) -> redis.Redis:
        if self._pid != os.getpid():
            with self._lock:
                if self._pid != os.getpid():
                    self._client = redis.Redis.from_url(
                        self._url, socket_timeout=self._wait, socket_connect_timeout=min(CONNECT_SECONDS, self._wait), socket_keepalive=True,
                        retry=Retry(NoBackoff(), 1), client_name="treadle", protocol=2,
                    )  # fmt: skip
                    self._pid = os.getpid()
        return self._client

    def _start(self, view: str) -> bytes:
        """What the keys of a view's values begin with."""
        start = self._starts.get(view)
        if start is None:
            start = self._starts[view] = self._values + view.encode() + b"\x1f"
        return start

    def _about(self, view: str) -> list[bytes]:
        """The keys of a view's set of entities, and of what is said about it."""
        return [f"{self._prefix}e:{view}".encode(), f"{self._prefix}m:{view}".encode()]

    def _entities(self, view: str) -> Iterator[list[bytes]]:
        """A view's entities, about a thousand at a time."""
        index, cursor = self._about(view)[0], 0
        found: Any
        while True:
            with self._said():
                cursor, found = self._server().sscan(index, cursor, count=1000)
            yield list(found)
            if cursor == 0:
                return

    def _write_files_anew(self) -> None:
        """A value that was removed is still in the server's append-only file and snapshot. A managed server may not let us, and does it by itself.

        Raises Unavailable when that takes too long, StorageError when the server could not: the values are gone, their bytes are not; do it again.
        """
        server = self._server()
        with suppress(_NotAllowed):
            if server.info("persistence").get("aof_enabled"):
                self._one_after_another("aof_last_bgrewrite_status", server.bgrewriteaof)
        with suppress(_NotAllowed, redis.ResponseError):  # not every server tells
            if not (any(server.config_get("save").values()) and server.lastsave()):
                return
        with suppress(_NotAllowed):
            self._one_after_another("rdb_last_bgsave_status", server.bgsave)

    def _one_after_another(self, status: str, begin: Callable[[], Any]) -> None:
        """Have files written that hold nothing of before: one that is being written now began before, so it is waited for first."""
        give_up = time.monotonic() + FILE_SECONDS
        begun = False
        while True:
            said = self._server().info("persistence")
            if not any(said.get(f"{name}_in_progress") for name in ("aof_rewrite", "rdb_bgsave")) and not said.get("aof_rewrite_scheduled"):
                if begun and said.get(status) != "ok":
                    raise StorageError(f"{self.shown} could not write its files anew: bytes are left.", hint="Look at its log, then do it again.")
                if begun:
                    return
                try:
                    begin()
                    begun = True
                    continue
                except redis.ResponseError as error:
                    if "in progress" not in str(error) and "scheduled" not in str(error):  # else somebody else began one just now
                        raise _NotAllowed from error
            if time.monotonic() > give_up:
                raise Unavailable(f"{self.shown} took over {FILE_SECONDS:g} s to write its files anew: bytes are left.", hint="Do it again later.")
            time.sleep(0.02)

    @contextmanager
    def _said(self) -> Iterator[None]:
        """Redis's errors in the words of the house."""
        try:
            yield
        except redis.AuthenticationError as error:
            raise UsageError(f"{self.shown} does not accept this user and password.", hint="Check them in the address.") from error
        except redis.TimeoutError as error:
            raise Unavailable(f"{self.shown} did not answer within {self._wait:g} s.", hint="Try again, or look at the server.") from error
        except (redis.ConnectionError, redis.BusyLoadingError, OSError) as error:
            raise Unavailable(f"{self.shown} cannot be reached ({_first(error)}).", hint="Start the server, or check the setting online.") from error
        except redis.RedisError as error:
            raise _refused(error, self.shown) from error


class _NotAllowed(Exception):
    """A managed server keeps its files to itself."""


def _refused(error: redis.RedisError, shown: str) -> StorageError | Unavailable:
    said = _first(error)
    if "OOM" in said or "maxmemory" in said:
        return StorageError(f"{shown} is full.", hint="Raise its maxmemory; nothing of the write was kept.")
    if "READONLY" in said or "MASTERDOWN" in said:
        return Unavailable(f"{shown} is a replica and takes no writes now ({said}).", hint="Give the address of the primary, or try again.")
    return StorageError(f"{shown} refused the operation ({said}).", hint="Look at the server's log.")


def _first(error: BaseException) -> str:
    said = str(error) or type(error).__name__
    causes = getattr(error, "errors", None)  # of a pipeline that was aborted
    return f"{said}: {causes[0]}" if causes else said


def _address(url: str) -> tuple[str, str, float, str]:
    """(address without our options, prefix, seconds to wait, what may be shown)."""
    try:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        prefix, wait = options.pop("prefix", PREFIX), float(options.pop("timeout", SECONDS))
        if parts.netloc.count("@") > 1 or parts.fragment or not 0 < wait <= 60 or (parts.port or 1) < 1 or parts.path.count("/") > 1:
            raise ValueError
        if parts.path.strip("/"):
            int(parts.path.strip("/"))
    except ValueError:  # its text may hold the password
        raise UsageError("The address of the Redis store cannot be read.", hint=_HINT) from None
    netloc = parts.netloc or "localhost"
    shown = f"{parts.scheme}://{netloc.rpartition('@')[2]}{parts.path}"
    return urlunsplit((parts.scheme, netloc, parts.path, urlencode(options), "")), prefix, wait, shown
