"""A person who is erased is in no byte of any store, everybody else is as before, and the proof names nobody."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from treadle.assemble import Workspace
from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.data import suppressed, versions
from treadle.governance import erasure
from treadle.persons import erase as work
from treadle.ports.online import Key
from treadle.registry import packages
from treadle.registry import versions as registry
from treadle.testing.forgotten import holding
from treadle.testing.persons import ADA, BAD, OLD_EMAIL

TEXTS = (ADA.id, ADA.name, ADA.email, OLD_EMAIL)
Opened = Callable[[], Workspace]


def rows_of_others(ws: Workspace) -> dict[str, pl.DataFrame]:
    """What every version holds of everybody but Ada, with the mention of her name blacked out."""
    found = {}
    for record in ws.ledger.find(versions.KIND):
        for place in ("address", "quarantine"):
            if record[place]:
                frame = ws.tables.scan(record[place]).filter(pl.col("customer") != ADA.id).collect()
                found[f"{record.id} {place}"] = frame.with_columns(pl.col(pl.String).str.replace_all(ADA.name, "[erased]"))
    return found


def test_the_world_is_worth_searching(persons: Path) -> None:
    """Else finding nothing would say nothing."""
    found = holding(persons / ".treadle", TEXTS)
    for place in ("ledger.db", "online.db", "alarms.jsonl", "logs/", "packages/", "blobs/", "tables/customers/", "tables/rentals/"):
        assert any(place in line for line in found), (place, found)
    assert list(persons.glob(".treadle/tables/customers/_delta_log/*.checkpoint.parquet"))
    assert any(OLD_EMAIL in line for line in found)


def test_looking_changes_nothing_and_says_what_would_be_done(persons: Path, opened: Opened) -> None:
    before = {p: p.read_bytes() for p in persons.rglob("*") if p.is_file() and p.suffix not in (".db-wal", ".db-shm")}
    plan = work.look(opened(), ADA.id)
    assert {h.dataset: (h.rows, h.quarantined) for h in plan.held} == {"customers": (1, 0), "rentals": (10, 0)}
    assert len([h for h in plan.held if h.dataset == "customers"]) == 2, "both versions"
    assert [h.mentioned for h in plan.held if h.dataset == "rentals"] == [1]
    assert plan.entities == {"profile": [ADA.id], "habits": [ADA.id]}
    assert [m["id"] for m in plan.models] == ["late-return.v1", "late-return.v2"]
    assert plan.models[0]["rows"] == 11
    assert {r["step"] for r in plan.results} >= {"data:customers", "data:rentals", "view:profile", "rows", "train", "package"}
    assert set(TEXTS) <= set(plan.marks.texts)
    after = {p: p.read_bytes() for p in persons.rglob("*") if p.is_file() and p.suffix not in (".db-wal", ".db-shm")}
    assert after == before


def test_no_byte_of_any_store_holds_the_person_afterwards_and_everybody_else_is_as_before(persons: Path, opened: Opened) -> None:
    ws = opened()
    others = rows_of_others(ws)
    record = work.erase(ws, ADA.id, request="DSR-1")
    assert record["status"] == "done", record["verification"]
    assert holding(persons / ".treadle", TEXTS) == []
    fresh = opened()
    now = rows_of_others(fresh)
    assert now.keys() == others.keys()
    for name, frame in others.items():
        assert now[name].equals(frame), name
    assert fresh.ledger.verify_chain() > 0
    assert fresh.online.get_many([Key("profile", ADA.id), Key("profile", "cust-0100")])[0] is None
    assert fresh.online.get_many([Key("habits", "cust-0100")])[0] is not None
    for version in registry.all_versions("late-return", fresh.ledger):
        packages.open_package(version["package"], fresh.blobs, fresh.shelf)
    for held in fresh.ledger.find(versions.KIND):
        fresh.tables.verify(held["address"])
    assert json.loads((persons / ".treadle" / "alarms.jsonl").read_text().splitlines()[1]) == {"sentence": "another alarm"}
    assert "cust-0100" in (persons / ".treadle" / "logs" / "run-dead" / "step.log").read_text()


def test_the_proof_says_when_who_what_and_how_much_and_names_nobody(persons: Path, opened: Opened) -> None:
    ws = opened()
    record = work.erase(ws, ADA.id, request="DSR-2026-017", reason="Art. 17 GDPR")
    assert (record["request"], record["reason"]) == ("DSR-2026-017", "Art. 17 GDPR")
    assert record["by"] == ws.actor
    assert record["counts"]["rows"] == 12
    assert record["counts"]["online"] == 2
    assert {v["dataset"] for v in record["versions"]} == {"customers", "rentals"}
    for v in record["versions"]:
        assert v["before"][0] != v["after"][0]
    checked = record["verification"]
    assert checked["remaining"] == []
    assert checked["searched"]["files"] > 20
    assert checked["searched"]["bytes"] > 50_000
    assert [m["id"] for m in record["models"]] == ["late-return.v1", "late-return.v2"]
    events = [e for e in ws.ledger.events_since(limit=10_000) if e.kind.startswith(("erasure.", "version.trained"))]
    assert [e.kind for e in events] == ["erasure.begun", "version.trained_on_erased", "version.trained_on_erased", "erasure.done"]
    assert not any(text in str(record.body) + str([e.body for e in events]) for text in TEXTS)
    assert record["subject"] != suppressed.subject_digest(b"0" * 32, ADA.id)


def test_the_models_that_learned_from_the_person_are_marked_and_stay(opened: Opened) -> None:
    ws = opened()
    record = work.erase(ws, ADA.id)
    for version in registry.all_versions("late-return", ws.ledger):
        assert version["trained_on_erased"] == 11
        assert version["erasures"] == {record.id: 11}
        assert version["status"] == "approved"
    second = work.erase(ws, "cust-0100")
    marked = registry.all_versions("late-return", ws.ledger)[0]
    assert marked["erasures"] == {record.id: 11, second.id: 11}
    assert marked["trained_on_erased"] == 22


def test_the_next_run_reads_the_source_without_the_person_and_computes_what_was_dropped(persons: Path, opened: Opened) -> None:
    from treadle.testing.command import treadle

    work.erase(opened(), ADA.id)
    assert ADA.id in (persons / "customers.csv").read_text(), "the source is not ours to change"
    said = treadle(persons, "run", "late-return").stderr
    assert "a person was erased" in said
    ws = opened()
    newest = registry.all_versions("late-return", ws.ledger)[-1]
    assert "trained_on_erased" not in newest.body
    for record in ws.ledger.find(versions.KIND):
        assert ws.tables.scan(record["address"]).filter(pl.col("customer") == ADA.id).collect().height == 0
    assert not any(text in line for line in holding(persons / ".treadle", (ADA.id, ADA.email)) for text in TEXTS)


def test_rows_that_were_set_aside_and_decisions_about_them_go_too(persons: Path, opened: Opened) -> None:
    ws = opened()
    held = [h for h in work.look(ws, BAD.id).held if h.dataset == "customers"]
    assert [(h.rows, h.quarantined) for h in held] == [(0, 1), (0, 1)]
    record = work.erase(ws, BAD.id)
    assert record["status"] == "done", record["verification"]
    assert holding(persons / ".treadle", (BAD.id, BAD.name, BAD.email)) == []
    for v in ws.ledger.find(versions.KIND, {"dataset": "customers"}):
        assert v["quarantined"] == 0


def test_shared_bytes_that_others_need_are_kept(opened: Opened) -> None:
    """A blob that an unaffected record names has the same content, and so the same address, as one of a dropped result."""
    ws = opened()
    dropped = next(r for r in work.look(ws, ADA.id).results if r["step"] == "evaluate")
    ws.ledger.put("replay", "needs-it", {"address": dropped["address"]})
    work.erase(ws, ADA.id)
    ws.blobs.verify(dropped["address"])
    for version in registry.all_versions("late-return", ws.ledger):
        for address in version["package"]["files"].values():
            ws.blobs.verify(address)


def test_what_a_registered_version_is_made_of_is_named_and_not_broken(opened: Opened) -> None:
    ws = opened()
    version = registry.all_versions("late-return", ws.ledger)[0]
    planted = ws.blobs.put(f"a vocabulary with {ADA.name}".encode())
    ws.ledger.put(registry.KIND, version.id, {**version.body, "vocabulary": planted}, expect=version.version)
    record = work.erase(ws, ADA.id)
    assert record["status"] == "incomplete"
    assert ["late-return.v1" in line for line in record["verification"]["remaining"]] == [True]
    assert ADA.name not in str(record.body), "what is still searched for is sealed"
    assert "1 place holds the person still" in str(work.trouble(record))
    assert ws.blobs.exists(planted)
    version = registry.get("late-return", 1, ws.ledger)
    ws.ledger.put(registry.KIND, version.id, {k: v for k, v in version.body.items() if k != "vocabulary"}, expect=version.version)
    again = work.erase(ws, ADA.id)
    assert (again.id, again["status"], again["sealed"]) == (record.id, "done", "")
    assert not ws.blobs.exists(planted)


def test_an_event_that_names_the_person_is_said_to_remain_and_the_chain_is_not_broken(opened: Opened) -> None:
    from treadle.core.records import Ref

    ws = opened()
    event = ws.ledger.append("note.made", Ref("run", "r"), {"text": f"asked {ADA.name}"})
    record = work.erase(ws, ADA.id)
    assert record["verification"]["remaining"] == [f"event {event.seq}: the event log is append-only"]
    ws.ledger.verify_chain()


def test_a_place_in_the_source_that_names_the_person_is_forgotten_so_all_is_read_again(opened: Opened) -> None:
    ws = opened()
    record = ws.ledger.find(versions.KIND, {"dataset": "customers"})[-1]
    ws.ledger.put(versions.KIND, record.id, {**record.body, "position": {"after": ADA.id}}, expect=record.version)
    assert work.erase(ws, ADA.id)["status"] == "done"
    after = ws.ledger.get(versions.KIND, record.id)
    assert after is not None
    assert after["position"] == {}


def test_versions_that_were_dropped_before_are_no_obstacle(persons: Path, opened: Opened) -> None:
    ws = opened()
    first = ws.ledger.find(versions.KIND, {"dataset": "customers"})[0]
    ws.tables.drop("customers", [first["number"]])
    ws.ledger.put(versions.KIND, first.id, {**first.body, "dropped": "2026-11-21T00:00:00Z"}, expect=first.version)
    record = work.erase(opened(), ADA.id)
    assert record["status"] == "done", record["verification"]
    assert [v["id"] for v in record["versions"] if v["dataset"] == "customers"] != [first.id]
    assert holding(persons / ".treadle", (ADA.id, ADA.name, ADA.email)) == []


def test_who_is_unknown_is_not_erased(opened: Opened) -> None:
    ws = opened()
    with pytest.raises(NotFound, match="No version of any data set holds this person") as told:
        work.erase(ws, "cust-9999")
    assert "customers: customer" in str(told.value)
    with pytest.raises(UsageError):
        work.erase(ws, " ")
    assert ws.ledger.find(suppressed.KIND) == []


def test_a_reason_that_names_the_person_is_refused_because_it_is_kept(opened: Opened) -> None:
    ws = opened()
    for said in ({"request": f"mail of {ADA.email}"}, {"reason": f"{ADA.name} asked"}):
        with pytest.raises(UsageError, match="names the person"):
            work.erase(ws, ADA.id, **said)
    assert ws.ledger.find(suppressed.KIND) == []


def test_a_run_that_is_under_way_is_waited_for_or_refused(opened: Opened) -> None:
    import os
    import threading

    from treadle.pipelines.lease import owner
    from treadle.pipelines.run import RUN

    ws = opened()
    body: dict[str, Any] = {"status": "running", "owner": owner(), "scope": "x", "started": "2026-01-01T00:00:00Z", "cause": {}}
    assert body["owner"]["pid"] == os.getpid()
    ws.ledger.put(RUN, "run-alive", body)
    with pytest.raises(Conflict, match="run-alive is under way"):
        work.erase(ws, ADA.id, wait=False)
    assert suppressed.known(ws.ledger, ws.settings.home).digests, "from now on the person stays out"
    told: list[str] = []

    def say(line: str) -> None:
        told.append(line)
        if "waiting for run run-alive" in line:
            threading.Timer(0.2, lambda: opened().ledger.put(RUN, "run-alive", {**body, "status": "done"})).start()

    assert work.erase(ws, ADA.id, say=say)["status"] == "done"
    assert "waiting" in told[0]


def test_erasures_of_a_data_set_are_told(opened: Opened) -> None:
    ws = opened()
    record = work.erase(ws, ADA.id)
    said = erasure.concerning("rentals", ws.ledger)
    assert [(e["id"], e["rows"], e["versions"]) for e in said] == [(record.id, 10, 1)]
    assert work.finished(ws, ADA.id)[0].id == record.id
    assert work.unfinished(ws, ADA.id) is None
    assert work.finished(ws, "cust-0101") == []


PHOTOS = '''

photos = project.dataset("photos", source=tr.files("photos/**/*.png"), key="path", subject="path")
'''


def take(ws: Workspace, name: str) -> versions.Version:
    known = suppressed.known(ws.ledger, ws.settings.home)
    taken = versions.take(ws.project.datasets[name], ws.folder, ws.tables, ws.ledger, blobs=ws.blobs, erased=known)
    versions.record(taken, ws.ledger)
    return taken


def test_files_named_by_the_person_go_with_their_bytes_and_stay_out(persons: Path, opened: Opened) -> None:
    (persons / "project.py").open("a").write(PHOTOS)
    shared = b"the same picture"
    for name, content in {
        f"{ADA.id}.png": b"her face", f"{ADA.id}/left.png": b"her left", f"{ADA.id}/shared.png": shared, "cust-0100.png": b"another", f"{ADA.id}1.png": b"like hers",
        "cust-0100-shared.png": shared,
    }.items():  # fmt: skip
        (persons / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (persons / "photos" / name).write_bytes(content)
    ws = opened()
    assert take(ws, "photos").rows == 6
    plan = work.look(ws, ADA.id)
    assert [(h.dataset, h.rows) for h in plan.held if h.dataset == "photos"] == [("photos", 3)]
    assert work.erase(ws, ADA.id)["status"] == "done"

    def kept(ws: Workspace) -> list[str]:
        record = ws.ledger.find(versions.KIND, {"dataset": "photos"})[-1]
        return list(ws.tables.scan(record["address"]).collect()["path"])

    others = ["photos/cust-0042" + "1.png", "photos/cust-0100-shared.png", "photos/cust-0100.png"]
    assert sorted(kept(ws)) == others
    assert holding(persons / ".treadle", ("her face", "her left")) == []
    assert holding(persons / ".treadle", (shared.decode(),)), "others need it"
    again = opened()
    assert sorted(take(again, "photos").schema) == sorted(ws.ledger.find(versions.KIND, {"dataset": "photos"})[-1]["schema"])
    assert sorted(kept(again)) == others
    assert holding(persons / ".treadle", ("her face", "her left")) == [], "not stored again, though they are in the folder"


NUMBERED = '''
import treadle as tr

project = tr.Project("visits", owner="door", goal="count")
visits = project.dataset("visits", source=tr.csv("visits.csv"), key="visit", event_time="at", subject="person",
    contract=tr.Contract({"visit": tr.integer(), "person": tr.integer(), "at": tr.timestamp(), "name": tr.text(personal="name")}))
seen = project.view("seen", source=visits, entity="person", features=["visit"])
twice = project.view("twice", source=visits, entity=("visit", "person"), features=["name"])
'''


def test_an_id_that_is_a_short_number_is_found_by_column_and_nothing_else_is_touched(tmp_path: Path) -> None:
    from treadle.assemble import open_workspace
    from treadle.ports.online import Value

    (tmp_path / "project.py").write_text(NUMBERED)
    lines = [f"{n},{n % 20},2026-01-{1 + n % 28:02d}T00:00:00Z,Guest Number {n % 20:03d}x" for n in range(100)]
    (tmp_path / "visits.csv").write_text("\n".join(["visit,person,at,name", *lines]))
    ws = open_workspace(tmp_path)
    taken = take(ws, "visits")
    ws.online.put_many([(Key("seen", "17"), Value(1, b"x")), (Key("seen", "1"), Value(1, b"y")), (Key("twice", "37\x1f17"), Value(1, b"z"))])
    log = ws.blobs.put(b'17 rows on 2026-01-17\n{"person": 17}\n{"person": 170}\n')
    ws.ledger.put("run_step", "r/s", {"run": "r", "step": "s", "log": log})
    ws.ledger.put("trial", "t", {"person": 17, "rows": 17, "when": "2026-01-17", "who": {"person": "17"}})
    plan = work.look(ws, "17")
    assert plan.marks.weak
    assert [(h.rows, h.mentioned) for h in plan.held] == [(5, 0)]
    assert plan.entities == {"seen": ["17"], "twice": [f"{n}\x1f17" for n in ("17", "37", "57", "77", "97")]}
    record = work.erase(ws, "17", plan=plan)
    assert record["status"] == "done", record["verification"]
    assert record["verification"]["id_searched"] is False
    rows = ws.tables.scan(ws.ledger.find(versions.KIND)[0]["address"]).collect()
    assert rows.height == 95
    assert 17 not in rows["person"].to_list()
    assert 17 in rows["visit"].to_list() or 37 in rows["visit"].to_list() or rows["visit"].n_unique() == 95
    assert holding(tmp_path / ".treadle", ("Guest Number 017x",)) == []
    assert ws.online.get_many([Key("seen", "17"), Key("seen", "1"), Key("twice", "37\x1f17")])[0::2] == [None, None]
    assert ws.online.get_many([Key("seen", "1")]) != [None]
    step = ws.ledger.get("run_step", "r/s")
    assert step is not None
    assert ws.blobs.get(step["log"]) == b'17 rows on 2026-01-17\n{[erased]\n{"person": 170}\n'
    trial = ws.ledger.get("trial", "t")
    assert trial is not None
    assert trial.body == {"person": None, "rows": 17, "when": "2026-01-17", "who": {"person": None}}
    assert take(open_workspace(tmp_path), "visits").rows == 95
    assert taken.rows == 100
