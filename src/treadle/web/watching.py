"""The endpoint's eye on its versions: one that breaks its declared limits is thrown out within a second, on record with the numbers."""

from __future__ import annotations

import logging
from datetime import datetime

from treadle.assemble import Workspace
from treadle.core.clock import parse_time
from treadle.core.declare.rollout import from_json
from treadle.core.errors import Conflict, Refused
from treadle.core.records import Record, Ref
from treadle.registry import intervene
from treadle.serving.endpoint import Traffic
from treadle.serving.guard import Guard, Verdict
from treadle.serving.loaded import Loaded

_log = logging.getLogger("treadle.endpoint")


class Watching:
    """Looks at what the loaded versions did as a service.

    Args:
        processes: how many processes answer for the model, each with its own counts.
    """

    def __init__(self, ws: Workspace, model: str, processes: int = 1) -> None:
        self._ws, self._model, self._processes = ws, model, processes
        self._guards: dict[int, Guard] = {}
        self._said: set[tuple[int, str]] = set()

    def look(self, record: Record, traffic: Traffic, now: datetime) -> bool:
        """Throw out what broke its limits; whether the deployment record was changed. Raises what the ledger raises."""
        rollback = from_json(record.get("rules", {}).get("rollback"))
        if rollback is None or record.get("stopped"):
            return False
        asked_for = (record["champion"], record["challenger"])  # who only answers in another's place cannot be thrown out
        watched = [loaded for loaded in (traffic.challenger, traffic.champion) if loaded is not None and loaded.number in asked_for]
        for number in set(self._guards) - {loaded.number for loaded in watched}:
            del self._guards[number]
        for loaded in watched:
            guard = self._guards.setdefault(loaded.number, Guard(rollback, self._processes))
            if guard.rollback != rollback:
                guard = self._guards[loaded.number] = Guard(rollback, self._processes)
            verdict = guard.look(loaded.number, loaded.service, parse_time(record["since"]), now)
            if verdict is not None and self._out(loaded, verdict):
                return True
        return False

    def _out(self, loaded: Loaded, verdict: Verdict) -> bool:
        reason = f"version {loaded.number}: {verdict.sentence}"
        try:
            intervene.rollback(
                self._model, reason, self._ws.ledger, self._ws.clock, actor="treadle (endpoint)", of=loaded.number, evidence=verdict.evidence
            )
        except (Refused, Conflict) as error:  # nothing to go back to: it is said once, and goes on as well as it can
            if (loaded.number, verdict.limit) not in self._said:
                self._said.add((loaded.number, verdict.limit))
                _log.error("%s; %s", reason, error)
                says = {"version": loaded.number, "reason": reason, "evidence": verdict.evidence, "why_not": str(error)}
                self._ws.ledger.append("endpoint.failing", Ref("deployment", self._model), says)
            return False
        _log.error("rolled back: %s", reason)
        return True
