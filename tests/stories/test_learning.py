"""Online recalibration over the prediction log: learned when known, once each; a killed look is done again; the weights can be made again from the journal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from treadle.backends.memory_blobs import MemoryBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.core.clock import ReplayClock, parse_time
from treadle.core.declare.online import Recalibrate
from treadle.core.errors import Corrupt
from treadle.live import learning
from treadle.ports.predictions import Outcome, Prediction
from treadle.serving import recalibration
from treadle.serving.recalibration import PULL, RATE_A, RATE_B

BEGIN = "2024-01-01"
HOUR = 3_600_000_000
ZERO = int(parse_time(BEGIN).timestamp() * 1e6)
MODEL = SimpleNamespace(name="m")


def world(shift: float = 1.0, days: int = 20, a_day: int = 200) -> Any:
    """A deployed binary version whose answers are too low by `shift` in log-odds."""
    from datetime import timedelta

    rng = np.random.default_rng(0)
    n = days * a_day
    z = rng.normal(0, 1, n)
    truth = rng.random(n) < 1 / (1 + np.exp(-(z + shift)))
    p = 1 / (1 + np.exp(-z))
    log = MemoryPredictions()
    moments = ZERO + (np.arange(n) * (24 * HOUR // a_day))
    log.write([Prediction(f"p{i:05d}", "m", int(moments[i]), 0, 1, "champion", (1 - p[i], p[i]), 0, (), b"{}", b"[]", 1) for i in range(n)])
    log.write([], [Outcome(f"p{i:05d}", bool(truth[i]), int(moments[i]) + 3 * HOUR) for i in range(n)])
    ledger = MemoryLedger()
    ledger.put("deployment", "m", {"champion": 1, "challenger": None, "stage": "none"})
    ledger.put("model_version", "m.v1", {"task": "binary", "labels": [False, True], "number": 1, "model": "m"})
    declared = Recalibrate(MODEL, RATE_A, RATE_B, PULL, timedelta(days=2), 500)  # type: ignore[arg-type]
    project = SimpleNamespace(recalibrations={"m": declared})
    return SimpleNamespace(project=project, ledger=ledger, predictions=log, blobs=MemoryBlobs(), clock=ReplayClock(parse_time(BEGIN)))


def look(ws: Any, hours: float) -> Any:
    from datetime import timedelta

    ws.clock = ReplayClock(parse_time(BEGIN) + timedelta(hours=hours))
    return learning.learn(ws, MODEL)  # type: ignore[arg-type]


def test_each_outcome_is_learned_once_when_it_is_known() -> None:
    ws = world()
    assert look(ws, 2.9) is None
    first = look(ws, 4)
    assert 0 < len(first["recent"]) <= 10
    assert look(ws, 4) is None
    for hours in range(5, 480, 6):
        look(ws, hours)
    record = ws.ledger.get(learning.KIND, "m-v1")
    known = sum(o is not None and o.known <= ZERO + 479 * HOUR for b in ws.predictions.between("m", 0, 2**62) for _, o in b)
    assert record["state"]["learned"] == known
    assert record["status"] == "helps"
    assert float.fromhex(record["state"]["b"]) == pytest.approx(0.6, abs=0.3)
    assert recalibration.applied(ws.ledger, "m", 1).answer(0.5) > 0.6  # type: ignore[union-attr]


def test_looks_at_other_moments_give_the_same_weights_and_the_journal_gives_them_again() -> None:
    one, other = world(), world()
    for hours in range(4, 200, 3):
        look(one, hours)
    for hours in (40, 80, 120, 160, 199):
        look(other, hours)
    a, b = (ws.ledger.get(learning.KIND, "m-v1") for ws in (one, other))
    assert a["mark"] == b["mark"]
    assert learning.replayed(one, a).mark() == a["mark"]
    assert len(a["journals"]) <= 12  # of 66 looks: they are joined as they grow, so a year of looks is a few of them


def test_a_look_that_is_killed_before_it_is_recorded_is_done_again_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    ws, calm = world(), world()
    look(ws, 20)
    look(calm, 20)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ws.ledger, "put", killed)  # after the blob is written, before the checkpoint is
        with pytest.raises(KeyboardInterrupt):
            look(ws, 30)
    for w in (ws, calm):
        look(w, 30)
        look(w, 41)
    a, b = (w.ledger.get(learning.KIND, "m-v1") for w in (ws, calm))
    assert a["mark"] == b["mark"]
    assert learning.replayed(ws, a).mark() == a["mark"]


def test_a_state_that_does_not_follow_from_what_was_learned_is_found() -> None:
    ws = world()
    look(ws, 30)
    record = ws.ledger.get(learning.KIND, "m-v1")
    ws.ledger.put(learning.KIND, "m-v1", {**record.body, "mark": "0" * 64})
    with pytest.raises(Corrupt, match="not those that follow"):
        learning.replayed(ws, ws.ledger.get(learning.KIND, "m-v1"))


def test_where_it_hurts_it_is_not_applied_and_starts_anew() -> None:
    ws = world(0.0)
    ws.project.recalibrations["m"] = Recalibrate(MODEL, 0.5, 0.9, 0.0, ws.project.recalibrations["m"].horizon, 500)  # type: ignore[arg-type]
    for hours in range(4, 300, 6):
        look(ws, hours)
    record = ws.ledger.get(learning.KIND, "m-v1")
    assert record["anew"] >= 1
    assert record["status"] != "helps"
    assert recalibration.applied(ws.ledger, "m", 1) is None
