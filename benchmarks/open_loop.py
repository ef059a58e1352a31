"""Ask an endpoint at a fixed rate, whatever it answers, and say how long each answer took from the moment its request was due.

    python benchmarks/open_loop.py --port 8765 --rate 3000 --seconds 10 --body body.json

Requests are due at random moments (a Poisson process), as those of many callers are; one that finds all connections busy waits, and its wait counts.
So a server that stalls is told the whole stall, which a client that waits for each answer before it asks again (as wrk does) does not see.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import deque
from pathlib import Path
from typing import Any

EDGES = [0.1 * 2 ** (i / 2) for i in range(31)]  # milliseconds: from 0.1 ms on, two a doubling


class Connection(asyncio.Protocol):
    """One connection, with at most one request under way."""

    def __init__(self, client: Client) -> None:
        self._client, self._read, self._length = client, b"", -1
        self.due = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._client.free.append(self)

    def ask(self, due: float) -> None:
        self.due = due
        self._transport.write(self._client.request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self._length < 0:
            head = self._read.find(b"\r\n\r\n")
            if head < 0:
                return
            said = self._read[:head].lower()
            at = said.index(b"content-length: ") + 16
            self._length = head + 4 + int(said[at : said.find(b"\r", at) if said.find(b"\r", at) > 0 else len(said)])
            self._status = int(said[9:12])
        if len(self._read) >= self._length:
            self._read, self._length = b"", -1
            self._client.answered(self, self._status)


class Client:
    """Sends what is due and notes what came back."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.free: deque[Connection] = deque()
        self.late: deque[float] = deque()
        self.took: list[float] = []
        self.refused = 0

    def send(self, due: float) -> None:
        if self.free:
            self.free.popleft().ask(due)
        else:
            self.late.append(due)

    def answered(self, connection: Connection, status: int) -> None:
        if status == 200:
            self.took.append(time.perf_counter() - connection.due)
        else:
            self.refused += 1
        if self.late:
            connection.ask(self.late.popleft())
        else:
            self.free.append(connection)


async def drive(port: int, request: bytes, rate: float, seconds: float, connections: int) -> Client:
    """Ask for `seconds`, then wait for what is under way."""
    client, loop = Client(request), asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Connection(client), "127.0.0.1", port)
    chance = random.Random(1)
    begun = time.perf_counter()
    due, sent = begun + chance.expovariate(rate), 0
    while due < begun + seconds:
        now = time.perf_counter()
        while due <= now and due < begun + seconds:
            client.send(due)
            sent += 1
            due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, min(0.001, due - time.perf_counter())))
    for _ in range(3_000):
        if len(client.took) + client.refused >= sent:
            break
        await asyncio.sleep(0.01)
    return client


def figures(client: Client, rate: float, seconds: float) -> dict[str, Any]:
    """Percentiles in milliseconds, and how many answers took up to each of EDGES."""
    took = sorted(1000 * t for t in client.took)
    said: dict[str, Any] = {"rate": rate, "answered": len(took), "refused": client.refused, "seconds": seconds}
    for p in (50, 90, 99, 99.9):
        said[f"p{p:g}"] = took[min(len(took) - 1, int(len(took) * p / 100))] if took else None
    counts, at = [0] * (len(EDGES) + 1), 0
    for t in took:
        while at < len(EDGES) and t > EDGES[at]:
            at += 1
        counts[at] += 1
    return said | {"most": took[-1] if took else None, "counts": counts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/predict")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--body", type=Path, required=True)
    parser.add_argument("--type", default="application/json")
    given = parser.parse_args()
    body = given.body.read_bytes()
    head = f"POST {given.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {given.type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    try:
        import uvloop

        run: Any = uvloop.run
    except ImportError:
        run = asyncio.run
    client = run(drive(given.port, head + body, given.rate, given.seconds, given.connections))
    print(json.dumps(figures(client, given.rate, given.seconds)))


if __name__ == "__main__":
    main()
