"""The door to people: where alarms go.

Promises: `send` returns only when the message was handed over, else raises Unavailable (it is sent again later, so a message may
arrive twice with one id).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell people. `id` is the same when the same message is sent again."""

    id: str
    title: str
    text: str
    severity: str = "info"
    link: str = ""


class Notifier(Protocol):
    def send(self, message: Message) -> None:
        """Hand the message over."""
        ...
