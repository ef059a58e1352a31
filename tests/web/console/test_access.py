"""People, groups, roles and tokens through the console."""

from __future__ import annotations

import re
from typing import Any

from starlette.testclient import TestClient

from treadle.access import people, signin

from .conftest import HERE, As, signed_in

World = Any


def test_an_administrator_adds_a_person_who_signs_in_with_a_password(world: World, as_role: As, anybody: TestClient) -> None:
    admin = as_role("administrator")
    added = admin.fill("/access/people", name="Nora", full="Nora N.", password="correct horse battery", roles="data_engineer")
    assert (added.status_code, added.headers["location"]) == (303, "/access/people/nora?done=access.add_person")
    assert "The person was added." in admin.get(added.headers["location"]).text
    fields = {"name": "nora", "password": "correct horse battery", "next": "/runs"}
    into = TestClient(anybody.app, base_url=HERE).post("/sign-in", data=fields, headers={"origin": HERE}, follow_redirects=False)
    assert (into.status_code, into.headers["location"]) == (303, "/runs")
    cookie = into.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie


def test_a_wrong_password_says_no_more_than_that_and_a_sixth_has_to_wait(world: World, anybody: TestClient) -> None:
    people.add_person("olga", world.ws.ledger, world.ws.clock, actor="ann", password="a long enough password", roles=["stakeholder"])
    guesser = TestClient(anybody.app, base_url=HERE, client=("10.0.0.9", 1))  # its wrong ones count against its address too
    said = set()
    for name in ("olga", "nobody-of-this-name", "olga", "olga", "olga", "olga", "olga"):
        answer = guesser.post("/sign-in", data={"name": name, "password": "wrong"}, headers={"origin": HERE})
        assert answer.status_code in (401, 429)
        said.add((answer.status_code, re.sub(r"\d+ s", "", re.findall(r'role="alert">([^<]*)', answer.text)[-1])))
    assert {status for status, _ in said} == {401, 429}
    assert len(said) == 2
    assert "retry-after" in answer.headers


def test_of_two_who_change_a_person_at_once_one_is_told(world: World, as_role: As) -> None:
    admin = as_role("administrator")
    people.add_person("pia", world.ws.ledger, world.ws.clock, actor="ann", roles=["stakeholder"])
    seen = admin.get("/api/v1/access/people/pia").json()["version"]
    assert admin.fill("/access/people/pia", expect=seen, full="Pia One", roles="stakeholder").status_code == 303
    second = admin.fill("/access/people/pia", expect=seen, full="Pia Two", roles="stakeholder")
    assert second.status_code == 409
    assert people.get_person("pia", world.ws.ledger).full == "Pia One"


def test_a_role_can_be_edited_and_counts_at_once(world: World, as_role: As) -> None:
    admin = as_role("administrator")
    assert admin.fill("/access/roles/reader", expect=0, title="Reader", permissions=["home.see", "runs.see"]).status_code == 303
    reader = signed_in(world.ws, "rita", "reader")
    assert reader.get("/runs").status_code == 200
    assert reader.get("/audit").status_code in (403, 404)
    seen = admin.get("/api/v1/access/roles/reader").json()["version"]
    assert admin.fill("/access/roles/reader", expect=seen, title="Reader", permissions=["home.see"]).status_code == 303
    assert reader.get("/runs").status_code == 403


def test_the_last_administrator_cannot_be_put_out(world: World, as_role: As) -> None:
    admin = as_role("administrator")
    for person in people.people(world.ws.ledger):
        if "administrator" in person.roles and person.name != "a.administrator" and not person.disabled:
            people.change_person(person.name, world.ws.ledger, world.ws.clock, actor="a test", disabled=True)
    seen = admin.get("/api/v1/access/people/a.administrator").json()["version"]
    refused = admin.fill("/access/people/a.administrator", expect=seen, roles="stakeholder")
    assert refused.status_code == 422
    for person in people.people(world.ws.ledger):
        if person.disabled:
            people.change_person(person.name, world.ws.ledger, world.ws.clock, actor="a test", disabled=False)


def test_a_token_is_shown_once_and_kept_nowhere(world: World, as_role: As) -> None:
    scientist = as_role("data_scientist")
    shown = scientist.fill("/you/tokens", name="notebook", days="3")
    token = re.search(r"trd_[\w-]+", shown.text)
    assert token is not None
    assert scientist.get("/api/v1/runs", headers={"authorization": f"Bearer {token[0]}"}).status_code == 200
    assert token[0] not in scientist.get("/you").text
    ledger = world.ws.ledger
    assert token[0] not in repr(ledger.events_since(0, limit=100_000)) + repr(ledger.find("api_call")) + repr(ledger.find("access_token"))
    mine = next(t for t in scientist.get("/api/v1/you").json()["tokens"] if t["name"] == "notebook")
    assert as_role("stakeholder").fill(f"/you/tokens/{mine['id']}/revoke").status_code == 404
    assert scientist.fill(f"/you/tokens/{mine['id']}/revoke").status_code == 303
    assert TestClient(scientist.app, base_url=HERE).get("/api/v1/runs", headers={"authorization": f"Bearer {token[0]}"}).status_code == 401


def test_one_may_change_the_own_password_with_the_old_one(world: World) -> None:
    ws = world.ws
    quinn = signed_in(ws, "quinn", "stakeholder")
    people.set_password("quinn", "the first long password", ws.ledger, ws.clock, actor="ann")
    quinn = signed_in(ws, "quinn")
    assert quinn.fill("/you/password", old="wrong", new="the second long password").status_code == 400
    assert quinn.fill("/you/password", old="the first long password", new="short").status_code == 400
    assert quinn.fill("/you/password", old="the first long password", new="the second long password").status_code == 303
    assert quinn.get("/api/v1/home").status_code == 401
    signin.with_password("quinn", "the second long password", ws.ledger, ws.clock, address="")
