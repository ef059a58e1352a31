"""Rows that a later version replaces: a correction that says when it became known is honest; one that does not restates the past, and is counted."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import treadle as tr
from treadle.assemble import Workspace, open_workspace
from treadle.cli.main import cli
from treadle.live.feature_checks import restated, rows_restated
from treadle.wheel.materialise import newest_version
from treadle.wheel.turn import turn

PROJECT = """
import treadle as tr

project = tr.Project("shop")
prices = project.dataset(
    "prices", source=tr.sql("sqlite:shop.db", table="prices", watermark="changed"), key="id", event_time="at", known_time="known",
    contract=tr.Contract({"id": tr.integer(), "shop": tr.category(), "at": tr.timestamp(), "known": tr.timestamp(), "price": tr.number(nullable=True),
                          "changed": tr.timestamp()}),
)
sales = project.dataset("sales", source=tr.csv("sales.csv"), key="id", event_time="at",
                        contract=tr.Contract({"id": tr.integer(), "shop": tr.category(), "at": tr.timestamp(), "size": tr.number(), "many": tr.boolean()}))
last = project.view("last", source=prices, entity="shop", features=["price"])
project.model("many", rows=sales, target="many", inputs=["size"], views=[last], candidates=[tr.candidate("logistic")], trials=1,
              split=tr.at_random(test=0.3), gates=[tr.enough_rows(20)])
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


class Shop:
    """A table that is read by its watermark, so that a row that comes again replaces the one before."""

    def __init__(self, folder: Path) -> None:
        (folder / "project.py").write_text(PROJECT)
        self.table = sqlite3.connect(folder / "shop.db", isolation_level=None)
        self.table.execute("CREATE TABLE prices (id INTEGER PRIMARY KEY, shop TEXT, at TIMESTAMP, known TIMESTAMP, price REAL, changed TIMESTAMP)")
        self.changes = 0
        self.ws = open_workspace(folder)

    def put(self, *rows: tuple[int, int, int, float | None]) -> None:
        """(id, hour that it is about, hour that it was known, price)."""
        self.changes += 1
        said = [
            (id, f"shop {id % 3}", *(f"{START + timedelta(hours=h):%Y-%m-%d %H:%M:%S}" for h in (at, known)), price,
             f"2026-02-01 00:{self.changes:02d}:00")
            for id, at, known, price in rows
        ]  # fmt: skip
        self.table.executemany("INSERT OR REPLACE INTO prices VALUES (?, ?, ?, ?, ?, ?)", said)

    def take(self) -> Any:
        return newest_version(self.ws, self.ws.project.views["last"])


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_rows_replaced_without_a_later_known_time_are_counted_and_told_until_they_are_long_ago(shop: Shop) -> None:
    shop.put(*((i, i, i + 1, float(i)) for i in range(20)))
    assert shop.take().number == 0
    assert restated(shop.ws, "prices") == ""
    shop.put((3, 3, 40, 99.0), (20, 20, 21, 20.0))  # corrected, and it says when that was known; and a new row
    assert shop.take().changed == 1
    assert restated(shop.ws, "prices") == ""
    shop.put((4, 4, 5, 98.0), (5, 5, 6, None), (6, 6, 2, 6.0))  # another price, none any more, known earlier than it was
    version = shop.take()
    assert (version.number, version.rows, version.changed) == (2, 21, 3)
    said = (
        "data set 'prices': 3 rows of version 2 say something else than in version 1, without a later known: "
        "what views say of the time before is not what was known then"
    )
    assert restated(shop.ws, "prices") == said
    shop.put((21, 30, 31, 1.0))
    assert shop.take().number == 3
    assert restated(shop.ws, "prices") == said  # a version that only adds does not make the past good
    shop.put((7, 7, 8, 77.0))
    shop.take()
    assert restated(shop.ws, "prices").startswith("data set 'prices': 1 row of version 4 say")
    assert "3 rows of version 2 say something else than in version 1" in restated(shop.ws, "prices")


def test_the_check_of_features_warns_of_them(shop: Shop) -> None:
    shop.put(*((i, i, i + 1, float(i)) for i in range(100)))
    sales = [f"{i},shop {i % 3},{START + timedelta(hours=i):%Y-%m-%dT%H:%M:%SZ},{i % 7},{i % 2 == 0}" for i in range(10, 200)]
    (shop.ws.folder / "sales.csv").write_text("id,shop,at,size,many\n" + "\n".join(sales) + "\n")
    turn(shop.ws, shop.ws.model(), cause={"kind": "person", "id": "", "text": "test"})
    assert "warning" not in check(shop.ws)
    shop.put((8, 8, 9, -1.0), (9, 9, 10, -2.0))
    turn(shop.ws, shop.ws.model(), cause={"kind": "person", "id": "", "text": "test"})
    assert "warning: data set 'prices': 2 rows of version 1 say something else than in version 0, without a later known" in check(shop.ws)
    assert len(json.loads(check(shop.ws, "--json"))["restated"]) == 1


def check(ws: Workspace, *more: str) -> str:
    done = CliRunner().invoke(cli, ["-C", str(ws.folder), "features", "check", "many", "--rows", "20", *more], standalone_mode=False)
    assert done.exception is None, done.exception
    assert not done.return_value  # the two paths agree all the same
    return done.output


# --- the count itself

VALUES = st.sampled_from([None, 0.0, -0.0, 1.5, float("nan")])
ROWS = st.dictionaries(st.integers(0, 5), st.tuples(st.integers(0, 3) | st.none(), VALUES), max_size=6)


def frame(rows: dict[int, tuple[int | None, float | None]]) -> pl.DataFrame:
    told = [(id, None if known is None else START + timedelta(hours=known), value) for id, (known, value) in rows.items()]
    return pl.DataFrame(told, schema={"id": pl.Int64, "known": pl.Datetime("us", "UTC"), "x": pl.Float64}, orient="row")


@given(ROWS, ROWS)
def test_what_is_counted_is_what_a_comparison_row_by_row_finds(old: dict[int, Any], new: dict[int, Any]) -> None:
    dataset = tr.Project("p").dataset("d", source=tr.csv("x.csv"), key="id", known_time="known")

    def same(a: Any, b: Any) -> bool:
        return bool(a == b or (a is not None and b is not None and a != a and b != b))

    expected = 0
    for id in old.keys() & new.keys():
        (was, x), (now, y) = old[id], new[id]
        later = was is not None and now is not None and now > was
        expected += not later and not (same(was, now) and same(x, y))
    assert rows_restated(frame(old).lazy(), frame(new).lazy(), dataset) == expected


def test_a_column_that_came_went_or_changed_its_type_is_no_error() -> None:
    dataset = tr.Project("p").dataset("d", source=tr.csv("x.csv"), key="id")
    old = pl.LazyFrame({"id": [1, 2, 3], "n": [1, 2, 3], "t": ["a", "b", "7"], "gone": [1, 1, 1]})
    new = pl.LazyFrame({"id": [1, 2, 3], "n": [1.0, 2.5, 3.0], "t": [5, 6, 7], "came": [1, 1, 1]})
    assert rows_restated(old, new, dataset) == 2
    assert rows_restated(old.select("id"), new.select("id"), dataset) == 0
