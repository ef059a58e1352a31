"""What the notifiers promise beyond the port: whole lines after a death, no believed redirects, no secrets in errors."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from treadle.backends.file_notifier import FileNotifier
from treadle.backends.webhook_notifier import WebhookNotifier
from treadle.core.errors import Unavailable, UsageError
from treadle.ports.notifier import Message

ALARM = Message("alarm-1", "title", "text")


def test_a_line_cut_by_a_killed_writer_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "alarms.jsonl"
    path.write_text('{"id":"half')
    FileNotifier(path).send(ALARM)
    assert json.loads(path.read_text().splitlines()[1])["id"] == "alarm-1"


def test_many_threads_write_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "alarms.jsonl"
    notifier = FileNotifier(path)
    threads = [threading.Thread(target=lambda: [notifier.send(Message("a", "t", "x" * 5000)) for _ in range(10)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a"] * 40


class _Answer(BaseHTTPRequestHandler):
    code = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(type(self).code)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/services/SECRET"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("code", [301, 302, 307, 400, 404, 429, 500, 503])
def test_any_answer_but_success_is_not_handed_over(address: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Answer, "code", code)
    with pytest.raises(Unavailable, match=str(code)) as caught:
        WebhookNotifier(address).send(ALARM)
    assert "SECRET" not in str(caught.value)


def test_a_webhook_that_does_not_answer_in_time_is_unavailable() -> None:
    with HTTPServer(("127.0.0.1", 0), _Answer) as deaf:  # it listens and never accepts
        with pytest.raises(Unavailable, match="does not answer") as caught:
            WebhookNotifier(f"http://127.0.0.1:{deaf.server_port}/SECRET", timeout=0.2).send(ALARM)
        assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x", "hooks.example.org", "http://", ""])
def test_only_http_addresses_are_taken(url: str) -> None:
    with pytest.raises(UsageError):
        WebhookNotifier(url)


def test_a_server_that_says_back_what_it_was_sent_puts_nothing_of_it_into_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def echo() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(connection.recv(65536))

        thread = threading.Thread(target=echo)
        thread.start()
        with pytest.raises(Unavailable, match="it does not speak HTTP") as failed:
            WebhookNotifier(f"http://127.0.0.1:{listening.getsockname()[1]}/hooks/secret").send(Message("alarm-1", "title", "Berta"))
        thread.join()
    assert "secret" not in str(failed.value)
    assert "Berta" not in str(failed.value)
