"""Writing a first project file: what a profile found in a file of rows, as the declarations a person would have written."""

from __future__ import annotations

import csv
import glob
import io
import json
import keyword
import math
import os
import random
import re
import shutil
import tempfile
import textwrap
import unicodedata
from collections.abc import Iterable
from datetime import datetime, timedelta
from pathlib import Path

from treadle.core.errors import Conflict, StorageError, UsageError
from treadle.data.columns import NULLS
from treadle.data.profile import ROW_NUMBER, ColumnProfile, Profile, is_identifier, profile

IGNORED = ".treadle/"
WIDTH = 120
_MOST_ALLOWED = 12  # a category with more values than this soon shows a new one, which would be no fault
_TAKEN = {"tr", "project", "model", "row"}


def write_project(folder: Path, profile: Profile, data: Path) -> list[Path]:
    """Write `project.py` and `.gitignore` for a profiled file; all of them or none. The data stay where they are.

    Returns: the files written. Raises: Conflict when the folder has a project.py, StorageError when it cannot be written.
    """
    name = slug(data.stem)
    about = f"Written by `treadle init` after reading {profile.rows:,} rows of {_prose(data.name)}. It is yours to change."
    return _place(folder, {"project.py": render(profile, _seen_from(folder, data), project=name, rows=name, about=about)})


def write_blank(folder: Path, name: str) -> list[Path]:
    """Write a starter project that runs at once: `project.py`, a small generated `deliveries.csv` and `.gitignore`; all of them or none.

    Returns and raises: as `write_project`.
    """
    rows = _deliveries()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "deliveries.csv")
        path.write_text(rows, encoding="utf-8")
        found = profile(path, "late")
    about = "deliveries.csv is generated: made-up deliveries to try the loop with. Put your own rows in its place, and say here what they are."
    return _place(folder, {"deliveries.csv": rows, "project.py": render(found, "deliveries.csv", project=slug(name), rows="deliveries", about=about)})


def slug(text: str) -> str:
    """A name as declarations want it: lower-case words joined by '-'.

    >>> slug("Kunden Größe 2.csv")
    'kunden-grosse-2-csv'
    """
    plain = unicodedata.normalize("NFKD", text.casefold()).encode("ascii", "ignore").decode()
    words = "-".join(re.findall(r"[a-z0-9]+", plain))
    return (words if words[:1].isalpha() else f"data-{words}")[:28].strip("-")


def render(found: Profile, path: str, *, project: str, rows: str, about: str) -> str:
    """The text of a project file. `path` is the data's, as seen from the project folder; `rows` names the data set."""
    variable = rows.replace("-", "_")
    variable = f"{variable}_rows" if keyword.iskeyword(variable) or variable in _TAKEN else variable
    goal = f"predict {_prose(found.target.name)}" if found.target else "describe the data"
    file = _prose(Path(path).name)
    title = f"Predict {_prose(found.target.name)} from {file}." if found.target else f"What {file} holds."
    head = [f'"""{title}', "", *textwrap.wrap(about, WIDTH), '"""', "", "import treadle as tr", ""]
    owner = f'project = tr.Project({_code(project)}, owner="me", goal={_code(goal)})  # owner: who answers for it'
    doubts = [line for w in found.warnings for line in _comment(f"Look at this: {w}")]
    parts = [*head, owner, "", *doubts, *([""] if doubts else []), *_contract(found), "", *_dataset(found, path, rows, variable)]
    parts += ["", *_model(found, rows, variable)] if found.target else ["", "# Next: say what to predict, with project.model(...)."]
    return "\n".join(parts) + "\n"


def _contract(found: Profile) -> list[str]:
    lines = ["# What a row must be. Rows that are not are set aside with the reason.", "row = tr.Contract(", "    {"]
    if found.key is None:
        lines.append(f'        "{ROW_NUMBER}": tr.integer(ge=0, unique=True),  # no column names a row: they are counted, from 0')
    for column in found.columns:
        if column.kind is not None:
            lines += _wrapped(f"        {_code(column.name)}: ", *_column(column, found), ",")
    if found.event_time and found.event_time.fresh:
        return [*lines, "    },", f'    fresh="{found.event_time.fresh}",  # how old the newest row may be before its owner is told', ")"]
    return [*lines, "    }", ")"]


def _column(column: ColumnProfile, found: Profile) -> tuple[str, list[str]]:
    """A declaration as the function that makes it and its arguments."""
    nullable = ["nullable=True"] if column.nullable else []
    personal = [f"personal={_code(column.personal)}"] if column.personal else []
    if column.name == found.key:
        return ("tr.integer" if column.kind == "integer" else "tr.text"), ["unique=True", *personal]
    if column.unique and column.kind in ("integer", "text") and is_identifier(column.name):
        return f"tr.{column.kind}", ["unique=True", *personal]
    if column.kind in ("number", "integer"):
        return f"tr.{column.kind}", [*_bounds(column), *nullable, *personal]
    is_class = found.target is not None and column.name == found.target.name
    few = 2 <= column.distinct <= _MOST_ALLOWED and found.rows >= 10 * column.distinct
    if column.kind == "category" and column.values and (is_class or few):
        return "tr.category", [f"isin={_allowed(column.values)}", *nullable]
    return f"tr.{column.kind}", [*nullable, *personal]


def _allowed(values: tuple[str, ...]) -> str:
    """The values a category may have; on lines of their own (within a column of the contract) when they are too long for one."""
    line = _tuple(values)
    return line if len(line) < WIDTH - 30 else "\n".join(["(", *_filled(map(_code, values), " " * 16), " " * 12 + ")"])


def _bounds(column: ColumnProfile) -> list[str]:
    """Limits that catch 999999 and a wrong sign, and let the next year through: the observed range, twice its width beyond, to a round number."""
    low, high = column.low, column.high
    if low is None or high is None:
        return []
    reach = 2.0 * (float(high) - float(low))
    least = 0.0 if low >= 0 else -(_round_up(reach - low) or math.inf)
    most = 0.0 if high <= 0 and low < 0 else (_round_up(high + reach) or math.inf)
    if low == high:  # one value says nothing about how far the others may lie
        most = math.inf
    return [f"{name}={_number(limit)}" for name, limit in (("ge", least), ("le", most)) if math.isfinite(limit)]


def _round_up(value: float) -> float | None:
    """The next of 1, 2, 5, 10, 20, 50, ... at or above a positive value; None for what is too small or large to be a sensible limit."""
    if not 1e-9 < value < 1e15:
        return None
    scale = math.floor(math.log10(value))
    steps = (float(f"{digit}e{power}") for power in (scale - 1, scale, scale + 1) for digit in (1, 2, 5))
    return next(step for step in steps if step >= value)


def _dataset(found: Profile, path: str, rows: str, variable: str) -> list[str]:
    options = [f"separator={_code(found.separator)}"] if found.separator != "," else []
    options += [f"null_values={_tuple((*NULLS, *found.null_values))}"] if found.null_values else []
    options += ["decimal_comma=True"] if found.decimal_comma else []
    source = f"tr.{found.format}({', '.join([_code(path), *options])})"
    arguments = [_code(rows), f"source={source}", f"key={_code(found.key or ROW_NUMBER)}"]
    arguments += [f"event_time={_code(found.event_time.name)}"] if found.event_time else []
    return _wrapped(f"{variable} = ", "project.dataset", [*arguments, "contract=row"])


def _model(found: Profile, rows: str, variable: str) -> list[str]:
    assert found.target is not None
    target, time = found.target, found.event_time
    lines = ["model = project.model(", f"    {_code(f'{rows}-{slug(target.name)}')},", f"    rows={variable},"]
    lines += [f"    target={_code(target.name)},", f"    task={_code(target.task)},"]
    if found.column(target.name).kind == "boolean":
        lines.append("    positive=True,")
    lines += _wrapped("    ", "inputs=", [*map(_code, found.inputs), *_derived(found)], ",", brackets="[]")
    skipped = [c for c in found.columns if c.left_out and c.name != target.name]
    lines += ["    # Not inputs:"] * bool(skipped)
    lines += [f"    #   {_code(c.name)}: {c.left_out}" for c in skipped]
    if time:
        lines.append(f"    split=tr.by_time(test={_code(time.test)}),  # the last fifth of {time.first:%Y-%m-%d} to {time.last:%Y-%m-%d}")
    else:
        lines.append("    split=tr.at_random(test=0.25),")
    slices = [c.name for c in map(found.column, found.inputs) if c.kind == "category" and 2 <= c.distinct <= 12][:2]
    lines += [f"    slices=[{', '.join(map(_code, slices))}],  # judged one by one"] * bool(slices)
    lines += [")", "", "project.serve(model)"]
    if time:
        retrain = 'retrain=tr.on_evidence(at_most="1 per month")'
        lines.append("# label_window: how long after a prediction its truth may take to arrive.")
        lines.append(f'project.watch(model, every="{time.block}", label_window="1d", {retrain})')
    return lines


def _derived(found: Profile) -> list[str]:
    """Hour and weekday of the event, where the data tell the time of day and have no column of that name."""
    if found.event_time is None or not found.event_time.clock:
        return []
    name, names = found.event_time.name, {c.name for c in found.columns}
    return [f"tr.{rule}({_code(name)})" for rule in ("hour", "weekday") if f"{name}_{rule}" not in names]


def _wrapped(start: str, call: str, arguments: list[str], end: str = "", *, brackets: str = "()") -> list[str]:
    """A call in one line, or, when that is too long, with its arguments in lines of their own."""
    opened, closed = brackets[0], brackets[1]
    line = f"{start}{call}{opened}{', '.join(arguments)}{closed}{end}"
    if len(line) <= WIDTH and "\n" not in line:
        return [line]
    indent = " " * (len(start) - len(start.lstrip()) + 4)
    return [f"{start}{call}{opened}", *_filled(arguments, indent), f"{indent[4:]}{closed}{end}"]


def _filled(items: Iterable[str], indent: str) -> list[str]:
    """Items, each with its comma, in as few lines as hold them; one that has several lines itself begins and ends its own."""
    lines = [indent]
    for item in items:
        tall = "\n" in item
        if lines[-1].strip() and (tall or len(lines[-1]) + len(item) + 2 > WIDTH):
            lines.append(indent)
        lines[-1] += f"{item}, "
        if tall:
            lines.append(indent)
    return [line.rstrip() for line in lines if line.strip()]


def _comment(text: str) -> list[str]:
    return textwrap.wrap(_prose(text), WIDTH, initial_indent="# ", subsequent_indent="#   ")


def _code(text: str) -> str:
    """A string as Python source, in double quotes where that needs no escapes beyond the usual ones."""
    return json.dumps(text, ensure_ascii=False) if text.isprintable() else ascii(text)


def _tuple(values: Iterable[str]) -> str:
    items = [_code(v) for v in values]
    return f"({', '.join(items)}{',' * (len(items) == 1)})"


def _number(value: float) -> str:
    return f"{int(value):_}" if value == int(value) else repr(value)


def _prose(text: str) -> str:
    """Text that may stand in a docstring or comment: one line, without quotes or backslashes that would end or change it."""
    return "".join(c if c.isprintable() else " " for c in text).replace("\\", "/").replace('"', "'")


def _seen_from(folder: Path, data: Path) -> str:
    """The path of the data from the project folder, relative when it is in it or near, so that both can be moved together."""
    target = data.parent.resolve() / data.name
    try:
        near = Path(os.path.relpath(target, folder.resolve()))
    except ValueError:  # another drive
        near = target
    path = near if near.parts.count("..") <= 2 else target
    return glob.escape(path.as_posix())  # a source's path may be a pattern; a file name with brackets is none


def _place(folder: Path, texts: dict[str, str]) -> list[Path]:
    """Put new files and `.gitignore` into a folder: written in full beside their place first, then moved; taken back when one fails."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is a file.", hint="Name a folder for the project.")
    for name in texts:
        if os.path.lexists(folder / name):
            raise _taken(folder / name)
    created = [p for p in (folder, *folder.parents) if not p.exists()]
    placed: list[Path] = []
    scratch = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".treadle-init-", dir=folder))
        ignore = folder / ".gitignore"
        before = ignore.read_text(encoding="utf-8") if ignore.exists() else ""
        if IGNORED not in before.splitlines():
            texts = {**texts, ignore.name: f"{before}{'' if before.endswith(chr(10)) or not before else chr(10)}{IGNORED}\n"}
        for name, text in texts.items():
            (scratch / name).write_text(text, encoding="utf-8", newline="\n")
        for name in texts:
            if name == ignore.name:  # comes last: nothing can fail after it, so an older one needs no taking back
                os.replace(scratch / name, ignore)
            else:
                _move_new(scratch / name, folder / name)
            placed.append(folder / name)
    except BaseException as error:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        for path in placed:
            path.unlink(missing_ok=True)
        for path in created:
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
        if isinstance(error, OSError):
            raise StorageError(f"The project cannot be written: {error.strerror}.", where=str(folder), hint="Check space and permissions.") from error
        raise
    shutil.rmtree(scratch, ignore_errors=True)
    return placed


def _move_new(source: Path, place: Path) -> None:
    """Move a file to a place where there is none: a hard link fails where somebody else was first, a rename would overwrite."""
    try:
        os.link(source, place)
    except FileExistsError:
        raise _taken(place) from None
    except OSError:  # no hard links on this file system
        if os.path.lexists(place):
            raise _taken(place) from None
        os.rename(source, place)


def _taken(path: Path) -> Conflict:
    return Conflict(f"There is a {path.name} already.", where=str(path.parent), hint="Choose an empty folder, or move the file away first.")


def _deliveries() -> str:
    """Made-up deliveries with a pattern to find: far, in rain, at rush hour and with a new courier they are late more often."""
    chance = random.Random(7)
    cities = {"Basel": 0.0, "Geneva": 0.4, "Lugano": -0.3, "Zurich": 0.2}
    moment = datetime(2024, 3, 1, 7)
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(["delivery_id", "ordered_at", "city", "distance_km", "items", "rain", "courier_months", "late"])
    for number in range(1, 2001):
        moment += timedelta(minutes=chance.randint(1, 85))
        if moment.hour >= 22:
            moment = (moment + timedelta(days=1)).replace(hour=7, minute=chance.randint(0, 59))
        city, distance, items = chance.choice(list(cities)), round(chance.gammavariate(3, 1.6) + 0.3, 1), chance.randint(1, 9)
        rain, months = chance.random() < 0.3, chance.randint(0, 36)
        rush = moment.hour in (12, 13, 18, 19)
        score = -3.4 + 0.36 * distance + 0.1 * items + 1.1 * rain + 0.8 * rush - 0.03 * months + cities[city]
        late = chance.random() < 1 / (1 + math.exp(-score))
        known = "" if chance.random() < 0.03 else months
        table.writerow([number, f"{moment:%Y-%m-%d %H:%M}", city, distance, items, "yes" if rain else "no", known, "yes" if late else "no"])
    return out.getvalue()
