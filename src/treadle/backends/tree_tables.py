"""Fitted tree ensembles of four libraries as one table of splits, with every decision kept.

Each library asks another question at a split (`x <= t` in float64, `x < t` in float32, missing values left, right or as zero). Since the model was
fitted on float32 values, all of them become one question, `x <= t` with a float32 `t` and a side for missing values, by moving `t` to the neighbour
that keeps the decision for every float32 `x`. It does not matter then in which precision a runtime compares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from treadle.core.errors import CannotConvert

Link = Literal["identity", "exp", "sigmoid", "softmax", "shares"]

LIGHTGBM_ZERO = float(np.float32(1e-35))
"""LightGBM reads a value no further from zero than this as zero (kZeroThreshold in its meta.h)."""
LIGHTGBM_INFINITY = 1e300
"""LightGBM writes an infinite threshold as this number (AvoidInf in its common.h)."""
DUMMY = {"DummyClassifier", "DummyRegressor"}


def floor32(threshold: Any) -> np.ndarray:
    """The largest float32 not above each threshold: for every float32 x, `x <= t` is `x <= floor32(t)`. NaN stays NaN."""
    exact = np.asarray(threshold, dtype=np.float64)
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
        return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near)


def below32(threshold: Any) -> np.ndarray:
    """The largest float32 below each threshold: for every float32 x, `x < t` is `x <= below32(t)`."""
    floor = floor32(threshold)
    with np.errstate(over="ignore"):
        return np.where(floor == np.asarray(threshold, dtype=np.float64), np.nextafter(floor, np.float32(-np.inf)), floor)


@dataclass(frozen=True)
class Tree:
    """One tree; node 0 is the root. A row goes left where `x[feature] <= threshold`, or where x is NaN and `missing_left`.

    Args:
        feature: int of shape (nodes,), the matrix column; -1 at a leaf.
        threshold: float64 of shape (nodes,), every value a float32.
        missing_left: bool of shape (nodes,).
        left, right: int of shape (nodes,), the child nodes.
        value: float64 of shape (nodes, k): what a leaf adds to the k outputs from `output` on.
        output: the first output it adds to.
    """

    feature: np.ndarray
    threshold: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    output: int = 0


@dataclass(frozen=True)
class Ensemble:
    """Trees that add up: raw = base + sum / divide, then the link makes the answer of it.

    Args:
        base: float64 of shape (outputs,).
        divide: the number of trees for an average, else 1.
        link: 'shares' means that the one output is the second class's probability; 'sigmoid' that it is its log-odds.
    """

    trees: list[Tree]
    base: np.ndarray
    divide: float
    link: Link


def sklearn_trees(model: Any) -> Ensemble:
    """DecisionTree*, RandomForest* and ExtraTrees*: the mean over the trees of values or class shares (`x <= t`, x float32, t float64)."""
    members = list(getattr(model, "estimators_", [model]))
    if model.n_outputs_ != 1:
        raise CannotConvert(f"{type(model).__name__} was fitted on {model.n_outputs_} targets.", hint="Declare one model a target.")
    classes = len(getattr(model, "classes_", [None]))
    # The second class's share is enough for two classes, and one output is faster than two.
    wanted = slice(1, 2) if classes == 2 else slice(None)
    trees = [_sklearn_tree(member.tree_, member.tree_.value[:, 0, wanted]) for member in members]
    return Ensemble(trees, np.zeros(trees[0].value.shape[1]), len(members), "shares" if classes == 2 else "identity")


def gradient_boosting(model: Any) -> Ensemble:
    """GradientBoosting*: a first guess, then learning rate times each stage's trees, one a class."""
    if model.init_ != "zero" and type(model.init_).__name__ not in DUMMY:
        raise CannotConvert(f"GradientBoosting starts from a {type(model.init_).__name__}, not from a constant.", hint="Leave `init` unset.")
    base = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0]
    trees = [
        _sklearn_tree(member.tree_, model.learning_rate * member.tree_.value[:, 0, :], output)
        for stage in model.estimators_
        for output, member in enumerate(stage)
    ]
    link: Link = "identity" if not hasattr(model, "classes_") else "softmax" if len(base) > 1 else "sigmoid"
    if getattr(model, "loss", None) == "exponential":
        # AdaBoost's loss: probability = sigmoid(2 raw). Friedman, Hastie, Tibshirani (2000), Annals of Statistics 28(2), section 4.
        trees = [Tree(t.feature, t.threshold, t.missing_left, t.left, t.right, 2 * t.value) for t in trees]
        base = 2 * base
    return Ensemble(trees, base, 1, link)


def _sklearn_tree(tree: Any, value: np.ndarray, output: int = 0) -> Tree:
    leaf = tree.children_left == -1
    feature = np.where(leaf, -1, tree.feature)
    return Tree(feature, floor32(tree.threshold), tree.missing_go_to_left.astype(bool), tree.children_left, tree.children_right, value, output)


def hist_gradient_boosting(model: Any) -> Ensemble:
    """HistGradientBoosting*: `x <= t` in float64 with a learnt side for missing values; no native categories."""
    trees = []
    for stage in model._predictors:
        for output, predictor in enumerate(stage):
            nodes = predictor.nodes
            leaf = nodes["is_leaf"].astype(bool)
            if nodes["is_categorical"].any():
                raise CannotConvert("HistGradientBoosting splits on native categories.", hint="Leave `categorical_features` unset.")
            feature = np.where(leaf, -1, nodes["feature_idx"].astype(np.int64))
            value = nodes["value"].reshape(-1, 1)
            left, right = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
            trees.append(Tree(feature, floor32(nodes["num_threshold"]), nodes["missing_go_to_left"].astype(bool), left, right, value, output))
    base = np.asarray(model._baseline_prediction, dtype=np.float64).reshape(-1)
    if hasattr(model, "classes_"):
        return Ensemble(trees, base, 1, "softmax" if len(base) > 1 else "sigmoid")
    return Ensemble(trees, base, 1, "exp" if model.loss in ("poisson", "gamma") else "identity")


LIGHTGBM_LINKS: dict[str, Link] = {
    "binary": "sigmoid",
    "cross_entropy": "sigmoid",
    "multiclass": "softmax",
    **dict.fromkeys(("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg"), "identity"),  # type: ignore[dict-item]
    **dict.fromkeys(("poisson", "gamma", "tweedie"), "exp"),  # type: ignore[dict-item]
}


def lightgbm_trees(model: Any) -> Ensemble:
    """LGBM*: `x <= t` in float64; a NaN goes to its side, or counts as zero where training saw none. Stops at the best iteration."""
    dump = model.booster_.dump_model()
    name, *options = str(dump.get("objective", "none")).split()
    link = LIGHTGBM_LINKS.get(name)
    slope = next((float(option.split(":")[1]) for option in options if option.startswith("sigmoid:")), 1.0)
    if link is None or "sqrt" in options or slope != 1.0 or any(option.startswith("linear_tree") for option in options):
        raise CannotConvert(f"LightGBM's objective '{dump.get('objective')}' has no exact conversion here.", hint="Use one of its plain objectives.")
    outputs = int(dump["num_tree_per_iteration"])
    trees = [_lightgbm_tree(tree["tree_structure"], i % outputs) for i, tree in enumerate(dump["tree_info"])]
    average = dump.get("average_output") and len(trees)
    return Ensemble(trees, np.zeros(outputs), len(trees) / outputs if average else 1, link)


def _lightgbm_tree(root: dict[str, Any], output: int) -> Tree:
    nodes: list[dict[str, Any]] = []
    children: list[tuple[int, int]] = []

    def add(node: dict[str, Any]) -> int:
        here = len(nodes)
        nodes.append(node)
        children.append((0, 0))
        if "split_feature" in node:
            children[here] = (add(node["left_child"]), add(node["right_child"]))
        return here

    add(root)
    threshold, missing_left = np.zeros(len(nodes)), np.zeros(len(nodes), dtype=bool)
    for i, node in enumerate(nodes):
        if "leaf_coeff" in node or "leaf_const" in node:
            raise CannotConvert("LightGBM's leaves hold linear models.", hint="Leave `linear_tree` unset.")
        if "split_feature" in node:
            threshold[i], missing_left[i] = _lightgbm_split(node)
    return Tree(
        np.array([node.get("split_feature", -1) for node in nodes]),
        threshold,
        missing_left,
        np.array([left for left, _ in children]),
        np.array([right for _, right in children]),
        np.array([[node.get("leaf_value", 0.0)] for node in nodes], dtype=np.float64),
        output,
    )


def _lightgbm_split(node: dict[str, Any]) -> tuple[float, bool]:
    if node["decision_type"] != "<=":
        raise CannotConvert("LightGBM splits on native categories.", hint="Leave `categorical_feature` unset; categories are encoded before.")
    if node["missing_type"] == "Zero":
        raise CannotConvert("LightGBM takes zeros as missing.", hint="Leave `zero_as_missing` unset.")
    exact = float(node["threshold"])
    missing_left = bool(node["default_left"]) if node["missing_type"] == "NaN" else exact >= 0
    if exact >= LIGHTGBM_INFINITY:
        return np.inf, missing_left
    # A value within LIGHTGBM_ZERO of zero is compared as zero, so a threshold in there moves to the edge on its side.
    if 0 <= exact < LIGHTGBM_ZERO:
        return LIGHTGBM_ZERO, missing_left
    if -LIGHTGBM_ZERO <= exact < 0:
        return float(below32(-LIGHTGBM_ZERO)), missing_left
    return float(floor32(exact)), missing_left


XGBOOST_LINKS: dict[str, Link] = {
    "binary:logistic": "sigmoid",
    "multi:softprob": "softmax",
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
}


def xgboost_trees(model: Any) -> Ensemble:
    """XGB*: `x < t` in float32 with a default side for NaN. Stops at the best iteration."""
    if not np.isnan(model.missing):
        raise CannotConvert(f"XGBoost takes {model.missing} as missing.", hint="Leave `missing` at NaN.")
    booster = model.get_booster()
    if model.early_stopping_rounds is not None:
        booster = booster[: model.best_iteration + 1]
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    objective, kind, sizes = learner["objective"]["name"], learner["gradient_booster"]["name"], learner["learner_model_param"]
    if kind != "gbtree" or objective not in XGBOOST_LINKS or int(sizes.get("num_target", 1)) != 1:
        raise CannotConvert(f"XGBoost's {kind} with objective '{objective}' has no exact conversion here.", hint="Use plain trees and objectives.")
    inner = learner["gradient_booster"]["model"]
    outputs = max(1, int(sizes["num_class"]))
    base = np.array([np.float32(number) for number in re.findall(r"[-+.\dEe]+", str(sizes["base_score"]))], dtype=np.float64)
    if XGBOOST_LINKS[objective] == "sigmoid":
        base = np.log(base) - np.log1p(-base)
    trees = [_xgboost_tree(tree, int(output)) for tree, output in zip(inner["trees"], inner["tree_info"], strict=True)]
    return Ensemble(trees, np.broadcast_to(base, (outputs,)), 1, XGBOOST_LINKS[objective])


def _xgboost_tree(tree: dict[str, Any], output: int) -> Tree:
    if any(tree["split_type"]) or int(tree["tree_param"]["size_leaf_vector"]) > 1:
        raise CannotConvert("XGBoost splits on native categories or has leaves for several outputs.", hint="Leave both unset.")
    left = np.array(tree["left_children"])
    number = np.array(tree["split_conditions"], dtype=np.float32)
    leaf = left == -1
    value = np.where(leaf, number, 0).astype(np.float64).reshape(-1, 1)
    threshold = np.where(leaf, np.float32(0), below32(number))
    default = np.array(tree["default_left"], dtype=bool)
    return Tree(np.where(leaf, -1, tree["split_indices"]), threshold, default, left, np.array(tree["right_children"]), value, output)


def splits(ensemble: Ensemble) -> Iterator[tuple[int, float]]:
    """Every (matrix column, threshold) an ensemble decides on: where a test must look."""
    for tree in ensemble.trees:
        for node in np.flatnonzero(tree.feature >= 0):
            yield int(tree.feature[node]), float(tree.threshold[node])
