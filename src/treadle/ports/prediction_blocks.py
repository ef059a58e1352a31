"""The predictions of one request as one entry of a log: columns, packed once, whose ids follow from one base and the row's place.

A request of a thousand rows costs a log one entry instead of a thousand. Nothing is worked out for a row before somebody reads it: then a block
gives its rows as the predictions they are.
"""

from __future__ import annotations

import io
from array import array
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.ports.predictions import Prediction

if TYPE_CHECKING:
    import polars as pl

_encode = msgspec.json.Encoder().encode
_raw = msgspec.json.Decoder(list[msgspec.Raw]).decode
_objects = msgspec.json.Decoder(list[dict[str, Any]]).decode


class Block(msgspec.Struct, frozen=True, array_like=True, tag="block", kw_only=True, gc=False):
    """The answers of one request: by one version, or by two that were asked about the same rows. All its moments are of one day.

    Args:
        base: the id of row i is 'base.i'; a new id of its own (`core.ids.new_id`).
        count: rows the request had.
        moments: of all rows, or of each (int64, packed). answered, micros: as of a prediction, of all.
        outputs: float64, row after row, of `width` numbers each; other_outputs the same of the other version.
        swapped: a byte a row that is 1 where the caller heard the other version; empty where all heard this one.
        inputs, features: JSON arrays with an entry a row; or Arrow IPC streams, where `arrow` says so.
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

    def predictions(self) -> list[Prediction]:
        """Its rows."""
        size = len(self)
        moments: Sequence[int] = [self.moments] * size if isinstance(self.moments, int) else array("q", self.moments)
        said, other = _rows(self.outputs, self.width, size), _rows(self.other_outputs, self.other_width, size)
        if self.arrow:
            inputs, features = _of_arrow(self.inputs, self.features, self.names)
        else:
            inputs = [bytes(raw) for raw in _raw(self.inputs)]
            if self.features:
                features = [bytes(raw) for raw in _raw(self.features)]
            else:
                features = [_encode([row.get(name) for name in self.names]) for row in _objects(self.inputs)]
        model, answered, micros = self.model, self.answered, self.micros
        here, there = (self.version, self.variant), (self.other_version, self.other_variant)
        found = []
        for i, id in enumerate(self.ids):
            if self.swapped and self.swapped[i]:
                (number, variant), output, silent, unheard = there, other[i], here[0], said[i]
            else:
                (number, variant), output, silent, unheard = here, said[i], there[0], other[i]
            found.append(Prediction(id, model, moments[i], answered, number, variant, output, silent, unheard, inputs[i], features[i], micros))
        return found

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
            arrow=False, places=tuple(places),
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


def _rows(packed: bytes, width: int, count: int) -> Sequence[tuple[float, ...]]:
    if not width:
        return [()] * count
    values = memoryview(packed).cast("d")
    return [tuple(values[i : i + width]) for i in range(0, width * count, width)]


def _taken(packed: bytes, size: int, at: Sequence[int]) -> bytes:
    return b"".join([packed[i * size : (i + 1) * size] for i in at]) if packed else b""


def _of_arrow(inputs: bytes, features: bytes, names: Sequence[str]) -> tuple[list[bytes], list[bytes]]:
    import polars as pl

    said: pl.DataFrame = pl.read_ipc_stream(io.BytesIO(inputs))
    computed: pl.DataFrame = pl.read_ipc_stream(io.BytesIO(features)) if features else said.select(names)
    return [_encode(row) for row in said.to_dicts()], [_encode(row) for row in computed.rows()]
