"""The route by which rows are pushed into the online store as they arrive: they count from the next request on.

POST /features/VIEW         {"rows": [{"column": value, ...}, ...]}, a list of rows, or one row; Authorization: Bearer TOKEN

200: {"view", "rows", "written", "refused": [{"row": 0, "reason": "price is below 0"}]}: the rows that could bring no value, and why; the others
are stored, durably, when the answer leaves. `written` counts values that are newer than the store's: the same rows again write nothing, and a late
row does not replace a newer value. 422 with the same fields when every row was refused.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from treadle.assemble import Workspace
from treadle.data import json_rows
from treadle.web.api.asked import Declined, body_of, guarded, said
from treadle.wheel.materialise import Pushed, push

LARGEST_BODY = 4 * 1024 * 1024
MOST_ROWS = 10_000
_AT_ONCE = 2  # pushes that are worked on; others wait, and hold no more than their bodies


def routes(ws: Workspace, token: bytes) -> list[Route]:
    """The route of a workspace."""
    free = asyncio.Semaphore(_AT_ONCE)

    async def answer(request: Request) -> Response:
        name = request.path_params["view"]
        view = ws.project.views.get(name)
        if view is None:
            raise Declined(404, "not_found", "There is no such view.")
        body = await body_of(request, LARGEST_BODY)
        async with free:
            pushed = await asyncio.to_thread(lambda: push(ws, view, _rows(body)))
        return said(_told(name, pushed), 422 if pushed.rows and len(pushed.refused) == pushed.rows else 200)

    return [Route("/features/{view}", guarded(answer, token), methods=["POST"])]


def _told(view: str, pushed: Pushed) -> dict[str, Any]:
    told = {"view": view, "rows": pushed.rows, "written": pushed.written, "refused": [{"row": row, "reason": why} for row, why in pushed.refused]}
    if pushed.rows and len(pushed.refused) == pushed.rows:
        return {"error": "data", "message": "No row could be stored; 'refused' says why.", **told}
    return told


def _rows(body: bytes) -> list[dict[str, Any]]:
    if not body:
        raise Declined(400, "usage", "There is no body: send rows.")
    try:
        given = json_rows.any_json(body)
    except ValueError as error:
        raise Declined(400, "usage", f"The body is not JSON: {error}.") from None
    rows = given.get("rows", [given]) if isinstance(given, dict) else given
    if not isinstance(rows, list):
        raise Declined(422, "usage", 'Send {"rows": [{"column": value, ...}, ...]}, a list of rows, or one row.')
    if len(rows) > MOST_ROWS:
        raise Declined(413, "too_large", f"{len(rows):,} rows in one call are more than {MOST_ROWS:,}.")
    wrong = next((i for i, row in enumerate(rows) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise Declined(422, "usage", f"Row {wrong} is no JSON object.")
    return rows
