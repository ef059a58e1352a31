"""Models as skops files: the fitted estimator itself, for the families that have no exact conversion.

skops stores types and arrays, not code, and builds only the types it is told to trust. Here those must be both recorded when the model was packed
and come from one of the four libraries a Treadle model is made with; the column encoder is not stored but described, as for every format.
"""

from __future__ import annotations

import io
import json
import zipfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from treadle.core.errors import CannotConvert, Corrupt, InvalidRequest, NotFound, Refused

FILE = "model.skops"
LIBRARIES = ("sklearn.", "numpy.", "lightgbm.", "xgboost.")
PLAIN = (
    "collections.OrderedDict",  # LightGBM keeps its parameters in one
    "treadle.training.detectors.Detector", "treadle.training.detectors.Distance", "treadle.training.detectors.Neighbours",
)  # fmt: skip
NEVER = ("numpy.testing.", "numpy.f2py.", "numpy.distutils.")  # parts of numpy that run what they are given


class SkopsFormat:
    """Writes model.skops, the final estimator on the float32 matrix; loads it with an explicit list of types."""

    name = "skops"
    runs_code = False
    library = ""

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """Write the estimator of a fitted pipeline of columns, float32 and model.

        Returns: `format` "skops", `file`, `files`, `task`, `classes`, `width` and `encoder` as told in encoder_table, `types` (what skops must build
            beyond its own safe list), `written_with` (scikit-learn's version).
        Raises: CannotConvert when it gives no probabilities, or holds a type of another library.
        """
        import skops.io

        from treadle.backends.encoder_table import describe

        info = describe(fitted)
        model = fitted.named_steps["model"]
        kind = type(model).__name__
        if info["classes"] is not None and not hasattr(model, "predict_proba"):
            raise CannotConvert(f"{kind} gives no probabilities.", hint="Wrap it in CalibratedClassifierCV(ensemble=False).")
        content = _settled(skops.io.dumps(model))
        types = sorted(skops.io.get_untrusted_types(data=content))
        for name in types:
            if not _allowed(name):
                raise CannotConvert(f"{kind} holds a {name}, which packages may not build.", hint="Use an estimator of scikit-learn or its kind.")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(content)
        return {"format": "skops", "file": FILE, "files": [FILE], **info, "types": types, "written_with": version("scikit-learn")}

    def load(self, folder: Path, info: dict[str, Any]) -> SkopsScorer:
        """Build the estimator again.

        Raises: NotFound when the file is not there, Refused naming the first type that was not recorded or not of a known library, Corrupt when it
            cannot be read.
        """
        import skops.io

        path = folder / str(info["file"])
        if not path.is_file():
            raise NotFound("The package has no model file.", where=str(path))
        content = path.read_bytes()
        try:
            found = sorted(skops.io.get_untrusted_types(data=content))
        except Exception as cause:  # whatever zip, JSON and skops raise on broken bytes
            raise Corrupt("The model file cannot be read.", where=str(path), hint="Pack the model again.") from cause
        for name in found:
            if name not in info["types"] or not _allowed(name):
                raise Refused(f"The model holds a {name}, which the package may not build.", where=str(path), hint="Pack the model again.")
        try:
            model = skops.io.loads(content, trusted=found)
        except Exception as cause:
            told = f"It was written with scikit-learn {info['written_with']}, this is {version('scikit-learn')}."
            raise Corrupt(f"The model file cannot be read. {told}", where=str(path), hint="Pack the model again.") from cause
        return SkopsScorer(model, int(info["width"]), info["classes"] is not None)


def _settled(content: bytes) -> bytes:
    """The same file without what differs from one writing to the next: objects named by where they lay in memory, and the time of day."""
    names: dict[str, str] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as written:
        schema = json.loads(written.read("schema.json"))

        def visit(node: Any) -> None:
            if isinstance(node, dict):
                if isinstance(node.get("__id__"), int):
                    node["__id__"] = int(names.setdefault(str(node["__id__"]), str(len(names) + 1)))
                if isinstance(node.get("file"), str):
                    stem, dot, kind = node["file"].partition(".")
                    node["file"] = names.setdefault(stem, str(len(names) + 1)) + dot + kind
            for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
                visit(part)

        visit(schema)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as again:
            for old in sorted((n for n in written.namelist() if n != "schema.json"), key=lambda n: int(names[n.partition(".")[0]])):
                stem, dot, kind = old.partition(".")
                again.writestr(zipfile.ZipInfo(names[stem] + dot + kind), written.read(old))
            again.writestr(zipfile.ZipInfo("schema.json"), json.dumps(schema, indent=2))
    return out.getvalue()


class SkopsScorer:
    """A fitted estimator. As safe to call from several threads as its `predict` is."""

    def __init__(self, model: Any, width: int, classifies: bool) -> None:
        self.width = width
        self._answer = model.predict_proba if classifies else model.predict

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Encoded rows, float32 of shape (n, width), to float64 of shape (n, classes) or (n, 1). Raises InvalidRequest for another width."""
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise InvalidRequest(f"The model takes rows of {self.width} encoded features, not an array of shape {matrix.shape}.")
        answer = np.asarray(self._answer(np.asarray(matrix, dtype=np.float32)), dtype=np.float64)
        return answer.reshape(len(matrix), -1)


def _allowed(name: str) -> bool:
    return name in PLAIN or (name.startswith(LIBRARIES) and not name.startswith(NEVER))
