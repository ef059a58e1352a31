"""Give a person their data back: rows of every data set, features, predictions, and which models learned from them, in a folder or a zip file.

Reads only; what is on record afterwards is that it was done, by whom and how much, under the keyed hash of the id that erasures use too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from treadle.assemble import Workspace
from treadle.backends.moments import from_micros as moment_text
from treadle.core.canonical import plain
from treadle.core.clock import iso
from treadle.core.errors import Conflict, DataError, NotFound, ProjectError
from treadle.core.records import Record, Ref
from treadle.data import filesets, promises, suppressed
from treadle.data.suppressed import spelt
from treadle.features import history as histories
from treadle.features import online
from treadle.governance import erasure
from treadle.ports.online import Key
from treadle.serving.logged import hashed_value

EVENT = "person.exported"
_EVER = 1 << 62


def hand_over(ws: Workspace, subject: str, out: Path) -> dict[str, Any]:
    """Write it, and return the manifest: {'files': [{'path', 'rows', 'what', 'sha256'}], 'datasets', 'models', ...}.

    Args:
        out: a folder to make, or a file that ends in .zip. Only its owner may read it.
    Raises: Conflict when it exists; NotFound when nothing is about the person.
    """
    subject = suppressed.checked(subject)
    if out.exists():
        raise Conflict(f"{out.name} is there already.", where=str(out.parent), hint="Give another --out; nothing is written over.")
    key = suppressed.own_key(ws.settings.home, ws.ledger)
    with tempfile.TemporaryDirectory(prefix="treadle-export-") as scratch:
        folder = Path(scratch) / "export"
        manifest = _written(ws, subject, folder)
        if not manifest["files"]:
            said = "; ".join(f"{name}: {', '.join(columns)}" for name, columns in erasure.person_columns(ws.project).items())
            raise NotFound(
                "Nothing here is about this person.",
                hint=f"Looked in the columns that name persons ({said})." if said else "No data set declares subject='COLUMN'.",
            )
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", "utf-8")
        (folder / "README.txt").write_text(_readme(manifest), "utf-8")
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.suffix == ".zip":
            handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in sorted(folder.rglob("*")):
                    if path.is_file():
                        archive.write(path, path.relative_to(folder).as_posix())
        else:
            shutil.copytree(folder, out)
            out.chmod(0o700)
    counts = {"files": len(manifest["files"]), "rows": sum(f["rows"] for f in manifest["files"] if f["path"].endswith(".jsonl"))}
    ws.ledger.append(EVENT, Ref("person", suppressed.subject_digest(key, subject)), counts, actor=ws.actor)
    return manifest


def _written(ws: Workspace, subject: str, folder: Path) -> dict[str, Any]:
    columns = erasure.person_columns(ws.project)
    files: list[dict[str, Any]] = []
    datasets: dict[str, Any] = {}

    def add(name: str, what: str, frame: pl.DataFrame) -> None:
        if frame.height:
            files.extend(_both(folder, name, what, frame))

    held = []
    for dataset in ws.project.datasets.values():
        known = promises.in_turn(dataset.name, ws.ledger)
        mine = columns.get(dataset.name, ())
        if not known or not mine:
            continue
        newest = known[-1]
        rows = _rows_of(ws, newest["address"], mine, subject)
        add(f"data/{dataset.name}", f"rows of data set {dataset.name}, version {newest.id}", rows)
        if dataset.source.kind == filesets.KIND:
            files += [_copied(ws, folder, row) for row in rows.iter_rows(named=True)]
        earlier = _earlier(ws, known, rows, mine, subject)
        add(f"data/{dataset.name}-earlier", "rows as they were in earlier versions, where they differ", earlier)
        if newest["quarantine"]:
            aside = _rows_of(ws, newest["quarantine"], mine, subject)
            add(f"data/{dataset.name}-set-aside", "rows that were set aside because they break the contract, with the reason", aside)
        held += [
            erasure.Held(v.id, dataset.name, v["address"], n, "", 0) for v in known
            if ws.tables.exists(v["address"]) and (n := _rows_of(ws, v["address"], mine, subject).height)
        ]  # fmt: skip
        datasets[dataset.name] = {
            "description": dataset.description, "owner": dataset.owner, "person named by": list(mine),
            "columns": {name: c.description for name, c in (dataset.contract.columns if dataset.contract else {}).items()},
        }  # fmt: skip
    for name, frame in _features(ws, columns, subject):
        add(name, "feature values over time" if name.endswith("offline") else "feature values that are ready for the next prediction", frame)
    named = sorted({c for names in columns.values() for c in names})
    hashed = hashed_value(suppressed.read_key(ws.settings.home), subject)
    add("predictions", "answered predictions whose request names the person", _predictions(ws, named, subject, hashed))
    models = [{k: m[k] for k in ("id", "rows", "status", "answers")} for m in erasure.trained(held, ws.ledger)]
    return {
        "format": "treadle person export 1", "subject": subject, "project": ws.project.name, "owner": ws.project.owner, "purpose": ws.project.goal,
        "made": iso(ws.clock.now()), "by": ws.actor, "files": files, "datasets": datasets, "models trained on the rows": models,
    }  # fmt: skip


def _copied(ws: Workspace, folder: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """One file of a file set."""
    place = folder / "files" / row["path"]
    if not place.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"The path {row['path']!r} leads out of the project.", hint="Take a new version: treadle run")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(ws.blobs.get(row["address"]))
    return {"path": f"files/{row['path']}", "rows": 1, "what": "a file", "sha256": row["address"]}


def _rows_of(ws: Workspace, address: str, columns: tuple[str, ...], subject: str) -> pl.DataFrame:
    if not ws.tables.exists(address):
        return pl.DataFrame()
    scan = ws.tables.scan(address)
    return scan.filter(erasure.about(scan.collect_schema(), columns, subject)).collect()


def _earlier(ws: Workspace, known: list[Record], now: pl.DataFrame, columns: tuple[str, ...], subject: str) -> pl.DataFrame:
    """Rows of earlier versions that are not in the newest one, each once, with the version it was last in."""
    seen = {json.dumps(plain_row(row), sort_keys=True) for row in now.iter_rows(named=True)}
    found = []
    for version in reversed(known[:-1]):
        kept = []
        for row in _rows_of(ws, version["address"], columns, subject).iter_rows(named=True):
            text = json.dumps(plain_row(row), sort_keys=True)
            if text not in seen:
                seen.add(text)
                kept.append({"data_version": version.id, **plain_row(row)})
        found += kept
    return pl.DataFrame(found, infer_schema_length=None) if found else pl.DataFrame()


def plain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON types."""
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return plain_row(value)
    if isinstance(value, list):
        return [_plain(v) for v in value]
    try:
        return plain(value)
    except TypeError:
        return str(value)


def _features(ws: Workspace, columns: Mapping[str, tuple[str, ...]], subject: str) -> Iterator[tuple[str, pl.DataFrame]]:
    for view in ws.project.views.values():
        mine = [c for c in view.entity if c in columns.get(view.source.name, ())]
        known = promises.in_turn(view.source.name, ws.ledger)
        if not mine or not known:
            continue
        if ws.tables.exists(known[-1]["address"]):
            try:
                values = histories.history(view, ws.tables.scan(known[-1]["address"]).collect())
            except (DataError, ProjectError):  # a view that no longer fits its data has no values
                values = pl.DataFrame()
            if values.height:
                values = values.filter(erasure.about(values.schema, mine, subject)).select(~pl.selectors.starts_with("__event"))
                yield f"features/{view.name}-offline", values.rename({histories.AT: "known_from", histories.UNTIL: "valid_until"}, strict=False)
        keys = erasure.entities_of(view, columns, subject, known, ws.tables)
        rows = []
        for key, value in zip(keys, ws.online.get_many([Key(view.name, key) for key in keys])):
            said = online.read(value, value.time) if value is not None else None
            if value is not None and said is not None:
                about = {"entity": key.replace(online.SEPARATOR, "|"), "known_from": moment_text(value.time)}
                rows.append({**about, **dict(zip(view.feature_names(), said))})
        if rows:
            yield f"features/{view.name}-online", pl.DataFrame(rows, infer_schema_length=None)


def _predictions(ws: Workspace, named: list[str], subject: str, hashed: str) -> pl.DataFrame:
    found = []
    for model in ws.project.models:
        for batch in ws.predictions.between(model, -_EVER, _EVER):
            for said, outcome in batch:
                if not any(text.encode() in said.inputs for text in (subject, json.dumps(subject)[1:-1], hashed)):
                    continue
                inputs = json.loads(said.inputs)
                names = any(spelt(pl.Series([inputs[c]], strict=False))[0] == subject for c in named if inputs.get(c) is not None)
                if names or hashed in inputs.values():
                    found.append({
                        "prediction": said.id, "model": said.model, "version": said.version, "moment": moment_text(said.moment),
                        "answered": moment_text(said.answered), "output": json.dumps(list(said.output)),
                        "request": json.dumps(inputs, ensure_ascii=False), "features": said.features.decode("utf-8", "replace"),
                        "outcome": None if outcome is None else json.dumps(outcome.value),
                    })  # fmt: skip
    return pl.DataFrame(found, infer_schema_length=None) if found else pl.DataFrame()


def _both(folder: Path, name: str, what: str, frame: pl.DataFrame) -> Iterator[dict[str, Any]]:
    """As JSON lines, with every type, and as CSV, with what is nested as JSON text."""
    rows = [plain_row(row) for row in frame.iter_rows(named=True)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    flat = [{k: json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for k, v in row.items()} for row in rows]
    table = pl.DataFrame(flat, schema_overrides={c: pl.String for c in frame.columns if frame.schema[c].is_nested()}, infer_schema_length=None)
    for ending, content in ((".jsonl", lines), (".csv", table.write_csv().encode())):
        path = folder / (name + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        yield {"path": name + ending, "rows": frame.height, "what": what, "sha256": hashlib.sha256(content).hexdigest()}


def _readme(manifest: Mapping[str, Any]) -> str:
    lines = [
        f"Data about {manifest['subject']} in the project {manifest['project']}", "",
        f"Made {manifest['made']} for the person it is about.",
        f"Owner: {manifest['owner'] or 'not said'}. Purpose: {manifest['purpose'] or 'not said'}.", "",
        "Each file is there twice: .jsonl (one JSON object a line) and .csv. manifest.json lists them for machines, with SHA-256.", "",
    ]  # fmt: skip
    lines += [f"{f['path']}: {f['rows']} rows, {f['what']}" for f in manifest["files"]]
    for name, said in manifest["datasets"].items():
        lines += ["", f"{name}: {said['description'] or 'no description is recorded'}"]
        lines += [f"  {column}: {text}" for column, text in said["columns"].items() if text]
    models = manifest["models trained on the rows"]
    lines += ["", "Models trained on these rows: " + (", ".join(f"{m['id']} ({m['rows']} rows)" for m in models) or "none"), ""]
    return "\n".join(lines)
