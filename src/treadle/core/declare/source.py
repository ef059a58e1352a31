"""Declarations of sources: where the rows of a data set come from.

An address never holds a secret. It names the environment variable that does, `postgresql://shop:${SHOP_PASSWORD}@db.example.org/shop`, or is one
itself, `env:SHOP_URL`; what the variables say is read when the source is opened, and is not recorded, shown or logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from treadle.core.declare.place import here, length
from treadle.core.errors import ProjectError

FILES = ("csv", "parquet", "jsonl")
OBJECTS = ("s3", "gs", "az")
DATABASES = ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "duckdb")
BROKERS = ("redis", "rediss", "kafka")

_READS = re.compile(r"(?:\s|\(|--[^\n]*\n|/\*.*?\*/)*(select|with|values|table|from)\b", re.IGNORECASE | re.DOTALL)
_NAMED = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*\}")
_SECRET = re.compile(r"pass|secret|token|sig$|credential|(access|account|api)_?key", re.IGNORECASE)


@dataclass(frozen=True)
class Source:
    """Where rows come from. Made by `csv`, `parquet`, `jsonl`, `sql`, `stream` or `rows`; opened by the data room."""

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
    encoding: str = "",
    tz: str = "UTC",
) -> Source:
    """Rows of CSV files with a header line.

    Args:
        path: of a file or a pattern like 'data/*.csv', relative to the project folder; or 's3://bucket/data/*.csv', 'gs://...', 'az://...'.
            Files of one pattern must have the same columns.
        decimal_comma: numbers are written 1.234,5 and not 1,234.5.
        encoding: of the text, if it is neither UTF-8, UTF-16 with its mark, nor Windows Latin.
        tz: the time zone of moments that name none.
    """
    options: dict[str, Any] = {"separator": separator, "null_values": null_values, "decimal_comma": decimal_comma}
    if encoding:
        options["encoding"] = _encoding(encoding)
    return Source("csv", path=_path(path), options={**options, **_zone(tz)})


def parquet(path: str, *, tz: str = "UTC") -> Source:
    """Rows of a Parquet file, or of all files a pattern like 'data/*.parquet' matches; also 's3://...', 'gs://...', 'az://...'."""
    return Source("parquet", path=_path(path), options=_zone(tz))


def jsonl(path: str, *, tz: str = "UTC") -> Source:
    """Rows of files with one JSON object a line. `path` and `tz` as in `csv`. Objects and lists within a row come as JSON text."""
    return Source("jsonl", path=_path(path), options=_zone(tz))


def files(path: str) -> Source:
    """Files themselves, images for example: a row each with `path`, `address`, `bytes`, `media_type`, `modified`; a version keeps their bytes.

    Args:
        path: a file or a pattern like 'images/**/*.png', relative to the project folder. The data set's key is 'path'.
    """
    return Source("files", path=_path(path))


def rows(function: Callable[[], Any], *, package: str = "") -> Source:
    """Rows returned by a function (a Polars DataFrame or LazyFrame, or a list of dicts).

    Args:
        function: takes nothing. It is read again when its code, or a project function it reaches, changes.
        package: the installed package whose files it reads, if any; a new version of it is new data.
    """
    return Source("rows", function=function, package=package)


def sql(
    url: str,
    *,
    query: str = "",
    table: str = "",
    watermark: str = "",
    overlap: str | timedelta | int = 0,
    whole_every: str | timedelta | None = None,
    changed: str = "",
    timeout: str | timedelta = "1h",
    tz: str = "UTC",
) -> Source:
    """Rows of a table or a query of a PostgreSQL, MariaDB, MySQL, SQLite or DuckDB database, read in one consistent snapshot.

    Args:
        url: 'postgresql://user:${PASSWORD}@host/database', 'mysql://...', 'mariadb://...', 'sqlite:shop.db', 'duckdb:shop.duckdb', or 'env:NAME'.
        watermark: a column that grows whenever a row is added or changed. Then only rows at or after the last one seen are read.
        overlap: how far behind the last one seen to read again, for rows that were committed late; a span, or a number if the watermark is one.
        whole_every: read everything again after this time, so that deleted rows go.
        changed: a cheap query whose answer changes when the rows do, if neither a watermark nor the database can tell.
        timeout: how long the database may take for one statement.
        tz: the time zone of moments that the database keeps without one.
    """
    place = here()
    _address(url, DATABASES, place)
    if bool(query) == bool(table):
        raise ProjectError("A source of rows from a database needs a query or a table, and not both.", where=place, hint="Write table='orders'.")
    for text in filter(None, (query, changed)):
        if not _READS.match(text):
            raise ProjectError(
                f"The query {_short(text)!r} is not a SELECT.", where=place, hint="A source only reads: write SELECT ..., WITH ..., or table=..."
            )
    back = overlap if isinstance(overlap, int) else length(overlap).total_seconds()
    if overlap and not watermark:
        raise ProjectError("overlap needs a watermark.", where=place, hint="Name the column that grows: watermark='updated_at'.")
    if back < 0:
        raise ProjectError(f"overlap={overlap} is below zero.", where=place, hint="Write for example '10m'.")
    options = {
        "url": url, "query": query.strip().rstrip(";").rstrip(), "table": table, "watermark": watermark, "overlap": back,
        "overlap_is_time": not isinstance(overlap, int), "whole_every": length(whole_every).total_seconds() if whole_every else 0,
        "changed": changed.strip().rstrip(";").rstrip(), "timeout": length(timeout).total_seconds(), **_zone(tz),
    }  # fmt: skip
    return Source("sql", options=options)


def stream(
    url: str,
    *,
    topic: str,
    field: str = "",
    most_rows: int = 1_000_000,
    most_megabytes: float = 256,
    within: str | timedelta = "10m",
    after_gap: str = "refuse",
    tz: str = "UTC",
) -> Source:
    """Rows from the messages of a Redis stream or of a Kafka topic: what is there when reading starts, from where the last version ended.

    A message holds a JSON object, or (Redis) fields. Each row also has `stream_id` (where the message lies) and `stream_time` (when the broker
    got it). Columns that the contract does not name come as text. A message that does not read is set aside with its `stream_id`.

    Args:
        url: 'redis://:${PASSWORD}@host:6379/0', 'rediss://...', 'kafka://host:9092,other:9092?security.protocol=SSL' (queries go to librdkafka).
        topic: the topic, or the key of the Redis stream.
        field: the field of a Redis entry that holds a JSON object; without it the entry's fields are the columns.
        most_rows, most_megabytes, within: how much one version may take in, and for how long to read; the rest comes with the next.
        after_gap: 'refuse' to go on when the broker has dropped messages that were never read, or 'go_on' with those that are left.
    """
    place = here()
    _address(url, BROKERS, place)
    if not topic:
        raise ProjectError("A stream needs a topic.", where=place, hint="Write topic='orders'.")
    if after_gap not in ("refuse", "go_on"):
        raise ProjectError(f"after_gap={after_gap!r} is not known.", where=place, hint="Write 'refuse' or 'go_on'.")
    if most_rows < 1 or most_megabytes <= 0:
        raise ProjectError("most_rows and most_megabytes must be above zero.", where=place)
    options = {
        "url": url, "topic": topic, "field": field, "most_rows": most_rows, "most_bytes": int(most_megabytes * 1e6),
        "within": length(within).total_seconds(), "after_gap": after_gap, **_zone(tz),
    }  # fmt: skip
    return Source("stream", options=options)


def _zone(tz: str) -> dict[str, Any]:
    if tz == "UTC":
        return {}
    from zoneinfo import ZoneInfo  # it loads much

    try:
        ZoneInfo(tz)
    except (ValueError, OSError, KeyError):
        raise ProjectError(f"There is no time zone {tz!r}.", where=here(), hint="Write for example 'Europe/Warsaw' or 'UTC'.") from None
    return {"tz": tz}


def _encoding(name: str) -> str:
    try:
        "".encode(name)
    except LookupError:
        raise ProjectError(f"There is no encoding {name!r}.", where=here(), hint="Write for example 'cp1250' or 'utf-8'.") from None
    return name


def _path(path: str) -> str:
    scheme, found, rest = path.partition("://")
    if found:
        if scheme not in OBJECTS:
            raise ProjectError(
                f"{_short(scheme)!r} is no store of files.", where=here(), hint=f"Known are {', '.join(f'{s}://bucket/file' for s in OBJECTS)}."
            )
        bucket, _, key = rest.partition("/")
        if not bucket or not key or "@" in bucket:
            raise ProjectError(
                "The address of the files cannot be read.",
                where=here(),
                hint=f"Write {scheme}://bucket/folder/*.parquet; keys go into the environment.",
            )
    return path


def _address(url: str, schemes: tuple[str, ...], place: str) -> None:
    """Refuse, in the project file, an address that is unknown or that holds a secret in so many letters."""
    scheme, colon, rest = url.partition(":")
    if scheme == "env" and rest.isidentifier():
        return
    if not colon or scheme not in schemes:
        raise ProjectError(
            f"{scheme.partition('@')[0][:20] + colon!r} is no address of such a source.", where=place,
            hint=f"Known are {', '.join(f'{s}:' for s in schemes)} and env:NAME.",
        )  # fmt: skip
    try:
        parts = urlsplit(_NAMED.sub("x0", url))  # a variable's name would be taken for a port or a query
        given = urlsplit(url)
        password = parts.password or ""
        secrets = [value for name, value in parse_qsl(given.query) if _SECRET.search(name)]
    except ValueError:
        raise ProjectError("The address cannot be read.", where=place, hint=f"Write {scheme}://user:${{PASSWORD}}@host/name.") from None
    written = password and not _NAMED.search(given.netloc.rpartition("@")[0].partition(":")[2])
    if written or any(not _NAMED.search(value) for value in secrets):
        raise ProjectError(
            "The address holds a password.",
            where=place,
            hint=f"Name the environment variable that holds it: {scheme}://user:${{PASSWORD}}@host/name.",
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else line[:57] + "..."
