"""Through the real endpoint: keys are needed where declared, made and taken back by commands, and HTTPS answers with the given certificate only."""

from __future__ import annotations

import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.client import Endpoint
from treadle.core.errors import Forbidden, TooMany, Unauthorized, Unavailable, UsageError
from treadle.live import deploy
from treadle.testing.command import treadle

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}
Served = Callable[..., Workspace]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def made(folder: Path, *options: str) -> dict[str, Any]:
    return json.loads(treadle(folder, "keys", "make", "site", *options, "--json").stdout)


def refused(endpoint: Endpoint) -> bool:
    try:
        endpoint.predict(ROW)
    except Unauthorized:
        return True
    except TooMany:  # known, and out of rows
        return False
    return False


def test_a_key_opens_what_it_may_until_it_is_taken_back(served: Served) -> None:
    ws = served(1, serve="keys=True")
    url = deploy.start(ws, ws.model())["url"]
    try:
        with pytest.raises(Unauthorized, match="needs an API key"):
            Endpoint(url).predict(ROW)
        assert httpx.get(f"{url}/health/ready").status_code == 200
        assert httpx.get(f"{url}/metrics").headers["www-authenticate"] == "Bearer"
        one = made(ws.folder, "--role", "predict", "--quota", "5/d")
        caller = Endpoint(url, key=one["key"])
        until(lambda: not refused(caller))  # rows: 1
        with pytest.raises(Forbidden, match="needs the role 'outcomes'"):
            caller.outcomes([{"prediction": "p-1", "value": "late"}])
        with pytest.raises(TooMany, match="has 4 of its 5 rows left"):
            caller.predict_many([ROW] * 5)
        caller.predict_many([ROW] * 4)
        quota = httpx.get(f"{url}/quota", headers={"Authorization": f"Bearer {one['key']}"}).json()
        assert (quota["rows_today"], quota["rows_left"], quota["name"]) == (5, 0, "site")
        told = httpx.post(f"{url}/predict", json=ROW, headers={"Authorization": f"Bearer {one['key']}"})
        assert (told.status_code, told.json()["error"]) == (429, "too_many")
        assert 0 < int(told.headers["retry-after"]) <= 86_400
        assert one["key"] not in treadle(ws.folder, "keys", "list").stdout
        deploy.stop(ws, "late")  # what was used is remembered
        url = deploy.start(ws, ws.model())["url"]
        with pytest.raises(TooMany):
            Endpoint(url, key=one["key"]).predict(ROW)
        treadle(ws.folder, "keys", "revoke", one["id"], "--reason", "it was in a log")
        until(lambda: refused(Endpoint(url, key=one["key"])))
        assert "taken back" in treadle(ws.folder, "keys", "list").stdout
    finally:
        deploy.stop(ws, "late")


def test_a_body_without_a_key_is_not_read(served: Served) -> None:
    ws = served(1, serve="keys=True")
    record = deploy.start(ws, ws.model())
    try:
        with socket.create_connection(("127.0.0.1", record["port"]), timeout=20) as raw:
            raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 401")
    finally:
        deploy.stop(ws, "late")


def certificate(folder: Path, name: str = "endpoint") -> tuple[Path, Path]:
    """A certificate for example.org that signed itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "example.org")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(private.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(9)).add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(private, hashes.SHA256())
    )  # fmt: skip
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    key.chmod(0o600)
    return cert, key


def test_with_a_certificate_only_https_is_answered_and_commands_know_it(served: Served, tmp_path: Path) -> None:
    ws = served(1)
    cert, key = certificate(tmp_path)
    other, _ = certificate(tmp_path, "other")
    (ws.folder / "treadle.toml").write_text(f'tls_cert = "{cert}"\ntls_key = "{key}"\n')
    ws = open_workspace(ws.folder)
    record = deploy.start(ws, ws.model())
    try:
        assert record["url"].startswith("https://")
        assert Endpoint(record["url"], trust=str(cert), named=False).predict(ROW)["version"] == 1
        assert json.loads(treadle(ws.folder, "predict", "--row", json.dumps(ROW)).stdout)["version"] == 1
        for wrong in ({"trust": str(other), "named": False}, {"trust": str(cert)}, {}):
            with pytest.raises(Unavailable, match="certificate"):
                Endpoint(record["url"], **wrong).predict(ROW)  # type: ignore[arg-type]
        with pytest.raises(Unavailable):
            Endpoint(record["url"].replace("https", "http"), retries=0).predict(ROW)
        with socket.create_connection(("127.0.0.1", record["port"])) as raw, ssl._create_unverified_context().wrap_socket(raw) as safe:
            assert safe.version() in ("TLSv1.2", "TLSv1.3")
    finally:
        deploy.stop(ws, "late")


def test_certificates_that_cannot_be_used_are_said_before_anything_listens(tmp_path: Path) -> None:
    from treadle.settings import read_settings
    from treadle.web.tls import tls_context

    cert, key = certificate(tmp_path)
    _, foreign = certificate(tmp_path, "foreign")

    def files(**env: object) -> ssl.SSLContext | None:
        return tls_context(read_settings(tmp_path, {f"TREADLE_TLS_{k.upper()}": str(v) for k, v in env.items()}))

    assert files() is None
    made = files(cert=cert, key=key)
    assert made is not None
    assert made.minimum_version is ssl.TLSVersion.TLSv1_2
    for wrong, said in (({"cert": cert}, "tls_key is missing"), ({"cert": cert, "key": tmp_path / "none"}, "There is no file"), ({"cert": cert, "key": foreign}, "cannot be used")):
        with pytest.raises(UsageError, match=said):
            files(**wrong)
    os.chmod(key, 0o644)
    with pytest.raises(UsageError, match=r"Others than its owner may read the private key \(0644\)"):
        files(cert=cert, key=key)
