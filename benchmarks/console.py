"""How quick the console is with a long record: 10,000 runs, 1,000,000 predictions, 100,000 entries of the audit log.

    python benchmarks/console.py [--runs 10000] [--predictions 1000000] [--times 30]

Builds a project in a temporary folder, trains two versions for real, copies the record of one of the runs and logs predictions and outcomes
through the product's own stores; then starts `treadle console`, signs in by its link, and asks for every page that can be reached from the first
one, one after the other. Prints the median, the 95th percentile and the longest time of each kind of page, in milliseconds, with the bytes of
one.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import numpy as np

from treadle.assemble import Workspace, open_workspace
from treadle.core.ids import new_id
from treadle.core.records import Ref
from treadle.data.write_project import write_blank
from treadle.pipelines.run import RUN, steps_of
from treadle.ports.predictions import Outcome, Prediction
from treadle.registry import promote, versions
from treadle.serving.address import free_port
from treadle.wheel.turn import turn

LIMIT = 200.0  # milliseconds: what the slowest kind of page may take at the 95th percentile
WHOLE = ("/audit/check",)  # computes every hash of the log again, which is what it is for
BATCH = 10_000


def build(folder: Path, runs: int, predictions: int) -> Workspace:
    """A project with a long record."""
    write_blank(folder, "deliveries")
    ws = open_workspace(folder)
    model = ws.model()
    cause = {"kind": "person", "id": "", "text": "a benchmark"}
    turn(ws, model, cause=cause)
    turn(ws, model, cause=cause, settings={"family": "logistic", "params": {"C": 0.01}})
    promote.first(model.name, 1, ws.ledger, ws.clock, actor="a benchmark")
    first = versions.get(model.name, 1, ws.ledger)
    record = ws.ledger.get(RUN, first["run"])
    assert record is not None
    steps = steps_of(record.id, ws.ledger)
    for start in range(0, runs, 100):
        with ws.ledger.transaction():
            for _ in range(min(100, runs - start)):
                id = new_id("run")
                ws.ledger.put(RUN, id, record.body)
                for step in steps:
                    ws.ledger.put(step.kind, f"{id}/{step['step']}", {**step.body, "run": id})
                for what in ("run.started", *(["step.done"] * 8), "run.done"):
                    ws.ledger.append(what, Ref(RUN, id), {"note": "a benchmark"})
    chance, now = np.random.default_rng(7), int(ws.clock.now().timestamp() * 1e6)
    for start in range(0, predictions, BATCH):
        count = min(BATCH, predictions - start)
        scores = chance.uniform(size=count)
        log = [
            Prediction(f"p-{start + i:07d}", model.name, now - 90 * 86_400_000_000 + (start + i) * 7_000_000, now, 1, "champion",
                       (1 - float(s), float(s)), 0, (), b"{}", b"[1.0, 2.0, 3.0]", 100)
            for i, s in enumerate(scores)
        ]  # fmt: skip
        ws.predictions.write(log, [Outcome(p.id, bool(s > 0.5), p.moment + 1) for p, s in zip(log[: count // 2], scores)])
    return ws


def pages(browser: urllib.request.OpenerDirector, base: str) -> Iterator[tuple[str, str]]:
    """One address of each kind of page that links lead to, with its kind."""
    from treadle.web.console.table import OPERATIONS

    kinds = [(re.compile(re.sub(r"\\?\{[^}]*\}", "[^/]+", re.escape(o.path).replace(r"\{", "{").replace(r"\}", "}"))), o.path) for o in OPERATIONS
             if o.method == "GET" and (o.page is not None)]  # fmt: skip
    waiting, seen = ["/"], set()
    while waiting:
        path = waiting.pop(0)
        plain = path.partition("?")[0]
        kind = "/home" if plain == "/" else next((name for pattern, name in kinds if pattern.fullmatch(plain)), None)
        if kind is None or kind in seen:
            continue
        seen.add(kind)
        try:
            text = browser.open(base + path, timeout=120).read().decode()
        except urllib.error.HTTPError:
            seen.discard(kind)
            continue
        yield kind, path
        waiting += [link.replace("&amp;", "&") for link in re.findall(r'href="(/[^"#]*)', text)]


def main() -> int:
    """Build, measure, print; 1 if a kind of page is slower than the limit."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=10_000)
    options.add_argument("--predictions", type=int, default=1_000_000)
    options.add_argument("--times", type=int, default=30)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "deliveries"
        began = time.perf_counter()
        build(folder, given.runs, given.predictions).close()
        print(f"{given.runs:,} runs, {given.predictions:,} predictions, built in {time.perf_counter() - began:.0f} s", flush=True)
        port = free_port("127.0.0.1")
        program = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "console", "--port", str(port)]
        console = subprocess.Popen(program, stdout=subprocess.PIPE, text=True)
        try:
            assert console.stdout is not None
            link = re.search(r"http://\S+", console.stdout.readline())
            assert link is not None
            base = f"http://127.0.0.1:{port}"
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"{base}/health", timeout=5).read()
                    break
                except OSError:
                    time.sleep(0.05)
            browser.open(link[0]).read()
            return measure(browser, base, given.times)
        finally:
            console.terminate()
            console.wait(20)


def measure(browser: urllib.request.OpenerDirector, base: str, times: int) -> int:
    """Ask for every kind of page so many times, and print how long it took."""
    slow, every = [], []
    print(f"{'page':<48} {'median':>8} {'p95':>8} {'longest':>8} {'bytes':>10}")
    for kind, path in list(pages(browser, base)):
        took = []
        for _ in range(times):
            began = time.perf_counter()
            size = len(browser.open(base + path, timeout=120).read())
            took.append((time.perf_counter() - began) * 1000)
        median, p95 = np.percentile(took, [50, 95])
        every += took if kind not in WHOLE else []
        print(f"{kind:<48} {median:8.1f} {p95:8.1f} {max(took):8.1f} {size:10,}", flush=True)
        if p95 > LIMIT and kind not in WHOLE:
            slow.append(kind)
    print(f"{'all pages':<48} {np.percentile(every, 50):8.1f} {np.percentile(every, 95):8.1f} {max(every):8.1f}")
    print(f"slower than {LIMIT:.0f} ms at the 95th percentile: {', '.join(slow) or 'none'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
