"""The switches a person has in an emergency: back to the version before, stop, go on. Each is written first, then seen to be in effect.

Written is decided: a process that is dead, hung or restarting does what the record says as soon as it looks. One that does not within seconds is
killed; after a rollback it is started again, after a stop it is not.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from treadle.assemble import Workspace
from treadle.core.declare.model import Model
from treadle.core.errors import Refused, StorageError, TreadleError
from treadle.core.records import Record
from treadle.live.deploy import ENDPOINT, connect, missed, running_endpoint, start
from treadle.pipelines.run import alive
from treadle.registry import intervene, packages, promote, versions
from treadle.serving.address import port_free

CONFIRM_SECONDS, ASK_AGAIN = 0.8, 0.3  # the endpoint looks every half second; then, again and again, workers that are silent are replaced
GIVE_UP_SECONDS = 4.0  # then all of it is killed, unless it is alive and loads; at once when the process around the workers is frozen
LOAD_SECONDS = 60.0  # what a version may take to load, in an endpoint that is alive
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Done:
    """What a switch did: the deployment record, how long until it was in effect, and how that is known."""

    record: Record
    seconds: float
    how: str


def rollback(ws: Workspace, model: Model, reason: str, *, to: int | None = None, tell: Tell = lambda line: None) -> Done:
    """Take out the version that was brought in last. Its place is taken by a version whose package is whole.

    Raises: UsageError without a reason; Refused when there is nothing to go back to.
    """
    begun = time.monotonic()
    now = promote.required(model.name, ws.ledger)
    if to is None and now["challenger"] is None:
        to = _whole(ws, now)
    elif to is not None:
        packages.open_package(versions.get(model.name, to, ws.ledger)["package"], ws.blobs, ws.shelf)
    record = intervene.rollback(model.name, reason, ws.ledger, ws.clock, actor=ws.actor, to=to)
    gone = now["challenger"] if record["champion"] == now["champion"] else now["champion"]
    tell(f"version {record['champion']} of {model.name} answers instead of version {gone}: {reason}")
    return _confirm(ws, model, record, begun, again=True)


def stop(ws: Workspace, model: Model, reason: str) -> Done:
    """The kill switch: nothing answers from now on. The process stays, and says so to whoever asks; one that hangs is killed."""
    begun = time.monotonic()
    record = intervene.stop(model.name, reason, ws.ledger, ws.clock, actor=ws.actor)
    return _confirm(ws, model, record, begun, again=False)


def resume(ws: Workspace, model: Model, reason: str) -> Done:
    """Let a stopped model answer again."""
    begun = time.monotonic()
    record = intervene.resume(model.name, reason, ws.ledger, ws.clock, actor=ws.actor)
    return _confirm(ws, model, record, begun, again=True)


def _whole(ws: Workspace, now: Record) -> int | None:
    """The last champion before this one whose package is as it was registered; None leaves the choice, and the refusal, to the registry."""
    broken: list[str] = []
    for number in reversed(now["previous"]):
        version = versions.get(now.id, number, ws.ledger)
        if version["status"] == "rejected":
            continue
        try:
            packages.open_package(version["package"], ws.blobs, ws.shelf)
            promote.eligible(now.id, number, ws.ledger, ws.clock)
            return int(number)
        except StorageError as error:
            broken.append(f"version {number} is broken ({error.what})")
        except TreadleError:
            continue
    if broken:
        raise Refused(f"There is no version of {now.id!r} to go back to: {'; '.join(broken)}.", hint=f"treadle stop {now.id} --kill --reason TEXT")
    return None


def _confirm(ws: Workspace, model: Model, record: Record, begun: float, *, again: bool) -> Done:
    """Wait until the endpoint's process says that all its workers follow the record; workers that hang are replaced, and at last all of it is."""
    running = running_endpoint(ws, model.name)
    if running is None:
        return Done(record, time.monotonic() - begun, "no endpoint runs; the next one follows the record")
    with contextlib.suppress(TreadleError):  # it looks twice a second by itself
        connect(ws, running["url"], timeout=0.5, retries=0).reload()
    waiting, asked = time.monotonic(), 0
    while (waited := time.monotonic() - waiting) < GIVE_UP_SECONDS or (again and waited < LOAD_SECONDS and _live(ws, running)):
        says = ws.ledger.get(ENDPOINT, model.name)
        if says is not None and int(says["deployment"]) >= record.version and says["status"] == "serving":
            return Done(record, time.monotonic() - begun, "; ".join(["the endpoint follows the record", *missed(says).values()]))
        if waited >= CONFIRM_SECONDS + ASK_AGAIN * asked and "missed" in running.body:  # one of an older release does not know the signal
            asked += 1  # harmless where nobody hangs
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(running["pid"]), signal.SIGUSR2)
            if _frozen(int(running["pid"])):
                break
        time.sleep(0.02)
    pid, port = int(running["pid"]), int(running["port"])
    _kill(pid, str(running["host"]), port)
    if again:
        start(ws, model, port=port)
        return Done(record, time.monotonic() - begun, f"the endpoint (process {pid}) did not react and was started again")
    return Done(record, time.monotonic() - begun, f"the endpoint (process {pid}) did not react and was killed")


def _frozen(pid: int) -> bool:
    """Whether a process is stopped by a signal, so that nothing reaches it."""
    with contextlib.suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    return False


def _live(ws: Workspace, running: Record) -> bool:
    """Whether the process answers at all: then it is loading a version, and to start it again would take longer."""
    return connect(ws, running["url"], timeout=1.0, retries=0).live()


def _kill(pid: int, host: str, port: int) -> None:
    """End a process and those it started, at once. Its threads, and with them its port, may outlive it by a moment."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 2.0
    while (alive(pid) or not port_free(host, port)) and time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)
