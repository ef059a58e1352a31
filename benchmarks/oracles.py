"""Our own fairness measures, conformal sets and tree explanations against the libraries they stand in for: Fairlearn, MAPIE and SHAP.

    python benchmarks/oracles.py [--json FILE]

The same rows and models go through both; printed is the largest difference of any figure, which must be below 1e-6. The libraries have a virtual
environment of their own in benchmarks/.environments/oracles, made on first use (this needs a package index), with the scikit-learn and LightGBM of
this one.
"""

from __future__ import annotations

import argparse
import json
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".environments" / "oracles"
ROWS, CLASSES, LEVEL = 3_000, 4, 0.9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    _environment()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        _write_cases(place)
        ours = {**_fairness(place), **_conformal(place), **_trees(place)}
        subprocess.run([str(ENVIRONMENT / "bin" / "python"), str(Path(__file__).absolute()), "peer", folder], check=True)
        with np.load(place / "theirs.npz") as theirs:
            for name, values in ours.items():
                other = theirs[name]
                assert np.shape(values) == other.shape, f"{name}: {np.shape(values)} against {other.shape}"
                found[name] = {"figures": int(np.size(values)), "largest_difference": float(np.abs(np.asarray(values, dtype=float) - other).max())}
                assert found[name]["largest_difference"] < 1e-6, f"{name}: {found[name]}"
                print(f"  {name:<48} {np.size(values):>7,} figures  largest difference {found[name]['largest_difference']:.1e}")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


def _write_cases(place: Path) -> None:
    """Rows and models that both sides are given."""
    from lightgbm import LGBMClassifier, LGBMRegressor
    from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingClassifier
    from sklearn.tree import DecisionTreeRegressor

    rng = np.random.default_rng(0)
    sex, race = rng.choice(["f", "m"], ROWS), rng.choice(["x", "y", "z"], ROWS, p=[0.6, 0.3, 0.1])
    score = rng.normal(size=ROWS) - 0.6 * (sex == "f") + 0.4 * (race == "z")
    p = 1 / (1 + np.exp(-score))
    truth = (rng.uniform(size=ROWS) < p).astype(int)
    numbers = rng.normal(size=(2, ROWS))
    classes = rng.integers(0, CLASSES, ROWS)
    shares = rng.dirichlet(np.ones(CLASSES), ROWS) + 0.8 * np.eye(CLASSES)[classes] * rng.uniform(size=(ROWS, 1))
    shares /= shares.sum(axis=1, keepdims=True)
    x = rng.normal(size=(ROWS, 6)).astype(np.float32)
    y = x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * rng.normal(size=ROWS)
    np.savez(place / "rows.npz", sex=sex, race=race, p=p, truth=truth, numbers=numbers, classes=classes, shares=shares, x=x)
    models = {
        "lightgbm_number": LGBMRegressor(n_estimators=60, verbosity=-1, n_jobs=1).fit(x, y),
        "lightgbm_classes": LGBMClassifier(n_estimators=60, verbosity=-1, n_jobs=1).fit(x, y > 0),
        "gradient_boosting": GradientBoostingClassifier(n_estimators=40, random_state=0).fit(x, y > 0),
        "extra_trees": ExtraTreesRegressor(30, min_samples_leaf=10, random_state=0).fit(x, y),
        "tree": DecisionTreeRegressor(min_samples_leaf=10, random_state=0).fit(x, y),
    }
    (place / "models.pickle").write_bytes(pickle.dumps(models))


def _fairness(place: Path) -> dict[str, Any]:
    from treadle.training.fairness import fairness

    with np.load(place / "rows.npz") as r:
        output = np.column_stack([1 - r["p"], r["p"]])
        attributes = {"sex": r["sex"].astype(object), "race": r["race"].astype(object)}
        said = fairness("binary", r["truth"], output, attributes, np.arange(ROWS))
    found = {}
    for entry in said["attributes"]:
        name = entry["attribute"].replace(" ", "")
        groups = [[g[m]["value"] for m in ("selected", "true_positive", "false_positive", "accuracy")] for g in entry["groups"]]
        found[f"fairlearn: groups of {name}"] = np.array(groups)
        found[f"fairlearn: ratio, difference, odds of {name}"] = np.array([entry[m]["value"] for m in ("ratio", "parity", "odds")])
    return found


def _conformal(place: Path) -> dict[str, Any]:
    from treadle.training.conformal import scores, threshold

    half = ROWS // 2
    with np.load(place / "rows.npz") as r:
        said, truth = r["numbers"]
        limit = threshold(scores("regression", truth[:half], said[:half, None]), LEVEL)
        of_classes = threshold(scores("multiclass", r["classes"][:half], r["shares"][:half]), LEVEL)
        assert limit is not None
        assert of_classes is not None
        return {
            "mapie: intervals": np.column_stack([said[half:] - limit, said[half:] + limit]),
            "mapie: sets of classes": (1 - r["shares"][half:] <= of_classes).astype(float),
        }


def _trees(place: Path) -> dict[str, Any]:
    from treadle.assemble import tree_table
    from treadle.serving.contributions import Contributions
    from treadle.training import explain

    x, found = np.load(place / "rows.npz")["x"], {}
    for name, model in pickle.loads((place / "models.pickle").read_bytes()).items():
        folder = place / name
        folder.mkdir()
        explain.write(folder, explain.tree_terms(tree_table(model), x))
        contributions = Contributions(folder, [{"name": str(i), "kind": "number"} for i in range(x.shape[1])])
        found[f"shap: {name}"] = np.array([contributions.of(row)[:, 0] for row in x[:200]])
    return found


def peer(folder: str) -> None:
    """The libraries' side, run in their environment."""
    import fairlearn.metrics as fair
    import shap
    from mapie.classification import SplitConformalClassifier
    from mapie.regression import SplitConformalRegressor
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.metrics import accuracy_score

    place, found = Path(folder), {}
    r = np.load(place / "rows.npz")
    truth, selected = r["truth"], r["p"] >= 0.5
    measures = {"s": fair.selection_rate, "t": fair.true_positive_rate, "f": fair.false_positive_rate, "a": accuracy_score}
    pairs = np.array([f"{a} + {b}" for a, b in zip(r["sex"], r["race"])])
    for name, groups in (("sex", r["sex"]), ("race", r["race"]), ("sexxrace", pairs)):
        frame = fair.MetricFrame(metrics=measures, y_true=truth, y_pred=selected, sensitive_features=groups)
        found[f"fairlearn: groups of {name}"] = frame.by_group.to_numpy(dtype=float)
        given = {"sensitive_features": groups}
        found[f"fairlearn: ratio, difference, odds of {name}"] = np.array([
            fair.demographic_parity_ratio(truth, selected, **given), fair.demographic_parity_difference(truth, selected, **given),
            fair.equalized_odds_difference(truth, selected, **given),
        ])  # fmt: skip

    class Said(RegressorMixin, BaseEstimator):
        """Answers what it is given."""

        def fit(self, X: Any, y: Any = None) -> Any:
            self.fitted_ = True
            self.n_features_in_ = X.shape[1]
            return self

        def predict(self, X: Any) -> Any:
            return X[:, 0]

    class SaidShares(ClassifierMixin, Said):
        def fit(self, X: Any, y: Any = None) -> Any:
            self.classes_ = np.arange(CLASSES)
            return super().fit(X, y)

        def predict_proba(self, X: Any) -> Any:
            return X

        def predict(self, X: Any) -> Any:
            return X.argmax(axis=1)

    half = ROWS // 2
    said, numbers = r["numbers"]
    regressor = SplitConformalRegressor(Said().fit(said[:, None]), confidence_level=LEVEL, prefit=True)
    regressor.conformalize(said[:half, None], numbers[:half])
    found["mapie: intervals"] = regressor.predict_interval(said[half:, None])[1][:, :, 0]
    classifier = SplitConformalClassifier(SaidShares().fit(r["shares"]), confidence_level=LEVEL, prefit=True, conformity_score="lac")
    classifier.conformalize(r["shares"][:half], r["classes"][:half])
    found["mapie: sets of classes"] = classifier.predict_set(r["shares"][half:])[1][:, :, 0].astype(float)
    for name, model in pickle.loads((place / "models.pickle").read_bytes()).items():
        explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
        values = np.asarray(explainer.shap_values(r["x"][:200]))
        found[f"shap: {name}"] = values if values.ndim == 2 else values[..., -1]
    np.savez(place / "theirs.npz", **found)


def _environment() -> None:
    from importlib.metadata import version

    if not (ENVIRONMENT / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        same = [f"{name}=={version(name)}" for name in ("scikit-learn", "lightgbm", "numpy")]
        subprocess.run([str(ENVIRONMENT / "bin" / "pip"), "install", "-q", *same, "fairlearn", "mapie", "shap"], check=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["peer"]:
        peer(sys.argv[2])
    else:
        main()
