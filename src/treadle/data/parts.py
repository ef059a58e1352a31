"""Files in parts: CSV cut where a record ends, Parquet a number of rows at a time, so that no more than a part is in memory."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from treadle.core.declare.data import Dataset
from treadle.core.errors import DataError
from treadle.data.csv_text import missing_as_null, split_fields
from treadle.data.source_files import LocalFiles

SLICE = 1 << 17  # rows of Parquet in a part


def parts(dataset: Dataset, folder: Path, size: int) -> Iterator[tuple[pl.DataFrame, float]]:
    """The files of a source in frames as they are read, none empty, each with the share of all bytes that is read by then.

    Args:
        size: bytes of CSV in a part.
    Raises: DataError when a file has other columns than those before it, or does not read.
    """
    files = LocalFiles(folder)
    columns: list[str] | None = None
    listed = files.listed(dataset.source.path)
    done, total = 0, max(1, sum(file.size for file in listed))
    for file in listed:
        with files.fetched(file) as path:
            for frame, share in _csv(path, dataset, size) if dataset.source.kind == "csv" else _parquet(path):
                if columns is None:
                    columns = frame.columns
                elif set(columns) != set(frame.columns):
                    raise DataError(f"{file.name} has other columns than the files before it.", where=file.name, hint="Give them the same columns.")
                if frame.height:
                    yield frame.select(columns), (done + share * file.size) / total
        done += file.size


def _parquet(path: Path) -> Iterator[tuple[pl.DataFrame, float]]:
    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        total = int(scan.select(pl.len()).collect().item())
        for start in range(0, total, SLICE):
            yield scan.slice(start, SLICE).collect(), min(1.0, (start + SLICE) / total)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"The file does not parse: {str(error).splitlines()[0]}", where=path.name) from None


def _csv(path: Path, dataset: Dataset, size: int) -> Iterator[tuple[pl.DataFrame, float]]:
    """The file in parts that end where a record ends, each read as a file with the same header."""
    options = dataset.source.options
    header, line, bytes_ = "", 1, max(1, path.stat().st_size)
    for text, read in _texts(path, str(options.get("encoding", "")), size):
        frame = split_fields(header + text, options["separator"], path.name, before=line - 1 - header.count("\n"))
        if not header:
            header = _first_record(text)
        line += text.count("\n")
        yield missing_as_null(frame, options["null_values"]), min(1.0, read / bytes_)


def _first_record(text: str) -> str:
    """The text up to the end of its first record that holds anything."""
    end = text.find("\n", len(text) - len(text.lstrip("\n")))
    while end >= 0 and text.count('"', 0, end) % 2:
        end = text.find("\n", end + 1)
    return text[: end + 1] if end >= 0 else text + "\n"


def _texts(path: Path, encoding: str, size: int) -> Iterator[tuple[str, int]]:
    """Pieces of a text that end after a line break outside of quotes, and how many bytes were read by then."""
    decoder = codecs.getincrementaldecoder(encoding or "utf-8-sig")()
    waiting, limit = "", 16 * size
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) and not encoding:
            decoder = codecs.getincrementaldecoder("utf-16")()
        file.seek(0)
        while data := file.read(size):
            try:
                waiting += decoder.decode(data)
            except UnicodeDecodeError as error:
                raise DataError(
                    f"Around byte {file.tell() - len(data) + error.start:,} it is not {encoding or 'UTF-8'}.", where=path.name,
                    hint="A file this large is read in parts, and its encoding has to be said: tr.csv(..., encoding='cp1252').",
                ) from None  # fmt: skip
            if "\r" in waiting:
                held = waiting.endswith("\r")
                waiting = waiting[: len(waiting) - held].replace("\r\n", "\n").replace("\r", "\n") + "\r" * held
            end = _record_end(waiting)
            if end:
                yield waiting[:end], file.tell()
                waiting = waiting[end:]
            elif len(waiting) > limit:
                raise DataError(f"A record of more than {limit:,} characters.", where=path.name, hint="Is a quote opened and never closed?")
    waiting += decoder.decode(b"", final=True)
    if waiting.strip("\r\n"):
        yield waiting.replace("\r", "\n"), path.stat().st_size


def _record_end(text: str) -> int:
    """Where the last whole record ends: after a line break with an even number of quotes before it; 0 if there is none."""
    quotes, end = text.count('"'), len(text)
    while (at := text.rfind("\n", 0, end)) >= 0:
        quotes -= text.count('"', at, end)
        if quotes % 2 == 0:
            return at + 1
        end = at
    return 0
