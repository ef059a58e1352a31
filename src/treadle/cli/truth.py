"""`treadle truth` and `treadle review`: what became of the predictions, and what people are asked about."""

from __future__ import annotations

import json

import click

from treadle.cli import show


@click.command(epilog="Example: treadle truth late-arrival --metric roc_auc")
@click.argument("model", default="")
@click.option("--metric", default="", help="The metric to print; the primary one of the task if not given.")
@click.option("--json", "json_", is_flag=True, help="Print everything as JSON, with the history of every window.")
@click.pass_context
def truth(ctx: click.Context, model: str, metric: str, json_: bool) -> None:
    """Quality by window of time and by version, once outcomes had time to come; restated when they are corrected.

    Below it what is to be expected of the windows whose outcomes have not come, if the model's probabilities are right.
    """
    from treadle.core.errors import UsageError
    from treadle.live.settled import settle, told

    ws = show.workspace(ctx)
    declared = ws.model(model)
    settle(ws, declared, again=True)
    found = told(ws, declared)
    if json_:
        show.as_json(found)
        return
    known = next((list(w["metrics"]) for w in found["windows"] if w["metrics"]), [])
    if metric and metric not in known:
        raise UsageError(f"There is no metric {metric!r} here.", hint=f"There are: {', '.join(known) or 'none yet'}.")
    name = metric or (known[0] if known else "")
    if not found["windows"]:
        show.say(f"No window of {declared.name} is mature yet: {found['with_outcome']:,} of {found['predictions']:,} predictions have an outcome.")
    rows = []
    for w in found["windows"]:
        m = w["metrics"].get(name, {})
        value = "" if m.get("value") is None else f"{m['value']:.4f}"
        interval = "" if m.get("low") is None else f"{m['low']:.4f} to {m['high']:.4f}" + (" (rows)" if w["interval_of"] == "rows" else "")
        expected = (w["estimate"] or {}).get(name)
        rows.append([
            w["from"][:10], w["version"], f"{w['rows']:,}", f"{w['matured']:,}", value, interval, "" if expected is None else f"{expected:.4f}",
            w["restated"] or "",
        ])  # fmt: skip
    show.table(["window from", "version", "rows", "outcomes", name, "95 % interval", "was estimated", "restated"], rows)
    if found["waiting"]:
        show.say(f"\nOutcomes still to come. Estimated, if {found['assumes']}:")
        show.table(
            ["window from", "version", "rows", "estimate", "error so far"],
            [(w["from"][:10], w["version"], f"{w['rows']:,}", _estimates(w["estimate"]), _estimates(w["error"], "±") or "not known yet")
             for w in found["waiting"]],
        )  # fmt: skip
    odd = [f"{sum(w[k] for w in found['windows']):,} {text}" for k, text in _ODD.items() if any(w[k] for w in found["windows"])]
    if found["unknown_ids"]:
        odd.append(f"{found['unknown_ids']:,} for predictions that are not logged")
    if odd:
        show.say(f"\noutcomes that do not count: {', '.join(odd)}")


_ODD = {"early": "known before their prediction", "odd": "no value of the target", "over_limit": "beyond what their source may decide"}


def _estimates(values: dict[str, float], sign: str = "") -> str:
    return ", ".join(f"{name} {sign}{value:.4f}" for name, value in values.items())


@click.command(epilog="Example: treadle review p-01m7zt2t9va6csbm27 true")
@click.argument("prediction", default="")
@click.argument("value", default="")
@click.option("--model", default="", help="Whose predictions to list; the only model if not given.")
@click.option("--limit", type=click.IntRange(min=1), default=20, show_default=True, help="How many to list.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def review(ctx: click.Context, prediction: str, value: str, model: str, limit: int, json_: bool) -> None:
    """List the sampled predictions that wait for a person, or say the truth of one.

    What was predicted is not shown: whoever is asked is not to be told the answer. Which share is sampled the project says: project.truth(review=).
    """
    from treadle.core.errors import ProjectError, UsageError
    from treadle.core.masking import masked_row, personal_columns
    from treadle.live.settled import truth_of
    from treadle.monitoring.review import answer, waiting
    from treadle.registry import versions

    ws = show.workspace(ctx)
    declared = ws.model(model)
    if prediction:
        if not value:
            raise UsageError("What is the truth?", hint="treadle review PREDICTION VALUE")
        known = ws.predictions.get(prediction)
        labels = versions.get(known.model, known.version, ws.ledger)["labels"] if known else []
        outcome = answer(prediction, value, labels, ws.predictions, ws.ledger, ws.clock.now(), person=ws.actor)
        show.say(f"{prediction}: {outcome.value!r}, says {ws.actor}")
        return
    share = truth_of(ws, declared).review
    if not share:
        raise ProjectError(
            f"The project asks people about no predictions of {declared.name!r}.", where=declared.place, hint="Add: project.truth(model, review='1%')"
        )
    hidden = personal_columns(ws.project.datasets.values())
    found = [
        {"prediction": p.id, "at": p.moment, "inputs": masked_row(json.loads(p.inputs), hidden)}
        for p in waiting(declared.name, share, ws.predictions, limit=limit)
    ]
    if json_:
        show.as_json(found)
        return
    if not found:
        show.say("nothing waits for a review")
    show.table(["prediction", "what was asked"], [(f["prediction"], json.dumps(f["inputs"], ensure_ascii=False)) for f in found])
