"""`treadle score`: the same answers as over HTTP, killed and gone on with, every output with its lineage, nothing written over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.client import Endpoint
from treadle.features.parity import request_of
from treadle.live.deploy import deploy, stop
from treadle.scoring.score import KIND
from treadle.testing import servers
from treadle.testing.command import treadle
from treadle.testing.persons import write_persons
from treadle.testing.ray_apart import TOLERANT
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one version, trained once for all tests."""
    folder = write_persons(tmp_path_factory.mktemp("rental"))
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "test"})
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "rental")
    return tmp_path / "rental"


@pytest.fixture
def ws(folder: Path) -> Workspace:
    return open_workspace(folder)


def rentals(folder: Path) -> pl.DataFrame:
    return pl.read_csv(folder / "rentals.csv").with_columns(pl.col("out").str.to_datetime(time_zone="UTC"))


def scored(folder: Path, *arguments: str, **options: Any) -> dict[str, Any]:
    return dict(json.loads(treadle(folder, "score", *arguments, "--json", **options).stdout))


def test_a_data_set_is_scored_into_a_version_of_a_table_that_says_what_it_was_made_of(folder: Path, ws: Workspace) -> None:
    record = scored(folder, "--data", "rentals")
    assert (record["status"], record["rows"], record["refused"]) == ("done", 600, 0)
    answers = ws.tables.scan(record["output"]["address"]).collect()
    assert answers.columns == ["rental", "prediction", "probability", "refused", "version"]
    assert answers.height == 600
    links = {(link.relation, link.target.kind) for link in ws.ledger.links(_ref(record))}
    assert links == {("made_by", "model_version"), ("read", "dataset_version")}
    assert record["dataset"].startswith("rentals-")
    assert set(record["view_data"]) == {"rentals", "customers"}
    assert "done already" in treadle(folder, "score", "--data", "rentals").stdout
    again = scored(folder, "--data", f"rentals@{record['dataset']}", "--again")
    assert again["output"]["digest"] == record["output"]["digest"]


def _ref(record: dict[str, Any]) -> Any:
    from treadle.core.records import Ref

    return Ref(KIND, record["scoring"])


def test_rows_get_the_answers_that_the_endpoint_gives_them_over_http(folder: Path, ws: Workspace, tmp_path: Path) -> None:
    moment = datetime.fromisoformat("2026-03-10T12:00:00+00:00")
    asked = rentals(folder).tail(60).with_columns(pl.lit(moment).alias("out"))
    odd = pl.DataFrame({"customer": ["nobody", "cust-0100", "cust-0101"], "hours": [1.0, 90.0, 3.0], "bike": ["city", "race", None]})
    asked = pl.concat([asked, odd.with_columns(pl.lit(moment).alias("out"))], how="diagonal")
    asked.write_parquet(tmp_path / "asked.parquet")
    scored(folder, "--data", str(tmp_path / "asked.parquet"), "--to", str(tmp_path / "answers.parquet"), "--keep", "rental,customer")
    answers = pl.read_parquet(tmp_path / "answers.parquet")
    assert answers.height == 63
    record = deploy(ws, ws.model(), at=moment)
    try:
        endpoint = Endpoint(record["url"])
        fields = [f["name"] for f in endpoint.signature()["fields"]]
        refusals: list[tuple[str, str]] = []
        for row, answer in zip(asked.iter_rows(named=True), answers.iter_rows(named=True)):
            try:
                said = endpoint.predict(request_of(row, fields))
            except Exception as error:
                assert answer["prediction"] is None
                refusals.append((answer["refused"].partition(" ")[0], str(error)))
            else:
                assert (said["prediction"], said["probability"]) == (answer["prediction"], answer["probability"])
                assert answer["refused"] is None
        assert len(refusals) == 2
        assert all(field in said for field, said in refusals)
    finally:
        stop(ws, ws.model().name)


@pytest.fixture
def many(folder: Path, tmp_path: Path) -> Path:
    rows = rentals(folder)
    pl.concat([rows] * 20).with_columns(pl.int_range(pl.len()).alias("n")).write_parquet(tmp_path / "many.parquet")
    return tmp_path / "many.parquet"


def parts(folder: Path) -> Iterator[Path]:
    return (folder / ".treadle" / "scores").glob("*/part-*.json")


def test_a_killed_scoring_goes_on_where_it_was_and_gives_what_it_would_have_given(folder: Path, many: Path, tmp_path: Path) -> None:
    options = ["--data", str(many), "--part-rows", "100", "--keep", "n"]
    whole = scored(folder, *options, "--to", str(tmp_path / "whole.parquet"))
    assert whole["rows"] == 12_000
    command = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "score", *options, "--to", str(tmp_path / "killed.parquet")]
    for more in (5, 30):
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while child.poll() is None and sum(1 for _ in parts(folder)) < more:
            time.sleep(0.002)
        child.kill()
        assert child.wait() == -signal.SIGKILL
    kept = {path: path.stat().st_ino for path in parts(folder)}
    assert not (tmp_path / "killed.parquet").exists()
    assert 30 <= len(kept) < 120
    done = treadle(folder, "score", *options, "--to", str(tmp_path / "killed.parquet"))
    assert f"{len(kept)} of 120 parts are there already" in done.stdout
    assert "goes on with score-" in done.stdout
    assert pl.read_parquet(tmp_path / "killed.parquet").equals(pl.read_parquet(tmp_path / "whole.parquet"))
    assert not list(parts(folder))
    ws = open_workspace(folder)
    assert {r["status"] for r in ws.ledger.find(KIND)} == {"done"}
    assert len(ws.ledger.find(KIND)) == 2


def test_a_part_that_was_changed_meanwhile_is_not_believed(folder: Path, many: Path, tmp_path: Path) -> None:
    options = ["--data", str(many), "--part-rows", "100", "--to", str(tmp_path / "out")]
    command = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "score", *options]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while child.poll() is None and sum(1 for _ in parts(folder)) < 4:
        time.sleep(0.002)
    child.kill()
    child.wait()
    kept = sorted(parts(folder))
    damaged = kept[0].with_suffix(".parquet")
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    assert f"{len(kept) - 1} of 120 parts are there already" in treadle(folder, "score", *options).stdout
    assert pl.read_parquet(tmp_path / "out" / "*.parquet")["probability"].null_count() == 0
    assert json.loads((tmp_path / "out" / "_scoring.json").read_text())["status"] == "done"


def test_worker_processes_give_the_same_answers(folder: Path, many: Path, tmp_path: Path) -> None:
    options = ["--data", str(many), "--part-rows", "3000", "--keep", "n"]
    scored(folder, *options, "--to", str(tmp_path / "one.parquet"))
    scored(folder, *options, "--to", str(tmp_path / "two.parquet"), "--parallel", "2")
    assert pl.read_parquet(tmp_path / "one.parquet").equals(pl.read_parquet(tmp_path / "two.parquet"))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_texts_are_scored_as_what_they_say(folder: Path, tmp_path: Path, kind: str) -> None:
    rows = rentals(folder).head(50)
    rows.write_parquet(tmp_path / "rows.parquet")
    texts = rows.with_columns(pl.col("out").dt.strftime("%Y-%m-%dT%H:%M:%S%.fZ"))
    texts.write_csv(tmp_path / "rows.csv") if kind == "csv" else texts.write_ndjson(tmp_path / "rows.jsonl")
    scored(folder, "--data", str(tmp_path / "rows.parquet"), "--to", str(tmp_path / "a.csv"), "--keep", "rental")
    scored(folder, "--data", str(tmp_path / f"rows.{kind}"), "--to", str(tmp_path / "b.csv"), "--keep", "rental")
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_nothing_is_written_over(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"mine")
    for to in ("mine.parquet", "full"):
        done = treadle(folder, "score", "--data", "rentals", "--to", str(tmp_path / to), expect=6)
        assert "nothing is written over" in done.stderr
    assert (tmp_path / "mine.parquet").read_bytes() == b"mine"


def test_a_view_that_was_declared_anew_since_is_not_joined_to_an_old_version(folder: Path) -> None:
    project = folder / "project.py"
    project.write_text(project.read_text().replace('window="30d"', 'window="20d"'))
    assert "is declared otherwise than late-return.v1 knows it" in treadle(folder, "score", "--data", "rentals", expect=3).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data", "nothing"], 2, "neither a data set nor a file"),
        (["--data", "gone.parquet"], 5, "There is no file"),
        (["--data", "rentals@7"], 5, "has no version '7'"),
        (["--data", "bad.parquet"], 3, "does not parse"),
        (["--data", "few.csv"], 3, "Column 'hours' is missing"),
        (["--data", "rentals", "--to", "ftp://x/y"], 2, "not written to 'ftp'"),
        (["--data", "rentals", "--keep", "colour"], 2, "no column 'colour' to keep"),
        (["--data", "rentals", "--version", "9"], 5, "has no version 9"),
        (["--data", "all-bad.csv"], 3, "None of the 2 rows fits the model: hours must be at most 48"),
    ],
)
def test_what_cannot_be_scored_is_said_in_a_sentence(folder: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "few.csv").write_text("bike\ncity\n")
    (tmp_path / "all-bad.csv").write_text("customer,hours,bike\ncust-0100,70,city\ncust-0101,71,race\n")
    done = treadle(folder, "score", *arguments, expect=code, cwd=tmp_path)
    assert message in done.stderr


def test_objects_are_read_and_answers_are_put_beside_them(folder: Path, tmp_path: Path) -> None:
    import boto3

    server = servers.s3()
    environment = {**servers.s3_environment(server)}
    client = boto3.client("s3", endpoint_url=environment["AWS_ENDPOINT_URL"], region_name="us-east-1",
                          aws_access_key_id=environment["AWS_ACCESS_KEY_ID"], aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"])  # fmt: skip
    bucket = f"rows-{os.getpid()}"
    client.create_bucket(Bucket=bucket)
    rentals(folder).head(40).write_parquet(tmp_path / "rows.parquet")
    client.upload_file(str(tmp_path / "rows.parquet"), bucket, "in/rows.parquet")
    record = scored(
        folder, "--data", f"s3://{bucket}/in/*.parquet", "--to", f"s3://{bucket}/out/", "--part-rows", "30", "--keep", "rental", env=environment
    )
    names = sorted(o["Key"] for o in client.list_objects_v2(Bucket=bucket, Prefix="out/")["Contents"])
    assert names == ["out/_scoring.json", "out/part-00000.parquet", "out/part-00001.parquet"]
    assert record["output"]["parts"] == 2
    client.download_file(bucket, names[2], str(tmp_path / "part.parquet"))
    assert pl.read_parquet(tmp_path / "part.parquet").height == 10


@pytest.mark.root
def test_a_full_disk_keeps_what_is_finished_and_room_lets_the_same_command_go_on(folder: Path, many: Path, tmp_path: Path) -> None:
    place = folder / ".treadle" / "scores"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], check=True)
    try:
        options = ["--data", str(many), "--part-rows", "1000", "--keep", "*", "--to", str(tmp_path / "out")]
        done = treadle(folder, "score", *options, expect=7)
        assert "cannot be written" in done.stderr or "No space left" in done.stderr
        kept = len(list(parts(folder)))
        assert 0 < kept < 12
        assert not (tmp_path / "out").exists()
        subprocess.run(["mount", "-o", "remount,size=20m", str(place)], check=True)
        assert f"{kept} of 12 parts are there already" in treadle(folder, "score", *options).stdout
        assert pl.read_parquet(tmp_path / "out" / "*.parquet").height == 12_000
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_answers(folder: Path, many: Path, tmp_path: Path) -> None:
    options = ["--data", str(many), "--part-rows", "2000", "--keep", "n"]
    scored(folder, *options, "--to", str(tmp_path / "here.parquet"))
    scored(folder, *options, "--to", str(tmp_path / "ray.parquet"), "--parallel", "2", env={**TOLERANT, "TREADLE_EXECUTOR": "ray:"})
    assert pl.read_parquet(tmp_path / "here.parquet").equals(pl.read_parquet(tmp_path / "ray.parquet"))
