"""A pipeline that was killed without warning: the same command goes on where it stopped, and there is one result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.pipelines.run import steps_of

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
    assert (dead["status"], steps_of(dead.id, ledger)[-1]["status"]) == ("running", "running")

    (tmp_path / "hang").unlink()
    calls.unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout == "12\n"
    assert calls.read_text().split() == ["third", "fourth"]

    runs = ledger.find("run")
    assert [r["status"] for r in runs] == ["interrupted", "done"]
    assert [(s["step"], s["status"]) for s in steps_of(runs[1].id, ledger)] == [("first", "reused"), ("second", "reused"), ("third", "done"), ("fourth", "done")]
    assert [e.kind for e in ledger.events_since()] == ["run.started", "run.interrupted", "run.started", "run.done"]
    assert len(ledger.find("result", {"step": "fourth"})) == 1
    assert ledger.verify_chain() == 4

    again = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert again.stdout == "12\n"
    assert calls.read_text().split() == ["third", "fourth"]  # nothing was done a second time


PAUSED = '''
import sys, time
from pathlib import Path
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.inprocess import InProcessExecutor
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.clock import SystemClock
from treadle.core.errors import TreadleError
from treadle.pipelines.graph import Step
from treadle.pipelines.run import Runner

folder = Path(sys.argv[1])


def first():
    print("in the first", file=sys.__stdout__, flush=True)
    while (folder / "hold").exists():
        time.sleep(0.02)
    return [1, 2, 3]


def second(rows):
    with (folder / "calls").open("a") as calls:
        calls.write("second\\n")
    return sum(rows)


runner = Runner(SqliteLedger(folder / "ledger.db"), FileBlobs(folder / "blobs"), InProcessExecutor(), SystemClock(), lease_seconds=1.5)
steps = [Step("first", first), Step("second", second, {"rows": "first"})]
try:
    if sys.argv[2] == "run":
        outcome = runner.run("p.m", steps, cause={"kind": "person", "id": "", "text": ""}, id="run-1")
    else:
        outcome = runner.resume("run-1", steps)
    print(outcome["second"])
except TreadleError as error:
    print(type(error).__name__, error)
'''


def test_a_driver_that_hangs_loses_its_run_and_what_it_says_later_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PAUSED)
    command = [sys.executable, str(program), str(tmp_path)]
    (tmp_path / "hold").touch()
    with subprocess.Popen([*command, "run"], stdout=subprocess.PIPE, text=True) as hung:
        assert hung.stdout is not None
        assert hung.stdout.readline() == "in the first\n"
        alive = subprocess.run([*command, "resume"], capture_output=True, text=True, check=True)
        assert alive.stdout.startswith("Conflict Run run-1 is being driven by process")  # it works, and its heart beats

        hung.send_signal(signal.SIGSTOP)
        (tmp_path / "hold").unlink()
        taken = subprocess.run([*command, "resume"], capture_output=True, text=True, check=True)
        assert taken.stdout.splitlines() == ["in the first", "6"]

        hung.send_signal(signal.SIGCONT)
        late = hung.stdout.read()
        assert late.startswith("Fenced Another process drives run run-1 by now")
        assert hung.wait() == 0
    ledger = SqliteLedger(tmp_path / "ledger.db")
    (run,) = ledger.find("run")
    assert (run["status"], run["epoch"]) == ("done", 2)
    assert (tmp_path / "calls").read_text() == "second\n"
    assert [e.kind for e in ledger.events_since()] == ["run.started", "run.resumed", "run.done"]
