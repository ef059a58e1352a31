"""Each gate says yes or no in a sentence with the numbers it looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import treadle as tr
from treadle.core.canonical import canonical
from treadle.core.declare.gates import Gate
from treadle.core.declare.project import default_gates
from treadle.core.errors import ProjectError
from treadle.governance.gates import GATES, judge


def metric(value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def against(better_by: float, p: float) -> dict[str, Any]:
    return {"better_by": better_by, "low": better_by - 0.02, "high": better_by + 0.02, "worst": better_by - 0.015, "p": p, "loss": "log loss"}


def evaluation(**changes: Any) -> dict[str, Any]:
    """A good binary model's evaluation; `changes` reach into it by dotted name."""
    found: dict[str, Any] = {
        "task": "binary", "rows": 1200, "primary": "roc_auc", "classes": [900, 300],
        "metrics": {"model": {"roc_auc": metric(0.8, 0.75, 0.85), "accuracy": metric(0.7, 0.65, 0.75)}},
        "against": {"baseline": against(0.1, 0.0025), "champion": against(0.05, 0.01)},
        "shuffled_labels": {"p": 0.001, "shuffles": 999}, "calibration": {"error": 0.03, "curve": []},
        "slices": [
            {"column": "carrier", "value": "UA", "rows": 500, "metric": "roc_auc", "value_of_metric": 0.8, "low": 0.75, "high": 0.85},
            {"column": "carrier", "value": "HA", "rows": 20, "metric": "roc_auc"},
        ],
        "leakage": {"looked_at": ["target", "time"], "found": [], "noted": []},
        "selection": {
            "tried": 12, "judged": 9, "seen": 0.48, "expected": 0.5, "low": 0.45, "high": 0.55, "baseline": 0.56, "better_by": 0.06, "better_low": 0.02,
            "p": 0.01, "loss": "log loss",
        },
        "conformal": [{"level": 0.9, "threshold": 0.7, "coverage": 0.89, "low": 0.87, "high": 0.91, "size": 1.4}],
        "worst_slices": {"looked_at": 80, "measure": "log loss above what its own probabilities expect", "scale": 0.5, "worst": []},
        "robustness": {
            "changes": [change("noise", 0.05, 0.01), change("noise", 0.1, 0.02), change("missing", 0.2, 0.3)],
            "invariances": [{"name": "gender", "moved": 0.005, "flipped": 0.0, "largest": 0.1}],
        },
        "fairness": {"least": 50, "attributes": [group("sex", 0.9), group("sex x race", 0.85, judged=4)]},
        "importance": {"stability": 0.9, "features": []},
        "package": {
            "explanation": {"kind": "trees", "unit": "log-odds", "largest_gap": 1e-7, "rows": 50}, "bytes": 400_000, "licences": {"numpy": "BSD-3-Clause"},
            "measured": {"answer": {"p50_ms": 0.1, "p99_ms": 0.4}, "explanation": {"p50_ms": 1.0, "p99_ms": 3.0}},
        },
        "about": {"owner": "ops", "intended_use": "call standby crews", "undeclared": [], "fields": 6},
    }  # fmt: skip
    for name, value in changes.items():
        *path, last = name.split("__")
        inside = found
        for part in path:
            inside = inside[part]
        inside[last] = value
    return found


def change(kind: str, amount: float, relative: float) -> dict[str, Any]:
    return {"change": kind, "amount": amount, "loss": 0.5, "worse_by": relative / 2, "relative": relative, "moved": 0.1}


def group(attribute: str, ratio: float, judged: int = 2, low: float = 0.1) -> dict[str, Any]:
    return {
        "attribute": attribute, "judged": judged, "small": 0, "groups": [], "between": ["f", "m"], "ratio": metric(ratio, ratio - low, ratio + 0.05),
        "odds": metric(0.08, 0.04, 0.12), "parity": metric(0.05, 0.0, 0.1),
    }  # fmt: skip


def slice_found(excess: float, p: float) -> dict[str, Any]:
    return {"where": [["carrier", "= HA"], ["distance", ">= 1400"]], "rows": 220, "loss": 0.9, "expected": 0.9 - excess, "excess": excess, "low": excess - 0.05, "p": p}


SUSPECT = {"kind": "target", "what": "dep_delay", "sentence": "dep_delay alone tells the target", "evidence": {}}


def weak(value: str, high: float) -> dict[str, Any]:
    return {"column": "origin", "value": value, "rows": 300, "metric": "roc_auc", "value_of_metric": high - 0.05, "low": high - 0.1, "high": high}


CASES: list[tuple[Gate, dict[str, Any], bool, str]] = [
    (tr.enough_rows(30), {}, True, "1,200 test rows, 300 of the rarest class"),
    (tr.enough_rows(30), {"rows": 29}, False, "too few to judge: 29 test rows, 300 of the rarest class, at least 30 are asked for"),
    (tr.enough_rows(1000), {"classes": [1101, 99]}, False, "too few to judge: 1,200 test rows, 99 of the rarest class, at least 1000 are asked for"),
    (tr.enough_rows(5), {"classes": [1199, 1]}, False, "too few to judge: 1,200 test rows, 1 of the rarest class, at least 5 are asked for"),
    (tr.signal(0.01), {"shuffled_labels__p": 0.01}, True, "labels shuffled 999 times fit as well with p = 0.010"),
    (
        tr.signal(0.01), {"shuffled_labels__p": 0.3}, False,
        "no evidence of signal: shuffled labels fit the predictions as well with p = 0.30 (needed: 0.01)",
    ),
    (tr.beats_baseline(), {}, True, "log loss 0.1000 lower than the baseline's, 95 % interval +0.0800 to +0.1200, p = 0.003"),
    (
        tr.beats_baseline(), {"against__baseline": against(0.01, 0.2)}, False,
        "does not beat the baseline beyond chance: log loss 0.0100 lower than the baseline's, 95 % interval -0.0100 to +0.0300, p = 0.20 (needed: 0.05)",
    ),
    (
        tr.beats_baseline(), {"against__baseline": against(-0.01, 0.9)}, False,
        "does not beat the baseline beyond chance: log loss 0.0100 higher than the baseline's, 95 % interval -0.0300 to +0.0100, p = 0.90 (needed: 0.05)",
    ),
    (tr.beats_champion(), {}, True, "log loss 0.0500 lower than the champion's, 95 % interval +0.0300 to +0.0700, p = 0.010"),
    (tr.beats_champion(), {"against": {}}, True, "there is no champion yet"),
    (
        tr.beats_champion(0.005), {}, False,
        "does not beat the champion beyond chance: log loss 0.0500 lower than the champion's, 95 % interval +0.0300 to +0.0700, p = 0.01 (needed: 0.005)",
    ),
    (tr.no_worse_than_champion(0.005), {}, True, "log loss 0.0500 lower than the champion's, at worst 0.0000 higher (margin 0.005)"),
    (tr.no_worse_than_champion(0.02), {"against__champion": against(0.0, 0.5)}, True, "log loss no different from the champion's, at worst 0.0150 higher (margin 0.02)"),
    (tr.no_worse_than_champion(), {"against": {}}, True, "there is no champion yet"),
    (
        tr.no_worse_than_champion(0.01), {"against__champion": against(0.0, 0.5)}, False,
        "may be worse than the champion: log loss no different from the champion's, at worst 0.0150 higher, the margin is 0.01",
    ),
    (tr.certain(0.25), {}, True, "roc_auc 0.800, 95 % interval 0.750 to 0.850 on 1,200 rows"),
    (tr.certain(0.05), {}, False, "too uncertain: roc_auc 0.800, 95 % interval 0.750 to 0.850 on 1,200 rows is wider than 0.05"),
    (
        tr.certain(0.15), {"metrics__model__accuracy": metric(0.7, 0.5, 0.9)}, False,
        "too uncertain: accuracy 0.700, 95 % interval 0.500 to 0.900 on 1,200 rows is wider than 0.15",
    ),
    (tr.certain(), {"metrics__model__roc_auc": metric(None, None, None)}, False, "roc_auc cannot be computed on these test rows"),
    (tr.calibrated(0.05), {}, True, "expected calibration error 0.030"),
    (tr.calibrated(0.02), {}, False, "expected calibration error 0.030, more than 0.02"),
    (tr.every_slice(0.6), {}, True, "all 1 slices of 200+ rows may reach 0.6"),
    (
        tr.every_slice(0.6), {"slices": [weak("EWR", 0.55)]}, False,
        "weak on origin = EWR: roc_auc 0.500 (at best 0.550) on 300 rows, 0.6 is asked for",
    ),
    (
        tr.every_slice(0.6), {"slices": [weak("EWR", 0.55), weak("JFK", 0.5), weak("LGA", 0.7)]}, False,
        "weak on origin = JFK: roc_auc 0.450 (at best 0.500) on 300 rows, 0.6 is asked for; and on 1 more slices",
    ),
    (tr.every_slice(0.6, rows=500), {"slices": [weak("EWR", 0.55)]}, True, "all 0 slices of 500+ rows may reach 0.6"),
    (tr.better_than_luck(), {"not_asked": {"selection": "fewer than ten blocks"}, "selection": None}, False, "cannot be judged: fewer than ten blocks"),
    (tr.no_leakage(), {}, True, "no sign of leakage in 2 ways it is known to happen"),
    (tr.no_leakage(), {"leakage__found": [SUSPECT]}, False, "leakage suspected (target): dep_delay alone tells the target If so, declare tr.no_leakage(known=['dep_delay'])"),
    (tr.no_leakage(known="dep_delay"), {"leakage__found": [SUSPECT]}, True, "no sign of leakage in 2 ways it is known to happen"),
    (tr.no_leakage(ignore=["target"]), {"leakage__found": [SUSPECT]}, True, "no sign of leakage in 2 ways it is known to happen"),
    (
        tr.better_than_luck(), {}, True,
        "log loss 0.5000 (0.4500 to 0.5500) is to be expected of the best of 12 settings (9 judged to the end), 0.4800 was seen, always saying the same gives 0.5600",
    ),
    (tr.better_than_luck(), {"selection": None}, True, "nothing was chosen among several settings"),
    (
        tr.better_than_luck(), {"selection__p": 0.3}, False,
        "no better than luck in choosing: log loss 0.5000 (0.4500 to 0.5500) is to be expected of the best of 12 settings (9 judged to the end), 0.4800 was seen, "
        "always saying the same gives 0.5600; p = 0.30",
    ),
    (tr.covered(0.05), {}, True, "what is promised to hold 90% of the truths holds 89.0% (87.0% to 91.0%)"),
    (tr.covered(0.005), {}, False, "covers too little: what is promised to hold 90% of the truths holds 89.0% (87.0% to 91.0%)"),
    (tr.covered(), {"conformal": []}, False, "cannot be judged: too few validation rows to promise an interval or a set"),
    (tr.no_weak_slice(), {}, True, "none of 80 parts is worse beyond chance than the model says"),
    (tr.no_weak_slice(0.1), {"worst_slices__worst": [slice_found(0.05, 0.001), slice_found(0.3, 0.2)]}, True, "none of 80 parts is worse beyond chance than the model says"),
    (
        tr.no_weak_slice(0.1), {"worst_slices__worst": [slice_found(0.3, 0.001)]}, False,
        "weak where carrier = HA and distance >= 1400: log loss above what its own probabilities expect 0.300 (at least 0.250) on 220 rows, "
        "p = 0.001 among 80 parts",
    ),
    (tr.robust(), {}, True, "noise of 10% of each number's spread changes the loss by +2.0%"),
    (tr.robust(missing=0.2), {}, False, "not robust: 20% of the values missing changes the loss by +30.0%, 20% is allowed"),
    (tr.invariant(), {}, True, "gender, which must not matter, changes 0.5% of the answers and 0.0% of the labels"),
    (tr.invariant(0.001), {}, False, "gender, which must not matter, changes 0.5% of the answers and 0.0% of the labels; at most 0.1% is allowed"),
    (tr.invariant(), {"robustness__invariances": []}, False, "cannot be judged: the model declares no invariances"),
    (tr.fair(), {}, True, "within the limits for sex, sex x race"),
    (
        tr.fair(), {"fairness__attributes": [group("sex", 0.6)]}, False,
        "unfair beyond doubt: sex: selection rates stand in 0.60 between f and m (95 % interval 0.50 to 0.65), the limit is 0.8",
    ),
    (
        tr.fair(), {"fairness__attributes": [group("sex", 0.78)]}, True,
        "within the limits for sex; perhaps not for sex: selection rates stand in 0.78 between f and m (95 % interval 0.68 to 0.83)",
    ),
    (
        tr.fair(ratio=None, odds=0.03), {"fairness__attributes": [group("sex", 0.5)]}, False,
        "unfair beyond doubt: sex: true or false positive rates differ by 0.08 between f and m (95 % interval 0.04 to 0.12), the limit is 0.03",
    ),
    (tr.fair(pairs=False), {"fairness__attributes": [group("sex", 0.9), group("sex x race", 0.4)]}, True, "within the limits for sex"),
    (tr.fair(), {"fairness": None}, False, "cannot be judged: the model declares no protected attributes"),
    (tr.explained(), {}, True, "contributions add up to the answer within 1e-07, the order of importance agrees by 0.90 between repeats"),
    (
        tr.explained(0.95), {}, False,
        "contributions add up to the answer within 1e-07, the order of importance agrees by 0.90 between repeats; 0.95 is asked for",
    ),
    (tr.explained(), {"package__explanation": None}, False, "cannot be judged: this kind of model has no exact contributions"),
    (tr.fast(20), {}, True, "answers a row within 20 ms and explains it within 100 ms (99 of 100)"),
    (tr.fast(0.3), {}, False, "too slow: answers 99 of 100 rows within 0.4 ms, 0.3 is allowed"),
    (tr.small(50), {}, True, "the package has 0.40 MB"),
    (tr.small(0.1), {}, False, "too large: the package has 0.40 MB, 0.1 is allowed"),
    (tr.licensed(), {}, True, "the licences of 1 packages are acceptable"),
    (tr.licensed(), {"package__licences": {"a": "LGPL-3.0", "b": "GPL-3.0 OR MIT"}}, True, "the licences of 2 packages are acceptable"),
    (tr.licensed(), {"package__licences": {"a": "MIT", "b": "GPL-3.0-only", "c": ""}}, False, "b has the licence 'GPL-3.0-only'; and 1 more"),
    (tr.signature(), {}, True, "all 6 fields a caller sends are declared"),
    (tr.signature(), {"about__undeclared": ["seats", "meal"]}, False, "the contract does not declare seats, meal, which a caller sends"),
    (tr.carded(), {}, True, "the card names owner and intended use, and has metrics with intervals on slices"),
    (tr.carded(), {"about__owner": " ", "slices": []}, False, "the model card lacks an owner and declared slices"),
    (tr.approved(2), {}, True, "waits for 2 other people to approve it"),
]  # fmt: skip


@pytest.mark.parametrize(("gate", "changes", "passed", "sentence"), CASES, ids=[f"{c[0].name}-{'yes' if c[2] else 'no'}-{i}" for i, c in enumerate(CASES)])
def test_it_says_so_with_its_numbers(gate: Gate, changes: dict[str, Any], passed: bool, sentence: str) -> None:
    verdict = judge([gate], evaluation(**changes))
    (finding,) = verdict.findings
    assert (finding.gate, finding.passed, finding.reason) == (gate.name, passed, sentence)
    assert (verdict.passed, verdict.reasons) == (passed, [] if passed else [sentence])
    canonical(verdict.body())  # can be recorded as it is


def test_every_gate_that_can_be_declared_has_been_asked_both_ways() -> None:
    assert {c[0].name for c in CASES if c[2]} == {c[0].name for c in CASES if not c[2]} | {"approved"} == set(GATES)  # people are asked later
    assert {g.name for g in default_gates()} <= set(GATES)


def test_a_number_is_judged_by_its_relative_width_and_asked_for_no_calibration() -> None:
    found = evaluation(task="regression", primary="mae", metrics={"model": {"mae": metric(10.0, 9.0, 11.0)}})
    del found["classes"], found["calibration"]
    findings = {f.gate: f for f in judge([tr.certain(0.25), tr.certain(0.1), tr.calibrated(), tr.enough_rows()], found).findings}
    assert findings["calibrated"].reason == "not asked of this kind of prediction"
    assert findings["enough_rows"].reason == "1,200 test rows"
    assert [f.passed for f in judge([tr.certain(0.1), tr.certain(0.09)], found).findings] == [True, False]  # plus or minus a tenth


def test_one_refusal_refuses_and_all_reasons_are_told() -> None:
    verdict = judge(default_gates(), evaluation(rows=10, shuffled_labels__p=0.5))
    assert not verdict.passed
    assert [f.gate for f in verdict.findings if not f.passed] == ["enough_rows", "signal"]
    assert len(verdict.reasons) == 2
    assert judge(default_gates(), evaluation()).passed
    assert judge([], evaluation()).passed


def test_a_project_may_add_a_condition_of_its_own() -> None:
    def cheap_enough(e: Mapping[str, Any]) -> Any:
        return e["rows"] < 2000, f"{e['rows']} rows cost less than a lunch"

    def never(e: Mapping[str, Any]) -> bool:
        return False

    verdict = judge([tr.gate(cheap_enough), tr.gate(never)], evaluation())
    assert [(f.gate, f.passed, f.reason) for f in verdict.findings] == [
        ("cheap_enough", True, "1200 rows cost less than a lunch"), ("never", False, "never says no"),
    ]  # fmt: skip


def test_a_gate_nobody_knows_is_refused_with_those_there_are() -> None:
    with pytest.raises(ProjectError, match="There is no gate 'luck'") as caught:
        judge([Gate("luck")], evaluation())
    assert "enough_rows, signal" in (caught.value.hint or "")


def test_looking_again_and_again_at_one_test_set_asks_for_more_each_time() -> None:
    """The level is shared among the reads: what passes at first sight does not at the tenth."""
    look = {reads: judge([tr.signal(0.01), tr.beats_baseline(0.05)], evaluation(test_reads=reads, shuffled_labels__p=0.004, against__baseline=against(0.1, 0.02)))
            for reads in (1, 2, 3, 10)}  # fmt: skip
    assert [[f.passed for f in look[reads].findings] for reads in (1, 2, 3, 10)] == [[True, True], [True, True], [False, False], [False, False]]
    assert "(needed: 0.001)" in look[10].reasons[0]
    assert "(needed: 0.005)" in look[10].reasons[1]


@given(st.integers(1, 50), st.floats(0.0005, 1), st.floats(0.0005, 1), st.floats(-1, 1))
def test_more_reads_never_make_a_gate_easier(reads: int, p: float, q: float, better_by: float) -> None:
    gates = [tr.signal(), tr.beats_baseline(), tr.beats_champion()]
    changes = {"shuffled_labels__p": p, "against": {"baseline": against(better_by, q), "champion": against(better_by, p)}}
    first, later = (judge(gates, evaluation(test_reads=n, **changes)) for n in (reads, reads + 1))
    assert all(a.passed or not b.passed for a, b in zip(first.findings, later.findings, strict=True))
