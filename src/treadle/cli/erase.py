"""Persons and papers: `erase`, `export`, `datasheet`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from treadle.cli import show


@click.command(epilog="Example: treadle erase --subject p-0042 --request DSR-2026-017")
@click.option("--subject", default="", help="The person: the value that names them in the column a data set declares as its subject.")
@click.option("--request", default="", metavar="TEXT", help="Which request this answers, for the proof. It must not name the person.")
@click.option("--reason", default="", metavar="TEXT", help="Why, for the proof. It must not name the person.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--no-wait", is_flag=True, help="Refuse when a run is under way, instead of waiting for it.")
@click.option("--list", "list_", is_flag=True, help="List the erasures so far, with their proofs.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def erase(ctx: click.Context, subject: str, request: str, reason: str, yes: bool, dry_run: bool, no_wait: bool, list_: bool, json_: bool) -> int:
    """Forget a person: out of every store for good, with a proof that names nobody and the models that learned from them."""
    from treadle.core.errors import UsageError
    from treadle.persons import erase as work

    with show.opened(ctx) as ws:
        if list_:
            _list(ws, json_)
            return 0
        if not subject.strip():
            raise UsageError("Which person? --subject is missing.", hint="For example: treadle erase --subject p-0042, or --list for those so far.")
        begun = work.unfinished(ws, subject)
        plan = work.look(ws, subject)
        done = work.finished(ws, subject)
        if begun is None and not plan.anything and done:
            last = done[-1]
            if json_:
                show.as_json({"erasure": last.id, **last.body})
            else:
                show.say(f"This person was erased on {last['ended'][:10]} ({last.id}); no data set holds them.")
            return 0
        if not json_:
            _plan(plan, begun)
        elif dry_run:
            show.as_json(_told(plan, begun))
        if dry_run:
            return 0
        if begun is None and not plan.anything:
            work.erase(ws, subject, plan=plan)  # says what was looked through
        if not yes:
            click.confirm("Erase this person? It cannot be undone", abort=True)
        record = work.erase(
            ws, subject, request=request, reason=reason, plan=plan, wait=not no_wait, say=(lambda line: None) if json_ else _say
        )  # fmt: skip
        if json_:
            show.as_json({"erasure": record.id, **record.body})
        else:
            _proof(record)
        left = work.trouble(record)
        if left is not None:
            raise left
    return 0


def _say(line: str) -> None:
    show.say(f"  {line}")


def _told(plan: Any, begun: Any) -> dict[str, Any]:
    """A plan as JSON, without the texts that are searched for."""
    return {
        "unfinished": begun.id if begun else "", "columns": plan.columns, "versions": [h.__dict__ for h in plan.held],
        "online": {view: len(keys) for view, keys in plan.entities.items()}, "results": len(plan.results), "texts_searched": len(plan.marks.texts),
        "predictions": sum(map(len, plan.predictions.values())), "models": list(plan.models), "undeclared": plan.undeclared,
    }  # fmt: skip


def _plan(plan: Any, begun: Any) -> None:
    if begun is not None:
        show.say(f"Erasure {begun.id} was begun on {begun['begun'][:10]} and not finished; it goes on.")
    show.table(
        ["data version", "rows", "set aside", "mentions"], [(h.version, h.rows or "-", h.quarantined or "-", h.mentioned or "-") for h in plan.held]
    )
    if plan.held:
        show.say()
        show.say(f"stored step results made from them: {len(plan.results)}, dropped (the next run computes them again)")
        for view, keys in plan.entities.items():
            show.say(f"online view {view}: {len(keys)} {'key' if len(keys) == 1 else 'keys'}, removed")
        others = len(plan.marks.texts) - 1
        texts = "1 other text" if others == 1 else f"{others} other texts"
        show.say(f"logs, records and files that hold the id or {texts} that only this person's rows have: blacked out")
    logged = sum(map(len, plan.predictions.values()))
    if logged:
        show.say(f"prediction log: {logged:,} predictions are about the person, removed with their outcomes")
    for name, columns in plan.undeclared.items():
        show.say(f"data set {name} declares no subject but has {', '.join(columns)}: declare subject={columns[0]!r} there, or its rows stay")
    if plan.marks.weak:
        show.say("the id is so short that any file holds it by chance: it is compared with the columns that name persons, not searched as bytes")
    _models(plan.models)
    if plan.held:
        show.say("not touched: the sources themselves (the person is left out when they are read again), backups")


def _models(models: Sequence[Any]) -> None:
    for m in models:
        where = f", answers now as {m['answers']}" if m.get("answers") else ""
        model = m["id"].rpartition(".v")[0]
        told = f"model version {m['id']} was trained on {m['rows']:,} of the rows ({m['status']}{where})"
        show.say(f"{told}; it stays; retrain with: treadle run {model}")


def _proof(record: Any) -> None:
    counts, checked = record["counts"], record["verification"]
    show.say()
    show.say(f"{'Erased' if not checked['remaining'] else 'Not all is erased'}: {record.id}")
    show.say(
        f"  taken out: {counts.get('rows', 0):,} rows and {counts.get('quarantined', 0):,} set aside, over {counts.get('versions', 0)} versions of "
        f"data; {counts.get('online', 0)} online values; {counts.get('predictions', 0):,} predictions; {counts.get('results', 0)} step results"
    )
    show.say(f"  blacked out: {counts.get('logs', 0)} logs, {counts.get('records', 0)} records, {counts.get('files', 0)} files")
    searched = checked["searched"]
    told = ", ".join(f"{n:,} {name}" for name, n in searched.items())
    show.say(f"  searched for {checked['texts']} texts: {told}; found: {len(checked['remaining'])}")
    for line in [*checked["remaining"], *checked["undone"]]:
        show.say(f"  ! {line}")


def _list(ws: Any, json_: bool) -> None:
    from treadle.governance.erasure import answers, erasures

    found = erasures(ws.ledger)
    if json_:
        show.as_json([{"erasure": r.id, **{k: v for k, v in r.body.items() if k not in ("deleting", "rewritten")}} for r in found])
        return
    if not found:
        show.say("Nobody was erased so far.")
    show.table(
        ["erasure", "begun", "status", "request", "by", "data sets", "rows", "models"],
        [
            (r.id, r["begun"][:10], r["status"], r["request"] or "-", r["by"], ", ".join(r["datasets"]),
             sum(v["rows"] + v["quarantined"] for v in r["versions"]), ", ".join(m["id"] for m in r["models"]) or "-")
            for r in found
        ],
    )  # fmt: skip
    for r in found:
        if r["status"] != "done":
            show.say(f"{r.id} is not finished: say the same treadle erase --subject ... again")
        for m in r["models"]:
            model, _, number = m["id"].rpartition(".v")
            now = answers(model, int(number), ws.ledger)
            if now:
                show.say(f"{m['id']} was trained on rows of the person of {r.id}, and is {now} now; retrain with: treadle run {model}")


@click.command(epilog="Example: treadle export --subject p-0042 --out p-0042.zip")
@click.option("--subject", required=True, help="The person: the value that names them in the column a data set declares as its subject.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A folder to make, or a file that ends in .zip.")
@click.option("--json", "json_", is_flag=True, help="Print the manifest as JSON.")
@click.pass_context
def export(ctx: click.Context, subject: str, out: Path, json_: bool) -> None:
    """Give a person their data back: rows, features and predictions, as JSON lines and CSV, with a manifest."""
    from treadle.persons.hand_over import hand_over

    out = out.absolute()  # where the command was typed
    with show.opened(ctx) as ws:
        manifest = hand_over(ws, subject, out)
        if json_:
            show.as_json(manifest)
            return
        show.table(["file", "rows", "what"], [(f["path"], f["rows"], f["what"]) for f in manifest["files"]])
        show.say(f"written: {out}  (it holds personal data: hand it over by a safe way, then delete it)")


@click.command(epilog="Example: treadle datasheet deliveries --format html --out deliveries.html")
@click.argument("name", default="")
@click.option("--format", "format_", type=click.Choice(["md", "html", "json", "croissant"]), default="md", show_default=True, help="What to write.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write; without it the text is printed.")
@click.option("--data", type=click.Path(path_type=Path), help="With croissant: a folder to put the newest version's rows in, as Parquet.")
@click.pass_context
def datasheet(ctx: click.Context, name: str, format_: str, out: Path | None, data: Path | None) -> None:
    """Write the datasheet of a data set from what is on record, as text, page, JSON or Croissant; what nobody said is shown as missing."""
    from treadle.governance import croissant
    from treadle.governance import datasheet as sheets

    ws = show.workspace(ctx)
    sheet = sheets.collect(ws.project, name, ws.ledger, ws.tables, ws.clock)
    if data is not None and format_ != "croissant":
        raise click.UsageError("--data goes with --format croissant.")
    if format_ == "croissant":
        text = croissant.text(sheet, ws.tables, (out.parent if out else Path()) if data is None else data, place=out, rows=data is not None)
    elif format_ == "json":
        import json

        text = json.dumps(sheets.as_json(sheet), indent=2, ensure_ascii=False) + "\n"
    else:
        text = sheets.markdown(sheet) if format_ == "md" else sheets.html(sheet)
    if data is not None and any(c.nature for c in sheet.columns if "personal" in " ".join(c.nature) or "names the person" in c.nature):
        print("the rows hold personal data; see rai:personalSensitiveInformation", file=sys.stderr)
    if out is None:
        show.say(text.rstrip("\n"))
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, "utf-8")
    show.say(f"{format_}: {out}")
