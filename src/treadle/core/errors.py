"""Every error a user can meet: what went wrong, where, and what to do now.

One visible tree. `code` is stable and machine-readable, `exit_code` is what the command line returns, and
`transient` says whether trying the same thing again may help (it decides retries).
"""

from __future__ import annotations


class TreadleError(Exception):
    """A failure with a sentence for the person who meets it.

    Args:
        what: one sentence: what was wrong with which thing.
        where: the file and line, column, field or address it was found at, where there is one.
        hint: what to do now.
    """

    code = "error"
    exit_code = 1
    transient = False

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}" if self.where else self.what
        return f"{text} {self.hint}" if self.hint else text

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.what, self.where, self.hint))


def _rebuild(kind: type[TreadleError], what: str, where: str | None, hint: str | None) -> TreadleError:
    return kind(what, where=where, hint=hint)


class UsageError(TreadleError):
    """A command or call was given something it cannot take."""

    code = "usage"
    exit_code = 2


class ProjectError(TreadleError):
    """The project file is missing, does not load, or declares something that cannot be."""

    code = "project"
    exit_code = 3


class DataError(TreadleError):
    """Data are missing, empty, or not what was declared."""

    code = "data"
    exit_code = 3


class ContractViolated(DataError):
    """More rows break a data contract than its declared limit allows."""

    code = "contract"


class InvalidRequest(TreadleError):
    """A prediction request does not fit the model's signature. `fields` maps a field to its reason."""

    code = "invalid_request"
    exit_code = 3

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None, fields: dict[str, str] | None = None) -> None:
        super().__init__(what, where=where, hint=hint)
        self.fields = fields or {}

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"fields": self.fields})


class Refused(TreadleError):
    """The evidence does not allow what was asked for."""

    code = "refused"
    exit_code = 4


class CannotConvert(TreadleError):
    """A fitted model has no exact equivalent in the wished format."""

    code = "cannot_convert"
    exit_code = 4


class NotFound(TreadleError):
    """Nothing is known under this name or id."""

    code = "not_found"
    exit_code = 5


class Conflict(TreadleError):
    """Somebody else changed the same thing first."""

    code = "conflict"
    exit_code = 6


class StorageError(TreadleError):
    """The disk or store is full, read-only or broken."""

    code = "storage"
    exit_code = 7


class Corrupt(StorageError):
    """Stored bytes are not the bytes that were written."""

    code = "corrupt"


class Unauthorized(TreadleError):
    """No key was shown, or one that is not known or has ended."""

    code = "unauthorized"
    exit_code = 4


class Forbidden(TreadleError):
    """Who asks is known, and may not do this."""

    code = "forbidden"
    exit_code = 4


class TooMany(TreadleError):
    """More was asked than a rate or a quota allows. `after`: seconds until it may be asked again."""

    code = "too_many"
    exit_code = 8
    transient = True

    def __init__(self, what: str, *, where: str | None = None, hint: str | None = None, after: float = 1.0) -> None:
        super().__init__(what, where=where, hint=hint)
        self.after = after

    def __reduce__(self) -> tuple[object, ...]:
        return (*super().__reduce__(), {"after": self.after})


class Unavailable(TreadleError):
    """A process or service does not answer now; it may later."""

    code = "unavailable"
    exit_code = 8
    transient = True


class Transient(TreadleError):
    """For a step to raise: it went wrong this time, and may go well the next. Retried as often as the step's `retries` says."""

    code = "transient"
    transient = True


class Terminal(TreadleError):
    """For a step to raise: trying again would not help. Never retried."""

    code = "terminal"


class Fenced(Conflict):
    """This process had lost its lease on a run, and another one drives it now; what this one still had to say is refused."""

    code = "fenced"


class StepFailed(TreadleError):
    """A pipeline step raised; `where` names the step, the cause is chained."""

    code = "step_failed"
    exit_code = 1


class RunStopped(StepFailed):
    """Somebody stopped the run from elsewhere; what had finished is kept."""

    code = "run_stopped"


class Cancelled(TreadleError):
    """The person or the time limit stopped the work; what had finished is kept."""

    code = "cancelled"
    exit_code = 130
