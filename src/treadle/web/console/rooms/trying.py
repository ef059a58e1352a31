"""Asking an endpoint by hand: a form made from the model's signature, the answer with its prediction id, and at each field what does not fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from treadle.core.errors import InvalidRequest, NotFound, Refused
from treadle.live.deploy import connect, running_endpoint
from treadle.registry import packages, promote, versions
from treadle.web.console.operation import Asked, Operation
from treadle.web.console.rooms.models import known_model

SECONDS = 10.0  # an answer may take


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One row: an object, or as a form sends it, the names of the fields and their texts side by side."""

    row: dict[str, Any] = {}
    names: list[str] = []
    values: list[str] = []


def fields(asked: Asked) -> dict[str, Any]:
    """The fields that the version that answers takes, with what each may hold."""
    ws, name = asked.ws, known_model(asked.ws, asked["model"])
    deployed = promote.required(name, ws.ledger)
    version = versions.get(name, int(deployed["champion"]), ws.ledger)
    manifest = json.loads(ws.blobs.get(version["package"]["files"][packages.MANIFEST]))
    running = running_endpoint(ws, name)
    wanted = ("name", "kind", "ge", "le", "length")
    request = [{**{k: f.get(k) for k in wanted}, "required": not f["nullable"]} for f in manifest["signature"]["request"]]
    looked_up = [{"name": f["name"], "view": f["view"]} for f in manifest["signature"]["features"] if f["source"] == "view"]
    return {
        "model": name, "version": int(deployed["champion"]), "fields": request, "looked_up": looked_up, "running": running is not None,
        "stopped": bool(deployed.get("stopped")), "labels": version["labels"],
    }  # fmt: skip


def ask(asked: Asked) -> dict[str, Any]:
    """Ask the endpoint; the answer is logged as any other. Raises InvalidRequest with a reason for each wrong field; Refused where none runs."""
    ws, known = asked.ws, fields(asked)
    running = running_endpoint(ws, known["model"])
    if running is None:
        raise Refused(f"No endpoint of {known['model']!r} runs on this machine.", hint="Deploy a version first.")
    endpoint = connect(ws, str(running["url"]), timeout=SECONDS, retries=0)
    try:
        given = asked.body.row or _row(asked.body, {f["name"]: f["kind"] for f in known["fields"]})
        return {"answer": endpoint.predict(given), "fields": {}}
    except InvalidRequest as error:
        if asked.body.row or not asked.body.names:
            raise
        return {"answer": None, "fields": error.fields or {"": error.what}}
    finally:
        endpoint.close()


def _row(body: Row, kinds: Mapping[str, str]) -> dict[str, Any]:
    if len(body.names) != len(body.values):
        raise NotFound("The form is not that of this page.", hint="Load the page again.")
    return {name: _value(text, kinds.get(name, "")) for name, text in zip(body.names, body.values) if text != ""}


def _value(text: str, kind: str) -> Any:
    """A text as the field's kind; as it is where it is none, so that the endpoint says what does not fit."""
    if kind in ("number", "integer"):
        try:
            return int(text)
        except ValueError:
            try:
                return float(text) if text.strip().lower().lstrip("+-") not in ("nan", "inf", "infinity") else text
            except ValueError:
                return text
    if kind == "boolean":
        return {"true": True, "false": False}.get(text, text)
    if kind == "vector":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text


def _form(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "try.html", {"d": given, "given": {}, "answer": None, "wrong": {}}


def _answered(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    entered: Sequence[tuple[str, str]] = list(zip(asked.body.names, asked.body.values))
    return "try.html", {"d": fields(asked), "given": dict(entered), "answer": given["answer"], "wrong": given["fields"]}


OPERATIONS = [
    Operation("deployments.fields", "/deployments/{model}/try", "deployments.try", fields, "The fields that a model takes.", page=_form),
    Operation("deployments.try_it", "/deployments/{model}/try", "deployments.try", ask, "Ask an endpoint for a prediction by hand.", method="POST",
              body=Row, page=_answered, secret=True, done="The endpoint answered."),
]  # fmt: skip
