"""A project whose views do not fit into the memory that may be taken is run on the disk, with the same rows; what training must hold is said before."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from treadle.assemble import open_workspace
from treadle.pipelines.run import steps_of
from treadle.testing.command import treadle

pytestmark = pytest.mark.story

PROJECT = '''
import polars as pl
import treadle as tr

project = tr.Project("big", owner="me", goal="test")
facts = project.dataset("facts", source=tr.parquet("facts.parquet"), key="id", event_time="at")
rows = project.dataset("rows", source=tr.parquet("rows.parquet"), key="id", event_time="asked")
last = project.view("last", source=facts, entity="who", features=[f"x{k}" for k in range(8)], ttl="30d")
day = project.view("day", source=facts, entity="who", window="1d", every="6h", features={"n": pl.len(), "most": pl.col("x1").max()})
model = project.model("big", rows=rows, target="y", inputs=["z"], views=[last, day], candidates=[tr.candidate("logistic")], trials=1)
'''
START, SPAN = 1_700_000_000_000_000, 90 * 86_400
MOMENT = pl.Datetime("us", "UTC")


def write(folder: Path, facts: int, rows: int) -> Path:
    folder.mkdir()
    i, j = pl.int_range(facts, eager=True), pl.int_range(rows, eager=True)
    at = ((i * 7_919 % SPAN).sort() * 1_000_000 + START).cast(MOMENT)
    values = {f"x{k}": (i.hash(k) % 1_000_003).cast(pl.Float64) / 7 for k in range(8)}
    pl.DataFrame({"id": i, "who": i * 2_654_435_761 % 5_000, "at": at, **values}).write_parquet(folder / "facts.parquet")
    asked = ((j * 104_729 % SPAN) * 1_000_000 + START).cast(MOMENT)
    truth = pl.Series([("yes" if (z > 50) != (k % 5 == 0) else "no") for k, z in enumerate(j * 37 % 101)])
    pl.DataFrame({"id": j, "who": j * 48_271 % 5_000, "asked": asked, "z": j * 37 % 101 / 101, "y": truth}).write_parquet(folder / "rows.parquet")
    (folder / "project.py").write_text(PROJECT)
    return folder


def made(folder: Path) -> dict[str, tuple[str, str]]:
    """Step to (codec, address) of the last run."""
    ws = open_workspace(folder)
    run = ws.ledger.find("run", newest_first=True)[0]
    return {s["step"]: (s["codec"], s["address"]) for s in steps_of(run.id, ws.ledger)}


def test_what_does_not_fit_is_computed_on_the_disk_and_is_the_same(tmp_path: Path) -> None:
    small, large = write(tmp_path / "small", 100_000, 500), write(tmp_path / "large", 100_000, 500)
    treadle(small, "run", fresh=True, env={"TREADLE_MEMORY": "12MB"})
    treadle(large, "run", fresh=True, env={"TREADLE_MEMORY": "8GB"})
    on_disk, in_memory = made(small), made(large)
    assert [on_disk[f"view:{v}"][0] for v in ("last", "day")] == ["parquet", "parquet"]
    assert [in_memory[f"view:{v}"][0] for v in ("last", "day")] == ["frame", "frame"]
    assert on_disk["rows"] == in_memory["rows"]  # to the byte: whoever goes on from there cannot tell
    assert on_disk["signature"] == in_memory["signature"]
    assert not list((small / ".treadle" / "spill").iterdir())
    treadle(small, "run", fresh=True, env={"TREADLE_MEMORY": "8GB"})
    assert made(small) == on_disk  # how it is kept is no reason to do it again
    assert "0 differ from training" in treadle(small, "features", "check", "big", "--rows", "200").stdout  # served again from the histories on the disk


def test_rows_that_training_cannot_hold_are_refused_in_one_sentence(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", 1_000, 600_000)
    said = treadle(folder, "run", expect=3, fresh=True, env={"TREADLE_MEMORY": "100MB"}).stderr
    line = next(x for x in said.splitlines() if x.startswith("treadle: "))
    assert "Training holds a model's rows in memory: 600,000 rows with 11 features take about 0." in line
    assert "0.1 GB may be taken" in line
    assert "setting 'memory'" in line


def test_a_setting_that_is_no_size_is_one_sentence(tmp_path: Path) -> None:
    folder = write(tmp_path / "p", 1_000, 500)
    done = treadle(folder, "run", expect=None, fresh=True, env={"TREADLE_MEMORY": "much"})
    assert done.returncode
    assert "'much' is not a size" in done.stderr
    assert "the setting 'memory'" in done.stderr


CHILD = """
import resource, sys
limit = int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
import atexit
def peak():
    # Of this program: what the module resource says begins with what the process was that started it.
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024
atexit.register(lambda: print("PEAK", peak(), flush=True))
from treadle.cli.main import main
main()
"""


def run_within(folder: Path, limit: int, memory: str) -> tuple[int, int, int, str]:
    """`treadle run` in a process that is given no more than `limit` bytes of data: (exit code, peak, most bytes spilled, output)."""
    environment = {**os.environ, "TREADLE_MEMORY": memory, "TREADLE_THREADS": "1", "POLARS_MAX_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    spilled = 0
    with (folder / "output").open("w+") as output:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(limit), "-C", str(folder), "run"], stdout=output, stderr=output, env=environment)
        while child.poll() is None:
            held = 0
            for path in (folder / ".treadle" / "spill").glob("join-*/spill/*.tmp"):
                try:
                    held += path.stat().st_size
                except OSError:
                    continue
            spilled = max(spilled, held)
            time.sleep(0.005)
        output.seek(0)
        said = output.read()
    peak = next((int(x.split()[1]) for x in said.splitlines() if x.startswith("PEAK")), 0)
    return child.returncode, peak, spilled, said


@pytest.mark.slow
def test_a_run_within_a_hard_limit_of_memory_spills_and_ends_where_it_would_have_died(tmp_path: Path) -> None:
    limit = 1_200_000_000
    folder, other, free = (write(tmp_path / name, 2_000_000, 5_000) for name in ("disk", "memory", "free"))
    code, peak, spilled, said = run_within(folder, limit, "100MB")
    assert code == 0, said
    assert spilled > 50_000_000
    code, _, _, said = run_within(other, limit, "8GB")  # it is told that there is more than there is
    assert code != 0, said
    code, held, nothing, said = run_within(free, 2**40, "8GB")
    assert code == 0, said
    assert nothing == 0
    assert peak < 450_000_000 < 800_000_000 < held  # with hardly any facts it is 300 MB, for libraries and training
    assert made(folder)["rows"] == made(free)["rows"]
