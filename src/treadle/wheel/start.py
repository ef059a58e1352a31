"""Start a run of whatever the project declares, a model or a pipeline, or go on with one that was interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from treadle.assemble import Workspace
from treadle.core.canonical import plain
from treadle.core.clock import parse_time
from treadle.core.declare.model import Model
from treadle.core.declare.pipeline import Pipeline
from treadle.core.errors import Conflict, NotFound, ProjectError
from treadle.core.records import Record
from treadle.pipelines import declared, purity
from treadle.pipelines.graph import Step
from treadle.pipelines.run import RUN, Outcome, mark_interrupted
from treadle.provenance.origin import code_of


def start(
    ws: Workspace, target: str = "", *, cause: Mapping[str, Any], run_id: str | None = None, params: Mapping[str, Any] | None = None,
    as_of: datetime | None = None, until: str = "",
) -> Outcome:  # fmt: skip
    """Run a model's turn or a pipeline.

    Args:
        target: the name of a model or pipeline; the only model, or else the only pipeline, if empty.
        params: a pipeline's parameters; texts are read as their annotations say.
        as_of: for a model: use only rows whose truth was known by then.
        until: stop after this step.
    Raises: NotFound, UsageError for a parameter that does not fit, Conflict if `run_id` exists, and what `Runner.run` raises.
    """
    name = target or only(ws)
    if name in ws.project.models:
        from treadle.wheel.turn import turn  # what a model needs is much; a pipeline needs nothing of it

        model = _model(ws, name, params)
        return turn(ws, model, cause=cause, as_of=as_of, run_id=run_id, champion=_champion(ws, model), until=until)
    pipeline = _pipeline(ws, name, as_of)
    mark_interrupted(ws.ledger, ws.clock)
    values = declared.values(pipeline, params or {})
    steps, template = declared.steps_of(pipeline, values)
    about = {"project": ws.project.name, "pipeline": name, "code": code_of(ws), "params": {k: _shown(v) for k, v in values.items()}}
    request = {"pipeline": name, "params": {k: _kept(k, v) for k, v in (params or {}).items()}}
    return ws.runner().run(
        f"{ws.project.name}.{name}", steps, cause=cause, about=about, id=run_id, request=request, template=template, until=(until,) if until else ()
    )


def planned(ws: Workspace, target: str = "", *, params: Mapping[str, Any] | None = None, as_of: datetime | None = None) -> list[dict[str, Any]]:
    """What `start` would do, without doing it: see `Runner.plan`; each step with the `warnings` about what it reads unseen."""
    name, stands = target or only(ws), None
    if name in ws.project.models:
        from treadle.wheel.turn import already, build

        model = _model(ws, name, params)
        stands = already(ws, model, as_of=as_of)
        champion = None if stands else _champion(ws, model)
        steps = build(ws, model, as_of=as_of, settings=None, champion=champion, cause={})
    else:
        pipeline = _pipeline(ws, name, as_of)
        steps, _ = declared.steps_of(pipeline, declared.values(pipeline, params or {}))
    by_name = {step.name: step for step in steps}
    said = ws.runner().plan(f"{ws.project.name}.{name}", steps)
    if stands:  # it is not judged again, though there may be another champion by now
        said = [{**s, "state": "reuse", "reason": f"version {stands['number']} stands"} if s["state"] == "run" else s for s in said]
    return [{**s, "warnings": hidden(by_name[s["step"]], [ws.folder])} for s in said]


def hidden(step: Step, roots: Sequence[Path]) -> list[str]:
    """What a step reads that its result is not told by, a sentence each; none where it says itself what it `reads`."""
    return [] if step.reads or not step.cached else [h.sentence() for h in purity.hidden_inputs(step.function, roots)]


def resume(ws: Workspace, run_id: str = "", *, wait: bool = True) -> Outcome:
    """Go on with a run: what it had finished and read stands, the rest is done, with the code as it is now.

    Args:
        run_id: the run; the newest one that was interrupted, stopped, failed or approved if empty.
        wait: watch a run that a living process seems to drive for as long as a lease.
    Raises: NotFound; Conflict when there is nothing to go on with.
    """
    mark_interrupted(ws.ledger, ws.clock)
    record = _chosen(ws, run_id)
    request = record.get("request") or {}
    if "pipeline" in request:
        pipeline = ws.pipeline(request["pipeline"])
        steps, template = declared.steps_of(pipeline, declared.values(pipeline, request["params"]))
        return ws.runner().resume(record.id, steps, template=template, wait=wait)
    if "model" not in request:
        raise Conflict(f"Run {record.id} was made by an older Treadle and cannot be gone on with.", hint="Start a new one: treadle run")
    from treadle.registry import versions
    from treadle.wheel.turn import build

    model = ws.model(request["model"])
    champion = versions.get(model.name, int(request["champion"]), ws.ledger) if request.get("champion") else None
    as_of = parse_time(record["as_of"]) if record.get("as_of") else None
    steps = build(ws, model, as_of=as_of, settings=request.get("settings"), champion=champion, cause=record["cause"])
    return ws.runner().resume(record.id, steps, wait=wait)


def only(ws: Workspace) -> str:
    """The name of the only model, or of the only pipeline where there is no model. Raises NotFound."""
    names = list(ws.project.models) or list(ws.project.pipelines)
    if len(names) == 1:
        return names[0]
    everything = ", ".join([*ws.project.models, *ws.project.pipelines])
    raise NotFound(
        "Which one?" if everything else "The project declares no model and no pipeline.", hint=f"It declares: {everything}." if everything else None
    )


def _model(ws: Workspace, name: str, params: Mapping[str, Any] | None) -> Model:
    if params:
        raise ProjectError(f"{name!r} is a model, and takes no parameters.", hint="Parameters are those of a pipeline.")
    return ws.project.models[name]


def _champion(ws: Workspace, model: Model) -> Record | None:
    from treadle.registry import promote, versions

    deployed = promote.deployment(model.name, ws.ledger)
    return versions.get(model.name, deployed["champion"], ws.ledger) if deployed else None


def _pipeline(ws: Workspace, name: str, as_of: datetime | None) -> Pipeline:
    if not ws.project.pipelines:
        ws.model(name)  # says which models there are
    pipeline = ws.pipeline(name)
    if as_of is not None:
        raise ProjectError(f"{name!r} is a pipeline, and has no as_of.", hint="Give the moment as one of its parameters.")
    return pipeline


def _chosen(ws: Workspace, run_id: str) -> Record:
    if run_id:
        record = ws.ledger.get(RUN, run_id)
        if record is None:
            raise NotFound(f"There is no run {run_id!r}.", hint="See: treadle runs")
        return record
    for record in ws.ledger.find(RUN, newest_first=True, limit=50):
        if record["status"] in ("interrupted", "cancelled", "failed", "waiting") and record.get("project") == ws.project.name:
            return record
    raise NotFound("There is no run to go on with.", hint="See: treadle runs")


def _shown(value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        return repr(value)


def _kept(name: str, value: Any) -> Any:
    try:
        return plain(value)
    except TypeError:
        raise ProjectError(f"Parameter {name!r} is a {type(value).__name__}, which cannot be recorded.", hint="Give plain values.") from None
