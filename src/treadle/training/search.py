"""Search: try settings of several families on the search rows only, fold by fold, and fit the best on all of them.

Optuna proposes (TPE, after each family's first setting); a setting is tried once, and given up after a fold in which it is clearly behind the
best so far. Every trial is reported as it ends.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Candidate, Task
from treadle.core.errors import DataError, TreadleError
from treadle.training import estimators
from treadle.training.losses import row_loss

MOST_ROWS = 20_000  # of a fold's training rows while searching; the winner is fitted on all
HOPELESS = 1.10  # a setting whose loss in a fold is this many times the best's of that fold is given up


@dataclass(frozen=True)
class Trial:
    """One setting that was tried. `status` is 'done', 'pruned' or 'failed'; `loss` the mean over its folds."""

    number: int
    family: str
    params: dict[str, Any]
    status: str
    loss: float | None
    fold_losses: list[float]
    seconds: float
    error: str = ""


@dataclass
class Found:
    """The winner, fitted on all search rows, with the trivial baseline fitted on the same rows, and what was tried.

    `validation`: for each fold the positions of its validation rows and what the winner's setting, fitted on that fold, said of them.
    """

    family: str
    params: dict[str, Any]
    pipeline: Any
    baseline: Any
    trials: list[Trial] = field(default_factory=list)
    validation: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)


def search(
    task: Task,
    frame: pl.DataFrame,
    truth: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]],
    numbers: list[str],
    categories: list[str],
    candidates: tuple[Candidate, ...],
    *,
    trials: int,
    seed: int,
    threads: int,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> Found:
    """Find the best setting by mean row loss over the folds.

    Args:
        frame, truth: the search rows and their targets; positions in `folds` refer to them.
        trials: how many settings to try in all, the baseline not counted.
    Raises: DataError when every setting failed.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", message=".*did not converge.*")
    guided = optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * len(candidates), multivariate=True)
    blind = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(sampler=guided)
    for candidate in candidates:
        first = {**_first(candidate)}
        study.enqueue_trial({"family": candidate.family, **{f"{candidate.family}.{k}": v for k, v in first.items()}})
    by_name = {c.family: c for c in candidates}
    done: list[Trial] = []
    tried: set[str] = set()
    best_by_fold: list[float] = []
    best: Trial | None = None
    validation: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(4 * trials + len(candidates)):
        if len(done) >= max(trials, len(candidates)):
            break
        asked = study.ask()
        family = asked.suggest_categorical("family", [c.family for c in candidates])
        params = _suggest(asked, by_name[family])
        name = repr((family, sorted(params.items())))
        if name in tried:  # the same fit again would tell nothing new
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
            study.sampler = blind  # TPE would propose the best one of a short list again and again
            continue
        study.sampler = guided
        tried.add(name)
        said: list[tuple[np.ndarray, np.ndarray]] = []
        trial = _try(len(done), by_name[family], params, task, frame, truth, folds, numbers, categories, seed, threads, best_by_fold, said)
        if trial.status == "done" and trial.loss is not None:
            study.tell(asked, trial.loss)
            if best is None or best.loss is None or trial.loss < best.loss:
                best, best_by_fold, validation = trial, trial.fold_losses, said
        elif trial.status == "pruned" and trial.fold_losses:
            study.tell(asked, float(np.mean(trial.fold_losses)))
        else:
            study.tell(asked, state=optuna.trial.TrialState.FAIL)
        done.append(trial)
        on_trial(trial)
        if _exhausted(candidates) is not None and len(tried) >= (_exhausted(candidates) or 0):
            break
    if best is None:
        reasons = "; ".join(sorted({f"{t.family}: {t.error}" for t in done if t.error}))
        raise DataError(f"None of the {len(done)} settings could be fitted: {reasons}", hint="Look at the data, or choose other candidates.")
    winner = estimators.pipeline(by_name[best.family], best.params, task, numbers, categories, seed, threads).fit(frame, truth)
    trivial = estimators.baseline(task, numbers, categories).fit(frame, truth)
    return Found(best.family, best.params, winner, trivial, done, validation)


def outputs(task: Task, fitted: Any, frame: pl.DataFrame, classes: int) -> np.ndarray:
    """Probabilities (n, classes) or predictions (n, 1) of a fitted pipeline. A class it never saw gets probability 0."""
    if task == "regression":
        return np.asarray(fitted.predict(frame), dtype=np.float64).reshape(-1, 1)
    known = np.asarray(fitted.predict_proba(frame), dtype=np.float64)
    if known.shape[1] == classes:
        return known
    full = np.zeros((known.shape[0], classes))
    full[:, np.asarray(fitted.classes_, dtype=int)] = known
    return full


def _try(
    number: int, candidate: Candidate, params: dict[str, Any], task: Task, frame: pl.DataFrame, truth: np.ndarray,
    folds: list[tuple[np.ndarray, np.ndarray]], numbers: list[str], categories: list[str], seed: int, threads: int, best: list[float],
    said: list[tuple[np.ndarray, np.ndarray]],
) -> Trial:  # fmt: skip
    begun = time.perf_counter()
    losses: list[float] = []
    classes = 0 if task == "regression" else int(truth.max()) + 1
    try:
        for i, (train, valid) in enumerate(folds):
            if len(train) > MOST_ROWS:
                train = np.sort(np.random.default_rng(seed).choice(train, MOST_ROWS, replace=False))
            fitted = estimators.pipeline(candidate, params, task, numbers, categories, seed, threads).fit(frame[train], truth[train])
            said.append((valid, outputs(task, fitted, frame[valid], classes)))
            losses.append(float(row_loss(task, truth[valid], said[-1][1]).mean()))
            if best and i + 1 < len(folds) and losses[i] > HOPELESS * best[i]:
                return Trial(number, candidate.family, params, "pruned", None, losses, time.perf_counter() - begun)
    except (KeyboardInterrupt, TreadleError):
        raise
    except Exception as error:  # an estimator may raise anything on some settings; that is a failed trial, not a failed search
        return Trial(
            number, candidate.family, params, "failed", None, losses, time.perf_counter() - begun, f"{type(error).__name__}: {str(error)[:300]}"
        )
    return Trial(number, candidate.family, params, "done", float(np.mean(losses)), losses, time.perf_counter() - begun)


def _space(candidate: Candidate) -> Mapping[str, Any]:
    if candidate.space or candidate.make is not None:
        return candidate.space
    return estimators.FAMILIES[candidate.family].space


def _first(candidate: Candidate) -> dict[str, Any]:
    if candidate.space or candidate.make is not None:
        return {}
    return dict(estimators.FAMILIES[candidate.family].first)


def _suggest(trial: Any, candidate: Candidate) -> dict[str, Any]:
    params = {}
    for name, space in _space(candidate).items():
        key = f"{candidate.family}.{name}"
        if _is_range(space):
            low, high, log = space[0], space[1], len(space) == 3 and space[2] == "log"
            integer = isinstance(low, int) and isinstance(high, int)
            params[name] = trial.suggest_int(key, low, high, log=log) if integer else trial.suggest_float(key, low, high, log=log)
        elif isinstance(space, list | tuple):
            values = list(space)
            index = values.index(trial.suggest_categorical(key, values)) if all(isinstance(v, str | int | float | bool | None) for v in values) else (
                trial.suggest_categorical(key, list(range(len(values))))
            )  # fmt: skip
            params[name] = values[index]
        else:
            params[name] = space
    return params


def _is_range(space: Any) -> bool:
    """(low, high) or (low, high, 'log'); any other tuple is a list of values."""
    return (
        isinstance(space, tuple) and (len(space) == 2 or (len(space) == 3 and space[2] == "log"))
        and all(isinstance(v, int | float) and not isinstance(v, bool) for v in space[:2])
    )  # fmt: skip


def _exhausted(candidates: tuple[Candidate, ...]) -> int | None:
    """How many settings there are in all, if they can be counted."""
    total = 0
    for candidate in candidates:
        size = 1
        for space in _space(candidate).values():
            if _is_range(space):
                return None
            size *= len(space) if isinstance(space, list | tuple) else 1
        total += size
    return total
