"""What the console can do, as data: an operation has a name, a path, the permission it needs, what it takes and what does it.

The same table makes the pages, the HTTP API, its description (OpenAPI) and the methods of the client: none of them can know more than another.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from treadle.access.people import Person
from treadle.access.permissions import PERMISSIONS
from treadle.access.sessions import Session
from treadle.assemble import Workspace
from treadle.core.errors import NotFound, ProjectError, UsageError
from treadle.core.records import Record

LONGEST = 200  # things on one page
_NAME = re.compile(r"[a-z_]+\.[a-z_]+")


@dataclass(frozen=True)
class Checked:
    """Arguments that may be run: the command's name, the permission it needs, and the file it writes, if any."""

    name: str
    permission: str
    argv: tuple[str, ...]
    out: str = ""


Check = Callable[[Sequence[str]], Checked]  # what a list of arguments asks for; raises UsageError


@dataclass(frozen=True)
class Asked:
    """One request, after the gate: who asks for what. `ws` acts as that person; `check` says which commands may be run."""

    ws: Workspace
    person: Person
    path: Mapping[str, str] = field(default_factory=dict)
    query: Any = None
    body: Any = None
    address: str = ""
    session: Session | None = None
    check: Check | None = None

    def __getitem__(self, name: str) -> str:
        return self.path[name]


Shown = Callable[[Any, Asked], tuple[str, Mapping[str, Any]]]  # of what an operation gives: the template and its values


@dataclass(frozen=True)
class Operation:
    """One thing that can be seen or done.

    Args:
        name: 'room.verb', stable: the operationId of the API and the method of the client.
        path: below `/api/v1`, with its variable parts in braces; a page stands at the very path.
        permission: what the person must hold (see `treadle.access.permissions`).
        does: what it gives, as JSON values.
        summary: one sentence.
        method: GET sees, POST does.
        query, body: what it takes, as msgspec structures.
        page: how a GET is shown as a page, if it is one; of a POST: how what it gave is shown, where that is not on the page it came from.
        done: of a POST: the sentence a page shows when it is done.
        secret: what it takes or gives must not be kept, so it cannot be asked for twice under one key.
        raw: the answer is a file: `does` gives (content type, file name, and text, bytes, or an iterator of pieces of text).
    """

    name: str
    path: str
    permission: str
    does: Callable[[Asked], Any]
    summary: str
    method: Literal["GET", "POST"] = "GET"
    query: type[msgspec.Struct] | None = None
    body: type[msgspec.Struct] | None = None
    page: Shown | None = None
    done: str = ""
    secret: bool = False
    raw: bool = False
    status: int = 200

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ProjectError(f"{self.name!r} is no name of an operation.")
        if self.permission not in PERMISSIONS:
            raise ProjectError(f"The operation {self.name} names no permission there is.", where=self.permission)
        if self.method == "POST" and not self.done:
            raise ProjectError(f"The operation {self.name} does not say what a page shows when it is done.")


class Pages(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of a long list: at most `limit` things, those that come after the cursor `after` of the page before."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=LONGEST)] = 50
    after: str = ""


def known(ws: Workspace, kind: str, id: str, noun: str) -> Record:
    """A record. Raises NotFound."""
    found = ws.ledger.get(kind, id)
    if found is None:
        raise NotFound(f"There is no {noun} {id!r}.")
    return found


def cursor(record: Record) -> str:
    """Where the page after this record begins."""
    return base64.urlsafe_b64encode(json.dumps([record.created_at, record.id]).encode()).decode().rstrip("=")


def past(after: str) -> tuple[str, str] | None:
    """What `Ledger.find` calls `past`, of a cursor. Raises UsageError."""
    if not after:
        return None
    try:
        created, id = json.loads(base64.urlsafe_b64decode(after + "=" * (-len(after) % 4)))
        if isinstance(created, str) and isinstance(id, str):
            return created, id
    except ValueError:
        pass
    raise UsageError("This cursor was not given by a page before.", where="after", hint="Begin with the first page: leave `after` away.")


def listed(ws: Workspace, kind: str, where: Mapping[str, Any] | None, pages: Pages, show: Callable[[Record], Any]) -> dict[str, Any]:
    """A page of the newest records of a kind: {'items': [...], 'next': the cursor of the page after this one, or None}."""
    found = ws.ledger.find(kind, where, newest_first=True, limit=pages.limit + 1, past=past(pages.after))
    more = len(found) > pages.limit
    return {"items": [show(r) for r in found[: pages.limit]], "next": cursor(found[pages.limit - 1]) if more else None}
