"""The endpoint against seven other servers and against bare HTTP, on one model: flights, seven fields, 100 boosted trees.

    python benchmarks/serving.py [--only treadle,fastapi] [--seconds 5] [--rows 1,32,1000] [--latency] [--json FILE]

Every server has one worker and answers over HTTP/1.1 on the loopback; `wrk` asks with 64 connections. All have the same fitted scikit-learn pipeline
(Treadle's is the package made of it) and their answers to 20 rows are checked equal before anything is measured. Treadle validates, gives ids, counts
and logs each answer (durability='buffered'); the others do none of it unless their framework does it by itself. `hello` is Granian with a constant
answer, `limit` the least that can be done on it: msgspec and ONNX Runtime, with nothing else. `--latency` asks Treadle alone, at fixed rates
(see open_loop.py). Each peer has a virtual environment in benchmarks/.environments, made on first use. CPU is user + system of all processes of a
server, so that it says more than requests a second on a machine that does other work. Needs `wrk` (Debian package wrk). Linux only.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from open_loop import EDGES

from treadle.assemble import open_workspace
from treadle.live.deploy import deploy, stop
from treadle.registry import versions
from treadle.serving.address import free_port
from treadle.wheel.packaging import feature_columns
from treadle.wheel.turn import turn

HERE = Path(__file__).parent
PEERS, ENVIRONMENTS = HERE / "serving_peers", HERE / ".environments"
CONNECTIONS = 64
FIELDS = ("carrier", "origin", "dest", "distance", "month", "weekday", "minute")
JSON = "application/json"
HELLO = """
import asyncio, sys
from granian.constants import Interfaces
from granian.server.embed import Server
async def app(scope, protocol):
    await protocol()
    protocol.response_bytes(200, [("content-type", "application/json")], b'{"hello": "world"}')
asyncio.run(Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.RSGI, websockets=False, log_enabled=False).serve())
"""


@dataclass
class Side:
    """One server: how it is started, what it is asked, and how its answer is read."""

    name: str
    start: Callable[[Path, int], list[str]]
    path: str = "/predict"
    body: Callable[[list[dict[str, Any]]], bytes] = lambda rows: json.dumps({"rows": rows}).encode()
    read: Callable[[Any], list[float]] = lambda answer: list(answer["predictions"])
    content_type: str = JSON


def python(name: str) -> str:
    return str(ENVIRONMENTS / f"serving-{name}" / "bin" / "python")


def v2(rows: list[dict[str, Any]]) -> bytes:
    inputs = []
    for name in FIELDS:
        text = isinstance(rows[0][name], str)
        parameters = {"parameters": {"content_type": "str"}} if text else {}
        inputs.append(
            {"name": name, "shape": [len(rows), 1], "datatype": "BYTES" if text else "FP64", "data": [row[name] for row in rows], **parameters}
        )
    return json.dumps({"parameters": {"content_type": "pd"}, "inputs": inputs}).encode()


def _mlserver(home: Path, port: int) -> list[str]:
    folder = home / "mlserver"
    folder.mkdir(exist_ok=True)
    shutil.copy(PEERS / "mlserver" / "runtime.py", folder)
    settings = {
        "http_port": port,
        "grpc_port": free_port("127.0.0.1"),
        "metrics_port": free_port("127.0.0.1"),
        "host": "127.0.0.1",
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps({"name": "late", "implementation": "runtime.Late"}))
    return [str(Path(python("mlserver")).parent / "mlserver"), "start", str(folder)]


def _mlflow(home: Path, port: int) -> list[str]:
    folder = home / "mlflow-model"
    if not folder.exists():
        subprocess.run(
            [python("mlflow"), str(PEERS / "mlflow" / "save.py"), str(folder)],
            check=True,
            env=os.environ | {"PIPELINE": str(home / "pipeline.joblib")},
            timeout=300,
        )
    return [python("mlflow"), "-m", "mlflow", "models", "serve", "-m", str(folder), "-p", str(port), "-w", "1", "--env-manager", "local"]


def _program(name: str) -> Callable[[Path, int], list[str]]:
    return lambda home, port: [python(name), str(PEERS / name / "app.py"), str(port)]


def _fastapi(home: Path, port: int) -> list[str]:
    return [python("fastapi"), "-m", "uvicorn", "app:app", "--port", str(port), "--log-level", "error", "--app-dir", str(PEERS / "fastapi")]


def _bentoml(home: Path, port: int) -> list[str]:
    where = ["--port", str(port), "--host", "127.0.0.1", "--working-dir", str(PEERS / "bentoml")]
    return [python("bentoml"), "-m", "bentoml", "serve", "app:Late", *where]


OTHERS = [
    Side("fastapi", _fastapi),
    Side("litserve", _program("litserve")),
    Side("bentoml", _bentoml),
    Side("mlserver", _mlserver, "/v2/models/late/infer", v2, lambda answer: list(answer["outputs"][0]["data"])),
    Side(
        "mlflow", _mlflow, "/invocations", lambda rows: json.dumps({"dataframe_records": rows}).encode(), lambda a: [p[1] for p in a["predictions"]]
    ),
    Side("rayserve", _program("rayserve")),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rows", default="1,32,1000")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--json", default="")
    given = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    wanted = set(filter(None, given.only.split(",")))
    sizes = [int(n) for n in given.rows.split(",")]
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        rows, said = prepare(home)
        if given.latency:
            latency(home, rows, sizes, given)
            return
        for side in [*ours(home, rows), *[other for other in OTHERS if not wanted or other.name in wanted]]:
            if wanted and side.name.partition(" ")[0] not in wanted and side.name not in ("hello", "limit"):
                continue
            found += measure(side, home, rows, said, sizes, given.seconds)
    show(found)
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=2))


def prepare(home: Path) -> tuple[list[dict[str, Any]], list[float]]:
    """Train and deploy the model; the pipeline as a file that needs scikit-learn alone; rows to ask, and what the pipeline says of them."""
    import joblib
    import numpy as np
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer

    project = home / "project"
    shutil.copytree(HERE / "serving_project", project)
    shutil.copy(HERE.parent / "examples" / "flights" / "sources.py", project)
    ws = open_workspace(project)
    model = ws.model()
    outcome = turn(ws, model, cause={"kind": "person", "id": "", "text": "benchmark"}, also=("rows", "train"))
    rows, pipeline = outcome["rows"], outcome["train"]["pipeline"]
    steps = dict(pipeline.steps)
    as_float32 = FunctionTransformer(np.asarray, kw_args={"dtype": np.float32})
    plain = Pipeline([("columns", steps["columns"]), ("float32", as_float32), ("model", steps["model"])])
    joblib.dump(plain, home / "pipeline.joblib")
    deploy(ws, model)
    stop(ws, model.name)
    numbers, categories = feature_columns(rows)
    step = rows.height // 1000
    frame = rows.gather_every(step).head(1000).select(numbers + categories)
    probabilities = pipeline.predict_proba(frame)[:, 1]
    assert versions.all_versions(model.name, ws.ledger)
    return [{name: row[name] for name in FIELDS} for row in frame.iter_rows(named=True)], [float(p) for p in probabilities]


def ours(home: Path, rows: list[dict[str, Any]]) -> list[Side]:
    """Treadle with JSON and Arrow bodies, and the bare server."""
    import polars as pl

    project = home / "project"

    def treadle(home: Path, port: int) -> list[str]:
        return [sys.executable, "-m", "treadle.web.workers", "--folder", str(project), "--model", "late", "--port", str(port), "--buffered"]

    def read(answer: Any) -> list[float]:
        return [p["probability"] for p in answer.get("predictions", [answer])]

    def one_or_many(asked: list[dict[str, Any]]) -> bytes:
        return json.dumps(asked[0] if len(asked) == 1 else {"rows": asked}).encode()

    def stream(asked: list[dict[str, Any]]) -> bytes:
        out = io.BytesIO()
        pl.DataFrame(asked).write_ipc_stream(out)
        return out.getvalue()

    def read_stream(answer: bytes) -> list[float]:
        return pl.read_ipc_stream(io.BytesIO(answer))["probability"].to_list()

    hello = Side("hello", lambda home, port: [sys.executable, "-c", HELLO, str(port)], body=one_or_many, read=lambda answer: [])
    package = next((project / ".treadle" / "packages").glob("*/manifest.json")).parent
    limit = Side("limit", lambda home, port: [sys.executable, str(PEERS / "limit" / "app.py"), str(port), str(package)], body=one_or_many)
    return [
        hello, limit, Side("treadle", treadle, body=one_or_many, read=read),
        Side("treadle arrow", treadle, body=stream, read=read_stream, content_type="application/vnd.apache.arrow.stream"),
    ]  # fmt: skip


def measure(side: Side, home: Path, rows: list[dict[str, Any]], said: list[float], sizes: list[int], seconds: int) -> list[dict[str, Any]]:
    """Start a server, compare its answers, and ask it with each number of rows."""
    install(side.name)
    port, found = free_port("127.0.0.1"), []
    own = side.name.startswith(("treadle", "hello", "limit"))
    quiet = {"DO_NOT_TRACK": "1", "BENTOML_DO_NOT_TRACK": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "RAY_USAGE_STATS_ENABLED": "0"}
    quiet |= {"RAY_AUTH_MODE": "disabled", "RAY_raylet_start_wait_time_s": "300"}
    places = {"PIPELINE": str(home / "pipeline.joblib"), "HOME": str(home), "BENTOML_HOME": str(home), "OMP_NUM_THREADS": "1"}
    if not own:
        places["PATH"] = f"{Path(python(side.name)).parent}:{os.environ['PATH']}"
    environment = {**os.environ, **quiet, **places, "PYTHONPATH": os.environ.get("PYTHONPATH", "") if own else str(PEERS)}
    try:
        command = side.start(home, port)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"{side.name}: cannot be prepared: {error}", file=sys.stderr)
        return []
    with (home / f"{side.name}.log").open("wb") as log:
        begun = time.monotonic()
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=home, start_new_session=True)
    try:
        asked = rows[:20]
        wrong = None
        end = time.monotonic() + 300
        while True:
            try:
                answer = ask(port, side.path, side.body(asked), side.content_type)
                break
            except (OSError, http.client.HTTPException, ValueError) as error:
                if server.poll() is not None or time.monotonic() > end:
                    last = (home / f"{side.name}.log").read_text(errors="replace").strip().splitlines()[-3:]
                    print(f"{side.name}: does not start: {error}; {' | '.join(last)}", file=sys.stderr)
                    return []
                time.sleep(0.02)
        ready = time.monotonic() - begun
        answers = side.read(answer)
        if side.name != "hello":
            wrong = max(abs(a - b) for a, b in zip(answers, said[:20], strict=True))
            if wrong > 1e-5:
                print(f"{side.name}: its answers differ by up to {wrong:.2g}", file=sys.stderr)
                return []
        for size in sizes:
            if side.name == "treadle arrow" and size == 1:
                continue
            numbers = load(f"http://127.0.0.1:{port}{side.path}", side.body(rows[:size]), side.content_type, server.pid, seconds)
            numbers |= {"side": side.name, "rows": size, "ready": ready, "differs": wrong, "pss": pss(server.pid)}
            found.append(numbers)
            told = f"{numbers['rate']:9,.0f} requests/s  {numbers['cpu']:9,.1f} CPU us  p50 {numbers['p50']} p99 {numbers['p99']}"
            print(f"{side.name:14} {size:5} rows  {told}", file=sys.stderr)
    finally:
        started = members(server.pid)
        server.terminate()
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
        for pid in started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server.wait()
    return found


def ask(port: int, path: str, body: bytes, content_type: str) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body, {"Content-Type": content_type})
        response = connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise ValueError(f"{response.status}: {content[:200]!r}")
        return json.loads(content) if content_type == JSON else content
    finally:
        connection.close()


def load(url: str, body: bytes, content_type: str, session: int, seconds: int) -> dict[str, Any]:
    """Requests a second by wrk after a second of warming up, latencies, and the CPU of all the server's processes for one request."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script, tempfile.NamedTemporaryFile("wb") as sent:
        sent.write(body)
        sent.flush()
        script.write(
            f'wrk.method = "POST"\nlocal f = io.open("{sent.name}", "rb")\nwrk.body = f:read("*a")\nwrk.headers["Content-Type"] = "{content_type}"\n'
        )
        script.flush()
        for duration in (1, seconds):
            before = cpu(session)
            done = subprocess.run(
                ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{duration}s", "--timeout", "30s", "--latency", "-s", script.name, url],
                capture_output=True, text=True, check=True, timeout=duration + 120,
            )  # fmt: skip
            after = cpu(session)
    count = re.search(r"(\d+) requests in", done.stdout)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    assert count
    assert rate
    latency = {p: re.search(rf"\s{p}%\s+(\S+)", done.stdout) for p in (50, 99)}
    answered = int(count[1]) - (int(bad[1]) if bad else 0)
    return {
        "rate": float(rate[1]) * answered / max(1, int(count[1])),
        "refused": int(bad[1]) if bad else 0,
        "cpu": (after - before) / max(1, answered) * 1e6,
        "p50": latency[50][1] if latency[50] else "",
        "p99": latency[99][1] if latency[99] else "",
    }


def members(server: int) -> list[int]:
    """The processes of a server: those of its session, and what they started in sessions of their own."""
    known: dict[int, tuple[int, int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                known[int(entry.name)] = int(fields[1]), int(fields[3])
    found = {pid for pid, (_, session) in known.items() if session == server}
    while more := {pid for pid, (parent, _) in known.items() if parent in found} - found:
        found |= more
    return sorted(found)


def cpu(session: int) -> float:
    """CPU seconds of a session's processes that live."""
    total = 0.0
    for pid in members(session):
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return total


def pss(session: int) -> float:
    """Megabytes of memory of a session's processes, what they share divided among those who do."""
    total = 0
    for pid in members(session):
        try:
            total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])  # type: ignore[index]
        except (OSError, TypeError):
            continue
    return total / 1000


def latency(home: Path, rows: list[dict[str, Any]], sizes: list[int], given: argparse.Namespace) -> None:
    """How long answers take at a quarter, half and three quarters of what can be answered, by a client that does not wait for them."""
    side = next(side for side in ours(home, rows) if side.name == "treadle")
    port, found = free_port("127.0.0.1"), []
    server = subprocess.Popen(side.start(home, port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while True:
            try:
                ask(port, side.path, side.body(rows[:1]), JSON)
                break
            except (OSError, http.client.HTTPException, ValueError):
                time.sleep(0.05)
        for size in sizes:
            body = home / f"body-{size}"
            body.write_bytes(side.body(rows[:size]))
            most = load(f"http://127.0.0.1:{port}{side.path}", body.read_bytes(), JSON, server.pid, given.seconds)["rate"]
            for share in (0.25, 0.5, 0.75):
                asked = [sys.executable, str(HERE / "open_loop.py"), "--port", str(port), "--rate", f"{share * most:.0f}", "--body", str(body)]
                done = subprocess.run([*asked, "--seconds", str(given.seconds)], capture_output=True, text=True, check=True, timeout=300)
                found.append({**json.loads(done.stdout), "rows": size, "most": most, "share": share, "load": os.getloadavg()[0]})
    finally:
        server.terminate()
        server.wait(30)
    print("| rows | load | requests/s | p50 ms | p90 ms | p99 ms | p99.9 ms | refused |\n|---|---|---|---|---|---|---|---|")
    for f in found:
        times = " | ".join(f"{f[p]:.2f}" for p in ("p50", "p90", "p99", "p99.9"))
        print(f"| {f['rows']} | {f['share']:.0%} | {f['rate']:,.0f} | {times} | {f['refused']:,} |")
    for f in found:
        print(f"\n{f['rows']} rows, {f['rate']:,.0f} requests/s; load average {f['load']:.1f}\n")
        print(histogram(f["counts"]))
    if given.json:
        Path(given.json).write_text(json.dumps(found, indent=2))


def histogram(counts: list[int]) -> str:
    """A line for each doubling of the time, from the first to the last that has answers."""
    edges = [0.0, *EDGES[::2], float("inf")]
    sums = [counts[0], *(a + b for a, b in zip(counts[1:-1:2], counts[2:-1:2], strict=True)), counts[-1]]
    total = max(1, sum(sums))
    there = [i for i, n in enumerate(sums) if n]
    lines = []
    for i in range(there[0], there[-1] + 1) if there else ():
        share = sums[i] / total
        lines.append(f"{edges[i]:8.1f} to {edges[i + 1]:6.1f} ms  {100 * share:7.3f} %  {'#' * round(50 * share)}")
    return "\n".join(lines)


def install(name: str) -> None:
    folder = ENVIRONMENTS / f"serving-{name}"
    requirements = PEERS / name / "requirements.txt"
    if not requirements.exists() or folder.exists():
        return
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    subprocess.run([str(folder / "bin" / "pip"), "install", "-q", "-r", str(requirements)], check=True)


def show(found: list[dict[str, Any]]) -> None:
    for size in sorted({entry["rows"] for entry in found}):
        print(f"\n{size} rows a request, {CONNECTIONS} connections\n")
        print("| server | requests/s | CPU us a request | p50 | p99 | ready s | PSS MB | refused |\n|---|---|---|---|---|---|---|---|")
        for e in sorted((e for e in found if e["rows"] == size), key=lambda e: -e["rate"]):
            weight = f"{e['ready']:.2f} | {e['pss']:.0f} | {e['refused']:,}"
            print(f"| {e['side']} | {e['rate']:,.0f} | {e['cpu']:,.1f} | {e['p50']} | {e['p99']} | {weight} |")


if __name__ == "__main__":
    main()
