"""An endpoint that is killed in the middle of takeovers, rollbacks and stops: the next process serves what the registry wants, and the record agrees with itself."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.client import Endpoint
from treadle.core.errors import Conflict, NotFound, Refused, TreadleError, Unavailable
from treadle.live import deploy
from treadle.registry import intervene, promote, versions

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}
VERSIONS = 3


def meddle(folder: Path, chance: random.Random, done: threading.Event, count: list[int]) -> None:
    """Change the deployment again and again, as people and evidence do; how often goes into `count`."""
    ws, changes = open_workspace(folder), 0
    while not done.is_set():
        record = promote.required("late", ws.ledger)
        with suppress(Conflict, Refused):
            what = chance.choice(["challenge", "canary", "promote", "promote", "rollback", "stop", "resume", "resume"])
            if what == "challenge":
                promote.challenge("late", chance.randint(1, VERSIONS), ws.ledger, ws.clock)
            elif what == "canary":
                promote.canary("late", 0.5, {}, ws.ledger, ws.clock)
            elif what == "promote":
                if record["challenger"] is None:
                    promote.challenge("late", chance.choice([n for n in range(1, VERSIONS + 1) if n != record["champion"]]), ws.ledger, ws.clock)
                promote.promote("late", {}, ws.ledger, ws.clock, trial=chance.random() < 0.5)
            elif what == "rollback":
                intervene.rollback("late", "chance", ws.ledger, ws.clock, actor="chance")
            elif what == "stop":
                intervene.stop("late", "chance", ws.ledger, ws.clock, actor="chance")
            else:
                intervene.resume("late", "chance", ws.ledger, ws.clock, actor="chance")
            changes += 1
        for version in versions.all_versions("late", ws.ledger):  # else all were thrown out soon
            if version["status"] == "rejected":
                ws.ledger.put(versions.KIND, version.id, {**version.body, "status": "approved"})
        time.sleep(chance.random() * 0.02)
    count.append(changes)


def converged(ws: Workspace, url: str) -> None:
    """What is answered is what the record says, and the statuses of the versions say the same."""
    record = promote.required("late", ws.ledger)
    wanted = "stopped" if record.get("stopped") else record["champion"]
    end = time.monotonic() + 60
    while True:
        says = ws.ledger.get("endpoint", "late")
        try:
            told = Endpoint(url, retries=0).predict_many([ROW] * 20)
            answers: set[object] = {a["version"] for a in told}
        except Unavailable:
            answers = {"stopped"}
        heard = {record["champion"], record["challenger"]} if record["stage"] in promote.HEARD and wanted != "stopped" else {wanted}
        if answers <= heard and says is not None and says["deployment"] == record.version:
            break
        assert time.monotonic() < end, (answers, wanted, record.body, says)
        time.sleep(0.05)
    assert not says["missed"]
    status = {int(v["number"]): v["status"] for v in versions.all_versions("late", ws.ledger)}
    assert status[record["champion"]] == "champion"
    assert [n for n, s in status.items() if s == "champion"] == [record["champion"]]
    assert [n for n, s in status.items() if s == "challenger"] == ([record["challenger"]] if record["challenger"] else [])


def killed(ws: Workspace, rounds: int, seed: int) -> tuple[int, float]:
    """(changes, the longest time until it answered as it should) of so many endpoints killed at random moments."""
    chance = random.Random(seed)
    changes, longest = 0, 0.0
    record = deploy.start(ws, ws.model())
    for _ in range(rounds):
        done = threading.Event()
        count: list[int] = []
        meddler = threading.Thread(target=meddle, args=(ws.folder, random.Random(chance.random()), done, count))
        meddler.start()
        time.sleep(chance.random() * 0.8)
        os.killpg(int(record["pid"]), signal.SIGKILL)
        os.waitpid(int(record["pid"]), 0)
        begun = time.monotonic()
        if chance.random() < 0.5:  # the next one begins in the middle of it
            record = deploy.start(ws, ws.model())
            done.set()
            meddler.join()
        else:
            done.set()
            meddler.join()
            record = deploy.start(ws, ws.model())
        converged(ws, record["url"])
        longest = max(longest, time.monotonic() - begun)
        changes += count[0]
    with suppress(NotFound, TreadleError):
        deploy.stop(ws, "late")
    return changes, longest


@pytest.mark.story
def test_a_killed_endpoint_comes_back_with_what_the_registry_wants(served: Callable[..., Workspace]) -> None:
    changes, longest = killed(served(VERSIONS, serve="rollback=None"), 3, 7)
    print(f"{changes} changes, 3 kills, as it should be after at most {longest:.2f} s")
    assert changes > 3


@pytest.mark.slow
def test_forty_killed_endpoints_come_back_with_what_the_registry_wants(served: Callable[..., Workspace]) -> None:
    """`make test-slow`, or: pytest -m slow tests/web/test_converges.py -s"""
    changes, longest = killed(served(VERSIONS, serve="rollback=None"), 40, 11)
    print(f"{changes} changes, 40 kills, as it should be after at most {longest:.2f} s")
