"""A random walk through the verbs of a ledger, held against a plain dictionary and lists."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from treadle.core.errors import Conflict
from treadle.core.records import GENESIS, Link, Point, Ref, chain_hash
from treadle.ports.ledger import Ledger

SETTINGS = settings(max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))

_kinds = st.sampled_from(["run", "model"])
_ids = st.sampled_from(["a", "b", "c"])
_refs = st.builds(Ref, _kinds, _ids)
_numbers = st.one_of(st.integers(-3, 3), st.integers(-(2**70), 2**70), st.floats(allow_nan=False))
_texts = st.one_of(st.sampled_from(["", "1", "true", "é\n\"'"]), st.text())
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)
_bodies = st.fixed_dictionaries({}, optional={"x": _scalars, "o": st.fixed_dictionaries({"y": _scalars}), "l": st.lists(_scalars, max_size=2)})
_points = st.lists(st.builds(Point, _ids, st.sampled_from(["loss", "auc"]), st.floats(allow_nan=False), st.integers(-2, 2)), max_size=4)


class _Undo(Exception):
    pass


class LedgerWalk(RuleBasedStateMachine):
    """`state` is what the ledger must hold now; inside a transaction, `saved` holds what it must go back to, one a level."""

    make: Callable[[Path], Ledger]  # set by the contract

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.ledger = self.make(Path(self._folder.name))
        self.state: dict[str, Any] = {"records": {}, "links": [], "events": [], "points": []}
        self.saved: list[Any] = []
        self.blocks: list[Any] = []

    @rule(kind=_kinds, id=_ids, body=_bodies, expect=st.sampled_from([None, None, 0, 1, 2]))
    def put(self, kind: str, id: str, body: dict[str, Any], expect: int | None) -> None:
        records = self.state["records"]
        version = records.get((kind, id), ({}, 0))[1]
        if expect is not None and expect != version:
            try:
                self.ledger.put(kind, id, body, expect=expect)
            except Conflict:
                return
            raise AssertionError("a conflict went unseen")
        assert self.ledger.put(kind, id, body, expect=expect).version == version + 1
        records[kind, id] = (body, version + 1)

    @rule(link=st.builds(Link, _refs, st.sampled_from(["trained_on", "caused_by"]), _refs))
    def link(self, link: Link) -> None:
        self.ledger.link(link)
        if link not in self.state["links"]:
            self.state["links"].append(link)

    @rule(kind=st.sampled_from(["started", "ended"]), subject=_refs, body=_bodies)
    def append(self, kind: str, subject: Ref, body: dict[str, Any]) -> None:
        self.ledger.append(kind, subject, body)
        self.state["events"].append((kind, subject, body))

    @rule(points=_points)
    def log_points(self, points: list[Point]) -> None:
        self.ledger.log_points(points)
        self.state["points"] += points

    @precondition(lambda self: len(self.blocks) < 3)
    @rule()
    def begin(self) -> None:
        block = self.ledger.transaction()
        block.__enter__()
        self.blocks.append(block)
        self.saved.append(deepcopy(self.state))

    @precondition(lambda self: self.blocks)
    @rule()
    def end_well(self) -> None:
        self.blocks.pop().__exit__(None, None, None)
        self.saved.pop()

    @precondition(lambda self: self.blocks)
    @rule()
    def end_badly(self) -> None:
        error = _Undo()
        assert not self.blocks.pop().__exit__(_Undo, error, None)
        self.state = self.saved.pop()

    @rule(kind=_kinds, value=_scalars, field=st.sampled_from(["x", "o.y"]))
    def find(self, kind: str, value: Any, field: str) -> None:
        expected = {key[1] for key, (body, _) in self.state["records"].items() if key[0] == kind and _same(_reach(body, field), value)}
        assert {record.id for record in self.ledger.find(kind, {field: value})} == expected

    @invariant()
    def records_are_the_same(self) -> None:
        for kind in ("run", "model"):
            found = self.ledger.find(kind)
            assert {(r.kind, r.id): (r.body, r.version) for r in found} == {k: v for k, v in self.state["records"].items() if k[0] == kind}
            assert [(r.created_at, r.id) for r in found] == sorted((r.created_at, r.id) for r in found)
            assert self.ledger.find(kind, newest_first=True, limit=2) == found[::-1][:2]

    @invariant()
    def links_are_the_same(self) -> None:
        for ref in (Ref("run", "a"), Ref("model", "b")):
            assert list(self.ledger.links(ref)) == [link for link in self.state["links"] if link.source == ref]
            assert list(self.ledger.links(ref, back=True)) == [link for link in self.state["links"] if link.target == ref]

    @invariant()
    def events_are_the_same_and_chained(self) -> None:
        found = self.ledger.events_since()
        assert [(e.kind, e.subject, e.body) for e in found] == self.state["events"]
        previous = GENESIS
        for number, event in enumerate(found, start=1):
            assert (event.seq, event.previous, event.hash) == (number, previous, chain_hash(event))
            previous = event.hash

    @invariant()
    def points_are_the_same(self) -> None:
        for run in ("a", "b", "c"):
            expected = sorted((p for p in self.state["points"] if p.run == run), key=lambda p: (p.name, p.step))
            assert [(p.name, p.step, p.value) for p in self.ledger.points(run)] == [(p.name, p.step, p.value) for p in expected]

    def teardown(self) -> None:
        while self.blocks:
            self.end_badly()
        self.ledger.close()
        self._folder.cleanup()


def _reach(body: Any, field: str) -> Any:
    for name in field.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body


def _same(held: Any, asked: Any) -> bool:
    return held == asked and isinstance(held, bool) == isinstance(asked, bool)
