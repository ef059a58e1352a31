"""The API's description (OpenAPI 3.1), made from the same table that makes its routes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from treadle import __version__
from treadle.web.console.operation import Asked, Operation

REF = "#/components/schemas/{name}"
PROBLEM = {
    "type": "object", "description": "An error, as RFC 9457 has it.",
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "error": {"type": "string", "description": "The stable code of the error."}, "detail": {"type": "string", "description": "What was wrong."},
        "where": {"type": "string"}, "hint": {"type": "string", "description": "What to do now."},
        "fields": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["type", "title", "status", "error", "detail"],
}  # fmt: skip
_STATUSES = {
    "400": "What was sent cannot be taken.", "401": "Nobody is signed in, or the token is not right.", "403": "The person may not do this.",
    "404": "There is nothing of this name.", "409": "Somebody else was first.", "422": "The evidence, the data or the project does not allow it.",
    "429": "Too many; `Retry-After` says when to try again.", "503": "Not available now.",
}  # fmt: skip


def described(operations: list[Operation], base: str) -> dict[str, Any]:
    """The description of all operations below the path `base`."""
    kinds = list({o.body for o in operations if o.body is not None})
    kinds.sort(key=lambda k: (k.__name__, k.__module__))
    found, schemas = msgspec.json.schema_components(kinds, ref_template=REF)
    bodies = dict(zip(kinds, found))  # of two structures with one name msgspec tells them apart
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(base + operation.path, {})[operation.method.lower()] = _one(operation, bodies)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Treadle", "version": __version__,
            "description": "Everything the console does. A list answers {'items', 'next'}: give `next` as `after` to go on. A POST with an "
            "`Idempotency-Key` is done once, however often it is sent.",
        },
        "paths": paths, "security": [{"token": []}],
        "components": {
            "schemas": {**schemas, "Problem": PROBLEM},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "An API token: treadle access token make"}},
        },
    }  # fmt: skip


def _one(operation: Operation, bodies: Mapping[type, dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name, "summary": operation.summary, "tags": [operation.name.partition(".")[0]],
        "description": f"Needs the permission `{operation.permission}`.", "x-permission": operation.permission,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names_in(operation.path)
        ] + [_parameter(f) for f in (msgspec.structs.fields(operation.query) if operation.query is not None else ())],
        "responses": {str(operation.status): _given(operation)} | {
            code: {"description": says, "content": {"application/problem+json": {"schema": {"$ref": REF.format(name="Problem")}}}}
            for code, says in _STATUSES.items()
        },
    }  # fmt: skip
    if operation.method == "POST" and not operation.secret:
        found["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"},
            }
        )
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {"application/json": {"schema": bodies[operation.body]}}}
    return found


def _parameter(field: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([field.type], ref_template=REF)
    if field.default is not msgspec.NODEFAULT:
        schema = {**schema, "default": field.default}
    return {"name": field.encode_name, "in": "query", "required": bool(field.required), "schema": schema}


def _given(operation: Operation) -> dict[str, Any]:
    if operation.raw:
        return {"description": "The file.", "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
    return {"description": operation.summary, "content": {"application/json": {"schema": {"type": "object"}}}}


def names_in(path: str) -> list[str]:
    """The names of a path's variable parts, in order."""
    return [name.partition(":")[0] for name in re.findall(r"\{([^}]*)\}", path)]


def see(asked: Asked) -> dict[str, Any]:
    """The description of this API."""
    from treadle.web.console.answer import API
    from treadle.web.console.table import OPERATIONS

    return described(OPERATIONS, API)


OPERATIONS = [Operation("api.see", "/openapi.json", "home.see", see, "The description of this API, as OpenAPI 3.1.")]
