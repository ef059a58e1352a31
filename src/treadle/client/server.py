"""A Treadle server over HTTP: everything the console shows and does, a method each (`operations.py`, made from the server's own table)."""

from __future__ import annotations

import http.client
import json
import ssl
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from treadle.client.operations import Operations
from treadle.core import errors
from treadle.core.errors import InvalidRequest, TooMany, TreadleError, Unavailable, UsageError
from treadle.core.ids import new_id

API = "/api/v1"
_KINDS = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TreadleError)}


class Server(Operations):
    """One kept-alive connection to a server. Not for several threads at once.

    Args:
        url: 'https://treadle.example.com', or 'http://127.0.0.1:8800' on the server's own machine.
        token: an API token (`treadle access token make`, or the page 'You').
        timeout: seconds one request may take.
        retries: how often a server that does not answer is asked again. What changes something carries an idempotency key: it is done once even so.
        trust: a PEM file with the certificate that signed the server's, where the system does not know it.
    """

    def __init__(self, url: str, token: str = "", *, timeout: float = 60.0, retries: int = 3, trust: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"{url!r} is no address of a server.", hint="Give one such as https://treadle.example.com")
        if parts.scheme == "http" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
            raise UsageError(f"The token would go to {parts.hostname} in the open.", where=url, hint="Use https://")
        self._url, self._host, self._port, self._base = url.rstrip("/"), parts.hostname, parts.port, parts.path.rstrip("/")
        self._tls = ssl.create_default_context(cafile=trust or None) if parts.scheme == "https" else None
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout, self._retries = timeout, retries
        self._connection: http.client.HTTPConnection | None = None

    def every(self, name: str, **given: Any) -> Iterator[dict[str, Any]]:
        """Each thing of a list, page after page: `server.every("runs_list", status="failed")`."""
        after = ""
        while True:
            page = getattr(self, name)(**{**given, "after": after})
            yield from page["items"]
            after = page["next"] or ""
            if not after:
                return

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, names: Mapping[str, str], given: Mapping[str, Any], raw: bool = False, key: str | None = None) -> Any:
        filled = API + path.format(**{name: quote(str(value), safe="") for name, value in names.items()})
        wanted = {k: v for k, v in given.items() if v is not None}
        headers, data = dict(self._headers), None
        if method == "GET":
            if wanted:
                filled += "?" + urlencode(wanted, doseq=True)
        else:
            headers |= {"Idempotency-Key": key or new_id("call"), "Content-Type": "application/json"}
            data = json.dumps(wanted).encode()
        for attempt in range(self._retries + 1):
            try:
                status, kind, content = self._send(method, self._base + filled, data, headers)
                break
            except Unavailable:
                if attempt == self._retries:
                    raise
                time.sleep(0.1 * 2**attempt)
        if status >= 400 or kind == "application/problem+json":
            raise _error(status, content)
        return content if raw else json.loads(content)

    def _send(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        try:
            if self._connection is None:
                self._connection = (
                    http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
                    if self._tls is not None
                    else http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
                )
            self._connection.request(method, path, data, dict(headers))
            answer = self._connection.getresponse()
            return answer.status, answer.headers.get_content_type(), answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise Unavailable(f"The server at {self._url} does not answer ({said}).", hint="Is it running? treadle console, or treadle up") from None


def _error(status: int, content: bytes) -> TreadleError:
    try:
        says = json.loads(content)
    except ValueError:
        says = {}
    if not isinstance(says, dict) or "detail" not in says:
        text = content[:200].decode("utf-8", "replace").strip()
        return TreadleError(f"The server answered {status}{f': {text}' if text else ''}.")
    kind = _KINDS.get(str(says.get("error")), TreadleError)
    what, where, hint = str(says["detail"]), says.get("where"), says.get("hint")
    if kind is InvalidRequest:
        return InvalidRequest(what, where=where, hint=hint, fields=says.get("fields"))
    if kind is TooMany:
        return TooMany(what, where=where, hint=hint)
    return kind(what, where=where, hint=hint)
