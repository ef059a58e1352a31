"""Through the real endpoint: a version that breaks its limits is thrown out within seconds, and a person's switch is in effect within five."""

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
from treadle.core.errors import Corrupt, StorageError, Unavailable
from treadle.live import deploy
from treadle.live.switch import GIVE_UP_SECONDS, resume, rollback, stop
from treadle.registry import promote, versions
from treadle.testing.command import treadle

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}
BAD = {**ROW, "carrier": "AA"}
Served = Callable[..., Workspace]


class World:
    def __init__(self, ws: Workspace) -> None:
        self.ws, self.model = ws, ws.model()
        self.record = deploy.start(ws, self.model)
        self.endpoint = Endpoint(self.record["url"])

    def bring(self, number: int, stage: str, share: float = 0.5) -> None:
        promote.challenge("late", number, self.ws.ledger, self.ws.clock)
        if stage in ("canary", "ab"):
            promote.canary("late", share, {}, self.ws.ledger, self.ws.clock, stage=stage)
        elif stage in ("champion", "trial"):
            promote.promote("late", {}, self.ws.ledger, self.ws.clock, trial=stage == "trial")
        self.endpoint.reload()

    @property
    def now(self) -> tuple[Any, Any, Any]:
        record = promote.required("late", self.ws.ledger)
        return record["champion"], record["challenger"], record["stage"]

    def ask(self, row: dict[str, Any] = ROW) -> int | str:
        try:
            return int(self.endpoint.predict(row)["version"])
        except (StorageError, Unavailable) as error:
            return type(error).__name__


@pytest.fixture
def world(served: Served) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(count: int = 2, **options: Any) -> World:
        made.append(World(served(count, **options)))
        return made[-1]

    yield make
    for one in made:
        one.endpoint.close()
        if deploy.running_endpoint(one.ws, "late") is not None:
            deploy.stop(one.ws, "late")


def test_a_champion_that_answers_nonsense_is_replaced_by_the_one_before_without_anybody(world: Callable[..., World]) -> None:
    one = world(2, broken=(2,))
    one.bring(2, "champion")
    said = []
    begun = time.monotonic()
    while time.monotonic() - begun < 30 and (not said or said[-1] != 1):
        said.append(one.ask(BAD))
        time.sleep(0.01)
    assert said[0] == "Corrupt"
    assert said[-1] == 1
    assert set(said) == {"Corrupt", 1}  # never a wrong answer
    assert one.now == (1, None, "none")
    event = [e for e in one.ws.ledger.events_since(limit=10_000) if e.kind == "deployment.rolled_back"][-1]
    assert (event.actor, event.body["from"], event.body["to"], event.body["evidence"]["limit"]) == ("treadle (endpoint)", 2, 1, "errors")
    assert "calls failed; 1 % are allowed" in event.body["reason"]


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_a_challenger_that_fails_is_thrown_out_and_no_caller_notices(world: Callable[..., World], stage: str) -> None:
    one = world(2, broken=(2,))
    one.bring(2, stage)
    begun, said = time.monotonic(), []
    while time.monotonic() - begun < 30 and one.now[1] is not None:
        said.append(one.ask(BAD))
        time.sleep(0.005)
    assert one.now == (1, None, "none")
    assert set(said) == {1}


def test_a_version_that_is_well_stays(world: Callable[..., World]) -> None:
    one = world(2)
    one.bring(2, "trial")
    for _ in range(300):
        assert one.ask() == 2
    time.sleep(1.2)  # two looks
    assert one.now == (2, None, "trial")


def test_without_a_version_to_go_back_to_it_is_said_once_and_the_others_are_answered(world: Callable[..., World]) -> None:
    one = world(1, broken=(1,))
    begun = time.monotonic()
    events: list[Any] = []
    while time.monotonic() - begun < 30 and not events:
        one.ask(BAD)
        events = [e for e in one.ws.ledger.events_since(limit=10_000) if e.kind == "endpoint.failing"]
    time.sleep(1.2)
    assert len([e for e in one.ws.ledger.events_since(limit=10_000) if e.kind == "endpoint.failing"]) == 1
    assert one.ask() == 1


def test_a_persons_rollback_is_in_effect_when_the_command_says_so(world: Callable[..., World]) -> None:
    one = world(2)
    one.bring(2, "champion")
    assert one.ask() == 2
    done = rollback(one.ws, one.model, "it is wrong at night")
    assert one.ask() == 1
    assert done.how == "the endpoint follows the record"


def test_the_kill_switch_stops_answers_and_nothing_but_a_person_starts_them_again(world: Callable[..., World]) -> None:
    one = world(2)
    stop(one.ws, one.model, "wrong prices")
    assert (one.ask(), one.endpoint.ready(), one.endpoint.live()) == ("Unavailable", False, True)
    one.bring(2, "champion")
    assert one.ask() == "Unavailable"
    os.kill(one.record["pid"], signal.SIGKILL)  # a new process finds the same intent
    os.waitpid(one.record["pid"], 0)
    one.endpoint = Endpoint(deploy.start(one.ws, one.model)["url"])
    assert one.ask() == "Unavailable"
    resume(one.ws, one.model, "prices are right")
    assert one.ask() == 2


@pytest.mark.parametrize("switch", [stop, rollback])
def test_an_endpoint_that_hangs_is_killed_and_comes_back_only_after_a_rollback(world: Callable[..., World], switch: Callable[..., Any]) -> None:
    one = world(2)
    one.bring(2, "champion")
    os.killpg(one.record["pid"], signal.SIGSTOP)
    done = switch(one.ws, one.model, "it hangs")
    assert f"the endpoint (process {one.record['pid']}) did not react" in done.how
    running = deploy.running_endpoint(one.ws, "late")
    if switch is stop:
        assert running is None
        assert GIVE_UP_SECONDS + 0.5 < 5  # what it waits for in all, before it kills
    else:
        assert running is not None
        assert Endpoint(running["url"]).predict(ROW)["version"] == 1


def test_the_commands_say_who_what_and_how_soon(world: Callable[..., World]) -> None:
    one = world(2)
    one.bring(2, "canary", 0.3)
    folder = one.ws.folder
    assert "version 1 answers with version 2 in canary (30% of the requests)" in treadle(folder, "rollout").stdout
    back = treadle(folder, "rollback", "--reason", "not now")
    assert "version 1 of late answers instead of version 2: not now" in back.stdout
    assert "the endpoint follows the record" in back.stdout
    assert "1 is the first" in treadle(folder, "rollback", "late", "--reason", "again", expect=4).stderr
    assert "needs a reason" in treadle(folder, "stop", "--kill", expect=2).stderr
    assert "late is stopped by" in treadle(folder, "stop", "late", "--kill", "--reason", "fire").stdout
    assert "was stopped by" in treadle(folder, "rollout").stdout
    assert json.loads(treadle(folder, "rollout", "--json").stdout)["stopped"]["reason"] == "fire"
    assert "version 1 of late answers again: the fire is out" in treadle(folder, "resume", "late", "--reason", "the fire is out").stdout
    assert Endpoint(deploy.start(one.ws, one.model)["url"]).predict(ROW)["version"] == 1


def test_a_rollback_passes_over_a_version_of_which_one_byte_was_changed(served: Served) -> None:
    ws = served(3)
    for number in (2, 3):
        promote.challenge("late", number, ws.ledger, ws.clock)
        promote.promote("late", {}, ws.ledger, ws.clock)
    address = versions.get("late", 2, ws.ledger)["package"]["files"]["model.onnx"]
    file = Path(ws.blobs.path(address))  # type: ignore[attr-defined]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(bytes(content))
    with pytest.raises(Corrupt):
        rollback(ws, ws.model(), "it is wrong", to=2)
    assert promote.required("late", ws.ledger)["champion"] == 3
    done = rollback(ws, ws.model(), "it is wrong")
    assert (done.record["champion"], done.how) == (1, "no endpoint runs; the next one follows the record")


def test_a_caller_named_by_a_header_stays_on_one_side_over_http(world: Callable[..., World]) -> None:
    one = world(2, serve='key="header:x-user"')
    one.bring(2, "canary", 0.5)
    sides = {}
    for user in map(str, range(24)):
        answers = [httpx.post(f"{one.record['url']}/predict", json=ROW, headers={"X-User": user}).json()["version"] for _ in range(2)]
        assert answers[0] == answers[1]
        sides[user] = answers[0]
    assert set(sides.values()) == {1, 2}
