"""Passwords: which are good enough, and their hashes by Argon2id (RFC 9106). Length counts, not composition (NIST SP 800-63B)."""

from __future__ import annotations

import base64
import threading
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from treadle.core.errors import Unavailable, UsageError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SHORTEST, LONGEST = 12, 1000
# Of the passwords most often found in breaches those that are long enough to be tried here, and their kin with digits behind.
_COMMON = """
password password1 passwordpassword passw0rd letmein iloveyou trustno1 sunshine princess football baseball superman welcome welcometo
qwertyuiop qwertyuiopas asdfghjkl zxcvbnm qazwsxedc qazwsxedcrfv 1q2w3e4r5t6y 1qaz2wsx3edc qwerty qwertyqwerty abcdefghijkl abc abcd abcdefgh
administrator admin adminadmin adminadminadmin changeme changemenow changeit changethis default secret secretsecret topsecret treadle treadletreadle
correcthorsebatterystaple mypassword thisismypassword newpassword masterpassword internet computer monkey dragon michael jennifer whatever starwars
pokemon spiderman liverpool chelsea arsenal
"""
COMMON = frozenset(_COMMON.split())


@dataclass(frozen=True)
class Hashing:
    """What a hash costs. The second choice of RFC 9106: 64 MiB, three passes, four lanes."""

    passes: int = 3
    memory_kib: int = 65_536
    lanes: int = 4


HASHING = Hashing()
_AT_ONCE = threading.BoundedSemaphore(2)  # each takes `memory_kib`: many sign-ins at once wait rather than take all memory


def check_rule(password: str, name: str) -> None:
    """Raises UsageError for a password that is too short, too long, the person's name, or among the first that anybody tries."""
    text = unicodedata.normalize("NFKC", password)
    if len(text) < SHORTEST:
        raise UsageError(f"A password has {SHORTEST} characters or more.", hint="Several words in a row are good.")
    if len(text) > LONGEST:
        raise UsageError(f"A password has at most {LONGEST:,} characters.")
    plain = text.casefold().strip()
    bare = plain.strip("0123456789!?.,_-*#$ ")
    if plain in COMMON or bare in COMMON or len(set(plain)) < 4 or plain in "01234567890123456789" or plain in "98765432109876543210":
        raise UsageError("This password is among the first that anybody would try.", hint="Take several words that do not belong together.")
    if name.casefold() in (plain, bare, plain.replace(" ", "")) or plain.replace(name.casefold(), "") == "":
        raise UsageError("A password is not the name of its owner.", hint="Take several words that do not belong together.")


def hashed(password: str, hashing: Hashing = HASHING) -> str:
    """The hash to store: text that says its own parameters and salt."""
    with _AT_ONCE:
        return _hasher(hashing).hash(unicodedata.normalize("NFKC", password))


def matches(stored: str, password: str, hashing: Hashing = HASHING) -> bool:
    """Whether it is the password. Without a stored hash one of the same cost is checked, so that the time does not say who has one."""
    from argon2.exceptions import InvalidHashError, VerificationError

    with _AT_ONCE:
        try:
            _hasher(hashing).verify(stored or _nobody(hashing), unicodedata.normalize("NFKC", password[: LONGEST + 1]))
        except (VerificationError, InvalidHashError):
            return False
    return bool(stored) and len(password) <= LONGEST


def outdated(stored: str, hashing: Hashing = HASHING) -> bool:
    """Whether it was made with other parameters than those of today."""
    return _hasher(hashing).check_needs_rehash(stored)


@lru_cache(maxsize=4)
def _hasher(hashing: Hashing) -> PasswordHasher:
    try:
        from argon2 import PasswordHasher
    except ImportError:
        raise Unavailable("Passwords need the package argon2-cffi.", hint="Install it with: pip install 'treadle[console]'") from None
    return PasswordHasher(time_cost=hashing.passes, memory_cost=hashing.memory_kib, parallelism=hashing.lanes)


def _nobody(hashing: Hashing) -> str:
    """A hash that nothing is the password of: its salt and digest are zeros."""
    salt, digest = (base64.b64encode(bytes(n)).decode().rstrip("=") for n in (16, 32))
    return f"$argon2id$v=19$m={hashing.memory_kib},t={hashing.passes},p={hashing.lanes}${salt}${digest}"
