"""Notes in the console: written below any thing, answered, changed, settled; hand-overs; what each was told. Text stays text; of two who change, one wins."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.core.records import Ref
from treadle.review import notes, owners
from treadle.web.console.answer import API
from treadle.web.console.places import PAGES, page_of
from treadle.web.console.table import OPERATIONS

from .conftest import HERE, As, post, signed_in

World = Any
EVIL = "<img src=x onerror=alert(1)>\n@a.ml.engineer {{ 7 * 7 }}"


@pytest.fixture(scope="module")
def thing(world: World) -> str:
    return f"model/{world.model.name}"


def written(world: World, thing: str) -> Any:
    return notes.notes_of(Ref(*thing.split("/", 1)), world.ws.ledger)[-1]


def api(client: TestClient, path: str, **fields: Any) -> Any:
    return client.post(API + path, json=fields, headers={"x-csrf-token": client.csrf, "origin": HERE})  # type: ignore[attr-defined]


def test_a_note_is_written_below_the_thing_and_its_text_stays_text(world: World, as_role: As, thing: str) -> None:
    scientist = as_role("data_scientist")
    page = scientist.get(f"/models/{world.model.name}").text
    assert "Owner and notes" in page
    assert "Owned by <strong>the &lt;b&gt;dispatch&lt;/b&gt; desk</strong>, as the project file says" in page
    answer = post(scientist, "/notes", on=thing, text=EVIL, kind="question", back=f"/models/{world.model.name}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/models/{world.model.name}?done=notes.write")
    page = scientist.get(answer.headers["location"]).text
    assert "Your note is written." in page
    assert "&lt;img src=x onerror=alert(1)&gt;\n@a.ml.engineer {{ 7 * 7 }}" in page
    assert "<img src=x" not in page


def test_whoever_is_addressed_is_told_answers_and_that_settles_the_question(world: World, as_role: As, thing: str) -> None:
    scientist, engineer = as_role("data_scientist"), as_role("ml_engineer")
    post(scientist, "/notes", on=thing, text="Which rows are the test rows?", kind="question", to="a.ml.engineer")
    asked = written(world, thing)
    page = engineer.get("/notes").text
    assert "Which rows are the test rows?" in page.partition("Asked of you, and open")[2].partition("Asked by you")[0]
    told = engineer.get(f"{API}/notices?unread=true").json()
    assert told["unread"] >= 1
    assert post(engineer, "/notices/read", ids=[n["id"] for n in told["items"]]).status_code == 303
    assert engineer.get(f"{API}/notices?unread=true").json()["items"] == []
    post(engineer, "/notes", on=thing, text="The last ones.", answers=asked.id)
    assert "settled it" in scientist.get(f"/notes/{asked.id}").text
    assert "The last ones." in scientist.get(f"/notes/{asked.id}").text


def test_of_two_who_change_a_note_the_second_is_told(world: World, as_role: As, thing: str) -> None:
    client = as_role("data_scientist")
    post(client, "/notes", on=thing, text="one")
    note = written(world, thing)
    assert post(client, f"/notes/{note.id}/edit", text="the second text", expect=note.version).status_code == 303
    late = post(client, f"/notes/{note.id}/edit", text="three", expect=note.version)
    assert late.status_code == 409
    assert "Somebody changed note" in late.text
    assert written(world, thing)["text"] == "the second text"
    assert "1 earlier text" in client.get(f"/notes/{note.id}").text
    other = as_role("ml_engineer")
    assert post(other, f"/notes/{note.id}/edit", text="mine", expect=note.version + 1).status_code == 403
    assert f"/notes/{note.id}#edit" not in other.get(f"/models/{world.model.name}").text
    assert post(client, f"/notes/{note.id}/withdraw", expect=note.version + 1).status_code == 303
    assert "the second text" not in client.get(f"/notes/{note.id}").text


def test_a_request_for_change_is_settled_by_whom_it_is_for(world: World, as_role: As, thing: str) -> None:
    post(as_role("stakeholder"), "/notes", on=thing, text="Please predict earlier", kind="change", to="a.ml.engineer")
    note = written(world, thing)
    refused = post(as_role("architect"), f"/notes/{note.id}/settle", how="done", expect=note.version)
    assert refused.status_code == 403
    assert post(as_role("ml_engineer"), f"/notes/{note.id}/settle", how="done in run-1", expect=note.version).status_code == 303
    assert "done in run-1" in as_role("stakeholder").get(f"/models/{world.model.name}").text


def test_a_thing_is_offered_and_is_somebodys_when_they_accept(world: World, as_role: As) -> None:
    alarm, ref = f"alarm/{world.alarm}", Ref("alarm", world.alarm)
    engineer, devops = as_role("ml_engineer"), as_role("devops_engineer")
    assert post(engineer, "/owners/offer", on=alarm, to="a.devops.engineer", expect=0, text="yours?").status_code == 303
    assert post(engineer, "/owners/offer", on=alarm, to="a.architect", expect=0).status_code == 409
    version = owners.record_of(ref, world.ws.ledger).version  # type: ignore[union-attr]
    assert "yours?" in devops.get("/notes").text
    assert post(as_role("architect"), "/owners/accept", on=alarm, expect=version).status_code == 403
    assert post(devops, "/owners/accept", on=alarm, expect=version).status_code == 303
    assert owners.owner_of(ref, world.ws.ledger) == "a.devops.engineer"
    assert "Owned by <strong>a.devops.engineer</strong> since" in devops.get("/notes/about", params={"on": alarm}).text


def test_names_and_things_that_are_not_there_are_said(as_role: As, thing: str) -> None:
    client = as_role("data_scientist")
    assert "no person or group &#39;nobody&#39;" in post(client, "/notes", on=thing, text="x", to="nobody").text
    assert api(client, "/notes", on="model/none", text="x").status_code == 404
    assert api(client, "/notes", on="token/x", text="x").status_code in (400, 404)
    assert api(client, "/notes", on=thing, text=" ").status_code == 400
    assert api(client, "/notes", on=thing, text="x" * 10_001).status_code == 400
    assert client.get("/notes/note-none").status_code == 404


def test_what_one_may_not_see_one_reads_no_notes_about(world: World, as_role: As) -> None:
    assert api(as_role("data_scientist"), "/notes", on="prediction/p-00007", text="a private remark").status_code == 200
    note = notes.notes_of(Ref("prediction", "p-00007"), world.ws.ledger)[-1]
    assert "a private remark" in as_role("stakeholder").get("/notes").text
    assert "a private remark" not in as_role("data_engineer").get("/notes").text
    assert as_role("data_engineer").get(f"/notes/{note.id}").status_code == 404
    assert as_role("data_engineer").get("/notes/about", params={"on": "prediction/p-00007"}).status_code == 403


def test_the_page_of_every_kind_of_thing_is_a_page_there_is() -> None:
    paths = {o.path for o in OPERATIONS if o.page is not None}
    for kind, (name, _) in PAGES.items():
        path = page_of(Ref(kind, "late.v3"))
        found = [p for p in paths | {"/"} if p.count("/") == path.partition("?")[0].count("/")]
        assert found, (kind, name, path)


def test_a_name_that_means_something_in_a_path_stays_one_part_of_it() -> None:
    assert page_of(Ref("model", "a/../b?c#d")) == "/models/a%2F..%2Fb%3Fc%23d"
    assert page_of(Ref("view", "a&b=c")) == "/notes/about?on=view%2Fa%26b%3Dc"


def test_many_notes_leave_the_page_short(world: World) -> None:
    client = signed_in(world.ws, "mo", "data_scientist")
    ref = Ref("project", world.ws.project.name)
    for i in range(30):
        notes.write(ref, f"remark {i}", world.ws.ledger, world.ws.clock, by="mo")
    page = client.get("/notes/about", params={"on": str(ref), "limit": 20}).text
    assert page.count("remark") == 20
    assert "All 30 notes" in page
    first = client.get(f"{API}/notes", params={"on": str(ref), "limit": 25}).json()
    second = client.get(f"{API}/notes", params={"on": str(ref), "limit": 25, "after": first["next"]}).json()
    assert [n["text"] for n in first["items"] + second["items"]] == [f"remark {i}" for i in range(29, -1, -1)]
    assert second["next"] is None
