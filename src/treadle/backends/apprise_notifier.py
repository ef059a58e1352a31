"""Messages through Apprise to what it speaks to: Slack, Teams, PagerDuty, Matrix, Telegram and a hundred more, by its own addresses.

    apprise:slack://TokenA/TokenB/TokenC/#alarms        apprise:msteams://TokenA/TokenB/TokenC

The addresses are Apprise's (https://github.com/caronc/apprise/wiki).
"""

from __future__ import annotations

import logging

import apprise

from treadle.core.errors import Unavailable, UsageError
from treadle.ports.notifier import Message

_KINDS = {"high": apprise.NotifyType.FAILURE, "medium": apprise.NotifyType.WARNING}


class AppriseNotifier:
    """Hands each message to Apprise; raises UsageError for an address it does not know."""

    def __init__(self, url: str = "") -> None:
        address = url.removeprefix("apprise:")
        self._service = address.partition(":")[0] or "nothing"  # the rest of an address is mostly its secret
        self._apprise = apprise.Apprise()
        logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it logs addresses
        if not address or not self._apprise.add(address):
            raise UsageError(f"Apprise knows no address of {self._service!r} like this one.", hint="For example apprise:slack://TokenA/TokenB/TokenC")

    def send(self, message: Message) -> None:
        resolved = message.state == "resolved"
        kind = apprise.NotifyType.SUCCESS if resolved else _KINDS.get(message.severity, apprise.NotifyType.INFO)
        tail = " · ".join(part for part in (message.severity, message.state, message.id, message.since, message.link) if part)
        try:
            done = self._apprise.notify(title=message.title, body=f"{message.text}\n\n{tail}", notify_type=kind)
        except Exception as error:  # a plugin may raise anything, and its text may hold the address
            raise Unavailable(f"{self._service} through Apprise failed ({type(error).__name__}).", hint="It is kept and sent again.") from None
        if not done:
            raise Unavailable(f"{self._service} does not take the message (through Apprise).", hint="The message is kept and sent again.")
