"""Two runs side by side: what differs in code, parameters, data, results and metrics, and in the time each step took.

A step's code, parameters and inputs are those recorded with its stored result, so two runs can be compared long after the code has moved on. A step
that failed, or was left out, has none; only its state is compared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from treadle.assemble import Workspace
from treadle.core.errors import Corrupt, NotFound, UsageError
from treadle.core.masking import masked_within, personal_columns
from treadle.core.records import Record
from treadle.data import differences, versions
from treadle.pipelines import plan, results
from treadle.pipelines.run import steps_of

_NONE: Mapping[str, Any] = {"code": {}, "params": {}, "inputs": {}, "files": {}}


def compare(ws: Workspace, old: Record, new: Record) -> dict[str, Any]:
    """What differs between two runs of the same model or pipeline.

    Returns: 'old' and 'new': each run in short; 'code': [{'what', 'steps'}]; 'params': {name: [old, new]}; 'data': {data set: ...}, see `_dataset`;
        'metrics': {name: {'old', 'new', 'low', 'high'}}, the interval being the new one's; 'steps': [{'step', 'status', 'seconds', 'cpu', 'result',
        'changed'}], where result is 'same', '' or a sentence.
    Raises: UsageError when the two are of different models or pipelines.
    """
    if old["scope"] != new["scope"]:
        raise UsageError(
            f"{old.id} is a run of {_target(old)!r} and {new.id} one of {_target(new)!r}; only two runs of the same thing can be compared.",
            hint="See: treadle runs",
        )
    before = {s["step"]: s for s in steps_of(old.id, ws.ledger) if not s.get("of")}
    after = {s["step"]: s for s in steps_of(new.id, ws.ledger) if not s.get("of")}
    names = [*after, *(name for name in before if name not in after)]
    code: dict[str, list[str]] = {}
    params: dict[str, list[Any]] = {}
    steps = []
    for name in names:
        a, b = before.get(name), after.get(name)
        then, now = _ingredients(a, ws), _ingredients(b, ws)
        changed: list[str] = []
        if then is not None and now is not None:
            for what in plan.changes({**_NONE, "code": then["code"]}, {**_NONE, "code": now["code"]}):
                code.setdefault(what, []).append(name)
            changed = plan.changes(then, now)
            params |= _params(name, then, now)
        steps.append({
            "step": name, "status": [_state(a), _state(b)], "seconds": [_number(a, "seconds"), _number(b, "seconds")],
            "cpu": [_number(a, "cpu"), _number(b, "cpu")], "result": _result(a, b, ws), "changed": changed,
        })  # fmt: skip
    given = {name: [_of(old, name), _of(new, name)] for name in sorted({*(old.get("params") or {}), *(new.get("params") or {})})}
    own = {name: pair for name, pair in given.items() if pair[0] != pair[1]}
    own |= {name: [old.get(name), new.get(name)] for name in ("as_of",) if (old.get(name) or "") != (new.get(name) or "")}
    made = _version(before, ws), _version(after, ws)
    said = {**own, **{k: v for k, v in params.items() if k.partition(".")[2] not in own}, **_settings(*made)}
    return {
        "old": _short(old), "new": _short(new), "code": [{"what": what, "steps": where} for what, where in code.items()], "params": said,
        "data": _data(before, after, ws), "metrics": _version_metrics(*made) if any(made) else _metrics(before, after, ws), "steps": steps,
    }  # fmt: skip


def _target(run: Record) -> str:
    return str(run.get("pipeline") or run.get("model") or run["scope"])


def _short(run: Record) -> dict[str, Any]:
    code = run.get("code") or {}
    return {
        "run": run.id, "target": _target(run), "status": run["status"], "started": run["started"], "seconds": run.get("seconds", 0.0),
        "cpu": run.get("cpu", 0.0), "commit": code.get("commit", ""), "dirty": bool(code.get("dirty")), "snapshot": code.get("snapshot", ""),
    }  # fmt: skip


def _of(run: Record, name: str) -> Any:
    return (run.get("params") or {}).get(name)


def _state(step: Record | None) -> str:
    return "not in it" if step is None else str(step["status"])


def _number(step: Record | None, name: str) -> float:
    return float(step.get(name) or 0.0) if step is not None else 0.0


def _ingredients(step: Record | None, ws: Workspace) -> Mapping[str, Any] | None:
    found = plan.stored(step["key"], ws.ledger) if step is not None and step.get("key") else None
    return {**_NONE, **found["ingredients"]} if found is not None and "ingredients" in found.body else None


def _params(step: str, then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for name in sorted({*then["params"], *now["params"]}):
        a, b = then["params"].get(name), now["params"].get(name)
        if a != b:
            found[f"{step}.{name}"] = [_shown(a), _shown(b)]
    for name in sorted({*then["files"], *now["files"]}):
        if then["files"].get(name) != now["files"].get(name):
            found[f"{step}.{name} (file)"] = [_shown(then["files"].get(name)), _shown(now["files"].get(name))]
    return found


def _shown(value: Any) -> Any:
    """A digest as 'sha256:' and its first 12 digits, anything else as it is."""
    return f"sha256:{value.removeprefix('sha256:')[:12]}" if plan.is_digest(value) else value


# Results and metrics


def _result(a: Record | None, b: Record | None, ws: Workspace) -> str:
    """'same', '' where one has none, or what differs."""
    if a is None or b is None or not a.get("address") or not b.get("address"):
        return ""
    if a["address"] == b["address"]:
        return "same"
    try:
        if a["codec"] == b["codec"] == results.LIST:
            return _lists(a["address"], b["address"], ws)
        if a["codec"] == b["codec"] == "json":
            personal = personal_columns(ws.project.datasets.values())
            old, new = (masked_within(json.loads(ws.blobs.get(s["address"])), personal) for s in (a, b))
            if isinstance(old, dict) and isinstance(new, dict) and len(json.dumps([old, new])) > 80:
                keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
                return f"differs in {', '.join(keys[:8])}{', ...' if len(keys) > 8 else ''}"
            return f"{_brief(old)} -> {_brief(new)}"
        if {a["codec"], b["codec"]} <= {"frame", results.FILE}:
            import polars as pl

            old, new = (pl.scan_parquet(ws.blobs.path(s["address"])) for s in (a, b))
            counts = [frame.select(pl.len()).collect().item() for frame in (old, new)]
            shape = _columns(list(old.collect_schema()), list(new.collect_schema()))
            return f"{counts[0]:,} rows -> {counts[1]:,} rows" + (f"; {shape}" if shape else "" if counts[0] != counts[1] else ", and they differ")
    except (NotFound, Corrupt):
        return "differs (one of the two is gone)"
    return "differs"


def _lists(a: str, b: str, ws: Workspace) -> str:
    old, new = results.parts(a, ws.blobs), results.parts(b, ws.blobs)
    if len(old) != len(new):
        return f"{len(old):,} -> {len(new):,} elements"
    return f"{sum(x != y for x, y in zip(old, new)):,} of {len(new):,} elements differ"


def _columns(old: Sequence[str], new: Sequence[str]) -> str:
    parts = [("without", [c for c in old if c not in new]), ("with", [c for c in new if c not in old])]
    return ", ".join(f"{word} column{'s' if len(names) > 1 else ''} {', '.join(names[:5])}" for word, names in parts if names)


def _metrics(before: Mapping[str, Record], after: Mapping[str, Record], ws: Workspace) -> dict[str, dict[str, Any]]:
    """A pipeline's metrics: every number that a step returned, by itself or in an object, and that differs."""
    found: dict[str, dict[str, Any]] = {}
    for name in after:
        a, b = before.get(name), after[name]
        if a is None or a.get("codec") != "json" or b.get("codec") != "json" or a["address"] == b["address"]:
            continue
        try:
            old, new = (_numbers(name, json.loads(ws.blobs.get(s["address"]))) for s in (a, b))
        except (NotFound, Corrupt):
            continue
        found |= {k: {"old": old[k], "new": new[k]} for k in old if k in new and old[k] != new[k]}
    return found


def _numbers(name: str, value: Any) -> dict[str, float]:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {name: value}
    if isinstance(value, dict):
        return {k: v for key, part in value.items() for k, v in _numbers(f"{name}.{key}", part).items()}
    return {}


def _version(steps: Mapping[str, Record], ws: Workspace) -> Record | None:
    """The model version that a run registered."""
    made = steps.get("register")
    if made is None or not made.get("address"):
        return None
    try:
        return ws.ledger.get("model_version", json.loads(ws.blobs.get(made["address"]))["id"])
    except (NotFound, Corrupt, KeyError, ValueError, TypeError):
        return None


def _settings(old: Record | None, new: Record | None) -> dict[str, list[Any]]:
    """What the search settled on, where it settled on something else."""
    if old is None or new is None:
        return {}
    a, b = ({"family": v["family"], **{f"{v['family']}.{k}": x for k, x in (v["params"] or {}).items()}} for v in (old, new))
    return {f"found {k}": [a.get(k), b.get(k)] for k in sorted({*a, *b}) if a.get(k) != b.get(k)}


def _version_metrics(old: Record | None, new: Record | None) -> dict[str, dict[str, Any]]:
    a, b = (v["evaluation"]["metrics"]["model"] if v is not None else {} for v in (old, new))
    found = {}
    for name in {**b, **a}:
        was, now = a.get(name, {}), b.get(name, {})
        if was.get("value") != now.get("value"):
            found[name] = {"old": was.get("value"), "new": now.get("value"), "low": now.get("low"), "high": now.get("high")}
    return found


# Data


def _data(before: Mapping[str, Record], after: Mapping[str, Record], ws: Workspace) -> dict[str, dict[str, Any]]:
    found = {}
    for name in after:
        a, b = before.get(name), after[name]
        if name.startswith("data:") and a is not None and a.get("address") and b.get("address") and a["address"] != b["address"]:
            try:
                old, new = (json.loads(ws.blobs.get(s["address"])) for s in (a, b))
            except (NotFound, Corrupt):
                continue
            found[name[5:]] = _dataset(name[5:], old, new, ws)
    return found


def _dataset(name: str, old: Mapping[str, Any], new: Mapping[str, Any], ws: Workspace) -> dict[str, Any]:
    """Two versions of a data set: 'version', 'rows', 'quarantined', 'range' as [old, new]; 'added', 'removed', 'changed' rows by key, or None."""
    kinds: dict[str, Any] = {
        "version": [versions.of(v).id for v in (old, new)], "rows": [old["rows"], new["rows"]],
        "quarantined": [old["quarantined"], new["quarantined"]], "range": [[v.get("start", ""), v.get("end", "")] for v in (old, new)],
    }  # fmt: skip
    by_key = _by_key(name, old["address"], new["address"], ws)
    parts = [f"{old['rows']:,} rows -> {new['rows']:,} rows"]
    if by_key.get("added") is not None:
        parts.append(f"{by_key['added']:,} added, {by_key['removed']:,} removed, {by_key['changed']:,} changed")
    if by_key.get("note"):
        parts.append(by_key["note"])
    if old["quarantined"] != new["quarantined"]:
        parts.append(f"set aside {old['quarantined']:,} -> {new['quarantined']:,}")
    if old.get("end") != new.get("end"):
        parts.append(f"up to {old.get('end', '')[:16] or '-'} -> {new.get('end', '')[:16] or '-'}")
    return {**kinds, **by_key, "sentence": "; ".join(parts)}


def _by_key(name: str, old: str, new: str, ws: Workspace) -> dict[str, Any]:
    """Rows added, removed and changed by the data set's key, where both tables are there and the key tells their rows apart."""
    nothing = {"added": None, "removed": None, "changed": None}
    declared = ws.project.datasets.get(name)
    if not ws.tables.exists(old) or not ws.tables.exists(new):
        return {**nothing, "note": "the rows of one of the two are gone"}
    if declared is None:
        return {**nothing, "note": "the project declares this data set no more, so its key is not known"}
    found = differences.rows(ws.tables, old, new, declared.key)
    return {"added": found.added, "removed": found.removed, "changed": found.changed, "note": found.note}


def _brief(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
