"""Points of the ML Test Score follow what a project declares and what is on record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import treadle as tr
from treadle.governance.ml_test_score.monitoring import TESTS


@pytest.mark.parametrize(
    ("retrain", "when"),
    [
        (tr.on_evidence(every="30d"), "by the calendar"),
        (tr.on_evidence(new_rows="20%"), "when enough new rows are known"),
        (tr.on_evidence(every="30d", new_rows=5000), "by the calendar and when enough new rows are known"),
        (tr.on_evidence(), ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("curve", [True, False])
def test_a_model_is_kept_young_by_the_calendar_or_by_new_rows(retrain: Any, when: str, curve: bool) -> None:
    project = SimpleNamespace(watches={"m": SimpleNamespace(retrain=retrain)})
    made = [{"evaluation": {"staleness": {"loss": "log loss"} if curve else None}}]
    scored = TESTS["O4"](SimpleNamespace(project=project, model=SimpleNamespace(name="m"), made=made, current=None))  # type: ignore[arg-type]
    assert scored.points == (bool(when) + curve) / 2
    assert not when or f"is retrained {when}" in scored.because
