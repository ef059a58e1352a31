"""A fitted pipeline as one small ONNX file that decides exactly as the pipeline does.

The graph takes the encoded matrix ("input", float32, shape (n, width)) and gives "output", float64, shape (n, classes) with probabilities or (n, 1)
with values. Sums and links are done in float64 (a float32 sum of 100 trees is off by 2e-6, this one by 3e-7, at a few microseconds a row); the one
rounding to float32 is of a tree ensemble's finished sum, because TreeEnsembleRegressor answers in float32. Only plain operators and ai.onnx.ml 3 are
used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from treadle.backends import tree_tables
from treadle.backends.encoder_table import describe
from treadle.core.errors import CannotConvert

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

FILE = "model.onnx"
OPSETS = {"": 18, "ai.onnx.ml": 3}
IR_VERSION = 8  # the oldest that goes with these opsets, so that old runtimes on devices read it

TREES: dict[str, Callable[[Any], tree_tables.Ensemble]] = {
    "DecisionTree": tree_tables.sklearn_trees,
    "RandomForest": tree_tables.sklearn_trees,
    "ExtraTrees": tree_tables.sklearn_trees,
    "GradientBoosting": tree_tables.gradient_boosting,
    "HistGradientBoosting": tree_tables.hist_gradient_boosting,
    "LGBM": tree_tables.lightgbm_trees,
    "XGB": tree_tables.xgboost_trees,
}
LIBRARIES = ("sklearn", "lightgbm", "xgboost")
WHY_NOT = {
    "AdaBoostClassifier": "its members' votes are weighed in ways that ONNX has no operator for",
    "AdaBoostRegressor": "it answers with a weighted median, which ONNX has no operator for",
    "SVC": "its kernel sums and its probabilities do not come out the same in another library",
    "SVR": "its kernel sums do not come out the same in another library",
    "KNeighborsClassifier": "it would carry the training rows into the package, and ties between neighbours would fall otherwise",
    "KNeighborsRegressor": "it would carry the training rows into the package, and ties between neighbours would fall otherwise",
    "MLPClassifier": "its float32 layers do not add up the same in another library",
    "MLPRegressor": "its float32 layers do not add up the same in another library",
}


class Graph:
    """The nodes and constants written so far. Each verb appends one node and returns the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: Any) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], domain=domain, **attributes))
        return name


def export(fitted: Pipeline, folder: Path) -> dict[str, Any]:
    """Write `folder/model.onnx` for a fitted pipeline of columns, float32 and model.

    Returns: `format` "onnx", `file`, `files` (all files written), `task`, `classes` and `encoder` as told in encoder_table, `width`, and `nodes`: how
        many operators of each kind, trees, splits and leaves the file holds.
    Raises: CannotConvert with the reason, when there is no exact equivalent.
    """
    info = describe(fitted)
    graph = Graph()
    counts = _write_model(graph, fitted.named_steps["model"], info)
    graph.nodes[-1].output[0] = "output"
    columns: list[Any] = [helper.make_tensor_value_info("input", TensorProto.FLOAT, [None, info["width"]])]
    answers = len(info["classes"]) if info["classes"] else 1
    outputs = [helper.make_tensor_value_info("output", TensorProto.DOUBLE, [None, answers])]
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS.items()]
    body = helper.make_graph(graph.nodes, "treadle", columns, outputs, graph.constants)
    model = helper.make_model(body, opset_imports=opsets, ir_version=IR_VERSION, producer_name="treadle")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(model.SerializeToString())
    operators = Counter(node.op_type for node in graph.nodes)
    return {"format": "onnx", "file": FILE, "files": [FILE], **info, "nodes": {"operators": dict(sorted(operators.items())), **counts}}


def _write_model(graph: Graph, model: Any, info: dict[str, Any]) -> dict[str, int]:
    kind, library = type(model).__name__, type(model).__module__.partition(".")[0]
    if (library, kind) == ("treadle", "TorchModel"):
        from treadle.backends.torch_export import write_network

        write_network(graph, model)
        return {}
    ours = type(model).__module__ == "treadle.training.online"  # linear models, however they came by their weights
    if library not in LIBRARIES and not ours:  # somebody's own class may bear a known name
        raise CannotConvert(f"{kind} of {library} is not converted to ONNX: only {', '.join(LIBRARIES)} are known.", hint="Package it as 'skops'.")
    family = kind.removesuffix("Classifier").removesuffix("Regressor")
    if kind in tree_tables.DUMMY:
        _write_constant(graph, model)
    elif kind in ("LogisticRegression", "OnlineLogisticRegression"):
        _write_linear(graph, model.coef_, model.intercept_, "sigmoid" if len(model.classes_) == 2 else "softmax")
    elif kind in ("Ridge", "LinearRegression", "OnlineRidge"):
        _write_linear(graph, np.reshape(model.coef_, (1, -1)), np.reshape(model.intercept_, -1), "identity")
    elif family in TREES:
        _refuse_unfilled(model, info["encoder"])
        ensemble = TREES[family](model)
        _write_link(graph, _write_trees(graph, ensemble), ensemble.link)
        leaves = sum(int((tree.feature < 0).sum()) for tree in ensemble.trees)
        return {"trees": len(ensemble.trees), "splits": sum(1 for _ in tree_tables.splits(ensemble)), "leaves": leaves}
    else:
        reason = WHY_NOT.get(kind, "no exact equivalent is known")
        raise CannotConvert(f"{kind} is not converted to ONNX: {reason}.", hint="Package it as 'skops', which serves the fitted estimator itself.")
    return {}


def _refuse_unfilled(model: Any, encoder: list[dict[str, Any]]) -> None:
    """Where the estimator raises on a missing value, the file must not answer."""
    from sklearn.utils import get_tags

    unfilled = [entry["name"] for entry in encoder if entry["kind"] == "number" and entry["fill"] is None]
    if unfilled and not get_tags(model).input_tags.allow_nan:
        what = f"{type(model).__name__} takes no missing values, but nothing fills those of '{unfilled[0]}'."
        raise CannotConvert(what, hint="Impute them in the pipeline.")


def _write_constant(graph: Graph, model: Any) -> None:
    if model.strategy in ("stratified", "uniform"):
        raise CannotConvert(f"A dummy with strategy '{model.strategy}' answers at random.", hint="Use 'prior' or 'most_frequent'.")
    width = getattr(model, "n_features_in_", 1)
    row = model.predict_proba(np.zeros((1, width))) if hasattr(model, "classes_") else np.reshape(model.constant_, (1, -1))
    rows = graph.add("Shape", "input", start=0, end=1)
    shape = graph.add("Concat", rows, graph.constant(np.array([row.shape[1]], dtype=np.int64)), axis=0)
    graph.add("Expand", graph.constant(row.astype(np.float64)), shape)


def _write_linear(graph: Graph, weights: np.ndarray, intercept: np.ndarray, link: tree_tables.Link) -> None:
    exact = graph.add("Cast", "input", to=TensorProto.DOUBLE)
    product = graph.add("MatMul", exact, graph.constant(np.asarray(weights, dtype=np.float64).T.copy()))
    offset = np.broadcast_to(np.asarray(intercept, dtype=np.float64), (len(weights),))
    _write_link(graph, graph.add("Add", product, graph.constant(offset.copy())), link)


def _write_trees(graph: Graph, ensemble: tree_tables.Ensemble) -> str:
    trees = ensemble.trees
    sizes = [len(tree.feature) for tree in trees]
    feature = np.concatenate([tree.feature for tree in trees])
    leaf = feature < 0
    owner = np.repeat(np.arange(len(trees)), sizes)
    node = np.concatenate([np.arange(size) for size in sizes])
    wide = trees[0].value.shape[1]
    output = np.concatenate([np.full(size, tree.output) for size, tree in zip(sizes, trees)])[leaf]

    def column(name: str) -> np.ndarray:
        return np.concatenate([getattr(tree, name) for tree in trees])

    summed = graph.add(
        "TreeEnsembleRegressor",
        graph.add("Cast", "input", to=TensorProto.DOUBLE),
        domain="ai.onnx.ml",
        aggregate_function="SUM",
        post_transform="NONE",
        n_targets=len(ensemble.base),
        nodes_treeids=owner.tolist(),
        nodes_nodeids=node.tolist(),
        nodes_featureids=np.where(leaf, 0, feature).tolist(),
        nodes_modes=["LEAF" if end else "BRANCH_LEQ" for end in leaf],
        nodes_values_as_tensor=numpy_helper.from_array(np.where(leaf, 0, column("threshold")).astype(np.float64), "thresholds"),
        nodes_missing_value_tracks_true=(column("missing_left") & ~leaf).astype(int).tolist(),
        nodes_truenodeids=np.where(leaf, 0, column("left")).tolist(),
        nodes_falsenodeids=np.where(leaf, 0, column("right")).tolist(),
        target_treeids=np.repeat(owner[leaf], wide).tolist(),
        target_nodeids=np.repeat(node[leaf], wide).tolist(),
        target_ids=(output[:, None] + np.arange(wide)).ravel().tolist(),
        target_weights_as_tensor=numpy_helper.from_array(column("value")[leaf].astype(np.float64).ravel(), "leaves"),
    )
    raw = graph.add("Cast", summed, to=TensorProto.DOUBLE)
    if ensemble.divide != 1:
        raw = graph.add("Div", raw, graph.constant(np.float64(ensemble.divide)))
    if np.any(ensemble.base):
        raw = graph.add("Add", raw, graph.constant(np.array(ensemble.base, dtype=np.float64)))
    return raw


def _write_link(graph: Graph, raw: str, link: tree_tables.Link) -> None:
    """The probabilities or values of raw sums of shape (n, outputs)."""
    if link == "sigmoid":  # both columns at once: sigmoid(-raw), sigmoid(raw)
        graph.add("Sigmoid", graph.add("Mul", raw, graph.constant(np.array([[-1.0, 1.0]]))))
    elif link == "shares":
        graph.add("Add", graph.add("Mul", raw, graph.constant(np.array([[-1.0, 1.0]]))), graph.constant(np.array([[1.0, 0.0]])))
    elif link == "softmax":
        graph.add("Softmax", raw, axis=1)
    elif link == "exp":
        graph.add("Exp", raw)
