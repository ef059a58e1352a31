"""A request and its answer as every route of an endpoint sees them; JSON answers, and errors as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from treadle.core.errors import InvalidRequest, StorageError, TooMany, TreadleError, UsageError
from treadle.serving.keys import Caller

JSON = "application/json"
JSON_HEADERS = [("content-type", JSON)]
_encode = msgspec.json.Encoder().encode
Response = tuple[int, list[tuple[str, str]], bytes]
STATUS = {
    "invalid_request": 422, "usage": 400, "not_found": 404, "unavailable": 503, "storage": 507, "corrupt": 500, "timed_out": 504,
    "unsupported_type": 415, "too_large": 413, "method": 405, "unauthorized": 401, "forbidden": 403, "too_many": 429,
}  # fmt: skip


class Request:
    """One request, read whole.

    Args:
        path: without the query, percent-encoding undone nowhere. headers: (name, value) as they came, names in any case.
        caller: whose API key it showed, where one is needed.
        client: says who sent it, as 'host:port'; asked only when somebody wants to know.
    """

    __slots__ = ("_client", "body", "caller", "headers", "method", "path", "query")

    def __init__(
        self, method: str, path: str, query: str = "", headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b"",
        client: Callable[[], str] = lambda: "", caller: Caller | None = None,
    ) -> None:  # fmt: skip
        self.method, self.path, self.query, self.headers, self.body, self._client = method, path, query, headers, body, client
        self.caller = caller

    @property
    def client(self) -> str:
        """Who sent it."""
        return self._client()

    def header(self, name: bytes) -> str:
        """The first header of a name (lower case), '' if there is none."""
        size = len(name)
        for key, value in self.headers:
            if len(key) == size and key.lower() == name:
                return value.decode("latin-1")
        return ""

    @property
    def content_type(self) -> str:
        """The media type of the body, without its parameters, in lower case."""
        return self.header(b"content-type").partition(";")[0].strip().lower()

    def parameters(self) -> dict[str, str]:
        """The query's parameters."""
        return dict(parse_qsl(self.query, keep_blank_values=True)) if self.query else {}


class Unsupported(UsageError):
    """A body of a type that is not read."""

    code = "unsupported_type"


class MethodNotTaken(UsageError):
    """A route that is there, asked in another way."""

    code = "method"


class TooLarge(UsageError):
    """A body that is not read to its end."""

    code = "too_large"


def ok(body: Any, status: int = 200) -> Response:
    """A JSON response."""
    return status, JSON_HEADERS, _encode(body)


def plain(text: str, status: int = 200, kind: str = "text/plain; charset=utf-8") -> Response:
    """A response of text."""
    return status, [("content-type", kind)], text.encode()


def status_of(error: TreadleError) -> int:
    """The HTTP status of an error."""
    return STATUS.get(error.code, 500)


def problem(error: TreadleError, retry_after: str = "1") -> Response:
    """An error as JSON, with its status."""
    status = status_of(error)
    body: dict[str, Any] = {"error": error.code, "message": error.what}
    if error.where:
        body["where"] = error.where
    if error.hint:
        body["hint"] = error.hint
    if isinstance(error, InvalidRequest) and error.fields:
        body["fields"] = error.fields
    return status, retry_headers(error, status, retry_after), _encode(body)


def retry_headers(error: TreadleError, status: int, retry_after: str = "1") -> list[tuple[str, str]]:
    """The headers of an error: those of JSON, and when to try again where trying again may help."""
    if isinstance(error, TooMany):
        return [*JSON_HEADERS, ("retry-after", str(math.ceil(error.after)))]
    if status == 401:
        return [*JSON_HEADERS, ("www-authenticate", "Bearer")]
    if status in (429, 503, 507) or isinstance(error, StorageError):
        return [*JSON_HEADERS, ("retry-after", retry_after)]
    return JSON_HEADERS
