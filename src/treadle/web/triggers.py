"""The scheduler's process when it also takes calls: the routes on the loopback, and the scheduler beside them, until it is told to stop."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable

from treadle.assemble import Workspace
from treadle.core.errors import Conflict
from treadle.serving.address import port_free
from treadle.web.api.asked import token_of
from treadle.web.api.triggers import make_app
from treadle.wheel.scheduler import follow

HOST = "127.0.0.1"


def serve(ws: Workspace, port: int, every: float, tell: Callable[[str], None]) -> None:
    """Schedule and take calls until SIGTERM or SIGINT; the caller must then end the process.

    Raises UsageError without a trigger_token, Conflict when the port is taken.
    """
    token_of(ws)
    if not port_free(HOST, port):
        raise Conflict(f"Port {port} is in use.", hint="Give another one: treadle schedule run --http PORT")
    asyncio.run(_run(ws, port, every, tell))


async def _run(ws: Workspace, port: int, every: float, tell: Callable[[str], None]) -> None:
    from granian.constants import Interfaces
    from granian.server.embed import Server as Granian

    stop, wake = threading.Event(), threading.Event()
    app = make_app(ws, called=wake.set)
    granian = Granian(app, address=HOST, port=port, interface=Interfaces.ASGI, websockets=False, log_enabled=False)

    def leave() -> None:
        stop.set()
        wake.set()
        granian.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    scheduling = asyncio.create_task(asyncio.to_thread(follow, ws, every, stop=stop, wake=wake, tell=tell))
    try:
        await granian.serve()
    finally:
        stop.set()
        wake.set()
        await scheduling
