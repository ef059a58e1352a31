"""The predictions of one request as one entry of a log: columns, packed once, whose ids follow from one base and the row's place.

A request of a thousand rows costs a log one entry instead of a thousand. Nothing is worked out for a row before somebody reads it: then a block
gives its rows as the predictions they are.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Callable, Collection, Iterable, Sequence
from struct import Struct
from typing import Any

import msgspec

from treadle.ports.predictions import Prediction

_encode = msgspec.json.Encoder().encode
_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode


class Block(msgspec.Struct, frozen=True, array_like=True, tag="block", kw_only=True, gc=False):
    """The answers of one request: by one version, or by two that were asked about the same rows. All its moments are of one day.

    Args:
        base: the id of row i is 'base.i'; a new id of its own (`core.ids.new_id`).
        count: rows the request had.
        moments: of all rows, or of each (int64, packed). answered, micros: as of a prediction, of all.
        outputs: float64, row after row, of `width` numbers each; other_outputs the same of the other version.
        swapped: a byte a row that is 1 where the caller heard the other version; empty where all heard this one.
        inputs, features: JSON arrays with an entry a row; or Arrow IPC streams, where `arrow` says so.
        fields: where an entry of the inputs is an array: what its values are called.
        names: where `features` is empty: the features are these fields of the inputs.
        places: of the rows that are left, where some were erased.
    """

    base: str
    model: str
    count: int
    moments: int | bytes
    answered: int
    version: int
    variant: str
    width: int
    outputs: bytes
    other_version: int = 0
    other_variant: str = ""
    other_width: int = 0
    other_outputs: bytes = b""
    swapped: bytes = b""
    inputs: bytes
    features: bytes = b""
    fields: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    arrow: bool = False
    micros: int = 0
    places: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return self.count if self.places is None else len(self.places)

    @property
    def rows(self) -> Sequence[int]:
        """The places of its rows."""
        return range(self.count) if self.places is None else self.places

    @property
    def ids(self) -> list[str]:
        """The ids of its rows."""
        base = self.base
        return [f"{base}.{place}" for place in self.rows]

    @property
    def span(self) -> tuple[int, int]:
        """The least and the greatest moment of its rows."""
        moments = self.moments
        if isinstance(moments, int):
            return moments, moments
        each = array("q", moments)
        return min(each), max(each)

    def predictions(self, at: Sequence[int] | None = None) -> list[Prediction]:
        """Its rows, or those at some positions of what is left."""
        size = len(self)
        at = range(size) if at is None else at
        moments: Sequence[int] = [self.moments] * size if isinstance(self.moments, int) else array("q", self.moments)
        said, other = _rows(self.outputs, self.width, size), _rows(self.other_outputs, self.other_width, size)
        inputs, features = self._of_arrow(at) if self.arrow else self._of_json(at)
        model, answered, micros, base, places = self.model, self.answered, self.micros, self.base, self.rows
        here, there = (self.version, self.variant), (self.other_version, self.other_variant)
        found = []
        for i, asked, computed in zip(at, inputs, features):
            if self.swapped and self.swapped[i]:
                (number, variant), output, silent, unheard = there, other(i), here[0], said(i)
            else:
                (number, variant), output, silent, unheard = here, said(i), there[0], other(i)
            id = f"{base}.{places[i]}"
            found.append(Prediction(id, model, moments[i], answered, number, variant, output, silent, unheard, asked, computed, micros))
        return found

    def place(self, id: str) -> int | None:
        """The position of an id among what is left."""
        base, _, place = id.rpartition(".")
        if base != self.base or not place.isascii() or not place.isdigit() or f"{int(place)}" != place:
            return None
        number, rows = int(place), self.rows
        return (rows.index(number) if isinstance(rows, tuple) else number) if number in rows else None

    def _of_json(self, at: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        raw = _raw(self.inputs)
        inputs = [bytes(raw[i]) for i in at]
        sent: list[dict[str, Any]] = []
        if self.fields:
            sent = [dict(zip(self.fields, _decode(row))) for row in inputs]
            inputs = [_encode(row) for row in sent]
        elif not self.features:
            sent = [_decode(row) for row in inputs]
        if not self.features:
            return inputs, [_encode([row.get(name) for name in self.names]) for row in sent]
        computed = _raw(self.features)
        return inputs, [bytes(computed[i]) for i in at]

    def _of_arrow(self, at: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
        import polars as pl

        said: pl.DataFrame = pl.read_ipc_stream(io.BytesIO(self.inputs))
        computed: pl.DataFrame = pl.read_ipc_stream(io.BytesIO(self.features)) if self.features else said.select(self.names)
        if len(at) < len(self):
            said, computed = said[list(at)], computed[list(at)]
        return [_encode(row) for row in said.to_dicts()], [_encode(row) for row in computed.rows()]

    def without(self, ids: Collection[str]) -> Block | None:
        """The same without some of its rows, of which no byte is left; None when that is nothing."""
        places = [place for place, id in zip(self.rows, self.ids) if id not in ids]
        if len(places) == len(self):
            return self
        if not places:
            return None
        left = set(places)
        at = [i for i, place in enumerate(self.rows) if place in left]
        rows = self.predictions()
        moments = self.moments if isinstance(self.moments, int) else array("q", [rows[i].moment for i in at]).tobytes()
        return msgspec.structs.replace(
            self, moments=moments, outputs=_taken(self.outputs, 8 * self.width, at),
            other_outputs=_taken(self.other_outputs, 8 * self.other_width, at), swapped=_taken(self.swapped, 1, at),
            inputs=b"[%b]" % b",".join([rows[i].inputs for i in at]), features=b"[%b]" % b",".join([rows[i].features for i in at]), names=(),
            fields=(), arrow=False, places=tuple(places),
        )  # fmt: skip


def each(entries: Iterable[Prediction | Block]) -> list[Prediction]:
    """The predictions of entries, in their order."""
    found: list[Prediction] = []
    for entry in entries:
        if isinstance(entry, Block):
            found += entry.predictions()
        else:
            found.append(entry)
    return found


def _rows(packed: bytes, width: int, count: int) -> Callable[[int], tuple[float, ...]]:
    if not width:
        return lambda i: ()
    unpack = Struct(f"<{width}d").unpack_from
    return lambda i: unpack(packed, 8 * width * i)


def _taken(packed: bytes, size: int, at: Sequence[int]) -> bytes:
    return b"".join([packed[i * size : (i + 1) * size] for i in at]) if packed else b""
