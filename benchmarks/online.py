"""The online store: what a read costs here, in the bare drivers, and in Feast; and filling it from ten million rows.

    python benchmarks/online.py [--only reads,fill] [--json FILE]

reads   3 views, 15 features, in process, 1 and 100 entities: CPU microseconds a read, the lowest of five rounds, all answers equal
fill    10,000,000 rows in Parquet to 121,000 keys: CPU seconds and the peak of memory of the process, and what lies on the disk

Redis and PostgreSQL are real servers on this machine, from Debian's packages; their own CPU is not counted. Feast has its own environment in
benchmarks/.environments/feast, made on first use (this needs a package index). Every figure is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FEAST = HERE / ".environments" / "feast"
VIEWS, FEATURES, ENTITIES = 3, 5, 10_000
ROWS, KEYS = 10_000_000, 121_000
REPEATS = {1: 2000, 100: 100}
GOALS = {"raw": 3.0, 1: 8.0, 100: 14.0}
MOMENT = datetime.now(UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="reads,fill")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--child", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print("\n" + json.dumps(CHILDREN[given.child[0]](*given.child[1:])))
        return
    from treadle.testing import servers

    found: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"}
    with tempfile.TemporaryDirectory(prefix="bench-online-") as temporary:
        folder = Path(temporary)
        if "reads" in given.only:
            make_views(folder)
            stores = {
                "sqlite": str(folder / "online.db"), "redis": servers.redis_url(prefix="bench:"), "postgres": servers.postgres_url(schema="bench"),
            }  # fmt: skip
            for kind, address in stores.items():
                child("put", folder, kind, address)
            python = feast_python()
            feast = {"sqlite": "sqlite", "redis": f"127.0.0.1:{servers.redis().port},db=5"}
            found["reads"] = [reads(folder, count, stores, feast, python) for count in REPEATS]
            for row in found["reads"]:
                show(row)
        if "fill" in given.only:
            make_rows(folder, given.rows)
            found["fill"] = child("fill", folder)
            f = found["fill"]
            print(f"fill: {given.rows:,} rows to {f['written']:,} keys: {f['cpu']:.2f} CPU s, peak {f['peak']:.0f} MB ({f['before']:.0f} MB before), "
                  f"{f['bytes'] / 1e6:.1f} MB on the disk; all values as a sort of all rows has them: {f['right']}")  # fmt: skip
    if given.json:
        given.json.write_text(json.dumps(found, indent=1))


def reads(folder: Path, count: int, stores: dict[str, str], feast: dict[str, str], python: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"entities": count}
    answers = {}
    for kind, address in stores.items():
        for who in ("raw", "ours"):
            told = child("read", folder, who, kind, address, count)
            row[f"{who} {kind}"], answers[f"{who} {kind}"] = told["micros"], told["answer"]
    for kind, address in feast.items():
        command = [str(python), str(HERE / "feast" / "online_reads.py"), str(folder), address, str(count), str(max(5, REPEATS[count] // 10))]
        told = ended(subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": str(folder)}))
        row[f"feast {kind}"], answers[f"feast {kind}"] = told["micros"], told["answer"]
    first = next(iter(answers.values()))
    row["equal"] = all(answer == first for answer in answers.values())
    return row


def show(row: dict[str, Any]) -> None:
    count = row["entities"]
    print(f"read of {count} entit{'y' if count == 1 else 'ies'}, CPU us (all answers equal: {row['equal']})")
    for kind in ("sqlite", "redis", "postgres"):
        raw, ours, feast = row[f"raw {kind}"], row[f"ours {kind}"], row.get(f"feast {kind}")
        against = f"; Feast {feast:,.0f}, {feast / ours:.1f} times ours (goal {GOALS[count]:g})" if feast else ""
        print(f"  {kind:9} driver {raw:7.1f}   ours {ours:7.1f}, {ours / raw:.2f} times the driver (goal {GOALS['raw']:g}){against}")


# --- in processes of their own


def views() -> list[Any]:
    import treadle as tr

    project = tr.Project("bench")
    return [
        project.view(
            f"view_{v}", entity="driver", features=[f"f{v}_{i}" for i in range(FEATURES)], ttl="3650d",
            source=project.dataset(f"rows_{v}", source=tr.parquet(f"view_{v}.parquet"), key="driver", event_time="event_timestamp"),
        )
        for v in range(VIEWS)
    ]  # fmt: skip


def opened(kind: str, address: str) -> Any:
    from treadle.backends.catalog import open_backend

    return open_backend("online", f"sqlite:///{address}" if kind == "sqlite" else address)


def put(folder: str, kind: str, address: str) -> dict[str, Any]:
    """Fill our store, and a table for the bare driver: one packed value a view and entity in both."""
    import msgspec
    import polars as pl

    from treadle.features.latest import latest
    from treadle.features.online import packed

    store = opened(kind, address)
    raw = bare(kind, address)
    for view in views():
        frame = pl.read_parquet(Path(folder) / f"{view.name}.parquet")
        store.put_many(packed(view, latest(view, frame.lazy(), MOMENT)))
        encode = msgspec.msgpack.Encoder().encode
        raw.fill(view.name, [(str(row[0]), encode(row[2:])) for row in frame.iter_rows()])
    return {}


def read(folder: str, who: str, kind: str, address: str, count: str) -> dict[str, Any]:
    n = int(count)
    entities = [i * 7 % ENTITIES for i in range(n)]
    call: Callable[[], Any]
    if who == "ours":
        from treadle.features.online import look_up

        store, declared, asked = opened(kind, address), views(), [{"driver": e} for e in entities]

        def call() -> Any:
            return look_up(store, declared, asked, MOMENT)

        def shown(answer: Any) -> Any:
            return [[value for view in declared for value in found[view.name].values.values()] for found in answer]
    else:
        raw, names, texts = bare(kind, address), [f"view_{v}" for v in range(VIEWS)], [str(e) for e in entities]

        def call() -> Any:
            return raw.read(names, texts)

        def shown(answer: Any) -> Any:
            return [[value for name in names for value in answer[name, text]] for text in texts]

    repeats = REPEATS[n]
    for _ in range(max(10, repeats // 10)):
        answer = call()
    best = float("inf")
    for _ in range(5):
        begun = time.process_time_ns()
        for _ in range(repeats):
            answer = call()
        best = min(best, (time.process_time_ns() - begun) / repeats / 1000)
    return {"micros": best, "answer": shown(answer)}


def bare(kind: str, address: str) -> Any:
    return {"sqlite": BareSqlite, "redis": BareRedis, "postgres": BarePostgres}[kind](address)


class BareSqlite:
    """What somebody would write by hand: one table in WAL mode, a select for one entity, IN for many; values unpacked."""

    def __init__(self, address: str) -> None:
        import sqlite3

        import msgspec

        self._db = sqlite3.connect(address + ".bare", isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._decode = msgspec.msgpack.Decoder().decode

    def fill(self, view: str, rows: list[tuple[str, bytes]]) -> None:
        self._db.execute("CREATE TABLE IF NOT EXISTS latest (view TEXT, entity TEXT, packed BLOB, PRIMARY KEY (view, entity)) WITHOUT ROWID")
        self._db.execute("BEGIN")
        self._db.executemany("INSERT INTO latest VALUES (?, ?, ?)", ((view, *row) for row in rows))
        self._db.execute("COMMIT")

    def read(self, views: list[str], entities: list[str]) -> dict[tuple[str, str], Any]:
        found = {}
        if len(entities) == 1:
            for view in views:
                for (packed,) in self._db.execute("SELECT packed FROM latest WHERE view = ? AND entity = ?", (view, entities[0])):
                    found[view, entities[0]] = self._decode(packed)
            return found
        among = f"SELECT entity, packed FROM latest WHERE view = ? AND entity IN ({', '.join('?' * len(entities))})"
        for view in views:
            for entity, packed in self._db.execute(among, (view, *entities)):
                found[view, entity] = self._decode(packed)
        return found


class BareRedis:
    """One MGET of packed values."""

    def __init__(self, address: str) -> None:
        import msgspec
        import redis

        self._redis = redis.Redis.from_url(address.partition("?")[0])
        self._decode = msgspec.msgpack.Decoder().decode

    def fill(self, view: str, rows: list[tuple[str, bytes]]) -> None:
        with self._redis.pipeline() as together:
            for entity, packed in rows:
                together.set(f"bare:{view}:{entity}", packed)
            together.execute()

    def read(self, views: list[str], entities: list[str]) -> dict[tuple[str, str], Any]:
        keys = [(view, entity) for view in views for entity in entities]
        return {key: self._decode(packed) for key, packed in zip(keys, self._redis.mget([f"bare:{v}:{e}" for v, e in keys]))}


class BarePostgres:
    """One prepared statement with an array of keys."""

    def __init__(self, address: str) -> None:
        import msgspec
        import psycopg

        self._db = psycopg.connect(address.partition("?")[0], autocommit=True)
        self._decode = msgspec.msgpack.Decoder().decode

    def fill(self, view: str, rows: list[tuple[str, bytes]]) -> None:
        self._db.execute("CREATE TABLE IF NOT EXISTS public.bare (key text PRIMARY KEY, packed bytea)")
        with self._db.cursor() as cursor:
            cursor.executemany("INSERT INTO public.bare VALUES (%s, %s)", [(f"{view}:{entity}", packed) for entity, packed in rows])

    def read(self, views: list[str], entities: list[str]) -> dict[tuple[str, str], Any]:
        keys = [f"{view}:{entity}" for view in views for entity in entities]
        rows = self._db.execute("SELECT key, packed FROM public.bare WHERE key = ANY(%s)", (keys,), prepare=True)
        return {tuple(key.split(":")): self._decode(packed) for key, packed in rows}  # type: ignore[misc]


def fill(folder: str) -> dict[str, Any]:
    import polars as pl

    import treadle as tr
    from treadle.features.latest import latest
    from treadle.features.online import packed
    from treadle.features.online import read as read_value
    from treadle.wheel.materialise import CHUNK

    project = tr.Project("bench")
    rows = project.dataset("rows", source=tr.parquet("rows/*.parquet"), key="id", event_time="event", known_time="known")
    view = project.view("stats", source=rows, entity="driver", features=[f"f{i}" for i in range(FEATURES)], ttl="3650d")
    store = opened("sqlite", str(Path(folder) / "fill.db"))
    scan = pl.scan_parquet(str(Path(folder) / "rows" / "*.parquet"))
    scan.head(1).collect()
    before, begun = peak(), time.process_time()
    entries = packed(view, latest(view, scan, MOMENT))
    written = 0
    while chunk := list(islice(entries, CHUNK)):
        written += store.put_many(chunk)
    store.compact()
    cpu, most = time.process_time() - begun, peak()
    store.close()
    size = sum(f.stat().st_size for f in Path(folder).glob("fill.db*"))
    held = {entity: read_value(value, value.time) for entity, value in opened("sqlite", str(Path(folder) / "fill.db")).scan("stats")}
    whole = scan.filter(pl.col("known") <= MOMENT).sort("event", "known").unique("driver", keep="last").collect()
    right = len(held) == whole.height and all(
        held[str(d)] == list(features) for d, *features in whole.select("driver", *view.features).iter_rows()
    )
    return {"written": written, "cpu": cpu, "peak": most, "before": before, "bytes": size, "right": right}


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


CHILDREN: dict[str, Callable[..., dict[str, Any]]] = {"put": put, "read": read, "fill": fill}


def child(what: str, folder: Path, *words: object) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", what, str(folder), *map(str, words)]
    return ended(subprocess.run(command, capture_output=True, text=True))


def ended(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(done.args)} ended with {done.returncode}:\n{done.stderr[-3000:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


# --- data


def make_views(folder: Path) -> None:
    import numpy as np
    import polars as pl

    for v in range(VIEWS):
        rng = np.random.default_rng(v)
        at = pl.Series([MOMENT - timedelta(minutes=int(m)) for m in rng.integers(60, 1000, ENTITIES)]).cast(pl.Datetime("us", "UTC"))
        features = {f"f{v}_{i}": rng.normal(size=ENTITIES) for i in range(FEATURES)}
        pl.DataFrame({"driver": range(ENTITIES), "event_timestamp": at, **features}).write_parquet(folder / f"view_{v}.parquet")


def make_rows(folder: Path, count: int, parts: int = 10) -> None:
    """Rows in the order they became known, up to an hour after their event."""
    import numpy as np
    import polars as pl

    (folder / "rows").mkdir()
    size = count // parts
    for p in range(parts):
        rng = np.random.default_rng(p)
        known = int(MOMENT.timestamp() * 1e6) - (count - np.arange(p * size, (p + 1) * size)) * 1_000_000
        event = known - rng.integers(0, 3_600_000_000, size)
        times = {"event": pl.Series(event).cast(pl.Datetime("us", "UTC")), "known": pl.Series(known).cast(pl.Datetime("us", "UTC"))}
        features = {f"f{i}": rng.normal(size=size) for i in range(FEATURES)}
        pl.DataFrame({"driver": rng.integers(0, KEYS, size), **times, **features}).write_parquet(folder / "rows" / f"{p:02d}.parquet")


def feast_python() -> Path:
    """Feast's environment, made if it is not there as its requirements say."""
    wanted = (HERE / "feast" / "requirements.txt").read_bytes()
    mark, digest = FEAST / ".requirements", hashlib.sha256(wanted).hexdigest()
    python = FEAST / "bin" / "python"
    if not mark.exists() or mark.read_text() != digest:
        print("making Feast's environment", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FEAST)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--compile", "-r", str(HERE / "feast" / "requirements.txt")], check=True)
        mark.write_text(digest)
    return python


if __name__ == "__main__":
    main()
