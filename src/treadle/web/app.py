"""The console: a read-only face on the record of the loop, for a browser on this machine. `/api/...` gives every page as JSON, `/metrics` every
watched number as Prometheus reads it."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from treadle.assemble import Workspace
from treadle.core.canonical import plain
from treadle.core.errors import NotFound, TreadleError, UsageError
from treadle.report import collect, drawn, page
from treadle.report.charts import calibration
from treadle.report.wheel import wheel
from treadle.web import look
from treadle.web.guard import Guard, policy

NAV = [("The loop", "/"), ("Runs", "/runs"), ("Audit log", "/events")]
STATUS = {NotFound: 404, UsageError: 404}
_log = logging.getLogger("treadle.console")
Look = Callable[[Workspace, Request], Any]  # what a page shows, as JSON values
Show = Callable[[Any, Request], tuple[str, dict[str, Any]]]  # of that: the template and its values


def make_app(ws: Workspace) -> Starlette:
    """The console of a workspace, as an ASGI application."""
    routes = []
    for path, see, show in PAGES:
        routes.append(Route(path, _page(ws, see, show)))
        routes.append(Route("/api" + path.rstrip("/"), _data(ws, see)))
    routes.append(Route("/api/", _data(ws, PAGES[0][1])))
    routes.append(Route("/metrics", _metrics(ws)))
    return Starlette(routes=routes, middleware=[Middleware(Guard)], exception_handlers={HTTPException: _no_page})


PAGES: list[tuple[str, Look, Show]] = [
    ("/", lambda ws, r: look.home(ws), lambda d, r: ("home.html", {**d, "wheel": _wheel(d)})),
    ("/models/{model}", lambda ws, r: collect(ws, ws.model(r.path_params["model"])), lambda d, r: ("report.html", page.shown(d))),
    ("/runs", lambda ws, r: look.runs(ws), lambda d, r: ("runs.html", {"runs": d, "more": len(d) == look.LONGEST})),
    ("/runs/{id}", lambda ws, r: look.run(ws, r.path_params["id"]), lambda d, r: ("run.html", {"run": d, **drawn.shown(d["graph"])})),
    ("/versions/{id}", lambda ws, r: look.version(ws, r.path_params["id"]), lambda d, r: ("version.html", _version(d))),
    ("/alarms/{id}", lambda ws, r: look.alarm(ws, r.path_params["id"]), lambda d, r: ("alarm.html", {"alarm": d})),
    ("/why/{id}", lambda ws, r: look.why(ws, r.path_params["id"]), lambda d, r: ("why.html", {"story": d, "id": r.path_params["id"]})),
    ("/events", lambda ws, r: look.events(ws, _upto(r)), lambda d, r: ("events.html", d)),
]


def _page(ws: Workspace, see: Look, show: Show) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:  # not async: Starlette runs it beside the event loop
        def make() -> Response:
            name, values = show(see(ws, request), request)
            return _html(name, values)

        return _safely(request, make)

    return answer


def _data(ws: Workspace, see: Look) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        return _safely(request, lambda: JSONResponse(plain(see(ws, request))))

    return answer


def _metrics(ws: Workspace) -> Callable[[Request], Response]:
    def answer(request: Request) -> Response:
        from treadle.monitoring.figures import figures

        return _safely(request, lambda: PlainTextResponse(figures(ws.project.models, ws.ledger, ws.clock), media_type="text/plain; version=0.0.4"))

    return answer


def _safely(request: Request, make: Callable[[], Response]) -> Response:
    """What `make` gives, or a page that says why not. Nothing is left to the framework, whose error page would lack the security headers."""
    try:
        return make()
    except TreadleError as error:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 503 if error.transient else 500)
        return _said(request, status, "Not found" if status == 404 else "This cannot be shown", str(error))
    except Exception as error:
        _log.exception("%s cannot be shown", request.url.path)
        return _said(request, 500, "This cannot be shown", f"{type(error).__name__}: {error}")


def _html(name: str, values: dict[str, Any], status: int = 200) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    text = page.template(name, **values, nav=NAV, nonce=nonce)
    return HTMLResponse(text, status, {"Content-Security-Policy": policy(nonce)})


def _wheel(home: dict[str, Any]) -> dict[str, Any] | None:
    return {**wheel(home["loop"]), "base": f"/models/{home['shown']}"} if home["loop"] else None


def _version(version: dict[str, Any]) -> dict[str, Any]:
    e = version["evaluation"]
    return {"version": version, "e": e, "made": version["made"], "charts": {"calibration": calibration([e])} if e["calibration"] else {}}


def _upto(request: Request) -> int | None:
    text = request.query_params.get("upto")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise NotFound(f"There is no entry {text!r} in the audit log.")
    return int(text)


def _said(request: Request, status: int, title: str, sentence: str) -> Response:
    if request.url.path.startswith("/api"):
        return JSONResponse({"error": title, "message": sentence}, status)
    return _html("error.html", {"title": title, "sentence": sentence}, status)


def _no_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _said(request, error.status_code, "Not found" if error.status_code == 404 else "Not possible", f"There is no page {request.url.path!r}.")
