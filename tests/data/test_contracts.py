"""Contracts: what each row must obey sets the row aside with its reason; what all rows together must obey stops the run, or warns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import treadle as tr
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.declare.data import Dataset
from treadle.core.errors import ContractViolated, NotFound, ProjectError
from treadle.core.records import Record
from treadle.data import contracts, promises, schema_changes, versions
from treadle.data.distances import distances
from treadle.data.versions import Version
from treadle.monitoring import alarms
from treadle.monitoring.judge import Finding

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


class World:
    """Rows in memory that become versions, one after the other, at a clock that is set."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ledger, self.now = folder, MemoryLedger(), NOW
        self.tables = DeltaTables(folder / "tables", MemoryBlobs())
        self.project = tr.Project("shop", owner="sales desk")

    def take(self, frame: pl.DataFrame, contract: tr.Contract, uses: Any = None, **said: Any) -> Version:
        dataset = self.dataset(frame, contract, **said)
        version = versions.take(dataset, self.folder, self.tables, self.ledger, now=self.now, uses=uses)
        versions.record(version, self.ledger)
        return version

    def dataset(self, frame: pl.DataFrame, contract: tr.Contract, **said: Any) -> Dataset:
        return tr.Project("shop", owner="sales desk").dataset("orders", **{"source": tr.rows(lambda: frame), "key": "id", "contract": contract, **said})

    def state(self) -> Record:
        state = self.ledger.get(promises.STATE, "orders")
        assert state is not None
        return state

    def broken(self) -> dict[str, str]:
        return {p: b["sentence"] for p, b in self.state()["broken"].items()}

    def reasons(self, version: Version) -> dict[Any, str]:
        if not version.quarantine:
            return {}
        return dict(self.tables.scan(version.quarantine).select("id", "reason").collect().iter_rows())

    def events(self) -> list[tuple[str, str]]:
        return [(e.kind, e.body["promise"]) for e in self.ledger.events_since() if e.kind in ("contract.broken", "contract.kept")]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def rows(n: int = 100, **columns: Any) -> pl.DataFrame:
    return pl.DataFrame({"id": range(n), **columns})


# --- promises of a row


def test_a_text_that_does_not_match_or_is_too_short_or_long_is_set_aside(world: World) -> None:
    frame = pl.DataFrame({"id": [1, 2, 3, 4, 5], "code": ["AB1", "ab1", "A", "ABCDE", None]})
    contract = tr.Contract({"code": tr.text(pattern="[A-Z0-9]+", length=(2, 4), nullable=True)}, at_most=1)
    assert world.reasons(world.take(frame, contract)) == {
        2: "code does not match [A-Z0-9]+", 3: "code is shorter than 2 characters", 4: "code is longer than 4 characters",
    }  # fmt: skip


def test_a_pattern_is_of_the_whole_text(world: World) -> None:
    frame = pl.DataFrame({"id": [1, 2], "code": ["a", "ab\n"]})
    assert world.reasons(world.take(frame, tr.Contract({"code": tr.text(pattern="a|ab")}, at_most=1))) == {2: "code does not match a|ab"}


def test_a_moment_of_the_future_is_set_aside_beyond_what_clocks_may_differ_and_let_in_when_its_time_has_come(world: World) -> None:
    frame = pl.DataFrame({"id": [1, 2, 3], "at": [NOW - timedelta(days=1), NOW + timedelta(minutes=4), NOW + timedelta(minutes=6)]})
    contract = tr.Contract({"at": tr.timestamp(not_after="now", tolerance="5m")}, at_most=1)
    dataset = world.dataset(frame, contract, event_time="at")
    assert world.reasons(world.take(frame, contract, event_time="at")) == {3: "at is more than 5m in the future"}
    assert promises.due(dataset, world.ledger, world.now) == ""
    world.now += timedelta(minutes=2)
    due = promises.due(dataset, world.ledger, world.now)
    assert due == "2026-03-10T12:01:00.000000Z"  # so that an unchanged source is looked at again
    assert world.reasons(world.take(frame, contract, event_time="at")) == {}
    assert promises.due(dataset, world.ledger, world.now + timedelta(days=1)) == due


def test_a_moment_after_a_fixed_day_is_set_aside(world: World) -> None:
    frame = pl.DataFrame({"id": [1, 2], "at": [datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)]})
    assert world.reasons(world.take(frame, tr.Contract({"at": tr.timestamp(not_after="2026-01-01")}, at_most=1))) == {2: "at is after 2026-01-01"}


def test_columns_that_together_name_a_row_do_so_once_and_missing_values_name_nothing(world: World) -> None:
    frame = pl.DataFrame({"id": [1, 2, 3, 4], "a": ["x", "x", None, None], "b": [1, 1, 1, 1]})
    assert world.reasons(world.take(frame, tr.Contract({}, unique=[("a", "b")], at_most=1))) == {2: "a + b is not unique"}


def test_a_key_that_is_no_number_is_missing(world: World) -> None:
    frame = pl.DataFrame({"id": [1.0, float("nan"), 2.0], "x": [1, 2, 3]})
    version = world.take(frame, tr.Contract({}, at_most=1))
    assert version.reasons == {"id is missing": 1}


def test_a_rule_can_be_written_in_sql(world: World) -> None:
    frame = pl.DataFrame({"id": [1, 2, 3], "paid": [1, 5, None], "amount": [2, 2, 2]})
    contract = tr.Contract({}, {"nobody pays more than the amount": "paid <= amount"}, at_most=1)
    assert world.reasons(world.take(frame, contract)) == {2: "rule broken: nobody pays more than the amount"}


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (tr.Contract({}, {"odd": "paid <="}), "Rule 'odd' of data set 'orders' is no expression"),
        (tr.Contract({}, {"odd": "gone > 1"}), "Rule 'odd' of data set 'orders' cannot be decided"),
        (tr.Contract({"id": tr.integer()}, unique=("gone",)), "wants column 'gone' to be unique, which it has not"),
        (tr.Contract({"name": tr.text(pattern="(?=x)")}), "promise 'pattern' of column 'name' cannot be checked"),
    ],
)
def test_a_promise_that_cannot_be_checked_stops_the_run_and_is_not_passed_over(world: World, contract: tr.Contract, said: str) -> None:
    with pytest.raises(ProjectError, match=said):
        world.take(rows(30, name=["x"] * 30), contract)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: tr.number(ge=2, le=1), "ge=2 is above le=1"),
        (lambda: tr.category(isin=()), "allows no value"),
        (lambda: tr.text(length=(5, 2)), "no text is that long"),
        (lambda: tr.text(length=5), "is not \\(least, most\\)"),
        (lambda: tr.text(pattern="("), "is no regular expression"),
        (lambda: tr.text(policy="secret"), "There is no policy 'secret'"),
        (lambda: tr.timestamp(not_after="soon"), "'soon' is not a time"),
        (lambda: tr.Contract({}, volume=(5, 1)), "is not \\(least, most\\) rows"),
        (lambda: tr.Contract({}, volume_change="much"), "is not a share above 0"),
        (lambda: tr.Contract({}, fresh="0s"), "can never be kept"),
        (lambda: tr.Contract({}, fresh="a day"), "is not a length of time"),
        (lambda: tr.Contract({}, stop_on=("luck",)), "names 'luck', which is no promise"),
        (lambda: tr.Contract({}, like="previous"), "like='previous'"),
        (lambda: tr.like("previous"), "names no column"),
        (lambda: tr.like("previous", a={"kl": 1}), "There is no effect size 'kl'"),
        (lambda: tr.like("previous", a={"psi": -1}), "is not a number above 0"),
        (lambda: tr.Project("p").dataset("d", source=tr.csv("x"), key="id", contract=tr.Contract({}, fresh="1d")), "declares no time"),
    ],
)
def test_a_promise_that_cannot_be_is_refused_where_it_is_declared(make: Any, said: str) -> None:
    with pytest.raises(ProjectError, match=said) as refused:
        make()
    assert (refused.value.where or "").startswith("test_contracts.py:")


# --- promises of all rows together


def test_data_that_grew_old_are_told_in_a_sentence_with_numbers_and_warn(world: World) -> None:
    frame = rows(at=[NOW - timedelta(hours=30)] * 100)
    world.take(frame, tr.Contract({}, fresh="1d"), event_time="at")
    assert world.broken() == {"fresh": "The newest row is of 2026-03-09 06:00 UTC (at) and 1d6h old; it may be 1d old."}


def test_freshness_goes_by_the_known_time_where_there_is_one_and_the_future_makes_nothing_fresh(world: World) -> None:
    frame = rows(2, at=[NOW - timedelta(days=9)] * 2, seen=[NOW - timedelta(days=3), NOW + timedelta(days=30)])
    contract = tr.Contract({}, fresh="1d", stop_on=["fresh"])
    with pytest.raises(ContractViolated, match=r"The newest row is of 2026-03-07 12:00 UTC \(seen\) and 3d0h old"):
        world.take(frame, contract, event_time="at", known_time="seen")


def test_data_that_grow_old_are_looked_at_again_though_the_source_did_not_change(world: World) -> None:
    frame, contract = rows(at=[NOW - timedelta(hours=20)] * 100), tr.Contract({}, fresh="1d")
    dataset = world.dataset(frame, contract, event_time="at")
    world.take(frame, contract, event_time="at")
    assert promises.due(dataset, world.ledger, NOW + timedelta(hours=3)) == ""
    world.now = NOW + timedelta(hours=5)
    assert promises.due(dataset, world.ledger, world.now)
    world.take(frame, contract, event_time="at")
    assert "fresh" in world.broken()


@pytest.mark.parametrize(
    ("volume", "promised"), [((200, None), "at least 200"), ((None, 50), "at most 50"), ((200, 1_000), "200 to 1,000"), ((0, 50), "0 to 50")]
)
def test_too_few_or_too_many_rows_stop_the_run(world: World, volume: Any, promised: str) -> None:
    with pytest.raises(ContractViolated, match=f"The version has 100 rows; {promised} are promised"):
        world.take(rows(), tr.Contract({}, volume=volume))
    world.take(rows(), tr.Contract({}, volume=volume, stop_on=()))
    assert list(world.broken()) == ["volume"]


def test_a_number_of_rows_that_is_far_from_the_last_versions_stops_the_run(world: World) -> None:
    contract = tr.Contract({}, volume_change="50%")
    for n in (100, 110, 90, 105, 95):
        world.take(rows(n), contract)
    with pytest.raises(ContractViolated, match=r"has 40 rows, 60% fewer than the 100 of the last 5 versions \(median\); 50% is allowed"):
        world.take(rows(40), contract)
    world.take(rows(149), contract)


def test_a_column_that_is_no_longer_like_the_version_before_warns_with_the_effect_and_the_limit(world: World) -> None:
    random = np.random.default_rng(1)
    contract = tr.Contract({}, like=tr.like("previous", x={"psi": 0.2, "ks": 0.1}, city={"psi": 0.2, "missing": 0.1}), stop_on=["like"])
    first = rows(5_000, x=random.normal(size=5_000), city=random.choice(["Basel", "Zug"], 5_000))
    world.take(first, contract)
    world.take(first.with_columns(x=pl.Series(random.normal(size=5_000))), contract)  # another draw of the same is alike
    moved = first.with_columns(x=pl.Series(random.normal(1, size=5_000)), city=pl.when(pl.col("id") % 2 == 0).then("city"))
    with pytest.raises(ContractViolated) as stopped:
        world.take(moved, contract)
    said = str(stopped.value)
    assert "Column 'x' is not like that of version orders-" in said
    assert "PSI " in said
    assert "0.2 is allowed (above " in said
    assert "KS 0." in said
    assert "Column 'city' is not like" in said
    assert "the share of missing values changed by 50.0%, 10.0% is allowed" in said


def test_a_reference_can_be_pinned_and_must_exist(world: World) -> None:
    first = rows(1_000, x=[i / 100 for i in range(1_000)])
    version = world.take(first, tr.Contract({}))
    for step in range(1, 4):  # it drifts so slowly that no version is unlike the one before
        world.take(first.with_columns(pl.col("x") + step * 0.6), tr.Contract({}, like=tr.like("previous", x={"ks": 0.1}), stop_on=["like"]))
    with pytest.raises(ContractViolated, match=f"not like that of version {version.id}"):
        world.take(first.with_columns(pl.col("x") + 1.8), tr.Contract({}, like=tr.like(version.id, x={"ks": 0.1}), stop_on=["like"]))
    with pytest.raises(ContractViolated, match=f"not like that of version {version.id}"):
        world.take(first.with_columns(pl.col("x") + 1.8), tr.Contract({}, like=tr.like(str(version.number), x={"ks": 0.1}), stop_on=["like"]))
    with pytest.raises(NotFound, match="has no version 'gone' to be like"):
        world.take(first, tr.Contract({}, like=tr.like("gone", x={"ks": 0.1})))


def test_a_personal_column_that_moved_is_named_without_its_values(world: World) -> None:
    contract = tr.Contract({"city": tr.category(personal="address")}, like=tr.like("previous", city={"psi": 0.1}))
    world.take(rows(500, city=["Secretstreet 1"] * 250 + ["B"] * 250), contract)
    world.take(rows(500, city=["Secretstreet 1"] * 20 + ["B"] * 480), contract)
    assert "PSI" in world.broken()["like"]
    assert "Secret" not in world.broken()["like"]


@pytest.mark.parametrize(
    ("said", "column"),
    [({"subject": "who"}, tr.text()), ({"key": ("id", "who")}, tr.text()), ({}, tr.text(unique=True)), ({}, tr.text(personal="name"))],
)  # fmt: skip
def test_no_event_names_a_value_that_says_whom_a_row_is_about(world: World, said: dict[str, Any], column: Any) -> None:
    contract = tr.Contract({"who": column}, like=tr.like("previous", who={"psi": 0.1}), at_most=1.0)
    world.take(rows(500, who=["Berta Secret"] * 250 + ["Anna"] * 250), contract, **said)
    world.take(rows(500, who=["Anna Secret"] * 20 + ["Berta"] * 480), contract, **said)
    if "like" in world.broken():  # a unique column has one row of each name left, alike by chance
        assert "Column 'who' is not like" in world.broken()["like"]
    alarms.about_data(world.ledger, ReplayClock(NOW))
    events = [str(e.body) for e in world.ledger.events_since()]
    assert events
    assert not [e for e in events if "Anna" in e or "Berta" in e]
    alarm = next((a for a in alarms.open_data_alarms(world.ledger) if a["kind"] == "distribution"), None)
    assert (alarm is None) == ("like" not in world.broken())


def test_an_alarm_says_its_sentence_in_its_record_and_not_in_an_event_that_nobody_can_erase(world: World) -> None:
    clock = ReplayClock(NOW)
    told = Finding("skew", "share", 0.5, 0.1, 0, 1, (("size", 1.0),), "For example p-1: size was 'Secretstreet 1', and the data give 2.")
    alarm = alarms.raise_alarm("late", 1, told, world.ledger, clock)
    assert alarm is not None
    assert "Secretstreet" in alarm["sentence"]
    alarms.resolve(alarm, "its retraining could not be done: 'Secretstreet 1' is no number", world.ledger, clock)
    assert [(e.kind, e.body) for e in world.ledger.events_since()] == [
        ("alarm.raised", {"kind": "skew", "severity": "high"}), ("alarm.resolved", {"kind": "skew"}),
    ]  # fmt: skip


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.lists(st.floats(-5, 5), min_size=1, max_size=60))
def test_the_kolmogorov_smirnov_distance_is_the_largest_between_the_two_shares_below_any_value(a: list[float], b: list[float]) -> None:
    brute = max(abs(sum(v <= x for v in a) / len(a) - sum(v <= x for v in b) / len(b)) for x in [*a, *b])
    assert distances(pl.Series(a), pl.Series(b)).sizes["ks"] == pytest.approx(brute)


@given(st.lists(st.none() | st.sampled_from("abc"), min_size=1, max_size=50), st.integers(0, 3))
def test_a_column_against_itself_has_moved_by_chance_at_most(values: list[str | None], seed: int) -> None:
    series = pl.Series(values, dtype=pl.String)
    found = distances(series, series.shuffle(seed))
    assert found.sizes["psi"] <= 0
    assert found.sizes["missing"] == 0


def test_distances_of_nothing_are_none() -> None:
    assert distances(pl.Series([], dtype=pl.Float64), pl.Series([1.0])).sizes == {}
    assert distances(pl.Series([None, None], dtype=pl.Float64), pl.Series([1.0, 2.0])).sizes["missing"] == 1


# --- alarms


def test_a_broken_promise_is_one_alarm_to_the_owner_and_ends_with_the_first_rows_that_keep_it(world: World) -> None:
    contract, clock = tr.Contract({}, volume=(100, None)), ReplayClock(NOW)
    for _ in range(3):
        with pytest.raises(ContractViolated):
            world.take(rows(50), contract)
        alarms.about_data(world.ledger, clock)
    found = alarms.open_data_alarms(world.ledger)
    assert len(found) == 1
    alarm = found[0]
    assert (alarm["dataset"], alarm["owner"], alarm["kind"], alarm["severity"]) == ("orders", "sales desk", "volume", "high")
    assert alarm["for"] == ["sales desk"]
    assert alarm["sentence"] == "The version has 50 rows; at least 100 are promised."
    with pytest.raises(ContractViolated):
        world.take(rows(40), contract)
    alarms.about_data(world.ledger, clock)
    assert [a["sentence"] for a in alarms.open_data_alarms(world.ledger)[0]["again"]] == ["The version has 40 rows; at least 100 are promised."]
    world.take(rows(120), contract)
    alarms.about_data(world.ledger, clock)
    assert alarms.open_data_alarms(world.ledger) == []
    assert world.events() == [("contract.broken", "volume"), ("contract.kept", "volume")]
    world.now += timedelta(days=1)
    with pytest.raises(ContractViolated):
        world.take(rows(50), contract)
    alarms.about_data(world.ledger, clock)
    assert [a.id for a in alarms.open_data_alarms(world.ledger)] != [alarm.id]  # a new breach is a new alarm


def test_too_many_rows_set_aside_stop_the_run_and_can_be_looked_at_all_the_same(world: World) -> None:
    with pytest.raises(ContractViolated, match=r"10 of 100 rows \(10.0%\) break the contract, more than the 5.0% it allows: x is above 89"):
        world.take(rows(x=range(100)), tr.Contract({"x": tr.integer(le=89)}))
    assert world.state()["stopped"]
    assert world.tables.scan(world.state()["quarantine"]).collect().height == 10
    assert world.ledger.find("dataset_version") == []


# --- changes of the schema

USES = {"city": ["view 'recent'", "model 'late'"], "x": ["model 'late'"]}


def changed(before: dict[str, str], now: dict[str, str]) -> list[tuple[str, str, bool]]:
    return [(c.column, c.what, c.breaking) for c in schema_changes.compare(before, now)]


def test_columns_that_come_are_compatible_and_columns_that_go_or_say_less_are_breaking() -> None:
    assert changed({"a": "Int64"}, {"a": "Int64", "b": "String"}) == [("b", "added", False)]
    assert changed({"a": "Int64", "b": "String"}, {"a": "Int64"}) == [("b", "removed", True)]
    assert changed({"a": "Int64", "city_name": "String"}, {"a": "Int64", "cityname": "String"}) == [("city_name", "renamed", True)]
    assert changed({"a": "Int32"}, {"a": "Int64"}) == [("a", "widened", False)]
    assert changed({"a": "Int64"}, {"a": "Float64"}) == [("a", "widened", False)]
    assert changed({"a": "Float64"}, {"a": "Int64"}) == [("a", "type", True)]
    assert changed({"a": "String"}, {"a": "Float64"}) == [("a", "type", True)]


@pytest.mark.parametrize(
    ("before", "now", "what", "breaks"),
    [
        (tr.number(), tr.number(nullable=True), "nullable", True),
        (tr.number(nullable=True), tr.number(), "not nullable", False),
        (tr.category(isin=("a",)), tr.category(isin=("a", "b")), "set", True),
        (tr.category(isin=("a",)), tr.category(), "set", True),
        (tr.category(isin=("a", "b")), tr.category(isin=("a",)), "set narrowed", False),
        (tr.category(), tr.category(isin=("a",)), "set narrowed", False),
        (tr.integer(unique=True), tr.integer(), "not unique", True),
        (tr.integer(), tr.number(), "widened", False),
        (tr.number(), tr.integer(), "type", True),
        (tr.number(unit="km"), tr.number(unit="mile"), "unit", True),
        (tr.number(ge=0), tr.number(ge=-5), "range wider", False),
        (tr.number(), tr.number(ge=-5), "range narrower", False),
    ],
)
def test_a_promise_that_is_taken_back_is_breaking_and_a_new_one_is_compatible(before: Any, now: Any, what: str, breaks: bool) -> None:
    def declared(column: Any) -> dict[str, Any]:
        return schema_changes.declared(tr.Project("p").dataset("d", source=tr.csv("x"), key="id", contract=tr.Contract({"c": column})))

    found = schema_changes.compare({"c": "String"}, {"c": "String"}, declared(before), declared(now))
    assert [(c.column, c.what, c.breaking) for c in found] == [("c", what, breaks)]
    assert found[0].sentence.startswith("column 'c' ")


@given(st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["Int64", "Float64", "String", "Boolean"]), max_size=5))
def test_a_schema_against_itself_has_not_changed(schema: dict[str, str]) -> None:
    assert schema_changes.compare(schema, schema) == []


def test_a_breaking_change_of_a_column_that_is_used_stops_the_run_until_a_person_accepts_it(world: World) -> None:
    frame = rows(city=["Basel"] * 100, x=[1.0] * 100, unused=[1] * 100)
    world.take(frame, tr.Contract({}), uses=USES)
    world.take(frame.drop("unused"), tr.Contract({}), uses=USES)  # nothing uses it
    assert world.state()["changes"][0]["what"] == "removed"
    with pytest.raises(ContractViolated, match=r"Column 'city' is gone: .* \(used by view 'recent', model 'late'\).* treadle contract accept orders"):
        world.take(frame.drop("unused", "city"), tr.Contract({}), uses=USES)
    assert promises.accept("orders", "the shop moved", "ada", world.ledger) == ["column 'city' is gone: what asks for it finds nothing"]
    world.take(frame.drop("unused", "city"), tr.Contract({}), uses=USES)
    assert world.broken() == {}
    accepted = [e for e in world.ledger.events_since() if e.kind == "contract.accepted"]
    assert [(e.actor, e.body["reason"]) for e in accepted] == [("ada", "the shop moved")]
    with pytest.raises(NotFound, match="No breaking change of data set 'orders' waits"):
        promises.accept("orders", "again", "ada", world.ledger)


def test_an_acceptance_is_for_the_change_that_was_looked_at_and_no_other(world: World) -> None:
    frame = rows(city=["Basel"] * 100, x=[1.0] * 100)
    world.take(frame, tr.Contract({}), uses=USES)
    with pytest.raises(ContractViolated):
        world.take(frame.drop("city"), tr.Contract({}), uses=USES)
    promises.accept("orders", "meant", "ada", world.ledger)
    with pytest.raises(ContractViolated, match="column 'x' is gone"):
        world.take(frame.drop("city", "x"), tr.Contract({}), uses=USES)


def test_a_contract_that_takes_a_promise_back_stops_the_run_too(world: World) -> None:
    frame = rows(city=["Basel"] * 100)
    world.take(frame, tr.Contract({"city": tr.category(isin=("Basel",))}), uses=USES)
    with pytest.raises(ContractViolated, match=r"Column 'city' may also be Zug: a value that nothing has seen \(used by view 'recent', model 'late'\)"):
        world.take(frame, tr.Contract({"city": tr.category(isin=("Basel", "Zug"))}), uses=USES)


def test_who_uses_a_column_is_read_from_the_project() -> None:
    project = tr.Project("p")
    orders = project.dataset("orders", source=tr.csv("o.csv"), key="id", event_time="at")
    visits = project.dataset("visits", source=tr.csv("v.csv"), key="id", event_time="at")
    seen = project.view("seen", source=visits, entity="shop", features={"mean": pl.col("length").mean()}, window="7d", every="1d")
    project.model("late", rows=orders, target="y", inputs=["x", tr.hour("at")], views=[seen], slices=["city"])
    assert schema_changes.uses(project, orders) == {c: ["model 'late'"] for c in ("x", "at", "shop", "y", "city", "id")}
    assert schema_changes.uses(project, visits)["length"] == ["view 'seen'", "model 'late'"]
    assert schema_changes.uses(project, visits)["id"] == ["view 'seen'"]


# --- which columns a model may learn from


def shop(**columns: Any) -> tuple[tr.Project, Dataset]:
    project = tr.Project("p")
    return project, project.dataset("orders", source=tr.csv("o.csv"), key="id", event_time="at", contract=tr.Contract(columns))


def test_a_model_may_not_learn_from_a_protected_deprecated_or_personal_column_unless_it_says_why() -> None:
    project, orders = shop(sex=tr.category(policy="protected"), old=tr.number(policy="deprecated"), mail=tr.text(personal="email"), y=tr.number())
    for column, why in (("sex", "is protected"), ("old", "is deprecated"), ("mail", r"holds personal data \(email\)")):
        with pytest.raises(ProjectError, match=f"Model 'm' uses column '{column}' of data set 'orders', which {why}"):
            project.model("m", rows=orders, target="y", inputs=[column])
        with pytest.raises(ProjectError, match=f"allows column '{column}' without a reason"):
            project.model("m", rows=orders, target="y", inputs=[column], allow={column: " "})
    with pytest.raises(ProjectError, match="which is protected"):
        project.model("m", rows=orders, target="y", inputs=[tr.length("sex")])
    assert project.model("m", rows=orders, target="y", inputs=["sex"], slices=["sex"], allow={"sex": "audit of bias"}).allow == {"sex": "audit of bias"}


def test_what_a_view_computes_from_a_column_is_learnt_from_it_too() -> None:
    project, orders = shop(sex=tr.category(policy="protected"), y=tr.number(), shop=tr.text())
    view = project.view("v", source=orders, entity="shop", features={"share": (pl.col("sex") == "f").mean()}, window="7d", every="1d")
    with pytest.raises(ProjectError, match="uses column 'sex' of data set 'orders' through view 'v', which is protected"):
        project.model("m", rows=orders, target="y", inputs=["shop"], views=[view])


def test_a_reason_that_nothing_needs_is_refused_and_judging_by_a_protected_column_needs_none() -> None:
    project, orders = shop(sex=tr.category(policy="protected"), x=tr.number(), y=tr.number())
    with pytest.raises(ProjectError, match="allows column 'x', which it does not use or which is free"):
        project.model("m", rows=orders, target="y", inputs=["x"], allow={"x": "why not"})
    assert project.model("m", rows=orders, target="y", inputs=["x"], slices=["sex"]).slices == ("sex",)


# --- against the plain definition


@given(
    st.lists(st.tuples(st.integers(0, 6), st.none() | st.integers(-3, 8), st.none() | st.sampled_from(["a", "b", "c", "dd"])), max_size=30),
)
def test_the_rows_that_are_named_are_just_those_that_break_a_promise(given_rows: Sequence[tuple[int, int | None, str | None]]) -> None:
    frame = pl.DataFrame(given_rows, schema={"id": pl.Int64, "n": pl.Int64, "c": pl.String}, orient="row")
    contract = tr.Contract({"n": tr.integer(ge=0, le=5, nullable=True), "c": tr.category(isin=("a", "b"), length=(1, 1))}, {"r": "n <> 3"})
    dataset = tr.Project("p").dataset("d", source=tr.csv("x"), key="id", contract=contract)
    seen: set[int] = set()
    expected = set()
    for i, (id, n, c) in enumerate(given_rows):
        if id in seen or (n is not None and not 0 <= n <= 5) or c not in ("a", "b") or n == 3:
            expected.add(i)
        seen.add(id)
    assert set(contracts.check(frame, dataset, [])["row"].to_list()) == expected
