"""`treadle reproduce`."""

from __future__ import annotations

import sys

import click

from treadle.cli import show
from treadle.core.records import Record

SHOWN = 20


@click.command(epilog="Example: treadle reproduce late-arrival --version 2")
@click.argument("model", default="")
@click.option("--version", "number", type=int, help="The version (default: the newest).")
@click.option("--here", is_flag=True, help="Use the packages that are installed now, and say in what they differ.")
@click.option("--from-scratch", "scratch", is_flag=True, help="Install all recorded packages anew, although those that are here would do.")
@click.option("--settings", "refit", is_flag=True, help="Fit the recorded settings once instead of searching again.")
@click.option("--strict", is_flag=True, help="Do not go on when Treadle itself has changed.")
@click.option("--json", "json_", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def reproduce(ctx: click.Context, model: str, number: int | None, here: bool, scratch: bool, refit: bool, strict: bool, json_: bool) -> int:
    """Make a version again and compare it to the last digit.

    The recorded code, packages, data version, seed and number of threads are brought back in a folder of their own and trained from.
    Exit code 0: equal; 4: it differs, and this is in what and probably why; else what stands in the way.
    """
    from treadle.provenance.reproduce import reproduce

    if here and scratch:
        raise click.UsageError("--here and --from-scratch exclude each other.")
    ws = show.workspace(ctx)
    progress = (lambda line: None) if json_ else (lambda line: print(f"  {line}", file=sys.stderr, flush=True))
    made = reproduce(ws, model, number, here=here, scratch=scratch, refit=refit, strict=strict, say=progress)
    if json_:
        show.as_json({"id": made.id, **made.body})
    else:
        _say(made)
    return int(made["error"]["exit_code"]) if made["result"] == "impossible" else {"equal": 0, "differs": 4}[made["result"]]


def _say(made: Record) -> None:
    if made["result"] == "impossible":
        error = made["error"]
        where = f" [{error['where']}]" if error["where"] else ""
        print(f"treadle: {error['what']}{where} {error['hint']}".rstrip() + f" ({made['reason']})", file=sys.stderr)
        return
    if made["result"] == "equal":
        scope = "metrics, verdict and model" if made["refit"] else "metrics, verdict and every file of the package"
        show.say(f"{made['version']}: equal ({scope}); {made['training_seconds']:.1f} s, {made.id}")
        return
    show.say(f"{made['version']}: differs in {made['differing']:,} values; {made['training_seconds']:.1f} s, {made.id}")
    rows = [(d["what"], d["recorded"], d["reproduced"], "" if d["by"] is None else f"{d['by']:+.3g}") for d in made["differences"][:SHOWN]]
    show.table(["what", "recorded", "reproduced", "by"], [[_cell(c) for c in row] for row in rows])
    if made["differing"] > SHOWN:
        show.say(f"... and {made['differing'] - SHOWN:,} more: treadle reproduce --json")
    show.say("suspected, the likeliest first:")
    for reason in made["reasons"]:
        show.say(f"  {reason['name']:<18} {reason['sentence']}")


def _cell(value: object) -> str:
    text = "-" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
