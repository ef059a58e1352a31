"""The encoder of a fitted pipeline as plain JSON: how typed columns become the float32 matrix, without the library that fitted it.

The description is a list with one entry a column, in the order of the matrix. Strictly from it, serving fills a float32 matrix of shape (n, width):

- `{"name": c, "kind": "number", "fill": null or a float, "mean": m, "scale": s}` fills ONE matrix column. In float64: x = float64(value), where a
  missing value is NaN and a boolean 0 or 1; NaN becomes `fill` unless that is null; then (x - m) / s; last, rounded to float32 (nearest). Trees have
  m = 0 and s = 1, which change nothing.
- `{"name": c, "kind": "category", "table": {text: [floats]}, "unknown": [floats]}` fills as many matrix columns as its lists are long (all are
  equally long; it may be more than one). A missing value is looked up as ""; a text that is not in the table gets `unknown`. The floats are float32
  values.

Scaling stays here in float64, not in the model: folded into coefficients, a large value such as a time in seconds would lose digits to float32 first.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core.errors import CannotConvert

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_MEANS = ("TargetEncoder", "CategoryMeans")  # what says of a category how its rows came out: one matrix column, or one a class


def describe(fitted: Pipeline) -> dict[str, Any]:
    """What both model formats say about a fitted pipeline (columns, float32, model).

    Returns: `task` ('binary', 'multiclass' or 'regression'), `classes` (JSON values in the order of the outputs, or None), `width` of the matrix, and
        `encoder`, the list described above.
    Raises: CannotConvert when the pipeline has another shape, or an encoder that is not known here.
    """
    names = [name for name, _ in getattr(fitted, "steps", [])]
    if names != ["columns", "float32", "model"]:
        raise CannotConvert(f"A model is packaged from a pipeline of columns, float32 and model, not {names or type(fitted).__name__}.")
    encoder: list[dict[str, Any]] = []
    width = 0
    for _, transformer, columns in fitted.named_steps["columns"].transformers_:
        if isinstance(transformer, str) and transformer == "drop":
            continue
        kind = type(transformer).__name__
        if kind == "OneHotEncoder" or kind in _MEANS:
            entries = _categories(transformer, list(columns))
        else:
            entries = _numbers(transformer, list(columns))
        encoder += entries
        width += sum(len(entry["unknown"]) if entry["kind"] == "category" else 1 for entry in entries)
    if width != fitted.named_steps["float32"].n_features_in_:
        raise CannotConvert(f"The encoder describes {width} matrix columns, the pipeline has {fitted.named_steps['float32'].n_features_in_}.")
    classes = getattr(fitted.named_steps["model"], "classes_", None)
    if classes is not None and (isinstance(classes, list) or np.ndim(classes) != 1):
        raise CannotConvert("A model with several targets is not packaged.", hint="Declare one model a target.")
    task = "regression" if classes is None else "binary" if len(classes) == 2 else "multiclass"
    return {"task": task, "classes": None if classes is None else np.asarray(classes).tolist(), "width": width, "encoder": encoder}


def _numbers(transformer: Any, columns: list[str]) -> list[dict[str, Any]]:
    fill: list[float | None] = [None] * len(columns)
    mean, scale = np.zeros(len(columns)), np.ones(len(columns))
    steps = [step for _, step in transformer.steps] if hasattr(transformer, "steps") else [transformer]
    for step in steps:
        kind = type(step).__name__
        if kind == "SimpleImputer":
            if step is not steps[0] or step.add_indicator or not np.isnan(step.missing_values):
                raise CannotConvert("Missing numbers are filled first, and without an indicator column, or not at all.")
            fill = [float(value) for value in _quietly(step, np.full((1, len(columns)), np.nan))[0]]
        elif kind == "StandardScaler":
            if step is not steps[-1]:
                raise CannotConvert("Numbers are standardised last.")
            mean = mean if step.mean_ is None else step.mean_
            scale = scale if step.scale_ is None else step.scale_
        elif not (isinstance(step, str) and step == "passthrough") and not (kind == "FunctionTransformer" and step.func is None):
            raise CannotConvert(f"{kind} of {', '.join(columns)} is not an encoder serving knows.", hint="Compute the feature in a view instead.")
    return [{"name": name, "kind": "number", "fill": fill[i], "mean": float(mean[i]), "scale": float(scale[i])} for i, name in enumerate(columns)]


def _categories(transformer: Any, columns: list[str]) -> list[dict[str, Any]]:
    known = [list(values) for values in transformer.categories_]
    for name, values in zip(columns, known, strict=True):
        if not all(isinstance(value, str) for value in values):
            raise CannotConvert(f"Column '{name}' holds a category that is not text.", hint='Cast it to text; "" stands for missing.')
    unseen = "?"  # not a NUL, which numpy takes for the end of a text
    while any(unseen in values for values in known):
        unseen += "?"
    widths = [_width(transformer, i) for i in range(len(columns))]
    entries: list[dict[str, Any]] = []
    for i, name in enumerate(columns):
        # The transformer itself is asked, one row a category and a last one it has never seen, so its rules need no second home here.
        rows = np.full((len(known[i]) + 1, len(columns)), unseen, dtype=object)
        rows[:-1, i] = known[i]
        start = sum(widths[:i])
        block = _quietly(transformer, rows)[:, start : start + widths[i]]
        dense = np.asarray(block.toarray() if hasattr(block, "toarray") else block, dtype=np.float32).tolist()
        entries.append({"name": name, "kind": "category", "table": dict(zip(map(str, known[i]), dense[:-1], strict=True)), "unknown": dense[-1]})
    return entries


def _width(transformer: Any, i: int) -> int:
    """How many matrix columns the i-th category column fills."""
    if type(transformer).__name__ in _MEANS:
        return len(transformer.classes_) if transformer.target_type_ == "multiclass" else 1
    width = len(transformer.categories_[i])
    rare = getattr(transformer, "infrequent_categories_", None)
    if rare is not None and rare[i] is not None:
        width += 1 - len(rare[i])
    dropped = transformer.drop_idx_
    return width - (dropped is not None and dropped[i] is not None)


def _quietly(transformer: Any, rows: np.ndarray) -> Any:
    """Transform rows without column names, which scikit-learn would warn about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return transformer.transform(rows)
