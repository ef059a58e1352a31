"""A process that logs predictions is killed at any moment: what it had acknowledged is there, and no call is there in part."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from treadle.backends.catalog import open_backend
from treadle.testing import servers
from treadle.testing.predictions_contract import read

WRITER = """
import sys
from treadle.backends.catalog import open_backend
from treadle.core.ids import new_id, new_ids
from treadle.ports.prediction_blocks import Block, each
from treadle.ports.predictions import Outcome, Prediction

url, life, durable = sys.argv[1], sys.argv[2], sys.argv[3] == "True"
log = open_backend("predictions", url)
call = 0
while True:
    ids = [f"{life}-{call}-0", f"{life}-{call}-1", *new_ids("p", 2)]
    predictions = [Prediction(id, "late", call, call, 1, "champion", (0.5,), 0, (), b"{}", b"[]" * 50, 9) for id in ids]
    predictions.append(Block(base=new_id("p"), model="late", count=3, moments=call, answered=call, version=1, variant="champion", width=1,
                             outputs=bytes(24), inputs=b"[{},{},{}]", features=b"[[],[],[]]"))
    ids = [p.id for p in each(predictions)]
    log.write(predictions, [Outcome(id, True, call) for id in ids], durable=durable)
    print(*ids, flush=True)
    call += 1
"""


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_every_acknowledged_prediction_and_outcome_outlives_kill_9(tmp_path: Path, kind: str, durable: bool) -> None:
    url = f"sqlite://{tmp_path}/p.db" if kind == "sqlite" else servers.postgres_url(schema=servers.schema_of(tmp_path))
    acknowledged: set[str] = set()
    for life in range(3):
        child = subprocess.Popen([sys.executable, "-c", WRITER, url, str(life), str(durable)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        lines = [child.stdout.readline() for _ in range(5)]
        time.sleep(random.uniform(0.01, 0.15))
        child.send_signal(signal.SIGKILL)
        lines += child.communicate()[0].splitlines()
        acknowledged |= {id for line in lines for id in line.split()}

        found = {p.id: outcome for p, outcome in read(open_backend("predictions", url))}
        assert acknowledged <= found.keys()
        assert all(outcome is not None for outcome in found.values())
        assert len(found) % 7 == 0
    assert len(acknowledged) >= 3 * 5 * 7
