"""Several workers on one address are one endpoint: a takeover, a rollback and the kill switch reach all of them, also one that hangs; nobody who asks meanwhile fails."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from treadle.assemble import Workspace
from treadle.client import Endpoint
from treadle.core.errors import NotFound, TreadleError
from treadle.live import deploy
from treadle.live.switch import Done, resume, rollback, stop
from treadle.registry import promote

ROWS = [{"distance": 100.0 * i, "seats": 1 + i, "carrier": "UA" if i % 2 else "AA", "wet": i % 3 == 0, "zone": 7, "at": "2013-04-01T12:00:00Z"} for i in range(8)]
WORKERS = 2


class World:
    def __init__(self, ws: Workspace) -> None:
        self.ws, self.model = ws, ws.model()
        self.record = deploy.start(ws, self.model)
        self.url, self.port = self.record["url"], int(self.record["port"])
        counts = ws.settings.home / "endpoints" / "late"
        while len(list(counts.glob("worker-*.json"))) < WORKERS:  # the first one speaks for all as soon as it answers
            time.sleep(0.05)

    def pids(self) -> list[int]:
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.record["pid"])], capture_output=True, text=True, check=False)
        return [int(pid) for pid in found.stdout.split()]

    def takeover(self, number: int) -> Done:
        """As a person would: a challenger that takes over at once. Seen to be in effect as a switch is."""
        promote.challenge("late", number, self.ws.ledger, self.ws.clock)
        promote.promote("late", {}, self.ws.ledger, self.ws.clock)
        return resume(self.ws, self.model, "wait for it")  # nothing to resume: it waits until all follow

    def answers(self, times: int = 40) -> set[int | str]:
        """What many connections, which the kernel spreads over the workers, are told: versions, or statuses."""
        found: set[int | str] = set()
        for _ in range(times):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            connection.request("POST", "/predict", json.dumps(ROWS[0]), {"Content-Type": "application/json"})
            response = connection.getresponse()
            said = json.loads(response.read())
            found.add(said["version"] if response.status == 200 else f"{response.status} {said['error']}")
            connection.close()
        return found


@pytest.fixture
def world(served: Callable[..., Workspace]) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(count: int = 2) -> World:
        made.append(World(served(count, serve=f"workers={WORKERS}, rollback=None")))
        return made[-1]

    yield make
    for one in made:
        with suppress(NotFound):
            deploy.stop(one.ws, "late")


@pytest.mark.story
def test_a_takeover_a_rollback_and_the_kill_switch_reach_all_workers_under_load_without_a_failed_or_mixed_answer(world: Callable[..., World]) -> None:
    one = world()
    said: dict[int, list[float]] = {1: [float(a["probability"]) for a in Endpoint(one.url).predict_many(ROWS)]}
    wrong: list[str] = []
    seen: list[set[int]] = [set(), set()]
    answered, done = [0, 0], threading.Event()

    def client(me: int) -> None:
        n = 0
        while not done.is_set():
            endpoint = Endpoint(one.url, retries=0)  # a connection a few requests, so that both workers are asked
            for _ in range(5):
                n += 1
                try:
                    got = endpoint.predict_many([ROWS[(n + k) % len(ROWS)] for k in range(3)])
                except TreadleError as error:
                    wrong.append(str(error))
                    continue
                answered[me] += 1
                versions = {int(a["version"]) for a in got}
                seen[me] |= versions
                if len(versions) != 1:
                    wrong.append(f"one request was answered by versions {versions}")
                expected = said.get(versions.pop())
                if expected and any(abs(float(a["probability"]) - expected[(n + k) % len(ROWS)]) > 1e-9 for k, a in enumerate(got)):
                    wrong.append("an answer is not that of its version")
            endpoint.close()

    clients = [threading.Thread(target=client, args=(me,)) for me in (0, 1)]
    for thread in clients:
        thread.start()
    dones: list[Done] = []
    for _ in range(3):
        dones.append(one.takeover(2))
        assert one.answers(10) == {2}
        dones.append(rollback(one.ws, one.model, "a drill"))
        assert one.answers(10) == {1}
        version = one.ws.ledger.get("model_version", "late.v2")
        assert version is not None
        one.ws.ledger.put("model_version", version.id, {**version.body, "status": "approved"})
    done.set()
    for thread in clients:
        thread.join()
    assert wrong == []
    assert min(answered) > 0
    assert seen[0] | seen[1] == {1, 2}
    stopped = stop(one.ws, one.model, "a drill")
    assert one.answers() == {"503 unavailable"}
    assert {d.how for d in [*dones, stopped]} == {"the endpoint follows the record"}
    print(f"{sum(answered):,} requests, switches in effect after {', '.join(f'{d.seconds:.2f}' for d in [*dones, stopped])} s")


@pytest.mark.story
@pytest.mark.parametrize("switch", [stop, rollback])
def test_a_worker_that_hangs_is_replaced_when_a_switch_is_waited_for(world: Callable[..., World], switch: Any) -> None:
    one = world()
    one.takeover(2)
    before = one.pids()
    victim = before[-1]
    os.kill(victim, signal.SIGSTOP)
    done = switch(one.ws, one.model, "one of them hangs")
    assert done.how == "the endpoint follows the record"
    assert one.answers() == ({"503 unavailable"} if switch is stop else {1})
    assert victim not in one.pids()
    assert set(before) - {victim} <= set(one.pids())  # the others were left alone
    print(f"{switch.__name__}: in effect after {done.seconds:.2f} s")
