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
from treadle.training import conformal, explain, fairness, leakage, robustness, selection, slices, staleness
from treadle.training.evaluate import block_weights
from treadle.training.losses import calibration

CALIBRATION_REPLICATES = 200
DAY = 86_400_000_000


@dataclass(frozen=True)
class Case:
    """A trained model and the rows it is judged on.

    Args:
        task: 'binary', 'multiclass' or 'regression'.
        rows: the model's rows as `features.rows` makes them; `search`, `test`: positions into them; `blocks`: of the test rows.
        searched, truth: class codes or numbers of the search rows and of the test rows.
        output: what the model says of the test rows.
        answer: features to outputs. `refit`: positions into the search rows, and row weights or None, to what the same setting fitted on them
        answers. folds, validation, losses, tried: of the search; see `search.Found`.
    """

    task: Task
    rows: pl.DataFrame
    search: np.ndarray
    test: np.ndarray
    blocks: np.ndarray
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
    tried: int = 0
    thorough: bool = True


def gather(case: Case) -> dict[str, Any]:
    """Everything, as JSON: 'leakage', 'worst_slices', 'conformal', 'selection', 'robustness', 'staleness', 'fairness', 'importance'; what cannot be
    asked of these rows is None. With 'binary', 'calibration_interval' too."""
    features = [*case.numbers, *case.categories]
    test, training = case.rows[case.test].select(features), case.rows[case.search].select(features)
    weights = block_weights(case.blocks, case.seed)
    leaks = leakage.suspects(_looked(case))
    first = sorted(leaks["skill"], key=lambda n: -leaks["skill"][n])
    with np.errstate(invalid="ignore"):
        spread = {n: float(np.nanstd(_finite(training[n]))) for n in case.numbers}
    found: dict[str, Any] = {
        "leakage": leaks,
        "worst_slices": slices.worst_slices(case.task, case.truth, case.output, _few(test, first), case.blocks, case.seed),
        "conformal": conformal.conformal(case.task, case.validation, case.searched, case.truth, case.output, weights),
        "selection": selection.adjusted(
            case.task, case.losses, case.searched, [t for t, _ in case.folds], _blocks(case, case.search), case.tried, case.seed
        ),
        "robustness": robustness.robustness(case.task, test, case.truth, case.answer, spread, case.invariances, case.seed),
        "importance": explain.importance(case.task, test, case.truth, case.answer, case.seed, first),
        "staleness": _staleness(case, test, weights) if case.thorough else None,
        "fairness": _fairness(case, test) if case.protected else None,
    }  # fmt: skip
    if case.task == "binary":
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


def _blocks(case: Case, positions: np.ndarray) -> np.ndarray:
    if case.method != "time":
        return np.arange(len(positions))
    return np.asarray(case.rows[MOMENT].gather(positions).cast(pl.Int64).to_numpy() // DAY)


def _staleness(case: Case, test: pl.DataFrame, weights: np.ndarray) -> dict[str, Any] | None:
    if case.method != "time":
        return None
    moments, known = (case.rows[c].gather(case.search).cast(pl.Int64).cast(pl.Float64).to_numpy() for c in (MOMENT, KNOWN))

    def refit(positions: np.ndarray) -> np.ndarray:
        return case.refit(positions, None)(test)

    return staleness.staleness(case.task, moments, known, case.searched, case.truth, weights, refit, case.seed)


def _fairness(case: Case, test: pl.DataFrame) -> dict[str, Any]:
    def attributes(positions: np.ndarray) -> dict[str, np.ndarray]:
        return {p.column: fairness.banded(case.rows[f"slice:{p.column}"].gather(positions).to_list(), p.cuts) for p in case.protected}

    there = attributes(case.test)
    found = fairness.fairness(case.task, case.truth, case.output, there, case.blocks, case.seed)
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
                refit=again, weights=fairness.reweighting(case.searched, training[name]),
            )  # fmt: skip
    return found
