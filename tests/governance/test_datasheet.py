"""A datasheet says what is recorded, and of the rest that it is not; its Croissant form is read by MLCommons' own library."""

from __future__ import annotations

import fcntl
import functools
import html.parser
import json
import subprocess
import venv
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

import treadle as tr
from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import NotFound, ProjectError
from treadle.governance import croissant
from treadle.governance import datasheet as sheets
from treadle.persons import erase as work
from treadle.testing.command import treadle
from treadle.testing.persons import ADA

MLCROISSANT = "mlcroissant==1.1.1"
ENVIRONMENT = Path(__file__).parents[2] / "benchmarks" / ".environments" / "mlcroissant"
READ = """
import json, sys
import mlcroissant as mlc
found = mlc.Dataset(jsonld=sys.argv[1])
rows = []
if found.metadata.record_sets:
    for record in found.records(record_set="rows"):
        rows.append({k.removeprefix("rows/"): v.decode() if isinstance(v, bytes) else v for k, v in record.items()})
about = found.metadata
print(json.dumps({"name": about.name, "errors": sorted(about.ctx.issues.errors), "licence": [str(l) for l in about.license or []], "version": str(about.version),
    "fields": [f.name for s in about.record_sets for f in s.fields], "rows": rows}, default=str))
"""


@functools.cache
def mlcroissant() -> Path:
    """Python of an environment of its own with MLCommons' library, made on first use: it brings pandas, which nothing here wants."""
    python = ENVIRONMENT / "bin" / "python"
    ENVIRONMENT.parent.mkdir(parents=True, exist_ok=True)
    with ENVIRONMENT.with_suffix(".lock").open("w") as lock:  # several workers of the tests may want it at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not python.exists() or subprocess.run([python, "-c", "import mlcroissant, pyarrow"], capture_output=True, check=False).returncode:
            venv.create(ENVIRONMENT, with_pip=True, clear=True)
            subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", MLCROISSANT, "pyarrow"], check=True)
    return python


def as_others_read_it(document: Path) -> dict[str, object]:
    done = subprocess.run([mlcroissant(), "-c", READ, str(document)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def sheet_of(ws: Workspace, name: str) -> sheets.Sheet:
    return sheets.collect(ws.project, name, ws.ledger, ws.tables, ws.clock)


def answers(sheet: sheets.Sheet) -> dict[str, str]:
    return {question: answer for _, parts in sheets.sections(sheet) for question, answer in parts}


def test_what_is_recorded_is_said(persons: Path) -> None:
    said = answers(sheet_of(open_workspace(persons), "customers"))
    assert said["Why was it made, and by whom?"] == "To know who has our bicycles."
    assert said["Who answers for it?"] == "front desk"
    assert said["How many rows?"].startswith("59 in version customers-")
    assert said["Which time do they cover?"] == "2025-11-02T00:00:00 to 2025-12-31T00:00:00 (joined)"
    assert said["Is it about persons?"] == "yes, named by customer"
    assert "email (personal: email)" in said["Which columns hold personal data?"]
    assert "born does not read as integer" in said["What was set aside?"]
    assert said["Which features come from it?"] == "profile"
    assert "late-return.v1 (approved" in said["Which models were trained on it?"]
    assert said["How many versions are kept?"] == "2"
    assert said["Licence"] == "CC0-1.0"
    assert said["Who was erased?"] == "nobody"


def test_what_nobody_said_is_said_to_be_missing_and_where_it_belongs(persons: Path) -> None:
    sheet = sheet_of(open_workspace(persons), "rentals")
    assert answers(sheet)["What is it?"] == "not recorded: declare description="
    assert answers(sheet)["What is it for?"] == "not recorded: declare datasheet=tr.datasheet(uses=...)"
    assert set(sheets.missing(sheet)) >= {"What is it?", "Why was it made, and by whom?", "Licence"}
    assert "Who answers for it?" not in sheets.missing(sheet)


def test_before_the_first_version_only_the_declaration_is_said(tiny: Workspace) -> None:
    name = next(iter(tiny.project.datasets))
    sheet = sheet_of(tiny, name)
    assert answers(sheet)["How many rows?"].startswith("not recorded: no version was taken yet")
    assert all(c.missing is None for c in sheet.columns)
    assert "no version was taken yet" in sheets.markdown(sheet)
    document = json.loads(croissant.text(sheet, tiny.tables, Path(), place=None, rows=False))
    assert "version" not in document
    with pytest.raises(NotFound, match="no version yet"):
        croissant.text(sheet, tiny.tables, Path(), place=None, rows=True)


def test_no_value_that_could_point_to_a_person_is_shown(persons: Path) -> None:
    ws = open_workspace(persons)
    for name in ("customers", "rentals"):
        sheet = sheet_of(ws, name)
        for text in (sheets.markdown(sheet), sheets.html(sheet), json.dumps(sheets.as_json(sheet))):
            for secret in (ADA.id, ADA.name, ADA.email, "cust-0100", "riders.example", "r-00001"):
                assert secret not in text, (name, secret)
    columns = {c.name: c for c in sheet_of(ws, "rentals").columns}
    assert "'cargo'" in columns["bike"].said
    assert columns["hours"].said.startswith("mean ")
    assert columns["customer"].said == "not shown"
    assert columns["customer"].distinct == 60


def test_a_rare_value_of_a_category_is_counted_and_not_shown() -> None:
    column = pl.Series("town", ["Aldbury"] * 10 + ["Little Fenwick"] * 2)
    assert sheets._distribution(column, "category") == "'Aldbury' 83.3%; 1 other value"


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        ([None, None], "number", "no values"),
        ([float("nan"), float("inf")], "number", "no finite values"),
        ([1.0, float("nan"), 3.0], "number", "mean 2"),
        ([5], "integer", "mean 5, spread 0"),
        ([datetime(2026, 1, 1, tzinfo=UTC)], "timestamp", "from 2026-01-01"),
    ],
)
def test_odd_columns_are_described(values: list[object], kind: str, said: str) -> None:
    assert sheets._distribution(pl.Series("x", values, strict=False), kind).startswith(said)


def test_erasures_and_what_models_learned_from_are_told(persons: Path) -> None:
    ws = open_workspace(persons)
    record = work.erase(ws, ADA.id)
    said = answers(sheet_of(ws, "rentals"))
    assert f"10 rows out of 1 versions ({record.id})" in said["Who was erased?"]
    assert "11 of its rows erased since" in said["Which models were trained on it?"]


def test_the_page_is_well_formed_and_escapes_what_was_declared(persons: Path) -> None:
    file = persons / "project.py"
    file.write_text(file.read_text().replace("To know who has our bicycles.", "<script>alert(1)</script> | & more"))
    sheet = sheet_of(open_workspace(persons), "customers")
    page = sheets.html(sheet)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "<script>" not in sheets.markdown(sheet)
    open_tags: list[str] = []

    class Check(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attrs: object) -> None:
            if tag not in ("meta", "!doctype"):
                open_tags.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert open_tags.pop() == tag

    Check().feed(page)
    assert open_tags == []


@pytest.mark.slow
def test_mlcommons_own_library_reads_the_description_and_the_rows(persons: Path, tmp_path: Path) -> None:
    ws = open_workspace(persons)
    for name in ("customers", "rentals"):
        out = tmp_path / name / "croissant.json"
        told = treadle(persons, "datasheet", name, "--format", "croissant", "--out", str(out), "--data", str(out.parent / "data"))
        assert "personal data" in told.stderr
        found = as_others_read_it(out)
        assert found["errors"] == []
        assert found["name"] == name
        sheet = sheet_of(ws, name)
        assert found["fields"] == [c.name for c in sheet.columns]
        rows = ws.tables.scan(sheet.newest["address"]).collect()
        read = found["rows"]
        assert isinstance(read, list)
        assert len(read) == rows.height
        for mine, theirs in zip(rows.iter_rows(named=True), read):
            for column, value in mine.items():
                if isinstance(value, datetime):
                    assert theirs[column] == str(value.replace(tzinfo=None))
                else:
                    assert theirs[column] == value or (value is None and str(theirs[column]) in ("None", "nan")), (column, value, theirs[column])
    moved = tmp_path / "elsewhere"
    (tmp_path / "customers").rename(moved)
    assert as_others_read_it(moved / "croissant.json")["name"] == "customers", "the link to the rows is relative"


@pytest.mark.slow
def test_without_rows_mlcommons_own_library_takes_it(persons: Path, tmp_path: Path) -> None:
    out = tmp_path / "croissant.json"
    treadle(persons, "datasheet", "customers", "--format", "croissant", "--out", str(out))
    found = as_others_read_it(out)
    assert (found["errors"], found["fields"], found["licence"]) == ([], [], ["CC0-1.0"])


def test_without_rows_it_describes_the_columns(persons: Path, tmp_path: Path) -> None:
    out = tmp_path / "croissant.json"
    treadle(persons, "datasheet", "customers", "--format", "croissant", "--out", str(out))
    document = json.loads(out.read_text())
    assert [v["name"] for v in document["variableMeasured"]] == ["customer", "name", "email", "born", "joined"]
    assert document["rai:personalSensitiveInformation"] == ["customer: key, names the person", "name: personal: name", "email: personal: email"]
    assert document["rai:dataLimitations"] == ["Not for advertising."]
    assert "rai:dataCollection" not in document, "what nobody said is not there"


def test_every_form_is_written_by_the_command(persons: Path, tmp_path: Path) -> None:
    for form, begins in (("md", "# Datasheet: customers"), ("html", "<!doctype html>"), ("json", "{"), ("croissant", "{")):
        assert treadle(persons, "datasheet", "customers", "--format", form).stdout.startswith(begins)
    said = json.loads(treadle(persons, "datasheet", "rentals", "--format", "json").stdout)
    assert "What is it?" in said["not_recorded"]
    assert said["sections"]["Maintenance"]["How many versions are kept?"] == "1"
    assert "Which data set?" in treadle(persons, "datasheet", expect=5).stderr
    assert "--data goes with" in treadle(persons, "datasheet", "customers", "--data", str(tmp_path), expect=2).stderr


def test_a_part_that_is_no_text_is_refused_where_it_is_declared() -> None:
    with pytest.raises(ProjectError, match="uses=") as told:
        tr.datasheet(uses=["training"])  # type: ignore[arg-type]
    assert "test_datasheet.py" in str(told.value.where)
    assert tr.datasheet(uses=" to train ").uses == "to train"
