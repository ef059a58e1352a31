"""The scheduler's routes: somebody outside asks for a run. Answers this machine only, and only who shows the token.

POST /triggers/NAME         {"param": value, ...} or nothing; Authorization: Bearer TOKEN; Idempotency-Key: ID
GET  /triggers/NAME/CALL    what became of a call
POST /features/VIEW         rows for the online store, see features.py

A call is on the disk before 202 leaves. The same Idempotency-Key again is the same call.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.assemble import Workspace
from treadle.core.declare.schedule import Call, Schedule
from treadle.core.ids import new_id
from treadle.pipelines.schedule import SLOT, slot_id
from treadle.web.api import features
from treadle.web.api.asked import Declined, body_of, guarded, no_route, read_json, said, token_of
from treadle.wheel.schedules import trigger

LARGEST_BODY = 64 * 1024
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)


def make_app(ws: Workspace, *, called: Callable[[], None] = lambda: None) -> Starlette:
    """The routes of a workspace, as an ASGI application. `called` is told of each new call. Raises UsageError without a token."""
    token = token_of(ws).encode()
    names = {t.name: s for s in ws.project.schedules.values() for t in s.when if isinstance(t, Call)}

    async def call(request: Request) -> Response:
        schedule = _schedule(names, request)
        key = request.headers.get("idempotency-key")
        if key is not None and not _KEY.fullmatch(key):
            raise Declined(400, "usage", "The Idempotency-Key may have up to 100 letters, digits and . _ : -")
        params = await _params(request)
        id = key or new_id("call")
        slot = await asyncio.to_thread(trigger, ws, schedule, params=params, call=id)
        called()
        headers = {"Location": f"/triggers/{request.path_params['name']}/{id}"}
        return said({"call": id, "schedule": schedule.name, "slot": slot.id, "status": slot["status"]}, 202, headers)

    async def look(request: Request) -> Response:
        schedule = _schedule(names, request)
        id = request.path_params["call"]
        slot = await asyncio.to_thread(ws.ledger.get, SLOT, slot_id(schedule.name, f"call.{id}")) if _KEY.fullmatch(id) else None
        if slot is None:
            raise Declined(404, "not_found", "There is no such call.")
        into = await asyncio.to_thread(ws.ledger.get, SLOT, slot["into"]) if slot["into"] else slot
        shown = into if into is not None else slot
        return said({"call": id, "schedule": schedule.name, "slot": slot.id, **{k: shown[k] for k in ("status", "run", "error")}}, 200)

    routes = [
        Route("/triggers/{name}", guarded(call, token), methods=["POST"]),
        Route("/triggers/{name}/{call}", guarded(look, token), methods=["GET"]),
        *features.routes(ws, token),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: no_route})


def _schedule(names: dict[str, Schedule], request: Request) -> Schedule:
    found = names.get(request.path_params["name"])
    if found is None:
        raise Declined(404, "not_found", "There is no such trigger.")
    return found


async def _params(request: Request) -> dict[str, Any]:
    body = await body_of(request, LARGEST_BODY)
    params = read_json(body) if body else {}
    if not isinstance(params, dict):
        raise Declined(422, "usage", "The body must be an object: parameter names and their values.")
    return params
