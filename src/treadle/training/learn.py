"""Train a model: search over the search rows, repeat the search in outer folds where declared, tell what was tried and why the winner won."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Candidate, Model
from treadle.core.errors import DataError
from treadle.features import rows as feature_rows
from treadle.training import leaderboard
from treadle.training.judging import judge_of
from treadle.training.losses import loss_name, suits
from treadle.training.recorded import SEARCH, Recorded
from treadle.training.search import Found, outputs, search
from treadle.training.split import Parts, groups_of, outer_folds
from treadle.training.target import Target
from treadle.training.trials import Trial


def learn(
    model: Model, rows: pl.DataFrame, target: Target, parts: Parts, candidates: tuple[Candidate, ...], numbers: list[str], categories: list[str], *,
    threads: int, on_record: Recorded, each: Callable[..., Any] | None,
) -> Found:  # fmt: skip
    """Search and record. Raises DataError for rows no model can be fitted on, and when every setting failed."""
    whole = rows[parts.search]
    frame, truth = whole.select(numbers + categories), target.codes(whole[feature_rows.TARGET])
    where = f"model {model.name!r} ({model.place})"
    _check(rows[np.concatenate([parts.search, parts.test])].select(numbers + categories), numbers, where)
    if not suits(target.judged_as, model.metric):
        raise DataError(f"A {target.judged_as} search cannot go by {model.metric!r}.", where=where, hint="Leave metric= out, or choose another.")
    groups = groups_of(model, whole)
    every = max(1, model.trials) if model.trials else 0
    best: list[float] = []

    def on_trial(trial: Trial) -> None:
        shown = "" if trial.loss is None else f" {trial.loss:.5f}"
        at = f" on {trial.rows:,} rows" if trial.rows else ""
        if trial.status == "done" and trial.loss is not None and (not best or trial.loss < best[-1]):
            best.append(trial.loss)
        so_far = f" (best {best[-1]:.5f})" if best else ""
        reason = f": {trial.error}" if trial.error else ""
        of = f" of {every}" if every else ""
        print(f"trial {trial.number + 1}{of}: {trial.family} {trial.params} -> {trial.status}{shown}{at}{so_far}{reason}")

    def searched(
        frame: pl.DataFrame, truth: np.ndarray, folds: Any, groups: np.ndarray | None, trials: int, inner: bool, **more: Any
    ) -> Found:
        return search(
            target.task, frame, truth, folds, numbers, categories, candidates, trials=trials, seed=model.seed, threads=threads,
            at_once=model.parallel_trials, each=each, kind=model.kind, metric=model.metric, groups=groups,
            budget=model.budget.total_seconds() if model.budget and not inner else 0.0, halve=model.budget is not None, **more,
        )  # fmt: skip

    found = searched(frame, truth, parts.folds, groups, model.trials, False, on_trial=on_trial, known=on_record.known, keep=on_record.keep)
    nested = _nested(model, rows, parts, target, frame, truth, groups, len(found.trials), searched) if model.split.nested else []
    told = leaderboard.explanation(
        found, loss_name(target.judged_as), metric=model.metric, budget=model.budget.total_seconds() if model.budget else 0.0, taken=on_record.taken,
        nested=nested,
    )  # fmt: skip
    for sentence in told:
        print(sentence)
    on_record.tell(
        {
            "leaderboard": leaderboard.leaderboard(found.trials), "explanation": told, "family": found.family, "tried": len(found.trials),
            "baseline": found.baseline_losses, "expected": leaderboard.expected(found.trials, found.best) if found.best else None, "nested": nested,
            "loss": loss_name(target.judged_as, model.metric),
        }
    )  # fmt: skip
    return found


def _check(frame: pl.DataFrame, numbers: Sequence[str], where: str) -> None:
    """Infinite values are said by column: every estimator would say it in its own words, setting by setting."""
    if numbers:
        endless = frame.select(pl.col(c).is_infinite().sum() for c in numbers).row(0, named=True)
        bad = {c: n for c, n in endless.items() if n}
        if bad:
            shown = ", ".join(f"{c!r} ({n:,})" for c, n in list(bad.items())[:5])
            raise DataError(
                f"Infinite values in {len(bad)} feature{'s' if len(bad) > 1 else ''}: {shown}.", where=where,
                hint="Make them missing, or exclude those rows; infinity is no number a model can learn from.",
            )  # fmt: skip
    empty = [c for c in numbers if frame[c].null_count() == frame.height]
    if empty and len(empty) == len(frame.columns):
        raise DataError(f"Every feature is missing in all rows: {', '.join(map(repr, empty[:5]))}.", where=where, hint="Nothing is to be learned.")


def _nested(
    model: Model, rows: pl.DataFrame, parts: Parts, target: Target, frame: pl.DataFrame, truth: np.ndarray, groups: np.ndarray | None, trials: int,
    searched: Callable[..., Found],
) -> list[float]:  # fmt: skip
    """What the whole search is worth: in each outer fold it is done again on the rest, and its winner judged there once."""
    losses = []
    for train, valid, folds in outer_folds(model, rows, parts.search, target):
        if not folds:
            continue
        found = searched(frame[train], truth[train], folds, None if groups is None else groups[train], trials, True)
        judge = judge_of(target.task, model.kind, model.metric, frame[train], truth[train], groups)
        said = outputs(target.task, found.pipeline, frame[valid], len(target.labels))
        losses.append(float(judge.losses(truth, said, valid).mean()))
        print(f"outer fold {len(losses)}: {found.family} {found.params} -> {losses[-1]:.5f} on rows the search had not seen")
    return losses


__all__ = ["SEARCH", "learn"]
