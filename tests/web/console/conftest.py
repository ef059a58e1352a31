"""People of every role, signed in to the console of the world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.access import links, people
from treadle.access.permissions import ROLES
from treadle.assemble import Workspace
from treadle.cli.served import check
from treadle.web.console.app import make_app

HERE = "http://127.0.0.1"
As = Callable[[str], TestClient]


def signed_in(ws: Workspace, name: str, *roles: str) -> TestClient:
    """A browser in which this person has signed in; made if there is no such person. `client.csrf` is the word its forms carry."""
    if people.find_person(name, ws.ledger) is None:
        people.add_person(name, ws.ledger, ws.clock, actor="a test", roles=roles)
    client = TestClient(make_app(ws, check=check), base_url=HERE)
    answer = client.get(f"/sign-in/link?key={links.make_link(name, ws.ledger, ws.clock, actor='a test')}", follow_redirects=False)
    assert answer.status_code == 303, answer.text
    page = client.get("/you" if "/you" in [r.path for r in client.app.routes] else "/").text  # type: ignore[attr-defined]
    client.csrf = page.split('name="csrf" value="')[1].split('"')[0]  # type: ignore[attr-defined]
    return client


def post(client: TestClient, path: str, **fields: Any) -> Any:
    """Send a form as the page's own form does."""
    return client.post(path, data={"csrf": client.csrf, **fields}, headers={"origin": HERE}, follow_redirects=False)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def as_role(world: Any) -> As:
    """A signed-in client of somebody who holds one role, by the role's name."""
    made: dict[str, TestClient] = {}

    def sign(role: str) -> TestClient:
        assert role in ROLES
        if role not in made:
            made[role] = signed_in(world.ws, f"a.{role.replace('_', '.')}", role)
        return made[role]

    return sign


@pytest.fixture(scope="session")
def anybody(world: Any) -> TestClient:
    """Somebody who is not known."""
    return TestClient(make_app(world.ws, check=check), base_url=HERE)
