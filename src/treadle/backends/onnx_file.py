"""Any ONNX file that is self-contained, served as it is: its inputs become fields of a request, one of its outputs the answer.

What a file takes and gives is found by running it once, in a process of its own with limits on time and memory: a file may ask for more than there
is. Nothing in it can run code (see `onnx_format`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from treadle.backends.onnx_format import check_self_contained, open_session
from treadle.core.errors import CannotConvert, Corrupt, InvalidRequest, NotFound, Refused, UsageError

LARGEST = 2 << 30  # bytes of a file; the Protocol Buffers it is made of end there too
PROBE_SECONDS, PROBE_BYTES = 60, 6 << 30
TYPES = {
    "tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8, "tensor(int16)": np.int16, "tensor(uint16)": np.uint16, "tensor(uint32)": np.uint32, "tensor(bool)": np.bool_,
    "tensor(string)": np.str_,
}  # fmt: skip
LONGEST = 1_000_000  # numbers of one row
_EXACT = 2**53  # whole numbers up to here are exact in JSON


@dataclass(frozen=True)
class Wish:
    """What a person says of a file, where it does not say it itself.

    Args:
        columns: names for the columns of an input of several; its own name as one vector if empty.
        labels: the classes, in the order of the output.
        output: which output is the answer.
        link: what makes probabilities of the output: 'softmax', 'sigmoid', or '' if it gives them.
        number: the output is a number, not a probability.
    """

    columns: tuple[str, ...] = ()
    labels: tuple[Any, ...] = ()
    output: str = ""
    link: str = ""
    number: bool = False


class OnnxFile:
    """Opens a foreign ONNX file; writing one is copying it (`describe` says what the package must know)."""

    name = "onnx-file"
    runs_code = False
    library = "nothing is saved"

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """Raises CannotConvert: these files come from elsewhere."""
        raise CannotConvert("A fitted model is not saved as a foreign file.", hint="Package it as 'onnx'.")

    def load(self, folder: Path, info: dict[str, Any]) -> OnnxFileScorer:
        """Open the file. Raises NotFound, Corrupt, Refused."""
        path = folder / str(info["file"])
        if not path.is_file():
            raise NotFound("The package has no model file.", where=str(path))
        content = path.read_bytes()
        check_self_contained(content, path)
        return OnnxFileScorer(open_session(content, path), info)


class OnnxFileScorer:
    """A session of ONNX Runtime. Safe to call from several threads."""

    def __init__(self, session: Any, info: Mapping[str, Any]) -> None:
        self.width = int(info["width"])
        self._run, self._inputs, self._output = session.run, info["inputs"], str(info["output"])
        self._link, self._one, self._classes = str(info["link"]), bool(info["one_by_one"]), info["classes"]

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Rows of field values, objects of shape (n, width), to float64 of shape (n, classes) or (n, 1). Raises InvalidRequest."""
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise InvalidRequest(f"The model takes rows of {self.width} fields, not an array of shape {matrix.shape}.")
        if self._one:
            raw = np.concatenate([self._raw(matrix[i : i + 1]) for i in range(len(matrix))]) if len(matrix) else np.empty((0, 1))
        else:
            raw = self._raw(matrix)
        return answered(raw, self._link, self._classes)

    def _raw(self, matrix: np.ndarray) -> np.ndarray:
        found = self._run((self._output,), feeds(matrix, self._inputs))[0]
        return np.asarray(found, dtype=np.float64).reshape(len(matrix), -1)


def feeds(matrix: np.ndarray, inputs: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """The tensors of n rows, by the inputs a package lists. Raises InvalidRequest for a fraction where whole numbers belong."""
    made, at = {}, 0
    for entry in inputs:
        kind, shape, many = TYPES[entry["type"]], entry["shape"], len(entry["fields"])
        block = matrix[:, at : at + many]
        at += many
        if kind is np.str_:
            made[entry["name"]] = np.array(block.tolist(), dtype=object).reshape(len(matrix), *shape)
            continue
        numbers = np.array([row[0] for row in block] if entry["vector"] else block.tolist(), dtype=np.float64)
        if np.issubdtype(kind, np.integer) and not np.array_equal(numbers, np.floor(numbers)):
            raise InvalidRequest(f"The model takes whole numbers for {entry['name']!r}.", fields={entry["fields"][0]: "must be whole numbers"})
        with np.errstate(over="ignore"):
            made[entry["name"]] = numbers.astype(kind).reshape(len(matrix), *shape)
    return made


def answered(raw: np.ndarray, link: str, classes: Sequence[Any] | None) -> np.ndarray:
    """What an output of shape (n, k) says: probabilities of the classes, or numbers."""
    if link == "softmax":
        e = np.exp(raw - raw.max(axis=1, keepdims=True))
        return np.asarray(e / e.sum(axis=1, keepdims=True))
    if link == "sigmoid":
        raw = 1 / (1 + np.exp(-raw))
    return np.hstack([1 - raw, raw]) if classes is not None and len(classes) == 2 and raw.shape[1] == 1 else raw


def describe(path: Path, wish: Wish) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a package must know of a file, and the fields of a request.

    Returns: (`format`, `file`, `files`, `task`, `classes`, `width`, `encoder`, `inputs`, `output`, `link`, `one_by_one`; the fields).
    Raises: NotFound, Corrupt, Refused when it is not self-contained, too large, or has no input or output that is served; UsageError for a wish that
        does not fit.
    """
    if not path.is_file() or path.is_symlink():
        raise NotFound("There is no such file.", where=str(path))
    if path.stat().st_size > LARGEST:
        raise Refused(f"The file has {path.stat().st_size:,} bytes, more than {LARGEST:,}.", where=str(path))
    check_self_contained(path.read_bytes(), path)
    said = _probe(path)
    fields: list[dict[str, Any]] = []
    inputs = [_input(entry, wish, fields) for entry in said["inputs"]]
    if wish.columns and not any(not i["vector"] and len(i["fields"]) > 1 for i in inputs) and len(inputs) != 1:
        raise UsageError("No input of the file has as many columns as were named.")
    output = _output(said["outputs"], wish)
    labels = _labels(output, wish)
    if labels is not None:
        _check_probabilities(output, wish, len(labels))
    task = "regression" if labels is None else "binary" if len(labels) == 2 else "multiclass"
    info = {
        "format": "onnx-file", "file": "model.onnx", "files": ["model.onnx"], "task": task, "classes": labels, "width": len(fields),
        "encoder": [{"name": f["name"], "kind": "as is"} for f in fields], "inputs": inputs, "output": output["name"], "link": wish.link,
        "one_by_one": said["one_by_one"],
    }  # fmt: skip
    return info, fields


def _probe(path: Path) -> dict[str, Any]:
    asked = [sys.executable, "-m", "treadle.backends.onnx_file", str(path)]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PROBE_SECONDS, check=False, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise Refused(f"The model did not answer one row within {PROBE_SECONDS} s.", where=str(path)) from None
    try:
        said: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        told = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
        raise Refused(f"The model cannot be run: {told[:300]}.", where=str(path), hint="It may need more memory than is allowed.") from None
    if "error" in said:
        raise Corrupt(f"The model cannot be run: {said['error'][:300]}", where=str(path))
    return said


def _input(entry: Mapping[str, Any], wish: Wish, fields: list[dict[str, Any]]) -> dict[str, Any]:
    """One input of the file, whose fields are added."""
    name, kind, shape = entry["name"], entry["type"], entry["shape"]
    if kind not in TYPES:
        raise Refused(f"The model's input {name!r} is a {kind}, which is not served.", hint=f"Served are {', '.join(sorted(TYPES))}.")
    if any(side is None for side in shape):
        raise Refused(f"The model's input {name!r} has no fixed size beside the number of rows: {shape}.", hint="Export it with fixed sizes.")
    size = prod(shape)
    if size > LONGEST:
        raise Refused(f"The model's input {name!r} has {size:,} numbers a row, more than {LONGEST:,}.")
    named = wish.columns if len(wish.columns) == size and size > 1 else ()
    vector = size != 1 and not named
    if vector and TYPES[kind] is np.str_:
        raise Refused(f"The model's input {name!r} takes {size} texts.", hint="Name them with --columns.")
    mine = [_field(column, kind) for column in named] or [_field(name, kind, size if vector else 0)]
    fields += mine
    return {"name": name, "type": kind, "shape": shape, "fields": [f["name"] for f in mine], "vector": vector}


def _field(name: str, kind: str, length: int = 0) -> dict[str, Any]:
    numpy = TYPES[kind]
    low = high = None
    what = "number"
    if numpy is np.str_:
        what = "text"
    elif numpy is np.bool_:
        what = "boolean"
    elif np.issubdtype(numpy, np.integer):
        bounds = np.iinfo(numpy)
        what, low, high = "integer", max(int(bounds.min), -_EXACT), min(int(bounds.max), _EXACT)
    if length:
        what = "vector"
    return {
        "name": name, "kind": what, "nullable": False, "source": "request", "view": "", "rule": [], "ge": low, "le": high, "length": length
    }  # fmt: skip


def _output(outputs: Sequence[Mapping[str, Any]], wish: Wish) -> Mapping[str, Any]:
    known = ", ".join(f"{o['name']} ({o['type']}, {o['shape']})" for o in outputs)
    if wish.output:
        found = [o for o in outputs if o["name"] == wish.output]
        if not found:
            raise UsageError(f"The model has no output {wish.output!r}.", hint=f"It has {known}.")
    else:
        found = [o for o in outputs if o["type"] in ("tensor(float)", "tensor(double)")]
        if len(found) != 1:
            raise UsageError("Which output is the answer?", hint=f"Give one with --output: {known}.")
    output = found[0]
    if output["type"] not in ("tensor(float)", "tensor(double)") or output["shape"] is None or len(output["shape"]) > 1:
        told = f"The output {output['name']!r} is a {output['type']} of shape {output['shape']} a row"
        raise Refused(f"{told}; an answer is one number, or one a class.", hint="Export probabilities as a plain tensor (zipmap=False).")
    return output


def _labels(output: Mapping[str, Any], wish: Wish) -> list[Any] | None:
    width = prod(output["shape"])
    if wish.number or (width == 1 and not wish.labels):
        if width != 1:
            raise UsageError(f"The output {output['name']!r} has {width} numbers a row, not one.")
        return None
    if not wish.labels:
        return [str(i) for i in range(width)]
    if len(wish.labels) != width and not (width == 1 and len(wish.labels) == 2):
        raise UsageError(f"{len(wish.labels)} labels were given for an output of {width} numbers.", hint="One a class, in the order of the output.")
    if len(set(map(str, wish.labels))) != len(wish.labels):
        raise UsageError("A label was given twice.")
    return list(wish.labels)


def _check_probabilities(output: Mapping[str, Any], wish: Wish, classes: int) -> None:
    found = answered(np.array(output["seen"], dtype=np.float64), wish.link, range(classes))
    if not np.isfinite(found).all() or found.min() < -1e-4 or found.max() > 1 + 1e-4 or np.abs(found.sum(axis=1) - 1).max() > 1e-3:
        raise Refused(
            f"The output {output['name']!r} gives no probabilities: on a row of zeros it says {np.round(found[0], 4).tolist()[:4]}.",
            hint="If they are log-odds, give --link softmax (or sigmoid); if it is a number, --number.",
        )


def _run_once(path: Path) -> dict[str, Any]:
    """What a file takes and gives, by running it on rows of zeros and of small numbers."""
    session = open_session(path.read_bytes(), path)
    inputs = []
    one_by_one = False
    for entry in session.get_inputs():
        shape = [side if isinstance(side, int) else None for side in entry.shape]
        one_by_one = one_by_one or (bool(shape) and shape[0] == 1)
        if not shape or shape[0] not in (None, 1):
            return {"error": f"its input {entry.name!r} of shape {entry.shape} has no place for rows"}
        inputs.append({"name": entry.name, "type": entry.type, "shape": shape[1:]})
    rows = 1 if one_by_one else 2
    fed: dict[str, Any] = {}
    for entry in inputs:
        sizes = [rows, *(1 if side is None else side for side in entry["shape"])]
        kind = TYPES.get(entry["type"])
        if kind is None or prod(sizes) > 2 * LONGEST:
            return {"inputs": inputs, "outputs": [], "one_by_one": one_by_one}
        fed[entry["name"]] = np.full(sizes, "", dtype=object) if kind is np.str_ else np.zeros(sizes, dtype=kind)
        if rows > 1 and kind is not np.str_:
            fed[entry["name"]][1:] = np.ones(sizes[1:]).astype(kind)
    outputs = []
    for entry, found in zip(session.get_outputs(), session.run(None, fed)):
        whole = isinstance(found, np.ndarray) and found.ndim >= 1 and found.shape[0] == rows
        numbers = whole and found.dtype.kind == "f" and found[0].size <= 100_000
        seen = np.where(np.isfinite(found), found, 1e30).reshape(rows, -1).tolist() if numbers else []
        outputs.append({"name": entry.name, "type": entry.type, "shape": list(found.shape[1:]) if whole else None, "seen": seen})
    return {"inputs": inputs, "outputs": outputs, "one_by_one": one_by_one}


def main(arguments: Sequence[str]) -> None:
    """Probe one file, under limits, and print what was found as JSON."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (PROBE_BYTES, PROBE_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (PROBE_SECONDS, PROBE_SECONDS))
    try:
        said = _run_once(Path(arguments[0]))
    except Exception as error:
        said = {"error": getattr(error, "what", f"{type(error).__name__}: {error}")}
    print(json.dumps(said))


if __name__ == "__main__":
    main(sys.argv[1:])
