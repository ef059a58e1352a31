"""Retention: versions of data sets that are older than their data set's `keep` and that nothing uses any more are dropped, physically.

Used are: the newest version, versions a model version was trained on or tested with, and those of runs that are under way or wait. While a run is
under way nothing is dropped at all, because what it will read is not known before it reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from treadle.core.clock import iso, parse_time
from treadle.core.declare.data import Dataset
from treadle.core.errors import Corrupt, NotFound
from treadle.core.records import Record, Ref
from treadle.data import filesets, versions
from treadle.pipelines import lease
from treadle.pipelines.run import RUN, steps_of
from treadle.ports.blobs import Blobs
from treadle.ports.ledger import Ledger
from treadle.ports.tables import Tables
from treadle.registry import versions as registry


@dataclass(frozen=True)
class Old:
    """A version that may go: its number in the data set's table, its id ('' for a commit that was never recorded), rows, and when it was taken."""

    dataset: str
    number: int
    id: str
    rows: int
    taken: str
    quarantine: str = ""


def under_way(ledger: Ledger) -> list[Record]:
    """Runs whose driver lives, as far as can be seen from here."""
    return [run for run in ledger.find(RUN, {"status": "running"}) if not lease.gone(run["owner"])]


def old(datasets: Iterable[Dataset], ledger: Ledger, tables: Tables, blobs: Blobs, now: datetime) -> list[Old]:
    """The versions that may be dropped, oldest first; changes nothing."""
    used = _used(ledger, blobs)
    found: list[Old] = []
    for dataset in datasets:
        if dataset.keep is None:
            continue
        limit = now - dataset.keep
        records = {int(r.get("number", -1)): r for r in ledger.find(versions.KIND, {"dataset": dataset.name})}
        commits = tables.commits(dataset.name)
        for commit in commits[:-1]:  # the newest stays
            record = records.get(commit.number)
            taken = (record.get("taken") if record is not None else "") or commit.moment
            if (record is None or record.id not in used) and parse_time(taken) < limit:
                id, quarantine = (record.id, record["quarantine"]) if record is not None else ("", "")
                found.append(Old(dataset.name, commit.number, id, commit.rows, taken, quarantine))
    return found


def drop(
    found: Iterable[Old], datasets: Iterable[Dataset], ledger: Ledger, tables: Tables, blobs: Blobs, now: datetime, actor: str
) -> int:
    """Drop them for good, and the bytes of files that no other version of a file set has; returns the bytes freed of tables.

    Done again after it was interrupted, it finishes.
    """
    sets = {d.name for d in datasets if d.source.kind == filesets.KIND}
    by_table: dict[str, list[Old]] = {}
    for each in found:
        by_table.setdefault(each.dataset, []).append(each)
    freed = 0
    numbers = {name: {each.number for each in gone} for name, gone in by_table.items()}
    files: dict[bool, set[str]] = {True: set(), False: set()}  # of versions that go, of those that stay
    for name in sets if sets & by_table.keys() else ():
        for commit in tables.commits(name):
            goes = commit.number in numbers.get(name, ())
            if tables.exists(commit.address):
                files[goes] |= filesets.addresses(tables, commit.address)
    for address in files[True] - files[False]:  # before the table that names them, so that being interrupted loses none of sight
        blobs.delete(address)
    for name, gone in by_table.items():
        size = tables.drop(name, [each.number for each in gone])
        freed += size
        with ledger.transaction():
            for each in gone:
                record = ledger.get(versions.KIND, each.id) if each.id else None
                if record is not None and not record.get("dropped"):
                    ledger.put(versions.KIND, each.id, {**record.body, "dropped": iso(now)}, expect=record.version)
            about: Mapping[str, Any] = {"numbers": [e.number for e in gone], "versions": [e.id for e in gone if e.id], "bytes": size}
            ledger.append("dataset.dropped", Ref("dataset", name), about, actor=actor)
        kept = {r.get("quarantine") for r in ledger.find(versions.KIND) if not r.get("dropped")}
        kept |= {r.get("quarantine") for r in ledger.find("contract_state")}
        for each in gone:
            if each.quarantine and each.quarantine not in kept:
                blobs.delete(each.quarantine)
    return freed


def _used(ledger: Ledger, blobs: Blobs) -> set[str]:
    used = {str(id) for version in ledger.find(registry.KIND) for id in version.get("data", {}).values()}
    for run in [*ledger.find(RUN, {"status": "running"}), *ledger.find(RUN, {"status": "waiting"})]:
        for step in steps_of(run.id, ledger):
            if str(step["step"]).startswith("data:") and step.get("address"):
                try:
                    used.add(versions.of(json.loads(blobs.get(step["address"]))).id)
                except (NotFound, Corrupt, ValueError, TypeError):
                    continue
    return used
