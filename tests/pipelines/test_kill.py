"""A pipeline that was killed without warning: the same command goes on where it stopped, and there is one result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from treadle.backends.sqlite_ledger import SqliteLedger

PROGRAM = '''
import os, sys, time
from pathlib import Path
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import SystemClock
from treadle.pipelines.graph import Step
from treadle.pipelines.run import Runner, mark_interrupted

folder = Path(sys.argv[1])


def note(name):
    with (folder / "calls").open("a") as calls:
        calls.write(name + "\\n")


def first():
    note("first")
    return [1, 2, 3]


def second(rows):
    note("second")
    return sum(rows)


def third(total, folder):
    note("third")
    if (folder / "hang").exists():
        print("hanging", file=sys.__stdout__, flush=True)
        time.sleep(600)
    return {"total": total}


def fourth(found):
    note("fourth")
    return found["total"] * 2


ledger, clock = SqliteLedger(folder / "ledger.db"), SystemClock()
mark_interrupted(ledger, clock)
steps = [
    Step("first", first), Step("second", second, {"rows": "first"}), Step("third", third, {"total": "second"}, extra={"folder": folder}),
    Step("fourth", fourth, {"found": "third"}),
]
outcome = Runner(ledger, FileBlobs(folder / "blobs"), InProcessExecutor(), clock, roots=[Path(__file__).parent]).run(
    "p.m", steps, cause={"kind": "person", "id": "", "text": "a test"}
)
print(outcome["fourth"])
'''


def test_killed_in_its_third_step_it_does_the_third_and_the_fourth_when_started_again(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(tmp_path / "code" / "program.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONHASHSEED": "random"}

    (tmp_path / "hang").touch()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "hanging\n"
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
    calls = tmp_path / "calls"
    assert calls.read_text().split() == ["first", "second", "third"]

    ledger = SqliteLedger(tmp_path / "ledger.db")
    (dead,) = ledger.find("run")
    assert (dead["status"], dead["steps"][-1]["status"]) == ("running", "running")

    (tmp_path / "hang").unlink()
    calls.unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "12\n"
    assert calls.read_text().split() == ["third", "fourth"]

    runs = ledger.find("run")
    assert [r["status"] for r in runs] == ["interrupted", "done"]
    assert [(s["name"], s["status"]) for s in runs[1]["steps"]] == [("first", "reused"), ("second", "reused"), ("third", "done"), ("fourth", "done")]
    assert [e.kind for e in ledger.events_since()] == ["run.started", "run.interrupted", "run.started", "run.done"]
    assert len(ledger.find("result", {"step": "fourth"})) == 1
    assert ledger.verify_chain() == 4

    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert again.stdout == "12\n"
    assert calls.read_text().split() == ["third", "fourth"]  # nothing was done a second time
