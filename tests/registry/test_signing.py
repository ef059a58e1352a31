"""Only what a trusted key signed is opened: each way in which that is not so has its own sentence, and no byte of package or signature can change."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.backends.file_blobs import FileBlobs
from treadle.core.errors import Conflict, Corrupt, NotFound, Refused, StorageError, UsageError
from treadle.registry import keys, packages, signing
from treadle.registry.signing import Key, Trust

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FILES = {"model.onnx": "a" * 64, "deep/ünï.json": "b" * 64, "manifest.json": "c" * 64}
PRIVATE = signing.new_key()
PUBLIC = signing.public_of(PRIVATE)
OWN = Key(signing.fingerprint(PUBLIC), PUBLIC, "own")
TRUST = Trust({OWN.fingerprint: OWN}, NOW)


class World:
    """A signed package in a blob store, and a shelf that trusts one key."""

    def __init__(self, folder: Path) -> None:
        self.blobs, self.keys = FileBlobs(folder / "blobs"), folder / "keys"
        (folder / "source" / "deep").mkdir(parents=True)
        (folder / "source" / "model.onnx").write_bytes(b"the model")
        (folder / "source" / "deep" / "reference.json").write_bytes(b"{}")
        self.folder, self.unsigned = folder, packages.store(folder / "source", {"model_name": "late"}, self.blobs)
        keys.make(self.keys, "own")
        self.package = self.sign(self.unsigned)

    def sign(self, package: dict[str, Any]) -> dict[str, Any]:
        private = keys.private_key(self.keys)
        assert private is not None
        return packages.sign(package, "late", private, self.blobs)

    def open(self, package: dict[str, Any] | None = None, now: datetime = NOW) -> tuple[Path, dict[str, Any]]:
        return packages.open_package(package or self.package, self.blobs, packages.Shelf(self.folder / "shelf", keys.trust(self.keys, now)))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_signed_package_opens_and_carries_its_signature(world: World) -> None:
    folder, manifest = world.open()
    assert (folder / "model.sig").is_file()
    assert set(manifest["files"]) | {"manifest.json"} == {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert world.open() == (folder, manifest)
    assert packages.told_signature(world.package, world.blobs, keys.trust(world.keys, NOW)).startswith("signed with own (")


def test_the_same_files_and_key_give_the_same_signature() -> None:
    assert signing.sign(FILES, "late", PRIVATE) == signing.sign(dict(reversed(FILES.items())), "late", PRIVATE)
    assert signing.verify(signing.sign(FILES, "late", PRIVATE), FILES, TRUST) == OWN


@given(st.data())
def test_no_byte_of_a_signature_can_change_unseen(data: st.DataObject) -> None:
    bundle = bytearray(signing.sign(FILES, "late", PRIVATE))
    place = data.draw(st.integers(0, len(bundle) - 1))
    bundle[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        signing.verify(bytes(bundle), FILES, TRUST)
    except (Corrupt, Refused):
        return
    # What is left are bytes that say nothing: names of fields nobody reads.
    read = json.loads(bundle)
    there = json.loads(signing.sign(FILES, "late", PRIVATE))
    assert read["dsseEnvelope"]["payload"] == there["dsseEnvelope"]["payload"]
    assert base64.b64decode(read["dsseEnvelope"]["signatures"][0]["sig"]) == base64.b64decode(there["dsseEnvelope"]["signatures"][0]["sig"])


@given(st.binary(max_size=300))
def test_bytes_that_are_no_signature_are_refused_in_one_sentence(content: bytes) -> None:
    with pytest.raises(Corrupt, match="cannot be read"):
        signing.verify(content, FILES, TRUST)


@pytest.mark.parametrize("which", ["model.onnx", "deep/reference.json", "manifest.json", "signature"])
@pytest.mark.parametrize("where", ["store", "shelf"])
def test_one_flipped_byte_anywhere_is_refused(world: World, which: str, where: str) -> None:
    folder, _ = world.open()
    address = world.package["signature"]["bundle"] if which == "signature" else world.package["files"][which]
    path = world.blobs.path(address) if where == "store" else folder / ("model.sig" if which == "signature" else which)
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(Corrupt):
        world.open()


@pytest.mark.parametrize("attack", ["another model", "a file more", "another file", "a file less"])
def test_a_signature_of_other_files_is_refused_although_it_holds(world: World, attack: str) -> None:
    files = dict(world.package["files"])
    if attack == "another model":
        (world.folder / "source" / "model.onnx").write_bytes(b"another model")
        files = packages.store(world.folder / "source", {"model_name": "other"}, world.blobs)["files"]
    elif attack == "a file less":
        del files["deep/reference.json"]
    else:
        files["more" if attack == "a file more" else "model.onnx"] = world.blobs.put(b"evil")
    from treadle.core.canonical import digest

    with pytest.raises(Corrupt, match="The signature is of other files than the package has"):
        world.open({**world.package, "files": files, "digest": digest(files)})


def test_an_unsigned_package_opens_only_where_no_key_is_trusted(world: World) -> None:
    with pytest.raises(Refused, match="The package is unsigned, and this project serves only signed ones"):
        world.open(world.unsigned)
    assert packages.told_signature(world.unsigned, world.blobs, keys.trust(world.keys, NOW)) == "unsigned"
    world.keys = world.folder / "no keys"
    folder, _ = world.open(world.unsigned)
    assert not (folder / "model.sig").exists()
    assert "not checked: no key is trusted here" in packages.told_signature(world.package, world.blobs, keys.trust(world.keys, NOW))


def test_a_version_that_says_it_is_signed_is_not_believed(world: World) -> None:
    said = {**world.unsigned, "signature": {"bundle": world.blobs.put(b"{}"), "key": world.package["signature"]["key"]}}
    assert packages.told_signature(said, world.blobs, keys.trust(world.keys, NOW)).startswith("not valid: ")
    gone = {**world.unsigned, "signature": {"bundle": "0" * 64, "key": ""}}
    assert packages.told_signature(gone, world.blobs, keys.trust(world.keys, NOW)).startswith("not valid: There is no blob")
    with pytest.raises(NotFound):
        world.open(gone)


def test_an_unknown_key_an_ended_one_and_a_revoked_one_are_told_apart(world: World) -> None:
    (key,) = keys.known(world.keys)
    keys.add(world.keys, key.public, "own", until=NOW + timedelta(days=1))
    world.open()
    with pytest.raises(Refused, match="which counted until 2026-01-02"):
        world.open(now=NOW + timedelta(days=1))
    keys.revoke(world.keys, "own", "the laptop was stolen")
    with pytest.raises(Refused, match="'own', which was revoked: the laptop was stolen"):
        world.open()
    with pytest.raises(Conflict, match="was revoked"):
        keys.add(world.keys, key.public, "own again")
    other = World(world.folder / "other")
    with pytest.raises(Refused, match="signed with a key that is not trusted here"):
        other.open({**other.package, "signature": {"bundle": other.blobs.put(world.blobs.get(world.package["signature"]["bundle"])), "key": ""}})


def test_after_a_rotation_the_new_key_signs_and_the_old_one_still_counts(world: World) -> None:
    old, new = keys.rotate(world.keys, "own 2")
    assert old == world.package["signature"]["key"]
    again = world.sign(world.unsigned)
    assert again["signature"]["key"] == new.fingerprint
    assert world.open()[0] != world.open(again)[0]
    keys.revoke(world.keys, old, "rotated out")
    world.open(again)
    with pytest.raises(Refused, match="rotated out"):
        world.open()


def test_the_private_key_is_for_its_owner_alone(world: World) -> None:
    path = world.keys / keys.PRIVATE
    assert path.stat().st_mode & 0o777 == 0o600
    assert world.keys.stat().st_mode & 0o077 == 0
    path.chmod(0o640)
    with pytest.raises(Refused, match=r"Others can read the private key \(mode 640\)"):
        keys.private_key(world.keys)
    keys.rotate(world.keys, "new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_damaged_or_missing_list_of_keys_never_means_that_nothing_is_checked(world: World) -> None:
    path = world.keys / keys.TRUSTED
    content = path.read_text()
    path.write_text(content[:-20])
    with pytest.raises(Corrupt, match="cannot be read"):
        keys.trust(world.keys, NOW)
    path.unlink()
    with pytest.raises(Corrupt, match="is gone, though there is a key"):
        keys.trust(world.keys, NOW)
    assert keys.make(world.keys, "own").public in content.replace("\\n", "\n")
    world.open()
    with pytest.raises(Conflict, match="There is a key to sign with already"):
        keys.make(world.keys, "own")


@pytest.mark.parametrize("bad", ["", "nonsense", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "a private key", "rsa", "another curve"])
def test_what_is_no_key_of_these_curves_cannot_be_trusted(tmp_path: Path, bad: str) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    public: Any = {"rsa": lambda: rsa.generate_private_key(65537, 2048), "another curve": lambda: ec.generate_private_key(ec.SECP256K1())}.get(bad)
    if public is not None:
        bad = public().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    with pytest.raises(UsageError, match=r"public key cannot be read|not on an elliptic curve|is on the curve"):
        keys.add(tmp_path, PRIVATE.decode() if bad == "a private key" else bad, "x")
    assert not (tmp_path / keys.TRUSTED).exists()


def test_larger_curves_sign_too() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    for curve in (ec.SECP384R1(), ec.SECP521R1()):
        private = ec.generate_private_key(curve).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        public = signing.public_of(private)
        key = Key(signing.fingerprint(public), public)
        assert signing.verify(signing.sign(FILES, "late", private), FILES, Trust({key.fingerprint: key})) == key


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be changed"):
        keys.make(tmp_path / "file" / "keys", "x")


def test_a_reference_signature_of_the_standards_own_library_holds() -> None:
    """Made by `model_signing sign key` 1.1.1 over two files, one of them in a folder."""
    files = {
        "deep/x.json": "ca3d163bab055381827226140568f3bef7eaac187cebd76878e0b63e9e442356",
        "model.onnx": "98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4",
    }
    given = Path(__file__).with_name("model_signing_1.1.1")
    public = (given / "key.pub").read_text()
    key = Key(signing.fingerprint(public), public, "reference")
    bundle = (given / "model.sig").read_bytes()
    assert signing.verify(bundle, files, Trust({key.fingerprint: key})) == key
    with pytest.raises(Corrupt):
        signing.verify(bundle, {**files, "model.onnx": "0" * 64}, Trust({key.fingerprint: key}))
