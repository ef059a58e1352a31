"""What an answer says beside itself when it is asked to: what moved it (`explain=true`), how sure it is (`interval=true`), and what would have made
it another (`instead=LABEL`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core.errors import NotFound, UsageError
from treadle.serving.answers import Answered, Body
from treadle.serving.contributions import Contributions, explain
from treadle.serving.counterfactuals import counterfactuals
from treadle.serving.loaded import Loaded

MOST_EXPLAINED = 100  # rows of one request: an explanation costs up to a thousand times its answer
MOST_CHANGED = 10  # rows of one request: the model is asked of hundreds of rows for each
VALUES = "explanation.json"  # of a package: the values a feature may take instead


@dataclass(frozen=True)
class Wanted:
    """What a query asks for beside the answer. `fixed`: features that nobody can change."""

    explained: bool = False
    bounded: bool = False
    instead: str = ""
    fixed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return self.explained or self.bounded or bool(self.instead)


def wanted(parameters: Mapping[str, str]) -> Wanted:
    """What a query asks for. Raises: UsageError for another parameter or value."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in ("explain", "interval") and value.lower() in ("true", "false", "1", "0"):
            found["explained" if name == "explain" else "bounded"] = value.lower() in ("true", "1")
        elif name == "instead" and value:
            found[name] = value
        elif name == "fixed" and value and "instead" in parameters:
            found[name] = tuple(value.split(","))
        else:
            raise UsageError(
                f"There is no {name[:40]}={value[:40]!r} here.", hint="Use explain=true, interval=true, or instead=LABEL with fixed=FEATURE,FEATURE."
            )
    return Wanted(**found)


def bodies(answered: Answered, asked: Wanted) -> list[Body]:
    """The answers with what was asked for. Explaining takes long: call it from a thread.

    Raises: NotFound when the version has no exact contributions, calibrated intervals or values seen in training; UsageError when too many rows are
        to be explained, or a label or feature is not there.
    """
    for most, wished in ((MOST_EXPLAINED, asked.explained), (MOST_CHANGED, bool(asked.instead))):
        if wished and len(answered) > most:
            raise UsageError(f"{len(answered):,} rows are more than the {most} that one request explains.", hint="Send fewer at a time.")
    found = answered.bodies()
    for i, body in enumerate(found):
        version, output = answered.heard(i)[0], answered.own_output(i)  # what it promises and what moved it is said of its own answer
        if asked.bounded:
            body.interval = interval(version, output)
        if asked.explained:
            body.explanation = _explanation(version, answered.features[i], output)
        if asked.instead:
            body.instead = instead(version, answered.features[i], output, asked.instead, asked.fixed)
    return found


def instead(version: Loaded, features: Sequence[Any], output: Sequence[float], label: str, fixed: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The fewest features that would have to be otherwise for the answer to be `label`, see `counterfactuals`; empty where it is, or nothing does."""
    names, file = [f.name for f in version.features], version.folder / VALUES
    if label not in version.label_texts:
        said = f"Its labels are {', '.join(version.label_texts)}." if version.labels else "It answers numbers, which have no labels."
        raise UsageError(f"Version {version.number} has no label {label[:40]!r}.", hint=said)
    for name in fixed:
        if name not in names:
            raise UsageError(f"Version {version.number} has no feature {name[:40]!r}.", hint=f"It has {', '.join(names[:20])}.")
    if not file.is_file():
        raise NotFound(f"Version {version.number} holds no values to try instead.", hint="They are stored with versions that are trained here.")
    at = version.label_texts.index(label)
    if output[at] == max(output):
        return []

    def far(outputs: np.ndarray) -> np.ndarray:
        return np.asarray(np.delete(outputs, at, axis=1).max(axis=1) - outputs[:, at] + 1e-9)

    found = counterfactuals(features, names, version.outputs, json.loads(file.read_text())["values"], wanted=far, fixed=fixed)
    return [{"changes": c["changes"], "probabilities": dict(zip(version.label_texts, c["output"]))} for c in found]


def interval(version: Loaded, output: Any) -> dict[str, Any]:
    """The interval of a number, or the set of labels, that holds the truth as often as `level` says on rows like those of the evaluation.

    See `training.conformal`; `coverage` is what was measured on the test rows.
    """
    if not version.promises:
        raise NotFound(
            f"Version {version.number} has no calibrated intervals.", hint="They come from the folds of a search with at least 20 validation rows."
        )
    promise = version.promises[0]
    limit, said = float(promise["threshold"]), {"level": promise["level"], "coverage": promise["coverage"]}
    if version.task == "regression":
        return {**said, "low": output[0] - limit, "high": output[0] + limit}
    return {**said, "labels": [label for label, p in zip(version.labels, output) if 1 - p <= limit]}


def _explanation(version: Loaded, features: Any, output: Any) -> dict[str, Any]:
    contributions = version.contributions
    if contributions is None:
        contributions = version.contributions = Contributions(version.folder, version.encoder)
    values = {feature.name: value for feature, value in zip(version.features, features)}
    at = output.index(max(output)) if version.task == "multiclass" else -1
    found = explain(contributions, version.matrix([features])[0], values, output=at)
    return found if version.task != "multiclass" else {"of": version.labels[at], **found}
