"""`treadle predictions`: the log's length, a range as a table, closed days into files, old ones dropped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import polars as pl
import pytest

from treadle.assemble import open_workspace
from treadle.ports.predictions import Outcome, Prediction
from treadle.testing.command import treadle
from treadle.testing.persons import ADA, write_persons

DAY = 86_400_000_000


@pytest.mark.story
def test_the_log_is_listed_exported_moved_and_dropped(tmp_path: Path) -> None:
    folder = write_persons(tmp_path / "bikes")
    log = open_workspace(folder).predictions
    today = int(time.time() * 1e6) // DAY * DAY
    inputs = json.dumps({"customer": ADA.id, "hours": 2.0}).encode()
    logged = [
        Prediction(f"p-{n}", "late-return", today - n * DAY, today - n * DAY, 1, "champion", (0.25, 0.75), 0, (), inputs, b"[2.0]", 9) for n in range(1, 11)
    ]
    log.write(logged, [Outcome("p-3", True, today, "desk"), Outcome("unknown", 1, 1)])

    told = treadle(folder, "predictions").stdout
    assert "late-return  10           1             0         0" in told
    assert "1 outcomes are of ids that no prediction has" in told

    since = time.strftime("%Y-%m-%d", time.gmtime((today - 6 * DAY) / 1e6))
    out = tmp_path / "some.parquet"
    assert "6 predictions" in treadle(folder, "predictions", "export", "--from", since, "--out", str(out)).stdout
    table = pl.read_parquet(out)
    assert table["id"].to_list() == [f"p-{n}" for n in range(6, 0, -1)]
    assert table.filter(pl.col("id") == "p-3").select("outcome", "outcome_source").row(0) == ("true", "desk")
    assert ADA.id not in table["inputs"][0]
    assert "nothing is written over" in treadle(folder, "predictions", "export", "--out", str(out), expect=6).stderr
    treadle(folder, "predictions", "export", "--unmasked", "--out", str(tmp_path / "all.csv"))
    assert (tmp_path / "all.csv").read_text().count(ADA.id) == 10

    assert "6 predictions moved" in treadle(folder, "predictions", "compact", "--older-than", "4d").stdout
    said = json.loads(treadle(folder, "predictions", "--json").stdout)
    assert (said["models"][0]["predictions"], said["models"][0]["in_files"], said["models"][0]["files"]) == (10, 6, 6)
    treadle(folder, "predictions", "export", "--from", since, "--out", str(tmp_path / "again.parquet"))
    assert pl.read_parquet(tmp_path / "again.parquet").equals(table)

    assert "Not every model declares it" in treadle(folder, "predictions", "drop", "--yes", expect=2).stderr
    assert "3 predictions dropped" in treadle(folder, "predictions", "drop", "--older-than", "7d", "--yes").stdout
    assert log.count("late-return") == (7, 1)
    assert [e.kind for e in open_workspace(folder).ledger.events_since(limit=100)][-1] == "predictions.dropped"
