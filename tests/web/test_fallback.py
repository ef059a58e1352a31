"""A version that should answer and cannot be opened: the one before answers, everybody is told, and the intent is served as soon as it can be."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from treadle.assemble import Workspace
from treadle.client import Endpoint
from treadle.core.errors import Unavailable
from treadle.live import deploy, rollout
from treadle.live.switch import rollback
from treadle.monitoring import alarms
from treadle.registry import intervene, promote, versions
from treadle.testing.command import treadle

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}
Served = Callable[..., Workspace]


def flip(ws: Workspace, number: int, name: str = "model.onnx") -> None:
    """Change one byte of a version's package; done again, it is whole."""
    file = Path(ws.blobs.path(versions.get("late", number, ws.ledger)["package"]["files"][name]))  # type: ignore[attr-defined]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(content))


class World:
    def __init__(self, ws: Workspace) -> None:
        self.ws, self.model = ws, ws.model()

    def promoted(self, *numbers: int) -> None:
        for number in numbers:
            promote.challenge("late", number, self.ws.ledger, self.ws.clock)
            promote.promote("late", {}, self.ws.ledger, self.ws.clock)

    def start(self) -> None:
        self.said: list[str] = []
        self.record = deploy.start(self.ws, self.model, tell=self.said.append)
        self.url = self.record["url"]

    def killed(self) -> None:
        os.killpg(self.record["pid"], signal.SIGKILL)
        os.waitpid(self.record["pid"], 0)

    def version(self) -> int:
        return int(Endpoint(self.url).predict(ROW)["version"])

    def ready(self) -> tuple[int, Any]:
        answer = httpx.get(f"{self.url}/health/ready")
        return answer.status_code, answer.json()

    def metric(self, name: str) -> str:
        text = httpx.get(f"{self.url}/metrics").text
        return next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name + "{"))

    def events(self, kind: str) -> list[Any]:
        return [e.body for e in self.ws.ledger.events_since(limit=10_000, kinds=[kind])]

    def look(self) -> list[str]:
        told: list[str] = []
        rollout.rollout(self.ws, self.model, told.append)
        return told

    def eventually(self, wanted: int) -> None:
        end = time.monotonic() + 60
        while self.version() != wanted:
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def world(served: Served) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(count: int = 2, **options: Any) -> World:
        made.append(World(served(count, **options)))
        return made[-1]

    yield make
    for one in made:
        if deploy.running_endpoint(one.ws, "late") is not None:
            deploy.stop(one.ws, "late")


@pytest.mark.story
def test_an_endpoint_that_finds_its_champion_changed_answers_with_the_one_before_and_says_so_until_it_is_mended(world: Callable[..., World]) -> None:
    one = world(3)
    one.promoted(2, 3)
    one.start()
    assert one.version() == 3
    flip(one.ws, 3)
    assert one.version() == 3  # what is loaded is whole
    one.killed()
    one.start()
    assert one.version() == 2
    assert any("Version 3 should answer as champion and cannot be opened, so version 2 answers instead" in line for line in one.said)
    status, said = one.ready()
    assert (status, said["status"], said["version"], said["missed"][0]["version"], said["missed"][0]["role"]) == (200, "ready", 2, 3, "champion")
    assert str(one.ws.folder) not in json.dumps(said)
    assert one.metric("treadle_versions_missed") == "1"
    (event,) = one.events("endpoint.refused")
    assert (event["version"], event["answers"], event["role"]) == (3, 2, "champion")
    assert "another hash" in event["error"] or "changed" in event["error"]
    assert len(one.look()) == 1
    assert one.look() == []  # told once
    (alarm,) = alarms.open_alarms("late", one.ws.ledger)
    assert (alarm["kind"], alarm["version"], alarm["severity"]) == ("fallback", 3, "high")
    assert "version 2 answers instead" in treadle(one.ws.folder, "rollout").stdout
    assert "version 2 answers instead" in treadle(one.ws.folder, "status").stdout
    assert promote.required("late", one.ws.ledger)["champion"] == 3  # what is wanted has not changed
    flip(one.ws, 3)
    one.eventually(3)  # by itself
    assert one.ready() == (200, {"status": "ready"})
    assert one.metric("treadle_versions_missed") == "0"
    assert one.events("endpoint.converged") == [{"deployment": promote.required("late", one.ws.ledger).version, "answers": 3}]
    one.look()
    assert alarms.open_alarms("late", one.ws.ledger) == []


@pytest.mark.story
def test_versions_that_are_broken_or_were_thrown_out_are_passed_over_and_without_any_the_endpoint_says_why(world: Callable[..., World]) -> None:
    one = world(4)
    one.promoted(2, 3, 4)
    version = versions.get("late", 3, one.ws.ledger)
    one.ws.ledger.put(versions.KIND, version.id, {**version.body, "status": "rejected"})
    for number in (2, 4):
        flip(one.ws, number, "manifest.json")
    one.start()
    assert one.version() == 1
    one.killed()
    flip(one.ws, 1)
    with pytest.raises(Unavailable, match=r"another hash|changed"):
        one.start()


@pytest.mark.story
def test_a_running_endpoint_keeps_answering_and_a_challenger_that_cannot_be_opened_is_left_out(world: Callable[..., World]) -> None:
    one = world(3)
    one.start()
    flip(one.ws, 2)
    promote.challenge("late", 2, one.ws.ledger, one.ws.clock)
    Endpoint(one.url).reload()
    assert one.version() == 1
    assert one.ready()[1]["missed"][0]["role"] == "challenger"
    promote.promote("late", {}, one.ws.ledger, one.ws.clock)
    Endpoint(one.url).reload()
    assert one.version() == 1
    assert one.ready()[1]["missed"][0]["role"] == "champion"
    intervene.stop("late", "to see", one.ws.ledger, one.ws.clock, actor="me")
    Endpoint(one.url).reload()
    assert one.ready()[0] == 503
    with pytest.raises(Unavailable):
        one.version()
    intervene.resume("late", "seen", one.ws.ledger, one.ws.clock, actor="me")
    Endpoint(one.url).reload()
    assert one.version() == 1
    done = rollback(one.ws, one.model, "2 is broken")  # the intent is again what answers
    assert (done.record["champion"], done.how) == (1, "the endpoint follows the record")
    assert one.ready() == (200, {"status": "ready"})


@pytest.mark.story
def test_a_version_that_kills_the_process_that_loads_it_is_let_be_and_the_one_before_answers(world: Callable[..., World]) -> None:
    one = world(2)
    one.promoted(2)
    marks = one.ws.settings.home / "endpoints" / "late"
    marks.mkdir(parents=True)
    deployment = promote.required("late", one.ws.ledger).version
    mark = marks / "loading-0-2.json"  # as two processes leave it that were killed while they loaded
    mark.write_text(json.dumps({"deployment": deployment, "deaths": 2}))
    one.start()
    assert one.version() == 1
    assert "died 2 times while it loaded version 2" in one.ready()[1]["missed"][0]["why"]
    os.utime(mark, (0, 0))  # long ago: it is tried again
    Endpoint(one.url).reload()
    assert one.version() == 2
    assert not mark.exists()
