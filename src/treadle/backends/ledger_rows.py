"""What the ledgers that speak SQL read in the same way: rows of records and events, the check of the chain; and the words for a conflict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from treadle.backends import json_text
from treadle.core.clock import iso, parse_time
from treadle.core.errors import Conflict, Corrupt
from treadle.core.records import GENESIS, Event, Record, Ref, chain_hash

EVENT = "seq, time, kind, subject_kind, subject_id, actor, body, previous, hash"
_PAGE = 5000


def record(row: Sequence[Any]) -> Record:
    """From kind, id, body as JSON text, version, created_at, updated_at."""
    kind, id, body, version, created_at, updated_at = row
    return Record(kind, id, json_text.read(body), version, created_at, updated_at)


def event(row: Sequence[Any]) -> Event:
    """From the columns of EVENT."""
    seq, time, kind, subject_kind, subject_id, actor, body, previous, hashed = row
    return Event(kind, Ref(subject_kind, subject_id), actor, json_text.read(body), seq, time, previous, hashed)


def asked_events(
    mark: str, beside: str, seq: int | None, kinds: Sequence[str], actor: str, subject_kind: str, subject_id: str, since: str, until: str
) -> tuple[str, list[Any]]:  # fmt: skip
    """The condition of `events_since` (`beside` is 'seq >') or `events_before` ('seq <'), with its ' WHERE ', and what it compares with.

    `mark` stands for a value.
    """
    parts: list[str] = []
    values: list[Any] = []
    ends = [(kind, kind[:-1] + "/") for kind in kinds if kind.endswith(".")]  # '/' is the character after '.'
    exact = [kind for kind in kinds if not kind.endswith(".")]
    if kinds:
        among = [f"kind IN ({', '.join([mark] * len(exact))})"] * bool(exact) + [f"(kind >= {mark} AND kind < {mark})"] * len(ends)
        parts.append(f"({' OR '.join(among)})")
        values += [*exact, *(end for pair in ends for end in pair)]
    told = {beside: seq, "actor =": actor, "subject_kind =": subject_kind, "subject_id =": subject_id}
    told |= {"time >=": since and iso(parse_time(since)), "time <": until and iso(parse_time(until))}
    given = {name: value for name, value in told.items() if value not in (None, "")}
    parts, values = [*parts, *(f"{name} {mark}" for name in given)], [*values, *given.values()]
    if any(isinstance(value, str) and "\x00" in value for value in values):  # no event has one, and not every database can be asked
        return " WHERE 1 = 0", []
    return (" WHERE " + " AND ".join(parts) if parts else ""), values


def everything(read: Callable[[str, Sequence[Any]], Sequence[Any]], mark: str = "?", body: str = "body") -> Iterator[tuple[Ref, str]]:
    """Each record, link, event and metric name as it is kept, page by page. `read(sql, values)` gives rows; `mark` stands for a value."""
    last: tuple[Any, ...] = ("", "")
    while page := read(f"SELECT kind, id, {body} FROM records WHERE (kind, id) > ({mark}, {mark}) ORDER BY kind, id LIMIT {_PAGE}", last):
        yield from ((Ref(kind, id), f"{id}\n{text}") for kind, id, text in page)
        last = (page[-1][0], page[-1][1])
    for kind, columns in _NUMBERED.items():
        number, table, *said = columns
        last = (0,)
        chosen = ", ".join(body if column == "body" else column for column in said)
        while page := read(f"SELECT {number}, {chosen} FROM {table} WHERE {number} > {mark} ORDER BY {number} LIMIT {_PAGE}", last):
            yield from ((Ref(kind, str(row[0])), "\n".join(map(str, row[1:]))) for row in page)
            last = (page[-1][0],)


_NUMBERED = {
    "event": ("seq", "events", "kind", "subject_kind", "subject_id", "actor", "body"),
    "link": ("id", "links", "source_id", "relation", "target_id"),
    "metric": ("id", "metrics", "run", "name"),
}


def conflict(kind: str, id: str, version: int, expect: int) -> Conflict:
    """What is told who expected another version (0: none) than the record has."""
    return Conflict(
        f"{kind}/{id} has version {version}, not {expect}." if version else f"{kind}/{id} does not exist, so it has no version {expect}.",
        hint="Somebody else changed it first; read it again and decide anew.",
    )


def check_chain(read: Callable[[int, int], Sequence[Any]], place: str) -> int:
    """How many events there are. `read(seq, limit)` gives the rows after a number. Raises Corrupt naming the first that is not as it was written."""
    checked, previous = 0, GENESIS
    while page := read(checked, _PAGE):
        for row in page:
            checked += 1
            if row[0] != checked or not _unchanged(row, previous):
                raise Corrupt(
                    f"Event {checked} of {place} is missing, moved or changed since it was written.",
                    hint="Compare with a backup; events before it are as they were written.",
                )
            previous = row[8]
    return checked


def _unchanged(row: Sequence[Any], previous: str) -> bool:
    try:
        found = event(row)
        return found.previous == previous and chain_hash(found) == found.hash
    except (ValueError, TypeError):  # the body is no JSON object any more
        return False
