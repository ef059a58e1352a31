"""What stands in quarantine now: each row with its reasons, since when, and what was decided; found by key or by the first signs of its digest."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.declare.data import Dataset
from treadle.core.errors import Conflict, DataError, NotFound, UsageError
from treadle.core.masking import masked, personal_columns
from treadle.core.records import Record
from treadle.data.promises import STATE, in_turn
from treadle.data.quarantine import Decision, key_digest, key_text, row_digest
from treadle.ports.ledger import Ledger
from treadle.ports.tables import Tables

SHORT = 8  # signs of a row's digest that are shown
_LEAST = 6
_VERSIONS = 100  # looked back for `since`


@dataclass(frozen=True)
class SetAside:
    """One row in quarantine. `values` are as they are stored, `shown` as they may be shown; `number` is its place in the quarantine."""

    number: int
    row: str
    key: tuple[Any, ...]
    values: Mapping[str, Any]
    shown: Mapping[str, Any]
    reason: str
    decision: str = ""


def table(dataset: Dataset, ledger: Ledger, tables: Tables) -> pl.DataFrame | None:
    """The quarantine as it was last filled, whether that take went on or stopped; None when it is empty."""
    state = ledger.get(STATE, dataset.name)
    address = state["quarantine"] if state is not None else ""
    return tables.scan(address).collect() if address and tables.exists(address) else None


def rows(dataset: Dataset, frame: pl.DataFrame, decisions: Sequence[Decision] = (), *, first: int | None = None) -> list[SetAside]:
    """The rows of a quarantine, in its order, the first ones only if said."""
    unread_column, reason_column = frame.columns[-2:]
    personal = personal_columns([dataset])
    decided = {d.row: d.action for d in decisions}
    found = []
    for number, content in enumerate((frame if first is None else frame.head(first)).iter_rows(named=True)):
        unread, reason = content.pop(unread_column), content.pop(reason_column)
        digest = row_digest(content, unread)
        texts = json.loads(unread or "{}")
        shown = {name: masked(texts.get(name, value), personal.get(name, "")) for name, value in content.items()}
        key = tuple(content[k] for k in dataset.key)
        found.append(SetAside(number, digest, key, content, shown, reason, decided.get(digest, "")))
    return found


def find(dataset: Dataset, name: str, found: Sequence[SetAside]) -> SetAside:
    """The row somebody means: by its key as it is typed ('17', or 'a,b' for two columns), or by the first six or more signs of its digest.

    Raises: NotFound; Conflict when several have this key.
    """
    fit = [r for r in found if key_text(r.key) == name]
    if not fit and len(name) >= _LEAST:
        fit = [r for r in found if r.row.startswith(name)]
    if not fit:
        raise NotFound(f"No row {name!r} of data set {dataset.name!r} is set aside.", hint=f"See: treadle quarantine list {dataset.name} --all")
    if len({r.row for r in fit}) > 1:
        raise Conflict(f"{len(fit)} rows have the key {name!r}.", hint=f"Name one by its row: {', '.join(r.row[:SHORT] for r in fit)}")
    return fit[0]


def since(dataset: Dataset, listed: Sequence[SetAside], ledger: Ledger, tables: Tables) -> dict[str, str]:
    """Row digest to the moment of the first take, of those without a break until now, that set the row aside."""
    state = ledger.get(STATE, dataset.name)
    found = {r.row: str(state["taken"]) if state is not None else "" for r in listed}
    keys = pl.DataFrame([dict(zip(dataset.key, r.key)) for r in listed], schema=None, strict=False, infer_schema_length=None)
    left = set(found)
    for version in in_turn(dataset.name, ledger)[: -_VERSIONS - 1 : -1]:
        address = version["quarantine"]
        if not left or not address or not tables.exists(address):
            break
        scan = tables.scan(address)
        wanted = keys.cast({k: v for k, v in scan.collect_schema().items() if k in keys.columns}, strict=False)
        here = {r.row for r in rows(dataset, scan.join(wanted.lazy(), on=list(dataset.key), how="semi", nulls_equal=True).collect())}
        left &= here
        for row in left:
            found[row] = version.get("taken") or version.created_at
    return found


def summary(datasets: Sequence[Dataset], ledger: Ledger) -> list[Record]:
    """How the last take of each data set ended, of those that set rows aside."""
    found = [ledger.get(STATE, d.name) for d in datasets]
    return [s for s in found if s is not None and (s["quarantined"] or s["outdated"])]


def decision_for(row: SetAside, dataset: Dataset, action: Any, values: Mapping[str, str | None], reason: str, actor: str) -> Decision:
    """A decision about one row, not yet made."""
    return Decision(dataset.name, key_digest(row.key), row.row, action, dict(values), reason, actor)


def corrections(path: Path, dataset: Dataset, found: Sequence[SetAside]) -> list[tuple[SetAside, dict[str, str | None]]]:
    """Corrections from a CSV file: a column `row` or the key columns name the row, every other cell that differs from what stands there corrects it.

    An empty cell leaves the value as it is, and so does what is shown masked.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            lines = list(csv.DictReader(handle))
    except FileNotFoundError:
        raise NotFound(f"There is no file {str(path)!r}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "Write them as CSV in UTF-8, with a line of column names."
        raise DataError(f"The corrections do not read: {error}.", where=path.name, hint=hint) from None
    if not lines:
        raise DataError("The file has no corrections.", where=path.name)
    head = [c for c in lines[0] if c is not None]
    by_row = "row" in head and "row" not in (found[0].values if found else {})
    if not by_row and not all(k in head for k in dataset.key):
        hint = f"Give a column 'row', or {', '.join(dataset.key)}."
        raise DataError(f"The file names no rows: it has {', '.join(head)}.", where=path.name, hint=hint)
    named = {"row", "reason", "since", "unread"} - set(found[0].values if found else {}) | (set() if by_row else set(dataset.key))
    unknown = next((c for c in head if c not in named and found and c not in found[0].values), None)
    if unknown is not None:
        raise UsageError(f"Data set {dataset.name!r} has no column {unknown!r}.", where=path.name, hint=f"It has: {', '.join(found[0].values)}.")
    made = []
    for line in lines:
        row = find(dataset, line["row"] if by_row else ",".join(line[k] or "" for k in dataset.key), found)
        values: dict[str, str | None] = {c: v for c, v in line.items() if c is not None and c not in named and v and not _same(v, row.shown[c])}
        if values:
            made.append((row, values))
    return made


def _same(typed: str, value: Any) -> bool:
    if typed == text(value):
        return True
    try:
        return isinstance(value, int | float) and float(typed) == value
    except ValueError:
        return False


def text(value: Any) -> str:
    """A value as it is typed."""
    return key_text([value])
