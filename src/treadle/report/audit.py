"""The audit log: whether it is whole, who did what about which thing and when, and all of that as a file.

Every entry's hash covers the one before it. `verify` computes them all again; `check_on` goes on where this process stopped the last time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from treadle.core.errors import UsageError
from treadle.core.records import GENESIS, Event, chain_hash
from treadle.ports.ledger import Ledger

COLUMNS = ("seq", "time", "kind", "subject_kind", "subject_id", "actor", "body", "previous", "hash")
FORMATS = ("jsonl", "csv")
PAGE = 1000
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")

_checked: WeakKeyDictionary[Any, tuple[int, str, str]] = WeakKeyDictionary()  # ledger to number, hash and time of the last entry checked
_lock = Lock()


@dataclass(frozen=True)
class Filter:
    """Which entries are meant; what is empty does not choose.

    Args:
        kinds: such as 'deployment.promoted', or 'deployment.' for all that begin so.
        since, until: ISO times, from `since` on and before `until`.
    """

    kinds: tuple[str, ...] = ()
    actor: str = ""
    subject_kind: str = ""
    subject_id: str = ""
    since: str = ""
    until: str = ""

    def asked(self) -> dict[str, Any]:
        """As the ledger's `events_since` and `events_before` take it."""
        return dict(vars(self))


def verify(ledger: Ledger) -> dict[str, Any]:
    """Entries, whether the chain of hashes holds, the number of the first entry that breaks it, and the last hash."""
    return _go_on(ledger, 0, GENESIS, "", None)[0]


def check_on(ledger: Ledger, *, most: int | None = None) -> dict[str, Any]:
    """`verify`, from the last entry that this process checked: what a page can show each time it is opened.

    Args:
        most: new entries to check in this call; all if None.
    Returns: as `verify`, and `checked`, the number up to which entries were checked, and `complete`, whether that is all of them.
    """
    with _lock:
        seq, hash, time = _checked.get(ledger, (0, GENESIS, ""))
    if seq:
        try:
            last = ledger.events_since(seq - 1, limit=1)
        except (ValueError, TypeError):
            last = []
        if not last or last[0].seq != seq or last[0].hash != hash or chain_hash(last[0]) != hash:  # the log is another one now
            seq, hash, time = 0, GENESIS, ""
    found, reached = _go_on(ledger, seq, hash, time, most)
    if reached[0]:
        with _lock:
            _checked[ledger] = max(reached, _checked.get(ledger, reached)) if seq else reached
    newest = ledger.events_before(limit=1) if found["whole"] else []
    return {**found, "checked": reached[0], "complete": not newest or newest[0].seq <= reached[0]}


def _go_on(ledger: Ledger, seq: int, previous: str, time: str, most: int | None) -> tuple[dict[str, Any], tuple[int, str, str]]:
    begun = seq
    while most is None or seq - begun < most:
        limit = PAGE if most is None else min(PAGE, most - (seq - begun))
        try:
            batch = ledger.events_since(seq, limit=limit)
        except (ValueError, TypeError):  # the body of one is no JSON any more: read up to it
            try:
                batch = ledger.events_since(seq, limit=1)
            except (ValueError, TypeError):
                return _broken(seq + 1, "", ""), (seq, previous, time)
        if not batch:
            break
        for event in batch:
            if event.seq != seq + 1 or event.previous != previous or chain_hash(event) != event.hash:
                return _broken(event.seq, event.hash, event.time), (seq, previous, time)
            seq, previous, time = event.seq, event.hash, event.time
    return {"entries": seq, "whole": True, "broken_at": None, "last_hash": previous if seq else "", "last_time": time}, (seq, previous, time)


def _broken(seq: int, hash: str, time: str) -> dict[str, Any]:
    return {"entries": seq, "whole": False, "broken_at": seq, "last_hash": hash, "last_time": time}


def page(ledger: Ledger, chosen: Filter | None = None, *, before: int | None = None, limit: int = 100) -> tuple[list[Event], int | None]:
    """A page of entries, newest first, and the number to give as `before` for the next one; None at the end."""
    found = ledger.events_before(before, limit=limit + 1, **(chosen or Filter()).asked())
    return found[:limit], found[limit - 1].seq if limit and len(found) > limit else None


def entry(event: Event) -> dict[str, Any]:
    """An entry as a line of an export says it."""
    return dict(zip(COLUMNS, (
        event.seq, event.time, event.kind, event.subject.kind, event.subject.id, event.actor, dict(event.body), event.previous, event.hash,
    ), strict=True))  # fmt: skip


def export(ledger: Ledger, chosen: Filter | None = None, *, format: str = "jsonl") -> Iterator[str]:
    """The chosen entries, oldest first, as lines of JSON, or as CSV whose cells no spreadsheet takes for a formula; piece by piece.

    In JSON lines each entry has its hash and that of the one before, so that whoever has all of them can check the chain. Raises UsageError.
    """
    if format not in FORMATS:
        raise UsageError(f"An audit log is not exported as {format!r}.", hint=f"Formats are: {', '.join(FORMATS)}.")
    return _pieces(ledger, (chosen or Filter()).asked(), _jsonl if format == "jsonl" else _csv)


def _pieces(ledger: Ledger, asked: Mapping[str, Any], written: Callable[[list[Event], bool], str]) -> Iterator[str]:
    seq = 0
    first = ledger.events_since(0, limit=PAGE, **asked)
    yield written(first, True)
    while first:
        seq = first[-1].seq
        first = ledger.events_since(seq, limit=PAGE, **asked)
        if first:
            yield written(first, False)


def _jsonl(events: list[Event], begins: bool) -> str:
    return "".join(json.dumps(entry(event), ensure_ascii=True) + "\n" for event in events)


def _csv(events: list[Event], begins: bool) -> str:
    text = StringIO()
    lines = csv.writer(text, lineterminator="\r\n")
    if begins:
        lines.writerow(COLUMNS)
    for event in events:
        said = {**entry(event), "body": json.dumps(dict(event.body), ensure_ascii=False)}
        lines.writerow([harmless(value) if isinstance(value, str) else value for value in said.values()])
    return text.getvalue()


def harmless(cell: str) -> str:
    """A cell that a spreadsheet shows as text: what would begin a formula gets an apostrophe before it.

    >>> harmless("=HYPERLINK(1)"), harmless("late.v3"), harmless(" =1")
    ("'=HYPERLINK(1)", 'late.v3', "' =1")
    """
    clean = cell.replace("\x00", "")
    return "'" + clean if clean.lstrip(" ").startswith(_FORMULA) or clean.startswith(_FORMULA) else clean
