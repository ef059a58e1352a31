"""Messages of a stream become rows; one that does not read is a row with nothing but its place, so that it is set aside and the stream goes on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import polars as pl

from treadle.data import json_rows
from treadle.ports.source import Unparsed

PLACE, MOMENT, VALUE = "stream_id", "stream_time", "value"
WHOLE = "message"  # the column of what does not read: the whole message
_SHOWN = 200  # characters of a message that does not read


def decoded(messages: pl.DataFrame, declared: Collection[str]) -> tuple[pl.DataFrame, list[Unparsed]]:
    """The rows of messages, and those that do not read.

    Args:
        messages: `stream_id`, `stream_time`, and either `value` (bytes of a JSON object) or columns of text.
        declared: columns that keep the type their JSON has; the others come as text, so that their type does not depend on who sent first.
    """
    if VALUE not in messages.columns or messages.schema[VALUE] != pl.Binary:
        return messages, []
    objects: list[dict[str, Any]] = []
    broken: list[Unparsed] = []
    for row, data in enumerate(messages[VALUE].to_list()):
        try:
            objects.append(json_rows.decoded(b"null" if data is None else data))
        except ValueError:
            objects.append({})
            text = "(no value: a tombstone)" if data is None else data[:_SHOWN].decode("utf-8", "backslashreplace")
            broken.append(Unparsed(row, WHOLE, text, "text"))
    read = json_rows.frame(objects)
    read = read.select(c if c.name in declared else _text(c) for c in read if c.name not in (PLACE, MOMENT))
    return messages.select(PLACE, MOMENT).with_columns(read.get_columns()), broken


def _text(values: pl.Series) -> pl.Series:
    if values.dtype == pl.Boolean:
        return pl.select(pl.when(values).then(pl.lit("true")).when(~values).then(pl.lit("false")).alias(values.name)).to_series()
    return values.cast(pl.String)
