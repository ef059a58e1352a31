"""A secret value is planted in the personal columns of a project, everything that is there to be looked at is looked at, and the value is nowhere."""

from __future__ import annotations

import csv
import json
import random
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from treadle.assemble import open_workspace
from treadle.cli.main import cli
from treadle.testing.command import treadle
from treadle.testing.console import signed_in

pytestmark = pytest.mark.story

SECRET = "zzsecret"
PROJECT = """import treadle as tr
project = tr.Project("shop", owner="sales desk", goal="test")
orders = project.dataset("orders", source=tr.csv("orders.csv"), key="id", event_time="at", subject="mail", contract=tr.Contract({
    "id": tr.text(), "at": tr.timestamp(), "amount": tr.number(ge=0, le=100), "who": tr.category(personal="name"),
    "mail": tr.text(personal="email", pattern=".+@.+", nullable=True), "born": tr.timestamp(personal="birth_date", nullable=True), "paid": tr.boolean()},
    {"amount fits the mail": tr_rule}, at_most=0.2, like=tr.like("previous", who={"psi": 0.0001}, mail={"psi": 0.0001})))
model = project.model("paid", rows=orders, target="paid", positive=True, inputs=["amount", "who"], allow={"who": "a test of masking"},
                      candidates=[tr.candidate("logistic")], trials=1, gates=[])
project.serve(model)
project.watch(model)

@tr.step
def biggest(n: int) -> dict:
    return {"who": "zzsecret", "rows": [{"mail": "zzsecret@example.org", "amount": n}], "amount": n}

@project.pipeline
def look(n: int = 1):
    return biggest(n)
""".replace("tr_rule", '"amount >= 0 OR mail IS NULL"')


def write(folder: Path, seed: int, rows: int = 300) -> None:
    chance = random.Random(seed)
    with (folder / "orders.csv").open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["id", "at", "amount", "who", "mail", "born", "paid"])
        for i in range(rows):
            amount, bad = chance.randint(0, 100), i % 25 == 0
            who, mail = chance.choice([f"{SECRET} A", "Bob", "Carol"]), f"{SECRET}{i}@example.org"
            said = "no mail zzsecret" if i % 50 == 0 else mail
            born = "zzsecret day" if i % 75 == 0 else "1990-01-01"
            table.writerow([f"o{i}", f"2026-01-{1 + i // 11:02d} 10:00", -5 if bad else amount, who, said, born,
                            "yes" if chance.random() * 100 > amount else "no"])  # fmt: skip


def test_a_secret_of_a_personal_column_is_nowhere_to_be_seen(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "project.py").write_text(PROJECT, encoding="utf-8")
    write(folder, 1)
    seen: dict[str, str] = {}

    def run(*arguments: str, expect: int | None = None) -> str:
        if arguments[0] in ("run", "deploy", "predict", "stop", "watch", "quarantine"):
            done = treadle(folder, *arguments, expect=expect)
            code, out, err = done.returncode, done.stdout, done.stderr
        else:  # what only shows is asked here: a process for each of so many would take most of the time
            shown = CliRunner().invoke(cli, ["-C", str(folder), *arguments], standalone_mode=False)
            if shown.exception is not None and not isinstance(shown.exception, SystemExit):
                raise shown.exception
            code, out, err = int(shown.return_value or 0), shown.stdout, shown.stderr
        assert code in (0, 4) or expect is not None, (arguments, err)
        seen["treadle " + " ".join(arguments)] = out + err
        return out

    first = json.loads(run("run", "paid", "--json"))["run"]
    write(folder, 2)
    second = json.loads(run("run", "paid", "--json"))["run"]
    assert first != second
    returned = run("run", "look")
    assert "<name>" in returned
    pipelines = [json.loads(run("run", "look", "--set", f"n={n}", "--json"))["run"] for n in (2, 3)]
    run("deploy", "paid")
    try:
        asked = json.loads(run("predict", "--row", json.dumps({"amount": 5, "who": f"{SECRET} A"}), expect=0))
        run("predict", "--sample")
        story = run("why", asked["id"] if "id" in asked else asked["prediction_id"], expect=0)
        assert "who: <name>" in story
        run("why", asked["id"] if "id" in asked else asked["prediction_id"], "--json", expect=0)
        run("status")
        run("watch", "paid")
    finally:
        run("stop", "paid")
    rows = json.loads(run("quarantine", "list", "orders", "--json", expect=0))
    assert len(rows) == 12
    run("quarantine", "list", "orders", "--all")
    run("quarantine", "list", "orders", "--out", str(folder / "bad.csv"))
    run("quarantine", "show", "orders", rows[0]["row"][:10])
    run("quarantine", "fix", "orders", rows[0]["row"][:10], "amount=5", f"mail={SECRET}@fixed.org", "born=")
    run("quarantine", "fix", "orders", rows[1]["row"][:10], f"amount={SECRET}", expect=3)
    run("quarantine", "release", "orders", rows[2]["row"][:10], "--reason", "right")
    for arguments in (
        ("quarantine", "decisions", "orders"), ("quarantine", "list"), ("contract", "show", "orders"), ("contract", "export", "orders"),
        ("run", "paid"), ("plan", "paid"), ("status", "--json"), ("models",), ("models", "--version", "1"), ("runs",), ("runs", first),
        ("logs", first), ("diff", first, second), ("diff", *pipelines), ("diff", *pipelines, "--json"), ("diff", first, second, "--json"),
        ("report", "paid"), ("report", "--json"), ("data",), ("data", "show", "orders"), ("data", "show", "orders", "--json"), ("data", "diff", "orders"),
        ("data", "diff", "orders", "--json"), ("datasheet", "orders"), ("graph", "paid"),
    ):  # fmt: skip
        run(*arguments)
    ws = open_workspace(folder)
    client = signed_in(ws)
    to_see, pages = ["/"], set()
    while to_see:
        path = to_see.pop()
        pages.add(path)
        seen[f"page {path}"] = client.get(path).text
        to_see += [p for p in re.findall(r'href="(/[^"#?]*)"', seen[f"page {path}"]) if p not in pages and p not in to_see]
    assert len(pages) >= 8
    seen["events"] = repr([dict(e.body) for e in ws.ledger.events_since(limit=100_000)])
    ws.ledger.close()
    for file in [*folder.glob("*.html"), *folder.glob("*.md"), folder / "bad.csv", *(folder / ".treadle").glob("*.jsonl"),
                 *(folder / ".treadle").rglob("*.log")]:  # fmt: skip
        seen[str(file.relative_to(folder))] = file.read_text("utf-8", errors="replace")
    own = {k for k in seen if f"mail={SECRET}" in k or f"amount={SECRET}" in k}  # what was typed is not repeated either, see below
    shown = {where: text[max(0, text.index(SECRET) - 200) : text.index(SECRET) + 80] for where, text in seen.items() if SECRET in text}
    assert shown == {}
    assert own


def test_a_file_with_personal_data_is_inspected_without_showing_them(tmp_path: Path) -> None:
    chance = random.Random(1)
    data = tmp_path / "people.csv"
    with data.open("w", encoding="utf-8", newline="") as handle:
        table = csv.writer(handle)
        table.writerow(["id", "mail", "date_of_birth", "first_name", "x", "y"])
        for i in range(200):
            born = "zzsecret" if i == 7 else f"1990-01-{1 + i % 28:02d}"
            table.writerow([i, f"{SECRET}{i}@example.org", born, chance.choice(["Zzsecretina", "Ada"]), chance.random(), chance.choice(["yes", "no"])])
    said = treadle(tmp_path / "project", "init", "--data", str(data), "--target", "y").stdout
    assert "Column 'mail' looks like personal data (email)" in said
    assert "Column 'date_of_birth' looks like personal data (birth_date)" in said
    assert SECRET not in said.lower()
    assert SECRET not in (tmp_path / "project" / "project.py").read_text("utf-8").lower()
    shown = treadle(tmp_path / "project", "run", expect=None)
    assert SECRET not in (shown.stdout + shown.stderr).lower()
