"""`treadle features`: what features there are, what stands on what, and whether serving gives what training saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treadle.cli import show


@click.group(invoke_without_command=True, epilog="Example: treadle features breaks flights.distance")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def features(ctx: click.Context, json_: bool) -> None:
    """List the features: where they come from, who owns them, how fresh their online values are, and who uses them."""
    if ctx.invoked_subcommand is not None:
        return
    from treadle.report.features_shown import listed

    rows = listed(show.workspace(ctx))
    if json_:
        show.as_json(rows)
        return
    if not rows:
        show.say("The project declares no view and no derived feature.")
    show.table(
        ["feature", "of", "kind", "owner", "fresh", "made of", "used by"],
        [(r["feature"], r["of"], r["kind"], r["owner"], r["fresh"], ", ".join(r["columns"]), ", ".join(r["models"])) for r in rows],
    )


@features.command(name="show", epilog="Example: treadle features show origin_record")
@click.argument("name")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def show_(ctx: click.Context, name: str, json_: bool) -> None:
    """Show a view or a feature: its definition, its version, and the versions of models that used it."""
    from treadle.report.features_shown import described

    found = described(show.workspace(ctx), name)
    if json_:
        show.as_json(found)
        return
    show.columns([(k, v) for k, v in found.items() if k not in ("features", "versions") and v not in ("", None, [])])
    if found.get("features"):
        show.say()
        show.table(["feature", "made of", "description"], [(f["name"], ", ".join(f["columns"]), f["description"]) for f in found["features"]])
    if found.get("versions"):
        show.say()
        show.table(["version", "", "used by"], [(v["digest"], "now" if v["now"] else "", ", ".join(v["used_by"])) for v in found["versions"]])


@features.command(epilog="Example: treadle features graph --html --out features.html")
@click.option("--html", is_flag=True, help="Write a page instead of text.")
@click.option("--out", type=click.Path(path_type=Path), help="The file to write (with --html; default: report-features.html).")
@click.option("--json", "json_", is_flag=True, help="Print the edges as JSON.")
@click.pass_context
def graph(ctx: click.Context, html: bool, out: Path | None, json_: bool) -> None:
    """Show what stands on what: columns, features, models, versions that answer."""
    from treadle.report.features_shown import drawn, graph_of, tree

    ws = show.workspace(ctx)
    edges = graph_of(ws)
    if json_:
        show.as_json([{"from": a, "to": b} for a, b in edges])
    elif html:
        path = out or ws.folder / "report-features.html"
        path.write_text(drawn(ws.project.name, edges), "utf-8")
        show.say(f"graph: {path}")
    else:
        for line in tree(edges):
            show.say(line)


@features.command(epilog="Example: treadle features breaks flights.arr_delay")
@click.argument("column", metavar="DATASET.COLUMN")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def breaks(ctx: click.Context, column: str, json_: bool) -> int:
    """Say what breaks if a column of a data set goes away. Exit code 1 if something does."""
    from treadle.report.features_shown import broken_by

    found = broken_by(show.workspace(ctx), column)
    if json_:
        show.as_json([{"kind": u.kind, "name": u.name, "why": u.why, "sure": u.sure} for u in found])
    elif not found:
        show.say(f"Nothing declared in the project uses {column}.")
    else:
        show.table(["what", "name", "why"], [(u.kind, u.name, u.why + ("" if u.sure else " (not sure)")) for u in found])
    return 1 if found else 0


@features.command(epilog="Example: treadle features check late-arrival --rows 1000")
@click.argument("model", default="")
@click.option("--rows", type=click.IntRange(min=1), default=300, show_default=True, help="How many rows to serve again.")
@click.option("--version", "number", type=int, help="The version (default: the newest).")
@click.option("--production", is_flag=True, help="Recompute a sample of what was served since the last look instead.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def check(ctx: click.Context, model: str, rows: int, number: int | None, production: bool, json_: bool) -> int:
    """Serve known rows again through the real path, and compare each feature with what training saw. Exit code 1 if one differs.

    The rows go one by one, at their own moments, through the parser, an online store that is brought forward in time, the features of the request,
    and the encoding. What was found is recorded as evidence. A deployment does the same, and is refused if a feature differs.
    """
    from treadle.live import feature_checks

    ws = show.workspace(ctx)
    declared = ws.model(model)
    if production:
        record = feature_checks.look(ws, declared, (lambda line: None) if json_ else show.say)
        body: dict[str, Any] = dict(record.body) if record is not None else {"rows": 0, "skewed": 0, "not_compared": ""}
        if json_:
            show.as_json(body)
        else:
            show.say(f"{body['rows']:,} predictions recomputed, {body['skewed']:,} with features the recorded data do not give"
                     + (f"; not compared: {body['not_compared']}" if body["not_compared"] else ""))  # fmt: skip
            for e in body.get("examples", ())[:10]:
                of = f" of {e['view']}" if e["view"] else ""
                show.say(f"  {e['prediction']}  {e['feature']}{of}: {e['served']} was served, not {e['recomputed']}")
        return 1 if body["skewed"] else 0
    evidence, mismatches, restated = feature_checks.check(ws, declared, number=number, rows=rows)
    if json_:
        show.as_json({**evidence.body, "restated": restated})
    else:
        show.say(
            f"{declared.name} version {evidence['version']}: {evidence['rows']:,} rows through the serving path, "
            f"{evidence['features']} features each, {len(mismatches):,} differ from training"
        )
        show.table(["row", "feature", "training", "serving"], [(m.key, m.feature, m.training, m.serving) for m in mismatches[:20]])
        for sentence in restated:
            show.say(f"warning: {sentence}")
    return 1 if mismatches else 0
