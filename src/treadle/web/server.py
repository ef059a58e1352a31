"""A process that answers: serve one model over HTTP, follow the deployment record, log every answer, leave in good order.

Started by `treadle.web.workers`, or alone as `python -m treadle.web.server`; imports nothing of training, and not the project file.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.errors import StorageError, TreadleError, Unavailable
from treadle.core.records import Record
from treadle.pipelines.lease import alive
from treadle.registry import promote
from treadle.serving.batching import TimedOut
from treadle.serving.endpoint import SECONDS, Endpoint, Missed
from treadle.serving.journal import Journal
from treadle.serving.logged import policed
from treadle.settings import read_settings, scheme
from treadle.web import seen
from treadle.web.api.endpoint import Routes
from treadle.web.api.exchange import problem
from treadle.web.api.metrics import calls, gauges
from treadle.web.following import Following
from treadle.web.gatekeeper import Gatekeeper
from treadle.web.http import HttpServer
from treadle.web.leave import leave
from treadle.web.shared_counts import SharedCounts
from treadle.web.tls import tls_context
from treadle.web.watching import Watching

KIND = "endpoint"
POLL = 0.5  # seconds between looks at the deployment record
BEAT = 0.25  # seconds between signs of life
_log = logging.getLogger("treadle.endpoint")


@dataclass(frozen=True)
class Place:
    """Which of the workers this is. Alone, it opens the address itself.

    Args:
        descriptor: of the listening socket handed down, -1 for none. pipe: where it writes that it lives, -1 for nowhere.
    """

    index: int = 0
    count: int = 1
    descriptor: int = -1
    pipe: int = -1


class Server:
    """One process of an endpoint."""

    def __init__(
        self, ws: Workspace, model: str, host: str, port: int, durable: bool, when_down: Literal["refuse", "answer"] = "refuse",
        seconds: float = SECONDS, place: Place = Place(),
    ) -> None:  # fmt: skip
        self._ws, self._model, self._host, self._port = ws, model, host, port
        self._place, self._seconds = place, seconds
        self._pid = os.getpid() if place.descriptor < 0 else os.getppid()  # asked now: whoever started this may be gone later
        self._endpoint = Endpoint(model, ws.online, when_down=when_down, seconds=seconds)
        self._counts = SharedCounts(ws.settings.home / "endpoints" / model, place.index, place.count)
        self._ended = asyncio.Event()
        self._unasked = False  # replaced, or its parent died: it leaves, and the endpoint was not stopped
        self._journal = Journal(policed(ws.predictions, ws.ledger, ws.settings.home, model), durable=durable, model=model)
        self._routes = Routes(self._endpoint, self._journal, ws.predictions, self.follow)
        self._outside = seen.opened(ws.settings, model)
        self._http = HttpServer(self._outside.around(self._routes.answer) if self._outside is not None else self._routes.answer)
        self._routes.others, self._routes.shed = self._counts.others, lambda: self._http.shed
        if (before := self._counts.own()) is not None:
            self._routes.metrics.add(before["metrics"])
        self._following = Following(ws, model, place.index)
        self._seen = 0
        self._said: tuple[int, int, tuple[Missed, ...]] = (0, 0, ())
        self._swap = asyncio.Lock()
        self._watching = Watching(ws, model, place.count)
        self._keeper = Gatekeeper(ws, model, place.count)
        self._routes.gate = self._keeper.gate

    async def follow(self, again: bool = True) -> None:
        """Make the traffic what the deployment record says, as far as its versions can be opened; whoever else answers is told of.

        Args:
            again: try now what could not be opened, and not only when it is due.
        Raises: what keeps a champion from being opened where there is nobody else; what the stores raise.
        """
        record = promote.deployment(self._model, self._ws.ledger)
        if record is not None and record.get("stopped"):  # at once, also while a version is being loaded
            self._endpoint.traffic = replace(self._endpoint.traffic, stage="stopped")
        async with self._swap:
            record = promote.deployment(self._model, self._ws.ledger)
            if record is None or (record.version == self._seen and not (self._endpoint.traffic.missed and (again or self._following.due()))):
                return
            before = self._endpoint.traffic
            self._endpoint.traffic = now = await asyncio.to_thread(self._following.traffic, record, before)
            if record.version != self._seen:
                self._endpoint.challenger_failures = 0
            self._seen = record.version
            self._following.tell(record, before, now)
            await asyncio.to_thread(self._leave_counts)
            self._said = (self._failures(), self._followed(), now.missed)
            self._say("serving")

    def _say(self, status: str) -> None:
        if self._place.index:  # the first worker speaks for all
            return
        if status == "stopped":
            current = self._ws.ledger.get(KIND, self._model)
            if current is not None and current["pid"] != self._pid:  # another has taken over, while this one was finishing
                return
        traffic = self._endpoint.traffic
        self._ws.ledger.put(
            KIND, self._model,
            {"status": status, "pid": self._pid, "host": self._host, "port": self._port, "url": f"{scheme(self._ws.settings)}://{self._host}:{self._port}",
             "deployment": self._followed(), "challenger_failures": self._failures(), "since": iso(self._ws.clock.now()),
             "answers": traffic.champion.number if traffic.champion is not None else None,
             "missed": [{"version": missed.number, "role": missed.role, "why": missed.why} for missed in traffic.missed]},
        )  # fmt: skip

    def _followed(self) -> int:
        """The version of the deployment record that all living workers follow; one that takes a dead one's place reads it when it begins."""
        return min([self._seen, *(int(other["deployment"]) for other in self._counts.others() if alive(int(other.get("pid", 0))))])

    def _failures(self) -> int:
        return self._endpoint.challenger_failures + sum(int(other["challenger_failures"]) for other in self._counts.others())

    def _leave_counts(self) -> None:
        endpoint = self._endpoint
        self._counts.leave({
            "pid": os.getpid(), "deployment": self._seen, "metrics": self._routes.metrics.counts(), "calls": calls(endpoint.traffic),
            "shed": self._http.shed, **gauges(endpoint, self._journal),
        })  # fmt: skip

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT, or until a model hangs."""
        await self.follow()
        if self._endpoint.traffic.champion is None:
            raise Unavailable(f"Model {self._model!r} is not deployed.", hint="Run: treadle deploy")
        place, http = self._place, self._http
        sock = socket.socket(fileno=place.descriptor) if place.descriptor >= 0 else None
        tls = tls_context(self._ws.settings)
        self._guard(promote.deployment(self._model, self._ws.ledger))
        await http.start(host=self._host, port=self._port, sock=sock, tls=tls)
        _settle_memory()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ended.set)
        loop.add_signal_handler(signal.SIGUSR1, self._give_way)
        threading.Thread(target=self._watch_calls, name="calls", daemon=True).start()
        tasks = [loop.create_task(self._poll()), loop.create_task(self._beat())]
        try:
            await self._ended.wait()
            await http.stop(self._seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.to_thread(self._journal.close)
            await asyncio.to_thread(self._keeper.flush)
            if self._outside is not None:
                await asyncio.to_thread(self._outside.close)
            self._leave_counts()
            if not self._unasked:
                self._say("stopped")

    def _guard(self, record: Record | None) -> None:
        self._keeper.look(record)
        self._http.admit = self._routes.admit if self._keeper.gate.required else None

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            try:
                await self.follow(again=False)
                if self._endpoint.traffic.champion is not None:
                    await asyncio.to_thread(self._following.recalibrate, self._endpoint.traffic.champion)
                record = promote.deployment(self._model, self._ws.ledger)
                await asyncio.to_thread(self._guard, record)
                if record is not None and await asyncio.to_thread(self._watching.look, record, self._endpoint.traffic, self._ws.clock.now()):
                    await self.follow()
                await asyncio.to_thread(self._leave_counts)
                says = (self._failures(), self._followed(), self._endpoint.traffic.missed)
                if says != self._said:
                    self._said = says
                    self._say("serving")
            except Exception:  # a database that is away must not stop answers; the next look may succeed
                _log.exception("the deployment record could not be read")

    async def _beat(self) -> None:
        """Say that this process lives; leave when a model hangs in its thread, or when nobody listens any more."""
        while True:
            if self._place.pipe >= 0:
                try:
                    os.write(self._place.pipe, b".")
                except BlockingIOError:  # whoever listens is behind
                    pass
                except OSError:  # whoever started this has died, which nobody asked for
                    self._unasked = True
                    self._ended.set()
            if self._endpoint.hung:
                _log.error("a model does not come back within %g s: this process is replaced", self._seconds)
                self._give_way()
            await asyncio.sleep(BEAT)

    def _give_way(self) -> None:
        self._unasked = self._place.descriptor >= 0
        self._ended.set()

    def _watch_calls(self) -> None:
        """In a thread: a model that hangs where requests are read stops everything else; its caller is told here, and the process ends."""
        while not self._ended.is_set():
            time.sleep(BEAT)
            since = self._endpoint.calling_since
            if since and time.monotonic() - since > self._seconds:
                _log.error("a model does not come back within %g s: this process ends", self._seconds)
                error = TimedOut(f"The model did not answer within {self._seconds:g} s.", hint="Its process is replaced; try again in a second.")
                self._http.last_words(problem(error))
                with contextlib.suppress(StorageError):
                    self._journal.close(timeout=5.0)
                leave(error.exit_code)


def _settle_memory() -> None:
    """What is loaded stays: the garbage collector need not look through it again and again while answers wait for the log."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop where there is one: a loop that costs a third."""
    try:
        import uvloop
    except ImportError:  # not made for this system
        asyncio.run(work)
    else:
        uvloop.run(work)


def main(arguments: list[str] | None = None) -> NoReturn:
    parser = argparse.ArgumentParser(prog="python -m treadle.web.server", description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--buffered", action="store_true")
    parser.add_argument("--store-down", choices=("refuse", "answer"), default="refuse")
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--worker-memory", type=int, default=0)
    parser.add_argument("--index", type=int, default=0)
    parser.add_argument("--descriptor", type=int, default=-1)
    parser.add_argument("--pipe", type=int, default=-1)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # it is for the process around workers (see `workers.py`); alone, there is nobody to replace
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.Formatter.converter = time.gmtime
    os.environ.setdefault("POLARS_MAX_THREADS", "1")  # a worker is for one core; more threads would wait for each other
    folder = Path(given.folder).resolve()
    try:
        ws, durable = Workspace(folder, read_settings(folder)), not given.buffered
        place = Place(given.index, given.workers if given.descriptor >= 0 else 1, given.descriptor, given.pipe)
        if given.pipe >= 0:
            os.set_blocking(given.pipe, False)
        server = Server(ws, given.model, given.host, given.port, durable, given.store_down, given.seconds, place)
        run(server.run())
    except TreadleError as error:
        print(f"treadle: {error}", file=sys.stderr)
        leave(error.exit_code)
    leave()


if __name__ == "__main__":
    main()
