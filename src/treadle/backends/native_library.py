"""The shared library of a boosting package, called without its Python: that would import pandas, SciPy and scikit-learn to read one model file.

The library is found where the package is installed, by `importlib`, which runs none of its code.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
from functools import cache
from pathlib import Path

from treadle.core.errors import Corrupt, NotFound, Unavailable


@cache
def library(package: str, inside: str) -> ctypes.CDLL:
    """The opened library `inside` an installed package. Raises Unavailable when that is not installed."""
    found = importlib.util.find_spec(package)
    path = None if found is None or found.origin is None else Path(found.origin).parent / inside
    if path is None or not path.is_file():
        raise Unavailable(f"The model needs {package} to answer, which is not installed here.", hint=f"Install it: pip install {package}")
    return ctypes.CDLL(str(path))


def check(code: int, said: ctypes.c_char_p | bytes | None, path: Path) -> None:
    """Raises Corrupt with the library's own words when a call failed."""
    if code:
        text = said.decode(errors="replace").strip().splitlines() if isinstance(said, bytes) else []
        told = next((line.strip() for line in text if line.strip()), "it gave no reason")
        raise Corrupt(f"The model file cannot be used: {told[:300]}", where=str(path), hint="Pack the model again.")


def read(path: Path, digest: str) -> bytes:
    """A model file whose SHA-256 the package says: these libraries end the process over broken files, so they get none. Raises NotFound, Corrupt."""
    if not path.is_file():
        raise NotFound("The package has no model file.", where=str(path))
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise Corrupt("The model file is not the one that was packed.", where=str(path), hint="Pack the model again.")
    return content
