"""Versions: what a data set held at one moment, immutable and numbered, with what was left out and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.clock import iso
from treadle.core.declare.data import Dataset
from treadle.core.errors import DataError, UsageError
from treadle.core.records import Record, Ref
from treadle.data import contracts, filesets, large, promises, quarantine, sources, suppressed
from treadle.data.parsing import Unparsed
from treadle.data.suppressed import NOBODY, Suppressed
from treadle.ports.blobs import Blobs
from treadle.ports.ledger import Ledger
from treadle.ports.source import Reach
from treadle.ports.tables import Commit, Tables

KIND = "dataset_version"
_ROW = "__row__"
_RENEWED = ("address", "number", "quarantine", "quarantined", "reasons", "excluded", "position", "parent", "added", "changed", "removed", "taken")


@dataclass(frozen=True)
class Version:
    """One version of a data set.

    Args:
        address: of its rows in the tables. It changes when a person's rows are erased; the id does not.
        quarantine: address of the rows set aside, with their reasons; empty if none.
        reasons: sentence to number of rows (a row can have several); `excluded` likewise for rows out of scope.
        start, end: range of the event time, ISO; empty without one.
        number: of the version in the data set's table; -1 for versions from before there were numbers.
        digest: of the content when it was taken; with the name its identity.
        position: how far the source was read, for the next time.
        schema: column to type.
        parent: id of the version before it; added, changed, removed: rows against that, by key.
        taken: ISO.
    """

    dataset: str
    address: str
    rows: int
    quarantined: int
    quarantine: str
    reasons: dict[str, int]
    excluded: dict[str, int]
    start: str = ""
    end: str = ""
    number: int = -1
    digest: str = ""
    position: dict[str, Any] = field(default_factory=dict, compare=False)
    schema: dict[str, str] = field(default_factory=dict)
    parent: str = ""
    added: int = 0
    changed: int = 0
    removed: int = 0
    taken: str = field(default="", compare=False)

    @property
    def id(self) -> str:
        return f"{self.dataset}-{(self.digest or self.address)[:12]}"


@dataclass(frozen=True)
class Taken:
    """Rows on their way to become a version: sorted by their contract, and what was left out before."""

    good: pl.DataFrame
    gone: pl.DataFrame | None  # keys of rows that came and do not go on, whatever was kept under them before
    sorted_out: quarantine.SortedOut
    excluded: dict[str, int]
    bad: tuple[int, ...] = ()  # numbers of the rows set aside among those that came, unless earlier ones were sorted with them


def take(
    dataset: Dataset, folder: Path, tables: Tables, ledger: Ledger, *, now: datetime | None = None, reach: Reach | None = None,
    erased: Suppressed = NOBODY, uses: Mapping[str, Sequence[str]] | None = None, blobs: Blobs | None = None,
    memory: int | None = None, scratch: Path | None = None, say: Callable[[str], None] = lambda line: None,
) -> Version:  # fmt: skip
    """Read the source, or what is new in it; leave out erased persons; apply exclusions, contract and what people decided about rows set aside;
    store the good rows and the quarantine. The same rows give the same version.

    Args:
        reach: opens sources outside this machine's files.
        erased: persons whose rows stay out.
        uses: column to the views and models that use it, from `schema_changes.uses`.
        blobs: where the bytes of files go, for a set of files.
        memory: bytes that may be taken; files that would need more than a good share of them are read in parts. Measured if None.
        scratch, say: for files read in parts, as `large.commit` has them.
    Raises: DataError, or ContractViolated when a promise that stops the run is broken.
    """
    now = now or datetime.now(UTC)
    before = newest(dataset.name, ledger)
    budget = large.too_large(dataset, folder, memory)
    if budget is not None:
        commit, sorted_out, excluded = large.commit(
            dataset, folder, tables, ledger, memory=budget, now=now, erased=erased, uses=uses, scratch=scratch, say=say
        )
        bad = sorted_out.bad
        return finished(
            dataset, commit, tables.scan(commit.address), ledger, now, quarantine=tables.put(bad) if bad.height else "",
            quarantined=bad.height, reasons=sorted_out.counts, excluded=excluded, position={},
        )  # fmt: skip
    base = before if before is not None and before.position and tables.exists(before.address) else None
    found = _extract(dataset, folder, tables, before, base.position if base else None, reach, blobs, erased)
    held = None
    if base is not None and not found.full and base.quarantine and tables.exists(base.quarantine):
        held, _ = suppressed.drop(tables.scan(base.quarantine).collect(), dataset, erased)
        # What the source sent again is judged by what it sent, also where that is out of scope now.
        held = held.join(found.frame.select(dataset.key), on=list(dataset.key), how="anti", maintain_order="left")
    passed = sift(found.frame, found.unparsed, dataset, ledger, now, erased, held)
    good, total = passed.good, found.frame.height
    whole: pl.DataFrame | pl.LazyFrame = good
    if base is not None and not found.full:
        keys = pl.concat([good.select(dataset.key), *([passed.gone] if passed.gone is not None else [])]).lazy()
        kept = tables.scan(base.address).join(keys, on=list(dataset.key), how="anti", nulls_equal=True)
        whole = pl.concat([kept, good.lazy()], how="diagonal")
    promises.keep(dataset, whole, passed.sorted_out, ledger=ledger, tables=tables, now=now, uses=uses)
    if good.height == 0 and found.full:
        raise DataError(f"None of the {total:,} rows is left after exclusions and contract.", where=f"data set {dataset.name!r}")
    sort = [dataset.event_time, *dataset.key] if dataset.event_time else []
    if base is None or found.full:
        commit = tables.commit(dataset.name, good, mode="replace", key=dataset.key, sort=sort)
        scan = good.lazy()
    else:
        commit = tables.commit(dataset.name, good, mode="upsert", key=dataset.key, sort=sort, remove=passed.gone)
        scan = tables.scan(commit.address)
    bad = passed.sorted_out.bad
    return finished(
        dataset, commit, scan, ledger, now,
        quarantine=tables.put(bad) if bad.height else "", quarantined=bad.height, reasons=passed.sorted_out.counts, excluded=passed.excluded,
        position=found.position,
    )  # fmt: skip


def fingerprint(dataset: Dataset, folder: Path, ledger: Ledger, reach: Reach | None = None) -> str | None:
    """A digest that changes whenever the source's rows may have changed; None when only reading it tells."""
    if dataset.source.kind == filesets.KIND:
        return filesets.fingerprint(dataset, folder)
    before = newest(dataset.name, ledger)
    return sources.fingerprint(dataset, folder, reach, before.position if before else None)


def _extract(
    dataset: Dataset, folder: Path, tables: Tables, before: Version | None, since: Mapping[str, Any] | None, reach: Reach | None,
    blobs: Blobs | None, erased: Suppressed = NOBODY,
) -> sources.Extract:  # fmt: skip
    if dataset.source.kind != filesets.KIND:
        return sources.extract(dataset, folder, since, reach)
    if blobs is None:
        raise UsageError(f"Data set {dataset.name!r} is a set of files, whose bytes have to be kept somewhere.", hint="Hand in a workspace's blobs.")
    known = tables.scan(before.address).collect() if before is not None and tables.exists(before.address) else None
    if known is not None and not {"path", "address", "modified"} <= set(known.columns):
        known = None
    return sources.Extract(filesets.read(dataset, folder, blobs, known, partial(suppressed.path_of_erased, dataset, erased)), [])


def sift(
    frame: pl.DataFrame, unparsed: Sequence[Unparsed], dataset: Dataset, ledger: Ledger, now: datetime, erased: Suppressed = NOBODY,
    held: pl.DataFrame | None = None,
) -> Taken:  # fmt: skip
    """Sort rows: erased persons' and those out of scope are left out, those that break the contract set aside. `held`: rows set aside before."""
    numbered, _ = suppressed.drop(frame.with_row_index(_ROW), dataset, erased)
    kept, excluded = _exclude(numbered, dataset)
    if unparsed:
        position = {row: i for i, row in enumerate(kept[_ROW].to_list())}
        unparsed = [replace(cell, row=position[cell.row]) for cell in unparsed if cell.row in position]
    # A row out of scope breaks nothing, and takes no other row's key.
    sorted_out = quarantine.sort_out(
        kept.drop(_ROW), dataset, list(unparsed), decisions=quarantine.standing(dataset.name, ledger), now=now, held=held
    )
    key = list(dataset.key)
    out = pl.concat([frame.select(key), sorted_out.bad.select(key)], how="vertical_relaxed")
    gone = out.join(sorted_out.good.select(key), on=key, how="anti", nulls_equal=True).drop_nulls().unique()
    bad = tuple(kept[_ROW].gather(list(sorted_out.rows)).to_list()) if held is None else ()
    return Taken(sorted_out.good, gone if gone.height else None, sorted_out, excluded, bad)


def finished(dataset: Dataset, commit: Commit, scan: pl.LazyFrame, ledger: Ledger, now: datetime, **left_out: Any) -> Version:
    """The version that a commit is. Where rows were erased from it since, it is still the version it was taken as."""
    known = [r for r in ledger.find(KIND, {"dataset": dataset.name}) if r.get("number", -1) >= 0]
    digest = next((r["digest"] for r in known if r["number"] == commit.number), commit.digest)
    start, end = _range(scan, dataset.event_time)
    earlier = max((r for r in known if r["number"] < commit.number), key=lambda r: int(r["number"]), default=None)
    schema = {name: str(dtype) for name, dtype in scan.collect_schema().items()}
    return Version(
        dataset.name, commit.address, commit.rows, start=start, end=end, number=commit.number, digest=digest, schema=schema,
        parent=earlier.id if earlier is not None else "", added=commit.added, changed=commit.changed, removed=commit.removed, taken=iso(now),
        **left_out,
    )  # fmt: skip


def record(version: Version, ledger: Ledger) -> None:
    """Make the version known. Saying it twice changes nothing; what was left out this time, and how far the source was read, is said anew."""
    known = ledger.get(KIND, version.id)
    if known is None:
        with ledger.transaction():
            ledger.put(KIND, version.id, asdict(version))
            ledger.append("dataset.versioned", Ref(KIND, version.id), {"rows": version.rows, "quarantined": version.quarantined})
        return
    said = asdict(version)
    if not version.position and known.get("position"):  # told by a step's result, which does not hold it
        return
    renewed = {name: said[name] for name in _RENEWED if name != "taken" and said[name] != known.get(name)}
    if version.number >= int(known.get("number", -1)) and renewed:
        ledger.put(KIND, version.id, {**known.body, **renewed, "taken": version.taken}, expect=known.version)


def read(record: Record) -> Version:
    """The version a record is about, also of one that was written before all fields were known."""
    names = {f.name for f in fields(Version)}
    return Version(**{k: v for k, v in record.body.items() if k in names})


def of(result: Mapping[str, Any]) -> Version:
    """The version a step's result is about."""
    names = {f.name for f in fields(Version)}
    return Version(**{k: v for k, v in result.items() if k in names})


def result(version: Version) -> dict[str, Any]:
    """A version as the result of a step: without what changes though the rows do not."""
    return {k: v for k, v in asdict(version).items() if k not in ("position", "taken")}


def newest(dataset: str, ledger: Ledger) -> Version | None:
    """The newest version of a data set on record."""
    found = promises.in_turn(dataset, ledger)
    return read(found[-1]) if found else None


def _exclude(frame: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, dict[str, int]]:
    counts: dict[str, int] = {}
    for sentence, condition in dataset.exclude.items():
        before = frame.height
        frame = frame.filter(~contracts.expression(condition, sentence, dataset).fill_null(False))
        counts[sentence] = before - frame.height
    return frame, counts


def _range(scan: pl.LazyFrame, column: str | None) -> tuple[str, str]:
    if column is None:
        return "", ""
    low, high = scan.select(pl.col(column).min().alias("low"), pl.col(column).max().alias("high")).collect(engine="streaming").row(0)
    return (iso(low), iso(high)) if low is not None and high is not None else ("", "")
