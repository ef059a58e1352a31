"""The whole turn of the wheel, killed at the points where it writes: gone on with, there is one run, one version, the same model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = '''
import json, os, signal, sys
from pathlib import Path

import lightgbm, numpy, onnx, onnxruntime, optuna, polars, scipy.stats, sklearn.ensemble, sklearn.linear_model, treadle  # before the forks: each costs time
import treadle.training.search, treadle.governance.gates, treadle.registry.packages, treadle.backends.onnx_format, treadle.monitoring.reference
from treadle.assemble import open_workspace
from treadle.backends import sqlite_sessions
from treadle.registry import versions
from treadle.wheel.start import resume, start

folder, home, points = Path(sys.argv[1]), Path(sys.argv[2]), [int(p) for p in sys.argv[3:]]
PERSON = {"kind": "person", "id": "", "text": "a test"}


class Points:
    def __init__(self, deadly):
        self.count, self.deadly = 0, deadly

    def reach(self):
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def arm(self):
        for name in ("fsync", "replace", "unlink"):
            setattr(os, name, self.around(getattr(os, name)))
        opened = sqlite_sessions._open
        sqlite_sessions._open = lambda *a: Connection(opened(*a), self)

    def around(self, call):
        def around(*a, **k):
            self.reach()
            value = call(*a, **k)
            self.reach()
            return value
        return around


class Connection:
    def __init__(self, connection, points):
        self._connection, self._points = connection, points

    def execute(self, sql, *values):
        watched = sql in ("BEGIN IMMEDIATE", "COMMIT")
        if watched:
            self._points.reach()
        result = self._connection.execute(sql, *values)
        if watched:
            self._points.reach()
        return result

    def __getattr__(self, name):
        return getattr(self._connection, name)


def forked(work):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            import traceback
            traceback.print_exc()
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def open_at(place):
    os.environ["TREADLE_HOME"] = str(place)
    return open_workspace(folder)


def first(place, point):
    points = Points(point)
    points.arm()
    start(open_at(place), cause=PERSON)
    (place / "points").write_text(str(points.count))


def again(place):
    ws = open_at(place)
    left = ws.ledger.find("run")
    if not left:
        start(ws, cause=PERSON)
    elif left[0]["status"] != "done":
        resume(ws, left[0].id)


def look(place):
    ws = open_at(place)
    known = ws.ledger.find("model_version")
    ws.ledger.verify_chain()
    ws.blobs.sweep(0)
    for address in ws.blobs.addresses():
        ws.blobs.verify(address)
    said = {
        "runs": [r["status"] for r in ws.ledger.find("run")], "versions": len(known), "data": len(ws.ledger.find("dataset_version")),
        "events": sum(e.kind.startswith("version.") for e in ws.ledger.events_since()),
        "package": known[0]["package"]["files"], "metrics": known[0]["evaluation"]["metrics"], "tmp": len(list((place / "blobs" / "tmp").iterdir())),
    }
    (place / "said").write_text(json.dumps(said))


whole = home / "whole"
whole.mkdir()
assert forked(lambda: first(whole, 0)) == 0
assert forked(lambda: look(whole)) == 0
total = int((whole / "points").read_text())
print(json.dumps({"total": total, "said": json.loads((whole / "said").read_text())}), flush=True)
for point in points if points != [0] else range(1, total + 1):
    point = point * total // 1000 + 1 if points != [0] else point
    place = home / f"at-{point}"
    place.mkdir()
    died = forked(lambda: first(place, point))
    ended = forked(lambda: again(place))
    assert forked(lambda: look(place)) == 0
    print(json.dumps({"point": point, "died": died, "ended": ended, "said": json.loads((place / "said").read_text())}), flush=True)
'''


def killed(tmp_path: Path, points: list[int]) -> tuple[dict[str, object], list[dict[str, object]]]:
    folder, home = tmp_path / "tiny", tmp_path / "homes"
    home.mkdir()
    from treadle.data.write_project import write_blank

    write_blank(folder, "tiny")
    project = folder / "project.py"
    text = project.read_text()
    assert 'target="late",\n' in text
    project.write_text(text.replace('target="late",\n', 'target="late",\n    candidates=[tr.candidate("logistic"), tr.candidate("boosting", max_iter=[10])],\n    trials=2,\n'))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {**os.environ, "TREADLE_THREADS": "1", "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1"}
    command = [sys.executable, str(program), str(folder), str(home), *map(str, points)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    whole, *rest = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return whole, rest


def check(whole: dict[str, object], rest: list[dict[str, object]]) -> None:
    said = whole["said"]
    assert isinstance(said, dict)
    assert (said["versions"], said["events"], said["runs"]) == (1, 1, ["done"])
    for one in rest:
        assert one["died"] == 9, one["point"]
        assert one["ended"] == 0, one["point"]
        assert one["said"] == said, one["point"]


@pytest.mark.story
def test_killed_at_points_all_along_the_turn_there_is_one_version_and_the_same_model(tmp_path: Path) -> None:
    check(*killed(tmp_path, [20, 350, 690, 960]))


@pytest.mark.slow
def test_killed_at_every_point_of_the_turn_there_is_one_version_and_the_same_model(tmp_path: Path) -> None:
    whole, rest = killed(tmp_path, [0])
    assert len(rest) == whole["total"]
    check(whole, rest)
