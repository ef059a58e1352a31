"""Secrets that got into a text or a parameter, hidden before people see them: what is named like a secret, looks like one, or is one of this process.

A secret nobody can recognise stays; the place for one is a private file or the environment, never a parameter or a print.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

HIDDEN = "<secret>"
_NAME = r"(?:passw(?:or)?d|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?|auth(?:orization)?|session[_-]?key|dsn)"
_NAMED = re.compile(rf"(?i)(?:^|[_\-.]){_NAME}s?(?:$|[_\-.])|^{_NAME}$")
_PATTERNS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
    (re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://[^\s:/@]{1,200}:)[^\s/@]{1,500}@"), rf"\1{HIDDEN}@"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(rf"""(?i)(["']?[\w.-]{{0,60}}{_NAME}["']?\s*[=:]\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;&"'}})\]]+)"""), rf"\1{HIDDEN}"),
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{20,}\b|\bsk-[A-Za-z0-9_-]{20,}\b|\bxox[abpr]-[A-Za-z0-9-]{10,}\b"), HIDDEN),
    (re.compile(r"\btrd_[A-Za-z0-9]+_[A-Za-z0-9_-]{16,}\b|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{5,}\b"), HIDDEN),
]


def secret_name(name: str) -> bool:
    """Whether something of this name is a secret.

    >>> secret_name("db_password"), secret_name("API-KEY"), secret_name("tokens"), secret_name("max_depth"), secret_name("tokenizer")
    (True, True, True, False, False)
    """
    return _NAMED.search(name) is not None


def without_secrets(text: str, own: Sequence[str] | None = None) -> str:
    """A text as it may be shown.

    >>> without_secrets("connect postgres://ann:hunter22@db/x with api_key=abc123, depth=3")
    'connect postgres://ann:<secret>@db/x with api_key=<secret>, depth=3'
    """
    for value in _own() if own is None else own:
        if value in text:
            text = text.replace(value, HIDDEN)
    for pattern, instead in _PATTERNS:
        text = pattern.sub(instead, text)
    return text


def clean(value: Any, name: str = "", own: Sequence[str] | None = None) -> Any:
    """Any value as it may be shown: a text that is named like a secret is hidden, others are searched. A number is none: `max_tokens` stays.

    `own`: what is a secret of this process by its value; found out if not given.
    """
    if name and isinstance(value, str) and value and secret_name(name):
        return HIDDEN
    if own is None:
        own = _own()  # once for all that lies within
    if isinstance(value, Mapping):
        return {k: clean(v, k if isinstance(k, str) else "", own) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean(v, "", own) for v in value]
    return without_secrets(value, own) if isinstance(value, str) else value


def _own() -> list[str]:
    """The values of this process's variables that are named like secrets, the longest first."""
    return sorted({v for k, v in os.environ.items() if len(v) >= 8 and secret_name(k)}, key=len, reverse=True)
