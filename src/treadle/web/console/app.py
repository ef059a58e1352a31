"""The console as an ASGI application: the operations of the table, the few routes that anybody may call, and the frame around them."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from treadle.assemble import Workspace
from treadle.core.errors import TreadleError
from treadle.web.console import answer, sign_in
from treadle.web.console.frame import Frame
from treadle.web.console.operation import Check
from treadle.web.console.site import Site
from treadle.web.console.table import OPERATIONS


def make_app(ws: Workspace, *, url: str = "", check: Check | None = None) -> Starlette:
    """The console of a workspace. Raises UsageError for a `url` that is no address.

    Args:
        url: the address people open, where it is not this machine only.
        check: says which commands of the command line the server runs.
    """
    site = Site(ws, url, check)

    def health(request: Request) -> Response:
        try:
            ws.ledger.get("project", ws.project.name)
        except TreadleError:
            return JSONResponse({"status": "the ledger does not answer"}, 503)
        return JSONResponse({"status": "ok"})

    async def missing(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return await sign_in.missing(request, error, site)

    routes = [Route("/health", health, methods=["GET"]), *sign_in.routes(site), *answer.routes(site, OPERATIONS)]
    return Starlette(routes=routes, middleware=[Middleware(Frame, site=site)], exception_handlers={HTTPException: missing})
