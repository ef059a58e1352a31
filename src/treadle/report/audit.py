"""Is the audit log whole? Every entry's hash is computed again, from the first to the last."""

from __future__ import annotations

from typing import Any

from treadle.core.records import GENESIS, chain_hash
from treadle.ports.ledger import Ledger


def verify(ledger: Ledger) -> dict[str, Any]:
    """Entries, whether the chain of hashes holds, the number of the first entry that breaks it, and the last hash."""
    seq, previous, time = 0, GENESIS, ""
    while batch := ledger.events_since(seq):
        for event in batch:
            if event.seq != seq + 1 or event.previous != previous or chain_hash(event) != event.hash:
                return {"entries": event.seq, "whole": False, "broken_at": event.seq, "last_hash": event.hash, "last_time": event.time}
            seq, previous, time = event.seq, event.hash, event.time
    return {"entries": seq, "whole": True, "broken_at": None, "last_hash": previous if seq else "", "last_time": time}
