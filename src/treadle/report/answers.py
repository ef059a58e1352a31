"""The four questions of whoever has to decide, answered from the figures: is it worth it, is it safe, who approved it, what would stop it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.report.show import count, interval, metric, number, percent, seconds, signed

Answer = dict[str, Any]


def answers(d: Mapping[str, Any]) -> list[Answer]:
    """Each with a verdict of a few words, its tone ('good', 'look', 'bad', 'plain') and sentences."""
    return [_worth(d), _safe(d), _approved(d), _stops(d)]


def state(d: Mapping[str, Any]) -> tuple[str, str]:
    """(words, tone): how the model stands."""
    deployment = d["deployment"]
    if deployment is not None:
        if deployment["stage"] == "stopped":
            return "Stopped: nothing answers", "bad"
        beside = {"shadow": f", version {deployment['challenger']} in shadow", "canary": f", version {deployment['challenger']} as canary"}
        return f"In production: version {deployment['champion']}{beside.get(deployment['stage'], '')}", "good"
    if not d["versions"]:
        return "Nothing trained yet", "plain"
    if not d["versions"][-1]["passed"]:
        return "Refused: not in production", "bad"
    return f"Version {d['versions'][-1]['number']} approved, not deployed", "look"


def _answer(question: str, verdict: str, tone: str, lines: list[str]) -> Answer:
    return {"question": question, "verdict": verdict, "tone": tone, "lines": lines}


def _worth(d: Mapping[str, Any]) -> Answer:
    question = "Is it worth it?"
    if not d["evaluations"]:
        return _answer(question, "Not known yet", "plain", ["No version has been evaluated."])
    if d["deployment"] is None and not d["evaluations"][0]["passed"]:
        return _answer(question, "No evidence that it is", "bad", d["versions"][-1]["reasons"][:3])
    earned = d["production"]
    if earned and earned["totals"]:
        return _earned(question, earned)
    e = d["evaluations"][0]
    return _answer(question, "It promises to be", "look", [*_promised(e), "No outcome has come back from production yet."])


def _promised(e: Mapping[str, Any]) -> list[str]:
    first = e["metrics"][0]
    lines = [f"{metric(first['name'])} {number(first['model']['value'])} ({interval(first['model'])}) on {count(e['rows'])} rows no search has seen."]
    against = e["against"].get("baseline")
    if against:
        side = "lower" if against["better_by"] > 0 else "higher"
        lines.append(f"{against['loss'].capitalize()} {number(abs(against['better_by']), 4)} {side} than the baseline's ({e['baseline']}).")
    return lines


def _earned(question: str, earned: Mapping[str, Any]) -> Answer:
    totals, loss = earned["totals"], earned["loss"]
    lines = []
    constant, value = earned["constant"], totals["loop"][loss]
    tone, verdict = "good", "Yes"
    if constant is not None:
        better = value < constant
        tone, verdict = ("good", "Yes, it predicts") if better else ("bad", "No")
        lines.append(
            f"On {count(totals['compared'])} outcomes: {metric(loss)} {number(value)}, "
            f"{'less' if better else 'not less'} than the {number(constant)} of always saying the true shares."
        )
    else:
        lines.append(f"On {count(totals['compared'])} outcomes: {metric(loss)} {number(value)}.")
    primary = earned["primary"]
    gain = totals["better_by"][primary]
    if totals["answering"] == [earned["frozen"]]:
        lines.append("The first version still answers, so there is no retraining to judge.")
        return _answer(question, verdict, tone, lines)
    numbers = f"{metric(primary)} {number(totals['loop'][primary])} against {number(totals['frozen'][primary])} of the frozen first version"
    spread = f"difference {signed(gain['value'])}" + (
        f", 95 % interval {signed(gain['low'])} to {signed(gain['high'])}" if gain["low"] is not None else ", too few days for an interval"
    )
    lines.append(f"{numbers}: {spread}.")
    if gain["low"] is None:
        said = "Whether retraining paid cannot be told yet."
    elif gain["low"] > 0:
        said = "Retraining made it better beyond chance."
    elif gain["high"] < 0:
        said, tone, verdict = "Retraining made it worse beyond chance.", "bad", "Retraining did harm"
    else:
        said = "So far retraining has neither helped nor hurt beyond chance."
        verdict, tone = (f"{verdict}; retraining unproven" if verdict.startswith("Yes") else verdict), tone
    return _answer(question, verdict, tone, [*lines, said])


def _safe(d: Mapping[str, Any]) -> Answer:
    question = "Is it safe?"
    if not d["evaluations"]:
        return _answer(question, "Not known yet", "plain", ["No version has been evaluated."])
    e = d["evaluations"][0]
    passed = sum(g["passed"] for g in e["gates"])
    lines = [f"Version {e['version']} passed {passed} of {len(e['gates'])} gates."]
    version = next(v for v in d["versions"] if v["number"] == e["version"])
    parity = version["parity"]
    lines.append(
        f"Served and trained models agree on {count(parity['rows'])} rows: largest difference {number(parity['largest_difference'])}, "
        f"{count(parity['labels_changed'])} labels changed."
    )
    aside = sum(v["quarantined"] for v in d["data"])
    lines.append(f"{count(aside)} rows broke the data contract and were set aside.")
    opened = [a for a in d["alarms"] if a["status"] == "open"]
    if opened:
        kinds = ", ".join(sorted({a["kind"].replace("_", " ") for a in opened}))
        lines.append(f"{len(opened)} alarm{'s are' if len(opened) > 1 else ' is'} open: {kinds}.")
    if not d["audit"]["whole"]:
        return _answer(question, "The record was changed", "bad", [f"The audit log breaks at entry {d['audit']['broken_at']}.", *lines])
    if d["deployment"] is None:
        verdict, tone = ("Nothing is exposed", "plain") if not e["passed"] else ("Not exposed yet", "plain")
        return _answer(question, verdict, tone, [*lines, "Nobody is answered by it."])
    if not e["passed"]:
        return _answer(question, "No", "bad", lines)
    if any(a["severity"] == "high" for a in opened):
        return _answer(question, f"Look at {len(opened)} open alarm{'s' if len(opened) > 1 else ''}", "look", lines)
    return _answer(question, "Yes" if not opened else "Yes, with alarms open", "good" if not opened else "look", lines)


def _approved(d: Mapping[str, Any]) -> Answer:
    question = "Who approved it?"
    owner = d["project"]["owner"] or "nobody"
    if d["deployment"] is None:
        refused = d["versions"] and not d["versions"][-1]["passed"]
        reasons = "Its gates refused it, and only evidence can change that." if refused else "Nothing was deployed."
        return _answer(question, "Nobody", "plain", [reasons, f"{owner} answers for the project."])
    champion = d["deployment"]["champion"]
    lines = []
    verdict = "Not recorded"
    for entry in d["timeline"]:
        if entry["kind"] in ("deployment.started", "deployment.promoted"):
            by = "the declared rules" if entry["actor"] == "treadle" else entry["actor"]
            lines.append(f"{entry['at'][:10]}: {entry['text'].partition(':')[0]}, by {by}.")
            if entry["version"] == champion:
                verdict = f"Version {champion}: {by}"
    shown = lines if len(lines) <= 3 else [lines[0], f"({len(lines) - 2} changes between)", lines[-1]]
    return _answer(question, verdict, "plain", [*shown, f"{owner} answers for the project."])


def _stops(d: Mapping[str, Any]) -> Answer:
    question, model = "What would stop it?", d["model"]
    refused = sum(not v["passed"] for v in d["versions"])
    thrown = sum(e["kind"] == "deployment.rejected" for e in d["timeline"])
    lines = [f"Gates: {len(model['gates'])} must pass before anything answers; {refused} of {len(d['versions'])} versions were refused."]
    deployment = d["deployment"]
    if deployment is None:
        return _answer(question, "Its gates" + (" did" if refused else ""), "plain", lines)
    lines.append(
        f"A challenger that is worse in {seconds(deployment['shadow_seconds'])} of shadow or {seconds(deployment['canary_seconds'])} at "
        f"{percent(deployment['canary_share'])} of the requests is thrown out ({thrown} so far)."
    )
    if model["watched"]:
        lines.append(f"A watch judges every block ({count(len(d['blocks']))} so far); {' and '.join(model['retrains_on']) or 'no'} alarms retrain.")
    previous = deployment["previous"]
    lines.append(f"By hand: treadle stop {model['name']} --kill" + (f"; treadle rollback goes back to version {previous[-1]}." if previous else "."))
    return _answer(question, "Gates, rollout, watch, and you" if model["watched"] else "Gates, rollout, and you", "plain", lines)
