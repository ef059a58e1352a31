"""What a column or a field is: one small vocabulary shared by contracts, signatures, requests and packages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

Kind = Literal["number", "integer", "category", "text", "boolean", "timestamp", "vector"]
Policy = Literal["", "deprecated", "protected"]
# A vector, numbers in a fixed order, is sent to models that were made elsewhere; no column of a data set is one.
KINDS: tuple[Kind, ...] = ("number", "integer", "category", "text", "boolean", "timestamp")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: what it holds and what its values must obey.

    Args:
        kind: 'number' (float), 'integer', 'category' (text with few values), 'text', 'boolean', 'timestamp' (UTC).
        nullable: whether it may be missing.
        ge, le: bounds, both inclusive, for numbers and integers.
        isin: the only values allowed.
        unique: whether a value may appear once only.
        unit, description: for people.
        personal: what sort of personal data it holds ('name', 'email', 'phone', ...); empty if none. Masked in logs, samples and reports.
        pattern: a regular expression (of Rust's `regex`) that the whole text matches.
        min_length, max_length: bounds in characters, both inclusive, for texts.
        not_after: for moments: 'now' (the clock when rows are taken) or ISO text; `tolerance` is how far clocks may disagree.
        policy: 'deprecated' (nothing new may use it) or 'protected' (a model may not learn from it); empty if free. A model needs a reason to use it.
    """

    kind: Kind
    nullable: bool = False
    ge: float | None = None
    le: float | None = None
    isin: tuple[Any, ...] | None = None
    unique: bool = False
    unit: str = ""
    description: str = ""
    personal: str = ""
    pattern: str = ""
    min_length: int | None = None
    max_length: int | None = None
    not_after: str = ""
    tolerance: timedelta = timedelta(0)
    policy: Policy = ""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a prediction request or one feature of a model.

    `source` says where its value comes from: 'request', 'derived' (computed from request fields by `rule`) or 'view' (`view` names it).
    `length` is how many numbers a vector has; `ge` and `le` bound each of them.
    """

    name: str
    kind: Kind
    nullable: bool = True
    source: Literal["request", "derived", "view"] = "request"
    view: str = ""
    rule: tuple[str, ...] = ()
    ge: float | None = None
    le: float | None = None
    length: int = 0
