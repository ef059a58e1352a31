"""The audit log in the console: who did what, when and from where; chosen, page by page, taken out, and checked."""

from __future__ import annotations

import csv
import json
from io import StringIO
from itertools import pairwise
from typing import Any

import pytest

from treadle.core.records import GENESIS, Ref
from treadle.web.console.answer import API

from .conftest import As

World = Any


@pytest.fixture(scope="module", autouse=True)
def formula(world: World) -> None:
    world.ws.ledger.append("test.formula", Ref("model", "=HYPERLINK(1)"), {"address": "10.0.0.7", "said": "<b>bold</b>"}, actor="@eve")


def test_entries_show_who_what_when_and_from_where(world: World, as_role: As) -> None:
    page = as_role("administrator").get("/audit").text
    assert "the chain of hashes is whole" in page
    assert "10.0.0.7" in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    assert "<b>bold" not in page
    entry = as_role("administrator").get(f"{API}/audit?who=@eve").json()["items"][0]
    assert (entry["actor"], entry["kind"], entry["subject"], entry["address"]) == ("@eve", "test.formula", "model/=HYPERLINK(1)", "10.0.0.7")


def test_entries_are_chosen_by_who_what_subject_and_time(world: World, as_role: As) -> None:
    ask = lambda **q: as_role("architect").get(f"{API}/audit", params=q).json()["items"]  # noqa: E731
    assert {e["actor"] for e in ask(who="bob")} == {"bob"}
    assert {e["kind"].partition(".")[0] for e in ask(what="deployment.")} == {"deployment"}
    assert {e["subject"] for e in ask(subject=f"alarm/{world.alarm}")} == {f"alarm/{world.alarm}"}
    assert ask(until="2000-01-01") == []
    assert ask(since="2000-01-01", limit=3)
    for wrong in ({"since": "yesterday"}, {"subject": "alarm/"}, {"after": "x"}, {"limit": 0}):
        assert as_role("architect").get(f"{API}/audit", params=wrong).status_code == 400, wrong


def test_pages_follow_each_other_without_a_gap_and_keep_what_was_chosen(as_role: As) -> None:
    client, seen, after = as_role("administrator"), [], ""
    while True:
        given = client.get(f"{API}/audit", params={"limit": 40, "after": after, "what": "access."}).json()
        seen += [e["seq"] for e in given["items"]]
        after = given["next"]
        if after is None:
            break
    assert seen == sorted(set(seen), reverse=True)
    assert "/audit?who=" in client.get("/audit?what=access.&limit=1").text
    assert 'href="?what=access.&amp;after=' in client.get("/audit?what=access.&limit=1").text


def test_the_log_is_taken_out_with_its_hashes_or_without_formulas_and_that_is_on_record(world: World, as_role: As) -> None:
    client = as_role("stakeholder")
    answer = client.get("/audit/export?format=jsonl")
    assert "attachment" in answer.headers["content-disposition"]
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines[0]["previous"] == GENESIS
    assert all(a["hash"] == b["previous"] for a, b in pairwise(lines))
    assert lines[-1]["kind"] == "audit.exported"
    assert lines[-1]["actor"] == "a.stakeholder"
    rows = list(csv.DictReader(StringIO(client.get("/audit/export?format=csv&what=test.formula").text)))
    assert [(r["actor"], r["subject_id"]) for r in rows] == [("'@eve", "'=HYPERLINK(1)")]
    assert as_role("architect").get("/audit/export").status_code == 403
    assert "/audit/export" not in as_role("architect").get("/audit").text


def test_the_whole_chain_is_checked_on_demand(world: World, as_role: As) -> None:
    entries = world.ws.ledger.verify_chain()
    page = as_role("administrator").get("/audit/check").text
    assert f"{entries:,} entries: every hash was computed again" in page
    assert as_role("administrator").get(f"{API}/audit/check").json()["whole"]


def test_the_old_page_is_gone(as_role: As) -> None:
    assert as_role("administrator").get("/events").status_code == 404
