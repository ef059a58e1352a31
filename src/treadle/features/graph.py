"""What stands on what: columns of data sets -> features of views and formulas -> models -> what answers; and what breaks when a column goes.

Columns that expressions read are exact, from the expressions themselves. What a view's function reads can only be tried: it is run on a sample with
the column taken away, and with its values mixed up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from treadle.core.declare.data import Dataset, View
from treadle.core.declare.features import Derived
from treadle.core.declare.model import Model
from treadle.core.declare.project import Project
from treadle.core.errors import NotFound
from treadle.features.history import compute

SAMPLE = 2_000  # rows a function is tried on


@dataclass(frozen=True)
class Use:
    """One thing that needs a column, and how: as its entity, its time, its value, ..."""

    kind: str  # 'view', 'feature', 'formula', 'model', 'contract', 'data set', 'deployment'
    name: str
    why: str
    sure: bool = True


@dataclass(frozen=True)
class Feature:
    """One feature a project declares: where it comes from and who uses it."""

    name: str
    kind: str  # 'view' or 'formula', or the name of a rule such as 'hour'
    of: str  # the view, or the model, it belongs to
    owner: str
    description: str
    columns: tuple[str, ...]  # 'dataset.column'
    models: tuple[str, ...] = field(default=())


def features(project: Project, samples: Mapping[str, pl.DataFrame] | None = None) -> list[Feature]:
    """Every feature of views and every derived feature of models, by what it is of.

    Args:
        samples: rows by data set, to try the views that are functions on; without it those show the columns they must have.
    """
    found: list[Feature] = []
    for view in project.views.values():
        users = tuple(m.name for m in project.models.values() if any(v is view for v in m.views))
        for name in view.feature_names():
            columns = sorted(f"{view.source.name}.{c}" for c in columns_of(view, name, (samples or {}).get(view.source.name)))
            found.append(Feature(name, "view", view.name, view.owner, view.descriptions.get(name, "") or view.description, tuple(columns), users))
    for model in project.models.values():
        for item in model.inputs:
            if isinstance(item, Derived):
                columns = sorted(_column(model, c) for c in item.columns)
                found.append(Feature(item.name, item.rule[0], model.name, project.owner, said(item), tuple(columns), (model.name,)))
    return found


def said(item: Derived) -> str:
    """A derived feature in words."""
    return item.rule[1] if item.rule[0] == "formula" else f"{item.rule[0]}({', '.join(item.rule[1:])})"


def columns_of(view: View, feature: str, sample: pl.DataFrame | None = None) -> set[str]:
    """The columns of its source that a feature of a view is made of, with its entity and times."""
    source = view.source
    needed = {*view.entity, *filter(None, (source.known_time, None if view.aggregates and source.known_time else source.event_time))}
    if view.aggregates:
        return needed | set(view.aggregates[feature].meta.root_names())
    if view.function is None:
        return needed | {feature}
    if sample is None or not sample.height:
        return needed
    return needed | {c for c in sample.columns if c not in needed and _touches(view, sample, c, feature)}


def uses(
    project: Project, dataset: str, column: str, sample: pl.DataFrame | None = None, answering: Mapping[str, Iterable[int]] | None = None
) -> list[Use]:
    """Everything that needs a column of a data set, what needs it itself first, then what needs that.

    Args:
        sample: rows of the data set, to try the views that are functions on.
        answering: model to the numbers of its versions in production.
    Raises: NotFound for a data set that is not declared, or a column that is in neither its sample nor its declarations.
    """
    if dataset not in project.datasets:
        raise NotFound(f"There is no data set {dataset!r}.", hint=f"The project declares: {', '.join(project.datasets)}.")
    declared = project.datasets[dataset]
    found = _of_dataset(declared, column)
    lost: dict[str, set[str]] = {}  # view to the features that are lost with the column
    for view in (v for v in project.views.values() if v.source is declared):
        for use, feature in _of_view(view, column, sample):
            found.append(use)
            lost.setdefault(view.name, set()).update([feature] if feature else view.feature_names())
    for model in project.models.values():
        own = _of_model(model, declared, column, lost)
        found += own
        if own:
            numbers = (answering or {}).get(model.name, ())
            found += [Use("deployment", f"{model.name} version {n}", f"version {n} of {model.name!r} answers") for n in numbers]
    if not found and sample is not None and column not in sample.columns:
        raise NotFound(f"Data set {dataset!r} has no column {column!r}.", hint=f"It has: {', '.join(sample.columns)}.")
    return list(dict.fromkeys(found))


def edges(
    project: Project, answering: Mapping[str, Iterable[int]] | None = None, samples: Mapping[str, pl.DataFrame] | None = None
) -> list[tuple[str, str]]:
    """The graph as pairs (what is used, who uses it); names are 'column:dataset.name', 'view:', 'feature:', 'formula:', 'model:', 'version:'."""
    found: list[tuple[str, str]] = []
    for made in features(project, samples):
        node = f"feature:{made.of}.{made.name}" if made.kind == "view" else f"formula:{made.of}.{made.name}"
        views = {v.name for v in project.views.values()}
        for column in made.columns:
            owner, _, name = column.partition(".")
            found.append((f"feature:{owner}.{name}" if owner in views and made.kind != "view" else f"column:{column}", node))
        found += [(node, f"model:{m}") for m in made.models]
    for model in project.models.values():
        for item in model.inputs:
            if isinstance(item, str):
                found.append((f"column:{model.rows.name}.{item}", f"model:{model.name}"))
        found.append((f"column:{model.rows.name}.{model.target}", f"model:{model.name}"))
        found += [(f"model:{model.name}", f"version:{model.name}.v{n}") for n in (answering or {}).get(model.name, ())]
    return list(dict.fromkeys(found))


def _column(model: Model, name: str) -> str:
    """What a name in a formula of a model is: a feature of a view, or a column of its rows."""
    view = next((v for v in model.views if name in v.feature_names()), None)
    return f"{view.name if view else model.rows.name}.{name}"


def _of_dataset(dataset: Dataset, column: str) -> list[Use]:
    found = []
    for what, named in (
        ("its key", dataset.key), ("its event time", (dataset.event_time,)), ("its known time", (dataset.known_time,)),
        ("whom a row is about", (dataset.subject,)),
    ):  # fmt: skip
        if column in named:
            found.append(Use("data set", dataset.name, f"{column!r} is {what}"))
    for sentence, rule in dataset.exclude.items():
        if column in _roots(rule):
            found.append(Use("data set", dataset.name, f"exclude {sentence!r} reads it"))
    if dataset.contract is not None:
        if column in dataset.contract.columns:
            found.append(Use("contract", dataset.name, f"the contract declares {column!r}"))
        for sentence, rule in dataset.contract.rules.items():
            if column in _roots(rule):
                found.append(Use("contract", dataset.name, f"rule {sentence!r} reads it"))
    return found


def _of_view(view: View, column: str, sample: pl.DataFrame | None) -> list[tuple[Use, str]]:
    """Uses by a view; with the one feature it costs, or '' for all."""
    source = view.source
    if column in view.entity:
        return [(Use("view", view.name, f"{column!r} is its entity"), "")]
    times = [source.known_time or source.event_time] if view.aggregates else [source.event_time, source.known_time]
    if column in times:
        return [(Use("view", view.name, f"{column!r} is a time of its source"), "")]
    if view.aggregates:
        read = {f: e.meta.root_names() for f, e in view.aggregates.items()}
        return [(Use("feature", f"{view.name}.{f}", "its aggregate reads it"), f) for f, names in read.items() if column in names]
    if view.function is None:
        return [(Use("feature", f"{view.name}.{f}", "it is this column"), f) for f in view.features if f == column]
    if sample is None or not sample.height:
        return [(Use("view", view.name, "it is a function, and there are no rows to try it on: run the model once", sure=False), "")]
    if column not in sample.columns:
        return []
    touched = [f for f in view.feature_names() if _touches(view, sample, column, f)]
    return [(Use("feature", f"{view.name}.{f}", "its function reads it, as tried on a sample"), f) for f in touched]


def _touches(view: View, sample: pl.DataFrame, column: str, feature: str) -> bool:
    """Whether a function fails without a column, or says something else of a feature when the column's values are mixed up."""
    rows = sample.head(SAMPLE)
    try:
        whole = compute(view, rows)
    except Exception:
        return True
    try:
        without = compute(view, rows.drop(column))
    except Exception:
        # It names the column. Whether this feature needs it shows when the values change places.
        try:
            mixed = compute(view, rows.with_columns(pl.col(column).shuffle(seed=0)))
            gone = compute(view, rows.with_columns(pl.lit(None, rows.schema[column]).alias(column)))
        except Exception:
            return True
        return _differs(whole, mixed, feature) or _differs(whole, gone, feature)
    return _differs(whole, without, feature)


def _differs(a: pl.DataFrame, b: pl.DataFrame, feature: str) -> bool:
    return a.height != b.height or not a[feature].equals(b[feature])


def _of_model(model: Model, dataset: Dataset, column: str, lost: Mapping[str, set[str]]) -> list[Use]:
    found = []
    gone = {f for view in model.views for f in lost.get(view.name, ())}
    own = model.rows is dataset
    for item in model.inputs:
        if isinstance(item, Derived):
            from_views = {f for v in model.views for f in v.feature_names()}
            if (own and column in item.columns and column not in from_views) or gone & set(item.columns):
                found.append(Use("formula", f"{model.name}.{item.name}", f"it is computed as {said(item)}"))
        elif own and item == column:
            found.append(Use("model", model.name, f"{column!r} is an input"))
    if own and column == model.target:
        found.append(Use("model", model.name, f"{column!r} is its target"))
    if own and column in model.slices:
        found.append(Use("model", model.name, f"{column!r} is one of its slices"))
    if own and any(column in v.entity for v in model.views):
        views = [v.name for v in model.views if column in v.entity]
        found.append(Use("model", model.name, f"its rows are looked up in {', '.join(views)} by {column!r}"))
    if gone:
        found.append(Use("model", model.name, f"it has the feature{'s' if len(gone) > 1 else ''} {', '.join(sorted(gone))}"))
    if own and found == [] and column in (dataset.event_time, dataset.known_time, *dataset.key):
        found.append(Use("model", model.name, f"its rows are those of {dataset.name!r}"))
    if any(u.kind == "formula" for u in found) and not any(u.kind == "model" for u in found):
        found.append(Use("model", model.name, "it has such a feature"))
    return found


def _roots(rule: Any) -> list[str]:
    """The columns an expression reads; of a rule that is no expression, the words of its text."""
    if isinstance(rule, pl.Expr):
        return list(rule.meta.root_names())
    import re

    return re.findall(r"[^\W\d]\w*", rule) if isinstance(rule, str) else []
