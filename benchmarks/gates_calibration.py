"""Are the default gates calibrated? 200 data sets of noise, of which at most 5 % may pass, and 200 with a real signal, of which 90 % must.

Noise is of the construction kind (the published case study): columns of random integers from 1 to 99, sometimes a category, a label that has
nothing to do with them; 60 to 2,000 rows, 10 to 50 % of the rarer class, one to six columns, and sometimes the published mistake of scaling before
the split. Signal is made the same way, with a label that depends on one column so that the best possible ROC-AUC is STRENGTH, and with RARER rows
of the rarer class: that is the stated minimum strength, and every one of these sets has no more than it. Every set goes the whole way: target,
split, search over three families, one look at the test rows, leakage, gates.

    python benchmarks/gates_calibration.py [--sets 200] [--jobs 2] [--kind noise|signal] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import polars as pl

STRENGTH = 0.75  # ROC-AUC of the best possible answer
RARER = 400  # rows of the rarer class
SIZES, SHARES = (60, 100, 200, 500, 1000, 2000), (0.5, 0.35, 0.2, 0.1)
FAMILIES, TRIALS = ("logistic", "forest", "lightgbm"), 4


def noise(seed: int) -> tuple[dict[str, Any], np.ndarray, dict[str, Any]]:
    """(columns, target, how it was made)."""
    rng = np.random.default_rng([1, seed])
    n, share, width = int(rng.choice(SIZES)), float(rng.choice(SHARES)), int(rng.integers(1, 7))
    columns = _columns(rng, n, width)
    scaled = rng.uniform() < 0.1
    if scaled:
        columns = {k: (v - v.mean()) / v.std() if v.dtype.kind == "f" else v for k, v in columns.items()}
    target = np.zeros(n, dtype=int)
    target[rng.choice(n, max(4, round(share * n)), replace=False)] = 1
    return columns, target, {"rows": n, "share": share, "columns": width, "scaled": bool(scaled)}


def signal(seed: int) -> tuple[dict[str, Any], np.ndarray, dict[str, Any]]:
    """A label that depends on one column, so that the best possible ROC-AUC is STRENGTH."""
    rng = np.random.default_rng([3, seed])
    share = float(rng.choice(SHARES))
    n, width = round(RARER / share), int(rng.integers(1, 7))
    columns = _columns(rng, n, width)
    score = (columns["c0"] - 50) / 28.6
    target = np.zeros(n, dtype=int)
    target[np.argsort(-(score + _spread() * rng.logistic(size=n)), kind="stable")[: round(share * n)]] = 1
    return columns, target, {"rows": n, "share": share, "columns": width, "best_auc": _auc(target, columns["c0"])}


def _spread() -> float:
    """Of the noise on the score, so that the ROC-AUC of the score itself is STRENGTH (found by bisection on a large sample)."""
    if not hasattr(_spread, "found"):
        rng = np.random.default_rng(0)
        score, luck = (rng.integers(1, 100, 40_000) - 50) / 28.6, rng.logistic(size=40_000)
        low, high = 0.1, 5.0
        for _ in range(25):
            middle = (low + high) / 2
            target = np.zeros(40_000, dtype=int)
            target[np.argsort(-(score + middle * luck))[:20_000]] = 1
            low, high = (middle, high) if _auc(target, score) > STRENGTH else (low, middle)
        _spread.found = low  # type: ignore[attr-defined]
    return float(_spread.found)  # type: ignore[attr-defined]


def _auc(target: np.ndarray, score: np.ndarray) -> float:
    from treadle.training.losses import auc

    return auc(target, score)


def _columns(rng: np.random.Generator, n: int, width: int) -> dict[str, Any]:
    found: dict[str, Any] = {f"c{i}": rng.integers(1, 100, n).astype(float) for i in range(width)}
    if width > 2 and rng.uniform() < 0.5:
        found["trade"] = rng.choice(["concrete", "steel", "roof", "glass"], n)
    return found


def judged(asked: tuple[str, int]) -> dict[str, Any]:
    """One set, the whole way to its verdict."""
    from threadpoolctl import threadpool_limits

    import treadle as tr
    from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
    from treadle.governance.gates import judge
    from treadle.training.evaluate import evaluate
    from treadle.training.leakage import Looked, suspects
    from treadle.training.search import outputs, search
    from treadle.training.split import split
    from treadle.training.target import target_of

    kind, seed = asked
    columns, target, made = (noise if kind == "noise" else signal)(seed)
    n = len(target)
    project = tr.Project("calibration")
    rows_of = project.dataset("rows", source=tr.rows(list), key="id")
    model = project.model(
        "m", rows=rows_of, target="y", inputs=list(columns), candidates=[tr.candidate(f) for f in FAMILIES], split=tr.at_random(folds=3),
        trials=TRIALS, positive=1, seed=seed,
    )  # fmt: skip
    nothing = pl.Series([None] * n, dtype=pl.Datetime("us", "UTC"))
    rows = pl.DataFrame({KEY: [str(i) for i in range(n)], MOMENT: nothing, KNOWN: nothing, TARGET: target, **columns})
    asked_for = target_of(model, rows)
    parts = split(model, rows, asked_for)
    numbers, words = ([c for c in columns if rows.schema[c] == t] for t in (pl.Float64, pl.String))
    frame, test = rows[parts.search], rows[parts.test]
    with threadpool_limits(1):
        found = search(
            "binary", frame.select(numbers + words), asked_for.codes(frame[TARGET]), parts.folds, numbers, words, model.candidates, trials=TRIALS,
            seed=seed, threads=1,
        )  # fmt: skip
        said = {
            name: outputs("binary", fitted, test.select(numbers + words), 2)
            for name, fitted in (("model", found.pipeline), ("baseline", found.baseline))
        }
        evaluation = evaluate("binary", asked_for.codes(test[TARGET]), said, parts.blocks, {}, seed)
        leaks = suspects(Looked("binary", rows, parts.search, parts.test, asked_for.codes(rows[TARGET]), numbers, words, "random", seed))
    verdict = judge(model.gates, {**evaluation, "leakage": leaks})
    return {"kind": kind, "seed": seed, **made, "passed": verdict.passed, "failed": [f.gate for f in verdict.findings if not f.passed],
            "auc": evaluation["metrics"]["model"]["roc_auc"]["value"], "leaks": sorted({f["kind"] for f in leaks["found"]})}  # fmt: skip


def wilson(passed: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    z, p = 1.96, passed / of
    middle, half = (p + z * z / 2 / of) / (1 + z * z / of), z / (1 + z * z / of) * np.sqrt(p * (1 - p) / of + z * z / 4 / of / of)
    return float(middle - half), float(middle + half)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--kind", choices=["noise", "signal"], help="only one of the two")
    parser.add_argument("--json", metavar="FILE", default="")
    given = parser.parse_args()
    begun, ok = time.perf_counter(), True
    told: dict[str, Any] = {}
    for kind in [given.kind] if given.kind else ["noise", "signal"]:
        with ProcessPoolExecutor(given.jobs) as pool:
            results = list(pool.map(judged, [(kind, seed) for seed in range(given.sets)], chunksize=4))
        passed = sum(r["passed"] for r in results)
        low, high = wilson(passed, given.sets)
        good = passed <= 0.05 * given.sets if kind == "noise" else passed >= 0.9 * given.sets
        ok &= good
        print(f"{kind:>6}: {passed} of {given.sets} would be promoted ({passed / given.sets:.1%}, 95 % interval {low:.1%} to {high:.1%}); "
              f"{'as it must be' if good else 'NOT as it must be'}")  # fmt: skip
        counts = {gate: sum(gate in r["failed"] for r in results) for gate in sorted({g for r in results for g in r["failed"]})}
        print("        refused by " + ", ".join(f"{gate} {count}" for gate, count in sorted(counts.items(), key=lambda c: -c[1])))
        print(f"        best test ROC-AUC among them {max(r['auc'] for r in results):.3f}, lowest {min(r['auc'] for r in results):.3f}")
        told[kind] = {"passed": passed, "of": given.sets, "low": low, "high": high, "refused_by": counts, "sets": results}
    print(f"{time.perf_counter() - begun:.0f} s")
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=1)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
