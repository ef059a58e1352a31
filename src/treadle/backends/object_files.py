"""Files in an object store: S3, Google Cloud Storage and Azure Blob, by one library (obstore).

Who asks, and where, comes from each store's usual variables: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL;
GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT_KEY; AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY; or from the machine's role.
The tag of a file is its ETag: listing moves no contents, and a file is fetched on condition that its ETag is still the same.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, PreconditionError, UnauthenticatedError
from obstore.store import AzureStore, GCSStore, S3Store

from treadle.core.declare.source import Source
from treadle.core.errors import DataError, StorageError, TreadleError, Unavailable
from treadle.ports.files import Listed

_STATUS = re.compile(r"(?:status code: |error: )(\d{3})\b")
_MISSING = re.compile(r"NoSuchBucket|ContainerNotFound|bucket.{0,40}not.{0,5}exist|\b404 Not Found", re.IGNORECASE | re.DOTALL)
_STORES: dict[str, tuple[Any, str, str]] = {
    "s3": (S3Store, "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "gs": (GCSStore, "GOOGLE_BASE_URL", "GOOGLE_APPLICATION_CREDENTIALS"),
    "az": (AzureStore, "AZURE_STORAGE_ENDPOINT", "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"),
}
_T = TypeVar("_T")


class ObjectFiles:
    """The files of the bucket or container that a source's path names. Their names are whole addresses, `s3://bucket/folder/file`."""

    def __init__(self, source: Source, folder: object) -> None:
        scheme, _, rest = source.path.partition("://")
        bucket = rest.partition("/")[0]
        make, self._endpoint, self._keys = _STORES[scheme]
        self._root = f"{scheme}://{bucket}/"
        self.shown = self._root.rstrip("/")
        told = os.environ.get(self._endpoint, "") or (os.environ.get("GOOGLE_SERVICE_ACCOUNT_KEY", "") if scheme == "gs" else "")
        plain_http = told.startswith("http://") or '"http://' in told
        try:
            self._store = make(
                bucket, client_options={"allow_http": plain_http, "connect_timeout": "5s", "timeout": "300s"},
                retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=20), "backoff": {"max_backoff": timedelta(seconds=1)}},
            )  # fmt: skip
        except BaseError as error:
            raise self._failure(error) from None

    def listed(self, pattern: str) -> list[Listed]:
        key = pattern.removeprefix(self._root)
        if not any(mark in key for mark in "*?["):
            try:
                return [self._seen(self._ask(lambda: obstore.head(self._store, key)))]
            except FileNotFoundError:
                self._ask(lambda: next(iter(obstore.list(self._store, prefix=key, chunk_size=1)), None))  # says if it is the bucket that is missing
                return []
        prefix = re.split(r"[*?\[]", key, maxsplit=1)[0].rpartition("/")[0]
        wanted = _expression(key)
        found = self._ask(lambda: [one for page in obstore.list(self._store, prefix=prefix or None) for one in page])
        return sorted((self._seen(one) for one in found if wanted.fullmatch(one["path"])), key=lambda file: file.name)

    @contextmanager
    def fetched(self, file: Listed) -> Iterator[Path]:
        key = file.name.removeprefix(self._root)
        with tempfile.TemporaryDirectory(prefix="treadle-source-") as folder:
            path = Path(folder) / key.rpartition("/")[2]
            try:
                self._ask(lambda: self._download(key, file, path))
            except (PreconditionError, FileNotFoundError):
                raise Unavailable("The object was changed or removed while it was read.", where=file.name, hint="Try again.") from None
            except OSError as error:
                raise StorageError(
                    f"The object cannot be kept on this machine while it is read: {error.strerror}.",
                    where=folder,
                    hint="Free some space, or set TMPDIR.",
                ) from None
            yield path

    def put(self, name: str, path: Path) -> None:
        """Store a file of this machine under a whole address; it is there whole or not at all. Raises DataError, Unavailable."""
        self._ask(lambda: obstore.put(self._store, name.removeprefix(self._root), path))

    def _download(self, key: str, file: Listed, path: Path) -> None:
        answer = obstore.get(self._store, key, options={"if_match": f'"{file.tag}"'} if file.tag else {})
        if (answer.meta["e_tag"] or "").strip('"') != file.tag:  # not every store heeds the condition
            raise PreconditionError("changed")
        with path.open("wb") as out:
            for chunk in answer.stream(min_chunk_size=8 << 20):
                out.write(chunk)

    def _seen(self, meta: Any) -> Listed:
        tag = (meta["e_tag"] or "").strip('"') or str(meta["last_modified"])
        return Listed(self._root + str(meta["path"]), int(meta["size"]), tag)

    def _ask(self, question: Callable[[], _T]) -> _T:
        """Ask the store. Raises FileNotFoundError and PreconditionError as they come; the rest in our words."""
        try:
            return question()
        except PreconditionError:
            raise
        except FileNotFoundError as error:
            if re.search(r"NoSuchBucket|ContainerNotFound", str(error)):
                raise self._failure(error) from None
            raise
        except (BaseError, ValueError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> TreadleError:
        text = str(error).partition("Debug source")[0]
        found = _STATUS.search(text)
        status = int(found[1]) if found else None
        # Without keys a client asks the machine's own service for some, and it is this one that does not answer or refuses.
        if isinstance(error, UnauthenticatedError) or status == 401 or re.search(r"169\.254|token request|credential|must be specified", text):
            return DataError(f"{self.shown} does not know who is asking.", hint=f"Set {self._keys}.")
        if isinstance(error, PermissionDeniedError) or status == 403:
            return DataError(f"{self.shown} does not allow it.", hint=f"Check {self._keys}, and that they may list and read there.")
        if _MISSING.search(text) or status == 404:
            return DataError(f"{self.shown} does not exist.", hint="Check the bucket's or container's name, and its region or account.")
        where = os.environ.get(self._endpoint, "")
        why = f"status {status}" if status else "it cannot be reached"
        return Unavailable(
            f"{self.shown}{f' at {where}' if where else ''} does not answer: {why}.", hint=f"Check the network and {self._endpoint}; try again later."
        )


def _expression(pattern: str) -> re.Pattern[str]:
    """A pattern as in folders: '*' and '?' stay within a folder, '**/' goes through any number of them."""
    parts = []
    for found in re.finditer(r"\*\*/|\*\*|\*|\?|\[!?[^\]]+\]|.", pattern, re.DOTALL):
        text = found[0]
        if text == "**/":
            parts.append("(?:[^/]+/)*")
        elif text == "**":
            parts.append(".*")
        elif text in "*?":
            parts.append("[^/]*" if text == "*" else "[^/]")
        elif text.startswith("[") and len(text) > 2:
            parts.append(text.replace("[!", "[^"))
        else:
            parts.append(re.escape(text))
    return re.compile("".join(parts), re.DOTALL)
