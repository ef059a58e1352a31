"""What every online store must do: the promises of `treadle.ports.online`, one test each, and a random walk against a plain dictionary."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from treadle.ports.online import Key, OnlineStore, Value

SETTINGS = settings(max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


class OnlineContract:
    """Inherit, and say in `make` how to open a store that lives in a folder. `survives` is False for a store that is gone with the object."""

    survives = True

    def make(self, folder: Path) -> OnlineStore:
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[OnlineStore]:
        store = self.make(tmp_path)
        yield store
        _close(store)

    def test_values_come_in_the_order_asked_with_none_for_what_is_not_there(self, store: OnlineStore) -> None:
        jfk, lga, delays = Key("weather", "JFK"), Key("weather", "LGA"), Key("delays", "JFK")
        assert store.put_many([(jfk, Value(5, b"a")), (lga, Value(6, b"b")), (delays, Value(7, b"c"))]) == 3
        asked = [delays, Key("weather", "EWR"), jfk, Key("nothing", "JFK"), lga, jfk]
        assert store.get_many(asked) == [Value(7, b"c"), None, Value(5, b"a"), None, Value(6, b"b"), Value(5, b"a")]
        assert store.get_many([]) == []
        assert store.get_many([lga]) == [Value(6, b"b")]

    @pytest.mark.parametrize("many", [1, 2, 19, 20, 21, 499, 500, 501, 1200])
    def test_any_number_of_keys_can_be_asked_for_at_once(self, store: OnlineStore, many: int) -> None:
        keys = [Key("ab"[n % 2], str(n)) for n in range(many)]
        store.put_many((key, Value(n, b"%d" % n)) for n, key in enumerate(keys) if n % 3)
        expected = [Value(n, b"%d" % n) if n % 3 else None for n in range(many)]
        assert store.get_many(keys) == expected
        assert store.get_many(keys[::-1]) == expected[::-1]

    def test_entities_and_bytes_may_hold_anything(self, store: OnlineStore) -> None:
        entities = ["", "a\x1fb", "a\x00b", "é🚲", "'; DROP TABLE latest; --", "%", "x" * 5000]
        values = [(Key("v'\x00\"", entity), Value(-(2**62) + n, bytes(range(256)) * n)) for n, entity in enumerate(entities)]
        assert store.put_many(values) == len(entities)
        assert store.get_many([key for key, _ in values]) == [value for _, value in values]

    def test_an_older_value_changes_nothing(self, store: OnlineStore) -> None:
        key = Key("weather", "JFK")
        assert store.put_many([(key, Value(10, b"new"))]) == 1
        assert store.put_many([(key, Value(9, b"old"))]) == 0
        assert store.get_many([key]) == [Value(10, b"new")]
        assert store.put_many([(key, Value(11, b"newer"))]) == 1
        assert store.get_many([key]) == [Value(11, b"newer")]

    def test_the_same_value_written_twice_changes_nothing_and_a_correction_of_the_same_moment_wins(self, store: OnlineStore) -> None:
        key = Key("weather", "JFK")
        assert store.put_many([(key, Value(10, b"first"))]) == 1
        assert store.put_many([(key, Value(10, b"first"))]) == 0
        assert store.put_many([(key, Value(10, b"corrected"))]) == 1
        assert store.get_many([key]) == [Value(10, b"corrected")]

    def test_within_one_call_the_newest_wins_whatever_the_order(self, store: OnlineStore) -> None:
        key = Key("weather", "JFK")
        assert store.put_many([(key, Value(2, b"b")), (key, Value(3, b"c")), (key, Value(1, b"a"))]) == 2
        assert store.get_many([key]) == [Value(3, b"c")]

    def test_a_call_that_fails_stores_nothing(self, store: OnlineStore) -> None:
        def failing() -> Iterator[tuple[Key, Value]]:
            yield Key("weather", "JFK"), Value(1, b"a")
            raise OSError("the source broke")

        with pytest.raises(OSError, match="broke"):
            store.put_many(failing())
        assert store.get_many([Key("weather", "JFK")]) == [None]
        assert store.newest("weather") is None

    def test_a_view_knows_how_many_entities_it_has_and_how_fresh_it_is(self, store: OnlineStore) -> None:
        assert (store.count("weather"), store.newest("weather")) == (0, None)
        store.put_many([(Key("weather", "JFK"), Value(-5, b"")), (Key("weather", "LGA"), Value(-7, b"")), (Key("delays", "JFK"), Value(100, b""))])
        assert (store.count("weather"), store.newest("weather")) == (2, -5)
        store.put_many([(Key("weather", "LGA"), Value(-6, b""))])
        assert (store.count("weather"), store.newest("weather")) == (2, -5)
        store.put_many([(Key("weather", "LGA"), Value(0, b""))])
        assert (store.count("weather"), store.newest("weather")) == (2, 0)

    def test_clearing_a_view_forgets_its_values_and_no_others(self, store: OnlineStore) -> None:
        weather, delays = Key("weather", "JFK"), Key("delays", "JFK")
        store.put_many([(weather, Value(9, b"a")), (delays, Value(9, b"b"))])
        store.clear("weather")
        store.clear("never seen")
        assert store.get_many([weather, delays]) == [None, Value(9, b"b")]
        assert (store.count("weather"), store.newest("weather"), store.count("delays")) == (0, None, 1)
        assert store.put_many([(weather, Value(1, b"older is welcome now"))]) == 1
        assert store.newest("weather") == 1

    def test_of_two_values_the_one_of_the_later_event_is_the_newer(self, store: OnlineStore) -> None:
        key = Key("weather", "JFK")
        assert store.put_many([(key, Value(20, b"noon", 12))]) == 1
        assert store.put_many([(key, Value(30, b"morning, told late", 9))]) == 0
        assert (store.get_many([key]), store.newest("weather")) == ([Value(20, b"noon")], 20)
        assert store.put_many([(key, Value(31, b"noon, corrected", 12))]) == 1
        assert store.put_many([(key, Value(30, b"noon, corrected before that", 12))]) == 0
        assert store.put_many([(key, Value(25, b"a forecast", 13))]) == 1
        assert (store.get_many([key]), store.newest("weather")) == ([Value(25, b"a forecast")], 31)

    def test_a_value_that_does_not_say_its_event_is_about_the_moment_it_was_known(self, store: OnlineStore) -> None:
        key = Key("weather", "JFK")
        store.put_many([(key, Value(20, b"a"))])
        assert store.put_many([(key, Value(25, b"b", 19))]) == 0
        assert store.put_many([(key, Value(15, b"c", 21))]) == 1
        assert store.put_many([(key, Value(20, b"d"))]) == 0
        assert store.get_many([key]) == [Value(15, b"c")]

    def test_all_that_is_stored_of_a_view_can_be_gone_through(self, store: OnlineStore) -> None:
        values = {f"e{n}" if n else "": Value(n, b"%d" % n, n // 2) for n in range(4500)}
        store.put_many((Key("weather", entity), value) for entity, value in values.items())
        store.put_many([(Key("delays", "JFK"), Value(7, b"a"))])
        assert dict(store.scan("weather")) == values
        assert list(store.scan("delays")) == [("JFK", Value(7, b"a", 7))]
        assert list(store.scan("never seen")) == []

    def test_a_value_whose_end_is_ahead_is_there_and_comes_without_its_end(self, store: OnlineStore) -> None:
        late, ahead = Key("weather", "JFK"), Key("weather", "LGA")
        far = 4_102_444_800_000_000  # the year 2100
        assert store.put_many([(ahead, Value(5, b"a", 4, far)), (late, Value(5, b"b", 4))]) == 2
        assert store.get_many([ahead, late]) == [Value(5, b"a"), Value(5, b"b")]
        assert dict(store.scan("weather")) == {"LGA": Value(5, b"a", 4), "JFK": Value(5, b"b", 4)}
        assert store.put_many([(ahead, Value(6, b"c", 5))]) == 1
        assert (store.get_many([ahead]), store.count("weather")) == ([Value(6, b"c")], 2)

    def test_a_store_that_was_made_compact_holds_the_same(self, store: OnlineStore) -> None:
        values = {f"e{n * 7919 % 3000}": Value(n, b"%d" % n * 10, n // 2) for n in range(3000)}
        store.put_many((Key("weather", entity), value) for entity, value in values.items())
        store.compact()
        assert dict(store.scan("weather")) == values
        assert store.put_many([(Key("weather", "e1"), Value(5000, b"newer"))]) == 1
        assert store.get_many([Key("weather", "e1")]) == [Value(5000, b"newer")]

    def test_entities_are_forgotten_and_the_others_stay(self, store: OnlineStore) -> None:
        store.put_many((Key("weather", f"e{n}"), Value(n, b"%d" % n)) for n in range(1200))
        store.put_many([(Key("delays", "e1199"), Value(1, b"a"))])
        assert store.forget("weather", ["e1199", "e7", "e7", "not there"]) == 2
        assert store.get_many([Key("weather", "e1199"), Key("weather", "e7"), Key("weather", "e8")]) == [None, None, Value(8, b"8")]
        assert (store.count("weather"), store.newest("weather"), store.count("delays")) == (1198, 1198, 1)
        assert (store.forget("weather", ["e7"]), store.forget("weather", []), store.forget("never seen", ["e7"])) == (0, 0, 0)
        assert store.put_many([(Key("weather", "e7"), Value(3, b"older is welcome now"))]) == 1
        assert store.forget("weather", (entity for entity, _ in list(store.scan("weather")))) == 1199
        assert (store.count("weather"), store.newest("weather")) == (0, None)

    @pytest.mark.parametrize("more", [0, 30], ids=["few keys", "many keys"])
    def test_a_reader_sees_one_consistent_state(self, store: OnlineStore, more: int) -> None:
        keys = [Key("left", "a"), Key("right", "a"), *(Key("left", f"none {n}") for n in range(more))]
        stop = threading.Event()
        torn: list[Any] = []

        def write() -> None:
            for n in range(200):
                store.put_many([(key, Value(n, b"%d" % n)) for key in keys[:2]])
            stop.set()

        def read() -> None:
            while not stop.is_set():
                left, right = store.get_many(keys)[:2]
                if left != right:
                    torn.append((left, right))

        with ThreadPoolExecutor(3) as pool:
            for done in [pool.submit(write), pool.submit(read), pool.submit(read)]:
                done.result(timeout=60)
        assert torn == []
        assert store.get_many(keys[:2]) == [Value(199, b"199")] * 2

    def test_the_newest_value_wins_between_threads(self, store: OnlineStore) -> None:
        key = Key("weather", "JFK")
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: store.put_many([(key, Value(n * 7919 % 100, b"%d" % (n * 7919 % 100)))]), range(100)))
        assert store.get_many([key]) == [Value(99, b"99")]

    def test_what_was_put_is_there_when_opened_again(self, store: OnlineStore, tmp_path: Path) -> None:
        if not self.survives:
            pytest.skip("gone with its process, as it says")
        key = Key("weather", "JFK")
        store.put_many([(key, Value(9, b"a"))])
        again = self.make(tmp_path)
        assert again.get_many([key, key]) == [Value(9, b"a")] * 2
        again.put_many([(Key("new view", "JFK"), Value(1, b"b"))])
        assert store.get_many([Key("new view", "JFK")]) == [Value(1, b"b")]
        _close(again)

    def test_any_walk_through_its_verbs_ends_where_a_dictionary_ends(self) -> None:
        walk = type("Walk", (OnlineWalk,), {"make": staticmethod(self.make)})
        run_state_machine_as_test(walk, settings=SETTINGS)


_keys = st.builds(Key, st.sampled_from(["weather", "delays"]), st.sampled_from(["JFK", "LGA", ""]))
_moments = st.integers(-5, 5) | st.integers(-(2**63), 2**63 - 1)
_values = st.builds(Value, _moments, st.binary(max_size=3), st.none() | _moments, st.none())


class OnlineWalk(RuleBasedStateMachine):
    """A random walk through the verbs, held against `state` (values with their event) and `fresh`."""

    make: Callable[[Path], OnlineStore]  # set by the contract

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.store = self.make(Path(self._folder.name))
        self.state: dict[Key, Value] = {}
        self.fresh: dict[str, int] = {}

    @rule(values=st.lists(st.tuples(_keys, _values), max_size=6))
    def put_many(self, values: list[tuple[Key, Value]]) -> None:
        expected = 0
        for key, given in values:
            value = given._replace(event=given.time if given.event is None else given.event)
            before = self.state.get(key)
            if before is None or (value != before and (value.event, value.time) >= (before.event, before.time)):  # type: ignore[operator]
                self.state[key] = value
                self.fresh[key.view] = max(self.fresh.get(key.view, value.time), value.time)
                expected += 1
        assert self.store.put_many(values) == expected

    @rule(keys=st.lists(_keys, max_size=30))
    def get_many(self, keys: list[Key]) -> None:
        assert self.store.get_many(keys) == [Value(*self.state[key][:2]) if key in self.state else None for key in keys]

    @rule(view=st.sampled_from(["weather", "delays"]))
    def clear(self, view: str) -> None:
        self.store.clear(view)
        self.fresh.pop(view, None)
        self.state = {key: value for key, value in self.state.items() if key.view != view}

    @rule(view=st.sampled_from(["weather", "delays"]), entities=st.lists(st.sampled_from(["JFK", "LGA", "", "EWR"]), max_size=3))
    def forget(self, view: str, entities: list[str]) -> None:
        gone = {key for key in self.state if key.view == view and key.entity in entities}
        assert self.store.forget(view, entities) == len(gone)
        self.state = {key: value for key, value in self.state.items() if key not in gone}

    @invariant()
    def views_are_as_large_and_hold_what_was_put(self) -> None:
        for view in ("weather", "delays"):
            held = {key.entity: value for key, value in self.state.items() if key.view == view}
            assert dict(self.store.scan(view)) == held
            assert self.store.count(view) == len(held)
            newest = self.store.newest(view)
            assert (newest is None) == (not held)
            if newest is not None:  # after a value was forgotten, the latest of those that are left, or one that was replaced since
                assert max(value.time for value in held.values()) <= newest <= self.fresh[view]

    def teardown(self) -> None:
        _close(self.store)
        self._folder.cleanup()


def _close(store: OnlineStore) -> None:
    getattr(store, "close", lambda: None)()
