"""Secrets that are handed out once: random text of which only the SHA-256 is stored. Of 32 random bytes nobody finds the original."""

from __future__ import annotations

import hashlib
import hmac
import secrets


def new_secret() -> str:
    """32 random bytes as text for a URL, a header or a cookie."""
    return secrets.token_urlsafe(32)


def digest_of(secret: str) -> str:
    """What is stored of it."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


def same(stored: str, secret: str) -> bool:
    """Whether it is the secret, in a time that does not say how much of it was right."""
    return hmac.compare_digest(stored, digest_of(secret))


def id_of(prefix: str, secret: str) -> str:
    """The id of a record that is found by its secret: 96 bits of the hash, from which the secret cannot be told."""
    return f"{prefix}-{digest_of(secret)[:24]}"
