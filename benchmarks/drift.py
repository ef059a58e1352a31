"""Drift reports: Treadle against Evidently, NannyML and the exact way, on the same files; and what keeping sketches costs while serving.

    python benchmarks/drift.py [--rows 100000,1000000,10000000] [--without evidently,nannyml] [--seconds 900] [--json FILE]

100,000 rows of reference against the rows told, ten columns (six continuous, one mostly zero, one of counts, two of categories) in Parquet; one
column has moved by 0.3 standard deviations, nine have not. Each side reads both files and writes its answer in its own process; Treadle and
Evidently write a page. CPU is of the work, of the imports, and of the whole command with all it started; memory is the peak of the process. Two runs,
the cheaper one counts (one for what takes more than 20 s). Evidently and NannyML have environments of their own in benchmarks/.environments.

Answers: the largest difference of Treadle's and NannyML's distances from the exact ones; and how many of the nine columns that did not move are
called drifted.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

HERE = Path(__file__).parent
PROGRAMS = HERE / "drift"
sys.path[:0] = [str(HERE / "pipelines"), str(HERE.parent / "src")]

from processes import adopt_orphans, run  # noqa: E402

REFERENCE = 100_000
MOVED = "n0"


def write(path: Path, rows: int, seed: int, shift: float) -> None:
    rng = np.random.default_rng(seed)
    parts = []
    for start in range(0, rows, 1_000_000):
        n = min(1_000_000, rows - start)
        columns: dict[str, Any] = {f"n{i}": rng.normal(shift * (i == 0), 1, n) if i % 2 == 0 else rng.gamma(2 + i / 10, size=n) for i in range(6)}
        columns |= {"zero": np.where(rng.random(n) < 0.7, 0, rng.gamma(2, size=n)), "count": rng.poisson(6, n)}
        columns["c1"] = rng.choice(["UA", "AA", "DL", "B6", "WN"], n, p=[0.4, 0.3, 0.15, 0.1, 0.05])
        columns["c2"] = [f"k{k}" for k in rng.integers(0, 100, n)]
        parts.append(pl.DataFrame(columns))
    pl.concat(parts).write_parquet(path)


def environment(name: str) -> str:
    """The interpreter of a peer's own environment, made if it is not there."""
    if name in ("treadle", "exact"):
        return sys.executable
    folder = HERE / ".environments" / name
    python = folder / "bin" / "python"
    ask = [str(python), "-c", f"import {name}"]
    if not python.exists() or subprocess.run(ask, capture_output=True, check=False).returncode:
        print(f"{name}: making its environment", flush=True)
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "-r", str(PROGRAMS / f"{name}.txt")], check=True)
    return str(python)


def side(name: str, python: str, folder: Path, rows: int, seconds: float) -> dict[str, Any] | None:
    answer, page = folder / f"{name}-{rows}.json", folder / f"{name}-{rows}.html"
    paths = f"{HERE.parent / 'src'}" if name in ("treadle", "exact") else ""
    quiet = {"DO_NOT_TRACK": "1", "NML_DISABLE_USAGE_LOGGING": "1"}
    given = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "PYTHONPATH": paths, "LANG": "C.UTF-8", **quiet}
    command = [python, str(PROGRAMS / f"by_{name}.py"), str(folder / "reference.parquet"), str(folder / f"{rows}.parquet"), str(page), str(answer)]
    done = run(command, folder, given, seconds=seconds)
    line = next((x for x in done.output.splitlines() if x.startswith("COST ")), None)
    if done.code is None:
        return None
    if line is None:
        raise SystemExit(f"{name} failed:\n{done.last_lines}")
    cost = json.loads(line.removeprefix("COST "))
    return {**cost, "command": done.cpu, "page": page.stat().st_size if page.exists() else 0, "answer": json.loads(answer.read_text())}


def always_on(predictions: int = 200_000) -> float:
    """CPU seconds a prediction of keeping ten columns' sketches current, in parts of 1,000 predictions, as a share of a core at 5,000 a second."""
    from treadle.monitoring.sketches import empty_sketch

    rng = np.random.default_rng(0)
    columns = [rng.normal(size=predictions).tolist() for _ in range(8)] + [rng.choice(["a", "b", "c"], predictions).tolist() for _ in range(2)]
    rows = list(zip(*columns))
    sketches = [empty_sketch("number") for _ in range(8)] + [empty_sketch("category") for _ in range(2)]
    begun, waiting = time.process_time(), []
    for row in rows:
        waiting.append(row)
        if len(waiting) == 1_000:
            for sketch, column in zip(sketches, zip(*waiting)):
                sketch.update(column)
            waiting = []
    return (time.process_time() - begun) / predictions * 5_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="100000,1000000,10000000")
    parser.add_argument("--without", default="", help="peers left out, separated by commas")
    parser.add_argument("--seconds", type=float, default=900)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    adopt_orphans()
    folder = Path(tempfile.mkdtemp(prefix="bench-drift-"))
    results: dict[str, Any] = {}
    try:
        sides = {n: environment(n) for n in ("exact", "treadle", "evidently", "nannyml") if n not in given.without.split(",")}
        write(folder / "reference.parquet", REFERENCE, 0, 0.0)
        for rows in (int(r) for r in given.rows.split(",")):
            write(folder / f"{rows}.parquet", rows, rows, 0.3)
            found = results[str(rows)] = {}
            for name, python in sides.items():
                best = None
                for _ in range(2):
                    cost = side(name, python, folder, rows, given.seconds)
                    if cost is None:
                        break
                    best = cost if best is None or cost["command"] < best["command"] else best
                    if cost["command"] > 20:
                        break
                if best is None:
                    print(f"{rows:>11,}  {name:10} more than {given.seconds:.0f} s: left out", flush=True)
                    continue
                answer = best.pop("answer")
                best["differs"], best["wrong"] = judged(name, answer, found.get("exact", {}).get("answer", answer))
                found[name] = {**best, **({"answer": answer} if name == "exact" else {})}
                print(f"{rows:>11,}  {name:10} work {best['work']:7.2f} s  imports {best['imports']:5.2f} s  command {best['command']:7.2f} s  "
                      f"{best['rss']:6.0f} MB  page {best['page'] / 1e3:7.0f} kB  differs {best['differs']}  called drifted in vain {best['wrong']}",
                      flush=True)  # fmt: skip
            (folder / f"{rows}.parquet").unlink()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results["always_on"] = min(always_on() for _ in range(3))
    print(f"sketches of ten columns while serving 5,000 predictions a second: {results['always_on']:.2%} of a core")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2))


def judged(name: str, answer: dict[str, Any], exact: dict[str, Any]) -> tuple[dict[str, float], str]:
    """The largest differences from the exact distances, and how many of the columns that did not move are called drifted."""
    if name == "exact":
        return {}, "-"
    if name == "treadle":
        differs = {m: round(max(abs(answer[c][m] - v[m]) for c, v in exact.items() if m in v), 5) for m in ("ks", "psi")}
        return differs, f"{sum(answer[c]['verdict'] in ('moved', 'broken') for c in exact if c != MOVED)} of {len(exact) - 1}"
    if name == "nannyml":
        return {"ks": round(max(abs(answer[c]["kolmogorov_smirnov"] - v["ks"]) for c, v in exact.items() if "ks" in v), 5)}, "-"
    called = sum(bool(_drifted(answer[c])) for c in exact if c != MOVED and c in answer)
    return {}, f"{called} of {len(exact) - 1}"


def _drifted(found: dict[str, Any]) -> bool:
    """Evidently's own rule: a p-value below its threshold, a distance above it."""
    method, value = str(found["method"]), float(found["value"])
    limit = float(found["threshold"] or 0.1)
    return value < limit if "p_value" in method else value >= limit


if __name__ == "__main__":
    main()
