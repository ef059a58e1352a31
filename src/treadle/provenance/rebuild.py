"""An origin made real again: the recorded code in a folder, and an interpreter that has the recorded packages.

Neither the repository nor the present environment is touched. Code is checked out through an index of its own into a folder of its own. Packages are
installed into a virtual environment of its own: where the Python is the same, only those that differ, in front of the ones that are installed now.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import treadle
from treadle.core.errors import Corrupt, NotFound, StorageError, TreadleError, Unavailable
from treadle.ports.blobs import Blobs
from treadle.provenance.git import git
from treadle.provenance.origin import unpack

INSTALLED = ("site-packages", "dist-packages")


class Obstacle(Exception):
    """Why something cannot be made again: `reason` is a stable name, `error` says it to a person."""

    def __init__(self, reason: str, error: TreadleError) -> None:
        super().__init__(error.what)
        self.reason, self.error = reason, error


@dataclass(frozen=True)
class Difference:
    """One thing that is not as it was recorded: `kind` is 'python', 'package', 'local', 'platform', 'cpu' or 'treadle'."""

    kind: str
    name: str
    recorded: str
    present: str

    def __str__(self) -> str:
        return f"{self.name} {self.recorded or 'absent'} -> {self.present or 'absent'}"


def differences(recorded: Mapping[str, Any], present: Mapping[str, Any]) -> list[Difference]:
    """What of a recorded environment is not so in another. Packages that only the other has take no part: nothing recorded used them."""
    found = [Difference("python", "Python", *_both(recorded, present, "implementation", "python"))]
    names = [*recorded["packages"], *recorded["local"]]
    for name in names:
        then, now = (_installed(state, name) for state in (recorded, present))
        found.append(Difference("local" if name in recorded["local"] else "package", name, then, now))
    found.append(Difference("platform", "operating system", *_both(recorded, present, "platform", "machine")))
    found.append(Difference("cpu", "processor", *(f"{s['cpu']['model']} ({s['cpu']['vectors']})" for s in (recorded, present))))
    found.append(Difference("treadle", "Treadle itself", *(f"{s['treadle']['version']} ({s['treadle']['digest']})" for s in (recorded, present))))
    return [d for d in found if d.recorded != d.present]


def _both(recorded: Mapping[str, Any], present: Mapping[str, Any], *fields: str) -> tuple[str, str]:
    then, now = (" ".join(str(state[f]) for f in fields) for state in (recorded, present))
    return then, now


def _installed(state: Mapping[str, Any], name: str) -> str:
    local = state["local"].get(name)
    return f"{local['version']} from a folder ({local['digest'] or 'gone'})" if local else str(state["packages"].get(name, ""))


def code(origin: Mapping[str, Any], project: Path, blobs: Blobs, folder: Path) -> Path:
    """The recorded code beneath a folder; where the project lies in it.

    Args:
        origin: what `origin.code_state` gave.
        project: the present project folder, whose repository has the commit.
    Raises: Obstacle.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if origin.get("snapshot"):
        _unpacked(origin["snapshot"], folder, blobs)
        return folder
    lost = origin.get("dirty") and not origin.get("diff") and not origin.get("untracked")
    if not origin.get("commit") or lost:
        what = "The changes beyond the commit were not recorded." if lost else "The code was not recorded."
        raise Obstacle("code-not-recorded", NotFound(what, hint="Train a new version: treadle run records all of its code."))
    commit = str(origin["commit"])
    if shutil.which("git") is None:
        raise Obstacle("git-missing", Unavailable(f"The code is commit {commit[:12]}, and there is no git.", hint="Install git."))
    repository = git(project, "rev-parse", "--absolute-git-dir")
    if repository.returncode:
        what = f"The code is commit {commit[:12]}, and the project folder is in no git repository any more."
        raise Obstacle("repository-missing", NotFound(what, where=str(project), hint="Run it in a clone of the project's repository."))
    index = folder.parent / f"{folder.name}.index"
    known = {"GIT_DIR": repository.stdout.decode().strip(), "GIT_WORK_TREE": str(folder), "GIT_INDEX_FILE": str(index)}
    if git(folder, "cat-file", "-e", f"{commit}^{{commit}}", variables=known).returncode:
        what = f"Commit {commit[:12]} is not in the project's repository any more."
        raise Obstacle("commit-missing", NotFound(what, where=str(project), hint="Fetch it from where it was pushed: git fetch --all"))
    _checked(git(folder, "read-tree", commit, variables=known), "commit-missing")
    if origin.get("diff"):
        patch = folder.parent / f"{folder.name}.diff"
        try:
            patch.write_bytes(blobs.get(origin["diff"]))
        except (NotFound, Corrupt) as error:
            raise Obstacle("code-damaged", error) from error
        _checked(git(folder, "apply", "--cached", "--binary", "--whitespace=nowarn", str(patch), variables=known), "code-damaged")
    _checked(git(folder, "checkout-index", "--all", "--force", variables=known), "commit-missing")
    if origin.get("untracked"):
        _unpacked(origin["untracked"], folder, blobs)
    return folder / str(origin.get("path", ""))


def _unpacked(address: str, folder: Path, blobs: Blobs) -> None:
    try:
        unpack(address, folder, blobs)
    except (NotFound, Corrupt) as error:
        raise Obstacle("code-damaged", error) from error


def _checked(done: subprocess.CompletedProcess[bytes], reason: str) -> None:
    if done.returncode:
        told = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise Obstacle(reason, StorageError(f"git could not bring back the code: {told[-1] if told else 'it said nothing'}."))


@dataclass(frozen=True)
class Interpreter:
    """A Python with the recorded packages. `how`: 'present', 'overlay' (the ones that differ before the present ones) or 'scratch' (all anew)."""

    python: Path
    how: str


def interpreter(
    recorded: Mapping[str, Any], present: Mapping[str, Any], folder: Path, *, scratch: bool = False, say: Callable[[str], None] = lambda line: None
) -> Interpreter:
    """An interpreter with the recorded Python (of the same minor version) and the recorded packages; the present one if it has them.

    Args:
        folder: for the virtual environment, if one is needed.
        scratch: build it from nothing, although the present one would do.
    Raises: Obstacle.
    """
    wanted = ".".join(str(recorded["python"]).split(".")[:2])
    same = wanted == ".".join(str(present["python"]).split(".")[:2]) and recorded["implementation"] == present["implementation"]
    changed = {name: version for name, version in recorded["packages"].items() if present["packages"].get(name) != version}
    if same and not changed and not scratch:
        return Interpreter(Path(sys.executable), "present")
    base = Path(sys.executable) if same else _python(wanted)
    overlay = same and not scratch
    pins = changed if overlay else dict(recorded["packages"])
    say(f"installing {', '.join(f'{n} {v}' for n, v in list(pins.items())[:3])}{f' and {len(pins) - 3} more' if len(pins) > 3 else ''}")
    python, site = _virtual(base, folder)
    lines = [f"{name}=={version}" for name, version in pins.items()]
    if not overlay:
        lines += [local["where"] for local in recorded["local"].values() if Path(local["where"]).exists()]
    _install(python, lines, folder)
    if overlay:
        # Only now: pip would take the present packages for the environment's own.
        places = [p for p in sys.path if Path(p).name in INSTALLED]
        (site / "present.pth").write_text("".join(f"import site; site.addsitedir({p!r})\n" for p in places))
    else:
        shutil.copytree(Path(treadle.__file__).parent, site / "treadle", ignore=shutil.ignore_patterns("__pycache__"))
    return Interpreter(python, "overlay" if overlay else "scratch")


def _python(wanted: str) -> Path:
    for place in os.environ.get("PATH", "").split(os.pathsep):
        found = shutil.which(f"python{wanted}", path=place)
        if found is None:
            continue
        said = subprocess.run([found, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"], capture_output=True, text=True, check=False)
        if said.returncode == 0 and said.stdout.strip() == wanted:  # a launcher may be there, and the Python it launches not
            return Path(found)
    raise Obstacle(
        "python-missing", Unavailable(f"The version was trained with Python {wanted}, which is not installed.",
        hint=f"Install python{wanted}, or see with --here what this one gives."),
    )  # fmt: skip


def _virtual(base: Path, folder: Path) -> tuple[Path, Path]:
    """A fresh virtual environment: its Python, and the folder of its packages."""
    without = ["--without-pip"] if _pip() else []
    done = subprocess.run([str(base), "-m", "venv", *without, str(folder)], capture_output=True, text=True, check=False)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if done.returncode:
        said = (done.stdout + done.stderr).strip().splitlines()
        raise Obstacle("venv-failed", Unavailable(f"No virtual environment could be made: {said[0] if said else 'no reason was given'}"))
    site = subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True)
    return python, Path(site.stdout.strip())


def _pip() -> list[str]:
    """The present pip, if it can install for another Python: an environment need not be given one of its own then, which takes seconds."""
    try:
        major, minor = importlib.metadata.version("pip").split(".")[:2]
    except importlib.metadata.PackageNotFoundError:
        return []
    return [sys.executable, "-m", "pip"] if (int(major), int(minor)) >= (22, 3) else []


def _install(python: Path, lines: list[str], folder: Path) -> None:
    listed = folder / "recorded.txt"
    listed.write_text("\n".join(lines) + "\n")
    # --no-deps: the list is whole, and what was installed together then may be what a resolver refuses today.
    pip = [*_pip(), "--python", str(python)] if _pip() else [str(python), "-m", "pip"]
    done = subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--no-input", "-r", str(listed)],
        capture_output=True, text=True, check=False, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
    )  # fmt: skip
    if done.returncode:
        told = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.strip().splitlines() or ["no reason given"]
        raise Obstacle("pip-failed", Unavailable(
            f"pip could not install the recorded packages: {told[-1].removeprefix('ERROR:').strip()}",
            hint="Is there a network, and does pip's index still have them? See with --here what the present packages give.",
        ))  # fmt: skip
