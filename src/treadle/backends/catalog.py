"""Which class stands behind which address: strings until one is asked for, so that nothing is imported in vain.

    >>> open_backend("notifier", "file:///var/log/treadle/alarms.jsonl")         # doctest: +SKIP
    >>> open_backend("tables", "delta:tables", blobs=open_backend("blobs", "memory:"))  # doctest: +SKIP

An address is `scheme:` followed by nothing, by a path (`sqlite:///srv/ledger.db` is absolute, `sqlite:.treadle/ledger.db` relative;
%20 and the like are decoded) or by a host (`webhook+https://hooks.example.org/x`), which is handed on whole, without `webhook+`. So is an address
of PostgreSQL, which may leave out everything.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from treadle.core.declare.source import Source
from treadle.core.errors import UsageError

CATALOG: dict[str, dict[str, str]] = {
    "ledger": {
        "sqlite": "treadle.backends.sqlite_ledger:SqliteLedger",
        "postgresql": "treadle.backends.postgres_ledger:PostgresLedger",
        "postgres": "treadle.backends.postgres_ledger:PostgresLedger",
        "memory": "treadle.backends.memory_ledger:MemoryLedger",
    },
    "blobs": {
        "file": "treadle.backends.file_blobs:FileBlobs",
        "s3": "treadle.backends.s3_blobs:S3Blobs",
        "memory": "treadle.backends.memory_blobs:MemoryBlobs",
    },
    "tables": {
        "delta": "treadle.backends.delta_tables:DeltaTables",
        "delta+s3": "treadle.backends.delta_tables:DeltaTables",
    },
    "online": {
        "sqlite": "treadle.backends.sqlite_online:SqliteOnline",
        "redis": "treadle.backends.redis_online:RedisOnline",
        "rediss": "treadle.backends.redis_online:RedisOnline",
        "postgresql": "treadle.backends.postgres_online:PostgresOnline",
        "postgres": "treadle.backends.postgres_online:PostgresOnline",
        "memory": "treadle.backends.memory_online:MemoryOnline",
    },
    "source": {
        "postgresql": "treadle.backends.postgres_source:PostgresSource",
        "postgres": "treadle.backends.postgres_source:PostgresSource",
        "mysql": "treadle.backends.mysql_source:MysqlSource",
        "mariadb": "treadle.backends.mysql_source:MysqlSource",
        "sqlite": "treadle.backends.sqlite_source:SqliteSource",
        "duckdb": "treadle.backends.duckdb_source:DuckdbSource",
        "redis": "treadle.backends.redis_source:RedisSource",
        "rediss": "treadle.backends.redis_source:RedisSource",
        "kafka": "treadle.backends.kafka_source:KafkaSource",
        "s3": "treadle.backends.object_files:ObjectFiles",
        "gs": "treadle.backends.object_files:ObjectFiles",
        "az": "treadle.backends.object_files:ObjectFiles",
    },
    "predictions": {
        "sqlite": "treadle.backends.sqlite_predictions:SqlitePredictions",
        "postgresql": "treadle.backends.postgres_predictions:PostgresPredictions",
        "postgres": "treadle.backends.postgres_predictions:PostgresPredictions",
        "memory": "treadle.backends.memory_predictions:MemoryPredictions",
    },
    "executor": {
        "inprocess": "treadle.backends.inprocess:InProcessExecutor",
        "processes": "treadle.backends.process_pool:ProcessPool",
        "ray": "treadle.backends.ray_executor:RayExecutor",
    },
    "notifier": {
        "file": "treadle.backends.file_notifier:FileNotifier",
        "webhook+http": "treadle.backends.webhook_notifier:WebhookNotifier",
        "webhook+https": "treadle.backends.webhook_notifier:WebhookNotifier",
        "console": "treadle.backends.console_notifier:ConsoleNotifier",
        "log": "treadle.backends.log_notifier:LogNotifier",
        "smtp": "treadle.backends.email_notifier:EmailNotifier",
        "smtps": "treadle.backends.email_notifier:EmailNotifier",
        "apprise": "treadle.backends.apprise_notifier:AppriseNotifier",
        "alertmanager+http": "treadle.backends.alertmanager_notifier:AlertmanagerNotifier",
        "alertmanager+https": "treadle.backends.alertmanager_notifier:AlertmanagerNotifier",
    },
}

_WHOLE = ("postgresql", "postgres", "redis", "rediss", "s3", "apprise")


def open_source(source: Source, folder: Path) -> Any:
    """What reaches a declared source: its connector, or the files of its store. Raises UsageError, DataError."""
    from treadle.backends.source_address import scheme_of

    return _backend("source", scheme_of(source.options.get("url") or source.path) + ":")(source, folder)


def open_backend(port: str, url: str, **parts: Any) -> Any:
    """The backend behind an address, opened. `parts` are other backends it is made of, by name. Raises UsageError."""
    backend = _backend(port, url)
    scheme, _, rest = url.partition(":")
    return backend(*_location(scheme, rest), **parts)


def _backend(port: str, url: str) -> Any:
    if port not in CATALOG:
        raise UsageError(f"There is no port {port!r}.", hint=f"Known are {', '.join(sorted(CATALOG))}.")
    scheme, colon, _ = url.partition(":")
    known = CATALOG[port]
    if not colon or scheme not in known:
        raise UsageError(f"{scheme + colon!r} is no address of a {port}.", hint=f"Known are {', '.join(f'{name}:' for name in sorted(known))}")
    module, _, name = known[scheme].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "treadle":
            raise
        raise UsageError(f"{scheme!r} needs the package {error.name}, which is not installed.", hint="Install it and try again.") from error


def _location(scheme: str, rest: str) -> tuple[str, ...]:
    if scheme in _WHOLE:
        return (f"{scheme}:{rest}",)
    if not rest.strip("/"):
        return ()
    if rest.startswith("//") and not rest.startswith("///"):
        return (f"{scheme.rpartition('+')[2]}:{rest}",)
    return (unquote("/" + rest.lstrip("/") if rest.startswith("/") else rest),)
