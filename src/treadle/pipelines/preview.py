"""What a run would do, without doing it: for each step whether its stored result stands, and if not, why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from treadle.pipelines import plan, results
from treadle.pipelines.graph import Slot, Step, ordered
from treadle.pipelines.run import Stores, unusable

Stored = dict[str, tuple[str, str]]


def preview(scope: str, steps: Sequence[Step], stores: Stores) -> list[dict[str, Any]]:
    """Each step with `state` ('run', 'reuse', 'skip' or 'ask'), `fresh` (its stored result stands, under `address`), and `reason`.

    What follows a step that must run may still be reused, if that step's new result is the same; it is listed as to run. A fan-out whose list is
    known has `tasks` and `tasks_reused`.
    """
    stored: Stored = {}
    out: set[str] = set()
    said: list[dict[str, Any]] = []
    for step in ordered(steps):
        found = _look(step, scope, stored, out, stores)
        if found["state"] == "skip":
            out.add(step.name)
        elif found["fresh"]:
            stored[step.name] = found.pop("stored")
            found["address"] = stored[step.name][1]
        said.append({"step": step.name, **found})
    return said


def _look(step: Step, scope: str, stored: Stored, out: set[str], s: Stores) -> dict[str, Any]:
    unknown = ""  # a condition that only the run itself will know
    for condition, wanted in step.when:
        if not isinstance(condition, Slot):
            if condition != wanted:
                return _said("skip", "its condition does not hold")
        elif condition.input in out:
            return _said("skip", f"{condition.input} is left out")
        elif condition.input not in stored:
            unknown = unknown or condition.input
        elif _truth(condition, stored, s) != wanted:
            return _said("skip", f"{condition.input} is {'not true' if wanted else 'true'}")
    if step.first_of:
        source = next((source for source in step.inputs.values() if source not in out), None)
        if source is None:
            return _said("skip", "every branch is left out")
        return _said("reuse", f"takes {source}", stored[source]) if source in stored else _said("run", f"after {source}")
    missing = next((source for source in step.inputs.values() if source in out), None)
    if missing is not None:
        return _said("skip", f"{missing} is left out")
    if step.question:
        return _said("ask", step.question)
    waits = next((source for source in step.inputs.values() if source not in stored), None)
    if waits is not None:
        return _said("run", f"after {waits}")
    inputs = {argument: stored[source][1] for argument, source in step.inputs.items()}
    made_of = plan.ingredients(step, inputs, s.roots, s.memo)
    found = plan.stored(made_of.key(step.name), s.ledger) if step.cached else None
    why = unusable(step, found, s) if found is not None else ""
    if found is not None and not why:
        return _said("reuse", "nothing it depends on changed", (found["codec"], found["address"]))
    why = why or (plan.reason(step.name, made_of, s.ledger, scope) if step.cached else "runs each time")
    counted: dict[str, Any] = {}
    if step.over and step.cached:
        keys = _keys(step, made_of, stored, s)
        counted = {"tasks": len(keys), "tasks_reused": sum(plan.stored(key, s.ledger) is not None for key in keys)}
    return {**_said("run", f"{why}; only if {unknown} says so" if unknown else why), **counted}


def _said(state: str, reason: str, stored: tuple[str, str] | None = None) -> dict[str, Any]:
    return {"state": state, "fresh": stored is not None, "reason": reason, **({"stored": stored} if stored is not None else {})}


def _truth(condition: Slot, stored: Mapping[str, tuple[str, str]], s: Stores) -> bool:
    value = plan.fill(Slot("", condition.path), {"": results.load(*stored[condition.input], s.blobs)})
    return bool(value)


def _keys(step: Step, made_of: plan.Ingredients, stored: Stored, s: Stores) -> list[str]:
    """The keys of a fan-out's tasks, as `drive` makes them; none where the list is no list, which the run itself will say."""
    source = step.inputs.get(step.over)
    if source is not None and stored[source][0] == results.LIST:
        own: list[Any] = [address for _, address in results.parts(stored[source][1], s.blobs)]
    else:
        whole = results.load(*stored[source], s.blobs) if source is not None else (
            plan.fill(step.templates[step.over], {k: results.load(*stored[n], s.blobs) for k, n in step.inputs.items() if "." in k})
            if step.over in step.templates else step.params[step.over]
        )  # fmt: skip
        if isinstance(whole, str | bytes | Mapping) or not isinstance(whole, Iterable):
            return []
        own = [plan.param_digest(step.name, step.over, value) for value in whole]
    return [plan.element(made_of, step.over, value).key(step.name) for value in own]
