"""Signing in to the console with an OpenID provider that runs in the test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from treadle.access import people
from treadle.assemble import Workspace, open_workspace
from treadle.data.write_project import write_blank
from treadle.testing.openid import Issuer, openid_provider
from treadle.web.console.app import make_app

from .conftest import HERE

USERS = {"sub-1": {"preferred_username": "ada", "name": "Ada L.", "groups": ["ops"]}, "sub-2": {"preferred_username": "bob", "groups": []}}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with openid_provider(USERS) as running:
        yield running


@pytest.fixture
def ws(tmp_path: Path, issuer: Issuer) -> Workspace:
    write_blank(tmp_path / "p", "p")
    made = open_workspace(tmp_path / "p")
    said = {"oidc_issuer": issuer.url, "oidc_client_id": "treadle", "oidc_client_secret": "s3cret", "oidc_roles": "groups:ops=devops_engineer"}
    return replace(made, settings=replace(made.settings, values={**made.settings.values, **said}))


def test_whoever_the_provider_vouches_for_comes_in_with_the_roles_it_names(ws: Workspace, issuer: Issuer) -> None:
    client = TestClient(make_app(ws), base_url=HERE)
    assert issuer.url in client.get("/sign-in").text
    away = client.get("/sign-in/oidc", follow_redirects=False)
    assert away.status_code == 303
    assert away.headers["location"].startswith(issuer.url)
    back = client.get("/sign-in/oidc/back", params=issuer.answer(away.headers["location"], "sub-1"), follow_redirects=False)
    assert (back.status_code, back.headers["location"]) == (303, "/")
    assert client.get("/api/v1/you").json()["roles"] == ["devops_engineer"]
    assert client.get("/runs").status_code == 200


def test_somebody_without_a_role_is_known_and_may_nothing(ws: Workspace, issuer: Issuer) -> None:
    client = TestClient(make_app(ws), base_url=HERE)
    away = client.get("/sign-in/oidc", follow_redirects=False)
    client.get("/sign-in/oidc/back", params=issuer.answer(away.headers["location"], "sub-2"), follow_redirects=False)
    refused = client.get("/")
    assert refused.status_code == 403
    assert "home.see" in refused.text
    assert people.get_person("bob", ws.ledger).kind == "oidc"


def test_an_answer_that_another_browser_asked_for_lets_nobody_in(ws: Workspace, issuer: Issuer) -> None:
    mine, other = (TestClient(make_app(ws), base_url=HERE) for _ in range(2))
    away = mine.get("/sign-in/oidc", follow_redirects=False).headers["location"]
    other.get("/sign-in/oidc", follow_redirects=False)
    query = issuer.answer(away, "sub-1")
    assert other.get("/sign-in/oidc/back", params=query, follow_redirects=False).status_code == 401
    assert TestClient(make_app(ws), base_url=HERE).get("/sign-in/oidc/back", params=query, follow_redirects=False).status_code == 401
    assert mine.get("/sign-in/oidc/back", params=query, follow_redirects=False).status_code == 303
    assert mine.get("/sign-in/oidc/back", params=query, follow_redirects=False).status_code == 401  # a code is good once


def test_a_refusal_of_the_provider_is_said(ws: Workspace, issuer: Issuer) -> None:
    client = TestClient(make_app(ws), base_url=HERE)
    away = client.get("/sign-in/oidc", follow_redirects=False).headers["location"]
    refused = client.get("/sign-in/oidc/back", params=issuer.answer(away, "sub-1", deny=True), follow_redirects=False)
    assert refused.status_code == 401
    assert 'role="alert"' in refused.text
