"""Alarms: one cause, one alarm. A finding of a kind that is already open for the same version joins it; only a new one is an event.

Findings of one block have one cause until shown otherwise: their alarms are of one group, and people are told of the group once. What went away and
comes back within `COOLDOWN` opens its alarm again instead of raising another. Each alarm asks three addressees for their part (`FEEDBACK`).

An alarm is about a version of a model, or about a data set whose contract is broken: then it goes to the data set's owner, and is resolved by the
first take that keeps the promise again. Or it is about a view whose online values are too old: it goes to the view's owner, until they are fresh.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from treadle.core.canonical import digest, plain
from treadle.core.clock import Clock, iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.errors import Conflict
from treadle.core.records import Link, Record, Ref
from treadle.monitoring.findings import Finding
from treadle.monitoring.watch import day
from treadle.ports.ledger import Ledger

KIND = "alarm"
PROMISES = {"at_most": "contract", "fresh": "freshness", "volume": "volume", "like": "distribution", "schema": "schema"}
STALE = "stale"  # online values of a view are older than they may be
# What a watch's state calls what it found open, to the kind of alarm that ends when it is not so any more.
PASSING = {
    "input": "input", "jump": "input", "prediction": "prediction", "volume": "volume", "outliers": "outliers", "attribution": "attribution",
    **dict.fromkeys(("missing_jump", "new_share", "out_of_range", "constant", "unit", "repeated", "left_range"), "data_quality"),
}  # fmt: skip
_WATCHED = "watch_state"  # of watch.py
_CONTRACTS = "contract_state"  # of data/promises.py; named here, so that looking at alarms loads no tables
_FRESHNESS = "online_freshness"  # of materialise.py
FEEDBACK = "feedback"
COOLDOWN = timedelta(days=3)
_REMEMBERED = 50
SEVERITY = {
    "rollback": "high", "fallback": "high", "skew": "high", "data_quality": "high", "quality": "high", "calibration": "high",
    "prediction": "medium", "input": "medium", "volume": "medium", "fairness": "high", "attribution": "medium", "outliers": "medium",
    "service": "high", "staleness": "medium",
}  # fmt: skip
ASKED = {
    "experimentation": "whether the features and the model still fit, and what a next one should learn",
    "data engineering": "whether the rows are right: sources, units, joins, late or missing files",
    "scheduler": "whether to retrain, on which rows and when, as the policy says",
}


def raise_alarm(model: str, version: int, finding: Finding, ledger: Ledger, clock: Clock) -> Record | None:
    """Raise an alarm for a finding, or add it to the one that is open for the same kind; returns a newly raised one.

    The same finding told twice (after a crash) is the same alarm.
    """
    id = f"alarm-{digest([model, version, finding.kind, finding.window_end])[:12]}"
    end = iso(day(finding.window_end))
    told = {**plain(finding), "at": iso(clock.now())}
    same = ledger.get(KIND, id)
    if same is not None:
        if same["status"] == "open" and finding.metric not in {same["metric"], *(a.get("metric") for a in same["again"])}:
            ledger.put(KIND, id, {**same.body, "again": [*same["again"], told][-_REMEMBERED:]}, expect=same.version)  # another measure of the block
        return None
    earlier = ledger.find(KIND, {"model": model, "version": version, "kind": finding.kind})
    for record in earlier:
        back = bool(record.get("gone")) and record["status"] == "resolved" and day(finding.window_end) - parse_time(record["gone"]) <= COOLDOWN
        if record["status"] == "open" or back:
            body: dict[str, Any] = {**record.body, "again": [*record["again"], told][-_REMEMBERED:], "times": record.get("times", 1) + 1}
            if back:
                body |= {"status": "open", "resolution": "", "gone": "", "over": True}
                for part in ledger.find(FEEDBACK, {"alarm": record.id}):
                    ledger.put(FEEDBACK, part.id, {**part.body, "status": "open", "answer": ""}, expect=part.version)
            ledger.put(KIND, record.id, body, expect=record.version)
            return None
    group = next((a["group"] for a in open_alarms(model, ledger) if a.get("group") and a["window"][1] == end and a["version"] == version), id)
    body = {
        "model": model, "version": version, "kind": finding.kind, "severity": finding.severity or SEVERITY[finding.kind], "status": "open",
        "told": False, "again": [], "times": 1, "group": group, "gone": "", "acknowledged": None, "snoozed": "", "sent": {},
        "slices": [list(s) for s in finding.slices], "suspected": finding.suspected, "evidence": list(finding.evidence),
        "raised": iso(clock.now()), "reaction": "", "resolution": "", "metric": finding.metric, "value": finding.value,
        "threshold": finding.threshold,
        "window": [iso(day(finding.window_start)), end], "features": [list(f) for f in finding.features],
        "sentence": finding.sentence, "for": list(ASKED),
    }  # fmt: skip
    with ledger.transaction():
        record = ledger.put(KIND, id, body, expect=0)
        ledger.link(Link(Ref(KIND, id), "about", Ref("model_version", f"{model}.v{version}")))
        for addressee, question in ASKED.items():
            feedback = {"alarm": id, "for": addressee, "asked": question, "model": model, "status": "open", "at": body["raised"], "answer": ""}
            ledger.put(FEEDBACK, f"{id}-{addressee.replace(' ', '-')}", feedback, expect=0)
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

    Alarms of watched models whose finding went away are resolved too.

    It looks at how things stand, not at what happened, so that it can be done by anyone, at any time, and again.
    """
    raised: list[Record] = []
    for state in ledger.find(_CONTRACTS):
        with suppress(Conflict):  # somebody else is doing just this
            raised += _of_one(state, ledger, clock)
    for state in ledger.find(_FRESHNESS):
        with suppress(Conflict):
            raised += _of_view(state, ledger, clock)
    gone(ledger, clock)
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
        body = {**record.body, "status": "resolved", "resolution": resolution, "resolved": iso(clock.now()), "over": not record["told"]}
        closed = ledger.put(KIND, record.id, body, expect=record.version)
        for feedback in ledger.find(FEEDBACK, {"alarm": record.id, "status": "open"}):
            ledger.put(FEEDBACK, feedback.id, {**feedback.body, "status": "closed", "answer": resolution}, expect=feedback.version)
        ledger.append("alarm.resolved", Ref(KIND, record.id), {"kind": record["kind"]}, actor=actor)
    return closed


def gone(ledger: Ledger, clock: Clock) -> list[Record]:
    """Resolve the alarms of watched models whose finding the last judged block shows no more; returns them.

    Only of kinds that come and go by themselves: outcomes that became worse wait for an answer.
    """
    closed = []
    for state in ledger.find(_WATCHED):
        shown = {PASSING.get(name.split(":", 1)[0], "") for name in state["state"]["open"]}
        for alarm in open_alarms(state.id, ledger):
            until = day(int(state["next"]))
            judged = parse_time(alarm["window"][1]) <= until  # what the newest requests showed waits for its block
            passing = alarm["kind"] in PASSING.values() and alarm["kind"] not in shown
            if alarm["version"] == state["version"] and judged and passing and not alarm["reaction"]:
                with suppress(Conflict):
                    marked = ledger.put(KIND, alarm.id, {**alarm.body, "gone": iso(until)}, expect=alarm.version)
                    closed.append(resolve(marked, f"the block to {until:%Y-%m-%d %H:%M} shows it no more", ledger, clock))
    return closed
