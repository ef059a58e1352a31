"""Messages of a Redis stream, read by their ids; nothing is acknowledged and no consumer group is made, so Redis keeps nothing about us.

A position is the id of the last entry that was taken in, and how many entries had been taken in or removed by then: when more have been removed since
than were read, some were never read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import polars as pl
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from treadle.backends.source_address import read_address
from treadle.backends.stream_rows import after_gap
from treadle.core.canonical import digest
from treadle.core.declare.source import Source
from treadle.core.errors import DataError, TreadleError, Unavailable
from treadle.ports.source import Rows

CONNECT_SECONDS = 10
_PAGE = 5_000  # entries in one answer
_START = "0-0"


class RedisSource:
    """A stream as a connector."""

    forgets = True

    def __init__(self, source: Source, folder: object) -> None:
        self._asked, self._address = source.options, read_address(source.options["url"])
        self._topic = str(source.options["topic"])
        self.shown = f"{self._address.shown} {self._topic}"

    def fingerprint(self, since: Mapping[str, Any] | None = None) -> str | None:
        with self._connected() as client:
            info = self._info(client)
            last = _text(info["last-generated-id"])
            if since and since["id"] != last and self._first(client, since["id"], last):
                return None
            return digest([last, info.get("entries-added")])

    def read(self, since: Mapping[str, Any] | None = None) -> Rows:
        until = time.monotonic() + self._asked["within"]
        with self._connected() as client:
            info = self._info(client)
            last, added = _text(info["last-generated-id"]), info.get("entries-added")
            removed = None if added is None else int(added) - int(info["length"])
            start, counted = (str(since["id"]), since.get("counted")) if since else (_START, removed)
            if _number(start) > _number(last):
                after_gap(self._asked, self.shown, "was made anew: it ends before what was already read")
                start, counted = _START, removed
            elif since and counted is not None and removed is not None and removed > counted:
                after_gap(self._asked, self.shown, f"has lost at least {removed - counted} messages that were never read")
                counted = removed
            entries: list[tuple[str, dict[bytes, bytes]]] = []
            size, more = 0, False
            while not more and (page := client.xrange(self._topic, min=f"({start}" if start != _START else "-", max=last, count=_PAGE)):
                for id_, fields in page:
                    entries.append((_text(id_), fields or {}))
                    size += sum(len(k) + len(v) for k, v in (fields or {}).items())
                    start = entries[-1][0]
                    more = len(entries) >= self._asked["most_rows"] or size >= self._asked["most_bytes"]
                    if more:
                        break
                more = more or time.monotonic() > until
            more = more and start != last
        position: dict[str, Any] = {"id": start if more else max(start, last, key=_number)}
        if counted is not None:
            position["counted"] = counted + len(entries) if more or added is None else int(added)
        return Rows(self._frame(entries), position, full=since is None, messages=True, more=more)

    def _frame(self, entries: list[tuple[str, dict[bytes, bytes]]]) -> pl.DataFrame:
        ids = [id_ for id_, _ in entries]
        columns = [
            pl.Series("stream_id", ids, dtype=pl.String),
            pl.Series("stream_time", [datetime.fromtimestamp(int(i.partition("-")[0]) / 1000, UTC) for i in ids], dtype=pl.Datetime("us", "UTC")),
        ]
        if self._asked["field"]:
            name = self._asked["field"].encode()
            return pl.DataFrame([*columns, pl.Series("value", [fields.get(name) for _, fields in entries], dtype=pl.Binary)])
        names = dict.fromkeys(name for _, fields in entries for name in fields)
        return pl.DataFrame([*columns, *(pl.Series(_text(n), [_field(f.get(n)) for _, f in entries], dtype=pl.String) for n in names)])

    def _first(self, client: Any, after: str, last: str) -> bool:
        return bool(client.xrange(self._topic, min=f"({after}", max=last, count=1))

    def _info(self, client: Any) -> dict[str, Any]:
        try:
            return {_text(k): v for k, v in client.xinfo_stream(self._topic).items()}
        except redis.ResponseError as error:
            if "no such key" in str(error):
                raise DataError(f"There is no stream {self._topic!r}.", where=self.shown, hint="Check its key; XADD makes it.") from None
            raise

    def _connected(self) -> _Connected:
        return _Connected(self)

    def client(self) -> Any:
        """A connection of its own."""
        host, port = self._address.host(6379)
        try:
            number = int(self._address.path or 0)
        except ValueError:
            raise DataError("The address cannot be read.", where=self.shown, hint="Write redis://host:6379/0.") from None
        return redis.Redis(
            host=host, port=port, db=number, username=self._address.user or None, password=self._address.password or None,
            ssl=self._address.scheme == "rediss", socket_connect_timeout=CONNECT_SECONDS, socket_timeout=60, retry=Retry(NoBackoff(), 0),
        )  # fmt: skip

    def failure(self, error: Exception) -> TreadleError:
        """The house's error for Redis's."""
        said = self._address.safe(error).rstrip(".")
        host, port = self._address.host(6379)
        if isinstance(error, redis.AuthenticationError) or any(
            code in said for code in ("NOAUTH", "WRONGPASS", "invalid username-password", "invalid password")
        ):
            return DataError("Redis does not accept this user and password.", where=self.shown, hint="Check the variable that holds the password.")
        if "NOPERM" in said or "no permissions" in said.lower():
            return DataError(f"Redis does not allow it ({said}).", where=self.shown, hint="The user needs +xrange +xinfo for this key.")
        if "WRONGTYPE" in said:
            return DataError(f"{self._topic!r} is no stream.", where=self.shown, hint="Check its key with TYPE.")
        if isinstance(error, redis.ConnectionError | redis.TimeoutError):
            return Unavailable(
                f"Redis at {host}:{port} does not answer: {said}.", where=self.shown, hint="Check that it runs there; try again later."
            )
        return DataError(f"Redis refused to read: {said}.", where=self.shown)


class _Connected:
    """A connection whose failures are the house's."""

    def __init__(self, source: RedisSource) -> None:
        self._source = source

    def __enter__(self) -> Any:
        self._client = self._source.client()
        return self._client

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._client.close()
        if isinstance(error, redis.RedisError):
            raise self._source.failure(error) from None


def _text(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _field(value: bytes | None) -> str | None:
    return None if value is None else _text(value)


def _number(id_: str) -> tuple[int, int]:
    time_, _, sequence = id_.partition("-")
    return int(time_), int(sequence or 0)
