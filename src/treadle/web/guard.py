"""What every request of the console must meet, and every answer carries: loopback only, reading only, nothing from elsewhere.

The Host header is checked because a page on the internet can make a browser ask 127.0.0.1 under its own name (DNS rebinding).
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
}  # fmt: skip
POLICY = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def policy(nonce: str) -> str:
    """The content policy of a page whose own script and style carry `nonce`."""
    return f"{POLICY}; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'"


class Guard:
    """Refuses other hosts (403) and other methods than GET and HEAD (405), and adds the security headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a WebSocket is never accepted

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", POLICY)
            await send(message)

        if not local(Headers(scope=scope).get("host", "")):
            await PlainTextResponse("This console answers on this machine only: open it as 127.0.0.1 or localhost.\n", 403)(scope, receive, guarded)
        elif scope["method"] not in ("GET", "HEAD"):
            await PlainTextResponse("The console only reads.\n", 405, {"Allow": "GET, HEAD"})(scope, receive, guarded)
        else:
            await self._app(scope, receive, guarded)


def local(host: str) -> bool:
    """Whether a Host header names this machine, with or without a port."""
    name, colon, port = host.rpartition(":")
    if not colon or host.endswith("]"):
        name, port = host, "0"
    return name.lower() in HOSTS and port.isdigit()
