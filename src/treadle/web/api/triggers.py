"""The scheduler's routes: somebody outside asks for a run. Answers this machine only, and only who shows the token.

POST /triggers/NAME         {"param": value, ...} or nothing; Authorization: Bearer TOKEN; Idempotency-Key: ID
GET  /triggers/NAME/CALL    what became of a call

A call is on the disk before 202 leaves. The same Idempotency-Key again is the same call.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from treadle.assemble import Workspace
from treadle.core.declare.schedule import Call, Schedule
from treadle.core.errors import Conflict, StorageError, TreadleError, UsageError
from treadle.core.ids import new_id
from treadle.pipelines.schedule import SLOT, slot_id
from treadle.scheduler import trigger
from treadle.web.guard import HEADERS, local

LARGEST_BODY = 64 * 1024
SHORTEST_TOKEN = 16
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)
_log = logging.getLogger("treadle.triggers")
Answer = Callable[[Request], Awaitable[Response]]


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


def make_app(ws: Workspace, *, called: Callable[[], None] = lambda: None) -> Starlette:
    """The routes of a workspace, as an ASGI application. `called` is told of each new call. Raises UsageError without a token."""
    token = token_of(ws).encode()
    names = {t.name: s for s in ws.project.schedules.values() for t in s.when if isinstance(t, Call)}

    async def call(request: Request) -> Response:
        schedule = _schedule(names, request)
        key = request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise _Refused(400, "usage", "The Idempotency-Key may have up to 100 letters, digits and . _ : -")
        params = await _params(request)
        id = key or new_id("call")
        slot = await asyncio.to_thread(trigger, ws, schedule, params=params, call=id)
        called()
        headers = {"Location": f"/triggers/{request.path_params['name']}/{id}"}
        return _said({"call": id, "schedule": schedule.name, "slot": slot.id, "status": slot["status"]}, 202, headers)

    async def look(request: Request) -> Response:
        schedule = _schedule(names, request)
        id = request.path_params["call"]
        slot = await asyncio.to_thread(ws.ledger.get, SLOT, slot_id(schedule.name, f"call.{id}")) if _KEY.fullmatch(id) else None
        if slot is None:
            raise _Refused(404, "not_found", "There is no such call.")
        into = await asyncio.to_thread(ws.ledger.get, SLOT, slot["into"]) if slot["into"] else slot
        shown = into if into is not None else slot
        said = {"call": id, "schedule": schedule.name, "slot": slot.id, **{k: shown[k] for k in ("status", "run", "error")}}
        return _said(said, 200)

    def guarded(answer: Answer) -> Answer:
        async def safely(request: Request) -> Response:
            try:
                if not local(request.headers.get("host", "")):
                    raise _Refused(403, "forbidden", "This answers on this machine only: call it as 127.0.0.1 or localhost.")
                _authorized(request, token)
                return await answer(request)
            except _Refused as refused:
                headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
                return _said({"error": refused.code, "message": refused.sentence}, refused.status, headers)
            except Conflict as error:
                return _said({"error": error.code, "message": str(error)}, 409)
            except UsageError as error:
                return _said({"error": error.code, "message": str(error)}, 422)
            except TreadleError as error:
                status = 507 if isinstance(error, StorageError) else 503 if error.transient else 500
                return _said({"error": error.code, "message": str(error)}, status)
            except Exception:  # never a traceback to a caller
                _log.exception("%s failed", request.url.path)
                return _said({"error": "error", "message": "The call failed."}, 500)

        return safely

    routes = [
        Route("/triggers/{name}", guarded(call), methods=["POST"]),
        Route("/triggers/{name}/{call}", guarded(look), methods=["GET"]),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})


class _Refused(Exception):
    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.code, self.sentence = status, code, sentence


def _authorized(request: Request, token: bytes) -> None:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    if not hmac.compare_digest(given.strip().encode("utf-8", "replace"), token) or kind.lower() != "bearer":
        raise _Refused(401, "unauthorized", "Show the token: Authorization: Bearer TOKEN")


def _schedule(names: dict[str, Schedule], request: Request) -> Schedule:
    found = names.get(request.path_params["name"])
    if found is None:
        raise _Refused(404, "not_found", "There is no such trigger.")
    return found


async def _params(request: Request) -> dict[str, Any]:
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise _Refused(400, "usage", "The Content-Length is no number.")
    if int(length) > LARGEST_BODY:
        raise _Refused(413, "too_large", f"A body may have at most {LARGEST_BODY:,} bytes.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_BODY:
            raise _Refused(413, "too_large", f"A body may have at most {LARGEST_BODY:,} bytes.")
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise _Refused(415, "media_type", "Send JSON: Content-Type: application/json")
    try:
        params = json.loads(body)
    except (ValueError, RecursionError):
        raise _Refused(400, "usage", "The body is not JSON.") from None
    if not isinstance(params, dict):
        raise _Refused(422, "usage", "The body must be an object: parameter names and their values.")
    return params


def _said(value: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(value, status, {**HEADERS, **(headers or {})})


def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "usage"
    return _said({"error": code, "message": error.detail}, error.status_code, dict(error.headers or {}))
