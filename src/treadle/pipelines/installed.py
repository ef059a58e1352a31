"""Which version of a package is installed, found without opening its metadata."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from treadle.pipelines.living import module_path

_LIBRARY = os.path.dirname(os.path.realpath(os.__file__)) + os.sep

# Packages whose distribution is named otherwise; all others are found by their own name, or by asking every distribution, which is slow.
_DISTRIBUTIONS = {
    "sklearn": "scikit-learn", "xgboost": "xgboost-cpu", "PIL": "pillow", "cv2": "opencv-python", "yaml": "pyyaml", "bs4": "beautifulsoup4",
    "dateutil": "python-dateutil", "skimage": "scikit-image", "mlflow": "mlflow-skinny", "faiss": "faiss-cpu",
}  # fmt: skip


def distributions() -> Iterator[tuple[str, str, Path]]:
    """(normalized name, version, folder of its metadata) of what is installed, the one that is imported first.

    Read off the names of the folders that installers make (PEP 376): opening 150 files of metadata would take a hundred times as long.
    """
    for place in dict.fromkeys(sys.path):
        try:
            entries = sorted(os.scandir(place or "."), key=lambda e: e.name)
        except OSError:
            continue
        for entry in entries:
            if entry.name.endswith(".dist-info"):
                name, _, version = entry.name.removesuffix(".dist-info").rpartition("-")
            elif entry.name.endswith(".egg-info"):
                import importlib.metadata

                found = importlib.metadata.Distribution.at(Path(entry.path))
                name, version = str(found.metadata["Name"] or ""), str(found.metadata["Version"] or "")
            else:
                continue
            if name:
                yield _normalized(name), version, Path(entry.path)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def versions() -> dict[str, str]:
    """Normalized names of all distributions on the path to their versions."""
    found: dict[str, str] = {}
    for name, version, _ in distributions():
        found.setdefault(name, version)
    return found


def version(top: str) -> str:
    """The version of the package of a top-level module; '' if it cannot be told. Of a checkout on the path: a digest of its files too."""
    module = sys.modules.get(top)
    return _version_at(top, module_path(module) if module is not None else "")


@cache
def _version_at(top: str, path: str) -> str:
    installed = versions()
    packaged = any(f"{os.sep}{place}{os.sep}" in path for place in ("site-packages", "dist-packages"))
    version = installed.get(_normalized(top)) or installed.get(_DISTRIBUTIONS.get(top, ""), "")
    if not version and (packaged or not path):
        import importlib.metadata

        try:
            version = importlib.metadata.version(top)
        except importlib.metadata.PackageNotFoundError:
            owners = importlib.metadata.packages_distributions().get(top) if packaged else None
            version = importlib.metadata.version(owners[0]) if owners else ""
    if path and not packaged and not path.startswith(_LIBRARY):  # a checkout on the path: its version says nothing about its files
        folder = os.path.dirname(path)
        files = [path]
        if os.path.basename(path) == "__init__.py":
            files = sorted(os.path.join(at, name) for at, _, names in os.walk(folder) for name in names if name.endswith(".py"))
        version = f"{version}+{bytes_of(tuple(files[:5000]))}".lstrip("+")
    return version


def bytes_of(paths: tuple[str, ...]) -> str:
    """A digest of files, in their order; one that cannot be read counts as that."""
    said = hashlib.sha256()
    for path in paths:
        try:
            with open(path, "rb") as file:
                said.update(hashlib.sha256(file.read()).digest())
        except OSError:
            said.update(b"unreadable")
    return said.hexdigest()[:16]
