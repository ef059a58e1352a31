"""What the log keeps of a request is what the project declares: all, hashes of personal values, or nothing; and what it does when it is behind."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path

import pytest

from treadle.assemble import open_workspace
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.client import Endpoint
from treadle.core.errors import ProjectError, StorageError
from treadle.live.deploy import deploy, stop
from treadle.persons.erase import erase
from treadle.persons.hand_over import hand_over
from treadle.ports.predictions import Prediction
from treadle.serving.journal import Journal
from treadle.serving.logged import Discreet, hashed_value
from treadle.testing.forgotten import holding
from treadle.testing.persons import write_persons
from treadle.wheel.turn import turn

KEY = b"k" * 32


class One(Prediction):
    """A prediction that is handed over alone, as an answered request of one row is."""

    def __len__(self) -> int:
        return 1

    def predictions(self) -> list[Prediction]:
        return [self]


def asked(**inputs: object) -> Prediction:
    features = json.dumps([inputs.get("hours"), inputs.get("customer"), "city"]).encode()
    return One("p-1", "late", 1, 2, 1, "champion", (0.5,), 0, (), json.dumps(inputs).encode(), features, 9)


def test_personal_values_are_hashed_alike_and_the_rest_is_kept() -> None:
    log = Discreet(MemoryPredictions(), "hash", ["customer", "born"], KEY)
    log.write([asked(customer="cust-0042", born=1980.0, hours=2.5, email=None)])
    found = log.get("p-1")
    assert json.loads(found.inputs) == {
        "customer": hashed_value(KEY, "cust-0042"), "born": hashed_value(KEY, "1980"), "hours": 2.5, "email": None,
    }  # fmt: skip
    assert json.loads(found.features) == [2.5, hashed_value(KEY, "cust-0042"), "city"]
    assert hashed_value(KEY, "cust-0042") != hashed_value(b"j" * 32, "cust-0042")


def test_no_input_is_kept_where_none_is_to_be() -> None:
    log = Discreet(MemoryPredictions(), "none", ["customer"], KEY)
    log.write([asked(customer="cust-0042", hours=2.5)])
    assert log.get("p-1").inputs == b"{}"
    assert b"cust-0042" not in log.get("p-1").features


def test_a_log_that_is_behind_drops_and_counts_where_that_is_declared() -> None:
    held = threading.Event()

    class Slow(MemoryPredictions):
        def write(self, *arguments: object, **options: object) -> None:
            held.wait(20)
            super().write(*arguments, **options)  # type: ignore[arg-type]

    async def go() -> Journal:
        journal = Journal(Discreet(Slow(), "full", [], b"", "drop"), durable=False, limit=3)  # type: ignore[arg-type]
        for _ in range(10):
            journal.submit(asked())
        return journal

    journal = asyncio.run(go())
    assert journal.dropped == 7
    assert journal.waiting == 3
    held.set()
    journal.close()
    assert journal.written == 3


@pytest.mark.parametrize("argument", [{"inputs": "some"}, {"when_full": "wait"}])
def test_an_unknown_policy_is_refused(tmp_path: Path, argument: dict[str, str]) -> None:
    folder = write_persons(tmp_path / "bikes")
    project = open_workspace(folder).project
    with pytest.raises(ProjectError, match="is not known"):
        project.log(project.models["late-return"], **argument)  # type: ignore[arg-type]


@pytest.mark.story
def test_a_log_of_hashes_names_nobody_and_a_person_is_erased_from_it_all_the_same(tmp_path: Path) -> None:
    folder = write_persons(tmp_path / "bikes")
    (folder / "project.py").open("a").write('\nproject.log(late, inputs="hash")\n')
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "test"})
    record = deploy(ws, ws.model())
    try:
        client = Endpoint(record["url"])
        for who in ("guest-777", "guest-778"):
            client.predict({"customer": who, "hours": 2.0, "bike": "city"})
    finally:
        stop(ws, "late-return")
    logged = ws.predictions.last("late-return", 2)
    assert [json.loads(p.inputs)["customer"][:5] for p in logged] == ["hash:", "hash:"]
    assert holding(folder / ".treadle", ["guest-777", "guest-778"]) == []
    hand_over(ws, "guest-778", tmp_path / "export")
    assert len((tmp_path / "export" / "predictions.jsonl").read_text().splitlines()) == 1
    done = erase(ws, "guest-777")
    assert done["counts"]["predictions"] == 1
    assert [p.id for p in ws.predictions.last("late-return", 9)] == [logged[0].id]


def test_an_endpoint_without_the_key_does_not_log_at_all(tmp_path: Path) -> None:
    from treadle.serving.logged import KIND, policed

    ws = open_workspace(write_persons(tmp_path / "bikes"))
    ws.ledger.put(KIND, "late-return", {"inputs": "hash", "when_full": "refuse", "personal": ["customer"]})
    with pytest.raises(StorageError, match="key that personal values are hashed with is not here"):
        policed(ws.predictions, ws.ledger, ws.settings.home, "late-return")
