"""Files in an object store: what changed is known without downloading, and what is read is what was listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

import treadle as tr
from treadle.backends.catalog import open_source
from treadle.backends.object_files import ObjectFiles
from treadle.core.errors import DataError, Unavailable
from treadle.data import sources
from treadle.data.sources import Extract
from treadle.testing import servers


class Bucket:
    """A folder of the test bucket."""

    def __init__(self, folder: Path) -> None:
        servers.s3()
        self.prefix, self.folder = servers.schema_of(folder), folder
        self.store = S3Store("treadle", client_options={"allow_http": True})
        self.source = tr.csv(f"s3://treadle/{self.prefix}/*.csv")

    def put(self, name: str, *ids: int) -> None:
        obstore.put(self.store, f"{self.prefix}/{name}", ("id,v\n" + "".join(f"{i},x\n" for i in ids)).encode())

    def extract(self, since: Any = None, source: Any = None) -> Extract:
        dataset = tr.Project("p").dataset("rows", source=source or self.source, key="id")
        return sources.extract(dataset, self.folder, since, lambda declared: open_source(declared, self.folder))

    def fingerprint(self) -> str | None:
        dataset = tr.Project("p").dataset("rows", source=self.source, key="id")
        return sources.fingerprint(dataset, self.folder, lambda declared: open_source(declared, self.folder))


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path)


def test_what_changed_is_known_without_downloading(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.csv", 1)
    first = bucket.fingerprint()
    position = bucket.extract().position

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("it downloads")

    monkeypatch.setattr(obstore, "get", refuse)
    assert bucket.fingerprint() == first
    bucket.put("a.csv", 2)
    assert bucket.fingerprint() != first
    monkeypatch.undo()
    changed = bucket.extract(position)
    assert (changed.full, changed.frame["id"].to_list()) == (True, ["2"])


def test_of_many_objects_only_the_new_one_is_downloaded(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for i in range(5):
        bucket.put(f"{i}.csv", i)
    position = bucket.extract().position
    bucket.put("5.csv", 5)
    fetched: list[str] = []
    real = obstore.get
    monkeypatch.setattr(obstore, "get", lambda store, key, **more: fetched.append(key) or real(store, key, **more))
    assert bucket.extract(position).frame["id"].to_list() == ["5"]
    assert fetched == [f"{bucket.prefix}/5.csv"]


def test_an_object_that_changes_between_listing_and_reading_is_read_as_it_is_then(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a.csv", 1)
    files = ObjectFiles(bucket.source, bucket.folder)
    listed = files.listed(bucket.source.path)
    bucket.put("a.csv", 2, 3)
    with pytest.raises(Unavailable, match="was changed or removed while it was read"), files.fetched(listed[0]):
        pass
    real, stale = ObjectFiles.listed, [listed]
    monkeypatch.setattr(ObjectFiles, "listed", lambda self, pattern: stale.pop() if stale else real(self, pattern))
    assert bucket.extract().frame["id"].to_list() == ["2", "3"]


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.csv", ["a.csv", "b.csv"]),
        ("?.csv", ["a.csv", "b.csv"]),
        ("[!a].csv", ["b.csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "deep/c.csv", "deep/er/d.csv"]),
        ("deep/*.csv", ["deep/c.csv"]),
        ("*/*.csv", ["deep/c.csv"]),
        ("deep/c.csv", ["deep/c.csv"]),
    ],
)
def test_patterns_mean_what_they_mean_in_folders(bucket: Bucket, pattern: str, found: list[str]) -> None:
    for name in ("a.csv", "b.csv", "deep/c.csv", "deep/er/d.csv", "e.txt", "csv"):
        bucket.put(name, 1)
    root = f"s3://treadle/{bucket.prefix}/"
    source = tr.csv(root + pattern)
    assert [f.name.removeprefix(root) for f in ObjectFiles(source, bucket.folder).listed(source.path)] == found


def test_a_broken_object_is_named_by_its_address(bucket: Bucket) -> None:
    obstore.put(bucket.store, f"{bucket.prefix}/a.csv", b"id,v\n1\n")
    with pytest.raises(DataError, match="Line 2 has 1 field where the header has 2") as caught:
        bucket.extract()
    assert f"s3://treadle/{bucket.prefix}/a.csv" in str(caught.value.where)


def test_a_store_that_does_not_answer_is_unavailable(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{servers.free_port()}")
    with pytest.raises(Unavailable, match=r"s3://treadle at http://127\.0\.0\.1:\d+ does not answer"):
        bucket.extract()


def test_without_credentials_the_variables_are_named(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "")
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME")
    monkeypatch.delenv("AZURE_STORAGE_ENDPOINT", raising=False)
    with pytest.raises(DataError) as caught:
        bucket.extract(source=tr.csv("az://container/a.csv"))
    assert "AZURE_STORAGE_ACCOUNT_NAME" in str(caught.value.hint)
