"""Runs and steps by what people type: an id, its beginning or end, `last`; the name of a step, or the end of one."""

from __future__ import annotations

from collections.abc import Sequence

from treadle.core.errors import NotFound, UsageError
from treadle.core.records import Record
from treadle.pipelines.run import RUN
from treadle.ports.ledger import Ledger

LOOKED_AT = 1000  # runs, newest first, among which a part of an id is looked for


def find_run(text: str, ledger: Ledger) -> Record:
    """The run with this id, or whose id alone begins or ends so; `last` is the newest. Raises NotFound, or UsageError when several fit."""
    found = ledger.get(RUN, text)
    if found is not None:
        return found
    if text == "last":
        newest = ledger.find(RUN, newest_first=True, limit=1)
        if not newest:
            raise NotFound("There is no run yet.", hint="Start one with: treadle run")
        return newest[0]
    known = ledger.find(RUN, newest_first=True, limit=LOOKED_AT)
    fit = [r for r in known if len(text) >= 3 and (r.id.endswith(text) or r.id.startswith(text) or r.id.startswith(f"run-{text}"))]
    if len(fit) > 1:
        shown = ", ".join(r.id for r in fit[:3]) + (", ..." if len(fit) > 3 else "")
        raise UsageError(f"{text!r} fits {len(fit)} runs: {shown}.", hint="Give more of the id; its end tells runs apart best.")
    if not fit:
        raise NotFound(f"There is no run {text!r}.", hint="See: treadle runs")
    return fit[0]


def find_step(text: str, run: str, steps: Sequence[Record]) -> Record:
    """The step with this name, or the only one whose name ends in `/text`. Raises NotFound, or UsageError when several fit."""
    exact = next((s for s in steps if s["step"] == text), None)
    if exact is not None:
        return exact
    fit = [s for s in steps if s["step"].endswith(f"/{text}")]
    if len(fit) > 1:
        raise UsageError(f"{text!r} fits {len(fit)} steps of run {run}: {', '.join(s['step'] for s in fit[:5])}.", hint="Give the whole name.")
    if not fit:
        names = [str(s["step"]) for s in steps if not s.get("of")]
        known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        tasks = next((s["tasks"] for s in steps if s["step"] == text.partition("[")[0] and s.get("tasks") is not None), None)
        hint = f"Its tasks are {text.partition('[')[0]}[0] to [{tasks - 1}]." if tasks else f"Its steps so far: {known or 'none'}."
        raise NotFound(f"Run {run} has no step {text!r}.", hint=hint)
    return fit[0]
