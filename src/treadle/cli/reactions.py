"""`treadle reactions`: the policy of a project on one page, what it did, what waits for a person; and saying yes or no."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import click

from treadle.cli import show


@click.group(invoke_without_command=True, epilog="Example: treadle reactions --json")
@click.option("--json", "json_", is_flag=True, help="Print everything as JSON.")
@click.pass_context
def reactions(ctx: click.Context, json_: bool) -> None:
    """Say what evidence may do to each model, what was done about which cause, and what waits for a person.

    `approve` and `reject` answer for a version whose change is outside the agreed envelope.
    """
    if ctx.invoked_subcommand is not None:
        return
    from treadle.live.retraining import KIND
    from treadle.reactions import HOLD

    ws = show.workspace(ctx)
    told: list[dict[str, Any]] = []
    for model in ws.project.models.values():
        held = ws.ledger.get(HOLD, model.name)
        found = [{"id": r.id, **r.body} for r in ws.ledger.find(KIND, {"model": model.name}, newest_first=True, limit=50)]
        told.append({"model": model.name, "policy": page(ws, model), "held": held["held"] if held else None, "reactions": found})
    if json_:
        show.as_json(told)
        return
    for one in told:
        show.say(one["model"])
        for line in one["policy"]:
            show.say(f"  {line}")
        if one["held"]:
            show.say(f"  HELD until {one['held']['until'][:16]}: {one['held']['sentence']} ({one['held']['text']})")
        rows = [(r["id"], r["at"][:16], r["status"], r["cause"]["text"], r["said"]) for r in one["reactions"]]
        show.table(["  reaction", "at", "status", "because", "what came of it"], [(f"  {r[0]}", *r[1:]) for r in rows])


def page(ws: Any, model: Any) -> list[str]:
    """The policy of a model, in sentences."""
    watch, serve = ws.watch_of(model), ws.serve_of(model)
    if watch is None:
        return ["it is not watched, so nothing reacts"]
    policy = watch.retrain
    if policy is None:
        return ["alarms tell people; nothing is retrained by itself"]
    when = [f"when an alarm about {' or '.join(k.replace('_', ' ') for k in policy.on)} is open"] if policy.on else []
    if policy.new_rows is not None:
        rows = f"{policy.new_rows:.0%} of what the champion learned from" if policy.new_rows < 1 else f"{policy.new_rows:,.0f} rows"
        when.append(f"when {rows} became known")
    if policy.every is not None:
        when.append(f"when nothing was retrained for {_days(policy.every)}")
    limits = [f"at most {policy.at_most.count:g} in {_days(policy.at_most.per)}"]
    if policy.cpu is not None:
        limits.append(f"{policy.cpu.total_seconds():,.0f} s of CPU time in that span")
    if policy.cooldown:
        limits.append(f"none for {_days(policy.cooldown)} after one")
    if policy.not_while:
        limits.append(f"none while an alarm about {' or '.join(k.replace('_', ' ') for k in policy.not_while)} is open")
    asks = {"never": "nobody is asked", "always": "a person is asked about every version"}.get(policy.ask, "")
    if not asks:
        e = policy.envelope
        said = [] if e is None else [
            *([f"its answers change by more than {e.answers:g}"] if e.answers is not None else []),
            *([f"it learned from {e.rows:g} times more or fewer rows"] if e.rows is not None else []),
            *([f"its loss is more than {e.loss:.0%} lower"] if e.loss is not None else []),
        ]  # fmt: skip
        asks = f"a person is asked if {' or '.join(said)}" if said else "nobody is asked: no envelope is declared"
    trial = serve.rollback.trial if serve.rollback else None
    back = f"for {_days(trial)} after a takeover the version before may come back" if trial else "nothing comes back by itself"
    return [
        f"retrain: {'; '.join(when) or 'never by itself'}",
        f"from: {'the rows of the last ' + _days(policy.window) if policy.window else 'all rows that are known'}",
        f"limits: {'; '.join(limits)}",
        f"it must pass: {', '.join(g.name for g in model.gates)}; {_days(serve.shadow)} in shadow; {_days(serve.canary_for)} as canary of "
        f"{serve.canary:.0%}, {serve.least_outcomes:,} outcomes in each",
        f"people: {asks}",
        f"rollback: {back}",
    ]  # fmt: skip


@reactions.command(epilog='Example: treadle reactions approve reaction-0123456789ab --reason "the new airport explains it"')
@click.argument("reaction")
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@click.pass_context
def approve(ctx: click.Context, reaction: str, reason: str) -> None:
    """Let a version challenge although its change is outside the envelope. The next look puts it into shadow."""
    _say(ctx, reaction, True, reason)


@reactions.command(epilog='Example: treadle reactions reject reaction-0123456789ab --reason "the labels of May are wrong"')
@click.argument("reaction")
@click.option("--reason", default="", help="Why; it stands in the audit log.")
@click.pass_context
def reject(ctx: click.Context, reaction: str, reason: str) -> None:
    """Throw a version out that waits for a person."""
    _say(ctx, reaction, False, reason)


def _say(ctx: click.Context, reaction: str, yes: bool, reason: str) -> None:
    from treadle.live.retraining import say

    record = say(show.workspace(ctx), reaction, yes=yes, reason=reason)
    show.say(f"{reaction}: {record['answer']['by']} said {'yes' if yes else 'no'} to version {record['version']} of {record['model']}")


def _days(span: timedelta) -> str:
    return f"{span / timedelta(days=1):g} days" if span >= timedelta(days=1) else f"{span / timedelta(hours=1):g} hours"
