"""A version is made again from what is recorded of it, to the last digit; or it is said by name why not."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.canonical import canonical
from treadle.core.records import Record, Ref
from treadle.data.write_project import write_blank
from treadle.provenance.reproduce import KIND, REASONS, reproduce
from treadle.registry import versions
from treadle.testing.command import treadle
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

CAUSE = {"kind": "person", "id": "", "text": "test"}
NAME = "deliveries-late"
TREE = """
def tree(max_depth):
    from sklearn.tree import DecisionTreeClassifier
    return DecisionTreeClassifier(max_depth=max_depth, min_samples_leaf={leaf})
"""


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


def edit(folder: Path, *pairs: tuple[str, str]) -> None:
    file = folder / "project.py"
    text = file.read_text()
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    file.write_text(text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The starter project with few trials, committed to a repository of its own."""
    folder = tmp_path / "deliveries"
    write_blank(folder, "tiny")
    edit(folder, ('    slices=["city"],', '    candidates=[tr.candidate("logistic"), tr.candidate("boosting")], trials=3,\n    slices=["city"],'))
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


def told(folder: Path, *arguments: str, expect: int = 0, **options: Any) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(treadle(folder, "reproduce", *arguments, "--json", expect=expect, **options).stdout)
    assert {r["name"] for r in said["reasons"]} <= set(REASONS)
    return said


def version(folder: Path, number: int = 1) -> Record:
    return versions.get(NAME, number, open_workspace(folder).ledger)


def changed(ws: Workspace, **fields: Any) -> None:
    """Another thing recorded of the version, as an older Treadle or another machine might have recorded it."""
    record = versions.get(NAME, 1, ws.ledger)
    ws.ledger.put(versions.KIND, record.id, {**record.body, **fields})


def test_a_clean_commit_is_made_again_equal_and_that_is_recorded(folder: Path) -> None:
    treadle(folder, "run")
    said = treadle(folder, "reproduce", NAME)
    assert "equal" in said.stdout
    assert "commit " in said.stderr
    ws = open_workspace(folder)
    record = ws.ledger.find(KIND)[0]
    assert (record["result"], record["reasons"], record["differing"], record["how"]) == ("equal", [], 0, "present")
    made = versions.get(NAME, 1, ws.ledger)
    assert canonical(record["metrics"]) == canonical(made["evaluation"]["metrics"])
    assert record["package"] == made["package"]["digest"]
    assert "reference.json" in made["package"]["files"]
    assert [str(link.target) for link in ws.ledger.links(Ref(KIND, record.id))] == [f"model_version/{made.id}"]
    events = [e for e in ws.ledger.events_since(0) if e.kind == "version.reproduced"]
    assert [(e.subject.id, e.body["result"]) for e in events] == [(made.id, "equal")]
    # The project's own record has the reproduction and nothing else of it.
    assert len(ws.ledger.find("run")) == len(ws.ledger.find(versions.KIND)) == 1
    assert told(folder, NAME, "--settings")["result"] == "equal"


def test_a_dirty_tree_is_recorded_and_made_again_whatever_became_of_it(folder: Path) -> None:
    (folder / "forestry.py").write_text(TREE.format(leaf=7))
    edit(folder, ("import treadle as tr\n", "import treadle as tr\nfrom forestry import tree\n"), ('"rain", ', ""))
    edit(folder, ('tr.candidate("boosting")', 'tr.candidate("tree", tree, max_depth=[2, 3, 5])'))
    treadle(folder, "run")
    code = version(folder)["code"]
    assert code["dirty"]
    assert code["diff"]
    assert code["untracked"]
    assert not code["left_out"]
    (folder / "forestry.py").write_text(TREE.format(leaf=90))
    edit(folder, ("trials=3", "trials=1"), ('"items", ', ""))
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "another project")
    (folder / "project.py").write_text("this does not even parse (")
    said = told(folder)
    assert (said["result"], said["reason"]) == ("equal", "")


def test_changed_source_data_do_not_matter_and_damaged_recorded_data_are_named(folder: Path) -> None:
    treadle(folder, "run")
    lines = (folder / "deliveries.csv").read_text().splitlines()
    (folder / "deliveries.csv").write_text("\n".join(lines[:900]) + "\n")
    assert told(folder)["result"] == "equal"
    ws = open_workspace(folder)
    record = ws.ledger.get("dataset_version", version(folder)["data"]["deliveries"])
    assert record is not None
    file = ws.tables.files(record["address"])[0]
    file.chmod(0o644)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    said = told(folder, expect=7)
    assert (said["result"], said["reason"]) == ("impossible", "data-damaged")
    shown = treadle(folder, "reproduce", expect=7).stderr
    assert record.id in shown
    assert "(data-damaged)" in shown
    file.unlink()
    assert told(folder, expect=5)["reason"] == "data-missing"


def test_without_git_the_kept_files_are_used(folder: Path) -> None:
    subprocess.run(["rm", "-rf", str(folder / ".git")], check=True)
    treadle(folder, "run")
    edit(folder, ("trials=3", "trials=1"))
    assert told(folder)["result"] == "equal"


def test_a_retrained_version_is_compared_with_the_same_champion_and_settings(folder: Path) -> None:
    os.environ["TREADLE_THREADS"] = "1"
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause=CAUSE)
    turn(ws, ws.model(), cause=CAUSE, champion=version(folder), settings={"family": "logistic", "params": {"C": 0.5}})
    second = version(folder, 2)
    assert (second["champion"], second["settings"]["params"]) == (f"{NAME}.v1", {"C": 0.5})
    assert "champion" in second["evaluation"]["metrics"]
    assert told(folder)["result"] == "equal"
    assert told(folder, "--version", "1")["result"] == "equal"


def test_a_training_that_differs_from_itself_is_said_to(folder: Path) -> None:
    edit(folder, ("import treadle as tr\n", f"import random\n\nimport treadle as tr\n{TREE.format(leaf='random.randint(1, 150)')}"))
    edit(folder, ('tr.candidate("logistic"), tr.candidate("boosting")', 'tr.candidate("tree", tree, max_depth=[6])'))
    treadle(folder, "run", expect=None)
    shown = treadle(folder, "reproduce", expect=4).stdout
    assert "differs in" in shown
    assert "nondeterministic" in shown
    made = open_workspace(folder).ledger.find(KIND)[0]
    assert (made["result"], made["reason"]) == ("differs", "nondeterministic")
    assert any(d["what"].startswith("evaluation.metrics") and d["by"] for d in made["differences"])


def wheel(folder: Path, leaf: int, release: str) -> None:
    """A package of one line, as pip installs it."""
    folder.mkdir(exist_ok=True)
    info = f"treadle_tried-{release}.dist-info"
    files = {
        "treadle_tried.py": f"LEAF = {leaf}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: treadle-tried\nVersion: {release}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    hashes = {n: base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b"=").decode() for n, t in files.items()}
    files[f"{info}/RECORD"] = "".join(f"{n},sha256={h},{len(files[n])}\n" for n, h in hashes.items()) + f"{info}/RECORD,,\n"
    with zipfile.ZipFile(folder / f"treadle_tried-{release}-py3-none-any.whl", "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def installed(folder: Path, place: Path, release: str) -> dict[str, str]:
    """The package as if it were installed in that release."""
    target = place / release / "site-packages"
    with zipfile.ZipFile(folder / f"treadle_tried-{release}-py3-none-any.whl") as archive:
        archive.extractall(target)
    return {"PYTHONPATH": os.pathsep.join([str(target), *filter(None, [os.environ.get("PYTHONPATH", "")])])}


@pytest.mark.slow
def test_a_package_that_has_changed_is_installed_as_recorded_or_named(folder: Path, tmp_path: Path) -> None:
    shelf = tmp_path / "shelf"
    wheel(shelf, 40, "1.0")
    wheel(shelf, 120, "2.0")
    edit(folder, ("import treadle as tr\n", f"from treadle_tried import LEAF\n\nimport treadle as tr\n{TREE.format(leaf='LEAF')}"))
    edit(folder, ('tr.candidate("logistic"), tr.candidate("boosting")', 'tr.candidate("tree", tree, max_depth=[6])'))
    treadle(folder, "run", expect=None, env=installed(shelf, tmp_path, "1.0"))
    later = {**installed(shelf, tmp_path, "2.0"), "PIP_NO_INDEX": "1"}
    # With what is installed now: it differs, and the package is the first suspect.
    said = told(folder, "--here", expect=4, env=later)
    assert (said["result"], said["reason"], said["how"]) == ("differs", "package", "here")
    assert said["reasons"][0]["sentence"] == "treadle-tried 1.0 -> 2.0"
    # Without a network: pip says so.
    said = told(folder, expect=8, env=later)
    assert (said["result"], said["reason"]) == ("impossible", "pip-failed")
    assert "treadle-tried==1.0" in said["error"]["what"]
    # With the recorded package in front of the others: equal.
    said = told(folder, env={"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)})
    assert (said["result"], said["how"], said["environment"]) == ("equal", "overlay", [])


@pytest.fixture
def trained(folder: Path) -> Workspace:
    os.environ["TREADLE_THREADS"] = "1"
    edit(folder, ('tr.candidate("logistic"), tr.candidate("boosting")', 'tr.candidate("logistic", C=[1.0])'))
    git(folder, "commit", "-qam", "one setting")
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause=CAUSE)
    return ws


def obstacle(ws: Workspace, **how: Any) -> tuple[str, str]:
    made = reproduce(ws, **how)
    assert made["result"] == "impossible"
    assert made["error"]["what"].endswith((".", ":")) or made["error"]["what"]
    return made["reason"], made["error"]["what"]


def test_whatever_stands_in_the_way_has_a_name_and_a_sentence(trained: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ws, before = trained, dict(versions.get(NAME, 1, trained.ledger).body)
    environment, code = before["environment"], before["code"]
    state = json.loads(ws.blobs.get(environment["packages"]))

    def recorded(**parts: Any) -> dict[str, Any]:
        return {**environment, "packages": ws.blobs.put(canonical({**state, **parts}))}

    changed(ws, environment={k: v for k, v in environment.items() if k != "packages"})
    assert obstacle(ws)[0] == "not-recorded"
    changed(ws, environment={**environment, "packages": "0" * 64})
    assert obstacle(ws)[0] == "environment-missing"
    changed(ws, environment=recorded(python="3.99.0"))
    assert obstacle(ws) == ("python-missing", "The version was trained with Python 3.99, which is not installed.")
    changed(ws, environment=recorded(treadle={"version": "0.0.1", "digest": "0"}))
    assert obstacle(ws, strict=True)[0] == "treadle-changed"
    changed(ws, environment=environment, code={**code, "commit": "1" * 40})
    assert obstacle(ws) == ("commit-missing", "Commit 111111111111 is not in the project's repository any more.")
    changed(ws, code={**code, "dirty": True})
    assert obstacle(ws)[0] == "code-not-recorded"
    changed(ws, code={})
    assert obstacle(ws)[0] == "code-not-recorded"
    changed(ws, code={**code, "dirty": True, "diff": "2" * 64})
    assert obstacle(ws)[0] == "code-damaged"
    changed(ws, code={**code, "dirty": True, "diff": ws.blobs.put(b"diff --git a/project.py b/project.py\nno patch\n")})
    assert obstacle(ws)[0] == "code-damaged"
    changed(ws, code=code, champion=f"{NAME}.v9")
    assert obstacle(ws)[0] == "champion-missing"
    changed(ws, champion="", data={"deliveries": "deliveries-000000000000"})
    assert obstacle(ws)[0] == "data-missing"
    changed(ws, data=before["data"])
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        assert obstacle(ws)[0] == "git-missing"
    (ws.folder / ".git").rename(tmp_path / "elsewhere")
    assert obstacle(ws)[0] == "repository-missing"
    assert len([e for e in ws.ledger.events_since(0) if e.kind == "version.reproduced"]) == 13
    treadle(ws.folder, "reproduce", "nothing", expect=5)
    treadle(ws.folder, "reproduce", NAME, "--version", "7", expect=5)


def test_a_version_that_says_nothing_of_its_packages_can_still_be_tried_with_those_of_now(trained: Workspace) -> None:
    changed(trained, environment={"python": "3.11.7"}, threads=None)
    made = reproduce(trained, here=True)
    assert made["result"] == "equal"


def test_a_training_that_fails_is_named_with_its_error(trained: Workspace) -> None:
    code = versions.get(NAME, 1, trained.ledger)["code"]
    (trained.folder / "project.py").write_text("import treadle as tr\nproject = tr.Project('tiny')\nraise RuntimeError('no')\n")
    diff = subprocess.run(["git", "-C", str(trained.folder), "diff", "HEAD"], capture_output=True, check=True).stdout
    changed(trained, code={**code, "dirty": True, "diff": trained.blobs.put(diff)})
    reason, what = obstacle(trained)
    assert reason == "training-failed"
    assert "RuntimeError: no" in what


@pytest.mark.parametrize("family", [pytest.param("forest", marks=pytest.mark.slow), "lightgbm"])
def test_two_trainings_of_the_same_data_are_one_package_whatever_the_threads(family: str, tmp_path: Path) -> None:
    digests = []
    for threads in ("1", "2"):
        folder = tmp_path / f"with-{threads}"
        write_blank(folder, "tiny")
        edit(folder, ('    slices=["city"],', f'    candidates=[tr.candidate("{family}")], trials=2,\n    slices=["city"],'))
        treadle(folder, "run", env={"TREADLE_THREADS": threads, "TREADLE_SIGNING": "off"}, expect=None)
        made = version(folder)
        assert made["threads"] == int(threads)
        digests.append((made["package"], canonical(made["evaluation"]["metrics"])))
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_the_whole_environment_is_built_from_nothing(trained: Workspace) -> None:
    made = reproduce(trained, scratch=True, say=lambda line: print(line, file=sys.stderr))
    assert (made["result"], made["how"]) == ("equal", "scratch"), made.body
    print(f"{made['seconds']:.0f} s, of which training {made['training_seconds']:.0f} s")
