"""HTTP/1.1 for a process that answers in microseconds: bytes of a connection to requests (by llhttp, the parser of Node.js), answers back to bytes.

An answer that is there at once is written within the callback that read the request: no task, no thread, no queue between. What a client may do to
others is bounded: the size of its head and body, the time it takes to send them and to take the answer, the number of connections, and how much of
one round of the event loop goes into answering before the rest is told to come back later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, cast

import httptools

from treadle.serving.keys import Caller
from treadle.web.api.exchange import JSON_HEADERS, Request, Response, ok

App = Callable[[Request], "Response | Awaitable[Response]"]
Admit = Callable[[str, str, "str | None"], "Caller | Response | None"]
_log = logging.getLogger("treadle.http")
_STATUS = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}\r\n".encode() for status in HTTPStatus}
_FAST = b"content-type: application/json\r\ncontent-length: "


@dataclass(frozen=True)
class Limits:
    """What one client may take.

    Args:
        body: bytes of a body. head: bytes of the request line and the headers.
        reading: seconds to send a request, and one more for each `slowest` bytes of its body. writing: seconds to take an answer.
        idle: seconds a connection is kept without a request.
        connections: open at once.
        round: seconds of one round of the event loop that go into answering; who comes after is told to try again.
        pause: seconds in which no request is read from a client that was told so.
    """

    body: int = 16 * 1024 * 1024
    head: int = 32 * 1024
    reading: float = 10.0
    slowest: int = 64 * 1024
    writing: float = 30.0
    idle: float = 75.0
    connections: int = 4096
    round: float = 0.1
    pause: float = 0.5


class HttpServer:
    """Serves one app on one listening socket.

    Attributes:
        admit: method, path and Authorization header to who calls, or to a refusal that is sent before the body is read; None admits everybody.
        answered, shed: requests answered, and requests told to come back later.
    """

    def __init__(self, app: App, limits: Limits = Limits()) -> None:
        self.app, self.limits = app, limits
        self.admit: Admit | None = None
        self.connections: set[Connection] = set()
        self.answered = self.shed = 0
        self.draining = False
        self.date = b""
        self.answering: Connection | None = None
        self._round = 0.0
        self._out: list[tuple[Connection, bytes]] = []
        self._server: asyncio.AbstractServer | None = None
        self._sweep: asyncio.Task[None] | None = None

    async def start(self, *, host: str = "", port: int = 0, sock: Any = None, tls: ssl.SSLContext | None = None) -> None:
        """Listen on an address, or on a socket that was opened before."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.refresh()
        where: dict[str, Any] = {"sock": sock} if sock is not None else {"host": host, "port": port}
        self._server = await loop.create_server(lambda: Connection(self, loop), ssl=tls, backlog=1024, **where)
        self._sweep = loop.create_task(self._sweeping())

    async def stop(self, seconds: float = 10.0) -> None:
        """Take no new connections, finish the requests under way, tell kept connections to close; after `seconds` cut off what is left."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        end = time.monotonic() + seconds
        grace = time.monotonic() + min(0.5, seconds)  # a request may be on its way on a connection that looks idle
        while self.connections and time.monotonic() < end:
            if time.monotonic() > grace:
                for connection in list(self.connections):
                    connection.close_if_idle()
            await asyncio.sleep(0.02)
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in list(self.connections):
            connection.abort()

    def late(self) -> bool:
        """Whether this round of the event loop has taken so long that who is asking should come back later."""
        now = time.monotonic()
        if self._round == 0.0:
            self._round = now
            self._loop.call_soon(self._end_round)
            return False
        return now - self._round > self.limits.round

    def write(self, connection: Connection, data: bytes) -> None:
        """Write when this round of the event loop is over: a client that is woken at once takes the processor from the requests that follow."""
        if not self._out and self._round == 0.0:
            self._loop.call_soon(self._end_round)
        self._out.append((connection, data))

    def _end_round(self) -> None:
        self._round = 0.0
        out, self._out = self._out, []
        for connection, data in out:
            connection.send(data)

    def last_words(self, response: Response) -> None:
        """From another thread, while an app does not come back: send the answers that are ready, and this one to who is being answered."""
        for connection, data in [*self._out, *([(self.answering, _bytes(response, self.date, False))] if self.answering is not None else [])]:
            connection.send_at_once(data)

    def refresh(self) -> None:
        """The date of answers, once a second."""
        self.date = f"date: {formatdate(usegmt=True)}\r\n".encode()
        self.fast = _STATUS[200] + self.date + _FAST

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.refresh()
            now = time.monotonic()
            for connection in list(self.connections):
                connection.check(now)


class Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_app", "_body", "_busy", "_caller", "_closing", "_drop", "_head", "_headers", "_keep", "_last", "_length", "_loop", "_more", "_parser",
        "_reading", "_server", "_since", "_size", "_task", "_transport", "_url", "_waiting", "_writing",
    )  # fmt: skip

    def __init__(self, server: HttpServer, loop: asyncio.AbstractEventLoop) -> None:
        self._server, self._loop, self._app = server, loop, server.app
        self._parser = httptools.HttpRequestParser(self)
        self._busy = self._closing = self._drop = self._reading = False
        self._keep = True
        self._waiting: deque[tuple[Request, bool]] = deque()  # requests of a client that does not wait for its answers
        self._task: asyncio.Task[None] | None = None
        self._head = self._size = 0
        self._since = 0.0  # when the request that is being read began
        self._writing = 0.0  # since when the client takes nothing
        self._last = time.monotonic()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._server.connections.add(self)
        if len(self._server.connections) > self._server.limits.connections:
            self._refuse(503, "unavailable", "There are too many connections.", [("retry-after", "1")])

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._closing = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._drop:  # refused; what is still coming is not looked at
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._keep = False
        except httptools.HttpParserError:
            if not self._drop and not self._closing:
                self._refuse(400, "usage", "This is not an HTTP/1.1 request.")
            return
        if self._reading and self._length == -1 and not self._drop:
            self._head += len(data)
            if self._head > self._server.limits.head:
                self._refuse(431, "too_large", f"The head of a request may have at most {self._server.limits.head:,} bytes.")

    def eof_received(self) -> bool:
        """Who sends no more has left, if the answer takes long; else the answer that is on its way is still written."""
        if self._busy:
            return False
        self._loop.call_soon(self._transport.close)
        return True

    def pause_writing(self) -> None:
        self._writing = time.monotonic()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._writing = 0.0
        if not self._busy and not self._closing:
            self._transport.resume_reading()

    # --- what the parser says

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._more: list[bytes] | None = None
        self._caller: Caller | None = None
        self._length = -1  # -1 while the head is read, -2 for a body of unknown length
        self._head = self._size = 0
        self._since = time.monotonic()
        self._reading = True

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._length = -2
        for name, value in self._headers:
            size = len(name)
            if size == 14 and name.lower() == b"content-length":
                self._length = int(value)
            elif size == 6 and name.lower() == b"expect" and value.lower() == b"100-continue" and self._length <= self._server.limits.body:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._server.admit is not None and not self._admitted(self._server.admit):
            return
        if self._length > self._server.limits.body:
            self._too_large()

    def _admitted(self, admit: Admit) -> bool:
        shown = next((value.decode("latin-1") for name, value in self._headers if name.lower() == b"authorization"), None)
        found = admit(self._parser.get_method().decode("latin-1"), self._url.partition(b"?")[0].decode("latin-1"), shown)
        if isinstance(found, tuple):
            if not self._closing:
                self._drop = True
                self._write(found, False)
            return False
        self._caller = found
        return True

    def on_body(self, data: bytes) -> None:
        if self._drop:
            return
        if not self._size:
            self._body = data
        elif self._more is None:
            self._more = [self._body, data]
        else:
            self._more.append(data)
        self._size += len(data)
        if self._size > self._server.limits.body:
            self._too_large()

    def on_message_complete(self) -> None:
        self._reading = False
        if self._drop or self._closing:
            return
        body = self._body if self._more is None else b"".join(self._more)
        path, _, query = self._url.partition(b"?")
        parser = self._parser
        request = Request(
            parser.get_method().decode("latin-1"), path.decode("latin-1"), query.decode("latin-1") if query else "", self._headers, body, self._peer,
            self._caller,
        )
        keep = parser.should_keep_alive()
        if self._busy or self._waiting:
            self._waiting.append((request, keep))
            self._transport.pause_reading()
            return
        self._handle(request, keep)

    # --- answers

    def _handle(self, request: Request, keep: bool) -> None:
        server = self._server
        server.answering = self
        if server.late() and request.method == "POST":
            self._shed(request, keep)
            return
        try:
            response = self._app(request)
        except Exception:
            _log.exception("%s failed", request.path)
            response = ok({"error": "error", "message": "The endpoint failed."}, 500)
        if isinstance(response, tuple):
            self._write(response, keep and not server.draining, request.method == "HEAD")
        else:
            self._busy = True  # and reading on: that is how a client that leaves is noticed
            self._task = self._loop.create_task(self._wait(response, request, keep))

    async def _wait(self, response: Awaitable[Response], request: Request, keep: bool) -> None:
        try:
            found = await response
        except asyncio.CancelledError:
            raise
        except Exception:
            _log.exception("%s failed", request.path)
            found = ok({"error": "error", "message": "The endpoint failed."}, 500)
        self._busy, self._task = False, None
        if self._closing:
            return
        self._write(found, keep and not self._server.draining, request.method == "HEAD")
        while self._waiting and not self._busy and not self._closing:
            self._handle(*self._waiting.popleft())
        if not self._busy and not self._closing and not self._writing:
            self._transport.resume_reading()

    def _write(self, response: Response, keep: bool, bare: bool = False) -> None:
        status, headers, body = response
        server = self._server
        if headers is JSON_HEADERS and status == 200 and keep and not bare:
            server.write(self, b"%b%d\r\n\r\n%b" % (server.fast, len(body), body))
        else:
            server.write(self, _bytes(response, server.date, keep, bare))
        server.answered += 1
        self._since = 0.0
        self._last = time.monotonic()
        if not keep or not self._keep:
            self._closing = True
            self._waiting.clear()

    def _shed(self, request: Request, keep: bool) -> None:
        """Told to come back, and not listened to for a moment: a client that asks again at once would take the time of those that are answered."""
        server = self._server
        server.shed += 1
        said = {"error": "overloaded", "message": "The endpoint has more requests than it can answer.", "hint": "Try again in a second."}
        status, headers, body = ok(said, 503)
        self._write((status, [*headers, ("retry-after", "1")], body), keep and not server.draining, request.method == "HEAD")
        if not self._closing:
            self._busy = True
            self._transport.pause_reading()
            self._loop.call_later(server.limits.pause, self._listen_again)

    def _listen_again(self) -> None:
        self._busy = False
        while self._waiting and not self._busy and not self._closing:
            self._handle(*self._waiting.popleft())
        if not self._busy and not self._closing and not self._writing:
            self._transport.resume_reading()

    def _too_large(self) -> None:
        self._refuse(413, "too_large", f"A body may have at most {self._server.limits.body:,} bytes.")

    def _refuse(self, status: int, code: str, message: str, headers: list[tuple[str, str]] | None = None) -> None:
        """Answer and close. What is still coming is taken off the line for a moment and thrown away: closing on it would cut the answer off too."""
        if self._closing:
            return
        self._drop = True
        _, json_headers, body = ok({"error": code, "message": message}, status)
        self._write((status, [*json_headers, *(headers or [])], body), False)

    def send(self, data: bytes) -> None:
        """Write; close if that was the last answer."""
        if self._transport.is_closing():
            return
        self._transport.write(data)
        if not self._closing:
            return
        if self._drop:
            if self._transport.can_write_eof():
                self._transport.write_eof()
            self._loop.call_later(1.0, self._transport.abort)
        else:
            self._transport.close()

    def send_at_once(self, data: bytes) -> None:
        """Past the event loop, which does not turn."""
        sock = self._transport.get_extra_info("socket")
        with contextlib.suppress(OSError, AttributeError):
            os.write(sock.fileno(), data)

    def _peer(self) -> str:
        peer = self._transport.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else ""

    # --- clocks

    def check(self, now: float) -> None:
        """Once a second: whether this client takes too long."""
        limits = self._server.limits
        if self._closing:
            return
        if self._writing and now - self._writing > limits.writing:
            self.abort()
        elif self._reading and now - self._since > limits.reading + self._size / limits.slowest:
            self._refuse(408, "timed_out", "The request did not arrive in time.")
        elif not self._busy and not self._reading and now - self._last > limits.idle:
            self._closing = True
            self._transport.close()

    def close_if_idle(self) -> None:
        """Close unless a request is under way."""
        if not (self._busy or self._reading or self._waiting or self._closing):
            self._closing = True
            self._transport.close()

    def abort(self) -> None:
        """Cut it off."""
        self._closing = True
        self._transport.abort()


def _bytes(response: Response, date: bytes, keep: bool, bare: bool = False) -> bytes:
    """A response as it goes over the line."""
    status, headers, body = response
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1", "replace")
    end = b"" if keep else b"connection: close\r\n"
    head = b"%b%b%b%bcontent-length: %d\r\n\r\n" % (_STATUS.get(status, _STATUS[500]), date, lines, end, len(body))
    return head if bare else head + body
