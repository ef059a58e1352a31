"""MLflow's scoring protocol: POST /invocations as `mlflow models serve` answers it, so that its clients can ask this endpoint.

Source: https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/ (JSON: dataframe_split, dataframe_records, inputs, instances; and CSV).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from treadle.core.errors import InvalidRequest, TreadleError, UsageError
from treadle.serving.answers import Answered
from treadle.serving.loaded import Loaded
from treadle.serving.rows import MOST_ROWS, Row, json_of, too_many
from treadle.web.api.exchange import JSON, JSON_HEADERS, Request, Response, Unsupported, ok, retry_headers, status_of

FORMATS = ("dataframe_split", "dataframe_records", "inputs", "instances")
_HINT = f"Send JSON with one of {', '.join(FORMATS)}, or CSV with a line of column names."
_MISSING = {"", "nan", "na", "null", "none"}
_encode = msgspec.json.Encoder().encode


def read(request: Request, loaded: Loaded) -> list[Row]:
    """The typed rows of a request. Raises: UsageError, InvalidRequest, Unsupported."""
    kind = request.content_type
    if kind == "text/csv":
        rows: Sequence[Any] = _csv(request.body, loaded)
    elif kind in (JSON, ""):
        rows = _json(json_of(request.body))
    else:
        raise Unsupported(f"A request of type {kind[:60]!r} is not read.", hint="Send application/json or text/csv.")
    if len(rows) > MOST_ROWS:
        raise too_many(len(rows))
    return loaded.reader.objects(rows)


def show(answered: Answered) -> Response:
    """{"predictions": [...]}: the labels, or the numbers."""
    return 200, JSON_HEADERS, _encode({"predictions": [answered.body(i).prediction for i in range(len(answered))]})


def problem(error: TreadleError) -> Response:
    """An error as MLflow shows it."""
    status = 400 if isinstance(error, InvalidRequest) else status_of(error)
    code = {400: "BAD_REQUEST", 404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED", 503: "TEMPORARILY_UNAVAILABLE"}
    said: dict[str, Any] = {"error_code": code.get(status, "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST"), "message": str(error)}
    if isinstance(error, InvalidRequest) and error.fields:
        said["fields"] = error.fields
    _, _, body = ok(said, status)
    return status, retry_headers(error, status), body


def _json(body: Any) -> Sequence[Any]:
    if not isinstance(body, dict):
        raise UsageError("The body is not an object.", hint=_HINT)
    given = [name for name in FORMATS if name in body]
    if len(given) != 1:
        raise UsageError(f"The body names {' and '.join(given) if given else 'none'} of the formats.", hint=_HINT)
    if body.get("params"):
        raise UsageError("This model takes no params.", hint="Leave them out.")
    data = body[given[0]]
    if given[0] == "dataframe_split":
        return _split(data)
    if given[0] == "inputs" and isinstance(data, dict):
        return _columns(data)
    if not isinstance(data, list):
        raise InvalidRequest(f"{given[0]!r} is not a list of rows.", hint="Each row is an object of fields.")
    return data


def _split(data: Any) -> list[dict[str, Any]]:
    if not isinstance(data, dict) or not isinstance(data.get("columns"), list) or not isinstance(data.get("data"), list):
        raise InvalidRequest("'dataframe_split' has no lists 'columns' and 'data'.")
    columns = data["columns"]
    if not all(isinstance(name, str) for name in columns) or len(set(columns)) < len(columns):
        raise InvalidRequest("'columns' is not a list of different names.")
    for i, row in enumerate(data["data"]):
        if not isinstance(row, list) or len(row) != len(columns):
            raise InvalidRequest(f"The row has not {len(columns)} values.", where=f"row {i}")
    return [dict(zip(columns, row)) for row in data["data"]]


def _columns(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    columns = {
        name: [v[0] if isinstance(v, list) and len(v) == 1 else v for v in (values if isinstance(values, list) else [values])]
        for name, values in data.items()
    }
    if len({len(values) for values in columns.values()}) > 1:
        raise InvalidRequest("The columns of 'inputs' are not of the same length.")
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def _csv(body: bytes, loaded: Loaded) -> list[dict[str, Any]]:
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        names = next(lines, [])
        if not names or len(set(names)) < len(names):
            raise UsageError("The first line of the CSV is not one of different column names.")
        kinds = {f.name: f.kind for f in (*loaded.features, *loaded.request)}
        rows: list[dict[str, Any]] = []
        for line in lines:
            if not line:
                continue
            if len(line) != len(names):
                raise InvalidRequest(f"The line has {len(line)} values, and there are {len(names)} columns.", where=f"row {len(rows)}")
            rows.append({name: _cell(value, kinds.get(name, "text")) for name, value in zip(names, line)})
            if len(rows) > MOST_ROWS:
                raise too_many(len(rows))
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"The body is not CSV: {error}.", hint="Send UTF-8 with a line of column names.") from None
    return rows


def _cell(text: str, kind: str) -> Any:
    """What a cell says; text that does not read is left for the parser to name."""
    if kind in ("number", "integer"):
        if text.strip().lower() in _MISSING:
            return None
        try:
            number = float(text)
        except ValueError:
            return text
        return number if math.isfinite(number) else text
    if kind == "boolean":
        said = text.strip().lower()
        return True if said in ("true", "1", "1.0") else False if said in ("false", "0", "0.0") else None if said in _MISSING else text
    return text if text or kind != "timestamp" else None
