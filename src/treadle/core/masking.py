"""Hiding personal values wherever they would be shown to people: in logs, samples, listings, reports, pages and comparisons.

The stored rows keep them; what is shown says only what sort of value stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from treadle.core.declare.data import Dataset


def masked(value: Any, kind: str) -> Any:
    """A value as it may be shown: `kind` is the sort of personal data it is, '' for none. What is missing stays missing.

    >>> masked("ada@example.org", "email"), masked(None, "email"), masked(3, "")
    ('<email>', None, 3)
    """
    return value if not kind or value is None or value == "" else f"<{kind}>"


def masked_row(row: Mapping[str, Any], personal: Mapping[str, str]) -> dict[str, Any]:
    """A row as it may be shown; `personal` says of which columns the values are personal, and of what sort."""
    return {name: masked(value, personal.get(name, "")) for name, value in row.items()}


def masked_within(value: Any, personal: Mapping[str, str]) -> Any:
    """Any value as it may be shown: what objects hold under the name of a personal column is masked, however deep."""
    if isinstance(value, Mapping):
        return {k: masked(v, personal[k]) if isinstance(k, str) and personal.get(k) else masked_within(v, personal) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [masked_within(v, personal) for v in value]
    return value


def personal_columns(datasets: Iterable[Dataset]) -> dict[str, str]:
    """Column name to the sort of personal data it holds in any of these data sets; the column that names a data set's subject is one."""
    found: dict[str, str] = {}
    for dataset in datasets:
        if dataset.subject:
            found.setdefault(dataset.subject, "subject")
        for name, column in (dataset.contract.columns if dataset.contract else {}).items():
            if column.personal:
                found[name] = column.personal
    return found
