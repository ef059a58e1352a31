"""Signatures over the files of a package, as OpenSSF Model Signing 1.0 has them: made with a private key, checked with a public one.

A signature is a Sigstore bundle: a DSSE envelope around an in-toto statement that names every file with its SHA-256. The files may also be checked
without Treadle: `model_signing verify key FOLDER --signature FOLDER/model.sig --public_key key.pub`. What is written follows
https://github.com/ossf/model-signing-spec and https://github.com/secure-systems-lab/dsse/blob/v1.0.0/protocol.md; keys are on the curves P-256, P-384
or P-521.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from treadle.core.errors import Corrupt, Refused, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

FILE = "model.sig"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://model_signing/signature/v1.0"
LARGEST = 16 << 20  # bytes of a bundle that are read; one of 100,000 files has less
AGAIN = "If you trust these files, sign them with: treadle signing sign"


@dataclass(frozen=True)
class Key:
    """A public key whose signatures count, or counted once.

    Args:
        fingerprint: SHA-256 of the key as PEM, in hexadecimal: what a signature names its key by.
        until: when it stops to count; None for never.
        revoked: why it does not count any more; empty if it does.
    """

    fingerprint: str
    public: str
    name: str = ""
    until: datetime | None = None
    revoked: str = ""


@dataclass(frozen=True)
class Trust:
    """Whose signatures count here, at a moment. Without any key nothing is checked; with one, every package must be signed."""

    keys: Mapping[str, Key]
    now: datetime | None = None

    @property
    def asks(self) -> bool:
        """Whether packages must be signed."""
        return bool(self.keys)


def new_key() -> bytes:
    """A new private key on P-256, as PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def public_of(private: bytes) -> str:
    """The public half of a private key, both as PEM. Raises UsageError."""
    return _pem(_private(private).public_key())


def fingerprint(public: str) -> str:
    """What a signature names a public key (PEM) by. Raises UsageError when it is none of these curves."""
    return hashlib.sha256(_pem(_public(public)).encode()).hexdigest()


def sign(files: Mapping[str, str], name: str, private: bytes) -> bytes:
    """A signature over files.

    Args:
        files: path inside the package to SHA-256 in hexadecimal, which is what the blobs address it by.
        name: of what is signed, for people; nothing checks it.
    Returns: a Sigstore bundle, JSON. The same files, name and key give the same bytes (RFC 6979).
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _private(private)
    order = sorted(files)
    root = hashlib.sha256(b"".join(bytes.fromhex(files[path]) for path in order)).hexdigest()
    statement = {
        "_type": STATEMENT, "subject": [{"name": name, "digest": {"sha256": root}}], "predicateType": PREDICATE,
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": [FILE]},
            "resources": [{"name": path, "algorithm": "sha256", "digest": files[path]} for path in order],
        },
    }  # fmt: skip
    payload = json.dumps(statement, indent=2, ensure_ascii=False).encode()
    made = key.sign(_authenticated(payload), ec.ECDSA(_hash(key.public_key()), deterministic_signing=True))
    bundle = {
        "mediaType": BUNDLE,
        "verificationMaterial": {"publicKey": {"hint": fingerprint(_pem(key.public_key()))}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(), "payloadType": PAYLOAD,
            "signatures": [{"sig": base64.b64encode(made).decode(), "keyid": ""}],
        },
    }  # fmt: skip
    return json.dumps(bundle).encode()


def verify(bundle: bytes, files: Mapping[str, str], trust: Trust) -> Key:
    """The trusted key that signed exactly these files.

    Raises: Refused when the key is unknown, revoked or expired; Corrupt when the signature cannot be read, does not hold, or is of other files.
    """
    try:
        if len(bundle) > LARGEST:
            raise ValueError("too large")
        read = json.loads(bundle)
        envelope = read["dsseEnvelope"]
        hint = str(read["verificationMaterial"]["publicKey"]["hint"])
        payload = base64.b64decode(envelope["payload"], validate=True)
        (signed,) = envelope["signatures"]
        made = base64.b64decode(signed["sig"], validate=True)
        known = (read["mediaType"], envelope["payloadType"]) == (BUNDLE, PAYLOAD)
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise Corrupt("The signature of the package cannot be read.", hint=AGAIN) from cause
    if not known:
        raise Corrupt("The signature of the package is of another kind than OpenSSF model signing.", hint=AGAIN)
    key = _counted(hint, trust)
    if not _holds(key.public, payload, made):
        raise Corrupt("The signature of the package does not hold: it, or what it says, was changed.", hint=AGAIN)
    _covers(payload, files)
    return key


def _counted(hint: str, trust: Trust) -> Key:
    key = trust.keys.get(hint)
    if key is None:
        raise Refused(f"The package is signed with a key that is not trusted here ({hint[:16]}).", hint="See: treadle signing keys")
    if key.revoked:
        raise Refused(f"The package is signed with the key {key.name or hint[:16]!r}, which was revoked: {key.revoked}.", hint=AGAIN)
    if key.until is not None and trust.now is not None and trust.now >= key.until:
        told = f"The package is signed with the key {key.name or hint[:16]!r}, which counted until {key.until:%Y-%m-%d}."
        raise Refused(told, hint=AGAIN)
    return key


def _covers(payload: bytes, files: Mapping[str, str]) -> None:
    """Raises Corrupt unless the statement names exactly these files, each once."""
    try:
        statement = json.loads(payload)
        named = [(str(r["name"]), str(r["algorithm"]), str(r["digest"])) for r in statement["predicate"]["resources"]]
        kinds = (statement["_type"], statement["predicateType"], statement["predicate"]["serialization"]["method"])
    except (ValueError, KeyError, TypeError, RecursionError) as cause:
        raise Corrupt("The signature of the package cannot be read.", hint=AGAIN) from cause
    if kinds != (STATEMENT, PREDICATE, "files"):
        raise Corrupt("The signature of the package is of another kind than OpenSSF model signing.", hint=AGAIN)
    digests = {name: digest for name, algorithm, digest in named if algorithm == "sha256"}
    odd = sorted(name for name in {*digests, *files} if digests.get(name) != files.get(name))
    if odd or len(named) != len(files):
        said = f"first {odd[0]!r}" if odd else "one of them twice"
        raise Corrupt(f"The signature is of other files than the package has, {said}.", hint=AGAIN)


def _authenticated(payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding, which binds the type to the payload."""
    return f"DSSEv1 {len(PAYLOAD)} {PAYLOAD} {len(payload)} ".encode() + payload


def _holds(public: str, payload: bytes, made: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec

    key = _public(public)
    try:
        key.verify(made, _authenticated(payload), ec.ECDSA(_hash(key)))
    except InvalidSignature:
        return False
    return True


def _hash(key: EllipticCurvePublicKey) -> Any:
    from cryptography.hazmat.primitives import hashes

    return {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}[key.curve.key_size]


def _private(pem: bytes) -> EllipticCurvePrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as cause:
        raise UsageError("The private key cannot be read.", hint="It is an unencrypted PEM file of a key on P-256, P-384 or P-521.") from cause
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UsageError("The private key is not on an elliptic curve.", hint="Use P-256, P-384 or P-521.")
    _check_curve(key.curve.name)
    return key


def _public(pem: str) -> EllipticCurvePublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm) as cause:
        raise UsageError("The public key cannot be read.", hint="It is a PEM file of a key on P-256, P-384 or P-521.") from cause
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise UsageError("The public key is not on an elliptic curve.", hint="Use P-256, P-384 or P-521.")
    _check_curve(key.curve.name)
    return key


def _check_curve(name: str) -> None:
    if name not in ("secp256r1", "secp384r1", "secp521r1"):
        raise UsageError(f"The key is on the curve {name}.", hint="Use P-256, P-384 or P-521.")


def _pem(key: EllipticCurvePublicKey) -> str:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
