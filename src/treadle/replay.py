"""Living through recorded history: requests in the order they would have come, truth when it became known, the loop turning all the while.

Nothing is simulated but the clock: requests go to the real endpoint over HTTP, outcomes are posted to it, the online store is brought forward hour by
hour with what was known by then, and once a day the same `reactions.step` runs that runs in production.
"""

from __future__ import annotations

import hashlib
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from treadle import reactions
from treadle.assemble import Workspace
from treadle.client import Endpoint
from treadle.core.canonical import digest
from treadle.core.clock import ReplayClock, iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.errors import DataError, NotFound, UsageError
from treadle.core.ids import base32
from treadle.core.records import Record, Ref
from treadle.features.parity import request_of
from treadle.features.rows import KEY, KNOWN, MOMENT, TARGET
from treadle.live.deploy import connect, fill_online, running_endpoint, start
from treadle.registry import promote, versions
from treadle.wheel.materialise import note_filled
from treadle.wheel.turn import turn

KIND = "replay"
TICK = timedelta(hours=1)


@dataclass(frozen=True)
class Progress:
    """How far a replay is: the moment it is at, requests sent, outcomes posted, and what the loop just did (empty most of the time)."""

    moment: datetime
    sent: int
    outcomes: int
    did: str = ""


def replay(
    ws: Workspace, model: Model, *, start_at: datetime | None = None, end: datetime | None = None, sample: int = 8, again: bool = False,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> Record:  # fmt: skip
    """Replay the model's data set against its endpoint.

    Args:
        start_at: the first moment; that of the first version's `as_of`, or the end of its training, if not given.
        end: stop before this moment; after the last row if not given.
        sample: send every n-th row, chosen by a digest of its key so that it is the same rows each time. All rows feed the views.
        again: replay once more although this replay is finished.
    Returns: the replay's record. It goes on where it was stopped. Raises: NotFound when nothing is deployed, UsageError without event times.
    """
    if not model.rows.event_time:
        raise UsageError(f"Data set {model.rows.name!r} declares no event_time, so there is no order to replay.", where=model.rows.place)
    if sample < 1:
        raise UsageError(f"sample={sample} is not a number of rows.", hint="1 sends every row, 8 every eighth.")
    deployed = promote.deployment(model.name, ws.ledger)
    if deployed is None:
        raise NotFound(f"Model {model.name!r} is not deployed.", hint=f"Run: treadle deploy {model.name}")
    first = versions.get(model.name, min([*deployed["previous"], deployed["champion"]]), ws.ledger)
    begin = start_at or parse_time(first["as_of"] or first["trained_to"])
    quiet = Workspace(ws.folder, ws.settings, ws.clock)  # the loop's own steps are not shown one by one
    quiet.__dict__["project"] = ws.project
    outcome = turn(quiet, model, cause={"kind": "replay", "id": "", "text": "rows to replay"}, as_of=begin, until="signature", also=("rows",))
    source = quiet.tables.scan(outcome[f"data:{model.rows.name}"]["address"]).collect()
    rows: pl.DataFrame = outcome["rows"]
    moments = rows[MOMENT]
    last = moments.max()
    assert isinstance(last, datetime)
    finish = min(end, last + TICK) if end else last + TICK
    if begin >= finish:
        raise DataError(f"There are no rows between {iso(begin)} and {iso(finish)}.", where=f"data set {model.rows.name!r}")
    id = f"{model.name}-{digest([iso(begin), sample, outcome.address('rows')])[:10]}"
    record = ws.ledger.get(KIND, id)
    if record is not None and record["status"] == "done" and not again and parse_time(record["end"]) >= finish:
        return record
    running = running_endpoint(ws, model.name) or start(ws, model)
    endpoint = connect(ws, running["url"])
    fields = [f["name"] for f in endpoint.signature()["fields"]]
    position = parse_time(record["position"]) if record is not None and not again else begin
    body: dict[str, Any] = {
        "model": model.name, "start": iso(begin), "end": iso(finish), "sample": sample, "status": "running", "position": iso(position),
        "sent": record["sent"] if record and not again else 0, "outcomes": record["outcomes"] if record and not again else 0,
        "seconds": record["seconds"] if record and not again else 0.0,
        "salt": record["salt"] + 1 if record and again else record["salt"] if record else 0,
    }  # fmt: skip
    ws.ledger.put(KIND, id, body)
    clock = ReplayClock(position)
    ws.clock = quiet.clock = clock
    material = fill_online(quiet, model, outcome, position)
    requests = _requests(source, rows, position, finish, sample, fields)
    waiting = _unanswered(source, rows, position, sample, begin, id, body["salt"])
    begun, spent = time.perf_counter(), float(body["seconds"])
    tick = position
    next_day = (position + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    cursor = 0

    def save(status: str) -> Record:
        body.update(position=iso(tick), seconds=round(spent + time.perf_counter() - begun, 3), status=status)
        return ws.ledger.put(KIND, id, body)

    def post(until: datetime) -> None:
        due = []
        while waiting and waiting[0][0] <= until:
            known, prediction, value = heapq.heappop(waiting)
            due.append({"prediction": prediction, "value": value, "known_at": known.isoformat(), "source": "replay"})
        if due:
            endpoint.outcomes(due)
            body["outcomes"] += len(due)

    filled: list[datetime] = []  # recorded by the day: a commit for each hour would take as long as the requests

    def note() -> None:
        note_filled(ws.ledger, [view.name for view in model.views], filled)
        filled.clear()

    try:
        while tick < finish:
            clock.set(tick)
            post(tick)
            material.advance(tick)
            filled.append(tick)
            while cursor < len(requests) and requests[cursor][0] < tick + TICK:
                _, key, request, known, value = requests[cursor]
                prediction = _id(id, body["salt"], key)
                answer = endpoint.predict(request, id=prediction)
                body["sent"] += 1
                if known is not None and value is not None:
                    heapq.heappush(waiting, (known, answer["id"], value))
                cursor += 1
            tick += TICK
            if tick >= next_day:
                clock.set(tick)
                post(tick)
                note()
                _react(ws, quiet, model, endpoint, tell, tick, body)
                next_day += timedelta(days=1)
                save("running")
        note()
        post(datetime.max.replace(tzinfo=UTC))
        watch = ws.watch_of(model)
        clock.set(finish + (watch.label_window + watch.every if watch else TICK))
        _react(ws, quiet, model, endpoint, tell, finish, body)
    except BaseException:
        note()
        save("stopped")
        raise
    done = save("done")
    ws.ledger.append("replay.done", Ref(KIND, id), {"sent": body["sent"], "outcomes": body["outcomes"]}, actor=ws.actor)
    return done


def _react(
    ws: Workspace, quiet: Workspace, model: Model, endpoint: Endpoint, tell: Callable[[Progress], None], moment: datetime, body: dict[str, Any]
) -> None:
    before = promote.deployment(model.name, ws.ledger)
    did = reactions.step(quiet, model)
    after = promote.deployment(model.name, ws.ledger)
    if before is None or after is None or after.version != before.version:
        endpoint.reload()  # in production the endpoint sees it within half a second; here that would be hours
    for line in did:
        tell(Progress(moment, body["sent"], body["outcomes"], line))
    tell(Progress(moment, body["sent"], body["outcomes"]))


def _requests(
    source: pl.DataFrame, rows: pl.DataFrame, start: datetime, end: datetime, sample: int, fields: list[str]
) -> list[tuple[datetime, str, dict[str, Any], datetime | None, Any]]:
    """(moment, key, request, when its truth is known, the truth) of the sampled rows, by moment."""
    inside = rows.select(pl.arg_where((pl.col(MOMENT) >= start) & (pl.col(MOMENT) < end))).to_series()
    chosen = [i for i, key in zip(inside.to_list(), rows[KEY].gather(inside).to_list()) if _sampled(key, sample)]
    taken, known = source[chosen], rows[KNOWN].gather(chosen).to_list()
    truth, keys, moments = rows[TARGET].gather(chosen).to_list(), rows[KEY].gather(chosen).to_list(), rows[MOMENT].gather(chosen).to_list()
    wanted = [f for f in fields if f in taken.columns]
    found = [(moments[i], keys[i], request_of(row, wanted), known[i], truth[i]) for i, row in enumerate(taken.select(wanted).iter_rows(named=True))]
    return sorted(found, key=lambda r: (r[0], r[1]))


def _unanswered(
    source: pl.DataFrame, rows: pl.DataFrame, position: datetime, sample: int, begin: datetime, id: str, salt: int
) -> list[tuple[datetime, str, Any]]:
    """Outcomes still to come of requests sent before `position`: what a stopped replay owes. Some may be posted twice, which changes nothing."""
    if position <= begin:
        return []
    late = rows.filter((pl.col(MOMENT) >= begin) & (pl.col(MOMENT) < position) & (pl.col(KNOWN) > position - timedelta(days=2)))
    waiting = [
        (known, _id(id, salt, key), value)
        for key, known, value in late.select(KEY, KNOWN, TARGET).iter_rows()
        if known is not None and value is not None and _sampled(key, sample)
    ]
    heapq.heapify(waiting)
    return waiting


def _sampled(key: str, sample: int) -> bool:
    return sample == 1 or int.from_bytes(hashlib.blake2b(key.encode(), digest_size=6).digest(), "big") % sample == 0


def _id(replay: str, salt: int, key: str) -> str:
    """The prediction's id, the same when the replay is resumed: the log stores it once."""
    return f"p-{base32(int.from_bytes(hashlib.blake2b(f'{replay}|{salt}|{key}'.encode(), digest_size=11).digest(), 'big'), 18)}"
