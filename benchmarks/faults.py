"""Injected faults on real flights: how soon each is found, and how often there is an alarm without one.

    python benchmarks/faults.py [--starts 8] [--quarters 40] [--json FILE]

A model of late arrivals is fitted on January to April and judged from June to December, a block a day, by the parts the loop uses
(`monitoring.thresholds.calibrate_watch`, `monitoring.judge.judge_block`). What is normal is measured on March to May, from fits that had not seen
those days. Each fault begins on one of several days and stays. Delay is in blocks: 1 is the first day of data with the fault. A fault counts as found
by an alarm whose kind and features are those of the fault.

Faults of data are also looked for in the newest requests, before their block is over (`monitoring.fresh`).

Without a fault two rates are told: on the months as they were, where the year itself moves on (the alarms are listed), and on drift-free quarters:
the days that normal was measured on, each week replaced by itself or a neighbouring one (local block bootstrap, Paparoditis and Politis 2002).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "examples" / "flights"), str(HERE.parent / "src")]

from sources import read_flights, read_weather  # noqa: E402

from treadle.core.declare.operations import Rate  # noqa: E402
from treadle.monitoring.aspects import Aspects, grouped  # noqa: E402
from treadle.monitoring.blocks import BlockStats, block_stats, prediction_sketches  # noqa: E402
from treadle.monitoring.calibrate import calibrate_watch  # noqa: E402
from treadle.monitoring.detectors.outliers import SHARE, Outliers  # noqa: E402
from treadle.monitoring.explain import sums_of  # noqa: E402
from treadle.monitoring.findings import Finding  # noqa: E402
from treadle.monitoring.fresh import NEWEST  # noqa: E402
from treadle.monitoring.judge import WatchState, data_quality, judge_block  # noqa: E402
from treadle.monitoring.recent import Recent, broken_in  # noqa: E402
from treadle.monitoring.sketches import Sketch, rolling, sketch_column  # noqa: E402
from treadle.monitoring.thresholds import Thresholds  # noqa: E402

DAY = 86_400_000_000
NUMBERS = ["distance", "minute", "weekday", "temp", "dewp", "wind_speed", "precip", "visib", "pressure", "origin_late"]
CATEGORIES = ["carrier", "origin", "dest"]
LABELS = [False, True]
GROUPS = ["origin"]


@dataclass(frozen=True)
class Nightly:
    every: timedelta
    false_alarms: Rate


@dataclass(frozen=True)
class Fault:
    """`change` makes the rows of a day wrong; `labels` its outcomes; `found` says whether a finding is about it."""

    name: str
    found: Callable[[Finding], bool]
    change: pl.Expr | list[pl.Expr] | None = None
    labels: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None
    scores: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None


def about(*features: str) -> Callable[[Finding], bool]:
    return lambda f: bool({name for name, _ in f.features} & set(features))


def worse(finding: Finding) -> bool:
    return finding.kind in ("quality", "calibration")


FAULTS = [
    Fault("unit change: temperature and dew point in Celsius", about("temp", "dewp"), [(pl.col(c) - 32) * 5 / 9 for c in ("temp", "dewp")]),
    Fault("null burst: 60 % of wind speeds missing", about("wind_speed"), pl.when(pl.int_range(pl.len()) % 5 > 1).then(pl.col("wind_speed"))),
    Fault("constant sensor: pressure stuck", about("pressure"), pl.lit(1013.0).alias("pressure")),
    Fault("category rename: UA becomes United", about("carrier"), pl.col("carrier").replace("UA", "United")),
    Fault("label noise: 30 % of the outcomes flipped", worse, labels=lambda y, rng: np.where(rng.random(len(y)) < 0.3, 1 - y, y)),
    Fault("scaled feature: distance times ten", about("distance"), pl.col("distance") * 10),
    Fault("silent schema change: visibility comes no more", about("visib"), pl.lit(None, pl.Float64).alias("visib")),
    Fault("scores shuffled between the rows of a day", worse, scores=lambda p, rng: p[rng.permutation(len(p))]),
    Fault("30 % of the scores shuffled", worse, scores=lambda p, rng: partly(p, rng, 0.3)),
]


def partly(p: np.ndarray, rng: np.random.Generator, share: float) -> np.ndarray:
    chosen = np.flatnonzero(rng.random(len(p)) < share)
    mixed = p.copy()
    mixed[chosen] = p[rng.permutation(chosen)]
    return mixed


def table() -> pl.DataFrame:
    """Flights with what was known at their scheduled departure."""
    flights = read_flights().filter(pl.col("late").is_not_null()).sort("scheduled_departure")
    weather = read_weather().sort("known_at").drop("observed_at", strict=False)
    rows = flights.join_asof(weather, left_on="scheduled_departure", right_on="known_at", by="origin", tolerance="3h", check_sortedness=False)
    local = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York")
    landed = flights.select("origin", at="landed_at", late=pl.col("late").cast(pl.Int64)).drop_nulls().sort("at")
    landed = landed.with_columns(total=pl.col("late").cum_sum().over("origin"), count=pl.int_range(1, pl.len() + 1).over("origin")).drop("late")
    for name, back in (("now", timedelta(0)), ("then", timedelta(hours=3))):
        asked = rows.with_columns(_at=pl.col("scheduled_departure") - back)
        joined = asked.join_asof(landed, left_on="_at", right_on="at", by="origin", check_sortedness=False)
        rows = rows.with_columns(joined["total"].alias(f"total_{name}"), joined["count"].alias(f"count_{name}"))
    return rows.with_columns(
        minute=local.dt.hour().cast(pl.Int32) * 60 + local.dt.minute(), weekday=local.dt.weekday(),
        origin_late=(pl.col("total_now") - pl.col("total_then")) / (pl.col("count_now") - pl.col("count_then")),
        day=local.dt.date(), y=pl.col("late").cast(pl.Int64), moment=pl.col("scheduled_departure").dt.epoch("us"),
    ).with_columns(pl.col("origin_late").fill_nan(None)).select([*NUMBERS, *CATEGORIES, "day", "y", "moment"])  # fmt: skip


class Model:
    """Boosted trees; categories by code, unseen ones as missing."""

    def __init__(self, rows: pl.DataFrame) -> None:
        import lightgbm

        self.codes = {c: {v: i for i, v in enumerate(sorted(rows[c].unique().drop_nulls().to_list()))} for c in CATEGORIES}
        self.model = lightgbm.LGBMClassifier(n_estimators=150, num_leaves=31, learning_rate=0.06, min_child_samples=100, n_jobs=1, verbose=-1, seed=0)
        self.model.fit(self.matrix(rows), rows["y"].to_numpy(), categorical_feature=list(range(len(NUMBERS), len(NUMBERS) + len(CATEGORIES))))

    def matrix(self, rows: pl.DataFrame) -> np.ndarray:
        numbers = [rows[c].cast(pl.Float64).fill_null(float("nan")).to_numpy() for c in NUMBERS]
        coded = [
            rows[c].replace_strict(self.codes[c], default=None, return_dtype=pl.Float64).fill_null(float("nan")).to_numpy() for c in CATEGORIES
        ]
        return np.column_stack([*numbers, *coded])

    def outputs(self, rows: pl.DataFrame) -> np.ndarray:
        return np.asarray(self.model.predict_proba(self.matrix(rows)))


@dataclass(frozen=True)
class Block:
    stats: BlockStats
    sketches: dict[str, Sketch]
    beside: Aspects

    def at(self, start: int) -> BlockStats:
        return replace(self.stats, start=start, end=start + DAY)


class Beside:
    """What is beside outcomes and columns: rows that came twice, unusual rows, groups. `limit` is measured on unseen rows."""

    def __init__(self, training: pl.DataFrame, unseen: pl.DataFrame) -> None:
        self.outliers = Outliers(columns(training))
        self.limit = float(np.quantile(self.scores(unseen), 1 - SHARE))

    def scores(self, rows: pl.DataFrame) -> np.ndarray:
        numbers = {c: rows[c].cast(pl.Float64).fill_null(float("nan")).to_numpy() for c in NUMBERS}
        return self.outliers.score({**numbers, **{c: rows[c].to_list() for c in CATEGORIES}})[0]

    def of(self, rows: pl.DataFrame, outputs: np.ndarray, y: np.ndarray) -> Aspects:
        features = rows.select([*NUMBERS, *CATEGORIES])
        sums = sums_of("binary", LABELS, {name: rows[name].to_list() for name in GROUPS}, outputs, y)
        odd = float((self.scores(rows) > self.limit).mean())
        return Aspects(rows.height, 1 - features.n_unique() / rows.height, odd, {}, *grouped(sums, GROUPS))


def columns(rows: pl.DataFrame) -> dict[str, Sketch]:
    numbers = {c: sketch_column(rows[c].cast(pl.Float64).fill_null(float("nan")).to_numpy(), "number") for c in NUMBERS}
    return {**numbers, **{c: sketch_column(rows[c].to_list(), "category") for c in CATEGORIES}}


def block(rows: pl.DataFrame, outputs: np.ndarray, y: np.ndarray, beside: Beside) -> Block:
    moments = rows["moment"].to_numpy()
    start = int(moments.min()) // DAY * DAY
    stats = block_stats("binary", LABELS, outputs, y, moments, start=start, end=start + DAY)
    return Block(stats, {**columns(rows), **prediction_sketches(LABELS, outputs)}, beside.of(rows, outputs, y))


@dataclass(frozen=True)
class Watch:
    """A watch after some blocks: its state, and the blocks of the last four weeks with what was broken in each."""

    state: WatchState = field(default_factory=WatchState)
    kept: tuple[tuple[int, Block, frozenset[str]], ...] = ()

    def after(self, start: int, one: Block, reference: dict[str, Sketch], thresholds: Thresholds) -> tuple[Watch, list[Finding]]:
        """One block more, as `monitoring.watch.judge_due` judges it."""
        clean = [{n: s for n, s in b.sketches.items() if n not in gone} for _, b, gone in self.kept]
        recent = Recent(clean, [b.stats.rows for _, b, _ in self.kept], starts=[s for s, _, _ in self.kept])
        mine = self.kept[max(0, len(self.kept) - min(6, self.state.blocks)) :]
        window = rolling([*(b.sketches for _, b, _ in mine), one.sketches], thresholds.week)
        state, findings = judge_block(
            self.state, one.at(start), one.sketches, reference, thresholds, window=window, recent=recent, aspects=one.beside
        )  # fmt: skip
        return Watch(state, (*self.kept, (start, one, broken_in(state.open)))[-28:]), findings


def faulty(rows: pl.DataFrame, fault: Fault, model: Model, rng: np.random.Generator, beside: Beside) -> Block:
    changed = rows.with_columns(fault.change) if fault.change is not None else rows
    outputs = model.outputs(changed)
    if fault.scores is not None:
        p = fault.scores(outputs[:, 1], rng)
        outputs = np.column_stack([1 - p, p])
    y = rows["y"].to_numpy()
    return block(changed, outputs, fault.labels(y, rng) if fault.labels is not None else y, beside)


def newest_requests(
    days: list[pl.DataFrame], clean: list[Block], reference: dict[str, Sketch], thresholds: Thresholds
) -> dict[str, Any]:
    """After how many broken requests the look at the newest ones (`monitoring.fresh`) tells of a fault of data; and what it tells without one."""

    def told(rows: pl.DataFrame, recent: Recent) -> list[Finding]:
        sketched = columns(rows)
        return data_quality((), BlockStats(0, 1, rows.height, 0, ()), sketched, sketched, reference, thresholds, recent)[1]

    silent, wrong, looks = 0, 0, (100, 200, 300, 400, 500)
    delays: dict[str, list[int | None]] = {f.name: [] for f in FAULTS if f.change is not None}
    for d in range(28, len(days), 2):
        recent = Recent([b.sketches for b in clean[d - 28 : d]], [b.stats.rows for b in clean[d - 28 : d]])
        for cut in (250, 500, 750):
            if cut <= days[d].height:
                found = told(pl.concat([days[d - 1].tail(NEWEST), days[d][:cut]]).tail(NEWEST), recent)
                silent, wrong = silent + (not found), wrong + bool(found)
        if d % 16 == 12:
            for fault in FAULTS:
                if fault.change is None:
                    continue
                broken = [days[d][:cut].with_columns(fault.change) for cut in looks]
                newest = [pl.concat([days[d - 1].select(b.columns).tail(NEWEST), b], how="vertical_relaxed").tail(NEWEST) for b in broken]
                delays[fault.name].append(next((n for n, rows in zip(looks, newest) if any(fault.found(f) for f in told(rows, recent))), None))
    print(f"\nthe newest {NEWEST} requests, after each hundred broken ones; of {silent + wrong} looks without a fault {wrong} told of something:")
    for name, counts in delays.items():
        print(f"  {name:55} {' '.join('-' if n is None else str(n) for n in counts)}")
    return {"delays": delays, "false": wrong, "looks": silent + wrong}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=8, help="days on which each fault begins, over June to November")
    parser.add_argument("--quarters", type=int, default=40, help="drift-free quarters")
    parser.add_argument("--after", type=int, default=14, help="days a fault is given to be found")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    begun, cpu = time.perf_counter(), time.process_time()
    rows = table()
    month = pl.col("day").dt.month()
    of = {m: rows.filter(month == m) for m in range(1, 13)}
    unseen = []
    for last in (2, 3):
        fold = Model(pl.concat([of[m] for m in range(1, last + 1)]))
        unseen.append((of[last + 1], fold))
    training = pl.concat([of[m] for m in range(1, 5)])
    model = Model(training)
    unseen.append((of[5], model))
    parts = [(day, fitted) for part, fitted in unseen for day in part.partition_by("day", maintain_order=True)]
    beside = Beside(training, pl.concat([part for part, _ in unseen]))
    normal = [block(day, fitted.outputs(day), day["y"].to_numpy(), beside) for day, fitted in parts]
    reference = {**columns(training), **prediction_sketches(LABELS, model.outputs(training))}
    watching = Nightly(timedelta(days=1), Rate(1, timedelta(days=91)))
    known = {"features": [b.sketches for b in normal], "aspects": [b.beside for b in normal]}
    thresholds = calibrate_watch([b.stats for b in normal], watching, 0, reference=reference, odd_score=beside.limit, **known)
    days = pl.concat([of[m] for m in range(6, 13)]).partition_by("day", maintain_order=True)
    clean = [block(day, model.outputs(day), day["y"].to_numpy(), beside) for day in days]
    series = [(b.stats.start, b) for b in clean]
    at = [Watch(kept=tuple((b.stats.start, b, frozenset()) for b in normal[-28:]))]  # the blocks that the version before was judged by
    natural: list[tuple[int, Finding]] = []
    for i, (start, one) in enumerate(series):
        further, findings = at[-1].after(start, one, reference, thresholds)
        at.append(further)
        natural += [(i, f) for f in findings]
    print(f"{len(normal)} days of normal, {len(clean)} days watched, {sum(b.stats.rows for b in clean) / len(clean):.0f} flights a day")
    print("\nas the year was, from June to December (no fault):")
    for i, f in natural:
        print(f"  day {i + 1:3} ({days[i]['day'][0]}) {f.kind}: {f.severity}: {f.suspected}: {f.sentence[:150]}")
    results: dict[str, Any] = {"natural": [(i, f.kind, f.metric) for i, f in natural], "faults": {}}
    print(f"\n{'fault':55} {'found':>9} {'first day':>9} {'delays':>24}  suspected")
    starts = np.linspace(20, len(clean) - given.after - 20, given.starts).astype(int)
    rng = np.random.default_rng(0)
    for fault in FAULTS:
        delays, suspected = [], Counter()
        for start in starts:
            here, delay = at[start], None
            for i, day in enumerate(days[start : start + given.after]):
                wrong = faulty(day, fault, model, rng, beside)
                here, findings = here.after(wrong.stats.start, wrong, reference, thresholds)
                hit = next((f for f in findings if fault.found(f)), None)
                if hit is not None:
                    delay = i + 1
                    suspected[hit.suspected] += 1
                    break
            delays.append(delay)
        within = sum(d is not None for d in delays)
        first = sum(d == 1 for d in delays)
        results["faults"][fault.name] = {"delays": delays, "suspected": dict(suspected)}
        shown = " ".join("-" if d is None else str(d) for d in delays)
        print(f"{fault.name:55} {within:>4} of {len(delays)} {first:>4} of {len(delays)} {shown:>24}  "
              f"{', '.join(f'{k} {n}' for k, n in suspected.most_common())}", flush=True)  # fmt: skip
    results["newest"] = newest_requests(days, clean, reference, thresholds)
    kinds: Counter[str] = Counter()
    alarms = watched = told_of = 0
    metrics: Counter[str] = Counter()
    for q in range(given.quarters):
        draw = np.random.default_rng(1_000 + q)
        weeks = [np.arange(w, w + 7) + 7 * draw.integers(-1, 2) for w in range(0, len(normal) - 6, 7)]
        positions = [int(p) for week in weeks for p in week if 0 <= p < len(normal)]
        begin = normal[0].stats.start
        here = Watch()
        for i, place in enumerate(positions):
            here, findings = here.after(begin + i * DAY, normal[place], reference, thresholds)
            told = {f.kind for f in findings}
            watched += 1
            alarms += len(told)
            told_of += bool(told)
            kinds.update(told)
            metrics.update(f.metric for f in findings)
    results["drift_free"] = {"days": watched, "alarms": alarms, "groups": told_of, "kinds": dict(kinds)}
    print(f"\ndrift-free quarters: {alarms} alarms in {watched:,} days ({alarms / watched * 91:.2f} a quarter, 1 is tolerated; "
          f"people are told {told_of} times):")  # fmt: skip
    print(f"  {dict(kinds)}, by metric {dict(metrics)}")
    results["cost"] = {"cpu": time.process_time() - cpu, "seconds": time.perf_counter() - begun}
    print(f"{results['cost']['cpu']:.0f} CPU s, {results['cost']['seconds']:.0f} s")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
