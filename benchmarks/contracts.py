"""Hold a million rows of ten columns to a contract, and the same promises with Pandera alone, each in a process of its own; CPU seconds, the best of
three. Both must find the same rows.

    python benchmarks/contracts.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

SIDES = ("treadle", "pandera")
CASES = ("clean", "one percent bad")


def table(rows: int, bad: bool) -> pl.DataFrame:
    """Ten columns: a key in no order, four numbers, an integer, two categories, a truth value, a moment."""
    chance = np.random.default_rng(0)
    start = int(datetime(2024, 1, 1, tzinfo=UTC).timestamp() * 1e6)
    frame = pl.DataFrame(
        {
            "id": chance.permutation(rows), **{f"x{i}": chance.normal(size=rows) for i in range(4)}, "count": chance.integers(0, 100, rows),
            "city": chance.choice(["Basel", "Geneva", "Lugano", "Zurich"], rows), "kind": chance.choice(["a", "b"], rows),
            "paid": chance.integers(0, 2, rows).astype(bool),
            "at": pl.Series(start + chance.integers(0, 10**13, rows)).cast(pl.Datetime("us", "UTC")),
        }
    )  # fmt: skip
    if bad:
        wrong = pl.Series(chance.random(rows) < 0.01)
        frame = frame.with_columns(x0=pl.when(wrong).then(99.0).otherwise("x0"), city=pl.when(wrong).then(pl.lit("nowhere")).otherwise("city"))
    return frame


def treadle(frame: pl.DataFrame) -> set[int]:
    import treadle as tr
    from treadle.data import contracts

    columns = {
        "id": tr.integer(unique=True), **{f"x{i}": tr.number(ge=-10, le=10) for i in range(4)}, "count": tr.integer(ge=0, le=100),
        "city": tr.category(isin=("Basel", "Geneva", "Lugano", "Zurich")), "kind": tr.category(isin=("a", "b")), "paid": tr.boolean(),
        "at": tr.timestamp(),
    }  # fmt: skip
    contract = tr.Contract(columns, {"small together": pl.col("x1") + pl.col("x2") < 20})
    dataset = tr.Project("bench").dataset("rows", source=tr.rows(lambda: frame), key="id", contract=contract)
    return set(contracts.check(frame, dataset, [])["row"].to_list())


def pandera(frame: pl.DataFrame) -> set[int]:
    import pandera.polars as pa

    between, isin = pa.Check.in_range, pa.Check.isin
    schema = pa.DataFrameSchema(
        {
            "id": pa.Column(int, unique=True), **{f"x{i}": pa.Column(float, between(-10, 10)) for i in range(4)},
            "count": pa.Column(int, between(0, 100)), "city": pa.Column(str, isin(["Basel", "Geneva", "Lugano", "Zurich"])),
            "kind": pa.Column(str, isin(["a", "b"])), "paid": pa.Column(bool), "at": pa.Column(pl.Datetime("us", "UTC")),
        },
        checks=pa.Check(lambda data: data.lazyframe.select(pl.col("x1") + pl.col("x2") < 20)),
    )  # fmt: skip
    try:
        schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as errors:
        return set(errors.failure_cases["index"].drop_nulls().to_list())
    return set()


def measure(side: str, case: str, rows: int) -> dict[str, Any]:
    frame = table(rows, case != "clean")
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        found = {"treadle": treadle, "pandera": pandera}[side](frame)
        seconds.append(time.process_time() - begun)
    return {"side": side, "case": case, "first": round(seconds[0], 3), "best": round(min(seconds), 3), "found": len(found), "sum": sum(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(*given.one, given.rows)))
        return
    print(f"{'':18}{'':10}{'first, with imports':>22}{'best':>10}{'rows named':>12}   (CPU seconds)")
    for case in CASES:
        told = []
        for side in SIDES:
            command = [sys.executable, str(Path(__file__).resolve()), "--rows", str(given.rows), "--one", side, case]
            told.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
            print(f"{case:18}{side:10}{told[-1]['first']:>22}{told[-1]['best']:>10}{told[-1]['found']:>12,}", flush=True)
        assert len({(t["found"], t["sum"]) for t in told}) == 1, "the two sides name different rows"


if __name__ == "__main__":
    main()
