"""What a column or a field is: one small vocabulary shared by contracts, signatures, requests and packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["number", "integer", "category", "text", "boolean", "timestamp"]
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


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a prediction request or one feature of a model.

    `source` says where its value comes from: 'request', 'derived' (computed from request fields by `rule`) or 'view' (`view` names it).
    """

    name: str
    kind: Kind
    nullable: bool = True
    source: Literal["request", "derived", "view"] = "request"
    view: str = ""
    rule: tuple[str, ...] = ()
    ge: float | None = None
    le: float | None = None
