"""Every notifier keeps the promises of its port."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from treadle.backends.file_notifier import FileNotifier
from treadle.backends.webhook_notifier import WebhookNotifier
from treadle.testing.notifier_contract import NotifierContract


class TestFileNotifier(NotifierContract):
    def make(self, folder: Path) -> FileNotifier:
        return FileNotifier(folder / "alarms" / "alarms.jsonl")

    def make_broken(self, folder: Path) -> FileNotifier:
        (folder / "file").write_text("")
        return FileNotifier(folder / "file" / "alarms.jsonl")

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        return [json.loads(line) for line in (folder / "alarms" / "alarms.jsonl").read_text().splitlines()]


class _Receiver(BaseHTTPRequestHandler):
    got: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        self.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class TestWebhookNotifier(NotifierContract):
    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        _Receiver.got.clear()
        with HTTPServer(("127.0.0.1", 0), _Receiver) as self.server:
            thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            yield
            self.server.shutdown()
            thread.join()

    def make(self, folder: Path) -> WebhookNotifier:
        return WebhookNotifier(f"http://127.0.0.1:{self.server.server_port}/hook", timeout=10)

    def make_broken(self, folder: Path) -> WebhookNotifier:
        return WebhookNotifier("http://127.0.0.1:1/hook", timeout=2)

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        return _Receiver.got
