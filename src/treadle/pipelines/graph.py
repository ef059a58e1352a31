"""A pipeline as data: steps that name their inputs. Pure: nothing runs here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from treadle.core.errors import ProjectError


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
    """

    name: str
    function: Callable[..., Any]
    inputs: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    code: Sequence[Callable[..., Any]] = ()
    holds: Callable[[Any], bool] | None = None
    cached: bool = True


def ordered(steps: Sequence[Step]) -> list[Step]:
    """The steps so that each comes after its inputs. Raises ProjectError for a cycle, an unknown input, or a name used twice."""
    by_name: dict[str, Step] = {}
    for step in steps:
        if step.name in by_name:
            raise ProjectError(f"Two steps are named {step.name!r}.")
        by_name[step.name] = step
    done: dict[str, Step] = {}

    def visit(step: Step, path: tuple[str, ...]) -> None:
        if step.name in done:
            return
        if step.name in path:
            raise ProjectError(f"The steps form a cycle: {' -> '.join((*path[path.index(step.name) :], step.name))}.")
        for argument, source in step.inputs.items():
            if source not in by_name:
                raise ProjectError(f"Step {step.name!r} takes {argument!r} from {source!r}, which is not a step.")
            visit(by_name[source], (*path, step.name))
        done[step.name] = step

    for step in steps:
        visit(step, ())
    return list(done.values())
