"""How a database holds predictions: packed, those of one commit or one request as one row, found by the time in their ids.

An id of our own begins with the moment it was made. A pack holds ids of at most ten seconds, so the packs that may hold an id are those whose last
id is at most ten seconds younger: few, by an index with one entry a pack. Predictions with ids that a caller chose are rows of their own, with an
index entry each. What is in a pack is MessagePack; a pack that loses rows to an erasure is written anew.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import msgspec

from treadle.core.ids import base32, is_made, made_at
from treadle.ports.prediction_blocks import Block, each
from treadle.ports.predictions import Mark, Numbered, Outcome, Prediction

DAY = 86_400_000_000
SPAN = 10_000  # milliseconds between the ids of a pack
_MOST = 1_024  # predictions of a pack, if they are not of one request: what is unpacked to get at one
_LATEST = (1 << 50) - 1  # milliseconds that an id can say
Key = tuple[int, int]  # (moment, number)
Answer = tuple[Numbered, Outcome | None]


class Entries(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a pack holds. A prediction takes one number, a block one for each row it had.

    Args:
        starts: the first number of each within the pack, where some were erased; else each begins where the one before it ends.
    """

    entries: tuple[Prediction | Block, ...]
    starts: tuple[int, ...] | None = None

    @property
    def ids(self) -> list[str]:
        found: list[str] = []
        for entry in self.entries:
            found += entry.ids if isinstance(entry, Block) else (entry.id,)
        return found

    def begins(self) -> Sequence[int]:
        """The first number of each entry."""
        if self.starts is not None:
            return self.starts
        return list(accumulate((e.count if isinstance(e, Block) else 1 for e in self.entries[:-1]), initial=0))

    def numbers(self) -> list[int]:
        """The number of each prediction."""
        found: list[int] = []
        for entry, start in zip(self.entries, self.begins()):
            found += [start + place for place in entry.rows] if isinstance(entry, Block) else (start,)
        return found

    def one(self, id: str) -> tuple[int, Prediction] | None:
        """A prediction and its number."""
        for entry, start in zip(self.entries, self.begins()):
            if isinstance(entry, Block):
                at = entry.place(id)
                if at is not None:
                    return start + entry.rows[at], entry.predictions([at])[0]
            elif entry.id == id:
                return start, entry
        return None

    def without(self, ids: Collection[str]) -> Entries | None:
        """The same without some; None when nothing is left."""
        left: list[tuple[int, Prediction | Block]] = []
        changed = False
        for entry, start in zip(self.entries, self.begins()):
            kept = entry.without(ids) if isinstance(entry, Block) else None if entry.id in ids else entry
            changed = changed or kept is not entry
            if kept is not None:
                left.append((start, kept))
        if not changed:
            return self
        return Entries(tuple(e for _, e in left), tuple(start for start, _ in left)) if left else None


_decode = msgspec.msgpack.Decoder(Entries).decode
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Pack:
    """One row of the table of packs.

    Args:
        first_id, last_id: the least and greatest of its ids, without the places of a request's rows.
        start, end: the least and greatest moment; of one day. answered: the latest.
        taken: numbers it takes, from `last - taken + 1` to `last`. rows: predictions in it.
        last: 0 before it is stored.
    """

    model: str
    first_id: str
    last_id: str
    start: int
    end: int
    answered: int
    taken: int
    rows: int
    content: Entries
    last: int = 0

    @property
    def first(self) -> int:
        """The number of its first prediction."""
        return self.last - self.taken + 1

    def numbered(self) -> list[Numbered]:
        """Its predictions with their numbers."""
        first = self.first
        return [Numbered(first + number, p) for number, p in zip(self.content.numbers(), each(self.content.entries))]

    def numbers(self) -> dict[str, int]:
        """The numbers of its predictions by id."""
        first = self.first
        return {id: first + number for id, number in zip(self.content.ids, self.content.numbers())}

    def one(self, id: str) -> Numbered | None:
        """One of them."""
        found = self.content.one(id)
        return None if found is None else Numbered(self.first + found[0], found[1])

    def without(self, ids: Collection[str]) -> Pack | None:
        """The same without these; None when nothing is left."""
        left = self.content.without(ids)
        return self if left is self.content else None if left is None else replace(self, content=left, rows=len(left.ids))

    def packed(self) -> bytes:
        return _encode(self.content)


def unpacked(model: str, row: Sequence[object]) -> Pack:
    """A pack from its row: last, first_id, last_id, start, end, answered, taken, rows, packed."""
    last, first_id, last_id, start, end, answered, taken, rows, content = row
    return Pack(model, first_id, last_id, start, end, answered, taken, rows, _decode(content), last)  # type: ignore[arg-type]


def parts_of(entries: Iterable[Prediction | Block]) -> list[Pack | list[Prediction]]:
    """Entries as what is stored, in their order: packs, and runs of predictions that are rows of their own."""
    found: list[Pack | list[Prediction]] = []
    run: list[Prediction | Block] = []
    plain: list[Prediction] = []
    model, day, least, most, size = "", 0, "", "", 0

    def close() -> None:
        nonlocal run, plain
        if run:
            found.append(_pack(run, least, most))
        if plain:
            found.append(plain)
        run, plain = [], []

    for entry in entries:
        if isinstance(entry, Block):
            key, moment, rows = entry.base, entry.span[0], entry.count
        elif is_made(entry.id):
            key, moment, rows = key_of(entry.id), entry.moment, 1
        else:
            if run:
                close()
            plain.append(entry)
            continue
        same = run and entry.model == model and moment // DAY == day and size + rows <= _MOST
        if not (same and (least <= key <= most or _near(min(least, key), max(most, key)))):
            close()
            model, day, least, most, size = entry.model, moment // DAY, key, key, 0
        least, most, size = min(least, key), max(most, key), size + rows
        run.append(entry)
    close()
    return found


def _pack(run: list[Prediction | Block], least: str, most: str) -> Pack:
    """Each id once: the first counts."""
    ids = Entries(tuple(run)).ids
    if len(set(ids)) < len(ids):
        run = _once(run)
    spans = [entry.span if isinstance(entry, Block) else (entry.moment, entry.moment) for entry in run]
    content = Entries(tuple(run))
    taken = sum(entry.count if isinstance(entry, Block) else 1 for entry in run)
    rows = sum(len(entry) if isinstance(entry, Block) else 1 for entry in run)
    answered = max(entry.answered for entry in run)
    return Pack(run[0].model, least, most, min(s for s, _ in spans), max(e for _, e in spans), answered, taken, rows, content)


def _once(run: list[Prediction | Block]) -> list[Prediction | Block]:
    seen: set[str] = set()
    kept: list[Prediction | Block] = []
    for entry in run:
        left: Prediction | Block | None
        if isinstance(entry, Block):
            left = entry.without(seen)
            seen.update(entry.ids)
        else:
            left = None if entry.id in seen else entry
            seen.add(entry.id)
        if left is not None:
            kept.append(left)
    return kept


def _near(least: str, most: str) -> bool:
    return least[:12] == most[:12] or made_at(most) - made_at(least) <= SPAN


def key_of(id: str) -> str:
    """What an id is found by: itself, without the place of a request's row."""
    return id.partition(".")[0]


def bounds(first: str, last: str) -> tuple[str, str]:
    """Between which the last ids of the packs lie that may share an id with ids from `first` to `last`."""
    return first, f"p-{base32(min(made_at(last) + SPAN, _LATEST), 10)}~"


def page_of(packs: Iterable[Pack], after: Key, end: int, size: int) -> list[Numbered]:
    """The first `size` predictions after a key and before a moment, of packs in the order of their starts and numbers."""
    found: list[tuple[int, int, Prediction]] = []  # numbers differ, so predictions are never compared
    for pack in packs:
        if len(found) >= size:
            found.sort()
            del found[size:]
            if (pack.start, pack.first) > found[-1][:2]:
                break
        first = pack.first
        numbers, rows = pack.content.numbers(), each(pack.content.entries)
        if (pack.start, pack.first) > after and pack.end < end:
            found += [(p.moment, first + number, p) for number, p in zip(numbers, rows)]
        else:
            found += [(p.moment, first + n, p) for n, p in zip(numbers, rows) if (p.moment, first + n) > after and p.moment < end]
    found.sort()
    return [Numbered(number, p) for _, number, p in found[:size]]


def merged(
    rows: list[Answer], packed: list[Numbered], size: int, mark: Mark, counting: Callable[[list[str], Mark], dict[str, Outcome]]
) -> list[Answer]:
    """One page of rows and of packs together, with the outcomes that count."""
    if not packed:
        return rows
    outcomes = counting([n.prediction.id for n in packed], mark) if mark.last_outcome else {}
    answers: list[Answer] = [(n, outcomes.get(n.prediction.id)) for n in packed]
    if not rows:
        return answers
    answers += rows
    answers.sort(key=lambda answer: (answer[0].prediction.moment, answer[0].seq))
    return answers[:size]


def latest(rows: list[Numbered], packs: Iterable[Pack], count: int) -> list[Prediction]:
    """The `count` answered last, of rows and of packs in the order of their latest answers, newest first."""
    best = [(_answered(n), n.prediction) for n in rows]  # the smallest of the best so far comes first
    best.sort(key=_key)
    del best[: max(0, len(best) - count)]
    for pack in packs:
        if len(best) >= count and best[0][0][0] > pack.answered:
            break
        for numbered in pack.numbered():
            entry = (_answered(numbered), numbered.prediction)
            if len(best) < count:
                insort(best, entry, key=_key)
            elif entry[0] > best[0][0]:
                insort(best, entry, key=_key)
                del best[0]
    return [prediction for _, prediction in reversed(best)]


def _key(entry: tuple[Key, Prediction]) -> Key:
    return entry[0]


def _answered(numbered: Numbered) -> Key:
    return numbered.prediction.answered, numbered.seq
