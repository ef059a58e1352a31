"""A bad row comes, is set aside with its reason, a person corrects it, and the next run takes a new version with it; all through the command line.
And what is personal is never shown."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import pytest

from treadle.assemble import open_workspace
from treadle.testing.command import treadle
from treadle.testing.console import signed_in

pytestmark = pytest.mark.story

SECRET = "zz.secret.person@example.org"
PROJECT = """import treadle as tr
project = tr.Project("shop", owner="sales desk", goal="test")
orders = project.dataset("orders", source=tr.csv("orders.csv"), key="id", contract=tr.Contract({{
    "id": tr.integer(unique=True), "amount": tr.number(ge=0, le=100), "city": tr.category(isin={cities}),
    "mail": tr.text(personal="email"), "paid": tr.boolean()}}{more}))
model = project.model("paid", rows=orders, target="paid", positive=True, inputs=["amount", "city"], candidates=[tr.candidate("logistic")], trials=1)
"""


def write(folder: Path, *, bad: dict[int, dict[str, str]] | None = None, rows: int = 300, cities: str = '("Basel", "Zug")', more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    chance = random.Random(1)
    (folder / "project.py").write_text(PROJECT.format(cities=cities, more=more), encoding="utf-8")
    with (folder / "orders.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "amount", "city", "mail", "paid"])
        for i in range(rows):
            amount = chance.randint(0, 100)
            row = {"id": str(i), "amount": str(amount), "city": chance.choice(["Basel", "Zug"]), "mail": f"p{i}@example.org",
                   "paid": "yes" if chance.random() * 100 > amount else "no"}  # fmt: skip
            writer.writerow({**row, **(bad or {}).get(i, {})}.values())
    return folder


def versions(folder: Path) -> list[tuple[int, int]]:
    ledger = open_workspace(folder).ledger
    found = [(v["rows"], v["quarantined"]) for v in ledger.find("dataset_version", {"dataset": "orders"})]
    ledger.close()
    return found


def test_a_bad_row_is_set_aside_corrected_and_taken_with_the_next_run(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", bad={7: {"amount": "-5", "mail": SECRET}, 8: {"city": "Bern"}, 9: {"amount": "much"}})
    treadle(folder, "run", expect=None)
    assert versions(folder) == [(297, 3)]
    listed = treadle(folder, "quarantine", "list").stdout
    assert "orders" in listed
    assert "amount is below 0 (1)" in listed
    rows = treadle(folder, "quarantine", "list", "orders").stdout
    assert "city is not one of the allowed values" in rows
    assert "amount does not read as number" in rows
    shown = treadle(folder, "quarantine", "show", "orders", "7").stdout
    assert "amount  -5.0" in shown
    assert "<email>" in shown

    refused = treadle(folder, "quarantine", "fix", "orders", "7", "amount=500", expect=3).stderr
    assert "With this correction the row still breaks the contract: amount is above 100." in refused
    treadle(folder, "quarantine", "fix", "orders", "7", "amount=5", "--reason", "the sign was wrong")
    treadle(folder, "quarantine", "release", "orders", "8", "--reason", "we deliver to Bern since May")
    (folder / "fixed.csv").write_text("id,amount\n9,12.5\n", encoding="utf-8")
    treadle(folder, "quarantine", "fix", "orders", "--file", str(folder / "fixed.csv"))
    assert "waits for a run" in treadle(folder, "quarantine", "decisions", "orders").stdout
    treadle(folder, "run", expect=None)
    assert versions(folder) == [(297, 3), (300, 0)]
    ws = open_workspace(folder)
    newest = ws.ledger.find("dataset_version", {"dataset": "orders"})[-1]
    taken = {r["id"]: r for r in ws.tables.scan(newest["address"]).collect().iter_rows(named=True)}
    assert (taken[7]["amount"], taken[8]["city"], taken[9]["amount"]) == (5.0, "Bern", 12.5)
    ws.ledger.close()
    assert "No row of data set 'orders' is set aside. 3 decisions stand." in treadle(folder, "quarantine", "list", "orders").stdout
    assert "applied" in treadle(folder, "quarantine", "decisions", "orders").stdout

    decided = json.loads(treadle(folder, "quarantine", "decisions", "orders", "--json").stdout)
    row = next(d["row"] for d in decided if d["action"] == "release")
    treadle(folder, "quarantine", "undo", "orders", row[:8], "--reason", "not to Bern after all")
    treadle(folder, "run", expect=None)
    assert json.loads(treadle(folder, "status", "--json").stdout)["data"][0]["quarantined"] == 1
    assert "nothing has changed" in treadle(folder, "run", expect=None).stdout


def test_too_many_bad_rows_stop_the_run_tell_the_owner_and_can_be_corrected_before_any_version_is_there(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", bad={i: {"amount": "-5"} for i in range(30)})
    stopped = treadle(folder, "run", expect=3).stderr
    assert "30 of 300 rows (10.0%) break the contract, more than the 5.0% it allows: amount is below 0 (30 rows)." in stopped
    assert "treadle quarantine list orders" in stopped
    said = treadle(folder, "status").stdout
    assert "data set orders: 270 rows, 30 set aside (owner: sales desk)" in said
    assert "contract: 30 of 300 rows (10.0%) break the contract" in said
    told = [json.loads(line) for line in (folder / ".treadle" / "alarms.jsonl").read_text("utf-8").splitlines()]
    assert [t["title"] for t in told] == ["data set orders, for sales desk: contract"]
    ws = open_workspace(folder)
    client = signed_in(ws)
    home = client.get("/").text
    assert "data set orders" in home
    alarm = re.search(r'href="(/alarms/[^"]+)"', home)
    assert alarm is not None
    assert "owner sales desk" in client.get(alarm[1]).text
    ws.ledger.close()
    treadle(folder, "run", expect=3)
    assert len((folder / ".treadle" / "alarms.jsonl").read_text("utf-8").splitlines()) == 1  # one cause, one alarm

    treadle(folder, "quarantine", "list", "orders", "--out", str(folder / "bad.csv"))
    with (folder / "bad.csv").open(encoding="utf-8", newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert len(lines) == 30
    assert {line["mail"] for line in lines} == {"<email>"}
    with (folder / "bad.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, lines[0])
        writer.writeheader()
        writer.writerows({**line, "amount": "5"} for line in lines)
    assert "30 rows corrected" in treadle(folder, "quarantine", "fix", "orders", "--file", str(folder / "bad.csv")).stdout
    treadle(folder, "run", expect=None)
    assert versions(folder) == [(300, 0)]
    assert "open alarm" not in treadle(folder, "status").stdout


def test_a_set_that_is_extended_stops_the_run_names_the_model_and_goes_on_when_a_person_accepts_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop")
    treadle(folder, "run", expect=None)
    write(folder, cities='("Basel", "Zug", "Bern")')
    stopped = treadle(folder, "run", expect=3).stderr
    assert "Column 'city' may also be Bern: a value that nothing has seen (used by model 'paid')." in stopped
    assert "treadle contract accept orders" in stopped
    shown = treadle(folder, "contract", "show", "orders").stdout
    assert "BROKEN schema" in shown
    assert "breaking: column 'city' may also be Bern" in shown
    treadle(folder, "contract", "accept", "orders", "--reason", "we deliver to Bern")
    treadle(folder, "run", expect=None)
    assert "every promise about the rows together is kept" in treadle(folder, "contract", "show", "orders").stdout


def test_a_contract_is_written_to_a_file_and_a_project_that_reads_it_takes_the_same_version(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", more=', {"few are free": "amount > 0 OR city = \'Zug\'"}, volume=(100, None)')
    treadle(folder, "run", expect=None)
    before = [r.id for r in open_workspace(folder).ledger.find("dataset_version")]
    treadle(folder, "contract", "export", "orders", "--out", str(folder / "orders.odcs.yaml"))
    told = treadle(folder, "contract", "import", str(folder / "orders.odcs.yaml")).stdout
    assert "orders: 5 columns, 1 rule" in told
    assert "contract=tr.contract_from('orders.odcs.yaml')" in told
    text = (folder / "project.py").read_text("utf-8")
    start, end = text.index("contract=tr.Contract("), text.index("\nmodel = ")
    (folder / "project.py").write_text(text[:start] + 'contract=tr.contract_from("orders.odcs.yaml"))' + text[end:], encoding="utf-8")
    assert "nothing has changed" in treadle(folder, "run", expect=None).stdout
    assert [r.id for r in open_workspace(folder).ledger.find("dataset_version")] == before


def test_what_looks_personal_and_is_not_declared_so_is_pointed_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop")
    text = (folder / "project.py").read_text("utf-8").replace('tr.text(personal="email")', "tr.text()")
    (folder / "project.py").write_text(text, encoding="utf-8")
    treadle(folder, "run", "--until", "data:orders")
    said = treadle(folder, "contract", "show", "orders").stdout
    assert "note: mail looks like personal data (email): 100% of its values are e-mail addresses. Declare it: personal='email'" in said


def test_a_wrong_command_says_what_is_wrong_in_a_sentence(tmp_path: Path) -> None:
    folder = write(tmp_path / "shop", bad={7: {"amount": "-5"}})
    treadle(folder, "run", "--until", "data:orders")
    for arguments, code, said in (
        (("quarantine", "list", "order"), 5, "The project has no data set 'order'."),
        (("quarantine", "show", "orders", "8"), 5, "No row '8' of data set 'orders' is set aside."),
        (("quarantine", "fix", "orders", "7", "amount"), 2, "'amount' says no column=value."),
        (("quarantine", "fix", "orders", "7", "size=1"), 5, "Data set 'orders' has no column 'size'."),
        (("quarantine", "fix", "orders"), 2, "Say which row and what stands there rightly."),
        (("quarantine", "release", "orders", "7", "--reason", " "), 2, "--reason is empty."),
        (("quarantine", "undo", "orders", "abcdef"), 5, "No decision about row 'abcdef'"),
        (("contract", "accept", "orders", "--reason", "x"), 5, "No breaking change of data set 'orders' waits to be accepted."),
        (("contract", "import", str(folder / "gone.yaml")), 5, "There is no contract file"),
        (("contract", "import", str(folder / "orders.csv")), 3, "It is not a data contract"),
    ):
        assert said in treadle(folder, *arguments, expect=code).stderr
