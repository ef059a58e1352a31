"""Names of people and groups, as they are compared: 'Ann' and 'ann' are one person, in whatever Unicode form somebody typed them."""

from __future__ import annotations

import unicodedata


def folded(name: str) -> str:
    """The one spelling of a name.

    >>> folded(" Ann ") == folded("ａｎｎ")
    True
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).strip().casefold())
