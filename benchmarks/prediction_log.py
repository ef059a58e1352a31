"""What a logged prediction costs, by how it came: CPU (of this process, all threads), bytes, and what it takes to read it back.

    python benchmarks/prediction_log.py [--rows 60000] [--json FILE]

Seven fields a row, two probabilities; SQLite, not forced to the disk; 300 predictions a commit, as at 15,000 requests a second. Writing includes
making the entries of the rows that were answered (JSON or Arrow of what was sent).
"""

from __future__ import annotations

import argparse
import io
import json
import random
import tempfile
import time
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from treadle.backends.sqlite_predictions import SqlitePredictions
from treadle.core.ids import new_id, new_ids
from treadle.ports.prediction_blocks import Block
from treadle.ports.predictions import Prediction

FIELDS = ("carrier", "origin", "dest", "distance", "month", "weekday", "minute")
COMMIT = 300
encode = msgspec.json.Encoder().encode


def rows_of(count: int) -> list[tuple[Any, ...]]:
    chance = random.Random(1)
    return [
        (chance.choice(["UA", "AA", "B6"]), chance.choice(["EWR", "JFK"]), chance.choice(["IAH", "MIA", "BOS"]), float(chance.randint(80, 2500)),
         float(chance.randint(1, 12)), float(chance.randint(1, 7)), float(chance.randint(300, 1300))) for _ in range(count)
    ]  # fmt: skip


def alone(rows: Sequence[tuple[Any, ...]], ids: Sequence[str]) -> list[Prediction]:
    now = time.time_ns() // 1000
    return [
        Prediction(id, "late", now + i, now, 1, "champion", (0.25, 0.75), 0, (), encode(dict(zip(FIELDS, row))), encode(row), 9)
        for i, (id, row) in enumerate(zip(ids, rows))
    ]


def together(rows: Sequence[tuple[Any, ...]], arrow: bool) -> Block:
    now, said = time.time_ns() // 1000, array("d", [0.25, 0.75] * len(rows)).tobytes()
    if arrow:
        out = io.BytesIO()
        FRAME.head(len(rows)).write_ipc_stream(out)
    return Block(
        base=new_id("p"), model="late", count=len(rows), moments=now, answered=now, version=1, variant="champion", width=2, outputs=said,
        inputs=out.getvalue() if arrow else encode(rows), fields=() if arrow else FIELDS, names=FIELDS, arrow=arrow,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    some = rows_of(1_000)
    global FRAME
    FRAME = pl.DataFrame(some, schema=FIELDS, orient="row")
    ways: dict[str, tuple[int, Callable[[], list[Any]]]] = {
        "one row a request, ids of the caller": (COMMIT, lambda: alone(some[:COMMIT], [f"x-{id}" for id in new_ids("p", COMMIT)])),
        "one row a request": (COMMIT, lambda: alone(some[:COMMIT], new_ids("p", COMMIT))),
        "32 rows a request": (10 * 32, lambda: [together(some[:32], False) for _ in range(10)]),
        "1,000 rows a request": (1_000, lambda: [together(some, False)]),
        "1,000 rows a request, Arrow": (1_000, lambda: [together(some, True)]),
    }
    print("| | CPU us a prediction | bytes | read, us a prediction | found by id, ms |\n|---|---|---|---|---|")
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, (size, make)) in enumerate(ways.items()):
            log = SqlitePredictions(Path(temporary) / f"{number}.db")
            log.write(make(), durable=False)
            begun = time.process_time()
            for _ in range(given.rows // size):
                log.write(make(), durable=False)
            cpu = (time.process_time() - begun) / (given.rows // size * size)
            count = log.count("late")[0]
            begun = time.process_time()
            ids = [p.id for batch in log.between("late", 0, 2**62) for p, _ in batch]
            read = (time.process_time() - begun) / count
            begun = time.process_time()
            asked = random.Random(2).sample(ids, 200)
            assert all(log.get(id) is not None for id in asked)
            get = (time.process_time() - begun) / len(asked)
            log.close()
            room = sum(path.stat().st_size for path in Path(temporary).glob(f"{number}.db*")) / count
            found.append({"way": name, "cpu": cpu * 1e6, "bytes": room, "read": read * 1e6, "get": get * 1e3})
            print(f"| {name} | {cpu * 1e6:.2f} | {room:.0f} | {read * 1e6:.1f} | {get * 1e3:.2f} |", flush=True)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
