"""What becomes of a challenger and of a new champion: an A/B test by caller, a trial that can end badly, blue/green, alarms, and what the endpoint did."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from treadle.assemble import Workspace
from treadle.core.clock import ReplayClock, parse_time
from treadle.core.errors import ProjectError
from treadle.live.rollout import rollout
from treadle.monitoring import alarms
from treadle.monitoring.judge import Finding
from treadle.ports.predictions import Outcome, Prediction
from treadle.registry import intervene, promote, versions
from treadle.serving.entries import KEY
from treadle.serving.requests import micros

START = parse_time("2026-01-01")
DAY = 86_400_000_000
Served = Callable[..., Workspace]
AB = 'takeover=tr.ab_test("outcome", effect=0.1, most="20d"), key="header:x-user", shadow="0d", least_outcomes=0'


def traffic(ws: Workspace, days: int, *, late: tuple[float, float] = (0.3, 0.3), worse: float = 0.0, heard: float = 0.0, first: int = 0, seed: int = 7) -> None:
    """Days of 200 answers of version 1 with 2 beside it (or of 2, for a share `heard` of the callers), and what followed.

    `late`: how often it was late after each version's answer. `worse`: how much version 2's probabilities are off.
    """
    rng = np.random.default_rng(seed)
    entries, outcomes = [], []
    for i in range(200 * days):
        caller = int(rng.integers(0, 100_000))
        version = 2 if (caller % 100) / 100 < heard else 1
        p = 0.3 + 0.1 * rng.normal()
        right, off = np.clip(np.array([p, p + worse]) + 0.02 * rng.normal(size=2), 0.01, 0.99)
        said = {1: (1 - right, right), 2: (1 - off, off)}
        moment = micros(START) + first * DAY + i * DAY // 200
        inputs = json.dumps({KEY: f"u{caller}"}).encode()
        entries.append(Prediction(f"p{first}-{i}", "late", moment, moment, version, "champion", said[version], 3 - version, said[3 - version], inputs, b"[]", 5))
        outcomes.append(Outcome(f"p{first}-{i}", "late" if rng.random() < late[version - 1] else "in time", moment + 1))
    ws.predictions.write(entries, outcomes)


def begun(served: Served, serve: str, stage: str = "shadow") -> Workspace:
    ws = served(2, serve=serve)
    ws.clock = ReplayClock(START)
    promote.challenge("late", 2, ws.ledger, ws.clock)
    if stage in ("canary", "ab"):
        promote.canary("late", 0.5, {}, ws.ledger, ws.clock, stage=stage)
    elif stage == "trial":
        promote.promote("late", {}, ws.ledger, ws.clock, trial=True)
    return ws


def look(ws: Workspace, day: float) -> tuple[str, Any]:
    ws.clock.set(START + timedelta(days=day))  # type: ignore[attr-defined]
    decision = rollout(ws, ws.model(), lambda line: None)
    record = promote.required("late", ws.ledger)
    return decision.action if decision else "", (record["champion"], record["challenger"], record["stage"])


def test_an_ab_test_follows_the_shadow_and_its_winner_takes_over_on_trial(served: Served) -> None:
    ws = begun(served, AB)
    assert look(ws, 0) == ("ab", (1, 2, "ab"))
    assert promote.required("late", ws.ledger)["share"] == 0.5
    traffic(ws, 10, late=(0.3, 0.4), heard=0.5)
    assert look(ws, 10) == ("promote", (2, None, "trial"))
    evidence = [e for e in ws.ledger.events_since(limit=10_000) if e.kind == "deployment.promoted"][-1].body["evidence"]
    assert evidence["evidence"] >= evidence["needed"] == pytest.approx(20)
    assert sum(evidence["units"]) < 2_000  # callers that came twice count once


def test_an_ab_test_that_finds_nothing_goes_on_until_its_end_and_then_the_champion_stays(served: Served) -> None:
    ws = begun(served, AB, "ab")
    traffic(ws, 20, heard=0.5)
    assert look(ws, 10) == ("wait", (1, 2, "ab"))
    assert look(ws, 20) == ("reject", (1, None, "none"))


def test_where_less_is_better_the_side_with_more_loses(served: Served) -> None:
    ws = begun(served, AB.replace('effect=0.1', 'effect=0.1, less=True'), "ab")
    traffic(ws, 10, late=(0.3, 0.4), heard=0.5)
    assert look(ws, 10) == ("reject", (1, None, "none"))


def test_blue_green_goes_from_the_shadow_to_the_whole_at_once_and_keeps_the_old_one_warm(served: Served) -> None:
    ws = begun(served, 'takeover="blue_green", shadow="2d"')
    traffic(ws, 3)
    assert look(ws, 1) == ("wait", (1, 2, "shadow"))
    assert look(ws, 3) == ("promote", (2, None, "trial"))
    assert promote.required("late", ws.ledger)["beside"] == 1


def test_a_new_champion_whose_answers_are_worse_goes_back_during_its_trial(served: Served) -> None:
    ws = begun(served, 'rollback=tr.rollback_when(trial="14d")', "trial")
    traffic(ws, 12, worse=0.25)
    assert look(ws, 12) == ("rollback", (1, None, "none"))
    event = [e for e in ws.ledger.events_since(limit=10_000) if e.kind == "deployment.rolled_back"][-1]
    assert (event.actor, event.body["from"], event.body["to"]) == ("treadle", 2, 1)
    assert "worse than the champion by" in event.body["reason"]
    assert event.body["evidence"]["evidence"] >= event.body["evidence"]["needed"]


def test_one_that_is_as_good_is_kept_and_its_trial_ends(served: Served) -> None:
    ws = begun(served, 'rollback=tr.rollback_when(trial="14d")', "trial")
    traffic(ws, 14)
    assert look(ws, 13) == ("wait", (2, None, "trial"))
    assert look(ws, 14) == ("settle", (2, None, "none"))
    assert promote.required("late", ws.ledger)["beside"] is None


@pytest.mark.parametrize(("kind", "day", "back"), [("skew", 2.0, True), ("quality", 0.2, False), ("input", 0.2, False)])
def test_skew_on_trial_throws_out_and_an_alarm_of_another_kind_only_if_it_was_named(served: Served, kind: Any, day: float, back: bool) -> None:
    ws = begun(served, 'rollback=tr.rollback_when(trial="14d")', "trial")
    ws.clock.set(START + timedelta(days=day))  # type: ignore[attr-defined]
    alarms.raise_alarm("late", 2, Finding(kind, "x", 2.0, 1.0, 0, 1, (), f"{kind} was found."), ws.ledger, ws.clock)
    assert look(ws, day)[1][0] == (1 if back else 2)


def test_a_stopped_model_is_left_as_it_is(served: Served) -> None:
    ws = begun(served, "", "trial")
    traffic(ws, 5, worse=0.25)
    intervene.stop("late", "fire", ws.ledger, ws.clock, actor="ann")
    assert look(ws, 5) == ("", (2, None, "trial"))


def test_what_was_rolled_back_settles_the_alarm_that_made_it_once(served: Served) -> None:
    ws = begun(served, "", "trial")
    alarm = alarms.raise_alarm("late", 1, Finding("quality", "loss", 2.0, 1.0, 0, 1, (), "It is worse."), ws.ledger, ws.clock)
    assert alarm is not None
    version = versions.get("late", 2, ws.ledger)
    ws.ledger.put("model_version", version.id, {**version.body, "cause": {"kind": "alarm", "id": alarm.id}})
    intervene.rollback("late", "it fails", ws.ledger, ws.clock, actor="treadle (endpoint)", of=2)
    told: list[str] = []
    for _ in range(2):
        rollout(ws, ws.model(), told.append)
    assert told == ["rolled back to version 1: it fails"]
    assert ws.ledger.get("alarm", alarm.id)["status"] == "resolved"  # type: ignore[index]
    said = ws.ledger.find("alarm", {"kind": "rollback"})
    assert [(a["status"], a["told"], a["sentence"]) for a in said] == [("resolved", False, "Version 2 was rolled back to version 1: it fails.")]


@pytest.mark.parametrize("serve", ['takeover="magic"', 'key="x-user"', 'key="field:nothing"', "takeover=tr.ab_test(effect=0)", 'rollback=tr.rollback_when(alarms=("moon",))'])
def test_declarations_that_make_no_sense_are_refused(served: Served, serve: str) -> None:
    with pytest.raises(ProjectError):
        served(1, serve=serve)
