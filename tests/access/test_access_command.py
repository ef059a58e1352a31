"""`treadle access` through the command line, and its page in the documents."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from treadle.access import people, tokens
from treadle.access.permissions import PERMISSIONS, ROLES
from treadle.assemble import Workspace
from treadle.cli.main import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "access.md").read_text("utf-8")


@pytest.fixture
def access(tiny: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*words: str, types: str = "", code: int = 0) -> str:
        monkeypatch.setattr("sys.stdin", io.StringIO(types))
        assert main(["-C", str(tiny.folder), "access", *words]) == code
        out = capsys.readouterr()
        return out.out if code == 0 else out.err

    return run


def test_a_team_is_set_up_from_nothing(access: Any, tiny: Workspace) -> None:
    assert "There is nobody yet" in access("people", "list")
    access("people", "add", "Ada", "--role", "administrator", "--password-stdin", types="blue horses run far\n")
    access("groups", "add", "ops", "--role", "devops_engineer")
    access("people", "add", "bob", "--full", "Bob Ross", "--role", "data_scientist", "--group", "ops", "--no-password")
    listed = {p["name"]: p for p in json.loads(access("people", "list", "--json"))}
    assert listed["bob"]["roles"] == ["data_scientist", "devops_engineer"]
    assert [p["name"] for p in json.loads(access("who-may", "deployments.change", "--json"))] == ["ada", "bob"]
    access("people", "change", "bob", "--give", "ml_engineer", "--take", "data_scientist", "--leave", "ops")
    assert json.loads(access("groups", "list", "--json"))[0]["members"] == []
    access("groups", "change", "ops", "--add", "bob", "--give", "stakeholder", "--take", "devops_engineer")
    assert people.find_person("bob", tiny.ledger).roles == ("ml_engineer", "stakeholder")  # type: ignore[union-attr]
    access("groups", "remove", "ops")
    access("roles", "set", "auditor", "--title", "Auditor", "--about", "Reads the log.", "--allow", "audit.see")
    assert "See who did what" in access("roles", "show", "auditor")
    assert "own" in access("roles", "list")
    access("roles", "reset", "auditor")
    text = access("tokens", "make", "export", "--person", "ada", "--permission", "audit.export").split()[0]
    found = tokens.token_of(text, tiny.ledger, tiny.clock)
    assert found is not None
    assert text not in access("tokens", "list", "--json")
    access("tokens", "revoke", found[0].id)
    assert tokens.token_of(text, tiny.ledger, tiny.clock) is None
    assert len(access("link", "bob").split()[0].partition("http://127.0.0.1:8800/sign-in/link?key=")[2]) == 43
    assert "Nobody is signed in" in access("sessions", "list")
    access("sessions", "end", "--person", "bob")
    access("people", "password", "bob", "--password-stdin", types="green cows stand still\n")
    access("people", "unlock", "bob")
    access("people", "disable", "bob")
    assert "disabled" in access("people", "list")
    access("people", "enable", "bob")
    assert tiny.ledger.verify_chain() == len(tiny.ledger.events_since())
    assert {e.actor for e in tiny.ledger.events_since() if e.kind.startswith("access.")} == {tiny.actor}


def test_what_cannot_be_is_said_in_one_sentence(access: Any) -> None:
    assert "12 characters" in access("people", "add", "ada", "--password-stdin", types="short\n", code=2)
    assert "no role 'boss'" in access("people", "add", "ada", "--role", "boss", "--no-password", code=5)
    assert "no group" in access("people", "add", "ada", "--group", "none", "--no-password", code=5)
    assert "no terminal" in access("people", "add", "ada", code=2)
    access("people", "add", "ada", "--role", "administrator", "--no-password")
    assert "already" in access("people", "add", "ADA", "--no-password", code=6)
    assert "Nobody would be left" in access("people", "change", "ada", "--take", "administrator", code=4)
    assert "Nobody would be left" in access("people", "disable", "ada", code=4)
    assert "of their own" in access("people", "change", "ada", "--take", "architect", code=2)
    for words in (("people", "disable", "eve"), ("people", "change", "eve"), ("link", "eve"), ("tokens", "make", "x", "--person", "eve"), ("tokens", "revoke", "x"),
                  ("sessions", "end", "x"), ("groups", "remove", "none"), ("roles", "show", "none"), ("roles", "reset", "none")):  # fmt: skip
        assert "There is no" in access(*words, code=5)
    assert "no permission" in access("who-may", "everything", code=2)
    assert "cannot be changed" in access("roles", "set", "administrator", "--allow", "home.see", code=4)


def test_the_page_says_what_each_role_and_permission_is() -> None:
    head = next(line for line in PAGE.splitlines() if line.startswith("| permission | `stakeholder`"))
    assert re.findall(r"`(\w+)`", head) == list(ROLES)
    rows = {cells[0].strip("` "): cells[1:] for line in PAGE.splitlines() if line.startswith("| `") and len(cells := line.strip("|").split("|")) == len(ROLES) + 1}
    said = {p: {role for role, cell in zip(ROLES, cells, strict=True) if cell.strip() == "yes"} for p, cells in rows.items()}
    assert said == {p: {r.name for r in ROLES.values() if p in r.permissions} for p in PERMISSIONS}
    for permission, sentence in PERMISSIONS.items():
        assert f"| `{permission}` | {sentence} |" in PAGE


def test_the_page_lists_each_event_of_the_room() -> None:
    room = Path(people.__file__).parent
    written = {kind for file in room.glob("*.py") for kind in re.findall(r'"(access\.[a-z_.]+)"', file.read_text("utf-8"))} - PERMISSIONS.keys()
    assert len(written) >= 12
    assert set(re.findall(r"`(access\.[a-z_.]+)`", PAGE.split("## What is written down")[1])) == written
