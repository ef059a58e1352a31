"""A long log is not counted anew for every page; a short one is."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from treadle.assemble import Workspace
from treadle.web.console import counted


class Log:
    def __init__(self) -> None:
        self.counted = 0

    def count(self, model: str) -> tuple[int, int]:
        self.counted += 1
        return self.counted, 0


def test_what_is_counted_at_once_is_counted_each_time_and_what_takes_long_is_remembered(monkeypatch: Any) -> None:
    log = Log()
    ws = cast(Workspace, SimpleNamespace(folder="test-counted", settings={"predictions": "x"}, predictions=log))
    assert [counted.counts(ws, "m")[0] for _ in range(3)] == [1, 2, 3]
    monkeypatch.setattr(counted, "AT_ONCE", -1.0)  # as if each count took long
    monkeypatch.setattr(counted, "BEHIND", 1e12)
    assert [counted.counts(ws, "m")[0] for _ in range(3)] == [3, 3, 3]
    assert log.counted == 3
