"""Search: try settings of several families on the search rows only, fold by fold, and fit the best on all of them.

What is tried next is said by `proposals`, how a trial goes by `trials`. Every trial is reported as it ends; one that is known already, because the
search was killed after it, is taken over instead of tried again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Candidate, Kind, Task
from treadle.core.errors import DataError
from treadle.training import estimators, narrow, space
from treadle.training.judging import judge_of
from treadle.training.losses import row_loss, suits
from treadle.training.proposals import Every, Guided, Halving, Proposals
from treadle.training.trials import OUT_OF_TIME, Asked, Rows, Said, Trial, answers, fit, quiet, try_one

__all__ = ["Found", "Trial", "outputs", "search"]

MOST_ROWS = 20_000  # of a fold's training rows while searching without a budget; the winner is fitted on all
UNTIL_STUCK = 1_000_000  # trials of a budget that says how long, not how many


@dataclass
class Found:
    """The winner, fitted on all search rows, with the trivial baseline fitted on the same rows, and what was tried.

    `validation`: for each fold the positions of its validation rows and what the winner's setting, fitted on that fold, said of them.
    `baseline_losses`: the mean loss of the trivial model in the same folds. `losses`: of each trial that was tried to the end, the positions of
    each fold's validation rows and their row losses. `spent`: whether a budget ended it.
    """

    family: str
    params: dict[str, Any]
    pipeline: Any
    baseline: Any
    trials: list[Trial] = field(default_factory=list)
    validation: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    best: Trial | None = None
    baseline_losses: list[float] = field(default_factory=list)
    spent: bool = False
    losses: dict[int, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)


Known = Callable[[Asked], "tuple[Trial, Said] | None"]
Each = Callable[[Callable[[Rows, Asked], tuple[Trial, Said]], Rows, list[Asked]], list[tuple[Trial, Said]]]


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
    each: Each | None = None,
    kind: Kind | None = None,
    metric: str = "",
    groups: np.ndarray | None = None,
    budget: float = 0.0,
    halve: bool = False,
    known: Known = lambda asked: None,
    keep: Callable[[Trial, Said], None] = lambda trial, said: None,
) -> Found:
    """Find the best setting by mean loss over the folds.

    Args:
        frame, truth: the search rows and their targets; positions in `folds` refer to them.
        trials: how many settings to try in all, the baseline not counted; with a budget 0 is as many as it allows.
        at_once: how many settings are proposed before the first of them is judged. The same number finds the same model wherever they are tried.
        each: tries some settings, on other machines for example, and returns what came of each in order; one after the other here if not given.
        kind, groups: of a ranking, forecast or anomaly task; the number of each row's group.
        metric: what the search goes by; the mean loss of a row if empty.
        budget: seconds that the search and the last fit may take; settings are then judged on few rows first.
        halve: judge on few rows first without a budget too, as a search with one does.
        known: what came of a setting in an earlier run of this very search, if it did. `keep` is told what comes of the others.
    Raises: DataError when every setting failed, or the metric does not suit the task.
    """
    begun = time.time()
    judge = judge_of(task, kind, metric, frame, truth, groups)
    if not suits(judge.task, metric):
        raise DataError(f"A search of a {judge.task} task cannot go by {metric!r}.", hint="Leave metric= out, or choose another.")
    halve = halve or bool(budget)
    if halve and len(folds) > 1 and len(folds[-1][0]) > 1.2 * len(folds[0][0]):
        folds = folds[::-1]  # a growing past: the newest fold is most like what is to come, and first looks are taken there
    rows = Rows(task, frame, truth, folds, numbers, categories, seed, threads, judge, kind, 0 if halve else MOST_ROWS)
    proposals = _proposals(candidates, trials, seed, max(len(t) for t, _ in folds) if halve else 0)
    state = _State(rows, each, known, keep)
    left, until = (trials or UNTIL_STUCK) if halve else max(trials, len(candidates)), begun + budget if budget else 0.0
    spent = False
    while left > 0 and not spent:
        size = min(max(at_once, proposals.free()), left)
        batch = [a for _ in range(size) if (a := proposals.ask(len(state.trials) + state.asked)) is not None and state.note()]
        if not batch:
            break
        last = until - state.last_fit(len(truth)) if until and state.best is not None else 0.0  # the first one is tried whatever it takes
        for asked, trial in state.judge([replace(a, until=last) for a in batch], at_once):
            if trial.error == OUT_OF_TIME:
                spent = True
                break
            left -= 1
            proposals.tell(asked, trial)
            state.trials.append(trial)
            on_trial(trial)
        state.asked = 0
        spent = spent or (until > 0 and state.best is not None and time.time() > until - state.last_fit(len(truth)))
    return state.found(candidates, spent)


def _proposals(candidates: tuple[Candidate, ...], trials: int, seed: int, halve: int) -> Proposals:
    count = space.count(candidates)
    if count is not None and (count <= trials or (halve and not trials)):
        return Every(candidates)
    return Halving(candidates, seed, halve) if halve else Guided(candidates, seed, max(trials, len(candidates)))


class _State:
    """What has been tried so far, and the best of it."""

    def __init__(self, rows: Rows, each: Each | None, known: Known, keep: Callable[[Trial, Said], None]) -> None:
        self.rows, self.each, self.known, self.keep = rows, each, known, keep
        self.trials: list[Trial] = []
        self.losses: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.asked = 0
        self.best: Trial | None = None
        self._said = Said()
        self._asked: Asked | None = None

    def note(self) -> bool:
        self.asked += 1
        return True

    def judge(self, batch: list[Asked], at_once: int) -> Iterator[tuple[Asked, Trial]]:
        """What came of each, as it ends. Of more than are tried at once, each is first judged in one fold, and the best go first: those behind them
        are then given up early."""
        waiting = []
        for asked in batch:
            old = self.known(asked)
            if old is None:
                waiting.append(asked)
            else:
                yield asked, self._note(asked, *old)
        if len(waiting) > max(2, at_once) and len(self.rows.folds) > 1:
            looks = dict(zip([a.number for a in waiting], (t for t, _ in self._try([replace(a, folds=1, best=[]) for a in waiting]))))
            for asked in [a for a in waiting if looks[a.number].loss is None]:
                waiting.remove(asked)
                self.keep(looks[asked.number], Said())
                yield asked, self._note(asked, looks[asked.number], Said())
            waiting.sort(key=lambda a: (looks[a.number].loss, a.number))
        for start in range(0, len(waiting), at_once):
            some = waiting[start : start + at_once]
            if self.best is not None and self.best.status == "done":
                best = self.said().losses
                some = [a if a.rows else replace(a, best=best) for a in some]
            for asked, (trial, said) in zip(some, self._try(some)):
                if trial.error != OUT_OF_TIME:
                    self.keep(trial, said)
                yield asked, self._note(asked, trial, said)

    def _try(self, some: list[Asked]) -> Iterable[tuple[Trial, Said]]:
        return self.each(try_one, self.rows, some) if self.each is not None else (try_one(self.rows, asked) for asked in some)

    def _note(self, asked: Asked, trial: Trial, said: Said) -> Trial:
        if trial.status == "done" and said.outputs:
            self.losses[trial.number] = [(v, self._row_losses(v, o)) for v, o in zip(said.rows, said.outputs)]
        if self._better(trial):
            self.best, self._said, self._asked = trial, said, asked
        return trial

    def _row_losses(self, valid: np.ndarray, output: np.ndarray) -> np.ndarray:
        judge = self.rows.judge
        return row_loss(judge.task, self.rows.truth[valid], judge.full(output, valid)).astype(np.float32)

    def _better(self, trial: Trial) -> bool:
        """Settings judged in all folds and on all rows count before those that were not, and more rows before fewer."""
        if trial.loss is None or trial.status not in ("done", "small"):
            return False
        return self.best is None or _rank(trial) < _rank(self.best)

    def said(self) -> Said:
        """What the best setting said in each fold; found out again where its trial was taken over."""
        assert self.best is not None
        assert self._asked is not None
        if not self._said.losses:
            again = Asked(self.best.number, self._asked.candidate, self.best.params, rows=self._asked.rows, folds=self._asked.folds)
            self._said = try_one(self.rows, again)[1]
        return self._said

    def last_fit(self, rows: int) -> float:
        """Seconds that fitting the best on all rows may take, guessed from its trial."""
        if self.best is None:
            return 0.0
        folds = max(1, len(self.best.fold_losses))
        fitted = self.best.rows or max(len(t) for t, _ in self.rows.folds)
        return 1.2 * self.best.seconds / folds * max(1.0, rows / fitted)

    def found(self, candidates: tuple[Candidate, ...], spent: bool) -> Found:
        best, rows = self.best, self.rows
        if best is None:
            reasons = "; ".join(sorted({f"{t.family}: {t.error}" for t in self.trials if t.error}))
            hint = "Look at the data, or choose other candidates."
            raise DataError(f"None of the {len(self.trials)} settings could be fitted: {reasons.rstrip('.')}.", hint=hint)
        said = self.said()
        chosen = next(c for c in candidates if c.family == best.family)
        winner = estimators.pipeline(chosen, best.params, rows.task, rows.numbers, rows.categories, rows.seed, rows.threads, rows.kind)
        fit(narrow.narrow(winner, rows.frame, rows.truth, rows.task), rows.frame, rows.truth, rows.judge.groups)
        trivial = estimators.baseline(rows.task, rows.numbers, rows.categories, rows.kind)
        beaten = []
        for train, valid in rows.folds[: len(said.losses)]:
            simple = answers(rows.task, trivial.fit(rows.frame[train], rows.truth[train]), rows.frame[valid], rows.classes)
            beaten.append(float(rows.judge.losses(rows.truth, simple, valid).mean()))
        trivial.fit(rows.frame, rows.truth)
        trials, validation = sorted(self.trials, key=lambda t: t.number), list(zip(said.rows, said.outputs))
        return Found(best.family, best.params, winner, trivial, trials, validation, best, beaten, spent, self.losses)


def _rank(trial: Trial) -> tuple[int, int, float]:
    assert trial.loss is not None
    return (trial.status != "done", -(trial.rows or 1 << 60), trial.loss)


def taken_over(recorded: dict[str, Any], asked: Asked) -> Trial | None:
    """The trial of a record (of JSON values), if it is of the setting that is asked for."""
    same = recorded["family"] == asked.candidate.family and recorded.get("rows", 0) == asked.rows and _alike(recorded["params"], asked)
    if not same:
        return None
    params = {k: asked.params.get(k, v) if k != asked.grow else v for k, v in recorded["params"].items()}
    return Trial(
        asked.number, recorded["family"], params, recorded["status"], recorded["loss"], list(recorded["fold_losses"]), recorded["seconds"],
        recorded["error"], asked.rows,
    )  # fmt: skip


def _alike(params: dict[str, Any], asked: Asked) -> bool:
    wanted = Candidate("", asked.params).said()[1]
    return {k: v for k, v in params.items() if k != asked.grow} == {k: v for k, v in wanted.items() if k != asked.grow}


def outputs(task: Task, fitted: Any, frame: pl.DataFrame, classes: int) -> np.ndarray:
    """Probabilities (n, classes) or predictions (n, 1) of a fitted pipeline. A class it never saw gets probability 0."""
    quiet(fitted[-1])
    return answers(task, fitted, frame, classes)
