"""People of every role, signed in to the console of the world."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.access.permissions import ROLES
from treadle.cli.served import check
from treadle.testing.console import HERE, Browser, signed_in
from treadle.web.console.app import make_app

__all__ = ["HERE", "As", "Browser", "post", "signed_in"]
As = Callable[[str], Browser]


def post(client: Browser, path: str, **fields: Any) -> Any:
    """Send a form as the page's own form does."""
    return client.fill(path, **fields)


@pytest.fixture(scope="session")
def as_role(world: Any) -> As:
    """A signed-in client of somebody who holds one role, by the role's name."""
    made: dict[str, Browser] = {}

    def sign(role: str) -> Browser:
        assert role in ROLES
        if role not in made:
            made[role] = signed_in(world.ws, f"a.{role.replace('_', '.')}", role)
        return made[role]

    return sign


@pytest.fixture(scope="session")
def anybody(world: Any) -> TestClient:
    """Somebody who is not known."""
    return TestClient(make_app(world.ws, check=check), base_url=HERE)
