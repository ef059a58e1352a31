"""The keys of a project on this machine: one private key that packages are signed with, and the public keys whose signatures count.

They lie in one folder (the setting `keys`): `signing.pem`, readable by its owner alone, and `trusted.json`. Whoever can write that folder decides
what is served here, so it belongs to whoever runs the endpoint. A key that was revoked stays listed, to say why its signatures do not count.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from treadle.core.clock import iso, parse_time
from treadle.core.errors import Conflict, Corrupt, NotFound, Refused, StorageError, UsageError
from treadle.registry.signing import Key, Trust, fingerprint, new_key, public_of

PRIVATE, TRUSTED = "signing.pem", "trusted.json"


def trust(folder: Path, now: datetime) -> Trust:
    """Whose signatures count. Raises Corrupt, so that a damaged list never means that nothing is checked."""
    return Trust({key.fingerprint: key for key in known(folder)}, now)


def known(folder: Path) -> list[Key]:
    """Every key that counts or counted, oldest first. Raises Corrupt."""
    path = folder / TRUSTED
    try:
        entries = json.loads(path.read_text("utf-8"))
        return [
            Key(str(e["fingerprint"]), str(e["public"]), str(e["name"]), parse_time(e["until"]) if e["until"] else None, str(e["revoked"]))
            for e in entries
        ]
    except FileNotFoundError:
        if (folder / PRIVATE).exists():
            told = "The list of trusted keys is gone, though there is a key to sign with."
            raise Corrupt(told, where=str(path), hint="Restore it, or run: treadle signing init") from None
        return []
    except OSError as error:
        raise StorageError(f"The list of trusted keys cannot be read: {error.strerror}.", where=str(path)) from error
    except (ValueError, KeyError, TypeError, UsageError) as cause:
        raise Corrupt("The list of trusted keys cannot be read.", where=str(path), hint="Restore it from a backup.") from cause


def private_key(folder: Path) -> bytes | None:
    """The key to sign with, as PEM; None if there is none. Raises Refused when others could read it."""
    path = folder / PRIVATE
    try:
        mode = path.stat().st_mode
        if stat.S_IMODE(mode) & 0o077:
            told = f"Others can read the private key (mode {stat.S_IMODE(mode):o}), so it is not used."
            raise Refused(told, where=str(path), hint=f"If nobody did, run: chmod 600 {path}; otherwise: treadle signing rotate")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"The private key cannot be read: {error.strerror}.", where=str(path)) from error


def to_sign_with(folder: Path, name: str, *, make_one: bool) -> tuple[bytes | None, Key | None]:
    """The private key, made now if there is none and `make_one`, or None; and the key that was made now, if one was."""
    private, made = private_key(folder), None
    if private is None and make_one:
        with suppress(Conflict):  # another process was first
            made = make(folder, name)
        private = private_key(folder)
    return private, made


def make(folder: Path, name: str) -> Key:
    """Make the key to sign with, and trust it. With one there whose public half is not listed, that half is listed. Raises Conflict."""
    with _locked(folder):
        there = private_key(folder)
        if there is not None:
            if (folder / TRUSTED).exists():
                hint = "To replace it, run: treadle signing rotate"
                raise Conflict("There is a key to sign with already.", where=str(folder / PRIVATE), hint=hint)
            key = _key(public_of(there), name)
            _write(folder, [key])
            return key
        private = new_key()
        key = _key(public_of(private), name)
        # The public half first: a private key without it would stop every package from opening.
        _write(folder, [*known(folder), key])
        _replace(folder / PRIVATE, private, 0o600)
        return key


def rotate(folder: Path, name: str) -> tuple[str, Key]:
    """Sign with a new key from now on; the old one still counts. Returns the old key's fingerprint and the new key. Raises NotFound."""
    with _locked(folder):
        path = folder / PRIVATE
        if not path.exists():
            raise NotFound("There is no key to replace.", where=str(folder), hint="Make one with: treadle signing init")
        old = fingerprint(public_of(path.read_bytes()))  # one that others could read is just what should be replaced
        private = new_key()
        key = _key(public_of(private), name)
        _write(folder, [*known(folder), key])
        _replace(path, private, 0o600)
        return old, key


def add(folder: Path, public: str, name: str, until: datetime | None = None) -> Key:
    """Let the signatures of a public key (PEM) count, until a moment if one is given. Raises Conflict when it was revoked."""
    key = _key(public, name, until)
    with _locked(folder):
        before = known(folder)
        same = next((k for k in before if k.fingerprint == key.fingerprint), None)
        if same is not None and same.revoked:
            raise Conflict(f"The key {same.fingerprint[:16]} was revoked: {same.revoked}.", hint="Make another key.")
        _write(folder, [*(k for k in before if k.fingerprint != key.fingerprint), key])
    return key


def revoke(folder: Path, which: str, reason: str) -> Key:
    """Let a key count no more; what it signed is refused from now on. Raises NotFound, UsageError."""
    if not reason.strip():
        raise UsageError("A key is revoked for a reason.", hint="Give one with --reason.")
    with _locked(folder):
        before = known(folder)
        key = find(before, which)
        gone = replace(key, revoked=reason.strip())
        _write(folder, [gone if k.fingerprint == key.fingerprint else k for k in before])
    return gone


def find(among: list[Key], which: str) -> Key:
    """The key that a name or the beginning of a fingerprint means. Raises NotFound, UsageError when it means several."""
    exact = [k for k in among if k.name == which] or [k for k in among if len(which) >= 6 and k.fingerprint.startswith(which)]
    if not exact:
        raise NotFound(f"No key is named {which!r} or begins so.", hint="See: treadle signing keys")
    if len(exact) > 1:
        raise UsageError(f"{len(exact)} keys are named {which!r}.", hint="Give the beginning of the fingerprint: treadle signing keys")
    return exact[0]


def _key(public: str, name: str, until: datetime | None = None) -> Key:
    return Key(fingerprint(public), public, name, until)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One at a time changes the keys."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageError(f"The keys cannot be changed: {error.strerror}.", where=str(folder)) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(folder: Path, keys: list[Key]) -> None:
    entries: list[dict[str, Any]] = [
        {"fingerprint": k.fingerprint, "name": k.name, "until": iso(k.until) if k.until else None, "revoked": k.revoked, "public": k.public}
        for k in keys
    ]
    _replace(folder / TRUSTED, json.dumps(entries, indent=2).encode() + b"\n", 0o644)


def _replace(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all; nobody else can read a private one, at no moment."""
    pending = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        handle = os.open(pending, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with open(handle, "wb") as out:
            os.fchmod(handle, mode)
            out.write(content)
            out.flush()
            os.fsync(handle)
        os.replace(pending, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        pending.unlink(missing_ok=True)
        raise StorageError(f"The key cannot be written: {error.strerror}.", where=str(path)) from error
