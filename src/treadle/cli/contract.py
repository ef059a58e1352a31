"""`treadle contract`: how data sets stand to their contracts, contract files, and changes that need a person's word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treadle.assemble import Workspace
from treadle.cli import show
from treadle.core.declare.data import Dataset
from treadle.core.errors import NotFound, UsageError


@click.group(epilog="Example: treadle contract show orders")
def contract() -> None:
    """Show how a data set stands to its contract, write or read contract files, accept a change that breaks what uses it."""


@contract.command("show", epilog="Example: treadle contract show orders")
@click.argument("dataset")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def show_(ctx: click.Context, dataset: str, json_: bool) -> None:
    """Show which promises the newest rows keep, what changed since, who uses which column, and what looks personal but is not declared so."""
    from treadle.data import schema_changes
    from treadle.data.promises import STATE

    ws = show.workspace(ctx)
    declared = _dataset(ws, dataset)
    state = ws.ledger.get(STATE, dataset)
    used = schema_changes.uses(ws.project, declared)
    suspected = _suspected(ws, declared)
    if json_:
        show.as_json({"dataset": dataset, "state": dict(state.body) if state is not None else None, "used_by": used, "suspected": suspected})
        return
    show.say(f"data set {dataset} (owner: {declared.owner or 'nobody said'})")
    if state is None:
        show.say("  no version was taken yet: treadle run")
    else:
        ended = "the run stopped" if state["stopped"] else "accepted"
        show.say(f"  last taken {state['taken'][:16]}: {state['rows']:,} rows, {state['quarantined']:,} set aside; {ended}")
        for promise, told in state["broken"].items():
            show.say(f"  BROKEN {promise} since {told['since'][:16]}: {told['sentence']}")
        if not state["broken"]:
            show.say("  every promise about the rows together is kept")
        for change in state["changes"]:
            show.say(f"  {'breaking' if change['breaking'] else 'compatible'}: {change['sentence']}")
        if state["pending"]:
            show.say(f"  accept it with: treadle contract accept {dataset} --reason '...'")
    columns = dict(declared.contract.columns) if declared.contract else {}
    show.table(
        ["column", "kind", "personal", "policy", "used by"],
        [(n, c.kind, c.personal, c.policy, ", ".join([*used.get(n, ()), *used.get(schema_changes.ANY, ())])) for n, c in columns.items()],
    )
    for s in suspected:
        show.say(f"note: {s['column']} looks like personal data ({s['kind']}): {s['why']}. Declare it: personal={s['kind']!r}")


@contract.command(epilog="Example: treadle contract export orders --out orders.odcs.yaml")
@click.argument("dataset")
@click.option("--format", "format_", type=click.Choice(["odcs"]), default="odcs", show_default=True, help="Open Data Contract Standard 3.1.0, YAML.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write; printed if not given.")
@click.option("--version", default="1.0.0", show_default=True, help="The version of the contract.")
@click.pass_context
def export(ctx: click.Context, dataset: str, format_: str, out: Path | None, version: str) -> None:
    """Write a data set's contract as a file that other tools read."""
    from treadle.data import odcs

    ws = show.workspace(ctx)
    text = odcs.export(_dataset(ws, dataset), project=ws.project.name, version=version)
    if out is None:
        click.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    show.say(f"wrote {out}")


@contract.command("import", epilog="Example: treadle contract import orders.odcs.yaml")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--table", default="", help="Which table of the file, where it has several.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
def import_(file: Path, table: str, json_: bool) -> None:
    """Read a contract file: say what it promises, what has no counterpart here, and how to use it in a project."""
    from treadle.core.canonical import plain
    from treadle.data import odcs

    found = odcs.read(file, table=table)
    if json_:
        declared = {n: {k: v for k, v in plain(c).items() if k != "="} for n, c in found.contract.columns.items()}
        show.as_json({
            "table": found.name, "key": found.key, "event_time": found.event_time, "known_time": found.known_time, "columns": declared,
            "rules": list(found.contract.rules), "left_out": found.left_out,
        })  # fmt: skip
        return
    columns, rules = len(found.contract.columns), len(found.contract.rules)
    show.say(f"{found.name}: {columns} column{'s' * (columns != 1)}, {rules} rule{'s' * (rules != 1)}")
    show.table(["column", "kind", "may be missing", "personal"], [(n, c.kind, "yes" if c.nullable else "no", c.personal)
                                                                    for n, c in found.contract.columns.items()])  # fmt: skip
    for sentence in found.left_out:
        show.say(f"left out: {sentence}")
    key = f"{found.key[0]!r}" if len(found.key) == 1 else repr(found.key)
    times = "".join(f", {name}={value!r}" for name, value in (("event_time", found.event_time), ("known_time", found.known_time)) if value)
    chosen = f", table={table!r}" if table else ""
    show.say("\nIn project.py:")
    show.say(f"  project.dataset({found.name!r}, source=..., key={key}{times}, contract=tr.contract_from({file.name!r}{chosen}))")


@contract.command(epilog="Example: treadle contract accept orders --reason 'the shop opened in Basel'")
@click.argument("dataset")
@click.option("--reason", required=True, help="Why the change is meant, for the record.")
@click.pass_context
def accept(ctx: click.Context, dataset: str, reason: str) -> None:
    """Accept the breaking change of columns that stopped the last run; the next `treadle run` goes on with it."""
    from treadle.data import promises

    if not reason.strip():
        raise UsageError("--reason is empty.", hint="Say why the change is meant.")
    ws = show.workspace(ctx)
    _dataset(ws, dataset)
    for sentence in promises.accept(dataset, reason, ws.actor, ws.ledger):
        show.say(f"accepted: {sentence}")
    show.say("Next: treadle run")


def _dataset(ws: Workspace, name: str) -> Dataset:
    if name not in ws.project.datasets:
        raise NotFound(f"The project has no data set {name!r}.", hint=f"It has: {', '.join(ws.project.datasets)}.")
    return ws.project.datasets[name]


def _suspected(ws: Workspace, dataset: Dataset) -> list[dict[str, Any]]:
    from treadle.core.errors import TreadleError
    from treadle.data import versions
    from treadle.data.privacy import suspicions

    newest = versions.newest(dataset.name, ws.ledger)
    try:
        rows = ws.tables.scan(newest.address).head(5_000).collect() if newest is not None else None
    except TreadleError:
        return []
    known = {n for n, c in (dataset.contract.columns if dataset.contract else {}).items() if c.personal} | {dataset.subject}
    return [{"column": s.column, "kind": s.kind, "why": s.why} for s in suspicions(rows) if s.column not in known] if rows is not None else []
