"""Declarations of sources are checked where they stand, and hold no secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import treadle as tr
from treadle.core.errors import ProjectError


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: tr.sql("postgresql://shop:hunter2@db/shop", table="t"), "The address holds a password"),
        (lambda: tr.sql("postgresql://shop@db/shop?password=hunter2", table="t"), "The address holds a password"),
        (lambda: tr.sql("mysql://shop:hunter2@db:3306/shop", table="t"), "The address holds a password"),
        (lambda: tr.stream("redis://:hunter2@db:6379/0", topic="t"), "The address holds a password"),
        (lambda: tr.stream("kafka://me@db:9092?sasl.password=hunter2", topic="t"), "The address holds a password"),
        (lambda: tr.sql("oracle://db/shop", table="t"), "'oracle:' is no address of such a source"),
        (lambda: tr.sql("hunter2@db", table="t"), "is no address"),
        (lambda: tr.sql("sqlite:a.db"), "needs a query or a table"),
        (lambda: tr.sql("sqlite:a.db", query="SELECT 1", table="t"), "and not both"),
        (lambda: tr.sql("sqlite:a.db", query="DELETE FROM t"), "'DELETE FROM t' is not a SELECT"),
        (lambda: tr.sql("sqlite:a.db", query="-- SELECT\nDROP TABLE t"), "is not a SELECT"),
        (lambda: tr.sql("sqlite:a.db", table="t", changed="UPDATE t SET x = 1"), "is not a SELECT"),
        (lambda: tr.sql("sqlite:a.db", table="t", overlap="10m"), "overlap needs a watermark"),
        (lambda: tr.sql("sqlite:a.db", table="t", watermark="x", overlap="ten"), "'ten' is not a length of time"),
        (lambda: tr.sql("sqlite:a.db", table="t", watermark="x", overlap=-1), "is below zero"),
        (lambda: tr.sql("sqlite:a.db", table="t", tz="Europe/Nowhere"), "There is no time zone 'Europe/Nowhere'"),
        (lambda: tr.csv("a.csv", tz="Mars"), "There is no time zone 'Mars'"),
        (lambda: tr.csv("a.csv", encoding="utf-99"), "There is no encoding 'utf-99'"),
        (lambda: tr.csv("ftp://host/a.csv"), "'ftp' is no store of files"),
        (lambda: tr.parquet("s3://bucket"), "The address of the files cannot be read"),
        (lambda: tr.stream("kafka://db:9092", topic=""), "A stream needs a topic"),
        (lambda: tr.stream("kafka://db:9092", topic="t", after_gap="ignore"), "after_gap='ignore' is not known"),
        (lambda: tr.stream("amqp://db", topic="t"), "'amqp:' is no address"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ProjectError, match=says) as caught:
        make()
    assert str(caught.value.where).startswith("test_declare_source.py:")
    assert "hunter2" not in str(caught.value).replace("'hunter2", "", 1) or "is no address" in says


@pytest.mark.parametrize(
    "url", ["postgresql://shop:${SHOP_PASSWORD}@db/shop", "env:SHOP_URL", "postgresql://shop@db/shop?password=${PW}", "postgresql:///shop", "duckdb:"]
)
def test_secrets_come_from_the_environment(url: str) -> None:
    assert tr.sql(url, table="t").options["url"] == url


@pytest.mark.parametrize("query", ["select 1", " (SELECT 1)", "WITH a AS (SELECT 1) SELECT * FROM a", "-- why\nSELECT 1", "/* why */ VALUES (1)", "TABLE t"])
def test_what_reads_is_taken(query: str) -> None:
    assert tr.sql("sqlite:a.db", query=query + " ;\n").options["query"] == query.strip()
