"""Which class stands behind which address: strings until one is asked for, so that nothing is imported in vain.

    >>> open_backend("notifier", "file:///var/log/treadle/alarms.jsonl")         # doctest: +SKIP
    >>> open_backend("tables", "parquet:", blobs=open_backend("blobs", "memory:"))  # doctest: +SKIP

An address is `scheme:` followed by nothing, by a path (`sqlite:///srv/ledger.db` is absolute, `sqlite:.treadle/ledger.db` relative;
%20 and the like are decoded) or by a host (`webhook+https://hooks.example.org/x`), which is handed on whole, without `webhook+`. So is an address
of PostgreSQL, which may leave out everything.
"""

from __future__ import annotations

import importlib
from typing import Any
from urllib.parse import unquote

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
        "parquet": "treadle.backends.parquet_tables:ParquetTables",
    },
    "online": {
        "sqlite": "treadle.backends.sqlite_online:SqliteOnline",
        "memory": "treadle.backends.memory_online:MemoryOnline",
    },
    "predictions": {
        "sqlite": "treadle.backends.sqlite_predictions:SqlitePredictions",
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
    },
}

_WHOLE = ("postgresql", "postgres", "s3")


def open_backend(port: str, url: str, **parts: Any) -> Any:
    """The backend behind an address, opened. `parts` are other backends it is made of, by name. Raises UsageError."""
    if port not in CATALOG:
        raise UsageError(f"There is no port {port!r}.", hint=f"Known are {', '.join(sorted(CATALOG))}.")
    scheme, colon, rest = url.partition(":")
    known = CATALOG[port]
    if not colon or scheme not in known:
        raise UsageError(f"{scheme + colon!r} is no address of a {port}.", hint=f"Known are {', '.join(f'{name}:' for name in sorted(known))}")
    module, _, name = known[scheme].partition(":")
    try:
        backend = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "treadle":
            raise
        raise UsageError(f"{scheme!r} needs the package {error.name}, which is not installed.", hint="Install it and try again.") from error
    return backend(*_location(scheme, rest), **parts)


def _location(scheme: str, rest: str) -> tuple[str, ...]:
    if scheme in _WHOLE:
        return (f"{scheme}:{rest}",)
    if not rest.strip("/"):
        return ()
    if rest.startswith("//") and not rest.startswith("///"):
        return (f"{scheme.rpartition('+')[2]}:{rest}",)
    return (unquote("/" + rest.lstrip("/") if rest.startswith("/") else rest),)
