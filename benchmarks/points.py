"""Metric points, logged one by one on this machine: Treadle against MLflow (SQLite), wandb offline and Aim.

    python benchmarks/points.py [--points 10000] [--runs 5000] [--only treadle,mlflow,wandb,aim] [--json FILE]

log      so many points of two metrics, one call each, until all of them are stored: points/s and CPU seconds
killed   kill -9 in the middle: how old the newest point is that is still there, with short pauses and as fast as a loop can log (Treadle only: the
         others promise nothing)
search   the ten best of so many runs by the last value of a metric: milliseconds, the median of five

The others have a virtual environment in benchmarks/.environments/points, made on first use (this needs a package index). What cannot be installed is
said to be. Telemetry and the network are off; each measurement is a fresh process with a fresh folder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENT = HERE / ".environments" / "points"
OFF = {
    "WANDB_MODE": "offline", "WANDB_SILENT": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1", "AIM_TELEMETRY": "0",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9",
}  # fmt: skip
TIMED = """
import json, os, sys, time
count, folder = int(sys.argv[1]), sys.argv[2]
os.chdir(folder)
{begin}
log({first})
begun, cpu = time.perf_counter(), time.process_time()
for step in range(count):
    log({each})
called = time.perf_counter() - begun
{end}
print(json.dumps({{"seconds": time.perf_counter() - begun, "called": called, "cpu": time.process_time() - cpu}}))
"""
LOG = {
    "treadle": {
        "begin": "from treadle.backends.sqlite_ledger import SqliteLedger\nfrom treadle.points import start_run\n"
        "ledger = SqliteLedger('ledger.db')\nrun = start_run('try', ledger)\nlog = run.log",
        "first": '"warm", 0.0, 0', "each": '"loss" if step % 2 else "auc", 1 / (step + 1), step', "end": "run.flush()",
    },
    "mlflow": {
        "begin": "import mlflow\nmlflow.set_tracking_uri('sqlite:///mlflow.db')\nmlflow.start_run()\nlog = mlflow.log_metric",
        "first": '"warm", 0.0, 0', "each": '"loss" if step % 2 else "auc", 1 / (step + 1), step', "end": "mlflow.end_run()",
    },
    "wandb": {
        "begin": "import wandb\nrun = wandb.init(mode='offline', project='p', settings=wandb.Settings(x_disable_stats=True))\nlog = run.log",
        "first": '{"warm": 0.0}', "each": '{"loss" if step % 2 else "auc": 1 / (step + 1)}', "end": "run.finish()",
    },
    "aim": {
        "begin": "from aim import Run\nrun = Run(repo='.', system_tracking_interval=None, log_system_params=False)\n"
        "def log(name, value, step):\n    run.track(value, name=name, step=step)",
        "first": '"warm", 0.0, 0', "each": '"loss" if step % 2 else "auc", 1 / (step + 1), step', "end": "run.close()",
    },
}  # fmt: skip
SEARCH = {
    "treadle": """
import json, sys, time, os
os.chdir(sys.argv[2]); n = int(sys.argv[1])
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.core.records import Point
from treadle.points import KIND, search_runs
ledger = SqliteLedger("ledger.db")
with ledger.transaction():
    for i in range(n):
        ledger.put(KIND, f"run-{i}", {"name": f"try {i}", "params": {"lr": i, "depth": i % 7}, "status": "done"})
    ledger.log_points([Point(f"run-{i}", m, (i * 7919 % n) / n, s) for i in range(n) for m in ("auc", "loss") for s in range(3)])
times = []
for _ in range(5):
    begun = time.perf_counter()
    found = search_runs(ledger, "auc", at_least=0.5, limit=10)
    times.append(time.perf_counter() - begun)
print(json.dumps({"ms": sorted(times)[2] * 1e3, "found": [v for _, v in found]}))
""",
    "mlflow": """
import json, sys, time, os
os.chdir(sys.argv[2]); n = int(sys.argv[1])
import mlflow
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
mlflow.set_tracking_uri("sqlite:///mlflow.db")
client = MlflowClient(); e = client.create_experiment("e")
for i in range(n):
    run = client.create_run(e)
    metrics = [Metric(m, (i * 7919 % n) / n, 0, s) for m in ("auc", "loss") for s in range(3)]
    client.log_batch(run.info.run_id, metrics, [Param("lr", str(i)), Param("depth", str(i % 7))])
times = []
for _ in range(5):
    begun = time.perf_counter()
    found = client.search_runs([e], "metrics.auc >= 0.5", order_by=["metrics.auc DESC"], max_results=10)
    times.append(time.perf_counter() - begun)
print(json.dumps({"ms": sorted(times)[2] * 1e3, "found": [r.data.metrics["auc"] for r in found]}))
""",
}
KILLED = """
import sys, time
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.points import Points
points = Points(SqliteLedger(sys.argv[1]))
step = 0
print("on", flush=True)
while True:
    points.log("run", "at", time.time(), step)
    step += 1
    {pause}
"""
PAUSES = {"with pauses": "time.sleep(0.00002)", "without a pause": "pass"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=5_000)
    parser.add_argument("--only", default="treadle,mlflow,wandb,aim")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    peers = given.only.split(",")
    if set(peers) - {"treadle"}:
        _environment()
    found: dict[str, Any] = {"log": {}, "search": {}}
    for peer in peers:
        found["log"][peer] = _run(peer, TIMED.format(**LOG[peer]), given.points)
        _say(f"log     {peer:<8}", found["log"][peer], lambda d: f"{given.points / d['seconds']:>10,.0f} points/s  {d['cpu']:6.2f} CPU s")
    for peer in [p for p in peers if p in SEARCH]:
        found["search"][peer] = _run(peer, SEARCH[peer], given.runs)
        _say(f"search  {peer:<8}", found["search"][peer], lambda d: f"{d['ms']:>10.1f} ms for the ten best of {given.runs:,} runs")
    answers = {tuple(d["found"]) for d in found["search"].values() if "found" in d}
    assert len(answers) <= 1, f"the searches answer differently: {answers}"
    if "treadle" in peers:
        found["killed"] = {how: [_killed(pause) for _ in range(3)] for how, pause in PAUSES.items()}
        for how, lost in found["killed"].items():
            print(f"killed  treadle   logged {how}, newest point that is left: {', '.join(f'{ms:.0f} ms' for ms in lost)} before the kill")
    if given.json:
        given.json.write_text(json.dumps(found, indent=2))


def _run(peer: str, program: str, count: int) -> dict[str, Any]:
    python = sys.executable if peer == "treadle" else str(ENVIRONMENT / "bin" / "python")
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, "-c", program, str(count), folder], capture_output=True, text=True, timeout=1800, env={**os.environ, **OFF}, check=False
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        return {"problem": (done.stderr.strip().splitlines() or ["nothing was printed"])[-1][:200]}
    return dict(json.loads(lines[-1]))


def _killed(pause: str) -> float:
    """Milliseconds between the newest point that is left and the kill."""
    from treadle.backends.sqlite_ledger import SqliteLedger

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        process = subprocess.Popen([sys.executable, "-c", KILLED.format(pause=pause), str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.0)
        at = time.time()
        process.send_signal(signal.SIGKILL)
        process.wait()
        return 1e3 * (at - SqliteLedger(path).points("run", "at")[-1].value)


def _environment() -> None:
    if not (ENVIRONMENT / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        for package in ("mlflow", "wandb", "aim"):
            subprocess.run([str(ENVIRONMENT / "bin" / "pip"), "install", "-q", package], check=False)


def _say(what: str, done: dict[str, Any], shown: Any) -> None:
    print(f"{what}  {done['problem'] if 'problem' in done else shown(done)}", flush=True)


if __name__ == "__main__":
    main()
