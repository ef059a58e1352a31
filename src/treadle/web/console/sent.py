"""What comes in a form beside the operation's own fields, and what of it is given back to a person whose form was refused."""

from __future__ import annotations

from treadle.core.canonical import digest
from treadle.web.console.operation import Operation

Fields = list[tuple[str, str]]
OURS = ("csrf", "once", "back")  # fields of a form that are not the operation's
CARRIED = ("expect", "on", "row", "evidence", "step", "number", "answers", "ids", "names")  # fields that a page fills in, not a person


def last(fields: Fields, name: str) -> str:
    """The value of a field, the last one if it came several times; '' if it did not come."""
    return next((v for k, v in reversed(fields) if k == name), "")


def key_of(fields: Fields) -> str | None:
    """What makes a form one call: pressed twice it is done once; sent again with another text, it is another call."""
    once = last(fields, "once")
    return f"{once}.{digest([[name, text] for name, text in fields if name not in OURS])[:16]}" if once else None


def written(operation: Operation, fields: Fields) -> Fields:
    """What a person wrote into a form, so that it is not lost when it is refused; nothing of one that holds a secret."""
    return [] if operation.secret else [(name, text) for name, text in fields if name not in (*OURS, *CARRIED) and text.strip()]
