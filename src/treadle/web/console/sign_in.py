"""Signing in and out: with a password, with a one-time link of this machine, or with the company's OpenID provider.

These are the only routes that answer somebody who is not known, beside `/health`.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from treadle.access import people, sessions, signin
from treadle.core.errors import Forbidden, NotFound, TooMany, TreadleError, Unauthorized
from treadle.web.console import answer, gate
from treadle.web.console.gate import Known, address_of
from treadle.web.console.show import html
from treadle.web.console.site import Site

PUBLIC = ("/health", "/sign-in", "/sign-in/link", "/sign-in/oidc", "/sign-in/oidc/back", "/sign-out")
STATE = "treadle_oidc"  # the cookie that keeps what the provider's answer is held against
Answer = Callable[[Request, Site], Response]


def routes(site: Site) -> list[Route]:
    """The routes of signing in and out."""

    def safely(do: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            try:
                return await run_in_threadpool(do, request, site)
            except Exception as error:
                return await run_in_threadpool(_failed, request, error, site)

        return answered

    async def with_password(request: Request) -> Response:
        try:
            fields = dict(await answer.form(request))
            return await run_in_threadpool(_password, request, site, fields)
        except Exception as error:
            return await run_in_threadpool(_failed, request, error, site)

    async def out(request: Request) -> Response:
        try:
            fields = dict(await answer.form(request))
            return await run_in_threadpool(_out, request, site, fields)
        except Exception as error:
            return await run_in_threadpool(_failed, request, error, site)

    return [
        Route("/sign-in", safely(_page), methods=["GET"]), Route("/sign-in", with_password, methods=["POST"]),
        Route("/sign-in/link", safely(_link), methods=["GET"]), Route("/sign-in/oidc", safely(_to_provider), methods=["GET"]),
        Route("/sign-in/oidc/back", safely(_from_provider), methods=["GET"]), Route("/sign-out", out, methods=["POST"]),
    ]  # fmt: skip


def _page(request: Request, site: Site) -> Response:
    return _form(request, site)


def _form(request: Request, site: Site, sentence: str = "", name: str = "", status: int = 200, wait: float = 0.0) -> Response:
    local = [p for p in people.people(site.ws.ledger) if p.kind == "local" and not p.disabled]
    values = {
        "sentence": sentence, "typed": name, "next": answer.local_path(request.query_params.get("next", "/")), "passwords": bool(local),
        "provider": site.ws.settings["oidc_issuer"], "laptop": not site.url,
    }  # fmt: skip
    response = html("sign_in.html", values, status, site=site, known=None, path="/sign-in", done=request.query_params.get("done", ""))
    if wait:
        response.headers["Retry-After"] = str(max(1, round(wait)))
    return response


def _password(request: Request, site: Site, fields: dict[str, str]) -> Response:
    gate.from_here(request, site)
    name = fields.get("name", "").strip()
    try:
        secret, _, _ = signin.with_password(name, fields.get("password", ""), site.ws.ledger, site.ws.clock, address=address_of(request))
    except (Unauthorized, TooMany) as error:
        return _form(request, site, str(error), name[:64], answer.status_of(error)[0], error.after if isinstance(error, TooMany) else 0.0)
    return _in(site, secret, answer.local_path(fields.get("next", "/")))


def _link(request: Request, site: Site) -> Response:
    key = request.query_params.get("key", "")
    secret, _, _ = signin.with_link(key, site.ws.ledger, site.ws.clock, address=address_of(request))
    return _in(site, secret, answer.local_path(request.query_params.get("next", "/")))


def _to_provider(request: Request, site: Site) -> Response:
    from treadle.access import oidc

    if not site.ws.settings["oidc_issuer"]:
        raise NotFound("No OpenID provider is declared.", hint="See docs/how-to/access.md.")
    url, kept = oidc.begin(site.ws.settings, _back(request, site))
    response = RedirectResponse(url, 303)
    response.set_cookie(STATE, kept, max_age=600, httponly=True, samesite="lax", secure=site.secure, path="/sign-in")
    return response


def _from_provider(request: Request, site: Site) -> Response:
    from treadle.access import oidc

    if not site.ws.settings["oidc_issuer"]:
        raise NotFound("No OpenID provider is declared.")
    person = oidc.finish(
        site.ws.settings, request.cookies.get(STATE, ""), dict(request.query_params), site.ws.ledger, site.ws.clock, address=address_of(request)
    )
    secret, _ = sessions.open_session(person, site.ws.ledger, site.ws.clock, how="oidc", address=address_of(request))
    response = _in(site, secret, "/")
    response.delete_cookie(STATE, path="/sign-in")
    return response


def _back(request: Request, site: Site) -> str:
    return (site.url.rstrip("/") or f"{request.url.scheme}://{request.headers['host']}") + "/sign-in/oidc/back"


def _in(site: Site, secret: str, path: str) -> Response:
    response = RedirectResponse(path, 303)
    response.set_cookie(site.cookie, secret, httponly=True, samesite="lax", secure=site.secure, path="/")
    return response


def _out(request: Request, site: Site, fields: dict[str, str]) -> Response:
    try:
        known = gate.who(request, site)
    except Unauthorized:
        return RedirectResponse("/sign-in", 303)
    gate.from_here(request, site)
    if known.session is not None:
        if not hmac.compare_digest(fields.get("csrf", "").encode(), known.session.csrf.encode()):
            raise Forbidden("The form is from another session.", hint="Load the page again and repeat what you did.")
        sessions.end_session(known.session.id, site.ws.ledger, site.ws.clock, actor=known.person.name)
    response = RedirectResponse("/sign-in", 303)
    response.delete_cookie(site.cookie, path="/")
    return response


def _failed(request: Request, error: Exception, site: Site) -> Response:
    if isinstance(error, Unauthorized | TooMany):
        status, _ = answer.status_of(error)
        return _form(request, site, str(error), status=status)
    return answer.told(request, error, site, None)


async def missing(request: Request, error: HTTPException, site: Site) -> Response:
    """The answer to a path or method that there is not; to somebody who is not known no more is said than 'sign in'."""
    known: Known | None = None
    refused: TreadleError = NotFound("There is no such page.", where=request.url.path[:200])
    try:
        known = await run_in_threadpool(gate.who, request, site)
    except TreadleError as unknown:
        refused = unknown
    if error.status_code == 405 and known is not None:
        if request.url.path.startswith(answer.API):
            return answer.problem(request, MethodWrong("This path does not take this method."))
        return await run_in_threadpool(answer.told, request, MethodWrong("This page does not take this method."), site, known)
    if request.url.path.startswith("/api"):
        return answer.problem(request, refused)
    if known is None:
        return RedirectResponse("/sign-in?next=" + quote(request.url.path, safe=""), 303)
    return await run_in_threadpool(answer.told, request, refused, site, known)


class MethodWrong(TreadleError):
    """The path is right, the method is not."""
