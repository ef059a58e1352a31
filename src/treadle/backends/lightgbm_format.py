"""LightGBM models that have no exact conversion to ONNX (linear trees, other objectives), in LightGBM's own text format.

A text model is numbers: reading it runs nothing. It is answered by LightGBM's C library, in the same float64 arithmetic as where it was fitted:
https://lightgbm.readthedocs.io/en/latest/C-API.html
"""

from __future__ import annotations

import ctypes
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from treadle.backends.native_library import check, library, read
from treadle.core.errors import CannotConvert, Corrupt, InvalidRequest

FILE = "model.txt"
FLOAT32, ROW_MAJOR, NORMAL = 0, 1, 0  # c_api.h: C_API_DTYPE_FLOAT32, is_row_major, C_API_PREDICT_NORMAL
ONE_THREAD = b"num_threads=1"


class LightgbmFormat:
    """Writes model.txt; loads it into one booster of LightGBM's library."""

    name = "lightgbm"
    runs_code = False
    library = "lightgbm"

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """Write the booster of a fitted pipeline of columns, float32 and model, up to its best iteration.

        Returns: as every format; `outputs` is how many numbers the booster gives a row, `written_with` LightGBM's version.
        Raises: CannotConvert for an objective of one's own, whose link the file does not know.
        """
        from importlib.metadata import version

        from treadle.backends.encoder_table import describe

        info = describe(fitted)
        model = fitted.named_steps["model"]
        if callable(model.objective) or not hasattr(model, "booster_"):
            raise CannotConvert("LightGBM's own file does not hold an objective that is a function.", hint="Use a named objective.")
        booster = model.booster_
        best = booster.best_iteration if booster.best_iteration > 0 else None
        folder.mkdir(parents=True, exist_ok=True)
        content = booster.model_to_string(num_iteration=best).encode()
        (folder / FILE).write_bytes(content)
        return {
            "format": "lightgbm", "file": FILE, "files": [FILE], **info, "outputs": booster.num_model_per_iteration(),
            "sha256": hashlib.sha256(content).hexdigest(), "written_with": version("lightgbm"),
        }  # fmt: skip

    def load(self, folder: Path, info: dict[str, Any]) -> LightgbmScorer:
        """Read the file. Raises NotFound, Corrupt, Unavailable when LightGBM is not installed."""
        path = folder / str(info["file"])
        return LightgbmScorer(read(path, info["sha256"]), path, int(info["width"]), int(info["outputs"]), info["classes"])


class LightgbmScorer:
    """One booster. Safe to call from several threads: LightGBM's booster locks itself for readers."""

    def __init__(self, content: bytes, path: Path, width: int, outputs: int, classes: list[Any] | None) -> None:
        self.width, self._path, self._outputs, self._classes = width, path, outputs, classes
        self._lib = library("lightgbm", "lib/lib_lightgbm.so")
        self._lib.LGBM_GetLastError.restype = ctypes.c_char_p
        self._lib.LGBM_RegisterLogCallback(_SILENT)
        self._booster = ctypes.c_void_p()
        rounds, features, classes_there = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
        self._ask(self._lib.LGBM_BoosterLoadModelFromString(ctypes.c_char_p(content), ctypes.byref(rounds), ctypes.byref(self._booster)))
        self._ask(self._lib.LGBM_BoosterGetNumFeature(self._booster, ctypes.byref(features)))
        self._ask(self._lib.LGBM_BoosterGetNumClasses(self._booster, ctypes.byref(classes_there)))
        if (features.value, classes_there.value) != (width, outputs):
            told = f"{features.value} columns and gives {classes_there.value} numbers, the package says {width} and {outputs}"
            raise Corrupt(f"The model takes {told}.", where=str(path), hint="Pack the model again.")

    def _ask(self, code: int) -> None:
        check(code, self._lib.LGBM_GetLastError() if code else None, self._path)

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Encoded rows, float32 of shape (n, width), to float64 of shape (n, classes) or (n, 1). Raises InvalidRequest for another width."""
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise InvalidRequest(f"The model takes rows of {self.width} encoded features, not an array of shape {matrix.shape}.")
        rows = np.ascontiguousarray(matrix, dtype=np.float32)
        found = np.empty((len(rows), self._outputs), dtype=np.float64)
        length = ctypes.c_int64(0)
        self._ask(
            self._lib.LGBM_BoosterPredictForMat(
                self._booster, rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_int(FLOAT32), ctypes.c_int32(len(rows)), ctypes.c_int32(self.width),
                ctypes.c_int(ROW_MAJOR), ctypes.c_int(NORMAL), ctypes.c_int(0), ctypes.c_int(-1), ctypes.c_char_p(ONE_THREAD), ctypes.byref(length),
                found.ctypes.data_as(ctypes.POINTER(ctypes.c_double)),
            )
        )  # fmt: skip
        if length.value != found.size:
            raise Corrupt(f"The model gave {length.value} numbers for {len(rows)} rows.", where=str(self._path))
        return np.hstack([1.0 - found, found]) if self._classes is not None and self._outputs == 1 else found

    def __del__(self) -> None:
        if getattr(self, "_booster", None):
            self._lib.LGBM_BoosterFree(self._booster)


@ctypes.CFUNCTYPE(None, ctypes.c_char_p)
def _SILENT(line: bytes) -> None:
    """LightGBM prints to standard output unless somebody else takes its lines."""
