"""A pipeline as data: steps that name their inputs. Pure: nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from treadle.core.errors import NotFound, ProjectError
from treadle.ports.executor import Resources


@dataclass(frozen=True)
class Retry:
    """How often, after how many seconds, and after which errors beside the transient ones a step is tried again."""

    times: int = 0
    backoff: float = 1.0
    on: tuple[type[BaseException], ...] = ()


@dataclass(frozen=True)
class Slot:
    """In a `template`: the place of the input with this name, or of the part of it that `path` leads to."""

    input: str
    path: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Step:
    """One piece of work.

    Args:
        name: unique in its pipeline.
        function: called with `params` and the results of `inputs` as keyword arguments.
        inputs: argument name to the name of the step whose result it takes.
        params: JSON values the result depends on.
        extra: objects passed along that the result does not depend on (stores, callbacks), or whose meaning `params` already says.
        code: project functions the result depends on beside `function` (for example a view's).
        holds: says whether a stored result can still be used (for example: whether the table it names is still there).
        cached: False for a step that must run each time; what follows is still reused when its result did not change.
        templates: argument name to a structure with Slots in it, for arguments that are made of several results or of a part of one.
        after: steps that must have ended before, although nothing of theirs is used.
        when: (step or value, wanted): it runs only if the truth of each is as wanted.
        over: the argument that is a list to go over: one task for each element.
        first_of: it takes the first of its inputs that was not left out.
        question: it waits for a person to answer this.
        outside: params that describe the world outside (a source's fingerprint): a resumed run keeps what it read before, though they changed.
        here: it must run in the process that drives the run, because it hands out work itself.
        returns: the annotation its result must fit.
    """

    name: str
    function: Callable[..., Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    code: Sequence[Callable[..., Any]] = ()
    holds: Callable[[Any], bool] | None = None
    cached: bool = True
    templates: Mapping[str, Any] = field(default_factory=dict)
    after: Sequence[str] = ()
    when: Sequence[tuple[Any, bool]] = ()
    over: str = ""
    first_of: bool = False
    question: str = ""
    outside: Sequence[str] = ()
    here: bool = False
    returns: Any = None
    retry: Retry = Retry()
    timeout: float | None = None
    resources: Resources = field(default_factory=Resources)
    reads: Sequence[str] = ()
    place: str = ""

    def needs(self) -> list[str]:
        """Every step that must have ended before this one."""
        return [*self.inputs.values(), *self.after, *(c.input for c, _ in self.when if isinstance(c, Slot))]


def ordered(steps: Sequence[Step]) -> list[Step]:
    """The steps so that each comes after its inputs. Raises ProjectError for a cycle, an unknown input, or a name used twice."""
    by_name: dict[str, Step] = {}
    for step in steps:
        if step.name in by_name:
            raise ProjectError(f"Two steps are named {step.name!r}.")
        by_name[step.name] = step
    done: dict[str, Step] = {}
    for first in steps:
        path: list[tuple[Step, list[str]]] = [(first, _open(first, by_name))] if first.name not in done else []
        on_path = {first.name}
        while path:  # not recursive: a chain may be thousands of steps long
            step, left = path[-1]
            if not left:
                path.pop()
                on_path.discard(step.name)
                done[step.name] = step
                continue
            name = left.pop()
            if name in done:
                continue
            if name in on_path:
                names = [s.name for s, _ in path]
                circle = [*names[names.index(name) :], name]
                raise ProjectError(
                    f"The steps form a cycle: {' -> '.join(circle)}.", where=by_name[name].place or None,
                    hint=f"{step.name!r} waits for {name!r}, which waits for {step.name!r}. Take one of the two away.",
                )  # fmt: skip
            path.append((by_name[name], _open(by_name[name], by_name)))
            on_path.add(name)
    return list(done.values())


def _open(step: Step, by_name: Mapping[str, Step]) -> list[str]:
    for argument, source in step.inputs.items():
        if source not in by_name:
            raise ProjectError(f"Step {step.name!r} takes {argument!r} from {source!r}, which is not a step.", where=step.place or None)
    for name in step.needs():
        if name not in by_name:
            raise ProjectError(f"Step {step.name!r} waits for {name!r}, which is not a step.", where=step.place or None)
    return list(reversed(list(dict.fromkeys(step.needs()))))


def needed(steps: Sequence[Step], until: Sequence[str]) -> list[Step]:
    """The steps that `until` (all if empty) cannot do without. Raises NotFound."""
    by_name = {s.name: s for s in steps}
    for name in until:
        if name not in by_name:
            raise NotFound(f"There is no step {name!r}.", hint=f"Steps are: {', '.join(by_name)}.")
    wanted: set[str] = set()
    stack = list(until or by_name)
    while stack:
        name = stack.pop()
        if name not in wanted:
            wanted.add(name)
            stack.extend(by_name[name].needs())
    return [s for s in steps if s.name in wanted]
