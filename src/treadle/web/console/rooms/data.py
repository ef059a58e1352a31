"""Data and features: data sets with their versions and contracts, what differs between versions, how columns are distributed, and feature views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from treadle.core.clock import iso
from treadle.core.errors import Conflict, TreadleError, UsageError
from treadle.core.records import Ref
from treadle.data import promises, quarantine
from treadle.data.versions import KIND
from treadle.report import data_shown, features_shown
from treadle.review import owners
from treadle.web.console.operation import Asked, Operation, Pages, listed
from treadle.wheel.materialise import standing


class Two(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions by number or id: the newest and the one before if empty."""

    old: str = ""
    new: str = ""


class One(msgspec.Struct, frozen=True, kw_only=True):
    """A version by number or id: the newest if empty."""

    version: str = ""


class Column(msgspec.Struct, frozen=True, kw_only=True):
    """A column as DATASET.COLUMN, to see what breaks without it."""

    column: str = ""


class Accept(msgspec.Struct, frozen=True, kw_only=True):
    """Why the change is meant, and the version of the contract's record it was seen in."""

    reason: str
    expect: int = 0



def every(asked: Asked) -> dict[str, Any]:
    """The data sets and the feature views, and how each stands."""
    ws = asked.ws
    return {
        "datasets": [data_shown.in_short(ws, d) for d in ws.project.datasets.values()],
        "views": [view(asked, v) for v in ws.project.views.values()],
        "now": iso(ws.clock.now()),
    }  # fmt: skip


def view(asked: Asked, declared: Any) -> dict[str, Any]:
    """A feature view in a line, with what the online store holds of it."""
    ws = asked.ws
    told = {
        "name": declared.name, "source": declared.source.name, "entity": list(declared.entity), "features": list(declared.feature_names()),
        "owner": owners.owner_of(Ref("view", declared.name), ws.ledger, declared.owner), "description": declared.description,
        "models": [m.name for m in ws.project.models.values() if any(v is declared for v in m.views)],
    }  # fmt: skip
    try:
        s = standing(ws, declared)
    except TreadleError as error:
        return {**told, "online": "unknown", "why": error.what, "entities": None, "age": None, "limit": None}
    online = "not online" if s.newest is None else "stale" if s.stale else "fresh"
    return {**told, "online": online, "why": "", "entities": s.entities, "age": s.age, "limit": s.limit}


def see(asked: Asked) -> dict[str, Any]:
    """One data set: how it stands, its columns and who uses them, its versions and what was made of each. Raises NotFound."""
    ws, declared = asked.ws, data_shown.dataset(asked.ws, asked["dataset"])
    newest = data_shown.newest(ws, declared.name)
    page = listed(ws, KIND, {"dataset": declared.name}, asked.query, lambda r: {**data_shown.line(r), "used_by": data_shown.used_by(ws, r.id)})
    state = ws.ledger.get(promises.STATE, declared.name)
    return {
        **data_shown.in_short(ws, declared), "description": declared.description, "key": list(declared.key), "event_time": declared.event_time,
        "known_time": declared.known_time, "subject": declared.subject, "keep": str(declared.keep or ""),
        "items": page["items"], "next": page["next"],
        "columns": data_shown.columns(ws, declared, newest), "reasons": dict(state["counts"]) if state is not None else {},
        "changes": list(state["changes"]) if state is not None else [], "excluded": dict(newest["excluded"]) if newest is not None else {},
        "decisions": len(quarantine.standing(declared.name, ws.ledger)), "views": [v.name for v in ws.project.views.values() if v.source is declared],
        "models": [m.name for m in ws.project.models.values() if m.rows is declared],
        "sample": data_shown.sample(ws, declared, newest) if newest is not None and asked.person.may("data.rows") else [],
    }  # fmt: skip


def diff(asked: Asked) -> dict[str, Any]:
    """What differs between two versions of a data set. Raises NotFound."""
    declared = data_shown.dataset(asked.ws, asked["dataset"])
    return data_shown.diff(asked.ws, declared, asked.query.old, asked.query.new, rows=asked.person.may("data.rows"))


def columns(asked: Asked) -> dict[str, Any]:
    """How the columns of a version are distributed, from a sample of its rows. Raises NotFound."""
    declared = data_shown.dataset(asked.ws, asked["dataset"])
    return data_shown.distributions(asked.ws, declared, data_shown.version(asked.ws, declared.name, asked.query.version))


def accept(asked: Asked) -> dict[str, Any]:
    """Accept the change of columns that stopped the last run. Raises NotFound when none waits, Conflict when another one waits by now."""
    ws, name = asked.ws, data_shown.dataset(asked.ws, asked["dataset"]).name
    if not asked.body.reason.strip():
        raise UsageError("The reason is empty.", where="reason", hint="Say why the change is meant.")
    state = ws.ledger.get(promises.STATE, name)
    if asked.body.expect and state is not None and state.version != asked.body.expect:
        raise Conflict(f"The contract of {name!r} was looked at again meanwhile.", hint="Load the page again: another change may wait now.")
    return {"dataset": name, "accepted": promises.accept(name, asked.body.reason.strip(), asked.person.name, ws.ledger)}


def features(asked: Asked) -> dict[str, Any]:
    """Every feature: where it comes from and who uses it; and, if a column is named, what breaks without it. Raises NotFound."""
    column = asked.query.column.strip()
    found = features_shown.broken_by(asked.ws, column) if column else []
    return {
        "features": features_shown.listed(asked.ws), "column": column,
        "breaks": [{"kind": u.kind, "name": u.name, "why": u.why, "sure": u.sure} for u in found],
    }  # fmt: skip


def one_view(asked: Asked) -> dict[str, Any]:
    """One feature view: its features, its versions and who used them, what the online store holds. Raises NotFound."""
    found = features_shown.described(asked.ws, asked["view"])
    declared = asked.ws.project.views.get(found.get("view", ""))
    return {**found, "stands": view(asked, declared) if declared is not None else None}


def materialise(asked: Asked) -> dict[str, Any]:
    """Bring the online values of a view to what is known now."""
    from treadle.web.console.rooms import commands

    features_shown.described(asked.ws, asked["view"])
    return dict(commands.start(asked, ["materialise", asked["view"]]))


def _list(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "data.html", {"d": given}


def _one(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "dataset.html", {"d": given, "about": f"dataset/{given['name']}", "declared_owner": given["declared_owner"]}


def _diff(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "data_diff.html", {"d": given}


def _columns(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "data_columns.html", {"d": given}


def _features(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "features.html", {"d": given}


def _view(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    about = {"about": f"view/{given['view']}", "declared_owner": given["owner"]} if "view" in given else {}
    return "view.html", {"d": given, **about}


OPERATIONS = [
    Operation("data.list", "/data", "data.see", every, "The data sets and feature views, and how each stands.", page=_list),
    Operation("features.list", "/features", "data.see", features, "Every feature, and what breaks without a column.", query=Column, page=_features),
    Operation("features.see", "/features/{view}", "data.see", one_view, "One feature view.", page=_view),
    Operation("features.materialise", "/features/{view}/materialise", "data.fix", materialise, "Bring the online values of a view up to date.",
              method="POST", done="The view is being brought up to date; this is what it says.", status=202),
    Operation("data.see", "/data/{dataset}", "data.see", see, "One data set: contract, columns, versions, lineage.", query=Pages, page=_one),
    Operation("data.diff", "/data/{dataset}/diff", "data.see", diff, "What differs between two versions.", query=Two, page=_diff),
    Operation("data.columns", "/data/{dataset}/columns", "data.see", columns, "How the columns of a version are distributed.",
              query=One, page=_columns),
    Operation("data.accept", "/data/{dataset}/accept", "data.fix", accept, "Accept a change of columns that stopped a run.",
              method="POST", body=Accept, done="The change is accepted; the next run goes on with it."),
]  # fmt: skip
