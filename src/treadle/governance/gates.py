"""Gates: each looks at the evaluation and says passed or not, why, and on which numbers. The verdict is all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from treadle.core.declare.model import Gate
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
        if e["task"] == "regression":  # plus or minus so much of the metric itself
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
}
