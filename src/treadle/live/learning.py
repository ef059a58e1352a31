"""Online recalibration in production: outcomes are learned as they become known, checkpointed, and applied only while they are seen to help.

One look reads the predictions of the last `horizon`, takes those whose outcome is known by now and was not learned, in the order in which they
became known (then by id), and lets each pass twice: first the state says what it would have answered (that is what it is judged by: test, then
learn), then it learns. What was learned is kept in blobs, and the checkpoint names them together with the state, in one record. So a look that is
killed is done again from the checkpoint, with the same result, and `replayed` makes the state again from the blobs alone.

Status: 'learning' until enough outcomes are there, 'helps' while its answers are better than the model's own beyond chance (one-sided, by day
blocks, as in shadow and canary), 'paused' while that is so but the last three days speak against it, 'hurts' when they are worse beyond chance: then
it starts anew from the model's own answers. A new champion begins anew too, and the state of the one before is 'past', as is one that is not declared
any more.

The endpoint and `treadle score` apply a state while it 'helps' (`serving.recalibration.applied`); an endpoint looks twice a second. Versions are
watched and compared by what they say themselves, which is what the log keeps beside the state.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from treadle.assemble import Workspace
from treadle.core.canonical import canonical
from treadle.core.clock import iso
from treadle.core.declare.model import Model
from treadle.core.declare.online import Recalibrate
from treadle.core.errors import Conflict, Corrupt
from treadle.core.records import Record, Ref
from treadle.monitoring.watch import code_of
from treadle.registry import promote, versions
from treadle.serving.recalibration import KIND, Recalibration
from treadle.serving.requests import micros
from treadle.serving.traffic import ALPHA, FEWEST_BLOCKS, Pair, compare
from treadle.training.losses import row_loss

DAY = 86_400_000_000
DAYS = 60  # of which the comparison is kept
LATELY = 3  # days that must not speak against it, whatever was before


def learn(ws: Workspace, model: Model) -> Record | None:
    """One look: learn what became known, record it, judge it. None when nothing is declared, deployed or new."""
    declared = ws.project.recalibrations.get(model.name)
    deployed = promote.deployment(model.name, ws.ledger)
    number = int(deployed["champion"]) if deployed is not None else 0
    _past(ws, model.name, f"{model.name}-v{number}" if declared is not None else "")
    if declared is None or deployed is None:
        return None
    version = versions.get(model.name, number, ws.ledger)
    if version["task"] != "binary":
        return None
    id = f"{model.name}-v{number}"
    record = ws.ledger.get(KIND, id)
    body: dict[str, Any] = dict(record.body) if record is not None else _blank(model.name, number, declared)
    if body["status"] == "past":
        body.update(_blank(model.name, number, declared), recent=body["recent"], anew=body["anew"] + 1)
    now = micros(ws.clock.now())
    begin = now - int(declared.horizon.total_seconds() * 1e6)
    fresh = sorted(_known(ws, model.name, number, version["labels"], begin, now, set(body["recent"])))
    if not fresh:
        return None
    state, days = Recalibration.from_json(body["state"]), {int(d): v for d, v in body["days"].items()}
    for _, _, moment, p, y in fresh:
        q = state.answer(p)
        ours, theirs = (float(row_loss("binary", np.array([y]), np.array([[1 - x, x]]))[0]) for x in (p, q))
        day = days.setdefault(moment // DAY, [0, 0.0])
        day[0], day[1] = day[0] + 1, day[1] + ours - theirs
        state = state.learn(p, bool(y))
    days = dict(sorted(days.items())[-DAYS:])
    journals, joined = _joined(ws, body["journals"], [[id, p.hex(), y] for _, id, _, p, y in fresh])
    recent = {i: m for i, m in body["recent"].items() if m >= begin} | {id: moment for _, id, moment, _, _ in fresh}
    body.update(state=state.to_json(), mark=state.mark(), recent=recent, journals=journals, at=iso(ws.clock.now()))
    body.update(days={str(d): v for d, v in days.items()}, **judged(days, declared.least_outcomes))
    if body["status"] == "hurts":
        body.update(_blank(model.name, number, declared), recent=recent, anew=body["anew"] + 1)
    try:
        with ws.ledger.transaction():
            made = ws.ledger.put(KIND, id, body, expect=record.version if record else 0)
            if record is None or record["status"] != made["status"] or body["anew"] != record["anew"]:
                said = {"status": made["status"], "better_by": body["better_by"], "anew": body["anew"]}
                ws.ledger.append("recalibration.judged", Ref(KIND, id), said)
    except Conflict:  # another look did the same just now
        return None
    for address in joined:
        ws.blobs.delete(address)
    return made


def _past(ws: Workspace, model: str, id: str) -> None:
    """No state but that of record `id` may be applied any more."""
    for record in ws.ledger.find(KIND, {"model": model}):
        if record.id != id and record["status"] != "past":
            with suppress(Conflict), ws.ledger.transaction():
                ws.ledger.put(KIND, record.id, {**record.body, "status": "past"}, expect=record.version)
                says = {"status": "past", "better_by": record["better_by"], "anew": record["anew"]}
                ws.ledger.append("recalibration.judged", Ref(KIND, record.id), says)


def _joined(ws: Workspace, journals: list[list[Any]], fresh: list[list[Any]]) -> tuple[list[list[Any]], list[str]]:
    """The journals, [address, rows] each, with what was learned now; those that are no longer than it are joined to it, so that they stay few. And
    the addresses that are not needed any more."""
    kept, joined, rows = list(journals), [], fresh
    while kept and kept[-1][1] <= len(rows):
        address, _ = kept.pop()
        rows = json.loads(ws.blobs.get(address)) + rows
        joined.append(address)
    return [*kept, [ws.blobs.put(canonical(rows)), len(rows)]], joined


def judged(days: dict[int, list[float]], least: int) -> dict[str, Any]:
    """The status that the comparison allows: mean difference of the row losses by day, and how often chance alone gives as much."""
    rows = int(sum(d[0] for d in days.values()))
    if not rows:
        return {"status": "learning", "outcomes": 0, "better_by": 0.0, "p_worse": 1.0}
    # Each day's rows by their mean: the test looks at nothing but the sum of each block.
    told = compare([Pair(day, total / count, 0.0) for day, (count, total) in days.items() for _ in range(int(count))])
    better, worse = 1 - told["p_worse"] <= ALPHA and told["better_by"] > 0, told["p_worse"] <= ALPHA and told["better_by"] < 0
    enough = rows >= least and told["blocks"] >= FEWEST_BLOCKS
    status = "helps" if enough and better else "hurts" if enough and worse else "learning"
    if status == "helps" and sum(difference for _, (_, difference) in sorted(days.items())[-LATELY:]) < 0:
        status = "paused"  # what helped for weeks may have turned; to pause costs little, so it needs no proof
    return {"status": status, "outcomes": rows, "better_by": told["better_by"], "p_worse": told["p_worse"]}


def replayed(ws: Workspace, record: Record) -> Recalibration:
    """The state made again from what was learned. Raises Corrupt when it is not the one of the checkpoint."""
    stored = record["state"]
    state = Recalibration(rate_a=stored["rate_a"], rate_b=stored["rate_b"], pull=stored["pull"])
    for address, _ in record["journals"]:
        for _, p, y in json.loads(ws.blobs.get(address)):
            state = state.learn(float.fromhex(p), bool(y))
    if state.mark() != record["mark"]:
        raise Corrupt(
            f"The weights are not those that follow from the {state.learned:,} outcomes that were learned.", where=f"{KIND} {record.id}",
            hint="They start anew with the next champion; until then the model's own answers are given.",
        )  # fmt: skip
    return state


def _blank(model: str, number: int, declared: Recalibrate) -> dict[str, Any]:
    state = Recalibration(rate_a=declared.rate_a, rate_b=declared.rate_b, pull=declared.pull)
    return {
        "model": model, "version": number, "state": state.to_json(), "mark": state.mark(), "recent": {}, "journals": [], "days": {}, "anew": 0,
        "status": "learning", "outcomes": 0, "better_by": 0.0, "p_worse": 1.0, "at": "",
    }  # fmt: skip


def _known(ws: Workspace, model: str, number: int, labels: list[Any], begin: int, now: int, learned: set[str]) -> Iterator[tuple[Any, ...]]:
    """(when it was known, id, moment, the version's own probability, 1 or 0) of each outcome that is known by now and was not learned."""
    for batch in ws.predictions.between(model, begin, now + 1):
        for prediction, outcome in batch:
            if outcome is None or prediction.version != number or prediction.id in learned or not prediction.moment <= outcome.known <= now:
                continue
            y = code_of(outcome, labels)
            if y >= 0:
                yield outcome.known, prediction.id, prediction.moment, float(prediction.output[1]), int(y)
