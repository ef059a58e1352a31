"""No entry of the audit log can be changed, dropped or moved unseen: its hash covers all of it and the one before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from treadle.core.records import GENESIS, Event, Record, Ref, chain_hash

FIRST = Event("version.approved", Ref("model_version", "late.v1"), "ada", {"run": "run-1", "reasons": []}, 1, "2013-01-01T00:00:00.000000Z", GENESIS)


def test_the_hash_of_an_event_is_the_same_every_time() -> None:
    assert chain_hash(FIRST) == chain_hash(replace(FIRST, body={"reasons": [], "run": "run-1"}))
    assert chain_hash(FIRST) == chain_hash(replace(FIRST, hash="anything"))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "version.refused"}, {"subject": Ref("model_version", "late.v2")}, {"subject": Ref("run", "late.v1")}, {"actor": "eve"},
        {"body": {}}, {"body": {"run": "run-1", "reasons": ["x"]}}, {"seq": 2}, {"time": "2013-01-01T00:00:00.000001Z"}, {"previous": "1" * 64},
    ],
)  # fmt: skip
def test_any_change_changes_the_hash(change: dict[str, Any]) -> None:
    assert chain_hash(replace(FIRST, **change)) != chain_hash(FIRST)


def test_a_record_reads_like_a_mapping() -> None:
    record = Record("run", "r", {"status": "done"})
    assert (record["status"], record.get("error"), record.get("error", "none")) == ("done", None, "none")
    assert str(Ref("run", "r")) == "run/r"
