"""One project, three executors: in this process, in worker processes, on Ray. The same model comes out, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import open_workspace
from treadle.data.write_project import write_blank
from treadle.pipelines.run import steps_of
from treadle.registry import versions
from treadle.testing import ray_apart
from treadle.wheel.start import start


def trained(folder: Path, home: str, executor: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, set[str], list[str]]:
    """What a turn makes: (package, metrics and verdict; where its steps ran; its trials)."""
    for name, value in {"TREADLE_HOME": home, "TREADLE_EXECUTOR": executor, "TREADLE_THREADS": "1"}.items():
        monkeypatch.setenv(name, value)
    ws = open_workspace(folder)
    try:
        outcome = start(ws, cause={"kind": "person", "id": "", "text": "a test"})
        made = versions.get("deliveries-late", outcome["register"]["number"], ws.ledger)
        where = {s["where"] for s in steps_of(outcome.run.id, ws.ledger)}
        trials = [f"{t['family']} {t['params']} {t['loss']}" for t in ws.ledger.find("trial")]
        return (made["package"], made["evaluation"]["metrics"], made["verdict"]), where, trials
    finally:
        ws.close()


@pytest.mark.story
def test_the_same_project_gives_the_same_model_on_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    if ray_apart.elsewhere(request):
        return
    monkeypatch.setenv("TREADLE_SIGNING", "off")  # each of the homes would make a key of its own
    folder = tmp_path / "tiny"
    write_blank(folder, "tiny")
    project = folder / "project.py"
    text = project.read_text()
    assert 'target="late",\n' in text
    project.write_text(text.replace('target="late",\n', 'target="late",\n    trials=4,\n    parallel_trials=2,\n    trial_resources={"cores": 1, "memory": "3GB"},\n'))
    here, where, trials = trained(folder, ".here", "inprocess:", monkeypatch)
    assert where == {"InProcessExecutor"}
    assert len(trials) == 4

    pool = trained(folder, ".pool", "processes:2", monkeypatch)
    assert pool == (here, {"InProcessExecutor", "ProcessPool"}, trials)  # the search itself hands out its trials from here

    ray = trained(folder, ".ray", "ray:", monkeypatch)
    assert ray == (here, {"InProcessExecutor", "RayExecutor"}, trials)
