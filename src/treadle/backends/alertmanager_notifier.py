"""Messages as alerts to a Prometheus Alertmanager, which groups, silences and routes them with a team's other alerts.

    alertmanager+http://alerts.example.org:9093

An alert's labels are what tells it from others, so they hold what does not change: its name, the alarm's id, the severity. An Alertmanager forgets an
alert that is not told again, so open alarms are sent at every look (`repeats`) and live for `LIVES` past the last one; a resolved one ends at once.
API: version 2, POST /api/v2/alerts (Alertmanager 0.16 and newer).
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from datetime import timedelta
from http.client import HTTPException
from urllib.parse import urlsplit

from treadle.backends.webhook_notifier import NoRedirect
from treadle.core.clock import SystemClock, iso
from treadle.core.errors import Unavailable, UsageError
from treadle.ports.notifier import Message

LIVES = timedelta(hours=24)


class AlertmanagerNotifier:
    """POSTs each message as one alert. Raises UsageError for an address that is none."""

    repeats = True

    def __init__(self, url: str = "", *, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("An Alertmanager's address names its host.", hint="For example alertmanager+http://localhost:9093")
        self._url = url.rstrip("/") + "/api/v2/alerts"
        self._shown = f"{parts.scheme}://{parts.hostname}"
        self._timeout = timeout
        self._opener = urllib.request.build_opener(NoRedirect)

    def send(self, message: Message) -> None:
        now = SystemClock().now()
        resolved = message.state == "resolved"
        alert = {
            "labels": {"alertname": "TreadleAlarm", "alarm": message.id, "severity": message.severity},
            "annotations": {"title": message.title, "summary": message.text, "state": message.state, "since": message.since, "link": message.link},
            "endsAt": iso(now if resolved else now + LIVES),
            **({"generatorURL": message.link} if message.link else {}),
        }
        body = json.dumps([alert]).encode()
        asked = urllib.request.Request(self._url, data=body, headers={"Content-Type": "application/json"}, method="POST")
        try:
            with self._opener.open(asked, timeout=self._timeout):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise Unavailable(f"The Alertmanager at {self._shown} answered {error.code}.", hint="The message is kept and sent again.") from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error) if isinstance(error, OSError) else "it does not speak HTTP"
            raise Unavailable(f"The Alertmanager at {self._shown} does not answer ({reason}).", hint="The message is kept and sent again.") from None
