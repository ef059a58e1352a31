"""Other systems' clients ask this endpoint in their own words: the Open Inference Protocol, MLflow's scoring protocol, OpenAPI; and what an answer says beside itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.serving.loaded import Loaded
from treadle.serving.rows import MOST_ROWS

from .test_endpoint_routes import ROW, World

ROWS = [{**ROW, "distance": d} for d in (100, 5000, 733)]


@pytest.fixture
def world(make_loaded: Callable[..., Loaded]) -> Iterator[World]:
    world = World(make_loaded)
    yield world
    world.journal.close()


def tensors(rows: list[dict[str, Any]]) -> dict[str, Any]:
    kinds = {"distance": "FP64", "seats": "INT64", "carrier": "BYTES", "wet": "BOOL", "zone": "INT32", "at": "BYTES"}
    return {"id": "r-1", "inputs": [{"name": n, "shape": [len(rows)], "datatype": kinds[n], "data": [row[n] for row in rows]} for n in rows[0]]}


def expected(world: World) -> list[dict[str, Any]]:
    return list(world.call("POST", "/predict", {"rows": ROWS})[1]["predictions"])


def test_the_open_inference_protocol_gives_the_same_answers_and_logs_them(world: World) -> None:
    said = expected(world)
    status, body = world.call("POST", "/v2/models/late/infer", tensors(ROWS))
    assert (status, body["model_name"], body["model_version"], body["id"]) == (200, "late", "1", "r-1")
    outputs = {output["name"]: output for output in body["outputs"]}
    assert outputs["prediction"] == {"name": "prediction", "datatype": "BYTES", "shape": [3], "data": [p["prediction"] for p in said]}
    assert outputs["probability"]["data"] == [p["probability"] for p in said]
    assert outputs["probabilities"]["shape"] == [3, 2]
    assert outputs["probabilities"]["data"] == [p for answer in said for p in answer["probabilities"].values()]
    assert all(world.log.get(id) is not None for id in body["parameters"]["prediction_ids"])


def test_a_version_may_be_named_and_outputs_chosen_and_shapes_may_be_columns(world: World) -> None:
    asked = tensors(ROWS)
    for tensor in asked["inputs"]:
        tensor["shape"], tensor["data"] = [3, 1], [[value] for value in tensor["data"]]
    status, body = world.call("POST", "/v2/models/late/versions/1/infer", {**asked, "outputs": [{"name": "probability"}]})
    assert (status, [output["name"] for output in body["outputs"]]) == (200, ["probability"])
    assert world.call("POST", "/v2/models/late/versions/7/infer", asked)[0] == 404


def test_the_protocol_says_what_it_is_and_whether_it_is_ready(world: World) -> None:
    assert world.call("GET", "/v2")[1]["name"] == "treadle"
    assert world.call("GET", "/v2/health/live")[1]["live"] is True
    assert world.call("GET", "/v2/health/ready")[1]["ready"] is True
    assert world.call("GET", "/v2/models/late/ready") == (200, {"name": "late", "ready": True})
    status, body = world.call("GET", "/v2/models/late")
    assert (status, body["versions"], body["platform"]) == (200, ["1"], "treadle_onnx")
    assert {"name": "distance", "datatype": "FP64", "shape": [-1]} in body["inputs"]
    assert [output["name"] for output in body["outputs"]] == ["prediction", "probability", "probabilities"]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"inputs": []}, 400), ({"inputs": "x"}, 400), ({"inputs": [{"name": "distance"}]}, 400), ({"outputs": [{"name": "nonsense"}]}, 400),
        ({"inputs": [{"name": "distance", "shape": [2], "datatype": "FP64", "data": [1]}]}, 400),
        ({"inputs": [{"name": "distance", "shape": [1], "datatype": "FP65", "data": [1]}]}, 400),
        ({"inputs": [{"name": "distance", "shape": [-1], "datatype": "FP64", "data": []}]}, 400),
        ({"inputs": [{"name": "distance", "shape": [1], "datatype": "FP64", "data": ["far"]}]}, 400),
        ({"inputs": [{"name": "distance", "shape": [1], "datatype": "FP64", "data": [1]}] * 2}, 400),
        ({"inputs": [{"name": "distance", "shape": [MOST_ROWS + 1], "datatype": "FP64", "data": [1] * (MOST_ROWS + 1)}]}, 400),
    ],
)  # fmt: skip
def test_an_inference_request_that_does_not_fit_is_refused_in_one_sentence(world: World, change: dict[str, Any], status: int) -> None:
    found, body = world.call("POST", "/v2/models/late/infer", {**tensors([ROW]), **change})
    assert found == status
    assert isinstance(body["error"], str)
    assert len(body["error"]) > 10


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/late/versions/x", "/v2/models/late/versions/9", "/v2/models/late/train", "/v2/nothing", "/v2/models/"])
def test_what_the_protocol_does_not_find_is_404(world: World, path: str) -> None:
    status, body = world.call("GET", path)
    assert (status, set(body)) == (404, {"error"})


def split(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": list(rows[0]), "data": [list(row.values()) for row in rows], "index": list(range(len(rows)))}


@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records", "inputs", "inputs as columns", "instances"])
def test_mlflow_s_protocol_gives_the_same_labels(world: World, form: str) -> None:
    data: Any = {"dataframe_split": split(ROWS), "inputs as columns": {name: [row[name] for row in ROWS] for name in ROW}}.get(form, ROWS)
    status, body = world.call("POST", "/invocations", {form.split()[0]: data})
    assert (status, body) == (200, {"predictions": [p["prediction"] for p in expected(world)]})


def test_mlflow_s_csv_gives_the_same_labels_and_empty_cells_are_missing(world: World) -> None:
    lines = [",".join(ROW), *(",".join(str(value) for value in row.values()) for row in ROWS), "100,,UA,,7,"]
    status, _, data = world.raw("POST", "/invocations", "\n".join(lines).encode(), "text/csv; charset=utf-8")
    labels = [p["prediction"] for p in expected(world)]
    last = world.call("POST", "/predict", {"distance": 100, "carrier": "UA", "zone": 7})[1]["prediction"]
    assert (status, json.loads(data)) == (200, {"predictions": [*labels, last]})


def test_mlflow_s_probes_answer(world: World) -> None:
    assert world.raw("GET", "/ping")[::2] == (200, b"\n")
    assert world.raw("GET", "/health")[0] == 200
    assert world.raw("GET", "/version")[0] == 200


@pytest.mark.parametrize(
    "body",
    [
        [], {}, {"instances": 3}, {"instances": [3]}, {"instances": [{}], "inputs": []}, {"instances": []}, {"dataframe_split": {}}, {"dataframe_split": {"columns": ["a", "a"], "data": []}},
        {"dataframe_split": {"columns": ["distance"], "data": [[1, 2]]}}, {"inputs": {"distance": [1], "seats": [1, 2]}}, {"instances": [ROW], "params": {"a": 1}},
        {"dataframe_records": [{**ROW, "distance": "far"}]}, {"instances": [ROW] * (MOST_ROWS + 1)},
    ],
)  # fmt: skip
def test_a_scoring_request_that_does_not_fit_is_refused_as_mlflow_does(world: World, body: Any) -> None:
    status, said = world.call("POST", "/invocations", body)
    assert (status, said["error_code"]) == (400, "BAD_REQUEST")
    assert said["message"]


@pytest.mark.parametrize("body", [b"", b"a,a\n1,2", b"distance\n1,2", b'distance\n"1', b"\xff\xfe", b"distance\nfar", b"nothing\n1"])
def test_csv_that_does_not_fit_is_refused(world: World, body: bytes) -> None:
    status, _, data = world.raw("POST", "/invocations", body, "text/csv")
    assert (status, json.loads(data)["error_code"]) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("kind", ["application/x-pickle", "application/octet-stream", "application/python-pickle", "text/html"])
def test_a_pickle_is_never_read(world: World, kind: str) -> None:
    for path in ("/invocations", "/predict", "/v2/models/late/infer"):
        assert world.raw("POST", path, b"\x80\x04.", kind)[0] == 415


anything = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5), lambda v: st.lists(v, max_size=3) | st.dictionaries(st.sampled_from(["name", "shape", "data", "columns", "distance", "inputs"]), v, max_size=3), max_leaves=8)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.sampled_from(["inputs", "instances", "dataframe_split", "dataframe_records"]), value=anything, path=st.sampled_from(["/invocations", "/v2/models/late/infer"]))
def test_whatever_is_sent_the_fault_is_never_the_server_s(world: World, key: str, value: Any, path: str) -> None:
    status, _, data = world.raw("POST", path, json.dumps({key: value}).encode())
    assert status in (200, 400), data


# --- what describes it


def test_the_description_is_openapi_3_1_and_its_example_is_answered(world: World) -> None:
    import jsonschema

    status, body = world.call("GET", "/openapi.json")
    assert (status, body["openapi"]) == (200, "3.1.0")
    post = body["paths"]["/predict"]["post"]
    example = post["requestBody"]["content"]["application/json"]["example"]
    answer = world.call("POST", "/predict", example)
    assert answer[0] == 200

    def check(schema: str, value: Any) -> None:
        jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": body["components"]}).validate(value)

    check("Row", example)
    check("Answer", answer[1])
    check("Problem", world.call("POST", "/predict", {"distance": "far"})[1])
    with pytest.raises(jsonschema.ValidationError):
        check("Row", {**example, "more": 1})
    names = [method["operationId"] for methods in body["paths"].values() for method in methods.values()]
    assert len(names) == len(set(names))


def test_every_route_that_is_described_is_there(world: World) -> None:
    for path, methods in world.call("GET", "/openapi.json")[1]["paths"].items():
        for method in methods:
            assert world.raw(method.upper(), path.replace("{id}", "p-1"), b"{}")[0] != 405, path


def test_the_page_for_people_names_the_fields_and_fetches_nothing(world: World) -> None:
    status, headers, data = world.raw("GET", "/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"distance" in data
    assert b"<script" not in data
    assert b"http://" not in data


# --- what an answer says beside itself


def test_an_answer_says_how_sure_it_is_when_asked(world: World) -> None:
    champion = world.endpoint.traffic.champion
    assert champion is not None
    status, body = world.call("POST", "/predict?interval=true", ROW)
    assert (status, body["message"]) == (404, "Version 1 has no calibrated intervals.")
    champion.promises = [{"level": 0.9, "threshold": 0.55, "coverage": 0.91}]
    try:
        body = world.call("POST", "/predict?interval=true", ROW)[1]
        assert body["interval"] == {"level": 0.9, "coverage": 0.91, "labels": [label for label, p in body["probabilities"].items() if 1 - p <= 0.55]}
        assert "interval" not in world.call("POST", "/predict", ROW)[1]
    finally:
        champion.promises = ()


def test_an_answer_is_explained_when_asked_and_the_parts_add_up(world: World, make_loaded: Callable[..., Loaded]) -> None:
    import numpy as np

    from treadle.training import explain

    champion = world.endpoint.traffic.champion
    assert champion is not None
    assert world.call("POST", "/predict?explain=true", ROW)[0] == 404
    matrix = champion.matrix([[d, 100.0, 1.0, "UA", 8.0, 0.5, "calm"] for d in np.linspace(0, 6000, 50)])
    terms = explain.linear_terms(champion.fitted[-1], matrix)  # type: ignore[attr-defined]
    assert terms is not None
    explain.write(champion.folder, terms)
    try:
        body = world.call("POST", "/predict?explain=1", ROW)[1]
        said = body["explanation"]
        assert said["unit"] == "log-odds"
        assert said["sum"] == pytest.approx(np.log(body["probability"] / (1 - body["probability"])), abs=1e-4)
        assert said["base"] + sum(f["contribution"] for f in said["features"]) + said["others"] == pytest.approx(said["sum"])
        assert {f["name"]: f["value"] for f in said["features"]}["distance"] == 733.0
        assert world.log.get(body["id"]) is not None
        assert world.call("POST", "/predict?explain=1", {"rows": [ROW] * 101})[0] == 400
    finally:
        (champion.folder / "contributions.npz").unlink()
        champion.contributions = None


def test_an_answer_says_what_would_have_made_it_another(world: World) -> None:
    from treadle.serving.asides import VALUES

    champion = world.endpoint.traffic.champion
    assert champion is not None
    body = world.call("POST", "/predict", ROW)[1]
    other = next(label for label in body["probabilities"] if label != body["prediction"])
    asked = f"/predict?instead={other.replace(' ', '%20')}"
    assert world.call("POST", asked, ROW)[0] == 404  # nothing is stored of what was seen in training
    (champion.folder / VALUES).write_text(json.dumps({"values": {"distance": [0.0, 733.0, 6000.0], "x": [-9.0, 0.0, 9.0], "word": ["calm", "storm"]}}))
    try:
        first, *_ = world.call("POST", asked, ROW)[1]["instead"]
        assert first["probabilities"][other] > 0.5
        assert all(value in (0.0, 733.0, 6000.0, -9.0, 9.0, "storm") for _, value in first["changes"].values())
        (changed,) = list(first["changes"])[:1]
        held = world.call("POST", f"{asked}&fixed={changed}", ROW)[1]["instead"]
        assert not any(changed in found["changes"] for found in held)
        assert world.call("POST", f"/predict?instead={body['prediction'].replace(' ', '%20')}", ROW)[1]["instead"] == []
        status, said = world.call("POST", "/predict?instead=never", ROW)
        assert (status, said["message"]) == (400, "Version 1 has no label 'never'.")
        assert world.call("POST", f"{asked}&fixed=age", ROW)[0] == 400
        assert world.call("POST", asked, {"rows": [ROW] * 11})[0] == 400
    finally:
        (champion.folder / VALUES).unlink()


@pytest.mark.parametrize("query", ["explain=yes", "explain=true&more=1", "intervals=true", "fixed=distance", "instead="])
def test_a_wish_nobody_knows_is_400(world: World, query: str) -> None:
    assert world.call("POST", f"/predict?{query}", ROW)[0] == 400
