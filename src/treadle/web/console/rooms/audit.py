"""The audit log: who did what about which thing, when and from where; whether the chain of its hashes holds; and all of it as a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import msgspec

from treadle.core.clock import iso, parse_time
from treadle.core.errors import UsageError
from treadle.core.records import Event, Ref
from treadle.report import audit
from treadle.review.subjects import KINDS
from treadle.web.console.operation import LONGEST, Asked, Operation
from treadle.web.console.places import page_of

AT_ONCE = 5_000  # entries that one look at the page checks beyond those that were checked before
_FROM = ("address",)  # where an entry's body says from where something was done


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries. `who`: a person, or treadle. `what`: a kind, or all that begin so ('deployment.'). `subject`: a kind of thing, or KIND/ID.
    `since`, `until`: a date or a time; from the one on, and before the other. What is empty does not choose.
    """

    who: str = ""
    what: str = ""
    subject: str = ""
    since: str = ""
    until: str = ""

    def filter(self) -> audit.Filter:
        """As the log takes it. Raises UsageError."""
        kind, slash, id = self.subject.strip().partition("/")
        if slash and not (kind and id):
            raise UsageError(f"{self.subject[:60]!r} names nothing.", where="subject", hint="Write KIND, or KIND/ID such as model_version/late.v3.")
        begin, end = (iso(parse_time(moment.strip())) if moment.strip() else "" for moment in (self.since, self.until))
        return audit.Filter((self.what.strip(),) if self.what.strip() else (), self.who.strip(), kind, id, begin, end)

    def asked(self) -> dict[str, str]:
        """What was chosen, as the parameters of a link."""
        return {k: v for k in ("who", "what", "subject", "since", "until") if (v := getattr(self, k))}


class Listed(Chosen, frozen=True, kw_only=True):
    """Which entries, and which part of them: at most `limit`, those before the entry `after`."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=LONGEST)] = 50
    after: str = ""


class Exported(Chosen, frozen=True, kw_only=True):
    """Which entries, and as what."""

    format: Literal["jsonl", "csv"] = "jsonl"


def entries(asked: Asked) -> dict[str, Any]:
    """Entries, newest first."""
    q = asked.query
    if q.after and not (q.after.isascii() and q.after.isdigit() and len(q.after) < 16):
        raise UsageError("This cursor was not given by a page before.", where="after", hint="Begin with the first page: leave `after` away.")
    found, more = audit.page(asked.ws.ledger, q.filter(), before=int(q.after) if q.after else None, limit=q.limit)
    return {"items": [_entry(event) for event in found], "next": str(more) if more is not None else None}


def _entry(event: Event) -> dict[str, Any]:
    address = next((str(event.body[k]) for k in _FROM if event.body.get(k)), "")
    link = page_of(event.subject) if event.subject.kind in KINDS else ""
    return {**audit.entry(event), "subject": str(Ref(event.subject.kind, event.subject.id)), "address": address, "link": link}


def state(asked: Asked) -> dict[str, Any]:
    """Whether the chain of hashes holds, as far as it was checked: goes on from where this server stopped the last time."""
    return audit.check_on(asked.ws.ledger, most=AT_ONCE)


def check(asked: Asked) -> dict[str, Any]:
    """Compute every hash again, from the first entry to the last. It takes the longer the more entries there are."""
    return audit.verify(asked.ws.ledger)


def export(asked: Asked) -> tuple[str, str, Iterator[str]]:
    """The chosen entries, oldest first, as a file. That it was taken out is on record."""
    q, ws = asked.query, asked.ws
    chosen = q.filter()
    kind = "text/csv; charset=utf-8" if q.format == "csv" else "application/x-ndjson"
    about = {"format": q.format, "filter": q.asked(), "address": asked.address}
    ws.ledger.append("audit.exported", Ref("project", ws.project.name), about, actor=asked.person.name)
    return kind, f"audit.{q.format}", audit.export(ws.ledger, chosen, format=q.format)


def _page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    shown = [{**e, "says": {k: v for k, v in e["body"].items() if k not in _FROM}} for e in given["items"]]
    return "audit.html", {
        "events": shown, "next": given["next"], "q": asked.query, "query": urlencode(asked.query.asked()), "chain": state(asked),
    }  # fmt: skip


def _checked(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "audit_check.html", {"chain": given}


OPERATIONS = [
    Operation("audit.list", "/audit", "audit.see", entries, "The entries of the audit log, newest first.", query=Listed, page=_page),
    Operation("audit.state", "/audit/state", "audit.see", state, "Whether the chain of hashes holds, going on from what this server checked before."),
    Operation("audit.check", "/audit/check", "audit.see", check, "Compute every hash of the log again.", page=_checked),
    Operation("audit.export", "/audit/export", "audit.export", export, "The log as lines of JSON or as CSV.", query=Exported, raw=True),
]  # fmt: skip
