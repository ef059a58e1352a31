"""The evidence beyond the metrics: leakage, worst slices, promised intervals, the price of choosing, robustness, ageing, fairness, importance.

One place that says which question is asked of what, so that the step that evaluates a model stays short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from treadle.core.declare.model import Protected, Task
from treadle.features.rows import KNOWN, MOMENT
from treadle.training import conformal, explain, fairness, leakage, narrow, robustness, selection, slices, staleness
from treadle.training.evaluate import block_weights
from treadle.training.judging import Judge
from treadle.training.losses import calibration, loss_name, of_classes

CALIBRATION_REPLICATES = 200
MOST_RANKED = 1_500  # rows of a ranking, in whole groups, that are asked again and again


@dataclass(frozen=True)
class Case:
    """A trained model and the rows it is judged on.

    Args:
        task: what is served: 'binary', 'multiclass' or 'regression'. `judge`: how the test rows are judged.
        rows: the model's rows as `features.rows` makes them; `search`, `test`: positions into them; `blocks`, `search_blocks`: of those rows.
        searched, truth: class codes or numbers of the search rows and of the test rows.
        output: what the model says of the test rows.
        answer: features to outputs. `refit`: positions into the search rows, and row weights or None, to what the same setting fitted on them
        answers. folds, validation, losses, tried: of the search; see `search.Found`. `trivial`: of training and validation positions, the row
        losses of the trivial baseline there. `groups`: of a ranking, the number of the group of each search row. `weighs`: whether the estimator
        takes row weights.
    """

    task: Task
    judge: Judge
    rows: pl.DataFrame
    search: np.ndarray
    test: np.ndarray
    blocks: np.ndarray
    search_blocks: np.ndarray
    searched: np.ndarray
    truth: np.ndarray
    output: np.ndarray
    numbers: Sequence[str]
    categories: Sequence[str]
    method: str
    seed: int
    answer: Callable[[pl.DataFrame], np.ndarray]
    refit: Callable[[np.ndarray, np.ndarray | None], Callable[[pl.DataFrame], np.ndarray]]
    fitted: Any = None
    make: Any = None
    looked_up: Sequence[str] = ()
    expected: Sequence[str] = ()
    known_column: str = ""
    subject: str = ""
    protected: Sequence[Protected] = ()
    invariances: Sequence[Any] = ()
    folds: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    validation: Sequence[tuple[np.ndarray, np.ndarray]] = ()
    losses: Mapping[int, selection.Losses] = field(default_factory=dict)
    trivial: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    groups: np.ndarray | None = None
    weighs: bool = True
    tried: int = 0
    thorough: bool = True


def gather(case: Case) -> dict[str, Any]:
    """Everything, as JSON: 'leakage', 'worst_slices', 'conformal', 'selection', 'robustness', 'staleness', 'fairness', 'importance'; what cannot be
    asked of these rows is None. With 'binary', 'calibration_interval' too. 'not_asked': part to the reason, where a kind of task is not asked it.
    'features': how many there are, and how many the model uses (see `narrow`).

    Losses are those the task is judged by. A ranking is judged by group: a part of it is a part of its groups, and an interval resamples them.
    """
    features = [*case.numbers, *case.categories]
    used = features if case.fitted is None or case.invariances else narrow.used(case.fitted)
    test, training = case.rows[case.test].select(features), case.rows[case.search].select(used)
    weights, there = block_weights(case.blocks, case.seed), set(used)
    leaks = leakage.suspects(_looked(case))
    first = sorted(leaks["skill"], key=lambda n: -leaks["skill"][n])
    with np.errstate(invalid="ignore"):
        spread = {n: float(np.nanstd(_finite(training[n]))) for n in case.numbers if n in there}
    judged, some, truth, answer = case.judge.task, *_asked_again(case, test.select(used))
    whole = {"most": some.height} if case.judge.groups is not None else {}  # no group is parted
    found: dict[str, Any] = {
        "leakage": leaks,
        "features": {"all": len(features), "used": len(features if case.fitted is None else narrow.used(case.fitted))},
        "worst_slices": {**_worst(case, _few(test, first)), "features_left_out": test.width - _few(test, first).width},
        "conformal": None if judged == "ranking" else conformal.conformal(
            judged, case.validation, case.searched, case.truth, case.output, weights, *([[case.judge.quantile]] if judged == "quantile" else [])
        ),
        "selection": _selection(case),
        "robustness": robustness.robustness(judged, some, truth, answer, spread, case.invariances, case.seed, **whole),
        "importance": explain.importance(judged, some, truth, answer, case.seed, first, **whole),
        "staleness": _staleness(case, test, weights) if case.thorough else None,
        "fairness": _fairness(case, test) if case.protected else None,
        "not_asked": {"conformal": "the score of a ranking only orders, no interval of it would mean anything"} if judged == "ranking" else {},
    }  # fmt: skip
    if found["selection"] is None and case.tried > 1:
        found["not_asked"]["selection"] = "no setting was judged to the end, or the validation rows lie in fewer than ten blocks"
    if judged == "binary":
        found["calibration_interval"] = calibration_interval(case.truth, case.output[:, 1], weights[:CALIBRATION_REPLICATES])
    return found


def calibration_interval(truth: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> list[float] | None:
    """95 % interval of the expected calibration error. A resampled error is too large by about what the error of a calibrated model would be, so the
    interval is turned around the estimate (Efron and Tibshirani 1993, the basic bootstrap), and ends at zero."""
    rows = np.arange(len(truth))
    estimate = calibration(truth, probability)[0]
    found = []
    for weight in weights:
        drawn = np.repeat(rows, weight.astype(int))
        if len(drawn):
            found.append(calibration(truth[drawn], probability[drawn])[0])
    if len(found) < 20:
        return None
    low, high = np.percentile(found, [2.5, 97.5])
    return [max(0.0, 2 * estimate - float(high)), max(0.0, 2 * estimate - float(low), estimate)]


def _looked(case: Case) -> leakage.Looked:
    truth = np.zeros(case.rows.height, dtype=case.searched.dtype)
    truth[case.search], truth[case.test] = case.searched, case.truth
    entity = (case.subject, case.rows[f"slice:{case.subject}"].to_list()) if case.subject and f"slice:{case.subject}" in case.rows.columns else None
    return leakage.Looked(
        case.task, case.rows, case.search, case.test, truth, case.numbers, case.categories, case.method, case.seed, case.looked_up,
        case.expected, case.known_column, entity, case.make, case.fitted,
    )  # fmt: skip


def _few(frame: pl.DataFrame, first: Sequence[str]) -> pl.DataFrame:
    """With very many features, those that tell something by themselves."""
    return frame if frame.width <= 100 else frame.select(first[:100])


def _finite(values: pl.Series) -> np.ndarray:
    numbers = values.to_numpy().astype(np.float64)
    kept = numbers[np.isfinite(numbers)]
    return kept if len(kept) else np.array([np.nan])


def _asked_again(case: Case, test: pl.DataFrame) -> tuple[pl.DataFrame, np.ndarray, Callable[[pl.DataFrame], np.ndarray]]:
    """Test rows, their truths, and what answers for them when they were changed, as the task is judged."""
    judge, groups = case.judge, case.judge.groups
    if groups is None:
        return test, case.truth, lambda frame: judge.full(case.answer(frame), np.arange(frame.height))
    order = np.random.default_rng(case.seed + 23).permutation(np.unique(groups))
    sizes = np.bincount(groups)[order]
    chosen = np.flatnonzero(np.isin(groups, order[: max(1, int(np.searchsorted(np.cumsum(sizes), MOST_RANKED, side="right")))]))
    return test[chosen], case.truth[chosen], lambda frame: judge.full(case.answer(frame), chosen)


def _firsts(groups: np.ndarray) -> np.ndarray:
    """The first row of each group, in the order of the groups' numbers."""
    return np.unique(groups, return_index=True)[1]


def _of_groups(frame: pl.DataFrame, groups: np.ndarray) -> pl.DataFrame:
    """One row a group, with the columns that are the same in all rows of each group."""
    first = frame[_firsts(groups)]
    there = first[np.unique(groups, return_inverse=True)[1]]
    return first.select(c for c in frame.columns if frame[c].eq_missing(there[c]).all())


def _worst(case: Case, features: pl.DataFrame) -> dict[str, Any]:
    judge = case.judge
    if judge.groups is None:
        return slices.worst_slices(judge.task, case.truth, judge.full(case.output), features, case.blocks, case.seed)
    loss = judge.apart(case.truth, case.output)
    whole, measure = _of_groups(features, judge.groups), f"{loss_name('ranking')} of its groups above the mean"
    return slices.worst_parts(loss, np.full(len(loss), loss.mean()), whole, np.arange(len(loss)), measure, 50, case.seed)


def _selection(case: Case) -> dict[str, Any] | None:
    """The losses of the search's trials; a ranking's are put together by group."""
    if not case.losses or case.trivial is None:
        return None
    first = next(iter(case.losses.values()))
    learned = [next((train for train, valid in case.folds if np.array_equal(valid, positions)), None) for positions, _ in first]
    if not all(train is not None for train in learned):
        return None
    trivial = [case.trivial(train, positions) for train, (positions, _) in zip(learned, first) if train is not None]
    losses: Mapping[int, selection.Losses] = case.losses
    if case.groups is not None:
        trivial = [_put_together(case.groups, p, loss)[1] for (p, _), loss in zip(first, trivial)]
        losses = {trial: [_put_together(case.groups, p, loss) for p, loss in folds] for trial, folds in case.losses.items()}
    return selection.adjusted(losses, trivial, case.search_blocks, case.tried, case.seed, loss_name(case.judge.task))


def _put_together(groups: np.ndarray, positions: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(the first row of each group, its 1 - NDCG) of row losses, whose weights make the mean over rows the mean over groups."""
    _, first, place = np.unique(groups[positions], return_index=True, return_inverse=True)
    return positions[first], np.bincount(place, loss) * len(first) / len(positions)


def _staleness(case: Case, test: pl.DataFrame, weights: np.ndarray) -> dict[str, Any] | None:
    if case.method != "time":
        return None
    moments, known = (case.rows[c].gather(case.search).cast(pl.Int64).cast(pl.Float64).to_numpy() for c in (MOMENT, KNOWN))
    judge = case.judge

    def losses(positions: np.ndarray) -> np.ndarray:
        return judge.apart(case.truth, case.refit(positions, None)(test))

    weights = weights if judge.groups is None else weights[:, _firsts(judge.groups)]
    return staleness.staleness(moments, known, case.searched, weights, losses, classes=of_classes(judge.task), loss=loss_name(judge.task))


def _fairness(case: Case, test: pl.DataFrame) -> dict[str, Any]:
    def attributes(positions: np.ndarray) -> dict[str, np.ndarray]:
        return {p.column: fairness.banded(case.rows[f"slice:{p.column}"].gather(positions).to_list(), p.cuts) for p in case.protected}

    there = attributes(case.test)
    if case.judge.groups is not None:
        return _fair_ranking(case, there)
    found = fairness.fairness(case.judge.task, case.truth, case.judge.full(case.output), there, case.blocks, case.seed)
    if case.task == "binary" and case.validation and case.thorough:
        positions = np.concatenate([rows for rows, _ in case.validation])
        said = np.concatenate([output[:, 1] for _, output in case.validation])
        known, training = attributes(case.search[positions]), attributes(case.search)
        found["mitigation"] = {}
        for name in there:
            def again(weights: np.ndarray) -> np.ndarray:
                return np.asarray(case.refit(np.arange(len(case.search)), weights)(test)[:, 1])

            found["mitigation"][name] = fairness.mitigation(
                case.truth, case.output[:, 1], there[name], (case.searched[positions], said, known[name]),
                refit=again if case.weighs else None, weights=fairness.reweighting(case.searched, training[name]),
            )  # fmt: skip
    return found


def _fair_ranking(case: Case, attributes: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """What the groups of a ranking get, by attributes that are the same for all rows of a group: who asks, not what is ranked."""
    judge = case.judge
    assert judge.groups is not None
    kept = _of_groups(pl.DataFrame({n: v.tolist() for n, v in attributes.items()}), judge.groups)
    loss = judge.apart(case.truth, case.output)
    there = {n: np.array(kept[n].to_list(), dtype=object) for n in kept.columns}
    found = fairness.fairness("ranking", loss, loss[:, None], there, np.arange(len(loss)), case.seed)
    within = [n for n in attributes if n not in kept.columns]
    if within:
        found["not_asked"] = f"{', '.join(within)}: differs within a group, and what place each kind of row should get is not known here"
    return found
