"""From the declaration to the command line: a leak is refused by name, a second person is asked, a waiver is on record, and the card says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from treadle.testing.command import treadle as run_treadle

pytestmark = pytest.mark.story

PROJECT = '''
import numpy as np
import polars as pl

import treadle as tr


def people():
    rng = np.random.default_rng(1)
    n = 900
    sex, age, tenure = rng.choice(["f", "m"], n), rng.integers(18, 70, n).astype(float), rng.exponential(5, n)
    p = 1 / (1 + np.exp(-(0.08 * (age - 44) + 0.2 * (tenure - 5) + 1.0 * (sex == "m") - 0.5)))
    stays = rng.uniform(size=n) < p
    return pl.DataFrame({
        "id": np.arange(n), "sex": sex, "age": age, "tenure": tenure, "site": rng.choice(["a", "b"], n), "stays": stays,
        "exit_code": np.where(stays, rng.normal(0, 0.1, n), rng.normal(1, 0.1, n)),
    })


project = tr.Project("staff", owner="works council", goal="see who may leave")
rows = project.dataset("people", source=tr.rows(people), key="id")
common = dict(
    rows=rows, target="stays", candidates=[tr.candidate("logistic")], trials=2, slices=["site"], intended_use="plan talks",
    protected=["sex", tr.bands("age", 30, 50)],
)
honest = project.model("honest", inputs=["age", "tenure", "site"], gates=[
    tr.signal(), tr.beats_baseline(), tr.no_leakage(), tr.fair(ratio=None), tr.carded(), tr.signature(), tr.approved(),
], **common)
undeclared = project.model("undeclared", inputs=["age", "tenure"], gates=[tr.signal(), tr.beats_baseline(), tr.signature()], **common)
leaky = project.model("leaky", inputs=["age", "tenure", "site", "exit_code"], gates=[tr.signal(), tr.no_leakage()], **common)
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("staff")
    (place / "project.py").write_text(PROJECT)
    return place


def treadle(folder: Path, *arguments: str, code: int = 0, actor: str = "anna", days: int = 0) -> str:
    return run_treadle(folder, *arguments, expect=code, env={"TREADLE_ACTOR": actor}, days=days).stdout


def test_the_leaking_column_is_named_and_its_version_refused(folder: Path) -> None:
    said = treadle(folder, "run", "leaky", code=4)
    assert "leakage suspected (target): exit_code alone tells the target with skill" in said
    assert treadle(folder, "deploy", "leaky", code=4) == ""


def test_a_version_waits_for_what_it_lacks_and_for_another_person(folder: Path) -> None:
    said = treadle(folder, "run", "honest", code=4)
    assert "the contract does not declare age, tenure, site, which a caller sends" in said
    treadle(folder, "approve", "honest.v1", code=4)  # she made it herself
    assert "It may not answer yet: the contract does not declare" in treadle(folder, "approve", "honest.v1", "--reason", "looked at it", actor="bea")
    treadle(folder, "waive", "honest", "signal", "--reason", "it is fine", "--until", "7d", code=4)
    treadle(folder, "waive", "honest", "signature", "--until", "7d", code=2)
    assert "signature does not count for every version of honest until" in treadle(
        folder, "waive", "honest", "signature", "--reason", "the caller is our own form", "--until", "7d", actor="bea"
    )
    assert "waived  signature" in treadle(folder, "models", "honest", "--version", "1")
    assert "waits   approved" in treadle(folder, "models", "honest", "--version", "1")


def test_the_card_the_junit_file_and_the_score_come_from_the_record(folder: Path, tmp_path: Path) -> None:
    run_treadle(folder, "run", "honest", expect=None)  # this test may be the first here
    run_treadle(folder, "waive", "honest", "signature", "--reason", "our own form", "--until", "7d", expect=None, env={"TREADLE_ACTOR": "bea"})
    text = treadle(folder, "card", "honest")
    assert "**Intended use**: plan talks" in text
    assert "Groups of sex" in text
    assert "**Waiver of signature**: bea, until" in text
    treadle(folder, "models", "honest", "--junit", str(tmp_path / "verdict.xml"))
    assert "waived by bea until" in (tmp_path / "verdict.xml").read_text()
    assert json.loads(treadle(folder, "card", "honest", "--format", "bom"))["specVersion"] == "1.7"
    scored = json.loads(treadle(folder, "readiness", "honest", "--json"))
    assert [s["id"] for s in scored["sections"]] == ["D", "M", "I", "O"]
    assert all(len(s["tests"]) == 7 and 0 <= s["points"] <= 7 for s in scored["sections"])
    assert scored["score"] == min(s["points"] for s in scored["sections"])
    assert {t["id"]: t["points"] for s in scored["sections"] for t in s["tests"]}["M7"] == 1


def test_a_version_answers_under_a_waiver_until_the_day_it_ends_and_not_after(folder: Path, tmp_path: Path) -> None:
    treadle(folder, "run", "undeclared", code=4)
    score = ("score", "undeclared", "--data", "people", "--version", "1", "--to")
    treadle(folder, *score, str(tmp_path / "before.parquet"), code=4)
    treadle(folder, "waive", "undeclared", "signature", "--reason", "our own form", "--until", "3d")
    treadle(folder, *score, str(tmp_path / "under.parquet"), days=2)
    assert "waived  signature" in treadle(folder, "models", "undeclared", "--version", "1", days=2)
    for command in (("deploy", "undeclared"), (*score, str(tmp_path / "after.parquet"))):
        told = run_treadle(folder, *command, expect=4, days=4).stderr
        assert "the contract does not declare age, tenure, which a caller sends" in told
    assert "FAILED  signature" in treadle(folder, "models", "undeclared", "--version", "1", days=4)
    assert "(ended)" in treadle(folder, "waive", "undeclared", days=4)
    assert not (tmp_path / "after.parquet").exists()
