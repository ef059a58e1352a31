"""Looking: `report`, `why`, `models`, `status`, `console`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treadle.cli import show


@click.command(epilog="Example: treadle report late-arrival --out report.html")
@click.argument("model", default="")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write (default: report.html, or report-MODEL.html with several models).")
@click.option("--json", "json_", is_flag=True, help="Print what the page shows as JSON instead.")
@click.pass_context
def report(ctx: click.Context, model: str, out: Path | None, json_: bool) -> None:
    """Write one self-contained HTML page: the loop's evidence, quality by month, alarms and what they led to, costs."""
    from treadle.report import collect, write_report

    ws = show.workspace(ctx)
    declared = ws.model(model)
    if json_:
        show.as_json(collect(ws, declared))
        return
    name = "report.html" if len(ws.project.models) == 1 else f"report-{declared.name}.html"
    show.say(f"report: {write_report(ws, declared, out or ws.folder / name)}")


@click.command(epilog="Example: treadle why p-01k9m2x7c3q4d9a0bz")
@click.argument("prediction")
@click.option("--json", "json_", is_flag=True, help="Print the story as JSON.")
@click.pass_context
def why(ctx: click.Context, prediction: str, json_: bool) -> None:
    """Tell the whole story of one prediction: inputs, features, version, data, code, evidence, approver, outcome."""
    from treadle.core.masking import personal_columns
    from treadle.governance.lineage import story

    ws = show.workspace(ctx)
    told = story(prediction, ws.predictions, ws.ledger, ws.blobs.get, personal_columns(ws.project.datasets.values()))
    if json_:
        show.as_json(told)
    else:
        _tree(told)


def _tree(value: Any, indent: int = 0) -> None:
    pad = "  " * indent
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value, 1):
        if isinstance(entry, dict | list) and entry:
            show.say(f"{pad}{key}:")
            _tree(entry, indent + 1)
        else:
            show.say(f"{pad}{key}: {'-' if entry in (None, '', [], {}) else f'{entry:.6g}' if isinstance(entry, float) else entry}")


@click.command(epilog="Example: treadle models late-arrival --version 2")
@click.argument("model", default="")
@click.option("--version", "number", type=int, help="Show this version with its evidence.")
@click.option("--leaderboard", is_flag=True, help="Show what the search of --version (or the newest) tried, best first, and why the winner won.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the verdict of --version (or the newest) as JUnit XML.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def models(ctx: click.Context, model: str, number: int | None, leaderboard: bool, junit: Path | None, json_: bool) -> None:
    """List the versions of the project's models, or show one with its gates."""
    from treadle.registry import foreign, versions
    from treadle.registry.packages import told_signature

    ws = show.workspace(ctx)
    chosen = [ws.model(model)] if model or number is not None else [*ws.project.models.values(), *map(foreign.stand_in, foreign.names(ws.ledger))]
    if junit is not None:
        from treadle.governance.junit import junit as told

        newest = [versions.get(chosen[0].name, number, ws.ledger)] if number is not None else [
            v[-1] for v in (versions.all_versions(m.name, ws.ledger) for m in chosen) if v
        ]  # fmt: skip
        junit.write_text(told(newest, ws.ledger, ws.clock.now()), encoding="utf-8")
        show.say(f"verdict of {', '.join(v.id for v in newest) or 'no version'}: {junit}")
        return
    if leaderboard:
        for m in chosen:
            _leaderboard(ws, m.name, number, json_)
        return
    if number is not None:
        version = versions.get(chosen[0].name, number, ws.ledger)
        if json_:
            show.as_json({"id": version.id, **version.body})
            return
        show.say(f"{version.id}  {version['status']}  {version['family']} {version['params']}")
        show.say(
            f"trained on {version['trained_rows']:,} rows known by {version['as_of'][:10] or 'the end'}; run {version['run']}; "
            f"because: {version['cause']['text']}"
        )
        show.say(f"package {version['package']['digest'][:16]}: {told_signature(version['package'], ws.blobs, ws.shelf.trust)}")
        if version.get("trained_on_erased"):
            erased = ", ".join(version["erasures"])
            gone = f"{version['trained_on_erased']:,} of its rows were of persons erased since ({erased})"
            show.say(f"{gone}; retrain with: treadle run {version['model']}")
        for finding in version["verdict"]["findings"]:
            show.say(f"  {_mark(version, finding, ws)}  {finding['gate']:<15} {finding['reason']}")
        return
    found = [v for m in chosen for v in versions.all_versions(m.name, ws.ledger)]
    if json_:
        show.as_json([{"id": v.id, **v.body} for v in found])
        return
    if not found:
        show.say("No version yet. Make one with: treadle run")
    show.table(
        ["version", "status", "family", "metric", "rows", "known by", "because"],
        [
            (
                v.id,
                v["status"],
                v["family"],
                _metric(v["evaluation"]),
                f"{v['trained_rows']:,}" + (f" ({v['trained_on_erased']:,} erased since)" if v.get("trained_on_erased") else ""),
                v["as_of"][:10],
                v["cause"]["text"][:60],
            )
            for v in found
        ],
    )


def _leaderboard(ws: Any, name: str, number: int | None, json_: bool) -> None:
    """The search behind a version, or the newest search of the model: also one whose version was never made."""
    from treadle.registry import versions

    searches = ws.ledger.find("search", {"scope": f"{ws.project.name}.{name}"}, newest_first=True, limit=1)
    known = versions.all_versions(name, ws.ledger)
    if number is not None or known:
        version = versions.get(name, number, ws.ledger) if number is not None else known[-1]
        record = ws.ledger.get("search", version["trials"])
        searches = [record] if record is not None else searches if number is None else []
    if not searches:
        show.say(f"No search of {name} is on record. Make one with: treadle run {name}")
        return
    search = searches[0]
    if json_:
        show.as_json({"id": search.id, **search.body})
        return
    show.say(f"{name}: search {search.id}, by {search['loss']}")
    show.table(
        ["place", "family", "setting", "status", "loss", "folds", "rows", "seconds"],
        [
            (t["place"], t["family"], " ".join(f"{k}={_short(v)}" for k, v in t["params"].items()), t["status"], "" if t["loss"] is None
             else f"{t['loss']:.5f}", t["folds"], f"{t['rows']:,}" if t["rows"] else "all", f"{t['seconds']:.1f}")
            for t in search["leaderboard"]
        ],
    )  # fmt: skip
    for sentence in search["explanation"]:
        show.say(f"  {sentence}")


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _mark(version: Any, finding: Any, ws: Any) -> str:
    from treadle.registry.conditions import in_force

    if finding["passed"]:
        return "waits " if finding.get("waits") else "passed"
    return "waived" if in_force(version, finding["gate"], ws.ledger, ws.clock.now()) else "FAILED"


def _metric(evaluation: Any) -> str:
    metric = evaluation["metrics"]["model"][evaluation["primary"]]
    return f"{evaluation['primary']} n/a" if metric["value"] is None else f"{evaluation['primary']} {metric['value']:.3f}"


@click.command(epilog="Example: treadle status --json")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def status(ctx: click.Context, json_: bool) -> None:
    """Say how the project stands: data, versions, what answers, open alarms, and what needs a person."""
    from treadle.live.deploy import missed, running_endpoint
    from treadle.monitoring.alarms import open_alarms
    from treadle.pipelines.run import mark_interrupted
    from treadle.registry import promote, versions

    ws = show.workspace(ctx)
    mark_interrupted(ws.ledger, ws.clock)
    said: list[dict[str, Any]] = []
    for name in ws.project.models:
        known = versions.all_versions(name, ws.ledger)
        deployed = promote.deployment(name, ws.ledger)
        endpoint = running_endpoint(ws, name)
        predictions, outcomes = ws.predictions.count(name)
        found = open_alarms(name, ws.ledger)
        said.append(
            {
                "model": name, "versions": len(known), "newest": known[-1]["status"] if known else None,
                "champion": deployed["champion"] if deployed else None, "challenger": deployed["challenger"] if deployed else None,
                "stage": deployed["stage"] if deployed else None, "stopped": deployed.get("stopped") if deployed else None,
                "endpoint": endpoint["url"] if endpoint else None, "missed": list(missed(endpoint).values()), "predictions": predictions,
                "outcomes": outcomes, "alarms": [{"id": a.id, "kind": a["kind"], "sentence": a["sentence"]} for a in found],
                "next": _next(name, known, deployed, endpoint, found), "features": _features(ws, name) if deployed else [],
            }
        )  # fmt: skip
    if json_:
        show.as_json({"project": ws.project.name, "owner": ws.project.owner, "models": said, "data": _data(ws)})
        return
    show.say(f"{ws.project.name}: {ws.project.goal or 'no goal said'} (owner: {ws.project.owner or 'nobody said'})")
    for s in said:
        newest = f", the newest is {s['newest']}" if s["newest"] else ""
        show.say(f"\n{s['model']}: {s['versions']} version{'' if s['versions'] == 1 else 's'}{newest}")
        if s["champion"] is not None:
            challenger = f", version {s['challenger']} in {s['stage']}" if s["challenger"] else ""
            show.say(f"  champion: version {s['champion']}{challenger}; endpoint: {s['endpoint'] or 'not running'}")
            for sentence in s["missed"]:
                show.say(f"  {sentence}")
            if s["stopped"]:
                show.say(f"  STOPPED by {s['stopped']['by']} on {s['stopped']['at'][:16]}: {s['stopped']['reason']}")
            show.say(f"  {s['predictions']:,} predictions logged, {s['outcomes']:,} with their outcome")
        for sentence in s["features"]:
            show.say(f"  {sentence}")
        for alarm in s["alarms"]:
            show.say(f"  open alarm {alarm['id']}: {alarm['kind']}: {alarm['sentence']}")
        show.say(f"  next: {s['next']}")
    waits = [d for d in _data(ws) if d["quarantined"] or d["alarms"]]
    for d in waits:
        show.say(f"\ndata set {d['dataset']}: {d['rows']:,} rows, {d['quarantined']:,} set aside (owner: {d['owner'] or 'nobody said'})")
        for alarm in d["alarms"]:
            show.say(f"  open alarm {alarm['id']}: {alarm['kind']}: {alarm['sentence']}")
        if d["quarantined"]:
            show.say(f"  see them: treadle quarantine list {d['dataset']}")


def _data(ws: Any) -> list[dict[str, Any]]:
    """How each data set that was taken stands to its contract."""
    from treadle.monitoring.alarms import open_data_alarms

    found = open_data_alarms(ws.ledger)
    return [
        {
            "dataset": s["dataset"], "owner": s["owner"], "rows": s["rows"], "quarantined": s["quarantined"], "newest": s["newest"],
            "taken": s["taken"], "stopped": s["stopped"],
            "alarms": [{"id": a.id, "kind": a["kind"], "sentence": a["sentence"]} for a in found if a["dataset"] == s["dataset"]],
        }
        for s in ws.ledger.find("contract_state")
    ]  # fmt: skip


def _features(ws: Any, model: str) -> list[str]:
    """What is to be said of the online values a model looks up: those that are too old or not there, or that the store is down."""
    from treadle.cli.online import length
    from treadle.core.errors import StorageError, Unavailable
    from treadle.wheel.materialise import standing

    said = []
    try:
        for view in ws.project.models[model].views:
            found = standing(ws, view)
            if found.stale:
                said.append(f"view {view.name} is too old: its newest value is of {length(found.age)} ago, and may be of {length(found.limit)}")
            elif not found.entities:
                said.append(f"view {view.name} has no values in the online store: treadle materialise {view.name}")
    except (Unavailable, StorageError) as error:
        said.append(f"the online store is down: {error.what}")
    return said


def _next(name: str, known: list[Any], deployed: Any, endpoint: Any, found: list[Any]) -> str:
    if not known:
        return f"treadle run {name}"
    if deployed is None:
        return (
            f"treadle deploy {name}"
            if known[-1]["status"] == "approved"
            else f"see why it was refused: treadle models {name} --version {known[-1]['number']}"
        )
    if endpoint is None:
        return f"treadle deploy {name}"
    return f"look at the alarms: treadle report {name}" if found else "nothing needs a person"


@click.command(epilog="Example: treadle console --port 8800")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address it listens on. An open one needs console_url and TLS.")
@click.option("--port", type=click.IntRange(0, 65535), default=8800, show_default=True, help="The port; 0 picks a free one.")
@click.option("--no-link", is_flag=True, help="Print no link that signs you in, where what is printed is kept. See: treadle access link")
@click.pass_context
def console(ctx: click.Context, host: str, port: int, no_link: bool) -> None:
    """Serve the console, until stopped by hand: one address where everybody sees the same loop, and does what their role allows.

    On this machine alone it prints a link that signs you in, once. For a team see docs/how-to/console.md.
    """
    from treadle.cli.served import check
    from treadle.core.errors import Conflict
    from treadle.serving.address import free_port, port_free
    from treadle.web.console.serve import first_link, loopback, serve

    ws = show.workspace(ctx)
    if port and not port_free(host, port):
        raise Conflict(f"Port {port} is in use.", hint="Give another one: treadle console --port N")
    port = port or free_port(host)
    if loopback(host) and not ws.settings["console_url"] and not no_link:
        show.say(f"console: {first_link(ws, f'http://{host}:{port}')}  (signs you in once, within 10 minutes; Ctrl-C ends the console)")
    else:
        show.say(f"console: {ws.settings['console_url'] or f'http://{host}:{port}'}  (Ctrl-C ends it)")
    serve(ws, host, port, commands=check)
