"""Schedules through the real command line: a scheduler that is stopped, killed and called over HTTP; triggers by hand; a backfill that goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.serving.address import free_port
from treadle.testing.command import treadle

pytestmark = pytest.mark.story

PROJECT = '''import datetime as dt
import os
import time
from pathlib import Path
import treadle as tr

project = tr.Project("reports", owner="me", goal="a report a day")
HERE = Path(__file__).parent

@tr.step(reads="files")
def first(part: str) -> str:
    with (HERE / "effects").open("a") as effects:
        effects.write(f"first {part}\\n")
    return part

@tr.step(reads="files")
def second(part: str) -> str:
    (HERE / "here").touch()
    while (HERE / "hang").exists():
        time.sleep(0.02)
    if (HERE / f"bad-{part}").exists():
        raise ValueError(f"{part} is bad")
    with (HERE / "effects").open("a") as effects:
        effects.write(f"second {part}\\n")
    return part

@project.pipeline
def report(part: str = "all") -> str:
    return second(first(part))

@tr.step
def name_of(day: dt.date) -> str:
    return day.isoformat()

@project.pipeline
def daily(day: dt.date) -> str:
    return second(name_of(day))

project.schedule("by-call", report, when=tr.on_call("go"), budget=tr.budget(runs="3 per day"))
project.schedule("weekly", report, when=tr.cron("0 6 * * 1", tz="America/New_York"))
'''
TOKEN = "a-token-of-some-length"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text(PROJECT)
    return tmp_path


def effects(folder: Path) -> list[str]:
    return (folder / "effects").read_text().splitlines() if (folder / "effects").exists() else []


def wait_for(what: Callable[[], Any]) -> Any:
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come about in two minutes")


def scheduler(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TREADLE_THREADS": "1", "TREADLE_TRIGGER_TOKEN": TOKEN}
    command = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "schedule", "run", "--every", "0.2s", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("scheduler of reports: by-call, weekly")
    return child


def stopped(child: subprocess.Popen[str], number: signal.Signals = signal.SIGTERM) -> str:
    child.send_signal(number)
    said, _ = child.communicate(timeout=60)
    if number != signal.SIGKILL:
        assert child.returncode == 0, said
        assert said.endswith("scheduler stopped\n")
        assert "Traceback" not in said
    return said


def runs(ws: Workspace) -> list[tuple[str, str]]:
    return [(r["cause"]["kind"], r["status"]) for r in ws.ledger.find("run")]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_scheduler_that_is_ended_in_the_middle_of_a_run_leaves_it_to_the_next_which_goes_on_with_it(folder: Path, number: signal.Signals) -> None:
    ws = open_workspace(folder)
    treadle(folder, "schedule", "trigger", "by-call", "--set", "part=north", "--leave")
    (folder / "hang").touch()
    child = scheduler(folder)
    wait_for(lambda: (folder / "here").exists())
    stopped(child, number)
    assert effects(folder) == ["first north"]
    (folder / "hang").unlink()
    done = treadle(folder, "schedule", "run", "--once")
    assert "takes over by-call@hand-" in done.stdout
    assert effects(folder) == ["first north", "second north"]
    assert runs(ws) == [("person", "done")]
    assert [s["status"] for s in ws.ledger.find("slot")] == ["done"]
    assert treadle(folder, "schedule", "run", "--once").stdout == ""


def test_a_call_over_http_starts_one_run_and_the_budget_holds_the_fourth(folder: Path) -> None:
    port = free_port("127.0.0.1")
    refused = treadle(folder, "schedule", "run", "--http", str(port), expect=2, env={"TREADLE_TRIGGER_TOKEN": ""})
    assert "trigger_token" in refused.stderr
    child = scheduler(folder, "--http", str(port))

    def call(method: str, path: str, body: dict[str, Any] | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
        sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}{path}", method=method, headers=sent, data=None if body is None else json.dumps(body).encode()
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())
        except urllib.error.URLError:
            return 0, {}

    try:
        wait_for(lambda: call("GET", "/triggers/go/nothing")[0] == 404)
        for _ in range(5):
            assert call("POST", "/triggers/go", {"part": "south"}, Idempotency_Key="seven")[0] == 202
        done = wait_for(lambda: (seen := call("GET", "/triggers/go/seven")[1])["status"] == "done" and seen)
        assert effects(folder) == ["first south", "second south"]
        assert call("POST", "/triggers/go", {"part": "south"}, Authorization="Bearer nobody")[0] == 401
        for part in ("a", "b", "c"):
            assert call("POST", "/triggers/go", {"part": part}, Idempotency_Key=part)[0] == 202
            assert wait_for(lambda p=part: call("GET", f"/triggers/go/{p}")[1]["status"] == ("pending" if p == "c" else "done"))  # type: ignore[misc]
        wait_for(lambda: open_workspace(folder).ledger.events_since(kinds=["schedule.held"], limit=9))
    finally:
        said = stopped(child)
    assert f"starts {done['run']}: POST /triggers/go" in said
    assert said.count("held until") == 1
    listed = json.loads(treadle(folder, "schedule", "--json").stdout)
    by_call, weekly = listed
    assert by_call["held"]["sentence"] == "budget '3 per day' is spent: 3 of 3 runs in the last 1d"
    assert by_call["pending"] == 1
    assert weekly["next_local"][-9:] in ("06:00 EDT", "06:00 EST")
    shown = treadle(folder, "schedule").stdout
    assert "HELD until" in shown
    assert "No scheduler is running" in shown
    assert "budget '3 per day' is spent" in treadle(folder, "schedule", "trigger", "by-call", expect=4).stderr


def test_by_hand_a_schedule_runs_at_once_and_says_how_it_went(folder: Path) -> None:
    done = treadle(folder, "schedule", "trigger", "weekly", "--set", "part=east")
    assert "done" in done.stdout
    assert effects(folder) == ["first east", "second east"]
    (folder / "bad-west").touch()
    failed = treadle(folder, "schedule", "trigger", "weekly", "--set", "part=west", expect=1)
    assert "west is bad" in failed.stdout
    assert "weekly" in (folder / ".treadle" / "alarms.jsonl").read_text()
    assert "has no parameter 'prat'" in treadle(folder, "schedule", "trigger", "weekly", "--set", "prat=x", expect=2).stderr
    assert "There is no schedule 'monthly'" in treadle(folder, "schedule", "trigger", "monthly", expect=5).stderr
    treadle(folder, "schedule", "pause", "weekly", "--reason", "holidays")
    assert "holidays" in treadle(folder, "schedule").stdout
    treadle(folder, "schedule", "pause", "weekly", "--reason", "again", expect=6)
    treadle(folder, "schedule", "resume", "weekly", "--reason", "back")


def test_a_backfill_does_every_partition_once_and_again_only_what_failed(folder: Path) -> None:
    (folder / "bad-2024-03-31").touch()
    command = ["backfill", "daily", "--from", "2024-03-30", "--to", "2024-04-02", "--tz", "Europe/Berlin", "--json"]
    first = json.loads(treadle(folder, *command, expect=1).stdout)
    assert [(p["partition"], p["status"]) for p in first] == [("2024-03-30", "done"), ("2024-03-31", "failed"), ("2024-04-01", "done")]
    (folder / "bad-2024-03-31").unlink()
    second = json.loads(treadle(folder, *command).stdout)
    assert [p["status"] for p in second] == ["done before", "done", "done before"]
    assert [p["run"] for p in second] == [p["run"] for p in first]
    assert effects(folder) == ["second 2024-03-30", "second 2024-04-01", "second 2024-03-31"]
    third = json.loads(treadle(folder, *command, "--again").stdout)
    assert [p["status"] for p in third] == ["done"] * 3
    assert len(effects(folder)) == 6
    table = treadle(folder, "backfill", "report", "--param", "part", "--from", "2024-01-01", "--to", "2024-01-02", "--every", "12h")
    assert "2024-01-01T12:00:00+00:00  done" in table.stdout
    assert "1/2  2024-01-01  done" in table.stderr
    assert "no parameter" in treadle(folder, "backfill", "report", "--from", "2024-01-01", "--to", "2024-01-02", expect=2).stderr
    assert "no partition" in treadle(folder, "backfill", "daily", "--from", "2024-01-02", "--to", "2024-01-01", expect=2).stderr


def test_a_backfill_that_is_killed_goes_on_where_it_was(folder: Path) -> None:
    (folder / "hang").touch()
    arguments = ["backfill", "daily", "--from", "2024-01-01", "--to", "2024-01-04"]
    child = subprocess.Popen([sys.executable, "-m", "treadle.cli.main", "-C", str(folder), *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: (folder / "here").exists())
    child.kill()
    child.wait()
    (folder / "hang").unlink()
    treadle(folder, *arguments)
    assert effects(folder) == ["second 2024-01-01", "second 2024-01-02", "second 2024-01-03"]
    assert runs(open_workspace(folder)) == [("backfill", "done")] * 3
