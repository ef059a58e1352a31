"""The quarantine and the way back: a decision is for one row as it is; it is applied at every take, and says so when the row has changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import treadle as tr
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock, iso
from treadle.core.declare.data import Dataset
from treadle.core.errors import Conflict, DataError, NotFound, UsageError
from treadle.data import quarantine, set_aside, versions
from treadle.data.parsing import Unparsed
from treadle.data.promises import STATE
from treadle.data.versions import Version

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
CONTRACT = {"id": tr.integer(), "size": tr.number(ge=0, le=10), "mail": tr.text(personal="email", nullable=True, pattern=".+@.+")}
HEADER = "id,size,mail,note"


class World:
    """A file of rows that becomes versions, and decisions about those that are set aside."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.ledger, self.clock = folder, MemoryLedger(), ReplayClock(NOW)
        self.tables = DeltaTables(folder / "tables", MemoryBlobs())
        self.dataset: Dataset = tr.Project("shop").dataset("orders", source=tr.csv("rows.csv"), key="id", contract=tr.Contract(CONTRACT, at_most=1))

    def take(self, *lines: str) -> Version:
        if lines:
            (self.folder / "rows.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
        version = versions.take(self.dataset, self.folder, self.tables, self.ledger, now=self.clock.now())
        versions.record(version, self.ledger)
        return version

    def good(self, version: Version) -> list[tuple[Any, ...]]:
        return self.tables.scan(version.address).select("id", "size", "mail").collect().sort("id").rows()

    def aside(self) -> list[set_aside.SetAside]:
        frame = set_aside.table(self.dataset, self.ledger, self.tables)
        return [] if frame is None else set_aside.rows(self.dataset, frame, quarantine.standing("orders", self.ledger))

    def decide(self, key: str, action: str, **values: str | None) -> None:
        row = set_aside.find(self.dataset, key, self.aside())
        quarantine.decide([set_aside.decision_for(row, self.dataset, action, values, "because", "ada")], self.ledger, self.clock)

    def state(self) -> Any:
        return self.ledger.get(STATE, "orders")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_corrected_row_is_in_the_next_version_and_the_correction_stands_for_those_after(world: World) -> None:
    first = world.take("1,1,,a", "2,99,,b", "3,3,,c")
    assert [(r.key, r.reason) for r in world.aside()] == [((2,), "size is above 10")]
    world.decide("2", "fix", size="9.5")
    second = world.take()
    assert world.good(second) == [(1, 1, None), (2, 9.5, None), (3, 3, None)]
    assert second.id != first.id
    assert world.aside() == []
    third = world.take("1,1,,a", "2,99,,b", "3,3,,c", "4,4,,d")
    assert (2, 9.5, None) in world.good(third)
    assert world.state()["fixed"] == 1


def test_a_released_row_is_let_in_as_it_is(world: World) -> None:
    world.take("1,1,,a", "2,99,,b")
    world.decide("2", "release")
    assert world.good(world.take()) == [(1, 1, None), (2, 99, None)]
    assert world.state()["released"] == 1


def test_what_could_not_be_read_is_kept_and_can_be_corrected(world: World) -> None:
    world.take("1,1,,a", "2,ten,,b")
    row = world.aside()[0]
    assert row.reason == "size does not read as number; size is missing"
    assert row.shown["size"] == "ten"
    assert row.values["size"] is None
    world.decide("2", "fix", size="10")
    assert world.good(world.take()) == [(1, 1, None), (2, 10, None)]


def test_a_decision_does_not_hold_for_a_row_that_the_source_has_changed_and_that_is_said(world: World) -> None:
    world.take("1,1,,a", "2,99,,b")
    world.decide("2", "fix", size="9")
    decision = quarantine.standing("orders", world.ledger)[0]
    for changed in ("2,98,,b", "2,99,,other", "2,ten,,b"):
        version = world.take("1,1,,a", changed)
        assert world.good(version) == [(1, 1, None)], changed
        assert list(world.state()["outdated"]) == [decision.id]
    assert world.good(world.take("1,1,,a", "2,99,,b")) == [(1, 1, None), (2, 9, None)]  # it is again the row that was decided about
    assert not world.state()["outdated"]


def test_a_correction_that_still_breaks_the_contract_is_refused_and_changes_nothing(world: World) -> None:
    world.take("1,1,,a", "2,99,nobody,b")
    frame = set_aside.table(world.dataset, world.ledger, world.tables)
    assert frame is not None
    with pytest.raises(DataError, match=r"still breaks the contract: mail does not match"):
        quarantine.check_fix(frame.row(0, named=True), {"size": "9"}, world.dataset, dict(frame.schema), NOW)
    with pytest.raises(DataError, match="size does not read as number"):
        quarantine.check_fix(frame.row(0, named=True), {"size": "many", "mail": "a@b"}, world.dataset, dict(frame.schema), NOW)
    with pytest.raises(NotFound, match="no column 'sise'"):
        quarantine.check_fix(frame.row(0, named=True), {"sise": "9"}, world.dataset, dict(frame.schema), NOW)
    quarantine.check_fix(frame.row(0, named=True), {"size": "9", "mail": "a@b"}, world.dataset, dict(frame.schema), NOW)


def test_a_correction_that_no_longer_satisfies_a_stricter_contract_leaves_the_row_set_aside(world: World) -> None:
    world.take("1,1,,a", "2,99,,b")
    world.decide("2", "fix", size="9")
    world.dataset = tr.Project("shop").dataset(
        "orders", source=tr.csv("rows.csv"), key="id", contract=tr.Contract({**CONTRACT, "size": tr.number(ge=0, le=5)}, at_most=1)
    )
    assert world.good(world.take()) == [(1, 1, None)]
    assert world.state()["fixed"] == 0


def test_a_second_row_of_one_key_is_not_let_in_but_with_another_key_it_is(world: World) -> None:
    world.take("1,1,,a", "1,2,,b")
    assert quarantine.hard_reasons(world.aside()[0].reason, world.dataset) == ["id is not unique"]
    world.decide("1", "release")
    assert world.good(world.take()) == [(1, 1, None)]
    world.decide("1", "fix", id="7")
    assert world.good(world.take()) == [(1, 1, None), (7, 2, None)]


def test_a_decision_can_be_taken_back_and_made_anew(world: World) -> None:
    world.take("1,1,,a", "2,99,,b")
    world.decide("2", "release")
    row = quarantine.standing("orders", world.ledger)[0].row
    assert len(world.good(world.take())) == 2
    quarantine.undo("orders", row[:8], "bob", "it was wrong", world.ledger)
    assert len(world.good(world.take())) == 1
    with pytest.raises(NotFound, match="No decision about row"):
        quarantine.undo("orders", row[:8], "bob", "", world.ledger)
    world.decide("2", "fix", size="1")
    assert world.good(world.take()) == [(1, 1, None), (2, 1, None)]
    said = [(e.kind, e.actor, e.body.get("reason")) for e in world.ledger.events_since() if e.kind.startswith("quarantine.")]
    assert said == [
        ("quarantine.released", "ada", "because"), ("quarantine.undone", "bob", "it was wrong"), ("quarantine.fixed", "ada", "because"),
    ]  # fmt: skip


def test_the_event_log_holds_no_value_of_a_correction(world: World) -> None:
    world.take("1,1,,a", "2,1,nobody,b")
    world.decide("2", "fix", mail="secret@example.org")
    assert "secret" not in repr([dict(e.body) for e in world.ledger.events_since()])


def test_decisions_are_an_ingredient_of_taking_a_version(world: World) -> None:
    world.take("1,1,,a", "2,99,,b")
    marks = [quarantine.digest_of(quarantine.standing("orders", world.ledger))]
    for action, values in (("release", {}), ("fix", {"size": "1"}), ("fix", {"size": "2"})):
        world.decide("2", action, **values)  # type: ignore[arg-type]
        marks.append(quarantine.digest_of(quarantine.standing("orders", world.ledger)))
    assert marks[0] == ""
    assert len(set(marks)) == 4


def test_a_row_is_named_by_its_key_or_the_first_signs_of_its_row(world: World) -> None:
    world.take("1,1,,a", "2,99,,b", "1,50,,c", "1,60,,d")
    rows = world.aside()
    assert set_aside.find(world.dataset, "2", rows).key == (2,)
    assert set_aside.find(world.dataset, rows[1].row[:8], rows).row == rows[1].row
    with pytest.raises(Conflict, match="2 rows have the key '1'"):
        set_aside.find(world.dataset, "1", rows)
    with pytest.raises(NotFound, match="No row '9'"):
        set_aside.find(world.dataset, "9", rows)


def test_personal_values_are_stored_and_not_shown(world: World) -> None:
    world.take("1,1,,a", "2,99,ada@example.org,b")
    row = world.aside()[0]
    assert row.values["mail"] == "ada@example.org"
    assert row.shown["mail"] == "<email>"


def test_since_when_a_row_is_set_aside_goes_back_to_the_first_take_without_a_break(world: World) -> None:
    world.take("1,1,,a", "2,99,,b")
    world.clock.set(datetime(2026, 3, 11, tzinfo=UTC))
    world.take("1,1,,a", "2,99,,b", "3,77,,c", "4,4,,d")
    world.clock.set(datetime(2026, 3, 12, tzinfo=UTC))
    world.take("1,1,,a", "2,99,,b", "3,77,,c", "4,5,,d")
    found = set_aside.since(world.dataset, world.aside(), world.ledger, world.tables)
    assert [found[r.row][:10] for r in world.aside()] == ["2026-03-10", "2026-03-11"]


def test_corrections_come_from_a_file_and_only_cells_that_differ_are_corrections(world: World) -> None:
    world.take("1,1,,a", "2,99,ada@example.org,b", "3,88,,c", "4,77,,d")
    path = world.folder / "fixed.csv"
    path.write_text("id,size,mail,note\n2,9,<email>,b\n3,88,,c\n4,7,,\n", encoding="utf-8")
    found = set_aside.corrections(path, world.dataset, world.aside())
    assert [(row.key, values) for row, values in found] == [((2,), {"size": "9"}), ((4,), {"size": "7"})]
    for text, error, said in (
        ("", DataError, "no corrections"), ("size\n1\n", DataError, "names no rows"), ("id,colour\n2,red\n", UsageError, "no column 'colour'"),
        ("id,size\n9,1\n", NotFound, "No row '9'"),
    ):  # fmt: skip
        path.write_text(text, encoding="utf-8")
        with pytest.raises(error, match=said):
            set_aside.corrections(path, world.dataset, world.aside())
    path.write_bytes(b"id,size\n\xff\xfe,1\n")
    with pytest.raises(DataError, match="do not read"):
        set_aside.corrections(path, world.dataset, world.aside())


def test_what_was_decided_about_a_person_can_be_emptied(world: World) -> None:
    world.take("1,1,,a", "2,1,nobody,b")
    world.decide("2", "fix", mail="secret@example.org")
    assert quarantine.forget("orders", {quarantine.key_digest((2,))}, world.ledger) == 1
    assert quarantine.standing("orders", world.ledger) == []
    assert "secret" not in repr([dict(r.body) for r in world.ledger.find(quarantine.KIND)])


# --- rows that come on top of earlier ones


def sort_out(world: World, lines: Sequence[tuple[int, float]], held: pl.DataFrame | None, decisions: Sequence[Any] = ()) -> quarantine.SortedOut:
    frame = pl.DataFrame([(i, s, None) for i, s in lines], schema={"id": pl.Int64, "size": pl.Float64, "mail": pl.String}, orient="row")
    return quarantine.sort_out(frame, world.dataset, [], decisions, NOW, held)


def test_with_rows_on_top_the_quarantine_is_kept_until_the_source_sends_the_key_again_or_somebody_decides(world: World) -> None:
    first = sort_out(world, [(1, 1), (2, 99), (3, 88)], None)
    second = sort_out(world, [(2, 2), (4, 77)], first.bad)
    assert second.good.rows() == [(2, 2.0, None)]
    assert sorted(second.bad["id"]) == [3, 4]
    rows = set_aside.rows(world.dataset, second.bad)
    decided = set_aside.decision_for(set_aside.find(world.dataset, "3", rows), world.dataset, "release", {}, "", "ada")
    third = sort_out(world, [], second.bad, [decided])
    assert third.good.rows() == [(3, 88.0, None)]
    assert third.bad["id"].to_list() == [4]


def test_a_held_row_whose_cell_could_not_be_read_is_not_let_in_without_it(world: World) -> None:
    frame = pl.DataFrame({"id": [1], "size": [1.0], "mail": [None]}, schema={"id": pl.Int64, "size": pl.Float64, "mail": pl.String})
    nullable = tr.Project("p").dataset("orders", source=tr.csv("x"), key="id", contract=tr.Contract({"size": tr.number(nullable=True)}, at_most=1))
    first = quarantine.sort_out(frame.with_columns(size=pl.lit(None, pl.Float64)), nullable, [Unparsed(0, "size", "ten", "number")])
    assert first.bad.height == 1
    assert quarantine.sort_out(frame.clear(), nullable, [], (), NOW, first.bad).bad.equals(first.bad)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-2, 12)), max_size=12), st.data())
def test_every_row_is_either_good_or_set_aside_and_a_released_one_is_good(given_rows: list[tuple[int, int]], data: st.DataObject) -> None:
    dataset = tr.Project("p").dataset("d", source=tr.csv("x"), key="id", contract=tr.Contract({"size": tr.number(ge=0, le=10)}, at_most=1))
    frame = pl.DataFrame([(i, float(s)) for i, s in given_rows], schema={"id": pl.Int64, "size": pl.Float64}, orient="row")
    found = quarantine.sort_out(frame, dataset, [], (), NOW)
    assert sorted([*found.good.rows(), *found.bad.select("id", "size").rows()]) == sorted(frame.rows())
    rows = [r for r in set_aside.rows(dataset, found.bad) if not quarantine.hard_reasons(r.reason, dataset)]
    if not rows:
        return
    chosen = data.draw(st.sampled_from(rows))
    decided = [set_aside.decision_for(chosen, dataset, "release", {}, "", "")]
    after = quarantine.sort_out(frame, dataset, [], decided, NOW)
    assert (chosen.values["id"], chosen.values["size"]) in after.good.rows()
    assert after.good["id"].n_unique() == after.good.height
    assert after.released >= 1


def test_a_data_set_may_have_columns_that_are_called_like_those_of_the_quarantine() -> None:
    frame = pl.DataFrame({"id": [1, 2], "size": [1.0, 99.0], "reason": ["x", "y"], "unread": [1, 2]})
    contract = tr.Contract({"size": tr.number(ge=0, le=10)}, at_most=1)
    dataset = tr.Project("p").dataset("d", source=tr.rows(lambda: frame), key="id", contract=contract)
    found = quarantine.sort_out(frame, dataset, [], (), NOW)
    assert found.bad.columns == ["id", "size", "reason", "unread", "unread_", "reason_"]
    row = set_aside.rows(dataset, found.bad)[0]
    assert (row.values["reason"], row.reason) == ("y", "size is above 10")


def test_the_moment_of_a_decision_is_that_of_the_clock(world: World) -> None:
    world.take("1,1,,a", "2,99,,b")
    world.decide("2", "release")
    assert quarantine.standing("orders", world.ledger)[0].at == iso(NOW)
