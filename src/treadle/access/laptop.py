"""The person whose machine it is: whoever starts a console for themselves is let in by one link, without an account made first."""

from __future__ import annotations

import re
import unicodedata

from treadle.access.known import Person, find_person, has_administrator
from treadle.access.people import add_person
from treadle.access.permissions import ADMINISTRATOR
from treadle.core.clock import Clock
from treadle.core.errors import Conflict
from treadle.ports.ledger import Ledger


def owner(login: str, ledger: Ledger, clock: Clock) -> Person:
    """The person of this login name, made if there is none: the administrator where nobody is one, else without a role.

    Somebody who is there already stays as they are, so that starting a console raises nobody.
    """
    plain = re.sub(r"[^a-z0-9._@-]+", "-", unicodedata.normalize("NFKC", login).casefold()).lstrip("._@-")[:64] or "owner"
    found = find_person(plain, ledger)
    if found is not None:
        return found
    try:
        return add_person(
            plain, ledger, clock, actor=login, full=login if login.isprintable() and len(login) <= 200 else "", kind="laptop",
            roles=() if has_administrator(ledger) else (ADMINISTRATOR,),
        )  # fmt: skip
    except Conflict:  # two consoles were started at this moment
        found = find_person(plain, ledger)
        assert found is not None
        return found
