"""Point-in-time joins: Treadle against plain Polars, DuckDB and Feast, on the same rows, answers checked equal.

    python benchmarks/point_in_time.py [--rows 10000,100000,1000000] [--feast-up-to 100000] [--late 0.1] [--json FILE]

Three views (hourly, daily, rare; 900,000 values in all, 5 features each, each with a ttl) are joined to rows at their moments. Each side is a process
of its own; CPU is that of the work alone, all threads, without start-up, imports and reading Treadle's, Polars' and DuckDB's rows; of Feast the call
of `get_historical_features`, which reads its files itself. Peak memory is that of the process. The lowest of three runs is told (one for what takes
more than 20 s). Feast has its own environment in benchmarks/.environments/feast, made on first use.

With `--late` that share of the values became known up to two days after it happened. Then plain Polars is written by hand on known time (its answers
are Treadle's); by event time alone (`polars`) it is told too, with how many of its rows have another answer, and DuckDB and Feast are left out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

HERE = Path(__file__).parent
PROGRAMS, FEAST = HERE / "point_in_time", HERE / ".environments" / "feast"
REQUIREMENTS = HERE / "feast" / "requirements.txt"
sys.path[:0] = [str(PROGRAMS), str(HERE / "pipelines")]

from processes import adopt_orphans, run  # noqa: E402
from work import SPAN, VIEWS  # noqa: E402

START = datetime(2026, 1, 1, tzinfo=UTC)
LATEST = 2 * 86_400  # seconds
MICROS = pl.Datetime("us", "UTC")


def write_data(folder: Path, counts: list[int], late: float = 0.0) -> None:
    rng = np.random.default_rng(0)
    begin = int(START.timestamp())
    for name, (entity, entities, each, features, _) in VIEWS.items():
        at = np.concatenate([np.sort(rng.choice(SPAN, each, replace=False)) for _ in range(entities)]) + begin
        columns: dict[str, Any] = {entity: np.repeat(np.arange(entities), each), "event": at * 1_000_000}
        columns["known"] = (at + (rng.integers(0, LATEST, len(at)) * (rng.random(len(at)) < late) if late else 0)) * 1_000_000
        columns |= {f"{name}_{i}": rng.normal(size=len(at)).round(6) for i in range(features)}
        pl.DataFrame(columns).with_columns(pl.col("event", "known").cast(MICROS)).write_parquet(folder / f"{name}.parquet")
    for count in counts:
        columns = {"id": np.arange(count), "asked": (rng.integers(0, SPAN, count) + begin) * 1_000_000}
        columns |= {entity: rng.integers(0, entities, count) for entity, entities, _, _, _ in VIEWS.values()}
        pl.DataFrame(columns).with_columns(pl.col("asked").cast(MICROS)).write_parquet(folder / f"rows-{count}.parquet")


def feast_environment() -> str:
    """Make Feast's environment if it is not there; its version."""
    python = FEAST / "bin" / "python"
    ask = [str(python), "-c", "import duckdb, ibis; from importlib.metadata import version; print(version('feast'))"]
    done = subprocess.run(ask, capture_output=True, text=True) if python.exists() else None
    if done is None or done.returncode:
        print("feast: making its environment", flush=True)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(FEAST)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        given = ["-r", str(REQUIREMENTS)] if REQUIREMENTS.exists() else ["feast[duckdb]==0.67.0"]
        subprocess.run([*install, *given, "feast[duckdb]==0.67.0"], check=True)
        done = subprocess.run(ask, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def side(name: str, python: str, folder: Path, count: int, seconds: float) -> dict[str, Any] | None:
    """One run of one side; None when it took too long."""
    answer = folder / f"{name}-{count}.parquet"
    paths = f"{PROGRAMS}:{HERE.parent / 'src'}"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": paths, "FEAST_USAGE": "False", "LANG": "C.UTF-8"}
    done = run([python, str(PROGRAMS / f"by_{name}.py"), str(folder), str(count), str(answer)], folder, environment, seconds=seconds)
    line = next((x for x in done.output.splitlines() if x.startswith("COST ")), None)
    if done.code is None:
        return None
    if line is None:
        raise SystemExit(f"{name} failed:\n{done.last_lines}")
    return {**json.loads(line.removeprefix("COST ")), "command": done.cpu, "answer": str(answer)}


def digest_of(answer: str) -> str:
    """The answer's content: rows in order, features rounded to what was written; missing values alike however they are spelled."""
    names = [f"{v}_{i}" for v, (_, _, _, n, _) in VIEWS.items() for i in range(n)]
    frame = pl.read_parquet(answer).select(pl.col("id").cast(pl.Int64), *[pl.col(n).cast(pl.Float64).fill_nan(None) for n in names]).sort("id")
    hashed = hashlib.sha256(frame.select(pl.all().fill_null(-1e300)).to_numpy().tobytes())
    return f"{frame.height} rows {hashed.hexdigest()[:16]}"


def differing(answer: str, right: str) -> float:
    """The share of rows with another answer."""
    names = [f"{v}_0" for v in VIEWS]
    one, two = (pl.read_parquet(path).sort("id").select(pl.col(n).fill_nan(None) for n in names) for path in (answer, right))
    return float(pl.DataFrame([one[n].ne_missing(two[n]) for n in names]).select(pl.any_horizontal(pl.all()).mean()).item())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="10000,100000,1000000")
    parser.add_argument("--feast-up-to", type=int, default=100_000, help="rows; 0 leaves Feast out")
    parser.add_argument("--seconds", type=float, default=600, help="how long one run may take")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--late", type=float, default=0.0, help="share of values that become known late; 0 for none")
    given = parser.parse_args()
    counts = [int(c) for c in given.rows.split(",")]
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    results: dict[str, dict[str, Any]] = {}
    try:
        write_data(folder, counts, given.late)
        names = {"polars": version("polars"), "duckdb": version("duckdb"), "treadle": version("treadle")}
        base = "polars"
        if given.late:
            base = "polars_known"
            names = {"polars_known": version("polars"), "polars": version("polars"), "treadle": version("treadle")}
        elif given.feast_up_to:
            names["feast"] = feast_environment()
        for count in counts:
            found = results[str(count)] = {}
            for name in names:
                if name == "feast" and count > given.feast_up_to:
                    continue
                best: dict[str, Any] | None = None
                for _ in range(3):
                    cost = side(name, str(FEAST / "bin" / "python") if name == "feast" else sys.executable, folder, count, given.seconds)
                    if cost is None:
                        break
                    best = cost if best is None or cost["cpu"] < best["cpu"] else best
                    if cost["cpu"] > 20:
                        break
                if best is None:
                    print(f"{count:>9,} rows  {name:8} more than {given.seconds:.0f} s: left out", flush=True)
                    continue
                answer, best["answer"] = best["answer"], digest_of(best["answer"])
                found[name] = best
                against = f"{best['cpu'] / found[base]['cpu']:8.2f}x Polars"
                same = "equal" if best["answer"] == found[base]["answer"] else "NOT EQUAL"
                if given.late and name == "polars":
                    best["wrong"] = differing(answer, str(folder / f"{base}-{count}.parquet"))
                    same = f"{best['wrong']:.1%} of the rows have a value that was not known yet, or lack one"
                alone = f"  join alone {best['join_alone']:.3f}" if "join_alone" in best else ""
                cost = f"{best['cpu']:8.3f} CPU s {against}  {best['peak']:6.0f} MB"
                print(f"{count:>9,} rows  {name:12} {names[name]:8} {cost}  {same}{alone}", flush=True)
            if "feast" in found:
                print(f"{count:>9,} rows  treadle is {found['feast']['cpu'] / found['treadle']['cpu']:.0f}x as fast as Feast", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if given.json:
        given.json.write_text(json.dumps({"versions": names, "results": results}, indent=1))
    if any(r["answer"] != found[base]["answer"] for found in results.values() for r in found.values() if "wrong" not in r):
        raise SystemExit("The answers are not equal.")


if __name__ == "__main__":
    main()
