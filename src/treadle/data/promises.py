"""What is promised of all rows of a data set together: how many may be set aside, how old the newest is, how many there are, that columns stay
like they were, and that no column changes so that what uses it breaks.

A broken promise that the contract names in `stop_on` stops the run; the others warn. Both are on record (`contract_state`, one a data set) with
the moment since when, and become an alarm to the data set's owner; a later take that keeps the promise ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import polars as pl

from treadle.core.clock import iso, parse_time, span
from treadle.core.declare.data import STOPS, Dataset
from treadle.core.errors import ContractViolated, NotFound, ProjectError
from treadle.core.records import Record, Ref
from treadle.core.schema import Column
from treadle.data import quarantine, schema_changes
from treadle.data.contracts import short
from treadle.data.distances import distances
from treadle.ports.ledger import Ledger
from treadle.ports.tables import Tables

STATE = "contract_state"
_VERSION = "dataset_version"
_RECENT = 5


@dataclass(frozen=True)
class Broken:
    """A promise that is not kept: its name, a sentence with numbers, and whether it stops the run."""

    promise: str
    sentence: str
    stops: bool


def keep(
    dataset: Dataset, whole: pl.DataFrame | pl.LazyFrame, sorted_out: quarantine.SortedOut, *, ledger: Ledger, tables: Tables, now: datetime,
    uses: Mapping[str, Sequence[str]] | None = None,
) -> list[Broken]:  # fmt: skip
    """Look at every promise about the rows together, and record what is found.

    Args:
        whole: all rows the new version will hold.
        uses: column to the views and models that use it, from `schema_changes.uses`.
    Returns: the broken promises that warn. Raises: ContractViolated for those that stop; nothing of the data is lost, and the rows set
        aside can be looked at, corrected and released meanwhile.
    """
    lazy = whole.lazy()
    state = ledger.get(STATE, dataset.name)
    earlier = in_turn(dataset.name, ledger)[: -_RECENT - 1 : -1]
    rows = int(lazy.select(pl.len()).collect().item())
    newest = newest_moment(dataset, lazy, now)
    schema = {name: str(dtype) for name, dtype in lazy.collect_schema().items()}
    changes = _changes(dataset, state, schema)
    found = [
        *_at_most(dataset, sorted_out, rows),
        *_fresh(dataset, newest, now),
        *_volume(dataset, rows, earlier),
        *_like(dataset, lazy, earlier, ledger, tables),
        *_schema(dataset, changes, state, uses),
    ]
    stops = [b for b in found if b.stops]
    _record(dataset, sorted_out, found, changes, None if stops else schema, rows, newest, state, ledger, tables, now)
    if stops:
        what, place = " ".join(b.sentence for b in stops), f"data set {dataset.name!r} ({dataset.place})"
        raise ContractViolated(what, where=place, hint=_hint(dataset, stops))
    return found


def in_turn(dataset: str, ledger: Ledger) -> list[Record]:
    """The versions of a data set on record, oldest first. One whose content came again stands where it came last, by its number."""
    return sorted(ledger.find(_VERSION, {"dataset": dataset}), key=lambda record: int(record.get("number", -1)))


def due(dataset: Dataset, ledger: Ledger, now: datetime) -> str:
    """An ingredient of taking a version that changes when time alone may give another answer: data that grew old, a row whose moment has come."""
    state = ledger.get(STATE, dataset.name)
    if state is None:
        return ""
    again = state.get("again", "")
    return str(again if again and now > parse_time(again) else state.get("due", ""))


def newest_moment(dataset: Dataset, lazy: pl.LazyFrame, now: datetime) -> datetime | None:
    """The newest known time, or else event time, that is not after the clock: a moment from the future makes nothing fresh."""
    column = dataset.known_time or dataset.event_time
    if column is None:
        return None
    value = lazy.filter(pl.col(column) <= now).select(pl.col(column).max()).collect(engine="streaming").item()
    return value if isinstance(value, datetime) else None


def accept(dataset: str, reason: str, actor: str, ledger: Ledger) -> list[str]:
    """Let the breaking change that stopped the last take pass. Returns what was accepted, in sentences. Raises NotFound when nothing waits."""
    state = ledger.get(STATE, dataset)
    if state is None or not state.get("pending"):
        raise NotFound(f"No breaking change of data set {dataset!r} waits to be accepted.", hint="See: treadle contract show " + dataset)
    pending = state["pending"]
    with ledger.transaction():
        body = {**state.body, "accepted": {"changes": pending["digest"], "reason": reason, "actor": actor}}
        ledger.put(STATE, dataset, body, expect=state.version)
        ledger.append("contract.accepted", Ref(STATE, dataset), {"changes": pending["sentences"], "reason": reason}, actor=actor)
    return list(pending["sentences"])


def _stops(dataset: Dataset, promise: str) -> bool:
    return promise in (dataset.contract.stop_on if dataset.contract else STOPS)


def _at_most(dataset: Dataset, sorted_out: quarantine.SortedOut, rows: int) -> list[Broken]:
    # Of all rows there are, not of those that came last: one bad message among three new ones is no reason to stop.
    bad = sorted_out.bad.height + sorted_out.more
    total = rows + bad
    share, limit = bad / max(1, total), dataset.contract.at_most if dataset.contract else 0.05
    if share <= limit:
        return []
    worst = "; ".join(f"{reason} ({n:,} rows)" for reason, n in list(sorted_out.counts.items())[:3])
    sentence = f"{bad:,} of {total:,} rows ({share:.1%}) break the contract, more than the {limit:.1%} it allows: {worst}."
    return [Broken("at_most", sentence, _stops(dataset, "at_most"))]


def _fresh(dataset: Dataset, newest: datetime | None, now: datetime) -> list[Broken]:
    contract = dataset.contract
    if contract is None or contract.fresh is None:
        return []
    column, limit = dataset.known_time or dataset.event_time, span(contract.fresh)
    if newest is not None and now - newest <= limit:
        return []
    if newest is None:
        sentence = f"No row has a {column} up to now; the newest may be {short(limit)} old."
    else:
        sentence = f"The newest row is of {newest:%Y-%m-%d %H:%M} UTC ({column}) and {_age(now - newest)} old; it may be {short(limit)} old."
    return [Broken("fresh", sentence, _stops(dataset, "fresh"))]


def _volume(dataset: Dataset, rows: int, earlier: Sequence[Record]) -> list[Broken]:
    contract = dataset.contract
    found: list[Broken] = []
    if contract is None:
        return found
    stops = _stops(dataset, "volume")
    if contract.volume is not None:
        low, high = contract.volume
        if (low is not None and rows < low) or (high is not None and rows > high):
            promised = f"at least {low:,}" if high is None else f"at most {high:,}" if low is None else f"{low:,} to {high:,}"
            found.append(Broken("volume", f"The version has {rows:,} rows; {promised} are promised.", stops))
    if contract.volume_change is not None and earlier:
        usual, limit = median(int(v["rows"]) for v in earlier), float(contract.volume_change)
        change = abs(rows - usual) / max(1.0, usual)
        if change > limit:
            word = "fewer" if rows < usual else "more"
            said = f"the last {len(earlier)} versions (median)" if len(earlier) > 1 else "the version before"
            sentence = f"The version has {rows:,} rows, {change:.0%} {word} than the {usual:,.0f} of {said}; {limit:.0%} is allowed."
            found.append(Broken("volume", sentence, stops))
    return found


def _like(dataset: Dataset, lazy: pl.LazyFrame, earlier: Sequence[Record], ledger: Ledger, tables: Tables) -> list[Broken]:
    contract = dataset.contract
    if contract is None or contract.like is None:
        return []
    reference = _reference(dataset, contract.like.version, earlier, ledger)
    if reference is None:  # nothing to be like yet
        return []
    known, here = tables.scan(reference["address"]), lazy.collect_schema()
    unknown = next((c for c in contract.like.limits if c not in here), None)
    if unknown is not None:
        raise ProjectError(
            f"The contract of data set {dataset.name!r} wants column {unknown!r} to stay alike, which it has not.", where=dataset.place,
            hint=f"It has: {', '.join(here.names()[:30])}.",
        )  # fmt: skip
    columns = [c for c in contract.like.limits if c in known.collect_schema()]
    was, now = known.select(columns).collect(), lazy.select(columns).collect()
    found = []
    for column in columns:
        measured = distances(was[column], now[column])
        quiet = column in (dataset.subject, *dataset.key) or (column in contract.columns and _of_persons(contract.columns[column]))
        for effect, limit in contract.like.limits[column].items():
            value = measured.sizes.get(effect)
            if value is not None and value > limit:
                moved = f" ({measured.moved})" if measured.moved and not quiet and effect != "missing" else ""
                shown = f"the share of missing values changed by {value:.1%}" if effect == "missing" else f"{effect.upper()} {value:.3f}"
                most = f"{limit:.1%}" if effect == "missing" else f"{limit:g}"
                sentence = f"Column {column!r} is not like that of version {reference.id}: {shown}, {most} is allowed{moved}."
                found.append(Broken("like", sentence, _stops(dataset, "like")))
    return found


def _of_persons(column: Column) -> bool:
    """Whether a value of a column may say whom a row is about: it would stand in an event, and events can never be erased."""
    return bool(column.personal) or column.unique


def _reference(dataset: Dataset, version: str, earlier: Sequence[Record], ledger: Ledger) -> Record | None:
    if version == "previous":
        return earlier[0] if earlier else None
    pinned = ledger.get(_VERSION, version)
    if pinned is None and version.isdigit():
        numbered = ledger.find(_VERSION, {"dataset": dataset.name, "number": int(version)}, limit=1)
        pinned = numbered[0] if numbered else None
    if pinned is None:
        raise NotFound(
            f"Data set {dataset.name!r} has no version {version!r} to be like.", where=dataset.place,
            hint="Use 'previous', or the number or id of a version.",
        )  # fmt: skip
    return pinned


def _changes(dataset: Dataset, state: Record | None, schema: Mapping[str, str]) -> list[schema_changes.Change]:
    if state is None or not state.get("schema"):
        return []
    return schema_changes.compare(state["schema"], schema, state.get("declared"), schema_changes.declared(dataset))


def _schema(
    dataset: Dataset, changes: Sequence[schema_changes.Change], state: Record | None, uses: Mapping[str, Sequence[str]] | None
) -> list[Broken]:
    breaking = schema_changes.breaking(changes, uses)
    accepted = (state.get("accepted") or {}).get("changes") if state is not None else None
    if not breaking or accepted == schema_changes.digest_of(changes):
        return []
    sentence = schema_changes.in_words(breaking)
    return [Broken("schema", f"{sentence[0].upper()}{sentence[1:]}.", _stops(dataset, "schema"))]


def _record(
    dataset: Dataset, sorted_out: quarantine.SortedOut, found: Sequence[Broken], changes: Sequence[schema_changes.Change],
    schema: Mapping[str, str] | None, rows: int, newest: datetime | None, state: Record | None, ledger: Ledger, tables: Tables, now: datetime,
) -> None:  # fmt: skip
    """One record a data set: how its last take stood to its promises. What newly broke, and what is whole again, is an event each."""
    before = dict(state.body) if state is not None else {}
    was = before.get("broken", {})
    broken = {
        promise: {
            "sentence": " ".join(b.sentence for b in found if b.promise == promise), "stops": any(b.stops for b in found if b.promise == promise),
            "since": was.get(promise, {}).get("since", iso(now)),
        }
        for promise in dict.fromkeys(b.promise for b in found)
    }  # fmt: skip
    moments = [parse_time(sorted_out.again)] if sorted_out.again else []
    if dataset.contract and dataset.contract.fresh is not None and newest is not None and "fresh" not in broken:
        moments.append(newest + span(dataset.contract.fresh))
    again = before.get("again", "")
    body: dict[str, Any] = {
        "dataset": dataset.name, "owner": dataset.owner, "taken": iso(now), "rows": rows, "stopped": schema is None, "broken": broken,
        "quarantine": tables.put(sorted_out.bad) if sorted_out.bad.height else "", "quarantined": sorted_out.bad.height + sorted_out.more,
        "counts": sorted_out.counts,
        "fixed": sorted_out.fixed, "released": sorted_out.released, "outdated": sorted_out.outdated,
        "newest": iso(newest) if newest else "", "again": iso(min(moments)) if moments else "",
        "due": again if again and now > parse_time(again) else before.get("due", ""),
        "schema": dict(schema) if schema is not None else before.get("schema"),
        "declared": schema_changes.declared(dataset) if schema is not None else before.get("declared"),
        "changes": [{"column": c.column, "what": c.what, "breaking": c.breaking, "sentence": c.sentence} for c in changes],
        "pending": _pending(changes) if "schema" in broken else None,
        "accepted": before.get("accepted") if schema is None else None,
    }  # fmt: skip
    subject = Ref(STATE, dataset.name)
    with ledger.transaction():
        ledger.put(STATE, dataset.name, body)
        for promise, told in broken.items():
            if promise not in was:
                ledger.append("contract.broken", subject, {"promise": promise, "sentence": told["sentence"], "stops": told["stops"]})
        for promise in was:
            if promise not in broken:
                ledger.append("contract.kept", subject, {"promise": promise})
        if changes and schema is not None:
            ledger.append("contract.changed", subject, {"changes": [c.sentence for c in changes], "breaking": any(c.breaking for c in changes)})
        quarantine.applied(sorted_out, ledger)


def _pending(changes: Sequence[schema_changes.Change]) -> dict[str, Any]:
    return {"digest": schema_changes.digest_of(changes), "sentences": [c.sentence for c in changes if c.breaking]}


def _hint(dataset: Dataset, stops: Sequence[Broken]) -> str:
    hints = {
        "at_most": f"See them: treadle quarantine list {dataset.name}. Correct the data, the contract's columns or rules, or raise at_most.",
        "fresh": "See why the source has nothing newer, or raise fresh.",
        "volume": "See whether the source is whole, or change volume.",
        "like": "See whether the source means the same as before, or raise the limit.",
        "schema": f"If that is meant: treadle contract accept {dataset.name} --reason '...'",
    }
    return " ".join(dict.fromkeys(hints[b.promise] for b in stops))


def _age(age: Any) -> str:
    days, seconds = age.days, age.seconds
    return f"{days}d{seconds // 3600}h" if days else f"{seconds // 3600}h{seconds % 3600 // 60}m"


