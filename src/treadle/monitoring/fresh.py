"""The newest requests, looked at before their block is over: a feed that broke is told within some hundred requests, and needs no outcome.

A block is judged when it is over and its outcomes have had time to come. What breaks whole (missing values, one constant value, unseen categories,
values out of range) need not wait: the last `NEWEST` requests are held against the same limits. What is found is the finding of the block that these
requests end in, so that its own judgement, days later, raises no second alarm.

Unit of independence: the block, whose limits these are; part of a day varies more than a day, so only effects above those limits and twice the rows
that a block needs are looked at.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from treadle.core.declare.operations import Watch
from treadle.monitoring.blocks import BlockStats
from treadle.monitoring.findings import Finding
from treadle.monitoring.judge import WatchState, data_quality, reasoned
from treadle.monitoring.recent import Recent
from treadle.monitoring.sketches import Sketch, empty_sketch
from treadle.monitoring.thresholds import LEAST_BLOCK
from treadle.monitoring.watch import STATE, Watched, output_of, recent_of
from treadle.ports.ledger import Ledger
from treadle.ports.predictions import PredictionLog

NEWEST = 500
LEAST = 2 * LEAST_BLOCK
_decode = msgspec.json.Decoder().decode


def look_at_newest(watched: Watched, watch: Watch, log: PredictionLog, ledger: Ledger, now: datetime) -> list[tuple[BlockStats, Finding]]:
    """What is broken in the newest requests and was not before; nothing where their block has been judged, or where they are few."""
    if "data_quality" not in watch.kinds:
        return []
    every = int(watch.every.total_seconds() * 1_000_000)
    upto = int(now.timestamp() * 1_000_000)
    mine = [p for p in log.last(watched.model, NEWEST) if output_of(p, watched.version) and p.moment <= upto]
    if len(mine) < LEAST:
        return []
    first, last = min(p.moment for p in mine), max(p.moment for p in mine)
    record = ledger.get(STATE, watched.model)
    current = record is not None and record["version"] == watched.version
    if record is not None and current and int(record["next"]) > last:
        return []
    state = WatchState.from_json(record["state"]) if record is not None and current else WatchState()
    rows = [_decode(p.features) for p in mine]
    columns: dict[str, Sketch] = {}
    for i, field in enumerate(watched.features):
        columns[field.name] = empty_sketch(field.kind)
        columns[field.name].update([row[i] for row in rows])
    block = BlockStats(first, last // every * every + every, len(mine), 0, ())
    recent: Recent = recent_of(ledger, watched.model, last // every * every, every)
    _, found = data_quality(state.open, block, columns, columns, watched.normal.sketches, watched.normal.thresholds, recent)
    return [(block, reasoned(f, {f.kind}, watch.kinds, None)) for f in found]
