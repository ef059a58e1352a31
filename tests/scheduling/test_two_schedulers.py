"""Several scheduler processes on one ledger: each slot has exactly one effect, also when one of them is paused, or killed, at the worst moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from treadle.backends.sqlite_ledger import SqliteLedger

PROGRAM = Path(__file__).with_name("program.py")
PROJECT = """import treadle as tr
project = tr.Project("demo", owner="me", goal="test")

@project.pipeline
def flow() -> None: ...

project.schedule("often", flow, when=tr.cron("* * * * *"), catch_up="all")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text(PROJECT)
    return tmp_path


def scheduler(folder: Path, ticks: int, *stop_at: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(PROGRAM), str(folder), "0.5", str(ticks), *stop_at]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TREADLE_NOTIFY": ""})
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def go(*children: subprocess.Popen[str]) -> None:
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()


def says(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def end(*children: subprocess.Popen[str]) -> list[int]:
    codes = []
    for child in children:
        child.communicate(timeout=240)
        codes.append(child.returncode)
    return codes


def effects(folder: Path) -> Counter[str]:
    ledger = SqliteLedger(folder / ".treadle" / "ledger.db")
    return Counter(e.subject.id for e in ledger.events_since(limit=100_000, kinds=["effect"]))


def statuses(folder: Path) -> set[str]:
    return {s["status"] for s in SqliteLedger(folder / ".treadle" / "ledger.db").find("slot")}


MANY = pytest.mark.parametrize("slots", [200, pytest.param(1_000, marks=pytest.mark.slow)])


@pytest.mark.story
@MANY
@pytest.mark.parametrize("place", ["claimed", "starting"])
def test_many_slots_run_once_though_one_of_two_schedulers_is_paused_and_resumed(folder: Path, place: str, slots: int) -> None:
    paused, other = scheduler(folder, slots, "100", place), scheduler(folder, slots)
    go(paused)
    assert says(paused) == f"at {place}"
    paused.send_signal(signal.SIGSTOP)  # holding the claim of slot 100
    go(other)
    assert end(other) == [0]  # it took that slot over, and did the rest
    assert len(effects(folder)) == slots
    (folder / "go-on").touch()
    paused.send_signal(signal.SIGCONT)
    assert end(paused) == [0]
    done = effects(folder)
    assert len(done) == slots
    assert set(done.values()) == {1}
    assert statuses(folder) == {"done"}


@pytest.mark.story
@MANY
def test_many_slots_run_once_by_two_schedulers_of_which_one_is_paused_again_and_again(folder: Path, slots: int) -> None:
    first, second = scheduler(folder, slots), scheduler(folder, slots)
    go(first, second)
    while first.poll() is None and second.poll() is None:
        first.send_signal(signal.SIGSTOP)
        time.sleep(0.7)  # longer than a lease
        first.send_signal(signal.SIGCONT)
        time.sleep(0.3)
    assert end(first, second) == [0, 0]
    done = effects(folder)
    assert len(done) == slots
    assert set(done.values()) == {1}
    assert statuses(folder) == {"done"}


@pytest.mark.parametrize("place", ["claimed", "starting"])
def test_a_slot_whose_scheduler_is_killed_between_claim_and_run_is_run_by_the_next(folder: Path, place: str) -> None:
    killed = scheduler(folder, 10, "5", place)
    go(killed)
    assert says(killed) == f"at {place}"
    killed.send_signal(signal.SIGKILL)
    end(killed)
    assert len(effects(folder)) == 4
    after = scheduler(folder, 10)
    go(after)
    assert end(after) == [0]
    assert effects(folder) == Counter({f"often@2024-05-01T00:{m:02d}:00Z": 1 for m in range(1, 11)})
    ledger = SqliteLedger(folder / ".treadle" / "ledger.db")
    assert [e.subject.id for e in ledger.events_since(kinds=["schedule.taken_over"], limit=100)] == ["often@2024-05-01T00:05:00Z"]
