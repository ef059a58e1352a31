"""Talking to an endpoint over HTTP, with the standard library alone.

>>> endpoint = Endpoint("http://127.0.0.1:8765")                          # doctest: +SKIP
>>> endpoint.predict({"carrier": "UA", "origin": "EWR"})["probability"]   # doctest: +SKIP
0.21
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from treadle.core import errors
from treadle.core.errors import InvalidRequest, TreadleError, Unavailable

_KINDS = {kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TreadleError)}


class Endpoint:
    """One kept-alive connection to an endpoint. Not for several threads at once.

    Args:
        url: 'http://host:port'.
        timeout: seconds a request may take.
        retries: how often an endpoint that does not answer is asked again; outcomes and reads only, since asking again is then harmless.
        key: the API key to show.
        trust: over HTTPS, a PEM file: the very certificate the endpoint must have, or one that signed it. Without it, those the system trusts.
        named: whether the certificate must name the host; not where it is asked for by an address of this machine.
    """

    def __init__(self, url: str, *, timeout: float = 30.0, retries: int = 3, key: str = "", trust: str = "", named: bool = True) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)
        self._url = f"{parts.scheme}://{self._host}:{self._port}"
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._tls = _context(trust, named) if parts.scheme == "https" else None
        self._timeout, self._retries = timeout, retries
        self._connection: http.client.HTTPConnection | None = None

    def predict(self, row: Mapping[str, Any], *, id: str | None = None) -> dict[str, Any]:
        """The answer for one row. Raises InvalidRequest with the fields that do not fit; Unavailable.

        Args:
            id: the prediction's id, chosen by the caller: asking again with it is logged once, so a request that broke off is repeated.
        """
        if id is None:
            return self._call("POST", "/predict", row, again=False)
        return dict(self._call("POST", "/predict", {"rows": [row], "ids": [id]})["predictions"][0])

    def predict_many(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The answers for several rows, in order."""
        return list(self._call("POST", "/predict", {"rows": list(rows)}, again=False)["predictions"])

    def outcomes(self, outcomes: Sequence[Mapping[str, Any]]) -> int:
        """Tell the truth of earlier predictions: {'prediction': id, 'value': ..., 'known_at': time}. The same again changes nothing."""
        return int(self._call("POST", "/outcomes", {"outcomes": list(outcomes)})["stored"])

    def prediction(self, id: str) -> dict[str, Any]:
        """What was logged of a prediction. Raises NotFound."""
        return self._call("GET", f"/predictions/{id}")

    def signature(self) -> dict[str, Any]:
        """The fields a row may have."""
        return self._call("GET", "/signature")

    def metrics(self) -> str:
        """The metrics, in Prometheus' text format."""
        return self._send("GET", "/metrics", None)[1].decode()

    def reload(self) -> None:
        """Ask the endpoint to look at the deployment record now."""
        self._call("POST", "/reload", {})

    def ready(self) -> bool:
        """Whether it answers predictions: a version is loaded, and nobody stopped the model."""
        return self._healthy("ready")

    def live(self) -> bool:
        """Whether the process answers."""
        return self._healthy("live")

    def _healthy(self, what: str) -> bool:
        try:
            return self._send("GET", f"/health/{what}", None)[0] == 200
        except Unavailable:
            return False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _call(self, method: str, path: str, body: Any = None, *, again: bool = True) -> dict[str, Any]:
        for attempt in range(self._retries + 1):
            try:
                status, content = self._send(method, path, body)
            except Unavailable:
                if not again or attempt == self._retries:
                    raise
                time.sleep(0.1 * 2**attempt)
                continue
            answer: dict[str, Any] = json.loads(content)
            if status < 400:
                return answer
            raise _error(answer)
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        data = None if body is None else json.dumps(body).encode()
        if self._connection is None:
            self._connection = (
                http.client.HTTPSConnection(self._host, self._port, timeout=self._timeout, context=self._tls)
                if self._tls is not None
                else http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
            )
            try:
                self._connection.connect()
                # Small requests on a kept connection: without this each waits for the delayed acknowledgement of the one before.
                self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError as error:
                self.close()
                raise Unavailable(f"No endpoint answers at {self._url} ({error.strerror or error}).", hint="Start it with: treadle deploy") from None
        try:
            self._connection.request(method, path, data, {**self._headers, **({"Content-Type": "application/json"} if data is not None else {})})
            response = self._connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unavailable(f"The endpoint at {self._url} broke off: {error}", hint="See: treadle status") from None


def _context(trust: str, named: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=trust or None)
    context.check_hostname = named
    if trust:  # an endpoint's own certificate may be signed by somebody the file does not hold
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _error(answer: Mapping[str, Any]) -> TreadleError:
    kind = _KINDS.get(str(answer.get("error")), TreadleError)
    what, where, hint = str(answer.get("message", "The endpoint failed.")), answer.get("where"), answer.get("hint")
    if kind is InvalidRequest:
        return InvalidRequest(what, where=where, hint=hint, fields=answer.get("fields"))
    return kind(what, where=where, hint=hint)
