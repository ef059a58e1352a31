"""A project file and its modules are what the files say, however quickly they change."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SAY = "import sys; from pathlib import Path; from treadle.project_file import load_project; print(load_project(Path(sys.argv[1])).name)"


def said(folder: Path) -> str:
    done = subprocess.run([sys.executable, "-c", SAY, str(folder)], capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    return done.stdout.strip()


def test_an_edit_of_the_same_length_within_the_same_second_is_seen(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("")
    (tmp_path / "project.py").write_text("import treadle as tr\nfrom parts import names\n\np = tr.Project(f'a-{names.NAME}')\n")
    for name in ("one", "two", "six", "ten"):
        (tmp_path / "parts" / "names.py").write_text(f"NAME = '{name}'\n")
        assert said(tmp_path) == f"a-{name}"
    for name in ("e", "f", "g"):
        (tmp_path / "project.py").write_text(f"import treadle as tr\nfrom parts import names\n\np = tr.Project(f'{name}-{{names.NAME}}')\n")
        assert said(tmp_path) == f"{name}-ten"


def test_byte_code_of_a_source_that_rests_is_kept(tmp_path: Path) -> None:
    import os
    import time

    (tmp_path / "project.py").write_text("import treadle as tr\nimport names\n\np = tr.Project(names.NAME)\n")
    (tmp_path / "names.py").write_text("NAME = 'old'\n")
    then = time.time() - 60
    os.utime(tmp_path / "names.py", (then, then))
    assert said(tmp_path) == "old"
    (kept,) = (tmp_path / "__pycache__").glob("names.*.pyc")
    first = kept.stat().st_mtime_ns
    assert said(tmp_path) == "old"
    assert kept.stat().st_mtime_ns == first
