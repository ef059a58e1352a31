"""A prediction log whose closed days lie in files of columns, in the blobs; whoever reads it sees one log.

A day is moved in two steps: its file is stored, which changes nothing for anybody; then one commit of the log says so and removes the rows. Killed
between them, the next time stores the same bytes once more under the same address. The log keeps the outcomes, so that late and corrected ones are
as before, and for each moved id where it is, so that one prediction is found in milliseconds and none is written twice.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, islice
from typing import Any

from treadle.core.errors import NotFound
from treadle.ports.blobs import Blobs
from treadle.ports.predictions import Compactable, Mark, Numbered, Outcome, Prediction, Segment

DAY = 86_400_000_000  # microseconds
_PAGE = 20_000
_TRIES = 20  # of a reader whose files are replaced while it reads


class CompactedPredictions:
    """A log and its files.

    Args:
        log: holds what was not moved, the outcomes, and where the rest is.
        blobs: opens the store of the files when it is first needed.
    """

    def __init__(self, log: Compactable, blobs: Callable[[], Blobs]) -> None:
        self.log = log
        self._open = blobs
        self.write = log.write  # nothing between the endpoint and the log
        self.outcomes_of, self.count, self.strays = log.outcomes_of, log.count, log.strays

    def get(self, id: str) -> Prediction | None:
        from treadle.backends import prediction_files

        for _ in range(_TRIES):
            found = self.log.get(id)
            place = self.log.place(id) if found is None else None
            if place is None:
                return found or self.log.get(id)  # it may have been moved in between, and back in an erasure that was undone
            try:
                return prediction_files.row(self._blobs.path(place[0].address), place[0].model, place[1])
            except (NotFound, OSError):  # the file was replaced since: the log says by which
                continue
        raise NotFound(f"The file of prediction {id!r} is gone.", hint="Restore the blobs from a backup.")

    def between(self, model: str, start: int, end: int, *, batch: int = 10_000) -> Iterator[list[tuple[Prediction, Outcome | None]]]:
        size = max(1, batch)
        mark, segments = self._look(model, None)
        if mark is None:
            return
        if not segments:
            yield from self._plain(model, mark, start, end, size)
            return
        yield from self._merged(model, mark, segments, (start, 0), end, size)

    def last(self, model: str, count: int = 1) -> list[Prediction]:
        from treadle.backends import prediction_files

        found, segments = self.log.last(model, count), self.log.segments(model) if count > 0 else []
        if not segments or (len(found) == count and found[-1].answered > max(s.newest for s in segments)):
            return found  # nothing in the files is as new
        numbers = self.log.numbers([p.id for p in found])
        ranked = [(p.answered, numbers.get(p.id, 0), p) for p in found]
        for segment in sorted(segments, key=lambda s: -s.newest):
            if len(ranked) >= count and ranked[count - 1][0] > segment.newest:
                break
            ranked += [(n.prediction.answered, n.seq, n.prediction) for n in prediction_files.newest(self._blobs.path(segment.address), model, count)]
            ranked = sorted({r[2].id: r for r in ranked}.values(), key=lambda r: (-r[0], -r[1]))[:count]
        return [p for _, _, p in ranked]

    def compact(self, before: int, tell: Callable[[Segment], None] = lambda segment: None) -> int:
        """Move every day that ended by `before` (microseconds since 1970 UTC) into a file; returns how many predictions were moved."""
        moved = 0
        for model, start in self.log.days(before):
            mark = self.log.mark(model)
            assert mark is not None
            rows: list[Numbered] = []
            after = (start, 0)
            while page := self.log.page(model, mark, after, start + DAY, _PAGE):
                rows += [numbered for numbered, _ in page]
                after = (page[-1][0].prediction.moment, page[-1][0].seq)
            if rows:
                segment = self._stored(model, start, rows)
                self.log.move(segment, [n.prediction.id for n in rows])
                tell(segment)
                moved += len(rows)
        return moved

    def drop(self, before: int) -> int:
        """Forget predictions of days that ended by `before`, with their outcomes; returns how many."""
        self.compact(before)
        gone = [s for s in self.log.segments() if s.end <= before]
        for segment in gone:
            self.log.drop(segment)
            self._blobs.delete(segment.address)
        return sum(s.rows for s in gone)

    def forget(self, found: Mapping[str, Sequence[str]]) -> int:
        """Remove predictions for good, moved or not, with their outcomes; files that hold any are written anew, the old ones deleted.

        Args:
            found: ids by model.
        """
        removed = 0
        for model, ids in found.items():
            doomed = set(ids)
            for segment in self.log.segments(model):
                rows = self._all_of(segment)
                kept = [n for n in rows if n.prediction.id not in doomed]
                if len(kept) == len(rows):
                    continue
                if kept:
                    self.log.move(self._stored(model, segment.start, kept), [n.prediction.id for n in kept], instead_of=segment)
                else:
                    self.log.drop(segment)
                self._blobs.delete(segment.address)
                removed += len(rows) - len(kept)
            removed += self.log.forget(list(ids))
        return removed

    def addresses(self) -> set[str]:
        """The blobs that hold predictions."""
        return {s.address for s in self.log.segments()}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)  # close, scrub and the like are the log's

    @property
    def _blobs(self) -> Blobs:
        return self._open()

    def _stored(self, model: str, start: int, rows: Sequence[Numbered]) -> Segment:
        from treadle.backends import prediction_files

        address = self._blobs.put(partial(prediction_files.write, prediction_files.frame_of(rows)))
        newest, last = max(n.prediction.answered for n in rows), max(n.seq for n in rows)
        return Segment(0, model, start, start + DAY, address, len(rows), newest, last)

    def _all_of(self, segment: Segment) -> list[Numbered]:
        from treadle.backends import prediction_files

        return list(prediction_files.after(self._blobs.path(segment.address), segment.model, (-(1 << 63), -1), 1 << 62, 1 << 62))

    def _look(self, model: str, mark: Mark | None) -> tuple[Mark | None, list[Segment]]:
        """How far the log is, or was, and the segments there are at one moment."""
        while True:
            now = self.log.mark(model)
            if now is None:
                return None, []
            segments = self.log.segments(model)
            again = self.log.mark(model)
            if again is not None and again.generation == now.generation:
                return now if mark is None else mark._replace(generation=now.generation), segments

    def _plain(self, model: str, mark: Mark, start: int, end: int, size: int) -> Iterator[list[tuple[Prediction, Outcome | None]]]:
        """While nothing was moved."""
        after = (start, 0)
        while True:
            page = self.log.page(model, mark, after, end, size)
            now, segments = self._look(model, mark)
            if now is None:
                return
            if now.generation != mark.generation:
                yield from self._merged(model, now, segments, after, end, size)
                return
            if page:
                yield [(numbered.prediction, outcome) for numbered, outcome in page]
            if len(page) < size:
                return
            after = (page[-1][0].prediction.moment, page[-1][0].seq)

    def _merged(
        self, model: str, mark: Mark, segments: list[Segment], after: tuple[int, int], end: int, size: int
    ) -> Iterator[list[tuple[Prediction, Outcome | None]]]:
        """Both in the order of (moment, number). When rows are moved meanwhile, it goes on from where it was with what there is then."""
        while True:
            rows = heapq.merge(self._hot(model, mark, after, end, size), self._cold(segments, after, end, mark.last), key=_key)
            while True:
                try:
                    some = list(islice(rows, size))
                except (NotFound, OSError):  # a file was replaced: look again
                    some = []
                    now, segments = self._look(model, mark)
                    if now is None or now.generation == mark.generation:
                        raise
                    mark = now
                    break
                now, fresh = self._look(model, mark)
                if now is None:
                    return
                if now.generation != mark.generation:  # what was just read may lack rows on their way
                    mark, segments = now, fresh
                    break
                if some:
                    outcomes = self.log.counting([n.prediction.id for n in some], mark)
                    yield [(n.prediction, outcomes.get(n.prediction.id)) for n in some]
                    after = _key(some[-1])
                if len(some) < size:
                    return

    def _hot(self, model: str, mark: Mark, after: tuple[int, int], end: int, size: int) -> Iterator[Numbered]:
        while page := self.log.page(model, mark, after, end, size):
            yield from (numbered for numbered, _ in page)
            after = _key(page[-1][0])

    def _cold(self, segments: Sequence[Segment], after: tuple[int, int], end: int, last: int) -> Iterator[Numbered]:
        from treadle.backends import prediction_files

        wanted = [s for s in segments if s.end > after[0] and s.start < end]
        for _, of_day in groupby(wanted, key=lambda s: s.start):
            files = [prediction_files.after(self._blobs.path(s.address), s.model, after, end, last) for s in of_day]
            yield from heapq.merge(*files, key=_key)


def _key(numbered: Numbered) -> tuple[int, int]:
    return numbered.prediction.moment, numbered.seq


