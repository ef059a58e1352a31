"""Forgetting a person: where rows of a person are, what was made from them, and which models learned from them. Questions only; `erase.py` does it.

A person is named by the column a data set declares as its `subject`. A data set that declares none is about persons too where a view over it has that
column as an entity.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from treadle.core.declare.data import Dataset, View
from treadle.core.declare.project import Project
from treadle.core.errors import Corrupt, NotFound
from treadle.core.records import Record, Ref
from treadle.data import filesets, versions
from treadle.data.promises import STATE
from treadle.data.quarantine import key_digest
from treadle.data.suppressed import KIND, PARTS, named_by, spelt
from treadle.features.online import entity_key
from treadle.governance.traces import ERASED, MOST, SHORT, Marks
from treadle.pipelines import plan as results
from treadle.ports.blobs import Blobs
from treadle.ports.ledger import Ledger
from treadle.ports.scrub import Scrubbable
from treadle.ports.tables import Tables
from treadle.registry import versions as registry

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_SMALL = 100  # bytes: a JSON result as small as this is shared by chance, and says nothing of anybody
_LARGEST = 1_000_000  # bytes of a JSON result that is read to see which data it names
_PLAIN = re.compile(r"[\d\s.,:+\-/TZ]*")  # numbers and moments: found by chance


@dataclass(frozen=True)
class Held:
    """What one version of a data set holds of a person: rows, rows set aside, and rows of others that mention the person."""

    version: str
    dataset: str
    address: str
    rows: int
    quarantine: str
    quarantined: int
    mentioned: int = 0
    number: int = 0

    @property
    def all(self) -> int:
        return self.rows + self.quarantined + self.mentioned


@dataclass(frozen=True)
class Plan:
    """What an erasure would do.

    Args:
        columns: data set to the columns that name persons in it.
        held: the versions that hold the person.
        results: stored step results made from them, by key.
        entities: view to the keys of its entities in the online store.
        models: versions trained on rows of the person: {'id', 'model', 'number', 'status', 'rows', 'answers': as what it is deployed}.
        keys: data set to the key digests that decisions about the person's rows are known by.
        files: addresses of the files of file sets that are about the person.
        predictions: ids in the prediction log, by model.
        undeclared: data set to columns that hold the id but are not declared to name persons.
    """

    marks: Marks
    columns: Mapping[str, tuple[str, ...]]
    held: Sequence[Held]
    results: Sequence[Record]
    entities: Mapping[str, Sequence[str]]
    models: Sequence[Mapping[str, Any]]
    undeclared: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keys: Mapping[str, set[str]] = field(default_factory=dict)
    files: Sequence[str] = ()
    predictions: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        """Whether the person is anywhere."""
        return bool(self.held) or any(self.predictions.values())


def person_columns(project: Project) -> dict[str, tuple[str, ...]]:
    """The columns of each data set that name persons."""
    named = {d.subject for d in project.datasets.values() if d.subject}
    found: dict[str, list[str]] = {d.name: list(named_by(d)) for d in project.datasets.values() if d.subject}
    for view in project.views.values():
        found.setdefault(view.source.name, []).extend(c for c in view.entity if c in named)
    return {name: tuple(dict.fromkeys(columns)) for name, columns in found.items() if columns}


def about(schema: Mapping[str, Any], columns: Iterable[str], subject: str) -> pl.Expr:
    """Whether a row is about the person: null, and a column that is not there, is about nobody."""
    tests = [_spelt(name, schema[name]) == subject for name in columns if name in schema]
    for name in (c.removesuffix(PARTS) for c in columns if c.endswith(PARTS) and c.removesuffix(PARTS) in schema):
        names = pl.col(name).str.split("/")
        tests += [names.list.contains(subject), names.list.last().str.split(".").list.first() == subject]
    return pl.any_horizontal(test.fill_null(False) for test in tests) if tests else pl.lit(False)


def _spelt(name: str, dtype: Any) -> pl.Expr:
    if dtype.is_float():
        whole = pl.col(name) == pl.col(name).floor()
        return pl.when(whole).then(pl.col(name).cast(pl.Int64, strict=False).cast(pl.String)).otherwise(pl.col(name).cast(pl.String))
    return pl.col(name).cast(pl.String, strict=False).str.strip_chars()


def survey(project: Project, subject: str, ledger: Ledger, tables: Tables, blobs: Blobs) -> Plan:
    """Look where a person is. Reads every version of the data sets that are about persons, and changes nothing."""
    columns = person_columns(project)
    named = tuple(dict.fromkeys(c for names in columns.values() for c in names))
    records = [*ledger.find(versions.KIND), *_stopped(ledger)]
    found: dict[str, pl.DataFrame] = {}  # address to the person's rows
    schemas: dict[str, Mapping[str, Any]] = {}
    for record in records:
        for address in filter(None, (record["address"], record["quarantine"])):
            if address in schemas or not tables.exists(address):
                continue
            scan = tables.scan(address)
            schemas[address] = dict(scan.collect_schema())
            # A data set the project declares no more is about the persons its columns name, as far as we know.
            of = columns.get(record["dataset"], () if record["dataset"] in project.datasets else named)
            found[address] = scan.filter(about(schemas[address], of, subject)).collect()
    marks = marks_of(project, subject, named, records, found, tables)
    held = []
    undeclared: dict[str, list[str]] = {}
    for record in records:
        counts = {place: found[a].height if (a := record[place]) in found else 0 for place in ("address", "quarantine")}
        of = columns.get(record["dataset"], ())
        mentions = sum(
            mentions_in(tables.scan(a), schemas[a], [c for c in of if place == "address"] or of, marks)
            for place in ("address", "quarantine") if (a := record[place]) in schemas
        )  # fmt: skip
        if sum(counts.values()) or mentions:
            held.append(Held(
                record.id, record["dataset"], record["address"], counts["address"], record["quarantine"], counts["quarantine"], mentions,
                int(record.get("number") or 0),
            ))  # fmt: skip
            if not counts["address"] and record["dataset"] not in columns:
                undeclared.setdefault(record["dataset"], [c for c in named if c in schemas.get(record["address"], {})])
    entities = {view.name: keys for view in project.views.values() if (keys := entities_of(view, columns, subject, records, tables))}
    rows_keys: dict[str, set[str]] = {}
    for record in records:
        dataset = project.datasets.get(record["dataset"])
        for address in (record["address"], record["quarantine"]):
            rows = found.get(address)
            if dataset is not None and rows is not None and rows.height and all(c in rows.columns for c in dataset.key):
                rows_keys.setdefault(dataset.name, set()).update(key_digest(row) for row in rows.select(dataset.key).iter_rows())
    made = derived({h.address for h in held if h.address}, ledger, blobs)
    files = {a for rows in found.values() if set(filesets.SCHEMA) <= set(rows.columns) for a in rows["address"].to_list()}
    return Plan(marks, columns, held, made, entities, trained(held, ledger), undeclared, rows_keys, sorted(files))


def _stopped(ledger: Ledger) -> list[Record]:
    """What runs that a promise stopped set aside, as versions without rows: no version has it."""
    kept = {r["quarantine"] for r in ledger.find(versions.KIND)}
    return [
        Record(STATE, f"{r['dataset']}-stopped", {"dataset": r["dataset"], "address": "", "quarantine": r["quarantine"]})
        for r in ledger.find(STATE) if r["quarantine"] and r["quarantine"] not in kept
    ]  # fmt: skip


def marks_of(
    project: Project, subject: str, named: Sequence[str], records: Sequence[Record], found: Mapping[str, pl.DataFrame], tables: Tables
) -> Marks:
    """The id, and texts that only the person's rows hold: personal columns first, then keys, then other text."""
    order: dict[str, int] = {}
    candidates: dict[str, tuple[str, str]] = {}
    for record in records:
        dataset = project.datasets.get(record["dataset"])
        for address in (record["address"], record["quarantine"]):
            rows = found.get(address)
            if rows is None or not rows.height:
                continue
            for name, dtype in rows.schema.items():
                if dtype != pl.String or name in named or name + PARTS in named or name == "reason":
                    continue
                rank = _rank(dataset, name)
                for text in rows[name].drop_nulls().unique().sort().head(MOST).to_list():
                    text = text.strip()
                    if len(text) >= SHORT and not _PLAIN.fullmatch(text) and text != subject:
                        candidates.setdefault(text, (record["dataset"], name))
                        order[text] = min(rank, order.get(text, rank))
    for record in records if candidates else ():  # those that rows of others hold too say nothing of this person
        for address in filter(None, (record["address"], record["quarantine"])):
            if address not in found or not candidates:
                continue
            scan = tables.scan(address)
            schema = scan.collect_schema()
            others = scan.filter(~about(schema, named, subject))
            for name, dtype in schema.items():
                if dtype == pl.String and name != "reason" and candidates:
                    shared = others.filter(pl.col(name).is_in(list(candidates))).select(pl.col(name).unique()).collect()[name].to_list()
                    for text in shared:
                        candidates.pop(text, None)
    chosen = sorted(candidates, key=lambda text: (order[text], text))[: MOST - 1]
    crowded = _crowded([subject, *chosen], named, found, tables)
    return Marks((subject, *chosen), frozenset(named), crowded)


def _rank(dataset: Dataset | None, name: str) -> int:
    column = dataset.contract.columns.get(name) if dataset is not None and dataset.contract else None
    if column is not None and column.personal:
        return 0
    return 1 if dataset is not None and name in dataset.key else 2


def _crowded(texts: Sequence[str], named: Sequence[str], found: Mapping[str, pl.DataFrame], tables: Tables) -> frozenset[str]:
    """Those that are a part of another person's id: 'p-1' of 'p-12'."""
    crowded = set()
    for address in found:
        scan = tables.scan(address)
        for name, dtype in scan.collect_schema().items():
            if name in named or name + PARTS in named:
                ids = spelt(scan.select(pl.col(name).unique()).collect()[name]) if not dtype.is_nested() else pl.Series([], dtype=pl.String)
                crowded |= {t for t in texts if bool((ids.str.contains(t, literal=True) & (ids != t)).any())}
    return frozenset(crowded)


def mentions_in(scan: pl.LazyFrame, schema: Mapping[str, Any], columns: Sequence[str], marks: Marks) -> int:
    """How many rows that are not about the person hold the person's id or data in some text."""
    texts = [name for name, dtype in schema.items() if dtype == pl.String]
    if not texts:
        return 0
    held = pl.any_horizontal(pl.col(t).str.contains(marks.pattern).fill_null(False) for t in texts)
    return int(scan.filter(~about(schema, columns, marks.subject) & held).select(pl.len()).collect().item())


def without(columns: Mapping[str, Sequence[str]], marks: Marks) -> Any:
    """The change that takes a person out of any table: rows about the person go, and mentions in rows of others become '[erased]'."""
    everywhere = tuple(dict.fromkeys(c for names in columns.values() for c in names))

    def change(rows: pl.LazyFrame) -> pl.LazyFrame:
        schema = rows.collect_schema()
        texts = [name for name, dtype in schema.items() if dtype == pl.String]
        kept = rows.filter(~about(schema, everywhere, marks.subject))
        return kept.with_columns(pl.col(t).str.replace_all(marks.pattern, ERASED) for t in texts)

    return change


def entities_of(view: View, columns: Mapping[str, Sequence[str]], subject: str, records: Sequence[Record], tables: Tables) -> list[str]:
    """The keys under which the online store has a view's values of the person, from every version of its source."""
    mine = [c for c in view.entity if c in columns.get(view.source.name, ())]
    if not mine:
        return []
    keys: set[str] = {subject} if len(view.entity) == 1 else set()
    for record in records:
        if record["dataset"] == view.source.name and record["address"] and tables.exists(record["address"]):
            scan = tables.scan(record["address"])
            schema = scan.collect_schema()
            if all(c in schema for c in view.entity):
                rows = scan.filter(about(schema, mine, subject)).select(view.entity).unique().collect()
                keys.update(entity_key(row) for row in rows.iter_rows())
    return sorted(keys)


def derived(addresses: Iterable[str], ledger: Ledger, blobs: Blobs) -> list[Record]:
    """Stored step results that were made from these tables, however many steps on."""
    tables, found = set(addresses), [r for r in ledger.find(results.RESULT) if not r.get("erased")]
    if not tables:
        return []
    tainted: set[str] = set()
    chosen: dict[str, Record] = {}
    for record in found:
        if record["codec"] == "json" and _names(record, tables, blobs):
            chosen[record.id] = record
            tainted.add(record["address"])
    grew = True
    while grew:
        grew = False
        for record in found:
            if record.id not in chosen and not tainted.isdisjoint(record.get("ingredients", {}).get("inputs", {}).values()):
                chosen[record.id] = record
                if record["codec"] != "json" or _size(record, blobs) > _SMALL:
                    tainted.add(record["address"])
                grew = True
    return list(chosen.values())


def _names(record: Record, addresses: set[str], blobs: Blobs) -> bool:
    """Whether a result names one of the tables, as the step that takes a version does."""
    if not str(record["step"]).startswith("data:") and _size(record, blobs) > _LARGEST:
        return False
    try:
        text = blobs.get(record["address"]).decode("utf-8", "replace")
    except (NotFound, Corrupt):
        return False
    return any(address in text or json.dumps(address)[1:-1] in text for address in addresses)


def _size(record: Record, blobs: Blobs) -> int:
    try:
        return blobs.path(record["address"]).stat().st_size
    except (NotFound, Corrupt, OSError):
        return 0


def trained(held: Iterable[Held], ledger: Ledger) -> list[dict[str, Any]]:
    """The model versions that were trained from data versions with rows of the person, with how many, and where they answer."""
    rows = {h.version: h.rows for h in held if h.rows}
    said = []
    for record in ledger.find(registry.KIND):
        count = sum(rows.get(version, 0) for version in record.get("data", {}).values())
        if count:
            number = int(record["number"])
            said.append({
                "id": record.id, "model": record["model"], "number": number, "status": record["status"], "rows": count,
                "answers": answers(record["model"], number, ledger),
            })  # fmt: skip
    return said


def answers(model: str, number: int, ledger: Ledger) -> str:
    """As what a version answers now: 'champion', 'challenger (canary)', or ''."""
    now = ledger.get(registry.DEPLOYMENT, model)
    if now is None:
        return ""
    if now["champion"] == number:
        return "champion" if not now.get("stopped") else ""
    return f"challenger ({now['stage']})" if now["challenger"] == number else ""


def addresses_in(ledger: Ledger, *, without_steps: bool = True) -> set[str]:
    """Every content address that anything on record names. What a step of a run returned is history and keeps no bytes; its log does."""
    assert isinstance(ledger, Scrubbable)
    found: set[str] = set()
    for ref, text in ledger.everything():
        if ref.kind == "run_step" and without_steps:
            body = json.loads(text.split("\n", 1)[1])
            found.update(filter(None, [body.get("log")]))
        elif ref.kind not in ("event", "link", "metric", "approval", KIND):
            found.update(_ADDRESS.findall(text))
    return found


def files_of(ledger: Ledger, tables: Tables) -> set[str]:
    """The blobs that are files of file sets, in any version."""
    found: set[str] = set()
    for record in ledger.find(versions.KIND):
        if tables.exists(record["address"]) and set(filesets.SCHEMA) <= set(tables.scan(record["address"]).collect_schema()):
            found |= filesets.addresses(tables, record["address"])
    return found


def erasures(ledger: Ledger) -> list[Record]:
    """Every erasure on record, oldest first."""
    return ledger.find(KIND)


def concerning(dataset: str, ledger: Ledger) -> list[dict[str, Any]]:
    """The finished erasures that took rows out of a data set: id, when, how many rows."""
    said = []
    for record in erasures(ledger):
        taken = [v for v in record.get("versions", []) if v["dataset"] == dataset]
        if taken:
            said.append({
                "id": record.id, "when": record.get("ended") or record["begun"], "versions": len(taken),
                "rows": max((v["rows"] for v in taken), default=0), "status": record["status"],
            })  # fmt: skip
    return said


def ref(record: Record) -> Ref:
    return Ref(KIND, record.id)
