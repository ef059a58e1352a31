"""Commands of the command line that the server runs for somebody who is signed in: `treadle --server URL run late` is `treadle run late` over there.

Each is a process of its own, with a list of arguments and no shell, that acts in the person's name; what it prints lies in files below the project's
home until an hour after its end. Which command needs which permission stands in one table; what is not in it is not run for anybody. Arguments that name
files are refused, since they would be the server's; only the file of `--out` comes back to whoever asked. The record (kind `command`) keeps the
command's name, not its arguments: they may hold what should be forgotten one day.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.errors import Conflict, NotFound, TooMany, UsageError
from treadle.core.ids import new_id
from treadle.core.records import Record, Ref
from treadle.pipelines.lease import alive, born

KIND = "command"
AT_ONCE = 8  # commands that run at one time
KEPT = 3600.0  # seconds that printed lines are kept after the end
PART = 200_000  # bytes of printed lines in one answer

# The command, the permission, and options it does not take here (they would read or write on the server, stay for ever, or reach another machine).
TABLE: dict[str, tuple[str, tuple[str, ...]]] = {
    "run": ("runs.start", ("--executor",)), "plan": ("runs.see", ()), "resume": ("runs.start", ("--executor",)), "backfill": ("runs.start", ()),
    "runs": ("runs.see", ()), "logs": ("runs.see", ()), "diff": ("runs.see", ()), "graph": ("runs.see", ()), "reproduce": ("runs.start", ()),
    "schedule": ("runs.see", ()), "schedule trigger": ("runs.start", ()), "schedule pause": ("runs.stop", ()), "schedule resume": ("runs.start", ()),
    "data": ("data.see", ()), "data versions": ("data.see", ()), "data show": ("data.see", ()), "data diff": ("data.see", ()),
    "data file": ("data.rows", ()), "contract show": ("data.see", ()), "contract export": ("data.see", ()), "contract accept": ("data.fix", ()),
    "quarantine list": ("data.rows", ()), "quarantine show": ("data.rows", ()), "quarantine decisions": ("data.see", ()),
    "quarantine fix": ("data.fix", ()), "quarantine release": ("data.fix", ()), "quarantine undo": ("data.fix", ()),
    "datasheet": ("data.see", ()), "features": ("data.see", ()), "features show": ("data.see", ()), "features graph": ("data.see", ()),
    "features breaks": ("data.see", ()), "features check": ("data.fix", ()), "online": ("data.see", ()), "materialise": ("data.fix", ("--follow",)),
    "models": ("models.see", ()), "card": ("models.see", ()), "readiness": ("models.see", ()), "report": ("models.see", ()),
    "approve": ("models.approve", ()), "waive": ("models.waive", ()), "signing verify": ("models.see", ()), "signing keys": ("models.see", ()),
    "deploy": ("deployments.change", ("--port",)), "rollout": ("deployments.see", ()), "rollback": ("deployments.change", ()),
    "stop": ("deployments.change", ()), "advise": ("deployments.try", ()), "keys list": ("deployments.see", ()),
    "keys revoke": ("deployments.change", ()), "status": ("home.see", ()), "watch": ("alarms.answer", ("--follow",)), "alarms list": ("alarms.see", ()),
    "alarms show": ("alarms.see", ()), "alarms ack": ("alarms.answer", ()), "alarms snooze": ("alarms.answer", ()),
    "alarms resolve": ("alarms.answer", ()), "reactions": ("alarms.see", ()), "reactions approve": ("alarms.answer", ()),
    "reactions reject": ("alarms.answer", ()), "truth": ("alarms.see", ()), "why": ("predictions.see", ()), "review": ("predictions.judge", ()),
    "predictions": ("predictions.see", ()), "backtest": ("backtest.run", ()),
}  # fmt: skip
OUT = {"report": "report.html", "graph": "graph.html"}  # commands that write a file also when they are not told to


@dataclass(frozen=True)
class Checked:
    """Arguments that may be run: the command's name, the permission it needs, and the file it writes, if any."""

    name: str
    permission: str
    argv: tuple[str, ...]
    out: str = ""


def check(argv: Sequence[str]) -> Checked:
    """What a list of arguments asks for. Raises UsageError for what is not a command, or not one that is run here."""
    from treadle.cli.main import COMMANDS

    words = [str(a) for a in argv]
    if not words or any("\x00" in w or len(w) > 10_000 for w in words) or len(words) > 200:
        raise UsageError("Which command?", hint="Give its arguments as a list of texts: ['runs', '--limit', '5'].")
    if words[0] not in COMMANDS:
        raise UsageError(f"There is no command {words[0][:60]!r}.", hint="See: treadle --help")
    module, _, attribute = COMMANDS[words[0]][0].partition(":")
    command: click.Command = getattr(importlib.import_module(module), attribute)
    name, rest = words[0], words[1:]
    while isinstance(command, click.Group) and rest and rest[0] in command.commands:
        command, name, rest = command.commands[rest[0]], f"{name} {rest[0]}", rest[1:]
    if name not in TABLE:
        raise UsageError(f"The command {name!r} is not run by a server.", hint="Run it on the server's machine, in the project's folder.")
    permission, refused = TABLE[name]
    return Checked(name, permission, tuple(words), _options(command, name, rest, refused))


def _options(command: click.Command, name: str, rest: list[str], refused: Sequence[str]) -> str:
    """The file that `--out` names, '' for none. Raises UsageError for options that are not taken here, and for what click does not take."""
    out = ""
    try:
        values, _, order = command.make_parser(click.Context(command, info_name=name)).parse_args(args=list(rest))
    except click.ClickException as error:
        raise UsageError(error.format_message()) from None
    for parameter in order:
        given = values.get(parameter.name or "")
        if given is None or given == ():
            continue
        label = parameter.opts[-1]
        if label in refused:
            raise UsageError(f"{name} takes no {label} on a server.")
        if isinstance(parameter.type, click.Path | click.File):
            if label != "--out":
                raise UsageError(f"{name}: {label} would name a file of the server.", hint="Run it on the server's machine, in the project's folder.")
            out = str(given)
    if name in OUT:
        out = out or OUT[name]
    return out


def start(ws: Workspace, checked: Checked, person: str) -> Record:
    """Begin a command in a person's name. Raises TooMany while as many as are allowed run."""
    home = folder(ws)
    _sweep(ws, home)
    running = [r for r in ws.ledger.find(KIND, {"status": "running"}) if look(ws, r)["status"] == "running"]
    if len(running) >= AT_ONCE:
        raise TooMany(f"{AT_ONCE} commands run already.", hint="Wait for one to end.", after=5.0)
    id = new_id("command")
    place = home / id
    place.mkdir(parents=True, mode=0o700)
    argv = list(checked.argv)
    if checked.out:
        argv = [*_without_out(argv), "--out", str(place / "file")]
    environment = {k: v for k, v in os.environ.items() if k not in ("TREADLE_SERVER", "TREADLE_TOKEN")} | {"TREADLE_ACTOR": person, "NO_COLOR": "1"}
    with (place / "out").open("xb") as out, (place / "err").open("xb") as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "treadle.cli.main", "-C", str(ws.folder), *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
            env=environment, start_new_session=True,
        )  # fmt: skip
    body = {
        "command": checked.name, "by": person, "at": iso(ws.clock.now()), "status": "running", "pid": child.pid, "born": born(child.pid),
        "code": None, "file": os.path.basename(checked.out),
    }  # fmt: skip
    with ws.ledger.transaction():
        made = ws.ledger.put(KIND, id, body, expect=0)
        ws.ledger.append("command.begun", Ref(KIND, id), {"command": checked.name}, actor=person)
    threading.Thread(target=_wait, args=(ws, made, child), daemon=True, name=id).start()
    return made


def _without_out(argv: list[str]) -> list[str]:
    kept, skip = [], False
    for word in argv:
        if skip:
            skip = False
        elif word == "--out":
            skip = True
        elif not word.startswith("--out="):
            kept.append(word)
    return kept


def _wait(ws: Workspace, record: Record, child: subprocess.Popen[bytes]) -> None:
    _ended(ws, record, child.wait())


def _ended(ws: Workspace, record: Record, code: int | None) -> Record:
    status = "done" if code == 0 else "failed" if code is not None else "lost"
    try:
        with ws.ledger.transaction():
            made = ws.ledger.put(KIND, record.id, {**record.body, "status": status, "code": code, "ended": iso(ws.clock.now())}, expect=record.version)
            ws.ledger.append("command.ended", Ref(KIND, record.id), {"status": status, "code": code}, actor=record["by"])
        return made
    except Conflict:  # the one who waits and one who looks found out at once
        found = ws.ledger.get(KIND, record.id)
        assert found is not None
        return found


def find(ws: Workspace, id: str) -> Record:
    """A command. Raises NotFound."""
    found = ws.ledger.get(KIND, id)
    if found is None:
        raise NotFound(f"There is no command {id!r}.")
    return look(ws, found)


def look(ws: Workspace, record: Record) -> Record:
    """The record as it stands: one whose process is gone though nobody saw it end (the server was restarted) is 'lost'."""
    if record["status"] != "running" or alive(int(record["pid"]), record["born"]):
        return record
    time.sleep(0.2)  # the thread that waits for it may be writing at this moment
    now = ws.ledger.get(KIND, record.id)
    assert now is not None
    return _ended(ws, now, None) if now["status"] == "running" else now


def printed(ws: Workspace, record: Record, out: int, err: int, wait: float = 0.0) -> dict[str, Any]:
    """What a command printed from these offsets on, and where to go on; waits up to `wait` seconds for more."""
    until = time.monotonic() + wait
    place = folder(ws) / record.id
    while True:
        status = find(ws, record.id)
        found = {"out": _part(place / "out", out), "err": _part(place / "err", err)}
        if any(found.values()) or status["status"] != "running" or time.monotonic() >= until:
            break
        time.sleep(0.1)
    more = len(found["out"]) == PART or len(found["err"]) == PART
    return {
        **told(status), "out": found["out"].decode("utf-8", "replace"), "err": found["err"].decode("utf-8", "replace"),
        "next_out": out + len(found["out"]), "next_err": err + len(found["err"]), "more": more or status["status"] == "running",
    }  # fmt: skip


def told(record: Record) -> dict[str, Any]:
    """A command in a line."""
    wanted = ("command", "by", "at", "status", "code", "file")
    return {"id": record.id, **{k: record[k] for k in wanted}, "ended": record.get("ended", "")}


def written(ws: Workspace, record: Record) -> bytes:
    """The file that a command wrote. Raises NotFound."""
    try:
        return (folder(ws) / record.id / "file").read_bytes()
    except OSError:
        raise NotFound(f"Command {record.id} wrote no file, or it is gone.", hint="What a command wrote is kept for an hour.") from None


def stop(ws: Workspace, record: Record, by: str) -> Record:
    """Stop a command as Ctrl-C does. One that has ended stays as it is."""
    import signal

    if record["status"] == "running" and alive(int(record["pid"]), record["born"]):
        os.killpg(int(record["pid"]), signal.SIGINT)
        ws.ledger.append("command.stopped", Ref(KIND, record.id), {}, actor=by)
    return find(ws, record.id)


def folder(ws: Workspace) -> Path:
    """Where what commands print lies."""
    return ws.settings.home / "commands"


def _part(file: Path, offset: int) -> bytes:
    """Bytes from an offset on, up to a whole character."""
    try:
        with file.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(PART)
    except OSError:
        return b""
    for cut in range(min(4, len(content))):  # a character that is not whole yet comes with the next part
        try:
            content[: len(content) - cut].decode()
            return content[: len(content) - cut]
        except UnicodeDecodeError:
            continue
    return content


def _sweep(ws: Workspace, home: Path) -> None:
    """Drop what commands printed that ended more than an hour ago."""
    if not home.is_dir():
        return
    for place in home.iterdir():
        if time.time() - place.stat().st_mtime > KEPT:
            found = ws.ledger.get(KIND, place.name)
            if found is None or found["status"] != "running":
                shutil.rmtree(place, ignore_errors=True)
