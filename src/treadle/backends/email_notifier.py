"""Messages as e-mail through an SMTP server.

    smtp://mail.example.org:587?from=treadle@example.org&to=ops@example.org,data@example.org
    smtps://user:password@mail.example.org?to=ops@example.org

`smtp` uses STARTTLS where the server offers it, and never sends a password without it; `smtps` is encrypted from the start. A message keeps its
Message-ID when it is sent again, so that mail programs show it once.
"""

from __future__ import annotations

import smtplib
import ssl
from email.message import EmailMessage
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit

from treadle.core.errors import Unavailable, UsageError
from treadle.ports.notifier import Message

_PORTS = {"smtp": 25, "smtps": 465}


class EmailNotifier:
    """Sends one mail a message to all receivers together. Raises UsageError for an address it cannot use."""

    def __init__(self, url: str = "", *, timeout: float = 20.0) -> None:
        parts = urlsplit(url)
        query = parse_qs(parts.query)
        receivers = [a.strip() for given in query.get("to", []) for a in given.split(",") if a.strip()]
        if parts.scheme not in _PORTS or not parts.hostname or not receivers or not all("@" in a for a in receivers):
            raise UsageError(
                "An address of e-mail names a server and who gets it.", hint="For example smtp://mail.example.org:587?to=ops@example.org"
            )
        try:
            self._port = parts.port or _PORTS[parts.scheme]
        except ValueError:
            raise UsageError("The port of the mail server is not a number below 65536.", hint="For example smtp://mail.example.org:587") from None
        self._secure, self._host = parts.scheme == "smtps", parts.hostname
        self._user, self._password = unquote(parts.username or ""), unquote(parts.password or "")
        self._to, self._from = receivers, query.get("from", [f"treadle@{parts.hostname}"])[0]
        self._timeout = timeout

    def send(self, message: Message) -> None:
        try:
            with self._connected() as server:
                refused = server.send_message(self._mail(message), self._from, self._to)
        except (OSError, smtplib.SMTPException) as error:
            # An answer of the server may quote what it was sent: only its number and its kind are told.
            code = getattr(error, "smtp_code", None)
            why = f"{type(error).__name__}{f' {code}' if code else ''}"
            raise Unavailable(f"The mail server {self._host} does not take the message ({why}).", hint="It is kept and sent again.") from None
        if refused:
            raise Unavailable(f"The mail server {self._host} refuses {len(refused)} of {len(self._to)} receivers.", hint="It is kept and sent again.")

    def _connected(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self._secure:
            server: smtplib.SMTP = smtplib.SMTP_SSL(self._host, self._port, timeout=self._timeout, context=context)
        else:
            server = smtplib.SMTP(self._host, self._port, timeout=self._timeout)
            server.ehlo()
            if server.has_extn("starttls"):
                server.starttls(context=context)
                server.ehlo()
            elif self._user:
                server.close()
                raise smtplib.SMTPNotSupportedError("no encryption")
        if self._user:
            server.login(self._user, self._password)
        return server

    def _mail(self, message: Message) -> EmailMessage:
        mail = EmailMessage()
        over = "resolved: " if message.state == "resolved" else ""
        mail["Subject"] = " ".join(f"[{message.severity}] {over}{message.title}".split())
        mail["From"], mail["To"] = self._from, ", ".join(self._to)
        mail["Date"] = formatdate()
        mail["Message-ID"] = f"<{message.id}-{message.state}@treadle.invalid>"
        for name, value in (("Id", message.id), ("Severity", message.severity), ("State", message.state), ("Since", message.since)):
            mail[f"X-Treadle-{name}"] = " ".join(value.split())
        mail.set_content(message.text + (f"\n\n{message.link}" if message.link else ""))
        return mail
