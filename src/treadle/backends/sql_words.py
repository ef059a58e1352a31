"""What the databases that rows are read from spell alike: names and texts in a query, and what is wrong, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from treadle.core.errors import DataError, Unavailable


def quoted(name: str) -> str:
    """A name as standard SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as standard SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def there(path: Path, shown: str) -> Path:
    """The path of a database that is one file. Raises DataError when there is none."""
    if not path.is_file():
        inside = f"{shown.partition(':')[0]}:{path.name}"
        hint = f"After three slashes the path begins at the root; a file of the project folder is {inside}"
        raise DataError("There is no such file.", where=shown, hint=hint if ":///" in shown else "The path is relative to the project folder.")
    return path


def too_slow(shown: str) -> Unavailable:
    hint = "Read less (a watermark, a narrower query) or raise timeout."
    return Unavailable("Reading took longer than the source's timeout.", where=shown, hint=hint)


def writes(shown: str, said: str = "") -> DataError:
    return DataError(f"The query writes ({said})." if said else "The query writes.", where=shown, hint="A source only reads.")


def no_table(name: str, known: Sequence[str], shown: str) -> DataError:
    return DataError(f"There is no table {name}.", where=shown, hint=f"There are: {', '.join(known)}." if known else "There are no tables.")
