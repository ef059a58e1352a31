"""The Open Inference Protocol v2 over REST: columns as named tensors in, tensors out.

Source: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md). A field of the model is an input of shape [n] or
[n, 1]; outputs are `prediction` [n], `probability` [n] (binary) and `probabilities` [n, labels]. An error is {"error": sentence}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from treadle.core.errors import InvalidRequest, NotFound, TreadleError, UsageError
from treadle.core.ids import new_id
from treadle.serving.answers import Answered
from treadle.serving.endpoint import Endpoint
from treadle.serving.loaded import Loaded
from treadle.serving.rows import MOST_ROWS, Row, too_many
from treadle.web.api.exchange import JSON_HEADERS, Response, ok, retry_headers, status_of

DATATYPES = {"number": "FP64", "integer": "INT64", "boolean": "BOOL", "category": "BYTES", "text": "BYTES", "timestamp": "BYTES"}
_KNOWN = {"BOOL", "BYTES", "FP16", "FP32", "FP64", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
_encode = msgspec.json.Encoder().encode


class Tensor(msgspec.Struct):
    """One input."""

    name: str
    shape: list[int]
    datatype: str
    data: list[Any]
    parameters: dict[str, Any] = {}


class _Output(msgspec.Struct):
    name: str
    parameters: dict[str, Any] = {}


class Infer(msgspec.Struct):
    """The body of a request."""

    inputs: list[Tensor]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[_Output] = []


_decode = msgspec.json.Decoder(Infer).decode


class Path(msgspec.Struct):
    """What a path below /v2/models names: the version (None for the one that answers), and 'ready', 'infer' or '' for the metadata."""

    version: int | None
    verb: str


def path_of(path: str, model: str) -> Path:
    """Read a path below /v2/models/. Raises NotFound."""
    name, *rest = path.removeprefix("/v2/models/").split("/")
    version: int | None = None
    if len(rest) >= 2 and rest[0] == "versions" and rest[1].isascii() and rest[1].isdigit() and len(rest[1]) < 10:
        version, rest = int(rest[1]), rest[2:]
    if name != model or len(rest) > 1 or (rest and rest[0] not in ("ready", "infer")):
        raise NotFound(f"There is no {path[:100]!r} here.", hint=f"The model is /v2/models/{model}")
    return Path(version, rest[0] if rest else "")


def server_metadata() -> dict[str, Any]:
    """GET /v2"""
    from treadle import __version__

    return {"name": "treadle", "version": __version__, "extensions": []}


def metadata(endpoint: Endpoint, version: int | None) -> dict[str, Any]:
    """GET /v2/models/NAME[/versions/V]"""
    loaded = endpoint.champion() if version is None else endpoint.version(version)
    numbers = [v.number for v in (endpoint.traffic.champion, endpoint.traffic.challenger) if v is not None]
    outputs = [{"name": "prediction", "datatype": _label_type(loaded), "shape": [-1]}]
    if loaded.task == "binary":
        outputs.append({"name": "probability", "datatype": "FP64", "shape": [-1]})
    if loaded.task != "regression":
        outputs.append({"name": "probabilities", "datatype": "FP64", "shape": [-1, len(loaded.labels)]})
    return {
        "name": endpoint.model, "versions": [str(n) for n in numbers], "platform": f"treadle_{loaded.manifest['model']['format']}",
        "inputs": [{"name": f.name, "datatype": DATATYPES[f.kind], "shape": [-1]} for f in loaded.request], "outputs": outputs,
    }  # fmt: skip


def read(body: bytes, loaded: Loaded) -> tuple[Infer, list[Row]]:
    """The request and its typed rows. Raises: UsageError, InvalidRequest."""
    try:
        asked = _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"The body is no inference request: {str(error)[:200]}", hint="Send {'inputs': [{name, shape, datatype, data}]}.") from None
    if not asked.inputs:
        raise InvalidRequest("There are no inputs.", hint="Send one for each field of the model; see GET /v2/models/NAME.")
    columns: dict[str, list[Any]] = {}
    rows = -1
    for tensor in asked.inputs:
        where = f"input {tensor.name[:100]!r}"
        if tensor.datatype not in _KNOWN:
            raise InvalidRequest(f"There is no datatype {tensor.datatype[:20]!r}.", where=where)
        if not tensor.shape or len(tensor.shape) > 2 or tensor.shape[1:] not in ([], [1]) or tensor.shape[0] < 1:
            raise InvalidRequest(f"The shape {tensor.shape[:5]} is not [n] or [n, 1].", where=where, hint="Send one input a field.")
        data = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in tensor.data]
        if len(data) != math.prod(tensor.shape):
            raise InvalidRequest(f"There are {len(data):,} values for the shape {tensor.shape}.", where=where)
        if rows not in (-1, len(data)):
            raise InvalidRequest(f"There are {len(data):,} values, and {rows:,} of another input.", where=where)
        if tensor.name in columns:
            raise InvalidRequest("The input is there twice.", where=where)
        columns[tensor.name], rows = data, len(data)
    if rows > MOST_ROWS:
        raise too_many(rows)
    wanted = {output.name for output in asked.outputs}
    unknown = wanted - {"prediction", *(("probabilities",) if loaded.labels else ()), *(("probability",) if loaded.task == "binary" else ())}
    if unknown:
        raise InvalidRequest(f"There is no output {sorted(unknown)[0][:100]!r}.", hint="See GET /v2/models/NAME")
    return asked, loaded.reader.objects([dict(zip(columns, values)) for values in zip(*columns.values())])


def shown(asked: Infer) -> Callable[[Answered], Response]:
    """How answers are shown to who asked so."""

    def show(answered: Answered) -> Response:
        heard = [answered.heard(i) for i in range(len(answered))]
        loaded, count = heard[0][0], len(heard)
        wanted = {output.name for output in asked.outputs}
        outputs: list[dict[str, Any]] = []

        def add(name: str, datatype: str, shape: Sequence[int], data: Callable[[], list[Any]]) -> None:
            if not wanted or name in wanted:
                outputs.append({"name": name, "datatype": datatype, "shape": list(shape), "data": data()})

        add("prediction", _label_type(loaded), [count], lambda: [answered.body(i).prediction for i in range(count)])
        if loaded.task == "binary":
            add("probability", "FP64", [count], lambda: [output[1] for _, output in heard])
        if loaded.task != "regression":
            add("probabilities", "FP64", [count, len(loaded.labels)], lambda: [p for _, output in heard for p in output])
        said: dict[str, Any] = {"prediction_ids": list(answered.ids)}
        if any(version is not loaded for version, _ in heard):
            said["versions"] = [version.number for version, _ in heard]
        if answered.missing is not None:
            said["missing"] = [list(missing) for missing in answered.missing]
        body = {
            "model_name": answered.model,
            "model_version": str(loaded.number),
            "id": asked.id or new_id("r"),
            "parameters": said,
            "outputs": outputs,
        }
        return 200, JSON_HEADERS, _encode(body)

    return show


def problem(error: TreadleError) -> Response:
    """An error as the protocol shows it."""
    status = 400 if isinstance(error, InvalidRequest) else status_of(error)
    said: dict[str, Any] = {"error": str(error)}
    if isinstance(error, InvalidRequest) and error.fields:
        said["fields"] = error.fields
    _, _, body = ok(said, status)
    return status, retry_headers(error, status), body


def _label_type(loaded: Loaded) -> str:
    if loaded.task == "regression":
        return "FP64"
    if all(isinstance(label, bool) for label in loaded.labels):
        return "BOOL"
    if all(isinstance(label, int) for label in loaded.labels):
        return "INT64"
    return "FP64" if all(isinstance(label, int | float) for label in loaded.labels) else "BYTES"
