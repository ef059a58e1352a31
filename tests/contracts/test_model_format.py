"""Every model format keeps the same promises, for models of each library it packs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from treadle.backends.lightgbm_format import LightgbmFormat
from treadle.backends.onnx_format import OnnxFormat
from treadle.backends.skops_format import SkopsFormat
from treadle.backends.xgboost_format import XgboostFormat
from treadle.core.errors import CannotConvert, Corrupt, Unavailable
from treadle.ports.model_format import ModelFormat
from treadle.testing.model_format_contract import ModelFormatContract, Packed
from treadle.training.encoding import make_pipeline

QUICK = {"n_estimators": 15, "n_jobs": 1, "random_state": 0}
NUMBERS = ["a", "b", "c"]


def rows(missing: bool = True) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) * [1, 50, 1e-3]
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
    return pl.DataFrame(dict(zip(NUMBERS, x.T))).with_columns(pl.Series("kind", rng.choice(["x", "y", ""], 300)))


def truth(frame: pl.DataFrame, task: str) -> np.ndarray:
    signal = np.nan_to_num(frame["a"].to_numpy()) + np.nan_to_num(frame["b"].to_numpy()) / 50
    if task == "regression":
        return np.exp(signal)
    return np.digitize(signal, [0.0] if task == "binary" else [-0.5, 0.5])


_fitted: dict[str, Any] = {}  # by what it is: each model is fitted once, and saved for each test


def pack(make: Callable[[], ModelFormat], estimator: Any, task: str, folder: Path, *, missing: bool = True, name: str = "") -> Packed:
    frame = rows(missing)
    name = f"{task} {name or estimator!r}"
    if name not in _fitted:
        _fitted[name] = make_pipeline(estimator, NUMBERS, ["kind"], linear=False, task=task).fit(frame, truth(frame, task))
    fitted = _fitted[name]
    folder.mkdir(exist_ok=True)
    return Packed(make(), fitted, frame, folder, make().save(fitted, folder))


def lightgbm(task: str, **options: Any) -> Any:
    import lightgbm as library

    kind = library.LGBMRegressor if task == "regression" else library.LGBMClassifier
    return kind(verbose=-1, **QUICK, **options)


def xgboost(task: str, **options: Any) -> Any:
    import xgboost as library

    kind = library.XGBRegressor if task == "regression" else library.XGBClassifier
    return kind(**QUICK, **options)


class TestLightgbm(ModelFormatContract):
    @pytest.fixture(
        params=[
            ("binary", {}), ("multiclass", {}), ("regression", {"linear_tree": True}), ("regression", {"reg_sqrt": True}),
        ],
        ids=str,
    )  # fmt: skip
    def packed(self, request: pytest.FixtureRequest, tmp_path: Path) -> Packed:
        task, options = request.param
        return pack(LightgbmFormat, lightgbm(task, **options), task, tmp_path / "package")

    def test_an_objective_that_is_a_function_is_refused(self, tmp_path: Path) -> None:
        estimator = lightgbm("regression", objective=lambda y, said: (said - y, np.ones_like(y)))
        with pytest.raises(CannotConvert, match="an objective that is a function"):
            pack(LightgbmFormat, estimator, "regression", tmp_path)

    def test_a_file_of_another_width_than_the_package_says_is_refused(self, packed: Packed) -> None:
        with pytest.raises(Corrupt, match=r"The model takes \d columns"):
            LightgbmFormat().load(packed.folder, {**packed.info, "width": 99})


class TestXgboost(ModelFormatContract):
    @pytest.fixture(
        params=[
            ("binary", {"booster": "dart", "rate_drop": 0.3}), ("multiclass", {}), ("regression", {"booster": "gblinear"}),
            ("regression", {"objective": "reg:gamma", "missing": 0.0}),
        ],
        ids=str,
    )  # fmt: skip
    def packed(self, request: pytest.FixtureRequest, tmp_path: Path) -> Packed:
        task, options = request.param
        return pack(XgboostFormat, xgboost(task, **options), task, tmp_path / "package")

    def test_it_stops_at_the_best_iteration_as_the_estimator_does(self, tmp_path: Path) -> None:
        frame = rows()
        y = np.random.default_rng(1).integers(0, 2, len(frame))
        pipeline = make_pipeline(xgboost("binary", early_stopping_rounds=2, learning_rate=0.9), NUMBERS, [], linear=False, task="binary")
        matrix = pipeline[:-1].fit_transform(frame, y)
        pipeline[-1].fit(matrix[:200], y[:200], eval_set=[(matrix[200:], y[200:])], verbose=False)
        assert pipeline[-1].best_iteration < QUICK["n_estimators"] - 1
        info = XgboostFormat().save(pipeline, tmp_path)
        said = XgboostFormat().load(tmp_path, info).score(matrix)
        np.testing.assert_allclose(said, pipeline[-1].predict_proba(matrix), atol=1e-6)

    def test_an_objective_that_is_a_function_is_refused(self, tmp_path: Path) -> None:
        estimator = xgboost("regression", objective=lambda y, said: (said - y, np.ones_like(y)))
        with pytest.raises(CannotConvert, match="an objective that is a function"):
            pack(XgboostFormat, estimator, "regression", tmp_path)


class TestOnnx(ModelFormatContract):
    @pytest.fixture(params=["lightgbm", "xgboost"])
    def packed(self, request: pytest.FixtureRequest, tmp_path: Path) -> Packed:
        return pack(OnnxFormat, {"lightgbm": lightgbm, "xgboost": xgboost}[request.param]("binary"), "binary", tmp_path / "package")


class TestOnnxOfTorch(ModelFormatContract):
    @pytest.fixture(params=[("binary", "plain"), ("multiclass", "fancy"), ("regression", "branches")], ids=str)
    def packed(self, request: pytest.FixtureRequest, tmp_path: Path) -> Packed:
        torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
        from treadle.training.torch_modules import TorchModel

        task, kind = request.param
        nn = torch.nn

        class Branches(nn.Module):  # type: ignore[name-defined, misc]
            def __init__(self, width: int, outputs: int) -> None:
                super().__init__()
                self.a, self.b, self.c, self.weight = nn.Linear(width, 8), nn.Linear(8, 8), nn.Linear(16, outputs), nn.Parameter(torch.ones(8))

            def forward(self, x: Any) -> Any:
                h = nn.functional.relu(self.a(x))
                return self.c(torch.cat([h, torch.sigmoid(self.b(h)) * h / 2 + 0.5 * h * self.weight - 1], dim=1))

        def plain(width: int, outputs: int) -> Any:
            return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, outputs))

        def fancy(width: int, outputs: int) -> Any:
            bends = (nn.GELU(), nn.Linear(8, 8), nn.LayerNorm(8), nn.SiLU(), nn.ELU(), nn.LeakyReLU(0.2), nn.GELU("tanh"), nn.Tanh(), nn.Hardtanh())
            return nn.Sequential(nn.Linear(width, 8), nn.BatchNorm1d(8), *bends, nn.Linear(8, outputs))

        module = {"plain": plain, "fancy": fancy, "branches": Branches}[kind]
        return pack(OnnxFormat, TorchModel(module, epochs=3), task, tmp_path / "package", missing=False, name=kind)


class TestSkops(ModelFormatContract):
    imports = frozenset({"sklearn", "scipy", "pandas", "torch"})  # scikit-learn's dependencies import torch where it is installed

    @pytest.fixture
    def packed(self, tmp_path: Path) -> Packed:
        from sklearn.neighbors import KNeighborsClassifier

        return pack(SkopsFormat, KNeighborsClassifier(), "binary", tmp_path / "package", missing=False)


def test_a_network_with_a_step_that_is_not_known_or_goes_by_values_says_which() -> None:
    torch = pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    from treadle.backends.onnx_export import Graph
    from treadle.backends.torch_export import write_module

    class Step(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self, step: Callable[[Any], Any]) -> None:
            super().__init__()
            self.step = step

        def forward(self, x: Any) -> Any:
            return self.step(x)

    for step, reason in (
        (lambda x: x.sort(dim=1).values, r"the step aten\.sort\.default"),
        (lambda x: x if x.sum() > 0 else -x, "PyTorch cannot trace the network"),
        (lambda x: torch.nn.functional.dropout(x, 0.5, True), "drops values at random"),
        (lambda x: (x, x), "takes 1 tensors and gives 2"),
    ):
        with pytest.raises(CannotConvert, match=reason):
            write_module(Graph(), Step(step), "input", 3)


def test_a_library_that_is_not_installed_is_named() -> None:
    from treadle.backends.native_library import library

    with pytest.raises(Unavailable, match="The model needs nosuchpackage to answer, which is not installed here"):
        library("nosuchpackage", "lib/x.so")
