"""Predictions lie packed in a database: whatever was written before, whatever the order, each is found, once, and goes when it must."""

from __future__ import annotations

import io
import json
import sqlite3
import time
from pathlib import Path

import polars as pl
import pytest

from treadle.backends.memory_predictions import MemoryPredictions
from treadle.backends.prediction_packs import SPAN, parts_of
from treadle.backends.sqlite_migrations import Schema, migrate
from treadle.backends.sqlite_predictions import SqlitePredictions
from treadle.backends.sqlite_predictions_schema import PREDICTIONS
from treadle.core.errors import StorageError
from treadle.core.ids import is_made, made_at, new_id, new_ids, places_of
from treadle.ports.prediction_blocks import Block, each
from treadle.ports.predictions import Outcome
from treadle.serving.logged import Discreet, hashed_value
from treadle.testing.forgotten import holding
from treadle.testing.predictions_contract import block, own_id, prediction, read

DAY = 86_400_000_000


def rows_in(folder: Path, table: str) -> int:
    with sqlite3.connect(folder / "p.db") as connection:
        return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_an_id_says_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    made = new_id("p")
    assert is_made(made)
    assert before <= made_at(made) <= time.time_ns() // 1_000_000
    assert [is_made(id) for id in places_of(made, 3)] == [True] * 3
    assert not any(map(is_made, ("p-1", made.upper(), made + ".01", made + ".-1", made + ".x", "q" + made[1:], made + ".", made + "\n")))


def test_ids_drawn_one_by_one_are_all_different() -> None:
    assert len({new_ids("p", 1)[0][12:] for _ in range(1_000)}) == 1_000


def test_predictions_of_one_commit_are_one_row(tmp_path: Path) -> None:
    log = SqlitePredictions(tmp_path / "p.db")
    log.write([prediction(id) for id in new_ids("p", 300)] + [block(new_id("p"), 32)], durable=False)
    log.write([block(new_id("p"), 5_000)])
    assert (rows_in(tmp_path, "packs"), rows_in(tmp_path, "predictions")) == (2, 0)
    assert log.count("late") == (5_332, 0)


def test_a_pack_is_of_one_model_one_day_and_few_seconds() -> None:
    entries = [
        prediction(own_id(0)), prediction(own_id(SPAN)), prediction(own_id(SPAN + 1)), prediction(own_id(SPAN + 2), model="early"),
        prediction(own_id(SPAN + 3), moment=DAY - 1), prediction(own_id(SPAN + 4), moment=DAY), block(own_id(SPAN + 5), moments=DAY), prediction("x"),
    ]  # fmt: skip
    parts = parts_of(entries)
    assert [len(part) if isinstance(part, list) else part.rows for part in parts] == [2, 1, 1, 1, 4, 1]


def test_a_log_of_rows_is_read_on_and_its_ids_are_not_written_again(tmp_path: Path) -> None:
    older = Schema(PREDICTIONS.name, PREDICTIONS.application_id, PREDICTIONS.scripts[:2])
    connection = sqlite3.connect(tmp_path / "p.db", isolation_level=None)
    migrate(connection, older, tmp_path / "p.db")
    connection.execute("INSERT INTO models VALUES (1, 'late')")
    for seq, id in enumerate(("plain", own_id(5), own_id(7)), 1):
        connection.execute(
            "INSERT INTO predictions VALUES (?, ?, 1, 1000, 2000, 3, 'champion', ?, 4, ?, ?, ?, 180)",
            (seq, id, *(b"\0" * 16,) * 2, b"{}", b"[]"),
        )  # fmt: skip
    connection.close()
    log = SqlitePredictions(tmp_path / "p.db")
    log.write([prediction(own_id(5)), prediction(own_id(6)), prediction("plain"), prediction(own_id(7))], [Outcome(own_id(7), 1, 5)])
    assert [p.id for p, _ in read(log)] == ["plain", own_id(5), own_id(7), own_id(6)]
    assert log.get(own_id(5)).inputs == b"{}"  # type: ignore[union-attr]
    assert log.count("late") == (4, 1)


def test_packs_that_overlap_in_time_are_read_in_order_and_once(tmp_path: Path) -> None:
    log, plain = SqlitePredictions(tmp_path / "p.db"), MemoryPredictions()
    for i in range(40):
        written = [block(own_id(1_000 * i), 20, moments=[(7 * i + 13 * k) % 500 for k in range(20)]), prediction(f"x{i}", moment=i * 11 % 500)]
        log.write(written, durable=False)
        plain.write(written)
    for batch in (1, 7, 100, 10_000):
        assert read(log, start=100, end=400, batch=batch) == read(plain, start=100, end=400)
    assert log.last("late", 50) == plain.last("late", 50)


def test_a_full_disk_stores_nothing_of_a_block(tmp_path: Path) -> None:
    import resource

    log = SqlitePredictions(tmp_path / "p.db")
    log.write([prediction("before")])
    room = (tmp_path / "p.db-wal").stat().st_size + 50_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    big = block(new_id("p"), 20_000)
    try:
        with pytest.raises(StorageError):
            log.write([prediction(new_id("p")), big])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert log.count("late") == (1, 0)
    log.write([big])
    assert log.count("late") == (20_001, 0)


def test_who_is_taken_out_of_a_request_leaves_no_byte_in_the_file(tmp_path: Path) -> None:
    log = SqlitePredictions(tmp_path / "p.db")
    out = io.BytesIO()
    pl.DataFrame({"name": ["ada-lovelace-of-london", "grace-hopper-of-new-york"]}).write_ipc_stream(out)
    said = block(own_id(5), 2)
    arrow = Block(**{f: getattr(said, f) for f in said.__struct_fields__} | {
        "base": own_id(6), "inputs": out.getvalue(), "features": b"", "names": ("name",), "arrow": True,
    })  # fmt: skip
    rows = Block(**{f: getattr(said, f) for f in said.__struct_fields__} | {
        "inputs": b'[["ada-lovelace-of-london"],["grace-hopper-of-new-york"]]', "fields": ("name",), "features": b"", "names": ("name",),
    })  # fmt: skip
    log.write([rows, arrow, prediction(own_id(7))])
    kept = log.get(f"{own_id(6)}.1")
    assert holding(tmp_path, ["ada-lovelace-of-london"])
    assert log.forget([f"{own_id(5)}.0", f"{own_id(6)}.0", "unknown"]) == 2
    log.scrub()
    log.close()
    assert holding(tmp_path, ["ada-lovelace-of-london"]) == []
    assert holding(tmp_path, ["grace-hopper-of-new-york"])
    assert SqlitePredictions(tmp_path / "p.db").get(f"{own_id(6)}.1") == kept
    assert SqlitePredictions(tmp_path / "p.db").count("late") == (3, 0)


def test_personal_values_of_a_request_of_many_rows_are_hashed() -> None:
    kept = MemoryPredictions()
    said = block(own_id(5), 2)
    Discreet(kept, "hash", ["origin"], b"k" * 32).write([said])
    found = kept.get(f"{own_id(5)}.1")
    assert found is not None
    assert json.loads(found.inputs) == {"origin": hashed_value(b"k" * 32, "EWR"), "n": 1}
    assert found.output == each([said])[1].output
