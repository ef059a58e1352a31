"""Gates: each looks at the evaluation and says passed or not, why, and on which numbers. The verdict is all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from treadle.core.declare.gates import Gate
from treadle.core.errors import ProjectError
from treadle.training.losses import HIGHER_IS_BETTER

Evaluation = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """What one gate says. `reason` is a sentence with the numbers; `evidence` the numbers alone."""

    gate: str
    passed: bool
    reason: str
    evidence: dict[str, Any] = field(default_factory=dict)
    waits: bool = False
    """Nothing speaks against it yet, but people are still to be asked: see `registry.conditions`."""


@dataclass(frozen=True)
class Verdict:
    """All gates together. `reasons` are those of the gates that did not pass."""

    passed: bool
    findings: list[Finding]

    @property
    def reasons(self) -> list[str]:
        return [f.reason for f in self.findings if not f.passed]

    def body(self) -> dict[str, Any]:
        """As JSON."""
        return {"passed": self.passed, "reasons": self.reasons, "findings": [asdict(f) for f in self.findings]}


def judge(gates: Sequence[Gate], evaluation: Evaluation) -> Verdict:
    """Ask every gate. Its alpha is shared among the times this test set has been read, so that trying again and again cannot pass by luck."""
    findings = [_ask(gate, evaluation) for gate in gates]
    return Verdict(all(f.passed for f in findings), findings)


def _ask(gate: Gate, evaluation: Evaluation) -> Finding:
    if gate.function is not None:
        answer = gate.function(evaluation)
        passed, reason = answer if isinstance(answer, tuple) else (answer, f"{gate.name} says {'yes' if answer else 'no'}")
        return Finding(gate.name, bool(passed), str(reason))
    if gate.name not in GATES:
        raise ProjectError(f"There is no gate {gate.name!r}.", hint=f"Gates are: {', '.join(GATES)}.")
    return GATES[gate.name](gate.options, evaluation)


def _enough_rows(options: Mapping[str, Any], e: Evaluation) -> Finding:
    least = int(options["at_least"])
    rarest = min(e["classes"]) if "classes" in e else e["rows"]
    passed = e["rows"] >= least and rarest >= max(2, least // 10 if "classes" in e else 0)
    text = f"{e['rows']:,} test rows" + (f", {rarest} of the rarest class" if "classes" in e else "")
    return Finding(
        "enough_rows", passed, text if passed else f"too few to judge: {text}, at least {least} are asked for", {"rows": e["rows"], "rarest": rarest}
    )


def _signal(options: Mapping[str, Any], e: Evaluation) -> Finding:
    p, alpha = e["shuffled_labels"]["p"], options["alpha"] / _reads(e)
    # A permutation p cannot fall below 1/(shuffles+1); a stricter level than that would refuse everything.
    passed = p <= max(alpha, 1 / (e["shuffled_labels"]["shuffles"] + 1))
    if passed:
        return Finding(
            "signal", True, f"labels shuffled {e['shuffled_labels']['shuffles']} times fit as well with p = {p:.3f}", {"p": p, "alpha": alpha}
        )
    return Finding(
        "signal",
        False,
        f"no evidence of signal: shuffled labels fit the predictions as well with p = {p:.2f} (needed: {alpha:.3g})",
        {"p": p, "alpha": alpha},
    )


def _beats(name: str, other: str) -> Callable[[Mapping[str, Any], Evaluation], Finding]:
    def ask(options: Mapping[str, Any], e: Evaluation) -> Finding:
        if other not in e["against"]:
            return Finding(name, True, f"there is no {other} yet")
        c, alpha = e["against"][other], options["alpha"] / _reads(e)
        passed = c["better_by"] > 0 and c["p"] <= max(alpha, 1 / 401)
        numbers = f"{_difference(c, other)}, 95 % interval {c['low']:+.4f} to {c['high']:+.4f}"
        if passed:
            return Finding(name, True, f"{numbers}, p = {c['p']:.3f}", {**c, "alpha": alpha})
        return Finding(
            name, False, f"does not beat the {other} beyond chance: {numbers}, p = {c['p']:.2f} (needed: {alpha:.3g})", {**c, "alpha": alpha}
        )

    return ask


def _difference(c: Mapping[str, Any], other: str) -> str:
    if abs(c["better_by"]) < 5e-5:
        return f"{c['loss']} no different from the {other}'s"
    return f"{c['loss']} {abs(c['better_by']):.4f} {'lower' if c['better_by'] > 0 else 'higher'} than the {other}'s"


def _no_worse(options: Mapping[str, Any], e: Evaluation) -> Finding:
    name = "no_worse_than_champion"
    if "champion" not in e["against"]:
        return Finding(name, True, "there is no champion yet")
    c, margin = e["against"]["champion"], options["margin"]
    passed = c["worst"] > -margin
    numbers = f"{_difference(c, 'champion')}, at worst {max(0.0, -c['worst']):.4f} higher"
    return Finding(
        name, passed, f"{numbers} (margin {margin:g})" if passed else f"may be worse than the champion: {numbers}, the margin is {margin:g}", dict(c)
    )


def _certain(options: Mapping[str, Any], e: Evaluation) -> Finding:
    # A model that always says the same has an AUC of 0.5 without any spread; its accuracy shows how little so few rows tell.
    names = [e["primary"], *(["accuracy"] if "classes" in e and e["primary"] != "accuracy" else [])]
    widest: tuple[float, str, dict[str, Any]] | None = None
    for name in names:
        metric = e["metrics"]["model"][name]
        if metric["low"] is None or metric["high"] is None or metric["value"] is None:
            return Finding("certain", False, f"{name} cannot be computed on these test rows", {})
        width = metric["high"] - metric["low"]
        if e["task"] in ("regression", "quantile"):  # in the unit of the target: plus or minus so much of the metric itself
            width /= 2 * max(abs(metric["value"]), 1e-12)
        if widest is None or width > widest[0]:
            widest = (width, name, metric)
    assert widest is not None
    width, name, metric = widest
    passed = width <= options["width"]
    text = f"{name} {metric['value']:.3f}, 95 % interval {metric['low']:.3f} to {metric['high']:.3f} on {e['rows']:,} rows"
    return Finding("certain", passed, text if passed else f"too uncertain: {text} is wider than {options['width']:g}", {"width": width, **metric})


def _calibrated(options: Mapping[str, Any], e: Evaluation) -> Finding:
    if "calibration" not in e:
        return Finding("calibrated", True, "not asked of this kind of prediction")
    error = e["calibration"]["error"]
    passed = error <= options["at_most"]
    return Finding(
        "calibrated", passed, f"expected calibration error {error:.3f}" + ("" if passed else f", more than {options['at_most']:g}"), {"error": error}
    )


def _every_slice(options: Mapping[str, Any], e: Evaluation) -> Finding:
    judged = [s for s in e["slices"] if s["rows"] >= options["rows"] and s.get("high") is not None]
    # What counts as weak depends on the metric; the doubtful end of the interval decides, so that a small slice is not condemned by chance.
    higher = e["primary"] in HIGHER_IS_BETTER
    bad = [s for s in judged if (s["high"] < options["at_least"] if higher else s["low"] > options["at_least"])]
    if not bad:
        return Finding(
            "every_slice", True, f"all {len(judged)} slices of {options['rows']}+ rows may reach {options['at_least']:g}", {"judged": len(judged)}
        )
    worst = min(bad, key=lambda s: s["high"] if higher else -s["low"])
    return Finding(
        "every_slice", False,
        f"weak on {worst['column']} = {worst['value']}: {worst['metric']} {worst['value_of_metric']:.3f} "
        f"(at best {worst['high' if higher else 'low']:.3f}) on {worst['rows']:,} rows, "
        f"{options['at_least']:g} is asked for" + (f"; and on {len(bad) - 1} more slices" if len(bad) > 1 else ""),
        {"slices": [f"{s['column']}={s['value']}" for s in bad]},
    )  # fmt: skip


def _no_leakage(options: Mapping[str, Any], e: Evaluation) -> Finding:
    if "leakage" not in e:
        return _unknown("no_leakage", "leakage was not looked for")
    found = [f for f in e["leakage"]["found"] if f["kind"] not in options["ignore"] and f["what"] not in options["known"]]
    if not found:
        noted = "".join(f"; worth a look: {n['sentence']}" for n in e["leakage"]["noted"] if n["what"] not in options["known"])
        text = f"no sign of leakage in {len(e['leakage']['looked_at'])} ways it is known to happen"
        return Finding("no_leakage", True, text + noted, {"found": []})
    more = f"; and {len(found) - 1} more" if len(found) > 1 else ""
    if found[0]["kind"] == "target":
        known = [f["what"] for f in found if f["kind"] == "target"]
        more = f" If so, declare tr.no_leakage(known={known!r}){more}"
    return Finding("no_leakage", False, f"leakage suspected ({found[0]['kind']}): {found[0]['sentence']}{more}", {"found": found})


def _better_than_luck(options: Mapping[str, Any], e: Evaluation) -> Finding:
    s = e.get("selection")
    if not s and "selection" in e.get("not_asked", {}):
        return _unknown("better_than_luck", e["not_asked"]["selection"])
    if not s:
        return Finding("better_than_luck", True, "nothing was chosen among several settings")
    passed = s["better_by"] > 0 and s["p"] <= options["alpha"]
    text = (
        f"{s['loss']} {s['expected']:.4f} ({s['low']:.4f} to {s['high']:.4f}) is to be expected of the best of {s['tried']} settings "
        f"({s['judged']} judged to the end), "
        f"{s['seen']:.4f} was seen, always saying the same gives {s['baseline']:.4f}"
    )
    return Finding("better_than_luck", passed, text if passed else f"no better than luck in choosing: {text}; p = {s['p']:.2f}", dict(s))


def _covered(options: Mapping[str, Any], e: Evaluation) -> Finding:
    if "conformal" in e.get("not_asked", {}):
        return Finding("covered", True, f"not asked: {e['not_asked']['conformal']}", {})
    if not e.get("conformal"):
        return _unknown("covered", "too few validation rows to promise an interval or a set")
    worst = min(e["conformal"], key=lambda c: c["coverage"] - c["level"])
    passed = worst["coverage"] >= worst["level"] - options["within"]
    text = f"what is promised to hold {worst['level']:.0%} of the truths holds {worst['coverage']:.1%} ({worst['low']:.1%} to {worst['high']:.1%})"
    return Finding("covered", passed, text if passed else f"covers too little: {text}", dict(worst))


def _no_weak_slice(options: Mapping[str, Any], e: Evaluation) -> Finding:
    found = e.get("worst_slices")
    if found is None:
        return _unknown("no_weak_slice", "worst slices were not looked for")
    if not found["looked_at"]:
        return _unknown("no_weak_slice", "no part of the test rows is large enough, or no feature is the same for a whole group of a ranking")
    limit = options["excess"] * (1.0 if e["task"] in ("binary", "multiclass", "ranking") else found["scale"])
    bad = [s for s in found["worst"] if s["rows"] >= options["rows"] and s["p"] <= 0.05 and s["excess"] > limit]
    if not bad:
        text = f"none of {found['looked_at']:,} parts is worse beyond chance than the model says"
        return Finding("no_weak_slice", True, text, {"worst": found["worst"][:1]})
    worst = max(bad, key=lambda s: s["excess"])
    where = " and ".join(f"{name} {value}" for name, value in worst["where"])
    return Finding(
        "no_weak_slice", False,
        f"weak where {where}: {found['measure']} {worst['excess']:.3f} (at least {worst['low']:.3f}) on {worst['rows']:,} rows, "
        f"p = {worst['p']:.2g} among {found['looked_at']:,} parts" + (f"; and {len(bad) - 1} more" if len(bad) > 1 else ""),
        {"slices": bad},
    )  # fmt: skip


def _robust(options: Mapping[str, Any], e: Evaluation) -> Finding:
    if not e.get("robustness"):
        return _unknown("robust", "robustness was not measured")
    worst: list[tuple[float, str, dict[str, Any]]] = []
    for kind, words in (("noise", "noise of {:.0%} of each number's spread"), ("missing", "{:.0%} of the values missing")):
        changes = [c for c in e["robustness"]["changes"] if c["change"] == kind]
        if options[kind] is not None and changes:
            change = max(changes, key=lambda c: c["amount"])
            worst.append((change["relative"] - options[kind], words.format(change["amount"]), change))
    over, words, change = max(worst, key=lambda w: w[0])
    text = f"{words} changes the loss by {change['relative']:+.1%}"
    return Finding("robust", over <= 0, text if over <= 0 else f"not robust: {text}, {options[change['change']]:.0%} is allowed", dict(change))


def _invariant(options: Mapping[str, Any], e: Evaluation) -> Finding:
    found = (e.get("robustness") or {}).get("invariances")
    if not found:
        return _unknown("invariant", "the model declares no invariances")
    worst = max(found, key=lambda i: i["moved"])
    passed = worst["moved"] <= options["at_most"]
    text = f"{worst['name']}, which must not matter, changes {worst['moved']:.1%} of the answers and {worst['flipped']:.1%} of the labels"
    return Finding("invariant", passed, text if passed else f"{text}; at most {options['at_most']:.1%} is allowed", dict(worst))


def _fair(options: Mapping[str, Any], e: Evaluation) -> Finding:
    if not e.get("fairness"):
        return _unknown("fair", "the model declares no protected attributes")
    judged = [a for a in e["fairness"]["attributes"] if a["judged"] >= 2 and (options["pairs"] or " x " not in a["attribute"])]
    if not judged and e["fairness"].get("not_asked"):
        return _unknown("fair", f"not asked of {e['fairness']['not_asked']}")
    if not judged:
        return _unknown("fair", f"no two groups have {e['fairness']['least']} test rows")
    bad: list[tuple[str, float, Any]] = []
    near: list[tuple[str, float, Any]] = []
    for entry in judged:
        for name, words, limit, least in (
            ("ratio", "selection rates stand in {:.2f}", options["ratio"], True),
            ("odds", "true or false positive rates differ by {:.2f}", options["odds"], False),
            ("gap", "quality differs by {:.2f}", options["gap"], False),
        ):  # fmt: skip
            if limit is None or name not in entry or entry[name]["value"] is None:
                continue
            measured = entry[name]
            doubt = measured["high" if least else "low"]
            doubt = measured["value"] if doubt is None else doubt
            text = f"{entry['attribute']}: {words.format(measured['value'])} between {' and '.join(entry['between'])} ({_span(measured)})"
            if (measured["value"] < limit) if least else (measured["value"] > limit):
                (bad if ((doubt < limit) if least else (doubt > limit)) else near).append((text, limit, entry))
    evidence = {"attributes": [{k: v for k, v in a.items() if k != "groups"} for a in judged]}
    if bad:
        more = f"; and {len(bad) - 1} more" if len(bad) > 1 else ""
        return Finding("fair", False, f"unfair beyond doubt: {bad[0][0]}, the limit is {bad[0][1]:g}{more}", evidence)
    told = f"; perhaps not for {near[0][0]}" if near else ""
    return Finding("fair", True, f"within the limits for {', '.join(a['attribute'] for a in judged)}{told}", evidence)


def _span(measured: Mapping[str, Any]) -> str:
    return "no interval" if measured["low"] is None else f"95 % interval {measured['low']:.2f} to {measured['high']:.2f}"


def _explained(options: Mapping[str, Any], e: Evaluation) -> Finding:
    terms, found = (e.get("package") or {}).get("explanation"), e.get("importance")
    if not terms or not found:
        return _unknown("explained", "this kind of model has no exact contributions" if found else "importance was not measured")
    stable = found["stability"] >= options["stable"]
    text = f"contributions add up to the answer within {terms['largest_gap']:.1g}, "
    text += f"the order of importance agrees by {found['stability']:.2f} between repeats"
    return Finding("explained", stable, text if stable else f"{text}; {options['stable']:g} is asked for", {**terms, "stability": found["stability"]})


def _fast(options: Mapping[str, Any], e: Evaluation) -> Finding:
    measured = (e.get("package") or {}).get("measured")
    if not measured:
        return _unknown("fast", "how fast it answers was not measured")
    slow = []
    for name, words, limit in (("answer", "answers", options["milliseconds"]), ("explanation", "explains", options["explanation"])):
        if name in measured and measured[name]["p99_ms"] > limit:
            slow.append(f"{words} 99 of 100 rows within {measured[name]['p99_ms']:.1f} ms, {limit:g} is allowed")
    # What was measured stands in the version; a passed gate says the limits only, so that the same model gets the same verdict.
    told = f"answers a row within {options['milliseconds']:g} ms"
    told += f" and explains it within {options['explanation']:g} ms" if "explanation" in measured else ""
    return Finding("fast", not slow, f"too slow: {'; '.join(slow)}" if slow else f"{told} (99 of 100)", {})


def _small(options: Mapping[str, Any], e: Evaluation) -> Finding:
    size = (e.get("package") or {}).get("bytes")
    if size is None:
        return _unknown("small", "the package was not measured")
    text = f"the package has {size / 1e6:.2f} MB"
    passed = size <= options["megabytes"] * 1e6
    return Finding("small", passed, text if passed else f"too large: {text}, {options['megabytes']:g} is allowed", {"bytes": size})


def _licensed(options: Mapping[str, Any], e: Evaluation) -> Finding:
    licences = (e.get("package") or {}).get("licences")
    if licences is None:
        return _unknown("licensed", "licences were not read")
    bad = {name: said for name, said in licences.items() for refused in options["refuse"] if _names(said or "unknown", refused)}
    if bad:
        first = next(iter(bad))
        more = f"; and {len(bad) - 1} more" if len(bad) > 1 else ""
        return Finding("licensed", False, f"{first} has the licence {bad[first] or 'unknown'!r}{more}", {"refused": bad})
    return Finding("licensed", True, f"the licences of {len(licences)} packages are acceptable", {"packages": len(licences)})


def _names(licence: str, refused: str) -> bool:
    """Whole words, so that LGPL is not GPL. 'A OR B' leaves the choice, so that it is refused only when both are."""
    choices = re.split(r"\s+OR\s+", licence)
    return all(re.search(rf"(?<![A-Za-z]){re.escape(refused)}(?![A-Za-z])", choice, re.IGNORECASE) for choice in choices)


def _signature(options: Mapping[str, Any], e: Evaluation) -> Finding:
    about = e.get("about")
    if about is None:
        return _unknown("signature", "the declaration is not known")
    missing = about["undeclared"]
    if missing:
        return Finding("signature", False, f"the contract does not declare {', '.join(missing)}, which a caller sends", {"undeclared": missing})
    return Finding("signature", True, f"all {about['fields']} fields a caller sends are declared", {"fields": about["fields"]})


def _carded(options: Mapping[str, Any], e: Evaluation) -> Finding:
    about = e.get("about")
    if about is None:
        return _unknown("carded", "the declaration is not known")
    missing = [words for name, words in (("owner", "an owner"), ("intended_use", "an intended use")) if not about[name].strip()]
    if not any(s.get("high") is not None for s in e["slices"]):
        missing.append("metrics on slices" if e["slices"] else "declared slices")
    if missing:
        return Finding("carded", False, f"the model card lacks {' and '.join(missing)}", {"missing": missing})
    return Finding("carded", True, "the card names owner and intended use, and has metrics with intervals on slices", {})


def _approved(options: Mapping[str, Any], e: Evaluation) -> Finding:
    people = int(options["people"])
    who = "one other person" if people == 1 else f"{people} other people"
    return Finding("approved", True, f"waits for {who} to approve it", dict(options), waits=True)


def _unknown(name: str, why: str) -> Finding:
    return Finding(name, False, f"cannot be judged: {why}", {})


def _reads(e: Evaluation) -> int:
    return max(1, int(e.get("test_reads", 1)))


GATES: dict[str, Callable[[Mapping[str, Any], Evaluation], Finding]] = {
    "enough_rows": _enough_rows,
    "signal": _signal,
    "beats_baseline": _beats("beats_baseline", "baseline"),
    "beats_champion": _beats("beats_champion", "champion"),
    "no_worse_than_champion": _no_worse,
    "certain": _certain,
    "calibrated": _calibrated,
    "every_slice": _every_slice,
    "no_leakage": _no_leakage,
    "better_than_luck": _better_than_luck,
    "covered": _covered,
    "no_weak_slice": _no_weak_slice,
    "robust": _robust,
    "invariant": _invariant,
    "fair": _fair,
    "explained": _explained,
    "fast": _fast,
    "small": _small,
    "licensed": _licensed,
    "signature": _signature,
    "carded": _carded,
    "approved": _approved,
}
