"""`treadle data`: the versions of data sets, what differs between two of them, and what may go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treadle.assemble import Workspace
from treadle.cli import show
from treadle.core.declare.data import Dataset
from treadle.core.errors import NotFound, UsageError
from treadle.core.records import Record

SAMPLES = 3


@click.group(invoke_without_command=True, epilog="Example: treadle data diff orders 3 5")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def data(ctx: click.Context, json_: bool) -> None:
    """List the data sets with their newest versions; show, compare and clean versions. Personal values are never shown."""
    if ctx.invoked_subcommand is None:
        _overview(show.workspace(ctx), json_)


def _overview(ws: Workspace, json_: bool) -> None:
    from treadle.core.clock import iso

    said: list[dict[str, Any]] = []
    for name, dataset in ws.project.datasets.items():
        newest = next(reversed(_records(ws, name)), None)
        said.append({
            "data_set": name, "version": newest.id if newest else "", "number": newest.get("number", -1) if newest else None,
            "rows": newest["rows"] if newest else 0, "quarantined": newest["quarantined"] if newest else 0, "to": newest["end"] if newest else "",
            "taken": (newest.get("taken") or newest.created_at) if newest else "", "source": dataset.source.kind,
        })  # fmt: skip
    if json_:
        show.as_json(said)
        return
    if not said:
        show.say("The project declares no data set.")
        return
    now = iso(ws.clock.now())
    show.table(
        ["data set", "source", "version", "rows", "set aside", "newest row", "taken"],
        [
            (d["data_set"], d["source"], f"{d['number']}  {d['version']}" if d["version"] else "-", f"{d['rows']:,}", f"{d['quarantined']:,}",
             d["to"][:16].replace("T", " ") or "-", f"{d['taken'][:16].replace('T', ' ')}{_age(d['taken'], now)}" if d["taken"] else "never")
            for d in said
        ],
    )  # fmt: skip


@data.command("versions", epilog="Example: treadle data versions orders")
@click.argument("dataset", default="")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def versions_(ctx: click.Context, dataset: str, json_: bool) -> None:
    """List the versions of a data set, newest first: rows, what changed, who was trained on it."""
    ws = show.workspace(ctx)
    declared = _dataset(ws, dataset)
    trained: dict[str, list[str]] = {}
    for version in ws.ledger.find("model_version"):
        for id in version.get("data", {}).values():
            trained.setdefault(id, []).append(version.id)
    found = [{"id": r.id, **r.body, "trained": trained.get(r.id, [])} for r in reversed(_records(ws, declared.name))]
    if json_:
        show.as_json(found)
        return
    if not found:
        show.say(f"Data set {declared.name!r} has no version yet. Run: treadle run")
        return
    show.table(
        ["number", "version", "taken", "rows", "added", "changed", "removed", "set aside", "trained on it"],
        [
            (v.get("number", "-") if v.get("number", -1) >= 0 else "-", v["id"], (v.get("taken") or "")[:16].replace("T", " "), f"{v['rows']:,}",
             f"{v.get('added', 0):,}", f"{v.get('changed', 0):,}", f"{v.get('removed', 0):,}", f"{v['quarantined']:,}",
             "dropped" if v.get("dropped") else ", ".join(v["trained"]))
            for v in found
        ],
    )  # fmt: skip


@data.command("show", epilog="Example: treadle data show orders --version 3")
@click.argument("dataset", default="")
@click.option("--version", "which", default="", help="Its number or id (default: the newest).")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def show_(ctx: click.Context, dataset: str, which: str, json_: bool) -> None:
    """Show one version: rows, range, columns with their types, what was left out and why, its files, its first rows."""
    from treadle.core.masking import masked_row, personal_columns

    ws = show.workspace(ctx)
    declared = _dataset(ws, dataset)
    version = _version(ws, declared, which)
    there = ws.tables.exists(version["address"])
    files = ws.tables.files(version["address"]) if there else []
    rows = ws.tables.scan(version["address"]).head(5).collect() if there else None
    sample = [masked_row(row, personal_columns([declared])) for row in rows.iter_rows(named=True)] if rows is not None else []
    schema = version.get("schema") or ({n: str(t) for n, t in rows.schema.items()} if rows is not None else {})
    told = {
        "id": version.id, **version.body, "schema": schema, "files": len(files), "bytes": sum(f.stat().st_size for f in files), "there": there,
        "sample": [{k: _cell(v) for k, v in row.items()} for row in sample],
    }  # fmt: skip
    if json_:
        show.as_json(told)
        return
    show.say(f"{version.id}  number {told.get('number', '-')}  taken {str(told.get('taken', ''))[:16].replace('T', ' ')}")
    if not there:
        show.say(f"its rows are gone{': dropped ' + told['dropped'][:16] if told.get('dropped') else ''}")
    span = f"; {told['start'][:16]} to {told['end'][:16]}" if told["start"] else ""
    show.say(f"{told['rows']:,} rows, {told['bytes'] / 1e6:,.1f} MB in {told['files']} files{span}")
    if told.get("parent"):
        show.say(f"against {told['parent']}: {told['added']:,} added, {told['changed']:,} changed, {told['removed']:,} removed")
    for sentence, count in {**told["excluded"], **told["reasons"]}.items():
        show.say(f"  left out: {sentence} ({count:,} rows)")
    show.say()
    first = {c: ", ".join(str(r[c]) for r in told["sample"][:SAMPLES])[:60] if sample else "" for c in schema}
    show.table(["column", "type", "first values"], [(c, t, first[c]) for c, t in schema.items()])


@data.command("diff", epilog="Example: treadle data diff orders 3 5")
@click.argument("dataset")
@click.argument("old", default="")
@click.argument("new", default="")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def diff(ctx: click.Context, dataset: str, old: str, new: str, json_: bool) -> None:
    """Say what differs between two versions (numbers or ids; default: the newest and the one before): rows by key, columns, distributions."""
    from treadle.core.masking import personal_columns
    from treadle.data import differences

    ws = show.workspace(ctx)
    declared = _dataset(ws, dataset)
    second = _version(ws, declared, new)
    first = _version(ws, declared, old or _before(ws, declared, second))
    for version in (first, second):
        if not ws.tables.exists(version["address"]):
            raise NotFound(f"The rows of version {version.id} are gone.", hint="See: treadle data versions " + declared.name)
    personal = personal_columns([declared])
    a, b = first["address"], second["address"]
    rows = differences.rows(ws.tables, a, b, declared.key, samples=SAMPLES, personal=personal)
    shape = differences.shape(ws.tables, a, b)
    spread = differences.distributions(ws.tables, a, b, skip=list(personal)) if a != b else {}
    if json_:
        samples = {sort: [{k: _cell(v) for k, v in row.items()} for row in found] for sort, found in rows.samples.items()}
        show.as_json({
            "old": first.id, "new": second.id, "rows": {"added": rows.added, "removed": rows.removed, "changed": rows.changed, "note": rows.note},
            "columns": {"added": shape.added, "removed": shape.removed, "retyped": shape.retyped, "changed": rows.columns},
            "samples": samples, "distributions": {c: {k: _cell(v) for k, v in told.items()} for c, told in spread.items()},
        })  # fmt: skip
        return
    show.say(" -> ".join(f"{v.id} (number {v.get('number', '-')}, {v['rows']:,} rows)" for v in (first, second)))
    if rows.added is not None:
        show.say(f"{rows.added:,} added, {rows.removed:,} removed, {rows.changed:,} changed")
    if rows.note:
        show.say(rows.note)
    for column, count in sorted(rows.columns.items(), key=lambda each: -each[1]):
        show.say(f"  {column}: changed in {count:,} rows")
    for sort, found in rows.samples.items():
        for row in found:
            show.say(f"  {sort}: " + _line(row))
    moved = sorted(spread.items(), key=lambda each: -each[1]["effect"].get("psi", 0.0))
    lines = [
        (c, f"{t['missing'][0]:.1%} -> {t['missing'][1]:.1%}", f"{t['effect'].get('psi', 0.0):.3f}",
         f"{t['effect']['ks']:.3f}" if "ks" in t["effect"] else "-", t.get("moved", ""))
        for c, t in moved if t["effect"].get("psi", 0.0) >= 0.01 or abs(t["missing"][0] - t["missing"][1]) >= 0.01
    ]  # fmt: skip
    if lines:
        show.say()
        show.table(["column", "missing", "PSI", "KS", "moved most"], lines)
    elif a != b:
        show.say("no column is distributed otherwise (PSI below 0.01)")


@data.command("file", epilog="Example: treadle data file images images/cat.png --version 3 --out cat.png")
@click.argument("dataset")
@click.argument("path")
@click.option("--version", "which", default="", help="Its number or id (default: the newest).")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write it (default: its name, here).")
@click.pass_context
def file_(ctx: click.Context, dataset: str, path: str, which: str, out: Path | None) -> None:
    """Write a file as a version of a file set has it."""
    import shutil

    from treadle.data import filesets

    ws = show.workspace(ctx)
    declared = _dataset(ws, dataset)
    if declared.source.kind != filesets.KIND:
        raise UsageError(f"Data set {dataset!r} is no set of files.", hint="Declare it with source=tr.files('images/**/*.png').")
    version = _version(ws, declared, which)
    place = out or Path(Path(path).name)
    with filesets.open_file(ws.tables, ws.blobs, version["address"], path) as opened, place.open("wb") as copy:
        shutil.copyfileobj(opened, copy)
    show.say(f"wrote {place} as in version {version.id}")


@data.command("clean", epilog="Example: treadle data clean --yes")
@click.option("--yes", is_flag=True, help="Do it; without, only say what would go.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def clean(ctx: click.Context, yes: bool, json_: bool) -> None:
    """Drop versions that are older than their data set's `keep` and that nothing uses, and what dead writers left behind."""
    from dataclasses import asdict

    from treadle.governance import retention

    ws = show.workspace(ctx)
    busy = retention.under_way(ws.ledger)
    found = [] if busy else retention.old(ws.project.datasets.values(), ws.ledger, ws.tables, ws.blobs, ws.clock.now())
    freed = swept = 0
    if yes:
        freed = retention.drop(found, ws.project.datasets.values(), ws.ledger, ws.tables, ws.blobs, ws.clock.now(), ws.actor)
        swept = ws.tables.sweep()
    if json_:
        running = [run.id for run in busy]
        show.as_json({"versions": [asdict(each) for each in found], "done": yes, "bytes": freed, "left_overs": swept, "busy": running})
        return
    if busy:
        show.say(f"Run {busy[0].id} is under way, so no version is dropped now.")
    lines = [(o.dataset, o.number, o.id or "(not recorded)", f"{o.rows:,}", o.taken[:16].replace("T", " ")) for o in found]
    show.table(["data set", "number", "version", "rows", "taken"], lines)
    if yes:
        show.say(f"dropped {len(found)} versions, {freed / 1e6:,.1f} MB; removed {swept} files of writers that died")
    elif found:
        show.say(f"{len(found)} versions would be dropped; do it with: treadle data clean --yes")
    elif not busy:
        limited = any(d.keep for d in ws.project.datasets.values())
        show.say("There is nothing to drop." + ("" if limited else " No data set says how long versions are kept (keep='90d')."))


def _dataset(ws: Workspace, name: str) -> Dataset:
    known = ws.project.datasets
    if not name and len(known) == 1:
        return next(iter(known.values()))
    if name not in known:
        raise NotFound(f"There is no data set {name!r}." if name else "Which data set?", hint=f"The project declares: {', '.join(known) or 'none'}.")
    return known[name]


def _records(ws: Workspace, name: str) -> list[Record]:
    """The versions of a data set, oldest first."""
    from treadle.data.versions import KIND

    return [r for _, r in sorted(enumerate(ws.ledger.find(KIND, {"dataset": name})), key=lambda each: (int(each[1].get("number", -1)), each[0]))]


def _version(ws: Workspace, dataset: Dataset, which: str) -> Record:
    records = _records(ws, dataset.name)
    if not records:
        raise NotFound(f"Data set {dataset.name!r} has no version yet.", hint="Run: treadle run")
    if not which:
        return records[-1]
    found = [r for r in records if r.id == which or str(r.get("number", "")) == which] or [r for r in records if r.id.startswith(which)]
    if len(found) > 1:
        raise UsageError(f"Several versions of {dataset.name!r} begin with {which!r}.", hint="Give the whole id, or the number.")
    if not found:
        raise NotFound(f"Data set {dataset.name!r} has no version {which!r}.", hint=f"See: treadle data versions {dataset.name}")
    return found[0]


def _before(ws: Workspace, dataset: Dataset, version: Record) -> str:
    records = _records(ws, dataset.name)
    place = [r.id for r in records].index(version.id)
    there = [r for r in records[:place] if not r.get("dropped")]
    if not there:
        raise NotFound(f"There is no version of {dataset.name!r} before {version.id}.", hint=f"See: treadle data versions {dataset.name}")
    return there[-1].id


def _age(moment: str, now: str) -> str:
    from treadle.core.clock import parse_time

    seconds = int((parse_time(now) - parse_time(moment)).total_seconds())
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f" ({seconds // size}{unit} ago)"
    return " (now)" if seconds >= 0 else ""


def _cell(value: Any) -> Any:
    """A value as JSON can hold it."""
    from treadle.core.clock import iso

    if isinstance(value, list | tuple):
        return [_cell(v) for v in value]
    if isinstance(value, dict):
        return {k: _cell(v) for k, v in value.items()}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return iso(value) if hasattr(value, "tzinfo") and getattr(value, "tzinfo", None) is not None and hasattr(value, "hour") else str(value)


def _line(row: Any) -> str:
    changed = row.get("changed") if isinstance(row.get("changed"), dict) else None
    shown = [f"{k}={_cell(v)}" for k, v in row.items() if k != "changed" or changed is None]
    if changed is not None:
        shown += [f"{c}: {_cell(a)} -> {_cell(b)}" for c, (a, b) in changed.items()]
    text = ", ".join(shown)
    return text if len(text) <= 140 else text[:137] + "..."
