"""A Feast repository as a Treadle project file, and the values of its online store in ours.

Feast runs in its own Python (`feast_program.py`): it and we cannot share an environment. What Feast joins by, the event time alone, is what the
imported views join by; a comment says how to declare when rows became known.
"""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from treadle.core.declare.data import View
from treadle.core.errors import NotFound, Unavailable, UsageError
from treadle.features.history import AT, EVENT, UNTIL
from treadle.features.online import packed
from treadle.ports.online import Key, Value

PROGRAM = Path(__file__).with_name("feast_program.py")
SECONDS = 600.0
VERSION = "0.67.0"
_KINDS = {
    "Int32": "integer", "Int64": "integer", "Float32": "number", "Float64": "number", "String": "category", "Bool": "boolean",
    "UnixTimestamp": "timestamp",
}  # fmt: skip


@dataclass(frozen=True)
class Imported:
    """A project file's text, the views in it, and what could not be taken over, a sentence each."""

    text: str
    views: list[str]
    left: list[str]


def ask(python: str, *words: str) -> Any:
    """What the program says, run by Feast's Python. Raises UsageError when there is no Feast, NotFound or Unavailable when it fails."""
    try:
        done = subprocess.run([python, str(PROGRAM), *words], capture_output=True, text=True, timeout=SECONDS, check=False)
    except FileNotFoundError:
        raise UsageError(f"There is no Python {python!r}.", hint=_HINT) from None
    except subprocess.TimeoutExpired:
        raise Unavailable(f"Feast did not finish within {SECONDS:.0f} s.", where=words[1]) from None
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    if "No module named 'feast'" in done.stderr:
        raise UsageError(f"{python} has no package feast.", hint=_HINT)
    if done.returncode != 0:
        missing = "feature_store.yaml" in done.stderr
        hint = "Run `feast apply` there first." if missing else None
        raise (NotFound if missing else Unavailable)(f"Feast failed: {last}", where=words[1], hint=hint)
    return json.loads(done.stdout.strip().splitlines()[-1])


_HINT = f"Make an environment of its own: python -m venv feast; feast/bin/pip install 'feast[redis]=={VERSION}'; then add --python feast/bin/python"


def project_of(repository: Path, python: str) -> Imported:
    """What a Feast repository declares, as a project file."""
    if not (repository / "feature_store.yaml").is_file():
        raise NotFound(f"{repository} is no Feast repository: it has no feature_store.yaml.")
    return written(ask(python, "definitions", str(repository)), repository)


def written(said: Mapping[str, Any], repository: Path) -> Imported:
    """The text of a project file for what Feast declares."""
    lines = [
        f'"""Imported from the Feast project {said["project"]!r} (Feast {said["feast"]})."""', "", "import treadle as tr", "",
        f'project = tr.Project({name_of(said["project"])!r})', "",
    ]  # fmt: skip
    left = [f"{what['kind']} {what['name']!r}" for what in said["left"]]
    datasets: dict[tuple[str, ...], str] = {}
    taken = []
    for view in said["views"]:
        source = view["source"]
        if source.get("kind") != "FileSource":
            left.append(f"view {view['name']!r}: its source is a {source.get('kind', 'nothing')}; declare the data set by hand")
            continue
        if source["mapping"]:
            left.append(f"view {view['name']!r}: renamed columns {source['mapping']}")
        if not view["keys"]:
            left.append(f"view {view['name']!r}: it has no entity")
            continue
        unknown = [f for f, kind in view["features"].items() if kind not in _KINDS]
        left += [f"feature {f!r} of view {view['name']!r}: {view['features'][f]} has no counterpart" for f in unknown]
        features = {f: kind for f, kind in view["features"].items() if kind in _KINDS}
        path = source["path"].removeprefix("file://")
        if "://" not in path:
            path = str((repository / path).resolve())
        place = (path, source["time"], source["created"], *view["keys"])
        if place not in datasets:
            dataset = datasets[place] = name_of(f"{view['name']}_rows")
            key = [*view["keys"], *dict.fromkeys(filter(None, (source["time"], source["created"])))]
            lines.append(f"{_variable(dataset)} = project.dataset({dataset!r}, source=tr.parquet({path!r}),")
            lines.append(f"    key={key!r}, event_time={source['time']!r},")
            if source["created"]:
                lines.append(f"    # known_time={source['created']!r},  # if that is when a row became known; Feast does not look at it")
            lines += ["    contract=tr.Contract({"]
            columns = {**{c: _KINDS.get(t, "text") for c, t in view["key_types"].items()}, source["time"]: "timestamp"}
            lines += [f"        {c!r}: tr.{kind}()," for c, kind in columns.items()]
            lines += [f"        {f!r}: tr.{_KINDS[t]}(nullable=True)," for f, t in features.items()]
            lines += ["    }))", ""]
        ttl = f", ttl=timedelta(seconds={view['ttl']:g})" if view["ttl"] else ""
        about = "".join(f", {what}={view[what]!r}" for what in ("description", "owner") if view[what])
        told = f", descriptions={view['descriptions']!r}" if view["descriptions"] else ""
        entity = view["keys"][0] if len(view["keys"]) == 1 else tuple(view["keys"])
        view_name = name_of(view["name"])
        lines += [f"{_variable(view_name)} = project.view({view_name!r}, source={_variable(datasets[place])}, entity={entity!r},",
                  f"    features={list(features)!r}{ttl}{about}{told})", ""]  # fmt: skip
        taken.append(view_name)
    text = "\n".join(lines)
    if "timedelta(" in text:
        text = text.replace("import treadle as tr\n", "from datetime import timedelta\n\nimport treadle as tr\n", 1)
    return Imported(text, taken, left)


def values_of(repository: Path, python: str, views: Mapping[str, View]) -> Iterator[tuple[str, list[tuple[Key, Value]]]]:
    """What a Feast online store (SQLite, Redis) holds of our views, as entries of ours: values with their event time, and their end where the view
    has a ttl.
    """
    import polars as pl

    with tempfile.TemporaryDirectory() as temporary:
        for told in ask(python, "values", str(repository), temporary):
            view = views.get(name_of(told["view"]))
            if view is None:
                continue
            rows = pl.read_parquet(Path(temporary) / told["file"])
            at = pl.col("event_timestamp").cast(pl.Int64).cast(pl.Datetime("us", "UTC"))
            until = at + view.ttl + timedelta(microseconds=1) if view.ttl else pl.lit(None, pl.Datetime("us", "UTC"))
            shaped = rows.select(*view.entity, at.alias(AT), until.alias(UNTIL), at.alias(EVENT), *view.feature_names())
            yield view.name, list(packed(view, shaped.with_columns(pl.col(pl.Null).cast(pl.String))))


def name_of(text: str) -> str:
    """A name of the house for a name of Feast's."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()).strip("_") or "view"


def _variable(name: str) -> str:
    return name.replace("-", "_")
