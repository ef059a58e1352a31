"""The catalog opens what an address names, imports nothing before, and lists what it knows when asked for something else."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from treadle.backends import catalog
from treadle.backends.catalog import CATALOG, open_backend
from treadle.backends.delta_tables import DeltaTables
from treadle.backends.file_blobs import FileBlobs
from treadle.backends.memory_ledger import MemoryLedger
from treadle.backends.sqlite_ledger import SqliteLedger
from treadle.backends.webhook_notifier import WebhookNotifier
from treadle.core.errors import UsageError


@pytest.mark.parametrize(("port", "scheme"), [(port, scheme) for port, known in CATALOG.items() for scheme in known])
def test_every_entry_names_a_class_that_is_there(port: str, scheme: str) -> None:
    module, _, name = CATALOG[port][scheme].partition(":")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_an_absolute_path_is_opened_where_it_says(tmp_path: Path) -> None:
    ledger = open_backend("ledger", f"sqlite://{tmp_path}/deep/ledger.db")
    assert isinstance(ledger, SqliteLedger)
    assert (tmp_path / "deep" / "ledger.db").exists()


def test_a_path_with_spaces_can_be_written_as_an_address(tmp_path: Path) -> None:
    blobs = open_backend("blobs", (tmp_path / "my blobs é").as_uri())
    assert isinstance(blobs, FileBlobs)
    assert (tmp_path / "my blobs é").is_dir()


def test_a_relative_path_starts_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_backend("ledger", "sqlite:.treadle/ledger.db")
    assert (tmp_path / ".treadle" / "ledger.db").exists()


def test_memory_needs_no_place_and_is_new_every_time() -> None:
    first = open_backend("ledger", "memory:")
    assert isinstance(first, MemoryLedger)
    assert open_backend("ledger", "memory:") is not first


def test_a_backend_is_given_its_parts() -> None:
    assert isinstance(open_backend("tables", "delta:tables", blobs=open_backend("blobs", "memory:")), DeltaTables)


def test_an_address_with_a_host_is_handed_on_whole() -> None:
    notifier = open_backend("notifier", "webhook+https://hooks.example.org/a%20b?c=d", timeout=1.0)
    assert isinstance(notifier, WebhookNotifier)
    assert notifier._url == "https://hooks.example.org/a%20b?c=d"


@pytest.mark.parametrize("url", ["redis://localhost", "ledger.db", "", "SQLITE:/x"])
def test_an_unknown_scheme_is_refused_with_the_known_ones(url: str) -> None:
    with pytest.raises(UsageError, match="memory:, postgres:, postgresql:, sqlite:"):
        open_backend("ledger", url)


def test_an_unknown_port_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="ledger"):
        open_backend("leger", "memory:")


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(catalog.CATALOG["ledger"], "postgres", "no_such_driver.ledger:Ledger")
    with pytest.raises(UsageError, match="no_such_driver"):
        open_backend("ledger", "postgres://host/db")


def test_the_catalog_itself_imports_no_backend() -> None:
    code = "import sys, treadle.backends.catalog; print([name for name in sys.modules if name.startswith('treadle.backends.')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "['treadle.backends.catalog']"
