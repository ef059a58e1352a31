"""What the blob store in a bucket promises beyond the port: one write, tries that stop, errors that say what to do, a cache that stays small."""

from __future__ import annotations

import hashlib
import http.client
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest

from treadle.backends import blob_cache, s3_blobs
from treadle.backends.catalog import open_backend
from treadle.backends.s3_blobs import S3Blobs
from treadle.core.errors import NotFound, Unavailable, UsageError
from treadle.testing.servers import free_port, s3, schema_of

LONG = bytes(range(256)) * 80_000  # 20 MB: more than one part


class Between(ThreadingHTTPServer):
    """Stands between a client and the store, notes each request, and spoils as many as it is told to: with a status, or by hanging up."""

    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Passing)
        self.behind = port
        self.asked: list[tuple[str, str]] = []
        self.spoil: list[int] = []  # what the next answers are; 0 hangs up before the request is passed on, 1 after


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _pass(self) -> None:
        assert isinstance(self.server, Between)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path))
        spoilt = self.server.spoil.pop(0) if self.server.spoil else None
        if spoilt is not None and spoilt >= 400:
            self.send_response(spoilt)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if spoilt != 0:
            there = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=30)
            there.request(self.command, self.path, body, dict(self.headers))
            answer = there.getresponse()
            data = answer.read()
        if spoilt is not None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", answer.getheader("Content-Length") or str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def url(tmp_path: Path) -> str:
    s3()
    return f"s3://treadle/{schema_of(tmp_path)}?cache={tmp_path}/cache"


@pytest.fixture
def blobs(url: str) -> S3Blobs:
    return S3Blobs(url)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Iterator[Between]:
    server = Between(s3().port)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    yield server
    server.shutdown()
    server.server_close()


def test_the_catalog_opens_a_bucket(url: str) -> None:
    blobs = open_backend("blobs", url)
    assert isinstance(blobs, S3Blobs)
    assert blobs.get(blobs.put(b"late")) == b"late"


def test_a_blob_has_the_key_it_would_have_as_a_file(blobs: S3Blobs) -> None:
    address = blobs.put(b"late")
    assert bytes(obstore.get(blobs._store, f"{address[:2]}/{address[2:]}").bytes()) == b"late"
    obstore.put(blobs._store, "README", b"")
    obstore.put(blobs._store, f"zz/{address[2:]}", b"")
    assert list(blobs.addresses()) == [address]


def test_more_blobs_than_one_answer_lists_are_all_named(blobs: S3Blobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_blobs, "_PAGE", 7)
    with ThreadPoolExecutor(4) as pool:
        addresses = set(pool.map(blobs.put, [b"%d" % n for n in range(50)]))
    listed = list(blobs.addresses())
    assert len(listed) == 50
    assert set(listed) == addresses


@pytest.mark.parametrize("as_file", [True, False])
def test_a_long_blob_goes_up_and_comes_down_in_parts(blobs: S3Blobs, url: str, tmp_path: Path, as_file: bool) -> None:
    if as_file:
        (tmp_path / "long").write_bytes(LONG)
    address = blobs.put(tmp_path / "long" if as_file else LONG)
    assert address == hashlib.sha256(LONG).hexdigest()
    elsewhere = S3Blobs(url.replace("/cache", "/elsewhere"))
    assert elsewhere.get(address) == LONG
    assert elsewhere.path(address).read_bytes() == LONG
    elsewhere.verify(address)
    assert list((tmp_path / "elsewhere").glob("*/tmp/*")) == []


def test_of_many_that_write_the_same_blob_one_does(between: Between, blobs: S3Blobs) -> None:
    blobs = S3Blobs(blobs._url)
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(blobs.put, [b"late"] * 12))) == 1
    changed = obstore.head(blobs._store, obstore.list(blobs._store).collect()[0]["path"])["last_modified"]
    time.sleep(1.1)  # its times are whole seconds
    blobs.put(b"late")
    assert obstore.head(blobs._store, obstore.list(blobs._store).collect()[0]["path"])["last_modified"] == changed


@pytest.mark.parametrize("spoil", [[503], [503, 500, 503, 429], [0], [1], [0, 503, 1]], ids=str)
def test_what_passes_is_tried_again(between: Between, url: str, tmp_path: Path, spoil: list[int]) -> None:
    blobs = S3Blobs(url)
    blobs.put(b"first")
    between.spoil[:] = spoil
    address = blobs.put(b"late")
    between.spoil[:] = spoil
    assert blobs.get(address) == b"late"
    between.spoil[:] = spoil
    assert blobs.exists(address)
    between.spoil[:] = spoil
    assert len(list(blobs.addresses())) == 2
    between.spoil[:] = spoil
    long = blobs.put(LONG)
    between.spoil[:] = [*spoil, *spoil]
    assert S3Blobs(url.replace("/cache", "/elsewhere")).path(long).read_bytes() == LONG
    between.spoil[:] = spoil
    blobs.delete(address)
    between.spoil[:] = []
    assert not blobs.exists(address)


def test_what_does_not_pass_is_unavailable_after_a_while(between: Between, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_blobs, "PATIENCE_SECONDS", 1.0)
    blobs = S3Blobs(url)
    blobs.put(b"first")
    between.spoil[:] = [503] * 10_000
    began = time.monotonic()
    with pytest.raises(Unavailable, match="503") as caught:
        blobs.put(b"late")
    assert 0.5 < time.monotonic() - began < 10
    assert caught.value.transient
    between.spoil[:] = []
    assert not blobs.exists(hashlib.sha256(b"late").hexdigest())
    assert blobs.put(b"late")


def test_an_endpoint_that_is_not_there_is_unavailable_and_named(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_blobs, "FIRST_PATIENCE_SECONDS", 0.2)
    for endpoint in (f"http://127.0.0.1:{free_port()}", "http://nohost.invalid"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        blobs = S3Blobs(url)
        for ask in (lambda blobs=blobs: blobs.put(b"late"), lambda blobs=blobs: blobs.get("0" * 64), lambda blobs=blobs: list(blobs.addresses())):
            with pytest.raises(Unavailable, match=endpoint) as caught:
                ask()
            assert "AWS_ENDPOINT_URL" in str(caught.value)


def test_a_bucket_that_is_not_there_is_said(tmp_path: Path) -> None:
    s3()
    blobs = S3Blobs(f"s3://no-such-bucket/x?cache={tmp_path}")
    asks = [lambda: blobs.put(b"late"), lambda: blobs.put(LONG), lambda: blobs.get("0" * 64), lambda: blobs.path("0" * 64)]
    asks += [lambda: blobs.exists("0" * 64), lambda: list(blobs.addresses()), lambda: blobs.verify("0" * 64)]  # type: ignore[list-item]
    for ask in asks:
        with pytest.raises(UsageError, match="no bucket 'no-such-bucket'"):
            ask()


@pytest.mark.parametrize("status", [403, 401])
def test_access_that_is_denied_is_said_at_once(between: Between, url: str, status: int) -> None:
    blobs = S3Blobs(url)
    for ask in (lambda: blobs.put(b"late"), lambda: blobs.get("0" * 64), lambda: blobs.exists("0" * 64), lambda: list(blobs.addresses())):
        between.spoil[:] = [status]
        with pytest.raises(UsageError, match="denied") as caught:
            ask()
        assert "AWS_ACCESS_KEY_ID" in str(caught.value)
        assert between.spoil == []
    between.spoil[:] = []


@pytest.mark.parametrize(
    "url", ["s3:", "s3://", "s3:///x", "s3://key:secret@bucket/x", "s3://bucket/x?nonsense=1", "s3://bucket?cache_gb=many", "s3://b?cache_gb=-1"]
)
def test_an_address_that_cannot_be_read_is_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        S3Blobs(url)
    assert "secret" not in str(caught.value)


def test_the_cache_stays_at_about_its_size(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = S3Blobs(url + "&cache_gb=0.001")
    addresses = [blobs.put(os.urandom(200_000)) for _ in range(8)]
    for address in addresses:
        blobs.path(address)
    held = lambda: {path.name for path in (tmp_path / "cache").glob("*/*") if path.is_file()}  # noqa: E731
    assert held() == set(addresses)  # whoever was just told a path has not opened it yet
    monkeypatch.setattr(blob_cache, "GRACE_SECONDS", -1.0)
    blobs.path(addresses[0])
    last = blobs.put(b"x" * 200_000)
    blobs.path(last)
    assert {addresses[0], last} < held()
    assert len(held()) <= 5
    assert blobs.path(addresses[1]).stat().st_size == 200_000  # fetched again


def test_a_damaged_copy_in_the_cache_is_not_believed(blobs: S3Blobs) -> None:
    address = blobs.put(b"late")
    copy = blobs.path(address)
    copy.chmod(0o644)
    copy.write_bytes(b"Late")
    assert blobs.get(address) == b"late"


def test_what_writes_that_died_left_in_the_cache_is_swept(blobs: S3Blobs, tmp_path: Path) -> None:
    [folder] = (tmp_path / "cache").iterdir()
    (folder / "tmp" / "blob-old").write_bytes(b"half")
    os.utime(folder / "tmp" / "blob-old", (1, 1))
    (folder / "tmp" / "blob-young").write_bytes(b"half")
    assert blobs.sweep() == 1
    assert [path.name for path in (folder / "tmp").iterdir()] == ["blob-young"]


def test_a_forked_child_is_told_instead_of_left_waiting(blobs: S3Blobs) -> None:
    blobs.put(b"late")
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            try:
                pickle.loads(pickle.dumps(blobs)).put(b"late")
            except UsageError as error:
                os._exit(0 if "spawn" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_every_blob_a_killed_writer_acknowledged_is_whole_and_no_half_blob_is_visible(blobs: S3Blobs, url: str) -> None:
    code = """
import sys
from treadle.backends.s3_blobs import S3Blobs
blobs, round = S3Blobs(sys.argv[1]), sys.argv[2]
for n in range(1_000_000):
    print(blobs.put(f"{round}-{n} ".encode() * (3_000_000 if n % 3 == 1 else 1000)), flush=True)
"""
    acknowledged: list[str] = []
    for round in range(4):
        with subprocess.Popen([sys.executable, "-c", code, url, str(round)], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            first = child.stdout.readline()
            time.sleep(0.05 + 0.1 * round)
            os.kill(child.pid, signal.SIGKILL)
            lines = (first + child.stdout.read()).splitlines(keepends=True)
        acknowledged += [line.strip() for line in lines if line.endswith("\n")]
        held = list(blobs.addresses())
        assert set(acknowledged) <= set(held)
        for address in held:
            blobs.verify(address)
    assert acknowledged


def test_a_store_that_goes_away_and_comes_back_loses_nothing_it_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What moto keeps is gone with it, so the thing that goes away is the way there."""
    s3()
    first = Between(s3().port)
    threading.Thread(target=first.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{first.server_port}")
    blobs = S3Blobs(f"s3://treadle/{schema_of(tmp_path)}?cache={tmp_path}/cache")
    kept = blobs.put(b"kept")
    first.shutdown()
    first.server_close()
    address: list[str] = []
    writer = threading.Thread(target=lambda: address.append(blobs.put(b"late")))
    writer.start()
    time.sleep(0.8)
    again = ThreadingHTTPServer.__new__(Between)
    monkeypatch.setattr(Between, "allow_reuse_address", True)
    ThreadingHTTPServer.__init__(again, ("127.0.0.1", first.server_port), _Passing)
    again.behind, again.asked, again.spoil = s3().port, [], []
    threading.Thread(target=again.serve_forever, daemon=True).start()
    writer.join(30)
    assert [blobs.get(a) for a in (kept, *address)] == [b"kept", b"late"]
    with pytest.raises(NotFound):
        blobs.get("0" * 64)
    again.shutdown()
    again.server_close()


def test_the_test_server_goes_with_the_process_that_started_it() -> None:
    code = "import time; from treadle.testing.servers import s3; print(s3().pid, s3().folder, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        pid, folder = child.stdout.readline().split()
        os.kill(child.pid, signal.SIGKILL)
    give_up = time.monotonic() + 30
    while Path(folder).exists():
        assert time.monotonic() < give_up
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
