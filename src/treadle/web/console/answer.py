"""From an operation to an answer: what came is read, the gate is asked, the operation is done, and what it gave is shown as JSON or as a page.

Nothing is left to the framework, whose error pages would lack a sentence. Errors of the API are `application/problem+json` (RFC 9457).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, quote

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from treadle.core.canonical import plain
from treadle.core.errors import (
    Conflict,
    DataError,
    Forbidden,
    NotFound,
    ProjectError,
    Refused,
    TooMany,
    TreadleError,
    Unauthorized,
    UsageError,
)  # fmt: skip
from treadle.core.records import Ref
from treadle.web.console import gate, sent
from treadle.web.console.gate import Known, address_of
from treadle.web.console.once import once
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.show import html
from treadle.web.console.site import Site

API = "/api/v1"
STATUS: list[tuple[type[TreadleError], int, str]] = [
    (Unauthorized, 401, "Not signed in"), (Forbidden, 403, "Not allowed"), (NotFound, 404, "Not found"), (Conflict, 409, "Somebody else was first"),
    (TooMany, 429, "Too many"), (Refused, 422, "Refused"), (UsageError, 400, "This cannot be taken"), (DataError, 422, "The data do not fit"),
    (ProjectError, 422, "The project does not allow it"),
]  # fmt: skip
PRESSED_TWICE = 5.0  # seconds that the second of two equal forms waits for the end of the first
_log = logging.getLogger("treadle.console")


def routes(site: Site, operations: list[Operation]) -> list[Route]:
    """Every operation's routes: its JSON below /api/v1, its page or its form at its own path."""
    made = []
    for operation in operations:
        made.append(Route(API + operation.path, _api(site, operation), methods=[operation.method]))
        if operation.method == "POST":
            made.append(Route(operation.path, _form(site, operation), methods=["POST"]))
        elif operation.page is not None or operation.raw:
            made.append(Route("/" if operation.path == "/home" else operation.path, _page(site, operation), methods=["GET"]))
    return made


def _api(site: Site, operation: Operation) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        try:
            known = await run_in_threadpool(gate.who, request, site)
            await run_in_threadpool(gate.may, known, operation, request, site, request.headers.get("x-csrf-token", ""))
            body = await _json(request, operation) if operation.method == "POST" else None
            asked = _asked(site, operation, known, request, _query(request, operation), body)
            given, again = await run_in_threadpool(_do, operation, asked, request.headers.get("idempotency-key"))
            if operation.raw:
                return _file(given)
            return JSONResponse(plain(given), operation.status, {"Idempotency-Replayed": "true"} if again else None)
        except Exception as error:
            return problem(request, error)

    return answer


def _page(site: Site, operation: Operation) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        known = None
        try:
            known = await run_in_threadpool(gate.who, request, site)
            await run_in_threadpool(gate.may, known, operation, request, site, "")
            asked = _asked(site, operation, known, request, _query(request, operation, ours=("done",)), None)
            return await run_in_threadpool(_shown, operation, asked, site, known, request)
        except Unauthorized:
            return RedirectResponse("/sign-in?next=" + quote(_here(request), safe=""), 303)
        except Exception as error:
            return await run_in_threadpool(told, request, error, site, known)

    return answer


def _shown(operation: Operation, asked: Asked, site: Site, known: Known, request: Request) -> Response:
    given = operation.does(asked)
    if operation.raw or operation.page is None:
        return _file(given)
    name, values = operation.page(given, asked)
    return html(name, values, site=site, known=known, path=request.url.path, done=request.query_params.get("done", ""))


def _form(site: Site, operation: Operation) -> Callable[[Request], Any]:
    async def answer(request: Request) -> Response:
        known, back, written = None, "/", list[tuple[str, str]]()
        try:
            fields = await form(request)
            back = local_path(sent.last(fields, "back"))
            known = await run_in_threadpool(gate.who, request, site)
            await run_in_threadpool(gate.may, known, operation, request, site, sent.last(fields, "csrf"))
            written = sent.written(operation, fields)  # not before: another site's text is not shown
            body = _taken(operation, fields)
            asked = _asked(site, operation, known, request, None, body)
            given, _ = await run_in_threadpool(_do, operation, asked, sent.key_of(fields), PRESSED_TWICE)
            if isinstance(given, Mapping) and str(given.get("secret_shown_once", "")).startswith("/"):  # a link of a console that has no name
                given = {**given, "secret_shown_once": f"{request.url.scheme}://{request.headers['host']}{given['secret_shown_once']}"}
            if isinstance(given, Mapping) and given.get("secret_shown_once"):  # a new token: it is shown now or never
                return await run_in_threadpool(
                    html, "secret.html", {"given": given, "back": back}, site=site, known=known, path=request.url.path, done=operation.name
                )
            if operation.page is not None:  # what it gave is shown on a page of its own, and kept nowhere
                name, values = operation.page(given, asked)
                done = "" if isinstance(given, Mapping) and given.get("fields") else operation.name  # what did not fit is said at its place
                return await run_in_threadpool(html, name, values, site=site, known=known, path=request.url.path, done=done)
            if isinstance(given, Mapping) and isinstance(given.get("goes_to"), str):
                back = given["goes_to"]
            return RedirectResponse(back + ("&" if "?" in back else "?") + "done=" + operation.name, 303)
        except Unauthorized:
            return RedirectResponse("/sign-in", 303)
        except Exception as error:
            return await run_in_threadpool(told, request, error, site, known, back, written)

    return answer


def _do(operation: Operation, asked: Asked, key: str | None, wait: float = 0.0) -> tuple[Any, bool]:
    if operation.method == "GET":
        return operation.does(asked), False
    if key is None or operation.raw or operation.secret:
        given, again = operation.does(asked), False
    else:
        taken = [dict(asked.path), msgspec.to_builtins(asked.body) if asked.body is not None else None]
        given, again = once(key, asked.person.name, operation.name, taken, lambda: operation.does(asked), asked.ws.ledger, wait=wait)
    if not again:  # what was changed is on record by whoever changed it; this says from where, and through what
        about = {"operation": operation.name, "of": dict(asked.path), "address": asked.address, "by": "session" if asked.session else "token"}
        asked.ws.ledger.append("console.done", Ref("person", asked.person.name), about, actor=asked.person.name)
    return given, again


def _asked(site: Site, operation: Operation, known: Known, request: Request, query: Any, body: Any) -> Asked:
    path = {k: _named(v) for k, v in request.path_params.items()}
    return Asked(site.ws.acting_as(known.person.name), known.person, path, query, body, address_of(request), known.session, site.check)


def _named(text: str) -> str:
    """A part of a path that names something. Raises NotFound: nothing has a name with control characters, or such a long one."""
    if len(text) > 300 or not text.isprintable():
        raise NotFound("There is nothing of this name.")
    return text


def _query(request: Request, operation: Operation, ours: tuple[str, ...] = ()) -> Any:
    given = [(k, v) for k, v in request.query_params.multi_items() if k not in ours]
    if operation.query is None:
        if given:
            raise UsageError(f"This takes no parameter {given[0][0][:60]!r}.")
        return None
    return _struct(operation.query, given, "parameter")


def _taken(operation: Operation, fields: list[tuple[str, str]]) -> Any:
    given = [(k, v) for k, v in fields if k not in sent.OURS]
    return _struct(operation.body, given, "field") if operation.body is not None else None


def _struct(kind: type[msgspec.Struct], given: list[tuple[str, str]], noun: str) -> Any:
    """Texts as the structure's types. An empty text is as one that was not given, where there is a default."""
    known = {f.encode_name: f for f in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            raise UsageError(f"There is no {noun} {name[:60]!r} here.", hint=f"There are: {', '.join(known) or 'none'}.")
        field = known[name]
        if _many(field.type):
            values.setdefault(name, []).append(text)
        elif text or field.required:
            values[name] = text
    return _converted(values, kind, noun, strict=False)


def _many(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) in (list, tuple)


def _converted(values: Any, kind: type[msgspec.Struct], noun: str, *, strict: bool) -> Any:
    try:
        return msgspec.convert(values, kind, strict=strict)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise UsageError(f"A {noun} does not fit: {what}.", where=where.rstrip("`") or None) from None


async def _json(request: Request, operation: Operation) -> Any:
    content = await request.body()
    if operation.body is None:
        if content.strip() not in (b"", b"{}"):
            raise UsageError("This takes no body.")
        return None
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise WrongMedia("Send JSON: Content-Type: application/json")
    try:
        values = msgspec.json.decode(content or b"{}")
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise UsageError("The body is not JSON.") from None
    known = {f.encode_name for f in msgspec.structs.fields(operation.body)}
    unknown = [k for k in values if k not in known] if isinstance(values, dict) else []
    if unknown:
        raise UsageError(f"There is no field {unknown[0][:60]!r} here.", hint=f"There are: {', '.join(sorted(known)) or 'none'}.")
    return _converted(values, operation.body, "field", strict=True)


async def form(request: Request) -> list[tuple[str, str]]:
    """The fields of a form. Raises UsageError, and WrongMedia for anything but a form."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise WrongMedia("Send a form: Content-Type: application/x-www-form-urlencoded")
    try:
        return parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, strict_parsing=False, max_num_fields=1000, encoding="utf-8", errors="strict"
        )
    except ValueError:
        raise UsageError("The form cannot be read.") from None


class WrongMedia(UsageError):
    """The body is of another kind."""

    code = "media_type"


def local_path(text: str) -> str:
    """A path of this console, to go back to; '/' for anything else: nobody is sent to another site."""
    return text if text.startswith("/") and not text.startswith("//") and "\\" not in text and text.isprintable() and len(text) < 1000 else "/"


def _here(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


def _file(given: tuple[str, str, str | bytes | Iterator[str]]) -> Response:
    kind, name, content = given
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)
    headers = {"Content-Disposition": f'attachment; filename="{safe}"'} if name else {}
    if isinstance(content, Iterator):  # too long to be held whole
        return StreamingResponse(content, media_type=kind, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def status_of(error: Exception) -> tuple[int, str]:
    """The HTTP status of an error, and a title."""
    if isinstance(error, WrongMedia):
        return 415, "Another kind of body is wanted"
    for kind, status, title in STATUS:
        if isinstance(error, kind):
            return status, title
    if isinstance(error, TreadleError) and error.transient:
        return 503, "Not available now"
    return 500, "This failed"


def problem(request: Request, error: Exception) -> Response:
    """An error as the API tells it. A failure of ours is in the server's log, and only its kind goes out."""
    status, title = status_of(error)
    says: dict[str, Any] = {"type": "about:blank", "title": title, "status": status}
    if isinstance(error, TreadleError):
        says |= {"error": error.code, "detail": error.what, "where": error.where, "hint": error.hint, "fields": getattr(error, "fields", None)}
    else:
        _log.error("%s failed", request.url.path, exc_info=error)
        says |= {"error": "error", "detail": f"The server failed ({type(error).__name__}); its log says more."}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(max(1, round(error.after)))
    content = json.dumps({k: v for k, v in says.items() if v is not None})
    return Response(content, status, headers, media_type="application/problem+json")


def told(
    request: Request, error: Exception, site: Site, known: Known | None, back: str = "/", written: list[tuple[str, str]] | None = None
) -> Response:  # fmt: skip
    """An error as a page, with a way back, and what was written into the form."""
    status, title = status_of(error)
    if isinstance(error, TreadleError):
        sentence, hint = (f"{error.where}: {error.what}" if error.where else error.what), error.hint or ""
    else:
        _log.error("%s cannot be shown", request.url.path, exc_info=error)
        sentence, hint = f"The server failed ({type(error).__name__}).", "Its log says more. Load the page again, or go back."
    values = {"title": title, "sentence": sentence, "hint": hint, "back": back, "written": written or []}
    return html("error.html", values, status=status, site=site, known=known, path=request.url.path)
