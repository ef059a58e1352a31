"""What is compiled for `treadle up` says what it runs, and takes nothing that could say more."""

from __future__ import annotations

import configparser
import json
from pathlib import Path

import pytest

from treadle.core.errors import UsageError
from treadle.stacks.up import compile_container, compile_unit
from treadle.testing.command import treadle


def test_the_unit_runs_up_with_its_roles_and_lets_it_stop_its_parts() -> None:
    text = compile_unit("orders", "/srv/orders", python="/opt/v/bin/python", user="shop", roles=("watch", "scheduler"))
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    assert unit["Service"]["ExecStart"] == '"/opt/v/bin/python" -m treadle.cli.main -C "/srv/orders" up --role watch --role scheduler --every 60'
    assert unit["Service"]["KillMode"] == "mixed"
    assert unit["Service"]["Restart"] == "on-failure"


def test_the_container_file_runs_up_as_nobody_special() -> None:
    text = compile_container("orders", requirement="treadle[train,serve]==0.1.0", port=8765, roles=("endpoints",))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert lines[0].startswith("FROM ")
    assert json.loads(lines[-1].removeprefix("CMD ")) == ["up", "--role", "endpoints"]
    assert lines.index("USER treadle") < lines.index("STOPSIGNAL SIGTERM")
    assert "EXPOSE 8765" in lines


@pytest.mark.parametrize("wrong", [
    lambda: compile_unit("orders", "/srv/or\nders", python="/p", user="u"), lambda: compile_unit("or ders", "/srv", python="/p", user="u"),
    lambda: compile_unit("orders", "/srv", python="/p", user="u", roles=("a b",)), lambda: compile_container("orders", requirement="treadle[x]==1", port=0),
    lambda: compile_container("orders", requirement='x" && rm -rf "', port=80),
])  # fmt: skip
def test_what_could_break_out_of_a_file_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError):
        wrong()  # type: ignore[operator]


@pytest.mark.story
def test_the_command_writes_both(tiny: object, tmp_path: Path) -> None:
    folder = tiny.folder  # type: ignore[attr-defined]
    assert "treadle.cli.main" in treadle(folder, "compile", "up", "--role", "watch").stdout
    treadle(folder, "compile", "container", "--port", "8765", "--out", str(tmp_path / "Containerfile"))
    assert "EXPOSE 8765" in (tmp_path / "Containerfile").read_text()
    assert "is no role" in treadle(folder, "compile", "up", "--role", "cook", expect=2).stderr
