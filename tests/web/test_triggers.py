"""Calls of the scheduler: only from this machine, only with the token, durable before the answer, the same call once; everything else is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import UsageError
from treadle.web.api.triggers import LARGEST_BODY, make_app

TOKEN = "a-token-of-some-length"
PROJECT = """import treadle as tr
project = tr.Project("demo", owner="me", goal="test")
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id")
model = project.model("late", rows=rows, target="y", inputs=["a"])

@project.pipeline
def flow(part: str = "all", size: int = 1) -> None: ...

project.schedule("by-call", flow, when=tr.on_call("go"))
project.schedule("train", model, when=tr.on_call())
project.schedule("nightly", flow, when=tr.cron("0 6 * * *"))
"""
Post = Callable[..., Any]


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("TREADLE_TRIGGER_TOKEN", TOKEN)
    (tmp_path / "project.py").write_text(PROJECT)
    return open_workspace(tmp_path)


@pytest.fixture
def called() -> list[int]:
    return []


@pytest.fixture
def client(ws: Workspace, called: list[int]) -> Iterator[TestClient]:
    with TestClient(make_app(ws, called=lambda: called.append(1)), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def post(client: TestClient) -> Post:
    def call(name: str = "go", body: Any = None, token: str | None = TOKEN, **headers: str) -> Any:
        authorized = {"Authorization": f"Bearer {token}"} if token is not None else {}
        given = {k.replace("_", "-"): v for k, v in headers.items()}
        return client.post(f"/triggers/{name}", headers={**authorized, **given}, **({"json": body} if not isinstance(body, bytes | None) else {"content": body}))

    return call


def slots(ws: Workspace) -> list[Any]:
    return ws.ledger.find("slot")


def test_a_call_is_recorded_before_it_is_answered_and_can_be_looked_at(ws: Workspace, client: TestClient, post: Post, called: list[int]) -> None:
    answer = post(body={"part": "north", "size": 3})
    assert answer.status_code == 202
    (slot,) = slots(ws)
    assert answer.json() == {"call": answer.json()["call"], "schedule": "by-call", "slot": slot.id, "status": "pending"}
    assert slot["params"] == {"part": "north", "size": 3}
    assert slot["cause"] == {"kind": "call", "id": answer.json()["call"], "text": "POST /triggers/go"}
    assert called == [1]
    looked = client.get(answer.headers["location"], headers={"Authorization": f"Bearer {TOKEN}"})
    assert looked.json() == {"call": answer.json()["call"], "schedule": "by-call", "slot": slot.id, "status": "pending", "run": slot["run"], "error": ""}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_the_same_key_is_the_same_call_and_other_parameters_under_it_are_refused(ws: Workspace, post: Post) -> None:
    first, again = post(body={"part": "a"}, Idempotency_Key="deploy-7"), post(body={"part": "a"}, Idempotency_Key="deploy-7")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json() == again.json()
    assert first.json()["call"] == "deploy-7"
    other = post(body={"part": "b"}, Idempotency_Key="deploy-7")
    assert (other.status_code, other.json()["error"]) == (409, "conflict")
    assert [s.id for s in slots(ws)] == ["by-call@call.deploy-7"]


def test_calls_without_a_key_are_each_their_own(ws: Workspace, post: Post) -> None:
    assert {post().status_code, post().status_code} == {202}
    assert len(slots(ws)) == 2


@pytest.mark.parametrize(
    ("token", "headers"),
    [(None, {}), ("", {}), ("wrong", {}), (TOKEN[:-1], {}), (TOKEN + "x", {}), (None, {"Authorization": TOKEN}), (None, {"Authorization": f"Basic {TOKEN}"})],
)
@pytest.mark.parametrize("name", ["go", "no-such-trigger"])
def test_without_the_token_nothing_is_told(ws: Workspace, post: Post, token: str | None, headers: dict[str, str], name: str) -> None:
    answer = post(name, token=token, **headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["error"] == "unauthorized"
    assert not slots(ws)


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ({"name": "nightly"}, 404, "no such trigger"),
        ({"name": "by-call"}, 404, "no such trigger"),
        ({"body": b"{}", "Content_Type": "text/plain"}, 415, "Send JSON"),
        ({"body": b"part=x", "Content_Type": "application/x-www-form-urlencoded"}, 415, "Send JSON"),
        ({"body": b"{", "Content_Type": "application/json"}, 400, "not JSON"),
        ({"body": b"\xff\xfe", "Content_Type": "application/json"}, 400, "not JSON"),
        ({"body": b"[" * 50_000, "Content_Type": "application/json"}, 400, "not JSON"),
        ({"body": [1]}, 422, "must be an object"),
        ({"body": {"colour": "red"}}, 422, "has no parameter 'colour'"),
        ({"body": {"size": "many"}}, 422, "'size' of 'flow' is 'many'"),
        ({"name": "train", "body": {"part": "x"}}, 422, "takes no parameters"),
        ({"body": {"part": "x" * LARGEST_BODY}}, 413, "at most 65,536 bytes"),
        ({"Content_Length": "99999999999999999999"}, 400, "no number"),
        ({"Content_Length": "x"}, 400, "no number"),
        ({"Idempotency_Key": "a b"}, 400, "Idempotency-Key"),
        ({"Idempotency_Key": "x" * 101}, 400, "Idempotency-Key"),
        ({"Idempotency_Key": "../../x"}, 400, "Idempotency-Key"),
        ({"Host": "example.org"}, 403, "this machine only"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_one_sentence_and_leaves_nothing(ws: Workspace, post: Post, arguments: dict[str, Any], status: int, says: str) -> None:
    answer = post(**arguments)
    assert (answer.status_code, says in answer.json()["message"]) == (status, True), answer.text
    assert "Traceback" not in answer.text
    assert not slots(ws)


def test_a_body_that_hides_its_length_is_cut_off(ws: Workspace, client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    answer = client.post("/triggers/go", headers=headers, content=(b"x" * 1000 for _ in range(100)))
    assert answer.status_code == 413
    assert not slots(ws)


def test_other_methods_and_paths_are_refused(client: TestClient) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.get("/triggers/go", headers=headers).status_code == 405
    assert client.put("/triggers/go", headers=headers).status_code == 405
    assert client.get("/", headers=headers).status_code == 404
    assert client.get("/triggers/go/no-such-call", headers=headers).status_code == 404
    assert client.get("/triggers/go/..%2fx", headers=headers).status_code == 404


@pytest.mark.parametrize("token", ["", "short", "x" * 15, "with a blank in the midst", "mit-Umlaut-ä-und-lang-genug"])
def test_without_a_good_token_it_does_not_listen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("TREADLE_TRIGGER_TOKEN", token)
    (tmp_path / "project.py").write_text(PROJECT)
    with pytest.raises(UsageError, match="trigger_token"):
        make_app(open_workspace(tmp_path))
