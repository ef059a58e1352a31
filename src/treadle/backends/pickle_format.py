"""Estimators that no code-free format takes, pickled, for projects that allow it; they answer from a process of their own.

A pickle runs code when it is read. So it is written and read only where the setting `model_code` is `yes`, and a stored one is opened only when a
trusted key signed the package (`registry/packages.py`): then it came from a run of one's own.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

from treadle.backends.isolated import Isolated, numbers
from treadle.core.errors import CannotConvert, Corrupt, InvalidRequest, NotFound

FILE = "model.pkl"
SECONDS = 30.0  # a call may take


class PickleFormat:
    """Writes model.pkl; answers from a process that reads it."""

    name = "pickle"
    runs_code = True
    library = ""

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """Pickle the estimator of a fitted pipeline of columns, float32 and model; classes of the project itself go with it.

        Returns: as every format; `sha256` of the file, `python` and `versions` it was written with.
        Raises: CannotConvert when it gives no probabilities, or cannot be pickled.
        """
        from importlib.metadata import version

        import cloudpickle

        from treadle.backends.encoder_table import describe

        info = describe(fitted)
        model = fitted.named_steps["model"]
        if info["classes"] is not None and not hasattr(model, "predict_proba"):
            raise CannotConvert(f"{type(model).__name__} gives no probabilities.", hint="Wrap it in CalibratedClassifierCV(ensemble=False).")
        own = sys.modules.get(type(model).__module__)
        by_value = own is not None and not _installed(own)
        if by_value:
            cloudpickle.register_pickle_by_value(own)
        try:
            content = cloudpickle.dumps(model, protocol=5)
        except Exception as cause:  # whatever an object's own code raises
            raise CannotConvert(f"{type(model).__name__} cannot be pickled: {cause}.", hint="Keep open files and connections out of it.") from cause
        finally:
            if by_value:
                cloudpickle.unregister_pickle_by_value(own)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(content)
        return {
            "format": "pickle", "file": FILE, "files": [FILE], **info, "runs_code": True, "sha256": hashlib.sha256(content).hexdigest(),
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "versions": {name: version(name) for name in ("numpy", "scikit-learn", "cloudpickle")},
        }  # fmt: skip

    def load(self, folder: Path, info: dict[str, Any]) -> PickleScorer:
        """Start the process. Raises NotFound, Corrupt, Unavailable."""
        path = folder / str(info["file"])
        if not path.is_file():
            raise NotFound("The package has no model file.", where=str(path))
        if hashlib.sha256(path.read_bytes()).hexdigest() != info["sha256"]:
            raise Corrupt("The model file is not the one that was packed.", where=str(path), hint="Pack the model again.")
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        if info["python"] != python:
            raise Corrupt(f"The model was pickled by Python {info['python']}, this is {python}.", where=str(path), hint="Pack the model again.")
        isolated = Isolated(Path(sys.executable), ["pickle", str(path.absolute())], SECONDS, [p for p in sys.path if p])
        isolated.start()
        return PickleScorer(isolated, int(info["width"]), info["classes"] is not None)


class PickleScorer:
    """A pickled estimator in its process. Several threads are answered one after the other."""

    def __init__(self, isolated: Isolated, width: int, classifies: bool) -> None:
        self.width, self.isolated, self._classifies = width, isolated, classifies

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Encoded rows, float32 of shape (n, width), to float64 of shape (n, classes) or (n, 1). Raises InvalidRequest, Unavailable."""
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise InvalidRequest(f"The model takes rows of {self.width} encoded features, not an array of shape {matrix.shape}.")
        rows = np.ascontiguousarray(matrix, dtype=np.float32)
        said, content = self.isolated.ask({"shape": list(rows.shape), "classifies": self._classifies}, rows.tobytes())
        return numbers(said, content, len(rows))


def _installed(module: Any) -> bool:
    place = str(getattr(module, "__file__", "") or "")
    return "site-packages" in place or "dist-packages" in place or place.startswith(sys.base_prefix)
