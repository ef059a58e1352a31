"""What a published recipe claims on its own hundred rows, and what an audit of the same run measures.

The recipe: scale all rows, split 80/20, grid-search nine kinds of model for accuracy, name the one with the best TEST accuracy.
Re-described from the published case study, no code copied. It is kept wrong on purpose: do not repair it.

Run it: `python published_recipe.py` (a quarter of a minute on two cores).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.ensemble import AdaBoostClassifier, GradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold, permutation_test_score, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

LABEL = "schedule_adherence"
KEY = "activity_id"
SPLIT_SEED = 42
TEST_SHARE = 0.2
FOLDS = 5
PERMUTATIONS = 200

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ModelScore:
    """One model of the grid search: accuracies are shares from 0 to 1."""

    model: str
    settings: Mapping[str, Any]
    cv_accuracy: float
    test_accuracy: float


@dataclass(frozen=True)
class Finding:
    """One audit check: whether it found a fault, said in a sentence, and the numbers the sentence rests on."""

    check: str
    fault: bool
    sentence: str
    evidence: Mapping[str, float]


@dataclass(frozen=True)
class RecipeClaim:
    """What the recipe would report (claimed_accuracy, a share from 0 to 1 of test_rows rows), and what the audit says about it."""

    scores: tuple[ModelScore, ...]
    winner: str
    claimed_accuracy: float
    test_rows: int
    findings: tuple[Finding, ...]


class HeldBackRows:
    """The held-back rows, keeping the names of those who read them."""

    def __init__(self, features: Floats, labels: Ints) -> None:
        self._features, self._labels = features, labels
        self.readers: list[str] = []

    def read(self, reader: str) -> tuple[Floats, Ints]:
        """Return features (rows, columns) and labels (rows,), and remember the reader."""
        self.readers.append(reader)
        return self._features, self._labels


def run_recipe(rows: pl.DataFrame) -> RecipeClaim:
    """Follow the recipe on `rows` (a 0/1 label named schedule_adherence, every other column but the key a feature), then audit that run."""
    features = rows.drop(LABEL, KEY, strict=False).cast(pl.Float64).to_numpy()
    labels = rows[LABEL].cast(pl.Int64).to_numpy()

    scaler = StandardScaler().fit(features)  # before the split, as published: the test rows leak into the scale
    train_at, test_at = train_test_split(np.arange(len(labels)), test_size=TEST_SHARE, random_state=SPLIT_SEED)
    scaled = scaler.transform(features)
    train = scaled[train_at], labels[train_at]
    test = HeldBackRows(scaled[test_at], labels[test_at])

    searches = {name: _search(model, grid, *train) for name, (model, grid) in models_and_grids().items()}
    scores = tuple(
        ModelScore(name, found.best_params_, float(found.best_score_), _accuracy(found.best_estimator_, *test.read(name)))
        for name, found in searches.items()
    )
    best = max(scores, key=lambda score: score.test_accuracy)  # chosen on the test rows, as published

    # From here on it is the audit that reads, on its own account.
    test_features, test_labels = scaled[test_at], labels[test_at]
    findings = (
        scaler_finding(scaler, features, features[train_at]),
        selection_finding(test.readers, best, scores),
        repeat_finding({name: found.best_estimator_ for name, found in searches.items()}, *train, test_features),
        interval_finding(best.test_accuracy, len(test_labels)),
        baseline_finding(best.test_accuracy, test_labels),
        permutation_finding(features, labels),
    )
    return RecipeClaim(scores, best.model, best.test_accuracy, len(test_labels), findings)


def models_and_grids() -> dict[str, tuple[Any, dict[str, list[Any]]]]:
    """Return the nine published models by name, each with its published grid: 38 candidates, none of them seeded."""
    from xgboost import XGBClassifier  # heavy, and needed only here

    trees = {"n_estimators": [50, 100, 150]}
    return {
        "logistic regression": (LogisticRegression(), {"C": [0.1, 1, 10]}),
        "decision tree": (DecisionTreeClassifier(), {"max_depth": [3, 5, 7, 10]}),
        "random forest": (RandomForestClassifier(n_jobs=1), trees),
        "support vectors": (SVC(), {"kernel": ["linear", "rbf"], "C": [0.1, 1, 10]}),
        "nearest neighbours": (KNeighborsClassifier(), {"n_neighbors": [3, 5, 7]}),
        "gradient boosting": (GradientBoostingClassifier(), trees),
        "AdaBoost": (AdaBoostClassifier(), trees),
        "XGBoost": (XGBClassifier(n_jobs=1), {**trees, "learning_rate": [0.01, 0.1, 0.2]}),
        "neural network": (MLPClassifier(), {"hidden_layer_sizes": [(50,), (100,)], "alpha": [0.0001, 0.001]}),
    }


def _search(model: Any, grid: dict[str, list[Any]], features: Floats, labels: Ints) -> GridSearchCV:
    folds = KFold(FOLDS, shuffle=True, random_state=SPLIT_SEED)
    return _quietly_fit(GridSearchCV(model, grid, scoring="accuracy", cv=folds, n_jobs=1), features, labels)


def _quietly_fit(model: Any, features: Floats, labels: Ints) -> Any:
    """Fit without the neural network's complaint that 200 rounds are too few; the published recipe uses 200."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, labels)


def _accuracy(model: Any, features: Floats, labels: Ints) -> float:
    return float(np.mean(model.predict(features) == labels))


def scaler_finding(scaler: StandardScaler, features: Floats, train: Floats) -> Finding:
    """Compare the scaler's means and standard deviations (units of the features) with those of all rows and of the train rows."""

    def distance(rows: Floats) -> float:
        return float(max(np.abs(scaler.mean_ - rows.mean(axis=0)).max(), np.abs(scaler.scale_ - rows.std(axis=0)).max()))

    from_all, from_train = distance(features), distance(train)
    leaked = from_all < 1e-9 < from_train
    source = f"all {len(features)} rows" if leaked else "the train rows" if from_train < 1e-9 else "neither all rows nor the train rows"
    sentence = (
        f"The scaler carries the mean and spread of {source}: largest difference {from_all:.3g} from all {len(features)} rows, "
        f"{from_train:.3g} from the {len(train)} train rows."
    )
    return Finding("scaler leak", leaked, sentence, {"from_all_rows": from_all, "from_train_rows": from_train})


def selection_finding(readers: list[str], best: ModelScore, scores: tuple[ModelScore, ...]) -> Finding:
    """Count the models that read the test rows before the winner was named; more than one is a choice made on the test rows."""
    count = len(set(readers))
    by_cv = max(scores, key=lambda score: score.cv_accuracy)
    mean = float(np.mean([score.test_accuracy for score in scores]))
    sentence = (
        f"{count} models read the test rows before {best.model} was chosen by its test accuracy {best.test_accuracy:.2f} "
        f"(all of them average {mean:.2f}); cross-validation would have chosen {by_cv.model}, test accuracy {by_cv.test_accuracy:.2f}."
    )
    return Finding("selection on test", count > 1, sentence, {"models_that_read": count, "reads": len(readers), "mean_test_accuracy": mean})


def repeat_finding(fitted: Mapping[str, Any], features: Floats, labels: Ints, test_features: Floats) -> Finding:
    """Fit every estimator whose seed is left open once more, same settings and train rows, and compare its answers on the test rows."""
    # Estimators without the parameter, such as nearest neighbours, have nothing to seed.
    unseeded = {name: model for name, model in fitted.items() if model.get_params().get("random_state", 0) is None}
    differing: dict[str, int] = {}
    for name, model in unseeded.items():
        again = _quietly_fit(clone(model), features, labels)
        if not np.allclose(_answers(model, test_features), _answers(again, test_features)):
            differing[name] = int(np.sum(model.predict(test_features) != again.predict(test_features)))
    named = ", ".join(f"{name} ({flips} of {len(test_features)} labels flip)" for name, flips in differing.items()) or "none"
    sentence = f"{len(unseeded)} of {len(fitted)} estimators have no seed; fitted again, {len(differing)} give other answers: {named}."
    evidence = {"unseeded": len(unseeded), "differing": len(differing), "labels_flipped": sum(differing.values())}
    return Finding("not repeatable", bool(differing), sentence, evidence)


def _answers(model: Any, features: Floats) -> Floats:
    """Probabilities where the model has them, so that a change too small to flip a label is seen."""
    return np.asarray(model.predict_proba(features) if hasattr(model, "predict_proba") else model.decision_function(features))


def interval_finding(accuracy: float, rows: int) -> Finding:
    """Put Wilson's 95 % interval around an accuracy (share) measured on `rows` rows; a fault if it contains 0.5, a coin."""
    low, high = wilson_interval(accuracy, rows)
    sentence = f"{accuracy:.2f} on {rows} test rows means {low:.2f} to {high:.2f} (Wilson, 95 %), {_inside(low, high)} a coin's 0.50."
    return Finding("interval too wide", low <= 0.5 <= high, sentence, {"low": low, "high": high, "rows": rows})


def _inside(low: float, high: float) -> str:
    return "which contains" if low <= 0.5 <= high else "which leaves out"


def wilson_interval(share: float, rows: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the Wilson score interval of a share seen in `rows` trials (Wilson 1927); z is 1.96 for 95 %.

    >>> low, high = wilson_interval(8 / 20, 20)
    >>> round(low, 2), round(high, 2)
    (0.22, 0.61)
    """
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return middle - half, middle + half


def baseline_finding(accuracy: float, test_labels: Ints) -> Finding:
    """Compare an accuracy with that of always answering the commoner label of the test rows."""
    share = float(max(np.mean(test_labels), 1 - np.mean(test_labels)))
    verb = "beats" if accuracy > share else "does not beat"
    sentence = f"The winner's {accuracy:.2f} {verb} the {share:.2f} of answering the commoner label for all {len(test_labels)} test rows."
    return Finding("baseline not beaten", accuracy <= share, sentence, {"accuracy": accuracy, "majority_share": share})


def permutation_finding(features: Floats, labels: Ints) -> Finding:
    """Ask whether a small tree separates the true labels (ROC-AUC, 5 folds) better than shuffled ones; a fault if p > 0.05."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    tree = DecisionTreeClassifier(max_depth=3, random_state=0)  # fast, sees more than lines, and needs no scaler
    options = {"cv": folds, "scoring": "roc_auc", "n_permutations": PERMUTATIONS, "random_state": 0}
    score, _, p = permutation_test_score(tree, features, labels, **options)
    sentence = f"A depth-3 tree scores ROC-AUC {score:.2f} on the true labels; {PERMUTATIONS} shufflings of the labels give p = {p:.2f}."
    return Finding("no signal", bool(p > 0.05), sentence, {"auc": float(score), "p": float(p), "permutations": PERMUTATIONS})


def claim_lines(claim: RecipeClaim) -> list[str]:
    """Return the recipe's claim and the audit as lines of plain text, without line ends."""
    lines = ["What the published recipe reports", "", f"{'model':<22}{'cross-validation':>18}{'test':>8}"]
    for score in claim.scores:
        mark = "  <- winner" if score.model == claim.winner else ""
        lines.append(f"{score.model:<22}{score.cv_accuracy:>18.3f}{score.test_accuracy:>8.2f}{mark}")
    accuracy = f"accuracy {claim.claimed_accuracy:.0%} on {claim.test_rows} test rows"
    lines += ["", f"Claim: {claim.winner} predicts schedule adherence, {accuracy}."]
    lines += ["", "What the audit of that run measured", ""]
    lines += [f"{'FAULT' if finding.fault else 'ok':<6}{finding.check}: {finding.sentence}" for finding in claim.findings]
    return lines


def main() -> None:
    """Run the recipe on its own rows and print the claim."""
    from published_data import published_rows  # a neighbour of this script; here, so that the file also loads by path

    print("\n".join(claim_lines(run_recipe(published_rows()))))


if __name__ == "__main__":
    main()
