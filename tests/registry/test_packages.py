"""What is served is what was registered: a package with one byte changed, a file too many or one too few is refused, each with its reason."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from treadle.backends.file_blobs import FileBlobs
from treadle.core.canonical import digest
from treadle.core.errors import Corrupt, NotFound, Refused
from treadle.registry.packages import Shelf, open_package, store
from treadle.registry.signing import Trust


class World:
    """A stored package of two files and a manifest, a blob store on disk and a shelf."""

    def __init__(self, folder: Path) -> None:
        self.blobs = FileBlobs(folder / "blobs")
        self.shelf = folder / "shelf"
        source = folder / "source"
        (source / "deep").mkdir(parents=True)
        (source / "model.onnx").write_bytes(b"the model")
        (source / "deep" / "reference.json").write_bytes(b"{}")
        self.package: dict[str, Any] = store(source, {"model_name": "late", "task": "binary"}, self.blobs)

    def open(self, **changes: Any) -> tuple[Path, dict[str, Any]]:
        return open_package({**self.package, **changes}, self.blobs, Shelf(self.shelf, Trust({})))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_package_opens_as_it_was_stored(world: World) -> None:
    folder, manifest = world.open()
    assert {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json"} == {
        "model.onnx": b"the model", "deep/reference.json": b"{}",
    }  # fmt: skip
    assert (manifest["model_name"], set(manifest["files"])) == ("late", {"model.onnx", "deep/reference.json"})
    assert world.open() == (folder, manifest)
    assert [p.name for p in world.shelf.iterdir()] == [folder.name]


def test_the_same_files_are_the_same_package_and_one_changed_byte_is_another(tmp_path: Path, world: World) -> None:
    again = store(tmp_path / "source", {"model_name": "late", "task": "binary"}, world.blobs)
    assert again == world.package
    (tmp_path / "source" / "model.onnx").write_bytes(b"the modem")
    assert store(tmp_path / "source", {"model_name": "late", "task": "binary"}, world.blobs)["digest"] != world.package["digest"]


@pytest.mark.parametrize("name", ["model.onnx", "deep/reference.json", "manifest.json"])
def test_one_flipped_byte_in_the_store_is_refused(world: World, name: str) -> None:
    path = world.blobs.path(world.package["files"][name])
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(Corrupt, match=r"hash|bytes"):
        world.open()
    assert not world.shelf.exists()


def test_one_flipped_byte_on_the_shelf_is_refused(world: World) -> None:
    folder, _ = world.open()
    (folder / "model.onnx").write_bytes(b"the modem")
    with pytest.raises(Corrupt, match=r"The file 'model\.onnx' of an opened package was changed") as caught:
        world.open()
    assert caught.value.hint == "Delete that folder; it is made again."


def test_an_extra_file_is_refused(world: World) -> None:
    folder, _ = world.open()
    (folder / "deep" / "evil.so").write_bytes(b"")
    with pytest.raises(Corrupt, match=r"The opened package has an extra file 'deep/evil\.so'"):
        world.open()


def test_a_missing_file_is_refused(world: World) -> None:
    folder, _ = world.open()
    (folder / "model.onnx").unlink()
    with pytest.raises(Corrupt, match=r"The opened package has no file 'model\.onnx'"):
        world.open()


def test_a_file_that_is_gone_from_the_store_is_not_found(world: World) -> None:
    world.blobs.delete(world.package["files"]["model.onnx"])
    with pytest.raises(NotFound):
        world.open()


@pytest.mark.parametrize("change", ["another address", "a file more", "a file less", "a way out"])
def test_a_list_of_files_that_was_changed_is_refused(world: World, change: str) -> None:
    files = dict(world.package["files"])
    if change == "another address":
        files["model.onnx"] = files["deep/reference.json"]
    elif change == "a file less":
        del files["model.onnx"]
    else:
        files["more" if change == "a file more" else "../../out"] = files["model.onnx"]
    with pytest.raises(Corrupt, match="The list of the package's files was changed after it was registered"):
        world.open(files=files)


def test_many_that_open_it_at_once_all_get_it_whole(world: World) -> None:
    gate, found = threading.Barrier(8), []

    def work() -> None:
        gate.wait()
        found.append(world.open())

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({str(folder) for folder, _ in found}) == 1
    assert len(list(world.shelf.iterdir())) == 1  # no half-made folder is left


@pytest.mark.parametrize("name", ["../../out", "/etc/out", "deep/../../out", "deep\\\\out", "./model.onnx", "", "model.sig"])
def test_a_file_that_would_lie_outside_the_package_is_refused_even_where_the_list_is_whole(world: World, name: str) -> None:
    files = {**world.package["files"], name: world.package["files"]["model.onnx"]}
    with pytest.raises(Refused, match="which is no place inside it"):
        world.open(files=files, digest=digest(files))
    assert not world.shelf.exists()


def test_a_link_is_no_file_of_a_package(tmp_path: Path, world: World) -> None:
    (tmp_path / "source" / "hosts").symlink_to("/etc/hosts")
    with pytest.raises(Refused, match="A package holds no links"):
        store(tmp_path / "source", {}, world.blobs)
    (tmp_path / "source" / "hosts").unlink()
    folder, _ = world.open()
    (tmp_path / "same").write_bytes(b"the model")
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(tmp_path / "same")
    with pytest.raises(Corrupt, match=r"The file 'model\.onnx' of an opened package was changed"):
        world.open()
