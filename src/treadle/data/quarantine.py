"""The quarantine and the way back: rows that broke their contract, and what people decided about them.

A decision is for one row with just this content: it corrects values ('fix') or lets the row in as it is ('release'). It is applied whenever a
version is taken; a corrected row is held to the contract again. When the source changes the row, the decision says so and does nothing.
A row without its key, or the second of its key, cannot be let in as it is: it has to be corrected.

A quarantine is a lone table: the columns of the data set, then what stood in cells that could not be read (`unread`, JSON), then the reasons.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Any, Literal

import polars as pl

from treadle.core.canonical import digest
from treadle.core.clock import Clock, iso
from treadle.core.declare.data import Dataset
from treadle.core.errors import Conflict, DataError, NotFound
from treadle.core.records import Ref
from treadle.core.schema import Kind
from treadle.data import contracts, messages
from treadle.data.parsing import Unparsed, parse
from treadle.ports.ledger import Ledger

KIND = "quarantine_decision"
_ROW = "__row__"


@dataclass(frozen=True)
class Decision:
    """What a person decided about one row. `key` and `row` are digests, `values` the corrections as they were typed."""

    dataset: str
    key: str
    row: str
    action: Literal["fix", "release"]
    values: Mapping[str, str | None] = field(default_factory=dict)
    reason: str = ""
    actor: str = ""
    at: str = ""
    status: str = "active"
    applied: bool = False

    @property
    def id(self) -> str:
        return f"{self.dataset}.{self.row[:16]}"


@dataclass(frozen=True)
class SortedOut:
    """Rows sorted by their contract.

    Args:
        good, bad: the rows that go on, and those set aside with `unread` and, last, the reasons.
        counts: sentence to number of rows, most frequent first.
        fixed, released: how many rows were let in by a decision.
        outdated: ids of decisions whose row the source no longer has.
        again: ISO moment from which the same source gives another answer; '' if none.
        used: ids of the decisions that were applied.
        rows: for each row of `bad` its number in the frame that was sorted.
        more: rows set aside that are not in `bad`: of a file larger than memory with so many that it is refused.
    """

    good: pl.DataFrame
    bad: pl.DataFrame
    counts: dict[str, int]
    fixed: int = 0
    released: int = 0
    outdated: tuple[str, ...] = ()
    again: str = ""
    used: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    more: int = 0


def standing(dataset: str, ledger: Ledger) -> list[Decision]:
    """The decisions about a data set's rows that were not taken back, in the order they were first made."""
    names = Decision.__dataclass_fields__
    return [
        Decision(**{k: v for k, v in r.body.items() if k in names}) for r in ledger.find(KIND, {"dataset": dataset, "status": "active"})
    ]  # fmt: skip


def digest_of(decisions: Sequence[Decision]) -> str:
    """An ingredient of taking a version: it changes whenever a decision is made, changed or undone; '' without any."""
    return digest([[d.row, d.action, dict(d.values)] for d in sorted(decisions, key=lambda d: d.row)]) if decisions else ""


def sort_out(
    frame: pl.DataFrame, dataset: Dataset, unparsed: list[Unparsed], decisions: Sequence[Decision] = (), now: datetime | None = None,
    held: pl.DataFrame | None = None,
) -> SortedOut:  # fmt: skip
    """Hold rows to their contract and apply what people decided about those that break it.

    Args:
        unparsed: cells of `frame` that could not be read.
        held: with rows that come on top of earlier ones, the quarantine until now: its rows stay set aside unless the source has sent
            their key again or a decision lets them in.
    """
    if held is not None and held.height:
        frame, unparsed = _join_held(frame, unparsed, held, dataset)
        decisions = [d for d in decisions if not d.applied]
    unread = unread_column(frame.columns)
    reasons = contracts.check(frame, dataset, unparsed, now)
    used: list[str] = []
    fixed = released = 0
    if decisions and reasons.height:
        rows = reasons["row"].unique().sort()
        texts = _unread(unparsed)
        found: dict[int, Decision] = {}
        by_row = {d.row: d for d in decisions}
        for row, content in zip(rows.to_list(), frame[rows.cast(pl.Int64)].iter_rows(named=True)):
            decision = by_row.get(row_digest(content, texts.get(row)))
            if decision is not None:
                found[row] = decision
                used.append(decision.id)
        fixes = {row: d for row, d in found.items() if d.action == "fix"}
        if fixes:
            frame, unparsed = apply(frame, dataset, unparsed, fixes)
            reasons = contracts.check(frame, dataset, unparsed, now)
            fixed = len(fixes) - reasons.filter(pl.col("row").is_in(list(fixes)))["row"].n_unique()
        free = [row for row, d in found.items() if d.action == "release"]
        if free:
            hard = _hard(dataset)
            before = set(reasons["row"].to_list())
            reasons = reasons.filter(~pl.col("row").is_in(free) | pl.col("reason").is_in(hard))
            released = len(set(free) & before - set(reasons["row"].to_list()))
    again = contracts.again(frame, dataset, now) if now is not None else None
    texts = _unread(unparsed)
    told = reasons.group_by("row", maintain_order=True).agg(__reason__=pl.col("reason").str.join("; "))
    numbered = frame.with_row_index(_ROW)
    bad = numbered.join(told, left_on=_ROW, right_on="row", how="inner", maintain_order="left")
    numbers = tuple(bad[_ROW].to_list())
    shown = pl.Series([texts.get(row) for row in numbers], dtype=pl.String)
    bad = bad.with_columns(shown.alias(unread)).select(*frame.columns, unread, pl.col("__reason__").alias(reason_column(frame.columns)))
    good = numbered.join(told, left_on=_ROW, right_on="row", how="anti", maintain_order="left").drop(_ROW) if told.height else frame
    counts = dict(Counter(reasons["reason"].to_list()).most_common())
    outdated = tuple(d.id for d in decisions if d.id not in set(used))
    return SortedOut(good, bad, counts, fixed, released, outdated, iso(again) if again else "", tuple(used), numbers)


def apply(
    frame: pl.DataFrame, dataset: Dataset, unparsed: Sequence[Unparsed], fixes: Mapping[int, Decision]
) -> tuple[pl.DataFrame, list[Unparsed]]:  # fmt: skip
    """The rows with corrections in them, by row number, and the cells that still cannot be read."""
    by_column: dict[str, list[tuple[int, str | None]]] = {}
    for row, decision in fixes.items():
        for column, value in decision.values.items():
            by_column.setdefault(column, []).append((row, value))
    corrected = {(row, column) for column, cells in by_column.items() for row, _ in cells}
    # A message that does not read is replaced by what a person says the row is; what it then lacks is another reason.
    left = [cell for cell in unparsed if (cell.row, cell.column) not in corrected and not (cell.column == messages.WHOLE and cell.row in fixes)]
    changed = []
    for column, cells in by_column.items():
        if column not in frame.columns:
            continue
        kind = kind_of(column, frame.schema[column], dataset)
        values = read_values(pl.Series(column, [v for _, v in cells], dtype=pl.String), kind, frame.schema[column])
        read = zip(cells, values.to_list())
        left += [Unparsed(row, column, text, kind or "text") for (row, text), value in read if text and value is None]
        changed.append(frame[column].clone().scatter(pl.Series([row for row, _ in cells], dtype=pl.UInt32), values))
    return frame.with_columns(changed), left


def applied(sorted_out: SortedOut, ledger: Ledger) -> None:
    """Note on the decisions that were applied that they were."""
    for id in sorted_out.used:
        record = ledger.get(KIND, id)
        if record is not None and not record.get("applied"):
            ledger.put(KIND, id, {**record.body, "applied": True}, expect=record.version)


def decide(decisions: Sequence[Decision], ledger: Ledger, clock: Clock) -> None:
    """Put decisions on record, all or none; a newer one about the same row replaces the older. The event log holds no values."""
    with ledger.transaction():
        for decision in decisions:
            made = replace(decision, at=iso(clock.now()), status="active", applied=False)
            body = {name: getattr(made, name) for name in Decision.__dataclass_fields__}
            ledger.put(KIND, made.id, {**body, "values": dict(made.values)})
            about = {"dataset": made.dataset, "action": made.action, "columns": sorted(made.values), "reason": made.reason}
            ledger.append(f"quarantine.{'fixed' if made.action == 'fix' else 'released'}", Ref(KIND, made.id), about, actor=made.actor)


def undo(dataset: str, row: str, actor: str, reason: str, ledger: Ledger) -> str:
    """Take a decision back; the next take is without it. Returns its id. Raises NotFound, Conflict when several begin so."""
    found = [d for d in standing(dataset, ledger) if d.row.startswith(row)]
    if not found:
        raise NotFound(f"No decision about row {row!r} of data set {dataset!r} stands.", hint=f"See: treadle quarantine list {dataset}")
    if len(found) > 1:
        raise Conflict(f"{len(found)} decisions are about rows that begin with {row!r}.", hint="Give more of its characters.")
    record = ledger.get(KIND, found[0].id)
    assert record is not None
    with ledger.transaction():
        ledger.put(KIND, record.id, {**record.body, "status": "undone"}, expect=record.version)
        ledger.append("quarantine.undone", Ref(KIND, record.id), {"dataset": dataset, "action": record["action"], "reason": reason}, actor=actor)
    return record.id


def forget(dataset: str, keys: set[str], ledger: Ledger) -> int:
    """Empty the decisions about rows with these key digests: no value, no digest is left. Returns how many."""
    gone = 0
    for record in ledger.find(KIND, {"dataset": dataset}):
        if record["key"] in keys:
            body = {**record.body, "values": {}, "key": "", "row": "", "reason": "", "status": "erased"}
            ledger.put(KIND, record.id, body, expect=record.version)
            gone += 1
    return gone


def check_fix(
    quarantined: Mapping[str, Any], values: Mapping[str, str | None], dataset: Dataset, schema: Mapping[str, pl.DataType], now: datetime
) -> None:  # fmt: skip
    """Raise DataError when one set-aside row would break the contract of its own columns after a correction too."""
    columns = list(schema)[:-2]
    unread = json.loads(quarantined[list(schema)[-2]] or "{}")
    unknown = next((c for c in values if c not in columns), None)
    if unknown is not None:
        raise NotFound(f"Data set {dataset.name!r} has no column {unknown!r}.", hint=f"It has: {', '.join(columns[:30])}.")
    frame = pl.DataFrame([{c: quarantined[c] for c in columns}], schema={c: schema[c] for c in columns})
    cells = [Unparsed(0, c, text, kind_of(c, schema.get(c, pl.String()), dataset) or "text") for c, text in unread.items()]
    decision = Decision(dataset.name, "", "", "fix", values)
    fixed, left = apply(frame, dataset, cells, {0: decision})
    reasons = contracts.check(fixed, dataset, left, now)["reason"].to_list()
    if reasons:
        raise DataError(
            f"With this correction the row still breaks the contract: {'; '.join(reasons)}.", where=f"data set {dataset.name!r}",
            hint="Correct these too, or let it in as it is: treadle quarantine release.",
        )  # fmt: skip


def unread_column(columns: Sequence[str]) -> str:
    """The name of the column of a quarantine that holds what could not be read."""
    return _free("unread", columns)


def reason_column(columns: Sequence[str]) -> str:
    """The name of the last column of a quarantine."""
    return _free("reason", columns)


def row_digest(content: Mapping[str, Any], unread: str | None) -> str:
    """What a decision is for: every value of a row, and what could not be read of it."""
    return digest([{name: _value(v) for name, v in content.items()}, unread])


def key_digest(values: Sequence[Any]) -> str:
    """A row's key, not to be read from it at sight."""
    return digest(["key", *(_value(v) for v in values)])


def key_text(values: Sequence[Any]) -> str:
    """A row's key as it is typed."""
    return ",".join("" if v is None else iso(v) if isinstance(v, datetime) else str(v) for v in values)


def kind_of(column: str, dtype: pl.DataType, dataset: Dataset) -> Kind | None:
    """How values of a column are written: by the contract, or else by their type."""
    if dataset.contract and column in dataset.contract.columns:
        return dataset.contract.columns[column].kind
    if column in (dataset.event_time, dataset.known_time):
        return "timestamp"
    kinds: list[tuple[bool, Kind]] = [
        (dtype == pl.String, "text"), (dtype == pl.Boolean, "boolean"), (dtype.is_integer(), "integer"), (dtype.is_float(), "number"),
        (isinstance(dtype, pl.Datetime), "timestamp"),
    ]  # fmt: skip
    return next((kind for fits, kind in kinds if fits), None)


def read_values(texts: pl.Series, kind: Kind | None, dtype: pl.DataType) -> pl.Series:
    """Typed corrections as values of a column; what does not read is null."""
    values = parse(texts, kind) if kind is not None else texts
    return values.cast(dtype, strict=False)


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str | datetime | date):
        return value
    if isinstance(value, list | tuple):
        return [_value(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _value(v) for k, v in value.items()}
    return str(value)


def _hard(dataset: Dataset) -> list[str]:
    """Reasons that no one can wave through: the table would have no key."""
    return [*(f"{name} is missing" for name in dataset.key), f"{' + '.join(dataset.key)} is not unique"]


def hard_reasons(reason: str, dataset: Dataset) -> list[str]:
    """Of a quarantined row's reasons those for which it cannot be released."""
    return [r for r in reason.split("; ") if r in _hard(dataset)]


def _unread(unparsed: Sequence[Unparsed]) -> dict[int, str]:
    cells: dict[int, dict[str, str]] = {}
    for cell in unparsed:
        cells.setdefault(cell.row, {})[cell.column] = cell.text
    return {row: json.dumps(texts, sort_keys=True, ensure_ascii=False) for row, texts in cells.items()}


def _join_held(frame: pl.DataFrame, unparsed: list[Unparsed], held: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, list[Unparsed]]:
    """Rows set aside before, below the new ones, unless their key has come again."""
    unread = held.columns[-2]
    kept = held.join(frame.select(dataset.key).unique(), on=list(dataset.key), how="anti", maintain_order="left")
    cells = [
        Unparsed(frame.height + row, column, text, kind_of(column, frame.schema.get(column, pl.String()), dataset) or "text")
        for row, texts in enumerate(kept[unread].to_list())
        for column, text in json.loads(texts or "{}").items()
        if column in frame.columns or column == messages.WHOLE
    ]
    rows = kept.drop(held.columns[-2:])
    return pl.concat([frame, rows.select(c for c in frame.columns if c in rows.columns)], how="diagonal_relaxed"), [*unparsed, *cells]


def _free(name: str, columns: Sequence[str]) -> str:
    while name in columns:
        name += "_"
    return name
