"""Reading a million rows of a database: CPU seconds and peak memory of a process that does only that, ours beside the plain driver.

    python benchmarks/sources.py

PostgreSQL and MariaDB are started for it on a free port; SQLite and DuckDB are files in a temporary folder. Both sides give the same frame, which is
checked by its sums.
"""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROWS = 1_000_000
TABLE = "CREATE TABLE orders (id {big}, name varchar(40), amount double precision, price decimal(12, 2), paid boolean, seen_at {moment})"
SELECT = "SELECT {n}, {name}, {n} * 0.25, {n} * 0.01, {n} % 2 = 0, {moment} FROM {series}"


def fill(kind: str, folder: Path) -> str:
    """A table of rows, and the address it is read from."""
    from treadle.testing import servers

    if kind == "postgresql":
        import psycopg

        with psycopg.connect(servers.postgres_url(), autocommit=True) as connection:
            connection.execute(TABLE.format(big="bigint", moment="timestamptz"))
            moment = "timestamptz '2024-01-01' + n * interval '1 second'"
            connection.execute(
                "INSERT INTO orders "
                + SELECT.format(n="n", name="'customer ' || n % 1000", moment=moment, series=f"generate_series(0, {ROWS - 1}) n")
            )
        return servers.postgres_url()
    if kind == "mariadb":
        import pymysql

        port = servers.mariadb().port
        with (
            pymysql.connect(host="127.0.0.1", port=port, user="treadle", password="secret %@/", database="treadle", autocommit=True) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute(TABLE.format(big="bigint", moment="datetime"))
            moment = "timestampadd(second, seq, '2024-01-01')"
            cursor.execute(
                "INSERT INTO orders " + SELECT.format(n="seq", name="concat('customer ', seq % 1000)", moment=moment, series=f"seq_0_to_{ROWS - 1}")
            )
        os.environ["BENCH_PASSWORD"] = "secret %@/"
        return f"mariadb://treadle:${{BENCH_PASSWORD}}@127.0.0.1:{port}/treadle"
    if kind == "duckdb":
        import duckdb

        with duckdb.connect(str(folder / "shop.duckdb")) as connection:
            connection.execute(TABLE.format(big="bigint", moment="timestamp"))
            moment = "timestamp '2024-01-01' + to_seconds(range)"
            connection.execute(
                "INSERT INTO orders " + SELECT.format(n="range", name="'customer ' || range % 1000", moment=moment, series=f"range({ROWS})")
            )
        return "duckdb:shop.duckdb"
    with sqlite3.connect(folder / "shop.db") as connection:
        connection.execute(TABLE.format(big="INTEGER", moment="timestamp"))
        series = f"(WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < {ROWS - 1}) SELECT n FROM s)"
        moment = "datetime(1704067200 + n, 'unixepoch')"
        connection.execute("INSERT INTO orders " + SELECT.format(n="n", name="'customer ' || n % 1000", moment=moment, series=series))
    return "sqlite:shop.db"


def ours(url: str, folder: Path) -> object:
    import treadle as tr
    from treadle.backends.catalog import open_source
    from treadle.data import sources

    dataset = tr.Project("p").dataset("orders", source=tr.sql(url, table="orders"), key="id")
    return sources.extract(dataset, folder, None, lambda source: open_source(source, folder)).frame


def plain(url: str, folder: Path) -> object:
    """The driver's fetchall, and a frame of it: what a function of a few lines does."""
    import polars as pl

    if url.startswith("postgresql"):
        import psycopg

        with psycopg.connect(url) as connection:
            cursor = connection.execute("SELECT * FROM orders")
            names, rows = [c.name for c in cursor.description or []], cursor.fetchall()
    elif url.startswith("mariadb"):
        import pymysql

        port = int(url.rpartition("@")[2].partition("/")[0].rpartition(":")[2])
        with pymysql.connect(host="127.0.0.1", port=port, user="treadle", password="secret %@/", database="treadle") as link, link.cursor() as cursor:
            cursor.execute("SELECT * FROM orders")
            names, rows = [c[0] for c in cursor.description], cursor.fetchall()
    elif url.startswith("duckdb"):
        import duckdb

        with duckdb.connect(str(folder / "shop.duckdb"), read_only=True) as link:
            cursor = link.execute("SELECT * FROM orders")
            names, rows = [c[0] for c in cursor.description or []], cursor.fetchall()
    else:
        with sqlite3.connect(folder / "shop.db") as link:
            cursor = link.execute("SELECT * FROM orders")
            names, rows = [c[0] for c in cursor.description], cursor.fetchall()
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def main() -> None:
    if len(sys.argv) > 1:
        which, url, folder = sys.argv[1:]
        before = resource.getrusage(resource.RUSAGE_SELF)
        frame = {"ours": ours, "plain": plain}[which](url, Path(folder))
        used = resource.getrusage(resource.RUSAGE_SELF)
        cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
        print(json.dumps({"cpu": cpu, "mb": used.ru_maxrss / 1024, "rows": frame.height, "sum": frame["id"].sum() + frame["amount"].sum()}))  # type: ignore[attr-defined]
        return
    print("| database | ours, CPU s | ours, peak MB | fetchall, CPU s | fetchall, peak MB |\n|---|---|---|---|---|")
    for kind in ("postgresql", "mariadb", "sqlite", "duckdb"):
        with tempfile.TemporaryDirectory() as folder:
            url = fill(kind, Path(folder))
            said = {}
            for which in ("ours", "plain"):
                done = subprocess.run([sys.executable, __file__, which, url, folder], capture_output=True, text=True, check=True)
                said[which] = json.loads(done.stdout)
            assert said["ours"]["rows"] == said["plain"]["rows"] == ROWS
            assert said["ours"]["sum"] == said["plain"]["sum"]
            cells = [f"{said[which][what]:.{digits}f}" for which in ("ours", "plain") for what, digits in (("cpu", 1), ("mb", 0))]
            print(f"| {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
