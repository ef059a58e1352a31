"""A version is registered all at once or not at all, under a number of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.errors import Conflict, NotFound, Refused
from treadle.core.records import Event, Ref
from treadle.ports.ledger import Ledger
from treadle.registry import versions
from treadle.registry.versions import all_versions, get, newest_approved, register, set_status


def body(key: str = "k", status: str = "approved", reasons: tuple[str, ...] = ()) -> dict[str, Any]:
    findings = [{"gate": "enough_rows", "passed": False, "reason": reason} for reason in reasons]
    return {"key": key, "status": status, "verdict": {"passed": status == "approved", "reasons": list(reasons), "findings": findings}, "run": "run-1"}


LINKS = [("trained_on", Ref("dataset_version", "rows-1")), ("made_by", Ref("run", "run-1"))]


@pytest.fixture(params=[MemoryLedger, SqliteLedger])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    make: Callable[..., Ledger] = request.param
    return make() if make is MemoryLedger else make(tmp_path / "ledger.db")


def test_versions_are_numbered_from_one_with_their_lineage_and_one_event_each(ledger: Ledger) -> None:
    first = register("late", body("a"), LINKS, ledger)
    second = register("late", body("b", "refused", ("too few rows in shop=Ada's",)), LINKS, ledger)
    other = register("other", body("a"), [], ledger)
    assert [(r.id, r["number"], r["model"]) for r in (first, second, other)] == [("late.v1", 1, "late"), ("late.v2", 2, "late"), ("other.v1", 1, "other")]
    assert [(link.relation, link.target) for link in ledger.links(Ref(versions.KIND, "late.v1"))] == LINKS
    assert [(e.kind, e.subject.id, e.body["gates"]) for e in ledger.events_since()] == [
        ("version.approved", "late.v1", []), ("version.refused", "late.v2", ["enough_rows"]), ("version.approved", "other.v1", []),
    ]  # fmt: skip


def test_the_same_training_is_the_same_version(ledger: Ledger) -> None:
    first = register("late", body("a"), LINKS, ledger)
    assert register("late", {**body("a"), "run": "run-2"}, LINKS, ledger) == first
    assert len(all_versions("late", ledger)) == 1
    assert len(ledger.events_since()) == 1


def test_an_exception_in_the_middle_leaves_nothing(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **options: Any) -> Event:
        raise RuntimeError("the power went")

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "append", fail)
        with pytest.raises(RuntimeError, match="the power went"):
            register("late", body("a"), LINKS, ledger)
    assert all_versions("late", ledger) == []
    assert ledger.links(Ref("run", "run-1"), back=True) == []
    assert ledger.events_since() == []
    assert register("late", body("a"), LINKS, ledger)["number"] == 1


@pytest.mark.parametrize("same", [False, True])
def test_registrations_at_once_get_numbers_of_their_own(tmp_path: Path, same: bool) -> None:
    """Eight threads, each with its own connection to one file. The same training registered by all of them is one version."""
    SqliteLedger(tmp_path / "ledger.db")
    gate, errors = threading.Barrier(8), []

    def work(i: int) -> None:
        try:
            mine = SqliteLedger(tmp_path / "ledger.db")
            gate.wait()
            for j in range(3):
                register("late", body(f"k{j}" if same else f"k{i}-{j}"), LINKS, mine)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    ledger = SqliteLedger(tmp_path / "ledger.db")
    found = all_versions("late", ledger)
    assert [r["number"] for r in found] == list(range(1, 4 if same else 25))
    assert len({r["key"] for r in found}) == len(found)
    assert len(ledger.events_since()) == len(found)
    ledger.verify_chain()


def test_versions_come_by_number_and_not_by_letter(ledger: Ledger) -> None:
    for i in range(11):
        register("late", body(f"k{i}"), [], ledger)
    assert [r["number"] for r in all_versions("late", ledger)] == list(range(1, 12))
    assert get("late", 11, ledger)["key"] == "k10"
    with pytest.raises(NotFound, match="Model 'late' has no version 12"):
        get("late", 12, ledger)


def test_the_newest_approved_one_is_the_newest_that_was_not_thrown_out(ledger: Ledger) -> None:
    assert newest_approved("late", ledger) is None
    for i, status in enumerate(("approved", "approved", "refused")):
        register("late", body(f"k{i}", status), [], ledger)
    found = newest_approved("late", ledger)
    assert found is not None
    assert found["number"] == 2
    set_status(found, "rejected", "it was worse", ledger)
    again = newest_approved("late", ledger)
    assert again is not None
    assert again["number"] == 1


def test_a_refused_version_cannot_be_made_good_by_hand(ledger: Ledger) -> None:
    record = register("late", body("a", "refused", ("no evidence of signal",)), [], ledger)
    for status in ("approved", "champion"):
        with pytest.raises(Refused, match="no evidence of signal"):
            set_status(record, status, "because I say so", ledger)
    assert get("late", 1, ledger)["status"] == "refused"


def test_a_status_is_changed_by_the_one_who_saw_the_last_one(ledger: Ledger) -> None:
    record = register("late", body("a"), [], ledger)
    set_status(record, "retired", "old", ledger, actor="ada")
    with pytest.raises(Conflict):
        set_status(record, "rejected", "stale", ledger)
    assert get("late", 1, ledger)["status"] == "retired"
    assert [(e.kind, e.actor) for e in ledger.events_since()] == [("version.approved", "treadle"), ("version.retired", "ada")]
