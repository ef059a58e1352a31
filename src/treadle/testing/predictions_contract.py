"""The tests every prediction log must pass: subclass PredictionsContract and give it the fixture `new_log`.

class TestMyLog(PredictionsContract):
    @pytest.fixture
    def new_log(self, tmp_path):
        return lambda: MyLog(tmp_path / f"{uuid4()}.db")
"""

from __future__ import annotations

import math
import threading
from array import array
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from treadle.core.ids import base32
from treadle.ports.prediction_blocks import Block, each
from treadle.ports.predictions import Outcome, Prediction, PredictionLog

Pairs = list[tuple[Prediction, Outcome | None]]
ALWAYS = (-(2**63), 2**63 - 1)
EVER = 1 << 60


def prediction(id: str, *, model: str = "late", moment: int = 1_000, answered: int = 2_000, output: tuple[float, ...] = (0.25, 0.75)) -> Prediction:
    """A prediction with everything filled in."""
    return Prediction(id, model, moment, answered, 3, "champion", output, 4, (0.5, 0.5), b'{"origin":"EWR"}', b"[1.5,null]", 180)


def own_id(milliseconds: int, digits: str = "0000000a") -> str:
    """An id as the endpoint makes them."""
    return f"p-{base32(milliseconds, 10)}{digits}"


def block(
    base: str, count: int = 3, *, model: str = "late", moments: int | list[int] = 1_000, answered: int = 2_000, swapped: list[int] | None = None
) -> Block:  # fmt: skip
    """The answers of a request of `count` rows, all different."""
    return Block(
        base=base, model=model, count=count, moments=moments if isinstance(moments, int) else array("q", moments).tobytes(), answered=answered,
        version=3, variant="champion", width=2, outputs=array("d", [x / 7 for x in range(2 * count)]).tobytes(), other_version=4,
        other_variant="canary", other_width=1, other_outputs=array("d", range(count)).tobytes(), swapped=bytes(swapped or ()),
        inputs=b"[%b]" % b",".join(b'{"origin":"EWR","n":%d}' % i for i in range(count)),
        features=b"[%b]" % b",".join(b"[%d,null]" % i for i in range(count)), micros=7,
    )  # fmt: skip


def read(log: PredictionLog, model: str = "late", start: int = ALWAYS[0], end: int = ALWAYS[1], batch: int = 10_000) -> Pairs:
    """What `between` yields, in one list."""
    return [pair for pairs in log.between(model, start, end, batch=batch) for pair in pairs]


class PredictionsContract:
    """One test a promise.

    `moves` says that days can be moved into files: then they are, at random moments, and `compact` is called with the end of all time.
    """

    moves = False

    @pytest.fixture
    def new_log(self) -> Callable[[], PredictionLog]:
        raise NotImplementedError("give the fixture `new_log`: a function that makes an empty log")

    @pytest.fixture
    def log(self, new_log: Callable[[], PredictionLog]) -> PredictionLog:
        return new_log()

    @pytest.mark.parametrize("durable", [True, False])
    def test_a_written_prediction_comes_back_as_it_was(self, log: PredictionLog, durable: bool) -> None:
        written = [
            prediction("a", output=(0.1, 0.2, 0.7)),
            Prediction("b", "zürich 'x'", -5, 2**60, 0, "", (), 0, (), b"", b"\x00\xff", 0),
            prediction("c", output=(math.inf, -0.0, 5e-324, 1 / 3)),
        ]
        log.write(written, durable=durable)
        assert [log.get(p.id) for p in written] == written
        assert log.get("d") is None

    @pytest.mark.parametrize("durable", [True, False])
    def test_a_block_is_read_as_the_predictions_it_holds(self, log: PredictionLog, durable: bool) -> None:
        written: list[Prediction | Block] = [
            block(own_id(5), swapped=[0, 1, 0]), prediction(own_id(6)), block(own_id(7), 2, moments=[900, 1_100]), prediction("mine"),
        ]  # fmt: skip
        log.write(written, [Outcome(f"{own_id(5)}.1", True, 7)], durable=durable)
        rows = each(written)
        assert [log.get(p.id) for p in rows] == rows
        assert rows[1].variant == "canary"
        assert (rows[1].version, rows[1].output, rows[1].other_version) == (4, (1.0,), 3)
        assert [log.get(id) for id in (own_id(5), f"{own_id(5)}.3", f"{own_id(5)}.01", f"{own_id(8)}.0")] == [None] * 4
        assert [p for p, _ in read(log, batch=2)] == sorted(rows, key=lambda p: p.moment)
        assert {p.id: o for p, o in read(log) if o} == {rows[1].id: Outcome(rows[1].id, True, 7)}
        assert log.count("late") == (7, 1)
        assert log.last("late", 2) == [prediction("mine"), rows[5]]

    def test_a_block_written_again_is_one_and_takes_the_outcomes_that_came_before_it(self, log: PredictionLog) -> None:
        log.write([], [Outcome(f"{own_id(5)}.2", 1, 5), Outcome(f"{own_id(5)}.9", 1, 5)])
        for _ in range(2):
            log.write([block(own_id(5)), block(own_id(5)), prediction(f"{own_id(5)}.1", moment=7)])
        assert log.count("late") == (3, 1)
        assert log.strays() == 1
        assert read(log)[2][1] == Outcome(f"{own_id(5)}.2", 1, 5)

    def test_ids_of_the_endpoint_are_found_whatever_the_order_they_are_written_in(self, log: PredictionLog) -> None:
        times = [50_000, 0, 9_000, 61_000, 2**50 - 1, 10_000, 20_001]
        rows = [prediction(own_id(at), moment=at % 7) for at in times]
        for row in rows[:3]:
            log.write([row])
        log.write(rows)
        assert [log.get(row.id) for row in rows] == rows
        assert log.get(own_id(9_000, "0000000b")) is None
        assert log.count("late") == (7, 0)

    def test_an_output_that_is_not_a_number_stays_so(self, log: PredictionLog) -> None:
        log.write([prediction("a", output=(math.nan,))])
        found = log.get("a")
        assert found is not None
        assert math.isnan(found.output[0])

    def test_an_empty_write_changes_nothing(self, log: PredictionLog) -> None:
        log.write([])
        assert (log.count("late"), log.strays(), log.last("late")) == ((0, 0), 0, [])

    def test_an_unknown_model_has_no_predictions(self, log: PredictionLog) -> None:
        log.write([prediction("a")])
        assert (log.count("early"), log.last("early"), read(log, "early")) == ((0, 0), [], [])

    def test_a_prediction_written_again_is_one_prediction_and_the_first_one_stays(self, log: PredictionLog) -> None:
        first = prediction("a", moment=1)
        log.write([first, prediction("b"), first])
        log.write([prediction("a", moment=2, model="other"), prediction("c")])
        assert log.get("a") == first
        assert log.count("late") == (3, 0)
        assert log.count("other") == (0, 0)
        assert [p.id for p, _ in read(log)] == ["a", "b", "c"]

    def test_more_rows_than_one_statement_or_page_are_written_in_one_call(self, log: PredictionLog) -> None:
        log.write([prediction(f"p{i}", moment=i) for i in range(1_234)], [Outcome(f"p{i}", i, 5) for i in range(0, 1_234, 2)])
        assert log.count("late") == (1_234, 617)
        assert [(p.moment, o and o.value) for p, o in read(log, batch=100)] == [(i, None if i % 2 else i) for i in range(1_234)]

    def test_an_outcome_is_joined_to_its_prediction(self, log: PredictionLog) -> None:
        log.write([prediction("a"), prediction("b")], [Outcome("a", True, 7, "tower")])
        assert read(log) == [(prediction("a"), Outcome("a", True, 7, "tower")), (prediction("b"), None)]
        assert log.outcomes_of("a") == [Outcome("a", True, 7, "tower")]
        assert log.outcomes_of("b") == []
        assert log.count("late") == (2, 1)

    @pytest.mark.parametrize("value", [None, False, 0, 1.5, "späť", ["a", 1], {"b": [None], "a": 2}])
    def test_an_outcome_is_any_json_value(self, log: PredictionLog, value: Any) -> None:
        log.write([prediction("a")], [Outcome("a", value, 7)])
        assert log.outcomes_of("a") == [Outcome("a", value, 7)]
        assert read(log) == [(prediction("a"), Outcome("a", value, 7))]

    def test_a_missing_truth_is_an_outcome_too(self, log: PredictionLog) -> None:
        log.write([prediction("a")], [Outcome("a", None, 7)])
        assert log.count("late") == (1, 1)

    def test_a_correction_counts_and_the_earlier_outcome_is_kept(self, log: PredictionLog) -> None:
        log.write([prediction("a")])
        log.write([], [Outcome("a", True, 9)])
        log.write([], [Outcome("a", False, 8)])  # received later, though known earlier
        assert log.outcomes_of("a") == [Outcome("a", True, 9), Outcome("a", False, 8)]
        assert read(log) == [(prediction("a"), Outcome("a", False, 8))]
        assert log.count("late") == (1, 1)

    def test_two_outcomes_in_one_call_are_received_in_their_order(self, log: PredictionLog) -> None:
        log.write([prediction("a")], [Outcome("a", 1, 5), Outcome("a", 2, 5)])
        assert [o.value for o in log.outcomes_of("a")] == [1, 2]
        assert read(log)[0][1] == Outcome("a", 2, 5)

    def test_the_same_outcome_twice_is_one_even_after_a_correction(self, log: PredictionLog) -> None:
        first, correction = Outcome("a", {"x": 1, "y": 2}, 5, "tower"), Outcome("a", {"x": 3, "y": 2}, 6, "tower")
        log.write([prediction("a")], [first, first])
        log.write([], [correction])
        log.write([], [Outcome("a", {"y": 2, "x": 1}, 5, "tower")])  # a delivery repeated late must not undo the correction
        assert log.outcomes_of("a") == [first, correction]
        assert read(log)[0][1] == correction

    def test_the_same_value_known_at_another_time_or_from_another_source_is_another_outcome(self, log: PredictionLog) -> None:
        told = [Outcome("a", 1, 5, "x"), Outcome("a", 1, 6, "x"), Outcome("a", 1, 5, "y")]
        log.write([prediction("a")], told)
        assert log.outcomes_of("a") == told

    def test_an_outcome_before_its_prediction_is_a_stray_until_the_prediction_comes(self, log: PredictionLog) -> None:
        log.write([], [Outcome("a", 1, 5), Outcome("a", 2, 6), Outcome("b", 3, 5)])
        assert log.strays() == 3
        assert log.count("late") == (0, 0)
        log.write([prediction("a")])
        assert log.strays() == 1
        assert log.count("late") == (1, 1)
        assert read(log) == [(prediction("a"), Outcome("a", 2, 6))]
        assert log.outcomes_of("b") == [Outcome("b", 3, 5)]

    def test_a_prediction_written_again_takes_no_strays_from_others(self, log: PredictionLog) -> None:
        log.write([prediction("a")], [Outcome("b", 1, 5)])
        log.write([prediction("a")])
        assert log.strays() == 1
        assert log.count("late") == (1, 0)

    def test_between_takes_the_start_and_leaves_the_end(self, log: PredictionLog) -> None:
        log.write([prediction(f"p{m}", moment=m) for m in (30, 10, 20)] + [prediction("other", model="early", moment=15)])
        assert [p.id for p, _ in read(log, start=10, end=30)] == ["p10", "p20"]
        assert read(log, start=20, end=20) == []
        assert [p.id for p, _ in read(log, start=11, end=31)] == ["p20", "p30"]

    @pytest.mark.parametrize("batch", [1, 2, 3, 7, 100])
    def test_batches_are_no_larger_than_asked_and_lose_nothing_among_equal_moments(self, log: PredictionLog, batch: int) -> None:
        log.write([prediction(f"p{i}", moment=i // 4) for i in range(12)])
        batches = list(log.between("late", 0, 100, batch=batch))
        assert all(0 < len(b) <= batch for b in batches)
        assert [p.id for b in batches for p, _ in b] == [f"p{i}" for i in range(12)]

    def test_what_is_written_while_reading_is_not_seen_in_part(self, log: PredictionLog) -> None:
        log.write([prediction(f"p{i}", moment=i) for i in range(4)])
        reading = log.between("late", 0, 100, batch=2)
        found = list(next(reading))
        log.write([prediction("early", moment=0), prediction("late", moment=50)], [Outcome("p0", 1, 5), Outcome("p3", 1, 5)])
        found += [pair for pairs in reading for pair in pairs]
        assert found == [(prediction(f"p{i}", moment=i), None) for i in range(4)]

    def test_the_last_are_those_answered_last_newest_first(self, log: PredictionLog) -> None:
        log.write([prediction(f"p{a}", answered=a, moment=-a) for a in (5, 9, 7)] + [prediction("other", model="early", answered=99)])
        log.write([prediction("again", answered=9)])
        assert [p.id for p in log.last("late")] == ["again"]
        assert [p.id for p in log.last("late", 3)] == ["again", "p9", "p7"]
        assert len(log.last("late", 100)) == 4
        assert log.last("late", 0) == []

    def test_a_call_that_cannot_be_stored_stores_nothing(self, log: PredictionLog) -> None:
        with pytest.raises(Exception):  # noqa: B017
            log.write([prediction("a")], [Outcome("a", 1, 5), Outcome("a", object(), 5)])
        assert log.get("a") is None
        assert log.strays() == 0
        log.write([prediction("a")])
        assert log.count("late") == (1, 0)

    def test_readers_see_whole_calls_while_several_threads_write(self, log: PredictionLog) -> None:
        done = threading.Event()
        torn: list[Any] = []

        def write(writer: int) -> None:
            for call in range(15):
                names = [f"{writer}-{call}-{i}" for i in range(10)]
                log.write([prediction(name) for name in names], [Outcome(name, 1, 5) for name in names], durable=False)

        def watch() -> None:
            while not done.is_set():
                torn.extend(c for c in log.count("late") if c % 10)
                torn.extend(pair for pair in read(log, batch=7) if pair[1] is None)

        watcher = threading.Thread(target=watch)
        writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
        for thread in [watcher, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        watcher.join()
        assert torn == []
        assert log.count("late") == (450, 450)

    def test_any_history_of_calls_gives_what_a_dictionary_gives(self, new_log: Callable[[], PredictionLog]) -> None:
        class Machine(MovedHistory if self.moves else History):  # type: ignore[misc]
            make = staticmethod(new_log)

        run_state_machine_as_test(Machine, settings=settings(max_examples=20, stateful_step_count=25, deadline=None))


_bases = [own_id(9_000), own_id(9_000, "0000000b"), own_id(30_000)]
_ids = st.sampled_from([*(f"p{i}" for i in range(4)), own_id(0), own_id(9_500), own_id(25_000), f"{_bases[0]}.1", f"{_bases[2]}.0"])
_models = st.sampled_from(["late", "early"])
_predictions = st.builds(prediction, _ids, model=_models, moment=st.integers(0, 5), answered=st.integers(0, 5))
_blocks = st.builds(
    lambda base, moments, swap, **said: block(base, len(moments), moments=moments if len(set(moments)) > 1 else moments[0],
                                              swapped=swap * len(moments), **said),
    st.sampled_from(_bases), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.sampled_from([[], [0], [1]]), model=_models,
    answered=st.integers(0, 5),
)  # fmt: skip
_outcomes = st.builds(Outcome, _ids, st.sampled_from([True, 0, "x", [1.5]]), st.integers(0, 1), st.sampled_from(["", "tower"]))


class History(RuleBasedStateMachine):
    """Random calls against a log and against plain dictionaries."""

    make: Callable[[], PredictionLog]

    @initialize()
    def start(self) -> None:
        self.log = self.make()
        self.predictions: dict[str, Prediction] = {}
        self.outcomes: dict[str, list[Outcome]] = {}

    @rule(predictions=st.lists(_predictions | _blocks, max_size=5), outcomes=st.lists(_outcomes, max_size=5), durable=st.booleans())
    def write(self, predictions: list[Prediction | Block], outcomes: list[Outcome], durable: bool) -> None:
        self.log.write(predictions, outcomes, durable=durable)
        for p in each(predictions):
            self.predictions.setdefault(p.id, p)
        for o in outcomes:
            if o not in (known := self.outcomes.setdefault(o.prediction, [])):
                known.append(o)

    @rule(model=_models, start=st.integers(-1, 6), end=st.integers(-1, 6), batch=st.integers(1, 5))
    def between(self, model: str, start: int, end: int, batch: int) -> None:
        mine = [p for p in self.predictions.values() if p.model == model and start <= p.moment < end]  # in the order written
        expected = [(p, self.outcomes.get(p.id, [None])[-1]) for p in sorted(mine, key=lambda p: p.moment)]
        assert read(self.log, model, start, end, batch) == expected

    @rule(model=_models, count=st.integers(0, 9))
    def last(self, model: str, count: int) -> None:
        mine = [p for p in reversed(self.predictions.values()) if p.model == model]
        assert self.log.last(model, count) == sorted(mine, key=lambda p: -p.answered)[:count]

    @rule(id=_ids)
    def one(self, id: str) -> None:
        assert self.log.get(id) == self.predictions.get(id)
        assert self.log.outcomes_of(id) == self.outcomes.get(id, [])

    @invariant()
    def counts(self) -> None:
        for model in ("late", "early"):
            mine = [p.id for p in self.predictions.values() if p.model == model]
            assert self.log.count(model) == (len(mine), sum(id in self.outcomes for id in mine))
        assert self.log.strays() == sum(len(o) for id, o in self.outcomes.items() if id not in self.predictions)

    def teardown(self) -> None:
        if close := getattr(getattr(self, "log", None), "close", None):
            close()


class MovedHistory(History):
    """The same calls, while days are moved into files and written anew."""

    @rule()
    def compact(self) -> None:
        self.log.compact(EVER)  # type: ignore[attr-defined]

    @rule(ids=st.lists(_ids, min_size=1, max_size=3, unique=True))
    def forget(self, ids: list[str]) -> None:
        found: dict[str, list[str]] = {}
        for id in ids:
            if id in self.predictions:
                found.setdefault(self.predictions[id].model, []).append(id)
        removed = self.log.forget(found)  # type: ignore[attr-defined]
        assert removed == sum(map(len, found.values()))
        for id in (id for some in found.values() for id in some):
            del self.predictions[id]
            self.outcomes.pop(id, None)
