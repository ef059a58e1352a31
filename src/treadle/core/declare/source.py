"""Declarations of sources: where the rows of a data set come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Source:
    """Where rows come from. Made by `csv`, `parquet` or `rows`; opened by the data room."""

    kind: str
    path: str = ""
    function: Callable[[], Any] | None = None
    package: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def csv(
    path: str,
    *,
    separator: str = ",",
    null_values: tuple[str, ...] = ("", "NA", "N/A", "NULL", "null", "NaN"),
    decimal_comma: bool = False,
) -> Source:
    """Rows of a CSV file with a header line. `path` is relative to the project folder.

    Args:
        decimal_comma: numbers are written 1.234,5 and not 1,234.5.
    """
    return Source("csv", path=path, options={"separator": separator, "null_values": null_values, "decimal_comma": decimal_comma})


def parquet(path: str) -> Source:
    """Rows of a Parquet file, or of all files a pattern like 'data/*.parquet' matches."""
    return Source("parquet", path=path)


def rows(function: Callable[[], Any], *, package: str = "") -> Source:
    """Rows returned by a function (a Polars DataFrame or LazyFrame, or a list of dicts).

    Args:
        function: takes nothing. It is read again when its code, or a project function it reaches, changes.
        package: the installed package whose files it reads, if any; a new version of it is new data.
    """
    return Source("rows", function=function, package=package)
