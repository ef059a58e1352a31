"""An endpoint's routes: bytes to rows, rows to the endpoint, answers to bytes. Knows no server.

POST /predict            {"field": value, ...} or {"rows": [{...}, ...]}
POST /outcomes           {"prediction": id, "value": ..., "known_at": time} or {"outcomes": [...]}
GET  /predictions/ID     what was logged, with its outcomes
GET  /signature          the fields a row may have
GET  /health/live  /health/ready  /metrics
GET  /quota              of an API key: what it may, and has left
POST /reload             look at the deployment record now
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from treadle.core.errors import InvalidRequest, NotFound, StorageError, TooMany, TreadleError, Unavailable, UsageError
from treadle.core.ids import check_id
from treadle.ports.predictions import Outcome, PredictionLog
from treadle.serving.endpoint import Endpoint
from treadle.serving.journal import Journal
from treadle.serving.keys import Caller
from treadle.serving.requests import moment
from treadle.web.api.metrics import Metrics

JSON = "application/json"
ROUTES = [
    "POST /predict", "POST /outcomes", "GET /predictions/ID", "GET /signature", "GET /health/live", "GET /health/ready",
    "GET /metrics", "POST /reload",
]  # fmt: skip
LARGEST_BODY = 16 * 1024 * 1024
MOST_ROWS = 10_000
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
Response = tuple[int, list[tuple[str, str]], bytes]
_STATUS = {
    "invalid_request": 422, "usage": 400, "not_found": 404, "unavailable": 503, "storage": 507, "corrupt": 500, "unauthorized": 401, "forbidden": 403,
    "too_many": 429,
}  # fmt: skip


class Routes:
    """The routes of one endpoint."""

    def __init__(self, endpoint: Endpoint, journal: Journal, log: PredictionLog, reload: Callable[[], Awaitable[None]]) -> None:
        self._endpoint, self._journal, self._log, self._reload = endpoint, journal, log, reload
        self.metrics = Metrics(endpoint.model)

    async def answer(self, method: str, path: str, content_type: str, body: bytes, caller: Caller | None = None, sticky: str = "") -> Response:
        """Answer one request; whatever goes wrong becomes a JSON error with a status.

        Args:
            caller: whose key it shows, if any. sticky: the header that keeps a caller on one side of a split.
        """
        begun = time.perf_counter()
        try:
            response = await self._route(method, path, content_type, body, caller, sticky)
        except TreadleError as error:
            response = problem(error)
        except Exception as error:  # never a traceback to a caller
            import logging

            logging.getLogger("treadle.endpoint").exception("%s %s failed", method, path)
            response = problem(TreadleError(f"The endpoint failed: {type(error).__name__}."))
        if path == "/predict":
            self.metrics.request(response[0], time.perf_counter() - begun)
        return response

    async def _route(self, method: str, path: str, content_type: str, body: bytes, caller: Caller | None, sticky: str) -> Response:
        if path == "/predict" and method == "POST":
            return await self._predict(_json(content_type, body), caller, sticky)
        if path == "/outcomes" and method == "POST":
            return await self._outcomes(_json(content_type, body))
        if method == "GET":
            if path.startswith("/predictions/"):
                return await self._logged(check_id(path[13:], "prediction id"))
            if path == "/signature":
                return ok(self._signature())
            if path == "/quota" and caller is not None:
                return ok(caller.quota())
            if path in ("/health/live", "/ping"):
                return ok({"status": "live"})
            if path == "/health/ready":
                traffic = self._endpoint.traffic
                status = "loading" if traffic.champion is None else "stopped" if traffic.stage == "stopped" else "ready"
                return ok({"status": status}, 200 if status == "ready" else 503)
            if path == "/metrics":
                ages = await asyncio.to_thread(self._endpoint.ages)
                return 200, [("content-type", "text/plain; version=0.0.4")], self.metrics.text(self._endpoint, self._journal, ages).encode()
            if path == "/":
                return ok({"model": self._endpoint.model, "routes": ROUTES})
        if path == "/reload" and method == "POST":
            await self._reload()
            return ok({"status": "reloaded"})
        if path in ("/predict", "/outcomes", "/reload", "/signature", "/metrics", "/health/live", "/health/ready"):
            return ok({"error": "usage", "message": f"{path} does not take {method}."}, 405)
        raise NotFound(f"There is no {path[:100]!r} here.", hint="See GET /")

    async def _predict(self, body: Any, caller: Caller | None, sticky: str) -> Response:
        many = isinstance(body, dict) and isinstance(body.get("rows"), list)
        rows = body["rows"] if many else [body]
        if len(rows) > MOST_ROWS:
            raise UsageError(f"{len(rows):,} rows in one request are more than {MOST_ROWS:,}.", hint="Send fewer at a time.")
        if caller is not None:
            caller.charge(len(rows))
        ids = _ids(body["ids"], len(rows)) if many and body.get("ids") is not None else None
        answers = self._endpoint.predict(rows, ids, sticky)
        answered = time.perf_counter()
        pending = [future for answer in answers if (future := self._journal.submit(answer.entry)) is not None]
        if pending:  # acknowledged: the answer leaves when it is on the disk
            await asyncio.gather(*pending)
        for answer in answers:
            self.metrics.answered(answer.entry.version, answer.entry.variant)
        response = ok({"predictions": [a.body for a in answers]} if many else answers[0].body)
        self.metrics.phases(self._endpoint.prepared, time.perf_counter() - answered)
        return response

    async def _outcomes(self, body: Any) -> Response:
        entries = body["outcomes"] if isinstance(body, dict) and isinstance(body.get("outcomes"), list) else [body]
        outcomes = [_outcome(entry, i if len(entries) > 1 else None) for i, entry in enumerate(entries)]
        await self._journal.submit_outcomes(outcomes)
        return ok({"stored": len(outcomes)})

    async def _logged(self, id: str) -> Response:
        await asyncio.to_thread(self._journal.flush)
        found = self._log.get(id)
        if found is None:
            raise NotFound(f"There is no prediction {id!r}.", hint="Prediction ids are in the answers of POST /predict.")
        return ok(
            {
                "id": found.id, "model": found.model, "version": found.version, "variant": found.variant, "moment": found.moment,
                "output": found.output, "inputs": _decode(found.inputs), "features": _decode(found.features),
                "outcomes": [{"value": o.value, "known": o.known, "source": o.source} for o in self._log.outcomes_of(id)],
            }
        )  # fmt: skip

    def _signature(self) -> dict[str, Any]:
        champion = self._endpoint.traffic.champion
        if champion is None:
            raise Unavailable("No version is loaded.")
        return {
            "model": self._endpoint.model, "version": champion.number, "task": champion.task, "labels": champion.labels,
            "fields": [{"name": f.name, "kind": f.kind, "required": not f.nullable} for f in champion.request],
            "looked_up": [{"name": f.name, "kind": f.kind, "view": f.view} for f in champion.features if f.source == "view"],
        }  # fmt: skip


def _json(content_type: str, body: bytes) -> Any:
    if content_type and content_type.split(";")[0].strip().lower() not in (JSON, "application/x-www-form-urlencoded", "text/json"):
        raise _Unsupported(f"A request of type {content_type[:60]!r} is not read.", hint="Send application/json.")
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise UsageError(f"The body is not JSON: {str(error)[:200]}", hint='Send for example {"field": 1}.') from None


def _ids(given: Any, count: int) -> list[str]:
    if not isinstance(given, list) or len(given) != count or not all(isinstance(id, str) for id in given):
        raise InvalidRequest(f"'ids' must be a list of {count} texts, one a row.", fields={"ids": "does not fit the rows"})
    return [check_id(id, "prediction id") for id in given]


class _Unsupported(UsageError):
    code = "unsupported_type"


def _outcome(entry: Any, number: int | None) -> Outcome:
    where = None if number is None else f"outcome {number}"
    if not isinstance(entry, dict) or not isinstance(entry.get("prediction"), str) or "value" not in entry:
        raise InvalidRequest("An outcome is an object with 'prediction' (an id) and 'value'.", where=where)
    if not isinstance(entry["value"], str | int | float | bool):
        raise InvalidRequest("'value' must be text, a number, true or false.", where=where, fields={"value": "has the wrong type"})
    try:
        known = moment(entry["known_at"]) if entry.get("known_at") is not None else time.time_ns() // 1000
    except Exception as error:
        raise InvalidRequest(f"'known_at' {error}", where=where, fields={"known_at": str(error)}) from None
    return Outcome(check_id(entry["prediction"], "prediction id"), entry["value"], known, str(entry.get("source", ""))[:100])


def ok(body: Any, status: int = 200) -> Response:
    """A JSON response."""
    return status, [("content-type", JSON)], _encode(body)


def problem(error: TreadleError) -> Response:
    """An error as JSON, with its status."""
    status = 415 if error.code == "unsupported_type" else _STATUS.get(error.code, 500)
    body: dict[str, Any] = {"error": error.code, "message": error.what}
    if error.where:
        body["where"] = error.where
    if error.hint:
        body["hint"] = error.hint
    if isinstance(error, InvalidRequest) and error.fields:
        body["fields"] = error.fields
    headers = [("content-type", JSON)]
    if isinstance(error, TooMany):
        headers.append(("retry-after", str(math.ceil(error.after))))
    if status == 401:
        headers.append(("www-authenticate", "Bearer"))
    if status in (503, 507) or isinstance(error, StorageError):
        headers.append(("retry-after", "1"))
    return status, headers, _encode(body)
