"""Treadle's packages for `mlflow.pyfunc.load_model`: the `MLmodel` file in each of them names this module as its loader.

MLflow hands over a folder; every file in it must be as its manifest says. There is no online store here: a feature that a view would look up is
taken from the frame, and is missing otherwise.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from treadle.assemble import formats
from treadle.core.errors import Corrupt, InvalidRequest, NotFound, Refused
from treadle.registry.mlmodel import probability
from treadle.registry.packages import MANIFEST
from treadle.registry.signing import FILE as SIGNATURE
from treadle.serving.loaded import Loaded


class Package:
    """An opened package, as MLflow asks it."""

    def __init__(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if manifest["model"].get("runs_code"):
            raise Refused("The package holds a model that runs code of its own; it is served by Treadle alone.", where=str(folder))
        extra = [SIGNATURE] if (folder / SIGNATURE).is_file() else []
        self._loaded = Loaded(folder, {**manifest, "files": [*manifest["files"], *extra]}, formats())

    def predict(self, model_input: Any, params: Mapping[str, Any] | None = None) -> Any:
        """A frame of rows (pandas), or a list of objects, to a frame of answers in the same order; a list of objects where pandas is not there.

        Raises: InvalidRequest naming the row and its fields.
        """
        rows = _rows(model_input)
        loaded = self._loaded
        now = time.time_ns() // 1000
        parsed = [loaded.parser.parse(row, f"row {i}") for i, row in enumerate(rows)]
        field = loaded.moment_field
        moments = [now if field is None or values.get(field) is None else int(values[field]) for values in parsed]
        for values, moment in zip(parsed, moments):
            if field is not None:
                values[field] = moment
        features = [found for found, _ in loaded.look_up(parsed, moments, lambda keys: [None] * len(keys))]
        return _frame([_answer(loaded, output.tolist()) for output in loaded.outputs(features)] if rows else [], model_input)


def _load_pyfunc(path: str) -> Package:
    """What MLflow calls with the folder of a downloaded package. Raises NotFound, Corrupt."""
    return Package(Path(path))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder, after each file was compared with it. Raises NotFound, Corrupt."""
    path = folder / MANIFEST
    if not path.is_file():
        raise NotFound("This is no package of Treadle: it has no manifest.", where=str(folder))
    try:
        manifest = json.loads(path.read_bytes())
        files = {str(name): str(address) for name, address in manifest["files"].items()}
    except (ValueError, KeyError, AttributeError) as cause:
        raise Corrupt("The manifest of the package cannot be read.", where=str(path)) from cause
    for name, address in files.items():
        inside = folder / name
        if ".." in Path(name).parts or not inside.is_file() or inside.is_symlink():
            raise Corrupt(f"The package has no file {name!r}.", where=str(folder), hint="Download it again.")
        if hashlib.sha256(inside.read_bytes()).hexdigest() != address:
            raise Corrupt(f"The file {name!r} of the package was changed.", where=str(folder), hint="Download it again.")
    return dict(manifest)


def _rows(given: Any) -> list[dict[str, Any]]:
    if hasattr(given, "to_dict") and hasattr(given, "columns"):
        given = given.to_dict("records")
    if isinstance(given, Mapping):
        given = [given]
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise InvalidRequest(f"Rows are a frame or a list of objects, not {type(given).__name__}.")
    return [{str(name): _plain(value) for name, value in row.items()} for row in given]


def _plain(value: Any) -> Any:
    """A value as JSON would bring it: NaN, NaT and NA are missing."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and value != value else value


def _answer(loaded: Loaded, output: list[float]) -> dict[str, Any]:
    if loaded.task == "regression":
        return {"prediction": output[0]}
    best = max(range(len(output)), key=output.__getitem__)
    return {"prediction": loaded.labels[best], **{probability(label): p for label, p in zip(loaded.labels, output)}}


def _frame(answers: list[dict[str, Any]], given: Any) -> Any:
    try:
        import pandas as pd
    except ImportError:
        return answers
    return pd.DataFrame(answers, index=getattr(given, "index", None) if len(answers) == len(given) else None)
