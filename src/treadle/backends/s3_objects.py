"""Every object beneath a prefix of a bucket, whatever it is: for a search that must leave nothing out."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import obstore

from treadle.backends.s3_blobs import S3Blobs


def objects(url: str) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each object at `s3://bucket/prefix` or `delta+s3://...`. One that goes meanwhile is left out. Raises Unavailable."""
    parts = urlsplit(url)
    store = S3Blobs(f"s3://{parts.netloc}{parts.path}" + (f"?{parts.query}" if parts.query else ""))
    last: str | None = None
    while page := store._ask(lambda s, after=last: next(iter(obstore.list(s, offset=after, chunk_size=1000)), None)):  # type: ignore[misc]
        for found in page:
            last = str(found["path"])
            try:
                yield last, store._ask(lambda s, name=last: bytes(obstore.get(s, name).bytes()))  # type: ignore[misc]
            except FileNotFoundError:
                continue
