"""`treadle advise` measures this very model and says what it was told and what it assumed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from treadle.assemble import open_workspace
from treadle.testing.command import treadle
from treadle.testing.persons import write_persons
from treadle.wheel.turn import turn


@pytest.mark.story
def test_a_model_is_measured_and_advised_on(tmp_path: Path) -> None:
    folder = write_persons(tmp_path / "bikes")
    assert "has no version yet" in treadle(folder, "advise", expect=5).stderr
    turn(open_workspace(folder), open_workspace(folder).model(), cause={"kind": "person", "id": "", "text": "test"})
    said = json.loads(treadle(folder, "advise", "--latency", "2h", "--volume", "5e6", "--arrives", "schedule", "--json", fresh=True).stdout)
    assert said["version"] == "late-return.v1"
    assert said["assumed"] == ["connected always", "cores 2"]
    measured = said["measured"]
    assert measured["views"] == 2
    assert measured["format"] == "onnx"
    assert all(measured[name] > 0 for name in ("one", "one_p99", "bulk", "bytes", "memory", "start"))
    assert said["choices"][0]["mode"] == "batch"
    told = treadle(folder, "advise", "--latency", "100ms").stdout
    assert "Recommended: real-time. run it with: treadle deploy late-return." in told
    assert "assumed, since not said: volume 100000, arrives request, connected always, cores 2" in told
    assert "is no time" in treadle(folder, "advise", "--latency", "soon", expect=2).stderr
    assert "is no number" in treadle(folder, "advise", "--volume", "many", expect=2).stderr
