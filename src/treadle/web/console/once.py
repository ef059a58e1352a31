"""The same call again is the same call: a request that names an `Idempotency-Key` is done once, and its answer is given again.

Kept by person and key (kind `api_call`). A call whose process died on the way stays 'begun': it is not done again, and who asks again is told.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

from treadle.core.canonical import digest, plain
from treadle.core.errors import Conflict, UsageError
from treadle.core.records import Record
from treadle.ports.ledger import Ledger

KIND = "api_call"
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}", re.ASCII)


def once(key: str, person: str, operation: str, given: Any, do: Callable[[], Any], ledger: Ledger, *, wait: float = 0.0) -> tuple[Any, bool]:
    """What `do` gives, and whether it was done before.

    Args:
        wait: seconds that a second call waits for the end of the first.

    Raises: UsageError for a key that is none, or was used for something else; Conflict while the first call is under way (or its process died);
    what `do` raises: such a call was not done, and may be made again.
    """
    if not _KEY.fullmatch(key):
        raise UsageError("This Idempotency-Key cannot be used.", where=key[:100], hint="It may have up to 100 letters, digits and . _ : -")
    id = digest([person, key])
    about = {"person": person, "operation": operation, "given": digest(plain(given))}
    try:
        begun = ledger.put(KIND, id, {**about, "status": "begun"}, expect=0)
    except Conflict:
        found = _ended(id, ledger, wait)
        if found["status"] == "failed":
            begun = ledger.put(KIND, id, {**about, "status": "begun"}, expect=found.version)
        elif any(found[k] != about[k] for k in about):
            raise UsageError("This Idempotency-Key was used for another call.", hint="Give each call a key of its own.") from None
        elif found["status"] == "begun":
            raise Conflict(
                "This call was made before, and its end is not on record.", hint="See what became of it before you make it with another key."
            ) from None
        else:
            return found["answer"], True
    try:
        answer = plain(do())
    except BaseException:
        ledger.put(KIND, id, {**about, "status": "failed"}, expect=begun.version)
        raise
    ledger.put(KIND, id, {**about, "status": "done", "answer": answer}, expect=begun.version)
    return answer, False


def _ended(id: str, ledger: Ledger, wait: float) -> Record:
    """A call as it stands, once it has ended or `wait` seconds have passed."""
    until = time.monotonic() + wait
    while True:
        found = ledger.get(KIND, id)
        assert found is not None
        if found["status"] != "begun" or time.monotonic() >= until:
            return found
        time.sleep(0.05)
