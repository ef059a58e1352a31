"""What the tests of the ML Test Score look at, and how one is scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treadle.core.declare.model import Model
from treadle.core.declare.project import Project
from treadle.core.records import Event, Record, Ref
from treadle.ports.ledger import Ledger
from treadle.registry import versions


@dataclass(frozen=True)
class Score:
    """One test. `points` is 0, 0.5 or 1; `because` names the evidence; `next` what gains the next half point; `waits` for a part not built yet."""

    id: str
    test: str
    points: float
    because: str
    next: str = ""
    evidence: str = ""
    waits: bool = False


@dataclass(frozen=True)
class Facts:
    """What the tests look at, read once."""

    project: Project
    model: Model
    ledger: Ledger
    made: list[Record]
    current: Record | None
    events: list[Event]
    runs: list[Record]
    blocks: list[Record]

    @property
    def evaluation(self) -> Mapping[str, Any]:
        return self.current["evaluation"] if self.current is not None else {}

    @property
    def gates(self) -> set[str]:
        return {g.name for g in self.model.gates}

    def of(self, kind: str) -> list[Event]:
        """Events of a kind about this model."""
        about = {Ref(versions.DEPLOYMENT, self.model.name), *(Ref(versions.KIND, v.id) for v in self.made)}
        return [e for e in self.events if e.kind == kind and e.subject in about]


def scored(id: str, test: str, steps: list[tuple[bool, str, str]], floor: str, evidence: str = "", waits: bool = False) -> Score:
    """Half a point for each of up to two steps that is met, in order. A step is (met, what is so then, what to do to get there)."""
    points, because = 0.0, floor
    for met, words, todo in steps:
        if not met:
            return Score(id, test, points, because, todo, evidence, waits)
        points, because = points + 0.5, words
    return Score(id, test, points, because, "", evidence)


def version_of(f: Facts) -> str:
    return f.current.id if f.current is not None else ""
