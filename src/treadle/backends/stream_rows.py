"""What every stream does alike: saying that messages are gone which were never read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle.core.errors import DataError


def after_gap(asked: Mapping[str, Any], shown: str, what: str) -> None:
    """Refuse to go on over a gap, unless the source was declared to. Raises DataError."""
    if asked["after_gap"] != "go_on":
        raise DataError(
            f"The stream {what}.", where=shown,
            hint="Nothing was taken in. To go on with what is left, declare tr.stream(..., after_gap='go_on'); let the broker keep more.",
        )
