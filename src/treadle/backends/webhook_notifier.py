"""Messages as JSON to a web address, in the shape chat tools take ('text'), with the message's id to tell repeats by."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import asdict
from http.client import HTTPException, HTTPMessage
from typing import IO
from urllib.parse import urlsplit

from treadle.core.errors import Unavailable, UsageError
from treadle.ports.notifier import Message


class WebhookNotifier:
    """POSTs each message; any 2xx answer within `timeout` seconds counts as handed over."""

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError("A webhook needs an address that starts with http:// or https:// and names a host.")
        self._url = url
        self._shown = f"{parts.scheme}://{parts.hostname}"  # the rest of a webhook's address is often its secret
        self._timeout = timeout
        self._opener = urllib.request.build_opener(NoRedirect)

    def send(self, message: Message) -> None:
        body = json.dumps(asdict(message)).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": message.id.encode("ascii", "replace").decode()}
        try:
            with self._opener.open(urllib.request.Request(self._url, data=body, headers=headers, method="POST"), timeout=self._timeout):
                pass
        except urllib.error.HTTPError as error:
            error.close()
            raise Unavailable(f"The webhook at {self._shown} answered {error.code}.", hint="The message is kept and sent again.") from None
        except (OSError, HTTPException) as error:
            # What a server says that speaks no HTTP may be our own message, or the address with its secret, said back.
            spoken = isinstance(error, OSError) or not isinstance(error, HTTPException)
            reason = getattr(error, "reason", error) if spoken else "it does not speak HTTP"
            raise Unavailable(f"The webhook at {self._shown} does not answer ({reason}).", hint="The message is kept and sent again.") from None


class NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would become a GET without the message, and a 200 to that would be believed."""

    def redirect_request(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str) -> None:
        return None
