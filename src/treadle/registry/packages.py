"""A package: the files of one model version, each addressed by its content, with a manifest that names them all.

What is served is exactly what was registered: a file that is missing, added or changed by one byte is refused when the package is opened.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from treadle.core.canonical import canonical, digest
from treadle.core.errors import Corrupt
from treadle.ports.blobs import Blobs

MANIFEST = "manifest.json"


def store(folder: Path, manifest: Mapping[str, Any], blobs: Blobs) -> dict[str, Any]:
    """Put every file of a folder and the manifest into the blobs.

    Returns: {'files': {relative path: address}, 'digest': of all of them}: what the registry records.
    """
    files = {str(path.relative_to(folder)): blobs.put(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    files[MANIFEST] = blobs.put(canonical({**manifest, "files": files}))
    return {"files": files, "digest": digest(files)}


def open_package(package: Mapping[str, Any], blobs: Blobs, shelf: Path) -> tuple[Path, dict[str, Any]]:
    """A local folder with the package's files, each verified, and its manifest.

    Args:
        shelf: folder that holds opened packages; one opened before is checked again, file by file.
    Raises: Corrupt when a byte differs; NotFound when a file is gone.
    """
    if digest(dict(package["files"])) != package["digest"]:
        raise Corrupt("The list of the package's files was changed after it was registered.", hint="Roll back to a version that is whole.")
    target = shelf / str(package["digest"])[:24]
    for address in package["files"].values():
        blobs.verify(address)
    if not target.exists():
        shelf.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=shelf, prefix=".opening-"))
        for name, address in package["files"].items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).write_bytes(blobs.get(address))
        try:
            building.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(building)
    _same(target, package, blobs)
    return target, json.loads((target / MANIFEST).read_bytes())


def _same(folder: Path, package: Mapping[str, Any], blobs: Blobs) -> None:
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    named = set(package["files"])
    if there != named:
        odd = sorted(there ^ named)[0]
        raise Corrupt(
            f"The opened package has {'an extra' if odd in there else 'no'} file {odd!r}.",
            where=str(folder),
            hint="Delete that folder; it is made again.",
        )
    for name, address in package["files"].items():
        if (folder / name).read_bytes() != blobs.get(address):
            raise Corrupt(f"The file {name!r} of an opened package was changed.", where=str(folder), hint="Delete that folder; it is made again.")
