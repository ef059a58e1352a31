"""A trained PyTorch network as nodes of an ONNX graph: the same float32 steps, for the layers that are known here, or a refusal that names the other.

PyTorch's own tracing (`torch.export`) gives the steps a row goes through; each becomes one or a few operators. Saving the network itself is no way
out: PyTorch's archives hold pickles, which run code when they are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core.errors import CannotConvert

if TYPE_CHECKING:
    from treadle.backends.onnx_export import Graph

FLOAT, DOUBLE = 1, 11  # TensorProto's numbers for the types
ADVICE = "Build it of common layers (Linear, ReLU, BatchNorm1d, ...), or use another family."


def write_network(graph: Graph, model: Any) -> None:
    """The whole of a fitted TorchModel: its scaling in float32, the network, and probabilities or numbers in float64.

    Raises: CannotConvert naming the first step that has no operator here.
    """
    centred = graph.add("Sub", "input", graph.constant(np.asarray(model.middle_, dtype=np.float32)))
    scaled = graph.add("Div", centred, graph.constant(np.asarray(model.spread_, dtype=np.float32)))
    said = graph.add("Cast", write_module(graph, model.network_, scaled, model.n_features_in_), to=DOUBLE)
    if hasattr(model, "classes_"):
        graph.add("Softmax", said, axis=1)
    else:
        graph.add("Add", graph.add("Mul", said, graph.constant(np.float64(model.scale_))), graph.constant(np.float64(model.level_)))


def write_module(graph: Graph, network: Any, rows: str, width: int) -> str:
    """The steps of a module of one tensor (n, width) to one tensor (n, outputs); returns the name of its answer."""
    program = _traced(network, width)
    held = {**program.state_dict, **program.constants}
    named = {**program.graph_signature.inputs_to_parameters, **program.graph_signature.inputs_to_buffers}
    named |= dict(program.graph_signature.inputs_to_lifted_tensor_constants)
    inputs = list(program.graph_signature.user_inputs)
    outputs = list(program.graph_signature.user_outputs)
    if len(inputs) != 1 or len(outputs) != 1:
        raise CannotConvert(f"The network takes {len(inputs)} tensors and gives {len(outputs)}.", hint="Let it take one and give one.")
    known: dict[str, Any] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            known[node.name] = rows if node.name in inputs else _array(held[named[node.name]])
        elif node.op == "call_function":
            known[node.name] = _write(graph, node, known)
        elif node.op != "output":
            raise CannotConvert(f"The network has a step of the kind {node.op!r}, which is not converted.", hint=ADVICE)
    answer = known[outputs[0]]
    return answer if isinstance(answer, str) else graph.constant(answer)


def _traced(network: Any, width: int) -> Any:
    import torch

    try:
        with torch.no_grad():
            return torch.export.export(network.eval(), (torch.zeros(3, width),), dynamic_shapes=({0: torch.export.Dim("rows")},), strict=False)
    except Exception as cause:  # tracing runs the module's own code, which may raise anything
        told = str(cause).strip().splitlines()
        reason = told[0][:200] if told else type(cause).__name__
        raise CannotConvert(f"PyTorch cannot trace the network: {reason}.", hint="Its steps must not depend on the rows' values.") from cause


def _write(graph: Graph, node: Any, known: dict[str, Any]) -> Any:
    name = str(node.target)
    step = STEPS.get(name.removesuffix(".default"))
    if step is None:
        raise CannotConvert(f"The network has the step {name}, which is not converted to ONNX.", hint=ADVICE)

    def value(given: Any) -> Any:
        if isinstance(given, list | tuple):
            return [value(part) for part in given]
        return known[given.name] if hasattr(given, "op") else given

    return step(graph, *[value(a) for a in node.args], **{k: value(v) for k, v in node.kwargs.items()})


def _array(tensor: Any) -> np.ndarray:
    found: np.ndarray = tensor.detach().cpu().numpy()
    return found


def _in(graph: Graph, given: Any) -> str:
    """The name of a value: what a node gave, or a constant in float32, as PyTorch takes numbers beside a float32 tensor."""
    return given if isinstance(given, str) else graph.constant(np.asarray(given, dtype=np.float32))


def _plain(operator: str, **attributes: Any) -> Callable[..., str]:
    return lambda graph, x: graph.add(operator, _in(graph, x), **attributes)


def _pair(operator: str) -> Callable[..., str]:
    def write(graph: Graph, a: Any, b: Any, *, alpha: float = 1, rounding_mode: str | None = None) -> str:
        if alpha != 1 or rounding_mode is not None:
            raise CannotConvert(f"The network's {operator} has options that are not converted.", hint=ADVICE)
        return graph.add(operator, _in(graph, a), _in(graph, b))

    return write


def _linear(graph: Graph, x: Any, weight: np.ndarray, bias: np.ndarray | None = None) -> str:
    product = graph.add("MatMul", _in(graph, x), graph.constant(np.ascontiguousarray(weight.T)))
    return product if bias is None else graph.add("Add", product, graph.constant(bias))


def _dropout(graph: Graph, x: Any, p: float = 0.5, train: bool = False) -> Any:
    if train:
        raise CannotConvert("The network drops values at random when it answers.", hint="Use torch.nn.Dropout, which stops after training.")
    return x


def _same(graph: Graph, x: Any, *_: Any, **__: Any) -> Any:
    return x


def _batch_norm(
    graph: Graph, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool = False, momentum: float = 0.1, eps: float = 1e-5, *_: Any
) -> str:  # fmt: skip
    if training or mean is None or variance is None:
        raise CannotConvert("The network's batch normalisation goes by the rows of a request.", hint="Leave track_running_stats as it is.")
    ones = np.ones_like(mean)
    inputs = (ones if weight is None else weight, np.zeros_like(mean) if bias is None else bias, mean, variance)
    return graph.add("BatchNormalization", _in(graph, x), *(graph.constant(v) for v in inputs), epsilon=eps)


def _layer_norm(graph: Graph, x: Any, shape: list[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any) -> str:
    scale = np.ones(shape, dtype=np.float32) if weight is None else weight
    more = [] if bias is None else [graph.constant(bias)]
    return graph.add("LayerNormalization", _in(graph, x), graph.constant(scale), *more, axis=-len(shape), epsilon=eps)


def _gelu(graph: Graph, x: Any, *, approximate: str = "none") -> str:
    x = _in(graph, x)
    if approximate == "tanh":  # 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))
        cube = graph.add("Mul", graph.add("Mul", x, x), x)
        inner = graph.add("Add", x, graph.add("Mul", cube, _in(graph, 0.044715)))
        bent = graph.add("Tanh", graph.add("Mul", inner, _in(graph, math.sqrt(2 / math.pi))))
    else:  # 0.5 x (1 + erf(x / sqrt(2)))
        bent = graph.add("Erf", graph.add("Mul", x, _in(graph, math.sqrt(0.5))))
    return graph.add("Mul", graph.add("Mul", x, _in(graph, 0.5)), graph.add("Add", bent, _in(graph, 1.0)))


def _silu(graph: Graph, x: Any) -> str:
    x = _in(graph, x)
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _leaky(graph: Graph, x: Any, slope: float = 0.01) -> str:
    return graph.add("LeakyRelu", _in(graph, x), alpha=float(slope))


def _elu(graph: Graph, x: Any, alpha: float = 1.0, scale: float = 1, input_scale: float = 1) -> str:
    if scale != 1 or input_scale != 1:
        raise CannotConvert("The network's SELU is not converted.", hint=ADVICE)
    return graph.add("Elu", _in(graph, x), alpha=float(alpha))


def _softmax(operator: str) -> Callable[..., str]:
    return lambda graph, x, dim, *_: graph.add(operator, _in(graph, x), axis=int(dim))


def _cat(graph: Graph, parts: list[Any], dim: int = 0) -> str:
    return graph.add("Concat", *(_in(graph, part) for part in parts), axis=int(dim))


def _clamp(graph: Graph, x: Any, low: float | None = None, high: float | None = None) -> str:
    x = _in(graph, x)
    x = x if low is None else graph.add("Max", x, _in(graph, low))
    return x if high is None else graph.add("Min", x, _in(graph, high))


STEPS: dict[str, Callable[..., Any]] = {
    "aten.linear": _linear, "aten.relu": _plain("Relu"), "aten.relu_": _plain("Relu"), "aten.sigmoid": _plain("Sigmoid"), "aten.tanh": _plain("Tanh"),
    "aten.softplus": _plain("Softplus"), "aten.abs": _plain("Abs"), "aten.exp": _plain("Exp"), "aten.neg": _plain("Neg"), "aten.sqrt": _plain("Sqrt"),
    "aten.leaky_relu": _leaky, "aten.leaky_relu_": _leaky, "aten.elu": _elu, "aten.elu_": _elu, "aten.gelu": _gelu, "aten.silu": _silu,
    "aten.silu_": _silu, "aten.hardtanh": _clamp, "aten.clamp": _clamp,
    "aten.softmax.int": _softmax("Softmax"), "aten.log_softmax.int": _softmax("LogSoftmax"),
    "aten.dropout": _dropout, "aten.feature_dropout": _dropout, "aten.batch_norm": _batch_norm, "aten.layer_norm": _layer_norm,
    "aten.add.Tensor": _pair("Add"), "aten.add_.Tensor": _pair("Add"), "aten.sub.Tensor": _pair("Sub"), "aten.mul.Tensor": _pair("Mul"),
    "aten.div.Tensor": _pair("Div"), "aten.matmul": _pair("MatMul"), "aten.cat": _cat,
    "aten.detach": _same, "aten.detach_": _same, "aten.clone": _same, "aten.contiguous": _same,
}  # fmt: skip
