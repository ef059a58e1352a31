"""JSON text that every store can hold and search: what `core.canonical.plain` gives, with a spelling for the numbers JSON lacks.

Metrics are sometimes not a number, and neither SQLite nor PostgreSQL takes NaN in JSON.

    >>> write({"auc": float("nan")})
    '{"auc":{"=":"nan"}}'
    >>> read('{"auc":{"=":"nan"}}')
    {'auc': nan}
"""

from __future__ import annotations

import json
import math
from typing import Any

from treadle.core.canonical import plain

_NON_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_MARK = '{"=":"'


def write(value: Any) -> str:
    """`value` as compact JSON text, keys in the order given. Raises TypeError for what has no canonical form."""
    value = plain(value)
    try:
        return _dump(value)
    except ValueError:  # rare, so the search for the culprit happens only then
        return _dump(_spell(value))


def read(text: str) -> Any:
    """What `write` was given, as JSON types."""
    return json.loads(text, object_hook=_unspell) if _MARK in text else json.loads(text)


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _spell(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _spell(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_spell(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {"=": repr(value)}
    return value


def _unspell(found: dict[str, Any]) -> Any:
    return _NON_FINITE.get(found["="], found) if len(found) == 1 and isinstance(found.get("="), str) else found
