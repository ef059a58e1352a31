"""What changed between two shapes of a data set, column by column, and whether what was made from the old one still holds with the new one.

A change is breaking when a promise that others rely on is taken back: a column is gone or has another name, its type says less, a value may be
missing or be one nobody has seen, a value may stand twice. It is compatible when every row of the new shape would have been one of the old.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from treadle.core.canonical import digest, plain
from treadle.core.declare.data import Dataset, View
from treadle.core.declare.features import Derived
from treadle.core.declare.project import Project
from treadle.core.schema import Column

ANY = "*"  # in `uses`: what may use every column
_WIDENS = {("integer", "number"), ("category", "text"), ("boolean", "integer"), ("boolean", "number")}
_INTEGERS = ("Int8", "Int16", "Int32", "Int64", "Int128")
_NATURALS = ("UInt8", "UInt16", "UInt32", "UInt64")


@dataclass(frozen=True)
class Change:
    """One change of one column. `what` is a word for machines ('removed'), `sentence` says it with its reason."""

    column: str
    what: str
    breaking: bool
    sentence: str


def compare(
    before: Mapping[str, str], now: Mapping[str, str], declared_before: Mapping[str, Any] | None = None,
    declared_now: Mapping[str, Any] | None = None,
) -> list[Change]:  # fmt: skip
    """The changes from one shape to another, in the order of the old columns and then the new ones.

    Args:
        before, now: column to the type its values have ('Float64').
        declared_before, declared_now: column to what the contract says of it, as `declared` gives it.
    """
    old, new = dict(declared_before or {}), dict(declared_now or {})
    found: list[Change] = []
    gone = [c for c in before if c not in now]
    added = [c for c in now if c not in before]
    renamed = _renamed(gone, added, before, now)
    for column in before:
        if column in renamed:
            said = f"column {column!r} seems to be called {renamed[column]!r} now: what asks for it finds nothing"
            found.append(Change(column, "renamed", True, said))
        elif column not in now:
            found.append(Change(column, "removed", True, f"column {column!r} is gone: what asks for it finds nothing"))
        else:
            if column not in old or column not in new:
                found += _types(column, before[column], now[column])
            if column in old and column in new:
                found += _promises(column, old[column], new[column])
            elif column in old:
                found.append(Change(column, "undeclared", True, f"the contract no longer says what {column!r} is: nothing is promised of it"))
    for column in added:
        if column not in renamed.values():
            found.append(Change(column, "added", False, f"column {column!r} is new: nothing uses it yet"))
    return found


def declared(dataset: Dataset) -> dict[str, Any]:
    """What a data set's contract says of its columns, as JSON values, as a version is recorded with."""
    return {name: _plain(column) for name, column in dataset.contract.columns.items()} if dataset.contract else {}


def uses(project: Project, dataset: Dataset) -> dict[str, list[str]]:
    """Column of a data set to the views and models that use it ('view recent', 'model late'); '*' to those that may use any."""
    found: dict[str, list[str]] = {}

    def use(columns: Sequence[str], user: str) -> None:
        for column in columns:
            users = found.setdefault(column, [])
            if user not in users:
                users.append(user)

    for view in project.views.values():
        if view.source.name == dataset.name:
            use(view_columns(view), f"view {view.name!r}")
            for model in project.models.values():
                if view in model.views:
                    use(view_columns(view), f"model {model.name!r}")
    for model in project.models.values():
        if model.rows.name != dataset.name:
            continue
        inputs = [c for i in model.inputs for c in (i.columns if isinstance(i, Derived) else (i,))]
        entities = [c for v in model.views for c in v.entity]
        use([*inputs, *entities, model.target, *model.slices], f"model {model.name!r}")
    users = [f"view {v.name!r}" for v in project.views.values() if v.source.name == dataset.name]
    users += [f"model {m.name!r}" for m in project.models.values() if m.rows.name == dataset.name]
    for column in filter(None, (*dataset.key, dataset.event_time, dataset.known_time)):
        for user in users:
            use([column], user)
    return found


def view_columns(view: View) -> list[str]:
    """The columns of its source that a view reads; '*' among them when it is a function, which may read any."""
    roots = [c for e in view.aggregates.values() for c in (e.meta.root_names() if hasattr(e, "meta") else ())]
    columns = [] if view.function is not None else [*view.features, *roots]
    return list(dict.fromkeys([*view.entity, *columns, *([ANY] if view.function is not None else [])]))


def breaking(changes: Sequence[Change], used: Mapping[str, Sequence[str]] | None) -> list[tuple[Change, list[str]]]:
    """The breaking changes of columns that something uses, with its users; without `used` all of them."""
    found = []
    for change in changes:
        users = list(dict.fromkeys([*(used or {}).get(change.column, ()), *(used or {}).get(ANY, ())]))
        if change.breaking and (users or used is None):
            found.append((change, users))
    return found


def in_words(found: Sequence[tuple[Change, list[str]]]) -> str:
    """'column 'city' is gone: ... (used by view 'recent', model 'late'); ...'"""
    return "; ".join(c.sentence + (f" (used by {', '.join(users)})" if users else "") for c, users in found)


def digest_of(changes: Sequence[Change]) -> str:
    """What an acceptance is for: these changes and no others."""
    return digest([[c.column, c.what, c.sentence] for c in changes])


def _plain(column: Column) -> dict[str, Any]:
    return {k: v for k, v in plain(column).items() if k not in ("=", "description")}


def _types(column: str, before: str, now: str) -> list[Change]:
    if before == now:
        return []
    for order in (_INTEGERS, _NATURALS, ("Float32", "Float64")):
        if before in order and now in order and order.index(before) < order.index(now):
            return [Change(column, "widened", False, f"column {column!r} is {now} and was {before}: every old value fits")]
    if (before in (*_INTEGERS, *_NATURALS) and now == "Float64") or before == "Null":
        return [Change(column, "widened", False, f"column {column!r} is {now} and was {before}: every old value fits")]
    return [Change(column, "type", True, f"column {column!r} is {now} and was {before}: its values are read as something else")]


def _promises(column: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    found: list[Change] = []

    def add(what: str, breaks: bool, sentence: str) -> None:
        found.append(Change(column, what, breaks, sentence))

    if old["kind"] != new["kind"]:
        wider = (old["kind"], new["kind"]) in _WIDENS
        why = "every old value fits" if wider else "its values are read as something else"
        add("widened" if wider else "type", not wider, f"column {column!r} is declared {new['kind']} and was {old['kind']}: {why}")
    if old["nullable"] != new["nullable"]:
        if new["nullable"]:
            add("nullable", True, f"column {column!r} may be missing now: what counted on a value gets none")
        else:
            add("not nullable", False, f"column {column!r} is never missing now")
    before, now = old.get("isin"), new.get("isin")
    if before != now:
        extra = [v for v in (now or ()) if v not in (before or ())]
        if before is not None and now is None:
            add("set", True, f"column {column!r} may hold any value now and not one of {len(before)}: values come that nothing has seen")
        elif before is not None and extra:
            shown = ", ".join(map(str, extra[:5])) if not new.get("personal") else f"{len(extra)} more"
            add("set", True, f"column {column!r} may also be {shown}: a value that nothing has seen")
        else:
            add("set narrowed", False, f"column {column!r} may hold fewer values")
    if old.get("unique") and not new.get("unique"):
        add("not unique", True, f"column {column!r} may hold a value twice now: what looked rows up by it finds several")
    if old.get("unit", "") != new.get("unit", "") and old.get("unit"):
        add("unit", True, f"column {column!r} is in {new.get('unit') or 'no unit'} and was in {old['unit']}: the same number means something else")
    for bound in ("ge", "le"):
        a, b = old.get(bound), new.get(bound)
        if a != b:
            further = a is not None and (b is None or (b < a if bound == "ge" else b > a))
            said = f"column {column!r} has {bound}={'none' if b is None else b} and had {'none' if a is None else a}"
            add("range wider" if further else "range narrower", False, said)
    return found


def _renamed(gone: Sequence[str], added: Sequence[str], before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Old name to new where one column went and one of the same type and much the same name came."""
    found: dict[str, str] = {}
    for old in gone:
        same = [c for c in added if now[c] == before[old] and c not in found.values()]
        close = difflib.get_close_matches(old.casefold(), [c.casefold() for c in same], 1, 0.6)
        if close:
            found[old] = next(c for c in same if c.casefold() == close[0])
        elif len(gone) == len(added) == 1 and same:
            found[old] = same[0]
    return found
