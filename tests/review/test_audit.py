"""The audit log: pages of it, files of it, and whether it is whole, looked at once."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from pathlib import Path

import pytest

from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.errors import UsageError
from treadle.core.records import Event, Ref, chain_hash
from treadle.ports.ledger import Ledger
from treadle.report import audit

RUN, MODEL = Ref("run", "run-1"), Ref("model", "late")


class Counting(MemoryLedger):
    """How many events were read."""

    seen = 0

    def events_since(self, *args: object, **more: object) -> list[Event]:
        found = super().events_since(*args, **more)  # type: ignore[arg-type]
        self.seen += len(found)
        return found


def filled(ledger: Ledger, count: int = 5) -> Ledger:
    for n in range(count):
        ledger.append("run.started" if n % 2 else "deployment.promoted", RUN if n % 2 else MODEL, {"n": n}, actor="ann" if n % 2 else "bob")
    return ledger


def test_a_check_goes_on_where_the_last_one_stopped() -> None:
    ledger = Counting()
    filled(ledger, 30)
    assert (audit.check_on(ledger)["entries"], ledger.seen) == (30, 30)
    filled(ledger, 3)
    ledger.seen = 0
    assert audit.check_on(ledger) == {**audit.verify(ledger), "checked": 33, "complete": True}
    ledger.seen = 0
    audit.check_on(ledger)
    assert ledger.seen == 1  # the last one it knew


def test_a_check_can_be_done_a_piece_at_a_time() -> None:
    ledger = filled(MemoryLedger(), 25)
    said = [audit.check_on(ledger, most=10) for _ in range(3)]
    assert [(s["checked"], s["complete"], s["whole"]) for s in said] == [(10, False, True), (20, False, True), (25, True, True)]


@pytest.mark.parametrize(("change", "broken"), [
    ("UPDATE events SET actor = 'eve' WHERE seq = 8", 8), ("DELETE FROM events WHERE seq = 7", 8), ("UPDATE events SET body = 'no' WHERE seq = 9", 9),
])  # fmt: skip
def test_what_was_changed_after_the_last_check_is_found_by_the_next(tmp_path: Path, change: str, broken: int) -> None:
    ledger = SqliteLedger(tmp_path / "l.db")
    filled(ledger, 6)
    assert audit.check_on(ledger)["whole"]
    filled(ledger, 6)
    tamper(tmp_path / "l.db", change)
    for said in (audit.check_on(ledger), audit.check_on(ledger), audit.verify(ledger)):
        assert (said["whole"], said["broken_at"]) == (False, broken)
    ledger.close()


def test_a_log_that_was_replaced_or_shortened_is_checked_from_its_beginning(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "l.db")
    filled(ledger, 6)
    audit.check_on(ledger)
    tamper(tmp_path / "l.db", "DELETE FROM events WHERE seq = 6", "UPDATE events SET actor = 'eve' WHERE seq = 2")
    assert audit.check_on(ledger)["broken_at"] == 2
    ledger.close()


def test_a_full_check_finds_what_a_check_from_the_last_one_does_not_look_at(tmp_path: Path) -> None:
    ledger = SqliteLedger(tmp_path / "l.db")
    filled(ledger, 6)
    audit.check_on(ledger)
    tamper(tmp_path / "l.db", "UPDATE events SET actor = 'eve' WHERE seq = 2")
    assert audit.check_on(ledger)["whole"]
    assert audit.verify(ledger)["broken_at"] == 2
    ledger.close()


def test_pages_go_back_through_the_log_by_who_what_about_which() -> None:
    ledger = filled(MemoryLedger(), 7)
    first, before = audit.page(ledger, limit=3)
    second, then = audit.page(ledger, limit=3, before=before)
    third, end = audit.page(ledger, limit=3, before=then)
    assert [[e.seq for e in part] for part in (first, second, third)] == [[7, 6, 5], [4, 3, 2], [1]]
    assert (before, then, end) == (5, 2, None)
    assert [e.seq for e in audit.page(ledger, audit.Filter(actor="ann", kinds=("run.",)))[0]] == [6, 4, 2]
    assert audit.page(ledger, audit.Filter(subject_id="nobody")) == ([], None)


def test_lines_of_json_hold_all_that_the_chain_is_checked_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 2)
    ledger = filled(MemoryLedger(), 5)
    ledger.append("note.written", RUN, {"text": "one\nINFO forged \u2028 \x1b[31m"}, actor="ann")
    lines = "".join(audit.export(ledger)).splitlines()
    assert len(lines) == 6  # a line break in what was said begins no new entry
    previous = "0" * 64
    for line in lines:
        told = json.loads(line)
        event = Event(told["kind"], Ref(told["subject_kind"], told["subject_id"]), told["actor"], told["body"], told["seq"], told["time"], previous)
        assert chain_hash(event) == told["hash"]
        previous = told["hash"]
    assert [json.loads(line)["seq"] for line in "".join(audit.export(ledger, audit.Filter(actor="bob"))).splitlines()] == [1, 3, 5]
    assert "".join(audit.export(ledger, audit.Filter(actor="zed"))) == ""


@pytest.mark.parametrize("evil", ["=HYPERLINK(1)", "+1", "-1+2", "@SUM(A1)", "\t=1", " =1", "＝1", "\r=1"])
def test_no_cell_of_a_csv_is_a_formula(evil: str) -> None:
    ledger = MemoryLedger()
    ledger.append("run.started", Ref("run", evil), {"said": evil}, actor=evil)
    head, row = csv.reader(io.StringIO("".join(audit.export(ledger, format="csv")), newline=""))
    told = dict(zip(head, row, strict=True))
    assert (told["subject_id"], told["actor"]) == ("'" + evil, "'" + evil)
    assert json.loads(told["body"]) == {"said": evil}


def test_an_empty_csv_has_its_head_and_an_unknown_format_is_refused() -> None:
    assert "".join(audit.export(MemoryLedger(), format="csv")).strip() == ",".join(audit.COLUMNS)
    with pytest.raises(UsageError, match="'xlsx'"):
        audit.export(MemoryLedger(), format="xlsx")


def tamper(file: Path, *changes: str) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TRIGGER events_stay")
        connection.execute("DROP TRIGGER events_remain")
        for change in changes:
            connection.execute(change)
    connection.close()
