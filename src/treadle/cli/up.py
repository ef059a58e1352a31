"""`treadle up`: keep a whole project running."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime
from importlib.util import find_spec

import click

from treadle.cli import show


@click.command(epilog="Example: treadle up --role watch --role scheduler")
@click.option("--role", "roles", multiple=True, metavar="ROLE",
              help="endpoints, watch, scheduler or console; may be given several times. All if not given.")  # fmt: skip
@click.option("--every", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds between looks of the watch.")
@click.option("--console-port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="Where the console listens; 0 for none.")
@click.option("--status", "look", is_flag=True, help="Only say what runs.")
@click.option("--json", "json_", is_flag=True, help="With --status: print it as JSON.")
@click.pass_context
def up(ctx: click.Context, roles: tuple[str, ...], every: float, console_port: int, look: bool, json_: bool) -> None:
    """Run endpoints, watches with their reactions, the scheduler and the console, and start again what dies, until stopped.

    Killed, it leaves them running, and the next `treadle up` goes on with them. Stopped by SIGTERM or Ctrl-C it lets all of them leave.
    """
    from treadle.live.up import ROLES, Supervisor, standing

    ws = show.workspace(ctx)
    if look:
        found = standing(ws)
        if json_:
            show.as_json(found)
        elif not found:
            show.say("nothing is kept up; start it with: treadle up")
        else:
            rows = [(f["part"], f["state"], f["pid"] or "", f["restarts"], f["on"]) for f in found]
            show.table(["part", "state", "process", "restarts", "on"], rows)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    def tell(line: str) -> None:
        print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z  {line}", file=sys.stderr, flush=True)

    supervisor = Supervisor(ws, roles or ROLES, every=every, console_port=console_port, tell=tell)
    show.say(f"{ws.project.name} is up: {', '.join(supervisor.roles)}  (Ctrl-C ends it)")
    if "console" in supervisor.roles and console_port and not ws.settings["console_url"] and find_spec("starlette") is not None:
        from treadle.web.console.serve import first_link

        show.say(f"console: {first_link(ws, f'http://127.0.0.1:{console_port}')}  (signs you in once; another: treadle access link)")
    supervisor.run(stop)
    show.say("everything has left")
