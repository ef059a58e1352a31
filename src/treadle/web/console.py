"""The console's process: serve the pages on the loopback until it is told to stop."""

from __future__ import annotations

import asyncio
import ipaddress
import signal

from treadle.assemble import Workspace
from treadle.core.errors import Conflict, UsageError
from treadle.serving.address import port_free
from treadle.web.app import make_app
from treadle.web.leave import leave


def serve(ws: Workspace, host: str = "127.0.0.1", port: int = 8800) -> None:
    """Serve the console until SIGTERM or SIGINT, then end the process.

    Raises UsageError for a host that is not this machine alone, Conflict when the port is taken."""
    if not _loopback(host):
        raise UsageError(f"The console does not listen on {host!r}.", hint="It has no log-in, so it answers on 127.0.0.1 only.")
    if not port_free(host, port):
        raise Conflict(f"Port {port} on {host} is in use.", hint="Stop what listens there, or give another one with --port.")
    asyncio.run(_run(ws, host, port))
    leave()


async def _run(ws: Workspace, host: str, port: int) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server as Granian

    granian = Granian(make_app(ws), address=host, port=port, interface=Interfaces.ASGI, websockets=False, log_enabled=False)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, granian.stop)
    await granian.serve()


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
