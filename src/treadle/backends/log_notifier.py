"""Messages to Python's own logging, under the name 'treadle.alarms': wherever the process that embeds Treadle sends its log."""

from __future__ import annotations

import logging
from dataclasses import asdict

from treadle.core.errors import Unavailable
from treadle.ports.notifier import Message

_LEVELS = {"high": logging.ERROR, "medium": logging.WARNING}


class LogNotifier:
    """Logs each message; its fields are in the record's `alarm`. A logger that drops the level is unavailable, so that nothing is lost unseen."""

    def __init__(self, name: str = "treadle.alarms") -> None:
        self._logger = logging.getLogger(name)

    def send(self, message: Message) -> None:
        level = _LEVELS.get(message.severity, logging.INFO)
        if not self._logger.isEnabledFor(level):
            raise Unavailable(
                f"The log {self._logger.name!r} drops messages of severity {message.severity!r}.",
                hint=f"Lower its level to {logging.getLevelName(level)}. The message is kept and sent again.",
            )
        over = "resolved: " if message.state == "resolved" else ""
        self._logger.log(level, "%s%s: %s (%s)", over, message.title, message.text, message.id, extra={"alarm": asdict(message)})
