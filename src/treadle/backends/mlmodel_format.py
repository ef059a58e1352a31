"""Folders with an MLmodel file and the flavour python_function, as MLflow writes them: served from a process of their own by their own environment.

Such a model runs code of its own, so it is opened only where the project allows that and a trusted key signed the package. It must have been logged
with a signature: that is where the fields of a request come from. The format: https://mlflow.org/docs/latest/ml/model/
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from treadle.backends import environments
from treadle.backends.isolated import Isolated, numbers
from treadle.backends.onnx_file import Wish, answered
from treadle.core.errors import CannotConvert, Corrupt, DataError, InvalidRequest, NotFound, Refused, UsageError

INSIDE = "model"  # the folder in the package
MOST_FILES, MOST_BYTES = 10_000, 4 << 30
COLUMNS = {
    "double": ("number", "float64"), "float": ("number", "float32"), "long": ("integer", "int64"), "integer": ("integer", "int32"),
    "boolean": ("boolean", "bool"), "string": ("text", "object"), "datetime": ("timestamp", "datetime64[ns]"),
}  # fmt: skip


class MlmodelFormat:
    """Opens such a folder; writing one is copying it (`describe` says what the package must know)."""

    name = "mlmodel"
    runs_code = True
    library = "nothing is saved"

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """Raises CannotConvert: these folders come from elsewhere."""
        raise CannotConvert("A fitted model is not saved as a foreign folder.", hint="Package it as 'onnx'.")

    def load(self, folder: Path, info: dict[str, Any]) -> MlmodelScorer:
        """Make the environment if it is not there, and start the process. Raises NotFound, Corrupt, Unavailable."""
        inside = folder / INSIDE
        if not (inside / "MLmodel").is_file():
            raise NotFound("The package has no MLmodel file.", where=str(inside))
        python = Path(info["python"]) if info["python"] else environments.python_of(info["requirements"])
        if not python.is_file():
            raise NotFound("The interpreter that the model was registered with is not there.", where=str(python), hint="Register it again.")
        isolated = Isolated(python, ["mlmodel", str(inside.absolute())], float(info["seconds"]))
        isolated.start()
        return MlmodelScorer(isolated, info)


class MlmodelScorer:
    """Such a model in its process. Several threads are answered one after the other."""

    def __init__(self, isolated: Isolated, info: Mapping[str, Any]) -> None:
        self.width, self.isolated, self._info = int(info["width"]), isolated, info
        self._types: dict[str, str] = dict(info["types"])
        self._times = [i for i, kind in enumerate(self._types.values()) if kind == "datetime64[ns]"]
        self._truths = [i for i, kind in enumerate(self._types.values()) if kind == "bool"]

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Rows of field values, objects of shape (n, width), to float64 of shape (n, classes) or (n, 1).

        Raises: InvalidRequest, Unavailable, Corrupt.
        """
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise InvalidRequest(f"The model takes rows of {self.width} fields, not an array of shape {matrix.shape}.")
        info, rows = self._info, matrix.tolist()
        for row in rows:
            for i in self._times:
                row[i] = None if row[i] is None else int(row[i]) * 1000  # nanoseconds
            for i in self._truths:
                row[i] = None if row[i] is None else bool(row[i])
        asked = {"rows": rows, "columns": list(self._types), "types": self._types, "output": info["output"], **info["tensor"]}
        said, content = self.isolated.ask(asked)
        return self._answer(said, content, len(rows))

    def _answer(self, said: Mapping[str, Any], content: bytes, count: int) -> np.ndarray:
        labels = self._info["classes"]
        flat = len(said["shape"]) == 1 or (len(said["shape"]) == 2 and said["shape"][1] == 1)
        if labels is not None and flat and said["shape"][0] == count and (said["kind"] != "f" or len(labels) != 2):
            named = said["values"] if said["kind"] == "O" else [_text(v, said["kind"]) for v in numbers(said, content, count)[:, 0]]
            known = {_label(label): i for i, label in enumerate(labels)}
            unknown = next((v for v in named if v not in known), None)
            if unknown is not None:
                raise Corrupt(f"The model gave the class {unknown!r}, which is none of its labels.")
            return np.asarray(np.eye(len(labels))[[known[v] for v in named]])
        return answered(numbers(said, content, count), self._info["link"], labels)


def describe(source: Path, wish: Wish, python: Path | None, seconds: float) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a package must know of a folder, and the fields of a request.

    Returns: (`format`, `runs_code`, `file`, `task`, `classes`, `width`, `encoder`, `types`, `tensor`, `output`, `link`, `requirements`, `python`,
        `seconds`, `loader`, `logged_with`; the fields).
    Raises: NotFound, DataError when the MLmodel file cannot be read; Refused when it has no python_function flavour or no signature, or a requirement
        is not pinned.
    """
    meta = _read(source)
    flavour = (meta.get("flavors") or {}).get("python_function")
    if not isinstance(flavour, dict) or not flavour.get("loader_module"):
        raise Refused("The MLmodel file has no flavour python_function.", where=str(source / "MLmodel"))
    signature = meta.get("signature") or {}
    if not isinstance(signature, dict) or not signature.get("inputs"):
        hint = "Log it again with signature=mlflow.models.infer_signature(...)."
        told = "The model was logged without a signature, so that nobody knows which fields it takes."
        raise Refused(told, where=str(source / "MLmodel"), hint=hint)
    try:
        entries = json.loads(signature["inputs"])
        fields, types, tensor = _fields(entries, wish)
    except (ValueError, KeyError, TypeError) as cause:
        raise DataError("The signature of the MLmodel file cannot be read.", where=str(source / "MLmodel")) from cause
    labels = list(wish.labels) or None
    if wish.number and labels:
        raise UsageError("A number has no labels.", hint="Leave --number or --labels out.")
    task = "regression" if labels is None else "binary" if len(labels) == 2 else "multiclass"
    # `types` is a list: a manifest is written with its keys in order, and the order of the columns would be lost with a mapping.
    info = {
        "format": "mlmodel", "runs_code": True, "file": f"{INSIDE}/MLmodel", "task": task, "classes": labels, "width": len(fields),
        "encoder": [{"name": f["name"], "kind": "as is"} for f in fields], "types": [list(pair) for pair in types.items()], "tensor": tensor,
        "output": wish.output, "link": wish.link,
        "requirements": [] if python else _requirements(source), "python": str(python.absolute()) if python else "", "seconds": seconds,
        "loader": str(flavour["loader_module"]), "logged_with": str(meta.get("mlflow_version", "")),
    }  # fmt: skip
    return info, fields


def copy(source: Path, folder: Path) -> None:
    """Copy a model's folder into a package. Raises Refused for links, and for too many files or bytes."""
    count = size = 0
    for path in sorted(source.rglob("*")):
        if path.is_symlink():
            raise Refused("A model's folder holds no links.", where=path.relative_to(source).as_posix(), hint="Put the file itself there.")
        if path.is_file():
            count, size = count + 1, size + path.stat().st_size
            if count > MOST_FILES or size > MOST_BYTES:
                raise Refused(f"The folder has more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes.", where=str(source))
            target = folder / INSIDE / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)


def _read(source: Path) -> dict[str, Any]:
    import yaml

    path = source / "MLmodel"
    if not path.is_file() or path.is_symlink():
        raise NotFound("The folder has no MLmodel file.", where=str(source))
    if path.stat().st_size > 1 << 20:
        raise Refused("The MLmodel file is larger than 1 MiB.", where=str(path))
    try:
        found = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as cause:
        raise DataError("The MLmodel file cannot be read.", where=str(path), hint="It is YAML of plain values.") from cause
    if not isinstance(found, dict):
        raise DataError("The MLmodel file cannot be read.", where=str(path), hint="It is YAML of plain values.")
    return found


def _fields(entries: list[dict[str, Any]], wish: Wish) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, Any]]:
    """The fields of a request, the type of each column, and, for a model of one tensor, its type and shape."""
    if any(entry.get("type") == "tensor" for entry in entries):
        if len(entries) != 1:
            raise Refused(f"The model takes {len(entries)} tensors.", hint="Models of columns, or of one tensor, are served.")
        spec = entries[0]["tensor-spec"]
        shape, name = [int(side) for side in spec["shape"][1:]], str(entries[0].get("name") or "input")
        if any(side < 1 for side in shape) or np.dtype(spec["dtype"]).kind not in "fiub":
            raise Refused(f"The model takes a tensor of {spec['dtype']} and shape {spec['shape']}, which has no fixed size.")
        field = _field(name, "vector" if prod(shape) > 1 else "number", required=True, length=prod(shape) if prod(shape) > 1 else 0)
        return [field], {}, {"tensor": str(spec["dtype"]), "shape": shape}
    fields, types = [], {}
    for i, entry in enumerate(entries):
        kind = COLUMNS.get(str(entry["type"]))
        name = str(entry.get("name") or (wish.columns[i] if i < len(wish.columns) else ""))
        if kind is None or not name:
            told = f"The model's column {name or i!r} is of type {entry['type']!r}, which is not served."
            raise Refused(told, hint=f"Served are {', '.join(COLUMNS)}.")
        fields.append(_field(name, kind[0], required=bool(entry.get("required", True))))
        types[name] = kind[1]
    return fields, types, {}


def _field(name: str, kind: str, *, required: bool, length: int = 0) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "nullable": not required, "source": "request", "view": "", "rule": [], "ge": None, "le": None, "length": length
    }  # fmt: skip


def _requirements(source: Path) -> list[str]:
    """The packages a folder says it needs. Raises Refused, NotFound."""
    import yaml

    path = source / "requirements.txt"
    if path.is_file():
        return environments.pinned(path.read_text("utf-8").splitlines(), "requirements.txt")
    path = source / "conda.yaml"
    if path.is_file():
        try:
            parts = yaml.safe_load(path.read_text("utf-8"))["dependencies"]
            lines = next(part["pip"] for part in parts if isinstance(part, dict) and "pip" in part)
        except (yaml.YAMLError, KeyError, TypeError, StopIteration) as cause:
            raise DataError("The conda.yaml of the model lists no packages of pip.", where=str(path)) from cause
        return environments.pinned([str(line) for line in lines], "conda.yaml")
    raise NotFound("The folder says nowhere which packages it needs.", where=str(source), hint="Give an interpreter with --python.")


def _label(label: Any) -> str:
    return str(label)


def _text(value: float, kind: str) -> str:
    return str(bool(value)) if kind == "b" else str(int(value)) if value == int(value) else str(value)
