"""Where answers are about a person: in the prediction log, and in the tables that rows were scored into. Questions only; `erase.py` does it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence

import polars as pl

from treadle.core.records import Record
from treadle.data.suppressed import spelt
from treadle.governance.erasure import Held, about
from treadle.governance.traces import Marks
from treadle.ports.predictions import Prediction, PredictionLog
from treadle.ports.tables import Tables

_EVER = 1 << 62


def predictions_of(
    log: PredictionLog, models: Iterable[str], named: Sequence[str], marks: Marks, hashed: Callable[[str], str] | None
) -> dict[str, list[str]]:
    """Ids by model of the predictions whose request, features, outcome or id name the person, or say what only the person's rows say.

    Args:
        models: those the log may know; it is asked for others it has.
        named: the fields that name persons.
        hashed: how a value stands in a log that keeps hashes.
    """
    subject = marks.subject
    looked_for = [subject.encode(), json.dumps(subject)[1:-1].encode(), *([hashed(subject).encode()] if hashed is not None else [])]
    found: dict[str, list[str]] = {}
    for model in dict.fromkeys([*models, *getattr(log, "models", list)()]):
        for pairs in log.between(model, -_EVER, _EVER):
            for said, outcome in pairs:
                told = outcome is not None and marks.in_text(json.dumps(outcome.value, ensure_ascii=False))
                if told or marks.in_text(said.id) or _is_about(said, named, subject, looked_for, marks):
                    found.setdefault(model, []).append(said.id)
    strays = [id for id in getattr(log, "stray_ids", list)() if marks.in_text(id)]
    if strays:
        found.setdefault("", []).extend(strays)
    return found


def _is_about(said: Prediction, named: Sequence[str], subject: str, looked_for: Sequence[bytes], marks: Marks) -> bool:
    if marks.in_bytes(said.inputs) or marks.in_bytes(said.features):
        return True
    if not any(text in said.inputs for text in looked_for):
        return False
    inputs = json.loads(said.inputs or b"{}")
    if any(text in said.inputs for text in looked_for[2:]):
        return True
    return any(spelt(pl.Series([inputs[c]], strict=False))[0] == subject for c in named if inputs.get(c) is not None)


def person_keys(
    held: Iterable[Held], keys: Mapping[str, Sequence[str]], columns: Mapping[str, Sequence[str]], subject: str, tables: Tables
) -> dict[str, pl.DataFrame]:
    """Data set to the keys of the person's rows, in any version."""
    found: dict[str, pl.DataFrame] = {}
    for one in held:
        key = list(keys.get(one.dataset, ()))
        if not key or not one.rows or not tables.exists(one.address):
            continue
        scan = tables.scan(one.address)
        schema = scan.collect_schema()
        if all(c in schema for c in key):
            rows = scan.filter(about(schema, columns.get(one.dataset, ()), subject)).select(key).unique().collect()
            found[one.dataset] = pl.concat([found[one.dataset], rows]).unique() if one.dataset in found else rows
    return found


def without_answers(change: Callable[[pl.LazyFrame], pl.LazyFrame], keys: Mapping[str, pl.DataFrame]) -> Callable[[pl.LazyFrame], pl.LazyFrame]:
    """The change of a table of answers: as `erasure.without`, and without the rows that have a key of the person's rows."""

    def changed(rows: pl.LazyFrame) -> pl.LazyFrame:
        kept = rows
        schema = kept.collect_schema()
        for of in keys.values():
            if all(c in schema and schema[c] == of.schema[c] for c in of.columns):
                kept = kept.join(of.lazy(), on=of.columns, how="anti", maintain_order="left")
        return change(kept)

    return changed


def elsewhere(scorings: Iterable[Record], versions: Iterable[str]) -> list[str]:
    """What to say of answers that were written outside the stores, of data versions that held the person."""
    held = set(versions)
    return [
        f"{r.id}: the answers of {r['data']} were written to {r['to']}, which is not ours to change"
        for r in scorings if r["dataset"] in held and r["output"] and "table" not in r["output"]
    ]  # fmt: skip
