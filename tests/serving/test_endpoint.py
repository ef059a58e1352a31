"""The endpoint answers rows, whatever a challenger does beside it, and logs what it said and why."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from scipy import stats

from treadle.backends.memory_online import MemoryOnline
from treadle.core.errors import InvalidRequest, TreadleError, Unavailable
from treadle.features.online import entity_key
from treadle.ports.online import Key, Value
from treadle.ports.prediction_blocks import each as each_prediction
from treadle.ports.predictions import Prediction
from treadle.serving.answers import Answered, share_of
from treadle.serving.endpoint import Endpoint, Traffic
from treadle.serving.loaded import Loaded
from treadle.serving.requests import micros

NOW = micros(datetime(2013, 4, 1, 12, tzinfo=UTC))
HOUR = 3_600_000_000
ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7, "at": "2013-04-01T12:00:00Z"}
Make = Callable[..., Loaded]


class Answer:
    """What a caller gets for one row, read as they read it, and what is logged of it."""

    def __init__(self, body: Any, entry: Prediction) -> None:
        self.body, self.entry = json.loads(msgspec.json.encode(body)), entry


def each(answered: Answered) -> list[Answer]:
    return [Answer(body, entry) for body, entry in zip(answered.bodies(), each_prediction(answered.predictions()), strict=True)]


class World:
    """An endpoint whose view knows zone 7 from an hour ago, for two hours."""

    def __init__(self, make: Make) -> None:
        self.store = MemoryOnline()
        packed = msgspec.msgpack.encode([NOW + HOUR, 1.5, "storm"])
        self.store.put_many([(Key("last", entity_key([7])), Value(NOW - HOUR, packed))])
        self.endpoint = Endpoint("late", self.store, now=lambda: NOW)
        self.champion = make(1)
        self.endpoint.traffic = Traffic(self.champion)

    def ask(self, **changes: Any) -> Answer:
        row = {**ROW, **changes}
        return each(self.endpoint.predict([{k: v for k, v in row.items() if v != "left out"}]))[0]


@pytest.fixture
def world(make_loaded: Make) -> World:
    return World(make_loaded)


def expected(loaded: Loaded, **features: Any) -> float:
    """What the fitted pipeline itself says."""
    seen = {"distance": 733.0, "seats": 150.0, "wet": 1.0, "at_hour": 8.0, "x": 1.5, "carrier": "UA", "word": "storm", **features}
    frame = pl.DataFrame([seen], schema_overrides=dict.fromkeys(["distance", "seats", "wet", "at_hour", "x"], pl.Float64))
    return float(loaded.fitted.predict_proba(frame)[0, 1])  # type: ignore[attr-defined]


def test_an_answer_is_that_of_the_trained_model(world: World) -> None:
    answer = world.ask()
    assert answer.body["probability"] == pytest.approx(expected(world.champion), abs=1e-6)
    late = answer.body["probability"] > 0.5
    assert (answer.body["prediction"], answer.body["model"], answer.body["version"]) == ("late" if late else "in time", "late", 1)
    assert set(answer.body["probabilities"]) == {"in time", "late"}
    assert sum(answer.body["probabilities"].values()) == pytest.approx(1)
    assert "missing" not in answer.body


def test_what_was_said_and_why_is_in_the_entry(world: World) -> None:
    answer = world.ask()
    entry = answer.entry
    assert (entry.id, entry.model, entry.moment, entry.answered, entry.version, entry.variant) == (answer.body["id"], "late", NOW, NOW, 1, "champion")
    assert (entry.other_version, entry.other_output) == (0, ())
    assert json.loads(entry.inputs) == {"distance": 733.0, "seats": 150.0, "carrier": "UA", "wet": 1.0, "zone": 7.0, "at": NOW}
    assert json.loads(entry.features) == [733.0, 150.0, 1.0, "UA", 8.0, 1.5, "storm"]
    assert entry.output == pytest.approx((1 - answer.body["probability"], answer.body["probability"]))


def test_many_rows_are_answered_as_each_alone(world: World) -> None:
    rows = [{**ROW, "distance": float(d), "zone": d % 9} for d in range(0, 6000, 500)]
    together = each(world.endpoint.predict(rows))
    alone = [each(world.endpoint.predict([row]))[0] for row in rows]
    assert [a.body["probability"] for a in together] == pytest.approx([a.body["probability"] for a in alone], abs=1e-12)
    assert len({a.body["id"] for a in together}) == len(rows)


def test_a_view_that_knows_nothing_is_listed_and_its_features_are_missing(world: World) -> None:
    answer = world.ask(zone=8)
    assert answer.body["missing"] == ["last"]
    assert answer.body["probability"] == pytest.approx(expected(world.champion, x=None, word=""), abs=1e-6)
    assert json.loads(answer.entry.features)[-2:] == [None, None]


@pytest.mark.parametrize("zone", [None, "left out"])
def test_without_its_entity_a_view_knows_nothing(world: World, zone: Any) -> None:
    assert world.ask(zone=zone).body["missing"] == ["last"]


@pytest.mark.parametrize(("at", "known"), [(NOW - HOUR - 1, False), (NOW - HOUR, True), (NOW + HOUR - 1, True), (NOW + HOUR, False)])
def test_a_value_of_a_view_counts_from_when_it_was_known_until_it_ends(world: World, at: int, known: bool) -> None:
    asked = datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000)
    assert ("missing" not in world.ask(at=asked.isoformat()).body) == known


def test_a_row_without_a_moment_is_of_now(world: World) -> None:
    for at in (None, "left out"):
        answer = world.ask(at=at)
        assert (answer.entry.moment, "missing" in answer.body) == (NOW, False)
        assert json.loads(answer.entry.features)[4] == 8.0


def test_a_feature_that_is_sent_comes_before_the_one_that_is_looked_up(world: World) -> None:
    answer = world.ask(x=-3.0)
    assert answer.body["probability"] == pytest.approx(expected(world.champion, x=-3.0), abs=1e-6)
    assert json.loads(answer.entry.features)[-2:] == [-3.0, "storm"]
    assert json.loads(world.ask(x=None).entry.features)[-2:] == [None, "storm"]


def test_a_bad_row_among_good_ones_is_named_and_nothing_is_answered(world: World) -> None:
    with pytest.raises(InvalidRequest, match="row 1: Field 'distance' must be at most 6000") as caught:
        world.endpoint.predict([ROW, {**ROW, "distance": 9000}])
    assert set(caught.value.fields) == {"distance"}
    with pytest.raises(InvalidRequest, match="There are no rows"):
        world.endpoint.predict([])


def test_nothing_deployed_and_a_stopped_model_do_not_answer(world: World) -> None:
    world.endpoint.traffic = Traffic(world.champion, None, "stopped")
    with pytest.raises(Unavailable, match="Model 'late' does not answer: it was stopped"):
        world.ask()
    world.endpoint.traffic = Traffic(None)
    with pytest.raises(Unavailable, match="no version is loaded"):
        world.ask()


def test_ids_may_be_given(world: World) -> None:
    answers = each(world.endpoint.predict([ROW, ROW], ids=["a", "b"]))
    assert [(a.body["id"], a.entry.id) for a in answers] == [("a", "a"), ("b", "b")]


# --- two versions


def test_in_shadow_the_challenger_is_logged_and_never_heard(world: World, make_loaded: Make) -> None:
    challenger = make_loaded(2, wrong=True)
    world.endpoint.traffic = Traffic(world.champion, challenger, "shadow")
    answer = world.ask()
    assert (answer.body["version"], answer.entry.variant, answer.entry.other_version) == (1, "champion", 2)
    assert answer.body["probability"] == pytest.approx(expected(world.champion), abs=1e-6)
    assert answer.entry.other_output[1] == pytest.approx(expected(challenger), abs=1e-6)


def test_in_canary_the_challenger_answers_its_share_and_the_champion_is_logged_beside_it(world: World, make_loaded: Make) -> None:
    challenger = make_loaded(2, wrong=True)
    world.endpoint.traffic = Traffic(world.champion, challenger, "canary", 0.2)
    answers = each(world.endpoint.predict([ROW] * 4_000))
    canary = [a for a in answers if a.entry.variant == "canary"]
    low, high = stats.binom.ppf([1e-6, 1 - 1e-6], 4_000, 0.2)
    assert low <= len(canary) <= high
    for answer in answers:
        mine, other = (2, 1) if answer.entry.variant == "canary" else (1, 2)
        assert (answer.body["version"], answer.entry.version, answer.entry.other_version) == (mine, mine, other)
        assert (answer.entry.variant == "canary") == (share_of(answer.body["id"]) < 0.2)
    assert canary[0].body["probability"] == pytest.approx(expected(challenger), abs=1e-6)
    assert canary[0].entry.other_output[1] == pytest.approx(expected(world.champion), abs=1e-6)


def test_the_same_request_is_always_on_the_same_side(world: World, make_loaded: Make) -> None:
    world.endpoint.traffic = Traffic(world.champion, make_loaded(2), "canary", 0.5)
    ids = [f"p{i}" for i in range(200)]
    sides = [[a.entry.variant for a in each(world.endpoint.predict([ROW] * 200, ids))] for _ in range(2)]
    assert sides[0] == sides[1]
    assert set(sides[0]) == {"champion", "canary"}


def test_the_shares_of_ids_are_uniform_and_independent_of_their_beginning() -> None:
    for prefix in ("p-", "p-0mf2k8x1c3", "zürich-"):
        shares = np.array([share_of(f"{prefix}{i}") for i in range(20_000)])
        assert 0 <= shares.min() <= shares.max() < 1
        assert stats.kstest(shares, "uniform").pvalue > 1e-4
    assert share_of("p-1") == share_of("p-1") != share_of("p-2")


class Raising:
    width = 0

    def __init__(self, error: BaseException | None = None, value: float = np.nan) -> None:
        self.error, self.value = error, value

    def score(self, matrix: np.ndarray) -> np.ndarray:
        if self.error is not None:
            raise self.error
        return np.full((len(matrix), 2), self.value)


@pytest.mark.parametrize("scorer", [Raising(ZeroDivisionError()), Raising(MemoryError()), Raising(value=np.nan), Raising(value=np.inf)])
@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_a_challenger_that_fails_never_reaches_the_caller(world: World, make_loaded: Make, scorer: Raising, stage: str) -> None:
    import copy

    challenger = copy.copy(make_loaded(2))
    challenger._scorer = scorer
    world.endpoint.traffic = Traffic(world.champion, challenger, stage, 1.0)
    answers = each(world.endpoint.predict([ROW] * 3))
    assert [(a.body["version"], a.entry.variant, a.entry.other_version, a.entry.other_output) for a in answers] == [(1, "champion", 0, ())] * 3
    assert answers[0].body["probability"] == pytest.approx(expected(world.champion), abs=1e-6)
    assert world.endpoint.challenger_failures == 3


def test_a_champion_that_answers_nonsense_is_an_error_and_no_answer(world: World, make_loaded: Make) -> None:
    import copy

    broken = copy.copy(make_loaded(1))
    broken._scorer = Raising(value=np.nan)
    world.endpoint.traffic = Traffic(broken)
    with pytest.raises(TreadleError, match="not finite"):
        world.ask()
