"""What every blob store must do: the promises of `treadle.ports.blobs`, one test each."""

from __future__ import annotations

import hashlib
import io
import pickle
import zipfile
from array import array
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.core.errors import Corrupt, NotFound
from treadle.ports.blobs import Blobs

ABSENT = "0" * 64
NO_ADDRESSES = ["", "abc", "../../etc/passwd", "/etc/passwd", ABSENT.replace("0", "A"), ABSENT + "0", ABSENT + "\n", "tmp/" + "0" * 60, "\x00" * 64]


class BlobsContract:
    """Inherit, and say in `make` how to open a store that lives in a folder, and in `damage` how to change a stored blob behind its back.

    `survives` is False for a store that is gone with the object.
    """

    survives = True

    def make(self, folder: Path) -> Blobs:
        raise NotImplementedError

    def damage(self, blobs: Blobs, address: str) -> None:
        raise NotImplementedError

    @pytest.fixture
    def blobs(self, tmp_path: Path) -> Blobs:
        return self.make(tmp_path)

    @pytest.mark.parametrize("data", [b"", b"late", b"\x00\xff" * 3_000_000], ids=["empty", "short", "long"])
    def test_bytes_come_back_under_their_hash(self, blobs: Blobs, data: bytes) -> None:
        address = blobs.put(data)
        assert address == hashlib.sha256(data).hexdigest()
        assert blobs.get(address) == data
        assert blobs.path(address).read_bytes() == data
        assert blobs.exists(address)
        blobs.verify(address)

    def test_a_file_is_copied_and_may_change_afterwards(self, blobs: Blobs, tmp_path: Path) -> None:
        source = tmp_path / "model.onnx"
        source.write_bytes(b"model" * 1_000_000)
        address = blobs.put(source)
        source.write_bytes(b"other")
        assert blobs.get(address) == b"model" * 1_000_000
        assert address == blobs.put(b"model" * 1_000_000)

    def test_a_file_that_is_not_there_is_not_found_and_stores_nothing(self, blobs: Blobs, tmp_path: Path) -> None:
        with pytest.raises(NotFound):
            blobs.put(tmp_path / "missing")
        assert list(blobs.addresses()) == []

    def test_what_a_function_writes_is_stored_under_its_hash(self, blobs: Blobs) -> None:
        def write(out: BinaryIO) -> None:
            assert out.writable()
            assert not out.seekable()
            assert not out.readable()
            assert out.write(b"head") == 4
            out.write(bytearray(b"-"))
            out.write(memoryview(array("d", [1.5] * 400_000)))  # numbers, as a table's buffer: counted in bytes
            assert out.tell() == 4 + 1 + 3_200_000
            out.writelines([b"t", b"ail"])
            out.flush()

        data = b"head-" + array("d", [1.5] * 400_000).tobytes() + b"tail"
        address = blobs.put(write)
        assert address == hashlib.sha256(data).hexdigest() == blobs.put(data)
        assert blobs.get(address) == data
        assert blobs.path(address).read_bytes() == data
        assert list(blobs.addresses()) == [address]

    def test_a_function_may_write_nothing_and_may_close_the_file(self, blobs: Blobs) -> None:
        assert blobs.put(lambda out: None) == blobs.put(b"")
        assert blobs.get(blobs.put(lambda out: (out.write(b"late"), out.close()))) == b"late"

    def test_libraries_that_write_archives_can_write_one(self, blobs: Blobs) -> None:
        def write(out: BinaryIO) -> None:
            with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("a.txt", "late" * 1000)

        with zipfile.ZipFile(io.BytesIO(blobs.get(blobs.put(write)))) as archive:
            assert archive.read("a.txt") == b"late" * 1000

    @pytest.mark.parametrize("error", [ZeroDivisionError("mine"), OSError(28, "mine"), KeyboardInterrupt()], ids=["error", "disk", "interrupt"])
    def test_a_function_that_raises_leaves_nothing_behind_and_its_error_comes_out(self, blobs: Blobs, error: BaseException) -> None:
        def write(out: BinaryIO) -> None:
            out.write(b"half" * 500_000)
            raise error

        with pytest.raises(type(error)) as caught:
            blobs.put(write)
        assert caught.value is error
        assert list(blobs.addresses()) == []
        assert blobs.sweep(0) == 0

    def test_the_same_bytes_have_one_address_and_are_stored_once(self, blobs: Blobs, tmp_path: Path) -> None:
        first = blobs.put(b"late")
        before = blobs.path(first).stat()
        (tmp_path / "file").write_bytes(b"late")
        assert blobs.put(b"late") == blobs.put(tmp_path / "file") == first
        after = blobs.path(first).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        assert list(blobs.addresses()) == [first]

    def test_every_address_held_is_named(self, blobs: Blobs) -> None:
        assert set(blobs.addresses()) == set()
        addresses = {blobs.put(b"%d" % n) for n in range(20)}
        assert set(blobs.addresses()) == addresses

    def test_what_was_never_put_is_not_found(self, blobs: Blobs) -> None:
        blobs.put(b"late")
        assert not blobs.exists(ABSENT)
        for ask in (blobs.get, blobs.path, blobs.verify):
            with pytest.raises(NotFound):
                ask(ABSENT)

    @pytest.mark.parametrize("address", NO_ADDRESSES)
    def test_what_is_no_address_is_not_found_and_never_becomes_a_path(self, blobs: Blobs, address: str) -> None:
        assert not blobs.exists(address)
        blobs.delete(address)
        for ask in (blobs.get, blobs.path, blobs.verify):
            with pytest.raises(NotFound):
                ask(address)

    def test_a_deleted_blob_is_gone_and_can_be_put_again(self, blobs: Blobs) -> None:
        address, other = blobs.put(b"late"), blobs.put(b"early")
        blobs.path(address)
        blobs.delete(address)
        blobs.delete(address)
        assert not blobs.exists(address)
        assert list(blobs.addresses()) == [other]
        with pytest.raises(NotFound):
            blobs.path(address)
        assert blobs.put(b"late") == address
        assert blobs.path(address).read_bytes() == b"late"

    def test_damage_is_found_when_the_bytes_are_read(self, blobs: Blobs) -> None:
        address = blobs.put(b"late")
        self.damage(blobs, address)
        for ask in (blobs.get, blobs.verify):
            with pytest.raises(Corrupt, match=address):
                ask(address)

    def test_the_local_file_is_read_only(self, blobs: Blobs) -> None:
        assert blobs.path(blobs.put(b"late")).stat().st_mode & 0o222 == 0

    def test_threads_that_put_the_same_bytes_agree(self, blobs: Blobs) -> None:
        data = [b"%d" % n * 50_000 for n in range(4)]
        with ThreadPoolExecutor(4) as pool:
            addresses = list(pool.map(blobs.put, data * 6))
        assert addresses == [hashlib.sha256(piece).hexdigest() for piece in data] * 6
        assert set(blobs.addresses()) == set(addresses)
        assert blobs.sweep(0) == 0

    def test_sweeping_leaves_what_was_put(self, blobs: Blobs) -> None:
        address = blobs.put(b"late")
        assert blobs.sweep(0) == 0
        assert blobs.get(address) == b"late"

    def test_what_was_put_is_there_when_opened_again(self, blobs: Blobs, tmp_path: Path) -> None:
        if not self.survives:
            pytest.skip("gone with its process, as it says")
        address = blobs.put(b"late")
        again = self.make(tmp_path)
        assert again.get(address) == b"late"
        assert list(again.addresses()) == [address]

    def test_a_pickled_store_is_the_same_store_elsewhere(self, blobs: Blobs) -> None:
        if not self.survives:
            pytest.skip("gone with its process, as it says")
        address = blobs.put(b"late")
        assert pickle.loads(pickle.dumps(blobs)).get(address) == b"late"

    def test_any_sequence_of_puts_and_deletes_ends_where_a_dictionary_ends(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        @settings(max_examples=25, deadline=None)
        @given(st.lists(st.tuples(st.booleans(), st.sampled_from([b"", b"a", b"b", b"c"]) | st.binary(max_size=50)), max_size=20))
        def walk(moves: list[tuple[bool, bytes]]) -> None:
            blobs, held = self.make(tmp_path_factory.mktemp("blobs")), {}
            for keep, data in moves:
                address = hashlib.sha256(data).hexdigest()
                if keep:
                    held[blobs.put(data)] = data
                else:
                    blobs.delete(address)
                    held.pop(address, None)
            assert {address: blobs.get(address) for address in blobs.addresses()} == held

        walk()

    def test_a_source_that_breaks_leaves_nothing_behind(self, blobs: Blobs, tmp_path: Path) -> None:
        with suppress(Exception):
            blobs.put(tmp_path)  # a folder opens but does not read
        assert list(blobs.addresses()) == []
        assert blobs.sweep(0) == 0
