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


@dataclass(frozen=True)
class Rows:
    """What all trials of a search share: the search rows, their targets and folds, and how a pipeline is made of them."""

    task: Task
    frame: pl.DataFrame
    truth: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    numbers: list[str]
    categories: list[str]
    seed: int
    threads: int


@dataclass(frozen=True)
class Asked:
    """A setting to try. `best`: the losses of the best setting so far, fold by fold, for giving up early."""

    number: int
    candidate: Candidate
    params: dict[str, Any]
    best: list[float]


Tried = tuple[Trial, list[tuple[np.ndarray, np.ndarray]]]


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
    losses: dict[int, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    """Of each finished trial, by its number: for each fold the positions of its validation rows and their losses (float32)."""


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
    at_once: int = 1,
    each: Callable[[Callable[[Rows, Asked], Tried], Rows, list[Asked]], list[Tried]] | None = None,
) -> Found:
    """Find the best setting by mean row loss over the folds.

    Args:
        frame, truth: the search rows and their targets; positions in `folds` refer to them.
        trials: how many settings to try in all, the baseline not counted.
        at_once: how many settings are proposed before the first of them is judged. The same number finds the same model wherever they are tried.
        each: tries some settings, on other machines for example, and returns what came of each in order; one after the other here if not given.
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
    losses: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
    rows = Rows(task, frame, truth, folds, numbers, categories, seed, threads)
    left, all_of_them, proposals = max(trials, len(candidates)), _exhausted(candidates), 4 * trials + len(candidates)
    while left > 0 and proposals > 0 and (all_of_them is None or len(tried) < all_of_them):
        asked: list[tuple[Any, Asked]] = []
        while len(asked) < min(at_once, left) and proposals > 0 and (all_of_them is None or len(tried) < all_of_them):
            proposals -= 1
            proposed = study.ask()
            family = proposed.suggest_categorical("family", [c.family for c in candidates])
            params = _suggest(proposed, by_name[family])
            name = repr((family, sorted(params.items())))
            if name in tried:  # the same fit again would tell nothing new
                study.tell(proposed, state=optuna.trial.TrialState.FAIL)
                study.sampler = blind  # TPE would propose the best one of a short list again and again
                continue
            study.sampler = guided
            tried.add(name)
            asked.append((proposed, Asked(len(done) + len(asked), Candidate(family, {}, by_name[family].make), params, list(best_by_fold))))
        wanted = [a for _, a in asked]
        for (proposed, _), (trial, said) in zip(asked, each(try_one, rows, wanted) if each else (try_one(rows, a) for a in wanted)):
            if trial.status == "done" and trial.loss is not None:
                study.tell(proposed, trial.loss)
                losses[trial.number] = [(valid, row_loss(task, truth[valid], output).astype(np.float32)) for valid, output in said]
                if best is None or best.loss is None or trial.loss < best.loss:
                    best, best_by_fold, validation = trial, trial.fold_losses, said
            elif trial.status == "pruned" and trial.fold_losses:
                study.tell(proposed, float(np.mean(trial.fold_losses)))
            else:
                study.tell(proposed, state=optuna.trial.TrialState.FAIL)
            left -= 1
            done.append(trial)
            on_trial(trial)
    if best is None:
        reasons = "; ".join(sorted({f"{t.family}: {t.error}" for t in done if t.error}))
        raise DataError(f"None of the {len(done)} settings could be fitted: {reasons}", hint="Look at the data, or choose other candidates.")
    winner = estimators.pipeline(by_name[best.family], best.params, task, numbers, categories, seed, threads).fit(frame, truth)
    trivial = estimators.baseline(task, numbers, categories).fit(frame, truth)
    return Found(best.family, best.params, winner, trivial, done, validation, losses)


def outputs(task: Task, fitted: Any, frame: pl.DataFrame, classes: int) -> np.ndarray:
    """Probabilities (n, classes) or predictions (n, 1) of a fitted pipeline. A class it never saw gets probability 0."""
    model = fitted[-1]
    if any(kind.__module__ == "sklearn.ensemble._forest" for kind in type(model).__mro__):
        model.n_jobs = 1  # several threads add up the trees in the order in which they are done, and every run gives other last digits
    if task == "regression":
        return np.asarray(fitted.predict(frame), dtype=np.float64).reshape(-1, 1)
    known = np.asarray(fitted.predict_proba(frame), dtype=np.float64)
    if known.shape[1] == classes:
        return known
    full = np.zeros((known.shape[0], classes))
    full[:, np.asarray(fitted.classes_, dtype=int)] = known
    return full


def try_one(rows: Rows, asked: Asked) -> Tried:
    """Fit a setting fold by fold; returns the trial, and for each fold the positions of its validation rows and what was said of them."""
    begun = time.perf_counter()
    losses: list[float] = []
    said: list[tuple[np.ndarray, np.ndarray]] = []
    task, folds, candidate, params = rows.task, rows.folds, asked.candidate, asked.params
    classes = 0 if task == "regression" else int(rows.truth.max()) + 1

    def trial(status: str, loss: float | None, error: str = "") -> Tried:
        return Trial(asked.number, candidate.family, params, status, loss, losses, time.perf_counter() - begun, error), said

    try:
        for i, (train, valid) in enumerate(folds):
            if len(train) > MOST_ROWS:
                train = np.sort(np.random.default_rng(rows.seed).choice(train, MOST_ROWS, replace=False))
            made = estimators.pipeline(candidate, params, task, rows.numbers, rows.categories, rows.seed, rows.threads)
            said.append((valid, outputs(task, made.fit(rows.frame[train], rows.truth[train]), rows.frame[valid], classes)))
            losses.append(float(row_loss(task, rows.truth[valid], said[-1][1]).mean()))
            if asked.best and i + 1 < len(folds) and losses[i] > HOPELESS * asked.best[i]:
                return trial("pruned", None)
    except (KeyboardInterrupt, TreadleError):
        raise
    except Exception as error:  # an estimator may raise anything on some settings; that is a failed trial, not a failed search
        return trial("failed", None, f"{type(error).__name__}: {str(error)[:300]}")
    return trial("done", float(np.mean(losses)))


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
