"""Pipelines through the real command line: run, plan, kill, resume, approve, look, compare."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from treadle.testing.command import treadle

pytestmark = pytest.mark.story

PROJECT = """import time
from pathlib import Path

import treadle as tr

project = tr.Project("nightly", owner="me", goal="test")
HERE = Path(__file__).parent


def doubled(x):
    return 2 * x


@tr.step
def load(path: Path) -> list[int]:
    print("loading", path)
    return [int(line) for line in path.read_text().split()]


@tr.step
def prepare(rows: list[int], factor: int) -> list[int]:
    return [doubled(x) * factor for x in rows]


@tr.step
def slow(rows: list[int]) -> list[int]:
    print("slow has begun")
    (HERE / "begun").write_text("x")
    while (HERE / "wait").exists():
        time.sleep(0.05)
    return rows


@tr.step
def score(part: int, offset: int) -> int:
    print("scoring", part)
    return part + offset


@tr.step
def total(scores: list[int]) -> dict[str, float]:
    return {"sum": float(sum(scores)), "rows": len(scores)}


@tr.step
def publish(value: dict[str, float]) -> None:
    print("published", value)


@project.pipeline
def nightly(path: Path = HERE / "rows.txt", factor: int = 1, offset: int = 0) -> dict[str, float]:
    found = total(score.map(slow(prepare(load(path), factor)), offset=offset))
    return found


@project.pipeline
def careful(path: Path = HERE / "rows.txt") -> dict[str, float]:
    found = total(score.map(load(path), offset=0))
    publish(found).after(tr.approval("Publish the figures?", shows=found))
    return found
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "rows.txt").write_text("3\n1\n4\n")
    return tmp_path


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("treadle: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def from_json(folder: Path, *arguments: str, expect: int = 0) -> Any:
    return json.loads(treadle(folder, *arguments, "--json", expect=expect).stdout)


def states(folder: Path, run: str = "last") -> dict[str, str]:
    return {s["step"]: s["status"] for s in from_json(folder, "runs", run)["steps"]}


def test_a_pipeline_runs_and_says_what_it_returned_and_runs_nothing_twice(folder: Path) -> None:
    done = treadle(folder, "run", "nightly")
    assert "nightly: nightly" in done.stdout
    assert "returned {'sum': 16.0, 'rows': 3}" in done.stdout
    assert "✓ load" in done.stderr
    assert "3 tasks, 3 done" in done.stderr
    again = treadle(folder, "run", "nightly")
    assert again.stderr.count("not changed, reused") == 5
    assert "returned {'sum': 16.0, 'rows': 3}" in again.stdout
    assert from_json(folder, "run", "nightly")["value"] == {"sum": 16.0, "rows": 3}


def test_parameters_are_read_as_annotated(folder: Path) -> None:
    (folder / "other.txt").write_text("10")
    assert from_json(folder, "run", "nightly", "--set", "path=other.txt", "--set", "factor=3")["value"] == {"sum": 60.0, "rows": 1}


def test_the_plan_says_why(folder: Path) -> None:
    assert {s["step"]: s["reason"] for s in from_json(folder, "plan", "nightly")}["load"] == "never ran"
    treadle(folder, "run", "nightly")
    assert {s["state"] for s in from_json(folder, "plan", "nightly")} == {"reuse"}
    (folder / "project.py").write_text(PROJECT.replace("return 2 * x", "return 3 * x"))
    said = treadle(folder, "plan", "nightly").stdout
    assert "doubled in project changed" in said or "doubled in" in said
    planned = {s["step"]: s for s in from_json(folder, "plan", "nightly", "--set", "offset=1")}
    assert planned["load"]["state"] == "reuse"
    assert planned["prepare"]["state"] == "run"
    assert planned["slow"]["reason"] == "after prepare"
    (folder / "project.py").write_text(PROJECT)
    planned = {s["step"]: s for s in from_json(folder, "plan", "nightly", "--set", "offset=1")}
    assert planned["score"]["reason"] == "parameter offset changed from 0 to 1"
    assert (planned["score"]["tasks"], planned["score"]["tasks_reused"]) == (3, 0)
    assert "3 of 3 tasks" in treadle(folder, "plan", "nightly", "--set", "offset=1").stdout
    (folder / "rows.txt").write_text("3\n1\n5\n")
    assert {s["step"]: s["reason"] for s in from_json(folder, "plan", "nightly")}["load"] == "the file in parameter path changed"


def test_a_fan_out_does_only_what_is_new(folder: Path) -> None:
    treadle(folder, "run", "nightly")
    (folder / "rows.txt").write_text("3\n1\n4\n9\n")
    assert "4 tasks, 1 done, 3 reused" in treadle(folder, "run", "nightly").stderr
    shown = treadle(folder, "runs", "last").stdout
    assert "4 tasks: 1 done, 3 reused" in shown
    assert "score[3]" not in shown
    assert "score[3]" in treadle(folder, "runs", "last", "--all").stdout
    assert treadle(folder, "logs", "last", "score[3]").stdout == "scoring 18\n"
    assert "score[3] | scoring 18" in treadle(folder, "logs", "last").stdout


def killed_in_step_three(folder: Path) -> None:
    (folder / "wait").write_text("x")
    child = subprocess.Popen(
        [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "run", "nightly"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TREADLE_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert treadle(folder, "logs", "last", "slow").stdout == "slow has begun\n"
    child.send_signal(signal.SIGKILL)
    child.wait(30)
    (folder / "wait").unlink()


def test_a_run_that_was_killed_goes_on_when_it_is_resumed(folder: Path) -> None:
    killed_in_step_three(folder)
    listed = treadle(folder, "runs", "last").stdout
    assert "interrupted" in listed
    assert "treadle resume run-" in listed
    assert treadle(folder, "logs", "last", "slow").stdout == "slow has begun\n"
    before = from_json(folder, "runs", "last")["id"]
    done = treadle(folder, "resume")
    assert "= load                   done before in this run" in done.stderr
    assert "✓ slow" in done.stderr
    assert "returned {'sum': 16.0, 'rows': 3}" in done.stdout
    assert from_json(folder, "runs", "last")["id"] == before
    assert len(from_json(folder, "runs")) == 1
    assert treadle(folder, "logs", "last", "slow").stdout == "slow has begun\nslow has begun\n"
    assert "nothing to go on with" in one_sentence(treadle(folder, "resume", "last", expect=6))


def test_the_same_command_after_a_kill_does_only_what_is_missing(folder: Path) -> None:
    killed_in_step_three(folder)
    again = treadle(folder, "run", "nightly")
    assert "= load                   not changed, reused" in again.stderr
    assert "= prepare                not changed, reused" in again.stderr
    assert "✓ slow" in again.stderr
    assert [r["status"] for r in from_json(folder, "runs")] == ["done", "interrupted"]


def test_logs_can_be_followed_until_the_step_has_ended(folder: Path) -> None:
    (folder / "wait").write_text("x")
    environment = {**os.environ, "TREADLE_THREADS": "1"}
    command = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder)]
    run = subprocess.Popen([*command, "run", "nightly"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 60
    while not (folder / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with subprocess.Popen([*command, "logs", "last", "--follow"], stdout=subprocess.PIPE, text=True, env=environment) as follower:
        assert follower.stdout is not None
        first = [follower.stdout.readline(), follower.stdout.readline()]
        assert "slow | slow has begun\n" in first
        (folder / "wait").unlink()
        rest = follower.stdout.read()
    assert follower.returncode == 0
    assert "score[2] | scoring 8\n" in rest
    assert "slow has begun" not in rest
    assert run.wait(60) == 0


def test_an_approval_is_waited_for_without_a_process_and_given(folder: Path) -> None:
    done = treadle(folder, "run", "careful")
    run = from_json(folder, "runs", "last")["id"]
    assert f"treadle approve {run} approval --resume" in done.stdout
    assert "it shows total: {'sum': 8.0, 'rows': 3}" in done.stdout
    assert from_json(folder, "runs", "last")["status"] == "waiting"
    assert "Publish the figures?" in treadle(folder, "approve").stdout
    assert "has no step 'other'" in one_sentence(treadle(folder, "approve", "last", "other", expect=5))
    said = treadle(folder, "approve", run[-6:], "approval", "--reason", "looks right", env={"TREADLE_ACTOR": "ann"}).stdout
    assert f"treadle resume {run}" in said
    assert "approved by ann already" in one_sentence(treadle(folder, "approve", run, "approval", "--reject", expect=6))
    done = treadle(folder, "resume", run)
    assert "✓ publish" in done.stderr
    assert "approved by ann" in treadle(folder, "runs", run).stdout
    assert treadle(folder, "logs", run, "publish").stdout == "published {'sum': 8.0, 'rows': 3}\n"
    assert "Nothing waits" in treadle(folder, "approve").stdout


def test_approve_can_go_on_at_once_and_a_no_ends_the_run(folder: Path) -> None:
    treadle(folder, "run", "careful")
    assert "✓ publish" in treadle(folder, "approve", "last", "approval", "--resume").stderr
    (folder / "rows.txt").write_text("3\n")
    treadle(folder, "run", "careful")
    said = treadle(folder, "approve", "last", "approval", "--reject", "--reason", "too few", env={"TREADLE_ACTOR": "bob"}).stdout
    assert "rejected" in said
    found = from_json(folder, "runs", "last")
    assert found["status"] == "rejected"
    assert found["error"] == "approval: rejected by bob: too few"
    assert "publish" not in states(folder)
    assert "rejected" in one_sentence(treadle(folder, "resume", "last", expect=6))
    assert from_json(folder, "approve") == []


def test_two_runs_compared(folder: Path) -> None:
    treadle(folder, "run", "nightly")
    (folder / "project.py").write_text(PROJECT.replace("return 2 * x", "return 3 * x"))
    treadle(folder, "run", "nightly", "--set", "offset=1")
    runs = [r["id"] for r in from_json(folder, "runs")]
    found = from_json(folder, "diff", runs[1], runs[0])
    assert [(c["what"].split(" in ")[0], c["steps"]) for c in found["code"]] == [("doubled", ["prepare"])]
    assert found["params"] == {"offset": [0, 1]}
    assert found["metrics"]["total.sum"] == {"old": 16.0, "new": 27.0}
    results = {s["step"]: s["result"] for s in found["steps"]}
    assert results["load"] == "same"
    assert results["score"] == "3 of 3 elements differ"
    said = treadle(folder, "diff", runs[1], "last").stdout
    assert "offset  0 -> 1" in said
    assert "16 -> 27  (+11)" in said
    assert "Nothing differs" in treadle(folder, "diff", "last", "last").stdout
    treadle(folder, "run", "careful")
    assert "only two runs of the same thing" in one_sentence(treadle(folder, "diff", runs[0], "last", expect=2))


def test_a_step_that_fails_names_its_log_and_the_run_goes_on_when_it_is_mended(folder: Path) -> None:
    (folder / "project.py").write_text(PROJECT.replace('    print("scoring", part)\n', '    print("scoring", part)\n    assert part != 2, "two"\n'))
    done = treadle(folder, "run", "nightly", expect=1)
    assert "AssertionError: two" in one_sentence(done)
    assert "✗ score[1]" in done.stderr
    shown = treadle(folder, "runs", "last").stdout
    assert "treadle logs run-" in shown
    assert "'score[1]'" in shown
    log = treadle(folder, "logs", "last", "score[1]").stdout
    assert log.startswith("scoring 2\n")
    assert "AssertionError: two" in log
    (folder / "project.py").write_text(PROJECT)
    assert "returned {'sum': 16.0, 'rows': 3}" in treadle(folder, "resume", "last").stdout


def test_until_stops_and_another_executor_may_be_named(folder: Path) -> None:
    treadle(folder, "run", "nightly", "--until", "prepare", "--executor", "processes:")
    assert states(folder) == {"load": "done", "prepare": "done"}
    assert "ProcessPool" in treadle(folder, "runs", "last").stdout
    assert treadle(folder, "logs", "last", "load").stdout.startswith("loading ")


def test_wrong_use_is_one_sentence(folder: Path) -> None:
    assert "no name=value" in one_sentence(treadle(folder, "run", "nightly", "--set", "factor", expect=2))
    assert "which is not int" in one_sentence(treadle(folder, "run", "nightly", "--set", "factor=much", expect=2))
    assert "has no parameter 'size'" in one_sentence(treadle(folder, "plan", "nightly", "--set", "size=1", expect=2))
    assert "twice" in one_sentence(treadle(folder, "run", "nightly", "--set", "factor=1", "--set", "factor=2", expect=2))
    assert "Which one?" in one_sentence(treadle(folder, "run", expect=5))
    assert "There is no model or pipeline 'daily'" in one_sentence(treadle(folder, "run", "daily", expect=5))
    assert "There is no step 'last'" in one_sentence(treadle(folder, "run", "nightly", "--until", "last", expect=5))
    assert "There is no run yet" in one_sentence(treadle(folder, "runs", "last", expect=5))
    assert "no run to go on with" in one_sentence(treadle(folder, "resume", expect=5))
    treadle(folder, "run", "nightly")
    treadle(folder, "run", "nightly")
    assert "fits 2 runs" in one_sentence(treadle(folder, "logs", "run-", expect=2))
    assert "There is no run 'run-x'" in one_sentence(treadle(folder, "logs", "run-x", expect=5))
    assert "has no step 'publish'" in one_sentence(treadle(folder, "logs", "last", "publish", expect=5))
    assert "asked for no approval" in one_sentence(treadle(folder, "approve", "last", "approval", expect=5))
    assert "Which approval" in one_sentence(treadle(folder, "approve", "--resume", expect=2))


def test_the_example_of_the_guide_does_what_the_guide_says(tmp_path: Path) -> None:
    guide = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "pipelines.md").read_text("utf-8")
    (tmp_path / "project.py").write_text(guide.split("```python\n")[1].split("```")[0])
    (tmp_path / "rows.csv").write_text("region,amount\nnorth,3\nsouth,4\nnorth,5\n")
    done = treadle(tmp_path, "run")
    assert "2 tasks, 2 done" in done.stderr
    assert "left out: enough is true" in done.stderr
    assert "✓ publish" in treadle(tmp_path, "approve", "last", "approval", "--resume").stderr
    (tmp_path / "few.csv").write_text("region,amount\nnorth,3\n")
    done = treadle(tmp_path, "run", "daily", "--set", "path=few.csv")
    assert "returned 3.0" in done.stdout
    assert states(tmp_path)["publish"] == "skipped"
    assert treadle(tmp_path, "logs", "last", "complain").stdout == "too few rows\n"
    (tmp_path / "few.csv").write_text("region,amount\nnorth,3\nsouth,4\n")
    assert "the file in parameter path changed" in treadle(tmp_path, "plan", "--set", "path=few.csv").stdout


def test_a_pipeline_needs_neither_tables_nor_arrays(folder: Path) -> None:
    script = (
        f"from treadle.cli.main import main; import sys; main(['-C', {str(folder)!r}, 'run', 'nightly']); "
        "print([m for m in ('polars', 'numpy', 'rich', 'sklearn', 'pandera') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"
