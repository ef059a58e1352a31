"""Whatever is wrong, the user gets one clear sentence with what, where and what to do, nothing is half-written, and the next run goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from treadle.testing.command import treadle

pytestmark = pytest.mark.story

PROJECT = """import treadle as tr
project = tr.Project("small", owner="me", goal="test")
data = project.dataset("data", source=tr.csv("data.csv"), key="id", contract=tr.Contract(columns={{
    "id": tr.integer(), "x": tr.number(), "y": tr.category({isin})}}, at_most={at_most}))
model = project.model("small", rows=data, target="y", inputs=["x"], candidates=[tr.candidate("logistic")], trials=1)
"""


def write(folder: Path, rows: list[str], *, isin: str = "", at_most: float = 0.05) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "project.py").write_text(PROJECT.format(isin=isin, at_most=at_most))
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    return folder


def good_rows(count: int = 300) -> list[str]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=count)
    y = rng.random(count) < 1 / (1 + np.exp(-2 * x))
    return ["id,x,y", *(f"{i},{a:.4f},{'yes' if b else 'no'}" for i, (a, b) in enumerate(zip(x, y)))]


def one_sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The error, which must be a single line after the steps' progress."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("treadle: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_missing_column_is_named_with_the_columns_there_are(tmp_path: Path) -> None:
    folder = write(tmp_path, ["id,z,y", *(f"{i},1,yes" for i in range(50))])
    said = one_sentence(treadle(folder, "run", expect=3))
    assert "'x' is missing" in said
    assert "data.csv" in said
    assert "id, z, y" in said


def test_a_constant_target_has_nothing_to_predict(tmp_path: Path) -> None:
    folder = write(tmp_path, ["id,x,y", *(f"{i},{i},yes" for i in range(50))])
    assert "constant" in one_sentence(treadle(folder, "run", expect=3))


def test_a_target_without_values_is_said_so(tmp_path: Path) -> None:
    folder = write(tmp_path, ["id,x,y", *(f"{i},{i}," for i in range(50))], at_most=1.0)
    said = one_sentence(treadle(folder, "run", expect=3))
    assert "None of the 50 rows is left" in said


@pytest.mark.parametrize("content", [[""], ["id,x,y"]])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, content: list[str]) -> None:
    folder = write(tmp_path, content)
    said = one_sentence(treadle(folder, "run", expect=3))
    assert "data.csv" in said
    assert "empty" in said or "no rows" in said.lower()


def test_a_wrong_type_is_quarantined_with_its_reason_and_beyond_the_limit_stops_the_run(tmp_path: Path) -> None:
    rows = good_rows()
    folder = write(tmp_path, [*rows, "900,many,yes", "901,few,no"])
    treadle(folder, "run")
    folder = write(tmp_path, [*rows[:20], *(f"{i},word,yes" for i in range(900, 930))])
    said = one_sentence(treadle(folder, "run", expect=3))
    assert "x does not read as number (30 rows)" in said
    assert "at_most" in said


def test_a_duplicate_key_keeps_the_first_row_and_quarantines_the_rest(tmp_path: Path) -> None:
    folder = write(tmp_path, [*good_rows(), "0,0.5,yes"])
    treadle(folder, "run")
    folder = write(tmp_path, [*good_rows(60), *good_rows(60)[1:]])
    assert "id is not unique" in one_sentence(treadle(folder, "run", expect=3))


def test_a_project_file_that_raises_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("import treadle as tr\nproject = tr.Project('a')\nprint(1 / 0)\n")
    said = one_sentence(treadle(tmp_path, "run", expect=3))
    assert "ZeroDivisionError" in said
    assert "project.py:3" in said


def test_a_project_file_that_does_not_parse_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("import treadle as tr\nproject = tr.Project('a'\n")
    assert "project.py:2" in one_sentence(treadle(tmp_path, "run", expect=3))


def test_a_wrong_declaration_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "project.py").write_text("import treadle as tr\nproject = tr.Project('a')\nproject.dataset('d', source='x.csv', key='id')\n")
    said = one_sentence(treadle(tmp_path, "run", expect=3))
    assert "project.py:3" in said
    assert "tr.csv" in said


def test_a_folder_without_a_project_says_what_to_do(tmp_path: Path) -> None:
    assert "treadle init" in one_sentence(treadle(tmp_path, "status", expect=3))


def test_unknown_commands_models_runs_versions_and_predictions_are_not_found(tmp_path: Path) -> None:
    folder = write(tmp_path, good_rows())
    assert "Did you mean 'run'" in treadle(folder, "rum", expect=2).stderr
    assert "There is no model 'big'" in one_sentence(treadle(folder, "run", "big", expect=5))
    assert "run-1" in one_sentence(treadle(folder, "runs", "run-1", expect=5))
    assert "no version 7" in one_sentence(treadle(folder, "models", "small", "--version", "7", expect=5))
    assert "p-1" in one_sentence(treadle(folder, "why", "p-1", expect=5))
    assert "not a valid" in one_sentence(treadle(folder, "why", "../../etc/passwd", expect=2))
    assert "Run: treadle run" in one_sentence(treadle(folder, "deploy", expect=5))


def test_a_port_in_use_is_refused_and_another_one_is_suggested(tmp_path: Path) -> None:
    folder = write(tmp_path, good_rows())
    treadle(folder, "run")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        said = one_sentence(treadle(folder, "deploy", "--port", str(taken.getsockname()[1]), expect=6))
    assert "in use" in said
    assert "--port" in said


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 200 kB (needs root, which CI is)."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.root
def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(tmp_path: Path, tiny_disk: Path) -> None:
    folder = write(tmp_path / "project", good_rows(2_000))
    full = {"TREADLE_HOME": str(tiny_disk / "home")}
    said = one_sentence(treadle(folder, "run", expect=7, env=full))
    assert "full" in said or "No space" in said
    subprocess.run(["mount", "-o", "remount,size=50m", str(tiny_disk)], check=True)
    treadle(folder, "run", env=full)


@pytest.mark.root
def test_a_read_only_disk_is_one_sentence(tmp_path: Path, tiny_disk: Path) -> None:
    folder = write(tmp_path / "project", good_rows())
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    said = one_sentence(treadle(folder, "run", expect=7, env={"TREADLE_HOME": str(tiny_disk / "home")}))
    assert "TREADLE_HOME" in said


SLOW = """
def slow(**space):
    import time
    from sklearn.linear_model import LogisticRegression
    class Slow(LogisticRegression):
        def fit(self, X, y):
            time.sleep(60)
            return super().fit(X, y)
    return Slow()
"""


def test_ctrl_c_in_a_step_stops_in_good_order_and_what_had_finished_is_kept(tmp_path: Path) -> None:
    folder = write(tmp_path, good_rows())
    text = (folder / "project.py").read_text()
    (folder / "project.py").write_text(
        text.replace("import treadle as tr\n", "import treadle as tr\n" + SLOW, 1).replace('tr.candidate("logistic")', 'tr.candidate("slow", slow)')
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "run"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "TREADLE_THREADS": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        steps = treadle(folder, "runs", "--json").stdout
        if '"train"' in steps:
            break
        time.sleep(0.2)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130, errors
    assert "Traceback" not in errors
    (folder / "project.py").write_text(text)
    again = treadle(folder, "run")
    assert "= data:data" in again.stderr
    assert "cancelled" in treadle(folder, "runs").stdout
