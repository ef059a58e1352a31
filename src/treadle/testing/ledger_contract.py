"""What every ledger must do: the promises of `treadle.ports.ledger`, one test each, and a random walk against a plain dictionary."""

from __future__ import annotations

import math
import pickle
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis.stateful import run_state_machine_as_test

from treadle.core.clock import SystemClock, iso, parse_time
from treadle.core.errors import Conflict, UsageError
from treadle.core.records import GENESIS, Link, Point, Ref, chain_hash
from treadle.ports.ledger import Ledger
from treadle.testing.ledger_walk import SETTINGS, LedgerWalk

RUN = Ref("run", "run-1")
MODEL = Ref("model", "late")
DATA = Ref("data", "flights")


class LedgerContract:
    """Inherit, and say in `make` how to open a ledger that lives in a folder.

    `survives` is False for a ledger that is gone with the object.
    """

    survives = True

    def make(self, folder: Path) -> Ledger:
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Iterator[Ledger]:
        ledger = self.make(tmp_path)
        yield ledger
        _close(ledger)

    # Records

    def test_a_record_comes_back_as_it_was_written(self, ledger: Ledger) -> None:
        before = iso(SystemClock().now())
        stored = ledger.put("run", "run-1", {"model": "late", "auc": 0.71})
        assert (stored.kind, stored.id, stored.version) == ("run", "run-1", 1)
        assert before <= stored.created_at == stored.updated_at <= iso(SystemClock().now())
        assert ledger.get("run", "run-1") == stored
        assert stored["auc"] == 0.71

    def test_a_record_nobody_wrote_is_none(self, ledger: Ledger) -> None:
        assert ledger.get("run", "run-1") is None

    @pytest.mark.parametrize("id", ["", "a' OR '1'='1", "%", "é\n"])
    def test_whatever_is_asked_for_what_nobody_wrote_is_none(self, ledger: Ledger, id: str) -> None:
        ledger.put("run", "a", {"x": "a"})
        assert (ledger.get("run", id), ledger.get(id, "a"), ledger.find("run", {"x": id}), ledger.find(id)) == (None, None, [], [])
        assert (list(ledger.links(Ref("run", id))), ledger.points(id), ledger.count(id), ledger.count("run", {"x": id})) == ([], [], 0, 0)

    def test_the_same_id_in_two_kinds_names_two_records(self, ledger: Ledger) -> None:
        ledger.put("run", "a", {"n": 1})
        ledger.put("model", "a", {"n": 2})
        assert [ledger.get(kind, "a").body for kind in ("run", "model")] == [{"n": 1}, {"n": 2}]  # type: ignore[union-attr]

    def test_writing_again_replaces_the_body_and_counts_the_version(self, ledger: Ledger) -> None:
        first = ledger.put("run", "a", {"n": 1, "old": True})
        second = ledger.put("run", "a", {"n": 2})
        assert (second.version, second.created_at) == (2, first.created_at)
        assert second.updated_at >= first.updated_at
        assert ledger.get("run", "a") == second
        assert second.body == {"n": 2}

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"z": 1, "a": [1, 2.5, None, True, {"deep": ["er"]}], "m": {}},
            {"text": 'żółw "quoted" \\ back\nline \u0000 \u2028', "ключ": "🚲", "": "no name", "a.b": 1, "it's": 1},
            {"big": 2**70, "small": 5e-324, "minus zero": -0.0, "third": 1 / 3},
            {"inf": math.inf, "list": [-math.inf]},
            {"=": "nan", "x": {"=": "Flight", "n": 1}},
        ],
        ids=["empty", "nested", "unicode", "numbers", "infinite", "marks"],
    )
    def test_bodies_keep_every_json_value(self, ledger: Ledger, body: dict[str, Any]) -> None:
        ledger.put("thing", "a", body)
        found = ledger.get("thing", "a")
        assert found is not None
        assert repr(dict(found.body)) == repr(body)  # repr: the order of keys and the sign of zero count too

    def test_a_value_that_is_not_a_number_stays_one(self, ledger: Ledger) -> None:
        ledger.put("run", "a", {"auc": math.nan, "model": "late"})
        [found] = ledger.find("run", {"model": "late"})
        assert math.isnan(found["auc"])

    def test_moments_and_tuples_become_json(self, ledger: Ledger) -> None:
        moment = parse_time("2013-04-01T12:30:00Z")
        assert ledger.put("run", "a", {"at": moment, "pair": (1, 2)}).body == {"at": "2013-04-01T12:30:00.000000Z", "pair": [1, 2]}

    def test_what_cannot_be_json_is_refused_and_not_stored(self, ledger: Ledger) -> None:
        with pytest.raises(TypeError):
            ledger.put("run", "a", {"f": object()})
        assert ledger.get("run", "a") is None

    def test_nobody_changes_a_stored_body_by_holding_on_to_it(self, ledger: Ledger) -> None:
        body: dict[str, Any] = {"tags": ["a"]}
        stored = ledger.put("run", "a", body)
        body["tags"].append("b")
        stored["tags"].append("c")
        ledger.find("run")[0]["tags"].append("d")
        assert ledger.get("run", "a").body == {"tags": ["a"]}  # type: ignore[union-attr]

    # Compare and set

    def test_of_two_writers_expecting_the_same_version_one_gets_a_conflict(self, ledger: Ledger) -> None:
        seen = ledger.put("model", "late", {"champion": 1}).version
        ledger.put("model", "late", {"champion": 2}, expect=seen)
        with pytest.raises(Conflict, match="model/late"):
            ledger.put("model", "late", {"champion": 3}, expect=seen)
        assert ledger.get("model", "late").body == {"champion": 2}  # type: ignore[union-attr]

    def test_expecting_version_zero_means_it_must_be_new(self, ledger: Ledger) -> None:
        assert ledger.put("run", "a", {}, expect=0).version == 1
        with pytest.raises(Conflict):
            ledger.put("run", "a", {}, expect=0)

    def test_expecting_a_version_of_what_is_not_there_is_a_conflict(self, ledger: Ledger) -> None:
        with pytest.raises(Conflict):
            ledger.put("run", "a", {}, expect=1)
        assert ledger.get("run", "a") is None

    def test_no_increment_is_lost_between_threads(self, ledger: Ledger) -> None:
        ledger.put("counter", "c", {"n": 0})

        def increment() -> None:
            done = 0
            while done < 10:
                now = ledger.get("counter", "c")
                assert now is not None
                with suppress(Conflict):
                    ledger.put("counter", "c", {"n": now["n"] + 1}, expect=now.version)
                    done += 1

        _in_threads(*[increment] * 4)
        found = ledger.get("counter", "c")
        assert found is not None
        assert (found["n"], found.version) == (40, 41)

    # Find

    def test_find_gives_a_kind_in_order_of_creation(self, ledger: Ledger) -> None:
        for name in ("c", "a", "b"):
            ledger.put("run", name, {})
        ledger.put("model", "d", {})
        ledger.put("run", "c", {"again": True})
        assert [r.id for r in ledger.find("run")] == ["c", "a", "b"]
        assert [r.id for r in ledger.find("run", newest_first=True)] == ["b", "a", "c"]
        assert [r.id for r in ledger.find("run", newest_first=True, limit=2)] == ["b", "a"]
        assert ledger.find("run", limit=0) == []
        assert ledger.find("nothing") == []

    def test_find_after_a_time_leaves_out_what_was_there_then(self, ledger: Ledger) -> None:
        first = ledger.put("run", "a", {})
        second = ledger.put("run", "b", {})
        assert [r.id for r in ledger.find("run", after=first.created_at)] == (["b"] if second.created_at > first.created_at else [])
        assert ledger.find("run", after=second.created_at) == []
        hour = (parse_time(first.created_at) - timedelta(hours=1)).isoformat()
        assert len(ledger.find("run", after=hour)) == 2
        assert len(ledger.find("run", after="2013-04-01")) == 2

    @pytest.mark.parametrize("newest_first", [False, True])
    def test_pages_that_begin_past_the_last_one_give_everything_once_and_in_order(self, ledger: Ledger, newest_first: bool) -> None:
        with ledger.transaction():
            for n in range(23):
                ledger.put("run", f"r{n * 7 % 23:02}", {"even": n % 2 == 0})
        everything = ledger.find("run", newest_first=newest_first)
        pages: list[Any] = []
        while page := ledger.find("run", newest_first=newest_first, limit=5, past=(pages[-1].created_at, pages[-1].id) if pages else None):
            pages += page
        assert pages == everything
        mark = (everything[9].created_at, everything[9].id)
        assert ledger.find("run", {"even": True}, newest_first=newest_first, past=mark) == [r for r in everything[10:] if r["even"]]
        assert ledger.find("model", past=mark) == []
        with pytest.raises(UsageError):
            ledger.find("run", past=("yesterday", "r01"))

    def test_pages_are_not_shifted_by_what_is_written_or_changed_meanwhile(self, ledger: Ledger) -> None:
        for n in range(6):
            ledger.put("run", f"r{n}", {"n": n})
        first = ledger.find("run", newest_first=True, limit=3)
        ledger.put("run", "r9", {})
        ledger.put("run", "r1", {"n": "changed"})
        rest = ledger.find("run", newest_first=True, past=(first[-1].created_at, first[-1].id))
        assert [r.id for r in rest] == ["r2", "r1", "r0"]

    def test_count_says_how_many_find_would_give(self, ledger: Ledger) -> None:
        for n in range(5):
            ledger.put("run", f"r{n}", {"odd": n % 2 == 1, "params": {"depth": n}})
        ledger.put("model", "m", {})
        assert (ledger.count("run"), ledger.count("run", {"odd": True}), ledger.count("run", {"params.depth": 3})) == (5, 2, 1)
        assert (ledger.count("run", {"odd": None}), ledger.count("nothing")) == (0, 0)

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (True, ["true"]),
            (False, ["false"]),
            (1, ["float", "one"]),
            (1.0, ["float", "one"]),
            ("1", ["text"]),
            ("true", ["word"]),
            (0, ["minus zero", "zero"]),
            (0.1 + 0.2, ["sum"]),
            (2**53 + 1, ["odd"]),
            (None, ["absent", "null"]),
            ("", ["blank"]),
            ('it\'s "so" \\ \n é', ["quoted"]),
            ("[1]", []),
            (2, []),
        ],
    )
    def test_find_tells_values_apart_by_type_and_to_the_last_bit(self, ledger: Ledger, value: Any, expected: list[str]) -> None:
        values = {
            "true": True, "false": False, "one": 1, "float": 1.0, "text": "1", "word": "true", "zero": 0, "minus zero": -0.0,
            "sum": 0.1 + 0.2, "about": 0.3, "odd": 2**53 + 1, "even": 2**53, "null": None, "blank": "", "quoted": "it's \"so\" \\ \n é",
            "list": [1], "object": {"v": 1},
        }  # fmt: skip
        for name, held in values.items():
            ledger.put("thing", name, {"v": held})
        ledger.put("thing", "absent", {})
        assert sorted(r.id for r in ledger.find("thing", {"v": value})) == expected

    def test_find_reaches_into_objects_and_wants_every_field(self, ledger: Ledger) -> None:
        ledger.put("run", "a", {"model": "late", "params": {"depth": 3, "it's": 1}})
        ledger.put("run", "b", {"model": "late", "params": {"depth": 4}})
        ledger.put("run", "c", {"model": "early", "params": {"depth": 3}})
        ledger.put("run", "d", {"model": "late", "params": [3]})
        ledger.put("run", "e", {"model": "late", "params": "depth"})
        assert [r.id for r in ledger.find("run", {"model": "late", "params.depth": 3})] == ["a"]
        assert [r.id for r in ledger.find("run", {"params.it's": 1})] == ["a"]
        assert [r.id for r in ledger.find("run", {"model": "late", "params.depth": None})] == ["d", "e"]
        assert [r.id for r in ledger.find("run", {"params.0": 3})] == []

    def test_find_looks_into_bodies_with_any_character(self, ledger: Ledger) -> None:
        texts = ["\x00", "\x01", "\x00\x01", "\\u0000", "\\\x00", "\x010", "0", "x" * 200, "x" * 201, "x" * 5000, "é" * 199, "%s", "%"]
        for name, text in enumerate(texts):
            ledger.put("thing", str(name), {"v": text, "other": "\x00", "\x01": "\x00\x01", "100%": text})
        for name, text in enumerate(texts):
            assert [r.id for r in ledger.find("thing", {"v": text})] == [str(name)]
            assert [r.id for r in ledger.find("thing", {"100%": text})] == [str(name)]
            assert ledger.get("thing", str(name)).body["\x01"] == "\x00\x01"  # type: ignore[union-attr]

    @pytest.mark.parametrize("where", [{'a"b': 1}, {"a..b": 1}, {"": 1}, {"a": [1]}, {"a": {}}])
    def test_find_refuses_what_it_cannot_compare(self, ledger: Ledger, where: dict[str, Any]) -> None:
        with pytest.raises(UsageError):
            ledger.find("run", where)

    # Links

    def test_links_are_found_from_both_ends_in_the_order_they_were_made(self, ledger: Ledger) -> None:
        trained, caused, other = Link(RUN, "trained_on", DATA), Link(RUN, "caused_by", MODEL), Link(MODEL, "trained_on", DATA)
        for link in (trained, caused, other):
            ledger.link(link)
        assert list(ledger.links(RUN)) == [trained, caused]
        assert list(ledger.links(DATA, back=True)) == [trained, other]
        assert list(ledger.links(RUN, relation="caused_by")) == [caused]
        assert list(ledger.links(DATA)) == []
        assert list(ledger.links(DATA, back=True, relation="caused_by")) == []

    def test_saying_a_link_twice_is_the_same_as_once(self, ledger: Ledger) -> None:
        first, second = Link(RUN, "trained_on", DATA), Link(RUN, "caused_by", MODEL)
        for link in (first, second, first):
            ledger.link(link)
        assert list(ledger.links(RUN)) == [first, second]

    # Events

    def test_events_are_numbered_from_one_and_each_hash_covers_the_one_before(self, ledger: Ledger) -> None:
        made = [ledger.append("promoted", MODEL, {"n": n, "why": ("a", math.inf)}, actor="ann") for n in range(3)]
        assert [event.seq for event in made] == [1, 2, 3]
        assert [event.previous for event in made] == [GENESIS, made[0].hash, made[1].hash]
        read = ledger.events_since()
        assert read == made
        assert [chain_hash(event) for event in read] == [event.hash for event in made]
        assert (read[0].kind, read[0].subject, read[0].actor, read[0].body) == ("promoted", MODEL, "ann", {"n": 0, "why": ["a", math.inf]})
        assert datetime.fromisoformat(read[0].time).tzinfo is not None

    def test_an_event_needs_no_body_and_has_an_actor_anyway(self, ledger: Ledger) -> None:
        event = ledger.append("started", RUN)
        assert (event.body, event.actor) == ({}, "treadle")
        assert ledger.events_since() == [event]

    def test_events_since_gives_the_next_ones_oldest_first(self, ledger: Ledger) -> None:
        for kind in ("a", "b", "a", "c", "a"):
            ledger.append(kind, RUN)
        assert [e.seq for e in ledger.events_since(2)] == [3, 4, 5]
        assert [e.seq for e in ledger.events_since(0, limit=2)] == [1, 2]
        assert [e.seq for e in ledger.events_since(1, kinds=("a",))] == [3, 5]
        assert [e.seq for e in ledger.events_since(1, kinds=("a", "c"), limit=2)] == [3, 4]
        assert ledger.events_since(5) == []

    def test_events_before_gives_the_newest_first_by_who_what_about_which_and_when(self, ledger: Ledger) -> None:
        for n, (kind, actor) in enumerate([("run.started", "ann"), ("run.done", "bob"), ("runner", "ann"), ("note.written", "ann")]):
            ledger.append(kind, RUN if n % 2 == 0 else MODEL, {"n": n}, actor=actor)
        made = ledger.events_since()

        def seqs(*before: int, **asked: Any) -> list[int]:
            return [e.seq for e in ledger.events_before(*before, **asked)]

        assert ledger.events_before() == made[::-1]
        for asked in ({"actor": "ann"}, {"kinds": ["run."]}, {"subject_id": "late"}, {"since": made[2].time}, {"until": made[2].time}):
            assert ledger.events_since(**asked) == ledger.events_before(**asked)[::-1]
        assert [e.seq for e in ledger.events_since(1, actor="ann", limit=1)] == [3]
        assert (seqs(3), seqs(limit=2), seqs(3, limit=1), seqs(1), seqs(limit=0)) == ([2, 1], [4, 3], [2], [], [])
        assert (seqs(kinds=["run."]), seqs(kinds=["run.done", "note."]), seqs(kinds=["run"])) == ([2, 1], [4, 2], [])
        assert (seqs(actor="ann"), seqs(actor="ann", kinds=["run."]), seqs(actor="a%")) == ([4, 3, 1], [1], [])
        assert (seqs(subject_kind="run"), seqs(subject_id="late"), seqs(subject_kind="run", subject_id="late")) == ([3, 1], [4, 2], [])
        assert seqs(since=made[2].time) == [e.seq for e in made[::-1] if e.time >= made[2].time]
        assert seqs(until=made[2].time) == [e.seq for e in made[::-1] if e.time < made[2].time]
        assert (seqs(since="2013-04-01", until="2014-04-01"), seqs(actor="a\x00"), seqs(kinds=["\x00."])) == ([], [], [])
        with pytest.raises(UsageError):
            ledger.events_before(since="yesterday")

    def test_events_of_many_threads_form_one_chain(self, ledger: Ledger) -> None:
        _in_threads(*[lambda: [ledger.append("tick", RUN) for _ in range(15)]] * 4)
        events = ledger.events_since()
        assert [e.seq for e in events] == list(range(1, 61))
        assert all(later.previous == earlier.hash == chain_hash(earlier) for earlier, later in pairwise(events))

    # Points

    def test_points_come_by_name_then_step_then_order_of_writing(self, ledger: Ledger) -> None:
        at = "2013-04-01T12:30:00.000001Z"
        loss = [Point("r", "loss", value, step, at) for value, step in ((0.5, 2), (0.9, 1), (0.4, 2))]
        ledger.log_points([*loss, Point("r", "auc", 0.7, 9, at), Point("other", "loss", 1.0, 1, at)])
        ledger.log_points(iter([Point("r", "loss", 0.3, 2, at)]))
        assert [(p.name, p.step, p.value) for p in ledger.points("r")] == [
            ("auc", 9, 0.7), ("loss", 1, 0.9), ("loss", 2, 0.5), ("loss", 2, 0.4), ("loss", 2, 0.3),
        ]  # fmt: skip
        assert ledger.points("r", "auc") == [Point("r", "auc", 0.7, 9, at)]
        assert ledger.points("r", "f1") == ledger.points("nobody") == []

    def test_the_last_point_of_each_metric_is_that_of_its_highest_step(self, ledger: Ledger) -> None:
        """Of a run, of a name in all runs, or of all; of one step the last written counts."""
        ledger.log_points([Point("a", "loss", 0.9, 1), Point("a", "loss", 0.5, 7), Point("a", "loss", 0.4, 3), Point("b", "loss", 0.8, 2)])
        ledger.log_points([Point("a", "auc", math.nan, 0), Point("a", "loss", 0.6, 7)])
        assert [(p.run, p.name, p.value, p.step) for p in ledger.last_points(name="loss")] == [("a", "loss", 0.6, 7), ("b", "loss", 0.8, 2)]
        assert [(p.name, p.step) for p in ledger.last_points("a")] == [("auc", 0), ("loss", 7)]
        assert [(p.run, p.name) for p in ledger.last_points()] == [("a", "auc"), ("a", "loss"), ("b", "loss")]
        assert [p.step for p in ledger.last_points("a", "loss")] == [7]
        assert ledger.last_points("nobody") == ledger.last_points(name="f1") == []

    def test_the_best_of_the_last_points_come_first_within_limits_and_equal_ones_by_run(self, ledger: Ledger) -> None:
        values = {"a": 0.5, "b": 0.9, "c": 0.7, "d": 0.7, "e": math.nan, "f": -math.inf, "g": math.inf}
        ledger.log_points([Point(run, "auc", value, 2) for run, value in values.items()])
        ledger.log_points([Point(run, "auc", 2.0, 1) for run in values] + [Point("a", "loss", 0.1)])

        def runs(**asked: Any) -> str:
            return "".join(p.run for p in ledger.best_points("auc", **asked))

        assert runs() == "gbcdaf"
        assert runs(most=False) == "facdbg"
        assert runs(limit=2) == "gb"
        assert runs(at_least=0.5, at_most=0.8) == "cda"
        assert runs(at_most=-1.0) == "f"
        assert [(p.name, p.value, p.step) for p in ledger.best_points("auc", at_most=0.9, limit=1)] == [("auc", 0.9, 2)]
        assert ledger.best_points("f1") == []

    def test_points_hold_every_float_and_get_the_present_when_they_name_no_time(self, ledger: Ledger) -> None:
        before = iso(SystemClock().now())
        ledger.log_points([Point("r", "x", value, step) for step, value in enumerate([math.nan, math.inf, -math.inf, 5e-324, 0.1, 3])])
        found = ledger.points("r", "x")
        assert math.isnan(found[0].value)
        assert [p.value for p in found[1:]] == [math.inf, -math.inf, 5e-324, 0.1, 3.0]
        assert all(before <= p.time <= iso(SystemClock().now()) for p in found)

    def test_points_are_stored_all_or_none(self, ledger: Ledger) -> None:
        def failing() -> Iterator[Point]:
            yield Point("r", "x", 1.0)
            raise OSError("the source broke")

        with pytest.raises(OSError, match="broke"):
            ledger.log_points(failing())
        with pytest.raises(UsageError):
            ledger.log_points([Point("r", "x", 1.0), Point("r", "x", 2.0, time="yesterday")])
        assert ledger.points("r") == []

    # Transactions

    def test_an_error_inside_a_block_comes_out_of_it(self, ledger: Ledger) -> None:
        with pytest.raises(ZeroDivisionError), ledger.transaction():
            raise ZeroDivisionError

    def test_a_block_that_raises_leaves_nothing_behind(self, ledger: Ledger) -> None:
        ledger.put("run", "old", {"n": 1})
        kept = ledger.append("kept", RUN)
        with suppress(ZeroDivisionError), ledger.transaction():
            _write_everything(ledger, "x")
            ledger.put("run", "old", {"n": 2})
            raise ZeroDivisionError
        assert [r.body for r in ledger.find("run")] == [{"n": 1}]
        assert (list(ledger.links(RUN)), ledger.events_since(), ledger.points("run-1")) == ([], [kept], [])
        assert ledger.append("next", RUN).previous == kept.hash

    def test_a_block_that_is_interrupted_leaves_nothing_behind(self, ledger: Ledger) -> None:
        with suppress(KeyboardInterrupt), ledger.transaction():
            _write_everything(ledger, "x")
            raise KeyboardInterrupt
        assert (ledger.find("run"), ledger.events_since()) == ([], [])

    def test_a_block_sees_its_own_writes(self, ledger: Ledger) -> None:
        with ledger.transaction():
            _write_everything(ledger, "x")
            assert [r.id for r in ledger.find("run")] == ["x"]
            assert len(ledger.events_since()) == len(ledger.links(RUN)) == len(ledger.points("run-1")) == 1
        assert [r.id for r in ledger.find("run")] == ["x"]
        assert len(ledger.events_since()) == len(ledger.links(RUN)) == len(ledger.points("run-1")) == 1

    def test_an_inner_block_that_raises_through_undoes_the_outer_one_too(self, ledger: Ledger) -> None:
        with suppress(ZeroDivisionError), ledger.transaction():
            _write_everything(ledger, "outer")
            with ledger.transaction():
                _write_everything(ledger, "inner")
                raise ZeroDivisionError
        assert (ledger.find("run"), ledger.events_since()) == ([], [])

    def test_the_outermost_block_decides_about_inner_ones_that_ended_well(self, ledger: Ledger) -> None:
        with suppress(ZeroDivisionError), ledger.transaction():
            with ledger.transaction():
                _write_everything(ledger, "inner")
            raise ZeroDivisionError
        assert (ledger.find("run"), ledger.events_since()) == ([], [])

    def test_an_inner_block_that_raises_and_is_caught_loses_only_its_own_writes(self, ledger: Ledger) -> None:
        with ledger.transaction():
            ledger.put("run", "outer", {})
            ledger.append("outer", RUN)
            with suppress(ZeroDivisionError), ledger.transaction():
                _write_everything(ledger, "inner")
                raise ZeroDivisionError
            ledger.append("after", RUN)
        assert [r.id for r in ledger.find("run")] == ["outer"]
        assert [(e.seq, e.kind) for e in ledger.events_since()] == [(1, "outer"), (2, "after")]

    def test_a_conflict_inside_a_block_can_be_caught_and_the_block_go_on(self, ledger: Ledger) -> None:
        ledger.put("run", "a", {})
        with ledger.transaction():
            with pytest.raises(Conflict):
                ledger.put("run", "a", {}, expect=0)
            ledger.put("run", "b", {})
        assert [r.id for r in ledger.find("run")] == ["a", "b"]

    def test_a_reader_sees_whole_transactions_only(self, ledger: Ledger) -> None:
        stop = threading.Event()
        torn: list[Any] = []

        def write() -> None:
            for n in range(40):
                with ledger.transaction():
                    ledger.put("pair", "left", {"n": n})
                    ledger.put("pair", "right", {"n": n})
            stop.set()

        def read() -> None:
            while not stop.is_set():
                seen = {r.id: r["n"] for r in ledger.find("pair")}
                if seen and (len(seen) != 2 or seen["left"] != seen["right"]):
                    torn.append(seen)

        _in_threads(write, read, read)
        assert torn == []

    def test_a_block_that_reads_and_writes_is_alone_with_what_it_reads(self, ledger: Ledger) -> None:
        ledger.put("counter", "c", {"n": 0})

        def increment() -> None:
            for _ in range(10):
                with ledger.transaction():
                    now = ledger.get("counter", "c")
                    assert now is not None
                    ledger.put("counter", "c", {"n": now["n"] + 1})

        _in_threads(*[increment] * 4)
        assert ledger.get("counter", "c")["n"] == 40  # type: ignore[index]

    # Survival

    def test_what_was_acknowledged_is_there_when_opened_again(self, ledger: Ledger, tmp_path: Path) -> None:
        if not self.survives:
            pytest.skip("gone with its process, as it says")
        with ledger.transaction():
            _write_everything(ledger, "x")
        event = ledger.append("last", RUN)
        again = self.make(tmp_path)
        assert again.find("run") == ledger.find("run")
        assert again.events_since() == ledger.events_since()
        assert again.links(RUN) == ledger.links(RUN)
        assert again.points("run-1") == ledger.points("run-1")
        assert again.append("next", RUN).previous == event.hash
        assert len(ledger.events_since()) == 3
        _close(again)

    def test_a_pickled_ledger_is_the_same_ledger_elsewhere(self, ledger: Ledger) -> None:
        if not self.survives:
            pytest.skip("gone with its process, as it says")
        ledger.put("run", "a", {"n": 1})
        again = pickle.loads(pickle.dumps(ledger))
        assert again.put("run", "a", {"n": 2}, expect=1).version == 2
        assert ledger.get("run", "a").body == {"n": 2}  # type: ignore[union-attr]
        _close(again)

    def test_the_chain_is_checked_and_a_closed_ledger_opens_again(self, ledger: Ledger) -> None:
        for n in range(3):
            ledger.append("tick", RUN, {"n": n, "nan": math.nan, "text": "\x00 é 🚲"})
        assert ledger.verify_chain() == 3
        ledger.close()
        assert ledger.append("tick", RUN).seq == 4

    def test_any_walk_through_its_verbs_ends_where_a_dictionary_ends(self) -> None:
        walk = type("Walk", (LedgerWalk,), {"make": staticmethod(self.make)})
        run_state_machine_as_test(walk, settings=SETTINGS)


def _write_everything(ledger: Ledger, name: str) -> None:
    ledger.put("run", name, {"n": 1})
    ledger.link(Link(RUN, "trained_on", DATA))
    ledger.append("started", RUN, {"name": name})
    ledger.log_points([Point("run-1", "loss", 0.5)])


def _in_threads(*work: Callable[[], object]) -> None:
    with ThreadPoolExecutor(len(work)) as pool:
        for done in [pool.submit(piece) for piece in work]:
            done.result(timeout=60)


def _close(ledger: Ledger) -> None:
    ledger.close()
