"""A source that goes back to what it held before: that version is the newest again, and what was broken meanwhile is seen to be whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from treadle.assemble import open_workspace
from treadle.core.errors import ContractViolated
from treadle.data import promises, versions
from treadle.monitoring import alarms
from treadle.wheel.materialise import newest_of

PROJECT = """
import treadle as tr

project = tr.Project("shop", owner="me")
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id", contract=tr.Contract({"id": tr.integer()}, volume=(50, None), stop_on={stops}))
"""


def write(folder: Path, count: int) -> None:
    (folder / "rows.csv").write_text("id,x\n" + "".join(f"{i},a\n" for i in range(count)))


@pytest.mark.parametrize("stops", ['("volume",)', "()"])
def test_a_file_that_is_restored_is_the_newest_version_and_ends_the_alarm(tmp_path: Path, stops: str) -> None:
    (tmp_path / "project.py").write_text(PROJECT.replace("{stops}", stops))
    ws = open_workspace(tmp_path)
    rows = ws.project.datasets["rows"]

    def taken() -> versions.Version:
        return newest_of(ws, rows, "test", "test")

    write(tmp_path, 100)
    first = taken()
    write(tmp_path, 10)
    if stops == "()":
        assert taken().rows == 10
    else:
        with pytest.raises(ContractViolated):
            taken()
    assert [a["status"] for a in ws.ledger.find("alarm")] == ["open"]
    write(tmp_path, 100)
    again = taken()
    newest = versions.newest("rows", ws.ledger)
    assert newest is not None
    assert again.id == newest.id == first.id
    assert promises.in_turn("rows", ws.ledger)[-1].id == first.id
    assert not any(a["status"] == "open" for a in ws.ledger.find(alarms.KIND))
