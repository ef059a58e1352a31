"""What is seen of requests from outside: spans that a collector takes and that go on a caller's trace, and access lines without a person in them."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.assemble import Workspace, open_workspace
from treadle.core.errors import UsageError
from treadle.live import deploy
from treadle.web import access_log
from treadle.web.access_log import AccessLog, route_of
from treadle.web.tracing import Tracing, parent_of

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A collector that speaks OTLP over HTTP, and the spans it was sent."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                for scope in resource.scope_spans:
                    spans.extend(scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def test_a_callers_trace_goes_on_and_the_log_says_what_happened_and_not_to_whom(
    served: Callable[..., Workspace], collector: tuple[str, list[Any]]
) -> None:
    ws = served(1)
    (ws.folder / "treadle.toml").write_text(f'otlp = "{collector[0]}"\ntrace_share = 0\naccess_log = "{{home}}/logs/access-{{model}}.jsonl"\n')
    ws = open_workspace(ws.folder)
    url = deploy.start(ws, ws.model())["url"]
    try:
        answer = httpx.post(f"{url}/predict", json={**ROW, "carrier": "ann@example.org"}, headers={"traceparent": CALLER})
        httpx.get(f"{url}/predictions/{answer.json()['id']}?who=ann@example.org")
        httpx.get(f"{url}/ann@example.org")
        httpx.post(f"{url}/predict", json=ROW)  # no caller traces it, and the share is 0
        httpx.post(f"{url}/predict", json=ROW, headers={"traceparent": CALLER[:-2] + "00"})
        httpx.post(f"{url}/predict", json={**ROW, "distance": "far"})
    finally:
        deploy.stop(ws, "late")
    spans = collector[1]
    assert [(s.name, s.trace_id.hex(), s.parent_span_id.hex()) for s in spans] == [("POST /predict", CALLER[3:35], CALLER[36:52])]
    said = {a.key: a.value.string_value or a.value.int_value for a in spans[0].attributes}
    assert said == {"http.request.method": "POST", "http.route": "/predict", "http.response.status_code": 200, "treadle.model": "late"}
    assert spans[0].end_time_unix_nano > spans[0].start_time_unix_nano
    text = (ws.settings.home / "logs" / "access-late.jsonl").read_text()
    assert "ann" not in text
    assert answer.json()["id"] not in text
    lines = [json.loads(line) for line in text.splitlines() if "health" not in line]
    assert [(x["method"], x["route"], x["status"]) for x in lines] == [
        ("POST", "/predict", 200), ("GET", "/predictions/ID", 200), ("GET", "other", 404), ("POST", "/predict", 200), ("POST", "/predict", 200), ("POST", "/predict", 422),
    ]  # fmt: skip
    assert lines[0]["trace"] == CALLER[3:35]
    assert all(x["ms"] >= 0 and x["out"] > 0 and "trace" not in x for x in lines[1:])


@given(st.text(max_size=60))
def test_no_text_is_a_traceparent_by_accident(text: str) -> None:
    assert parent_of(text) is None


@pytest.mark.parametrize("wrong", [None, "", CALLER[:-1], CALLER.upper(), "00-" + "0" * 32 + CALLER[35:], CALLER[:36] + "0" * 16 + "-01", "ff" + CALLER[2:]])
def test_a_traceparent_that_is_none_begins_a_new_trace(wrong: str | None) -> None:
    assert parent_of(wrong) is None


def test_settings_that_cannot_be_are_said() -> None:
    for address, share in (("localhost:4318", 1.0), ("http://x", 2.0)):
        with pytest.raises(UsageError, match="cannot be"):
            Tracing(address, share, "late")


@given(st.text(max_size=40))
def test_whatever_stands_in_a_path_only_a_route_is_logged(text: str) -> None:
    for path in (f"/{text}", f"/predictions/{text}", f"/v2/models/{text}/infer"):
        assert text == "" or len(text) < 3 or text not in route_of(path) or path in access_log._ROUTES or text in "/predictions/ID /v2/models/NAME/infer other"


def test_the_access_log_is_put_away_when_it_is_large_and_a_full_disk_costs_lines_not_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_log, "LARGEST", 2_000)
    monkeypatch.setattr(access_log, "EVERY", 0.01)
    log = AccessLog(tmp_path / "logs" / "a.jsonl")
    for i in range(50):
        log.add("POST", "/predict", 200, time.time_ns(), i, 10, 20, "k1", "")
        time.sleep(0.002)
    log.close()
    kept = [json.loads(line) for name in ("a.jsonl", "a.jsonl.1") for line in (tmp_path / "logs" / name).read_text().splitlines()]
    assert 10 <= len(kept) <= 50
    assert kept[0]["key"] == "k1"
    full = AccessLog(Path("/dev/full"))
    full.add("GET", "/metrics", 200, time.time_ns(), 1, 0, 1)
    full.close()
    assert full.dropped == 1
