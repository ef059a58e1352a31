"""A live endpoint keeps answering with the version it has when the next one was tampered with; keys are made, replaced and revoked by commands."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.client import Endpoint
from treadle.core.errors import Corrupt, Refused, TreadleError
from treadle.live.deploy import deploy, stop
from treadle.registry import packages, promote, versions
from treadle.testing.command import treadle
from treadle.wheel.packaging import sign_package
from treadle.wheel.turn import turn

pytestmark = pytest.mark.story

PROJECT = """import treadle as tr

project = tr.Project("orders")
orders = project.dataset("orders", source=tr.parquet("orders.parquet"), key="order")
model = project.model("returns", rows=orders, target="returned", inputs=["amount", "shop"], candidates=[tr.candidate("logistic")], trials=2,
    gates=[tr.signal()])
project.serve(model, shadow="1d", canary="10%", canary_for="1d")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one version, whose registration made the key; and a second version, a copy that says so."""
    folder = tmp_path_factory.mktemp("signed")
    rng = np.random.default_rng(0)
    amount = rng.gamma(2.0, 30.0, 600)
    returned = rng.random(600) < 1 / (1 + np.exp(-0.05 * (amount - 60)))
    shops = rng.choice(["north", "south"], 600)
    pl.DataFrame({"order": range(600), "amount": amount, "shop": shops, "returned": returned}).write_parquet(folder / "orders.parquet")
    (folder / "project.py").write_text(PROJECT)
    ws = open_workspace(folder)
    turn(ws, ws.model(), cause={"kind": "person", "id": "", "text": "a test"})
    second(ws)
    return folder


def second(ws: Workspace) -> None:
    first = versions.get("returns", 1, ws.ledger)
    opened, manifest = packages.open_package(first["package"], ws.blobs, ws.shelf)
    source = ws.settings.home / "second"
    shutil.copytree(opened, source, ignore=shutil.ignore_patterns("manifest.json", "model.sig"))
    package = sign_package(ws, packages.store(source, {**manifest, "copy": True}, ws.blobs), "returns")
    versions.register("returns", {**first.body, "key": "copy", "package": package}, [], ws.ledger)


@pytest.fixture
def ws(made: Path, tmp_path: Path) -> Iterator[Workspace]:
    folder = tmp_path / "orders"
    shutil.copytree(made, folder)
    ws = open_workspace(folder)
    yield ws
    with suppress(TreadleError):
        stop(ws, "returns")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(content))


def answer(ws: Workspace, url: str) -> int:
    return int(Endpoint(url).predict({"amount": 50.0, "shop": "north"})["version"])


def test_the_first_version_of_a_project_is_signed_without_being_asked_for(ws: Workspace) -> None:
    for number in (1, 2):
        package = versions.get("returns", number, ws.ledger)["package"]
        assert packages.told_signature(package, ws.blobs, ws.shelf.trust).startswith("signed with orders (")


def test_a_version_with_one_flipped_byte_is_refused_and_the_one_before_keeps_answering(ws: Workspace) -> None:
    url = deploy(ws, ws.model(), number=1)["url"]
    assert answer(ws, url) == 1
    package = versions.get("returns", 2, ws.ledger)["package"]
    bundle = ws.blobs.path(package["signature"]["bundle"])
    for path in (ws.blobs.path(package["files"]["model.onnx"]), ws.blobs.path(package["files"]["manifest.json"]), bundle):
        whole = path.read_bytes()
        flip(path)
        with pytest.raises(Corrupt):
            deploy(ws, ws.model(), number=2, now=True)
        path.write_bytes(whole)
        assert answer(ws, url) == 1
    # Somebody who can write the record gets past `deploy`, but not past the endpoint.
    flip(bundle)
    promote.challenge("returns", 2, ws.ledger, ws.clock, actor="mallory")
    promote.promote("returns", {"by": "mallory"}, ws.ledger, ws.clock, actor="mallory")
    Endpoint(url).reload()
    assert answer(ws, url) == 1
    refused = ws.ledger.events_since(kinds=["endpoint.refused"])
    assert "another hash" in refused[-1].body["error"]
    # With the bytes restored it follows the record again.
    flip(bundle)
    promote.challenge("returns", 1, ws.ledger, ws.clock, actor="me")
    Endpoint(url).reload()
    assert answer(ws, url) == 2


def test_a_version_whose_signature_was_taken_away_or_is_of_another_version_is_refused(ws: Workspace) -> None:
    url = deploy(ws, ws.model(), number=1)["url"]
    one, two = (versions.get("returns", n, ws.ledger) for n in (1, 2))
    unsigned: dict[str, Any] = {k: v for k, v in two["package"].items() if k != "signature"}
    changed = ws.ledger.put(versions.KIND, two.id, {**two.body, "package": unsigned}, expect=two.version)
    with pytest.raises(Refused, match="The package is unsigned, and this project serves only signed ones"):
        deploy(ws, ws.model(), number=2, now=True)
    pasted = {**two["package"], "signature": one["package"]["signature"]}
    ws.ledger.put(versions.KIND, two.id, {**two.body, "package": pasted}, expect=changed.version)
    with pytest.raises(Corrupt, match=r"The signature is of other files than the package has, first 'manifest\.json'"):
        deploy(ws, ws.model(), number=2, now=True)
    assert answer(ws, url) == 1


def test_keys_are_shown_replaced_revoked_and_versions_signed_again_by_commands(ws: Workspace, tmp_path: Path) -> None:
    def said(*arguments: str, code: int = 0) -> str:
        ended = treadle(ws.folder, "signing", *arguments, expect=code)
        return ended.stdout + ended.stderr

    assert said("verify").count("checked") == 2
    (tmp_path / "own.pub").write_text(said("show"))
    assert "signs" in said("keys")
    assert "still counts" in said("rotate", "--name", "second")
    assert "returns.v1, returns.v2" in said("revoke", "orders", "--reason", "the laptop was stolen")
    told = said("verify", code=4)
    assert told.count("which was revoked: the laptop was stolen") == 4
    said("sign", "returns.v1", "--reason", "made before the theft")
    assert "signed with second" in said("verify", "returns.v1")
    assert "was revoked" in said("trust", str(tmp_path / "own.pub"), "--name", "again", code=6)
    flip(ws.blobs.path(versions.get("returns", 1, ws.ledger)["package"]["files"]["model.onnx"]))
    assert "NO" in said("verify", "returns.v1", code=7)
    assert "There is a key to sign with already" in said("init", code=6)
    kinds = ["key.made", "key.rotated", "key.revoked", "version.signed"]
    assert [e.kind for e in ws.ledger.events_since(kinds=kinds)] == kinds
