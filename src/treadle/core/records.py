"""The shapes of the one record of everything: records, links between them, events in a hash chain, metric points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from treadle.core.canonical import digest

GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class Record:
    """One thing the loop knows: its kind ('run', 'model_version', ...), its id within the kind, and its body (JSON types).

    `version` counts the writes of this record, from 1; `put(..., expect=version)` makes concurrent changes safe.
    Times are ISO text in UTC.
    """

    kind: str
    id: str
    body: Mapping[str, Any]
    version: int = 0
    created_at: str = ""
    updated_at: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.body[name]

    def get(self, name: str, default: Any = None) -> Any:
        return self.body.get(name, default)


@dataclass(frozen=True, slots=True)
class Ref:
    """The address of a record."""

    kind: str
    id: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.id}"


@dataclass(frozen=True, slots=True)
class Link:
    """`source` was made from, caused by, or is about `target`: lineage. `relation` is a verb phrase: 'trained_on', 'caused_by'."""

    source: Ref
    relation: str
    target: Ref


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of the audit log. `hash` covers the entry and the hash before it, so that no entry can be changed or dropped unseen."""

    kind: str
    subject: Ref
    actor: str
    body: Mapping[str, Any] = field(default_factory=dict)
    seq: int = 0
    time: str = ""
    previous: str = GENESIS
    hash: str = ""


def chain_hash(event: Event) -> str:
    """SHA-256 over everything an event says and the hash of the event before it."""
    return digest([event.previous, event.seq, event.time, event.actor, event.kind, event.subject.kind, event.subject.id, dict(event.body)])


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a metric of a run: `step` orders points, `time` is ISO text."""

    run: str
    name: str
    value: float
    step: int = 0
    time: str = ""
