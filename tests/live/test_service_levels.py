"""Levels and ages that a project declares: counted from the endpoint's own counters, one alarm for one cause, over when they are kept again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

import treadle as tr
from treadle.assemble import Workspace
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.core.clock import ReplayClock, parse_time
from treadle.core.declare.operations import JUDGED
from treadle.live import deploy, service_levels
from treadle.monitoring import alarms
from treadle.monitoring.detectors import service
from treadle.monitoring.detectors.service import Service
from treadle.ports.predictions import Outcome, Prediction

NOW = parse_time("2024-03-01T12:30:00")
MODEL: Any = SimpleNamespace(name="m")


def world(levels: Any, trained_to: str = "2024-02-20T00:00:00.000000Z") -> Any:
    ledger = MemoryLedger()
    ledger.put("deployment", "m", {"champion": 1, "challenger": None, "stage": "none"})
    ledger.put("model_version", "m.v1", {"model": "m", "number": 1, "trained_to": trained_to, "as_of": ""})
    watch = SimpleNamespace(levels=levels, kinds=JUDGED)
    return SimpleNamespace(ledger=ledger, clock=ReplayClock(NOW), predictions=MemoryPredictions(), watch_of=lambda model: watch)


def seen(monkeypatch: pytest.MonkeyPatch, **counts: Any) -> None:
    made = Service(counts.get("requests", 0), counts.get("failed", 0), counts.get("shed", 0), counts.get("within", {}))
    monkeypatch.setattr(service_levels, "_read", lambda ws, model: made)


def test_failed_requests_are_told_in_the_hour_they_come_and_over_when_they_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    ws = world(tr.levels(errors="1%"))
    seen(monkeypatch, requests=10_000, failed=10)
    assert service_levels.look(ws, MODEL) == []
    seen(monkeypatch, requests=11_000, failed=510)
    [raised] = service_levels.look(ws, MODEL)
    assert (raised["kind"], raised["metric"], raised["suspected"]) == ("service", "errors", "pipeline bug")
    assert "4.6% of the requests failed" in raised["sentence"]
    seen(monkeypatch, requests=12_000, failed=1_200)
    assert service_levels.look(ws, MODEL) == []  # it is the same cause
    ws.clock = ReplayClock(NOW + timedelta(hours=30))
    seen(monkeypatch, requests=30_000, failed=1_200)
    assert service_levels.look(ws, MODEL) == []
    assert ws.ledger.get(alarms.KIND, raised.id)["resolution"] == "the level is kept again"


def test_slow_and_shed_requests_have_an_allowance_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    ws = world(tr.levels(p99="50ms", shed="1%"))
    seen(monkeypatch, requests=1_000, shed=500, within={0.05: 700, 0.1: 1_000, float("inf"): 1_000})
    raised = service_levels.look(ws, MODEL)
    opened = alarms.open_alarms("m", ws.ledger)
    assert len(raised) == len(opened) == 1  # one kind, one alarm, which names both
    told = {opened[0]["metric"], *(a["metric"] for a in opened[0]["again"])}
    assert told == {"shed", "p99"}
    assert service_levels.look(ws, MODEL) == []


def test_an_endpoint_that_began_anew_is_counted_from_nothing_and_a_clock_that_jumps_back_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    ws = world(tr.levels(errors="1%"))
    for at, requests in ((0, 500), (0, 800), (0, 100), (-5, 200), (400, 300)):
        ws.clock = ReplayClock(NOW + timedelta(hours=at))
        seen(monkeypatch, requests=requests)
        service_levels.counted(ws, "m")
    assert sum(r["counts"]["requests"] for r in ws.ledger.find(service_levels.HOURS, {"model": "m"})) == 500 + 300 + 100 + 100 + 100


def test_without_an_endpoint_or_with_few_requests_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ws = world(tr.levels(errors="1%", p99="1ms"))
    monkeypatch.setattr(service_levels, "_read", lambda ws, model: None)
    assert service_levels.look(ws, MODEL) == []
    seen(monkeypatch, requests=50, failed=50)
    assert service_levels.look(ws, MODEL) == []
    assert service.score([], {"errors": 0.01}) == {}


def test_what_grows_old_is_told_once_until_it_is_new_again() -> None:
    ws = world(tr.levels(model_age="5d", quiet="1d", truth_age="3d"))
    raised = service_levels.look(ws, MODEL)
    assert [a["metric"] for a in raised] == ["model_age"]
    [alarm] = alarms.open_alarms("m", ws.ledger)
    assert "10 days old, where 5 days may pass" not in alarm["sentence"] or alarm["kind"] == "staleness"
    assert {a["metric"] for a in alarm["again"]} == {"quiet"}  # no prediction was ever asked for
    assert service_levels.look(ws, MODEL) == []
    moment = int(NOW.timestamp() * 1e6)
    ws.predictions.write([Prediction("p", "m", moment, moment, 1, "champion", (0.5, 0.5), 0, (), b"{}", b"[]", 5)], [Outcome("p", True, moment)])
    ws.ledger.put("model_version", "m.v1", {"model": "m", "number": 1, "trained_to": "2024-03-01T00:00:00.000000Z", "as_of": ""})
    assert service_levels.look(ws, MODEL) == []
    assert alarms.open_alarms("m", ws.ledger) == []
    ws.clock = ReplayClock(NOW + timedelta(days=4))
    found = {f.metric: f.sentence for f in service_levels.aged(ws, "m", 1, tr.levels(quiet="1d", truth_age="3d"), ws.clock.now())}
    assert found["quiet"] == "The newest prediction was asked for 4 days ago, where 24 hours may pass."
    assert found["truth_age"] == "The newest prediction whose outcome is known is 4 days old, where 3 days may pass."


def test_the_newest_outcome_is_found_however_far_back_it_lies_and_no_more_is_read_than_that_takes() -> None:
    ws, limit = world(tr.levels(truth_age="3d")), timedelta(days=3)
    asked: list[tuple[int, int]] = []
    between = ws.predictions.between
    ws.predictions.between = lambda model, start, end: asked.append((start, end)) or between(model, start, end)
    moments = [int((NOW - timedelta(hours=h)).timestamp() * 1e6) for h in (219, 215, 100, 99, 2, 1)]
    known = [Outcome(f"p{i}", True, moments[i]) for i in (0, 1, 4)]
    ws.predictions.write([Prediction(f"p{i}", "m", at, at, 1, "champion", (0.5, 0.5), 0, (), b"{}", b"[]", 5) for i, at in enumerate(moments)])
    for outcome, hours in ((None, None), (known[0], None), (known[1], 215), (known[2], 2)):  # three times the limit is 216 hours
        asked.clear()
        ws.predictions.write([], [outcome] if outcome else [])
        found = service_levels._known(ws, "m", NOW, limit)
        assert found == (None if hours is None else NOW - timedelta(hours=hours))
    assert sum(end - start for start, end in asked) < timedelta(hours=6) / timedelta(microseconds=1)


def test_no_level_declared_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_levels, "_read", lambda ws, model: pytest.fail("the endpoint was asked"))
    assert service_levels.look(world(tr.levels()), MODEL) == []


def test_what_a_living_endpoint_counted_is_read_and_a_dead_one_has_nothing_to_say(served: Callable[..., Workspace]) -> None:
    ws = served(1)
    model = ws.model()
    url = deploy.start(ws, model)["url"]
    try:
        before = service_levels._read(ws, "late")
        row = {"distance": 37.0, "seats": 100, "carrier": "UA", "wet": True, "x": 0.5, "word": "calm", "at": "2013-04-01T00:00:00Z"}
        answers = [httpx.post(f"{url}/predict", json=row if i else {"distance": "far"}).status_code for i in range(5)]
        read = service_levels._read(ws, "late")
        assert before is not None
        assert read is not None
        assert answers == [422, 200, 200, 200, 200]
        assert (read.requests - before.requests, read.failed, read.shed) == (5, 0, 0)
        assert read.within[float("inf")] - before.within.get(float("inf"), 0) == 5
        assert [h.requests for h in service_levels.counted(ws, "late")] == [read.requests]
    finally:
        deploy.stop(ws, "late")
    assert service_levels._read(ws, "late") is None
