"""A ledger that is moved from SQLite to PostgreSQL is the same ledger."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from treadle.backends.postgres_import import move
from treadle.backends.postgres_ledger import PostgresLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.errors import Conflict, NotFound
from treadle.core.records import Link, Point, Ref
from treadle.testing.servers import postgres_url, schema_of


def test_a_moved_ledger_is_the_same_and_goes_on(tmp_path: Path) -> None:
    old = SqliteLedger(tmp_path / "ledger.db")
    for name in ("b", "a"):
        old.put("run", name, {"text": "\x00 \x01 é\t\\N", "n": [1, -0.0, math.inf]})
    old.put("run", "b", {"again": math.nan})
    links = [Link(Ref("run", "b"), "trained_on", Ref("data", str(n))) for n in (2, 1)]
    for link in links:
        old.link(link)
    for n in range(3):
        old.append("tick", Ref("run", "a"), {"n": n, "text": "\x00\n\t\\"})
    old.log_points([Point("a", "loss", value, step) for value, step in ((math.nan, 1), (0.1, 0), (math.inf, 1))])
    url = postgres_url(schema=schema_of(tmp_path))
    said = subprocess.run(
        [sys.executable, "-m", "treadle.backends.postgres_import", str(tmp_path / "ledger.db"), url], capture_output=True, text=True, check=True
    )
    assert said.stdout == "2 records, 2 links, 3 events, 1 metrics, 3 points\n"
    new = PostgresLedger(url)
    assert repr(new.find("run")) == repr(old.find("run"))
    assert new.links(Ref("run", "b")) == links
    assert new.events_since() == old.events_since()
    assert repr(new.points("a")) == repr(old.points("a"))
    assert new.append("tick", Ref("run", "a")).previous == old.events_since()[-1].hash
    assert new.put("run", "b", {}, expect=2).version == 3
    new.log_points([Point("a", "auc", 1.0), Point("a", "loss", 1.0, 2)])
    new.link(Link(Ref("run", "b"), "trained_on", Ref("data", "0")))
    assert (len(new.points("a")), len(new.links(Ref("run", "b"))), new.verify_chain()) == (5, 3, 4)
    with pytest.raises(Conflict, match="not empty"):
        move(tmp_path / "ledger.db", url)
    assert new.verify_chain() == 4


def test_a_ledger_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        move(tmp_path / "ledger.db", "postgresql://nowhere/db")
    assert os.listdir(tmp_path) == []
