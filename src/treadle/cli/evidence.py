"""On what a version rests: `card`, `readiness`; and letting one pass in spite of a gate, on record: `waive`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from treadle.cli import show
from treadle.core.clock import iso, parse_time, span
from treadle.core.errors import Refused, UsageError
from treadle.core.records import Record


@click.command(epilog="Example: treadle card late-arrival --format html --out card.html")
@click.argument("model", default="")
@click.option("--version", "number", type=int, help="The version (default: the champion, else the newest).")
@click.option(
    "--format", "format_", type=click.Choice(["markdown", "html", "json", "bom"]), default="markdown", show_default=True,
    help="Markdown with the header of model hubs, a page, JSON, or an ML bill of materials (CycloneDX).",
)  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="The file to write; printed if not given.")
@click.pass_context
def card(ctx: click.Context, model: str, number: int | None, format_: str, out: Path | None) -> int:
    """Print the model card of a version, made of what is recorded. Ends with code 4 when the card lacks what it must have."""
    import json

    from treadle.governance import cards
    from treadle.registry import foreign, packages

    ws = show.workspace(ctx)
    version = _version(ws, ws.model(model).name, number)
    foreign.refuse(version, "make a card from")
    manifest = json.loads(ws.blobs.get(version["package"]["files"][packages.MANIFEST]))
    made = cards.card(version, ws.ledger, manifest)
    if format_ == "json":
        text = json.dumps(made, indent=2, ensure_ascii=False) + "\n"
    elif format_ == "bom":
        from treadle.provenance.origin import recorded_environment

        recorded = recorded_environment(version["environment"]["packages"], ws.blobs) if version["environment"].get("packages") else None
        text = json.dumps(cards.bom(version, made, ws.ledger, recorded["packages"] if recorded else None), indent=2, ensure_ascii=False) + "\n"
    else:
        text = cards.html(made) if format_ == "html" else cards.markdown(made)
    if out is not None:
        out.write_text(text, encoding="utf-8")
        show.say(f"card: {out}")
    else:
        click.echo(text, nl=False)
    if made["missing"]:
        click.echo(f"treadle: the card of {version.id} lacks {', '.join(made['missing'])}.", err=True)
        return Refused.exit_code
    return 0


@click.command(epilog='Example: treadle waive late-arrival calibrated --reason "recalibrated downstream" --until 2026-12-31')
@click.argument("model", default="")
@click.argument("gate", default="", metavar="[GATE]")
@click.option("--reason", default="", metavar="TEXT", help="Why; recorded with your name.")
@click.option("--until", default="", metavar="TIME", help="A date, or a span from now such as 14d.")
@click.option("--version", "number", type=int, help="Only this version; else every version of the model.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def waive(ctx: click.Context, model: str, gate: str, reason: str, until: str, number: int | None, json_: bool) -> None:
    """Let versions answer although a gate does not pass, with your name, a reason and an end. Without a gate: list the waivers.

    Whether there is any signal (`signal`, `beats_baseline`) and a second person's approval cannot be waived.
    """
    from treadle.registry import conditions, versions

    ws = show.workspace(ctx)
    declared = ws.model(model)
    if not gate:
        if reason or until or number is not None:
            raise UsageError("Which gate is meant?", hint=f"The gates of {declared.name!r} are: {', '.join(g.name for g in declared.gates)}.")
        found = conditions.waivers(declared.name, ws.ledger)
        if json_:
            show.as_json([{"id": w.id, **w.body} for w in found])
            return
        if not found:
            show.say(f"No gate of {declared.name} is waived.")
        now = ws.clock.now()
        show.table(
            ["gate", "version", "until", "by", "reason"],
            [
                (w["gate"], w["number"] or "all", w["until"][:10] + ("" if parse_time(w["until"]) > now else " (ended)"), w["by"], w["reason"])
                for w in found
            ],
        )
        return
    if gate not in {g.name for g in declared.gates}:
        raise UsageError(f"{declared.name!r} has no gate {gate!r}.", hint=f"Its gates are: {', '.join(g.name for g in declared.gates)}.")
    if not until:
        raise UsageError("A waiver needs an end.", hint="Say it with: --until 2026-12-31, or --until 14d")
    if number is not None:
        versions.get(declared.name, number, ws.ledger)
    end = _moment(until, ws.clock.now())
    made = conditions.waive(declared.name, gate, ws.ledger, ws.clock, person=ws.actor, reason=reason, until=end, number=number)
    if json_:
        show.as_json({"id": made.id, **made.body})
    else:
        which = f"version {number}" if number is not None else "every version"
        show.say(f"{gate} does not count for {which} of {declared.name} until {made['until'][:10]} ({ws.actor}: {made['reason']})")


@click.command(epilog="Example: treadle readiness late-arrival")
@click.argument("model", default="")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def readiness(ctx: click.Context, model: str, json_: bool) -> None:
    """Score a model by the 28 tests of the ML Test Score, from what is recorded, and say how to gain the next half points."""
    from treadle.governance.readiness import readiness as scored
    from treadle.registry import foreign, versions

    ws = show.workspace(ctx)
    declared = ws.model(model)
    for version in versions.all_versions(declared.name, ws.ledger)[-1:]:
        foreign.refuse(version, "score it by")
    found = scored(ws.project, declared, ws.ledger)
    if json_:
        show.as_json(found)
        return
    show.say(f"{found['model']}{' (' + found['version'] + ')' if found['version'] else ''}: {found['score']:g} of 7: {found['reading']}")
    show.say("The score is the weakest of four sections (Breck and others 2017).")
    for section in found["sections"]:
        show.say(f"\n{section['name']}: {section['points']:g} of {section['of']}")
        for test in section["tests"]:
            where = f" [{test['evidence']}]" if test["evidence"] else ""
            show.say(f"  {test['points']:>3g}  {test['id']}  {test['test']}: {test['because']}{where}")
            if test["next"]:
                show.say(f"           next half point: {test['next']}")


def _version(ws: Any, model: str, number: int | None) -> Record:
    from treadle.core.errors import NotFound
    from treadle.registry import promote, versions

    if number is not None:
        return versions.get(model, number, ws.ledger)
    deployed = promote.deployment(model, ws.ledger)
    if deployed is not None:
        return versions.get(model, int(deployed["champion"]), ws.ledger)
    made = versions.all_versions(model, ws.ledger)
    if not made:
        raise NotFound(f"Model {model!r} has no version yet.", hint=f"Run: treadle run {model}")
    return made[-1]


def _moment(text: str, now: datetime) -> datetime:
    """A date (its end), a time, or a span from now."""
    try:
        return now + span(text)
    except UsageError:
        moment = parse_time(text)
        return moment + timedelta(days=1, seconds=-1) if len(text.strip()) == 10 else moment.astimezone(UTC)


def approved(ws: Any, id: str, reason: str, reject: bool, *, ask: bool = False, to: Sequence[str] = (), lasts: str = "") -> str:
    """Answer for a version, or ask others to; what to print."""
    from treadle.core.errors import NotFound
    from treadle.registry import conditions, versions
    from treadle.review import approvals, notices

    version = ws.ledger.get(versions.KIND, id)
    if version is None:
        raise NotFound(f"There is no version {id!r}.", hint="See: treadle models")
    if ask:
        approvals.ask(version, ws.ledger, ws.clock, by=ws.actor, to=to, text=reason)
        notices.deliver(ws.ledger, ws.notifiers)
        return f"asked: {version.id} waits for {', '.join(to) or 'somebody'} to approve it"
    approvals.answer(version, ws.ledger, ws.clock, by=ws.actor, approve=not reject, reason=reason, lasts=span(lasts) if lasts else None)
    notices.deliver(ws.ledger, ws.notifiers)
    left = conditions.missing(version, ws.ledger, ws.clock.now())
    return f"{'rejected' if reject else 'approved'}: {version.id} by {ws.actor}, {iso(ws.clock.now())[:16]}. " + (
        f"It may not answer yet: {'; '.join(left)}." if left else f"It may answer: treadle deploy {version['model']} --version {version['number']}"
    )
