"""XGBoost models that have no exact conversion to ONNX (DART, linear boosters, other objectives), in XGBoost's own JSON format.

The file is numbers: reading it runs nothing. It is answered by XGBoost's C library, in the same float32 arithmetic as where it was fitted:
https://xgboost.readthedocs.io/en/stable/dev/group__Prediction.html
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from treadle.backends.native_library import check, library, read
from treadle.core.errors import CannotConvert, Corrupt, InvalidRequest

FILE = "model.json"


class XgboostFormat:
    """Writes model.json; loads it into one booster of XGBoost's library."""

    name = "xgboost"
    runs_code = False
    library = "xgboost"

    def save(self, fitted: Any, folder: Path) -> dict[str, Any]:
        """Write the booster of a fitted pipeline of columns, float32 and model, up to its best iteration.

        Returns: as every format; `missing` is what counts as missing beside NaN, `linear` whether the booster is linear, `written_with` the version.
        Raises: CannotConvert for an objective of one's own, whose link the file does not know.
        """
        from importlib.metadata import version

        from treadle.backends.encoder_table import describe

        info = describe(fitted)
        model = fitted.named_steps["model"]
        if callable(model.objective) or not hasattr(model, "get_booster"):
            raise CannotConvert("XGBoost's own file does not hold an objective that is a function.", hint="Use a named objective.")
        booster = model.get_booster()
        linear = json.loads(booster.save_config())["learner"]["gradient_booster"]["name"] == "gblinear"
        if model.early_stopping_rounds is not None:
            booster = booster[: model.best_iteration + 1]
        folder.mkdir(parents=True, exist_ok=True)
        content = bytes(booster.save_raw("json"))
        (folder / FILE).write_bytes(content)
        distribution = "xgboost-cpu" if _installed("xgboost-cpu") else "xgboost"
        return {
            "format": "xgboost", "file": FILE, "files": [FILE], **info, "linear": linear,
            "missing": None if np.isnan(model.missing) else float(model.missing),
            "sha256": hashlib.sha256(content).hexdigest(), "written_with": version(distribution),
        }  # fmt: skip

    def load(self, folder: Path, info: dict[str, Any]) -> XgboostScorer:
        """Read the file. Raises NotFound, Corrupt, Unavailable when XGBoost is not installed."""
        path = folder / str(info["file"])
        return XgboostScorer(read(path, info["sha256"]), path, int(info["width"]), info["classes"], info["missing"], bool(info["linear"]))


class XgboostScorer:
    """One booster. Safe to call from several threads: XGBoost keeps each thread's answer apart."""

    def __init__(self, content: bytes, path: Path, width: int, classes: list[Any] | None, missing: float | None, linear: bool) -> None:
        self.width, self._path, self._classes, self._linear = width, path, classes, linear
        self._lib = library("xgboost", "lib/libxgboost.so")
        self._lib.XGBGetLastError.restype = ctypes.c_char_p
        self._ask(self._lib.XGBSetGlobalConfig(ctypes.c_char_p(b'{"verbosity": 0}')))
        self._booster, features = ctypes.c_void_p(), ctypes.c_uint64(0)
        self._ask(self._lib.XGBoosterCreate(None, ctypes.c_uint64(0), ctypes.byref(self._booster)))
        held = ctypes.create_string_buffer(content, len(content))
        self._ask(self._lib.XGBoosterLoadModelFromBuffer(self._booster, held, ctypes.c_uint64(len(content))))
        self._ask(self._lib.XGBoosterSetParam(self._booster, ctypes.c_char_p(b"nthread"), ctypes.c_char_p(b"1")))
        self._ask(self._lib.XGBoosterGetNumFeature(self._booster, ctypes.byref(features)))
        if features.value != width:
            raise Corrupt(f"The model takes {features.value} columns, the package says {width}.", where=str(path), hint="Pack the model again.")
        # JSON has no NaN, but XGBoost's reader takes what Python writes.
        gap = float("nan") if missing is None else missing
        what = {"missing": gap, "training": False, "iteration_begin": 0, "iteration_end": 0, "strict_shape": True, "type": 0}
        self._asked = json.dumps({**what, "cache_id": 0}).encode()
        self._stored = json.dumps({"missing": gap, "nthread": 1}).encode()

    def _ask(self, code: int) -> None:
        check(code, self._lib.XGBGetLastError() if code else None, self._path)

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """Encoded rows, float32 of shape (n, width), to float64 of shape (n, classes) or (n, 1). Raises InvalidRequest for another width."""
        if matrix.ndim != 2 or matrix.shape[1] != self.width:
            raise InvalidRequest(f"The model takes rows of {self.width} encoded features, not an array of shape {matrix.shape}.")
        rows = np.ascontiguousarray(matrix, dtype=np.float32)
        array = json.dumps({"data": [rows.ctypes.data, True], "shape": list(rows.shape), "typestr": "<f4", "version": 3}).encode()
        found = self._answer(ctypes.c_char_p(array), len(rows)).astype(np.float64)
        return np.hstack([1.0 - found, found]) if self._classes is not None and found.shape[1] == 1 else found

    def _answer(self, array: ctypes.c_char_p, count: int) -> np.ndarray:
        shape, sides, values = ctypes.POINTER(ctypes.c_uint64)(), ctypes.c_uint64(0), ctypes.POINTER(ctypes.c_float)()
        back = (ctypes.byref(shape), ctypes.byref(sides), ctypes.byref(values))
        asked = ctypes.c_char_p(self._asked)
        if not self._linear:
            self._ask(self._lib.XGBoosterPredictFromDense(self._booster, array, asked, None, *back))
        else:  # a linear booster answers stored matrices alone
            stored = ctypes.c_void_p()
            self._ask(self._lib.XGDMatrixCreateFromDense(array, ctypes.c_char_p(self._stored), ctypes.byref(stored)))
            try:
                self._ask(self._lib.XGBoosterPredictFromDMatrix(self._booster, stored, asked, *back))
            finally:
                self._lib.XGDMatrixFree(stored)
        size = 1
        for side in range(sides.value):
            size *= shape[side]
        # Copied at once: the memory is the library's, until this thread asks again.
        return np.ctypeslib.as_array(values, shape=(size,)).copy().reshape(count, -1)

    def __del__(self) -> None:
        if getattr(self, "_booster", None):
            self._lib.XGBoosterFree(self._booster)


def _installed(distribution: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    try:
        version(distribution)
    except PackageNotFoundError:
        return False
    return True
