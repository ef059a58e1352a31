"""`treadle keys`: API keys of endpoints, made, listed and taken back."""

from __future__ import annotations

import re

import click

from treadle.cli import show
from treadle.core.clock import parse_time
from treadle.core.errors import UsageError

ROLES = ("predict", "outcomes", "read", "operate")


@click.group(epilog="Example: treadle keys make booking-site --model late-arrival --role predict --rate 100/s --quota 1000000/d")
def keys() -> None:
    """API keys for endpoints that need one: project.serve(..., keys=True). Endpoints follow within a second."""


@keys.command(epilog="Example: treadle keys make booking-site --model late-arrival --role predict --role outcomes")
@click.argument("name")
@click.option("--model", default="", help="The model whose endpoint it opens; the project's only one if not given.")
@click.option("--all-models", is_flag=True, help="It opens the endpoints of all models of the project.")
@click.option("--role", "roles", multiple=True, type=click.Choice(ROLES), required=True, help="What it may do; may be given several times.")
@click.option("--rate", metavar="N/s", help="How many requests a second it may send, for example 100/s.")
@click.option("--quota", metavar="N/d", help="How many rows a day (UTC) it may ask for, for example 1000000/d.")
@click.option("--until", metavar="TIME", help="When it ends.")
@click.option("--json", "json_", is_flag=True, help="Print it as JSON.")
@click.pass_context
def make(
    ctx: click.Context, name: str, model: str, all_models: bool, roles: tuple[str, ...], rate: str | None, quota: str | None, until: str | None,
    json_: bool,
) -> None:  # fmt: skip
    """Make a key and print it, this once. Only its hash is stored."""
    from treadle.registry import api_keys as registry
    from treadle.serving.keys import new_secret

    ws = show.workspace(ctx)
    limit = None if quota is None else int(_number(quota, "d", "--quota"))
    wanted = registry.Wanted(
        name, "*" if all_models else ws.model(model).name, tuple(dict.fromkeys(roles)), None if rate is None else _number(rate, "s", "--rate"),
        limit, parse_time(until) if until else None,
    )  # fmt: skip
    token, id, digest = new_secret()
    record = registry.make(id, digest, wanted, ws.ledger, ws.clock, actor=ws.actor)
    if json_:
        show.as_json({"id": id, "key": token, **{k: v for k, v in record.body.items() if k != "digest"}})
        return
    print(token)
    show.say(f"This is key {id} for {name}: it is shown this once. Callers send: Authorization: Bearer KEY")


@keys.command(name="list", epilog="Example: treadle keys list --json")
@click.option("--json", "json_", is_flag=True, help="Print them as JSON.")
@click.pass_context
def list_(ctx: click.Context, json_: bool) -> None:
    """List the keys: whose, for what, and how much was asked for today. Secrets are not stored."""
    from treadle.registry import api_keys as registry

    ws = show.workspace(ctx)
    today = registry.used(ws.ledger, ws.clock.now().strftime("%Y-%m-%d"))
    found = [
        {"id": r.id, **{k: v for k, v in r.body.items() if k != "digest"}, "rows_today": today.get(r.id, {}).get("rows", 0)}
        for r in ws.ledger.find(registry.KEY)
    ]
    if json_:
        show.as_json(found)
        return
    if not found:
        show.say("There are no API keys. Make one with: treadle keys make NAME --role predict")
        return
    show.table(
        ["key", "name", "model", "roles", "a second", "rows a day", "rows today", "until"],
        [
            [k["id"], k["name"], k["model"], ", ".join(k["roles"]), f"{k['rate']:g}" if k["rate"] else "", f"{k['quota']:,}" if k["quota"] else "",
             f"{k['rows_today']:,}", "taken back" if k["revoked"] else k["until"][:16]]
            for k in found
        ],
    )  # fmt: skip


@keys.command(epilog='Example: treadle keys revoke kabcdefgh --reason "it was in a log"')
@click.argument("id")
@click.option("--reason", required=True, help="Why; it is recorded with your name.")
@click.pass_context
def revoke(ctx: click.Context, id: str, reason: str) -> None:
    """Take a key back: endpoints refuse it within a second."""
    from treadle.registry import api_keys as registry

    ws = show.workspace(ctx)
    registry.revoke(id, reason, ws.ledger, actor=ws.actor)
    show.say(f"key {id} is taken back")


def _number(text: str, unit: str, option: str) -> float:
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)(?:/{unit})?", text.strip().replace("_", "").replace(",", ""))
    if match is None or float(match[1]) <= 0:
        raise UsageError(f"{option} {text!r} is not a number above 0.", hint=f"For example {option} 100/{unit}")
    return float(match[1])
