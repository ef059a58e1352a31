"""A thing by what people type or link to: 'run/last', 'late.v3', 'alarm-3f2a9c', 'p-01k9m2x7c3q4d9a0bz', or the name of something declared."""

from __future__ import annotations

import re

from treadle.assemble import Workspace
from treadle.core.errors import NotFound
from treadle.core.records import Ref
from treadle.monitoring import alarms, care
from treadle.pipelines.lookup import find_run
from treadle.pipelines.run import RUN
from treadle.registry import foreign, versions
from treadle.review import subjects

_VERSION = re.compile(r".+\.v[0-9]+")
_DECLARED = {"model": "models", "dataset": "datasets", "view": "views", "pipeline": "pipelines"}


def find_thing(text: str, ws: Workspace) -> Ref:
    """The thing that is meant; it exists. Raises NotFound, UsageError."""
    kind, slash, id = text.partition("/")
    if slash and kind in subjects.KINDS:
        return _checked(Ref(kind, id), ws)
    if _VERSION.fullmatch(text) and ws.ledger.get(versions.KIND, text) is not None:
        return Ref(versions.KIND, text)
    for begins, of in (("run-", RUN), ("alarm-", alarms.KIND), ("p-", "prediction"), ("reaction-", "reaction"), ("backtest-", "backtest")):
        if text.startswith(begins):
            return _checked(Ref(of, text), ws)
    if text in ("last", ws.project.name):
        return _checked(Ref(RUN, text), ws) if text == "last" else Ref("project", text)
    for of, table in _DECLARED.items():
        if text in getattr(ws.project, table) or (of == "model" and text in foreign.names(ws.ledger)):
            return Ref(of, text)
    raise NotFound(f"There is no {text!r}.", hint="Name a run, a version, an alarm, a model, a data set or a view, or write KIND/ID.")


def exists(ref: Ref, ws: Workspace) -> bool:
    """Whether there is such a thing: on record, declared by the project, or in the prediction log."""
    try:
        _checked(ref, ws)
    except NotFound:
        return False
    return True


def _checked(ref: Ref, ws: Workspace) -> Ref:
    if ref.kind == RUN:
        return Ref(RUN, find_run(ref.id, ws.ledger).id)
    if ref.kind == alarms.KIND:
        return Ref(alarms.KIND, care.find(ref.id, ws.ledger).id)
    subjects.check(ref, ws.ledger)
    if ref.kind == "project":
        known = ref.id == ws.project.name
    elif ref.kind == "prediction":
        known = ws.predictions.get(ref.id) is not None
    elif ref.kind in _DECLARED:
        known = ref.id in getattr(ws.project, _DECLARED[ref.kind]) or (ref.kind == "model" and ref.id in foreign.names(ws.ledger))
    else:
        known = True
    if not known:
        raise NotFound(f"There is no {subjects.KINDS[ref.kind][0]} {ref.id!r}.")
    return ref
