"""What a person, or the evidence, may do to a deployment at any moment: go back, stop everything, go on. Recorded with who and why.

The last intent wins: where a promotion is being written at the same time, the change is made again on what stands then, until it is the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from treadle.core.clock import Clock, iso
from treadle.core.errors import Conflict, Refused, UsageError
from treadle.core.records import Record
from treadle.ports.ledger import Ledger
from treadle.registry import conditions, promote, versions

TRIES = 50


def rollback(
    model: str, reason: str, ledger: Ledger, clock: Clock, *, actor: str, to: int | None = None, of: int | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> Record:  # fmt: skip
    """Take the version that was brought in last out again: a challenger if there is one, else the champion, whose place the one before it takes.

    Args:
        to: the version that is to answer instead.
        of: the version that is to go; when it answers no longer, nothing is done.
    Returns: the deployment record as it stands. Raises: UsageError without a reason; Refused when there is nothing to go back to.
    """
    said = _reason(reason, "rollback")

    def back_from(now: Record) -> Record:
        if of is not None and of not in (now["champion"], now["challenger"]):
            return now
        if to is None and now["challenger"] is not None and of in (None, now["challenger"]):
            gone, back = now["challenger"], now["champion"]
        else:
            gone, back = now["champion"], _before(now, ledger, clock) if to is None else _wanted(now, to, ledger, clock)
        earlier = list(now["previous"])
        if back in earlier:
            earlier = earlier[: len(earlier) - 1 - earlier[::-1].index(back)]
        body = {**now.body, **promote.ALONE, "champion": back, "since": iso(clock.now()), "previous": earlier}
        says = {"from": gone, "to": back, "reason": said, "evidence": dict(evidence or {})}
        return promote.change(model, now, body, "deployment.rolled_back", says, ledger, actor, out="rejected")

    return _until_done(model, ledger, back_from)


def stop(model: str, reason: str, ledger: Ledger, clock: Clock, *, actor: str) -> Record:
    """The kill switch: from now on nothing answers. Stopping what is stopped changes nothing. Raises UsageError without a reason."""
    said = _reason(reason, "stop")

    def stopping(now: Record) -> Record:
        if now.get("stopped"):
            return now
        stopped = {"by": actor, "reason": said, "at": iso(clock.now())}
        return promote.change(model, now, {**now.body, "stopped": stopped}, "deployment.stopped", stopped, ledger, actor)

    return _until_done(model, ledger, stopping)


def resume(model: str, reason: str, ledger: Ledger, clock: Clock, *, actor: str) -> Record:
    """Let a stopped model answer again, with the versions and in the stage it has; one that is not stopped stays as it is."""
    said = _reason(reason, "resume")

    def going_on(now: Record) -> Record:
        if not now.get("stopped"):
            return now
        # What was measured before the stop is of another time: the stage begins again.
        body = {**now.body, "stopped": None, "since": iso(clock.now())}
        return promote.change(model, now, body, "deployment.resumed", {"reason": said, "stopped": now["stopped"]}, ledger, actor)

    return _until_done(model, ledger, going_on)


def _until_done(model: str, ledger: Ledger, change: Callable[[Record], Record]) -> Record:
    for attempt in range(TRIES):
        now = promote.required(model, ledger)
        try:
            return change(now)
        except Conflict:  # somebody else changed it meanwhile: what they left is what is changed now
            time.sleep(0.002 * attempt)
    raise Conflict(f"The deployment of {model!r} changes all the time.", hint="Try again.")


def earlier(now: Record, ledger: Ledger, clock: Clock) -> Iterator[int]:
    """The champions before this one that may still answer, the last one first."""
    for number in dict.fromkeys(reversed(now["previous"])):
        if not _forbidden(now, number, ledger, clock):
            yield int(number)


def _forbidden(now: Record, number: int, ledger: Ledger, clock: Clock) -> list[str]:
    version = versions.get(now.id, number, ledger)
    thrown_out = [f"version {number} was thrown out"] if version["status"] == "rejected" else []
    return conditions.missing(version, ledger, clock.now()) or thrown_out


def _before(now: Record, ledger: Ledger, clock: Clock) -> int:
    """The last champion before this one that may still answer."""
    for number in earlier(now, ledger, clock):
        return number
    missing = [why for number in reversed(now["previous"]) for why in _forbidden(now, number, ledger, clock)]
    raise Refused(
        f"There is no version of {now.id!r} to go back to" + (f": {'; '.join(missing)}." if missing else f": {now['champion']} is the first."),
        hint=f"To stop it altogether: treadle stop {now.id} --kill --reason TEXT",
    )


def _wanted(now: Record, number: int, ledger: Ledger, clock: Clock) -> int:
    if number == now["champion"]:
        raise Refused(f"Version {number} of {now.id!r} answers already.", hint=f"See: treadle models {now.id}")
    promote.eligible(now.id, number, ledger, clock)
    return number


def _reason(text: str, verb: str) -> str:
    if not text.strip():
        raise UsageError(f"A {verb} needs a reason.", hint='Say it with: --reason "..."')
    return text.strip()
