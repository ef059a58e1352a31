"""Which columns a model may learn from: one that is deprecated, protected or personal needs a reason in the declaration (ML Test Score, Data 4)."""

from __future__ import annotations

from collections.abc import Iterator

from treadle.core.declare.data import Dataset, View
from treadle.core.declare.features import Derived
from treadle.core.declare.model import Model
from treadle.core.errors import ProjectError
from treadle.core.schema import Column


def check_policy(model: Model) -> None:
    """Raise ProjectError when a model learns from a column that is not free and says no reason, or gives a reason that nothing needs."""
    barred: set[str] = set()
    for column, where in _learnt_from(model):
        why = _why_not(where[0].contract.columns.get(column) if where[0].contract else None)
        if not why:
            continue
        barred.add(column)
        reason = model.allow.get(column)
        if reason is None:
            through = f" through view {where[1].name!r}" if where[1] is not None else ""
            raise ProjectError(
                f"Model {model.name!r} uses column {column!r} of data set {where[0].name!r}{through}, which {why}.", where=model.place,
                hint=f"Leave it out, or say why it may be used: allow={{{column!r}: 'the reason'}}.",
            )  # fmt: skip
        if not isinstance(reason, str) or not reason.strip():
            raise ProjectError(f"Model {model.name!r} allows column {column!r} without a reason.", where=model.place, hint="Say it in words.")
    columns = model.rows.contract.columns if model.rows.contract else {}
    shown = next((s for s in model.slices if s in columns and columns[s].personal), None)
    if shown is not None:
        raise ProjectError(
            f"Model {model.name!r} is judged by column {shown!r}, which holds personal data ({columns[shown].personal}): every report would show it.",
            where=model.place, hint="Judge by a column that names groups of people.",
        )  # fmt: skip
    needless = next((column for column in model.allow if column not in barred), None)
    if needless is not None:
        raise ProjectError(
            f"Model {model.name!r} allows column {needless!r}, which it does not use or which is free.", where=model.place,
            hint="Take it out of allow.",
        )  # fmt: skip


def _why_not(column: Column | None) -> str:
    """What bars a column, as the end of a sentence; '' when it is free."""
    if column is None:
        return ""
    if column.policy:
        return f"is {column.policy}"
    return f"holds personal data ({column.personal})" if column.personal else ""


def _learnt_from(model: Model) -> Iterator[tuple[str, tuple[Dataset, View | None]]]:
    for given in model.inputs:
        for column in given.columns if isinstance(given, Derived) else (given,):
            yield column, (model.rows, None)
    yield model.target, (model.rows, None)
    for view in model.views:
        roots = [c for e in view.aggregates.values() for c in (e.meta.root_names() if hasattr(e, "meta") else ())]
        for column in dict.fromkeys([*view.features, *roots]):
            yield column, (view.source, view)
