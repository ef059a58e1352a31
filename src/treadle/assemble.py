"""Wiring: a project folder, its settings and its backends, handed to whoever turns the wheel. No decisions here."""

from __future__ import annotations

import getpass
import importlib.util
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from treadle.backends.catalog import open_backend
from treadle.core.canonical import digest
from treadle.core.clock import Clock, SystemClock
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Serve, Watch
from treadle.core.declare.project import Project
from treadle.core.errors import NotFound, ProjectError, StorageError, TreadleError
from treadle.pipelines.run import Progress, Runner
from treadle.ports.blobs import Blobs
from treadle.ports.executor import Executor
from treadle.ports.ledger import Ledger
from treadle.ports.model_format import ModelFormat
from treadle.ports.notifier import Notifier
from treadle.ports.online import OnlineStore
from treadle.ports.predictions import PredictionLog
from treadle.ports.tables import Tables
from treadle.settings import Settings, read_settings

PROJECT_FILE = "project.py"


def formats() -> dict[str, Callable[[], ModelFormat]]:
    """Format name to a function that opens it; nothing is imported before."""

    def onnx() -> ModelFormat:
        from treadle.backends.onnx_format import OnnxFormat

        return OnnxFormat()

    def skops() -> ModelFormat:
        from treadle.backends.skops_format import SkopsFormat

        return SkopsFormat()

    return {"onnx": onnx, "skops": skops}


@dataclass
class Workspace:
    """Everything that belongs to one project folder, opened when it is first used."""

    folder: Path
    settings: Settings
    clock: Clock = field(default_factory=SystemClock)
    watch: Callable[[Progress], None] | None = None

    @cached_property
    def project(self) -> Project:
        return load_project(self.folder)

    @cached_property
    def ledger(self) -> Ledger:
        self._home()
        return cast(Ledger, open_backend("ledger", self.settings["ledger"]))

    @cached_property
    def blobs(self) -> Blobs:
        self._home()
        return cast(Blobs, open_backend("blobs", self.settings["blobs"]))

    @cached_property
    def tables(self) -> Tables:
        return cast(Tables, open_backend("tables", "parquet:", blobs=self.blobs))

    @cached_property
    def online(self) -> OnlineStore:
        self._home()
        return cast(OnlineStore, open_backend("online", self.settings["online"]))

    @cached_property
    def predictions(self) -> PredictionLog:
        self._home()
        return cast(PredictionLog, open_backend("predictions", self.settings["predictions"]))

    @cached_property
    def executor(self) -> Executor:
        return cast(Executor, open_backend("executor", self.settings["executor"]))

    @cached_property
    def notifiers(self) -> list[Notifier]:
        self._home()
        return [cast(Notifier, open_backend("notifier", address)) for address in self.settings["notify"].split()]

    @property
    def shelf(self) -> Path:
        """Where opened packages lie."""
        return self.settings.home / "packages"

    @property
    def threads(self) -> int:
        """How many threads a training may use."""
        return int(self.settings["threads"]) or max(1, (os.cpu_count() or 1) // 2)

    @cached_property
    def actor(self) -> str:
        """Who is acting, for the audit log."""
        if self.settings["actor"]:
            return self.settings["actor"]
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return "unknown"

    def runner(self) -> Runner:
        """A runner over this workspace's stores."""
        return Runner(self.ledger, self.blobs, self.executor, self.clock, roots=[self.folder], watch=self.watch)

    def model(self, name: str = "") -> Model:
        """A declared model by name, or the only one. Raises NotFound."""
        models = self.project.models
        if not models:
            raise NotFound("The project declares no model.", where=str(self.folder / PROJECT_FILE), hint="Add one with project.model(...).")
        if not name and len(models) == 1:
            return next(iter(models.values()))
        if name not in models:
            raise NotFound(f"There is no model {name!r}." if name else "Which model?", hint=f"The project declares: {', '.join(models)}.")
        return models[name]

    def serve_of(self, model: Model) -> Serve:
        """How a model is served: as declared, or the defaults."""
        from datetime import timedelta

        return self.project.serves.get(model.name) or Serve(model, timedelta(days=1), 0.1, timedelta(days=1))

    def watch_of(self, model: Model) -> Watch | None:
        """What is watched of a model, if declared."""
        return self.project.watches.get(model.name)

    def _home(self) -> None:
        try:
            self.settings.home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"The folder for Treadle's records cannot be made: {error.strerror}.", where=str(self.settings.home),
                hint="Make the project folder writable, or set TREADLE_HOME to a folder that is.",
            ) from None  # fmt: skip


def open_workspace(folder: str | Path = ".", *, clock: Clock | None = None, watch: Callable[[Progress], None] | None = None) -> Workspace:
    """The workspace of a project folder. Raises ProjectError when the folder has no project file."""
    path = Path(folder).resolve()
    if path.is_file():
        path = path.parent
    if not (path / PROJECT_FILE).is_file():
        raise ProjectError(
            f"There is no {PROJECT_FILE} here.", where=str(path), hint="Go to a project folder, name one with -C, or run: treadle init"
        )
    return Workspace(path, read_settings(path), clock or SystemClock(), watch)


def load_project(folder: Path) -> Project:
    """Run a project file and return what it declares. Raises ProjectError naming the line when it cannot be loaded."""
    file = folder / PROJECT_FILE
    name = f"treadle_project_{digest(str(folder))[:16]}"  # the same in every process: stored objects name the module of their class
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    except TreadleError:
        raise
    except SyntaxError as error:
        raise ProjectError(f"It does not parse: {error.msg}.", where=f"{error.filename or file}:{error.lineno}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(folder))]
        line = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}" if inside else PROJECT_FILE
        raise ProjectError(f"It raised {type(error).__name__}: {error}", where=line, hint="Correct the line; --debug shows the traceback.") from error
    found = [value for value in vars(module).values() if isinstance(value, Project)]
    if len({id(p) for p in found}) != 1:
        raise ProjectError(
            "It declares no project." if not found else "It declares more than one project.", where=str(file), hint="One tr.Project(...) a file."
        )
    return found[0]


def code_state(folder: Path) -> dict[str, Any]:
    """The commit the project's code is at, and whether there are changes beyond it; empty outside a git repository."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        commit = git("rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(git("status", "--porcelain", "--", "."))} if commit else {}
    except (OSError, subprocess.TimeoutExpired):
        return {}
