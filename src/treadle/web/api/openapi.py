"""What an endpoint takes and answers, generated from the signature of the version that answers: OpenAPI 3.1 for machines, a plain page for people."""

from __future__ import annotations

import html
import json
from typing import Any

from treadle.core.schema import Field
from treadle.serving.endpoint import Endpoint
from treadle.serving.loaded import Loaded
from treadle.serving.requests import LONGEST_TEXT
from treadle.serving.rows import MOST_ROWS

_ERRORS = {
    "400": "not JSON, or too many rows", "413": "the body is too large", "415": "a type of body that is not read", "422": "fields that do not fit",
    "503": "no version answers, or there are too many requests: try again after Retry-After", "504": "the model did not answer in time",
}  # fmt: skip


def description(endpoint: Endpoint) -> dict[str, Any]:
    """The OpenAPI document. Raises: Unavailable when no version is loaded."""
    from treadle import __version__

    loaded = endpoint.champion()
    anything: dict[str, Any] = {"type": "object"}
    row, answer = {"$ref": "#/components/schemas/Row"}, {"$ref": "#/components/schemas/Answer"}
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": MOST_ROWS}
    many = {"type": "object", "required": ["rows"], "properties": {"rows": rows, "ids": {"type": "array", "items": {"type": "string"}}}}
    answers = _listed("predictions", answer)
    outcome = {
        "type": "object", "required": ["prediction", "value"],
        "properties": {"prediction": {"type": "string"}, "value": {}, "known_at": {"type": ["string", "number"]}, "source": {"type": "string"}},
    }  # fmt: skip
    outcomes = {"oneOf": [outcome, _listed("outcomes", outcome)]}
    predict = _post("predict", "One prediction, or one a row", {"oneOf": [row, many]}, {"oneOf": [answer, answers]}, _example(loaded))
    logged = {**_get("prediction", "What was logged of a prediction, with its outcomes"), "parameters": [_in_path("id")]}
    named = f"/v2/models/{endpoint.model}"
    return {
        "openapi": "3.1.0",
        "info": {
            "title": endpoint.model, "version": str(loaded.number),
            "description": f"Version {loaded.number} of the {loaded.task} model {endpoint.model!r}, served by Treadle {__version__}.",
        },
        "paths": {
            "/predict": {"post": {**predict, "parameters": [
                _in_query("explain", "boolean"), _in_query("interval", "boolean"), _in_query("instead", "string"), _in_query("fixed", "string"),
            ]}},
            "/outcomes": {"post": _post("outcomes", "The truth of earlier predictions", outcomes, anything)},
            "/predictions/{id}": {"get": logged},
            "/signature": {"get": _get("signature", "The fields a row may have")},
            "/health/live": {"get": _get("live", "Whether the process lives")},
            "/health/ready": {"get": _get("ready", "Whether a version is loaded")},
            "/metrics": {"get": _get("metrics", "Prometheus text", "text/plain")},
            "/reload": {"post": _get("reload", "Look at the deployment record now")},
            "/invocations": {"post": _post("invocations", "MLflow's scoring protocol", anything, _listed("predictions", {}))},
            "/v2": {"get": _get("v2", "Open Inference Protocol: the server")},
            "/v2/health/live": {"get": _get("v2_live", "Open Inference Protocol: liveness")},
            "/v2/health/ready": {"get": _get("v2_ready", "Open Inference Protocol: readiness")},
            named: {"get": _get("v2_model", "Open Inference Protocol: inputs and outputs")},
            f"{named}/ready": {"get": _get("v2_model_ready", "Open Inference Protocol: readiness of the model")},
            f"{named}/infer": {"post": _post("v2_infer", "Open Inference Protocol: inference", anything, anything)},
        },
        "components": {"schemas": {"Row": _row(loaded), "Answer": _answer(loaded), "Problem": _problem()}},
    }  # fmt: skip


def page(endpoint: Endpoint) -> str:
    """The same for people: no scripts, nothing fetched from elsewhere."""
    loaded = endpoint.champion()
    rows = "".join(
        f"<tr><td><code>{html.escape(f.name)}</code><td>{f.kind}<td>{'' if f.nullable else 'required'}<td>{_bounds(f)}" for f in loaded.request
    )
    looked = "".join(
        f"<tr><td><code>{html.escape(f.name)}</code><td>{f.kind}<td><td>looked up in {html.escape(f.view)} unless sent"
        for f in loaded.features
        if f.source == "view"
    )
    routes = "".join(
        f"<tr><td><code>{method.upper()} {html.escape(path)}</code><td>{html.escape(said['summary'])}"
        for path, methods in description(endpoint)["paths"].items()
        for method, said in methods.items()
    )
    example = html.escape(json.dumps(_example(loaded), indent=2))
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(endpoint.model)}</title>"
        "<meta name=viewport content='width=device-width'><style>body{font:1rem/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "td{padding:.2rem 1rem .2rem 0;vertical-align:top}pre{background:#f4f4f4;padding:1rem;overflow:auto}</style>"
        f"<h1>{html.escape(endpoint.model)}</h1><p>Version {loaded.number} answers ({html.escape(loaded.task)}). "
        "For machines: <a href=openapi.json>openapi.json</a>.</p>"
        f"<h2>Fields of a row</h2><table>{rows}{looked}</table><h2>Example</h2><p><code>POST /predict</code></p><pre>{example}</pre>"
        f"<h2>Routes</h2><table>{routes}</table></html>"
    )


def _listed(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "properties": {name: {"type": "array", "items": item}}}


def _schema(field: Field) -> dict[str, Any]:
    kinds = {
        "number": "number",
        "integer": "integer",
        "boolean": "boolean",
        "category": "string",
        "text": "string",
        "timestamp": ["string", "number"],
    }
    kind: Any = kinds[field.kind]
    if field.nullable:
        kind = [*(kind if isinstance(kind, list) else [kind]), "null"]
    found: dict[str, Any] = {"type": kind}
    if field.kind in ("number", "integer"):
        found |= {name: bound for name, bound in (("minimum", field.ge), ("maximum", field.le)) if bound is not None}
    if field.kind in ("category", "text"):
        found["maxLength"] = LONGEST_TEXT
    if field.kind == "timestamp":
        found["description"] = "ISO 8601 text (UTC unless it says otherwise), or seconds since 1970"
    return found


def _row(loaded: Loaded) -> dict[str, Any]:
    fields = {f.name: _schema(f) for f in loaded.request}
    for feature in loaded.features:
        if feature.source == "view" and feature.name not in fields:
            fields[feature.name] = {**_schema(Field(feature.name, feature.kind)), "description": f"looked up in {feature.view} unless sent"}
    return {"type": "object", "properties": fields, "required": [f.name for f in loaded.request if not f.nullable], "additionalProperties": False}


def _answer(loaded: Loaded) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": {"type": "string"}, "model": {"type": "string"}, "version": {"type": "integer"},
        "prediction": {"type": "number"} if loaded.task == "regression" else {"enum": loaded.labels},
        "missing": {"type": "array", "items": {"type": "string"}}, "missing_because": {"type": "object"}, "interval": {"type": "object"},
        "explanation": {"type": "object"}, "instead": {"type": "array", "items": {"type": "object"}},
    }  # fmt: skip
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    if loaded.task == "binary":
        fields["probability"] = probability
    if loaded.task != "regression":
        fields["probabilities"] = {"type": "object", "properties": dict.fromkeys(loaded.label_texts, probability), "required": loaded.label_texts}
    return {"type": "object", "properties": fields, "required": ["id", "model", "version", "prediction"]}


def _problem() -> dict[str, Any]:
    return {
        "type": "object", "required": ["error", "message"],
        "properties": {name: {"type": "string"} for name in ("error", "message", "where", "hint")} | {"fields": {"type": "object"}},
    }  # fmt: skip


def _example(loaded: Loaded) -> dict[str, Any]:
    examples: dict[str, Any] = {"number": 1.5, "integer": 1, "boolean": True, "category": "a", "text": "text", "timestamp": "2026-01-31T12:00:00Z"}
    found = {}
    for field in loaded.request:
        value = examples[field.kind]
        if field.kind in ("number", "integer"):
            low = field.ge if field.ge is not None else min(value, field.le) if field.le is not None else value
            value = int(low) if field.kind == "integer" else low
        found[field.name] = value
    return found


def _bounds(field: Field) -> str:
    low = "" if field.ge is None else f"at least {field.ge:g}"
    high = "" if field.le is None else f"at most {field.le:g}"
    return ", ".join(part for part in (low, high) if part)


def _post(name: str, summary: str, body: dict[str, Any], answer: dict[str, Any], example: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": body}
    problem = {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    refusals = {status: {"description": said, "content": problem} for status, said in _ERRORS.items()}
    if example is not None:
        content["example"] = example
    return {
        "operationId": name, "summary": summary, "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"200": {"description": "answered", "content": {"application/json": {"schema": answer}}}, **refusals},
    }  # fmt: skip


def _get(name: str, summary: str, kind: str = "application/json") -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": {"200": {"description": "answered", "content": {kind: {}}}}}


def _in_path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _in_query(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind}}
