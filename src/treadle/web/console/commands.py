"""Commands of the command line that the server runs for somebody who is signed in: `treadle --server URL run late` is `treadle run late` over there.

Each is a process of its own, with a list of arguments and no shell, that acts in the person's name; what it prints lies in files below the project's
home until an hour after its end. What may be run, and the permission it needs, is the command line's to say (`cli/served.py`); the file of
`--out` comes back to whoever asked. The record (kind `command`) keeps the command's name, not its arguments: they may hold what should be forgotten one day.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.errors import Conflict, NotFound, TooMany
from treadle.core.ids import new_id
from treadle.core.records import Record, Ref
from treadle.pipelines.lease import alive, born
from treadle.web.console.operation import Checked

KIND = "command"
AT_ONCE = 8  # commands that run at one time
KEPT = 3600.0  # seconds that printed lines are kept after the end
PART = 200_000  # bytes of printed lines in one answer


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
            made = ws.ledger.put(
                KIND, record.id, {**record.body, "status": status, "code": code, "ended": iso(ws.clock.now())}, expect=record.version
            )
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
