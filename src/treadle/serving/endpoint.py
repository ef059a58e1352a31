"""The endpoint: typed rows in, answers out, whoever carries the bytes. Which version answers is the traffic's say.

A model that takes microseconds is called where the request is read; one that takes longer, or is asked for many rows, is called in a thread of its
own, so that other requests are answered meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from treadle.core.errors import InvalidRequest, NotFound, StorageError, Unavailable
from treadle.core.ids import new_ids, places_of
from treadle.ports.online import OnlineStore
from treadle.serving.answers import Answered, share_of, side
from treadle.serving.batching import Batching
from treadle.serving.column_requests import AnsweredColumns, Columns
from treadle.serving.loaded import Features, Loaded, Outputs
from treadle.serving.lookup import Lookup
from treadle.serving.rows import Row

AT_ONCE = 0.002  # seconds a call may take where requests are read
SECONDS = 10.0  # a request may wait for its model


@dataclass(frozen=True)
class Missed:
    """A version that should answer by the deployment record, and cannot be opened: why in words for a caller, and the whole error for the log."""

    number: int
    role: str
    why: str
    error: str


@dataclass(frozen=True)
class Traffic:
    """Who answers: immutable, so that a swap is one assignment and no request sees half of it.

    Args:
        stage: 'none', 'shadow' or 'trial' (the other version is asked and not heard), 'canary' (it answers its share), 'stopped'.
        key: what keeps a caller on one side: 'field:NAME', 'header:NAME', or '' (the prediction's id).
        missed: what should answer and cannot be opened; then another version answers in its place, or none beside the champion.
    """

    champion: Loaded | None
    challenger: Loaded | None = None
    stage: str = "none"
    share: float = 0.0
    key: str = ""
    missed: tuple[Missed, ...] = ()


@dataclass(slots=True)
class _Asked:
    """One request on its way to the models. It keeps the traffic it came in under: no answer mixes what was before a swap and after it."""

    traffic: Traffic
    champion: Loaded
    rows: Sequence[Row]
    ids: Sequence[str] | None
    begun: int
    now: int
    moments: Sequence[int]
    features: Sequence[Features]
    missing: Sequence[Mapping[str, str]] | None
    matrix: np.ndarray
    caller: str = ""
    prepared: float = 0.0
    other: np.ndarray | None = None  # the challenger's matrix


class Endpoint:
    """Answers rows of one model.

    Args:
        now: the present in microseconds since 1970 UTC, for rows that do not say their own moment.
        when_down: what is done while the online store does not answer: 'refuse' requests, or 'answer' them without its features.
        seconds: how long a request may wait for its model.
    """

    def __init__(
        self, model: str, store: OnlineStore, now: Callable[[], int] = lambda: time.time_ns() // 1000,
        when_down: Literal["refuse", "answer"] = "refuse", seconds: float = SECONDS,
    ) -> None:  # fmt: skip
        self.model = model
        self.traffic = Traffic(None)
        self.lookup = Lookup(store, when_down)
        self.challenger_failures = 0
        self.calling_since = 0.0  # when a model was called where requests are read; 0 if none is now
        self._seconds = seconds
        self.now = now
        self._batching: dict[Loaded, Batching] = {}

    def champion(self) -> Loaded:
        """The version that answers. Raises: Unavailable when nothing is deployed or the model was stopped."""
        traffic = self.traffic
        if traffic.champion is None or traffic.stage == "stopped":
            why = "it was stopped" if traffic.champion else "no version is loaded"
            raise Unavailable(f"Model {self.model!r} does not answer: {why}.")
        return traffic.champion

    def version(self, number: int) -> Loaded:
        """A version that is loaded now. Raises: NotFound, Unavailable."""
        champion, challenger = self.champion(), self.traffic.challenger
        for loaded in (champion, challenger):
            if loaded is not None and loaded.number == number:
                return loaded
        raise NotFound(f"Version {number} of {self.model!r} is not loaded.", hint=f"Version {champion.number} answers.")

    def answer(
        self, rows: Sequence[Row], ids: Sequence[str] | None = None, only: Loaded | None = None, caller: str = ""
    ) -> Answered | Awaitable[Answered]:
        """Answer typed rows, at once if the models take little time, else as something to wait for.

        Args:
            rows: as the champion's reader gives them (`only`'s, if given).
            only: the version that must answer, if the caller named one.
            caller: the value of the header that keeps a caller on one side of a split, if the traffic asks for one.
        Raises: Unavailable when nothing is deployed or the model was stopped; InvalidRequest when there are no rows.
        """
        asked = self._asked(rows, ids, only, caller)
        champion, challenger = asked.champion, asked.traffic.challenger
        count = len(asked.rows)
        expected = champion.timing.at_best(count)
        if challenger is not None:
            expected += challenger.timing.at_best(count)
        if expected > AT_ONCE:
            return self._later(asked)
        outputs = self._call(champion, asked.matrix)
        other: Outputs | None = None
        if challenger is not None and asked.other is not None:
            try:
                other = self._call(challenger, asked.other)
            except Exception:  # whatever a challenger does, the caller gets the champion's answer; the failure counts against it
                self.challenger_failures += count
        return self._answered(asked, outputs, other)

    def predict(self, rows: Sequence[Any], ids: Sequence[str] | None = None, caller: str = "") -> Answered:
        """Answer rows given as objects, here and now. All are checked before any is answered.

        Raises: InvalidRequest naming the row and its fields; Unavailable.
        """
        asked = self._asked(self.champion().reader.rows(rows), ids, None, caller)
        outputs = self._call(asked.champion, asked.matrix)
        other: Outputs | None = None
        if asked.traffic.challenger is not None and asked.other is not None:
            try:
                other = self._call(asked.traffic.challenger, asked.other)
            except Exception:
                self.challenger_failures += len(rows)
        return self._answered(asked, outputs, other)

    def answer_columns(self, asked: Columns) -> AnsweredColumns | Awaitable[AnsweredColumns] | None:
        """Answer columns, as `answer` does rows; None where rows are the way: for another version than they were read for, or a split among two.

        Raises: Unavailable when nothing is deployed or the model was stopped.
        """
        begun = time.perf_counter_ns()
        champion, traffic, count = self.champion(), self.traffic, len(asked)
        challenger = traffic.challenger
        if champion is not asked.loaded or (
            challenger is not None
            and (traffic.stage == "canary" or (challenger.features, challenger.request) != (champion.features, champion.request))
        ):
            return None
        matrix = champion.column_matrix(asked.features, count)
        beside: np.ndarray | None = None
        if challenger is not None:
            try:
                beside = challenger.column_matrix(asked.features, count)
            except Exception:
                self.challenger_failures += count
        prepared = (time.perf_counter_ns() - begun) / 1e9

        def answered(outputs: Outputs, other: Outputs | None) -> AnsweredColumns:
            if other is not None and challenger is not None:
                challenger.service.beside(champion.service)
                champion.service.beside(challenger.service)
            base = new_ids("p", 1)[0]
            return AnsweredColumns(
                self.model, base, places_of(base, count), asked, champion, np.asarray(outputs), challenger if other is not None else None,
                None if other is None else np.asarray(other), (time.perf_counter_ns() - begun) // 1000 // count, prepared,
            )  # fmt: skip

        expected = champion.timing.at_best(count) + (challenger.timing.at_best(count) if challenger is not None else 0.0)
        if expected > AT_ONCE:
            return self._later_columns(champion, challenger, matrix, beside, answered)
        outputs, other = self._call(champion, matrix), None
        if challenger is not None and beside is not None:
            try:
                other = self._call(challenger, beside)
            except Exception:
                self.challenger_failures += count
        return answered(outputs, other)

    async def _later_columns(
        self, champion: Loaded, challenger: Loaded | None, matrix: np.ndarray, beside: np.ndarray | None,
        answered: Callable[[Outputs, Outputs | None], AnsweredColumns],
    ) -> AnsweredColumns:  # fmt: skip
        outputs, other = await self._of(champion).score(matrix), None
        if challenger is not None and beside is not None:
            try:
                other = await self._of(challenger).score(beside)
            except Exception:
                self.challenger_failures += len(matrix)
        return answered(outputs, other)

    @property
    def hung(self) -> bool:
        """Whether a model does not come back from a call."""
        since = self.calling_since
        return (since > 0 and time.monotonic() - since > self._seconds) or any(batching.hung for batching in list(self._batching.values()))

    @property
    def waiting(self) -> int:
        """Rows that wait for a model, or are being answered by one."""
        return sum(batching.rows for batching in self._batching.values())

    def ages(self) -> dict[str, float]:
        """Seconds since the newest value of each view became known; nothing of a view that has none, or while the store does not answer."""
        champion = self.traffic.champion
        try:
            newest = {} if champion is None else {view: self.lookup.store.newest(view) for view in champion.manifest["views"]}
        except (Unavailable, StorageError):
            return {}
        return {view: (self.now() - time) / 1e6 for view, time in newest.items() if time is not None}

    def _asked(self, rows: Sequence[Row], ids: Sequence[str] | None, only: Loaded | None, caller: str) -> _Asked:
        begun = time.perf_counter_ns()
        champion = only or self.champion()
        traffic = self.traffic if only is None else Traffic(only)
        if not rows:
            raise InvalidRequest("There are no rows.", hint="Send one object of fields, or {'rows': [{...}, ...]}.")
        now = self.now()
        moments = champion.reader.moments(rows, now)
        features, missing = champion.feature_rows(rows, moments, self.lookup.get_many)
        asked = _Asked(traffic, champion, rows, ids, begun, now, moments, features, missing, champion.matrix(features), caller)
        challenger = traffic.challenger
        if challenger is not None:
            try:
                asked.other = challenger.matrix(self._features_of(challenger, asked))
            except Exception:
                self.challenger_failures += len(rows)
        asked.prepared = (time.perf_counter_ns() - begun) / 1e9
        return asked

    def _features_of(self, challenger: Loaded, asked: _Asked) -> Sequence[Features]:
        if challenger.features == asked.champion.features and challenger.request == asked.champion.request:
            return asked.features
        sent = [asked.champion.reader.values(row) for row in asked.rows]
        return [features for features, _ in challenger.look_up(sent, asked.moments, self.lookup.get_many)]

    def _call(self, loaded: Loaded, matrix: np.ndarray) -> Outputs:
        self.calling_since = time.monotonic()
        try:
            return loaded.call(matrix)
        finally:
            self.calling_since = 0.0

    async def _later(self, asked: _Asked) -> Answered:
        outputs = await self._of(asked.champion).score(asked.matrix)
        other: Outputs | None = None
        challenger = asked.traffic.challenger
        if challenger is not None and asked.other is not None:
            try:
                other = await self._of(challenger).score(asked.other)
            except Exception:
                self.challenger_failures += len(asked.rows)
        return self._answered(asked, outputs, other)

    def _of(self, loaded: Loaded) -> Batching:
        batching = self._batching.get(loaded)
        if batching is None:
            current = (self.traffic.champion, self.traffic.challenger)
            for old in [version for version, waiting in self._batching.items() if version not in current and not waiting.rows]:
                self._batching.pop(old).close()
            batching = self._batching[loaded] = Batching(loaded, self._seconds)
        return batching

    def _answered(self, asked: _Asked, outputs: Outputs, other: Outputs | None) -> Answered:
        traffic, count = asked.traffic, len(asked.rows)
        ids, base = asked.ids, ""
        if not ids:
            ids = new_ids("p", 1)
            if count > 1:
                base = ids[0]
                ids = places_of(base, count)
        canary: list[bool] | None = None
        if other is not None and traffic.challenger is not None:
            traffic.challenger.service.beside(asked.champion.service)
            asked.champion.service.beside(traffic.challenger.service)
            if traffic.stage == "canary":
                canary = [share_of(unit) < traffic.share for unit in self._units(asked, ids)]
        state, own, said = asked.champion.recalibration, None, _lists(outputs)
        if state is not None:
            own, said = said, state.lists(said)
        return Answered(
            self.model, ids, asked.moments, asked.now, asked.rows, asked.features, asked.missing, asked.champion, said,
            traffic.challenger if other is not None else None, None if other is None else _lists(other), canary,
            (time.perf_counter_ns() - asked.begun) // 1000 // count,
            asked.caller if traffic.key.startswith("header:") else "", asked.prepared, base, own, state,
        )  # fmt: skip

    @staticmethod
    def _units(asked: _Asked, ids: Sequence[str]) -> Sequence[str]:
        """What decides the side of each row: its caller's sticky key, or its id."""
        key, reader = asked.traffic.key, asked.champion.reader
        return [side(key, asked.caller, reader.values(row)) or id for row, id in zip(asked.rows, ids)] if key else ids


def _lists(outputs: Outputs) -> list[list[float]]:
    return outputs if isinstance(outputs, list) else outputs.tolist()
