"""The outermost layer of the console: which hosts and methods are answered, how large a body may be, and the headers every answer carries.

The Host header is checked because a page on the internet can make a browser ask 127.0.0.1 under its own name (DNS rebinding).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from treadle.web.console.site import Site
from treadle.web.guard import HEADERS

# Pages tell their own site where a form comes from: under 'no-referrer' a browser sends `Origin: null`, which is refused as another site's.
SENT = {**HEADERS, "Referrer-Policy": "same-origin"}
LARGEST_BODY = 1_000_000
METHODS = ("GET", "HEAD", "POST")
POLICY = "default-src 'none'; img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


def policy(nonce: str) -> str:
    """The content policy of a page whose own script and style carry `nonce`."""
    return f"{POLICY}; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'"


class Frame:
    """Refuses other hosts (403), other methods (405) and long bodies (413), and adds the security headers."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a WebSocket is never accepted
        taken = 0

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SENT.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", POLICY)
                if self._site.secure:
                    headers["Strict-Transport-Security"] = "max-age=31536000"
            await send(message)

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST_BODY:
                raise TooLong
            return message

        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        if not self._site.answers_to(headers.get("host", "")):
            await _plain("This console does not answer under this name.", 403)(scope, receive, guarded)
        elif scope["method"] not in METHODS:
            await _plain("The console takes GET and POST.", 405, {"Allow": ", ".join(METHODS)})(scope, receive, guarded)
        elif not (length.isascii() and length.isdigit() and len(length) < 20):
            await _plain("The Content-Length is no number.", 400)(scope, receive, guarded)
        elif int(length) > LARGEST_BODY:
            await _plain(f"A body may have at most {LARGEST_BODY:,} bytes.", 413)(scope, receive, guarded)
        else:
            try:
                await self._app(scope, bounded, guarded)
            except TooLong:
                await _plain(f"A body may have at most {LARGEST_BODY:,} bytes.", 413)(scope, receive, guarded)


class TooLong(Exception):
    """More bytes came than a body may have."""


def _plain(sentence: str, status: int, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(sentence + "\n", status, headers)
