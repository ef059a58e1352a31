"""Whether what one step returns is what the next takes: by the annotations when the graph is built, by the value when it has run."""

from __future__ import annotations

import typing
from typing import Any

_NUMBERS: dict[Any, tuple[type, ...]] = {float: (int, float), complex: (int, float, complex)}


def fits(given: Any, wanted: Any) -> bool:
    """Whether a result with annotation `given` may stand where `wanted` is asked for. What cannot be decided fits."""
    if given is wanted or wanted in (Any, object, None) or given in (Any, None) or any(isinstance(h, typing.TypeVar) for h in (given, wanted)):
        return True
    if isinstance(given, type) and isinstance(wanted, type) and not typing.get_args(given) and not typing.get_args(wanted):
        return issubclass(given, wanted) or issubclass(given, _NUMBERS.get(wanted, ()))
    from beartype.door import is_subhint  # 0.1 s of import, so only where a generic type is to be compared

    try:
        return is_subhint(given, wanted) or is_subhint(_widened(given), _widened(wanted)) or _unknown_inside(given, wanted)
    except Exception:  # a hint that beartype does not know is no reason to refuse a graph
        return True


def is_a(value: Any, wanted: Any) -> bool:
    """Whether a value is what an annotation says. What cannot be decided is."""
    if wanted in (Any, object) or isinstance(wanted, typing.TypeVar):
        return True
    if wanted is None or wanted is type(None):
        return value is None
    if isinstance(wanted, type) and not typing.get_args(wanted):
        try:
            return isinstance(value, wanted) or (isinstance(value, _NUMBERS.get(wanted, ())) and not isinstance(value, bool))
        except TypeError:  # a protocol that cannot be asked
            return True
    from beartype.door import is_bearable

    try:
        return is_bearable(value, wanted) or is_bearable(value, _widened(wanted))
    except Exception:
        return True


def shown(hint: Any) -> str:
    """An annotation as a person wrote it."""
    if hint is type(None):
        return "None"
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _widened(hint: Any) -> Any:
    """Whole numbers are good wherever numbers are asked for, also inside lists and the like."""
    if hint is float:
        return int | float
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin in (list, tuple, set, frozenset, dict) and arguments:
        return origin[tuple(a if a is Ellipsis else _widened(a) for a in arguments)]
    return hint


def _unknown_inside(given: Any, wanted: Any) -> bool:
    """`list` may turn out to be a `list[int]`: only the value will tell."""
    origin = typing.get_origin(wanted)
    if given is origin:
        return True
    a, b = typing.get_args(given), typing.get_args(wanted)
    if origin is None or typing.get_origin(given) is not origin or len(a) != len(b):
        return False
    return all(fits(x, y) for x, y in zip(a, b) if x is not Ellipsis)
