"""The HTTP server: what is asked is answered in order, and no client can take more than its share, whatever it sends and however slowly."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

from treadle.web.api.exchange import Request, Response, ok
from treadle.web.http import HttpServer, Limits

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


def echo(request: Request) -> Response:
    return ok({"method": request.method, "path": request.path, "query": request.query, "size": len(request.body), "client": request.client.partition(":")[0]})


class World:
    """A server of an app, and connections to it."""

    def __init__(self, app: Callable[[Request], Any], **limits: Any) -> None:
        self.server = HttpServer(app, Limits(**limits))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        await self.server.start(host="127.0.0.1", port=0)
        assert self.server._server is not None
        try:
            yield self.server._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        finally:
            await self.server.stop(1.0)


async def answers(reader: Reader, count: int = 1) -> list[tuple[int, dict[str, str], bytes]]:
    found = []
    for _ in range(count):
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        found.append((int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))))
    return found


def ask(app: Callable[[Request], Any], *sent: bytes, count: int = 1, **limits: Any) -> list[tuple[int, dict[str, str], bytes]]:
    """Send pieces over one connection, one after the other, and read the answers."""

    async def main() -> list[tuple[int, dict[str, str], bytes]]:
        async with World(app, **limits).running() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for piece in sent:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.005)
            found = await answers(reader, count)
            writer.close()
            return found

    return uvloop.run(main())


def post(body: bytes, path: bytes = b"/x", more: bytes = b"") -> bytes:
    return b"POST " + path + b" HTTP/1.1\r\nHost: here\r\n" + more + b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body


def test_a_request_is_read_whole_and_answered() -> None:
    ((status, headers, body),) = ask(echo, b"POST /a%20b?x=1&y HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert body == b'{"method":"POST","path":"/a%20b","query":"x=1&y","size":5,"client":"127.0.0.1"}'
    assert "date" in headers


def test_a_request_that_comes_byte_by_byte_is_the_same() -> None:
    whole = post(b"hello")
    assert ask(echo, *[whole[i : i + 1] for i in range(len(whole))])[0][2] == ask(echo, whole)[0][2]


def test_chunks_are_put_together() -> None:
    ((_, _, body),) = ask(echo, b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", b"1\r\n!\r\n0\r\n\r\n")
    assert b'"size":6' in body


def test_requests_sent_without_waiting_are_answered_in_order_also_when_some_take_longer() -> None:
    async def slowly(request: Request) -> Response:
        await asyncio.sleep(0.05)
        return ok(request.path)

    def app(request: Request) -> Response | Awaitable[Response]:
        return slowly(request) if "slow" in request.path else ok(request.path)

    found = ask(app, post(b"", b"/1") + post(b"", b"/slow2") + post(b"", b"/3") + post(b"", b"/slow4") + post(b"", b"/5"), count=5)
    assert [body for _, _, body in found] == [b'"/1"', b'"/slow2"', b'"/3"', b'"/slow4"', b'"/5"']


def test_a_connection_is_kept_unless_the_client_says_otherwise() -> None:
    found = ask(echo, post(b""), post(b""), post(b"", more=b"Connection: close\r\n"), count=3)
    assert ["connection" in headers for _, headers, _ in found] == [False, False, True]


def test_head_has_no_body_and_a_client_that_asks_first_is_told_to_go_on() -> None:
    async def main() -> bytes:
        async with World(echo).running() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"hi")
            ((status, _, body),) = await answers(reader)
            assert (status, b'"size":2' in body) == (200, True)
            writer.write(b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            return await reader.read()

    assert uvloop.run(main()).endswith(b"\r\n\r\n")


@pytest.mark.parametrize("sent", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"])
def test_what_is_no_http_is_400_and_the_connection_ends(sent: bytes) -> None:
    ((status, headers, body),) = ask(echo, sent)
    assert (status, headers["connection"], b'"message"' in body) == (400, "close", True)


@pytest.mark.parametrize(
    "sent",
    [
        [b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"400\r\n" + b"x" * 1024 + b"\r\n"] * 20],
        [b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10241\r\n\r\n" + b"x" * 10241],
    ],
    ids=["said", "chunked", "there"],
)
def test_a_body_that_is_too_large_is_413_and_never_given_to_anybody(sent: list[bytes]) -> None:
    seen = []

    def app(request: Request) -> Response:
        seen.append(request)
        return ok({})

    ((status, headers, body),) = ask(app, *sent, body=10_240)
    assert (status, headers["connection"], seen) == (413, "close", [])
    assert b"at most 10,240 bytes" in body


def test_a_gigabyte_is_refused_while_it_is_being_sent_and_takes_no_memory() -> None:
    async def main() -> int:
        world = World(echo, body=1_000_000)
        async with world.running() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")

            async def send() -> None:
                piece = b"100000\r\n" + b"x" * 2**20 + b"\r\n"
                with contextlib.suppress(ConnectionError):
                    for _ in range(1024):
                        writer.write(piece)
                        await writer.drain()

            sending = asyncio.create_task(send())
            ((status, _, _),) = await answers(reader)
            held = max((connection._size for connection in world.server.connections), default=0)
            sending.cancel()
            writer.close()
            assert held < 3_000_000
            return status

    assert uvloop.run(main()) == 413


@pytest.mark.parametrize("sent", [b"GET /" + b"x" * 50_000, b"GET / HTTP/1.1\r\nA: " + b"x" * 50_000, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 9_000])
def test_a_head_without_end_is_431(sent: bytes) -> None:
    assert ask(echo, sent)[0][0] == 431


@pytest.mark.parametrize("sent", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe"])
def test_a_client_that_does_not_finish_its_request_is_408_and_others_are_answered_meanwhile(sent: bytes) -> None:
    async def main() -> list[int]:
        async with World(echo, reading=0.3).running() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            other, to = await asyncio.open_connection("127.0.0.1", port)
            to.write(post(b""))
            ((quick, _, _),) = await answers(other)
            ((status, _, _),) = await answers(reader)
            return [quick, status]

    assert uvloop.run(main()) == [200, 408]


def test_a_client_that_takes_no_answers_is_cut_off_and_holds_a_bounded_number_of_them() -> None:
    async def main() -> None:
        world = World(lambda request: ok("x" * 1_000_000), writing=0.5)
        async with world.running() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
            with contextlib.suppress(ConnectionError):
                for _ in range(200):
                    writer.write(post(b""))
            while world.server.connections or not world.server.answered:
                await asyncio.sleep(0.05)
            assert world.server.answered < 200

    uvloop.run(main())


def test_a_connection_nobody_uses_is_closed() -> None:
    async def main() -> bytes:
        async with World(echo, idle=0.2).running() as port:
            reader, _ = await asyncio.open_connection("127.0.0.1", port)
            return await asyncio.wait_for(reader.read(), 20)

    assert uvloop.run(main()) == b""


def test_one_connection_more_than_there_may_be_is_503() -> None:
    async def main() -> list[int]:
        async with World(echo, connections=2).running() as port:
            first = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            for _, writer in first:
                writer.write(post(b""))
            said = [(await answers(reader))[0][0] for reader, _ in first]
            reader, _ = await asyncio.open_connection("127.0.0.1", port)
            return [*said, (await answers(reader))[0][0]]

    assert uvloop.run(main()) == [200, 200, 503]


def test_a_client_that_leaves_while_it_is_answered_disturbs_nobody() -> None:
    left: list[bool] = []

    async def slowly() -> Response:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            left.append(True)
            raise
        return ok({})

    async def main() -> int:
        async with World(lambda request: slowly() if "slow" in request.path else ok({})).running() as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(b"", b"/slow"))
            await asyncio.sleep(0.05)
            writer.close()
            while not left:
                await asyncio.sleep(0.01)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(post(b""))
            return (await answers(reader))[0][0]

    assert uvloop.run(main()) == 200


def test_more_than_can_be_answered_is_told_to_come_back_and_the_rest_is_not_delayed() -> None:
    def busy(request: Request) -> Response:
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            pass
        return ok({})

    async def main() -> list[tuple[int, dict[str, str], bytes]]:
        async with World(busy, round=0.1, pause=0.2).running() as port:
            clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(100)]
            await asyncio.sleep(0.1)
            for _, writer in clients:
                writer.write(post(b""))
            return [(await answers(reader))[0] for reader, _ in clients]

    found = uvloop.run(main())
    shed = [headers for status, headers, _ in found if status == 503]
    assert {status for status, _, _ in found} == {200, 503}
    assert all(headers["retry-after"] == "1" for headers in shed)


def test_looks_are_answered_also_when_predictions_are_not() -> None:
    world = World(echo)
    world.server.late = lambda: True  # type: ignore[method-assign]

    async def main() -> list[int]:
        async with world.running() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health/ready HTTP/1.1\r\nHost: h\r\n\r\n" + post(b""))
            return [status for status, _, _ in await answers(reader, 2)]

    assert uvloop.run(main()) == [200, 503]


def test_an_app_that_raises_is_500_and_the_next_request_is_answered() -> None:
    async def later() -> Response:
        raise ValueError("the password is swordfish")

    def app(request: Request) -> Response | Awaitable[Response]:
        if request.path == "/now":
            raise ValueError("the password is swordfish")
        return later() if request.path == "/later" else ok({})

    found = ask(app, post(b"", b"/now") + post(b"", b"/later") + post(b"", b"/fine"), count=3)
    assert [status for status, _, _ in found] == [500, 500, 200]
    assert not any(b"swordfish" in body for _, _, body in found)


def test_stopping_finishes_what_was_asked_and_tells_kept_connections_to_close() -> None:
    async def slowly() -> Response:
        await asyncio.sleep(0.2)
        return ok("slow")

    async def main() -> tuple[Any, Any, bytes, float]:
        world = World(lambda request: slowly() if "slow" in request.path else ok({}))
        async with world.running() as port:
            slow, to_slow = await asyncio.open_connection("127.0.0.1", port)
            kept, to_kept = await asyncio.open_connection("127.0.0.1", port)
            idle, _ = await asyncio.open_connection("127.0.0.1", port)
            to_slow.write(post(b"", b"/slow"))
            await asyncio.sleep(0.05)
            begun = time.monotonic()
            stopping = asyncio.create_task(world.server.stop(5.0))
            await asyncio.sleep(0.05)
            to_kept.write(post(b""))
            said = (await answers(slow))[0], (await answers(kept))[0], await idle.read()
            await stopping
            with pytest.raises(OSError):
                await asyncio.open_connection("127.0.0.1", port)
            return (*said, time.monotonic() - begun)

    slow, kept, idle, seconds = uvloop.run(main())
    assert (slow[0], slow[2], slow[1]["connection"]) == (200, b'"slow"', "close")
    assert (kept[0], kept[1]["connection"], idle) == (200, "close", b"")
    assert seconds < 4
