"""How often the tests of a rollout find something where there is nothing, and how soon where there is: by simulation, looked at all the time.

    python benchmarks/rollout.py            # about two minutes on one core
    python benchmarks/rollout.py --quick    # a tenth of the repetitions

Prints three tables: the limits of a service (each call looked at), worse answers (each day), and A/B tests (each hundred callers a side). Beside
each stands what a fixed-sample test at 5 % would say if it were looked at as often: the reason why these tests are needed.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np

from treadle.core.declare.rollout import Rollback
from treadle.serving.guard import FEWEST, judge
from treadle.serving.sequential import Sample, above_zero, differs, more_often
from treadle.serving.service import Counts

LIMITS = Rollback(errors=0.01)


def interval(hits: int, of: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    p, z = hits / of, 1.96
    middle, half = (p + z * z / 2 / of) / (1 + z * z / of), z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / 4 / of / of)
    return f"{p:.1%} ({max(0, middle - half):.1%} to {middle + half:.1%})"


def service(rng: np.random.Generator, rate: float, calls: int, alpha: float) -> tuple[int | None, bool]:
    """(after how many calls a version that fails at `rate` is thrown out, whether a z-test at 5 % looked at as often would have)."""
    failed = np.flatnonzero(rng.random(calls) < rate)
    naive, found = False, None
    for k, i in enumerate(failed, 1):
        n = int(i) + 1
        if n >= 100 and not naive:
            naive = (k / n - LIMITS.errors) / math.sqrt(LIMITS.errors * (1 - LIMITS.errors) / n) > 1.645
        if found is None and judge(LIMITS, alpha, 1, Counts(n, k)) is not None:
            found = n
    return found, naive


def worse(rng: np.random.Generator, effect: float, days: int, alpha: float) -> tuple[int | None, bool]:
    """(after how many days a version that is worse by `effect` standard deviations of a day is thrown out, whether a t-test would have)."""
    from scipy import stats

    x = rng.normal(effect, 1.0, days)
    found = next((n for n in range(3, days + 1) if above_zero(x[:n]) >= 1 / alpha), None)
    naive = any(stats.ttest_1samp(x[:n], 0, alternative="greater").pvalue <= 0.05 for n in range(3, days + 1))
    return found, naive


def ab(rng: np.random.Generator, difference: float, looks: int, alpha: float) -> tuple[int | None, bool]:
    """(after how many callers a side a difference of shares is found, whether a z-test would have)."""
    a, b = np.cumsum(rng.binomial(100, 0.3, looks)), np.cumsum(rng.binomial(100, 0.3 + difference, looks))
    found, naive = None, False
    for n in range(looks):
        sides = [Sample(100 * (n + 1), float(s[n]), float(s[n])) for s in (a, b)]
        d, error, evidence = differs(*sides, 0.02)
        naive = naive or (error > 0 and abs(d) / error > 1.96)
        if found is None and evidence >= 1 / alpha:
            found = 100 * (n + 1)
    return found, naive


def table(title: str, unit: str, cases: list[tuple[str, Callable[[], tuple[int | None, bool]]]], repeats: int) -> None:
    """One table of the cases, each simulated `repeats` times."""
    print(f"\n{title}\n\n| case | found | after ({unit}): half / 95 % | the usual test, looked at as often |\n|---|---|---|---|")
    for name, once in cases:
        outcomes = [once() for _ in range(repeats)]
        when = sorted(n for n, _ in outcomes if n is not None)
        told = f"{when[len(when) // 2]:,} / {when[int(len(when) * 0.95)]:,}" if len(when) > repeats * 0.5 else "-"
        print(f"| {name} | {interval(len(when), repeats)} | {told} | {interval(sum(n for _, n in outcomes), repeats)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    repeats = 100 if parser.parse_args().quick else 1_000
    rng = np.random.default_rng(2026)
    alpha = LIMITS.alpha
    print(f"false_alarms = {LIMITS.false_alarms:.0%}, {LIMITS.tests} tests, so {alpha:.4f} a test and stage; at least {FEWEST} failures")
    assert more_often(0, 10, 0.01) < 1
    table("Calls that fail; 1 % are allowed; 20,000 calls, each looked at", "calls", [
        (f"{rate:.1%} fail", lambda rate=rate: service(rng, rate, 20_000 if rate < 0.05 else 3_000, alpha))
        for rate in (0.005, 0.01, 0.02, 0.05, 0.2, 1.0)
    ], repeats)  # fmt: skip
    table("Worse answers; 60 days, each looked at", "days", [
        (f"worse by {effect:g} sd of a day", lambda effect=effect: worse(rng, effect, 60, alpha)) for effect in (0.0, 0.5, 1.0, 2.0, 4.0)
    ], max(100, repeats // 4))  # fmt: skip
    table("A/B, 30 % against; 20,000 callers a side, looked at after each hundred; effect=0.02", "callers a side", [
        (f"{0.3 + d:.0%}", lambda d=d: ab(rng, d, 200, 0.05)) for d in (0.0, 0.01, 0.02, 0.05)
    ], repeats)  # fmt: skip


if __name__ == "__main__":
    main()
