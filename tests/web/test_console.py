"""The console shows the record to whoever sits at this machine, and to nobody else; it only reads."""

from __future__ import annotations

import html
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.assemble import Workspace
from treadle.core.errors import Conflict, UsageError
from treadle.registry import versions
from treadle.serving.address import free_port
from treadle.web.app import make_app
from treadle.web.console import serve

World = Any


@pytest.fixture(scope="module")
def client(world: World) -> TestClient:
    return TestClient(make_app(world.ws), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def paths(world: World) -> dict[str, str]:
    """Every page by what it shows."""
    version = versions.get(world.model.name, 2, world.ws.ledger)
    return {
        "loop": "/", "model": f"/models/{world.model.name}", "runs": "/runs", "run": f"/runs/{version['run']}", "version": f"/versions/{version.id}",
        "alarm": f"/alarms/{world.alarm}", "why": "/why/p-00007", "events": "/events",
    }  # fmt: skip


def test_every_page_is_there_and_links_to_pages_that_are(client: TestClient, paths: dict[str, str]) -> None:
    seen = set()
    for path in paths.values():
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"].startswith("text/html")
        seen |= set(re.findall(r'href="(/[^"#]*)', answer.text))
    assert len(seen) > 5
    for link in seen:
        assert client.get(link).status_code == 200, link


def test_every_watched_number_is_there_for_prometheus(client: TestClient, world: World) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "treadle_alarms_untold " in answer.text
    assert f'about="{world.model.name}"' in answer.text
    assert all(re.fullmatch(r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+(\{.*\})? -?[0-9.e+-]+", line) for line in answer.text.splitlines())


def test_every_page_is_there_as_json(client: TestClient, paths: dict[str, str]) -> None:
    for path in paths.values():
        answer = client.get("/api" + path)
        assert answer.status_code == 200, path
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()


def test_the_first_page_shows_models_open_alarms_and_the_wheel(client: TestClient, world: World) -> None:
    text = client.get("/").text
    assert "In production: version 2" in text
    assert f"/alarms/{world.alarm}" in text
    assert "turns of the wheel" in text
    assert f'href="/models/{world.model.name}#evidence"' in text


def test_a_runs_page_has_its_steps_with_times_reasons_and_logs(client: TestClient, world: World) -> None:
    first = versions.get(world.model.name, 1, world.ws.ledger)
    text = client.get(f"/runs/{first['run']}").text
    for step in ("data:deliveries", "train", "evaluate", "verdict", "package", "register"):
        assert step in text
    assert "never ran" in text
    assert "trial 1" in text
    assert f"/versions/{first.id}" in text


def test_a_versions_page_has_its_gates_and_how_it_was_made(client: TestClient, paths: dict[str, str]) -> None:
    text = client.get(paths["version"]).text
    assert "beats baseline" in text
    assert "environment" in text
    assert "0.01" in text


def test_a_versions_page_has_the_leaderboard_of_its_search_and_why_the_winner_won(client: TestClient, world: World) -> None:
    search = world.ws.ledger.get("search", versions.get(world.model.name, 1, world.ws.ledger)["trials"])
    text = client.get(f"/versions/{world.model.name}.v1").text
    assert "The leaderboard, by log loss, less is better" in text
    for sentence in search["explanation"]:
        assert sentence in html.unescape(text)
    for trial in search["leaderboard"]:
        assert trial["loss"] is None or f"{trial['loss']:.5f}" in text


def test_the_story_of_a_prediction_reaches_its_version_and_its_outcome(client: TestClient) -> None:
    text = client.get("/why/p-00007").text
    story = client.get("/api/why/p-00007").json()
    assert story["version"]["id"] == "deliveries-late.v1"
    assert "deliveries-late.v1" in text
    assert "Outcome" in text


def test_the_audit_log_says_that_its_chain_is_whole_and_pages_back(client: TestClient) -> None:
    answer = client.get("/api/events").json()
    assert answer["audit"]["whole"] is True
    assert [e["seq"] for e in answer["events"]] == list(range(answer["audit"]["entries"], 0, -1))
    assert [e["seq"] for e in client.get("/api/events?upto=3").json()["events"]] == [3, 2, 1]
    assert "the chain of hashes is whole" in client.get("/events").text


def test_a_changed_entry_of_the_audit_log_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    ledger = world.ws.ledger
    honest = ledger.events_since

    def forged(seq: int = 0, **options: Any) -> Any:
        return [replace(e, actor="somebody else") if e.seq == 2 else e for e in honest(seq, **options)]

    monkeypatch.setattr(ledger, "events_since", forged)
    client = TestClient(make_app(world.ws), base_url="http://127.0.0.1")
    assert "breaks at entry 2" in client.get("/events").text
    assert "The record was changed" in client.get(f"/models/{world.model.name}").text


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/runs/none", "/versions/none.v1", "/alarms/none", "/why/p-none", "/why/%3Cscript%3E", "/models/none", "/events?upto=-1", "/runs/"],
)
def test_what_is_not_known_is_a_page_with_a_sentence(client: TestClient, path: str) -> None:
    answer = client.get(path, follow_redirects=False)
    if path == "/runs/":
        assert answer.status_code == 307
        return
    assert answer.status_code == 404
    assert "Not found" in answer.text
    assert "<script>" not in answer.text.split("<main")[1].split("</main>")[0]
    as_json = client.get("/api" + path)
    assert as_json.status_code == 404
    assert as_json.json()["message"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", "", "127.0.0.1:80:80", "[::2]"])
def test_another_host_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/runs", headers={"host": host})
    assert answer.status_code == 403
    assert "run-" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8800", "localhost:8800", "LOCALHOST", "[::1]:8800", "[::1]"])
def test_this_machine_is_let_in(client: TestClient, host: str) -> None:
    assert client.get("/runs", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_it_only_reads(client: TestClient, method: str) -> None:
    assert client.request(method, "/runs").status_code == 405
    assert client.request(method, "/api/runs").status_code == 405


def test_every_answer_forbids_framing_and_other_origins(client: TestClient, paths: dict[str, str]) -> None:
    for path in [*paths.values(), "/api/runs", "/nothing"]:
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        content = headers["content-security-policy"]
        assert "default-src 'none'" in content
        assert "frame-ancestors 'none'" in content
        assert "http" not in content
        assert "unsafe" not in content
        assert "access-control-allow-origin" not in headers


def test_two_answers_never_share_a_nonce(client: TestClient) -> None:
    assert client.get("/").headers["content-security-policy"] != client.get("/").headers["content-security-policy"]


def test_names_and_sentences_cannot_become_markup(client: TestClient, paths: dict[str, str]) -> None:
    for path in paths.values():
        text = client.get(path).text
        assert "<script>alert" not in text, path
        assert "<b>dispatch</b>" not in text, path
    assert "&lt;/script&gt;" in client.get(paths["alarm"]).text


def test_a_failure_of_ours_is_a_page_with_a_sentence_and_the_same_headers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("the disk is on <fire>")

    monkeypatch.setattr(world.ws.ledger, "find", broken)
    answer = TestClient(make_app(world.ws), base_url="http://127.0.0.1").get("/runs")
    assert answer.status_code == 500
    assert "the disk is on &lt;fire&gt;" in answer.text
    assert answer.headers["x-frame-options"] == "DENY"


def test_a_refused_project_has_a_console_too(refused: Workspace) -> None:
    client = TestClient(make_app(refused), base_url="http://127.0.0.1")
    assert "Refused: not in production" in client.get("/").text
    assert "No evidence that it is" in client.get("/models/coin").text
    assert client.get("/versions/coin.v1").status_code == 200


def test_it_does_not_listen_to_the_network(refused: Workspace) -> None:
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(UsageError, match="does not listen"):
            serve(refused, host, 0)


def test_a_taken_port_is_said_at_once(refused: Workspace) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(Conflict, match="in use"):
            serve(refused, "127.0.0.1", taken.getsockname()[1])


@pytest.mark.story
def test_the_console_runs_as_a_process_and_leaves_when_asked(refused: Workspace) -> None:
    port = free_port("127.0.0.1")
    code = "import sys; from treadle.assemble import open_workspace; from treadle.web.console import serve; serve(open_workspace(sys.argv[1]), port=int(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", code, str(refused.folder), str(port)])
    try:
        assert _get(port, "127.0.0.1")[0] == 200
        assert _get(port, "evil.example")[0] == 403
    finally:
        os.kill(child.pid, signal.SIGTERM)
        assert child.wait(15) == 0


def _get(port: int, host: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": host})
    for _ in range(100):
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the console did not start")


def test_its_templates_and_vendored_files_are_packaged() -> None:
    from importlib import resources

    pages = resources.files("treadle.web.pages")
    for name in ("page.html", "report.html", "home.html", "charts.js", "page.css", "vendor/uPlot.iife.min.js", "vendor/uPlot.LICENSE"):
        assert pages.joinpath(name).is_file()
    assert "MIT" in pages.joinpath("vendor/uPlot.LICENSE").read_text()
    assert Path(str(pages.joinpath("vendor/uPlot.iife.min.js"))).stat().st_size < 80_000
