"""Step results as bytes and back: JSON where it can be, Parquet for frames, pickle for fitted objects of our own runs.

Bytes go into the blob store while they are made, and are hashed on the way. Pickles are read only from the project's own blob store, by the
address its own ledger recorded and whose hash is checked; nothing that came from outside is ever unpickled. The result of a fan-out is a list
of the addresses of its tasks' results: what they returned is not copied. Rows that need not fit into memory are `Filed`: a step writes them into the
blob store itself, and whoever takes them gets the path of a Parquet file.
"""

from __future__ import annotations

import io
import json
import pickle
from dataclasses import dataclass
from typing import Any, BinaryIO

from treadle.core.errors import UsageError
from treadle.ports.blobs import Blobs

LIST = "list"
FILE = "parquet"


@dataclass(frozen=True)
class Filed:
    """Rows that a step put into the blob store as one Parquet file. They are never loaded here; their result is the file's path."""

    address: str


def store(value: Any, blobs: Blobs, step: str = "") -> tuple[str, str]:
    """Store a result; returns (codec, address). Raises UsageError when it cannot be stored."""
    if isinstance(value, Filed):
        return FILE, value.address
    if _is_frame(value):
        frame = value.rechunk()  # equal rows are equal bytes, however the frame came about

        def write(file: BinaryIO) -> None:
            frame.write_parquet(file, compression="lz4")

        try:
            return "frame", blobs.put(write)
        except Exception as error:
            if not _cannot_write(error):
                raise
    text = as_json(value)
    if text is not None:
        return "json", blobs.put(text)

    def dump(file: BinaryIO) -> None:
        try:
            pickle.dump(value, file, protocol=5)
        except OSError:
            raise
        except Exception as error:
            raise UsageError(
                f"A result of type {type(value).__name__} cannot be stored: {error}", where=f"step {step!r}" if step else None,
                hint="Return plain values, a Polars frame, or an object that can be pickled (defined at the top level of a module).",
            ) from None  # fmt: skip

    return "pickle", blobs.put(dump)


def store_list(parts: list[tuple[str, str]], blobs: Blobs) -> tuple[str, str]:
    """Store the result of a fan-out, given (codec, address) of each task's."""
    return LIST, blobs.put(json.dumps(parts).encode())


def load(codec: str, address: str, blobs: Blobs) -> Any:
    """The result again; of `Filed` rows the path of the file, which is not read. Raises NotFound or Corrupt."""
    if codec == FILE:
        return blobs.path(address)
    return decode(codec, blobs.get(address), blobs)


def decode(codec: str, data: bytes, blobs: Blobs) -> Any:
    """A result from its bytes."""
    if codec == "frame":
        import polars as pl

        return pl.read_parquet(io.BytesIO(data))
    if codec == "json":
        return json.loads(data)
    if codec == LIST:
        return [load(codec, part, blobs) for codec, part in json.loads(data)]
    return pickle.loads(data)


def parts(address: str, blobs: Blobs) -> list[tuple[str, str]]:
    """(codec, address) of each element of a fan-out's result."""
    return [(codec, part) for codec, part in json.loads(blobs.get(address))]


def as_json(value: Any) -> bytes | None:
    """`value` as JSON if it comes back as the same; tuples, whole numbers as keys, NaN and the like would come back as something else."""
    try:
        text = json.dumps(value, separators=(",", ":"))
        return text.encode() if _same(json.loads(text), value) else None
    except (TypeError, ValueError, RecursionError):
        return None


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(v, b[k]) for k, v in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b))
    return bool(a == b)


def _is_frame(value: Any) -> bool:
    return type(value).__module__.startswith("polars") and type(value).__name__ == "DataFrame"


def _cannot_write(error: Exception) -> bool:
    """Columns of Python objects have no place in Parquet; such a frame is pickled."""
    return type(error).__module__.startswith("polars") or type(error).__name__ == "PanicException"
