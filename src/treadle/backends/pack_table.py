"""The table of packs (see `prediction_packs.py`), as SQLite and PostgreSQL both understand it. Whoever calls holds the transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from treadle.backends.prediction_packs import DAY, Key, Pack, bounds, key_of, page_of, unpacked
from treadle.core.ids import is_made
from treadle.ports.predictions import Mark, Numbered

Ask = Callable[[str, Sequence[Any]], list[Any]]
_COLUMNS = 'm.name, b.last, b.first_id, b.last_id, b.start, b."end", b.answered, b.taken, b.rows, b.packed'
_FROM = f"SELECT {_COLUMNS} FROM packs b JOIN models m ON m.id = b.model"
_OF_MODEL = "b.model = (SELECT id FROM models WHERE name = ?)"
_AT_A_TIME = 16  # packs read in one go
_IDS = 500  # of one statement
_FIRST = -(2**63)


class PackTable:
    """Its statements, with a question mark for each value.

    Args:
        ask: runs a statement and returns its rows.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def put(self, pack: Pack, model: int, last: int) -> None:
        """Store a pack whose last prediction has the number `last`."""
        self._ask(
            'INSERT INTO packs (last, model, first_id, last_id, start, "end", answered, taken, rows, packed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
            (last, model, pack.first_id, pack.last_id, pack.start, pack.end, pack.answered, pack.taken, pack.rows, pack.packed()),
        )

    def stored(self, pack: Pack) -> set[str]:
        """Those of its ids that are stored already: in a pack, as rows of their own in a log that began without packs, or moved."""
        found: set[str] = set()
        low, high = bounds(pack.first_id, pack.last_id)
        candidates = self._ask(f"{_FROM} WHERE b.last_id >= ? AND b.last_id <= ? AND b.first_id <= ?", (low, high, pack.last_id))
        older = [
            table for table in ("predictions", "moved")
            if (self._ask(f"SELECT max(id) FROM {table} WHERE id >= 'p-' AND id < 'p.'", ())[0][0] or "") >= pack.first_id
        ]  # fmt: skip
        if not candidates and not older:
            return found
        ids = pack.content.ids
        for row in candidates:
            found.update(unpacked(row[0], row[1:]).content.ids)
        for table in older:
            for start in range(0, len(ids), _IDS):
                some = ids[start : start + _IDS]
                found.update(row[0] for row in self._ask(f"SELECT id FROM {table} WHERE id IN ({', '.join('?' * len(some))})", some))
        return found.intersection(ids)

    def one(self, id: str) -> Numbered | None:
        """The prediction with this id."""
        found = (pack.one(id) for pack in self._near(key_of(id))) if is_made(id) else ()
        return next((numbered for numbered in found if numbered is not None), None)

    def find(self, ids: Iterable[str]) -> dict[str, tuple[Pack, int]]:
        """The packs that hold these ids, and their numbers, by id."""
        found: dict[str, tuple[Pack, int]] = {}
        opened: dict[int, tuple[Pack, dict[str, int]]] = {}
        for id in sorted(ids):
            if not is_made(id):
                continue
            key = key_of(id)
            opened = {last: kept for last, kept in opened.items() if kept[0].last_id >= key}  # ids are in order: none that follows is in the others
            near = [(pack, rows) for pack, rows in opened.values() if pack.first_id <= key <= pack.last_id and id in rows]
            if not near:
                for pack in self._near(key):
                    if pack.last not in opened:
                        opened[pack.last] = pack, pack.numbers()
                near = [(pack, rows) for pack, rows in opened.values() if id in rows]
            if near:
                found[id] = near[0][0], near[0][1][id]
        return found

    def _near(self, key: str) -> list[Pack]:
        low, high = bounds(key, key)
        rows = self._ask(f"{_FROM} WHERE b.last_id >= ? AND b.last_id <= ? AND b.first_id <= ?", (low, high, key))
        return [unpacked(row[0], row[1:]) for row in rows]

    def models_of(self, ids: Iterable[str]) -> dict[str, str]:
        """The model of each of these ids that is in a pack."""
        return {id: pack.model for id, (pack, _) in self.find(ids).items()}

    def page(self, model: str, mark: Mark, after: Key, end: int, size: int) -> list[Numbered]:
        """The first `size` predictions of a model after (moment, number) and before a moment that the mark covers."""
        return page_of(self._between(model, mark, after[0], end), after, end, size)

    def _between(self, model: str, mark: Mark, begin: int, end: int) -> Iterator[Pack]:
        # A pack is of one day: one that holds a moment began on its day.
        at = (max(_FIRST, begin // DAY * DAY), 0)
        where = '(b.start, b.last) > (?, ?) AND b.start < ? AND b."end" >= ? AND b.last <= ?'
        while True:
            sql = f"{_FROM} WHERE {_OF_MODEL} AND {where} ORDER BY b.start, b.last LIMIT {_AT_A_TIME}"
            rows = self._ask(sql, (model, *at, end, begin, mark.last))
            for row in rows:
                yield unpacked(row[0], row[1:])
            if len(rows) < _AT_A_TIME:
                return
            at = (rows[-1][4], rows[-1][1])

    def latest(self, model: str) -> Iterator[Pack]:
        """The packs of a model, those answered last first."""
        past: tuple[int, int] = (2**63 - 1, 2**63 - 1)
        where = f"WHERE {_OF_MODEL} AND (b.answered, b.last) < (?, ?)"
        while rows := self._ask(f"{_FROM} {where} ORDER BY b.answered DESC, b.last DESC LIMIT 4", (model, *past)):
            for row in rows:
                yield unpacked(row[0], row[1:])
            past = (rows[-1][6], rows[-1][1])

    def first_day(self, model: int, after: int) -> int | None:
        """The least moment at which a pack begins, from `after` on."""
        return self._ask("SELECT min(start) FROM packs WHERE model = ? AND start >= ?", (model, after))[0][0]  # type: ignore[no-any-return]

    def remove(self, ids: Collection[str], *, model: str = "", start: int = 0, end: int = 0) -> int:
        """Take predictions out of the packs that hold them; returns how many.

        Args:
            model, start, end: look through the packs of this model and time, instead of for each id.
        """
        gone, removed = set(ids), 0
        packs: Iterable[Pack] = self._of_time(model, start, end) if model else [pack for pack, _ in self.find(gone).values()]
        seen: set[int] = set()
        for pack in packs:
            if pack.last in seen:
                continue
            seen.add(pack.last)
            left = pack.without(gone)
            if left is None:
                self._ask("DELETE FROM packs WHERE last = ?", (pack.last,))
            elif left is not pack:
                self._ask("UPDATE packs SET rows = ?, packed = ? WHERE last = ?", (left.rows, left.packed(), pack.last))
            removed += pack.rows - (left.rows if left is not None else 0)
        return removed

    def _of_time(self, model: str, start: int, end: int) -> Iterator[Pack]:
        found = self._ask(f"SELECT b.last FROM packs b WHERE {_OF_MODEL} AND b.start >= ? AND b.start < ?", (model, start, end))
        for (last,) in found:
            for row in self._ask(f"{_FROM} WHERE b.last = ?", (last,)):
                yield unpacked(row[0], row[1:])
