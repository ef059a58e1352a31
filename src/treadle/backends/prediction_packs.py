"""How a database holds predictions: packed, those of one commit or one request as one row, found by the time in their ids.

An id of our own begins with the moment it was made. A pack holds ids of at most ten seconds, so the packs that may hold an id are those whose last
id is at most ten seconds younger: few, by an index with one entry a pack. Predictions with ids that a caller chose are rows of their own, with an
index entry each. What is in a pack is MessagePack; a pack that loses rows to an erasure is written anew.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import msgspec

from treadle.core.ids import base32, is_made, made_at
from treadle.ports.prediction_blocks import Block
from treadle.ports.predictions import Mark, Numbered, Outcome, Prediction

DAY = 86_400_000_000
SPAN = 10_000  # milliseconds between the ids of a pack
_MOST = 1_024  # predictions of a pack that were not one request: what is unpacked to get at one
_LATEST = (1 << 50) - 1  # milliseconds that an id can say
Key = tuple[int, int]  # (moment, number)
Answer = tuple[Numbered, Outcome | None]


class Loose(msgspec.Struct, frozen=True, array_like=True, tag="loose", gc=False):
    """Predictions of several requests. `places` are their numbers in the pack, where some were erased."""

    rows: tuple[Prediction, ...]
    places: tuple[int, ...] | None = None

    @property
    def ids(self) -> list[str]:
        return [p.id for p in self.rows]

    def predictions(self) -> list[Prediction]:
        return list(self.rows)

    def numbers(self) -> Sequence[int]:
        return range(len(self.rows)) if self.places is None else self.places

    def without(self, ids: Collection[str]) -> Loose | None:
        kept = [(p, place) for p, place in zip(self.rows, self.numbers()) if p.id not in ids]
        if len(kept) == len(self.rows):
            return self
        return Loose(tuple(p for p, _ in kept), tuple(place for _, place in kept)) if kept else None


_decode = msgspec.msgpack.Decoder(Loose | Block).decode
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
    content: Loose | Block
    last: int = 0

    def numbered(self) -> list[Numbered]:
        """Its predictions with their numbers."""
        first = self.last - self.taken + 1
        numbers = self.content.rows if isinstance(self.content, Block) else self.content.numbers()
        return [Numbered(first + number, p) for number, p in zip(numbers, self.content.predictions())]

    def numbers(self) -> dict[str, int]:
        """The numbers of its predictions by id."""
        first = self.last - self.taken + 1
        numbers = self.content.rows if isinstance(self.content, Block) else self.content.numbers()
        return {id: first + number for id, number in zip(self.content.ids, numbers)}

    def one(self, id: str) -> Numbered | None:
        """One of them."""
        first = self.last - self.taken + 1
        if isinstance(self.content, Block):
            at = self.content.place(id)
            return None if at is None else Numbered(first + self.content.rows[at], self.content.predictions([at])[0])
        return next((Numbered(first + number, p) for number, p in zip(self.content.numbers(), self.content.rows) if p.id == id), None)

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
    run: list[Prediction] = []
    plain: list[Prediction] = []
    model, day, least, most = "", 0, "", ""

    def close() -> None:
        nonlocal run, plain
        if run:
            found.append(_loose(run))
        if plain:
            found.append(plain)
        run, plain = [], []

    for entry in entries:
        if isinstance(entry, Block):
            close()
            found.append(_of_request(entry))
        elif not is_made(entry.id):
            if run:
                close()
            plain.append(entry)
        else:
            key = key_of(entry.id)
            same = run and entry.model == model and entry.moment // DAY == day and len(run) < _MOST
            if not (same and (least <= key <= most or _near(min(least, key), max(most, key)))):
                close()
                model, day, least, most = entry.model, entry.moment // DAY, key, key
            least, most = min(least, key), max(most, key)
            run.append(entry)
    close()
    return found


def _loose(run: list[Prediction]) -> Pack:
    each: dict[str, Prediction] = {}
    for p in run:
        each.setdefault(p.id, p)
    rows = tuple(each.values())
    keys = [key_of(p.id) for p in rows]
    moments = [p.moment for p in rows]
    return Pack(rows[0].model, min(keys), max(keys), min(moments), max(moments), max(p.answered for p in rows), len(rows), len(rows), Loose(rows))


def _near(least: str, most: str) -> bool:
    return least[:12] == most[:12] or made_at(most) - made_at(least) <= SPAN


def _of_request(block: Block) -> Pack:
    start, end = block.span
    return Pack(block.model, block.base, block.base, start, end, block.answered, block.count, len(block), block)


def key_of(id: str) -> str:
    """What an id is found by: itself, without the place of a request's row."""
    return id.partition(".")[0]


def bounds(first: str, last: str) -> tuple[str, str]:
    """Between which the last ids of the packs lie that may share an id with ids from `first` to `last`."""
    return first, f"p-{base32(min(made_at(last) + SPAN, _LATEST), 10)}~"


def page_of(packs: Iterable[Pack], after: Key, end: int, size: int) -> list[Numbered]:
    """The first `size` predictions after a key and before a moment, of packs in the order of their starts and numbers."""
    found: list[Numbered] = []
    for pack in packs:
        if len(found) >= size:
            found.sort(key=key)
            del found[size:]
            if (pack.start, pack.last - pack.taken + 1) > key(found[-1]):
                break
        found += [n for n in pack.numbered() if after < key(n) and n.prediction.moment < end]
    found.sort(key=key)
    return found[:size]


def merged(
    rows: list[Answer], packed: list[Numbered], size: int, mark: Mark, counting: Callable[[list[str], Mark], dict[str, Outcome]]
) -> list[Answer]:
    """One page of rows and of packs together, with the outcomes that count."""
    if not packed:
        return rows
    outcomes = counting([n.prediction.id for n in packed], mark) if mark.last_outcome else {}
    both = [*rows, *((n, outcomes.get(n.prediction.id)) for n in packed)]
    both.sort(key=lambda pair: key(pair[0]))
    return both[:size]


def latest(rows: list[Numbered], packs: Iterable[Pack], count: int) -> list[Prediction]:
    """The `count` answered last, of rows and of packs in the order of their latest answers, newest first."""
    found = sorted(rows, key=_answered, reverse=True)
    for pack in packs:
        if len(found) >= count and found[count - 1].prediction.answered > pack.answered:
            break
        found = sorted([*found, *pack.numbered()], key=_answered, reverse=True)[:count]
    return [n.prediction for n in islice(found, count)]


def key(numbered: Numbered) -> Key:
    """The order in which predictions are read."""
    return numbered.prediction.moment, numbered.seq


def _answered(numbered: Numbered) -> Key:
    return numbered.prediction.answered, numbered.seq
