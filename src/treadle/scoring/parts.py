"""One part of the rows: read, answered, written; in this process or in another one, here or on another machine that sees the same folders.

A part is there whole or not at all: its file is renamed into place, then its count of rows and its digest are, so what a killed scoring had finished
is known and is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from treadle.assemble import formats, tree_scorer
from treadle.core.declare.data import View
from treadle.core.errors import DataError, StorageError
from treadle.serving.batch import Batch
from treadle.serving.loaded import Loaded
from treadle.serving.recalibration import Recalibration

PART_ROWS = 250_000
ROW = "row"  # where nothing names a row, its number does


@dataclass(frozen=True)
class Part:
    """Rows [start, start + count) of a file; `first` is the number of its first row among all."""

    number: int
    path: str
    start: int
    count: int
    first: int


@dataclass(frozen=True)
class Job:
    """What all parts of a scoring share. It can be pickled.

    Args:
        package: folder of the opened package, and its manifest.
        views: each with the Parquet file of its history.
        keep: columns of the rows that go into the output beside the answers; all of them if it is ('*',).
        sent: view features that are taken from the rows' own columns.
        about: what the output says of itself, in its Parquet metadata.
        recalibration: the state that answers are given through, as JSON.
    """

    package: str
    manifest: Mapping[str, Any]
    number: int
    views: tuple[tuple[View, str], ...]
    now: datetime
    keep: tuple[str, ...]
    sent: tuple[str, ...]
    text: bool
    folder: str
    about: Mapping[str, str]
    recalibration: Mapping[str, Any] | None = None


_opened: dict[str, Batch] = {}  # of a worker: what the parts of one scoring share


def batch_of(job: Job) -> Batch:
    """The version with its histories, opened once a process."""
    if job.folder not in _opened:
        _opened.clear()
        loaded = Loaded(Path(job.package), job.manifest, formats(), job.number)
        loaded.recalibration = Recalibration.from_json(job.recalibration) if job.recalibration else None
        histories = [(view, pl.read_parquet(path, glob=False)) for view, path in job.views]
        quick = tree_scorer(Path(job.package), dict(job.manifest["model"]))
        _opened[job.folder] = Batch(loaded, histories, now=job.now, sent=job.sent, quick=quick)
    return _opened[job.folder]


def parts_of(files: Sequence[Path], rows: int = PART_ROWS) -> list[Part]:
    """Files cut into parts, in order."""
    parts: list[Part] = []
    first = 0
    for path in files:
        total = int(pl.scan_parquet(path, glob=False).select(pl.len()).collect().item())
        for start in range(0, total, rows):
            count = min(rows, total - start)
            parts.append(Part(len(parts), str(path), start, count, first))
            first += count
    return parts


def place_of(job: Job, part: Part) -> Path:
    return Path(job.folder) / f"part-{part.number:05}.parquet"


def finished(job: Job, part: Part) -> dict[str, Any] | None:
    """What is known of a part that was written whole: {'rows', 'refused', 'sha256', 'bytes'}; None for one that was not, or was changed since."""
    place = place_of(job, part)
    try:
        said: dict[str, Any] = json.loads(place.with_suffix(".json").read_bytes())
        if place.stat().st_size == said["bytes"] and digest_of(place) == said["sha256"] and said["of"] == [part.start, part.count, part.first]:
            return said
    except (OSError, ValueError, KeyError):
        pass
    return None


def score_part(job: Job, part: Part) -> dict[str, Any]:
    """Answer a part's rows and write them. Raises DataError, StorageError, Corrupt."""
    place = place_of(job, part)
    batch = batch_of(job)
    scan = pl.scan_parquet(part.path, glob=False)
    there = scan.collect_schema().names()
    keep = there if job.keep == ("*",) else [c for c in job.keep if c != ROW or ROW in there]
    wanted = list(dict.fromkeys([*keep, *(f for f in batch.fields if f in there)]))
    rows = scan.slice(part.start, part.count).select(wanted or pl.all()).collect()
    answered = batch.answer(rows, text=job.text)
    if part.number == 0:
        batch.agree(answered)
    made = [*answered.answers.get_columns(), answered.refused, pl.repeat(job.number, rows.height, dtype=pl.Int32, eager=True).alias("version")]
    clash = sorted({c.name for c in made} & set(keep))
    if clash:
        raise DataError(f"The rows have a column {clash[0]!r}, as the answers do.", hint="Leave it out with --keep, or rename it.")
    kept = [rows[c] for c in keep]
    if ROW in job.keep and ROW not in there:
        kept.insert(0, pl.int_range(part.first, part.first + rows.height, eager=True).alias(ROW))
    out = pl.DataFrame([*kept, *made])
    unfinished = place.with_name(f".{place.name}.{os.getpid()}")
    with writing(place.parent, f"Part {part.number}"), cleared(unfinished):
        with unfinished.open("wb") as file:
            out.write_parquet(file, compression="lz4", metadata=dict(job.about))
            file.flush()
            os.fsync(file.fileno())
        said = {
            "of": [part.start, part.count, part.first], "rows": rows.height, "refused": int(answered.refused.is_not_null().sum()),
            "sha256": digest_of(unfinished), "bytes": unfinished.stat().st_size,
            "example": next(iter(answered.refused.drop_nulls().head(1)), ""),
        }  # fmt: skip
        os.replace(unfinished, place)
        _write(place.with_suffix(".json"), json.dumps(said).encode())
    return said


@contextmanager
def writing(where: Path, what: str) -> Iterator[None]:
    """A disk that is full or broken, in our words; what the system says comes through Polars in its own."""
    try:
        yield
    except (OSError, pl.exceptions.PolarsError) as error:
        found = re.search(r"os error (\d+)", str(error))
        number = error.errno if isinstance(error, OSError) else int(found[1]) if found else None
        if number is None:
            raise
        hint = "Free some space; the same command goes on from what is finished."
        raise StorageError(f"{what} cannot be written: {os.strerror(number)}.", where=str(where), hint=hint) from None


@contextmanager
def cleared(path: Path) -> Iterator[None]:
    """Nothing is left of a file that was not renamed into place."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)
