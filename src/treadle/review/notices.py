"""Notices: who is told what. One record for each person or group and cause, read by each person for themselves.

The project's own notifiers (the setting `notify`) are told too, one message a cause, and again later where one did not take it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress

from treadle.core.canonical import digest
from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, NotFound, TreadleError
from treadle.core.names import folded
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger
from treadle.ports.notifier import Message, Notifier

KIND, MESSAGE = "notice", "notice_message"
SHOWN = 300  # characters of a text that a notice repeats
LOOKED_AT = 500  # newest notices of a person or group among which the unread are counted
TRIES = 20


def tell(
    about: Ref, to: Iterable[str], what: str, text: str, ledger: Ledger, clock: Clock, *, by: str, because: str
) -> list[Record]:  # fmt: skip
    """Tell persons and groups of something about a thing; the same cause is told each of them once.

    Args:
        what: 'mention', 'question', 'change', 'answer', 'settled', 'handover', 'approval', ...
        because: what it is told for, such as the id of a note.
    """
    names = list(dict.fromkeys(folded(name) for name in to))
    if not names:
        return []
    shown = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
    body = {
        "on": str(about), "about": {"kind": about.kind, "id": about.id}, "what": what, "text": shown, "by": by, "because": because,
        "at": iso(clock.now()), "read": {}, "taken_back": False,
    }  # fmt: skip
    made = []
    with ledger.transaction():
        for name in names:
            id = f"notice-{digest([because, name])[:20]}"
            made.append(ledger.get(KIND, id) or ledger.put(KIND, id, {**body, "to": name}, expect=0))
        message = f"message-{digest([because, names])[:20]}"
        if ledger.get(MESSAGE, message) is None:
            said = {"to": names, "on": str(about), "what": what, "text": shown, "because": because, "told": False, "have": []}
            ledger.put(MESSAGE, message, said, expect=0)
    return made


def notices(person: str, ledger: Ledger, *, groups: Collection[str] = (), unread: bool = False, limit: int = 100) -> list[Record]:
    """What a person was told, themselves or through a group: the unread first, then the newest.

    Args:
        unread: only those.
    """
    name, found = folded(person), []
    for one in _names(person, groups):
        found += [n for n in ledger.find(KIND, {"to": one, "taken_back": False}, newest_first=True, limit=LOOKED_AT) if _for(n, name)]
    once = {n["because"]: n for n in reversed(found)}  # told as a person and through a group: it is one
    kept = [n for n in once.values() if not (unread and is_read(n, person))]
    kept.sort(key=lambda n: (not is_read(n, person), n.created_at, n.id), reverse=True)
    return kept[:limit]


def unread(person: str, ledger: Ledger, *, groups: Collection[str] = ()) -> int:
    """How many of a person's newest notices are unread."""
    return len(notices(person, ledger, groups=groups, unread=True, limit=LOOKED_AT))


def is_read(record: Record, person: str) -> bool:
    """Whether this person has read it."""
    return folded(person) in record["read"]


def read(ids: Iterable[str], person: str, ledger: Ledger, clock: Clock, *, groups: Collection[str] = ()) -> int:
    """Mark notices as read by a person; how many were not before. Raises NotFound for one that is not theirs."""
    name, mine, done = folded(person), set(_names(person, groups)), 0
    for id in dict.fromkeys(ids):
        record = ledger.get(KIND, id)
        if record is None or record["to"] not in mine:
            raise NotFound(f"There is no notice {id!r} for you.", hint="See: treadle notices")
        for other in ledger.find(KIND, {"because": record["because"]}):
            if other["to"] in mine:
                done += _mark(other, name, ledger, clock) and other.id == id
    return done


def take_back(because: str, ledger: Ledger) -> None:
    """Nobody is told of a cause any longer, and its text is gone."""
    for record in ledger.find(KIND, {"because": because}):
        ledger.put(KIND, record.id, {**record.body, "text": "", "taken_back": True}, expect=record.version)
    for message in ledger.find(MESSAGE, {"because": because}):
        ledger.put(MESSAGE, message.id, {**message.body, "text": "", "told": True}, expect=message.version)


def deliver(ledger: Ledger, notifiers: Sequence[Notifier]) -> int:
    """Hand what was not told yet to the project's notifiers; what one does not take is tried again next time. Returns how many were told whole.

    A notifier that is told of every open alarm again and again (`repeats`) is for alarms only.
    """
    told = 0
    for record in ledger.find(MESSAGE, {"told": False}):
        missing, have = False, list(record["have"])
        message = Message(record.id, f"For {', '.join(record['to'])}: {record['what']} about {record['on']}", record["text"], "info")
        for place, notifier in enumerate(notifiers):
            key = f"{place}:{type(notifier).__name__}"
            if key in have or getattr(notifier, "repeats", False):
                continue
            try:
                notifier.send(message)
                have.append(key)
            except TreadleError as error:
                missing = True
                ledger.append("notice.not_sent", Ref(MESSAGE, record.id), {"error": str(error)})
        with suppress(Conflict):  # another process told it at the same moment, or it was taken back
            ledger.put(MESSAGE, record.id, {**record.body, "told": not missing, "have": have}, expect=record.version)
        told += not missing
    return told


def _names(person: str, groups: Collection[str]) -> list[str]:
    return list(dict.fromkeys(folded(name) for name in (person, *groups)))


def _for(record: Record, name: str) -> bool:
    """Nobody is told, through a group, of what they said themselves."""
    return record["to"] == name or folded(record["by"]) != name


def _mark(record: Record, name: str, ledger: Ledger, clock: Clock) -> bool:
    for _ in range(TRIES):  # another member of the group reads it at the same moment
        if name in record["read"]:
            return False
        with suppress(Conflict):
            ledger.put(KIND, record.id, {**record.body, "read": {**record["read"], name: iso(clock.now())}}, expect=record.version)
            return True
        record = ledger.get(KIND, record.id) or record
    raise Conflict(f"Notice {record.id} changes all the time.", hint="Try again.")
