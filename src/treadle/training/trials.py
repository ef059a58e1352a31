"""One trial: a setting fitted and judged fold by fold, and given up as soon as it is clearly behind the best.

A setting is behind when its losses, compared row by row with those of the best so far on the same validation rows, are larger beyond chance: a race,
after Maron and Moore (1994), "Hoeffding Races", with a paired normal test in place of the bound.

What trials share is done once: columns are encoded once a fold for all settings that encode alike (fitted on the fold's training rows), and trees
that are added one after the other are grown once for all lengths that are asked for.
"""

from __future__ import annotations

import inspect
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Candidate, Kind, Task
from treadle.core.errors import TreadleError
from treadle.training import estimators, narrow
from treadle.training.judging import Judge
from treadle.training.space import space_of

BEHIND = 1.64  # standard errors by which a setting may be behind the best before it is given up
FEWEST = 30  # rows from which on such a comparison means something
OUT_OF_TIME = "the budget was spent"
PATIENCE = 30  # trees without improvement after which a growing model stops
LEAST_OF_A_CLASS = 10  # rows of each class in a sample of the training rows, where it has them
MOST_CACHED = 2_000_000_000  # bytes of encoded folds that are kept


@dataclass(frozen=True)
class Trial:
    """One setting that was tried. `status` is 'done', 'pruned', 'failed', or 'small': judged on few rows only, for a first look.

    Args:
        loss: the mean over its folds, None unless it was judged in all of them.
        rows: how many training rows a fold had at most; 0 for all.
    """

    number: int
    family: str
    params: dict[str, Any]
    status: str
    loss: float | None
    fold_losses: list[float]
    seconds: float
    error: str = ""
    rows: int = 0


@dataclass(frozen=True)
class Rows:
    """What all trials of a search share: the search rows, their targets and folds, and how a pipeline is made of them and judged."""

    task: Task
    frame: pl.DataFrame
    truth: np.ndarray
    folds: list[tuple[np.ndarray, np.ndarray]]
    numbers: list[str]
    categories: list[str]
    seed: int
    threads: int
    judge: Judge
    kind: Kind | None = None
    most: int = 0
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "kept": {}}

    @property
    def classes(self) -> int:
        """How many classes there are; 0 for numbers."""
        return 0 if self.task == "regression" else int(self.truth.max()) + 1

    def train(self, fold: int, most: int) -> np.ndarray:
        """The training rows of a fold, at most so many (0: all): the same ones for every trial, and those of fewer among those of more."""
        rows = self.folds[fold][0]
        limit = min([m for m in (most, self.most) if m] or [len(rows)])
        if len(rows) <= limit:
            return rows
        groups, random = self.judge.groups, np.random.default_rng(self.seed)
        if groups is not None:  # whole groups
            order = random.permutation(np.unique(groups[rows]))
            place = np.empty(int(groups.max()) + 1, dtype=np.int64)
            place[order] = np.arange(len(order))
            return np.sort(rows[np.argsort(place[groups[rows]], kind="stable")[:limit]])
        rows = rows[random.permutation(len(rows))]
        if self.classes:  # no class is lost: the first of each come first
            of = self.truth[rows]
            within = np.empty(len(rows), dtype=np.int64)
            for code in range(self.classes):
                mine = np.flatnonzero(of == code)
                within[mine] = np.arange(len(mine))
            rows = rows[np.argsort(within >= LEAST_OF_A_CLASS, kind="stable")]
        return np.sort(rows[:limit])


@dataclass(frozen=True)
class Asked:
    """A setting to try.

    Args:
        best: the losses of the best setting so far, row by row for each fold, to give up early.
        rows: train on so many rows at most (0: all), and judge in so many `folds` (0: all).
        grow: the parameter that the trial is to find itself, up to the given value: how many trees.
        shared: the parameter of which other values will be asked for too, with all else alike: grown once for all.
        until: the moment (seconds since 1970) after which no further fold is begun; 0 for none.
    """

    number: int
    candidate: Candidate
    params: dict[str, Any]
    best: list[np.ndarray] = field(default_factory=list)
    rows: int = 0
    folds: int = 0
    grow: str = ""
    shared: str = ""
    until: float = 0.0


@dataclass
class Said:
    """What a setting answered: for each fold, its validation rows, the outputs for them, and their losses."""

    rows: list[np.ndarray] = field(default_factory=list)
    outputs: list[np.ndarray] = field(default_factory=list)
    losses: list[np.ndarray] = field(default_factory=list)


def try_one(rows: Rows, asked: Asked) -> tuple[Trial, Said]:
    """Fit a setting fold by fold and judge it; an estimator that raises makes a failed trial with the reason."""
    begun = time.perf_counter()
    said, params, means = Said(), dict(asked.params), list[float]()
    count = min(asked.folds or len(rows.folds), len(rows.folds))

    def trial(status: str, loss: float | None, error: str = "") -> tuple[Trial, Said]:
        return Trial(asked.number, asked.candidate.family, params, status, loss, means, time.perf_counter() - begun, error, asked.rows), said

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for fold in range(count):
                valid = rows.folds[fold][1]
                output = _answer(rows, asked, params, fold)
                losses = rows.judge.losses(rows.truth, output, valid)
                said.rows.append(valid)
                said.outputs.append(output)
                said.losses.append(losses.astype(np.float32))
                means.append(float(losses.mean()))
                if not np.isfinite(means[-1]):
                    return trial("failed", None, f"ValueError: its loss in fold {fold} is {means[-1]}")
                if fold + 1 < count and asked.until and time.time() > asked.until:
                    return trial("pruned", None, OUT_OF_TIME)
                if fold + 1 < count and behind(said.losses, asked.best[: fold + 1]):
                    return trial("pruned", None)
        except (KeyboardInterrupt, TreadleError):
            raise
        except (Exception, SystemExit) as error:  # an estimator may raise anything on some settings; that is a failed trial, not a failed search
            return trial("failed", None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
    return trial("done" if count == len(rows.folds) and not asked.rows else "small", float(np.mean(means)))


def behind(losses: list[np.ndarray], best: list[np.ndarray]) -> bool:
    """Whether losses on the same rows are larger than the best's beyond chance."""
    if len(best) < len(losses) or any(len(a) != len(b) for a, b in zip(losses, best)):
        return False
    gap = np.concatenate([a.astype(np.float64) - b for a, b in zip(losses, best)])
    mean = float(gap.mean())
    return len(gap) >= FEWEST and mean > 0 and mean > BEHIND * float(gap.std(ddof=1)) / np.sqrt(len(gap))


def answers(task: Task, model: Any, rows: Any, classes: int) -> np.ndarray:
    """Probabilities (n, classes) or predictions (n, 1) of a fitted model or pipeline. A class it never saw gets probability 0."""
    if task == "regression":
        return np.asarray(model.predict(rows), dtype=np.float64).reshape(-1, 1)
    if not hasattr(model, "predict_proba"):  # it says which class and not how surely
        said = np.asarray(model.predict(rows)).astype(int)
        return np.asarray(np.eye(classes)[said])
    known = np.asarray(model.predict_proba(rows), dtype=np.float64)
    return _all_classes(known, model.classes_, classes)


def fit(made: Any, frame: Any, truth: np.ndarray, groups: np.ndarray | None, *, model: Any = None) -> Any:
    """Fit a pipeline (or its last step, `model`, on an encoded matrix); the rows of a group beside each other where the estimator asks for groups."""
    last = made[-1] if model is None else model
    prefix = "" if model is not None else "model__"
    fitted = made if model is None else model
    if groups is None or "group" not in inspect.signature(last.fit).parameters:
        return fitted.fit(frame, truth)
    order = np.argsort(groups, kind="stable")
    sizes = np.unique(groups, return_counts=True)[1]
    return fitted.fit(frame[order], truth[order].astype(np.int64), **{f"{prefix}group": sizes})


def weights_of(made: Any, weights: np.ndarray) -> dict[str, np.ndarray] | None:
    """What to pass to `fit` of a pipeline so that its last step gives rows these weights; None where that takes none."""
    from sklearn.utils.validation import has_fit_parameter

    name, last = "", made
    while hasattr(last, "steps"):  # a project's own estimator may be a pipeline too
        step, last = last.steps[-1]
        name += f"{step}__"
    return {f"{name}sample_weight": weights} if has_fit_parameter(last, "sample_weight") else None


def _answer(rows: Rows, asked: Asked, params: dict[str, Any], fold: int) -> np.ndarray:
    """What a setting, fitted on a fold's training rows, says of its validation rows."""
    shared = asked.shared
    alike = (asked.candidate.family, repr(sorted((k, v) for k, v in params.items() if k != shared)), fold, asked.rows)
    if shared and alike in rows.kept:
        found: np.ndarray = rows.kept[alike][params[shared]]
        return found
    asked_for = {**params, shared: max(space_of(asked.candidate)[shared])} if shared else params
    first_look = ("look", *alike)
    if first_look in rows.kept:
        looked: tuple[dict[str, Any], np.ndarray] = rows.kept.pop(first_look)
        params.update(looked[0])
        return looked[1]
    train, valid = rows.train(fold, asked.rows), rows.folds[fold][1]
    made = estimators.pipeline(
        asked.candidate, asked_for, rows.task, rows.numbers, rows.categories, rows.seed, rows.threads, rows.kind,
    )  # fmt: skip
    _narrow(rows, made, fold, train)
    learn, see = _matrices(rows, made, fold, train, valid)
    if asked.candidate.make is not None:  # it may write into what it is given, and the next one would learn from that
        learn, see = learn.copy(), see.copy()
    model, truth = made[-1], rows.truth
    groups = None if rows.judge.groups is None else rows.judge.groups[train]
    if asked.grow and fold == 0 and groups is None:
        params[asked.grow] = _grow(model, rows, learn, truth[train], see, truth[valid])
    else:
        fit(made, learn, truth[train], groups, model=model)
    quiet(model)
    if not shared:
        output = answers(rows.task, model, see, rows.classes)
        if asked.folds == 1 and not asked.rows:  # it will be asked for again, if it is worth it
            rows.kept[first_look] = (dict(params), output)
        return output
    values = list(space_of(asked.candidate)[shared])
    stages = dict(_stages(rows, model, see, values))
    if len(stages) != len(set(values)):  # an estimator whose stages cannot be told apart: fitted for each value
        if asked_for[shared] != params[shared]:
            fit(made, learn, truth[train], groups, model=model.set_params(**{shared: params[shared]}))
        return answers(rows.task, model, see, rows.classes)
    rows.kept[alike] = stages
    return stages[params[shared]]


def _narrow(rows: Rows, made: Any, fold: int, train: np.ndarray) -> None:
    """Of very many columns the strongest on the fold's training rows, found once a fold."""
    if narrow.wide(made):
        key = ("narrow", fold, len(train))
        if key not in rows.kept:
            rows.kept[key] = narrow.strongest(made, rows.frame[train], rows.truth[train], rows.task)
        narrow.keep(made, rows.kept[key])


def _matrices(rows: Rows, made: Any, fold: int, train: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fold's training and validation rows as matrices, encoded by what was fitted on the training rows alone."""
    columns = made[:-1]
    key = ("matrices", _encoding(columns[0]), fold, len(train))
    if key not in rows.kept:
        learn = columns.fit_transform(rows.frame[train], rows.truth[train])
        see = columns.transform(rows.frame[valid])
        held = sum(v[0].nbytes + v[1].nbytes for k, v in rows.kept.items() if k[0] == "matrices")
        if held + learn.nbytes + see.nbytes > MOST_CACHED:
            return learn, see
        rows.kept[key] = (learn, see)
    found: tuple[np.ndarray, np.ndarray] = rows.kept[key]
    return found


def _encoding(columns: Any) -> tuple[Any, ...]:
    """What tells one encoding of the same columns from another."""
    return tuple(
        (name, step if isinstance(step, str) else type(step).__name__, tuple(n for n, _ in getattr(step, "steps", ())))
        for name, step, _ in columns.transformers
    )


def quiet(model: Any) -> None:
    """Several threads add up a forest's trees in the order in which they are done, and every run would give other last digits."""
    if any(kind.__module__ == "sklearn.ensemble._forest" for kind in type(model).__mro__):
        model.n_jobs = 1


def _grow(model: Any, rows: Rows, learn: np.ndarray, truth: np.ndarray, see: np.ndarray, known: np.ndarray) -> int:
    """Fit until more trees stop to help on the fold's validation rows; how many there are."""
    auc = rows.judge.metric == "roc_auc"
    if type(model).__name__.startswith("LGBM"):
        import lightgbm

        metric = "l1" if rows.task == "regression" and rows.judge.metric != "rmse" else None
        if rows.judge.quantile:
            metric = None
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        model.fit(learn, truth, eval_set=[(see, known)], eval_metric="auc" if auc else metric, callbacks=[stop])
        return max(1, int(model.best_iteration_ or model.n_estimators))
    usual = {"binary": "logloss", "multiclass": "mlogloss"}.get(rows.task, "rmse" if rows.judge.metric == "rmse" else "mae")
    model.set_params(early_stopping_rounds=PATIENCE, eval_metric="auc" if auc else "quantile" if rows.judge.quantile else usual)
    model.fit(learn, truth, eval_set=[(see, known)], verbose=False)
    return int(model.best_iteration) + 1


def _stages(rows: Rows, model: Any, see: np.ndarray, values: list[int]) -> Iterator[tuple[int, np.ndarray]]:
    """What a model says with only its first so many trees, exactly what one fitted with so many says."""
    regression, kind = rows.task == "regression", type(model).__name__
    said: Callable[[int], np.ndarray] | None = None
    if kind.startswith("LGBM"):
        said = lambda n: model.predict(see, num_iteration=n) if regression else model.predict_proba(see, num_iteration=n)  # noqa: E731
    elif kind.startswith("XGB"):
        said = lambda n: model.predict(see, iteration_range=(0, n)) if regression else model.predict_proba(see, iteration_range=(0, n))  # noqa: E731
    if said is not None:
        for n in dict.fromkeys(values):
            yield n, _shaped(rows, model, said(n))
        return
    if any(k.__module__ == "sklearn.ensemble._forest" for k in type(model).__mro__):
        sums: Any = 0.0
        wanted = set(values)
        for n, tree in enumerate(model.estimators_, 1):
            sums = sums + (tree.predict(see) if regression else tree.predict_proba(see))
            if n in wanted:
                yield n, _shaped(rows, model, sums / n)
        return
    staged = getattr(model, "staged_predict" if regression else "staged_predict_proba", None)
    if staged is None or getattr(model, "early_stopping", False) or (kind.startswith("Gradient") and model.n_iter_no_change):
        return
    wanted, last, n = set(values), None, 0
    for n, output in enumerate(staged(see), 1):
        last = output
        if n in wanted:
            yield n, _shaped(rows, model, output)
    for value in sorted(wanted):  # AdaBoost may have stopped when it had no error left: more trees are the same
        if value > n and last is not None:
            yield value, _shaped(rows, model, last)


def _shaped(rows: Rows, model: Any, output: np.ndarray) -> np.ndarray:
    if rows.task == "regression":
        return np.asarray(output, dtype=np.float64).reshape(-1, 1)
    return _all_classes(np.asarray(output, dtype=np.float64), model.classes_, rows.classes)


def _all_classes(known: np.ndarray, of: Any, classes: int) -> np.ndarray:
    if known.shape[1] == classes:
        return known
    full = np.zeros((known.shape[0], classes))
    full[:, np.asarray(of, dtype=int)] = known
    return full
