"""Messages on the standard error, one line each: for whoever sits in front of a terminal, and for service managers that keep what is printed."""

from __future__ import annotations

import sys
from typing import TextIO

from treadle.core.errors import Unavailable
from treadle.ports.notifier import Message


class ConsoleNotifier:
    """Prints each message; line breaks in it become spaces, so that a line is a message."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    def send(self, message: Message) -> None:
        over = "resolved: " if message.state == "resolved" else ""
        link = f" {message.link}" if message.link else ""
        line = " ".join(f"[{message.severity}] {over}{message.title}: {message.text} ({message.id}){link}".split())
        try:
            stream = self._stream or sys.stderr
            stream.write(line + "\n")
            stream.flush()
        except (OSError, ValueError) as error:
            raise Unavailable(f"The console does not take the message ({error}).", hint="The message is kept and sent again.") from None
