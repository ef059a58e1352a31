"""Steps and pipelines: steps are plain typed functions; a pipeline is how they call each other.

    >>> import treadle as tr
    >>> @tr.step
    ... def double(x: int) -> int:
    ...     return 2 * x
    >>> double(3)
    6
    >>> project = tr.Project("demo", owner="me", goal="show a pipeline")
    >>> @project.pipeline
    ... def twice(x: int = 3) -> int:
    ...     return double(double(x))
    >>> [call.name for call in twice.trace({"x": 5}).calls]
    ['double', 'double-2']

While a pipeline is traced, calling a step does not run it but notes the call and returns a `Node` that stands for its result.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import update_wrapper
from typing import Any

from treadle.core.declare.place import here, length
from treadle.core.errors import ProjectError, UsageError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kMGT]?)i?B?", re.ASCII)
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
KINDS = ("clock", "network", "randomness", "environment", "files")


@dataclass(frozen=True)
class Options:
    """How a step is run.

    Args:
        retries: how often it is tried again after a transient error (tr.Transient, ConnectionError, TimeoutError, `retry_on`, a timeout).
        backoff: the wait before the first retry; each further one waits twice as long, up to 5 minutes, give or take a random half.
        timeout: it is stopped when it runs longer; then it runs in a worker process.
        cores, memory, gpus: what it needs; memory is in bytes and a limit, and a step that has one runs in a worker process.
        reads: what it reads beside its arguments ('clock', 'network', 'randomness', 'environment', 'files'); it then runs each time.
        cached: True to reuse its result although it `reads`; False to run it each time.
    """

    retries: int = 0
    backoff: timedelta = timedelta(seconds=1)
    timeout: timedelta | None = None
    cores: float = 1
    memory: int = 0
    gpus: float = 0
    reads: tuple[str, ...] = ()
    cached: bool | None = None
    retry_on: tuple[type[BaseException], ...] = ()


class StepFunction:
    """A function that is a step where a pipeline calls it, and itself everywhere else."""

    def __init__(self, function: Callable[..., Any], options: Options, name: str, place: str) -> None:
        self.function, self.options, self.name, self.place = function, options, name, place
        update_wrapper(self, function)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        tracing = _tracing.get()
        if tracing is None:
            return self.function(*arguments, **named)
        return tracing.add(self, _bound(self.function, arguments, named))

    def map(self, *arguments: Any, **named: Any) -> Any:
        """One call for each element of the first argument; the others are the same for all. The result is a list in the elements' order."""
        tracing = _tracing.get()
        if tracing is None:
            if not arguments:
                raise UsageError(f"{self.name}.map() needs the list to go over as its first argument.")
            return [self.function(element, *arguments[1:], **named) for element in arguments[0]]
        if not arguments:
            raise ProjectError(f"{self.name}.map() needs the list to go over as its first argument.", where=here())
        bound = _bound(self.function, arguments, named)
        return tracing.add(self, bound, over=next(iter(bound)))

    def with_options(self, **changed: Any) -> StepFunction:
        """The same step with other options, or another `name`."""
        name = changed.pop("name", self.name)
        return StepFunction(self.function, _options(changed, self.options), name, self.place)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


class Node:
    """Stands for the result of a call while a pipeline is traced. `path` leads to a part of the result."""

    def __init__(self, call: Call, path: tuple[Any, ...] = ()) -> None:
        self._call, self._path = call, path

    def after(self, *others: Any) -> Node:
        """Run only when `others` have ended, though nothing of theirs is used."""
        for other in others:
            if not isinstance(other, Node):
                raise ProjectError(f"{self._call.name}.after() was given {other!r}.", where=here(), hint="Give it what another step returned.")
            self._call.after.append(other._call.name)
        return self

    def __getitem__(self, key: Any) -> Node:
        if not isinstance(key, int | str):
            raise ProjectError(f"A result can be taken apart by a whole number or a text, not by {key!r}.", where=here())
        return Node(self._call, (*self._path, key))

    def __iter__(self) -> Iterator[Node]:
        hint = hint_of(self)
        parts = typing.get_args(hint)
        if typing.get_origin(hint) is not tuple or not parts or parts[-1] is Ellipsis:
            raise ProjectError(
                f"How many parts the result of {self._call.name!r} has is not known before it has run.", where=here(),
                hint="Say so in its annotation (-> tuple[A, B]), or use step.map(...) to go over a list.",
            )  # fmt: skip
        return (self[i] for i in range(len(parts)))

    def __bool__(self) -> bool:
        raise ProjectError(
            f"The result of {self._call.name!r} is not known while the pipeline is put together.", where=here(),
            hint="Use `with tr.when(result):` for a condition.",
        )  # fmt: skip

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ProjectError(
            f"The result of step {self._call.name!r} is not known while the pipeline is put together, so it has no {name!r}.", where=here(),
            hint="Do this inside a step.",
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"<result of {self._call.name}{''.join(f'[{p!r}]' for p in self._path)}>"


@dataclass
class Call:
    """One call of a step in a traced pipeline. Values in `arguments` may be, or contain, Nodes."""

    name: str
    function: Callable[..., Any] | None
    arguments: dict[str, Any]
    options: Options = field(default_factory=Options)
    over: str = ""
    after: list[str] = field(default_factory=list)
    when: list[tuple[Any, bool]] = field(default_factory=list)
    question: str = ""
    first_of: bool = False
    place: str = ""


@dataclass(frozen=True)
class Traced:
    """What a pipeline does with given parameters: its calls in the order they were written, and what it returns (with Nodes in it)."""

    calls: Sequence[Call]
    result: Any


class _Tracing:
    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.names: dict[str, int] = {}
        self.prefix: tuple[str, ...] = ()
        self.when: list[tuple[Any, bool]] = []

    def add(self, step: StepFunction, arguments: dict[str, Any], over: str = "") -> Node:
        return self.note(Call(step.name, step.function, arguments, step.options, over, place=here()))

    def note(self, call: Call) -> Node:
        name = "/".join((*self.prefix, call.name))
        self.names[name] = self.names.get(name, 0) + 1
        call.name = name if self.names[name] == 1 else f"{name}-{self.names[name]}"
        call.when = list(self.when)
        known = {c.name for c in self.calls}
        for node in nodes_in([*call.arguments.values(), [w for w, _ in call.when]]):
            if node._call.name not in known:
                raise ProjectError(
                    f"Step {call.name!r} is given a result of another pipeline.", where=call.place, hint="Call that pipeline inside this one."
                )
        self.calls.append(call)
        return Node(call)


_tracing: ContextVar[_Tracing | None] = ContextVar("treadle_tracing", default=None)


class Pipeline:
    """A function that calls steps. Its own parameters are those of a run; called inside another pipeline it is a sub-pipeline."""

    def __init__(self, function: Callable[..., Any], name: str, description: str, place: str) -> None:
        self.function, self.name, self.description, self.place = function, name, description, place
        update_wrapper(self, function)

    def trace(self, values: Mapping[str, Any]) -> Traced:
        """The calls it makes with these parameters. Raises ProjectError."""
        tracing = _Tracing()
        token = _tracing.set(tracing)
        try:
            result = self._inside(tracing, (), dict(values), ())
        finally:
            _tracing.reset(token)
        return Traced(tracing.calls, result)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        tracing = _tracing.get()
        if tracing is None:
            return self.function(*arguments, **named)
        return self._inside(tracing, arguments, named, (self.name,))

    def _inside(self, tracing: _Tracing, arguments: tuple[Any, ...], named: dict[str, Any], prefix: tuple[str, ...]) -> Any:
        stack = _inside.get()
        if self.name in stack:
            raise ProjectError(f"Pipeline {self.name!r} calls itself: {' -> '.join((*stack[stack.index(self.name) :], self.name))}.", where=here())
        token = _inside.set((*stack, self.name))
        before, number = tracing.prefix, 1
        while prefix and (*before, *prefix) in _prefixes(tracing):
            number += 1
            prefix = (f"{self.name}-{number}",)
        tracing.prefix = (*before, *prefix)
        try:
            return self.function(*arguments, **named)
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # the call itself, not something inside it
                raise ProjectError(f"Pipeline {self.name!r} is called wrongly: {error}.", where=here()) from None
            raise
        finally:
            tracing.prefix = before
            _inside.reset(token)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


_inside: ContextVar[tuple[str, ...]] = ContextVar("treadle_inside", default=())


def _prefixes(tracing: _Tracing) -> set[tuple[str, ...]]:
    found: set[tuple[str, ...]] = set()
    for call in tracing.calls:
        parts = tuple(call.name.split("/")[:-1])
        found.update(parts[: i + 1] for i in range(len(parts)))
    return found


def step(function: Callable[..., Any] | None = None, /, *, name: str = "", **options: Any) -> Any:
    """Make a function a step: `@tr.step`, or with options `@tr.step(retries=3, timeout="10m")`. See `Options`.

    Args:
        name: what it is called in runs; the function's name if not given.
    """
    place = here()
    made = _options(options, Options())

    def wrap(wrapped: Callable[..., Any]) -> StepFunction:
        if not callable(wrapped) or isinstance(wrapped, type | StepFunction):
            raise ProjectError(f"{wrapped!r} cannot be a step.", where=place, hint="Put @tr.step above a function.")
        return StepFunction(wrapped, made, name or getattr(wrapped, "__name__", "step"), place)

    return wrap if function is None else wrap(function)


@contextmanager
def when(condition: Any, *, is_: bool = True) -> Iterator[None]:
    """The steps called inside run only if `condition`, a step's result or a parameter, is true. What takes their results is left out with them."""
    tracing = _tracing.get()
    if tracing is None:
        raise UsageError("tr.when(...) means something only inside a pipeline that treadle runs.", hint="Run it with: treadle run PIPELINE")
    tracing.when.append((condition, is_))
    try:
        yield
    finally:
        tracing.when.pop()


def unless(condition: Any) -> Any:
    """The opposite of `when`."""
    return when(condition, is_=False)


def first_of(*results: Any) -> Any:
    """The first of several results whose step was not left out by a condition: where two branches meet again."""
    tracing = _tracing.get()
    if tracing is None:
        return results[0]
    if not results or not all(isinstance(r, Node) for r in results):
        raise ProjectError("tr.first_of(...) takes the results of steps.", where=here())
    outside, tracing.when = tracing.when, []
    try:
        return tracing.note(Call("first_of", None, {str(i): r for i, r in enumerate(results)}, first_of=True, place=here()))
    finally:
        tracing.when = outside


def approval(question: str, *, shows: Any = None, name: str = "approval") -> Any:
    """Wait for a person: the run is put aside, without a process, until somebody says `treadle approve RUN STEP`.

    Args:
        question: what is asked.
        shows: a result the person should see.
    Returns: a result that other steps can come `.after(...)`, or take: {'approved': True, 'by': ..., 'reason': ...}.
    """
    tracing = _tracing.get()
    if tracing is None:
        raise UsageError("tr.approval(...) means something only inside a pipeline that treadle runs.", hint="Run it with: treadle run PIPELINE")
    return tracing.note(Call(name, None, {} if shows is None else {"shows": shows}, question=question, place=here()))


def nodes_in(value: Any) -> list[Node]:
    """The Nodes in a value: itself, or inside lists, tuples and dicts."""
    if isinstance(value, Node):
        return [value]
    if isinstance(value, list | tuple):
        return [n for v in value for n in nodes_in(v)]
    if isinstance(value, dict):
        return [n for v in value.values() for n in nodes_in(v)]
    return []


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's annotations, resolved; those that cannot be (a name imported for type checkers only) are left out."""
    try:
        return typing.get_type_hints(function)
    except Exception:
        found = {}
        for name, hint in getattr(function, "__annotations__", {}).items():
            try:
                found[name] = eval(hint, getattr(function, "__globals__", {})) if isinstance(hint, str) else hint
            except Exception:
                continue
        return {name: type(None) if hint is None else hint for name, hint in found.items()}


def hint_of(node: Node) -> Any:
    """The annotation of what a Node stands for, or Any."""
    call = node._call
    if call.question:
        return dict[str, Any]
    hint = hints_of(call.function).get("return", Any) if call.function is not None else Any
    if call.over:
        hint = list.__class_getitem__(hint)
    for key in node._path:
        parts = typing.get_args(hint)
        origin = typing.get_origin(hint)
        if origin is tuple and isinstance(key, int) and parts and Ellipsis not in parts and -len(parts) <= key < len(parts):
            hint = parts[key]
        elif origin in (list, tuple) and isinstance(key, int) and parts:
            hint = parts[0]
        elif origin is dict and len(parts) == 2:
            hint = parts[1]
        else:
            return Any
    return hint


def size(text: str | int) -> int:
    """Bytes from '2GB', '512 MB' or a number (k, M, G, T are powers of 1000). Raises ProjectError."""
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    number = float(match[1]) * _UNITS[match[2]] if match else text
    if isinstance(number, str) or number < 0:
        raise ProjectError(f"{text!r} is not a size.", where=here(), hint="Write for example '2GB' or '512MB'.")
    return int(number)


def resources(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a task needs of its machine, as step options name it: cores, memory (then in bytes), gpus. Raises ProjectError."""
    known = ("cores", "memory", "gpus")
    wrong = next((name for name in given if name not in known), None)
    if wrong is not None:
        raise ProjectError(f"{wrong!r} is no resource.", where=here(), hint=f"Resources are: {', '.join(known)}.")
    made = _options(given, Options())
    return {name: getattr(made, name) for name in given}


def _options(given: Mapping[str, Any], base: Options) -> Options:
    known = set(Options.__dataclass_fields__)
    wrong = next((name for name in given if name not in known), None)
    if wrong is not None:
        raise ProjectError(f"A step has no option {wrong!r}.", where=here(), hint=f"Options are: {', '.join(sorted({*known, 'name'}))}.")
    made = dict(given)
    for name in ("backoff", "timeout"):
        if made.get(name) is not None:
            made[name] = length(made[name])
    if made.get("timeout") is not None and made["timeout"] <= timedelta(0):
        raise ProjectError(f"timeout={given['timeout']!r} leaves no time.", where=here(), hint="For example timeout='10m'.")
    if "memory" in made:
        made["memory"] = size(made["memory"])
    if "reads" in made:
        made["reads"] = (made["reads"],) if isinstance(made["reads"], str) else tuple(made["reads"])
        wrong = next((kind for kind in made["reads"] if kind not in KINDS), None)
        if wrong is not None:
            raise ProjectError(f"reads={wrong!r} is not known.", where=here(), hint=f"A step can read: {', '.join(KINDS)}.")
    if "retry_on" in made:
        made["retry_on"] = (made["retry_on"],) if isinstance(made["retry_on"], type) else tuple(made["retry_on"])
    for name in ("retries", "cores", "gpus"):
        value = made.get(name, 0)
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0 or (name == "retries" and not isinstance(value, int)):
            raise ProjectError(f"{name}={value!r} is not a number from 0 on.", where=here())
    return replace(base, **made)


def _bound(function: Callable[..., Any], arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Arguments by name, defaults filled in. Raises ProjectError when they do not fit the function."""
    import inspect

    name = getattr(function, "__name__", "step")
    signature = inspect.signature(function)
    kinds = {p.kind for p in signature.parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds or inspect.Parameter.POSITIONAL_ONLY in kinds:
        raise ProjectError(f"Step {name!r} has *arguments or arguments without a name.", where=here(), hint="Give each argument a name; take a list.")
    try:
        bound = signature.bind(*arguments, **named)
    except TypeError as error:
        raise ProjectError(f"Step {name!r} is called wrongly: {error}.", where=here(), hint=f"It is {name}{signature}.") from None
    bound.apply_defaults()
    filled = dict(bound.arguments)
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            filled.update(filled.pop(parameter.name, {}))
    return filled
