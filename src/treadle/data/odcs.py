"""Contracts as files of the Open Data Contract Standard (ODCS, https://bitol-io.github.io/open-data-contract-standard), written as version 3.1.0.

What the standard has a word for is said in it: types, required, unique, keys, bounds, lengths, patterns, allowed values (`invalidValues`), groups
that are unique (`duplicateValues`), rows (`rowCount`), freshness (`latency`), SQL rules. The rest stands in custom properties and in one custom
quality rule of the engine `treadle`. What is written reads back as the same contract; what a file of others says beyond that is listed, not guessed.
"""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from treadle.core.clock import span
from treadle.core.declare.data import STOPS, Contract, Dataset, Like, names
from treadle.core.errors import DataError, NotFound, TreadleError, UsageError
from treadle.core.schema import KINDS, Column

VERSION = "v3.1.0"
ENGINE = "treadle"
_TYPES = {"number": "number", "integer": "integer", "category": "string", "text": "string", "boolean": "boolean", "timestamp": "timestamp"}
_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_SPELLED = {"d": "d", "day": "d", "days": "d", "h": "h", "hr": "h", "hour": "h", "hours": "h", "m": "m", "min": "m", "minute": "m", "minutes": "m",
            "s": "s", "sec": "s", "second": "s", "seconds": "s", "w": "w", "week": "w", "weeks": "w"}  # fmt: skip
_ROWS = re.compile(r"SELECT COUNT\(\*\) FROM \$\{(?:object|table)\} WHERE NOT \((.*)\)", re.DOTALL)
_WHOLE = re.compile(r"\^\(\?:(.*)\)\$", re.DOTALL)
# Parts of a serialised Polars expression that compute from the row and run nothing else: no functions of Python, no plugins, no files.
_HARMLESS = frozenset(
    ["Agg", "Alias", "All", "Any", "BinaryExpr", "Boolean", "Cast", "Clip", "Column", "ConcatHorizontal", "Contains", "ConvertTimeZone", "Count",
     "CumSum", "Date", "Datetime", "Diff", "Duration", "Dyn", "First", "Float", "Float32", "Float64", "Function", "Int", "Int128", "Int16", "Int32",
     "Int64", "Int8", "IsBetween", "IsIn", "JsonDecode", "Last", "Len", "List", "ListExpr", "Literal", "Max", "Mean", "Min", "Null", "Over", "Pow",
     "Round", "Scalar", "String", "StringExpr", "Strptime", "Sum", "SumHorizontal", "TemporalExpr", "Ternary", "Time", "ToInteger", "TotalDays",
     "TotalHours", "TotalMinutes", "TotalSeconds", "UInt16", "UInt32", "UInt64", "UInt8"]
)  # fmt: skip


@dataclass(frozen=True)
class Imported:
    """What a contract file says of one table. `left_out` lists, in sentences, what has no counterpart here and is not checked."""

    name: str
    contract: Contract
    key: tuple[str, ...] = ()
    event_time: str | None = None
    known_time: str | None = None
    subject: str = ""
    owner: str = ""
    description: str = ""
    left_out: tuple[str, ...] = field(default=(), compare=False)


def contract_from(path: str, *, table: str = "") -> Contract:
    """The contract that an ODCS file declares (YAML or JSON, version 3).

    Args:
        path: relative to the file that calls this.
        table: which of the file's tables, where it has several.
    """
    frame = sys._getframe(1)
    return read(Path(frame.f_code.co_filename).resolve().parent / path, table=table).contract


def read(path: Path, *, table: str = "") -> Imported:
    """What a contract file says of a table. Raises NotFound, DataError in a sentence."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"There is no contract file {str(path)!r}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"The contract file does not read: {error}.", where=path.name) from None
    return parse(text, table=table, where=path.name)


def parse(text: str, *, table: str = "", where: str = "") -> Imported:
    """What the text of a contract file says of a table. Raises DataError, NotFound."""
    yaml = _yaml()
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"The contract file is no YAML: {str(error).splitlines()[0]}.", where=where) from None
    if not isinstance(document, dict) or document.get("kind") != "DataContract":
        raise DataError("It is not a data contract: it does not say 'kind: DataContract'.", where=where, hint="Give a file of ODCS version 3.")
    if not str(document.get("apiVersion", "")).startswith("v3."):
        raise DataError(f"The contract is of ODCS {document.get('apiVersion')!r}.", where=where, hint="Version 3 is read (v3.0 to v3.2).")
    tables = [t for t in _listed(document.get("schema")) if isinstance(t, dict) and t.get("name")]
    chosen = [t for t in tables if table in ("", t["name"])]
    if len(chosen) != 1:
        known = ", ".join(str(t["name"]) for t in tables) or "none"
        raise NotFound(f"The contract has {'no table ' + repr(table) if table else f'{len(tables)} tables'}.", where=where, hint=f"It has: {known}.")
    try:
        return _table(document, chosen[0])
    except TreadleError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"The contract is not as the standard says: {type(error).__name__}: {error}.", where=where) from None


def export(dataset: Dataset, *, project: str = "", version: str = "1.0.0", status: str = "active") -> str:
    """A data set's contract as the text of an ODCS file. Raises DataError for a rule that cannot be written."""
    return str(_yaml().safe_dump(document(dataset, project=project, version=version, status=status), sort_keys=False, allow_unicode=True, width=120))


def document(dataset: Dataset, *, project: str = "", version: str = "1.0.0", status: str = "active") -> dict[str, Any]:
    """A data set's contract as JSON values in the shape of the standard."""
    contract = dataset.contract or Contract({})
    said: dict[str, Any] = {
        "apiVersion": VERSION, "kind": "DataContract", "id": f"{project}.{dataset.name}" if project else dataset.name, "name": dataset.name,
        "version": version, "status": status,
    }  # fmt: skip
    if dataset.description:
        said["description"] = {"purpose": dataset.description}
    if dataset.owner:
        said["team"] = {"name": dataset.owner, "members": [{"username": dataset.owner, "role": "owner"}]}
    table: dict[str, Any] = {"name": dataset.name, "logicalType": "object", "physicalType": "table"}
    table["properties"] = [_property(name, column, dataset) for name, column in contract.columns.items()]
    table["properties"] += [
        {"name": k, "primaryKey": True, "primaryKeyPosition": dataset.key.index(k) + 1} for k in dataset.key if k not in contract.columns
    ]  # fmt: skip
    custom = {"eventTime": dataset.event_time, "knownTime": dataset.known_time, "subject": dataset.subject}
    table["customProperties"] = [{"property": k, "value": v} for k, v in custom.items() if v]
    table["quality"] = _quality(dataset, contract)
    said["schema"] = [{k: v for k, v in table.items() if v}]
    if contract.fresh is not None:
        value, unit = _in_units(span(contract.fresh))
        element = dataset.known_time or dataset.event_time
        said["slaProperties"] = [{"property": "latency", "value": value, "unit": unit}]
        if element:
            said["slaProperties"][0]["element"] = f"{dataset.name}.{element}"
    return said


def _yaml() -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise UsageError("Contract files need PyYAML, which is not installed.", hint="Run: pip install 'treadle[contracts]'") from None
    return yaml


def _property(name: str, column: Column, dataset: Dataset) -> dict[str, Any]:
    said: dict[str, Any] = {"name": name, "logicalType": _TYPES[column.kind]}
    if name in dataset.key:
        said |= {"primaryKey": True, "primaryKeyPosition": dataset.key.index(name) + 1}
    said |= {"required": not column.nullable, "unique": column.unique}
    options: dict[str, Any] = {}
    if column.kind in ("number", "integer"):
        options |= {k: v for k, v in (("minimum", column.ge), ("maximum", column.le)) if v is not None}
    if column.kind in ("text", "category"):
        options |= {k: v for k, v in (("minLength", column.min_length), ("maxLength", column.max_length)) if v is not None}
        if column.pattern:
            options["pattern"] = f"^(?:{column.pattern})$"
    if column.not_after and column.not_after != "now":
        options["maximum"] = column.not_after
    if options:
        said["logicalTypeOptions"] = options
    if column.description:
        said["description"] = column.description
    if column.isin is not None:
        said["quality"] = [{"type": "library", "metric": "invalidValues", "arguments": {"validValues": list(column.isin)}, "mustBe": 0}]
    if column.personal:
        said["classification"] = "personal"
    custom = {
        "treadleKind": column.kind, "unit": column.unit, "personal": column.personal, "policy": column.policy,
        "notAfter": column.not_after if column.not_after == "now" else "", "toleranceSeconds": column.tolerance.total_seconds() or None,
    }  # fmt: skip
    said["customProperties"] = [{"property": k, "value": v} for k, v in custom.items() if v]
    return said


def _quality(dataset: Dataset, contract: Contract) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if contract.volume is not None and contract.volume != (None, None):
        low, high = contract.volume
        bound: dict[str, Any] = (
            {"mustBe": low} if low == high else {"mustBeGreaterOrEqualTo": low} if high is None else {"mustBeLessOrEqualTo": high} if low is None
            else {"mustBeBetween": [low, high]}
        )  # fmt: skip
        found.append({"type": "library", "metric": "rowCount", **bound})
    for group in contract.unique:
        found.append({"type": "library", "metric": "duplicateValues", "arguments": {"properties": list(names(group))}, "mustBe": 0})
    for sentence, rule in contract.rules.items():
        if isinstance(rule, str):
            found.append({"name": sentence, "type": "sql", "query": f"SELECT COUNT(*) FROM ${{object}} WHERE NOT ({rule})", "mustBe": 0})
        else:
            found.append({"name": sentence, "type": "custom", "engine": ENGINE, "implementation": {"polars": _written(rule, sentence)}})
    promises: dict[str, Any] = {"atMost": contract.at_most, "stopOn": list(contract.stop_on)}
    if contract.volume == (None, None):
        promises["volume"] = [None, None]
    if contract.volume_change is not None:
        promises["volumeChange"] = contract.volume_change
    if contract.like is not None:
        promises["like"] = {"version": contract.like.version, "limits": {c: dict(sizes) for c, sizes in contract.like.limits.items()}}
    found.append({"name": "promises", "type": "custom", "engine": ENGINE, "implementation": promises})
    return found


def _table(document: Mapping[str, Any], table: Mapping[str, Any]) -> Imported:
    left_out: list[str] = []
    columns: dict[str, Column] = {}
    positions: dict[str, int] = {}
    for number, said in enumerate(_listed(table.get("properties"))):
        name = str(said["name"])
        if said.get("primaryKey"):
            positions[name] = int(said.get("primaryKeyPosition", 0) or number + 1)
        column = _column(said, left_out)
        if column is not None:
            columns[name] = column
    given: dict[str, Any] = {"at_most": 0.05, "stop_on": STOPS, "unique": []}
    rules: dict[str, Any] = {}
    for check in _listed(table.get("quality")):
        _check(check, given, rules, left_out)
    for agreed in _listed(document.get("slaProperties")):
        if str(agreed.get("property", "")).casefold() in ("latency", "ly", "freshness"):
            unit = _SPELLED.get(str(agreed.get("unit", "d")).casefold())
            if unit is not None:
                given["fresh"] = timedelta(weeks=float(agreed["value"])) if unit == "w" else timedelta(seconds=float(agreed["value"]) * _UNITS[unit])
                continue
        left_out.append(f"service level {agreed.get('property')!r}: it is agreed between people, and not checked")
    custom = _custom(table)
    team = document.get("team")
    owners = [m for m in _listed(team.get("members") if isinstance(team, dict) else team) if m.get("role") == "owner"]
    owner = str((owners[0].get("username") or owners[0].get("name")) if owners else (team.get("name", "") if isinstance(team, dict) else ""))
    description = document.get("description") or {}
    return Imported(
        str(table["name"]),
        Contract(columns, rules, **{**given, "unique": tuple(given["unique"])}),
        tuple(sorted(positions, key=lambda k: positions[k])), custom.get("eventTime"), custom.get("knownTime"), str(custom.get("subject", "")), owner,
        str(description.get("purpose", "") if isinstance(description, dict) else description), tuple(left_out),
    )  # fmt: skip


def _column(said: Mapping[str, Any], left_out: list[str]) -> Column | None:
    name, logical, custom = str(said["name"]), said.get("logicalType"), _custom(said)
    options = dict(said.get("logicalTypeOptions") or {})
    isin = None
    for check in _listed(said.get("quality")):
        metric = check.get("metric") or check.get("rule")
        arguments = check.get("arguments") or {}
        if metric == "invalidValues" and "validValues" in arguments and check.get("mustBe") == 0:
            isin = tuple(arguments["validValues"])
        elif metric == "invalidValues" and "pattern" in arguments and check.get("mustBe") == 0:
            options["pattern"] = arguments["pattern"]
        elif metric in ("nullValues", "missingValues") and check.get("mustBe") == 0:
            said = {**said, "required": True}
        elif metric == "duplicateValues" and check.get("mustBe") == 0:
            said = {**said, "unique": True}
        else:
            left_out.append(f"column {name!r}: quality rule {check.get('name') or metric or check.get('type')!r} is not checked")
    kind: Any = custom.get("treadleKind")
    if kind not in KINDS:
        kinds = {"number": "number", "integer": "integer", "boolean": "boolean", "timestamp": "timestamp", "date": "timestamp"}
        kind = ("category" if isin is not None else "text") if logical == "string" else kinds.get(str(logical))
    if kind is None:
        if not (logical is None and said.get("primaryKey")):
            left_out.append(f"column {name!r}: {logical or 'no type'} has no counterpart, and is not checked")
        return None
    bounds: dict[str, Any] = {}
    not_after = str(custom.get("notAfter", ""))
    if kind in ("number", "integer"):
        bounds = {"ge": options.pop("minimum", None), "le": options.pop("maximum", None)}
        if kind == "integer":
            for exclusive, bound, step in (("exclusiveMinimum", "ge", 1), ("exclusiveMaximum", "le", -1)):
                if exclusive in options:
                    bounds[bound] = options.pop(exclusive) + step
    elif kind in ("text", "category"):
        pattern = str(options.pop("pattern", ""))
        whole = _WHOLE.fullmatch(pattern)
        if whole:
            pattern = whole[1]
        elif pattern and not (pattern.startswith("^") and pattern.endswith("$") and "|" not in pattern):
            pattern = rf"[\s\S]*(?:{pattern})[\s\S]*"  # the standard's patterns may match a part
        bounds = {"pattern": pattern, "min_length": options.pop("minLength", None), "max_length": options.pop("maxLength", None)}
    elif kind == "timestamp":
        not_after = not_after or str(options.pop("maximum", ""))
    for option in ("format", "timezone", "defaultTimezone"):
        options.pop(option, None)
    left_out += [f"column {name!r}: {option}={value!r} has no counterpart, and is not checked" for option, value in options.items()]
    return Column(
        kind, nullable=not said.get("required", False), isin=isin, unique=bool(said.get("unique", False)), unit=str(custom.get("unit", "")),
        description=str(said.get("description", "")),
        personal=str(custom.get("personal", "") or ("personal" if said.get("classification") == "personal" else "")),
        policy=custom.get("policy", ""), not_after=not_after, tolerance=timedelta(seconds=float(custom.get("toleranceSeconds", 0))), **bounds,
    )  # fmt: skip


def _check(check: Mapping[str, Any], given: dict[str, Any], rules: dict[str, Any], left_out: list[str]) -> None:
    metric, arguments = check.get("metric") or check.get("rule"), check.get("arguments") or {}
    label = check.get("name") or metric or check.get("description") or check.get("type")
    implementation = check.get("implementation")
    sql = _ROWS.fullmatch(str(check.get("query", "")))
    if metric == "rowCount" and (volume := _bounds(check)) is not None:
        given["volume"] = volume
    elif metric == "duplicateValues" and "properties" in arguments and check.get("mustBe") == 0:
        given["unique"].append(tuple(arguments["properties"]))
    elif check.get("type") == "sql" and sql and check.get("mustBe") == 0:
        rules[str(label)] = sql[1]
    elif check.get("engine") == ENGINE and isinstance(implementation, dict) and "polars" in implementation:
        rules[str(label)] = _read(implementation["polars"], str(label))
    elif check.get("engine") == ENGINE and isinstance(implementation, dict):
        words = {"atMost": "at_most", "volumeChange": "volume_change"}
        given |= {words[k]: v for k, v in implementation.items() if k in words}
        if "stopOn" in implementation:
            given["stop_on"] = tuple(implementation["stopOn"])
        if "volume" in implementation:
            given["volume"] = tuple(implementation["volume"])
        if "like" in implementation:
            given["like"] = Like(implementation["like"]["version"], implementation["like"]["limits"])
    else:
        left_out.append(f"quality rule {label!r} is not checked")


def _bounds(check: Mapping[str, Any]) -> tuple[int | None, int | None] | None:
    if "mustBeBetween" in check:
        low, high = check["mustBeBetween"]
        return int(low), int(high)
    single: Sequence[tuple[str, Any]] = (
        ("mustBe", lambda n: (n, n)), ("mustBeGreaterOrEqualTo", lambda n: (n, None)), ("mustBeLessOrEqualTo", lambda n: (None, n)),
        ("mustBeGreaterThan", lambda n: (n + 1, None)), ("mustBeLessThan", lambda n: (None, n - 1)),
    )  # fmt: skip
    return next((make(int(check[word])) for word, make in single if word in check), None)


def _written(rule: Any, sentence: str) -> Any:
    """A Polars expression as JSON values."""
    tree = json.loads(rule.meta.serialize(format="json"))
    foreign = _foreign(tree)
    if foreign:
        raise DataError(
            f"Rule {sentence!r} cannot be written into a contract file: it uses {foreign}.", hint="Write it as SQL text, such as 'paid <= amount'."
        )
    return tree


def _read(tree: Any, sentence: str) -> Any:
    """The expression that JSON values say. Nothing but the harmless parts is let through: a serialised expression can hold code."""
    import polars as pl

    foreign = _foreign(tree)
    if foreign:
        raise DataError(f"Rule {sentence!r} of the contract file is refused: it uses {foreign}.", hint="Write it as an SQL rule.")
    try:
        return pl.Expr.deserialize(io.StringIO(json.dumps(tree)), format="json")
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise DataError(
            f"Rule {sentence!r} was written by another version of Polars: {str(error).splitlines()[0]}.", hint="Write it as an SQL rule."
        ) from None


def _foreign(tree: Any) -> str:
    """The first part of an expression that is not known to be harmless; '' if none."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key[:1].isupper() and key not in _HARMLESS:
                return str(key)
            found = "" if key == "Column" else _foreign(value)
            if found:
                return found
    elif isinstance(tree, list):
        for part in tree:
            found = _foreign(part)
            if found:
                return found
    return ""


def _in_units(length: timedelta) -> tuple[int | float, str]:
    seconds = length.total_seconds()
    for unit, size in _UNITS.items():
        if seconds % size == 0:
            return int(seconds // size), unit
    return seconds, "s"


def _custom(said: Mapping[str, Any]) -> dict[str, Any]:
    return {str(p["property"]): p["value"] for p in _listed(said.get("customProperties"))}


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else []
