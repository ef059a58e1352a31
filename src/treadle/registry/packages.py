"""A package: the files of one model version, each addressed by its content, with a manifest that names them all.

What is served is exactly what was registered: a file that is missing, added or changed by one byte is refused when the package is opened, and so is
a package that no trusted key signed, where any key is trusted.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from treadle.core.canonical import canonical, digest
from treadle.core.errors import Corrupt, Refused, TreadleError
from treadle.ports.blobs import Blobs
from treadle.registry import signing
from treadle.registry.signing import Trust

MANIFEST = "manifest.json"
AGAIN = "Delete that folder; it is made again."


@dataclass(frozen=True)
class Shelf:
    """Where opened packages lie, whose signatures count, and whether models may run code of their own."""

    folder: Path
    trust: Trust
    code: bool = False


def store(folder: Path, manifest: Mapping[str, Any], blobs: Blobs) -> dict[str, Any]:
    """Put every file of a folder and the manifest into the blobs.

    Returns: {'files': {relative path: address}, 'digest': of all of them}: what the registry records.
    Raises: Refused for a link, which would bring a file from elsewhere.
    """
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise Refused("A package holds no links.", where=name, hint="Put the file itself there.")
        if path.is_file():
            files[name] = blobs.put(path)
    files[MANIFEST] = blobs.put(canonical({**manifest, "files": files}))
    return {"files": files, "digest": digest(files)}


def sign(package: Mapping[str, Any], name: str, private: bytes, blobs: Blobs) -> dict[str, Any]:
    """The package with a signature over its files. `name` says to people what it is."""
    bundle = signing.sign(package["files"], name, private)
    fingerprint = signing.fingerprint(signing.public_of(private))
    return {"files": dict(package["files"]), "digest": package["digest"], "signature": {"bundle": blobs.put(bundle), "key": fingerprint}}


def blobs_of(package: Mapping[str, Any]) -> list[str]:
    """The addresses of everything that opening a package needs: its files, and its signature if it has one."""
    signature = package.get("signature")
    return [*package["files"].values(), *([signature["bundle"]] if signature else [])]


def check_signature(package: Mapping[str, Any], blobs: Blobs, trust: Trust) -> signing.Key | None:
    """The trusted key that signed the package; None where no key is trusted, so that nothing is asked.

    Raises: Refused when it is unsigned or its key does not count; Corrupt when the signature does not hold, is of other files, or was changed;
        NotFound when it is gone.
    """
    if not trust.asks:
        return None
    signature = package.get("signature")
    if not signature:
        hint = "If you trust these files, sign them with: treadle signing sign"
        raise Refused("The package is unsigned, and this project serves only signed ones.", hint=hint)
    return signing.verify(blobs.get(signature["bundle"]), package["files"], trust)


def told_signature(package: Mapping[str, Any], blobs: Blobs, trust: Trust) -> str:
    """What is to be said of a package's signature, found by checking it and not by what is recorded."""
    if not package.get("signature"):
        return "unsigned"
    try:
        key = check_signature(package, blobs, trust)
    except TreadleError as error:
        return f"not valid: {error.what}"
    if key is None:
        return f"signed with {package['signature']['key'][:16]}, not checked: no key is trusted here"
    return f"signed with {key.name or key.fingerprint[:16]} ({key.fingerprint[:16]}), checked"


def open_package(package: Mapping[str, Any], blobs: Blobs, shelf: Shelf) -> tuple[Path, dict[str, Any]]:
    """A local folder with the package's files, each verified, and its manifest.

    Args:
        shelf: holds opened packages; one opened before is checked again, file by file.
    Raises: Corrupt when a byte differs; NotFound when a file is gone; Refused when it is not signed as it must be.
    """
    if digest(dict(package["files"])) != package["digest"]:
        raise Corrupt("The list of the package's files was changed after it was registered.", hint="Roll back to a version that is whole.")
    for name in package["files"]:
        _check_name(name)
    check_signature(package, blobs, shelf.trust)
    signature = package.get("signature") or {}
    files = {**package["files"], **({signing.FILE: signature["bundle"]} if signature else {})}
    target = shelf.folder / f"{str(package['digest'])[:24]}{'-' + str(signature['bundle'])[:8] if signature else ''}"
    for address in files.values():
        blobs.verify(address)
    if not target.exists():
        shelf.folder.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(dir=shelf.folder, prefix=".opening-"))
        for name, address in files.items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).write_bytes(blobs.get(address))
        try:
            building.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(building)
    _same(target, files, blobs)
    manifest: dict[str, Any] = json.loads((target / MANIFEST).read_bytes())
    if manifest.get("model", {}).get("runs_code"):
        _may_run(shelf)
    if signature:
        manifest["files"] = {**manifest["files"], signing.FILE: signature["bundle"]}
    return target, manifest


def _may_run(shelf: Shelf) -> None:
    """Raises Refused unless models may run code here, and this one's signature was checked."""
    if not shelf.code:
        hint = "If you trust it, allow that with the setting model_code = yes."
        raise Refused("The model runs code of its own, and this project does not allow that.", hint=hint)
    if not shelf.trust.asks:
        raise Refused("The model runs code of its own, and no key is trusted that could have signed it.", hint="Make one with: treadle signing init")


def _check_name(name: str) -> None:
    """Raises Refused for a name that would lie outside the package's folder."""
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or "\\" in name or "\0" in name or str(parts) != name or name == signing.FILE:
        raise Refused(f"The package names a file {name[:80]!r}, which is no place inside it.", hint="Make the package again.")


def _same(folder: Path, files: Mapping[str, str], blobs: Blobs) -> None:
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or p.is_file()}
    if there != set(files):
        odd = sorted(there ^ set(files))[0]
        raise Corrupt(f"The opened package has {'an extra' if odd in there else 'no'} file {odd!r}.", where=str(folder), hint=AGAIN)
    for name, address in files.items():
        if (folder / name).is_symlink() or (folder / name).read_bytes() != blobs.get(address):
            raise Corrupt(f"The file {name!r} of an opened package was changed.", where=str(folder), hint=AGAIN)
