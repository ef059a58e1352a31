"""Step results as bytes and back: JSON where it can be, Parquet for frames, pickle for fitted objects of our own runs.

Pickles are read only from the project's own blob store, by the address its own ledger recorded and whose hash is checked; nothing that
came from outside is ever unpickled.
"""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

from treadle.core.errors import UsageError


def dump(value: Any) -> tuple[str, bytes]:
    """(codec, bytes) of a result. Raises UsageError when it cannot be stored."""
    if type(value).__module__.startswith("polars") and hasattr(value, "write_parquet"):
        buffer = io.BytesIO()
        value.write_parquet(buffer, compression="zstd", compression_level=1)
        return "frame", buffer.getvalue()
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        if json.loads(text) == value:  # tuples, int keys, NaN and the like would come back as something else
            return "json", text.encode()
    except (TypeError, ValueError):
        pass
    try:
        return "pickle", pickle.dumps(value, protocol=5)
    except Exception as error:
        raise UsageError(
            f"A result of type {type(value).__name__} cannot be stored: {error}", hint="Return plain values, a Polars frame, or a picklable object."
        ) from None


def load(codec: str, data: bytes) -> Any:
    """The result again."""
    if codec == "frame":
        import polars as pl

        return pl.read_parquet(io.BytesIO(data))
    if codec == "json":
        return json.loads(data)
    return pickle.loads(data)
