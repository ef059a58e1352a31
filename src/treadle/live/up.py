"""One process that keeps a project running: endpoints, watches with their reactions, the scheduler, the console. What dies is started again.

Each part is a process of its own, so that none can take another with it. What runs is on record (kind `supervised`, by machine), with the number
and the birth of its process: a supervisor that was killed leaves its parts running, and the next one finds them and goes on with them. A part that
dies is started again after a second, then two, then four, up to a minute; one that stayed up for a minute begins at a second again. An endpoint
that a person stopped (`treadle stop`) stays stopped.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.errors import Conflict, TreadleError, UsageError
from treadle.core.records import Ref
from treadle.live import deploy
from treadle.pipelines.lease import alive, born, owner
from treadle.registry import promote

KIND, PART = "supervisor", "supervised"
ROLES = ("endpoints", "watch", "scheduler", "console")
FIRST, LONGEST, STEADY = 1.0, 60.0, 60.0  # seconds: back-off, and how long a part must stay up to begin anew
GRACE = 20.0  # seconds a part may take to leave
Tell = Callable[[str], None]


@dataclass
class Part:
    """A process that is to run: by its command, or an endpoint by its model."""

    name: str
    command: list[str] = field(default_factory=list)
    model: str = ""
    pid: int = 0
    born: str = ""
    since: float = 0.0
    wait: float = 0.0
    after: float = 0.0
    restarts: int = 0
    child: subprocess.Popen[bytes] | None = None

    def alive(self) -> bool:
        """Whether its process runs; a child of this process is reaped on the way."""
        if self.child is not None:
            return self.child.poll() is None
        return bool(self.pid) and alive(self.pid, self.born)


class Supervisor:
    """Keeps the parts of some roles up on this machine.

    Args:
        every: seconds between looks of the watch; `console_port`: where the console listens.
        commands: stands in for the commands of the roles, by name of the part.
    """

    def __init__(
        self, ws: Workspace, roles: Iterable[str] = ROLES, *, every: float = 60.0, console_port: int = 8800, tell: Tell = lambda line: None,
        commands: Mapping[str, list[str]] | None = None, first: float = FIRST,
    ) -> None:  # fmt: skip
        self.ws, self.roles, self.every, self.console_port, self.tell = ws, tuple(dict.fromkeys(roles)), every, console_port, tell
        unknown = [r for r in self.roles if r not in ROLES]
        if unknown or not self.roles:
            raise UsageError(f"{unknown[0]!r} is no role." if unknown else "No role is named.", hint=f"Roles are {', '.join(ROLES)}.")
        self._commands, self._first = commands, first
        self.me = f"{ws.project.name}@{socket.gethostname()}:{'+'.join(sorted(self.roles))}"
        self.parts: dict[str, Part] = {}

    def run(self, stop: threading.Event, look: float = 1.0) -> None:
        """Keep everything up until `stop` is set, then let it leave in good order. Raises Conflict when another supervisor does the same here."""
        self._take()
        try:
            while not stop.is_set():
                self.look()
                stop.wait(look)
        finally:
            self.leave()

    def look(self) -> None:
        """Start what should run and does not."""
        wanted = self._wanted()
        for name in [n for n in self.parts if n not in wanted]:
            self._end(self.parts.pop(name))
        for name, part in wanted.items():
            mine = self.parts.setdefault(name, part)
            try:
                self._keep(mine)
            except TreadleError as error:  # a store or port that is not there now; the next look may find it
                self._failed(mine, str(error))

    def leave(self) -> None:
        """Stop every part, and say so."""
        for part in self.parts.values():
            self._signal(part)
        for part in self.parts.values():
            self._end(part)
        with suppress(TreadleError):
            record = self.ws.ledger.get(KIND, self.me)
            if record is not None and record["pid"] == os.getpid():
                self.ws.ledger.put(KIND, self.me, {**record.body, "status": "left", "at": iso(self.ws.clock.now())})

    # What should run

    def _wanted(self) -> dict[str, Part]:
        if self._commands is not None:
            return {name: Part(name, command) for name, command in self._commands.items()}
        found: list[Part] = []
        base = [sys.executable, "-m", "treadle.cli.main", "-C", str(self.ws.folder)]
        for model in self.ws.project.models:
            try:
                deployed = promote.deployment(model, self.ws.ledger) is not None
            except TreadleError:  # the ledger is away: what ran is to go on
                deployed = f"endpoint:{model}" in self.parts
            if "endpoints" in self.roles and deployed:
                found.append(Part(f"endpoint:{model}", model=model))
            if "watch" in self.roles and model in self.ws.project.watches and deployed:
                found.append(Part(f"watch:{model}", [*base, "watch", model, "--follow", "--every", str(self.every)]))
        if "scheduler" in self.roles and self.ws.project.schedules:
            found.append(Part("scheduler", [*base, "schedule", "run", "--every", f"{max(1, round(min(self.every, 30)))}s"]))
        if "console" in self.roles and self.console_port and find_spec("starlette") is not None:
            found.append(Part("console", [*base, "console", "--port", str(self.console_port), "--no-link"]))
        return {p.name: p for p in found}

    # Keeping one part up

    def _keep(self, part: Part) -> None:
        now = time.monotonic()
        if part.model:
            self._keep_endpoint(part, now)
            return
        if not part.pid:
            self._adopt(part, now)
        if part.alive():
            self._steady(part, now)
            return
        if part.pid:
            code = part.child.returncode if part.child is not None else None
            self._died(part, f"ended with code {code}" if code is not None else "is gone", now)
        if now >= part.after:
            self._start(part, now)

    def _keep_endpoint(self, part: Part, now: float) -> None:
        running = deploy.running_endpoint(self.ws, part.model)
        if running is not None:
            if int(running["pid"]) != part.pid:
                part.pid, part.since = int(running["pid"]), now
                self._note(part, "runs")
            self._steady(part, now)
            return
        if part.pid:
            with suppress(ChildProcessError, OSError):
                os.waitpid(part.pid, os.WNOHANG)
            record = self.ws.ledger.get(deploy.ENDPOINT, part.model)
            if record is not None and record["status"] == "stopped" and not alive(part.pid):
                self.tell(f"{part.name} was stopped by hand; it stays stopped until the next deployment")
                part.pid, part.after = 0, float("inf")
                self._note(part, "stopped")
                return
            if alive(part.pid) and record is not None and record["status"] != "serving":
                return  # it is just leaving
            self._died(part, "is gone", now)
        if part.after == float("inf"):
            return
        if now >= part.after:
            record = deploy.start(self.ws, self.ws.model(part.model))
            part.pid, part.since = int(record["pid"]), time.monotonic()
            self.tell(f"{part.name} answers at {record['url']} (process {part.pid})")
            self._note(part, "runs")

    def _adopt(self, part: Part, now: float) -> None:
        """Go on with a process that an earlier supervisor started here."""
        record = self.ws.ledger.get(PART, self._id(part))
        if record is not None and record["command"] == part.command and record["pid"] and alive(int(record["pid"]), record["born"]):
            part.pid, part.born, part.since, part.restarts = int(record["pid"]), record["born"], now, int(record["restarts"])
            self.tell(f"{part.name} still runs (process {part.pid})")

    def _start(self, part: Part, now: float) -> None:
        log = self.ws.settings.home / "logs" / f"up-{part.name.replace(':', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            part.child = subprocess.Popen(
                part.command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, cwd=str(self.ws.folder)
            )
        part.pid, part.since = part.child.pid, now
        part.born = born(part.pid)
        self._note(part, "runs")  # at once: should this process be killed now, the next one finds it
        self.tell(f"{part.name} started (process {part.pid})")

    def _steady(self, part: Part, now: float) -> None:
        if part.wait and now - part.since >= STEADY:
            part.wait = 0.0

    def _died(self, part: Part, how: str, now: float) -> None:
        part.wait = min(LONGEST, part.wait * 2 or self._first)
        part.after, part.pid, part.born, part.child = now + part.wait, 0, "", None
        part.restarts += 1
        self.tell(f"{part.name} {how}; it is started again in {part.wait:.0f} s")
        self._note(part, "waits")
        with suppress(TreadleError):
            self.ws.ledger.append("up.died", Ref(PART, self._id(part)), {"how": how, "restarts": part.restarts})

    def _failed(self, part: Part, why: str) -> None:
        now = time.monotonic()
        if now < part.after:
            return
        part.wait = min(LONGEST, part.wait * 2 or self._first)
        part.after = now + part.wait
        self.tell(f"{part.name} cannot be kept up now: {why}; tried again in {part.wait:.0f} s")

    def _signal(self, part: Part) -> None:
        if part.model:
            return
        if part.alive():
            with suppress(ProcessLookupError):
                os.kill(part.pid, signal.SIGTERM)

    def _end(self, part: Part) -> None:
        """Let a part leave, and end it if it does not."""
        if part.model:
            with suppress(TreadleError):
                if deploy.running_endpoint(self.ws, part.model) is not None:
                    deploy.stop(self.ws, part.model, GRACE)
        elif part.pid:
            self._signal(part)
            end = time.monotonic() + GRACE
            while part.alive() and time.monotonic() < end:
                time.sleep(0.05)
            if part.alive():
                with suppress(ProcessLookupError):
                    os.kill(part.pid, signal.SIGKILL)
                if part.child is not None:
                    part.child.wait()
        part.pid, part.born, part.child = 0, "", None
        with suppress(TreadleError):
            self._note(part, "left")

    # The record

    def _take(self) -> None:
        record = self.ws.ledger.get(KIND, self.me)
        if record is not None and record["status"] == "up" and alive(int(record["pid"]), record["born"]) and record["pid"] != os.getpid():
            raise Conflict(
                f"Another `treadle up` runs here (process {record['pid']}).", hint="Stop that one first, or give this one other roles: --role."
            )
        me = owner()
        body = {"status": "up", "pid": me["pid"], "born": me["born"], "host": me["host"], "roles": list(self.roles), "at": iso(self.ws.clock.now())}
        self.ws.ledger.put(KIND, self.me, body, expect=record.version if record else 0)

    def _note(self, part: Part, state: str) -> None:
        body = {
            "supervisor": self.me, "part": part.name, "state": state, "pid": part.pid, "born": part.born, "command": part.command,
            "restarts": part.restarts, "at": iso(self.ws.clock.now()),
        }  # fmt: skip
        with suppress(Conflict):
            self.ws.ledger.put(PART, self._id(part), body)

    def _id(self, part: Part) -> str:
        return f"{self.me}/{part.name}"


def standing(ws: Workspace) -> list[dict[str, Any]]:
    """What is recorded of the parts of this project, on all machines; whether those on this one really run."""
    host = socket.gethostname()
    found = []
    for record in ws.ledger.find(PART):
        if not record["supervisor"].startswith(f"{ws.project.name}@"):
            continue
        here = record["supervisor"].startswith(f"{ws.project.name}@{host}:")
        runs = record["state"] == "runs" and (not here or alive(int(record["pid"]), record["born"]))
        state = record["state"] if runs or record["state"] != "runs" else "gone"
        found.append({"part": record["part"], "state": state, "pid": record["pid"], "restarts": record["restarts"], "on": record["supervisor"]})
    return found

