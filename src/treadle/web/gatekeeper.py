"""Keeps the endpoint's gate as the record says: the keys, whether they are needed, and how much of each was used, also after a restart."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

from treadle.assemble import Workspace
from treadle.core.errors import TreadleError
from treadle.core.records import Record
from treadle.registry import api_keys as keys
from treadle.serving.keys import Caller, Gate, read_key

EVERY = 5.0  # seconds between records of use: what a killed process forgets of a quota
_log = logging.getLogger("treadle.endpoint")


class Gatekeeper:
    """One endpoint's."""

    def __init__(self, ws: Workspace, model: str, processes: int = 1) -> None:
        self.gate = Gate(model, processes)
        self._ws = ws
        self._seen = -1
        self._next = 0.0

    def look(self, deployed: Record | None) -> None:
        """Bring the gate up to the record. While the ledger is away the gate stays as it is."""
        required = bool(deployed is not None and deployed.get("rules", {}).get("keys"))
        if required or self.gate.required:
            last = self._ws.ledger.events_since(max(0, self._seen), kinds=("api_key.made", "api_key.revoked"), limit=10_000)
            if last or self._seen < 0:
                self.gate.learn(read_key(record.id, record.body) for record in self._ws.ledger.find(keys.KEY))
                self._seen = last[-1].seq if last else 0
                self._next = 0.0
        self.gate.required = required  # only now: not before the keys are known
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + EVERY
            self.flush()

    def flush(self) -> None:
        """Record what was used since, and learn what the other processes recorded."""
        today = datetime.now(UTC).strftime("%Y-%m-%d")
        for caller in list(self.gate.callers.values()):
            if caller.day and caller.day != today:
                caller.day, caller.rows, caller.stored = today, 0, 0
            rows, requests = caller.rows, caller.requests
            if rows or requests or caller.key.quota is not None:
                self._record(caller, today, rows, requests)

    def _record(self, caller: Caller, day: str, rows: int, requests: int) -> None:
        try:
            if rows or requests:
                stored = keys.add_use(caller.key.id, day, rows, requests, self._ws.ledger)
            else:
                found: dict[str, Any] = dict(keys.used(self._ws.ledger, day)).get(caller.key.id, {})  # type: ignore[assignment]
                stored = int(found.get("rows", 0))
        except TreadleError as error:  # it is counted here until it can be recorded
            _log.warning("the use of key %s could not be recorded: %s", caller.key.id, error)
            return
        caller.rows -= rows
        caller.requests -= requests
        caller.day, caller.stored = day, stored
