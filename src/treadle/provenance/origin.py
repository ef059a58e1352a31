"""Where a run came from: the code and the environment it ran with, stored whole, so that both can be had again.

Code in a git repository is its commit, the changes beyond it as a binary diff, and the files git does not know yet. Without git it is an archive of
the project's source files. What is kept is what git would show: the project folder, and modules of the same repository that the project imported.
Left out are Treadle's own folder, reports, and the files of declared sources, which are versioned as data. What was too large to keep is named.

The environment is Python, the machine, and every installed distribution with its version. It is stored once however many versions share it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import os
import platform
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from treadle import __version__
from treadle.assemble import Workspace
from treadle.core.canonical import canonical
from treadle.core.errors import Corrupt
from treadle.pipelines.house import house
from treadle.pipelines.installed import distributions
from treadle.ports.blobs import Blobs
from treadle.project_file import PROJECT_FILE
from treadle.provenance.git import told

ENVIRONMENT = ("treadle", "numpy", "polars", "scikit-learn", "lightgbm", "xgboost-cpu", "onnx", "onnxruntime", "skops", "optuna")
LARGEST, ALL = 10_000_000, 50_000_000  # bytes of one file, and of all files, that git does not know yet
MOST_FILES = 5_000
SOURCES = (".py", ".toml", ".json", ".yaml", ".yml", ".sql")  # what an archive takes where there is no git
_VECTORS = ("sse", "ssse", "avx", "fma", "f16c", "amx", "asimd", "sve")
_FOREIGN = {"site-packages", "dist-packages", "node_modules", "__pycache__"}
_OF_PYTHON = {"__main__", "sitecustomize", "usercustomize"}


def code_of(ws: Workspace) -> dict[str, Any]:
    """The code of a workspace's project as it is now. See `code_state`."""
    sources = [dataset.source.path for dataset in ws.project.datasets.values() if dataset.source.path]
    return code_state(ws.folder, ws.blobs, ignored=[str(ws.settings.home), *sources])


def code_state(folder: Path, blobs: Blobs, *, ignored: Sequence[str] = ()) -> dict[str, Any]:
    """The project's code as it is now, stored so that it can be had again.

    Args:
        ignored: paths and patterns, relative to the folder or absolute, of what is no code.
    Returns: in a git repository {'commit', 'dirty', 'diff': address or '', 'untracked': address or '', 'path': of the folder in the repository,
        'roots': folders of the repository that modules were imported from, 'left_out': [...]}. Else {'snapshot': address, 'left_out': [...]}.
    """
    folder = folder.resolve()
    found = told(folder, "rev-parse", "--show-toplevel", "HEAD").decode().splitlines()
    if len(found) != 2:
        return _snapshot(folder, blobs, ignored)
    top, commit = Path(found[0]).resolve(), found[1]
    path = folder.relative_to(top).as_posix()
    modules = _modules(top)
    places = {path: None, **{_top_package(name, file, top): None for name, file in modules.items() if not file.is_relative_to(folder)}}
    spec = [f":(top,literal){p}" if p != "." else ":(top)" for p in places]
    spec += [f":(top,exclude,glob){_beneath(path, 'report*.html')}", ":(top,exclude,glob)**/__pycache__/**", *_excluded(ignored, folder, top)]
    diff = told(
        folder, "diff", "HEAD", "--binary", "--full-index", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames", "--src-prefix=a/",
        "--dst-prefix=b/", "--", *spec,
    )  # fmt: skip
    names = _names(told(folder, "ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", *spec))
    loaded = [f for f in (*modules.values(), folder / PROJECT_FILE, folder / "treadle.toml") if f.is_file()]
    known = set(_names(told(top, "ls-files", "-z", "--", *(f":(top,literal){f.relative_to(top).as_posix()}" for f in loaded))))
    hidden = {f.relative_to(top).as_posix() for f in loaded} - known  # git is told to ignore them, and yet they ran
    left_out: list[str] = []
    untracked = _archive(top, sorted({*names, *hidden}), blobs, left_out)
    if len(diff) > ALL:
        left_out.append(f"the changes beyond the commit ({len(diff) / 1e6:.0f} MB)")
        diff = b""
    roots = sorted({_root(name, file, top) for name, file in modules.items()} - {path})
    return {
        "commit": commit, "dirty": bool(diff or names or hidden or left_out), "diff": blobs.put(diff) if diff else "", "untracked": untracked,
        "path": "" if path == "." else path, "roots": roots, "left_out": [*left_out, *_elsewhere(top)],
    }  # fmt: skip


def _snapshot(folder: Path, blobs: Blobs, ignored: Sequence[str]) -> dict[str, Any]:
    found: list[str] = []
    skipped = {(folder / p).resolve() for p in ignored}
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(
            f for f in folders if not f.startswith(".") and f not in _FOREIGN and here / f not in skipped and not (here / f / "pyvenv.cfg").exists()
        )
        found += [(here / f).relative_to(folder).as_posix() for f in sorted(files) if f.endswith(SOURCES) and here / f not in skipped]
        if len(found) > MOST_FILES:
            break
    left_out = [*_elsewhere(folder), *([f"files beyond the first {MOST_FILES:,}"] if len(found) > MOST_FILES else [])]
    return {"snapshot": _archive(folder, found[:MOST_FILES], blobs, left_out), "left_out": left_out}


def environment(state: Mapping[str, Any], blobs: Blobs) -> dict[str, str]:
    """What a version says of its environment: Python, the machine, the packages that matter most, and under 'packages' the address of all of it."""
    said = {"python": state["python"], "machine": state["machine"], "treadle": state["treadle"]["version"]}
    installed = {**state["packages"], **{name: local["version"] for name, local in state["local"].items()}}
    return {**said, **{name: installed[name] for name in ENVIRONMENT if name in installed}, "packages": blobs.put(canonical(state))}


def recorded_environment(address: str, blobs: Blobs) -> dict[str, Any]:
    """The environment that `environment` stored. Raises NotFound, Corrupt."""
    state: dict[str, Any] = json.loads(blobs.get(address))
    return state


@cache
def licences() -> dict[str, str]:
    """The licence of each package a version is made or served with, in its own words; empty where it says none."""
    found = {name: _licence(name) for name in ENVIRONMENT if name != "treadle"}
    return {name: said for name, said in found.items() if said is not None}


def _licence(name: str) -> str | None:
    try:
        said = importlib.metadata.metadata(name).json
    except importlib.metadata.PackageNotFoundError:
        return None
    if said.get("license_expression"):
        return str(said["license_expression"])
    named = [c.rpartition("::")[2].strip() for c in said.get("classifier", ()) if str(c).startswith("License ::")]
    short = str(said.get("license") or "").strip().splitlines()[:1]
    return " AND ".join(named) if named else short[0][:80] if short else ""


@cache
def environment_state() -> dict[str, Any]:
    """Python, machine and installed distributions of this process; the same object each time, so not to be changed.

    Returns: {'python', 'implementation', 'platform', 'machine', 'cpu': {'model', 'vectors'}, 'packages': {name: version}, 'local': {name: {'version',
        'where', 'digest'}}: installed from a folder, so that the version alone does not say what they hold; 'treadle': {'version', 'digest'}}.
    """
    packages, local = _installed()
    return {
        "python": platform.python_version(), "implementation": platform.python_implementation(),
        "platform": " ".join([platform.system(), *filter(None, platform.libc_ver())]), "machine": platform.machine(), "cpu": _cpu(),
        "packages": packages, "local": local, "treadle": {"version": __version__, "digest": house("treadle.wheel.turn")},
    }  # fmt: skip


def _installed() -> tuple[dict[str, str], dict[str, Any]]:
    packages: dict[str, str] = {}
    local: dict[str, Any] = {}
    for name, version, place in distributions():
        if name == "treadle" or name in packages or name in local:  # the first on the path is the one that is imported
            continue
        where = _local_folder(place)
        if where is None:
            packages[name] = version
        else:
            local[name] = {"version": version, "where": str(where), "digest": _digest_of(where)}
    return dict(sorted(packages.items())), dict(sorted(local.items()))


def _local_folder(info: Path) -> Path | None:
    try:
        said = json.loads((info / "direct_url.json").read_bytes())
    except (OSError, ValueError):
        return None
    return Path(unquote(urlsplit(said["url"]).path)) if "dir_info" in said else None


def _digest_of(folder: Path) -> str:
    """A digest of the Python files beneath a folder; empty when it is gone."""
    whole, count = hashlib.sha256(), 0
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in _FOREIGN and not Path(place, f, "pyvenv.cfg").exists())
        for file in sorted(f for f in files if f.endswith(".py")):
            path = Path(place, file)
            whole.update(f"{path.relative_to(folder).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
            count += 1
        if count > MOST_FILES:
            break
    return whole.hexdigest()[:16] if count else ""


def _cpu() -> dict[str, str]:
    """Model and vector instructions: numeric libraries choose their code by them, and other code gives other last digits."""
    try:
        with open("/proc/cpuinfo", "rb") as file:
            lines = file.read(8192).decode("ascii", "replace").split("\n\n")[0].splitlines()
    except OSError:
        return {"model": platform.processor(), "vectors": ""}
    said = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = (said.get("flags") or said.get("features") or "").split()
    return {"model": said.get("model name", platform.processor()), "vectors": " ".join(sorted({f for f in flags if f.startswith(_VECTORS)}))}


def _names(listed: bytes) -> list[str]:
    return [os.fsdecode(name) for name in listed.split(b"\0") if name]


def _excluded(ignored: Iterable[str], folder: Path, top: Path) -> list[str]:
    spec = []
    for path in ignored:
        full = Path(os.path.normpath(folder / path))
        if full.is_relative_to(top) and full != top:
            spec.append(f":(top,exclude,{'literal' if full.exists() else 'glob'}){full.relative_to(top).as_posix()}")
    return spec


def _beneath(path: str, pattern: str) -> str:
    return pattern if path == "." else f"{path}/{pattern}"


def _modules(top: Path) -> dict[str, Path]:
    """Loaded modules whose files lie beneath a folder and are neither Treadle's nor an installed package's."""
    found = {}
    for name, file in _loaded():
        if file.is_relative_to(top) and not _foreign(file, top):
            found[name] = file
    return found


def _elsewhere(top: Path) -> list[str]:
    """Loaded modules that are neither the project's nor Treadle's nor installed: their code is not kept."""
    roots = tuple({str(Path(p).resolve()) for p in (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.__file__))})
    names = sorted({
        name.split(".")[0] for name, file in _loaded()
        if not file.is_relative_to(top) and not str(file).startswith(roots) and not _FOREIGN & set(file.parts)
        and name not in _OF_PYTHON and not name.startswith("treadle_project_")
    })  # fmt: skip
    return [f"module {name}, which lies outside the project" for name in names[:20]]


def _loaded() -> list[tuple[str, Path]]:
    ours = str(Path(__file__).resolve().parents[1]) + os.sep
    found = []
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str) and file.endswith(".py"):
            path = os.path.realpath(file)
            if not path.startswith(ours):
                found.append((name, Path(path)))
    return found


def _foreign(file: Path, top: Path) -> bool:
    parts = file.relative_to(top).parts[:-1]
    if _FOREIGN & set(parts) or any(p.startswith(".") for p in parts):
        return True
    return any((top.joinpath(*parts[: i + 1]) / "pyvenv.cfg").exists() for i in range(len(parts)))


def _root(name: str, file: Path, top: Path) -> str:
    """The folder that must be on the path for a module to be found, seen from the repository."""
    depth = name.count(".") + (2 if file.name == "__init__.py" else 1)
    place = file
    for _ in range(depth):
        place = place.parent
    return place.relative_to(top).as_posix() if place.is_relative_to(top) else "."


def _top_package(name: str, file: Path, top: Path) -> str:
    """The outermost package of a module, or the module's file, seen from the repository."""
    root, relative = _root(name, file, top), file.relative_to(top)
    return Path(*relative.parts[: len(Path(root).parts) + 1]).as_posix()


def _archive(folder: Path, names: Sequence[str], blobs: Blobs, left_out: list[str]) -> str:
    """Files as a tar whose bytes depend on names and contents alone; its address, or '' for no file. What is too large is added to `left_out`."""
    out, total, count = io.BytesIO(), 0, 0
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in names:
            file = folder / name
            try:
                size = file.stat().st_size
                if not file.is_file():
                    left_out.append(f"{name} (a repository of its own)" if name.endswith("/") else f"{name} (no file)")
                    continue
                if size > LARGEST or total + size > ALL or count >= MOST_FILES:
                    left_out.append(f"{name} ({size / 1e6:.1f} MB)")
                    continue
                content = file.read_bytes()
            except OSError as error:
                left_out.append(f"{name} ({error.strerror})")
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if os.access(file, os.X_OK) else 0o644
            archive.addfile(entry, io.BytesIO(content))
            total, count = total + size, count + 1
    del left_out[100:]
    return blobs.put(out.getvalue()) if count else ""


def unpack(address: str, folder: Path, blobs: Blobs) -> None:
    """The files of an archive, in a folder. Raises NotFound, Corrupt."""
    try:
        with tarfile.open(fileobj=io.BytesIO(blobs.get(address))) as archive:
            for entry in archive:
                _write(archive, entry, folder)
    except (tarfile.TarError, EOFError) as error:
        raise Corrupt(f"The archive of the code cannot be read: {error}.") from error


def _write(archive: tarfile.TarFile, entry: tarfile.TarInfo, folder: Path) -> None:
    """One file of an archive, in the folder and nowhere else (Python has a filter for this since 3.11.4 only)."""
    file = Path(os.path.normpath(folder / entry.name))
    content = archive.extractfile(entry) if entry.isfile() else None
    if content is None or not file.is_relative_to(folder):
        raise Corrupt(f"The archive of the code holds {entry.name!r}, which it may not.")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.read())
    file.chmod(entry.mode & 0o755)
