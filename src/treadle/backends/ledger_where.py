"""The conditions of `Ledger.find`: a body field, and every JSON text that counts as equal to the value asked for.

Comparing JSON text instead of database numbers keeps True apart from 1, keeps floats exact to the last bit, and means
the same in every backend. Only numbers have several spellings:

    >>> conditions({"params.depth": 3})
    [Condition(path=('params', 'depth'), texts=('3', '3.0'), or_absent=False)]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from treadle.backends import json_text
from treadle.core.canonical import plain
from treadle.core.errors import UsageError

_UNSEARCHABLE = re.compile(r'["\\\x00-\x1f]')  # JSON escapes these in keys, and no two databases agree on how to ask for them


@dataclass(frozen=True, slots=True)
class Condition:
    """`path` leads to the field; it holds when the JSON text there is one of `texts`, or nothing is there and `or_absent`."""

    path: tuple[str, ...]
    texts: tuple[str, ...]
    or_absent: bool = False

    def holds(self, body: Any) -> bool:
        for name in self.path:
            if not isinstance(body, dict) or name not in body:
                return self.or_absent
            body = body[name]
        return json_text.write(body) in self.texts


def conditions(where: Mapping[str, Any] | None) -> list[Condition]:
    """The conditions, checked. None matches null and absent alike. Raises UsageError for a field or value that cannot be asked for."""
    return [Condition(_path(field), _spellings(field, plain(value)), or_absent=value is None) for field, value in (where or {}).items()]


def _path(field: str) -> tuple[str, ...]:
    path = tuple(field.split("."))
    if not all(path) or _UNSEARCHABLE.search(field):
        raise UsageError(f"{field!r} is not a field that can be searched.", hint="Use names joined by '.', without quotes or backslashes.")
    return path


def _spellings(field: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, dict | list):
        raise UsageError(f"Field {field!r} can be compared with text, numbers, true, false and null only, not {type(value).__name__}.")
    texts = {json_text.write(value)}
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        if value == 0:
            texts |= {"0", "0.0", "-0.0"}
        elif value == int(value):
            texts.add(str(int(value)))
            if abs(value) < 1e308 and float(value) == value:
                texts.add(repr(float(value)))
    return tuple(sorted(texts))
