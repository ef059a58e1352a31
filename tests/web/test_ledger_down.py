"""The database of the record is killed under a live endpoint: predictions go on, changes are refused for now, and what was wanted meanwhile is followed afterwards."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from treadle.assemble import Workspace
from treadle.client import Endpoint
from treadle.core.errors import Unavailable
from treadle.live import deploy
from treadle.live.switch import stop
from treadle.registry import promote
from treadle.testing import servers

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}


@pytest.mark.story
def test_predictions_go_on_while_the_ledger_is_gone_and_changes_are_refused_until_it_is_back(served: Callable[..., Workspace], tmp_path: Path) -> None:
    server = servers.postgres.__wrapped__()
    (tmp_path / "treadle.toml").write_text(f'ledger = "{servers.postgres_url(server, schema=servers.schema_of(tmp_path))}"\n')
    ws = served(2, serve="rollback=None")
    assert "Postgres" in type(ws.ledger).__name__
    url = deploy.start(ws, ws.model())["url"]
    endpoint = Endpoint(url, retries=0)
    try:
        server.stop(signal.SIGKILL, keep=True)
        end, ids = time.monotonic() + 3, []
        while time.monotonic() < end or len(ids) < 50:
            ids.append(endpoint.predict(ROW)["id"])
        assert endpoint.ready()
        refused = httpx.post(f"{url}/reload", timeout=60)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        with pytest.raises(Unavailable):
            stop(ws, ws.model(), "nobody can write it down")
        server.start()
        while True:
            try:
                promote.challenge("late", 2, ws.ledger, ws.clock)
                break
            except Unavailable:
                time.sleep(0.1)
        promote.promote("late", {}, ws.ledger, ws.clock)
        end = time.monotonic() + 60
        while endpoint.predict(ROW)["version"] != 2:
            assert time.monotonic() < end
            time.sleep(0.1)
        assert all(ws.predictions.get(id) is not None for id in ids)
        print(f"{len(ids):,} predictions while the ledger was gone, 0 failed")
    finally:
        server.start()
        deploy.stop(ws, "late")
        server.stop()
