"""Where in the console a thing is shown: the page of a ledger record or of something declared, and what one must hold to see it."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from treadle.core.records import Ref

ABOUT = "/notes/about"  # the page of everything that has no other
# Kind to its page: the names of the operation that shows it, its path, and whatever else of the id the path needs.
PAGES: dict[str, tuple[str, Callable[[str], str]]] = {
    "project": ("home.see", lambda id: "/"),
    "run": ("runs.see", lambda id: f"/runs/{_q(id)}"),
    "run_step": ("runs.see", lambda id: f"/runs/{_q(id.partition('/')[0])}"),
    "dataset": ("data.see", lambda id: f"/data/{_q(id)}"),
    "contract_state": ("data.see", lambda id: f"/data/{_q(id)}"),
    "model": ("models.see", lambda id: f"/models/{_q(id)}"),
    "model_version": ("models.version", lambda id: f"/models/{_q(id.rpartition('.v')[0])}/versions/{_q(id.rpartition('.v')[2])}"),
    "deployment": ("deployments.see", lambda id: f"/deployments/{_q(id)}"),
    "alarm": ("alarms.see", lambda id: f"/alarms/{_q(id)}"),
    "reaction": ("alarms.list", lambda id: f"/alarms#reaction-{_q(id)}"),
    "prediction": ("why.see", lambda id: f"/why/{_q(id)}"),
}
PERMISSIONS: dict[str, str] = {
    "project": "home.see", "dataset": "data.see", "dataset_version": "data.see", "view": "data.see", "contract_state": "data.see",
    "quarantine_decision": "data.see", "model": "models.see", "model_version": "models.see", "waiver": "models.see", "run": "runs.see",
    "run_step": "runs.see", "pipeline": "runs.see", "schedule": "runs.see", "replay": "runs.see", "scoring": "runs.see", "reproduction": "runs.see",
    "deployment": "deployments.see", "alarm": "alarms.see", "reaction": "alarms.see", "prediction": "predictions.see", "backtest": "backtest.see",
    "erasure": "persons.erase",
}  # fmt: skip


def page_of(ref: Ref) -> str:
    """The path of the page that shows a thing; that of its notes where there is no other."""
    from treadle.web.console.table import BY_NAME

    operation, path = PAGES.get(ref.kind, ("", None))
    found = BY_NAME.get(operation)
    return path(ref.id) if path is not None and found is not None and found.page is not None else f"{ABOUT}?on={_q(str(ref))}"


def permission_of(ref: Ref) -> str:
    """What one must hold to see a thing, and what is said about it."""
    return PERMISSIONS.get(ref.kind, "audit.see")


def _q(text: str) -> str:
    return quote(text, safe="")
