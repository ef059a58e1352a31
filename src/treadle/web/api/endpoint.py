"""An endpoint's routes: bytes to rows, rows to the endpoint, answers to bytes. Knows no server.

POST /predict            {"field": value, ...} or {"rows": [{...}, ...]}
POST /outcomes           {"prediction": id, "value": ..., "known_at": time} or {"outcomes": [...]}
GET  /predictions/ID     what was logged, with its outcomes
GET  /signature          the fields a row may have
GET  /health/live  /health/ready  /metrics
GET  /quota              of an API key: what it may, and has left
POST /reload             look at the deployment record now
POST /invocations        MLflow's protocol; GET /ping, /version, /health
/v2/...                  Open Inference Protocol
GET  /openapi.json       all of this for machines; GET /docs for people

A request for one row of a quick model is answered within the call, without a task or a thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from treadle.core.errors import InvalidRequest, NotFound, TreadleError, Unavailable
from treadle.core.ids import check_id
from treadle.ports.predictions import PredictionLog
from treadle.serving import asides, recalibration
from treadle.serving.answers import Answered
from treadle.serving.column_requests import AnsweredColumns, Columns
from treadle.serving.endpoint import Endpoint, Traffic
from treadle.serving.journal import Journal
from treadle.serving.keys import Caller, Gate
from treadle.serving.loaded import Loaded
from treadle.serving.rows import Row, json_of
from treadle.web.api import arrow, inference, invocations, openapi
from treadle.web.api.exchange import JSON, JSON_HEADERS, MethodNotTaken, Request, Response, Unsupported, ok, plain, problem
from treadle.web.api.metrics import Metrics
from treadle.web.api.outcomes import outcomes_of

ROUTES = [
    "POST /predict", "POST /outcomes", "GET /predictions/ID", "GET /signature", "GET /health/live", "GET /health/ready",
    "GET /metrics", "POST /reload", "POST /invocations", "GET /ping", "GET /version", "GET /v2", "GET /v2/health/live", "GET /v2/health/ready",
    "GET /v2/models/NAME", "GET /v2/models/NAME/ready", "POST /v2/models/NAME/infer", "GET /openapi.json", "GET /docs",
]  # fmt: skip
SMALL = 256 * 1024  # bytes of an Arrow body that are read sooner than another thread is woken
PREDICTING = {"/predict", "/invocations"}
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_log = logging.getLogger("treadle.endpoint")


class Routes:
    """The routes of one endpoint."""

    def __init__(self, endpoint: Endpoint, journal: Journal, log: PredictionLog, reload: Callable[[], Awaitable[None]]) -> None:
        self.endpoint, self._journal, self._log, self._reload = endpoint, journal, log, reload
        self.metrics = Metrics(endpoint.model)
        self.gate = Gate(endpoint.model)
        self.others: Callable[[], list[dict[str, Any]]] = list  # what the other workers counted
        self.shed: Callable[[], int] = int  # requests the server did not even look at

    def admit(self, method: str, path: str, authorization: str | None) -> Caller | Response | None:
        """Asked before a body is read: who calls, or the refusal. None where no key is needed."""
        try:
            return self.gate.admit(method, path, authorization)
        except TreadleError as error:
            refusal = problem(error)
            self.metrics.refused(refusal[0])
            return refusal

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """Answer one request, at once or as something to wait for; whatever goes wrong becomes a JSON error with a status."""
        begun = time.perf_counter()
        try:
            response = self._predict(request) if request.path == "/predict" and request.method == "POST" else self._other(request)
        except Exception as error:
            response = self._failed(request, error)
        if response.__class__ is tuple:
            if request.path in PREDICTING or request.path.endswith("/infer"):
                self.metrics.request(response[0], time.perf_counter() - begun)  # type: ignore[index]
            return response
        return self._wait(request, response, begun)  # type: ignore[arg-type]

    async def _wait(self, request: Request, response: Awaitable[Response], begun: float) -> Response:
        try:
            found = await response
        except Exception as error:
            found = self._failed(request, error)
        if request.path in PREDICTING or request.path.endswith("/infer"):
            self.metrics.request(found[0], time.perf_counter() - begun)
        return found

    def _failed(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, TreadleError):
            _log.error("%s %s failed", request.method, request.path, exc_info=error)  # never a traceback to a caller
            error = TreadleError(f"The endpoint failed: {type(error).__name__}.")
        if request.path.startswith("/v2"):
            return inference.problem(error)
        return invocations.problem(error) if request.path == "/invocations" else problem(error)

    def _predict(self, request: Request) -> Response | Awaitable[Response]:
        kind = request.content_type
        if kind == arrow.STREAM:
            if len(request.body) <= SMALL and "polars" in sys.modules:
                return self._columns(request, arrow.read(request.body, self.endpoint.champion(), self.endpoint.now()))
            return self._arrow(request)
        if kind != JSON:
            check_json(request)
        rows, ids, many = self.endpoint.champion().reader.read(request.body)
        if request.query:
            asked = asides.wanted(request.parameters())
            if asked:
                return self._with_asides(request, rows, None if ids is None else _checked(ids, len(rows)), many, asked)
        return self.respond(request, rows, _many if many else _one, None if ids is None else _checked(ids, len(rows)))

    def _sticky(self, request: Request) -> str:
        key = self.endpoint.traffic.key
        return request.header(key[7:].lower().encode()) if key.startswith("header:") else ""

    def respond(
        self, request: Request, rows: Sequence[Row], shown: Callable[[Answered], Response], ids: Sequence[str] | None = None,
        only: Loaded | None = None,
    ) -> Response | Awaitable[Response]:
        """Answer typed rows, log the answers, show them as `shown` does."""
        self._journal.check(len(rows))
        if request.caller is not None:
            request.caller.charge(len(rows))
        answered = self.endpoint.answer(rows, ids, only, self._sticky(request))
        return self.logged(answered, shown) if isinstance(answered, Answered) else self._later(answered, shown)

    async def _arrow(self, request: Request) -> Response:
        # Reading takes no part of the event loop's time.
        asked = await asyncio.to_thread(arrow.read, request.body, self.endpoint.champion(), self.endpoint.now())
        response = self._columns(request, asked)
        return response if isinstance(response, tuple) else await response

    def _columns(self, request: Request, asked: Columns | list[Row]) -> Response | Awaitable[Response]:
        if isinstance(asked, list):
            return self.respond(request, asked, arrow.show)
        self._journal.check(len(asked))
        answered = self.endpoint.answer_columns(asked)
        if answered is None:
            return self.respond(request, arrow.rows_of(asked.frame, self.endpoint.champion()), arrow.show)
        if request.caller is not None:
            request.caller.charge(len(asked))
        return self.logged(answered, arrow.show_columns) if isinstance(answered, AnsweredColumns) else self._later(answered, arrow.show_columns)

    async def _with_asides(
        self, request: Request, rows: Sequence[Row], ids: Sequence[str] | None, many: bool, asked: asides.Wanted
    ) -> Response:
        if request.caller is not None:
            request.caller.charge(len(rows))
        found = self.endpoint.answer(rows, ids, caller=self._sticky(request))
        answered = found if isinstance(found, Answered) else await found
        bodies = await asyncio.to_thread(asides.bodies, answered, asked)  # first: what cannot be explained is not answered, nor logged
        response = self.logged(answered, lambda _: ok({"predictions": bodies} if many else bodies[0]))
        return response if isinstance(response, tuple) else await response

    async def _later(self, answered: Awaitable[Any], shown: Callable[[Any], Response]) -> Response:
        response = self.logged(await answered, shown)
        return response if isinstance(response, tuple) else await response

    def logged(self, answered: Answered | AnsweredColumns, shown: Callable[[Any], Response]) -> Response | Awaitable[Response]:
        """Log what was answered; the response as `shown` makes it, when the log has it on the disk if that was promised."""
        begun = time.perf_counter()
        pending = self._journal.submit(answered)
        for version, variant, rows in answered.counts():
            self.metrics.answered(version, variant, rows)
        if pending is not None:
            return self._stored(pending, answered, shown, begun)
        response = shown(answered)
        self.metrics.phases(answered.prepared, time.perf_counter() - begun)
        return response

    async def _stored(
        self, pending: asyncio.Future[None], answered: Answered | AnsweredColumns, shown: Callable[[Any], Response], begun: float
    ) -> Response:
        await pending
        response = shown(answered)
        self.metrics.phases(answered.prepared, time.perf_counter() - begun)
        return response

    def _other(self, request: Request) -> Response | Awaitable[Response]:
        method, path = request.method, request.path
        if path == "/outcomes" and method == "POST":
            check_json(request)
            return self._outcomes(json_of(request.body))
        if method == "GET":
            if path.startswith("/predictions/"):
                return self._one_logged(check_id(path[13:], "prediction id"))
            if path == "/quota" and request.caller is not None:
                return ok(request.caller.quota())
            if path == "/signature":
                return ok(self._signature())
            if path in ("/health/live", "/v2/health/live"):
                return ok({"live": True} if path.startswith("/v2") else {"status": "live"})
            if path in ("/health/ready", "/v2/health/ready"):
                traffic = self.endpoint.traffic
                status = "loading" if traffic.champion is None else "stopped" if traffic.stage == "stopped" else "ready"
                said = {"ready": status == "ready"} if path.startswith("/v2") else {"status": status, **_instead(traffic)}
                return ok(said, 200 if status == "ready" else 503)
            if path in ("/ping", "/health"):
                return plain("\n", 200 if self.endpoint.traffic.champion is not None else 503)
            if path == "/version":
                return plain(str(inference.server_metadata()["version"]))
            if path == "/openapi.json":
                return ok(openapi.description(self.endpoint))
            if path == "/docs":
                return plain(openapi.page(self.endpoint), kind="text/html; charset=utf-8")
            if path == "/v2":
                return ok(inference.server_metadata())
            if path == "/metrics":
                return self._counted()
            if path == "/":
                return ok({"model": self.endpoint.model, "routes": ROUTES})
        if path == "/reload" and method == "POST":
            return self._reloaded()
        if path == "/invocations" and method == "POST":
            return self.respond(request, invocations.read(request, self.endpoint.champion()), invocations.show)
        if path.startswith("/v2/models/"):
            return self._model(request)
        if any(path == known.partition(" ")[2] for known in ROUTES):
            raise MethodNotTaken(f"{path} does not take {method}.")
        raise NotFound(f"There is no {path[:100]!r} here.", hint="See GET /")

    def _model(self, request: Request) -> Response | Awaitable[Response]:
        named = inference.path_of(request.path, self.endpoint.model)
        only = None if named.version is None else self.endpoint.version(named.version)
        if named.verb == "infer" and request.method == "POST":
            check_json(request)
            asked, rows = inference.read(request.body, only or self.endpoint.champion())
            return self.respond(request, rows, inference.shown(asked), only=only)
        if named.verb == "infer" or request.method != "GET":
            raise MethodNotTaken(f"{request.path[:100]} does not take {request.method}.")
        if named.verb == "ready":
            self.endpoint.champion()
            return ok({"name": self.endpoint.model, "ready": True})
        return ok(inference.metadata(self.endpoint, named.version))

    async def _reloaded(self) -> Response:
        await self._reload()
        return ok({"status": "reloaded"})

    async def _counted(self) -> Response:
        ages = await asyncio.to_thread(self.endpoint.ages)
        others = await asyncio.to_thread(self.others)
        text = self.metrics.text(self.endpoint, self._journal, ages, others, self.shed())
        return 200, [("content-type", "text/plain; version=0.0.4")], text.encode()

    async def _outcomes(self, body: Any) -> Response:
        outcomes = outcomes_of(body)
        await self._journal.submit_outcomes(outcomes)
        return ok({"stored": len(outcomes)})

    async def _one_logged(self, id: str) -> Response:
        await asyncio.to_thread(self._journal.flush)
        found = await asyncio.to_thread(self._log.get, id)
        if found is None:
            raise NotFound(f"There is no prediction {id!r}.", hint="Prediction ids are in the answers of POST /predict.")
        outcomes = await asyncio.to_thread(self._log.outcomes_of, id)
        output, state = recalibration.told(found)
        return ok(
            {
                "id": found.id, "model": found.model, "version": found.version, "variant": found.variant, "moment": found.moment,
                "output": output, "inputs": _decode(found.inputs), "features": _decode(found.features),
                **({"recalibrated": {**state, "own_output": found.output}} if state is not None else {}),
                "outcomes": [{"value": o.value, "known": o.known, "source": o.source} for o in outcomes],
            }
        )  # fmt: skip

    def _signature(self) -> dict[str, Any]:
        champion = self.endpoint.traffic.champion
        if champion is None:
            raise Unavailable("No version is loaded.")
        return {
            "model": self.endpoint.model, "version": champion.number, "task": champion.task, "labels": champion.labels,
            "fields": [{"name": f.name, "kind": f.kind, "required": not f.nullable} for f in champion.request],
            "looked_up": [{"name": f.name, "kind": f.kind, "view": f.view} for f in champion.features if f.source == "view"],
        }  # fmt: skip


def _instead(traffic: Traffic) -> dict[str, Any]:
    """What should answer and does not, for readiness: nothing where all is as the deployment record says."""
    if not traffic.missed or traffic.champion is None:
        return {}
    return {"version": traffic.champion.number, "missed": [{"version": m.number, "role": m.role, "why": m.why} for m in traffic.missed]}


def check_json(request: Request) -> None:
    """Raises Unsupported when the body says that it is not JSON."""
    kind = request.content_type
    if kind and kind not in (JSON, "application/x-www-form-urlencoded", "text/json"):
        raise Unsupported(f"A request of type {kind[:60]!r} is not read.", hint=f"Send application/json, or {arrow.STREAM} to /predict.")


def _one(answered: Answered) -> Response:
    return 200, JSON_HEADERS, _encode(answered.body(0))


def _many(answered: Answered) -> Response:
    return 200, JSON_HEADERS, _encode({"predictions": answered.rows_json()})


def _checked(given: Any, count: int) -> Sequence[str]:
    if not isinstance(given, list) or len(given) != count or not all(isinstance(id, str) for id in given):
        raise InvalidRequest(f"'ids' must be a list of {count} texts, one a row.", fields={"ids": "does not fit the rows"})
    return [check_id(id, "prediction id") for id in given]
