"""`treadle schedule` and `treadle backfill`."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import click

from treadle.assemble import Workspace
from treadle.cli import show
from treadle.core.clock import iso, parse_time, span
from treadle.core.declare.schedule import Cron, Schedule
from treadle.core.errors import Refused, TreadleError, UsageError


class Span(click.ParamType):
    """A length of time: '30s', '5m'."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        try:
            seconds = span(value).total_seconds()
        except UsageError as error:
            self.fail(str(error), param, ctx)
        if seconds < 0.05:
            self.fail(f"{value!r} is too short.", param, ctx)
        return seconds


@click.group(invoke_without_command=True, epilog="Example: treadle schedule run --http 8801")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def schedule(ctx: click.Context, json_: bool) -> None:
    """List the schedules: what each runs and when, its next slot, how the last one ended, and what holds it.

    `treadle schedule run` is the scheduler: it must run for anything to start by itself. `trigger` starts one by hand, `pause` and `resume` stop
    one for a while. Each has its own --help.
    """
    if ctx.invoked_subcommand is not None:
        return
    ws = show.workspace(ctx)
    listed = [_listed(ws, s) for s in ws.project.schedules.values()]
    if json_:
        show.as_json(listed)
        return
    if not listed:
        show.say("The project declares no schedule. Add one: project.schedule(name, model_or_pipeline, when=tr.cron(...))")
        return
    rows = [(s["schedule"], s["target"], "; ".join(s["when"]), s["next_local"] or "", s["last_local"] or "", s["state"]) for s in listed]
    show.table(["schedule", "target", "when", "next slot", "last run", "state"], rows)
    from treadle.wheel.schedules import running

    if not running(ws):
        show.say("\nNo scheduler is running, so nothing starts by itself: treadle schedule run")


@schedule.command(epilog="Example: treadle schedule run --every 10s")
@click.option("--every", type=Span(), default="30s", show_default=True, metavar="TIME", help="How often to look.")
@click.option("--once", is_flag=True, help="Look once, run what is due, and end: from a timer.")
@click.option("--http", "port", type=click.IntRange(1, 65535),
              help="Also take calls, POST /triggers/NAME and /features/VIEW, on this port of this machine.")  # fmt: skip
@click.pass_context
def run(ctx: click.Context, every: float, once: bool, port: int | None) -> None:
    """Be the scheduler until stopped: notice what is due, run it, record how it ended. Several may run at once; each slot runs once.

    Stopped by SIGTERM or Ctrl-C it leaves at once; a run that was going on is resumed by the next scheduler.
    """
    from treadle.wheel.scheduler import follow, tick

    if once and port:
        raise click.UsageError("--once takes no calls; leave out --http.")
    ws = ctx.with_resource(show.opened(ctx))
    if once:
        for line in tick(ws):
            show.say(_stamped(line))
        return
    names = ", ".join(ws.project.schedules) or "none"
    show.say(f"scheduler of {ws.project.name}: {names}" + (f"; http://127.0.0.1:{port}/triggers/" if port else "") + "  (Ctrl-C ends it)")

    def tell(line: str) -> None:
        show.say(_stamped(line))

    from treadle.web.leave import leave

    try:
        if port:
            from treadle.web.triggers import serve

            serve(ws, port, every, tell)
        else:
            stop, wake = threading.Event(), threading.Event()

            def end(*_: object) -> None:
                stop.set()
                wake.set()

            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, end)
            follow(ws, every, stop=stop, wake=wake, tell=tell)
    except TreadleError:
        raise
    except BaseException as error:
        print(f"treadle: {type(error).__name__}: {error}", file=sys.stderr)
        leave(1)
    show.say("scheduler stopped")
    leave()  # at once: what the thread of a run still does must not hold the process; it is resumed


@schedule.command(epilog="Example: treadle schedule trigger nightly-retrain --set part=north")
@click.argument("name")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A parameter of the pipeline; may be given several times.")
@click.option("--leave", "leave_it", is_flag=True, help="Only record it, for the scheduler to run.")
@click.pass_context
def trigger(ctx: click.Context, name: str, given: tuple[str, ...], leave_it: bool) -> int:
    """Run a schedule's target now, by hand. It waits for no debounce or cooldown, but for the budget."""
    from treadle.pipelines.schedule import Wait
    from treadle.wheel import schedules as s
    from treadle.wheel.scheduler import Scheduler

    ws = ctx.with_resource(show.opened(ctx))
    found = s.schedule_of(ws, name)
    params = dict(_pair(text) for text in given)
    slot = s.trigger(ws, found, params=params)
    if leave_it:
        show.say(f"recorded {slot.id}; {'the scheduler starts it' if s.running(ws) else 'it starts with: treadle schedule run'}")
        return 0
    with Scheduler(ws, tell=show.say).alive() as me:
        claimed = me.claim_this(slot.id, ws.clock.now())
        if isinstance(claimed, Wait):
            raise Refused(f"{claimed.sentence}.", where=name, hint=f"It is recorded, and starts at {s.until_words(found, claimed.until)}.")
        if claimed is None:
            show.say(f"recorded {slot.id}; another run of {name} is going on, and the scheduler starts it then")
            return 0
        done = me.run(claimed)
    return 0 if done is not None and done["status"] in ("done", "waiting") else 1


@schedule.command(epilog='Example: treadle schedule pause nightly-retrain --reason "the source is being moved"')
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stands in the audit log.")
@click.pass_context
def pause(ctx: click.Context, name: str, reason: str) -> None:
    """Let a schedule start nothing for now. Events are kept; slots that pass are missed ones (see catch_up)."""
    from treadle.wheel import schedules as s

    ws = show.workspace(ctx)
    s.pause(ws, s.schedule_of(ws, name), reason)
    show.say(f"{name} is paused")


@schedule.command(epilog='Example: treadle schedule resume nightly-retrain --reason "it has been moved"')
@click.argument("name")
@click.option("--reason", required=True, help="Why; it stands in the audit log.")
@click.pass_context
def resume(ctx: click.Context, name: str, reason: str) -> None:
    """Let a paused schedule start again."""
    from treadle.wheel import schedules as s

    ws = show.workspace(ctx)
    s.unpause(ws, s.schedule_of(ws, name), reason)
    show.say(f"{name} goes on")


@click.command(epilog="Example: treadle backfill daily-report --from 2024-05-01 --to 2024-06-01 --every 1d")
@click.argument("target")
@click.option("--from", "start", required=True, metavar="DATE", help="The first partition.")
@click.option("--to", "end", required=True, metavar="DATE", help="Stop before this one.")
@click.option("--every", default="1d", show_default=True, metavar="TIME", help="The length of a partition.")
@click.option("--tz", default="UTC", show_default=True, metavar="ZONE", help="The time zone of the dates.")
@click.option("--param", default="", metavar="NAME", help="The pipeline's parameter a partition goes into; else its only date or datetime.")
@click.option("--again", is_flag=True, help="Also run the partitions that are done.")
@click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def backfill(ctx: click.Context, target: str, start: str, end: str, every: str, tz: str, param: str, again: bool, json_: bool) -> int:
    """Run a pipeline, or train a model as of then, once for each partition of a range of dates.

    Run again it does what is missing or failed, and nothing twice. A partition that fails does not stop the others; then the exit code is 1.
    """
    from treadle.wheel import backfill as b

    ws = ctx.with_resource(show.opened(ctx))
    try:
        ZoneInfo(tz)
    except (KeyError, ValueError, OSError):
        raise UsageError(f"There is no time zone {tz!r}.", hint="Use a name like 'Europe/Berlin'.") from None
    parts = b.partitions(_wall(start, "--from", tz), _wall(end, "--to", tz), span(every), tz)
    seen = [0]

    def tell(part: b.Part) -> None:
        seen[0] += 1
        if not json_:
            line = f"  {seen[0]}/{len(parts)}  {part.partition}  {part.status}" + (f": {part.error}" if part.error else "")
            print(line, file=sys.stderr, flush=True)

    done = b.backfill(ws, target, parts, param=param, again=again, tell=tell)
    if json_:
        show.as_json([{"partition": p.partition, "run": p.run, "status": p.status, "seconds": p.seconds, "error": p.error} for p in done])
    else:
        show.table(["partition", "status", "seconds", "run"], [(p.partition, p.status, f"{p.seconds:.1f}" if p.seconds else "", p.run) for p in done])
        failed = sum(not p.ok for p in done)
        if failed:
            show.say(f"{failed} of {len(done)} are not done. The same command does them again.")
    return 0 if all(p.ok for p in done) else 1


def _listed(ws: Workspace, declared: Schedule) -> dict[str, Any]:
    from treadle.pipelines.schedule import STATE, Wait, pending
    from treadle.wheel.schedules import look, until_words

    now = ws.clock.now()
    state = ws.ledger.get(STATE, declared.name)
    cron = next((t for t in declared.when if isinstance(t, Cron)), None)
    following = cron.following(now) if cron else None
    last = state["last"] if state else None
    ended = f"{last['status']} {until_words(declared, parse_time(last['ended']))} ({last['run']})" if last else None
    waiting = len(pending(declared.name, ws.ledger))
    said, held = ("waits for its first look", None) if state is None else ("ready", None)
    if state is not None:
        wait = look(ws, declared, state, now)
        if state["paused"]:
            said = f"paused by {state['paused']['by']}: {state['paused']['reason']}"
        elif state["active"]:
            said = f"runs {state['active']}"
        elif isinstance(wait, Wait) and wait.what in ("runs", "cpu", "money"):
            held = {"what": wait.what, "until": iso(wait.until), "sentence": wait.sentence}
            said = f"HELD until {until_words(declared, wait.until)}: {wait.sentence}"
        elif isinstance(wait, Wait):
            said = f"{wait.sentence}, until {until_words(declared, wait.until)}"
        elif waiting:
            said = "due now"
    return {
        "schedule": declared.name, "target": declared.target.name, "when": [str(t) for t in declared.when],
        "next": iso(following) if following else None, "next_local": until_words(declared, following) if following else None,
        "last": last, "last_local": ended, "pending": waiting, "held": held, "paused": state["paused"] if state else None, "state": said,
    }  # fmt: skip


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise click.UsageError(f"{text!r} is not NAME=VALUE.")
    return name, value


def _wall(text: str, what: str, tz: str) -> datetime:
    """A date or time on the wall clock of a zone; one that says its own offset is taken to that zone."""
    parse_time(text, f"time for {what}")
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is None else moment.astimezone(ZoneInfo(tz)).replace(tzinfo=None)


def _stamped(line: str) -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z  {line}"
