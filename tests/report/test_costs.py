"""What runs have cost: the same sums however often and in whatever order they are asked for."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import SystemClock
from treadle.report.costs import Costs, by_scope, costs


class Held:
    """As much of a workspace as is asked."""

    def __init__(self) -> None:
        self.ledger, self.clock = MemoryLedger(), SystemClock()


def body(scope: str, status: str, seconds: float) -> dict[str, Any]:
    return {"scope": scope, "status": status, "seconds": seconds, "cpu": seconds / 2, "started": "", "cause": {"kind": "person"}}


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["a", "b"]), st.sampled_from(["running", "failed", "done"]), st.integers(0, 9), st.booleans()), max_size=30))
@settings(max_examples=60)
def test_asked_at_any_time_the_sums_are_those_of_all_runs_as_they_stand(steps: list[tuple[int, str, str, int, bool]]) -> None:
    ws: Any = Held()
    for run, scope, status, seconds, asked in steps:
        found = ws.ledger.get("run", f"r{run}")
        if found is None or found["status"] != "done":  # a run that is done stays as it is
            ws.ledger.put("run", f"r{run}", body(found["scope"] if found else scope, status, float(seconds)))
        if asked:
            costs(ws)
    whole = Costs()
    for record in ws.ledger.find("run"):
        whole.add(record)
    told = costs(ws)
    assert told.sums == whole.sums
    assert [d["seconds"] for d in told.dearest] == [d["seconds"] for d in whole.dearest]
    months = sorted({month for _, month in whole.sums})
    assert sum(s["seconds"] for s in by_scope(told, months)) == sum(r["seconds"] for r in ws.ledger.find("run"))
