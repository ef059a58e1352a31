"""A tree ensemble of a package, asked about many rows at once: by lookup tables over columns instead of a walk down each tree for each row.

Each tree's leaves are bits of a word, leftmost lowest. A split that a row fails rules out the leaves on its left; the lowest that remains is the
row's leaf. (Lucchese et al. 2015, "QuickScorer".) Which splits a value fails depends only on between which thresholds of its feature it lies, so a
feature's splits become one table: a row for each place between thresholds, a word for each tree. The words of a row to be answered are the AND of
one table row a feature. Leaf values are added in the order of the trees in float64 and rounded once, as ONNX Runtime does; what follows (link,
classes) is left to it. So the answers are bit for bit the same, in half the time or less. Files of another shape, and trees of more than 64 leaves,
are not read: None.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

# Rows at a time, by the bytes of a word: what is worked on stays in the cache, and in memory that is not asked of the system anew each time.
_ROWS = {1: 2_048, 2: 512, 4: 256, 8: 128}
MOST_LEAVES = 64
_MOST_BYTES = 64_000_000  # of all tables: beyond it a walk is quicker
_WORDS: tuple[tuple[int, Any], ...] = ((8, np.uint8), (16, np.uint16), (32, np.uint32), (64, np.uint64))


def tree_scorer(folder: Path, info: dict[str, Any]) -> TreeScorer | None:
    """What answers a package's rows in bulk; None where its model is not one ensemble of small trees, or the package 'onnx' is not installed."""
    if info.get("format") != "onnx" or "TreeEnsembleRegressor" not in (info.get("nodes") or {}).get("operators", {}):
        return None
    try:
        import onnx
        from onnx import TensorProto, helper
    except ModuleNotFoundError:
        return None
    model = onnx.load(folder / str(info["file"]), load_external_data=False)
    nodes = list(model.graph.node)
    found = [n for n in nodes if n.op_type == "TreeEnsembleRegressor"]
    if len(found) != 1:
        return None
    tables = _tables({a.name: helper.get_attribute_value(a) for a in found[0].attribute}, int(info["width"]))
    if tables is None:
        return None
    # The rest of the graph, from the ensemble's sum on.
    summed, needed = found[0].output[0], {"output"}
    kept: list[Any] = []
    for node in reversed(nodes):
        if node is not found[0] and needed & set(node.output):
            kept.insert(0, node)
            needed |= set(node.input)
    if "input" in needed or summed not in needed:
        return None
    targets = tables.leaves.shape[2]
    graph = helper.make_graph(
        kept, "rest", [helper.make_tensor_value_info(summed, TensorProto.FLOAT, [None, targets])], list(model.graph.output),
        [one for one in model.graph.initializer if one.name in needed],
    )  # fmt: skip
    rest = helper.make_model(graph, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    return TreeScorer(tables, rest.SerializeToString(), summed, int(info["width"]))


class _Tables:
    """The tables of an ensemble.

    Attributes:
        features: (column, thresholds ascending, words of shape (thresholds + 2, trees)); the last row is that of a missing value.
        leaves: values, float64 of shape (trees, leaves, targets), leftmost leaf first.
    """

    def __init__(self, features: list[tuple[int, np.ndarray, np.ndarray]], leaves: np.ndarray) -> None:
        self.features, self.leaves = features, leaves


class TreeScorer:
    """Answers matrices. Safe to call from several threads."""

    def __init__(self, tables: _Tables, rest: bytes, summed: str, width: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._rest = ort.InferenceSession(rest, options, providers=["CPUExecutionProvider"])
        self._summed = summed
        self.width = width
        self._tables = tables
        trees, leaves, targets = tables.leaves.shape
        self._rows = _ROWS[tables.features[0][2].dtype.itemsize] if tables.features else _ROWS[1]
        self._first = (np.arange(trees, dtype=np.intp) * leaves)[:, None]
        self._values = [np.ascontiguousarray(tables.leaves[:, :, target]).ravel() for target in range(targets)]
        # Of words of a byte the leaf's value is looked up by the word itself.
        self._by_word: list[np.ndarray] = []
        if tables.features and tables.features[0][2].dtype == np.uint8:
            words = np.arange(256, dtype=np.uint8)
            lowest = np.minimum(_lowest(words), leaves - 1)
            self._by_word = [np.ascontiguousarray(tables.leaves[:, lowest, target]).ravel() for target in range(targets)]
            self._first = (np.arange(trees, dtype=np.intp) * 256)[:, None]

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Encoded rows, float32 of shape (n, width), to float64 of shape (n, classes) or (n, 1)."""
        sums = np.empty((len(matrix), len(self._values)), dtype=np.float32)
        size = self._rows
        for start in range(0, len(matrix), size):
            self._sum(matrix[start : start + size], sums[start : start + size])
        answer: np.ndarray = self._rest.run(("output",), {self._summed: sums})[0]
        return answer

    def _sum(self, rows: np.ndarray, sums: np.ndarray) -> None:
        words: np.ndarray | None = None
        for column, thresholds, table in self._tables.features:
            values = rows[:, column]
            places = np.searchsorted(thresholds, values, side="left")  # how many thresholds the value is above
            places[np.isnan(values)] = len(thresholds) + 1
            taken = table.take(places, axis=0)
            words = taken if words is None else np.bitwise_and(words, taken, out=words)
        if words is None:  # trees of one leaf each
            sums[:] = self._tables.leaves[:, 0, :].cumsum(axis=0)[-1]
            return
        across = np.ascontiguousarray(words.T)
        at = (across if self._by_word else _lowest(across)).astype(np.intp)
        at += self._first
        for target, values in enumerate(self._by_word or self._values):
            sums[:, target] = np.add.reduce(values.take(at), axis=0)  # over the outer axis: one tree after the other


def _lowest(words: np.ndarray) -> np.ndarray:
    """The number of the lowest bit that is set."""
    one = words.dtype.type(1)
    counted: np.ndarray = np.bitwise_count((words & (~words + one)) - one)
    return counted


def _tables(said: dict[str, Any], width: int) -> _Tables | None:
    if said.get("base_values") or said.get("base_values_as_tensor") is not None or set(said["nodes_modes"]) - {b"LEAF", b"BRANCH_LEQ"}:
        return None
    if said.get("aggregate_function", b"SUM") != b"SUM" or said.get("post_transform", b"NONE") != b"NONE":
        return None
    from onnx import numpy_helper

    thresholds = numpy_helper.to_array(said["nodes_values_as_tensor"])
    weights = numpy_helper.to_array(said["target_weights_as_tensor"])
    owner, number = np.asarray(said["nodes_treeids"]), np.asarray(said["nodes_nodeids"])
    place = {(int(t), int(n)): i for i, (t, n) in enumerate(zip(owner, number))}
    value: dict[tuple[int, int], dict[int, float]] = {}
    for tree, node, target, weight in zip(said["target_treeids"], said["target_nodeids"], said["target_ids"], weights):
        value.setdefault((tree, node), {})[target] = float(weight)
    trees = sorted(set(owner.tolist()))
    numbered = {tree: i for i, tree in enumerate(trees)}
    leaves: list[list[dict[int, float]]] = [[] for _ in trees]
    splits: list[tuple[int, float, bool, int, int, int]] = []  # feature, threshold, missing goes left, tree, leaves on the left: first, one past
    for tree in trees:
        mine = leaves[numbered[tree]]
        ready: list[tuple[int, int]] = [(place[tree, 0], 0)]  # node, and what is to be done: 0 go down, 1 its left side is done
        begun: dict[int, int] = {}
        while ready:
            i, stage = ready.pop()
            if said["nodes_modes"][i] == b"LEAF":
                mine.append(value.get((tree, int(number[i])), {}))
            elif stage == 0:
                begun[i] = len(mine)
                ready += [(i, 1), (place[tree, said["nodes_truenodeids"][i]], 0)]
            else:
                left = bool(said["nodes_missing_value_tracks_true"][i])
                splits.append((said["nodes_featureids"][i], float(thresholds[i]), left, numbered[tree], begun[i], len(mine)))
                ready.append((place[tree, said["nodes_falsenodeids"][i]], 0))
    most = max(map(len, leaves))
    word = next((kind for bits, kind in _WORDS if most <= bits), None)
    features = sorted({s[0] for s in splits})
    if word is None or sum(len({s[1] for s in splits if s[0] == f}) + 2 for f in features) * len(trees) * np.dtype(word).itemsize > _MOST_BYTES:
        return None
    full = np.iinfo(word).max
    made = []
    for feature in features:
        mine_of = [s for s in splits if s[0] == feature]
        cuts = np.unique([s[1] for s in mine_of])
        table = np.full((len(cuts) + 2, len(trees)), full, dtype=word)
        for _, threshold, left, tree, first, last in mine_of:
            gone = word(full ^ (((1 << last) - 1) & ~((1 << first) - 1)))
            table[int(np.searchsorted(cuts, threshold)) + 1 : len(cuts) + 1, tree] &= gone  # above the threshold: what is on the left is out
            if not left:
                table[-1, tree] &= gone
        made.append((feature, cuts, table))
    filled = np.zeros((len(trees), most, int(said["n_targets"])))
    for t, of_tree in enumerate(leaves):
        for leaf, targets in enumerate(of_tree):
            for target, weight in targets.items():
                filled[t, leaf, target] = weight
    return _Tables(made, filled) if all(f < width for f in features) else None
