"""A backtest: the same history lived through under several policies, each once, and compared.

What a policy came to is kept by all it depends on, as is every training; so a backtest that is stopped goes on where it was, and a policy that is
added to a finished one costs only itself.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.assemble import Names, Workspace
from treadle.backtest.compared import Prices, compared
from treadle.backtest.history import History
from treadle.backtest.live import Lived, live
from treadle.backtest.policies import Policy
from treadle.backtest.trained import Version, trained
from treadle.core.canonical import canonical, digest, plain
from treadle.core.clock import iso
from treadle.core.declare.model import Model
from treadle.core.errors import UsageError
from treadle.core.records import Ref
from treadle.monitoring import alarms
from treadle.pipelines.hand_out import HandOut
from treadle.ports.executor import Resources
from treadle.provenance.origin import environment_state

KIND, LIFE = "backtest", "backtest_life"
Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Shared:
    """What the policies share when they are lived through in other processes."""

    names: Names  # of the workspace, which each process opens for itself
    model: str
    history: History


def backtest(
    ws: Workspace, model: Model, history: History, policies: Sequence[Policy], *, prices: Prices | None = None, at_once: int = 1, again: bool = False,
    tell: Tell = lambda line: None,
) -> dict[str, Any]:  # fmt: skip
    """Live through the history under each policy and compare.

    Args:
        at_once: how many policies are lived through at the same time, in worker processes.
        again: do it although it was done; trainings are still shared.
    Returns: what `compared` says, with the id it is recorded under. Raises: DataError when the first version cannot be trained.
    """
    if at_once < 1:
        raise UsageError(f"at_once={at_once} is no number of policies.", hint="Use 1 or more.")
    first = trained(ws, model, history, history.begin)  # before the others, which all begin with it
    tell(f"first version: {first.family}, on {first.learned:,} rows" + (" (known already)" if first.reused else f", {first.cpu:.1f} CPU s"))
    ids = [digest([_about(ws, model, history), p.said()])[:24] for p in policies]
    waiting = [i for i, id in enumerate(ids) if again or not _there(ws, id)]
    for i in sorted(set(range(len(ids))) - set(waiting)):
        tell(f"{policies[i].name}: known already")
    shared = _Shared(Names(ws), model.name, history)
    if at_once > 1 and len(waiting) > 1:
        each = HandOut(ws.workers, ws.blobs, Names(ws), Resources())
        for start in range(0, len(waiting), at_once):  # in parts: what is done is kept, whatever happens to the rest
            each(_live_through, shared, [(policies[i], ids[i]) for i in waiting[start : start + at_once]])
            for i in waiting[start : start + at_once]:
                tell(f"{policies[i].name}: done")
    else:
        for i in waiting:
            _keep(ws, ids[i], live(ws, model, history, policies[i], first, tell))
    told = compared(model.name, history, policies, [_kept(ws, id) for id in ids], prices or Prices())
    id = f"{model.name}-{digest([ids, plain(prices)])[:12]}"
    body = {**told, "made": iso(ws.clock.now()), "policies": [{k: v for k, v in p.items() if k != "events"} for p in told["policies"]]}
    with ws.ledger.transaction():
        ws.ledger.put(KIND, id, body)
        ws.ledger.append("backtest.done", Ref(KIND, id), {"policies": [p.name for p in policies], "rows": told["rows"]}, actor=ws.actor)
    return {"id": id, "made": body["made"], "project": ws.project.name, **told}


def _live_through(shared: _Shared, part: tuple[Policy, str]) -> str:
    ws, (policy, id) = shared.names.thing(("workspace",)), part
    model = ws.model(shared.model)
    first: Version = trained(ws, model, shared.history, shared.history.begin)
    _keep(ws, id, live(ws, model, shared.history, policy, first))
    return id


def _about(ws: Workspace, model: Model, history: History) -> list[Any]:
    """All that a life depends on beside its policy."""
    serve, watch = ws.serve_of(model), ws.watch_of(model)
    assert watch is not None
    return [
        "life 2", history.address, history.begin, history.end, history.every, plain(model.split), model.seed, model.trials, model.metric,
        [c.said() for c in model.candidates], [[g.name, plain(dict(g.options))] for g in model.gates], environment_state(),
        plain([watch.label_window, watch.false_alarms, serve.shadow, serve.canary, serve.canary_for, serve.least_outcomes]), alarms.SEVERITY,
        list(watch.kinds), plain(watch.groups), watch.fairness_gap,
    ]  # fmt: skip


def _there(ws: Workspace, id: str) -> bool:
    record = ws.ledger.get(LIFE, id)
    return record is not None and bool(record["address"]) and ws.blobs.exists(record["address"])


def _keep(ws: Workspace, id: str, lived: Lived) -> None:
    buffer = io.BytesIO()
    about = np.frombuffer(canonical(lived.body()), dtype=np.uint8)
    np.savez(buffer, heard=lived.heard, answered=lived.answered, about=about)
    ws.ledger.put(LIFE, id, {"policy": lived.policy, "address": ws.blobs.put(buffer.getvalue())})


def _kept(ws: Workspace, id: str) -> Lived:
    record = ws.ledger.get(LIFE, id)
    assert record is not None
    with np.load(ws.blobs.path(record["address"])) as stored:
        about = json.loads(stored["about"].tobytes())
        return Lived(about["policy"], stored["heard"], stored["answered"], about["trainings"], about["alarms"], about["events"])
