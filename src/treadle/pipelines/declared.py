"""A declared pipeline as steps: what each takes from which, checked against the annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from treadle.core.declare import pipeline as p
from treadle.core.errors import ProjectError, UsageError
from treadle.pipelines.graph import Retry, Slot, Step, ordered
from treadle.pipelines.types import fits, is_a, shown
from treadle.ports.executor import Resources


def parameters(pipeline: p.Pipeline) -> dict[str, tuple[Any, Any]]:
    """A pipeline's own parameters: name to (annotation or Any, default or `...` when it must be given)."""
    import inspect

    hints = p.hints_of(pipeline.function)
    found = {}
    for name, parameter in inspect.signature(pipeline.function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ProjectError(f"Pipeline {pipeline.name!r} takes {parameter}.", where=pipeline.place, hint="Give each parameter a name.")
        found[name] = (hints.get(name, Any), ... if parameter.default is parameter.empty else parameter.default)
    return found


def values(pipeline: p.Pipeline, given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a run: texts read as their annotation says, defaults filled in. Raises UsageError naming the parameter."""
    known = parameters(pipeline)
    for name in given:
        if name not in known:
            raise UsageError(
                f"Pipeline {pipeline.name!r} has no parameter {name!r}.", hint=f"It has: {', '.join(known)}." if known else "It has none."
            )
    missing = [name for name, (_, default) in known.items() if default is ... and name not in given]
    if missing:
        raise UsageError(f"Pipeline {pipeline.name!r} needs {missing[0]!r}.", hint=f"Say it with: --set {missing[0]}=...")
    return {name: _read(pipeline.name, name, given[name], hint) if name in given else default for name, (hint, default) in known.items()}


def steps_of(pipeline: p.Pipeline, given: Mapping[str, Any]) -> tuple[list[Step], Any]:
    """(the steps in an order they can run in, the template of what the pipeline returns). Raises ProjectError naming two ends that do not fit."""
    traced = pipeline.trace(given)
    if not traced.calls:
        raise ProjectError(f"Pipeline {pipeline.name!r} calls no step.", where=pipeline.place, hint="Put @tr.step above the functions it calls.")
    steps = [_step(call) for call in traced.calls]
    return ordered(steps), _template(traced.result, "", {})


def _step(call: p.Call) -> Step:
    inputs: dict[str, str] = {}
    params: dict[str, Any] = {}
    templates: dict[str, Any] = {}
    _check(call)
    for name, value in call.arguments.items():
        if isinstance(value, p.Node) and not value._path:
            inputs[name] = value._call.name
        elif p.nodes_in(value):
            templates[name] = _template(value, name, inputs)
        else:
            params[name] = value
    when = [(Slot(c._call.name, c._path) if isinstance(c, p.Node) else bool(c), wanted) for c, wanted in call.when]
    o = call.options
    hints = p.hints_of(call.function) if call.function is not None else {}
    return Step(
        call.name, call.function or _nothing, inputs, params, templates=templates, after=tuple(call.after), when=when, over=call.over,
        first_of=call.first_of, question=call.question, returns=hints.get("return"),
        cached=o.cached if o.cached is not None else not o.reads and not call.question, reads=o.reads,
        retry=Retry(o.retries, o.backoff.total_seconds(), o.retry_on), timeout=o.timeout.total_seconds() if o.timeout else None,
        resources=Resources(o.cores, o.memory, o.gpus), place=call.place,
    )  # fmt: skip


def _nothing(**inputs: Any) -> None:
    """What an approval or a meeting of branches calls: nothing."""


def _template(value: Any, name: str, inputs: dict[str, str]) -> Any:
    """`value` with a Slot for each Node; each is noted in `inputs` under a name of its own."""
    if isinstance(value, p.Node):
        label = f"{name}.{value._call.name}" if name else value._call.name
        inputs[label] = value._call.name
        return Slot(label, value._path)
    if isinstance(value, list | tuple):
        return type(value)(_template(v, name, inputs) for v in value) if type(value) in (list, tuple) else [_template(v, name, inputs) for v in value]
    if isinstance(value, dict):
        return {k: _template(v, name, inputs) for k, v in value.items()}
    return value


def _check(call: p.Call) -> None:
    if call.function is None:
        return
    wanted = p.hints_of(call.function)
    for name, value in call.arguments.items():
        if name not in wanted:
            continue
        hint = list.__class_getitem__(wanted[name]) if name == call.over else wanted[name]
        if isinstance(value, p.Node):
            given = p.hint_of(value)
            if not fits(given, hint):
                raise ProjectError(
                    f"{value._call.name!r} returns {shown(given)}, but {call.name!r} takes {shown(hint)} as {name!r}.", where=call.place,
                    hint="Change one of the two annotations, or put a step between them.",
                )  # fmt: skip
        elif not p.nodes_in(value) and not is_a(value, hint) and not _default(call.function, name, value):
            raise ProjectError(
                f"{call.name!r} is given {value!r} as {name!r}, but takes {shown(hint)}.", where=call.place,
                hint="Change the value or the annotation.",
            )  # fmt: skip


def _default(function: Callable[..., Any], name: str, value: Any) -> bool:
    """A default that does not fit its own annotation (`x: int = None`) is the function's business."""
    import inspect

    parameter = inspect.signature(function).parameters.get(name)
    return parameter is not None and parameter.default is value


def _read(pipeline: str, name: str, value: Any, hint: Any) -> Any:
    if hint is Any or not isinstance(value, str):
        if hint is not Any and not isinstance(value, str) and not is_a(value, hint):
            return _converted(pipeline, name, value, hint)
        return value
    if hint is str:
        return value
    return _converted(pipeline, name, value, hint)


def _converted(pipeline: str, name: str, value: Any, hint: Any) -> Any:
    import json

    import msgspec

    def other(kind: Any, given: Any) -> Any:
        if kind is Path and isinstance(given, str):
            return Path(given)
        raise NotImplementedError

    tried: list[Any] = [value]
    if isinstance(value, str):
        with suppress(ValueError):
            tried.insert(0, json.loads(value))
        if getattr(hint, "__origin__", None) in (list, tuple, set):
            tried.append([part.strip() for part in value.split(",")])
    problem = ""
    for candidate in tried:
        try:
            read = msgspec.convert(candidate, hint, strict=False, dec_hook=other)
        except (msgspec.ValidationError, NotImplementedError, TypeError) as error:
            problem = problem or str(error).splitlines()[0]
        else:
            return read
    said = f"Parameter {name!r} of {pipeline!r} is {value!r}, which is not {shown(hint)}: {problem}."
    raise UsageError(said, hint=f"Say it with: --set {name}=...")
