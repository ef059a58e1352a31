"""Wiring: a project folder, its settings and its backends, handed to whoever turns the wheel. No decisions here."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, Self, TypeVar, cast, overload

from treadle.backends.catalog import open_backend, open_source
from treadle.backends.compacted_predictions import CompactedPredictions
from treadle.core.clock import Clock, SystemClock
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Serve, Watch
from treadle.core.declare.pipeline import Pipeline, size
from treadle.core.declare.project import Project
from treadle.core.errors import NotFound, ProjectError, StorageError, UsageError
from treadle.pipelines.hand_out import HandOut
from treadle.pipelines.run import Progress, Runner
from treadle.ports.blobs import Blobs
from treadle.ports.executor import Executor, Resources
from treadle.ports.ledger import Ledger
from treadle.ports.model_format import ModelFormat
from treadle.ports.notifier import Notifier
from treadle.ports.online import OnlineStore
from treadle.ports.predictions import Compactable, PredictionLog
from treadle.ports.source import Reach
from treadle.ports.tables import Tables
from treadle.project_file import PROJECT_FILE, load_project
from treadle.registry import foreign, keys
from treadle.registry.packages import Shelf
from treadle.settings import Settings, read_settings

T = TypeVar("T")


class opened(cached_property[T]):
    """Made when it is first used, by one thread; one for a workspace and for all who act in it."""

    @overload
    def __get__(self, instance: None, owner: type[Any] | None = None) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None) -> T: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        if instance is None:
            return self
        if instance.shares is not None:
            return getattr(instance.shares, str(self.attrname))
        with instance.lock:
            return super().__get__(instance, owner)


def formats() -> dict[str, Callable[[], ModelFormat]]:
    """Format name to a function that opens it, in the order they are tried for a fitted model; nothing is imported before."""

    def onnx() -> ModelFormat:
        from treadle.backends.onnx_format import OnnxFormat

        return OnnxFormat()

    def skops() -> ModelFormat:
        from treadle.backends.skops_format import SkopsFormat

        return SkopsFormat()

    def lightgbm() -> ModelFormat:
        from treadle.backends.lightgbm_format import LightgbmFormat

        return LightgbmFormat()

    def xgboost() -> ModelFormat:
        from treadle.backends.xgboost_format import XgboostFormat

        return XgboostFormat()

    def onnx_file() -> ModelFormat:
        from treadle.backends.onnx_file import OnnxFile

        return OnnxFile()

    def pickle() -> ModelFormat:
        from treadle.backends.pickle_format import PickleFormat

        return PickleFormat()

    def mlmodel() -> ModelFormat:
        from treadle.backends.mlmodel_format import MlmodelFormat

        return MlmodelFormat()

    return {
        "onnx": onnx, "lightgbm": lightgbm, "xgboost": xgboost, "skops": skops, "onnx-file": onnx_file, "pickle": pickle, "mlmodel": mlmodel
    }  # fmt: skip


def tree_table(model: Any) -> Any:
    """A fitted tree ensemble as one table of splits (see `backends.tree_tables`); None for any other model, or one without an exact table."""
    from treadle.backends.onnx_export import TREES
    from treadle.core.errors import CannotConvert

    read = TREES.get(type(model).__name__.removesuffix("Classifier").removesuffix("Regressor"))
    try:
        return read(model) if read is not None else None
    except CannotConvert:
        return None


def tree_scorer(folder: Path, info: dict[str, Any]) -> Any:
    """What answers many rows of a tree ensemble quicker than its format does (see `backends.onnx_trees`); None for any other model."""
    if "TreeEnsembleRegressor" not in ((info.get("nodes") or {}).get("operators") or {}):
        return None
    from treadle.backends.onnx_trees import tree_scorer as open_trees

    return open_trees(folder, info)


@dataclass
class Workspace:
    """Everything that belongs to one project folder, opened when it is first used.

    `shares` is the workspace whose opened things this one uses, where it was made by `acting_as`.
    """

    folder: Path
    settings: Settings
    clock: Clock = field(default_factory=SystemClock)
    watch: Callable[[Progress], None] | None = None
    shares: Workspace | None = field(default=None, repr=False, compare=False)
    lock: RLock = field(default_factory=RLock, repr=False, compare=False)

    def acting_as(self, name: str) -> Workspace:
        """The same workspace in the hands of another person: everything that is opened, now or later, is shared; what is done bears their name.

        It is cheap, so one may be made for each request. Closing it closes nothing. Raises UsageError for a name that could be taken for none, or
        for Treadle itself.
        """
        if not name.strip() or name.startswith("treadle"):
            raise UsageError(f"Nobody can act as {name!r}.", hint="Give the name of a person; names that begin with 'treadle' are Treadle's own.")
        settings = replace(self.settings, values={**self.settings.values, "actor": name})  # so the name reaches worker processes too
        return Workspace(self.folder, settings, self.clock, self.watch, self.shares or self)

    def has_opened(self, name: str) -> bool:
        """Whether something was used before, such as 'predictions'."""
        return name in (self.shares or self).__dict__

    @opened
    def project(self) -> Project:
        return load_project(self.folder)

    @opened
    def ledger(self) -> Ledger:
        self._home()
        return cast(Ledger, open_backend("ledger", self.settings["ledger"]))

    @opened
    def blobs(self) -> Blobs:
        self._home()
        return cast(Blobs, open_backend("blobs", self.settings["blobs"]))

    @opened
    def tables(self) -> Tables:
        return cast(Tables, open_backend("tables", self.settings["tables"], blobs=self.blobs))

    @property
    def reach(self) -> Reach:
        """Opens sources outside this machine's files."""
        return lambda source: open_source(source, self.folder)

    @opened
    def online(self) -> OnlineStore:
        self._home()
        return cast(OnlineStore, open_backend("online", self.settings["online"]))

    @opened
    def predictions(self) -> PredictionLog:
        self._home()
        log = open_backend("predictions", self.settings["predictions"])
        if not hasattr(log, "move"):
            return cast(PredictionLog, log)
        return CompactedPredictions(cast(Compactable, log), lambda: self.blobs)

    @opened
    def executor(self) -> Executor:
        return cast(Executor, open_backend("executor", self.settings["executor"]))

    @opened
    def notifiers(self) -> list[Notifier]:
        self._home()
        return [cast(Notifier, open_backend("notifier", address)) for address in self.settings["notify"].split()]

    @property
    def shelf(self) -> Shelf:
        """Where opened packages lie, and whose signatures count at this moment."""
        return Shelf(self.settings.home / "packages", keys.trust(self.keys, self.clock.now()), self.model_code)

    @property
    def model_code(self) -> bool:
        """Whether models may run code of their own."""
        return self.settings["model_code"] == "yes"

    @property
    def keys(self) -> Path:
        """The folder of the key that packages are signed with, and of those that are trusted."""
        return self.folder / self.settings["keys"]

    @property
    def threads(self) -> int:
        """How many threads a training may use."""
        return int(self.settings["threads"]) or max(1, (os.cpu_count() or 1) // 2)

    @property
    def memory(self) -> int | None:
        """Bytes that a step's rows may take, if the settings say so. Raises ProjectError."""
        given = self.settings["memory"]
        try:
            return size(given) if given else None
        except ProjectError as error:
            raise ProjectError(error.what, where="the setting 'memory'", hint=error.hint) from None

    @cached_property
    def actor(self) -> str:
        """Who is acting, for the audit log."""
        if self.settings["actor"]:
            return self.settings["actor"]
        try:
            return getpass.getuser()
        except (KeyError, OSError):
            return "unknown"

    @opened
    def workers(self) -> Executor:
        """Worker processes on this machine, for what must be stopped when it takes too long or too much memory."""
        return cast(Executor, open_backend("executor", "processes:"))

    @opened
    def here(self) -> Executor:
        """This very process, for what hands out work itself."""
        return cast(Executor, open_backend("executor", "inprocess:"))

    def runner(self) -> Runner:
        """A runner over this workspace's stores."""
        return Runner(
            self.ledger, self.blobs, self.executor, self.clock, roots=[self.folder], home=self.settings.home, workers=lambda: self.workers,
            here=lambda: self.here, names=Names(self), watch=self.watch, actor=self.actor,
        )  # fmt: skip

    def hand_out(self, needs: Resources, timeout: float | None = None, instead: Callable[..., Any] | None = None) -> HandOut:
        """Hands parts of a step's work, each with its needs, to the executor; to worker processes where a part may be stopped and it cannot."""
        executor = self.executor if timeout is None or self.executor.stops else self.workers
        return HandOut(executor, self.blobs, Names(self), needs, timeout=timeout, instead=instead)

    def close(self) -> None:
        """Let go of worker processes and connections."""
        for name in ("executor", "workers"):
            opened = self.__dict__.pop(name, None)
            if opened is not None:
                opened.close()

    def pipeline(self, name: str) -> Pipeline:
        """A declared pipeline by name. Raises NotFound."""
        known = self.project.pipelines
        if name not in known:
            everything = ", ".join([*self.project.models, *known])
            raise NotFound(f"There is no model or pipeline {name!r}.", hint=f"The project declares: {everything or 'none'}.")
        return known[name]

    def model(self, name: str = "") -> Model:
        """A declared model by name, or the only one; or one that was made elsewhere. Raises NotFound."""
        models = self.project.models
        if not models and not name:
            raise NotFound("The project declares no model.", where=str(self.folder / PROJECT_FILE), hint="Add one with project.model(...).")
        if not name and len(models) == 1:
            return next(iter(models.values()))
        if name not in models and name in foreign.names(self.ledger):
            return foreign.stand_in(name)
        if name not in models:
            hint = f"The project declares: {', '.join(models) or 'none'}."
            raise NotFound(f"There is no model {name!r}." if name else "Which model?", hint=hint)
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


class Names:
    """How a project's things are named in another process: a task that takes a model there gets that process's own, loaded from the same file."""

    def __init__(self, ws: Workspace) -> None:
        self._ws: Workspace | None = ws
        self._made = (str(ws.folder), ws.settings, ws.clock)

    def __reduce__(self) -> tuple[object, ...]:
        return (_names_of, self._made)

    def name(self, thing: Any) -> Any:
        ws = self._ws
        if thing is ws:
            return ("workspace",)
        if ws is None or not isinstance(thing, Project | Model | Dataset | View):
            return None
        if thing is ws.project:
            return ("project",)
        return next((
            (kind, name) for kind in ("models", "datasets", "views") for name, declared in getattr(ws.project, kind).items() if declared is thing
        ), None)  # fmt: skip

    def thing(self, name: Any) -> Any:
        ws = self._ws
        assert ws is not None
        if name == ("workspace",):
            return ws
        return ws.project if name == ("project",) else getattr(ws.project, name[0])[name[1]]


_named: dict[tuple[str, str], Names] = {}


def _names_of(folder: str, settings: Settings, clock: Clock) -> Names:
    """The names of a project in this process: opened once, however many tasks come."""
    key = (folder, repr(settings))
    if key not in _named:
        _named[key] = Names(Workspace(Path(folder), settings))
    found = _named[key]
    assert found._ws is not None
    found._ws.clock = clock
    return found


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
