"""Bodies in Arrow's IPC stream format: rows in, answers out. Polars reads and writes them, and is imported with the first.

Before a body is given to Polars its messages are looked through: how many rows they say they have, and that nothing is compressed. So what is read
takes no more memory than what was sent. Source of the layout: https://arrow.apache.org/docs/format/Columnar.html#encapsulated-message-format and
Message.fbs there; of the tables: https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from treadle.core.errors import UsageError
from treadle.serving.answers import Answered
from treadle.serving.column_requests import AnsweredColumns, Columns, read_columns
from treadle.serving.loaded import Loaded
from treadle.serving.rows import MOST_ROWS, Row, too_many
from treadle.web.api.exchange import Response

if TYPE_CHECKING:
    import polars as pl

STREAM = "application/vnd.apache.arrow.stream"
HEADERS = [("content-type", STREAM)]
RECORD_BATCH, DICTIONARY = 3, 2
MOST_MESSAGES = 1000
_HINT = "Send one uncompressed Arrow IPC stream, a column a field."


def frame_of(body: bytes) -> pl.DataFrame:
    """The columns of a body. Raises: UsageError."""
    check(body)
    import polars as pl

    try:
        frame = pl.read_ipc_stream(io.BytesIO(body))
    except BaseException as error:  # a panic of the reader is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise UsageError(f"The body is not an Arrow stream: {str(error)[:200]}", hint=_HINT) from None
    if frame.height > MOST_ROWS:
        raise too_many(frame.height)
    return frame


def read(body: bytes, loaded: Loaded, now: int) -> Columns | list[Row]:
    """What a body asks: as columns where that can be, else as typed rows. Raises: UsageError, InvalidRequest."""
    frame = frame_of(body)
    columns = read_columns(frame, loaded, now)
    return rows_of(frame, loaded) if columns is None else columns


def rows_of(frame: pl.DataFrame, loaded: Loaded) -> list[Row]:
    """Columns as typed rows. Raises: UsageError, InvalidRequest."""
    import polars as pl

    columns: list[Any] = []
    infinite = False
    for column in frame.iter_columns():
        dtype = column.dtype
        if dtype.is_float():
            column = column.cast(pl.Float64).fill_nan(None)
            infinite = infinite or bool(column.is_infinite().any())
        elif dtype.base_type() in (pl.Categorical, pl.Enum):
            column = column.cast(pl.String)
        elif dtype == pl.Date or dtype.base_type() == pl.Datetime:
            zone = getattr(dtype, "time_zone", None)
            moments = column.cast(pl.Datetime("us")) if dtype == pl.Date else column.dt.convert_time_zone("UTC") if zone else column
            column = moments.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
        elif not (dtype.is_integer() or dtype in (pl.String, pl.Boolean, pl.Null)):
            raise UsageError(f"Column {column.name[:100]!r} holds {dtype}, which no field takes.", hint=_HINT)
        columns.append(column)
    rows = pl.DataFrame(columns).to_dicts()
    return loaded.reader.rows(rows) if infinite else loaded.reader.objects(rows)


def show(answered: Answered) -> Response:
    """Columns id, version, prediction; probability (binary); one for each label, named 'p:' and the label; missing views if any are."""
    import polars as pl

    heard = [answered.heard(i) for i in range(len(answered))]
    loaded = heard[0][0]
    columns: dict[str, Sequence[Any]] = {
        "id": list(answered.ids), "version": [version.number for version, _ in heard], "prediction": [body.prediction for body in answered.bodies()],
    }  # fmt: skip
    if loaded.task == "binary":
        columns["probability"] = [output[1] for _, output in heard]
    if loaded.task != "regression":
        for i, label in enumerate(loaded.label_texts):
            columns[f"p:{label}"] = [output[i] for _, output in heard]
    if answered.missing is not None:
        columns["missing"] = [",".join(missing) for missing in answered.missing]
    out = io.BytesIO()
    pl.DataFrame(columns, strict=False).write_ipc_stream(out)
    return 200, HEADERS, out.getvalue()


def show_columns(answered: AnsweredColumns) -> Response:
    """The same columns."""
    import polars as pl

    loaded, outputs = answered.champion, answered.outputs
    columns = [pl.Series("id", answered.ids), pl.Series("version", np.full(len(answered), loaded.number))]
    if loaded.task == "regression":
        columns.append(pl.Series("prediction", outputs[:, 0]))
    else:
        columns.append(pl.Series("prediction", loaded.labels).gather(outputs.argmax(axis=1)))
        if loaded.task == "binary":
            columns.append(pl.Series("probability", np.ascontiguousarray(outputs[:, 1])))
        columns += [pl.Series(f"p:{label}", np.ascontiguousarray(outputs[:, i])) for i, label in enumerate(loaded.label_texts)]
    out = io.BytesIO()
    pl.DataFrame(columns).write_ipc_stream(out)
    return 200, HEADERS, out.getvalue()


def check(body: bytes) -> None:
    """That the messages fit into the body, hold at most MOST_ROWS rows together, and are not compressed. Raises: UsageError."""
    try:
        at, rows, size = 0, 0, len(body)
        for _ in range(MOST_MESSAGES):
            if at + 4 > size:
                return
            (length,) = struct.unpack_from("<i", body, at)
            at += 4
            if length == -1:
                (length,) = struct.unpack_from("<i", body, at)
                at += 4
            if length == 0:
                return
            if length < 0 or at + length > size:
                raise ValueError("a message is longer than the body")
            message = _Table(memoryview(body)[at : at + length])
            kind, content = message.byte(1), message.long(3)
            at += length + content
            if content < 0 or at > size:
                raise ValueError("a message is longer than the body")
            if kind in (RECORD_BATCH, DICTIONARY):
                batch = message.table(2)
                if kind == DICTIONARY:
                    batch = batch.table(1)
                if batch.has(3):
                    raise ValueError("it is compressed")
                rows += batch.long(0)
                if not 0 <= batch.long(0) <= MOST_ROWS or rows > 3 * MOST_ROWS:
                    raise too_many(max(rows, batch.long(0)))
        raise ValueError(f"it has more than {MOST_MESSAGES:,} messages")
    except (struct.error, ValueError, IndexError) as error:
        raise UsageError(f"The body is not an Arrow stream that is read here: {error}.", hint=_HINT) from None


class _Table:
    """A FlatBuffers table, as far as it is needed."""

    def __init__(self, buffer: memoryview, at: int = -1) -> None:
        self._buffer = buffer
        self._at = struct.unpack_from("<I", buffer, 0)[0] if at < 0 else at
        (back,) = struct.unpack_from("<i", buffer, self._at)
        self._fields = self._at - back
        if self._fields < 0:
            raise ValueError("a table lies outside its message")
        (self._size,) = struct.unpack_from("<H", buffer, self._fields)

    def has(self, field: int) -> bool:
        return self._where(field) > 0

    def byte(self, field: int) -> int:
        at = self._where(field)
        return int(self._buffer[at]) if at else 0

    def long(self, field: int) -> int:
        at = self._where(field)
        return int(struct.unpack_from("<q", self._buffer, at)[0]) if at else 0

    def table(self, field: int) -> _Table:
        at = self._where(field)
        if not at:
            raise ValueError("a message has no content")
        return _Table(self._buffer, at + int(struct.unpack_from("<I", self._buffer, at)[0]))

    def _where(self, field: int) -> int:
        entry = 4 + 2 * field
        if entry + 2 > self._size:
            return 0
        (offset,) = struct.unpack_from("<H", self._buffer, self._fields + entry)
        return self._at + offset if offset else 0
