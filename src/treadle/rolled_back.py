"""Rolling back: for some time after a takeover the version before is asked again about what the champion answered; if it is better it comes back.

It is asked in bulk about the features that were logged, so it costs nothing where requests are answered. Compared are row losses on requests whose
outcome is known, by day blocks, as in shadow and canary; looking on several days shares the level of the test among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np

from treadle import retraining
from treadle.assemble import Workspace
from treadle.core.canonical import plain
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.errors import NotFound, Refused
from treadle.core.records import Ref
from treadle.monitoring.watch import code_of
from treadle.registry import promote, versions
from treadle.serving.requests import micros
from treadle.serving.traffic import ALPHA, FEWEST_BLOCKS, Pair, compare
from treadle.turn import load_version

STATE = "roll_back_watch"
DAY = 86_400_000_000
_decode = msgspec.json.Decoder().decode


def look(ws: Workspace, model: Model, tell: Callable[[str], None]) -> bool:
    """Compare the champion with the one before, once a day while the project says so; returns whether it was rolled back."""
    declared, deployed = ws.watch_of(model), promote.deployment(model.name, ws.ledger)
    policy = declared.retrain if declared else None
    if policy is None or not policy.roll_back or deployed is None or declared is None:
        return False
    if deployed["challenger"] is not None or not deployed["previous"] or deployed["stage"] != "none":
        return False
    since, now = parse_time(deployed["since"]), ws.clock.now()
    before, champion = int(deployed["previous"][-1]), int(deployed["champion"])
    if since > now or now - since > policy.roll_back + declared.label_window or before > champion:  # what came back is not rolled forward
        return False
    today = micros(now) // DAY
    state = ws.ledger.get(STATE, model.name)
    seen = {"champion": champion, "before": before, "day": today}
    if state is not None and all(state[k] == v for k, v in seen.items()):
        return False
    pairs = asked_again(ws, model, champion, before, micros(since), micros(now) + 1)
    evidence = compare(pairs)
    looks = max(1, math.ceil(policy.roll_back / timedelta(days=1)))
    worse = evidence["blocks"] >= FEWEST_BLOCKS and evidence["better_by"] < 0 and evidence["p_worse"] <= ALPHA / looks
    ws.ledger.put(STATE, model.name, {**seen, "evidence": plain(evidence), "at": iso(now)}, expect=state.version if state else 0)
    if len(pairs) < ws.serve_of(model).least_outcomes or not worse:
        return False
    return roll_back(ws, model, champion, before, evidence, tell)


def roll_back(ws: Workspace, model: Model, champion: int, before: int, evidence: dict[str, Any], tell: Callable[[str], None]) -> bool:
    """Let the version before answer again, if its conditions still allow it."""
    lower = f"its loss is {-evidence['better_by']:.4f} lower than version {champion}'s"
    said = f"version {before} comes back: on {evidence['outcomes']:,} outcomes {lower}"
    try:
        with ws.ledger.transaction():
            promote.challenge(model.name, before, ws.ledger, ws.clock)
            promote.promote(model.name, {**evidence, "rolled_back": True}, ws.ledger, ws.clock)
            ws.ledger.append("deployment.rolled_back", Ref(versions.DEPLOYMENT, model.name), {"champion": before, "instead_of": champion})
            for record in ws.ledger.find(retraining.KIND, {"model": model.name, "version": champion, "status": "took over"}):
                ws.ledger.put(retraining.KIND, record.id, {**record.body, "status": "rolled back", "said": said}, expect=record.version)
    except Refused as error:
        tell(f"version {champion} is worse than version {before}, which may not answer any more: {error.what}")
        return False
    tell(said)
    return True


def asked_again(ws: Workspace, model: Model, champion: int, before: int, start: int, end: int) -> list[Pair]:
    """The row losses of the version before ('champion' of the pair) and of the champion ('challenger'), on what the champion answered.

    Nothing where the two do not take the same features: what was logged cannot be asked of the other then.
    """
    from treadle.training.losses import row_loss

    records = [versions.get(model.name, n, ws.ledger) for n in (before, champion)]
    try:
        old, new = (load_version(ws, r) for r in records)
    except NotFound:  # its package was dropped
        return []
    if [f.name for f in old.features] != [f.name for f in new.features] or old.labels != new.labels:
        return []
    labels, found = new.labels, []
    task = "multiclass" if labels else "regression"
    for batch in ws.predictions.between(model.name, start, end):
        mine = [(p, truth) for p, o in batch if p.version == champion and _known(truth := code_of(o, labels), bool(labels))]
        if not mine:
            continue
        says = np.asarray(old.outputs([_decode(p.features) for p, _ in mine]), dtype=np.float64)
        said = np.array([p.output for p, _ in mine], dtype=np.float64)
        y = np.array([truth for _, truth in mine])
        y = y.astype(np.int64) if labels else y
        theirs, ours = row_loss(task, y, says), row_loss(task, y, said)  # type: ignore[arg-type]
        found += [Pair(p.moment // DAY, float(a), float(b)) for (p, _), a, b in zip(mine, theirs, ours)]
    return found


def _known(truth: float, labelled: bool) -> bool:
    return truth >= 0 if labelled else bool(np.isfinite(truth))


