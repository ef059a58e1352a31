"""From a request's fields to typed values: checked one by one, with a reason for each that does not fit."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from treadle.core.errors import InvalidRequest
from treadle.core.schema import Field

Check = Callable[[Any], Any]
MICROS = 1_000_000
LONGEST_TEXT = 10_000  # characters
MOST_REASONS = 50  # of one row: whoever sends a hundred thousand wrong fields need not be told of each


class Unfit(Exception):
    """Why a value does not fit."""


class Parser:
    """Checks the fields of one row against a model's signature.

    Args:
        request: the fields a caller may send.
        features: the model's features; those from views may be sent too, and then are not looked up.
    """

    def __init__(self, request: Sequence[Field], features: Sequence[Field]) -> None:
        self._checks: dict[str, tuple[Check, bool]] = {f.name: (_check(f), f.nullable) for f in request}
        self._optional = {f.name: _check(f) for f in features if f.source == "view" and f.name not in self._checks}
        self._required = [f.name for f in request if not f.nullable]
        self._names = sorted({*self._checks, *self._optional})

    def parse(self, row: Any, where: str = "") -> dict[str, Any]:
        """Typed values by field: numbers as float, moments as microseconds since 1970 UTC, missing as None.

        Raises: InvalidRequest with a reason for every field that does not fit.
        """
        if not isinstance(row, dict):
            raise InvalidRequest("A row is a JSON object of fields.", where=where or None)
        values: dict[str, Any] = {}
        bad: dict[str, str] = {}
        for name, value in row.items():
            if len(bad) >= MOST_REASONS:
                break
            known = self._checks.get(name)
            if known is None:
                check = self._optional.get(name)
                if check is None:
                    close = difflib.get_close_matches(name[:100], self._names, 1)
                    bad[name[:200]] = "is not a field of this model" + (f"; did you mean {close[0]!r}?" if close else "")
                    continue
                nullable = True
            else:
                check, nullable = known
            if value is None:
                if not nullable:
                    bad[name] = "is missing"
                values[name] = None
                continue
            try:
                values[name] = check(value)
            except Unfit as reason:
                bad[name] = str(reason)
        for name in self._required:
            if name not in row:
                bad[name] = "is missing"
        if bad:
            first = next(iter(bad.items()))
            raise InvalidRequest(
                f"Field {first[0]!r} {first[1]}" + (f" (and {len(bad) - 1} more)." if len(bad) > 1 else "."), where=where or None, fields=bad
            )
        return values


def _check(field: Field) -> Check:
    if field.kind in ("number", "integer"):
        return _number(field)
    if field.kind == "boolean":
        return _boolean
    if field.kind == "timestamp":
        return moment
    if field.kind == "vector":
        return _vector(field)
    return _text


def _vector(field: Field) -> Check:
    number, length = _number(field), field.length

    def check(value: Any) -> list[float]:
        if not isinstance(value, list):
            raise Unfit(f"must be a list of {length} numbers, not {_shown(value)}")
        if len(value) != length:
            raise Unfit(f"must be a list of {length} numbers, not of {len(value)}")
        found = []
        for i, part in enumerate(value):
            try:
                found.append(number(part))
            except Unfit as reason:
                raise Unfit(f"at place {i} {reason}") from None
        return found

    return check


def _number(field: Field) -> Check:
    low, high, whole = field.ge, field.le, field.kind == "integer"

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit(f"must be a number, not {_shown(value)}")
        try:
            number = float(value)
        except OverflowError:
            raise Unfit("is too large for a number") from None
        if not math.isfinite(number):
            raise Unfit("must be a finite number")
        if whole and number != math.floor(number):
            raise Unfit(f"must be a whole number, not {_shown(value)}")
        if low is not None and number < low:
            raise Unfit(f"must be at least {low:g}, not {_shown(value)}")
        if high is not None and number > high:
            raise Unfit(f"must be at most {high:g}, not {_shown(value)}")
        return number

    return check


def _boolean(value: Any) -> float:
    if not isinstance(value, bool):
        raise Unfit(f"must be true or false, not {_shown(value)}")
    return float(value)


def _text(value: Any) -> str:
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise Unfit(f"is longer than {LONGEST_TEXT:,} characters")
        return value
    raise Unfit(f"must be text, not {_shown(value)}")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC, exactly (a float of seconds would round)."""
    since = moment - _EPOCH
    return (since.days * 86400 + since.seconds) * MICROS + since.microseconds


# A day from both ends of the calendar, so that a moment has a date in every time zone.
FIRST, LAST = micros(datetime(1, 1, 2, tzinfo=UTC)), micros(datetime(9999, 12, 30, tzinfo=UTC))


def moment(value: Any) -> int:
    """ISO 8601 text (UTC unless it says otherwise) or seconds since 1970, as microseconds since 1970."""
    found: int | None = None
    if isinstance(value, str):
        with suppress(ValueError):
            parsed = datetime.fromisoformat(value)
            found = micros(parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed)
    elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12:  # so it is neither NaN nor infinite
        found = int(value * MICROS)
    if found is None or not FIRST <= found <= LAST:
        raise Unfit(f"must be a time like 2013-04-01T12:30:00Z, not {_shown(value)}")
    return found


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not print integers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 40 else text[:37] + "..."


def fields_of(signature: Mapping[str, Any]) -> tuple[list[Field], list[Field]]:
    """(request fields, features) of a package's signature."""

    def read(entries: Sequence[Mapping[str, Any]]) -> list[Field]:
        return [Field(**{**entry, "rule": tuple(entry["rule"])}) for entry in entries]

    return read(signature["request"]), read(signature["features"])
