"""What people and data write is text, whatever it looks like; and what one project's people hold opens no other project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from treadle.access import people, tokens
from treadle.assemble import open_workspace
from treadle.core.records import Ref
from treadle.data.write_project import write_blank
from treadle.review import notes
from treadle.testing.console import signed_in
from treadle.web.console.app import make_app

from .conftest import HERE, As

World = Any
STRANGE = ["{{ 7 * 7 }}{% for x in [] %}", "${7*7}#{7*7}", "<svg onload=alert(1)>", "'; DROP TABLE records; --", "=HYPERLINK(1)", "\u202eevil"]


@pytest.mark.parametrize("text", STRANGE)
def test_a_note_is_shown_as_it_was_written(world: World, as_role: As, text: str) -> None:
    ledger = world.ws.ledger
    notes.write(Ref("model", world.model.name), f"look: {text} :end", ledger, world.ws.clock, by="a.administrator")
    page = as_role("administrator").get(f"/models/{world.model.name}").text
    main = page.split("<main")[1].split("</main>")[0]
    assert "49" not in re.findall(r"look: (.*?) :end", main, flags=re.S)[-1]
    assert "<svg onload" not in main
    assert "{% for x" in main or "{% for" not in text


@pytest.mark.parametrize("word", ["$(touch pwned)", "; touch pwned", "`touch pwned`", "a\nb", "--out=/etc/pwned", "../../etc/passwd"])
def test_an_argument_is_one_word_to_a_command_and_to_no_shell(world: World, as_role: As, word: str) -> None:
    client = as_role("administrator")
    answer = client.tell("/api/v1/commands", argv=["alarms", "show", word])
    if answer.status_code == 202:
        id = answer.json()["id"]
        for _ in range(100):
            said = client.get(f"/api/v1/commands/{id}?wait=5").json()
            if said["status"] != "running":
                break
        assert said["code"] not in (0, None)
    else:
        assert answer.status_code == 400
    assert not list(world.ws.folder.rglob("pwned"))
    assert not Path("/etc/pwned").exists()


def test_what_opens_one_project_opens_no_other(tmp_path: Path, world: World) -> None:
    write_blank(tmp_path / "other", "other")
    other = open_workspace(tmp_path / "other")
    signed_in(other, "ann.other")
    people.add_person("tess", world.ws.ledger, world.ws.clock, actor="a test", roles=["administrator"])
    foreign = tokens.make_token("tess", "a test", world.ws.ledger, world.ws.clock, actor="a test")[0]
    here, there = (TestClient(make_app(ws), base_url=HERE) for ws in (world.ws, other))
    shown = {"authorization": f"Bearer {foreign}"}
    assert here.get("/api/v1/runs", headers=shown).status_code == 200
    run = here.get("/api/v1/runs", headers=shown).json()["items"][0]["id"]
    known, missing = (there.get(f"/api/v1/runs/{id}", headers=shown) for id in (run, "run-none"))
    assert known.status_code == missing.status_code == 401
    assert known.content == missing.content
    cookies = signed_in(world.ws, "tess").cookies
    assert TestClient(make_app(other), base_url=HERE, cookies=cookies).get("/api/v1/runs").status_code == 401
