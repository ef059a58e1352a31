"""A page of the console in its frame: who is signed in, where one may go, what was just done."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup
from starlette.responses import HTMLResponse

from treadle.core.errors import TreadleError
from treadle.core.records import Ref
from treadle.report import page
from treadle.web.console.frame import policy
from treadle.web.console.gate import Known
from treadle.web.console.site import Site

NAV: list[tuple[str, str, str]] = [  # name, path, and the permission without which it is not shown
    ("The loop", "/", "home.see"), ("Runs", "/runs", "runs.see"), ("Data", "/data", "data.see"), ("Models", "/models", "models.see"),
    ("Deployments", "/deployments", "deployments.see"), ("Alarms", "/alarms", "alarms.see"), ("Why", "/why", "predictions.see"),
    ("Value", "/value", "backtest.see"), ("Notes", "/notes", "home.see"), ("Audit", "/audit", "audit.see"), ("Access", "/access", "access.see"),
]  # fmt: skip


def html(
    name: str, values: Mapping[str, Any], status: int = 200, *, site: Site, known: Known | None, path: str, done: str = ""
) -> HTMLResponse:  # fmt: skip
    """A page. `done` names the operation that led here: its sentence is shown.

    A page about one thing gives its values `about` ('run/run-1'), and `declared_owner` where the project names one: the notes about it stand below.
    """
    nonce = secrets.token_urlsafe(16)
    frame: dict[str, Any] = {
        "nonce": nonce, "nav": [], "me": None, "csrf": "", "path": path, "done": said(done), "unread": 0, "project_name": site.ws.project.name,
    }  # fmt: skip
    if known is not None:
        frame["nav"] = [(n, p, p == path or (p != "/" and path.startswith(p + "/"))) for n, p, needs in NAV if known.person.may(needs)]
        frame |= {"me": known.person, "csrf": known.session.csrf if known.session else "", "unread": _unread(site, known)}
    shown = {"panel": _panel(values, site, known), **values}
    text = page.template(name, **frame, **shown, live=live(), console=True, may=known.person.may if known else _nothing, fresh=secrets.token_hex)
    return HTMLResponse(text, status, {"Content-Security-Policy": policy(nonce)})


def _nothing(permission: str) -> bool:
    return False


def _panel(values: Mapping[str, Any], site: Site, known: Known | None) -> dict[str, Any] | None:
    """The owner of what the page is about, and its notes; None where the page is about nothing, or the record does not answer."""
    from treadle.web.console.rooms.notes import panel

    if known is None or not values.get("about"):
        return None
    kind, _, id = str(values["about"]).partition("/")
    try:
        return panel(Ref(kind, id), values.get("declared_owner") or "", site.ws, known.person)
    except TreadleError:
        return None


def _unread(site: Site, known: Known) -> int:
    from treadle.review import notices

    try:
        return notices.unread(known.person.name, site.ws.ledger, groups=known.person.groups)
    except TreadleError:  # a page is shown without the count rather than not at all
        return 0


def said(operation: str) -> str:
    """What a page says of the operation that led to it; '' for none there is."""
    from treadle.web.console.table import BY_NAME

    found = BY_NAME.get(operation)
    return found.done if found is not None else ""


@cache
def live() -> Markup:
    """The script that keeps a page up to date."""
    return Markup(resources.files(page.PAGES).joinpath("live.js").read_text("utf-8"))  # our own file
