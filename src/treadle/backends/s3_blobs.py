"""Blobs in an S3-compatible object store: an object is created on condition that it is not there, so a blob is written once, by whoever is first.

Keys are those of the folder store, `prefix/ab/cdef...`, so a folder of blobs becomes a bucket of blobs by copying it. Credentials, region and
endpoint come from the usual variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL, or from the
machine's role.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from treadle.backends.blob_cache import BlobCache
from treadle.core.errors import Corrupt, NotFound, TreadleError, Unavailable, UsageError
from treadle.ports.blobs import Content

PATIENCE_SECONDS = 20.0  # of trying again, once the store has answered in this process
FIRST_PATIENCE_SECONDS = 3.0  # before it has: then the address is more likely wrong than the store busy
_PART = 8 << 20  # bytes in one request; more go up, and come down, in parts side by side
_SIDE_BY_SIDE = 4
_PAGE = 1000  # names in one answer
_CACHE_GB = 20.0

_ADDRESS = re.compile(r"[0-9a-f]{64}")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_T = TypeVar("_T")

_user: int | None = None  # the process whose threads obstore runs in


class S3Blobs:
    """A blob store in a bucket. Any number of machines may share it.

    Args:
        url: `s3://bucket/prefix?cache=/folder&cache_gb=20`. Files are read from a copy in the cache folder (default `~/.cache/treadle/blobs`),
            which is kept at about the given size.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        parts = urlsplit(url)
        asked = dict(parse_qsl(parts.query))
        unknown = sorted(set(asked) - {"cache", "cache_gb"})
        if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.fragment or unknown:
            raise UsageError(
                "The address of the object store cannot be read" + (f": it has no setting {unknown[0]!r}." if unknown else "."),
                hint="Write s3://bucket/prefix or s3://bucket/prefix?cache=/folder&cache_gb=20; keys go into AWS_ACCESS_KEY_ID and so on.",
            )
        self._bucket, self._prefix = parts.netloc, unquote(parts.path).strip("/")
        self._shown = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        folder = Path(asked.get("cache") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "treadle" / "blobs")
        which = hashlib.sha256(f"{_endpoint()} {self._shown}".encode()).hexdigest()[:16]
        self._cache = BlobCache(folder.absolute() / which, _gigabytes(asked.get("cache_gb", "")))
        self._reached = self._has_bucket = False
        self._store = self._connect()

    def __reduce__(self) -> tuple[object, ...]:
        return (S3Blobs, (self._url,))

    def put(self, data: Content) -> str:
        if isinstance(data, bytes):
            address = hashlib.sha256(data).hexdigest()
            self._upload(address, data, len(data))
            return address
        # Written here first: its name is known only at its end, and it is often read here next.
        with self._cache.writing(data) as (pending, address):
            size = pending.stat().st_size
            self._upload(address, pending.read_bytes() if size <= _PART else pending, size)
            self._cache.keep(pending, address)
        return address

    def get(self, address: str) -> bytes:
        kept = self._cache.read(address) if _ADDRESS.fullmatch(address) else None
        if kept is not None:
            return kept
        data = b"".join(self._download(address))
        if hashlib.sha256(data).hexdigest() != address:
            raise self._corrupt(address)
        return data

    def path(self, address: str) -> Path:
        if not _ADDRESS.fullmatch(address):
            raise _unknown(address)
        kept = self._cache.path(address)
        if kept is not None:
            return kept
        chunks = self._download(address)
        with self._cache.writing(lambda out: out.writelines(chunks)) as (pending, found):
            if found != address:
                raise self._corrupt(address)
            return self._cache.keep(pending, address)

    def exists(self, address: str) -> bool:
        return bool(_ADDRESS.fullmatch(address)) and self._head(address)

    def verify(self, address: str) -> None:
        hashing = hashlib.sha256()
        for chunk in self._download(address):
            hashing.update(chunk)
        if hashing.hexdigest() != address:
            raise self._corrupt(address)

    def delete(self, address: str) -> None:
        if _ADDRESS.fullmatch(address):
            self._ask(lambda store: obstore.delete(store, _key(address)))
            self._cache.remove(address)

    def addresses(self) -> Iterator[str]:
        last: str | None = None
        while page := self._ask(lambda store, after=last: next(iter(obstore.list(store, offset=after, chunk_size=_PAGE)), None)):  # type: ignore[misc]
            for found in page:
                last = str(found["path"])
                address = last.replace("/", "", 1)
                if _ADDRESS.fullmatch(address) and last == _key(address):
                    yield address

    def sweep(self, older_than_seconds: float = 3600.0) -> int:
        """Remove what writes that died left in the local cache. What they left in the bucket, unseen, a lifecycle rule removes."""
        return self._cache.sweep(older_than_seconds)

    def _connect(self) -> S3Store:
        return S3Store(
            self._bucket,
            prefix=self._prefix or None,
            client_options={"allow_http": _endpoint().startswith("http://"), "connect_timeout": "5s", "timeout": "120s"},
            # Enough for one part of many; what takes longer is tried again as a whole by us.
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=30), "backoff": {"max_backoff": timedelta(seconds=1)}},
        )

    def _upload(self, address: str, data: bytes | Path, size: int) -> None:
        if size > _PART:
            # In parts there is no condition. Whoever uploads these bytes at the same moment uploads the same.
            if not self._head(address):
                self._ask(lambda store: obstore.put(store, _key(address), data, chunk_size=_PART, max_concurrency=_SIDE_BY_SIDE))
            return
        with suppress(AlreadyExistsError):
            self._ask(lambda store: obstore.put(store, _key(address), data, mode="create"))

    def _download(self, address: str) -> Iterator[bytes]:
        """The bytes in pieces. The first request is made now, so that NotFound comes now; the next ones are made ahead of the reader."""
        if not _ADDRESS.fullmatch(address):
            raise _unknown(address)
        key = _key(address)

        def first(store: S3Store) -> tuple[bytes, int]:
            answer = obstore.get(store, key, options={"range": (0, _PART)})
            return bytes(answer.bytes()), int(answer.meta["size"])

        try:
            start, size = self._ask(first)
        except BaseError as error:
            if _status(error) != 416:  # there is no first byte: it is empty
                raise
            start, size = b"", 0
        except FileNotFoundError:
            raise _unknown(address) from None
        return self._rest(key, start, size)

    def _rest(self, key: str, start: bytes, size: int) -> Iterator[bytes]:
        yield start
        if len(start) >= size:
            return

        def part(begin: int) -> bytes:
            return self._ask(lambda store: bytes(obstore.get_range(store, key, start=begin, end=min(begin + _PART, size))))

        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            ahead: deque[Future[bytes]] = deque()
            for begin in range(len(start), size, _PART):
                ahead.append(pool.submit(part, begin))
                if len(ahead) > _SIDE_BY_SIDE:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()

    def _head(self, address: str) -> bool:
        try:
            self._ask(lambda store: obstore.head(store, _key(address)))
        except FileNotFoundError:
            if not self._has_bucket:  # a HEAD does not say what is missing
                self._ask(lambda store: next(iter(obstore.list(store, chunk_size=1)), None))
                self._has_bucket = True
            return False
        return True

    def _ask(self, question: Callable[[S3Store], _T]) -> _T:
        """Ask the store, again if it cannot answer now. Raises FileNotFoundError and AlreadyExistsError as they come; the rest in our words."""
        _stay_in_one_process()
        began = time.monotonic()
        pause = 0.1
        while True:
            try:
                answer = question(self._store)
                self._reached = True
                return answer
            except AlreadyExistsError:
                self._reached = True
                raise
            except (BaseError, FileNotFoundError) as error:
                said = self._failure(error)
                if said is None:
                    raise
                if not said.transient or time.monotonic() + pause - began > (PATIENCE_SECONDS if self._reached else FIRST_PATIENCE_SECONDS):
                    raise said from None  # its text is pages long
            time.sleep(random.uniform(pause / 2, pause))  # so that many that failed together do not come back together
            pause = min(2 * pause, 5.0)

    def _failure(self, error: Exception) -> TreadleError | None:
        """The house's error, or None for what is an answer."""
        text = str(error).partition("Debug source")[0]
        found = _CODE.search(text)
        status, code = _status(error), found[1] if found else ""
        if code == "NoSuchBucket":
            return UsageError(
                f"There is no bucket {self._bucket!r} at {_endpoint() or 'AWS'}.", hint="Make it, or check AWS_REGION and AWS_ENDPOINT_URL."
            )
        if "169.254.169.254" in text or "169.254.170" in text:
            return UsageError(f"There are no credentials for {self._shown}.", hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.")
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in (401, 403) or code in ("ExpiredToken", "InvalidToken"):
            return UsageError(
                f"Access to {self._shown} is denied ({code or status}).",
                hint="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; s3:ListBucket, GetObject, PutObject and DeleteObject are needed.",
            )
        if isinstance(error, FileNotFoundError) or status == 416:
            return None
        if "redirect" in text.lower():
            return UsageError(f"The bucket {self._bucket!r} is in another region.", hint="Say which in AWS_REGION.")
        if status is not None and status < 500 and status not in (408, 409, 429):
            return UsageError(f"{self._shown} refused a request ({status} {code}).", hint="Check AWS_REGION and AWS_ENDPOINT_URL.")
        why = f"status {status} {code}".strip() if status else "it cannot be reached"
        return Unavailable(
            f"{self._shown} at {_endpoint() or 'AWS'} does not answer: {why}.", hint="Check AWS_ENDPOINT_URL and the network; try again later."
        )

    def _corrupt(self, address: str) -> Corrupt:
        hint = "Restore the object from a backup, or delete it and make it again."
        return Corrupt(f"Blob {address} is damaged: its bytes have another hash.", where=f"{self._shown}/{_key(address)}", hint=hint)


def _key(address: str) -> str:
    return f"{address[:2]}/{address[2:]}"


def _unknown(address: str) -> NotFound:
    shown = address if len(address) <= 64 else address[:61] + "..."
    return NotFound(f"There is no blob {shown!r}.")


def _status(error: Exception) -> int | None:
    found = _STATUS.search(str(error))
    return int(found[1]) if found else None


def _endpoint() -> str:
    return next((os.environ[name] for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") if os.environ.get(name)), "")


def _gigabytes(text: str) -> int:
    try:
        size = float(text or _CACHE_GB)
        if not 0 < size < 1e9:
            raise ValueError
    except ValueError:
        raise UsageError(f"{text!r} is no size of a cache in gigabytes.", hint="Write for example cache_gb=20.") from None
    return int(size * 1e9)


def _stay_in_one_process() -> None:
    """obstore works in threads, which a forked child does not have: there it would wait for ever."""
    global _user
    if _user is None:
        _user = os.getpid()
    if _user != os.getpid():
        raise UsageError(
            "The object store was used before this process was forked, and cannot be used in the child.",
            hint="Start worker processes with the method 'spawn' or 'forkserver'.",
        )
