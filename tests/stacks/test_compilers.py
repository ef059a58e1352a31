"""What is compiled says the same as the project: the DAG has its graph, the workflow fails when the gates refuse, the unit starts the endpoint."""

from __future__ import annotations

import ast
import configparser
import json
import os
import shlex
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from treadle.assemble import open_workspace
from treadle.cli.main import main
from treadle.core.errors import UsageError
from treadle.data.write_project import write_blank
from treadle.pipelines.graph import ordered
from treadle.stacks.airflow import compile_airflow, task_id
from treadle.stacks.github import compile_github
from treadle.stacks.systemd import compile_systemd
from treadle.wheel.turn import build

MODEL = "deliveries-late"
STEPS = [("data:rows", []), ("rows", ["data:rows"]), ("train", ["rows"]), ("register", ["train", "data:rows"])]
INSTALL = "treadle[train,serve]==0.1.0"
HOSTILE = ["a'b", 'a"b', "a\nb", "a b", "a;b", "$(id)", "`id`", "{{ dag }}", "a\\b", "%h", "", "-C", "Ä"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The starter project, in a folder whose name needs quoting."""
    path = tmp_path / "two words"
    write_blank(path, "demo")
    return path


def compiled(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(list(arguments)) == 0
    return capsys.readouterr().out


def tasks_of(dag: str) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """Task id to command, and the (upstream, downstream) pairs, read from the text of a DAG."""
    commands, edges = {}, set()
    for node in ast.walk(ast.parse(dag)):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "BashOperator":
            given = {k.arg: ast.literal_eval(k.value) for k in node.keywords}
            commands[given["task_id"]] = given["bash_command"]
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
            edges.add((ast.literal_eval(node.left.slice), ast.literal_eval(node.right.slice)))  # type: ignore[attr-defined]
    return commands, edges


class TestAirflow:
    def test_the_dag_has_the_steps_and_dependencies_of_the_graph(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        ws = open_workspace(folder)
        steps = ordered(build(ws, ws.model(), as_of=None, settings=None, champion=None, cause={}))
        text = compiled(capsys, "-C", str(folder), "compile", "airflow")
        compile(text, "dag.py", "exec")
        commands, edges = tasks_of(text)
        assert list(commands) == [task_id(s.name) for s in steps]
        assert edges == {(task_id(source), task_id(s.name)) for s in steps for source in s.inputs.values()}

    def test_each_task_runs_up_to_its_step_and_the_last_is_judged(self, folder: Path) -> None:
        commands, _ = tasks_of(compile_airflow("demo", "late", STEPS, str(folder)))
        for name, _ in STEPS[:-1]:
            assert shlex.split(commands[task_id(name)]) == ["treadle", "-C", str(folder), "run", "late", "--until", name]
        assert shlex.split(commands["register"]) == ["treadle", "-C", str(folder), "run", "late"]
        assert all(command.endswith(" ") for command in commands.values())  # else Airflow may look for a template file of that name

    def test_a_schedule_is_a_cron_expression(self) -> None:
        assert "schedule='0 6 * * MON'" in compile_airflow("demo", "late", STEPS, "/srv/demo", "0 6 * * MON")
        assert "schedule=None" in compile_airflow("demo", "late", STEPS, "/srv/demo")
        for wrong in ("now", "* * *", "0 6 * * *\n", "'", "0 6 * * *'"):
            with pytest.raises(UsageError, match="schedule"):
                compile_airflow("demo", "late", STEPS, "/srv/demo", wrong)

    def test_steps_that_are_no_graph_or_could_share_a_task_are_refused(self) -> None:
        with pytest.raises(UsageError, match="does not come before"):
            compile_airflow("demo", "late", [("train", ["rows"]), ("rows", [])], "/srv/demo")
        with pytest.raises(UsageError, match="not a valid step"):
            compile_airflow("demo", "late", [("a__b", []), ("a:b", [])], "/srv/demo")


class TestGithub:
    def workflow(self, text: str) -> dict[Any, Any]:
        loaded: dict[Any, Any] = yaml.safe_load(text)
        return loaded

    def test_it_checks_out_installs_and_runs_on_push(self) -> None:
        made = self.workflow(compile_github("demo", "late", "models/late", INSTALL))
        assert made[True] == {"push": {}}  # YAML 1.1 reads `on` as true
        assert made["permissions"] == {"contents": "read"}
        steps = made["jobs"]["run"]["steps"]
        assert [s["uses"].split("@")[0] for s in steps[:2]] == ["actions/checkout", "actions/setup-python"]
        assert shlex.quote(INSTALL) in steps[2]["run"]
        assert "treadle -C models/late run late --json" in steps[3]["run"]

    @pytest.mark.parametrize("code", [0, 4, 3])
    def test_its_script_ends_with_the_runs_code_and_tells_the_verdict(self, code: int, tmp_path: Path) -> None:
        finding = {"gate": "beats_baseline", "passed": code == 0, "reason": "no better than <chance>\nat all"}
        said = json.dumps({"version": "late.v1", "verdict": {"passed": code == 0, "findings": [finding]}}) if code in (0, 4) else ""
        fake = tmp_path / "bin" / "treadle"
        fake.parent.mkdir()
        fake.write_text(f"#!/bin/sh\ncat {shlex.quote(str(tmp_path / 'said'))}\nexit {code}\n")
        fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
        (tmp_path / "said").write_text(said)
        (tmp_path / "bin" / "python").symlink_to(sys.executable)
        script = self.workflow(compile_github("demo", "late", ".", INSTALL))["jobs"]["run"]["steps"][3]["run"]
        env = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
        done = subprocess.run(["bash", "-e", "-c", script], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        summary = (tmp_path / "summary").read_text()
        told = {0: "may go to production", 4: "**FAILED** beats_baseline: no better than &lt;chance&gt; at all", 3: "ended with code 3"}
        assert told[code] in summary

    def test_the_folder_is_named_as_the_repository_sees_it(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder.parent / ".git").mkdir()
        assert "treadle -C 'two words' run deliveries-late --json" in compiled(capsys, "-C", str(folder), "compile", "github", MODEL)
        with pytest.raises(UsageError, match="leaves the repository"):
            compile_github("demo", "late", "../other", INSTALL)


class TestSystemd:
    def test_the_unit_starts_the_endpoint_and_starts_it_again(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        text = compiled(capsys, "-C", str(folder), "compile", "systemd", "--port", "8765")
        unit = configparser.ConfigParser(interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(text)
        service = unit["Service"]
        words = shlex.split(service["ExecStart"])
        given = dict(zip(words[3::2], words[4::2]))
        assert words[:3] == [sys.executable, "-m", "treadle.web.workers"]
        assert given == {"--folder": str(folder), "--model": MODEL, "--host": "127.0.0.1", "--port": "8765"}
        assert service["Restart"] == "on-failure"
        assert service["WorkingDirectory"] == str(folder)

    def test_without_a_fixed_port_it_is_refused(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["-C", str(folder), "compile", "systemd"]) == 2
        assert "fixed port" in capsys.readouterr().err


class TestNames:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_a_name_outside_the_grammar_is_refused_everywhere(self, text: str) -> None:
        for attempt in (
            lambda: compile_airflow(text, "late", STEPS, "/srv/demo"),
            lambda: compile_airflow("demo", text, STEPS, "/srv/demo"),
            lambda: compile_airflow("demo", "late", [(text, [])], "/srv/demo"),
            lambda: compile_github("demo", text, ".", INSTALL),
            lambda: compile_github("demo", "late", ".", f"{text}; id"),
            lambda: compile_systemd("demo", text, "/srv/demo", python="/usr/bin/python3", host="127.0.0.1", port=1, user="me"),
            lambda: compile_systemd("demo", "late", "/srv/demo", python="/usr/bin/python3", host=f"{text} x", port=1, user="me"),
            lambda: compile_systemd("demo", "late", "/srv/demo", python="/usr/bin/python3", host="::1", port=1, user=f"{text}\nx"),
        ):
            with pytest.raises(UsageError):
                attempt()

    @pytest.mark.parametrize("path", ["/srv/a'b", '/srv/a"b', "/srv/a\nb", "/srv/{{ x }}", "/srv/%h", "/srv/$HOME", "relative", "", "/srv/a\\"])
    def test_a_path_outside_the_grammar_is_refused(self, path: str) -> None:
        with pytest.raises(UsageError):
            compile_airflow("demo", "late", STEPS, path)
        with pytest.raises(UsageError):
            compile_systemd("demo", "late", path, python="/usr/bin/python3", host="127.0.0.1", port=1, user="me")


class TestWriting:
    def test_the_file_is_written_whole_and_again_but_never_over_anothers(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        out = folder / "dags" / "late.py"
        for _ in range(2):
            compiled(capsys, "-C", str(folder), "compile", "airflow", "--out", str(out))
        assert out.read_text() == compiled(capsys, "-C", str(folder), "compile", "airflow")
        assert [p.name for p in out.parent.iterdir()] == ["late.py"]
        out.write_text("mine")
        assert main(["-C", str(folder), "compile", "airflow", "--out", str(out)]) == 6
        assert out.read_text() == "mine"

    def test_an_option_of_another_engine_is_wrong_use(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["-C", str(folder), "compile", "github", "--port", "1"]) == 2
        assert main(["-C", str(folder), "compile", "systemd", "--schedule", "@daily"]) == 2
        assert main(["-C", str(folder), "compile", "airflow", "no-such-model"]) == 5
