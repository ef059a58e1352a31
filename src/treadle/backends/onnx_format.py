"""Models as ONNX files, answered by ONNX Runtime alone: a serving process imports neither onnx nor the library that trained.

A file is read only when it is self-contained: plain operators, no data in other files. Nothing in it can run code, since no library of custom
operators is ever registered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from treadle.core.errors import Corrupt, InvalidRequest, NotFound, Refused

DOMAINS = {"", "ai.onnx", "ai.onnx.ml"}
OPSET_IMPORT = 8  # field of ModelProto; its own field 1 is the domain (onnx.proto)
_OUTPUT = ["output"]
EXTERNAL = b"\x0a\x08location"  # how any tensor that keeps its data in another file begins to say where (StringStringEntryProto with key "location")


class OnnxFormat:
    """Writes model.onnx, exactly or not at all; loads it into a single-threaded ONNX Runtime session."""

    name = "onnx"
    runs_code = False
    library = ""

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """See onnx_export.export."""
        from treadle.backends.onnx_export import export

        return export(fitted, folder)

    def load(self, folder: Path, info: dict[str, Any]) -> OnnxScorer:
        """Open the file again.

        Raises: NotFound when it is not there, Corrupt when it is not a model of the told width, Refused when the folder holds files that the package
            does not list, or the model uses foreign operators or data outside the file.
        """
        path = folder / str(info["file"])
        if not path.is_file():
            raise NotFound("The package has no model file.", where=str(path))
        listed = set(info["files"])
        for other in sorted(folder.rglob("*")):
            if other.is_file() and other.relative_to(folder).as_posix() not in listed:
                raise Refused("The package folder holds a file that the package does not list.", where=str(other), hint="Take it away or pack again.")
        content = path.read_bytes()
        check_self_contained(content, path)
        session = open_session(content, path)
        inputs = [(entry.name, entry.type, entry.shape[-1]) for entry in session.get_inputs()]
        if inputs != [("input", "tensor(float)", info["width"])]:
            raise Corrupt(f"The model takes {inputs}, the package says {info['width']} columns.", where=str(path), hint="Pack the model again.")
        return OnnxScorer(session, int(info["width"]))


class OnnxScorer:
    """A session of ONNX Runtime. Safe to call from several threads."""

    def __init__(self, session: Any, width: int) -> None:
        self.width = width
        # What `run` calls when it has looked at its arguments once more, which for one row costs a third of the time; they are looked at here.
        inner = getattr(session, "_sess", None)
        self._run = session.run if inner is None else inner.run

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Encoded rows, float32 of shape (n, width), to float64 of shape (n, classes) or (n, 1). Raises InvalidRequest for another width."""
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise InvalidRequest(f"The model takes rows of {self.width} encoded features, not an array of shape {matrix.shape}.")
        answer: np.ndarray = self._run(_OUTPUT, {"input": np.asarray(matrix, dtype=np.float32)}, None)[0]
        return answer


def open_session(content: bytes, path: Path) -> Any:
    """A session of ONNX Runtime with one thread. Raises Corrupt."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    # One request is too small to split; parallelism is one process a core.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as cause:  # ONNX Runtime's errors have no common parent below Exception
        raise Corrupt("The model file cannot be read.", where=str(path), hint="Pack the model again.") from cause


def check_self_contained(content: bytes, path: Path) -> None:
    """Raises Refused when a model needs data of other files or operators of others, Corrupt when it is no model."""
    if EXTERNAL in content:
        raise Refused("The model keeps data outside its file.", where=str(path), hint="Pack it as one file.")
    try:
        domains = {entry.get(1, b"").decode() for entry in map(_last, _fields(content, OPSET_IMPORT))}
    except (IndexError, ValueError) as cause:
        raise Corrupt("The model file cannot be read.", where=str(path), hint="Pack the model again.") from cause
    if not domains <= DOMAINS:
        raise Refused(f"The model uses operators of {sorted(domains - DOMAINS)}.", where=str(path), hint="Only plain ONNX and ai.onnx.ml are served.")


def _last(message: bytes) -> dict[int, bytes]:
    """The last value of each length-delimited field of a message, by field number."""
    return {number: value for number, value in _walk(message) if value is not None}


def _fields(message: bytes, wanted: int) -> list[bytes]:
    return [value for number, value in _walk(message) if number == wanted and value is not None]


def _walk(message: bytes) -> list[tuple[int, bytes | None]]:
    """The top-level fields of a Protocol Buffers message: number, and bytes where they are length-delimited. Raises ValueError or IndexError when
    broken."""
    fields: list[tuple[int, bytes | None]] = []
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        wire, value = key & 7, None
        if wire == 0:
            _, at = _varint(message, at)
        elif wire == 2:
            size, at = _varint(message, at)
            value, at = message[at : at + size], at + size
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("not a Protocol Buffers message")
        if at > len(message):
            raise ValueError("the message ends early")
        fields.append((key >> 3, value))
    return fields


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[at]
        number |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return number, at
