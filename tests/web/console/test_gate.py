"""Who may do what in the console: every route, every role; sessions, tokens, forms of other sites, other hosts. Denied unless the table says otherwise."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.access import people, sessions, tokens
from treadle.access.permissions import ROLES
from treadle.web.console import sign_in
from treadle.web.console.answer import API
from treadle.web.console.app import make_app
from treadle.web.console.operation import Operation
from treadle.web.console.table import OPERATIONS

from .conftest import HERE, As, post, signed_in

World = Any
METHODS = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"]


def some(path: str) -> str:
    """A path with names in it that nothing has."""
    return re.sub(r"\{[^}]*\}", "nothing-of-this-name", path)


def test_every_route_is_an_operation_of_the_table_or_one_of_the_few_that_anybody_may_call(world: World) -> None:
    known = {API + o.path for o in OPERATIONS} | {"/" if o.path == "/home" else o.path for o in OPERATIONS} | set(sign_in.PUBLIC)
    assert {route.path for route in make_app(world.ws).routes} <= known


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_nobody_who_is_not_known_gets_anything(anybody: TestClient, operation: Operation) -> None:
    path = some(operation.path)
    asked = anybody.request(operation.method, API + path, follow_redirects=False)
    assert asked.status_code == 401
    assert asked.headers["content-type"] == "application/problem+json"
    assert asked.headers["www-authenticate"] == "Bearer"
    if operation.method == "POST":
        shown = anybody.post(path, data={"csrf": "x"}, follow_redirects=False)
        assert (shown.status_code, shown.headers["location"]) == (303, "/sign-in")
    elif operation.page is not None:
        shown = anybody.get("/" if path == "/home" else path, follow_redirects=False)
        assert shown.status_code == 303
        assert shown.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_refused_exactly_what_its_profile_does_not_hold(as_role: As, role: str) -> None:
    client = as_role(role)
    for operation in OPERATIONS:
        path = API + some(operation.path)
        headers = {"x-csrf-token": client.csrf, "content-type": "application/json"}
        answer = client.get(path) if operation.method == "GET" else client.post(path, content=b'{"no such field": 1}', headers=headers)
        if operation.permission in ROLES[role].permissions:
            assert answer.status_code not in (401, 403), operation.name
        else:
            assert answer.status_code == 403, operation.name
            assert operation.permission in answer.json()["detail"]


def test_a_refusal_is_on_record_with_who_what_and_from_where(world: World, as_role: As) -> None:
    before = world.ws.ledger.verify_chain()
    assert (
        as_role("stakeholder").post(f"{API}/commands", json={"argv": ["run"]}, headers={"x-csrf-token": as_role("stakeholder").csrf}).status_code
        == 403
    )
    event = world.ws.ledger.events_since(before, kinds=("access.denied",))[-1]
    assert event.actor == "a.stakeholder"
    assert event.body["operation"] == "command run"
    assert event.body["address"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "http://127.0.0.1:1"])
def test_a_form_of_another_site_changes_nothing(as_role: As, origin: str) -> None:
    client = as_role("administrator")
    fields = {"csrf": client.csrf, "argv": "status"}
    for path in ("/commands", f"{API}/commands", "/sign-out"):
        assert client.post(path, data=fields, headers={"origin": origin}, follow_redirects=False).status_code == 403


def test_a_form_without_the_sessions_word_changes_nothing(as_role: As) -> None:
    client = as_role("administrator")
    for word in ("", "guessed", as_role("stakeholder").csrf):
        answer = client.post("/commands", data={"csrf": word, "argv": "status"}, headers={"origin": HERE}, follow_redirects=False)
        assert answer.status_code == 403
        assert "another session" in answer.text
        assert client.post(f"{API}/commands", json={"argv": ["status"]}, headers={"x-csrf-token": word}).status_code == 403


@pytest.mark.parametrize("method", METHODS[1:])
def test_other_methods_than_get_and_post_are_not_taken(as_role: As, method: str) -> None:
    for path in ("/runs", f"{API}/runs"):
        assert as_role("administrator").request(method, path).status_code == 405


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0", "", "127.0.0.1:80:80", "[::2]"])
def test_another_host_is_refused(as_role: As, host: str) -> None:
    answer = as_role("administrator").get(f"{API}/runs", headers={"host": host})
    assert answer.status_code == 403
    assert "run-" not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8800", "localhost:8800", "LOCALHOST", "[::1]:8800", "[::1]"])
def test_this_machine_is_let_in(anybody: TestClient, host: str) -> None:
    assert anybody.get("/sign-in", headers={"host": host}).status_code == 200


def test_a_console_of_a_team_answers_under_its_own_name_over_https(world: World) -> None:
    client = TestClient(make_app(world.ws, url="https://treadle.example.com"), base_url="https://treadle.example.com")
    answer = client.get("/sign-in")
    assert answer.status_code == 200
    assert "max-age" in answer.headers["strict-transport-security"]
    assert client.get("/sign-in", headers={"host": "other.example.com"}).status_code == 403


def test_a_session_ends_and_a_disabled_person_is_out_at_once(world: World) -> None:
    ws = world.ws
    client = signed_in(ws, "zoe", "administrator")
    assert client.get(f"{API}/home").status_code == 200
    assert post(client, "/sign-out").status_code == 303
    assert client.get(f"{API}/home").status_code == 401
    client = signed_in(ws, "zoe")
    people.change_person("zoe", ws.ledger, ws.clock, actor="ann", disabled=True)
    assert client.get(f"{API}/home").status_code == 401
    people.change_person("zoe", ws.ledger, ws.clock, actor="ann", disabled=False)


def test_a_change_of_role_counts_with_the_next_request(world: World) -> None:
    ws = world.ws
    client = signed_in(ws, "kim", "devops_engineer")
    assert client.get("/runs").status_code == 200
    people.change_person("kim", ws.ledger, ws.clock, actor="ann", roles=[])
    assert client.get("/runs").status_code == 403
    people.change_person("kim", ws.ledger, ws.clock, actor="ann", roles=["stakeholder"])
    assert client.get("/runs").status_code == 200


def test_a_token_opens_the_api_and_no_more_than_its_person_may(world: World, anybody: TestClient) -> None:
    ws = world.ws
    people.add_person("robot", ws.ledger, ws.clock, actor="ann", roles=["data_scientist"])
    text, token = tokens.make_token("robot", "ci", ws.ledger, ws.clock, actor="ann")
    shown = {"authorization": f"Bearer {text}"}
    assert anybody.get(f"{API}/runs", headers=shown).status_code == 200
    assert anybody.post(f"{API}/commands", json={"argv": ["deploy"]}, headers=shown).status_code == 403
    people.change_person("robot", ws.ledger, ws.clock, actor="ann", roles=[])
    assert anybody.get(f"{API}/runs", headers=shown).status_code == 403
    tokens.revoke(token.id, ws.ledger, ws.clock, actor="ann")
    for wrong in (shown, {"authorization": "Bearer trd_nobody_nothing"}, {"authorization": "Basic YTpi"}, {"authorization": "Bearer"}):
        assert anybody.get(f"{API}/runs", headers=wrong).status_code == 401


def test_a_wrong_token_is_not_helped_by_a_right_cookie(as_role: As) -> None:
    assert as_role("administrator").get(f"{API}/runs", headers={"authorization": "Bearer trd_a_b"}).status_code == 401


def test_after_signing_in_nobody_is_sent_to_another_site(world: World, as_role: As) -> None:
    from treadle.access import links

    as_role("stakeholder")  # who has a name then
    for next in ("//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"):
        client = TestClient(make_app(world.ws), base_url=HERE)
        key = links.make_link("a.stakeholder", world.ws.ledger, world.ws.clock, actor="a test")
        answer = client.get("/sign-in/link", params={"key": key, "next": next}, follow_redirects=False)
        assert answer.headers["location"] == "/"


def test_a_body_that_is_too_long_or_of_another_kind_is_not_read(as_role: As) -> None:
    client = as_role("administrator")
    headers = {"x-csrf-token": client.csrf}
    assert client.post(f"{API}/commands", content=b"x" * 1_000_001, headers=headers).status_code == 413
    assert client.post(f"{API}/commands", content=b"x" * 10, headers={**headers, "content-type": "application/x-pickle"}).status_code == 415
    assert client.post(f"{API}/commands", content=b"[" * 100_000, headers={**headers, "content-type": "application/json"}).status_code == 400
    assert client.post(f"{API}/commands", json={"argv": 3}, headers=headers).status_code == 400
    assert client.post(f"{API}/commands", json={"argv": ["status"], "else": 1}, headers=headers).status_code == 400


def test_old_sessions_of_a_person_end_with_their_password(world: World) -> None:
    ws = world.ws
    client = signed_in(ws, "lou", "stakeholder")
    people.set_password("lou", "a long and lovely password", ws.ledger, ws.clock, actor="lou")
    assert client.get(f"{API}/home").status_code == 401


def test_a_session_is_over_when_it_was_not_used(world: World) -> None:
    ws = world.ws
    secret, _ = sessions.open_session("a.stakeholder", ws.ledger, ws.clock, how="link", address="")
    brief = sessions.Lasting(unused=timedelta(0), in_all=timedelta(days=1))
    assert sessions.session_of(secret, ws.ledger, ws.clock, lasting=brief) is None
