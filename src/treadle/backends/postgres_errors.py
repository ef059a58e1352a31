"""What PostgreSQL says, in the words of the house."""

from __future__ import annotations

import psycopg

from treadle.backends.postgres_address import Address
from treadle.core.errors import Corrupt, StorageError, TreadleError, Unavailable, UsageError

# What a refused connection says; libpq passes no code on, and the server's words may be in another language, then it is Unavailable with its words.
_REFUSED = {
    "password authentication failed": ("does not accept this user and password", "Check the user in the address, and PGPASSWORD or ~/.pgpass."),
    "no password supplied": ("asks for a password and was given none", "Set PGPASSWORD, or write a line for it into ~/.pgpass."),
    "no pg_hba.conf entry": (
        "does not let this user connect from this machine",
        "Its administrator can add one to pg_hba.conf; or try sslmode=require.",
    ),
    "role ": ("does not know this user", "Check the user in the address or PGUSER, or make it: createuser NAME."),
    "database ": ("has no such database", "Check its name in the address, or make it: createdb --encoding=UTF8 NAME."),
}


def failure(error: psycopg.Error, at: Address) -> TreadleError | psycopg.Error:
    """The house's error for PostgreSQL's. A mistake in our own calls (ProgrammingError) stays what it is."""
    code = error.sqlstate
    if code is None:
        return _without_code(error, at)
    said = at.without_password(error.diag.message_primary or str(error)).rstrip(".")
    if code == "55P03":
        return Unavailable(f"{at.shown} was locked by another writer for too long.", hint="Try again, or look for it in pg_stat_activity.")
    if code == "57014":
        return Unavailable(f"{at.shown} took too long to answer and was interrupted.", hint="Try again, or ask for less at once.")
    if code.startswith(("08", "57P", "40")) or code in ("25P03", "25P04", "53300", "53200", "55000"):
        return Unavailable(f"{at.shown} cannot do it now ({said}).", hint="Try again in a moment.")
    if code in ("53100", "58030"):
        return StorageError(f"{at.shown} is on a disk that is full or broken ({said}).", hint="Free some space there; nothing half-done was kept.")
    if code == "25006":
        return StorageError(f"{at.shown} cannot be written: it is a standby or read-only.", hint="Use the address of the primary server.")
    if code == "42501":
        return StorageError(f"{at.shown} does not allow it ({said}).", hint=f"Its owner can say: CREATE SCHEMA {at.schema} AUTHORIZATION user.")
    if code.startswith("XX00"):
        return Corrupt(f"{at.shown} is damaged ({said}).", hint="Restore it from a backup.")
    if code.startswith("22") or code == "54000":
        return UsageError(f"PostgreSQL cannot hold this ({said}).", hint="Make the id, name or number smaller.")
    if code.startswith("42") and code not in ("42P01", "42703"):
        return error
    return StorageError(f"{at.shown} refused the operation ({said}).", hint="If a table is missing, it was removed while it was in use.")


def _without_code(error: psycopg.Error, at: Address) -> TreadleError | psycopg.Error:
    said = at.without_password(str(error))
    if isinstance(error, psycopg.DataError):
        if "NUL" in said:
            return UsageError("PostgreSQL cannot hold a NUL character in an id or name.", hint="Leave it out.")
        return UsageError(f"PostgreSQL cannot hold this ({said}).")
    if not isinstance(error, psycopg.OperationalError):
        return error
    for sign, (what, hint) in _REFUSED.items():
        if sign in said and (not sign.endswith(" ") or "does not exist" in said):
            return UsageError(f"{at.shown} {what}.", hint=hint)
    reason = " ".join(said.removeprefix("connection failed: ").partition("Is the server running")[0].split())
    if not at.told.get("host") and "No such file" in said:
        reason = "there is no server on this machine"
    return Unavailable(f"{at.shown} does not answer: {reason}.", hint="Check that the server runs and can be reached from here.")
