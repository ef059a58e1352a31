"""A project about invented persons, run once, with one of them planted wherever a person can get to; each test gets a copy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from deltalake import DeltaTable

from treadle.assemble import Workspace, open_workspace
from treadle.core.records import Ref
from treadle.ports.online import Key, Value
from treadle.testing.command import treadle
from treadle.testing.persons import ADA, OLD_EMAIL, write_persons

STEPS = '''

@tr.step
def letter(who: str) -> str:
    print("writing to", who)
    return f"Dear {who}"


@tr.step
def broken(text: str) -> str:
    raise ValueError(f"no stamp for {text}")


@project.pipeline
def letters(who: str = "nobody"):
    return broken(letter(who))
'''


@pytest.fixture(scope="session")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after some days: two versions of the customers, a model, logs, failures, online values, a checkpoint, leftovers."""
    folder = write_persons(tmp_path_factory.mktemp("persons") / "persons", mention=True)
    with (folder / "project.py").open("a") as file:
        file.write(STEPS)
    customers = (folder / "customers.csv").read_text()
    (folder / "customers.csv").write_text(customers.replace(ADA.email, OLD_EMAIL))
    treadle(folder, "run", "late-return")
    (folder / "customers.csv").write_text(customers)
    treadle(folder, "run", "late-return")
    treadle(folder, "run", "letters", "--set", f"who={ADA.name}", expect=1)
    plant(open_workspace(folder))
    return folder


def plant(ws: Workspace) -> None:
    """What comes to be in weeks of work."""
    home = ws.settings.home
    ws.online.put_many([(Key(view, who), Value(1, f"{who} {ADA.email if who == ADA.id else 'other'}".encode())) for view in ("profile", "habits") for who in (ADA.id, "cust-0100")])
    DeltaTable(str(home / "tables" / "customers")).create_checkpoint()
    with (home / "alarms.jsonl").open("a") as file:
        file.write(json.dumps({"sentence": f"unseen value {ADA.email!r}"}) + "\n" + json.dumps({"sentence": "another alarm"}) + "\n")
    left = home / "logs" / "run-dead" / "step.log"
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_text(f"looking at {ADA.id}\nand at cust-0100\n")
    ws.blobs.put(f"nobody knows what this was for: {ADA.name}".encode())
    shelf = ws.shelf / "opened"
    shelf.mkdir(parents=True, exist_ok=True)
    (shelf / "samples.bin").write_bytes(ADA.email.encode("utf-16"))
    ws.ledger.put("trial", "t-1", {"error": f"{ADA.id} does not fit", "state": "failed"})
    ws.ledger.append("note.made", Ref("trial", "t-1"), {"n": 1})


@pytest.fixture
def persons(lived_in: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(lived_in, tmp_path / "persons"))


@pytest.fixture
def opened(persons: Path) -> Callable[[], Workspace]:
    """Opens the copy, anew each time."""
    return lambda: open_workspace(persons)
