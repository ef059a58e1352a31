"""Versions change places under load: no request fails, none is answered by two versions, and each answer is that of the version it names."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from treadle.assemble import Workspace
from treadle.client import Endpoint
from treadle.core.errors import TreadleError
from treadle.live import deploy
from treadle.registry import intervene, promote

ROWS = [{"distance": 100.0 * i, "seats": 1 + i, "carrier": "UA" if i % 2 else "AA", "wet": i % 3 == 0, "zone": 7, "at": "2013-04-01T12:00:00Z"} for i in range(32)]
CLIENTS = 4


def swapped_under_load(ws: Workspace, requests: int) -> tuple[int, int, set[int], list[str]]:
    """(answered requests, swaps, versions seen, what went wrong) of `requests` requests of 1 or 5 rows while two versions change places."""
    url = deploy.start(ws, ws.model())["url"]
    said: dict[int, list[float]] = {}
    wrong: list[str] = []
    seen: set[int] = set()
    answered = [0] * CLIENTS
    more = threading.Event()

    def learn(number: int) -> None:
        said[number] = [float(a["probability"]) for a in Endpoint(url).predict_many(ROWS)]

    def client(me: int) -> None:
        endpoint = Endpoint(url, retries=0)
        for n in range(requests // CLIENTS):
            rows = [(n * 7 + me + k) % len(ROWS) for k in range(5 if n % 4 == 0 else 1)]
            try:
                got = endpoint.predict_many([ROWS[i] for i in rows])
            except TreadleError as error:
                wrong.append(str(error))
                continue
            answered[me] += 1
            versions = {int(a["version"]) for a in got}
            seen.update(versions)
            if len(versions) != 1:
                wrong.append(f"one request was answered by versions {versions}")
            version = versions.pop()
            if any(abs(a["probability"] - said[version][i]) > 1e-9 for a, i in zip(got, rows)):
                wrong.append(f"version {version} did not say that")
        more.set()

    learn(1)
    promote.challenge("late", 2, ws.ledger, ws.clock)
    promote.promote("late", {}, ws.ledger, ws.clock, trial=True)
    Endpoint(url).reload()
    learn(2)
    clients = [threading.Thread(target=client, args=(me,)) for me in range(CLIENTS)]
    for one in clients:
        one.start()
    swaps, control = 0, Endpoint(url)
    while not more.is_set():
        time.sleep(0.1)
        now = promote.required("late", ws.ledger)
        intervene.rollback("late", "a swap", ws.ledger, ws.clock, actor="test", to=3 - int(now["champion"]))
        for number in (1, 2):
            version = ws.ledger.get("model_version", f"late.v{number}")
            if version is not None and version["status"] == "rejected":
                ws.ledger.put("model_version", version.id, {**version.body, "status": "approved"})
        control.reload()
        swaps += 1
    for one in clients:
        one.join()
    deploy.stop(ws, "late")
    return sum(answered), swaps, seen, wrong


def test_versions_change_places_under_load_and_nobody_notices(served: Callable[..., Workspace]) -> None:
    ws = served(2, serve="rollback=None")
    answered, swaps, seen, wrong = swapped_under_load(ws, 2_000)
    assert wrong == []
    assert (answered, seen) == (2_000, {1, 2})
    assert swaps >= 2
    assert ws.predictions.count("late")[0] >= 2_000


@pytest.mark.slow
def test_of_a_hundred_thousand_requests_under_swaps_none_fails_and_none_is_mixed(served: Callable[..., Workspace]) -> None:
    """`make test-slow`, or: pytest -m slow tests/web/test_hot_swap.py"""
    ws = served(2, serve="rollback=None")
    answered, swaps, _, wrong = swapped_under_load(ws, 100_000)
    rows: Any = ws.predictions.count("late")[0]
    print(f"{answered:,} requests answered, {len(wrong)} wrong, {swaps} swaps, {rows:,} predictions logged")
    assert wrong == []
    assert answered == 100_000
    assert rows == 2 * len(ROWS) + 100_000 * 2
