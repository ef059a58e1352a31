"""Ingest: a million rows read, held to a contract and kept as a version, against plain Polars and against pandas with Pandera.

    python benchmarks/ingest.py [--rows 1000000] [--times 3] [--json FILE]

first     CSV or Parquet -> typed, checked rows -> a version (Delta Lake, files named by their hash, on the disk by fsync)
again     the same file once more: it is read and checked, and found to be the version there is
appended  the file with 1,000 more rows at its end
plain     Polars: read, parse the moment, write one Parquet file; no checks, no keys, no fsync, no version
pandas    pandas + Pandera, in its own environment: read, the same columns' checks and unique keys, write one Parquet file (needs a package index)

Each measurement is a process of its own: CPU seconds (user + system) of it all, and of what it did after its imports; peak memory. The least of
`--times` counts. Both sides read the same file in the same run; that they keep the same rows is checked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".environments" / "pandera"
REQUIREMENTS = ["pandas>=2.2,<4", "pandera[pandas]>=0.26", "pyarrow>=18"]

MEASURE = """
import json, resource, sys
def used():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime
{imports}
begin = used()
rows = work(*sys.argv[1:])
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
print(json.dumps({{"rows": rows, "cpu": used(), "work": used() - begin, "megabytes": peak / 1024}}))
"""

TREADLE = """
from pathlib import Path
import polars, pandera.polars, deltalake, treadle as tr
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.data import versions

def work(file, home):
    source = tr.parquet(file) if file.endswith("parquet") else tr.csv(file)
    contract = tr.Contract({
        "order": tr.integer(unique=True), "at": tr.timestamp(), "shop": tr.category(isin=tuple(f"shop {i}" for i in range(50))),
        "paid": tr.number(ge=0, le=1000), "items": tr.integer(ge=1, le=20), "late": tr.boolean(),
    })
    dataset = tr.Project("bench").dataset("orders", source=source, key="order", event_time="at", contract=contract)
    home = Path(home)
    home.mkdir(exist_ok=True)
    tables, ledger = DeltaTables(home / "tables", FileBlobs(home / "blobs")), SqliteLedger(home / "ledger.db")
    version = versions.take(dataset, Path("/"), tables, ledger)
    versions.record(version, ledger)
    return version.rows
"""

PLAIN = """
import polars as pl

def work(file, home):
    frame = pl.read_parquet(file) if file.endswith("parquet") else pl.read_csv(file, try_parse_dates=True)
    frame.write_parquet(home + ".parquet", compression="zstd", compression_level=3)
    return frame.height
"""

PANDAS = """
import pandas as pd, pandera.pandas as pa

def work(file, home):
    schema = pa.DataFrameSchema({
        "order": pa.Column(int, unique=True), "at": pa.Column("datetime64[us, UTC]", coerce=True),
        "shop": pa.Column(str, pa.Check.isin([f"shop {i}" for i in range(50)])),
        "paid": pa.Column(float, [pa.Check.ge(0), pa.Check.le(1000)]), "items": pa.Column(int, [pa.Check.ge(1), pa.Check.le(20)]),
        "late": pa.Column(bool),
    })
    frame = pd.read_parquet(file) if file.endswith("parquet") else pd.read_csv(file, parse_dates=["at"], engine="c")
    frame = schema.validate(frame, lazy=True)
    frame.to_parquet(home + ".parquet", compression="zstd", index=False)
    return len(frame)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    peer = pandas_environment()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as scratch:
        folder = Path(scratch)
        for kind in ("csv", "parquet"):
            file, more = write(folder, kind, asked.rows)
            for time in range(asked.times):
                home = folder / f"{kind}-{time}"
                keep(results, f"treadle {kind} first", measure(sys.executable, TREADLE, file, home), asked.rows)
                keep(results, f"treadle {kind} again", measure(sys.executable, TREADLE, file, home), asked.rows)
                keep(results, f"treadle {kind} appended", measure(sys.executable, TREADLE, more, home), asked.rows + 1000)
                keep(results, f"plain {kind}", measure(sys.executable, PLAIN, file, folder / f"plain-{time}"), asked.rows)
                if peer is not None:
                    keep(results, f"pandas {kind}", measure(str(peer), PANDAS, file, folder / f"pandas-{time}"), asked.rows)
    for kind in ("csv", "parquet"):
        for name in ("plain", "pandas"):
            if f"{name} {kind}" in results:
                ours, theirs = results[f"treadle {kind} first"], results[f"{name} {kind}"]
                ours[f"ratio to {name}"] = round(ours["work"] / theirs["work"], 2)
    print(f"{asked.rows:,} rows, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {datetime.now():%Y-%m-%d}")
    print(f"{'':24}{'cpu s':>8}{'without imports':>18}{'peak MB':>10}")
    for name, told in results.items():
        ratios = "  ".join(f"{k} {v}" for k, v in told.items() if k.startswith("ratio"))
        print(f"{name:24}{told['cpu']:8.2f}{told['work']:18.2f}{told['megabytes']:10.0f}  {ratios}")
    if asked.json:
        asked.json.write_text(json.dumps(results, indent=2))


def write(folder: Path, kind: str, rows: int) -> tuple[Path, Path]:
    """A file in the order of time, and the same with 1,000 rows more."""
    import polars as pl

    n = pl.int_range(rows + 1000)
    frame = pl.select(
        order=n + 1, at=pl.lit(datetime(2024, 1, 1)) + pl.duration(seconds=n * 7), shop=pl.format("shop {}", (n * 7919) % 50),
        paid=((n * 104_729) % 100_000) / 100, items=1 + (n * 31) % 20, late=(n * 17) % 5 == 0,
    ).with_columns(pl.col("at").dt.replace_time_zone("UTC"))  # fmt: skip
    files = folder / f"orders.{kind}", folder / f"more.{kind}"
    for file, part in zip(files, (frame.head(rows), frame)):
        if kind == "csv":
            part.with_columns(pl.col("at").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).write_csv(file)
        else:
            part.write_parquet(file)
    return files


def measure(python: str, code: str, file: Path, home: Path) -> dict[str, Any]:
    done = subprocess.run([python, "-c", MEASURE.format(imports=code), str(file), str(home)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(done.stderr[-3000:])
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


def keep(results: dict[str, dict[str, Any]], name: str, told: dict[str, Any], rows: int) -> None:
    if told["rows"] != rows:
        raise SystemExit(f"{name} kept {told['rows']:,} rows and not {rows:,}.")
    best = results.setdefault(name, told)
    for figure in ("cpu", "work", "megabytes"):
        best[figure] = min(best[figure], told[figure])


def pandas_environment() -> Path | None:
    """The Python of an environment with pandas and Pandera, made if need be; None without a package index."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".ready").exists():
        install = [str(python), "-m", "pip", "install", "--quiet", "--compile", *REQUIREMENTS]
        for command in ([sys.executable, "-m", "venv", str(ENVIRONMENT)], install):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                print(f"pandas is left out: {done.stderr.strip().splitlines()[-1:]}")
                return None
        (ENVIRONMENT / ".ready").touch()
    return python


if __name__ == "__main__":
    main()
