"""Why a prediction is what it is: found by its id or by what it is about, its story with explanation and outcome, and the truth as people say it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec

from treadle.assemble import Workspace
from treadle.core.errors import NotFound, TreadleError
from treadle.core.ids import check_id
from treadle.core.masking import masked, masked_row, personal_columns
from treadle.core.records import Record
from treadle.governance.lineage import iso_of, story
from treadle.monitoring import review
from treadle.ports.predictions import Prediction
from treadle.registry import versions
from treadle.web.console.operation import Asked, Operation

LOOKED_AT = 1_000  # newest predictions of each model that are searched for an entity
SHOWN = 50
LONGEST = 200


class Sought(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction's id, or the value of a key: of an entity, or of a row."""

    text: str = ""


def find(asked: Asked) -> dict[str, Any]:
    """Predictions by id or by the key of what they are about. Of keys the newest predictions of each model are searched, no more."""
    ws, text = asked.ws, asked.query.text.strip()[:LONGEST]
    if not text:
        newest = [_line(p) for name in ws.project.models for p in ws.predictions.last(name, 5)]
        return {"text": "", "items": sorted(newest, key=lambda p: p["answered"], reverse=True)[:10], "looked_at": 0, "keys": _keys(ws)}
    found = _by_id(ws, text)
    if found is not None:
        return {"text": text, "items": [_line(found)], "looked_at": 0, "keys": _keys(ws)}
    items, looked = [], 0
    for name, keys in _keys(ws).items():
        for prediction in ws.predictions.last(name, LOOKED_AT):
            looked += 1
            if text.encode() in prediction.inputs and _about(prediction, keys, text):  # the bytes first: to read each as JSON takes longer
                items.append(_line(prediction))
    return {"text": text, "items": items[:SHOWN], "looked_at": looked, "keys": _keys(ws)}


def _by_id(ws: Workspace, text: str) -> Prediction | None:
    try:
        return ws.predictions.get(check_id(text, "prediction id"))
    except TreadleError:
        return None


def _keys(ws: Workspace) -> dict[str, list[str]]:
    """By model the columns that say what a prediction is about: the key of its rows and the entities of its views."""
    return {m.name: list(dict.fromkeys([*m.rows.key, *(e for v in m.views for e in v.entity)])) for m in ws.project.models.values()}


def _about(prediction: Prediction, keys: list[str], text: str) -> bool:
    inputs = json.loads(prediction.inputs)
    return any(str(inputs.get(key)) == text for key in keys if inputs.get(key) is not None)


def _line(prediction: Prediction) -> dict[str, Any]:
    return {"id": prediction.id, "model": prediction.model, "version": prediction.version, "for": iso_of(prediction.moment),
            "answered": iso_of(prediction.answered)}  # fmt: skip


def why(asked: Asked) -> dict[str, Any]:
    """The story of one prediction, with what moved the answer. Raises NotFound."""
    ws = asked.ws
    personal = personal_columns(ws.project.datasets.values())
    told = story(asked["prediction"], ws.predictions, ws.ledger, ws.blobs.get, personal)
    prediction = ws.predictions.get(asked["prediction"])
    assert prediction is not None
    moved = _moved_by(ws, prediction, personal)
    return {"id": prediction.id, "model": prediction.model, "number": prediction.version, "story": told, "moved_by": moved}


def _moved_by(ws: Workspace, prediction: Prediction, personal: Mapping[str, str]) -> dict[str, Any]:
    """What each feature contributed to the answer, in the model's own units; 'problem' where the version cannot say."""
    from treadle.serving.contributions import Contributions, explain

    version = versions.get(prediction.model, prediction.version, ws.ledger)
    if not version.get("explanation"):
        return {"problem": "The model of this version has no exact contributions."}
    try:
        loaded = _loaded(Opened(ws, version))
        features = json.loads(prediction.features)
        if len(features) != len(loaded.features):
            return {"problem": "The features of this prediction are not all on record."}
        if loaded.contributions is None:
            loaded.contributions = Contributions(loaded.folder, loaded.encoder)
        values = {f.name: value for f, value in zip(loaded.features, features)}
        at = max(range(len(prediction.output)), key=prediction.output.__getitem__) if loaded.task == "multiclass" else -1
        found = explain(loaded.contributions, loaded.matrix([features])[0], values, output=at)
    except (TreadleError, ValueError, TypeError) as error:
        return {"problem": error.what if isinstance(error, TreadleError) else "The features of this prediction cannot be read again."}
    shown = [{**f, "value": masked(f["value"], personal.get(f["name"], ""))} for f in found["features"]]
    return {**found, "features": shown, "of": str(loaded.labels[at]) if loaded.labels else "", "problem": ""}


class Opened:
    """A version to open, equal to another by its package: so that one that was opened is not opened again."""

    def __init__(self, ws: Workspace, version: Record) -> None:
        self.ws, self.version = ws, version
        self._key = (str(ws.folder), version.id, version["package"]["digest"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Opened) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


@lru_cache(maxsize=4)
def _loaded(opened: Opened) -> Any:
    from treadle.wheel.turn import load_version

    return load_version(opened.ws, opened.version)


def truth(asked: Asked) -> dict[str, Any]:
    """What a person is asked about a prediction: what was known then, and not what was answered. Raises NotFound."""
    ws, found = asked.ws, _known(asked)
    hidden = personal_columns(ws.project.datasets.values())
    version = versions.get(found.model, found.version, ws.ledger)
    names = [f["name"] for f in json.loads(ws.blobs.get(version["package"]["files"]["manifest.json"]))["signature"]["features"]]
    inputs, features = json.loads(found.inputs), json.loads(found.features)
    row = inputs or (dict(zip(names, features)) if len(names) == len(features) else {})
    mine = [o for o in ws.predictions.outcomes_of(found.id) if o.source == f"{review.SOURCE}{asked.person.name}"]
    return {
        "id": found.id, "model": found.model, "for": iso_of(found.moment), "inputs": masked_row(row, hidden), "labels": list(version["labels"]),
        "said": mine[-1].value if mine else None,
    }  # fmt: skip


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """The truth: one of the labels, or a number."""

    value: str


def judge(asked: Asked) -> dict[str, Any]:
    """Say the truth of a prediction. Raises UsageError for what is no label or number, Conflict when one has said otherwise before."""
    ws, found = asked.ws, _known(asked)
    labels = versions.get(found.model, found.version, ws.ledger)["labels"]
    outcome = review.answer(found.id, asked.body.value.strip(), labels, ws.predictions, ws.ledger, ws.clock.now(), person=asked.person.name)
    return {"prediction": found.id, "value": outcome.value, "goes_to": f"/why/{found.id}" if asked.person.may("predictions.see") else "/why"}


def _known(asked: Asked) -> Prediction:
    found = asked.ws.predictions.get(check_id(asked["prediction"], "prediction id"))
    if found is None:
        raise NotFound(f"There is no prediction {asked['prediction']!r}.")
    return found


def _find_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "why_find.html", {"d": given}


def _why_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    moved = given["moved_by"]
    most = max((abs(f["contribution"]) for f in moved.get("features", [])), default=0.0) or 1.0
    return "why.html", {"d": given, "story": given["story"], "moved": moved, "most": most, "about": f"prediction/{given['id']}"}


def _truth_page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "truth.html", {"d": given}


OPERATIONS = [
    Operation("why.find", "/why", "predictions.see", find, "Predictions by id, or by the key of what they are about.", query=Sought, page=_find_page),
    Operation("why.see", "/why/{prediction}", "predictions.see", why, "The whole story of one prediction, and what moved it.", page=_why_page),
    Operation("why.ask", "/why/{prediction}/truth", "predictions.judge", truth, "What a person is asked about a prediction.", page=_truth_page),
    Operation("why.judge", "/why/{prediction}/truth", "predictions.judge", judge, "Say the truth of a prediction.", method="POST", body=Judged,
              done="What you said is an outcome now.", secret=True),
]  # fmt: skip
