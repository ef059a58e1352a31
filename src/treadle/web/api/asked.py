"""What every route that takes calls from outside asks first: is it this machine, is the token shown, how long is the body, is it JSON.

Every refusal is one sentence: {"error": code, "message": sentence}.
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from treadle.assemble import Workspace
from treadle.core.errors import Conflict, DataError, NotFound, StorageError, TreadleError, UsageError
from treadle.web.guard import HEADERS, local

SHORTEST_TOKEN = 16
_log = logging.getLogger("treadle.calls")
Answer = Callable[[Request], Awaitable[Response]]


class Declined(Exception):
    """A call that is not answered as asked, with its HTTP status."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence


def token_of(ws: Workspace) -> str:
    """The setting `trigger_token`. Raises UsageError when there is none, or it can be guessed."""
    token = ws.settings["trigger_token"]
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(
            "The setting trigger_token is too short, or has blanks or other letters than ASCII." if token else "There is no trigger_token.",
            where="treadle.toml, or TREADLE_TRIGGER_TOKEN",
            hint=f"Give it at least {SHORTEST_TOKEN} characters: python -c 'import secrets; print(secrets.token_urlsafe())'",
        )
    return token


def guarded(answer: Answer, token: bytes) -> Answer:
    """A route that answers this machine only, who shows the token only, and any error as one sentence."""

    async def safely(request: Request) -> Response:
        try:
            if not local(request.headers.get("host", "")):
                raise Declined(403, "forbidden", "This answers on this machine only: call it as 127.0.0.1 or localhost.")
            _authorized(request, token)
            return await answer(request)
        except Declined as refused:
            headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
            return said({"error": refused.code, "message": refused.sentence}, refused.status, headers)
        except TreadleError as error:
            return said({"error": error.code, "message": str(error)}, _status(error))
        except Exception:  # never a traceback to a caller
            _log.exception("%s failed", request.url.path)
            return said({"error": "error", "message": "The call failed."}, 500)

    return safely


async def body_of(request: Request, largest: int) -> bytes:
    """The bytes of a JSON body, b'' if there is none. Raises Declined."""
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise Declined(400, "usage", "The Content-Length is no number.")
    body = bytearray()
    if int(length) <= largest:
        async for chunk in request.stream():
            body += chunk
            if len(body) > largest:
                break
    if max(len(body), int(length)) > largest:
        raise Declined(413, "too_large", f"A body may have at most {largest:,} bytes.")
    if body and request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Declined(415, "media_type", "Send JSON: Content-Type: application/json")
    return bytes(body)


def read_json(body: bytes) -> Any:
    """A body as JSON. Raises Declined."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Declined(400, "usage", "The body is not JSON.") from None


def said(value: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer as JSON."""
    return JSONResponse(value, status, {**HEADERS, **(headers or {})})


def no_route(request: Request, error: Exception) -> Response:
    """The answer to a path or method that there is not."""
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "usage"
    return said({"error": code, "message": error.detail}, error.status_code, dict(error.headers or {}))


def _authorized(request: Request, token: bytes) -> None:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), token) or kind.lower() != "bearer":
        raise Declined(401, "unauthorized", "Show the token: Authorization: Bearer TOKEN")


def _status(error: TreadleError) -> int:
    for kind, status in ((Conflict, 409), (UsageError, 422), (DataError, 422), (NotFound, 404), (StorageError, 507)):
        if isinstance(error, kind):
            return status
    return 503 if error.transient else 500
