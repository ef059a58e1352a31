"""Rows pushed over HTTP: stored durably before the answer, once, never over a newer value; what cannot be stored is named with its reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.assemble import Workspace, open_workspace
from treadle.core.clock import iso
from treadle.features.online import look_up
from treadle.serving.address import free_port
from treadle.web.api.features import LARGEST_BODY, MOST_ROWS
from treadle.web.api.triggers import make_app

TOKEN = "a-token-of-some-length"
PROJECT = """import polars as pl
import treadle as tr
project = tr.Project("shop")
sales = project.dataset("sales", source=tr.csv("sales.csv", tz="Europe/Zurich"), key="id", event_time="at", known_time="known", contract=tr.Contract({
    "id": tr.integer(), "shop": tr.category(), "at": tr.timestamp(), "known": tr.timestamp(), "price": tr.number(ge=0, nullable=True),
}))
project.view("last-sale", source=sales, entity="shop", features=["price"], ttl="30d")
project.view("day", source=sales, entity="shop", window="24h", every="1h", features={"n": pl.len()})
"""
NOW = datetime.now(UTC).replace(microsecond=0)
Post = Callable[..., Any]


def row(id: int, shop: str | None, minutes: float, price: Any = 1.0, **more: Any) -> dict[str, Any]:
    at = iso(NOW - timedelta(minutes=minutes))
    return {"id": id, "shop": shop, "at": at, "known": at, "price": price, **more}


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("TREADLE_TRIGGER_TOKEN", TOKEN)
    (tmp_path / "project.py").write_text(PROJECT)
    return open_workspace(tmp_path)


@pytest.fixture
def post(ws: Workspace) -> Iterator[Post]:
    with TestClient(make_app(ws), base_url="http://127.0.0.1") as client:

        def call(body: Any, view: str = "last-sale", token: str = TOKEN, **headers: str) -> Any:
            given = {"Authorization": f"Bearer {token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
            content = {"content": body} if isinstance(body, bytes) else {"json": body}
            return client.post(f"/features/{view}", headers=given, **content)

        yield call


def prices(ws: Workspace, *shops: str) -> list[Any]:
    return [found["last-sale"].values["price"] for found in look_up(ws.online, [ws.project.views["last-sale"]], [{"shop": s} for s in shops], datetime.now(UTC))]


def test_pushed_rows_are_values_at_once_and_the_same_again_or_late_ones_change_nothing(ws: Workspace, post: Post) -> None:
    body = {"rows": [row(1, "a", 10, 12.5), row(2, "b", 9, 3)]}
    first = post(body)
    assert (first.status_code, first.json()) == (200, {"view": "last-sale", "rows": 2, "written": 2, "refused": []})
    assert prices(ws, "a", "b", "c") == [12.5, 3.0, None]
    assert post(body).json()["written"] == 0
    assert post([row(3, "a", 60, 99.0)]).json()["written"] == 0  # it happened before
    assert post(row(4, "b", 1, None)).json()["written"] == 1  # one row by itself; missing is a value too
    assert prices(ws, "a", "b") == [12.5, None]
    assert post([]).json() == {"view": "last-sale", "rows": 0, "written": 0, "refused": []}


def test_rows_that_cannot_be_stored_are_named_with_their_reasons_and_the_others_are_stored(ws: Workspace, post: Post) -> None:
    rows = [
        row(1, "a", 10, 1.0), row(2, "b", 10, -5), row(3, "c", 10, "dear"), row(4, None, 10), {"id": 5, "shop": "e"}, row(6, "f", -600),
        row(7, "g", 10, 7.0), row(7, "h", 10), row(2**70, "i", 10), {},
    ]  # fmt: skip
    answer = post({"rows": rows})
    assert answer.status_code == 200
    assert (answer.json()["rows"], answer.json()["written"]) == (10, 2)
    told = {r["row"]: r["reason"] for r in answer.json()["refused"]}
    assert told == {
        1: "price is below 0", 2: "price does not read as number", 3: "shop is missing", 4: "at is missing; known is missing",
        5: "known is in the future: it is not known yet", 7: "id is not unique",
        8: "id does not read as integer; id is missing",
        9: "id is missing; id is not unique; shop is missing; at is missing; known is missing",
    }  # fmt: skip
    assert prices(ws, *"abcefgh") == [1.0, None, None, None, None, 7.0, None]
    assert "dear" not in answer.text  # no value of a row is said back
    alone = post(row(9, "z", 5, -1))
    assert (alone.status_code, alone.json()["refused"]) == (422, [{"row": 0, "reason": "price is below 0"}])


def test_moments_without_a_zone_are_of_the_data_sets_own(ws: Workspace, post: Post) -> None:
    local = (NOW - timedelta(hours=5)).replace(tzinfo=None).isoformat()
    assert post({**row(1, "a", 0, 5.0), "at": local, "known": local}).json()["written"] == 1
    (found,) = look_up(ws.online, [ws.project.views["last-sale"]], [{"shop": "a"}], datetime.now(UTC))
    assert 6 * 3600 - 60 < (found["last-sale"].age or 0) < 7 * 3600 + 600  # Zurich's clock is one or two hours ahead


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        ({"view": "no-such-view"}, 404, "no such view"),
        ({"view": "day"}, 422, "treadle materialise day"),
        ({"token": "wrong"}, 401, "Show the token"),
        ({"Host": "example.org"}, 403, "this machine only"),
        ({"body": b"{}", "Content_Type": "text/plain"}, 415, "Send JSON"),
        ({"body": b"", "Content_Type": "application/json"}, 400, "no body"),
        ({"body": b'[{"id": 1', "Content_Type": "application/json"}, 400, "not JSON"),
        ({"body": b"[" * 100_000, "Content_Type": "application/json"}, 400, "not JSON"),
        ({"body": b'[{"shop": "\\ud800"}]', "Content_Type": "application/json"}, 400, "half of a character"),
        ({"body": b'[{"shop": "\xff"}]', "Content_Type": "application/json"}, 400, "not UTF-8"),
        ({"body": "rows"}, 422, "a list of rows"),
        ({"body": {"rows": {"id": 1}}}, 422, "a list of rows"),
        ({"body": [{"id": 1}, 7]}, 422, "Row 1 is no JSON object"),
        ({"body": [{}] * (MOST_ROWS + 1)}, 413, "more than 10,000"),
        ({"body": {"rows": "x" * LARGEST_BODY}}, 413, "at most 4,194,304 bytes"),
        ({"Content_Length": "x"}, 400, "no number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_in_one_sentence_and_stores_nothing(ws: Workspace, post: Post, arguments: dict[str, Any], status: int, says: str) -> None:
    answer = post(**{"body": [row(1, "a", 5)], **arguments})
    assert (answer.status_code, says in answer.json()["message"]) == (status, True), answer.text
    assert "Traceback" not in answer.text
    assert ws.online.count("last-sale") == 0


def test_a_store_that_is_down_is_said_to_be_and_the_rows_can_be_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_TRIGGER_TOKEN", TOKEN)
    (tmp_path / "project.py").write_text(PROJECT)
    (tmp_path / "treadle.toml").write_text(f'online = "redis://127.0.0.1:{free_port("127.0.0.1")}/0"\n')
    with TestClient(make_app(open_workspace(tmp_path)), base_url="http://127.0.0.1") as client:
        answer = client.post("/features/last-sale", json=[row(1, "a", 5)], headers={"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status_code, answer.json()["error"]) == (503, "unavailable")


def test_a_real_server_stores_what_it_said_it_stored_when_it_is_killed(ws: Workspace, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    command = [sys.executable, "-m", "treadle.cli.main", "-C", str(tmp_path), "schedule", "run", "--http", str(port)]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={**os.environ, "TREADLE_TRIGGER_TOKEN": TOKEN})

    def push(body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/features/last-sale", json.dumps(body).encode(), headers, method="POST")
        for _ in range(600):
            try:
                with urllib.request.urlopen(request) as answer:
                    return dict(json.load(answer))
            except urllib.error.HTTPError as error:
                return dict(json.load(error))
            except urllib.error.URLError:
                assert child.poll() is None
                time.sleep(0.1)
        raise AssertionError("the server does not answer")

    try:
        assert push([row(i, f"shop {i}", 10, float(i)) for i in range(2000)])["written"] == 2000
        assert push([row(1, "shop 1", 20, 77.0), row(2, "shop 2", 5, -1)]) == {
            "view": "last-sale", "rows": 2, "written": 0, "refused": [{"row": 1, "reason": "price is below 0"}],
        }  # fmt: skip
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert prices(ws, "shop 0", "shop 1", "shop 1999") == [0.0, 1.0, 1999.0]
