"""Identifiers: short, sortable by time, safe in a path, a URL and a shell.

>>> new_id("run")                                                # doctest: +SKIP
'run-0mf2k8x1c3-7q4d9a'
>>> check_id("run-0mf2k8x1c3-7q4d9a")
'run-0mf2k8x1c3-7q4d9a'
"""

from __future__ import annotations

import os
import re
import time
from collections import deque

from treadle.core.errors import UsageError

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
_VALUES = {digit: value for value, digit in enumerate(_ALPHABET)}
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]  # two digits at a time
_GRAMMAR = re.compile(r"[a-z][a-z0-9]*(?:[-_.][a-z0-9]+)*", re.ASCII)


def base32(number: int, length: int) -> str:
    """`number` in `length` digits of Crockford's base 32, most significant first."""
    digits = []
    for _ in range(length):
        digits.append(_ALPHABET[number & 31])
        number >>= 5
    return "".join(reversed(digits))


# Random bits for single ids, drawn for many at a time: asking the system costs as much as making the id. Each is taken out once, whatever the thread.
_pool: deque[bytes] = deque()
os.register_at_fork(after_in_child=_pool.clear)


def _drawn() -> bytes:
    try:
        return _pool.popleft()
    except IndexError:
        more = os.urandom(5 * 65)
        _pool.extend(more[i : i + 5] for i in range(5, 5 * 65, 5))
        return more[:5]


def new_id(prefix: str) -> str:
    """A new id: prefix, milliseconds since 1970 (10 digits), 40 random bits (8 digits)."""
    return new_ids(prefix, 1)[0]


def new_ids(prefix: str, count: int) -> list[str]:
    """`count` new ids of this moment, made together."""
    pairs, now, drawn = _PAIRS, time.time_ns() // 1_000_000, _drawn() if count == 1 else os.urandom(5 * count)
    begins = f"{prefix}-{pairs[now >> 40 & 1023]}{pairs[now >> 30 & 1023]}{pairs[now >> 20 & 1023]}{pairs[now >> 10 & 1023]}{pairs[now & 1023]}"
    made = []
    for i in range(0, 5 * count, 5):
        n = int.from_bytes(drawn[i : i + 5], "big")
        made.append(f"{begins}{pairs[n >> 30]}{pairs[n >> 20 & 1023]}{pairs[n >> 10 & 1023]}{pairs[n & 1023]}")
    return made


_MADE = re.compile(rf"p-[{_ALPHABET}]{{18}}(?:\.(?:0|[1-9][0-9]{{0,8}}))?", re.ASCII).fullmatch


def is_made(id: str) -> bool:
    """Whether a prediction's id was made here: by `new_ids`, or of such a one by `places_of`."""
    return _MADE(id) is not None


def made_at(id: str) -> int:
    """When such an id was made, in milliseconds since 1970."""
    number = 0
    for digit in id[2:12]:
        number = number << 5 | _VALUES[digit]
    return number


def places_of(base: str, count: int) -> list[str]:
    """The ids of the rows of one request: its base and their places."""
    return [f"{base}.{place}" for place in range(count)]


def check_id(text: str, what: str = "id") -> str:
    """`text` itself if it follows the id grammar (lower-case words joined by - _ or .), else UsageError."""
    if len(text) > 200 or not _GRAMMAR.fullmatch(text):
        shown = text if len(text) <= 60 else text[:57] + "..."
        raise UsageError(f"{shown!r} is not a valid {what}.", hint="Use lower-case letters and digits, joined by '-', '_' or '.'.")
    return text
