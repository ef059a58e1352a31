"""Doing one task: load what it takes, call it, check and store what it returns. In this process, or in a worker's.

A worker gets a payload: the task, pickled, with the things of the project (its models, its workspace, its own functions) replaced by names, which
`Names` turns back into the worker's own. What a task returns goes from where it ran straight into the blob store; only its address travels.
"""

from __future__ import annotations

import io
import pickle
import resource
import sys
import time
import types
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from treadle.core.declare.pipeline import StepFunction
from treadle.core.errors import ProjectError, UsageError
from treadle.pipelines import plan, results
from treadle.pipelines.purity import observe
from treadle.pipelines.types import is_a, shown
from treadle.ports.blobs import Blobs

_KEPT = 4


@dataclass(frozen=True)
class Work:
    """One call, with where its inputs are stored: argument (or slot) to (codec, address)."""

    step: str
    function: Callable[..., Any]
    given: Mapping[str, Any]
    inputs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    templates: Mapping[str, Any] = field(default_factory=dict)
    returns: Any = None
    place: str = ""
    roots: Sequence[Path] = ()
    home: Path | None = None


@dataclass(frozen=True)
class Done:
    """What came of a task: where its result is, seconds by the clock and of CPU (children included), files it read and hosts it asked."""

    codec: str
    address: str
    seconds: float
    cpu: float
    files: Mapping[str, str] = field(default_factory=dict)
    hosts: Sequence[str] = ()


class Names(Protocol):
    """How a project's things are named across processes. Picklable itself."""

    def name(self, thing: Any) -> Any:
        """A picklable name for a thing that must not travel, or None."""
        ...

    def thing(self, name: Any) -> Any:
        """This process's own thing of that name."""
        ...


def perform(work: Work, blobs: Blobs, frames: Mapping[str, Any]) -> tuple[Any, Done]:
    """Do it and store the result.

    Args:
        frames: results already in memory, by address: frames only, since nothing can change those.
    Returns: what the function returned, and the record of it.
    """
    taken = {name: frames[address] if address in frames else results.load(codec, address, blobs) for name, (codec, address) in work.inputs.items()}
    # An argument has the name of a Python variable; a name with a dot is a slot of a template.
    arguments = {**work.given, **{name: value for name, value in taken.items() if "." not in name}}
    arguments |= {name: _filled(work, name, template, taken) for name, template in work.templates.items()}
    begun, burned = time.perf_counter(), cpu()
    with observe(work.roots, work.home) as seen:
        value = work.function(**arguments)
    if work.returns is not None and not is_a(value, work.returns):
        raise ProjectError(
            f"It says it returns {shown(work.returns)}, but returned {type(value).__name__} ({_brief(value)}).",
            where=f"step {work.step!r}, {work.place}", hint="Correct the function or its annotation.",
        )  # fmt: skip
    codec, address = results.store(value, blobs, work.step)
    return value, Done(codec, address, time.perf_counter() - begun, cpu() - burned, seen.files, seen.hosts)


def pack(work: Work, blobs: Blobs, names: Names | None) -> bytes:
    """The payload for `away`. Raises UsageError naming what cannot travel."""
    buffer = io.BytesIO()
    try:
        Pickler(buffer, names).dump((work, blobs))
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"It cannot be sent to another process: {error}", where=f"step {work.step!r}",
            hint="Define the function at the top level of a module and give it plain values; or set executor = \"inprocess:\".",
        ) from None  # fmt: skip
    return buffer.getvalue()


def away(payload: bytes, names: Names | None) -> Done:
    """What a worker runs."""
    work, blobs = Unpickler(io.BytesIO(payload), names).load()
    for _, address in work.inputs.values():
        if address in _frames:
            _frames.move_to_end(address)
    for codec, address in work.inputs.values():
        if codec == "frame" and address not in _frames:
            _frames[address] = results.load(codec, address, blobs)
    while len(_frames) > max(_KEPT, len(work.inputs)):
        _frames.popitem(last=False)
    return perform(work, blobs, _frames)[1]


_frames: OrderedDict[str, Any] = OrderedDict()  # of this worker: the tasks of a fan-out often share one


class Pickler(pickle.Pickler):
    """Pickles a task: things of the project by name, steps as the functions inside them."""

    def __init__(self, file: io.BytesIO, names: Names | None) -> None:
        super().__init__(file, protocol=5)
        self._names = names

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType) and "<" not in obj.__qualname__:
            # The module has the step under this name, not the function inside it.
            standing = getattr(sys.modules.get(obj.__module__), obj.__qualname__, None)
            if isinstance(standing, StepFunction) and standing.function is obj:
                return ("step", standing.function.__module__, obj.__qualname__)
        return None if self._names is None else self._names.name(obj)


class Unpickler(pickle.Unpickler):
    """Reads what a Pickler wrote, in another process."""

    def __init__(self, file: io.BytesIO, names: Names | None) -> None:
        super().__init__(file)
        self._names = names

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "step":
            import importlib

            if self._names is not None:
                self._names.thing(("project",))
            return getattr(importlib.import_module(pid[1]), pid[2]).function
        assert self._names is not None
        return self._names.thing(pid)

    def find_class(self, module: str, name: str) -> Any:
        if self._names is not None and module not in sys.modules and module.startswith("treadle_project_"):
            self._names.thing(("project",))
        return super().find_class(module, name)


def _filled(work: Work, name: str, template: Any, taken: Mapping[str, Any]) -> Any:
    try:
        return plan.fill(template, taken)
    except (KeyError, IndexError, TypeError) as error:
        raise ProjectError(
            f"A part that {name!r} asks for is not in the result: {type(error).__name__} {error}.", where=f"step {work.step!r}, {work.place}"
        ) from None


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def cpu() -> float:
    """CPU seconds of this process, of its children that ended, and of what it handed out."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime + elsewhere["cpu"]


elsewhere = {"cpu": 0.0}  # seconds that parts of this process's work burned in workers'


