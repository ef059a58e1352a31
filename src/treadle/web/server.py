"""The endpoint's process: serve one model over HTTP, follow the deployment record, log every answer, leave in good order.

Started by `treadle deploy` as `python -m treadle.web.server`; imports nothing of training, and not the project file.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Literal, NoReturn

from treadle.assemble import Workspace, formats
from treadle.core.clock import iso
from treadle.core.errors import TreadleError, Unavailable
from treadle.core.records import Record, Ref
from treadle.registry import packages, promote, versions
from treadle.serving.endpoint import Endpoint, Traffic
from treadle.serving.journal import Journal
from treadle.serving.loaded import Loaded
from treadle.settings import read_settings
from treadle.web.api.endpoint import Routes
from treadle.web.http import HttpServer
from treadle.web.leave import leave

KIND = "endpoint"
POLL = 0.5  # seconds between looks at the deployment record
_log = logging.getLogger("treadle.endpoint")


class Server:
    """One endpoint process."""

    def __init__(self, ws: Workspace, model: str, host: str, port: int, durable: bool, when_down: Literal["refuse", "answer"] = "refuse") -> None:
        self._ws, self._model, self._host, self._port = ws, model, host, port
        self._endpoint = Endpoint(model, ws.online, when_down=when_down)
        self._journal = Journal(ws.predictions, durable=durable, model=model)
        self._routes = Routes(self._endpoint, self._journal, ws.predictions, self.follow)
        self._loaded: dict[int, Loaded] = {}
        self._seen = 0
        self._said_failures = 0
        self._swap = asyncio.Lock()

    async def follow(self) -> None:
        """Make the traffic what the deployment record says. A version that cannot be loaded is refused and what served before goes on."""
        async with self._swap:
            record = promote.deployment(self._model, self._ws.ledger)
            if record is None or record.version == self._seen:
                return
            try:
                self._endpoint.traffic = await asyncio.to_thread(self._load, record)
            except TreadleError as error:
                _log.error("deployment %s is refused: %s", record.version, error)
                self._ws.ledger.append("endpoint.refused", Ref("deployment", self._model), {"deployment": record.version, "error": str(error)})
                if self._endpoint.traffic.champion is None:
                    raise
            self._seen = record.version
            self._endpoint.challenger_failures = self._said_failures = 0
            self._say("serving")

    def _load(self, record: Record) -> Traffic:
        def version(number: int | None) -> Loaded | None:
            if number is None:
                return None
            if number not in self._loaded:
                registered = versions.get(self._model, number, self._ws.ledger)
                folder, manifest = packages.open_package(registered["package"], self._ws.blobs, self._ws.shelf)
                self._loaded[number] = loaded = Loaded(folder, manifest, formats(), number)
                loaded.promises = registered["evaluation"].get("conformal") or ()
                loaded.warm()
            return self._loaded[number]

        traffic = Traffic(version(record["champion"]), version(record["challenger"]), record["stage"], float(record["share"]))
        for number in set(self._loaded) - {record["champion"], record["challenger"]}:
            del self._loaded[number]
        return traffic

    def _say(self, status: str) -> None:
        self._ws.ledger.put(
            KIND, self._model,
            {"status": status, "pid": os.getpid(), "host": self._host, "port": self._port, "url": f"http://{self._host}:{self._port}",
             "deployment": self._seen, "challenger_failures": self._endpoint.challenger_failures, "since": iso(self._ws.clock.now())},
        )  # fmt: skip

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        await self.follow()
        if self._endpoint.traffic.champion is None:
            raise Unavailable(f"Model {self._model!r} is not deployed.", hint="Run: treadle deploy")
        http, ended = HttpServer(self._routes.answer), asyncio.Event()
        await http.start(host=self._host, port=self._port)
        _settle_memory()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, ended.set)
        poll = loop.create_task(self._poll())
        try:
            await ended.wait()
            await http.stop()
        finally:
            poll.cancel()
            await asyncio.to_thread(self._journal.close)
            self._say("stopped")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            try:
                await self.follow()
                if self._endpoint.challenger_failures != self._said_failures:
                    self._said_failures = self._endpoint.challenger_failures
                    self._say("serving")
            except Exception:  # a database that is away must not stop answers; the next look may succeed
                _log.exception("the deployment record could not be read")


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
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.Formatter.converter = time.gmtime
    folder = Path(given.folder).resolve()
    try:
        ws, durable = Workspace(folder, read_settings(folder)), not given.buffered
        server = Server(ws, given.model, given.host, given.port, durable=durable, when_down=given.store_down)
        run(server.run())
    except TreadleError as error:
        print(f"treadle: {error}", file=sys.stderr)
        leave(error.exit_code)
    leave()


if __name__ == "__main__":
    main()
