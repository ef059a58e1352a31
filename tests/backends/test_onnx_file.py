"""Any self-contained ONNX file is served as it is; whatever a file asks for beyond that is refused before it is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from treadle.backends.onnx_file import OnnxFile, Wish, describe
from treadle.core.errors import Corrupt, InvalidRequest, NotFound, Refused, UsageError

F, I32, S = TensorProto.FLOAT, TensorProto.INT32, TensorProto.STRING


def write(
    path: Path, nodes: Sequence[Any], inputs: Sequence[tuple[str, int, list[Any]]], outputs: Sequence[tuple[str, int, list[Any]]],
    constants: dict[str, np.ndarray] | None = None, domains: Sequence[str] = ("",),
) -> Path:  # fmt: skip
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info(*i) for i in inputs], [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(d, 18 if not d else 3) for d in domains], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def softmax(tmp_path: Path) -> Path:
    """Three classes from four numbers."""
    weights = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["raw"]), helper.make_node("Softmax", ["raw"], ["p"], axis=1)]
    return write(tmp_path / "m.onnx", nodes, [("x", F, ["n", 4])], [("p", F, ["n", 3]), ("raw", F, ["n", 3])], {"w": weights})


def opened(path: Path, info: dict[str, Any], folder: Path) -> Any:
    folder.mkdir(exist_ok=True)
    (folder / "model.onnx").write_bytes(path.read_bytes())
    return OnnxFile().load(folder, info)


def test_an_input_of_several_numbers_is_a_vector_or_named_columns(softmax: Path, tmp_path: Path) -> None:
    info, fields = describe(softmax, Wish(output="p", labels=("a", "b", "c")))
    assert [(f["name"], f["kind"], f["length"]) for f in fields] == [("x", "vector", 4)]
    assert (info["task"], info["classes"], info["width"]) == ("multiclass", ["a", "b", "c"], 1)
    named, columns = describe(softmax, Wish(output="p", columns=("a", "b", "c", "d")))
    assert [(f["name"], f["kind"]) for f in columns] == [(n, "number") for n in "abcd"]
    x = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    vectors = np.empty((5, 1), dtype=object)
    vectors[:, 0] = x.tolist()
    one, two = (opened(softmax, i, tmp_path / "p").score(m) for i, m in ((info, vectors), (named, x.astype(object))))
    assert one.shape == (5, 3)
    assert np.array_equal(one, two)
    np.testing.assert_allclose(one.sum(axis=1), 1, atol=1e-6)
    with pytest.raises(InvalidRequest, match="rows of 4 fields"):
        opened(softmax, named, tmp_path / "p").score(vectors)


def test_log_odds_are_not_taken_for_probabilities(softmax: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Which output is the answer"):
        describe(softmax, Wish())
    with pytest.raises(UsageError, match="no output 'q'"):
        describe(softmax, Wish(output="q"))
    with pytest.raises(Refused, match="gives no probabilities"):
        describe(softmax, Wish(output="raw"))
    info, _ = describe(softmax, Wish(output="raw", link="softmax"))
    p, _ = describe(softmax, Wish(output="p"))
    x = np.empty((2, 1), dtype=object)
    x[:, 0] = [[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 0.5, 9.0]]
    np.testing.assert_allclose(opened(softmax, info, tmp_path / "p").score(x), opened(softmax, p, tmp_path / "p").score(x), atol=1e-6)
    with pytest.raises(UsageError, match="2 labels were given for an output of 3 numbers"):
        describe(softmax, Wish(output="p", labels=("a", "b")))


def test_texts_whole_numbers_and_truths_are_fields_of_their_kind(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["whole"], ["a"], to=F), helper.make_node("Cast", ["truth"], ["b"], to=F),
        helper.make_node("LabelEncoder", ["word"], ["c"], domain="ai.onnx.ml", keys_strings=["yes"], values_floats=[100.0], default_float=0.0),
        helper.make_node("Add", ["a", "b"], ["ab"]), helper.make_node("Add", ["ab", "c"], ["y"]),
    ]  # fmt: skip
    inputs = [("whole", I32, ["n", 1]), ("truth", TensorProto.BOOL, ["n", 1]), ("word", S, ["n", 1])]
    path = write(tmp_path / "m.onnx", nodes, inputs, [("y", F, ["n", 1])], domains=("", "ai.onnx.ml"))
    info, fields = describe(path, Wish())
    assert [(f["name"], f["kind"], f["le"]) for f in fields] == [("whole", "integer", 2**31 - 1), ("truth", "boolean", None), ("word", "text", None)]
    scorer = opened(path, info, tmp_path / "p")
    assert scorer.score(np.array([[5.0, 1.0, "yes"], [7.0, 0.0, "no"]], dtype=object)).tolist() == [[106.0], [7.0]]
    with pytest.raises(InvalidRequest, match="whole numbers for 'whole'"):
        scorer.score(np.array([[5.5, 1.0, "yes"]], dtype=object))


def test_a_file_for_one_row_at_a_time_answers_many(tmp_path: Path) -> None:
    path = write(tmp_path / "m.onnx", [helper.make_node("Sigmoid", ["x"], ["y"])], [("x", F, [1, 1])], [("y", F, [1, 1])])
    info, _ = describe(path, Wish(labels=(False, True)))
    assert info["one_by_one"]
    said = opened(path, info, tmp_path / "p").score(np.array([[0.0], [2.0], [-2.0]], dtype=object))
    np.testing.assert_allclose(said[:, 1], [0.5, 0.880797, 0.119203], atol=1e-5)
    np.testing.assert_allclose(said.sum(axis=1), 1)


def test_data_outside_the_file_foreign_operators_and_broken_files_are_refused(softmax: Path, tmp_path: Path) -> None:
    model = onnx.load(softmax)
    onnx.save_model(model, tmp_path / "e.onnx", save_as_external_data=True, all_tensors_to_one_file=True, location="w.bin", size_threshold=0)
    with pytest.raises(Refused, match="keeps data outside its file"):
        describe(tmp_path / "e.onnx", Wish())
    for evil in ("../../../etc/passwd", "/etc/passwd"):
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        del tensor.external_data[:]
        tensor.external_data.add(key="location", value=evil)
        (tmp_path / "evil.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(Refused, match="keeps data outside its file"):
            describe(tmp_path / "evil.onnx", Wish())
    foreign = write(
        tmp_path / "f.onnx", [helper.make_node("Evil", ["x"], ["y"], domain="com.evil")], [("x", F, ["n", 1])], [("y", F, ["n", 1])],
        domains=("", "com.evil"),
    )  # fmt: skip
    with pytest.raises(Refused, match=r"operators of \['com\.evil'\]"):
        describe(foreign, Wish())
    for content in (b"", b"\x80\x04\x95evil pickle", b"PK\x03\x04 a zip", softmax.read_bytes()[:40]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises((Corrupt, Refused)):
            describe(tmp_path / "bad.onnx", Wish())
    (tmp_path / "link.onnx").symlink_to(softmax)
    for name in ("link.onnx", "none.onnx"):
        with pytest.raises(NotFound, match="There is no such file"):
            describe(tmp_path / name, Wish())


def test_one_that_asks_for_more_memory_than_there_is_harms_nobody(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["size"], ["many"]), helper.make_node("ReduceSum", ["many"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]  # fmt: skip
    path = write(tmp_path / "m.onnx", nodes, [("x", F, ["n", 1])], [("y", F, ["n", 1])], {"size": np.array([1 << 40], dtype=np.int64)})
    with pytest.raises((Corrupt, Refused), match="The model cannot be run"):
        describe(path, Wish())


def test_one_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import treadle.backends.onnx_file as module

    monkeypatch.setattr(module, "PROBE_SECONDS", 3)
    body = helper.make_graph(
        [helper.make_node("Identity", ["keep"], ["again"]), helper.make_node("Add", ["v", "v"], ["w"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("keep", TensorProto.BOOL, []),
         helper.make_tensor_value_info("v", F, ["n", 1])],
        [helper.make_tensor_value_info("again", TensorProto.BOOL, []), helper.make_tensor_value_info("w", F, ["n", 1])],
    )  # fmt: skip
    node = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    path = write(tmp_path / "m.onnx", [node], [("x", F, ["n", 1])], [("y", F, ["n", 1])], {"true": np.array(True)})
    with pytest.raises(Refused, match="did not answer one row within 3 s"):
        describe(path, Wish())


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"),
    [
        ([("x", F, ["n", "m"])], [("y", F, ["n", "m"])], "has no fixed size beside the number of rows"),
        ([("x", F, [])], [("y", F, [])], "has no place for rows"),
        ([("x", F, [7, 2])], [("y", F, [7, 2])], "has no place for rows"),
        ([("x", F, ["n", 2_000_000])], [("y", F, ["n", 2_000_000])], "more than 1,000,000"),
        ([("x", F, ["n", 2, 2])], [("y", F, ["n", 2, 2])], "an answer is one number, or one a class"),
        ([("x", TensorProto.FLOAT16, ["n", 1])], [("y", TensorProto.FLOAT16, ["n", 1])], "float16"),
    ],
)
def test_shapes_and_types_that_are_no_rows_say_what_is_wrong(tmp_path: Path, inputs: Any, outputs: Any, reason: str) -> None:
    path = write(tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], inputs, outputs)
    with pytest.raises((Refused, Corrupt, UsageError), match=reason):
        describe(path, Wish(output="y"))
