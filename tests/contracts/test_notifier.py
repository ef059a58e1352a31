"""Every notifier keeps the promises of its port."""

from __future__ import annotations

import email
import email.policy
import io
import json
import logging
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from treadle.backends.alertmanager_notifier import AlertmanagerNotifier
from treadle.backends.apprise_notifier import AppriseNotifier
from treadle.backends.console_notifier import ConsoleNotifier
from treadle.backends.email_notifier import EmailNotifier
from treadle.backends.file_notifier import FileNotifier
from treadle.backends.log_notifier import LogNotifier
from treadle.backends.webhook_notifier import WebhookNotifier
from treadle.core.errors import Unavailable, UsageError
from treadle.ports.notifier import Message
from treadle.testing import servers
from treadle.testing.notifier_contract import ALARM, NotifierContract


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


class TestConsoleNotifier(NotifierContract):
    """A line a message: what is in it is there, line breaks are spaces."""

    def make(self, folder: Path) -> ConsoleNotifier:
        self.stream = io.StringIO()
        return ConsoleNotifier(self.stream)

    def make_broken(self, folder: Path) -> ConsoleNotifier:
        stream = io.StringIO()
        stream.close()
        return ConsoleNotifier(stream)

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        return [_found_in(line) for line in self.stream.getvalue().splitlines()]


class TestLogNotifier(NotifierContract):
    @pytest.fixture(autouse=True)
    def _kept(self, caplog: pytest.LogCaptureFixture) -> None:
        self.caplog = caplog
        caplog.set_level(logging.INFO, logger="treadle.alarms")

    def make(self, folder: Path) -> LogNotifier:
        return LogNotifier()

    def make_broken(self, folder: Path) -> LogNotifier:
        self.caplog.set_level(logging.CRITICAL, logger="treadle.alarms")
        return LogNotifier()

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        return [record.alarm for record in self.caplog.records]  # type: ignore[attr-defined]


class _Mailbox:
    """What a mail server took."""

    def __init__(self) -> None:
        self.mails: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append(envelope.content)
        return "250 taken"


class TestEmailNotifier(NotifierContract):
    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        from aiosmtpd.controller import Controller

        self.box = _Mailbox()
        controller = Controller(self.box, hostname="127.0.0.1", port=servers.free_port())
        controller.start()
        self.port = controller.port
        yield
        controller.stop()

    def make(self, folder: Path) -> EmailNotifier:
        return EmailNotifier(f"smtp://127.0.0.1:{self.port}?to=ops@example.org,data@example.org")

    def make_broken(self, folder: Path) -> EmailNotifier:
        return EmailNotifier("smtp://127.0.0.1:1?to=ops@example.org", timeout=2)

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        found = []
        for raw in self.box.mails:
            mail = email.message_from_bytes(raw, policy=email.policy.default)
            text, _, link = mail.get_content().replace("\r\n", "\n").rstrip("\n").partition("\n\n")
            severity, _, title = mail["Subject"].partition("] ")
            about = {name: mail.get(f"X-Treadle-{name}", "") for name in ("Id", "State", "Since")}
            found.append({"id": about["Id"], "title": title, "text": text, "severity": severity[1:], "link": link, "state": about["State"],
                          "since": about["Since"]})  # fmt: skip
        return found

    def test_a_password_is_never_sent_without_encryption(self) -> None:
        secret = EmailNotifier(f"smtp://me:hush@127.0.0.1:{self.port}?to=ops@example.org")
        with pytest.raises(Unavailable, match="SMTPNotSupportedError") as caught:
            secret.send(ALARM)
        assert "hush" not in str(caught.value)
        assert not self.box.mails

    @pytest.mark.parametrize("url", ["smtp://host", "smtp://?to=a@b", "http://host?to=a@b", "smtp://host?to=nobody", "smtp://host:99999?to=a@b", ""])
    def test_only_addresses_with_a_server_and_receivers_are_taken(self, url: str) -> None:
        with pytest.raises(UsageError):
            EmailNotifier(url)


class TestAppriseNotifier(TestWebhookNotifier):
    """Through Apprise's own JSON service, which posts title and message."""

    def make(self, folder: Path) -> AppriseNotifier:  # type: ignore[override]
        return AppriseNotifier(f"apprise:json://127.0.0.1:{self.server.server_port}/hook")

    def make_broken(self, folder: Path) -> AppriseNotifier:  # type: ignore[override]
        return AppriseNotifier("apprise:json://127.0.0.1:1/hook")

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        found = []
        for got in _Receiver.got:
            text, _, tail = got["message"].partition("\n\n")
            severity, state, id, *link = tail.split(" · ")
            found.append({"id": id, "title": got["title"], "text": text, "severity": severity, "link": link[0] if link else "", "state": state, "since": ""})
        return found

    @pytest.mark.parametrize("url", ["", "apprise:", "apprise:nothing://x", "apprise:slack://"])
    def test_only_addresses_that_apprise_knows_are_taken(self, url: str) -> None:
        with pytest.raises(UsageError):
            AppriseNotifier(url)


class TestAlertmanagerNotifier(NotifierContract):
    """A real Alertmanager, which tells alerts by their labels: a message sent again is one alert."""

    def make(self, folder: Path) -> AlertmanagerNotifier:
        self.url = f"http://127.0.0.1:{servers.alertmanager().port}"
        notifier = AlertmanagerNotifier(self.url)
        for alert in self._alerts():
            labels = alert["labels"]
            notifier.send(Message(labels["alarm"], "", "", labels["severity"], state="resolved"))
        return notifier

    def make_broken(self, folder: Path) -> AlertmanagerNotifier:
        return AlertmanagerNotifier("http://127.0.0.1:1", timeout=2)

    def _alerts(self) -> list[Any]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts?active=true") as answer:
            found = json.loads(answer.read())
        return sorted(found, key=lambda a: a["startsAt"])

    def received(self, folder: Path) -> Sequence[Mapping[str, Any]]:
        return [
            {"id": a["labels"]["alarm"], "severity": a["labels"]["severity"], "text": a["annotations"]["summary"], "title": a["annotations"]["title"],
             "link": a["annotations"].get("link", ""), "state": a["annotations"]["state"], "since": a["annotations"].get("since", "")}
            for a in self._alerts()
        ]  # fmt: skip

    def test_messages_arrive_in_order_and_a_repeat_keeps_its_id(self, tmp_path: Path) -> None:
        notifier = self.make(tmp_path)
        for id in ("a", "b", "a"):
            notifier.send(Message(id, "title", "text"))
        assert sorted(got["id"] for got in self.received(tmp_path)) == ["a", "b"]

    def test_what_is_resolved_is_no_alert_any_more(self, tmp_path: Path) -> None:
        notifier = self.make(tmp_path)
        notifier.send(ALARM)
        notifier.send(Message(ALARM.id, ALARM.title, ALARM.text, ALARM.severity, state="resolved"))
        assert not self.received(tmp_path)


def _found_in(line: str) -> dict[str, Any]:
    """A console line taken apart again; the contract's text has a line break, which the console writes as a space."""
    severity, _, rest = line.removeprefix("[").partition("] ")
    title, _, rest = rest.partition(": ")
    text, _, tail = rest.rpartition(" (")
    id, _, link = tail.partition(")")
    text = text.replace('Column "origin" moved', 'Column "origin"\nmoved')
    return {"id": id, "title": title, "text": text, "severity": severity, "link": link.strip(), "state": "firing", "since": ""}
