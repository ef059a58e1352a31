"""What every test shares: readable asserts inside the contract suites, calm property tests, and one tiny project folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

# As the command line sets them: several test processes share few cores, and threads that spin while they wait take them from each other.
os.environ.setdefault("TREADLE_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("treadle.testing")

from treadle.assemble import Workspace, open_workspace  # noqa: E402
from treadle.data.write_project import write_blank  # noqa: E402
from treadle.serving.loaded import Loaded  # noqa: E402

# No deadlines: a shared machine is slow at times. In CI the same examples each time: a red build must mean a changed program.
settings.register_profile("treadle", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("treadle")

# Files whose tests one of the test processes does, one after another: what they share is costly to make, or starts a Ray, of which one at a time is
# enough. By file and not by pytest.mark.xdist_group, which pytest-xdist 3.8 does not heed with pytest 9.2.
TOGETHER = {
    "tests/backends/test_ray_executor.py": "ray",
    "tests/stories/test_executors_agree.py": "ray",
    "tests/governance/test_datasheet.py": "persons",
    "tests/governance/test_erase.py": "persons",
    "tests/mlflow_face/test_registry.py": "mlflow",
    "tests/mlflow_face/test_tracking.py": "mlflow",
    **{file: file for file in (
        "tests/backtest/test_backtest.py", "tests/examples/test_construction_data.py", "tests/scoring/test_score.py", "tests/stories/test_features.py",
        "tests/stories/test_foreign.py", "tests/web/test_console.py", "tests/web/test_report.py",
    )},
}  # fmt: skip


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return TOGETHER.get(nodeid.partition("::")[0], nodeid)

    return Together(config, log)


PART = 3  # of the examples a property is declared with are drawn each time; all by `make test-slow`, which sets TREADLE_EXAMPLES=all


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("TREADLE_EXAMPLES") == "all":
        return
    for of in {getattr(item, "cls", None) for item in items} - {None}:  # state machines
        if isinstance(declared := vars(of).get("settings"), settings):
            of.settings = settings(declared, max_examples=max(5, declared.max_examples // PART))
    drawn = {getattr(item.obj, "__func__", item.obj) for item in items if hasattr(getattr(item, "obj", None), "is_hypothesis_test")}
    for function in drawn:
        if (declared := getattr(function, "_hypothesis_internal_use_settings", None)) is not None:
            function._hypothesis_internal_use_settings = settings(declared, max_examples=max(5, declared.max_examples // PART))


@pytest.fixture
def tiny(tmp_path: Path) -> Workspace:
    """The workspace of the starter project, as `treadle init` writes it."""
    folder = tmp_path / "tiny"
    write_blank(folder, "tiny")
    return open_workspace(folder)


@pytest.fixture(scope="session")
def make_loaded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Loaded]:
    """Packaged versions of a small model that predicts `late`, as a server opens them: `make_loaded(number, wrong=False)`.

    A request has distance (0 to 6000, required), seats (a whole number), carrier, wet, zone and at; hour is derived from at; x and word are looked
    up in view `last` by zone. `wrong` fits it to the opposite of the truth.
    """
    import numpy as np
    import polars as pl
    from sklearn.linear_model import LogisticRegression

    from treadle.backends.onnx_format import OnnxFormat
    from treadle.training.encoding import make_pipeline

    made: dict[tuple[int, bool], Loaded] = {}

    def make(number: int = 1, wrong: bool = False) -> Loaded:
        if (number, wrong) in made:
            return made[number, wrong]
        rng = np.random.default_rng(number)
        n = 300
        frame = pl.DataFrame(
            {
                "distance": rng.uniform(0, 6000, n), "seats": rng.integers(1, 300, n).astype(float), "wet": rng.integers(0, 2, n).astype(float),
                "at_hour": rng.integers(0, 24, n).astype(float), "x": np.where(rng.uniform(size=n) < 0.2, np.nan, rng.normal(size=n)),
                "carrier": rng.choice(["UA", "AA", ""], n), "word": rng.choice(["calm", "storm", ""], n),
            }
        )  # fmt: skip
        p = 1 / (1 + np.exp(-(frame["x"].fill_nan(0).to_numpy() + frame["wet"].to_numpy() + frame["distance"].to_numpy() / 3000 - 1.5)))
        truth = (rng.uniform(size=n) < p).astype(int)
        numbers, categories = ["distance", "seats", "wet", "at_hour", "x"], ["carrier", "word"]
        pipeline = make_pipeline(LogisticRegression(), numbers, categories, linear=True, task="binary").fit(frame, 1 - truth if wrong else truth)
        folder = tmp_path_factory.mktemp("package")
        info = OnnxFormat().save(pipeline, folder)

        def field(name: str, kind: str, **says: object) -> dict[str, object]:
            return {"name": name, "kind": kind, "rule": [], **says}

        request = [
            field("distance", "number", nullable=False, ge=0, le=6000), field("seats", "integer", ge=1), field("carrier", "category"),
            field("wet", "boolean"), field("zone", "integer"), field("at", "timestamp"),
        ]  # fmt: skip
        features = [
            *(field(name, "number") for name in ("distance", "seats", "wet")), field("carrier", "category"),
            field("at_hour", "number", source="derived", rule=["hour", "at", "America/New_York"]),
            field("x", "number", source="view", view="last"), field("word", "category", source="view", view="last"),
        ]  # fmt: skip
        manifest = {
            "task": "binary", "labels": ["in time", "late"], "signature": {"request": request, "features": features}, "moment": "at", "model": info,
            "views": {"last": {"entity": ["zone"], "features": ["x", "word"]}}, "files": [p.name for p in folder.iterdir()],
        }  # fmt: skip
        loaded = made[number, wrong] = Loaded(folder, manifest, {"onnx": OnnxFormat}, number)
        loaded.fitted, loaded.folder = pipeline, folder  # type: ignore[attr-defined]
        return loaded

    return make


SERVED = """import treadle as tr

project = tr.Project("served", owner="me", goal="test")
flights = project.dataset("flights", source=tr.csv("flights.csv"), key="id", event_time="at", contract=tr.Contract(columns={{
    "id": tr.text(), "distance": tr.number(), "carrier": tr.category(), "at": tr.timestamp(), "late": tr.category()}}))
model = project.model("late", rows=flights, target="late", inputs=["distance", "carrier"])
project.serve(model, durability="buffered", {serve})
"""


@pytest.fixture
def served(tmp_path: Path, make_loaded: Callable[..., Loaded]) -> Callable[..., Workspace]:
    """A workspace whose model `late` has versions that were packed, not trained: `served(2, serve='key="field:carrier"')`; version 1 is deployed.

    Args:
        broken: numbers of versions that answer nonsense (not finite) to every row of carrier AA, and well to all others.
    """
    import copy

    from treadle.core.errors import Corrupt
    from treadle.registry import packages, promote, versions

    def spoiled(loaded: Loaded) -> dict[str, object]:
        row = [733.0, 150.0, 1.0, "AA", 8.0, 1.5, "storm"]
        for signs in ((1, -1, 1), (1, 1, 1), (1, 1, -1), (-1, 1, 1)):
            manifest = copy.deepcopy(dict(loaded.manifest))
            for entry in manifest["model"]["encoder"]:
                if entry["name"] == "carrier":
                    entry["table"]["AA"] = [1e39 * signs[i % 3] for i in range(len(entry["unknown"]))]
            trial = Loaded(loaded.folder, manifest, {"onnx": _onnx}, loaded.number)  # type: ignore[attr-defined]
            try:
                trial.outputs([row])
            except Corrupt:
                return manifest
        raise AssertionError("no spoiled encoder answers nonsense")

    def make(count: int = 1, *, serve: str = "", broken: tuple[int, ...] = ()) -> Workspace:
        (tmp_path / "project.py").write_text(SERVED.format(serve=serve))
        ws = open_workspace(tmp_path)
        for number in range(1, count + 1):
            loaded = make_loaded(number)
            manifest = spoiled(loaded) if number in broken else dict(loaded.manifest)
            package = packages.store(loaded.folder, manifest, ws.blobs)  # type: ignore[attr-defined]
            body = {
                "key": f"k{number}", "status": "approved", "verdict": {"reasons": [], "findings": []}, "package": package, "task": "binary",
                "labels": manifest["labels"], "cause": {}, "family": "logistic", "params": {}, "as_of": "", "data": {},
            }  # fmt: skip
            versions.register("late", body, [], ws.ledger)
        promote.first("late", 1, ws.ledger, ws.clock, actor="me", rules=ws.serve_of(ws.model()).rules())
        return ws

    return make


def _onnx() -> Any:
    from treadle.backends.onnx_format import OnnxFormat

    return OnnxFormat()
