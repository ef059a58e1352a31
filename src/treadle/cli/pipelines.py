"""Around a run: `plan` before it; `resume` and `approve` when it stands still; `runs`, `logs` and `diff` to look at it."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from treadle.cli import show, told
from treadle.core.clock import parse_time
from treadle.core.errors import UsageError
from treadle.core.records import Record

_PLAN = {"run": "run", "reuse": "reuse", "skip": "leave out", "ask": "ask"}


@click.command(epilog="Example: treadle plan nightly --set parts=a,b")
@click.argument("target", default="", metavar="[MODEL|PIPELINE]")
@click.option("--set", "assigned", multiple=True, metavar="NAME=VALUE", help="Give a parameter of the pipeline a value. Can be given several times.")
@click.option("--as-of", metavar="TIME", help="Use only rows whose truth was known by then (models).")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def plan(ctx: click.Context, target: str, assigned: Sequence[str], as_of: str | None, json_: bool) -> None:
    """Say what `treadle run` would do and why, a line a step, and run nothing.

    A line with `!` says what a step reads that a stored result is not told by: the clock, the network, a file it opens by a fixed name.
    """
    from treadle.wheel.start import planned

    with show.opened(ctx) as ws:
        steps = planned(ws, target, params=show.assignments(assigned), as_of=parse_time(as_of) if as_of else None)
    if json_:
        show.as_json(steps)
        return
    show.table(["step", "", "why"], [(s["step"], _PLAN[s["state"]], s["reason"] + _tasks(s)) for s in steps])
    for s in steps:
        for warning in s["warnings"]:
            show.say(f"! {s['step']}: {warning}")
    counts = {state: sum(s["state"] == state for s in steps) for state in _PLAN}
    asks = f", {counts['ask']} ask{'s' if counts['ask'] == 1 else ''} a person" if counts["ask"] else ""
    left = f", {counts['skip']} left out" if counts["skip"] else ""
    show.say(f"{counts['run']} of {len(steps)} steps would run, {counts['reuse']} reused{left}{asks}")


def _tasks(step: Mapping[str, Any]) -> str:
    if "tasks" not in step:
        return ""
    return f" ({step['tasks'] - step['tasks_reused']:,} of {step['tasks']:,} tasks)"


@click.command(epilog="Example: treadle resume last")
@click.argument("run", default="", metavar="[RUN|MODEL]")
@click.option("--executor", default="", metavar="ADDRESS", help="Where the steps run, instead of the setting.")
@click.option("--reason", default="", help="Why a stopped model may answer again; it is recorded with your name.")
@click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def resume(ctx: click.Context, run: str, executor: str, reason: str, json_: bool) -> int:
    """Go on with a run that was killed, stopped, failed, or waited for an approval; the newest of these if no RUN is given.

    It is the same run: what it had finished and what it had read of the world outside stands, the rest is done with the code as it is now.
    With the name of a model that was stopped (treadle stop --kill) and a reason, the model answers again.
    """
    from treadle.pipelines.lookup import find_run

    if reason:
        return _answer_again(ctx, run, reason, json_)

    with show.opened(ctx, executor=executor) as ws:
        return _resume(ws, find_run(run, ws.ledger).id if run else "", json_)


def _answer_again(ctx: click.Context, model: str, reason: str, json_: bool) -> int:
    from treadle.cli.serving import switched
    from treadle.live.switch import resume as go_on

    ws = show.workspace(ctx)
    done = go_on(ws, ws.model(model), reason)
    if not json_:
        show.say(f"version {done.record['champion']} of {done.record.id} answers again: {reason}")
    switched(done, json_)
    return 0


def _resume(ws: Any, run: str, json_: bool) -> int:
    from treadle.cli.live import following
    from treadle.cli.project import ended
    from treadle.pipelines import lease
    from treadle.pipelines.run import RUN
    from treadle.wheel.start import resume as go_on

    record = ws.ledger.get(RUN, run) if run else None
    if record is not None and record["status"] == "running" and not lease.gone(record["owner"]) and not json_:
        who = record["owner"]
        print(f"Run {run} has a driver, process {who['pid']} on {who['host']}; looking whether it is alive ...", file=sys.stderr)
    with following(json_) as ws.watch:
        outcome = go_on(ws, run)
    return ended(ws, outcome, json_, ", ".join((outcome.run.get("request") or {}).get("until", [])[:1]))


@click.command(epilog='Example: treadle approve last approval --reason "checked against the invoices" --resume')
@click.argument("run", default="", metavar="[RUN|MODEL.vN]")
@click.argument("step", default="", metavar="[STEP]")
@click.option("--reject", is_flag=True, help="Say no; the run ends with it, the version may not answer.")
@click.option("--reason", default="", metavar="TEXT", help="Why; recorded with your name.")
@click.option("--resume", "resume_", is_flag=True, help="Go on with the run at once.")
@click.option("--ask", is_flag=True, help="Ask others to approve the version; then you cannot.")
@click.option("--to", multiple=True, metavar="NAME", help="With --ask: a person or group; may be given more than once.")
@click.option("--lasts", default="", metavar="SPAN", help="How long a yes counts for a version that does not answer yet, such as 30d.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def approve(
    ctx: click.Context, run: str, step: str, reject: bool, reason: str, resume_: bool, ask: bool, to: Sequence[str], lasts: str, json_: bool
) -> int:  # fmt: skip
    """Answer a run that waits for an approval, or a version whose model asks for one. Without arguments: list the runs that wait.

    All that waits for you, also versions, is in `treadle notices --waiting`.
    """
    from treadle.pipelines import approvals
    from treadle.pipelines.lookup import find_run

    if re.fullmatch(r"[a-z][a-z0-9_-]*\.v\d+", run) and not step:
        from treadle.cli.evidence import approved

        show.say(approved(show.workspace(ctx), run, reason, reject, ask=ask, to=to, lasts=lasts))
        return 0
    if ask or to or lasts:
        raise UsageError("--ask, --to and --lasts are about a version.", hint="Say which: treadle approve MODEL.vN --ask --to NAME")
    with show.opened(ctx) as ws:
        record = find_run(run, ws.ledger) if run else None
        if record is None or not step:
            waits = approvals.waiting(ws.ledger, record.id if record else "")
            if reject or resume_ or reason:
                raise UsageError("Which approval is meant?", hint=f"Say it with: treadle approve RUN STEP. Waiting: {_named(waits)}.")
            if json_:
                show.as_json([{"id": a.id, **a.body} for a in waits])
            elif not waits:
                show.say("Nothing waits for an approval.")
            else:
                show.table(
                    ["run", "step", "since", "question", "shows"],
                    [
                        (a["run"], a["step"], a.created_at[:19], told.shortened(a["question"], 80), told.shortened(told.shows(a, ws), 60))
                        for a in waits
                    ],
                )
            return 0
        made = approvals.answer(record, step, ws.ledger, ws.clock, approve=not reject, by=ws.actor, reason=reason)
        if json_ and not (resume_ and not reject):
            show.as_json({"id": made.id, **made.body})
        elif not json_:
            show.say(f"{made['status']}: {made['step']} of run {record.id}" + (f" ({made['question']})" if made["question"] else ""))
        if resume_ and not reject:
            return _resume(ws, record.id, json_)
        if not reject and not json_:
            left = approvals.waiting(ws.ledger, record.id)
            show.say(f"It still waits for: {_named(left)}." if left else f"Go on with it: treadle resume {record.id}")
    return 0


def _named(waits: Sequence[Record]) -> str:
    return ", ".join(f"{a['run']} {a['step']}" for a in waits[:5]) or "none"


@click.command(epilog="Example: treadle runs last")
@click.argument("run", required=False)
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many, newest first.")
@click.option("--all", "all_", is_flag=True, help="Show every task of a fan-out.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def runs(ctx: click.Context, run: str | None, limit: int, all_: bool, json_: bool) -> None:
    """List the runs, newest first, or show one with its steps. RUN is an id, the end of one, or `last`."""
    from treadle.pipelines.lookup import find_run
    from treadle.pipelines.run import RUN, mark_interrupted, steps_of

    ws = show.workspace(ctx)
    mark_interrupted(ws.ledger, ws.clock)
    if run is not None:
        record = find_run(run, ws.ledger)
        steps = steps_of(record.id, ws.ledger)
        if json_:
            show.as_json(_body(record, steps))
        else:
            _show_run(ws, record, steps, all_)
        return
    found = ws.ledger.find(RUN, newest_first=True, limit=limit)
    if json_:
        show.as_json([_body(r, [s for s in steps_of(r.id, ws.ledger) if not s.get("of")]) for r in found])
        return
    if not found:
        show.say("No run yet. Start one with: treadle run")
    show.table(
        ["run", "target", "status", "started", "seconds", "cpu", "steps", "because"],
        [
            (r.id, _target(r), r["status"], r["started"][:19], f"{r.get('seconds', 0):.1f}", f"{r.get('cpu', 0):.1f}",
             told.counted(r.get("counts") or {}), told.shortened(r["cause"]["text"] or r["cause"]["kind"], 60))
            for r in found
        ],
    )  # fmt: skip


def _body(record: Record, steps: Sequence[Record]) -> dict[str, Any]:
    return {"id": record.id, **record.body, "steps": [s.body for s in steps]}


def _target(run: Record) -> str:
    return str(run.get("pipeline") or run.get("model") or run["scope"])


def _show_run(ws: Any, record: Record, steps: Sequence[Record], all_: bool) -> None:
    from treadle.pipelines import approvals

    error = next(iter(str(record.get("error") or "").splitlines()), "")
    show.say(f"{record.id}  {_target(record)}  {record['status']}" + (f"  {error}" if error else ""))
    spent = f"{record.get('seconds', 0):.1f} s, CPU {record.get('cpu', 0):.1f} s; {told.counted(record.get('counts') or {})}"
    again = f"; taken up {record['epoch'] - 1} time{'' if record['epoch'] == 2 else 's'}" if record.get("epoch", 1) > 1 else ""
    show.say(f"started {record['started'][:19]}  {spent}{again}")
    show.say(f"because: {record['cause']['text'] or record['cause']['kind']}")
    if record["status"] == "running":
        show.say(f"driven by process {record['owner']['pid']} on {record['owner']['host']}")
    if record.get("params"):
        show.say("parameters: " + told.shortened(", ".join(f"{k}={v!r}" for k, v in record["params"].items())))
    shown = [s for s in steps if all_ or not s.get("of") or s["status"] in ("failed", "running", "retry", "cancelled", "interrupted")]
    hidden = len(steps) - len(shown)
    rows = [(s["step"], s["status"], _seconds(s), _number(s, "cpu", ".2f"), _tries(s), s.get("where", ""), _why(s, steps)) for s in shown]
    show.table(["step", "status", "seconds", "cpu", "tries", "where", "why"], rows)
    if hidden:
        show.say(f"{hidden:,} tasks of fan-outs that ended well are not shown (--all shows them)")
    for s in shown:
        for warning in s.get("warnings") or ():
            show.say(f"! {s['step']}: {warning}")
    for asked in approvals.waiting(ws.ledger, record.id):
        show.say(f"{asked['step']} asks: {asked['question']}    treadle approve {record.id} {asked['step']} --resume")
    for s in shown:
        if s["status"] == "failed" and s.get("error"):
            show.say(f"{s['step']} failed: {told.shortened(s['error'], 500)}")
            if s.get("tasks") is None:
                show.say(f"    treadle logs {record.id} '{s['step']}'" if "[" in s["step"] else f"    treadle logs {record.id} {s['step']}")
    if record["status"] in ("interrupted", "failed", "cancelled") and record.get("request"):
        show.say(f"Go on with it: treadle resume {record.id}")


def _seconds(step: Record) -> str:
    return f"{step['seconds']:.2f}" if step.get("seconds") else ""


def _number(step: Record, name: str, form: str) -> str:
    return format(step[name], form) if step.get(name) else ""


def _tries(step: Record) -> str:
    return str(step["attempt"]) if step.get("attempt", 1) > 1 else ""


def _why(step: Record, steps: Sequence[Record]) -> str:
    reason = told.shortened(step.get("reason") or "", 90)
    if step.get("tasks") is None:
        return reason
    ended = [s["status"] for s in steps if s.get("of") == step["step"]]
    counts = {state: ended.count(state) for state in ("done", "reused", "failed", "running", "retry", "cancelled") if state in ended}
    said = f": {', '.join(f'{n:,} {state}' for state, n in counts.items())}" if counts else ""
    return f"{step['tasks']:,} tasks{said}" + (f"; {reason}" if reason else "")


@click.command(epilog="Example: treadle logs last 'score[3]'")
@click.argument("run")
@click.argument("step", default="", metavar="[STEP]")
@click.option("--follow", is_flag=True, help="Go on while it runs.")
@click.pass_context
def logs(ctx: click.Context, run: str, step: str, follow: bool) -> None:
    """Print what a step printed and logged, or all steps of a run. RUN is an id, the end of one, or `last`.

    What a step says is there while it runs, and stays when its process is killed.
    """
    from treadle.pipelines.follow import follow as go_on
    from treadle.pipelines.logs import log_text
    from treadle.pipelines.lookup import find_run, find_step
    from treadle.pipelines.run import mark_interrupted, steps_of

    ws = show.workspace(ctx)
    mark_interrupted(ws.ledger, ws.clock)
    record = find_run(run, ws.ledger)
    if follow:
        go_on(record.id, step, ws.ledger, ws.blobs, ws.settings.home, show.say)
        return
    steps = steps_of(record.id, ws.ledger)
    chosen = [find_step(step, record.id, steps)] if step else steps
    if step and chosen[0].get("tasks") is not None:
        chosen = [s for s in steps if s.get("of") == chosen[0]["step"]] or chosen
    said = False
    for s in chosen:
        text = log_text(s, ws.blobs, ws.settings.home)
        for line in text.splitlines():
            show.say(line if len(chosen) == 1 else f"{s['step']} | {line}")
            said = True
        if len(chosen) == 1 and s.get("traceback"):
            show.say(s["traceback"].rstrip())
            said = True
    if not said:
        print("(nothing was printed or logged)", file=sys.stderr)


@click.command(epilog="Example: treadle diff run-01k9m2x7c3q4d9a0bz last")
@click.argument("old", metavar="RUN")
@click.argument("new", metavar="RUN")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def diff(ctx: click.Context, old: str, new: str, json_: bool) -> None:
    """Say what differs between two runs of one model or pipeline: code, parameters, data, results and metrics, times."""
    from treadle.pipelines.lookup import find_run
    from treadle.provenance.compare import compare

    ws = show.workspace(ctx)
    found = compare(ws, find_run(old, ws.ledger), find_run(new, ws.ledger))
    if json_:
        show.as_json(found)
    else:
        _show_diff(found)


def _show_diff(found: Mapping[str, Any]) -> None:
    for which in ("old", "new"):
        r = found[which]
        show.say(f"{which}  {r['run']}  {r['status']}  {r['started'][:19]}  {r['seconds']:.1f} s, CPU {r['cpu']:.1f} s{_commit(r)}")
    blocks: list[tuple[str, list[tuple[Any, ...]]]] = [
        ("code", [(c["what"], ", ".join(c["steps"][:6]) + (", ..." if len(c["steps"]) > 6 else "")) for c in found["code"]]),
        ("parameters", [(name, f"{_value(a)} -> {_value(b)}") for name, (a, b) in found["params"].items()]),
        ("data", [(name, d["sentence"]) for name, d in found["data"].items()]),
        ("metrics", [(name, _metric(m)) for name, m in found["metrics"].items()]),
        ("results", [(s["step"], s["result"]) for s in found["steps"] if s["result"] not in ("same", "")]),
        ("steps", [(s["step"], " -> ".join(s["status"])) for s in found["steps"] if not _same_state(*s["status"])]),
    ]
    for title, rows in blocks:
        if rows:
            show.say(f"\n{title}")
            show.columns([(f"  {row[0]}", *row[1:]) for row in rows])
    timed = [s for s in found["steps"] if any(s["seconds"])]
    if timed:
        show.say("\nseconds")
        show.table(["  step", "old", "new"], [(f"  {s['step']}", *(f"{t:.2f}" if t else "-" for t in s["seconds"])) for s in timed])
    if not any(rows for _, rows in blocks):
        show.say("\nNothing differs but the times.")


def _same_state(old: str, new: str) -> bool:
    return old == new or {old, new} == {"done", "reused"}


def _commit(run: Mapping[str, Any]) -> str:
    return f"  commit {run['commit'][:10]}{' with changes' if run['dirty'] else ''}" if run["commit"] else ""


def _value(value: Any) -> str:
    return "-" if value is None else told.shortened(f"{value:.6g}" if isinstance(value, float) else repr(value), 60)


def _metric(m: Mapping[str, Any]) -> str:
    old, new = m["old"], m["new"]
    if isinstance(old, int | float) and isinstance(new, int | float) and not isinstance(old, bool):
        interval = f"   95 % interval {m['low']:.3f} to {m['high']:.3f}" if m.get("low") is not None else ""
        return f"{old:.6g} -> {new:.6g}  ({new - old:+.3g}){interval}"
    return f"{_value(old)} -> {_value(new)}"
