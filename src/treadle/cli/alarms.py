"""`treadle alarms`: list, show, ack, snooze, resolve."""

from __future__ import annotations

from typing import Any

import click

from treadle.cli import show


@click.group(epilog="Example: treadle alarms list")
def alarms() -> None:
    """List the alarms, show one, acknowledge, snooze or resolve it."""


@alarms.command("list", epilog="Example: treadle alarms list --for 'data engineering'")
@click.option("--all", "every", is_flag=True, help="Also those that are resolved.")
@click.option("--model", default="", help="Only of this model.")
@click.option("--for", "addressee", default="", help="Only what this addressee is asked: experimentation, data engineering or scheduler.")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def list_(ctx: click.Context, every: bool, model: str, addressee: str, json_: bool) -> None:
    """List the open alarms, newest first."""
    from treadle.monitoring import alarms as room

    ws = show.workspace(ctx)
    if model:
        ws.model(model)
    if addressee:
        _feedback(ws, addressee, every, json_)
        return
    where: dict[str, Any] = {} if every else {"status": "open"}
    found = ws.ledger.find(room.KIND, where | ({"model": model} if model else {}), newest_first=True)
    if json_:
        show.as_json([{"id": a.id, **a.body} for a in found])
        return
    show.table(
        ["alarm", "since", "severity", "about", "kind", "state", "what"],
        [(a.id, a["raised"][:16], a["severity"], room.about(a), a["kind"].replace("_", " "), _state(a), a["sentence"]) for a in found],
    )
    if not found:
        show.say("no alarms" if every else "no open alarms")
    for line in _rates(ws, model):
        show.say(line)


def _rates(ws: Any, model: str) -> list[str]:
    """What false alarms a model's watch tolerates, and what its thresholds came to when they were set."""
    from treadle.monitoring.reference import read_reference
    from treadle.monitoring.tolerated import rates
    from treadle.registry import packages, promote, versions

    watch, deployed = (ws.watch_of(ws.model(model)), promote.deployment(model, ws.ledger)) if model else (None, None)
    if watch is None or deployed is None:
        return []
    version = versions.get(model, int(deployed["champion"]), ws.ledger)
    reference = read_reference(packages.open_package(version["package"], ws.blobs, ws.shelf)[0])
    return [] if reference is None else [f"{model}: {rates(watch, reference.thresholds, int(version['number']))}"]


def _feedback(ws: Any, addressee: str, every: bool, json_: bool) -> None:
    from treadle.core.errors import UsageError
    from treadle.monitoring import alarms as room

    if addressee not in room.ASKED:
        raise UsageError(f"Nothing is asked of {addressee!r}.", hint=f"Alarms ask: {', '.join(room.ASKED)}.")
    found = ws.ledger.find(room.FEEDBACK, {"for": addressee} | ({} if every else {"status": "open"}), newest_first=True)
    if json_:
        show.as_json([{"id": f.id, **f.body} for f in found])
        return
    show.table(["alarm", "model", "since", "asked", "answer"], [(f["alarm"], f["model"], f["at"][:16], f["asked"], f["answer"]) for f in found])
    if not found:
        show.say(f"nothing is asked of {addressee}")


@alarms.command("show", epilog="Example: treadle alarms show alarm-3f2a9c")
@click.argument("alarm")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
@click.pass_context
def show_(ctx: click.Context, alarm: str, json_: bool) -> None:
    """Show one alarm: window, value and limit, what explains it, what it is suspected to be and why, and what was done."""
    from treadle.monitoring import alarms as room
    from treadle.monitoring import care

    ws = show.workspace(ctx)
    found = care.find(alarm, ws.ledger)
    asked = ws.ledger.find(room.FEEDBACK, {"alarm": found.id})
    if json_:
        show.as_json({"id": found.id, **found.body, "feedback": [f.body for f in asked]})
        return
    show.say(f"{found.id}: {room.about(found)}: {found['kind'].replace('_', ' ')}, {found['severity']}, {_state(found)}")
    show.say(found["sentence"])
    rows: list[tuple[str, str]] = [("raised", found["raised"][:16]), ("window", " to ".join(w[:16] for w in found["window"]))]
    if found["metric"]:
        rows.append((found["metric"].replace("_", " "), f"{found['value']:.4g}, where {found['threshold']:.4g} is the limit"))
    rows += [("features", ", ".join(f"{n} {v:.3g}" for n, v in found["features"][:8])), ("times found", str(found.get("times", 1)))]
    rows.append(("most of it in", ", ".join(f"{n} ({s:.0%})" for n, s in found.get("slices", []))))
    rows.append(("suspected", found.get("suspected", "")))
    rows += [("", f"because {e}") for e in found.get("evidence", [])]
    group = [a for a in ws.ledger.find(room.KIND, {"group": found["group"]}) if a.id != found.id] if found.get("group") else []
    rows += [("with it", f"{a.id}: {a['kind'].replace('_', ' ')}: {a['sentence']}") for a in group]
    if found.get("acknowledged"):
        rows.append(("acknowledged", f"by {found['acknowledged']['by']} at {found['acknowledged']['at'][:16]}: {found['acknowledged']['note']}"))
    rows += [("answered by", found["reaction"]), ("resolution", found["resolution"])]
    rows += [(f"asks {f['for']}", f"{f['asked']}{' → ' + f['answer'] if f['answer'] else ''}") for f in asked]
    show.columns([row for row in rows if row[1]])


@alarms.command(epilog="Example: treadle alarms ack alarm-3f2a9c --note 'calling the weather office'")
@click.argument("alarm")
@click.option("--note", default="", help="What is being done.")
@click.pass_context
def ack(ctx: click.Context, alarm: str, note: str) -> None:
    """Say that somebody is at it."""
    from treadle.monitoring import care

    ws = show.workspace(ctx)
    found = care.acknowledge(care.find(alarm, ws.ledger), ws.actor, note, ws.ledger, ws.clock)
    show.say(f"{found.id}: acknowledged by {ws.actor}")


@alarms.command(epilog="Example: treadle alarms snooze alarm-3f2a9c --for 4h")
@click.argument("alarm")
@click.option("--for", "length", default="1d", show_default=True, metavar="SPAN", help="How long, such as 4h or 2d.")
@click.option("--until", metavar="TIME", help="Or until when.")
@click.pass_context
def snooze(ctx: click.Context, alarm: str, length: str, until: str | None) -> None:
    """Tell nobody of it for a while. It stays open, and people are told of it again afterwards."""
    from treadle.core.clock import parse_time, span
    from treadle.monitoring import care

    ws = show.workspace(ctx)
    moment = parse_time(until) if until else ws.clock.now() + span(length)
    found = care.snooze(care.find(alarm, ws.ledger), moment, ws.actor, ws.ledger, ws.clock)
    show.say(f"{found.id}: nobody is told before {found['snoozed'][:16]}")


@alarms.command(epilog="Example: treadle alarms resolve alarm-3f2a9c --because 'the feed was repaired'")
@click.argument("alarm")
@click.option("--because", default="", help="Why it is over.")
@click.pass_context
def resolve(ctx: click.Context, alarm: str, because: str) -> None:
    """Close it by hand, with a reason."""
    from treadle.monitoring import care

    ws = show.workspace(ctx)
    found = care.close(care.find(alarm, ws.ledger), because, ws.actor, ws.ledger, ws.clock)
    show.say(f"{found.id}: resolved")


def _state(alarm: Any) -> str:
    if alarm["status"] != "open":
        return str(alarm["status"])
    if alarm.get("snoozed"):
        return f"snoozed to {alarm['snoozed'][:16]}"
    return "acknowledged" if alarm.get("acknowledged") else "open"
