"""Where a run came from: code and environment can be had again, whatever git knows of them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from treadle.backends.file_blobs import FileBlobs
from treadle.core.errors import Corrupt
from treadle.provenance import rebuild
from treadle.provenance.origin import LARGEST, code_state, environment, environment_state, recorded_environment, unpack


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True, text=True).stdout.strip()


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_py", ".py").replace("_csv", ".csv").replace("_html", ".html")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a project in a folder of it."""
    top = tmp_path / "repository"
    write(top, ml__project_py="a = 1\n", ml__features_py="b = 1\n", other_py="c = 1\n", ml__rows_csv="1\n")
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    return top


def test_a_clean_commit_is_its_name_and_no_copy(repository: Path, blobs: FileBlobs) -> None:
    state = code_state(repository / "ml", blobs)
    assert state["commit"] == git(repository, "rev-parse", "HEAD")
    assert (state["dirty"], state["diff"], state["untracked"], state["path"]) == (False, "", "", "ml")
    assert list(blobs.addresses()) == []


def test_changes_new_files_and_deletions_come_back_and_the_repository_is_not_touched(repository: Path, blobs: FileBlobs, tmp_path: Path) -> None:
    project = repository / "ml"
    write(project, project_py="a = 2\n", helper_py="h = 1\n", new_py="staged = True\n")
    (project / "features.py").unlink()
    (project / "weights.bin").write_bytes(bytes(range(256)))
    git(repository, "add", "ml/new.py", "ml/weights.bin")
    state = code_state(project, blobs)
    assert state["dirty"]
    before = (git(repository, "status", "--porcelain"), git(repository, "worktree", "list"))
    write(project, project_py="a = 3\n", helper_py="h = 9\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "second")
    again = rebuild.code(state, project, blobs, tmp_path / "again")
    assert (again / "project.py").read_text() == "a = 2\n"
    assert (again / "helper.py").read_text() == "h = 1\n"
    assert (again / "new.py").read_text() == "staged = True\n"
    assert (again / "weights.bin").read_bytes() == bytes(range(256))
    assert not (again / "features.py").exists()
    assert (again.parent / "other.py").read_text() == "c = 1\n"
    assert git(repository, "status", "--porcelain") == ""
    assert before[1].split()[0] == git(repository, "worktree", "list").split()[0]


def test_a_users_way_of_showing_differences_does_not_reach_the_record(repository: Path, blobs: FileBlobs, tmp_path: Path) -> None:
    for name, value in (("diff.noprefix", "true"), ("color.ui", "always"), ("core.pager", "cat"), ("diff.external", "false"), ("diff.renames", "copies")):
        git(repository, "config", name, value)
    write(repository / "ml", project_py="a = 'ö\t'\n")
    state = code_state(repository / "ml", blobs)
    assert (rebuild.code(state, repository / "ml", blobs, tmp_path / "again") / "project.py").read_text() == "a = 'ö\t'\n"


def test_what_is_no_code_does_not_make_the_tree_dirty(repository: Path, blobs: FileBlobs) -> None:
    project = repository / "ml"
    write(project, rows_csv="1\n2\n", report_html="<p>", **{"parts__a_csv": "1", ".treadle__ledger": "x"})
    write(repository, other_py="c = 2\n")
    state = code_state(project, blobs, ignored=[str(project / ".treadle"), "rows.csv", "parts/*.csv"])
    assert not state["dirty"]
    assert code_state(project, blobs)["dirty"]


def test_a_file_that_git_ignores_is_kept_if_it_is_the_project(repository: Path, blobs: FileBlobs, tmp_path: Path) -> None:
    hidden = repository / "hidden"
    write(hidden, project_py="x = 1\n")
    (repository / ".gitignore").write_text("hidden/\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "ignore")
    state = code_state(hidden, blobs)
    assert state["dirty"]
    assert (rebuild.code(state, hidden, blobs, tmp_path / "again") / "project.py").read_text() == "x = 1\n"


def test_modules_of_the_repository_that_the_project_imports_are_its_code(repository: Path, blobs: FileBlobs) -> None:
    write(repository, lib__common____init___py="", lib__common__clean_py="k = 1\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "library")
    write(repository, lib__common__clean_py="k = 2\n", lib__unused_py="")
    code = f"""
import sys, json
from pathlib import Path
sys.path.insert(0, {str(repository / "lib")!r})
import common.clean
from treadle.backends.file_blobs import FileBlobs
from treadle.provenance.origin import code_state
blobs = FileBlobs({str(blobs._root)!r})
state = code_state(Path({str(repository / "ml")!r}), blobs)
print(json.dumps([state, blobs.get(state["diff"]).decode()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    state, diff = json.loads(done.stdout)
    assert state["roots"] == ["lib"]
    assert "+k = 2" in diff
    assert state["untracked"] == ""


def test_a_file_that_is_too_large_is_named_not_kept(repository: Path, blobs: FileBlobs) -> None:
    with (repository / "ml" / "huge.bin").open("wb") as file:
        file.truncate(LARGEST + 1)
    state = code_state(repository / "ml", blobs)
    assert state["left_out"][0] == "ml/huge.bin (10.0 MB)"
    assert state["dirty"]


def test_without_git_the_source_files_are_kept(tmp_path: Path, blobs: FileBlobs) -> None:
    folder = tmp_path / "plain"
    write(folder, project_py="a = 1\n", deep__more_py="b = 1\n", rows_csv="1\n", **{".treadle__x_py": "", "env__pyvenv.cfg": "", "env__lib_py": ""})
    state = code_state(folder, blobs)
    assert set(state) == {"snapshot", "left_out"}
    again = rebuild.code(state, folder, blobs, tmp_path / "again")
    assert sorted(p.relative_to(again).as_posix() for p in again.rglob("*") if p.is_file()) == ["deep/more.py", "project.py"]
    assert code_state(folder, blobs) == state


def test_a_repository_without_a_commit_is_like_none(tmp_path: Path, blobs: FileBlobs) -> None:
    write(tmp_path / "new", project_py="a = 1\n")
    git(tmp_path / "new", "init", "-q")
    assert "snapshot" in code_state(tmp_path / "new", blobs)


def test_the_environment_is_every_installed_package_and_cheap(blobs: FileBlobs) -> None:
    environment_state.cache_clear()
    begun = time.perf_counter()
    state = environment_state()
    assert time.perf_counter() - begun < 0.5  # 20 ms on a quiet machine
    import importlib.metadata

    for name in ("numpy", "polars", "scikit-learn", "click"):
        assert state["packages"][name] == importlib.metadata.version(name)
    assert state["treadle"]["digest"]
    said = environment(state, blobs)
    assert recorded_environment(said["packages"], blobs) == state
    assert said["numpy"] == state["packages"]["numpy"]
    assert said["packages"] == environment(state, blobs)["packages"]


def test_what_differs_is_told_package_by_package() -> None:
    state = environment_state()
    then = {**state, "packages": {**state["packages"], "numpy": "1.0", "gone": "2"}, "cpu": {"model": "other", "vectors": ""}}
    found = rebuild.differences(then, state)
    assert [(d.kind, d.name, d.recorded) for d in found[:2]] == [("package", "numpy", "1.0"), ("package", "gone", "2")]
    assert str(found[1]) == "gone 2 -> absent"
    assert [d.kind for d in found[2:]] == ["cpu"]
    assert rebuild.differences(state, {**state, "packages": {**state["packages"], "another": "1"}}) == []


@pytest.mark.parametrize("name", ["../beside.py", "/tmp/absolute.py", "a/../../beside.py"])
def test_an_archive_writes_nowhere_but_in_its_folder(name: str, tmp_path: Path, blobs: FileBlobs) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        entry = tarfile.TarInfo(name)
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    (tmp_path / "inside").mkdir()
    with pytest.raises(Corrupt, match="which it may not"):
        unpack(blobs.put(made.getvalue()), tmp_path / "inside", blobs)
    assert not (tmp_path / "beside.py").exists()
