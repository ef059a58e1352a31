"""Wrong sign-ins, by name and by address: after a few each further one has to wait longer. On record: a restart or a second process forgets none.

Each counts one; a quarter of an hour without one takes one away. From five on the next has to wait 1, 2, 4 ... seconds, at most a quarter of an
hour. So of a guesser who never tires there are about a dozen guesses at first, then four an hour.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from datetime import timedelta

from treadle.access.known import folded
from treadle.core.clock import Clock, iso, parse_time
from treadle.core.errors import Conflict, UsageError
from treadle.ports.ledger import Ledger

TRIES = "sign_in_tries"


@dataclass(frozen=True)
class Patience:
    """`free` wrong ones cost nothing; from then on the wait doubles from a second up to `longest`, which is also how long one is remembered."""

    free: int = 5
    longest: timedelta = timedelta(minutes=15)


PATIENCE = Patience()


def allowed(name: str, address: str, ledger: Ledger, clock: Clock, *, patience: Patience = PATIENCE) -> float:
    """Seconds until this name may be tried from this address; 0 for now."""
    return max(_wait(id, ledger, clock, patience)[0] for id in _ids(name, address))


def enter(name: str, address: str, ledger: Ledger, clock: Clock, *, patience: Patience = PATIENCE) -> float:
    """Count one try before its password is looked at, so that a thousand at once get no further than one after the other.

    Args:
        name: '' where none is said, as with a link.
    Returns: 0 when it counts; else the seconds to wait, and nothing is counted.
    """
    while True:
        found = [(id, *_wait(id, ledger, clock, patience)) for id in _ids(name, address)]
        wait = max(entry[1] for entry in found)
        if wait > 0:
            return wait
        try:
            with ledger.transaction():
                for id, _, count, version in found:
                    ledger.put(TRIES, id, {"count": count + 1, "last": iso(clock.now())}, expect=version)
            return 0.0
        except Conflict:
            continue  # another try came between, and may be the one too many


def succeeded(name: str, address: str, ledger: Ledger, clock: Clock, *, patience: Patience = PATIENCE) -> None:
    """The try that was counted was right: the name starts anew, the address gets back the one. Else whoever has an account could clear the way."""
    by_address = _ids(name, address)[-1]
    if name:
        forget(name, ledger, clock)
    while True:
        _, count, version = _wait(by_address, ledger, clock, patience)
        try:
            ledger.put(TRIES, by_address, {"count": max(0, count - 1), "last": iso(clock.now())}, expect=version)
            return
        except Conflict:
            continue


def forget(name: str, ledger: Ledger, clock: Clock) -> None:
    """Let this name be tried again at once."""
    ledger.put(TRIES, _ids(name, "")[0], {"count": 0, "last": iso(clock.now())})


def _ids(name: str, address: str) -> list[str]:
    """The records of a name, if one is said, and of an address. Of the name its hash: what people type there is at times their password."""
    try:
        named = folded(name)
    except UsageError:
        named = name
    by_name = [f"name-{hashlib.sha256(named.encode('utf-8', 'replace')).hexdigest()[:32]}"] if name else []
    return [*by_name, f"address-{_network(address)[:100]}"]


def _network(address: str) -> str:
    """An address, or of IPv6 the network of 64 bits that one customer gets: else everybody had more addresses than there are guesses."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ipaddress.ip_network((int(found), 64), strict=False))


def _wait(id: str, ledger: Ledger, clock: Clock, patience: Patience) -> tuple[float, int, int]:
    """(seconds to wait, how many count, version of the record)."""
    record = ledger.get(TRIES, id)
    if record is None:
        return 0.0, 0, 0
    since = max(0.0, (clock.now() - parse_time(record["last"])).total_seconds())
    longest = patience.longest.total_seconds()
    over = record["count"] - patience.free
    wait = min(2.0 ** min(over, 30), longest) if over >= 0 else 0.0
    count = max(0, record["count"] - int(since // longest))
    return max(0.0, wait - since), count, record.version
