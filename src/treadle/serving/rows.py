"""From a request's bytes straight to typed rows: a type compiled from the model's signature, so that reading JSON is also checking it.

What it takes, `requests.Parser` takes too, with the same values. What it does not take, the parser is asked about: it says why, field by field,
or takes it after all (a field sent twice, for example).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType

from treadle.core.errors import UsageError
from treadle.core.schema import Field
from treadle.serving.requests import LONGEST_TEXT, Parser, Unfit, moment

Row = Any  # a msgspec.Struct made by `Reader`
MOST_ROWS = 10_000  # of one request
NOT_JSON = 'Send for example {"field": 1}.'
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Reader:
    """Reads rows of one model.

    Args:
        request: the fields a caller may send.
        features: the model's features; those from views may be sent too, and then are not looked up.
        moment_field: the field that says what moment a row is of, or None.
    """

    def __init__(self, request: Sequence[Field], features: Sequence[Field], moment_field: str | None = None) -> None:
        self.parser = Parser(request, features)
        named = {f.name: f for f in request}
        optional = [f for f in features if f.source == "view" and f.name not in named]
        fields = [*request, *optional]
        self._attribute = {f.name: f"f{i}" for i, f in enumerate(fields)}
        nullable = {f.name: f.nullable for f in request} | {f.name: True for f in optional}
        declared = [
            (self._attribute[f.name], _type(f) | None | UnsetType, UNSET) if nullable[f.name] else (self._attribute[f.name], _type(f)) for f in fields
        ]
        self._type = msgspec.defstruct(
            "Row", cast(Any, declared), rename={a: n for n, a in self._attribute.items()}, kw_only=True, forbid_unknown_fields=True
        )
        rows = Annotated[list[self._type], Meta(max_length=MOST_ROWS)]  # type: ignore[name-defined]
        many = msgspec.defstruct("Rows", [("rows", rows), ("ids", list[str] | None, None)], forbid_unknown_fields=True)
        self._one = msgspec.json.Decoder(self._type).decode
        self._many = msgspec.json.Decoder(many).decode
        self._times = tuple(self._attribute[f.name] for f in fields if f.kind == "timestamp")
        self._booleans = tuple(self._attribute[f.name] for f in fields if f.kind == "boolean")
        self._moment = self._attribute.get(moment_field) if moment_field is not None else None
        self._begins = b'{"rows"' if "rows" not in self._attribute else b"\0"  # how a body of many rows begins
        self.names = tuple(self._attribute)
        self.all_values = self.columns(self.names)  # UNSET where a field was not sent

    def read(self, body: bytes) -> tuple[list[Row], list[Any] | None, bool]:
        """The rows of a body `{...}` or `{"rows": [...], "ids": [...]}`; the ids if there are any (not checked); whether it was of the second kind.

        Raises: UsageError when it is not JSON; InvalidRequest naming the row and its fields.
        """
        for read in (self._read_many, self._read_one) if body[:16].lstrip().startswith(self._begins) else (self._read_one, self._read_many):
            try:
                return read(body)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, Unfit):
                pass
        whole = json_of(body)
        if isinstance(whole, dict) and isinstance(whole.get("rows"), list):
            if len(whole["rows"]) > MOST_ROWS:
                raise too_many(len(whole["rows"]))
            return self.rows(whole["rows"]), whole.get("ids"), True
        return self.rows([whole]), None, False

    def _read_one(self, body: bytes) -> tuple[list[Row], list[Any] | None, bool]:
        return self._settled([self._one(body)]), None, False

    def _read_many(self, body: bytes) -> tuple[list[Row], list[Any] | None, bool]:
        found: Any = self._many(body)
        return self._settled(found.rows), found.ids, True

    def rows(self, rows: Sequence[Any]) -> list[Row]:
        """Rows given as objects. Raises: InvalidRequest naming the row and its fields."""
        many = len(rows) > 1
        return self.typed([self.parser.parse(row, f"row {i}" if many else "") for i, row in enumerate(rows)])

    def objects(self, rows: Sequence[Any]) -> list[Row]:
        """The same as `rows`, quicker for many that fit: they may hold nothing that JSON has no word for."""
        try:
            return self._settled(msgspec.convert(rows, list[self._type]))  # type: ignore[name-defined]
        except (msgspec.ValidationError, Unfit, RecursionError, ValueError, OverflowError):
            return self.rows(rows)

    def typed(self, parsed: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Rows of values that the parser gave."""
        known = self._attribute
        return [self._type(**{known[name]: value for name, value in values.items()}) for values in parsed]

    def columns(self, names: Sequence[str]) -> Callable[[Row], tuple[Any, ...]]:
        """A function that takes the values of some fields out of a row, in order; UNSET where a field was not sent, always for one that cannot be."""
        known = [self._attribute.get(name) for name in names]
        if None in known:
            return lambda row: tuple(UNSET if a is None else getattr(row, a) for a in known)
        if not known:
            return lambda row: ()
        get = attrgetter(*cast("list[str]", known))
        return get if len(known) > 1 else lambda row: (get(row),)

    def values(self, row: Row) -> dict[str, Any]:
        """What was sent, by field."""
        found = dict(zip(self.names, self.all_values(row)))
        if UNSET in found.values():
            return {name: value for name, value in found.items() if value is not UNSET}
        return found

    def moments(self, rows: Sequence[Row], now: int) -> list[int]:
        """What moment each row is of, in microseconds since 1970 UTC: `now` where it does not say, which is then written into the row."""
        field = self._moment
        if field is None:
            return [now] * len(rows)
        moments = []
        for row in rows:
            at = getattr(row, field)
            if at is None or at is UNSET:
                setattr(row, field, now)
                at = now
            moments.append(at)
        return moments

    def _settled(self, rows: list[Row]) -> list[Row]:
        """Moments as microseconds, truth as 0.0 or 1.0: what JSON has no type for."""
        for name in self._times:
            for row in rows:
                value = getattr(row, name)
                if value is not UNSET and value is not None:
                    setattr(row, name, moment(value))
        for name in self._booleans:
            for row in rows:
                value = getattr(row, name)
                if value is True or value is False:
                    setattr(row, name, float(value))
        return rows


def inputs_json(row: Row) -> bytes:
    """What was sent, as JSON: fields that were not sent are left out."""
    return _encode(row)


def too_many(rows: int) -> UsageError:
    """The error of a request with more rows than one may have."""
    return UsageError(f"{rows:,} rows in one request are more than {MOST_ROWS:,}.", hint="Send fewer at a time.")


def json_of(body: bytes) -> Any:
    """A body as JSON. Raises UsageError."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"The body is not JSON: {str(error)[:200]}", hint=NOT_JSON) from None


def _type(field: Field) -> Any:
    if field.kind == "number":
        return Annotated[float, Meta(ge=field.ge, le=field.le)]
    if field.kind == "integer":
        return Annotated[float, Meta(ge=field.ge, le=field.le, multiple_of=1)]
    if field.kind == "boolean":
        return bool
    if field.kind == "timestamp":
        return str | int | float
    if field.kind == "vector":
        return Annotated[list[Annotated[float, Meta(ge=field.ge, le=field.le)]], Meta(min_length=field.length, max_length=field.length)]
    return Annotated[str, Meta(max_length=LONGEST_TEXT)]
