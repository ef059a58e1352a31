"""What notes and owners are about: the kinds of things of a project, how each is called, and whether one exists."""

from __future__ import annotations

import re
import unicodedata

from treadle.core.errors import NotFound, UsageError
from treadle.core.names import folded
from treadle.core.records import Ref
from treadle.ports.ledger import Ledger

# Of a kind with True each thing is a record of the ledger under its id; the others are declared in the project file, or lie in a store of their own.
KINDS: dict[str, tuple[str, bool]] = {
    "project": ("project", False), "dataset": ("data set", False), "view": ("feature view", False), "model": ("model", False),
    "pipeline": ("pipeline", False), "prediction": ("prediction", False), "dataset_version": ("version of a data set", True), "run": ("run", True),
    "run_step": ("step of a run", True), "model_version": ("version", True), "deployment": ("deployment", True), "alarm": ("alarm", True),
    "reaction": ("reaction", True), "backtest": ("backtest", True), "replay": ("replay", True), "scoring": ("scoring", True),
    "schedule": ("schedule", True), "contract_state": ("contract", True), "quarantine_decision": ("decision about a row", True),
    "waiver": ("waiver", True), "erasure": ("erasure", True), "reproduction": ("reproduction", True),
}  # fmt: skip
LONGEST = 200  # characters of an id
_NAME = re.compile(r"[\w][\w.@-]{0,63}")


def check(ref: Ref, ledger: Ledger) -> None:
    """Raises UsageError for a kind that nothing is said about, NotFound for a record that is not there."""
    if ref.kind not in KINDS:
        raise UsageError(f"There is no kind {ref.kind!r} to say something about.", hint=f"Kinds are: {', '.join(KINDS)}.")
    if not ref.id or len(ref.id) > LONGEST or any(unicodedata.category(c) == "Cc" for c in ref.id):
        raise UsageError(f"{ref.id[:60]!r} names no {KINDS[ref.kind][0]}.", hint=f"An id has 1 to {LONGEST} characters, on one line.")
    if KINDS[ref.kind][1] and ledger.get(ref.kind, ref.id) is None:
        raise NotFound(f"There is no {KINDS[ref.kind][0]} {ref.id!r}.")


def read_ref(text: str) -> Ref:
    """'run/run-1' as Ref('run', 'run-1'). Raises UsageError."""
    kind, slash, id = text.partition("/")
    if not slash or kind not in KINDS:
        raise UsageError(f"{text!r} names nothing.", hint=f"Write KIND/ID, where KIND is one of {', '.join(KINDS)}.")
    return Ref(kind, id)


def titled(ref: Ref) -> str:
    """'version late.v3'"""
    return f"{KINDS.get(ref.kind, (ref.kind.replace('_', ' '), False))[0]} {ref.id}"


def check_name(name: str, what: str = "person or group") -> str:
    """The folded name. Raises UsageError for what is no name."""
    made = folded(name)
    if not _NAME.fullmatch(made):
        raise UsageError(f"{name[:60]!r} is no name of a {what}.", hint="A name has up to 64 letters, digits, and . _ @ - after the first.")
    return made
