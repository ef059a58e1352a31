"""Alarms and what they start: the list, one with its causes, saying that somebody is at it; and the reactions that wait for a yes or no."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from treadle.assemble import Workspace
from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.core.records import Record
from treadle.live import retraining
from treadle.monitoring import alarms, care
from treadle.web.console.operation import Asked, Operation, Pages, listed
from treadle.web.console.rooms.deciding import until

NEWEST = 10  # reactions on the page of alarms


class Which(Pages, frozen=True, kw_only=True):
    """Which alarms: those that are open if nothing is said."""

    status: Literal["open", "resolved", "all"] = "open"
    model: str = ""
    kind: str = ""


class Whose(Pages, frozen=True, kw_only=True):
    """Which reactions."""

    model: str = ""
    status: str = ""


def every(asked: Asked) -> dict[str, Any]:
    """A page of alarms, newest first."""
    query = asked.query
    where = {k: v for k, v in (("model", query.model), ("kind", query.kind)) if v}
    if query.status != "all":
        where["status"] = query.status
    return listed(asked.ws, alarms.KIND, where or None, query, short)


def short(record: Record) -> dict[str, Any]:
    """An alarm in a line."""
    wanted = ("kind", "severity", "status", "sentence", "raised", "reaction", "resolution")
    return {
        "id": record.id, **{k: record[k] for k in wanted}, "about": alarms.about(record), "model": record["model"],
        "acknowledged": record.get("acknowledged"), "snoozed": record.get("snoozed", ""), "times": record.get("times", 1 + len(record["again"])),
    }  # fmt: skip


def one(asked: Asked) -> dict[str, Any]:
    """One alarm: causes, evidence, what was found with it, whom it asks, what was done. Raises NotFound."""
    ws, found = asked.ws, _known(asked)
    group = ws.ledger.find(alarms.KIND, {"group": found["group"]}, limit=50) if found.get("group") else []
    done = ws.ledger.find(retraining.KIND, {"cause.id": found.id}, limit=50)
    return {
        "id": found.id, "resolved": "", "version": None, **found.body, "record": found.version, "about": alarms.about(found),
        "with_it": [short(a) for a in group if a.id != found.id],
        "asks": [{k: f[k] for k in ("for", "asked", "status", "answer")} for f in ws.ledger.find(alarms.FEEDBACK, {"alarm": found.id})],
        "reactions": [reaction(r) for r in done], "chart": _around(ws, found),
    }  # fmt: skip


def _around(ws: Workspace, alarm: Record) -> dict[str, Any] | None:
    """What the blocks around an alarm showed of what it is about."""
    if not alarm["model"] or alarm["model"] not in ws.project.models:
        return None
    from treadle.web.console.rooms.monitors import around

    return around(ws, alarm)


def reactions(asked: Asked) -> dict[str, Any]:
    """What was done by itself about which cause, newest first."""
    where = {k: v for k, v in (("model", asked.query.model), ("status", asked.query.status)) if v}
    return listed(asked.ws, retraining.KIND, where or None, asked.query, reaction)


def reaction(record: Record) -> dict[str, Any]:
    """A reaction in a line; 'waits' where it asks a person and nobody has said anything."""
    wanted = ("model", "status", "at", "cause", "run", "version", "said", "outside", "change", "answer", "champion")
    return {"id": record.id, **{k: record.get(k) for k in wanted}, "waits": record["status"] == "asks" and record["answer"] is None}


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What is being done about it. `expect` is the version of the alarm that was looked at; 0 is whichever it is."""

    note: str = ""
    expect: int = 0


class Later(msgspec.Struct, frozen=True, kw_only=True):
    """Until when nobody is told: a date, or a length of time such as 4h."""

    until: str
    expect: int = 0


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why it is over."""

    because: str
    expect: int = 0


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """Yes or no; a no needs a reason."""

    answer: Literal["yes", "no"]
    reason: str = ""


def acknowledge(asked: Asked) -> dict[str, Any]:
    """Say that somebody is at it."""
    return short(care.acknowledge(_expected(asked), asked.person.name, asked.body.note.strip()[:2000], asked.ws.ledger, asked.ws.clock))


def snooze(asked: Asked) -> dict[str, Any]:
    """Tell nobody of it for a while; it stays open."""
    moment = until(asked.body.until, asked.ws.clock.now())
    return short(care.snooze(_expected(asked), moment, asked.person.name, asked.ws.ledger, asked.ws.clock))


def resolve(asked: Asked) -> dict[str, Any]:
    """Close it by hand, with a reason."""
    return short(care.close(_expected(asked), asked.body.because[:2000], asked.person.name, asked.ws.ledger, asked.ws.clock))


def say(asked: Asked) -> dict[str, Any]:
    """Answer what a reaction asks: may the version challenge although its change is outside what was agreed?"""
    body = asked.body
    if body.answer == "no" and not body.reason.strip():
        raise UsageError("A no needs a reason.", where="reason")
    return reaction(retraining.say(asked.ws, asked["reaction"], yes=body.answer == "yes", reason=body.reason.strip()))


def _known(asked: Asked) -> Record:
    found = asked.ws.ledger.get(alarms.KIND, asked["alarm"])
    if found is None:
        raise NotFound(f"There is no alarm {asked['alarm']!r}.")
    return found


def _expected(asked: Asked) -> Record:
    """The alarm as whoever asks saw it. Raises NotFound, Conflict."""
    found = _known(asked)
    if asked.body.expect and asked.body.expect != found.version:
        raise Conflict(f"{found.id} was changed since you looked at it.", hint="Load the page again, look at it, then decide.")
    return found


def _list_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    ledger, query = asked.ws.ledger, asked.query
    kept = "&".join(f"{k}={v}" for k, v in (("status", query.status), ("model", query.model), ("kind", query.kind)) if v)
    waits = [reaction(r) for r in ledger.find(retraining.KIND, {"status": "asks", "answer": None}, newest_first=True, limit=50)]
    newest = [reaction(r) for r in ledger.find(retraining.KIND, newest_first=True, limit=NEWEST)]
    kinds = sorted({*alarms.SEVERITY, *alarms.PROMISES.values(), alarms.STALE})
    return "alarms.html", {
        "d": given, "query": query, "kept": kept, "waits": waits, "newest": newest, "models": list(asked.ws.project.models), "kinds": kinds,
        "open": ledger.count(alarms.KIND, {"status": "open"}),
    }  # fmt: skip


def _one_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    drawn = {"around": given["chart"]["drawn"]} if given["chart"] else {}
    return "alarm.html", {"alarm": given, "charts": drawn, "about": f"alarm/{given['id']}", "declared_owner": given.get("owner", "")}


_ONE = "/alarms/{alarm}"
_MAY = "alarms.answer"
OPERATIONS = [
    Operation("alarms.list", "/alarms", "alarms.see", every, "The alarms, newest first; the open ones if nothing is said.", query=Which,
              page=_list_page),
    Operation("alarms.see", _ONE, "alarms.see", one, "One alarm: causes, evidence, what was done.", page=_one_page),
    Operation("alarms.acknowledge", _ONE + "/acknowledge", _MAY, acknowledge, "Say that somebody is at it.", method="POST", body=Seen,
              done="It is on record that you are at it."),
    Operation("alarms.snooze", _ONE + "/snooze", _MAY, snooze, "Tell nobody of it for a while.", method="POST", body=Later,
              done="Nobody is told of it until then. It stays open."),
    Operation("alarms.resolve", _ONE + "/resolve", _MAY, resolve, "Close an alarm, with a reason.", method="POST", body=Why,
              done="The alarm is resolved."),
    Operation("reactions.list", "/reactions", "alarms.see", reactions, "What was done by itself about which cause.", query=Whose),
    Operation("reactions.answer", "/reactions/{reaction}/answer", _MAY, say, "Say yes or no to a retrained version that waits.", method="POST",
              body=Word, done="Your answer is on record; the next look of the watch acts on it."),
]  # fmt: skip
