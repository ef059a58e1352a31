"""The HTTP API: described, paged, the same call once, errors as problems."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from treadle.core.errors import Conflict, NotFound, UsageError
from treadle.web.console.once import KIND, once
from treadle.web.console.openapi import described, names_in
from treadle.web.console.table import OPERATIONS

from .conftest import As

World = Any


def test_its_description_names_every_operation_with_its_permission(as_role: As) -> None:
    said = as_role("stakeholder").get("/api/v1/openapi.json").json()
    found = {one["operationId"]: (path, method, one["x-permission"]) for path, methods in said["paths"].items() for method, one in methods.items()}
    assert found == {o.name: (f"/api/v1{o.path}", o.method.lower(), o.permission) for o in OPERATIONS}
    assert said["openapi"] == "3.1.0"


def test_its_description_is_whole() -> None:
    said = described(OPERATIONS, "/api/v1")
    schemas = said["components"]["schemas"]

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [r for v in value.values() for r in references(v)]
        return [r for v in value for r in references(v)] if isinstance(value, list) else []

    assert {r.removeprefix("#/components/schemas/") for r in references(said)} <= set(schemas)
    for path, methods in said["paths"].items():
        for one in methods.values():
            assert [p["name"] for p in one["parameters"] if p["in"] == "path"] == names_in(path)


def test_a_list_is_read_page_by_page_without_loss(world: World, as_role: As) -> None:
    client, after, seen = as_role("administrator"), "", []
    while True:
        page = client.get("/api/v1/runs", params={"limit": 1, "after": after}).json()
        seen += [r["id"] for r in page["items"]]
        after = page["next"]
        if not after:
            break
    assert seen == [r.id for r in world.ws.ledger.find("run", newest_first=True)]
    assert len(seen) > 1


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "after=!!!", "after=WzFd", "nothing=1", "limit=1&limit=2x"])
def test_a_wrong_parameter_is_a_problem_that_says_which(as_role: As, query: str) -> None:
    answer = as_role("administrator").get(f"/api/v1/runs?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == 400
    assert told["error"] == "usage"
    assert told["detail"]


def test_what_is_not_there_is_a_problem(as_role: As) -> None:
    for path in ("/api/v1/runs/none", "/api/v1/nothing", "/api/v1/versions", "/api/v2/runs", "/api/v1/runs/%00", "/api/v1/runs/" + "x" * 5000):
        answer = as_role("administrator").get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found"), path


def test_a_call_with_one_key_is_made_once(as_role: As, world: World) -> None:
    client = as_role("administrator")
    headers = {"x-csrf-token": client.csrf, "idempotency-key": "group-1"}
    first = client.post("/api/v1/access/groups", json={"name": "once"}, headers=headers)
    again = client.post("/api/v1/access/groups", json={"name": "once"}, headers=headers)
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert again.headers["idempotency-replayed"] == "true"
    assert client.post("/api/v1/access/groups", json={"name": "another"}, headers=headers).status_code == 400
    assert client.post("/api/v1/access/groups", json={"name": "once"}, headers={**headers, "idempotency-key": "group-2"}).status_code == 409
    assert client.post("/api/v1/access/groups", json={"name": "x"}, headers={**headers, "idempotency-key": "a b"}).status_code == 400


def test_of_two_calls_with_one_key_at_the_same_moment_one_is_made(world: World) -> None:
    ledger, entered, go = world.ws.ledger, threading.Event(), threading.Event()
    done: list[Any] = []

    def slow() -> dict[str, int]:
        entered.set()
        go.wait(10)
        return {"made": 1}

    first = threading.Thread(target=lambda: done.append(once("k", "ann", "a.b", {"x": 1}, slow, ledger)))
    first.start()
    entered.wait(10)
    with pytest.raises(Conflict, match="end is not on record"):
        once("k", "ann", "a.b", {"x": 1}, lambda: pytest.fail("it was done twice"), ledger)
    go.set()
    first.join()
    assert done == [({"made": 1}, False)]
    assert once("k", "ann", "a.b", {"x": 1}, lambda: pytest.fail("it was done twice"), ledger) == ({"made": 1}, True)
    with pytest.raises(UsageError, match="another call"):
        once("k", "ann", "a.b", {"x": 2}, dict, ledger)
    assert once("k", "bob", "a.b", {"x": 2}, lambda: {"made": 2}, ledger) == ({"made": 2}, False)


def test_a_call_that_failed_may_be_made_again(world: World) -> None:
    ledger = world.ws.ledger

    def fails() -> None:
        raise NotFound("not yet")

    with pytest.raises(NotFound):
        once("f", "ann", "a.b", None, fails, ledger)
    assert once("f", "ann", "a.b", None, lambda: {"made": 1}, ledger) == ({"made": 1}, False)
    assert all("answer" not in r.body or r["status"] == "done" for r in ledger.find(KIND))


def test_another_persons_command_is_as_one_that_is_not_there(as_role: As) -> None:
    begun = as_role("administrator").tell("/api/v1/commands", argv=["status"]).json()
    missing = as_role("ml_engineer").get("/api/v1/commands/command-none")
    hidden = as_role("ml_engineer").get(f"/api/v1/commands/{begun['id']}")
    assert hidden.status_code == missing.status_code == 404
    assert hidden.json()["detail"].replace(begun["id"], "") == missing.json()["detail"].replace("command-none", "")


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["init", "x"], "not run by a server"), (["console"], "not run by a server"), (["up"], "not run by a server"), ([], "Which command"),
        (["nothing"], "no command"), (["run", "--executor", "ray:"], "no --executor"), (["watch", "--metrics", "/etc/passwd"], "file of the server"),
        (["contract", "import", "x"], "not run by a server"), (["quarantine", "fix", "a", "--file", "/etc/passwd"], "file of the server"),
        (["runs", "--no-such-option"], "No such option"), (["-C", "/", "runs"], "no command"), (["watch", "--follow"], "no --follow"),
        (["score", "--data", "/etc/passwd"], "not run by a server"), (["erase", "--subject", "x"], "not run by a server"),
    ],
)  # fmt: skip
def test_a_server_runs_no_command_that_would_reach_beyond_the_project(as_role: As, argv: list[str], says: str) -> None:
    answer = as_role("administrator").tell("/api/v1/commands", argv=argv)
    assert answer.status_code == 400
    assert says in answer.json()["detail"]


def test_what_is_done_is_on_record_with_who_through_what_and_from_where(as_role: As, world: World) -> None:
    before = world.ws.ledger.verify_chain()
    client = as_role("administrator")
    assert client.tell("/api/v1/access/groups", name="recorded").status_code == 200
    assert client.tell("/api/v1/access/groups", name="recorded").status_code == 409  # what was not done is not
    events = world.ws.ledger.events_since(before)
    assert [e.kind for e in events] == ["access.group.added", "console.done"]
    assert events[1].actor == "a.administrator"
    assert events[1].body == {"operation": "access.add_group", "of": {}, "address": "testclient", "by": "session"}
