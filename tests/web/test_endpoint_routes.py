"""What a caller of the endpoint gets, byte by byte: the answer, or a JSON error with the status that fits and what to do."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.backends.memory_online import MemoryOnline
from treadle.backends.memory_predictions import MemoryPredictions
from treadle.core.errors import StorageError
from treadle.ports.predictions import Outcome, Prediction
from treadle.serving.endpoint import Endpoint, Traffic
from treadle.serving.journal import Journal
from treadle.serving.loaded import Loaded
from treadle.serving.requests import micros
from treadle.serving.rows import MOST_ROWS
from treadle.web.api.endpoint import Routes
from treadle.web.api.exchange import Request, Response

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7, "at": "2013-04-01T12:00:00Z"}


class Log(MemoryPredictions):
    """A log whose disk may be full."""

    full = False

    def write(self, predictions: Sequence[Prediction], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        if self.full:
            raise StorageError("The disk is full.")
        super().write(predictions, outcomes, durable=durable)


class World:
    def __init__(self, make: Callable[..., Loaded], **options: Any) -> None:
        self.log = Log()
        self.endpoint = Endpoint("late", MemoryOnline())
        self.endpoint.traffic = Traffic(make(1))
        self.journal = Journal(self.log, model="late", **{"durable": True, **options})
        self.reloads = 0
        self.routes = Routes(self.endpoint, self.journal, self.log, self.reload)

    async def reload(self) -> None:
        self.reloads += 1

    def raw(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> tuple[int, dict[str, str], bytes]:
        path, _, query = path.partition("?")
        given = [(b"Content-Type", content_type.encode())] if content_type else []

        async def ask() -> Response:
            response = self.routes.answer(Request(method, path, query, given, body))
            return response if isinstance(response, tuple) else await response

        status, headers, data = asyncio.run(ask())
        return status, dict(headers), data

    def call(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> tuple[int, Any]:
        status, headers, data = self.raw(method, path, b"" if body is None else json.dumps(body).encode(), content_type)
        assert headers["content-type"] == "application/json"
        return status, json.loads(data)


@pytest.fixture
def world(make_loaded: Callable[..., Loaded]) -> Iterator[World]:
    world = World(make_loaded)
    yield world
    world.log.full = False
    world.journal.close()


def test_one_row_is_answered_and_stored_before_the_answer_leaves(world: World) -> None:
    status, body = world.call("POST", "/predict", ROW)
    assert status == 200
    assert set(body) == {"id", "model", "version", "prediction", "probability", "probabilities", "missing", "missing_because"}
    stored = world.log.get(body["id"])
    assert stored is not None
    assert stored.output[1] == body["probability"]


def test_many_rows_come_back_in_order_under_the_ids_given(world: World) -> None:
    rows = [{**ROW, "distance": d} for d in (100, 5000, 100)]
    status, body = world.call("POST", "/predict", {"rows": rows, "ids": ["a", "b", "c"]})
    found = body["predictions"]
    assert (status, [p["id"] for p in found]) == (200, ["a", "b", "c"])
    assert found[0]["probability"] == found[2]["probability"] != found[1]["probability"]
    assert world.log.count("late") == (3, 0)


def test_a_row_that_does_not_fit_is_422_with_its_fields(world: World) -> None:
    status, body = world.call("POST", "/predict", {**ROW, "distance": "far", "sets": 3})
    assert status == 422
    assert (body["error"], body["message"]) == ("invalid_request", "Field 'distance' must be a number, not 'far' (and 1 more).")
    assert body["fields"] == {"distance": "must be a number, not 'far'", "sets": "is not a field of this model; did you mean 'seats'?"}
    status, body = world.call("POST", "/predict", {"rows": [ROW, {}]})
    assert (status, body["where"], body["fields"]) == (422, "row 1", {"distance": "is missing"})
    assert world.log.count("late") == (0, 0)


@pytest.mark.parametrize("body", [[], {"rows": []}, [ROW], "text", 3, None, {"rows": [3]}, {"rows": [ROW], "ids": ["a", "b"]}, {"rows": [ROW], "ids": "a"}])
def test_what_is_no_row_is_422(world: World, body: Any) -> None:
    status, said = world.call("POST", "/predict", json.loads(json.dumps(body)) if body is not None else None)
    assert (status, said["error"]) == ((400, "usage") if body is None else (422, "invalid_request"))


@pytest.mark.parametrize("body", [b"", b"{", b"nonsense", b'{"a": NaN}', b"\xff\xfe", b'{"carrier": "\\ud800"}', b"[" * 100_000, b'{"distance": 1e999}'])
def test_what_is_no_json_is_400_or_refused(world: World, body: bytes) -> None:
    status, headers, data = world.raw("POST", "/predict", body)
    said = json.loads(data)
    assert status in (400, 422)
    assert headers["content-type"] == "application/json"
    assert said["message"]
    if status == 400:
        assert said["message"].startswith("The body is not JSON: ")
        assert said["hint"]


def test_more_rows_than_a_request_may_have_are_400(world: World) -> None:
    status, body = world.call("POST", "/predict", {"rows": [{}] * (MOST_ROWS + 1)})
    assert (status, body["message"]) == (400, "10,001 rows in one request are more than 10,000.")


def test_an_id_outside_the_grammar_is_400(world: World) -> None:
    status, body = world.call("POST", "/predict", {"rows": [ROW], "ids": ["../../x"]})
    assert (status, body["error"]) == (400, "usage")
    assert world.call("GET", "/predictions/A%20B")[0] == 400


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "APPLICATION/JSON", "", "application/x-www-form-urlencoded"])
def test_json_is_read_under_the_names_that_clients_give_it(world: World, content_type: str) -> None:
    assert world.call("POST", "/predict", ROW, content_type)[0] == 200


@pytest.mark.parametrize("content_type", ["text/csv", "multipart/form-data; boundary=x", "image/png"])
def test_another_type_of_body_is_415(world: World, content_type: str) -> None:
    status, body = world.call("POST", "/predict", ROW, content_type)
    assert (status, body["error"], body["hint"]) == (415, "unsupported_type", "Send application/json, or application/vnd.apache.arrow.stream to /predict.")


@pytest.mark.parametrize(("method", "path"), [("GET", "/predict"), ("DELETE", "/predict"), ("GET", "/outcomes"), ("POST", "/metrics"), ("GET", "/reload")])
def test_another_method_is_405(world: World, method: str, path: str) -> None:
    assert world.call(method, path, {})[0] == 405


@pytest.mark.parametrize("path", ["/nothing", "/predict/", "/../etc/passwd", "/predictions/none", "/" + "x" * 5_000])
def test_what_is_not_there_is_404(world: World, path: str) -> None:
    status, body = world.call("GET", path)
    assert (status, body["error"]) == (404, "not_found")
    assert len(body["message"]) < 200


def test_a_stopped_model_is_503_and_says_when_to_try_again(world: World) -> None:
    champion = world.endpoint.traffic.champion
    for traffic in (Traffic(champion, None, "stopped"), Traffic(None)):
        world.endpoint.traffic = traffic
        status, headers, data = world.raw("POST", "/predict", json.dumps(ROW).encode())
        assert (status, headers["retry-after"], json.loads(data)["error"]) == (503, "1", "unavailable")


def test_a_full_disk_is_told_and_the_next_request_after_it_is_answered(world: World) -> None:
    world.log.full = True
    status, headers, data = world.raw("POST", "/predict", json.dumps(ROW).encode())
    assert (status, headers["retry-after"], json.loads(data)["message"]) == (507, "1", "The disk is full.")
    world.log.full = False
    assert world.call("POST", "/predict", ROW)[0] == 200
    assert world.log.count("late") == (1, 0)


def test_a_log_that_falls_behind_is_503(make_loaded: Callable[..., Loaded]) -> None:
    world = World(make_loaded, durable=False, limit=2)
    world.log.full = True
    body = json.dumps({"rows": [ROW] * 5}).encode()
    assert world.raw("POST", "/predict", body)[0] == 200
    status, headers, _ = world.raw("POST", "/predict", body)
    assert (status, headers["retry-after"]) == (503, "1")
    world.log.full = False
    world.journal.close()
    assert world.log.count("late") == (5, 0)


def test_an_error_nobody_foresaw_is_500_without_a_word_of_the_inside(world: World) -> None:
    def fail(*rows: Any, **more: Any) -> Any:
        raise RuntimeError("the password is swordfish")

    world.endpoint.answer = fail  # type: ignore[method-assign]
    status, body = world.call("POST", "/predict", ROW)
    assert (status, body["message"]) == (500, "The endpoint failed: RuntimeError.")


# --- outcomes


def test_an_outcome_is_stored_and_shown_with_its_prediction(world: World) -> None:
    _, answer = world.call("POST", "/predict", ROW)
    told = {"prediction": answer["id"], "value": "late", "known_at": "2013-04-01T15:00:00Z", "source": "tower"}
    assert world.call("POST", "/outcomes", told) == (200, {"stored": 1})
    status, body = world.call("GET", f"/predictions/{answer['id']}")
    assert (status, body["version"], body["variant"], body["output"][1]) == (200, 1, "champion", answer["probability"])
    assert body["outcomes"] == [{"value": "late", "known": micros(datetime(2013, 4, 1, 15, tzinfo=UTC)), "source": "tower"}]
    assert body["inputs"]["carrier"] == "UA"


def test_outcomes_come_in_heaps_and_without_a_time_they_are_known_now(world: World) -> None:
    before = time.time_ns() // 1000
    assert world.call("POST", "/outcomes", {"outcomes": [{"prediction": "a", "value": True}, {"prediction": "b", "value": 3.5}]}) == (200, {"stored": 2})
    (first,), (second,) = world.log.outcomes_of("a"), world.log.outcomes_of("b")
    assert (first.value, second.value) == (True, 3.5)
    assert before <= first.known <= time.time_ns() // 1000


@pytest.mark.parametrize(
    ("entry", "status"),
    [
        ({}, 422), ([], 422), ("a", 422), ({"prediction": "a"}, 422), ({"prediction": 3, "value": 1}, 422), ({"prediction": "a", "value": None}, 422),
        ({"prediction": "a", "value": {"x": 1}}, 422), ({"prediction": "a", "value": 1, "known_at": "soon"}, 422), ({"prediction": "A B", "value": 1}, 400),
        ({"prediction": "a", "value": 1, "known_at": 1e300}, 422), ({"outcomes": [{"prediction": "a", "value": 1}, {}]}, 422),
    ],
)  # fmt: skip
def test_an_outcome_that_does_not_fit_is_refused_and_nothing_is_stored(world: World, entry: Any, status: int) -> None:
    found, body = world.call("POST", "/outcomes", entry)
    assert found == status
    assert body["message"]
    world.journal.flush()
    assert world.log.outcomes_of("a") == []


# --- looking in


def test_the_signature_says_what_to_send(world: World) -> None:
    status, body = world.call("GET", "/signature")
    assert (status, body["model"], body["version"], body["labels"]) == (200, "late", 1, ["in time", "late"])
    assert {f["name"]: f["required"] for f in body["fields"]} == {
        "distance": True, "seats": False, "carrier": False, "wet": False, "zone": False, "at": False,
    }  # fmt: skip
    assert [f["name"] for f in body["looked_up"]] == ["x", "word"]


def test_it_is_alive_at_once_and_ready_when_a_version_is_loaded(world: World) -> None:
    assert world.call("GET", "/health/live") == (200, {"status": "live"})
    assert world.call("GET", "/health/ready") == (200, {"status": "ready"})
    world.endpoint.traffic = Traffic(None)
    assert world.call("GET", "/health/live")[0] == 200
    assert world.call("GET", "/health/ready") == (503, {"status": "loading"})
    assert world.call("GET", "/signature")[0] == 503


def test_the_root_names_every_route(world: World) -> None:
    _, body = world.call("GET", "/")
    assert body["model"] == "late"
    assert "/predict" in str(body["routes"])
    assert "/outcomes" in str(body["routes"])


def test_reload_looks_at_the_deployment_now(world: World) -> None:
    assert world.call("POST", "/reload")[0] == 200
    assert world.reloads == 1


def test_the_metrics_count_what_was_asked_and_answered(world: World) -> None:
    for body in (ROW, ROW, {"rows": [ROW] * 3}, {}):
        world.call("POST", "/predict", body)
    status, headers, data = world.raw("GET", "/metrics")
    lines = dict(line.rsplit(" ", 1) for line in data.decode().splitlines() if not line.startswith("#"))
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4")
    assert lines['treadle_requests_total{model="late",status="200"}'] == "3"
    assert lines['treadle_requests_total{model="late",status="422"}'] == "1"
    assert lines['treadle_predictions_total{model="late",model_version="1",variant="champion"}'] == "5"
    assert lines['treadle_request_seconds_bucket{model="late",le="+Inf"}'] == lines['treadle_request_seconds_count{model="late"}'] == "4"
    buckets = [int(v) for k, v in lines.items() if k.startswith("treadle_request_seconds_bucket")]
    assert buckets == sorted(buckets)


values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(), v, max_size=3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/predict", "/outcomes"]), body=st.binary(max_size=60) | values.map(lambda v: json.dumps(v).encode()), wrap=st.booleans())
def test_whatever_is_sent_the_answer_is_json_and_never_a_fault_of_the_server(world: World, path: str, body: bytes, wrap: bool) -> None:
    sent = b'{"' + {"/predict": b"rows", "/outcomes": b"outcomes"}[path] + b'": [' + body + b"]}" if wrap else body
    status, headers, data = world.raw("POST", path, sent)
    assert status in (200, 400, 422)
    assert headers["content-type"] == "application/json"
    json.loads(data)
