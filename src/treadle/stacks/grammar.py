"""What may stand in a compiled file: names and paths by a strict grammar, so that no quoting can be broken out of.

    >>> checked_name("late-arrival", "model")
    'late-arrival'
    >>> checked_path("/srv/flight delays")
    '/srv/flight delays'
"""

from __future__ import annotations

import re

from treadle.core.errors import UsageError

MARK = "Compiled by `treadle compile"  # in the first lines of every compiled file

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.ASCII)
_STEP = re.compile(rf"{_NAME.pattern}(?::{_NAME.pattern})?", re.ASCII)
_PATH = re.compile(r"[\w ./+@=,~()-]+")
_SCHEDULE = re.compile(r"@(?:hourly|daily|weekly|monthly|yearly)|[0-9A-Z*/,-]+(?: [0-9A-Z*/,-]+){4}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.:-]+", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]*", re.ASCII)
_REQUIREMENT = re.compile(r"[A-Za-z0-9._-]+(?:\[[a-z0-9,_-]+\])?(?:[=<>~!]=?[0-9A-Za-z.*+!]+)?", re.ASCII)


def checked_name(text: str, what: str) -> str:
    """A project's or model's name itself, else UsageError."""
    return _checked(text, _NAME, what, "Use lower-case words joined by '-' or '_'.")


def checked_step(text: str) -> str:
    """A step's name itself ('train', 'data:flights'), else UsageError."""
    return _checked(text, _STEP, "step", "Use lower-case words joined by '-' or '_', with one ':' at most.")


def checked_path(text: str, *, absolute: bool = True) -> str:
    """A path itself, else UsageError: letters, digits, spaces and ./+@=,~()-_ only, and not a path that reads as an option."""
    path = _checked(text, _PATH, "path for a compiled file", "Move the folder to a path of letters, digits, spaces and ./+@=,~()-_.")
    if absolute != path.startswith("/") or path.startswith(("-", "~")) or path != path.strip():
        raise UsageError(f"{text!r} is not {'an absolute' if absolute else 'a relative'} path.")
    return path


def checked_schedule(text: str) -> str:
    """A cron expression of five fields, or @daily and the like, else UsageError."""
    return _checked(text, _SCHEDULE, "schedule", "Write for example '0 6 * * *' or @daily.")


def checked_host(text: str) -> str:
    """An address to listen on itself, else UsageError."""
    return _checked(text, _HOST, "host", "Write an address, for example 127.0.0.1.")


def checked_user(text: str) -> str:
    """A login name itself, else UsageError."""
    return _checked(text, _USER, "login name", "Use lower-case letters, digits, '-' and '_'.")


def checked_requirement(text: str) -> str:
    """A package to install itself ('treadle[train]==0.1'), else UsageError."""
    return _checked(text, _REQUIREMENT, "requirement", "Write for example treadle[train]==0.1.0.")


def _checked(text: str, grammar: re.Pattern[str], what: str, hint: str) -> str:
    if not grammar.fullmatch(text) or len(text) > 500:
        raise UsageError(f"{text[:80]!r} is not a valid {what}.", hint=hint)
    return text
