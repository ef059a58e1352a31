"""API keys on record: made, listed, taken back; and how much each was used, by day. The secret itself is never stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger

KEY, USED = "api_key", "api_usage"
TRIES = 20


@dataclass(frozen=True)
class Wanted:
    """What a new key is to be. See `serving.keys.Key`."""

    name: str
    model: str
    roles: tuple[str, ...]
    rate: float | None = None
    quota: int | None = None
    until: datetime | None = None


def make(id: str, digest: str, wanted: Wanted, ledger: Ledger, clock: Clock, *, actor: str) -> Record:
    """Record a new key. Raises UsageError for one without roles or a name, or that has ended already."""
    if not re.fullmatch(r"[\w .@-]{1,100}", wanted.name):
        raise UsageError("A key needs a name of letters, digits, blanks and . @ - _, which says whose it is.")
    if not wanted.roles:
        raise UsageError("A key needs a role.", hint="For example --role predict")
    if wanted.until is not None and wanted.until <= clock.now():
        raise UsageError(f"The key would have ended on {iso(wanted.until)[:16]}.", hint="Give a later --until.")
    if (wanted.rate is not None and wanted.rate <= 0) or (wanted.quota is not None and wanted.quota <= 0):
        raise UsageError("A rate and a quota are above 0.")
    body = {
        "digest": digest, "name": wanted.name, "model": wanted.model, "roles": list(wanted.roles), "rate": wanted.rate, "quota": wanted.quota,
        "until": iso(wanted.until) if wanted.until else "", "revoked": False, "by": actor, "at": iso(clock.now()),
    }  # fmt: skip
    with ledger.transaction():
        record = ledger.put(KEY, id, body, expect=0)
        ledger.append("api_key.made", Ref(KEY, id), {k: v for k, v in body.items() if k != "digest"}, actor=actor)
    return record


def revoke(id: str, reason: str, ledger: Ledger, *, actor: str) -> Record:
    """Take a key back. Raises NotFound; UsageError without a reason; Conflict when it is taken back already."""
    record = ledger.get(KEY, id)
    if record is None:
        raise NotFound(f"There is no API key {id!r}.", hint="See: treadle keys list")
    if not reason.strip():
        raise UsageError("Taking a key back needs a reason.", hint='Say it with: --reason "..."')
    if record["revoked"]:
        raise Conflict(f"Key {id} was taken back already.")
    with ledger.transaction():
        changed = ledger.put(KEY, id, {**record.body, "revoked": True}, expect=record.version)
        ledger.append("api_key.revoked", Ref(KEY, id), {"reason": reason.strip()}, actor=actor)
    return changed


def used(ledger: Ledger, day: str) -> dict[str, Mapping[str, Any]]:
    """{key: {'rows', 'requests'}} of a day."""
    return {record["key"]: record.body for record in ledger.find(USED, {"day": day})}


def add_use(key: str, day: str, rows: int, requests: int, ledger: Ledger) -> int:
    """Add to what a key used on a day; returns the rows of that day, of all processes."""
    for _ in range(TRIES):
        now = ledger.get(USED, f"{key}:{day}")
        before = now.body if now is not None else {"rows": 0, "requests": 0}
        body = {"key": key, "day": day, "rows": before["rows"] + rows, "requests": before["requests"] + requests}
        try:
            ledger.put(USED, f"{key}:{day}", body, expect=now.version if now is not None else 0)
            return int(body["rows"])
        except Conflict:
            continue
    raise Conflict(f"The use of key {key} could not be recorded.")
