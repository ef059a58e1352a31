"""Files larger than memory: read in parts, they give what reading at once gives, within the memory there is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.declare.data import Dataset
from treadle.core.errors import ContractViolated, DataError
from treadle.data import large, versions
from treadle.data import parts as reading
from treadle.data.versions import Version

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def dataset(path: str, **changes: Any) -> Dataset:
    columns = {"id": tr.integer(), "at": tr.timestamp(), "paid": tr.number(ge=0), "code": tr.text(unique=True, nullable=True), "note": tr.text(nullable=True)}
    declared: dict[str, Any] = {
        "key": "id", "event_time": "at", "contract": tr.Contract(columns, {"not 13": pl.col("paid") != 13}, at_most=0.5),
        "exclude": {"tests": pl.col("note") == "test"},
    }  # fmt: skip
    source = tr.parquet(path) if path.endswith("parquet") else tr.csv(path)
    return tr.Project("p").dataset("orders", source=source, **{**declared, **changes})


def take(declared: Dataset, folder: Path, place: str, memory: int | None = None) -> tuple[Version, DeltaTables]:
    tables = DeltaTables(folder / place, MemoryBlobs())
    return versions.take(declared, folder, tables, MemoryLedger(), now=NOW, memory=memory), tables


def write(folder: Path, rows: int, seed: int = 0) -> None:
    """Rows with everything that can be wrong: bad values, cells that do not read, doubles far apart, quotes and line breaks."""
    chance = random.Random(seed)
    lines = ["id,at,paid,code,note"]
    for i in range(rows):
        id = chance.randrange(rows) if chance.random() < 0.05 else rows + i
        at = datetime(2013, 1, 1) + timedelta(minutes=chance.randrange(500_000))
        paid = chance.choice(["5.5", "1,5", "-1", "13", "soon", "7"]) if chance.random() < 0.1 else f"{chance.random() * 100:.2f}"
        code = f"c{chance.randrange(rows * 3)}" if chance.random() < 0.5 else ""
        note = chance.choice(["", "test", '"a ""quoted"", word"', '"two\nlines"', "żółw"])
        lines.append(f'{id},{at},"{paid}",{code},{note}')
    (folder / "orders.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.mark.parametrize("changes", [{}, {"event_time": None}, {"key": ("id", "at")}, {"key": "row_number"}, {"contract": None, "exclude": {}}])
def test_in_parts_it_is_what_it_is_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    monkeypatch.setattr(large, "_LEAST", 10_000)
    write(tmp_path, 5_000)
    declared = dataset("orders.csv", **changes)
    if changes.get("contract", 1) is None:
        declared = dataset("orders.csv", **changes, known_time=None, event_time="at", key="row_number")
    whole, first = take(declared, tmp_path, "whole", memory=1 << 40)
    parts, second = take(declared, tmp_path, "parts", memory=400_000)
    assert parts.digest == whole.digest
    assert (parts.rows, parts.quarantined, parts.reasons, parts.excluded) == (whole.rows, whole.quarantined, whole.reasons, whole.excluded)
    assert (parts.start, parts.end, parts.schema) == (whole.start, whole.end, whole.schema)
    if whole.quarantine:
        a, b = first.scan(whole.quarantine).collect(), second.scan(parts.quarantine).collect()
        rows = [sorted((str(row[:-1]), sorted(row[-1].split("; "))) for row in frame.iter_rows()) for frame in (a, b)]
        assert rows[0] == rows[1]


def test_parquet_files_are_read_in_parts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "SLICE", 700)
    for i in range(3):
        frame = pl.DataFrame({"id": [i * 900 + j for j in range(1000)], "at": [NOW - timedelta(hours=j) for j in range(1000)], "paid": [1.0] * 1000})
        frame.write_parquet(tmp_path / f"part{i}.parquet")
    declared = dataset("part*.parquet", contract=tr.Contract({"paid": tr.number()}, at_most=0.5), exclude={})
    whole, _ = take(declared, tmp_path, "whole", memory=1 << 40)
    parts, _ = take(declared, tmp_path, "parts", memory=1000)
    assert (parts.digest, parts.reasons) == (whole.digest, {"id is not unique": 200})


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["id,at,paid", *(f"{i},2013-01-01,1" for i in range(2000)), "1,2"], "has 2 fields where the header has 3"),
        (["id,at,paid", *(f"{i},0{1 + i % 9}/0{1 + i % 8}/2013,1" for i in range(2000))], "does not say which of the two is the day"),
        (["id,at,paid", '1,2013-01-01,"1', *(f"{i},2013-01-01,1" for i in range(20_000))], "Is a quote opened and never closed"),
        (["id,at,paid", *(f"{i},2013-01-01,-1" for i in range(2000))], "break the contract"),
        (["id,when,paid", *(f"{i},2013-01-01,1" for i in range(2000))], "Column 'at' is missing"),
    ],
)
def test_what_is_wrong_with_a_large_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], said: str) -> None:
    monkeypatch.setattr(large, "_LEAST", 5_000)
    (tmp_path / "orders.csv").write_text("\n".join(lines) + "\n")
    declared = dataset("orders.csv", exclude={}, contract=tr.Contract({"at": tr.timestamp(), "paid": tr.number(ge=0)}))
    with pytest.raises((DataError, ContractViolated)) as caught:
        take(declared, tmp_path, "parts", memory=10_000)
    assert said in str(caught.value)


def test_letters_of_another_encoding_have_to_be_declared(tmp_path: Path) -> None:
    (tmp_path / "orders.csv").write_bytes("id,at,paid\n1,2013-01-01,1\n2,2013-01-01,über\n".encode("cp1252"))
    with pytest.raises(DataError, match="it is not UTF-8") as caught:
        take(dataset("orders.csv", contract=None, exclude={}), tmp_path, "parts", memory=10)
    assert "encoding='cp1252'" in (caught.value.hint or "")


MEASURE = """
import sys
from pathlib import Path
def peak():
    # Of this program; what the module resource says begins with what the process was that started it.
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) // 1024
from test_large import dataset, take
import duckdb, deltalake  # what is loaded before is not counted
begin = peak()
folder, memory = Path(sys.argv[1]), int(sys.argv[2])
version, _ = take(dataset("orders.csv"), folder, "parts", memory=memory)
print(version.rows, version.quarantined, peak() - begin)
"""


@pytest.mark.slow
def test_a_file_several_times_the_memory_is_taken_within_it(tmp_path: Path) -> None:
    """The memory is what is said may be taken, beside what Python, Polars and DuckDB take by being there."""
    rows, memory = 6_000_000, 96 << 20
    n = pl.int_range(rows)
    at = pl.lit(datetime(2013, 1, 1)) + pl.duration(seconds=(n * 104_729) % 30_000_000)
    frame = pl.select(id=(n * 7919) % rows, at=at.dt.strftime("%Y-%m-%d %H:%M:%S"), paid=n % 100, code=pl.lit(None, pl.String), note=pl.lit("words " * 4))
    again = frame.head(1000).with_columns(paid=pl.lit(1, pl.Int64))  # seconds, far from their firsts
    pl.concat([frame, again]).write_csv(tmp_path / "orders.csv")
    size = (tmp_path / "orders.csv").stat().st_size
    assert size > 3 * memory
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), str(memory)], capture_output=True, text=True, check=False, cwd=Path(__file__).parent,
        env={**os.environ, "POLARS_MAX_THREADS": "2"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    taken, aside, megabytes = map(int, done.stdout.split())
    print(f"{size >> 20} MB read with {megabytes} MB")
    assert (taken, aside) == (rows - rows // 100, 1000 + rows // 100)
    assert megabytes < 2.6 * memory / (1 << 20)
