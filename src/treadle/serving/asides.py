"""What an answer says beside itself when it is asked to: what moved it (`explain=true`), and how sure it is (`interval=true`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.core.errors import NotFound, UsageError
from treadle.serving.answers import Answered, Body
from treadle.serving.contributions import Contributions, explain
from treadle.serving.loaded import Loaded

MOST_EXPLAINED = 100  # rows of one request: an explanation costs up to a thousand times its answer


def wanted(parameters: Mapping[str, str]) -> tuple[bool, bool]:
    """Whether a query asks for explanations, and for intervals. Raises: UsageError for another parameter or value."""
    found = {}
    for name, value in parameters.items():
        if name not in ("explain", "interval") or value.lower() not in ("true", "false", "1", "0"):
            raise UsageError(f"There is no {name[:40]}={value[:40]!r} here.", hint="Use explain=true or interval=true.")
        found[name] = value.lower() in ("true", "1")
    return found.get("explain", False), found.get("interval", False)


def bodies(answered: Answered, explained: bool, bounded: bool) -> list[Body]:
    """The answers with what was asked for. Explaining takes long: call it from a thread.

    Raises: NotFound when the version has no exact contributions, or no calibrated intervals; UsageError when too many rows are to be explained.
    """
    if explained and len(answered) > MOST_EXPLAINED:
        raise UsageError(f"{len(answered):,} rows are more than the {MOST_EXPLAINED} that one request explains.", hint="Send fewer at a time.")
    found = answered.bodies()
    for i, body in enumerate(found):
        version, output = answered.heard(i)[0], answered.own_output(i)  # what it promises and what moved it is said of its own answer
        if bounded:
            body.interval = interval(version, output)
        if explained:
            body.explanation = _explanation(version, answered.features[i], output)
    return found


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
