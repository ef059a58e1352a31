"""Data sets as people look at them: how each stands, one version's columns and how they are distributed, what differs between two, where rows went.

Values of personal columns are never told. Distributions come from at most `SAMPLED` rows, spread evenly over the version; how many is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import polars as pl

from treadle.assemble import Workspace
from treadle.core.clock import iso
from treadle.core.declare.data import Dataset
from treadle.core.errors import NotFound, UsageError
from treadle.core.masking import masked_row, personal_columns
from treadle.core.records import Record, Ref
from treadle.data import differences, promises, schema_changes
from treadle.data.versions import KIND
from treadle.registry import versions as registry
from treadle.review import owners

SAMPLED, BINS, TOP, SAMPLES = 20_000, 12, 8, 3


def dataset(ws: Workspace, name: str) -> Dataset:
    """A declared data set. Raises NotFound."""
    if name not in ws.project.datasets:
        raise NotFound(f"There is no data set {name[:100]!r}.", hint=f"The project declares: {', '.join(ws.project.datasets) or 'none'}.")
    return ws.project.datasets[name]


def newest(ws: Workspace, name: str) -> Record | None:
    """The newest version on record."""
    found = promises.in_turn(name, ws.ledger)
    return found[-1] if found else None


def version(ws: Workspace, name: str, which: str = "") -> Record:
    """A version by its number, its id or the beginning of it; the newest if not said. Raises NotFound, UsageError when several begin so."""
    records = promises.in_turn(name, ws.ledger)
    if not records:
        raise NotFound(f"Data set {name!r} has no version yet.", hint="Start a run: it takes one.")
    if not which:
        return records[-1]
    found = [r for r in records if r.id == which or str(r.get("number", "")) == which] or [r for r in records if r.id.startswith(which)]
    if len(found) > 1:
        raise UsageError(f"Several versions of {name!r} begin with {which[:60]!r}.", hint="Give the whole id, or the number.")
    if not found:
        raise NotFound(f"Data set {name!r} has no version {which[:60]!r}.")
    return found[0]


def in_short(ws: Workspace, declared: Dataset) -> dict[str, Any]:
    """A data set in a line: its newest version, its owner, and how it stands to its contract."""
    now, state = newest(ws, declared.name), ws.ledger.get(promises.STATE, declared.name)
    broken = dict(state["broken"]) if state is not None else {}
    return {
        "name": declared.name, "source": declared.source.kind, "owner": owners.owner_of(Ref("dataset", declared.name), ws.ledger, declared.owner),
        "declared_owner": declared.owner, "version": line(now) if now is not None else None,
        "contract": "none" if declared.contract is None else "not looked at" if state is None else "stopped a run" if state["stopped"] else
        "broken" if broken else "kept",
        "broken": [{"promise": k, **v} for k, v in broken.items()], "quarantined": int(state["quarantined"]) if state is not None else 0,
        "pending": (state.get("pending") or None) if state is not None else None,
        "fresh": str(declared.contract.fresh or "") if declared.contract else "",
        "newest": state["newest"] if state is not None else "", "state_version": state.version if state is not None else 0,
    }  # fmt: skip


def line(record: Record) -> dict[str, Any]:
    """A version in a line."""
    wanted = ("rows", "quarantined", "start", "end", "added", "changed", "removed", "parent", "dropped")
    return {
        "id": record.id, "number": record.get("number", -1), "taken": record.get("taken") or record.created_at, **{k: record.get(k) for k in wanted}
    }  # fmt: skip


def used_by(ws: Workspace, id: str) -> list[dict[str, str]]:
    """What was made of a version of a data set."""
    links = ws.ledger.links(Ref(KIND, id), back=True)
    found = []
    for link in links[:100]:
        kind, used = link.source.kind, link.source.id
        record = ws.ledger.get(kind, used) if kind == registry.KIND else None
        path = f"/models/{record['model']}/versions/{record['number']}" if record is not None else ""
        found.append({"kind": kind, "id": used, "relation": link.relation, "link": path, "run": str(record["run"]) if record is not None else ""})
    return found


def columns(ws: Workspace, declared: Dataset, record: Record | None) -> list[dict[str, Any]]:
    """The columns: type, what the contract says of them, and who uses each."""
    promised = dict(declared.contract.columns) if declared.contract else {}
    schema = dict(record.get("schema") or {}) if record is not None else {}
    used, personal = schema_changes.uses(ws.project, declared), personal_columns([declared])
    everywhere = list(used.get(schema_changes.ANY, ()))
    return [
        {
            "name": n, "type": schema.get(n, ""), "kind": promised[n].kind if n in promised else "", "personal": personal.get(n, ""),
            "policy": promised[n].policy if n in promised else "", "used_by": [*used.get(n, ()), *everywhere], "key": n in declared.key,
        }
        for n in dict.fromkeys([*schema, *promised])
    ]  # fmt: skip


def sample(ws: Workspace, declared: Dataset, record: Record) -> list[dict[str, Any]]:
    """The first rows of a version, personal values masked; none where the rows are gone."""
    if not ws.tables.exists(record["address"]):
        return []
    rows = ws.tables.scan(record["address"]).head(5).collect()
    personal = personal_columns([declared])
    return [{k: cell(v) for k, v in masked_row(row, personal).items()} for row in rows.iter_rows(named=True)]


def distributions(ws: Workspace, declared: Dataset, record: Record) -> dict[str, Any]:
    """How the columns of a version are distributed. Raises NotFound when its rows are gone."""
    if not ws.tables.exists(record["address"]):
        raise NotFound(f"The rows of version {record.id} are gone.", hint="Choose a newer version.")
    every = max(1, -(-int(record["rows"]) // SAMPLED))
    frame = ws.tables.scan(record["address"]).gather_every(every).collect()
    personal = personal_columns([declared])
    found = []
    for name in frame.columns:
        values = frame[name]
        missing = values.null_count() / max(1, len(values))
        told: dict[str, Any] = {"name": name, "type": str(values.dtype), "missing": round(missing, 4), "personal": personal.get(name, ""), "bars": []}
        if not personal.get(name) and not (values.dtype.is_nested() or values.dtype in (pl.Binary, pl.Null)):
            told |= _spread(values)
        found.append(told)
    return {"dataset": declared.name, "version": line(record), "rows": frame.height, "of": int(record["rows"]), "columns": found}


def _spread(values: pl.Series) -> dict[str, Any]:
    known = values.drop_nulls()
    if values.dtype.is_temporal() or (values.dtype.is_numeric() and not _few(known)):
        moments = values.dtype.is_temporal()
        numbers = (known.cast(pl.Int64, strict=False).cast(pl.Float64) if moments else known.cast(pl.Float64)).drop_nans()
        numbers = numbers.filter(numbers.is_finite())
        if not len(numbers):
            return {"words": "no value"}
        low, high = float(numbers.min()), float(numbers.max())  # type: ignore[arg-type]
        ends = [cell(known.min()), cell(known.max())]
        words = f"{_brief(ends[0])} to {_brief(ends[1])}" + ("" if moments else f", mean {float(numbers.mean()):.4g}")  # type: ignore[arg-type]
        if high == low:
            return {"words": f"always {_brief(ends[0])}", "distinct": 1}
        place = ((numbers - low) / (high - low) * BINS).floor().clip(0, BINS - 1).cast(pl.Int64)
        counted = dict(place.alias("v").value_counts().iter_rows())
        if moments:
            return {"words": words, "bars": [{"name": "", "n": int(counted.get(i, 0))} for i in range(BINS)], "sort": "histogram"}
        width = (high - low) / BINS
        bars = [{"name": f"{low + i * width:.4g} to {low + (i + 1) * width:.4g}", "n": int(counted.get(i, 0))} for i in range(BINS)]
        return {"words": words, "bars": bars, "sort": "histogram"}
    texts = known.cast(pl.String, strict=False).alias("v").value_counts(sort=True)
    if known.dtype.is_numeric():
        texts = known.alias("v").value_counts().sort("v")
    telling = texts.height <= max(50, len(known) // 2)  # else the values name rows, and say nothing of how they are spread
    bars = [{"name": str(v)[:40], "n": int(n)} for v, n in texts.head(BINS if known.dtype.is_numeric() else TOP).iter_rows()] if telling else []
    return {"words": f"{texts.height:,} different value{'' if texts.height == 1 else 's'}", "bars": bars, "sort": "values", "distinct": texts.height}


def _few(known: pl.Series) -> bool:
    """Whether these are whole numbers of which there are so few that each has a bar of its own."""
    return known.dtype.is_integer() and known.n_unique() <= BINS


def diff(ws: Workspace, declared: Dataset, old: str, new: str, *, rows: bool) -> dict[str, Any]:
    """What differs between two versions: rows by key, columns, distributions; the newest and the one before if not said.

    Args:
        rows: also show some rows, personal values masked. Raises NotFound.
    """
    second = version(ws, declared.name, new)
    if not old:
        records = [r for r in promises.in_turn(declared.name, ws.ledger) if not r.get("dropped")]
        before = [r.id for r in records if int(r.get("number", -1)) < int(second.get("number", -1))]
        if not before:
            raise NotFound(f"There is no version of {declared.name!r} before {second.id}.", hint="Choose another one.")
        old = before[-1]
    first = version(ws, declared.name, old)
    for record in (first, second):
        if not ws.tables.exists(record["address"]):
            raise NotFound(f"The rows of version {record.id} are gone.", hint="Choose a newer one.")
    a, b, personal = first["address"], second["address"], personal_columns([declared])
    found = differences.rows(ws.tables, a, b, declared.key, samples=SAMPLES if rows else 0, personal=personal)
    shape = differences.shape(ws.tables, a, b)
    spread = differences.distributions(ws.tables, a, b, skip=list(personal)) if a != b else {}
    moved = sorted(spread.items(), key=lambda each: -float(each[1]["effect"].get("psi", 0.0)))
    return {
        "dataset": declared.name, "old": line(first), "new": line(second),
        "rows": {"added": found.added, "removed": found.removed, "changed": found.changed, "note": found.note},
        "columns": {
            "added": list(shape.added), "removed": list(shape.removed), "retyped": {k: list(v) for k, v in shape.retyped.items()},
            "changed": dict(sorted(found.columns.items(), key=lambda each: -each[1])),
        },
        "samples": {sort: [{k: cell(v) for k, v in row.items()} for row in some] for sort, some in found.samples.items()},
        "distributions": [{"name": c, "missing": t["missing"], "effect": t["effect"], "moved": t.get("moved", "")} for c, t in moved],
    }  # fmt: skip


def cell(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, Mapping):
        return {str(k): cell(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [cell(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return iso(value) if getattr(value, "tzinfo", None) is not None and hasattr(value, "hour") else str(value)


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)[:16].replace("T", " ")
