"""One erasure under way: its stages, each of which may be done twice, and the looking again at the end. `erase` begins it and says what it does."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from treadle.assemble import Workspace
from treadle.core.canonical import plain
from treadle.core.clock import iso
from treadle.core.errors import Conflict, NotFound
from treadle.core.records import Link, Record, Ref
from treadle.data import promises, quarantine, suppressed, versions
from treadle.data.suppressed import KIND
from treadle.features import large
from treadle.governance import erased_answers, erasure
from treadle.governance.erasure import Plan
from treadle.governance.traces import Marks
from treadle.persons.kept import of_backtests, out_of_journals
from treadle.persons.searched import STAYS, logged, loose_files, search
from treadle.pipelines import plan as results
from treadle.pipelines import run as runs
from treadle.pipelines.lease import gone
from treadle.ports.scrub import Scrubbable
from treadle.registry import versions as registry

STAGES = ("models", "online", "answers", "results", "texts", "tables", "scrub", "verify")
_ROUNDS = 3  # a run that was under way may write once more
_TEXTS = (".log", ".jsonl", ".json", ".txt", ".csv", ".md", ".html")
_SCORES = "scores"  # the folder of scorings under way
_WAIT_SECONDS = 0.5

Say = Callable[[str], None]


def look(ws: Workspace, subject: str) -> Plan:
    """What an erasure would do. Changes nothing."""
    plan = erasure.survey(ws.project, suppressed.checked(subject), ws.ledger, ws.tables, ws.blobs)
    return replace(plan, predictions=logged(ws, plan.marks))


class Erasing:
    """One erasure under way."""

    def __init__(self, ws: Workspace, record: Record, plan: Plan, wait: bool, say: Say) -> None:
        plan = unsealed(ws, record, plan)
        self._ws, self._record, self._plan, self._wait, self._say = ws, record, plan, wait, say
        self._marks: Marks = plan.marks
        self._undone: list[str] = []

    def go(self) -> Record:
        if self._wait_for_runs() and not self._record["stages"]:
            self._look_again()
        self._finish_deleting()
        for stage in STAGES[:-1]:
            if stage not in self._record["stages"]:
                self._say(_SAYS[stage])
                getattr(self, f"_{stage}")()
                self._note(stages=[*self._record["stages"], stage])
        for _ in range(_ROUNDS):
            self._say(_SAYS["verify"])
            searched, found = search(self._ws, self._plan, self._needed_blobs)
            if not any(self._mends(place) for place in found):
                break
            self._answers()
            self._results()
            self._texts()
            self._tables()
            self._scrub()
        return self._close(searched, found)

    # The stages. Each may be done twice.

    def _models(self) -> None:
        """The mark has the erasure's id, so that doing it again counts nobody twice."""
        ledger, mine = self._ws.ledger, self._record.id
        for said in self._record["models"]:
            while True:
                version = ledger.get(registry.KIND, said["id"])
                if version is None:
                    break
                counts = {**version.get("erasures", {}), mine: said["rows"]}
                if version.get("erasures") == counts:
                    break
                try:
                    with ledger.transaction():
                        body = {**version.body, "erasures": counts, "trained_on_erased": sum(counts.values())}
                        ledger.put(registry.KIND, version.id, body, expect=version.version)
                        ledger.link(Link(Ref(KIND, mine), "concerns", Ref(registry.KIND, version.id)))
                        ledger.append("version.trained_on_erased", Ref(registry.KIND, version.id), {"erasure": mine, "rows": said["rows"]})
                    break
                except Conflict:
                    continue
        self._count(models=len(self._record["models"]))

    def _online(self) -> None:
        removed = sum(self._ws.online.forget(view, keys) for view, keys in self._plan.entities.items())
        self._count(online=removed)

    def _answers(self) -> None:
        removed = 0
        found = logged(self._ws, self._marks)
        log, tables = self._ws.predictions, self._ws.tables
        self._delete(out_of_journals(self._ws, (id for ids in found.values() for id in ids)))  # first: from the log they are known
        if found and hasattr(log, "forget"):
            removed = log.forget(found)
        if hasattr(log, "scrub"):
            self._undone = [*self._undone, *(line for line in log.scrub() if line not in self._undone)]
        keys = erased_answers.person_keys(
            self._plan.held, {d.name: d.key for d in self._ws.project.datasets.values()}, self._plan.columns, self._marks.subject, tables
        )
        change = erased_answers.without_answers(erasure.without(self._plan.columns, self._marks), keys)
        scorings = self._ws.ledger.find("scoring")
        named = sorted({r["output"]["table"] for r in scorings if "table" in r["output"]})
        done: dict[str, str] = dict(self._record.get("rewritten", []))
        for table in named:
            done |= tables.rewrite([c.address for c in tables.commits(table)], change)
            self._note(rewritten=sorted(done.items()))
        for record in scorings:
            address = record["output"].get("address", "")
            if address and self._newest(done, address) != address:
                output = {**record["output"], "address": self._newest(done, address)}
                self._ws.ledger.put(record.kind, record.id, {**record.body, "output": output}, expect=record.version)
        told = erased_answers.elsewhere(scorings, (h.version for h in self._plan.held))
        self._undone = [*self._undone, *(line for line in told if line not in self._undone)]
        self._count(predictions=removed)

    def _results(self) -> None:
        """First on record that they are dropped, with the bytes to be deleted; then the bytes."""
        ledger = self._ws.ledger
        tables = self._table_addresses()
        chosen = {r.id: r for r in erasure.derived({h.address for h in self._plan.held if h.address}, ledger, self._ws.blobs)}
        found = set(self._blobs_with_marks(tables))
        held = [r for r in ledger.find(results.RESULT) if not r.get("erased") and (r["address"] in found or self._in_json(r.body))]
        chosen |= {r.id: r for r in held}
        doomed = {r["address"] for r in chosen.values()} | found | (of_backtests(self._ws) if self._plan.held else set())
        with ledger.transaction():
            for record in chosen.values():
                kept = self._marks.blotted({name: record.get(name) for name in ("step", "run", "seconds", "cpu")})
                ledger.put(results.RESULT, record.id, {**kept, "codec": "json", "address": "", "files": {}, "erased": self._record.id})
            self._note(deleting=sorted(doomed | set(self._record["deleting"])))
        self._count(results=len(chosen))
        self._redact_logs(found)
        self._finish_deleting()

    def _texts(self) -> None:
        """What runs, questions and files say. The event log is never changed: nothing that holds values of rows is written there."""
        changed = 0
        ledger = self._ws.ledger
        assert isinstance(ledger, Scrubbable)
        for ref, text in list(ledger.everything()):
            if ref.kind not in ("event", "link", "metric", KIND) and self._marks.in_text(text):
                record = ledger.get(ref.kind, ref.id)
                if record is None:
                    continue
                body = self._marks.blotted(dict(record.body))
                if ref.kind == versions.KIND and body.get("position") != record.get("position"):
                    body["position"] = {}  # a place in the source that names the person: the next read is of all of it
                if body != record.body:
                    with suppress(Conflict):  # somebody just wrote it; what that left is found by the search
                        ledger.put(ref.kind, ref.id, body, expect=record.version)
                        changed += 1
        changed += sum(quarantine.forget(dataset, keys, ledger) for dataset, keys in self._plan.keys.items())
        mended = 0
        large.sweep(self._ws.settings.home / "spill")
        for path in loose_files(self._ws):
            with suppress(FileNotFoundError):
                mended += self._marks.in_file(path) and self._mend_file(path)
        self._count(records=changed, files=mended)

    def _tables(self) -> None:
        """Before a table goes it is on record what takes its place, so that no version ever names a table that is not there."""
        ws = self._ws
        change = erasure.without(self._plan.columns, self._marks)
        records = [r for r in ws.ledger.find(versions.KIND) if r["dataset"] in self._record["datasets"]]
        states = [r for r in ws.ledger.find(promises.STATE) if r["dataset"] in self._record["datasets"]]
        named = {r["address"] for r in records if ws.tables.exists(r["address"])}
        done: dict[str, str] = dict(self._record.get("rewritten", []))
        for address in sorted({r["quarantine"] for r in [*records, *states] if r["quarantine"] and ws.tables.exists(r["quarantine"])}):
            done[address] = ws.tables.put(change(ws.tables.scan(address)).collect())
            self._note(rewritten=sorted(done.items()))
            ws.tables.rewrite([address], change)
        done |= ws.tables.rewrite(sorted(named), change)
        self._note(rewritten=sorted(done.items()))
        for record in records:
            address, quarantine = (self._newest(done, record[place]) for place in ("address", "quarantine"))
            if not ws.tables.exists(address):
                address = self._by_number(record)
            if not address:  # dropped, or lost: there is nothing to take out
                continue
            if (address, quarantine) != (record["address"], record["quarantine"]):
                body = {**record.body, "address": address, "quarantine": quarantine, "rows": self._rows(address)}
                if quarantine and ws.tables.exists(quarantine):
                    body["quarantined"] = self._rows(quarantine)
                ws.ledger.put(versions.KIND, record.id, body, expect=record.version)
        for state in states:
            if self._newest(done, state["quarantine"]) != state["quarantine"]:
                aside = self._newest(done, state["quarantine"])
                ws.ledger.put(promises.STATE, state.id, {**state.body, "quarantine": aside, "quarantined": self._rows(aside)}, expect=state.version)
        self._note(deleting=sorted({*self._record["deleting"], *self._plan.files}))
        self._finish_deleting()
        after = {r.id: [r["address"], r["quarantine"]] for r in ws.ledger.find(versions.KIND)}
        said = self._record["versions"]
        self._note(versions=[{**v, "after": after.get(v["id"], [])} for v in said])
        self._count(replace=True, versions=len(said), rows=sum(v["rows"] for v in said), quarantined=sum(v["quarantined"] for v in said))

    def _scrub(self) -> None:
        for store in (self._ws.ledger, self._ws.online):
            if isinstance(store, Scrubbable):
                self._undone = [*self._undone, *(line for line in store.scrub() if line not in self._undone)]

    # Parts of them

    def _look_again(self) -> None:
        """The run that was waited for may have made a data version, and a model version, with rows of the person."""
        self._plan = unsealed(self._ws, self._record, look(self._ws, self._marks.subject))
        self._marks = self._plan.marks
        self._note(**found_in(suppressed.read_key(self._ws.settings.home), self._record.id, self._plan))

    def _wait_for_runs(self) -> bool:
        """A run that is under way has the person's rows in memory, and would store what it makes of them. Returns whether there was one."""
        told = False
        while True:
            runs.mark_interrupted(self._ws.ledger, self._ws.clock)
            running = self._ws.ledger.find(runs.RUN, {"status": "running"})
            alive = [r for r in running if r.get("started", "") <= self._record["begun"] and not gone(r["owner"])]
            if not alive:
                return told
            if not self._wait:
                hint = "Wait for it, or stop it; the person is left out of every run that starts now."
                raise Conflict(f"Run {alive[0].id} is under way.", hint=hint)
            if not told:
                self._say(f"waiting for run {alive[0].id} to end; runs that start now leave the person out")
                told = True
            time.sleep(_WAIT_SECONDS)

    def _delete(self, addresses: set[str]) -> None:
        """Blobs that are not needed any more: first on record, so that they go also when it is killed in between."""
        if addresses:
            self._note(deleting=sorted(addresses | set(self._record["deleting"])))
            self._finish_deleting()

    def _finish_deleting(self) -> None:
        doomed = set(self._record["deleting"])
        if not doomed:
            return
        needed = self._needed_blobs()
        for address in sorted(doomed - needed):
            self._ws.blobs.delete(address)
        self._count(blobs=len(doomed - needed))
        self._note(deleting=[])

    def _needed_blobs(self) -> set[str]:
        ledger, tables = self._ws.ledger, self._ws.tables
        kept: set[str] = getattr(self._ws.predictions, "addresses", set)()
        return erasure.addresses_in(ledger) | self._table_addresses() | erasure.files_of(ledger, tables) | kept

    def _blobs_with_marks(self, tables: set[str]) -> Iterator[str]:
        for address in list(self._ws.blobs.addresses()):
            if address in tables:
                continue
            with suppress(NotFound):
                if self._marks.in_file(self._ws.blobs.path(address)):
                    yield address

    def _redact_logs(self, found: Iterable[str]) -> None:
        doomed = set(found)
        for record in self._ws.ledger.find(runs.STEP):
            if record.get("log") in doomed:
                text = self._marks.blot(self._ws.blobs.get(record["log"]).decode("utf-8", "replace"))
                with suppress(Conflict):
                    self._ws.ledger.put(runs.STEP, record.id, {**record.body, "log": self._ws.blobs.put(text.encode())}, expect=record.version)
                self._count(logs=1)

    def _in_json(self, body: Mapping[str, Any]) -> bool:
        return bool(self._marks.blotted(dict(body)) != body)

    def _table_addresses(self) -> set[str]:
        stopped = {r["quarantine"] for r in self._ws.ledger.find(promises.STATE)}
        return {a for r in self._ws.ledger.find(versions.KIND) for a in (r["address"], r["quarantine"]) if a} | stopped - {""}

    def _newest(self, now: Mapping[str, str], address: str) -> str:
        for _ in range(len(now) + 1):  # rewritten twice, when it was found again
            if address not in now:
                return address
            address = now[address]
        return address

    def _by_number(self, record: Record) -> str:
        """The address of a version whose rewriting was cut off before it was noted; '' when there is none."""
        return next((c.address for c in self._ws.tables.commits(record["dataset"]) if c.number == record.get("number")), "")

    def _rows(self, address: str) -> int:
        import polars as pl

        return int(self._ws.tables.scan(address).select(pl.len()).collect().item())

    def _mend_file(self, path: Path) -> bool:
        """Black a text file out, remove what is made again or left over; others stay, and are said to."""
        home = self._ws.settings.home
        shelf = self._ws.shelf.folder
        if path.is_relative_to(shelf):
            shutil.rmtree(shelf / path.relative_to(shelf).parts[0], ignore_errors=True)
        elif path.is_relative_to(home / _SCORES):  # it begins anew
            shutil.rmtree(home / _SCORES / path.relative_to(home / _SCORES).parts[0], ignore_errors=True)
        elif not path.is_relative_to(home) or path.name == "file_digests.json" or path.parent.name == "tmp":
            path.unlink(missing_ok=True)
        elif path.suffix in _TEXTS:
            blotted = self._marks.blot(path.read_text("utf-8", errors="surrogateescape"))
            pending = path.with_name(f".{path.name}.{os.getpid()}")
            pending.write_text(blotted, "utf-8", errors="surrogateescape")
            shutil.copymode(path, pending)
            os.replace(pending, path)
        else:
            return False
        return True

    # Looking again

    def _mends(self, place: str) -> bool:
        """Whether another round may help: an event stays what it is, and so does what a registered version is made of."""
        return not place.startswith(STAYS) and not self._needed(place)

    def _needed(self, place: str) -> bool:
        return _address(place) in self._needed_blobs() - self._table_addresses()

    # Recording

    def _note(self, **says: Any) -> None:
        self._record = self._ws.ledger.put(KIND, self._record.id, {**self._record.body, **says}, expect=self._record.version)

    def _count(self, *, replace: bool = False, **counts: int) -> None:
        now = dict(self._record["counts"])
        for name, n in counts.items():
            now[name] = n if replace else now.get(name, 0) + n
        self._note(counts=now)

    def _close(self, searched: Mapping[str, Any], found: list[str]) -> Record:
        ledger = self._ws.ledger
        remaining = [self._explained(place) for place in dict.fromkeys(found)]
        verification = {
            "at": iso(self._ws.clock.now()), "searched": dict(searched), "texts": len(self._marks.texts), "id_searched": not self._marks.weak,
            "remaining": remaining, "undone": self._undone,
        }  # fmt: skip
        status = "incomplete" if remaining else "done"
        body = {**self._record.body, "status": status, "ended": iso(self._ws.clock.now()), "verification": verification, "rewritten": []}
        body["sealed"] = self._record["sealed"] if remaining else ""
        with ledger.transaction():
            self._record = ledger.put(KIND, self._record.id, body, expect=self._record.version)
            models = [m["id"] for m in body["models"]]
            said = {"counts": body["counts"], "versions": len(body["versions"]), "models": models, "remaining": len(remaining)}
            ledger.append(f"erasure.{status}", Ref(KIND, self._record.id), said, actor=self._ws.actor)
        return self._record

    def _explained(self, place: str) -> str:
        if place.startswith("event "):
            return f"{place}: the event log is append-only"
        if self._needed(place):
            users = [v.id for v in self._ws.ledger.find(registry.KIND) if _address(place) in str(v.body)]
            return f"{place}: it is a part of {', '.join(users) or 'something on record'}"
        return place


def found_in(key: bytes, id: str, plan: Plan) -> dict[str, Any]:
    """What the record says of where the person was."""
    return {
        "datasets": sorted({h.dataset for h in plan.held}),
        "versions": [
            {"id": h.version, "dataset": h.dataset, "rows": h.rows, "quarantined": h.quarantined, "mentioned": h.mentioned,
             "before": [h.address, h.quarantine], "after": []} for h in plan.held
        ],
        "models": [{k: m[k] for k in ("id", "rows", "status", "answers")} for m in plan.models],
        "sealed": _sealed(key, id, plan),
    }  # fmt: skip


def _sealed(key: bytes, id: str, plan: Plan) -> str:
    """What is searched for, kept until it is done: rows that say it may be gone when a killed erasure goes on."""
    marks = plan.marks
    said = {
        "texts": marks.texts, "columns": sorted(marks.columns), "crowded": sorted(marks.crowded), "entities": plan.entities, "files": plan.files,
    }  # fmt: skip
    return suppressed.seal(key, marks.subject, id, json.dumps(plain(said)))


def unsealed(ws: Workspace, record: Record, plan: Plan) -> Plan:
    """The plan with what was searched for when the erasure was begun."""
    if not record["sealed"]:
        return plan
    now = plan.marks
    said = json.loads(suppressed.unseal(suppressed.read_key(ws.settings.home), now.subject, record.id, record["sealed"]))
    marks = Marks(
        tuple(dict.fromkeys([*said["texts"], *now.texts])), now.columns | frozenset(said["columns"]), now.crowded | frozenset(said["crowded"])
    )
    views = {*said["entities"], *plan.entities}
    entities = {view: sorted({*said["entities"].get(view, ()), *plan.entities.get(view, ())}) for view in sorted(views)}
    return replace(plan, marks=marks, entities=entities, files=sorted({*said["files"], *plan.files}))


_SAYS = {
    "models": "marking the model versions trained on rows of the person",
    "online": "removing values from the online store",
    "answers": "removing predictions from the log, and rows from tables of answers",
    "results": "dropping stored results that were made from the data",
    "texts": "blacking out logs and records",
    "tables": "rewriting the versions of the data sets",
    "scrub": "making the databases forget what was replaced",
    "verify": "searching the bytes of every store",
}


def _address(place: str) -> str:
    """The content address a place names, for blobs in a bucket and in a folder."""
    return "".join(Path(place.partition(" ")[2]).parts[-2:])
