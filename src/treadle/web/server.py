"""The endpoint's process: serve one model over HTTP, follow the deployment record, log every answer, leave in good order.

Started by `treadle deploy` as `python -m treadle.web.server`; imports nothing of training, and not the project file.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NoReturn

from treadle.assemble import Workspace, formats
from treadle.core.clock import iso
from treadle.core.errors import TreadleError, Unavailable
from treadle.core.records import Record, Ref
from treadle.registry import packages, promote, versions
from treadle.serving.endpoint import Endpoint, Loaded, Traffic
from treadle.serving.journal import Journal
from treadle.settings import read_settings, scheme
from treadle.web import seen
from treadle.web.api.endpoint import LARGEST_BODY, Routes, ok, problem
from treadle.web.gatekeeper import Gatekeeper
from treadle.web.leave import leave
from treadle.web.tls import tls_files
from treadle.web.watching import Watching

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
        self._watching = Watching(ws, model)
        self._keeper = Gatekeeper(ws, model)
        self._gate = self._keeper.gate
        self._outside = seen.opened(ws.settings, model)

    async def follow(self) -> None:
        """Make the traffic what the deployment record says. A version that cannot be loaded is refused and what served before goes on."""
        record = promote.deployment(self._model, self._ws.ledger)
        if record is not None and record.get("stopped"):  # at once, also while a version is being loaded
            self._endpoint.traffic = replace(self._endpoint.traffic, stage="stopped")
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
                self._loaded[number] = Loaded(folder, manifest, formats(), number)
            return self._loaded[number]

        # In its trial a new champion has the one before beside it, unheard: as a challenger in shadow.
        other = record["challenger"] if record["challenger"] is not None else record.get("beside")
        stage = "stopped" if record.get("stopped") else "canary" if record["stage"] in promote.HEARD else record["stage"]
        traffic = Traffic(version(record["champion"]), version(other), stage, float(record["share"]), str(record.get("rules", {}).get("key", "")))
        for number in set(self._loaded) - {record["champion"], other}:
            del self._loaded[number]
        return traffic

    def _say(self, status: str) -> None:
        self._ws.ledger.put(
            KIND, self._model,
            {"status": status, "pid": os.getpid(), "host": self._host, "port": self._port,
             "url": f"{scheme(self._ws.settings)}://{self._host}:{self._port}",
             "deployment": self._seen, "challenger_failures": self._endpoint.challenger_failures, "since": iso(self._ws.clock.now())},
        )  # fmt: skip

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        begun = time.time_ns() if self._outside is not None else 0
        taken, caller = b"", None
        try:
            caller = self._gate.admit(scope.method, scope.path, scope.headers.get("authorization"))
        except TreadleError as error:  # said before a body of any size is read; a small one is, or the connection could not be used again
            length = scope.headers.get("content-length") or ""
            if length.isascii() and length.isdigit() and len(length) < 6:
                await protocol()
            status, sent, body = problem(error)
            self._routes.metrics.refused(status)
        else:
            headers, key = scope.headers, self._endpoint.traffic.key
            sticky = (headers.get(key[7:]) or "") if key.startswith("header:") else ""
            length = headers.get("content-length")
            if length is not None and (not (length.isascii() and length.isdigit() and len(length) < 20) or int(length) > LARGEST_BODY):
                status, sent, body = ok({"error": "too_large", "message": f"A body may have at most {LARGEST_BODY:,} bytes."}, 413)
            else:
                taken = await protocol() if scope.method == "POST" else b""
                if len(taken) > LARGEST_BODY:
                    status, sent, body = ok({"error": "too_large", "message": f"A body may have at most {LARGEST_BODY:,} bytes."}, 413)
                else:
                    status, sent, body = await self._routes.answer(scope.method, scope.path, headers.get("content-type") or "", taken, caller, sticky)
        protocol.response_bytes(status, sent, body)
        if self._outside is not None:
            self._outside.request(scope, status, begun, len(taken), len(body), caller.key.id if caller is not None else "")

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        from granian.constants import Interfaces
        from granian.server.embed import Server as Granian

        await self.follow()
        if self._endpoint.traffic.champion is None:
            raise Unavailable(f"Model {self._model!r} is not deployed.", hint="Run: treadle deploy")
        tls = tls_files(self._ws.settings)
        granian = Granian(self, address=self._host, port=self._port, interface=Interfaces.RSGI, websockets=False, log_enabled=False, **tls)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, granian.stop)
        self._keeper.look(promote.deployment(self._model, self._ws.ledger))
        poll = loop.create_task(self._poll())
        try:
            await granian.serve()
        finally:
            poll.cancel()
            await asyncio.to_thread(self._journal.close)
            await asyncio.to_thread(self._keeper.flush)
            if self._outside is not None:
                await asyncio.to_thread(self._outside.close)
            self._say("stopped")

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL)
            try:
                await self.follow()
                record = promote.deployment(self._model, self._ws.ledger)
                await asyncio.to_thread(self._keeper.look, record)
                if record is not None and await asyncio.to_thread(self._watching.look, record, self._endpoint.traffic, self._ws.clock.now()):
                    await self.follow()
                if self._endpoint.challenger_failures != self._said_failures:
                    self._said_failures = self._endpoint.challenger_failures
                    self._say("serving")
            except Exception:  # a database that is away must not stop answers; the next look may succeed
                _log.exception("the deployment record could not be read")


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
        asyncio.run(server.run())
    except TreadleError as error:
        print(f"treadle: {error}", file=sys.stderr)
        leave(error.exit_code)
    leave()


if __name__ == "__main__":
    main()
