"""The door to people: where alarms go.

Promises: `send` returns only when the message was handed over, else raises Unavailable (it is sent again later, so a message may
arrive twice with one id). What an error says names the receiver and never a secret of its address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell people. `id` is the same when the same message is sent again.

    Args:
        severity: 'info', 'low', 'medium' or 'high'.
        link: where more is to be read; empty if nowhere.
        state: 'firing', or 'resolved' when what was told is over.
        since: when it began, ISO text; empty if unknown.
    """

    id: str
    title: str
    text: str
    severity: str = "info"
    link: str = ""
    state: str = "firing"
    since: str = ""


class Notifier(Protocol):
    """Beside `send`, a notifier may have `repeats = True`: then it is told of every open alarm at each look, and of its end."""

    def send(self, message: Message) -> None:
        """Hand the message over."""
        ...
