"""The console as people meet it: started on the command line, entered by the printed link, asked by the client and by the command line from elsewhere."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from treadle.access import people, tokens
from treadle.assemble import Workspace, open_workspace
from treadle.client import Server
from treadle.core.errors import Forbidden, Unauthorized, Unavailable, UsageError
from treadle.data.write_project import write_blank
from treadle.serving.address import free_port
from treadle.testing.command import treadle

pytestmark = pytest.mark.story


class Console:
    """A console in a process of its own."""

    def __init__(self, folder: Path, port: int, *arguments: str, **environment: str) -> None:
        self.url, self.folder = f"http://127.0.0.1:{port}", folder
        program = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "console", "--port", str(port), *arguments]
        self.process = subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.url}/health", timeout=5).read()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the console does not answer")

    def end(self) -> int:
        """Stop it as a supervisor would."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.process.wait(20)


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    folder = tmp_path_factory.mktemp("console-story") / "deliveries"
    write_blank(folder, "deliveries")
    return open_workspace(folder)


@pytest.fixture(scope="module")
def console(ws: Workspace) -> Iterator[Console]:
    running = Console(ws.folder, free_port("127.0.0.1"))
    yield running
    assert running.end() == 0


def token(ws: Workspace, name: str, *roles: str) -> str:
    """A token of a person with these roles."""
    people.add_person(name, ws.ledger, ws.clock, actor="a test", roles=roles)
    return tokens.make_token(name, "a test", ws.ledger, ws.clock, actor="a test")[0]


def test_the_printed_link_signs_in_once(console: Console) -> None:
    link = re.search(r"http://\S+", console.said)
    assert link is not None
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    assert "Needs a person now" in browser.open(link[0]).read().decode()
    assert "<h1>Runs</h1>" in browser.open(f"{console.url}/runs").read().decode()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar())).open(link[0])


def test_the_command_line_does_over_there_what_it_does_here(console: Console, ws: Workspace, tmp_path: Path) -> None:
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path)}

    def remote(*arguments: str, expect: int = 0, input: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **elsewhere, "TREADLE_SERVER": console.url, **more}
        program = [sys.executable, "-m", "treadle.cli.main", *arguments]
        done = subprocess.run(program, cwd=tmp_path, env=environment, input=input, capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == expect, done.stdout + done.stderr
        return done

    assert "There is no token" in remote("runs", expect=4).stderr
    word = token(ws, "maria", "ml_engineer")
    said = remote("login", console.url, "--token-stdin", input=word)
    assert "as maria (ml_engineer)" in said.stdout
    kept = tmp_path / "treadle" / "servers.json"
    assert kept.stat().st_mode & 0o077 == 0

    trained = remote("run", "--json")
    run = json.loads(trained.stdout)
    record = ws.ledger.get("run", run["run"] if "run" in run else run["id"])
    assert record is not None
    assert record["by"] == "maria"
    here = treadle(ws.folder, "models", "--json")
    assert json.loads(remote("models", "--json").stdout) == json.loads(here.stdout)
    remote("report", "--out", str(tmp_path / "loop.html"))
    assert "<html" in (tmp_path / "loop.html").read_text()
    assert remote("runs", "no-such-run", expect=5).stderr == treadle(ws.folder, "runs", "no-such-run", expect=5).stderr
    assert "not run by a server" in remote("init", "x", expect=2).stderr
    assert "needs the permission 'deployments.change'" in remote("deploy", expect=4, TREADLE_TOKEN=token(ws, "sten", "data_scientist")).stderr
    assert "does not answer" in remote("--server", "http://127.0.0.1:9", "runs", expect=8, TREADLE_TOKEN=word).stderr
    assert "its own project folder" in remote("-C", "x", "runs", expect=2).stderr


def test_the_client_has_a_method_for_everything_and_errors_are_those_of_the_house(console: Console, ws: Workspace) -> None:
    server = Server(console.url, token(ws, "clio", "devops_engineer"))
    assert server.you_see()["name"] == "clio"
    assert [r["id"] for r in server.every("runs_list", limit=1)] == [r.id for r in ws.ledger.find("run", newest_first=True)]
    assert server.metrics_see().decode().startswith("# HELP")
    with pytest.raises(UsageError, match="page before"):
        server.runs_list(after="x")
    with pytest.raises(Forbidden, match="access"):
        server.access_see()
    with pytest.raises(Unauthorized):
        Server(console.url, "trd_wrong_wrong").home_see()
    with pytest.raises(UsageError, match="in the open"):
        Server("http://treadle.example.com", "trd_x_y")
    with pytest.raises(Unavailable):
        Server("http://127.0.0.1:9", "trd_x_y", retries=0).home_see()


def test_an_open_console_is_refused_until_it_is_safe(ws: Workspace) -> None:
    for environment, says in (
        ({}, "does not listen"),
        ({"TREADLE_CONSOLE_URL": "http://treadle.example.com"}, "in the open"),
        ({"TREADLE_CONSOLE_URL": "https://treadle.example.com"}, "no certificate"),
        ({"TREADLE_CONSOLE_URL": "treadle"}, "no address"),
    ):
        refused = treadle(ws.folder, "console", "--host", "0.0.0.0", "--port", "0", expect=2, env=environment)
        assert says in refused.stderr
