"""A person asks for their data, then to be forgotten: through the real command line, on this machine and on PostgreSQL and S3."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psycopg
import pytest
import redis

from treadle.assemble import open_workspace
from treadle.backends.postgres_predictions import PostgresPredictions
from treadle.core.clock import parse_time
from treadle.ports.online import Key, Value
from treadle.ports.predictions import Outcome, Prediction
from treadle.testing.command import treadle
from treadle.testing.forgotten import holding, in_bytes
from treadle.testing.persons import ADA, BAD, write_persons
from treadle.testing.servers import Server, postgres, postgres_url, redis_url, s3, s3_environment, schema_of

pytestmark = pytest.mark.story

TEXTS = (ADA.id, ADA.name, ADA.email)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_persons(tmp_path_factory.mktemp("bikes") / "bikes", mention=True)
    treadle(folder, "run")
    return folder


@pytest.fixture
def bikes(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "bikes"))


def test_a_person_gets_their_data_and_is_forgotten(bikes: Path, tmp_path: Path) -> None:
    assert "Nobody was erased so far." in treadle(bikes, "erase", "--list").stdout

    planned = treadle(bikes, "erase", "--subject", ADA.id, "--dry-run").stdout
    assert "late-return.v1 was trained on 11 of the rows" in planned
    assert "not touched: the sources" in planned
    assert "Nobody was erased so far." in treadle(bikes, "erase", "--list").stdout

    refused = treadle(bikes, "erase", "--subject", ADA.id, input="n\n", expect=130)
    assert "cannot be undone" in refused.stdout
    assert holding(bikes / ".treadle", TEXTS)

    done = treadle(bikes, "erase", "--subject", ADA.id, "--request", "DSR-2026-017", input="y\n").stdout
    assert "Erased: erasure-" in done
    assert "11 rows and 0 set aside, over 2 versions" in done
    assert "found: 0" in done
    assert holding(bikes / ".treadle", TEXTS) == []

    listed = treadle(bikes, "erase", "--list").stdout
    assert "DSR-2026-017" in listed
    assert "late-return.v1" in listed
    proof = json.loads(treadle(bikes, "erase", "--list", "--json").stdout)[0]
    assert proof["verification"]["remaining"] == []
    assert not any(text in json.dumps(proof) for text in TEXTS)
    assert "11 erased since" in treadle(bikes, "models").stdout
    assert "of persons erased since" in treadle(bikes, "models", "late-return", "--version", "1").stdout

    assert "was erased on" in treadle(bikes, "erase", "--subject", ADA.id, "--yes").stdout
    assert "Nothing here is about this person" in treadle(bikes, "export", "--subject", ADA.id, "--out", str(tmp_path / "x"), expect=5).stderr
    assert "1 rows out of 1 versions" in treadle(bikes, "datasheet", "customers").stdout

    treadle(bikes, "run")
    assert "late-return.v2" in treadle(bikes, "models").stdout
    assert "erased since" not in treadle(bikes, "models", "late-return", "--version", "2").stdout
    assert holding(bikes / ".treadle", (ADA.id, ADA.email)) == []


def test_a_person_whose_row_was_set_aside_is_forgotten_too(bikes: Path) -> None:
    done = json.loads(treadle(bikes, "erase", "--subject", BAD.id, "--yes", "--json").stdout)
    assert done["counts"]["quarantined"] == 1
    assert holding(bikes / ".treadle", BAD) == []


def test_a_person_is_forgotten_while_a_model_is_trained_on_them(bikes: Path) -> None:
    """The training that is under way ends first, its version is marked, and nothing it stored is left; the next one never sees the person."""
    go = bikes / "go"
    (bikes / "project.py").open("a").write(
        "\n\nimport time\nfrom pathlib import Path\n\n\ndef waited(evaluation):\n    (Path(__file__).parent / 'begun').touch()\n"
        "    while not (Path(__file__).parent / 'go').exists():\n        time.sleep(0.05)\n    return True, 'it may'\n\n\n"
        "slow = project.model('slow', rows=rentals, target='late', inputs=['hours'], views=[profile], candidates=[tr.candidate('logistic')],\n"
        "    split=tr.by_time(test='20d'), trials=1, gates=[tr.gate(waited)])\n"
    )
    environment = {**os.environ, "TREADLE_THREADS": "1"}
    run = subprocess.Popen([sys.executable, "-m", "treadle.cli.main", "-C", str(bikes), "run", "slow"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while not (bikes / "begun").exists():
        assert run.poll() is None, run.communicate()[0].decode()
        time.sleep(0.05)
    refused = treadle(bikes, "erase", "--subject", ADA.id, "--yes", "--no-wait", expect=6)
    assert "is under way" in refused.stderr
    erase = subprocess.Popen(
        [sys.executable, "-m", "treadle.cli.main", "-C", str(bikes), "erase", "--subject", ADA.id, "--yes"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert erase.stdout is not None
    said = ""
    while "waiting for run" not in said:
        said += erase.stdout.readline()
        assert erase.poll() is None, said
    go.touch()
    said += erase.communicate()[0]
    run.communicate()
    assert (run.returncode, erase.returncode) == (0, 0), said
    assert holding(bikes / ".treadle", TEXTS) == []
    proof = json.loads(treadle(bikes, "erase", "--list", "--json").stdout)
    assert [m["id"] for m in proof[0]["models"]] == ["late-return.v1", "slow.v1"]
    assert len(proof) == 1
    treadle(bikes, "run", "slow")
    assert "erased since" not in treadle(bikes, "models", "slow", "--version", "2").stdout
    assert holding(bikes / ".treadle", (ADA.id, ADA.email)) == []


def test_mistakes_are_told_in_a_sentence(bikes: Path) -> None:
    assert "--subject is missing" in treadle(bikes, "erase", expect=2).stderr
    told = treadle(bikes, "erase", "--subject", "cust-9999", "--yes", expect=5).stderr
    assert "No version of any data set holds this person, and no prediction is about them." in told
    assert "customers: customer; rentals: customer" in told
    assert "names the person" in treadle(bikes, "erase", "--subject", ADA.id, "--yes", "--reason", f"{ADA.name} asked", expect=2).stderr
    (bikes / "there").mkdir()
    assert "is there already" in treadle(bikes, "export", "--subject", ADA.id, "--out", str(bikes / "there"), expect=6).stderr
    assert "There is no data set 'none'" in treadle(bikes, "datasheet", "none", expect=5).stderr


def test_an_export_holds_all_of_the_person_and_nothing_of_others(bikes: Path, tmp_path: Path) -> None:
    ws = open_workspace(bikes)
    at = int(parse_time("2026-03-01").timestamp() * 1e6)

    def asked(id: str, who: str) -> Prediction:
        return Prediction(id, "late-return", at, at, 1, "champion", (0.4, 0.6), 0, (), json.dumps({"customer": who, "hours": 3}).encode(), b"[3]", 9)

    ws.predictions.write([asked("p-1", ADA.id), asked("p-2", "cust-0100")], [Outcome("p-1", True, at)])
    out = tmp_path / "ada.zip"
    said = treadle(bikes, "export", "--subject", ADA.id, "--out", str(out)).stdout
    assert "hand it over by a safe way" in said
    assert out.stat().st_mode & 0o777 == 0o600
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "ada")
    folder = tmp_path / "ada"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["subject"] == ADA.id
    assert {f["path"].rpartition(".")[0] for f in manifest["files"]} == {
        "data/customers", "data/rentals", "features/profile-offline", "features/habits-offline", "predictions",
    }  # fmt: skip
    assert [m["id"] for m in manifest["models trained on the rows"]] == ["late-return.v1"]
    customer = [json.loads(line) for line in (folder / "data" / "customers.jsonl").read_text().splitlines()]
    assert [(c["customer"], c["name"], c["email"]) for c in customer] == [ADA]
    with (folder / "data" / "rentals.csv").open() as file:
        rentals = list(csv.DictReader(file))
    assert len(rentals) == 10
    assert {r["customer"] for r in rentals} == {ADA.id}
    predictions = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    assert [(p["prediction"], p["outcome"]) for p in predictions] == [("p-1", "true")]
    assert "Purpose: remind those who are about to be late" in (folder / "README.txt").read_text()
    assert holding(folder, ["cust-0100", "riders.example"]) == []
    events = [e for e in open_workspace(bikes).ledger.events_since(limit=1000) if e.kind == "person.exported"]
    assert len(events) == 1
    assert ADA.id not in str(events[0])


def test_an_export_says_how_rows_were_in_earlier_versions(bikes: Path, tmp_path: Path) -> None:
    file = bikes / "customers.csv"
    file.write_text(file.read_text().replace(ADA.email, "adalind@new.example"))
    treadle(bikes, "run")
    treadle(bikes, "export", "--subject", ADA.id, "--out", str(tmp_path / "ada"))
    now = json.loads((tmp_path / "ada" / "data" / "customers.jsonl").read_text())
    then = json.loads((tmp_path / "ada" / "data" / "customers-earlier.jsonl").read_text())
    assert (now["email"], then["email"]) == ("adalind@new.example", ADA.email)
    assert then["data_version"].startswith("customers-")


def test_on_a_redis_online_store_no_file_of_the_server_holds_the_person_and_nothing_brings_them_back(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    # Snapshots are not compressed here, so that a search of their bytes finds what is there.
    command = ["redis-server", "--port", "{port}", "--bind", "127.0.0.1", "--dir", "{folder}", "--appendonly", "yes", "--save", "", "--rdbcompression", "no"]
    server = Server(command, tmp_path / "redis")
    try:
        folder = write_persons(tmp_path / "bikes", mention=True)
        (folder / "treadle.toml").write_text(f'online = "{redis_url(server, prefix="bikes:")}"\n')
        treadle(folder, "run")
        treadle(folder, "materialise")
        ws = open_workspace(folder)

        def served(who: str) -> list[bool]:
            return [value is not None for value in ws.online.get_many([Key("profile", who)])]

        assert (served(ADA.id), served("cust-0100")) == ([True], [True])
        assert holding(server.folder, TEXTS)  # the search finds her where she is
        count = ws.online.count("profile")
        done = treadle(folder, "erase", "--subject", ADA.id, "--yes").stdout
        assert "found: 0" in done
        assert (served(ADA.id), served("cust-0100")) == ([False], [True])
        assert ws.online.count("profile") == count - 1
        assert holding(server.folder, TEXTS) == []
        assert holding(folder / ".treadle", TEXTS) == []

        server.stop(signal.SIGKILL, keep=True)
        server.start()
        assert (served(ADA.id), served("cust-0100")) == ([False], [True])
        treadle(folder, "materialise", "--exact")  # the source still has her rows
        assert (served(ADA.id), served("cust-0100")) == ([False], [True])
        assert holding(server.folder, TEXTS) == []

        # Values that are gone from memory, by a call that was killed before the files were written anew, are gone from the files after the next.
        ws.online.put_many([(Key("profile", ADA.id), Value(1, b"x"))])
        redis.Redis(port=server.port).unlink(f"bikes:v:profile\x1f{ADA.id}")
        redis.Redis(port=server.port).srem("bikes:e:profile", ADA.id)
        assert holding(server.folder, TEXTS)
        assert ws.online.forget("profile", [ADA.id]) == 0
        assert holding(server.folder, TEXTS) == []
    finally:
        server.stop()


def test_on_postgresql_and_s3_no_file_of_the_server_and_no_object_holds_the_person(tmp_path: Path) -> None:
    """The server may not keep old files of its log for reuse, as docs/how-to/forget.md says."""
    from treadle.backends.s3_objects import objects

    with psycopg.connect(postgres_url(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET wal_recycle = off")
        connection.execute("SELECT pg_reload_conf()")
    folder = write_persons(tmp_path / "bikes", mention=True)
    s3()
    name = schema_of(folder)
    env = {
        **s3_environment(s3()), "TREADLE_LEDGER": postgres_url(schema=name), "TREADLE_BLOBS": f"s3://treadle/{name}/blobs?cache={tmp_path}/cache/blobs",
        "TREADLE_TABLES": f"delta+s3://treadle/{name}/tables?cache={tmp_path}/cache/tables", "TREADLE_PREDICTIONS": postgres_url(schema=name),
    }  # fmt: skip
    treadle(folder, "run", env=env)
    log = PostgresPredictions(postgres_url(schema=name))
    asked = [(f"p-{n}", json.dumps({"customer": who}).encode()) for n, who in enumerate([ADA.id, "cust-0100", ADA.id, "cust-0101"])]
    predictions = [Prediction(id, "late-return", n // 2 * 86_400_000_000, n, 1, "champion", (0.5,), 0, (), said, b"[]", 9) for n, (id, said) in enumerate(asked)]
    log.write(predictions, [Outcome(p.id, True, 1) for p in predictions])
    assert "2 predictions moved" in treadle(folder, "predictions", "compact", "--older-than", f"{(time.time() / 86400) - 1.5:.0f}d", env=env).stdout
    # Something in the ledger: what a run was asked names her.
    (folder / "project.py").open("a").write(
        "\n\n@tr.step\ndef letter(who: str) -> str:\n    print('to', who)\n    raise ValueError(who)\n\n\n@project.pipeline\ndef letters(who: str = ''):\n    return letter(who)\n"
    )
    treadle(folder, "run", "letters", "--set", f"who={ADA.name} {ADA.id}", env=env, expect=1)

    def found() -> list[str]:
        said = [f"{key}: {text}" for key, data in objects(f"s3://treadle/{name}") for text in in_bytes(data, TEXTS)]
        said += [f"server {path.name}" for path in (postgres().folder / "data").rglob("*") if path.is_file() and in_bytes(path.read_bytes(), TEXTS)]
        return said + holding(tmp_path / "cache", TEXTS) + holding(folder / ".treadle", TEXTS)

    before = found()
    assert any("tables/" in line for line in before)
    assert any("blobs/" in line for line in before)
    assert any("server" in line for line in before)
    record = json.loads(treadle(folder, "erase", "--subject", ADA.id, "--yes", "--json", env=env).stdout)
    assert record["verification"]["undone"] == []
    assert record["verification"]["searched"]["objects"] > 10
    assert record["counts"]["predictions"] == 2
    assert found() == []
    assert log.count("late-return") == (2, 2)
    treadle(folder, "run", "late-return", env=env)
    assert not [line for line in found() if ADA.id in line]


def test_a_person_leaves_the_prediction_log_its_files_and_every_table_of_answers(bikes: Path, tmp_path: Path) -> None:
    """Asked for by name, moved into files, corrected later, scored in bulk: afterwards no byte of it is left, and the others' answers are."""
    ws = open_workspace(bikes)
    day = 86_400_000_000
    first = int(parse_time("2026-02-01").timestamp() * 1e6)

    def asked(number: int, customer: str, more: dict[str, object] | None = None) -> Prediction:
        inputs = json.dumps({"customer": customer, "hours": 2.0, "bike": "city", **(more or {})}, ensure_ascii=False).encode()
        features = json.dumps([2.0, "city", customer]).encode()
        return Prediction(f"p-{number}", "late-return", first + number * day // 2, number, 1, "champion", (0.5, 0.5), 0, (), inputs, features, 9)

    others = [asked(n, "cust-0100") for n in range(0, 12, 2)]
    hers = [asked(n, ADA.id) for n in range(1, 12, 2)] + [asked(20, "cust-0101", {"note": f"with {ADA.name}"})]
    ws.predictions.write([*others, *hers], [Outcome(p.id, True, 1) for p in (*others, *hers)])
    ws.predictions.write([], [Outcome(f"booking-{ADA.id}", True, 1)])
    treadle(bikes, "score", "--data", "rentals", "--keep", "rental,customer")
    assert ws.predictions.compact(first + 3 * day) == 6  # type: ignore[attr-defined]
    planned = treadle(bikes, "erase", "--subject", ADA.id, "--dry-run").stdout
    assert "prediction log: 8 predictions are about the person" in planned
    assert holding(bikes / ".treadle", TEXTS)

    done = treadle(bikes, "erase", "--subject", ADA.id, "--yes").stdout
    assert "found: 0" in done
    assert holding(bikes / ".treadle", TEXTS) == []
    ws = open_workspace(bikes)
    kept = [pair for pairs in ws.predictions.between("late-return", 0, 1 << 62) for pair in pairs]
    assert [p for p, _ in kept] == others
    assert all(outcome is not None for _, outcome in kept)
    assert ws.predictions.strays() == 0
    scoring = ws.ledger.find("scoring")[0]
    answers = ws.tables.scan(scoring["output"]["address"]).collect()
    assert answers.height == 590
    assert ADA.id not in answers["customer"].to_list()


def test_who_was_only_asked_about_is_forgotten_too(bikes: Path) -> None:
    ws = open_workspace(bikes)
    said = json.dumps({"customer": "guest-777", "hours": 2.0}).encode()
    ws.predictions.write([Prediction("p-1", "late-return", 5, 5, 1, "champion", (0.5, 0.5), 0, (), said, b"[]", 9)])
    assert "1 predictions" in treadle(bikes, "erase", "--subject", "guest-777", "--yes").stdout
    assert holding(bikes / ".treadle", ["guest-777"]) == []
    assert "was erased on" in treadle(bikes, "erase", "--subject", "guest-777", "--yes").stdout
