"""One-row requests to the flights endpoint: against the bare server underneath, and against the scikit-learn pipeline called in process.

Needs the project of `make demo` (its data and first version) and `wrk`. Loopback only, 5 seconds a side.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from treadle.assemble import open_workspace
from treadle.client import Endpoint
from treadle.core.clock import parse_time
from treadle.deploy import deploy, running_endpoint, stop
from treadle.features.parity import request_of
from treadle.packaging import feature_columns
from treadle.registry import versions
from treadle.serving.address import free_port
from treadle.turn import turn

FOLDER = Path(__file__).parents[1] / "examples" / "flights"
CONNECTIONS, SECONDS = 64, 5
HELLO = """
import asyncio, sys
from granian.constants import Interfaces
from granian.server.embed import Server
async def app(scope, protocol):
    await protocol()
    protocol.response_bytes(200, [("content-type", "application/json")], b'{"hello": "world"}')
asyncio.run(Server(app, address="127.0.0.1", port=int(sys.argv[1]), interface=Interfaces.RSGI, websockets=False, log_enabled=False).serve())
"""


def requests_a_second(url: str, body: str) -> float:
    """Answered POST requests a second, by wrk, after a second of warming up."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(f'wrk.method = "POST"\nwrk.body = [==[{body}]==]\nwrk.headers["Content-Type"] = "application/json"\n')
        script.flush()
        for seconds in (1, SECONDS):
            done = subprocess.run(
                ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", script.name, url],
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
    if "Non-2xx" in done.stdout:
        sys.exit(f"some requests failed:\n{done.stdout}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    assert found
    return float(found[1])


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("wrk is needed: apt-get install wrk")
    if not (FOLDER / ".treadle").exists():
        sys.exit("run `make demo` first: its project is what is measured")
    with tempfile.TemporaryDirectory() as temporary:  # a copy: the measured requests are no predictions of the project
        copy = Path(temporary) / "flights"
        shutil.copytree(FOLDER, copy)
        measure(copy)


def measure(folder: Path) -> None:
    ws = open_workspace(folder)
    model = ws.model()
    deploy(ws, model)
    try:
        running = running_endpoint(ws, model.name)
        assert running is not None
        endpoint = Endpoint(running["url"])
        champion = versions.get(model.name, endpoint.signature()["version"], ws.ledger)
        # The very pipeline this version was packaged from: its training is found, not done again.
        settings = None if champion["number"] == 1 else {"family": champion["family"], "params": champion["params"]}
        cause = {"kind": "person", "id": "", "text": "benchmark"}
        outcome = turn(ws, model, cause=cause, as_of=parse_time(champion["as_of"]), settings=settings, until="train", also=("rows", "signature"))
        rows, trained = outcome["rows"], outcome["train"]
        source = ws.tables.scan(outcome[f"data:{model.rows.name}"]["address"]).collect()
        numbers, categories = feature_columns(rows)
        i = rows.height // 2
        features = {f["name"]: rows[i, f["name"]] for f in outcome["signature"]["features"] if f["source"] == "view"}
        row = {
            **request_of(source.row(i, named=True), [f["name"] for f in outcome["signature"]["request"]]),
            **{k: v for k, v in features.items() if v is not None},
        }
        served = endpoint.predict(row)["probability"]
        frame = rows[i : i + 1].select(numbers + categories)
        native = float(trained["pipeline"].predict_proba(frame)[0, 1])
        if abs(native - served) > 1e-5:
            sys.exit(f"the answers differ: {native} and {served}")
        begun, count = time.process_time(), 0
        while time.process_time() - begun < 2:
            trained["pipeline"].predict_proba(frame)
            count += 1
        in_process = count / (time.process_time() - begun)
        treadle = requests_a_second(f"{running['url']}/predict", json.dumps(row))
        port = free_port("127.0.0.1")
        hello = subprocess.Popen([sys.executable, "-c", HELLO, str(port)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(1)
            bare = requests_a_second(f"http://127.0.0.1:{port}/", json.dumps(row))
        finally:
            hello.terminate()
            hello.wait()
    finally:
        stop(ws, model.name)
    print(f"endpoint: validation, 5 feature views looked up, model, prediction log   {treadle:10,.0f} requests/s, {CONNECTIONS} connections")
    print(f"bare server, constant answer                                             {bare:10,.0f} requests/s")
    print(f"the fitted scikit-learn pipeline alone, in process, one row              {in_process:10,.0f} calls/CPU s")
    print(f"endpoint / bare server {treadle / bare:.2f}    endpoint / pipeline alone {treadle / in_process:.1f}")


if __name__ == "__main__":
    main()
