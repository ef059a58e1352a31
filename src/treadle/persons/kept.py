"""What is kept of a person's rows and answers beside data and predictions: journals of recalibrations, and what backtests keep to be quick."""

from __future__ import annotations

import json
from collections.abc import Iterable

from treadle.assemble import Workspace
from treadle.core.canonical import canonical
from treadle.core.errors import NotFound

RECALIBRATION = "recalibration"
BACKTESTS = ("backtest_life", "backtest_training")


def out_of_journals(ws: Workspace, ids: Iterable[str]) -> set[str]:
    """Take predictions' ids out of what recalibrations learned from. The two numbers that were learned of each stay: they are of nobody then, and the
    weights follow from them. Returns the addresses of journals that are not needed any more.
    """
    gone, doomed = set(ids), set()
    for record in ws.ledger.find(RECALIBRATION) if gone else ():
        recent = {id: moment for id, moment in record["recent"].items() if id not in gone}
        journals = []
        for address, count in record["journals"]:
            try:
                rows = json.loads(ws.blobs.get(address))
            except NotFound:
                journals.append([address, count])
                continue
            if any(row[0] in gone for row in rows):
                doomed.add(address)
                address = ws.blobs.put(canonical([["" if row[0] in gone else row[0], *row[1:]] for row in rows]))
            journals.append([address, count])
        if recent != record["recent"] or journals != record["journals"]:
            ws.ledger.put(RECALIBRATION, record.id, {**record.body, "recent": recent, "journals": journals}, expect=record.version)
    return doomed


def of_backtests(ws: Workspace) -> set[str]:
    """Let go of versions that were trained for comparisons, and of the lives that were lived in them: they are made again when they are asked for.
    Returns their addresses.
    """
    doomed = set()
    for kind in BACKTESTS:
        for record in ws.ledger.find(kind):
            if record.get("address"):
                doomed.add(record["address"])
                ws.ledger.put(kind, record.id, {**record.body, "address": ""}, expect=record.version)
    return doomed
