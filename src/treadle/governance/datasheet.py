"""The datasheet of a data set (Gebru et al., "Datasheets for Datasets"), filled from what is recorded and declared; the rest is said to be missing.

Nothing here is made up: each answer is a declaration, a record or a count. Values of columns that hold personal data, name persons, are keys
or are free text are never shown, and of categories only values that at least five rows have.
"""

from __future__ import annotations

import html as escape
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import polars as pl

from treadle.core.canonical import plain
from treadle.core.clock import Clock, iso
from treadle.core.declare.data import Dataset
from treadle.core.declare.datasheet import Datasheet
from treadle.core.declare.project import Project
from treadle.core.errors import NotFound
from treadle.core.records import Record
from treadle.data import promises
from treadle.governance import erasure
from treadle.ports.ledger import Ledger
from treadle.ports.tables import Tables
from treadle.registry import versions as registry

FEW = 5  # rows below which a value could point to somebody
_VALUES = 10
_SHOWN = 50  # versions in the list


@dataclass(frozen=True)
class Column:
    """What is known of one column. `said` describes its values in words; `nature` is what it is besides: key, subject, personal: ..."""

    name: str
    kind: str
    nullable: bool | None
    unit: str
    description: str
    nature: tuple[str, ...]
    rules: str
    missing: int | None = None
    distinct: int | None = None
    said: str = ""


@dataclass(frozen=True)
class Sheet:
    """All that is recorded of a data set. What nobody said is empty."""

    name: str
    project: str
    goal: str
    owner: str
    description: str
    declared: Datasheet
    source: str
    source_path: str
    key: tuple[str, ...]
    event_time: str
    known_time: str
    subject: tuple[str, ...]
    keep: str
    made: str
    at_most: float | None
    rules: tuple[str, ...]
    excluded: tuple[str, ...]
    columns: tuple[Column, ...]
    versions: tuple[dict[str, Any], ...] = ()
    newest: dict[str, Any] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    models: tuple[dict[str, Any], ...] = ()
    views: tuple[str, ...] = ()
    erasures: tuple[dict[str, Any], ...] = ()


def collect(project: Project, name: str, ledger: Ledger, tables: Tables, clock: Clock) -> Sheet:
    """Look everything up. Raises NotFound for an unknown data set, and where none is named and the project has several."""
    dataset = _dataset(project, name)
    known = promises.in_turn(dataset.name, ledger)
    newest = known[-1] if known else None
    frame = tables.scan(newest["address"]) if newest is not None and tables.exists(newest["address"]) else None
    persons = erasure.person_columns(project).get(dataset.name, ())
    ids = {v.id for v in known}
    models = [
        {"id": m.id, "status": m["status"], "version": next(v for v in m["data"].values() if v in ids), "rows": m["trained_rows"],
         "trained_on_erased": m.get("trained_on_erased", 0)}
        for m in ledger.find(registry.KIND) if ids & set(m.get("data", {}).values())
    ]  # fmt: skip
    contract, source = dataset.contract, dataset.source
    function = getattr(source.function, "__name__", "")
    return Sheet(
        dataset.name, project.name, project.goal, dataset.owner, dataset.description, dataset.datasheet,
        f"{source.kind} {source.path or function}".strip(), source.path, dataset.key, dataset.event_time or "", dataset.known_time or "", persons,
        str(dataset.keep) if dataset.keep else "", iso(clock.now()), contract.at_most if contract else None,
        tuple(contract.rules) if contract else (), tuple(dataset.exclude), tuple(_columns(dataset, persons, frame)),
        tuple(_version(v) for v in known), _version(newest) if newest is not None else {},
        dict(newest["reasons"]) if newest is not None else {}, tuple(models),
        tuple(v.name for v in project.views.values() if v.source.name == dataset.name), tuple(erasure.concerning(dataset.name, ledger)),
    )  # fmt: skip


def _dataset(project: Project, name: str) -> Dataset:
    if not name and len(project.datasets) == 1:
        return next(iter(project.datasets.values()))
    if name not in project.datasets:
        said = f"There is no data set {name!r}." if name else "Which data set?"
        raise NotFound(said, hint=f"The project declares: {', '.join(project.datasets) or 'none'}.")
    return project.datasets[name]


def _version(record: Record) -> dict[str, Any]:
    return {
        "id": record.id, "number": record.get("number"), "taken": record.get("taken") or record.created_at, "rows": record["rows"],
        "quarantined": record["quarantined"], "start": record["start"], "end": record["end"], "digest": record.get("digest", ""),
        "address": record["address"],
    }  # fmt: skip


def _columns(dataset: Dataset, persons: Sequence[str], frame: pl.LazyFrame | None) -> list[Column]:
    declared = dataset.contract.columns if dataset.contract else {}
    schema = dict(frame.collect_schema()) if frame is not None else {}
    said = []
    for name in [*declared, *(n for n in schema if n not in declared)]:
        c = declared.get(name)
        nature = [
            *(["key"] if name in dataset.key else []), *(["names the person"] if name in persons else []),
            *([f"personal: {c.personal}"] if c is not None and c.personal else []),
            *(["event time"] if name == dataset.event_time else []), *(["known time"] if name == dataset.known_time else []),
        ]  # fmt: skip
        kind = c.kind if c is not None else _kind(schema[name])
        rules = _rules(c) if c is not None else ""
        missing = distinct = None
        told = ""
        if frame is not None and name in schema and not schema[name].is_nested():
            column = frame.select(pl.col(name)).collect()[name]
            missing, distinct = column.null_count(), column.drop_nulls().n_unique()
            hidden = bool(set(nature) - {"event time", "known time"}) or kind == "text"
            told = "not shown" if hidden else _distribution(column, kind)
        said.append(Column(
            name, kind, c.nullable if c is not None else None, c.unit if c is not None else "", c.description if c is not None else "",
            tuple(nature), rules, missing, distinct, told,
        ))  # fmt: skip
    return said


def _kind(dtype: Any) -> str:
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_numeric():
        return "integer" if dtype.is_integer() else "number"
    return "timestamp" if dtype.is_temporal() else "text"


def _rules(c: Any) -> str:
    said = [*([f">= {c.ge:g}"] if c.ge is not None else []), *([f"<= {c.le:g}"] if c.le is not None else [])]
    said += [*(["unique"] if c.unique else []), *([f"one of {len(c.isin)} values"] if c.isin is not None else [])]
    said += [] if c.nullable else ["never missing"]
    return ", ".join(said)


def _distribution(column: pl.Series, kind: str) -> str:
    values = column.drop_nulls()
    if values.is_empty():
        return "no values"
    if kind in ("number", "integer") and values.dtype.is_numeric():
        if values.dtype.is_float():
            values = values.filter(values.is_finite())
        if values.is_empty():
            return "no finite values"
        n = values.cast(pl.Float64).to_numpy()
        q = [float(x) for x in np.quantile(n, (0.05, 0.25, 0.5, 0.75, 0.95))]
        spread = float(n.std(ddof=1)) if len(n) > 1 else 0.0
        return f"mean {n.mean():.4g}, spread {spread:.4g}; 5 % {q[0]:.4g}, quartiles {q[1]:.4g}, {q[2]:.4g}, {q[3]:.4g}, 95 % {q[4]:.4g}"
    if kind == "timestamp":
        first, last = (str(plain(moment)) for moment in (values.min(), values.max()))
        return f"from {first} to {last}"
    counts = values.cast(pl.String).value_counts(sort=True)
    rows = [(str(v), n) for v, n in counts.iter_rows() if n >= FEW][:_VALUES]
    shown = ", ".join(f"{v!r} {n / len(values):.1%}" for v, n in rows)
    left = counts.height - len(rows)
    return "; ".join(filter(None, [shown, f"{left:,} other value{'s' if left != 1 else ''}" if left else ""]))


# Writing it down


def sections(sheet: Sheet) -> list[tuple[str, list[tuple[str, str]]]]:
    """Title, and its questions with answers. A question nobody answered says where the answer belongs."""
    d = sheet.declared

    def declared(part: str) -> str:
        return getattr(d, part) or f"not recorded: declare datasheet=tr.datasheet({part}=...)"

    n = sheet.newest
    rows = f"{n['rows']:,} in version {n['id']}, taken {n['taken'][:10]}" if n else "not recorded: no version was taken yet (treadle run)"
    when = f"{n['start'][:19]} to {n['end'][:19]} ({sheet.event_time})" if n and n["start"] else "not recorded: declare event_time="
    personal = [f"{c.name} ({', '.join(x for x in c.nature if x.startswith('personal') or x == 'names the person')})" for c in sheet.columns
                if any(x.startswith("personal") or x == "names the person" for x in c.nature)]  # fmt: skip
    aside = "none" if n and not n["quarantined"] else "not recorded: no version was taken yet" if not n else (
        f"{n['quarantined']:,}: " + "; ".join(f"{reason} ({count:,})" for reason, count in sheet.reasons.items()))  # fmt: skip
    learned = [f"{m['id']} ({m['status']}, from {m['version']}{_since(m['trained_on_erased'])})" for m in sheet.models]
    gone = [f"{e['when'][:10]}: {e['rows']:,} rows out of {e['versions']} versions ({e['id']})" for e in sheet.erasures]
    return [
        ("Motivation", [
            ("What is it?", sheet.description or "not recorded: declare description="),
            ("Why was it made, and by whom?", declared("motivation")),
            ("Who answers for it?", sheet.owner or "not recorded: declare owner="),
            ("What does this project want with it?", sheet.goal or "not recorded: declare the project's goal="),
        ]),
        ("Composition", [
            ("What does a row stand for?", declared("composition")),
            ("How many rows?", rows),
            ("Which time do they cover?", when),
            ("What names a row?", ", ".join(sheet.key)),
            ("Is it about persons?", f"yes, named by {', '.join(sheet.subject)}" if sheet.subject else
                "not recorded: declare subject='COLUMN' if rows are about persons"),
            ("Which columns hold personal data?", ", ".join(personal) or "none declared: declare personal= on a contract's columns"),
            ("What was set aside?", aside),
        ]),
        ("Collection", [("How was it collected?", declared("collection")), ("Where does it come from?", sheet.source)]),
        ("Preprocessing", [
            ("What was done before it came here?", declared("preprocessing")),
            ("What is left out here, by rule?", "; ".join(sheet.excluded) or "nothing"),
            ("What must hold of a row?", "; ".join(["the rules of the columns below", *sheet.rules]) if sheet.at_most is not None else _CONTRACT),
            ("How many rows may break it?", f"{sheet.at_most:.1%}" if sheet.at_most is not None else _CONTRACT),
        ]),
        ("Uses", [
            ("What is it for?", declared("uses")),
            ("What must it not be used for?", declared("limits")),
            ("Which features come from it?", ", ".join(sheet.views) or "none"),
            ("Which models were trained on it?", "; ".join(learned) or "none"),
        ]),
        ("Distribution", [
            ("Who may have it, and how?", declared("distribution")), ("Licence", declared("licence")),
            ("How to cite it", declared("citation")), ("Page", declared("url")),
        ]),
        ("Maintenance", [
            ("Who looks after it?", declared("maintenance")),
            ("How many versions are kept?", f"{len(sheet.versions)}"),
            ("How long are versions kept?", sheet.keep or "for ever: declare keep= to change it"),
            ("Who was erased?", "; ".join(gone) or "nobody"),
        ]),
    ]  # fmt: skip


def as_json(sheet: Sheet) -> dict[str, Any]:
    """The datasheet as JSON types: what is recorded, the questions with their answers, and those nobody answered."""
    said = asdict(sheet)
    answered = {title: dict(parts) for title, parts in sections(sheet)}
    return {**{k: plain(v) for k, v in said.items()}, "sections": answered, "not_recorded": missing(sheet)}


_CONTRACT = "not recorded: declare contract="


def _since(erased: int) -> str:
    return f", {erased:,} of its rows erased since" if erased else ""


def missing(sheet: Sheet) -> list[str]:
    """The questions nobody answered."""
    return [question for _, parts in sections(sheet) for question, answer in parts if answer.startswith("not recorded")]


def _column_rows(sheet: Sheet) -> list[list[str]]:
    return [
        [c.name, c.kind, c.unit or "-", ", ".join(c.nature) or "-", c.rules or "-", "-" if c.missing is None else f"{c.missing:,}",
         "-" if c.distinct is None else f"{c.distinct:,}", c.said or "-", c.description or "not recorded"]
        for c in sheet.columns
    ]  # fmt: skip


_COLUMNS = ["column", "kind", "unit", "nature", "rules", "missing", "distinct", "values", "description"]
_VERSIONS = ["version", "taken", "rows", "set aside", "from", "to"]


def _version_rows(sheet: Sheet) -> list[list[str]]:
    return [
        [v["id"], v["taken"][:19], f"{v['rows']:,}", f"{v['quarantined']:,}", v["start"][:19] or "-", v["end"][:19] or "-"]
        for v in reversed(sheet.versions[-_SHOWN:])
    ]  # fmt: skip


def markdown(sheet: Sheet) -> str:
    """The datasheet as Markdown."""
    def cell(text: str) -> str:
        return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")

    lines = [f"# Datasheet: {sheet.name}", "", f"Project {sheet.project}. Written {sheet.made[:19]}Z from what is on record.", ""]
    for title, parts in sections(sheet):
        lines += [f"## {title}", ""]
        for question, answer in parts:
            lines += [f"**{question}** {cell(answer)}", ""]
    for title, head, rows in (("Columns", _COLUMNS, _column_rows(sheet)), ("Versions", _VERSIONS, _version_rows(sheet))):
        lines += [f"## {title}", ""]
        if rows:
            lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head), *("| " + " | ".join(map(cell, row)) + " |" for row in rows), ""]
        else:
            lines += ["not recorded: no version was taken yet (treadle run)", ""]
    return "\n".join(lines)


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;font-size:.85rem}th,td{border:1px solid #ccc;padding:.25rem .5rem;text-align:left;vertical-align:top}"
    "dt{font-weight:600;margin-top:.6rem}dd{margin:0}.none{color:#8a5a00}.wide{overflow-x:auto}"
)


def html(sheet: Sheet) -> str:
    """The datasheet as one page without scripts."""
    e: Callable[[str], str] = escape.escape
    out = [
        "<!doctype html>", f'<html lang="en"><head><meta charset="utf-8"><title>Datasheet: {e(sheet.name)}</title>',
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Datasheet: {e(sheet.name)}</h1><p>Project {e(sheet.project)}. Written {e(sheet.made[:19])}Z from what is on record.</p>",
    ]  # fmt: skip
    for title, parts in sections(sheet):
        out.append(f"<h2>{title}</h2><dl>")
        for question, answer in parts:
            mark = ' class="none"' if answer.startswith("not recorded") else ""
            out.append(f"<dt>{e(question)}</dt><dd{mark}>{e(answer)}</dd>")
        out.append("</dl>")
    for title, head, rows in (("Columns", _COLUMNS, _column_rows(sheet)), ("Versions", _VERSIONS, _version_rows(sheet))):
        body = "".join("<tr>" + "".join(f"<td>{e(c)}</td>" for c in row) + "</tr>" for row in rows)
        out.append(f'<h2>{title}</h2><div class="wide"><table><tr>{"".join(f"<th>{e(h)}</th>" for h in head)}</tr>{body}</table></div>')
    return "\n".join([*out, "</body></html>", ""])
