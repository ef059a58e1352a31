"""`treadle quarantine`: rows that broke their contract, and the way back."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from treadle.assemble import Workspace
from treadle.cli import show
from treadle.core.declare.data import Dataset
from treadle.core.errors import NotFound, Refused, UsageError

SHOWN = 20


@click.group(epilog="Example: treadle quarantine fix orders 1017 amount=12.50")
def quarantine() -> None:
    """Look at rows that broke their contract, correct them, or let them in as they are.

    A decision holds for the row as it stands in the source now, and takes effect with the next `treadle run`. Personal values are never shown.
    """


@quarantine.command("list", epilog="Example: treadle quarantine list orders")
@click.argument("dataset", default="")
@click.option("--all", "all_", is_flag=True, help=f"All rows, not the first {SHOWN}.")
@click.option("--out", type=click.Path(path_type=Path), help="Write all rows to this CSV file, to be corrected there and given to: fix --file.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def list_(ctx: click.Context, dataset: str, all_: bool, out: Path | None, json_: bool) -> None:
    """List the data sets with rows set aside, or the rows of one: key, reasons, since when, what was decided."""
    from treadle.data import quarantine as decided
    from treadle.data import set_aside

    ws = show.workspace(ctx)
    if not dataset:
        _summary(ws, json_)
        return
    declared = _dataset(ws, dataset)
    frame = set_aside.table(declared, ws.ledger, ws.tables)
    decisions = decided.standing(dataset, ws.ledger)
    if frame is None:
        if json_:
            show.as_json([])
        else:
            show.say(f"No row of data set {dataset!r} is set aside." + (f" {len(decisions)} decisions stand." if decisions else ""))
        return
    rows = set_aside.rows(declared, frame, decisions, first=None if all_ or out else SHOWN)
    since = set_aside.since(declared, rows, ws.ledger, ws.tables)
    if out is not None:
        with out.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["row", "reason", *rows[0].shown])
            writer.writerows([r.row[:16], r.reason, *(set_aside.text(v) for v in r.shown.values())] for r in rows)
        show.say(f"wrote {len(rows):,} rows to {out}; correct them there, then: treadle quarantine fix {dataset} --file {out}")
        return
    if json_:
        show.as_json([{"row": r.row, "reason": r.reason, "since": since[r.row], "decided": r.decision, "values": dict(r.shown)} for r in rows])
        return
    show.table(
        ["row", ",".join(declared.key), "since", "decided", "reason"],
        [
            (r.row[: set_aside.SHORT], ",".join(set_aside.text(r.shown[k]) for k in declared.key), since[r.row][:16], r.decision or "-", r.reason)
            for r in rows
        ],
    )
    if frame.height > len(rows):
        show.say(f"... and {frame.height - len(rows):,} more (--all)")
    _outdated(ws, declared)


@quarantine.command("show", epilog="Example: treadle quarantine show orders 1017")
@click.argument("dataset")
@click.argument("key")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def show_(ctx: click.Context, dataset: str, key: str, json_: bool) -> None:
    """Show one row that is set aside, with all its values (personal ones masked), named by its key or its row."""
    from treadle.data import set_aside

    ws = show.workspace(ctx)
    declared, rows = _rows(ws, dataset)
    row = set_aside.find(declared, key, rows)
    since = set_aside.since(declared, [row], ws.ledger, ws.tables)[row.row]
    if json_:
        show.as_json({"row": row.row, "reason": row.reason, "since": since, "decided": row.decision, "values": dict(row.shown)})
        return
    show.say(f"row {row.row[: set_aside.SHORT]}, set aside since {since[:16]}: {row.reason}")
    show.columns([(f"  {name}", "-" if value is None else set_aside.text(value)) for name, value in row.shown.items()])
    if row.decision:
        show.say(f"decided: {row.decision}; it takes effect with the next treadle run")


@quarantine.command(epilog="Example: treadle quarantine fix orders 1017 amount=12.50 city=Basel")
@click.argument("dataset")
@click.argument("key", default="")
@click.argument("values", nargs=-1, metavar="COLUMN=VALUE...")
@click.option("--file", "path", type=click.Path(path_type=Path), help="Corrections as CSV: the key columns or `row`, and columns to correct.")
@click.option("--reason", default="", help="Why, for the record.")
@click.pass_context
def fix(ctx: click.Context, dataset: str, key: str, values: Sequence[str], path: Path | None, reason: str) -> None:
    """Correct values of a row that is set aside; an empty value (COLUMN=) makes it missing. The corrected row is held to the contract again."""
    from treadle.data import quarantine as decided
    from treadle.data import set_aside

    ws = show.workspace(ctx)
    if path is None and (not key or not values):
        raise UsageError("Say which row and what stands there rightly.", hint=f"For example: treadle quarantine fix {dataset} KEY column=value")
    if path is not None and key:
        raise UsageError("--file says itself which rows are meant; leave out the key.")
    declared, rows = _rows(ws, dataset)
    if path is not None:
        pairs = set_aside.corrections(path, declared, rows)
    else:
        pairs = [(set_aside.find(declared, key, rows), _assigned(values))]
    if not pairs:
        show.say("The file corrects nothing.")
        return
    frame = set_aside.table(declared, ws.ledger, ws.tables)
    assert frame is not None
    for row, corrected in pairs:
        decided.check_fix(frame.row(row.number, named=True), corrected, declared, dict(frame.schema), ws.clock.now())
    decided.decide([set_aside.decision_for(row, declared, "fix", corrected, reason, ws.actor) for row, corrected in pairs], ws.ledger, ws.clock)
    show.say(f"{_count(len(pairs), 'row')} corrected. Next: treadle run")


@quarantine.command(epilog="Example: treadle quarantine release orders 1017 1018 --reason 'the shop confirmed the price'")
@click.argument("dataset")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--reason", required=True, help="Why these rows are right as they are, for the record.")
@click.pass_context
def release(ctx: click.Context, dataset: str, keys: Sequence[str], reason: str) -> None:
    """Let rows in as they are, although they break the contract."""
    from treadle.data import quarantine as decided
    from treadle.data import set_aside

    if not reason.strip():
        raise UsageError("--reason is empty.", hint="Say why these rows are right as they are.")
    ws = show.workspace(ctx)
    declared, rows = _rows(ws, dataset)
    chosen = [set_aside.find(declared, key, rows) for key in keys]
    for row in chosen:
        hard = decided.hard_reasons(row.reason, declared)
        if hard:
            raise Refused(
                f"Row {row.row[: set_aside.SHORT]} cannot be let in as it is: {'; '.join(hard)}.", where=f"data set {dataset!r}",
                hint=f"Correct it: treadle quarantine fix {dataset} {row.row[: set_aside.SHORT]} column=value",
            )  # fmt: skip
    decided.decide([set_aside.decision_for(row, declared, "release", {}, reason, ws.actor) for row in chosen], ws.ledger, ws.clock)
    show.say(f"{_count(len(chosen), 'row')} released. Next: treadle run")


@quarantine.command(epilog="Example: treadle quarantine undo orders 5f0c21aa")
@click.argument("dataset")
@click.argument("row")
@click.option("--reason", default="", help="Why, for the record.")
@click.pass_context
def undo(ctx: click.Context, dataset: str, row: str, reason: str) -> None:
    """Take a decision back. ROW is the row of the decision, as `treadle quarantine decisions` shows it."""
    from treadle.data import quarantine as decided

    ws = show.workspace(ctx)
    _dataset(ws, dataset)
    show.say(f"undone: {decided.undo(dataset, row, ws.actor, reason, ws.ledger)}. Next: treadle run")


@quarantine.command(epilog="Example: treadle quarantine decisions orders")
@click.argument("dataset")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def decisions(ctx: click.Context, dataset: str, json_: bool) -> None:
    """List the decisions about a data set's rows: what, who, when, why, and whether the row is still as it was then."""
    from treadle.core.masking import masked, personal_columns
    from treadle.data import quarantine as decided
    from treadle.data.promises import STATE

    ws = show.workspace(ctx)
    declared = _dataset(ws, dataset)
    personal = personal_columns([declared])
    state = ws.ledger.get(STATE, dataset)
    outdated = set(state["outdated"]) if state is not None else set()
    said: list[dict[str, Any]] = [
        {
            "row": d.row, "action": d.action, "values": {c: masked(v, personal.get(c, "")) for c, v in d.values.items()}, "reason": d.reason,
            "actor": d.actor, "at": d.at, "state": "outdated" if d.id in outdated else "applied" if d.applied else "waits for a run",
        }
        for d in decided.standing(dataset, ws.ledger)
    ]  # fmt: skip
    if json_:
        show.as_json(said)
        return
    if not said:
        show.say(f"No decision about data set {dataset!r} stands.")
    show.table(
        ["row", "action", "values", "state", "by", "at", "reason"],
        [
            (
                s["row"][:8], s["action"], " ".join(f"{c}={v or ''}" for c, v in s["values"].items()), s["state"], s["actor"], s["at"][:16],
                s["reason"],
            )
            for s in said
        ],
    )  # fmt: skip
    _outdated(ws, declared)


def _summary(ws: Workspace, json_: bool) -> None:
    from treadle.data import set_aside

    states = set_aside.summary(list(ws.project.datasets.values()), ws.ledger)
    if json_:
        show.as_json([{k: s[k] for k in ("dataset", "quarantined", "rows", "counts", "taken", "stopped", "fixed", "released")} for s in states])
        return
    if not states:
        show.say("No row is set aside.")
    show.table(
        ["data set", "set aside", "let in", "taken", "most frequent reasons"],
        [
            (
                s["dataset"], f"{s['quarantined']:,}", f"{s['fixed'] + s['released']:,}", s["taken"][:16],
                "; ".join(f"{reason} ({n:,})" for reason, n in list(s["counts"].items())[:2]) + (" (the run stopped)" if s["stopped"] else ""),
            )
            for s in states
        ],
    )  # fmt: skip


def _outdated(ws: Workspace, dataset: Dataset) -> None:
    from treadle.data.promises import STATE

    state = ws.ledger.get(STATE, dataset.name)
    if state is not None and state["outdated"]:
        rows = ", ".join(id.rpartition(".")[2][:8] for id in state["outdated"][:5])
        n = len(state["outdated"])
        show.say(f"{n} decision{'s' * (n != 1)} no longer appl{'y' if n != 1 else 'ies'} ({rows}): the source does not hold the row as it was then.")


def _dataset(ws: Workspace, name: str) -> Dataset:
    if name not in ws.project.datasets:
        raise NotFound(f"The project has no data set {name!r}.", hint=f"It has: {', '.join(ws.project.datasets)}.")
    return ws.project.datasets[name]


def _rows(ws: Workspace, name: str) -> tuple[Dataset, Any]:
    from treadle.data import quarantine as decided
    from treadle.data import set_aside

    declared = _dataset(ws, name)
    frame = set_aside.table(declared, ws.ledger, ws.tables)
    if frame is None:
        raise NotFound(f"No row of data set {name!r} is set aside.")
    return declared, set_aside.rows(declared, frame, decided.standing(name, ws.ledger))


def _assigned(given: Sequence[str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise UsageError(f"{text!r} says no column=value.", hint="For example: amount=12.50")
        found[name.strip()] = value or None
    return found


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}{'s' * (n != 1)}"
