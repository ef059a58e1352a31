"""The console's process: serve the pages until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
from pathlib import Path
from typing import Any

from treadle.access import laptop, links, people
from treadle.assemble import Workspace
from treadle.core.errors import Conflict, UsageError
from treadle.serving.address import port_free
from treadle.web.console.app import make_app
from treadle.web.console.operation import Check
from treadle.web.console.site import Site
from treadle.web.leave import leave


def serve(ws: Workspace, host: str = "127.0.0.1", port: int = 8800, *, commands: Check | None = None) -> None:
    """Serve the console until SIGTERM or SIGINT, then end the process.

    On a host that others can reach the setting `console_url` says how, and somebody must be able to sign in: there is no account by default.

    Raises: UsageError for an open host without that, Conflict when the port is taken."""
    url = ws.settings["console_url"]
    check(ws, host, url)
    if not port_free(host, port):
        raise Conflict(f"Port {port} on {host} is in use.", hint="Stop what listens there, or give another one with --port.")
    asyncio.run(_run(ws, host, port, url, commands))
    leave()


def check(ws: Workspace, host: str, url: str) -> None:
    """Whether a console may listen on this host. Raises UsageError."""
    if loopback(host):
        return
    if not url:
        raise UsageError(
            f"The console does not listen on {host!r} as it is.", hint="Others could reach it: say under which address with the setting console_url."
        )
    site = Site(ws, url)
    if not site.secure and not loopback(host):
        raise UsageError(
            "Passwords would go over the network in the open.", where="the setting 'console_url'",
            hint="Give an https:// address: set tls_cert and tls_key, or put a proxy with TLS before the console and let it listen on 127.0.0.1.",
        )  # fmt: skip
    if not ws.settings["tls_cert"]:
        raise UsageError(
            f"There is no certificate for {host!r}.", where="the settings 'tls_cert' and 'tls_key'",
            hint="Set both, or put a proxy with TLS before the console and let it listen on 127.0.0.1.",
        )  # fmt: skip
    if not people.has_administrator(ws.ledger) and not ws.settings["oidc_issuer"]:
        raise UsageError("Nobody could sign in: there is no administrator.", hint="Add one: treadle access add NAME --role administrator")


def first_link(ws: Workspace, base: str) -> str:
    """A link that signs whoever runs this in, once, within ten minutes. On this machine only: whoever can run this holds everything anyway."""
    person = laptop.owner(ws.actor, ws.ledger, ws.clock)
    return f"{base}/sign-in/link?key={links.make_link(person, ws.ledger, ws.clock, actor=person.name)}"


async def _run(ws: Workspace, host: str, port: int, url: str, commands: Check | None) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server as Granian

    tls: dict[str, Any] = {}
    if ws.settings["tls_cert"] and url.startswith("https://") and not loopback(host):
        tls = {"ssl_cert": Path(ws.settings["tls_cert"]), "ssl_key": Path(ws.settings["tls_key"])}
    granian = Granian(
        make_app(ws, url=url, check=commands), address=host, port=port, interface=Interfaces.ASGI, websockets=False, log_enabled=False, **tls
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, granian.stop)
    await granian.serve()


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


__all__ = ["check", "first_link", "serve"]
