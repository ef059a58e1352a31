"""Alarms: one cause, one alarm. A finding of a kind that is already open for the same version joins it; only a new one is an event.

An alarm is about a version of a model, or about a data set whose contract is broken: then it goes to the data set's owner, and is resolved by the
first take that keeps the promise again. Or it is about a view whose online values are too old: it goes to the view's owner, until they are fresh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from treadle.core.canonical import digest, plain
from treadle.core.clock import Clock, iso
from treadle.core.declare.model import Model
from treadle.core.errors import Conflict, TreadleError
from treadle.core.records import Link, Record, Ref
from treadle.monitoring.judge import Finding
from treadle.monitoring.watch import day
from treadle.ports.ledger import Ledger
from treadle.ports.notifier import Message, Notifier

KIND = "alarm"
PROMISES = {"at_most": "contract", "fresh": "freshness", "volume": "volume", "like": "distribution", "schema": "schema"}
STALE = "stale"  # online values of a view are older than they may be
_CONTRACTS = "contract_state"  # of data/promises.py; named here, so that looking at alarms loads no tables
_FRESHNESS = "online_freshness"  # of materialise.py
_REMEMBERED = 50
SEVERITY = {
    "rollback": "high", "skew": "high", "data_quality": "high", "quality": "high", "calibration": "high", "prediction": "medium", "input": "medium",
}  # fmt: skip


def raise_alarm(model: str, version: int, finding: Finding, ledger: Ledger, clock: Clock) -> Record | None:
    """Raise an alarm for a finding, or add it to the one that is open for the same kind; returns a newly raised one.

    The same finding told twice (after a crash) is the same alarm.
    """
    id = f"alarm-{digest([model, version, finding.kind, finding.window_end])[:12]}"
    if ledger.get(KIND, id) is not None:
        return None
    told = {**plain(finding), "at": iso(clock.now())}
    for record in ledger.find(KIND, {"model": model, "version": version, "kind": finding.kind, "status": "open"}):
        ledger.put(KIND, record.id, {**record.body, "again": [*record["again"], told]}, expect=record.version)
        return None
    body: dict[str, Any] = {
        "model": model, "version": version, "kind": finding.kind, "severity": SEVERITY[finding.kind], "status": "open", "told": False, "again": [],
        "raised": iso(clock.now()), "reaction": "", "resolution": "", "metric": finding.metric, "value": finding.value,
        "threshold": finding.threshold,
        "window": [iso(day(finding.window_start)), iso(day(finding.window_end))], "features": [list(f) for f in finding.features],
        "sentence": finding.sentence, "for": ["experimentation", "data engineering", "scheduler"],
    }  # fmt: skip
    with ledger.transaction():
        record = ledger.put(KIND, id, body, expect=0)
        ledger.link(Link(Ref(KIND, id), "about", Ref("model_version", f"{model}.v{version}")))
        _raised(record, ledger)
    return record


def _raised(record: Record, ledger: Ledger) -> None:
    # Its sentence may name a value of a row, as an example. It stands in the record, which an erasure can reach; no event can be changed.
    ledger.append("alarm.raised", Ref(KIND, record.id), {"kind": record["kind"], "severity": record["severity"]})


def open_alarms(model: str, ledger: Ledger) -> list[Record]:
    """Alarms of a model that nothing has answered yet, oldest first."""
    return ledger.find(KIND, {"model": model, "status": "open"})


def open_data_alarms(ledger: Ledger, dataset: str | None = None) -> list[Record]:
    """Alarms about data sets and the views of them, or of one, that nothing has answered yet, oldest first."""
    found = ledger.find(KIND, {"model": "", "status": "open"})
    return [a for a in found if a.get("dataset") and dataset in (None, a["dataset"])]


def concerns(record: Record, model: Model) -> bool:
    """Whether an alarm is about a model: about its versions, the data sets it is made from, or the online values it looks up."""
    if record["model"]:
        return bool(record["model"] == model.name)
    if record.get("view"):
        return record["view"] in {v.name for v in model.views}
    return record.get("dataset") in {model.rows.name, *(v.source.name for v in model.views)}


def about_data(ledger: Ledger, clock: Clock) -> list[Record]:
    """Bring the alarms about data sets and views to what is recorded of contracts and freshness; returns the newly raised ones.

    It looks at how things stand, not at what happened, so that it can be done by anyone, at any time, and again.
    """
    raised: list[Record] = []
    for state in ledger.find(_CONTRACTS):
        with suppress(Conflict):  # somebody else is doing just this
            raised += _of_one(state, ledger, clock)
    for state in ledger.find(_FRESHNESS):
        with suppress(Conflict):
            raised += _of_view(state, ledger, clock)
    return raised


def _of_one(state: Record, ledger: Ledger, clock: Clock) -> list[Record]:
    raised, broken = [], state["broken"]
    for alarm in open_data_alarms(ledger, state["dataset"]):
        if alarm.get("view"):
            continue
        told = broken.get(alarm["promise"])
        if told is None:
            resolve(alarm, f"the rows taken at {state['taken'][:16]} keep the promise", ledger, clock)
        else:
            _joined(alarm, told["sentence"], state["taken"], ledger)
    for promise, told in broken.items():
        severity = "high" if told["stops"] else "medium"
        about = {"dataset": state["dataset"], "promise": promise, "kind": PROMISES.get(promise, promise), "severity": severity}
        record = _data_alarm([state["dataset"], promise, told["since"]], state, about, told, ledger, clock)
        if record is not None:
            raised.append(record)
    return raised


def _of_view(state: Record, ledger: Ledger, clock: Clock) -> list[Record]:
    for alarm in ledger.find(KIND, {"model": "", "status": "open", "view": state["view"]}):
        if state["stale"]:
            _joined(alarm, state["sentence"], state["at"], ledger)
        else:
            resolve(alarm, state["sentence"], ledger, clock)
    if not state["stale"]:
        return []
    about = {"dataset": state["dataset"], "view": state["view"], "promise": "", "kind": STALE, "severity": "medium"}
    record = _data_alarm([STALE, state["view"], state["since"]], state, about, state.body, ledger, clock)
    return [] if record is None else [record]


def _joined(alarm: Record, sentence: str, at: str, ledger: Ledger) -> None:
    if sentence not in (alarm["sentence"], *(a["sentence"] for a in alarm["again"][-1:])):
        again = [*alarm["again"], {"sentence": sentence, "at": at}][-_REMEMBERED:]
        ledger.put(KIND, alarm.id, {**alarm.body, "again": again}, expect=alarm.version)


def _data_alarm(
    cause: Sequence[str], state: Record, about: Mapping[str, str], told: Mapping[str, Any], ledger: Ledger, clock: Clock
) -> Record | None:
    """An alarm to the owner that a state names, unless this cause has had its own."""
    id = f"alarm-{digest(list(cause))[:12]}"
    if ledger.get(KIND, id) is not None:
        return None
    body: dict[str, Any] = {
        "model": "", "version": None, **about, "owner": state["owner"], "status": "open", "told": False, "again": [], "raised": iso(clock.now()),
        "reaction": "", "resolution": "", "metric": "", "value": None, "threshold": None, "window": [told["since"], told["since"]], "features": [],
        "sentence": told["sentence"], "for": [state["owner"]] if state["owner"] else ["data engineering"],
    }  # fmt: skip
    with ledger.transaction():
        record = ledger.put(KIND, id, body, expect=0)
        ledger.link(Link(Ref(KIND, id), "about", Ref(state.kind, state.id)))
        _raised(record, ledger)
    return record


def about(record: Record) -> str:
    """What an alarm is about, in words: a model, or a data set or view and who answers for it."""
    if record["model"]:
        return str(record["model"])
    what = f"view {record['view']}" if record.get("view") else f"data set {record['dataset']}"
    return what + (f", for {record['owner']}" if record.get("owner") else "")


def resolve(record: Record, resolution: str, ledger: Ledger, clock: Clock, *, actor: str = "treadle") -> Record:
    """Close an alarm, saying why."""
    with ledger.transaction():
        closed = ledger.put(
            KIND, record.id, {**record.body, "status": "resolved", "resolution": resolution, "resolved": iso(clock.now())}, expect=record.version
        )
        ledger.append("alarm.resolved", Ref(KIND, record.id), {"kind": record["kind"]}, actor=actor)
    return closed


def deliver(ledger: Ledger, notifiers: Sequence[Notifier]) -> int:
    """Tell people of alarms they were not told of; what cannot be sent now is sent next time. Returns how many were told."""
    told = 0
    for record in ledger.find(KIND, {"told": False}):
        message = Message(record.id, f"{about(record)}: {record['kind']}", record["sentence"], record["severity"])
        try:
            for notifier in notifiers:
                notifier.send(message)
        except TreadleError as error:
            ledger.append("alarm.not_sent", Ref(KIND, record.id), {"error": str(error)})
            continue
        ledger.put(KIND, record.id, {**record.body, "told": True}, expect=record.version)
        told += 1
    return told
