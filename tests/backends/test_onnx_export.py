"""What is packaged answers as what was trained: family by family, on the very values where a conversion goes wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightgbm import Booster, LGBMClassifier, LGBMRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from threadpoolctl import threadpool_limits

from treadle.backends.onnx_format import OnnxFormat
from treadle.backends.skops_format import SkopsFormat
from treadle.backends.tree_tables import below32, floor32, splits
from treadle.core.errors import CannotConvert, Corrupt, InvalidRequest, NotFound, Refused
from treadle.training.encoding import make_pipeline

xgboost = pytest.importorskip("xgboost")

ROWS = 600
NUMBERS = ["distance", "tenths", "count", "night"]
CATEGORIES = ["carrier", "origin"]
CLASSES = {"binary": ["late", "on time"], "multiclass": ["early", "late", "on time"]}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small models lose more by waiting for threads than they gain, above all on a busy machine."""
    with threadpool_limits(1):
        yield


def a_frame(rows: int, seed: int) -> pl.DataFrame:
    """Columns that tempt a conversion: gaps, tenths (which float32 cannot hold), exact zeros, large numbers, rare and missing categories."""
    rng = np.random.default_rng(seed)
    tenths = np.where(rng.random(rows) < 0.3, np.nan, rng.integers(-9, 10, rows) / 10)
    return pl.DataFrame(
        {
            "distance": rng.lognormal(10, 2, rows),
            "tenths": tenths,
            "count": rng.poisson(1.0, rows),
            "night": rng.random(rows) < 0.4,
            "carrier": rng.choice(["AA", "UA", "DL", ""], rows),
            "origin": rng.choice([f"A{i}" for i in range(40)], rows),
        }
    )


def truth(frame: pl.DataFrame, task: str) -> np.ndarray:
    signal = frame["tenths"].fill_nan(0.3).to_numpy() * 2 + frame["count"].to_numpy() - (frame["carrier"] == "AA").to_numpy() * 1.5
    signal = signal + np.random.default_rng(1).normal(size=len(frame)) * 0.7
    if task == "regression":
        return signal
    cuts = [0.5] if task == "binary" else [0.0, 1.0]
    return np.array(CLASSES[task])[np.digitize(signal, cuts)]


def encode(encoder: list[dict[str, Any]], frame: pl.DataFrame) -> np.ndarray:
    """The matrix, strictly from the description: what serving does."""
    blocks = []
    for entry in encoder:
        values = frame[entry["name"]]
        if entry["kind"] == "number":
            x = values.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
            if entry["fill"] is not None:
                x[np.isnan(x)] = entry["fill"]
            blocks.append(((x - entry["mean"]) / entry["scale"]).astype(np.float32)[:, None])
        else:
            table, unknown = entry["table"], entry["unknown"]
            blocks.append(np.array([table.get(value or "", unknown) for value in values], dtype=np.float32))
    return np.hstack(blocks)


def nasty(frame: pl.DataFrame, encoded: np.ndarray, ensemble: Any, rows: int) -> np.ndarray:
    """Encoded rows where many values are a threshold of their column, its float32 neighbours, zero, a tiny number, or missing."""
    rng = np.random.default_rng(2)
    matrix = encoded[rng.integers(0, len(encoded), rows)].copy()
    found: dict[int, list[float]] = {column: [0.0, -0.0, 1e-35, -1e-35, 1e-38, -1e-38, 1e-45] for column in range(matrix.shape[1])}
    for column, threshold in splits(ensemble) if ensemble is not None else ():
        found[column].append(threshold)
    for column, thresholds in found.items():
        at = np.array(thresholds, dtype=np.float32)
        up, down = np.float32(np.inf), np.float32(-np.inf)
        around = np.concatenate([at, np.nextafter(at, up), np.nextafter(at, down), np.nextafter(np.nextafter(at, up), up)])
        around = around[np.isfinite(around)]
        chosen = rng.random(rows) < 0.7
        matrix[chosen, column] = rng.choice(around, chosen.sum())
    return matrix


def native(fitted: Any, matrix: np.ndarray) -> np.ndarray:
    model = fitted.named_steps["model"]
    answer = model.predict_proba(matrix) if hasattr(model, "classes_") else model.predict(matrix)
    return np.asarray(answer, dtype=np.float64).reshape(len(matrix), -1)


def fit(estimator: Any, task: str, *, linear: bool = False) -> tuple[Any, pl.DataFrame]:
    frame = a_frame(ROWS, seed=0)
    target = truth(frame, task)
    if type(estimator).__name__ == "XGBClassifier":  # takes numbers only
        target = np.unique(target, return_inverse=True)[1]
    return make_pipeline(estimator, NUMBERS, CATEGORIES, linear=linear, task=task).fit(frame, target), frame


def shown(frame: pl.DataFrame) -> pl.DataFrame:
    """Rows as production sends them: other values, nulls, and categories that training never saw."""
    fresh = a_frame(400, seed=9)
    return pl.concat([frame, fresh.with_columns(carrier=pl.lit("new"), origin=pl.lit("ZZ"), tenths=pl.lit(None, pl.Float64))])


def classifier(task: str, regressor: Callable[..., Any], other: Callable[..., Any], **options: Any) -> Any:
    return (regressor if task == "regression" else other)(**options)


FAMILIES: dict[str, Callable[[str], Any]] = {
    "tree": lambda task: classifier(task, DecisionTreeRegressor, DecisionTreeClassifier, random_state=0),
    "forest": lambda task: classifier(task, RandomForestRegressor, RandomForestClassifier, n_estimators=30, random_state=0),
    "extra trees": lambda task: classifier(task, ExtraTreesRegressor, ExtraTreesClassifier, n_estimators=30, random_state=0),
    "boosting": lambda task: classifier(task, GradientBoostingRegressor, GradientBoostingClassifier, n_estimators=30, random_state=0),
    "histogram boosting": lambda task: classifier(task, HistGradientBoostingRegressor, HistGradientBoostingClassifier, max_iter=30, random_state=0),
    "lightgbm": lambda task: classifier(task, LGBMRegressor, LGBMClassifier, n_estimators=50, verbose=-1, n_jobs=1),
    "xgboost": lambda task: classifier(task, xgboost.XGBRegressor, xgboost.XGBClassifier, n_estimators=50, n_jobs=1),
}
LINEAR: dict[str, Callable[[str], Any]] = {
    "linear": lambda task: classifier(task, Ridge, LogisticRegression),
    "dummy": lambda task: classifier(task, DummyRegressor, DummyClassifier),
}
TASKS = ["binary", "multiclass", "regression"]


def assert_equal(answer: np.ndarray, expected: np.ndarray, classes: Any) -> None:
    assert answer.shape == expected.shape
    assert answer.dtype == np.float64
    np.testing.assert_allclose(answer, expected, rtol=2e-6, atol=2e-6)
    if classes:
        ranked = np.sort(expected, axis=1)
        decided = ranked[:, -1] - ranked[:, -2] > 1e-6  # a tie has no label to keep
        assert (answer.argmax(axis=1) == expected.argmax(axis=1))[decided].all()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", [*FAMILIES, *LINEAR])
def test_an_onnx_model_answers_as_the_fitted_pipeline_does(family: str, task: str, tmp_path: Path) -> None:
    from treadle.backends import onnx_export

    estimator = {**FAMILIES, **LINEAR}[family](task)
    fitted, frame = fit(estimator, task, linear=family in LINEAR)
    info = json.loads(json.dumps(OnnxFormat().save(fitted, tmp_path)))
    scorer = OnnxFormat().load(tmp_path, info)
    assert (info["task"], scorer.width) == (task, info["width"])

    # Served rows, encoded from the description alone: the matrix is equal bit for bit, the answers within the promise.
    served = shown(frame)
    matrix = encode(info["encoder"], served)
    np.testing.assert_array_equal(matrix, fitted[:-1].transform(served))
    assert_equal(scorer.score(matrix), native(fitted, matrix), info["classes"])
    assert_equal(scorer.score(matrix[:1]), native(fitted, matrix[:1]), info["classes"])

    # 20,000 rows of values that sit on thresholds and beside them.
    name = type(estimator).__name__.removesuffix("Classifier").removesuffix("Regressor")
    ensemble = onnx_export.TREES[name](fitted.named_steps["model"]) if name in onnx_export.TREES else None
    matrix = nasty(served, matrix, ensemble, 20_000)
    assert_equal(scorer.score(matrix), native(fitted, matrix), info["classes"])


@pytest.mark.parametrize(
    ("estimator", "task"),
    [
        (GradientBoostingClassifier(n_estimators=10, loss="exponential"), "binary"),
        (GradientBoostingRegressor(n_estimators=10, init="zero"), "regression"),
        (HistGradientBoostingClassifier(max_iter=200, early_stopping=True), "binary"),
        (LGBMClassifier(n_estimators=10, boosting_type="rf", bagging_freq=1, bagging_fraction=0.5, verbose=-1, n_jobs=1), "multiclass"),
        (LGBMClassifier(n_estimators=10, boosting_type="dart", verbose=-1, n_jobs=1), "binary"),
        (LGBMClassifier(n_estimators=5, min_child_samples=10_000, verbose=-1, n_jobs=1), "binary"),
        (LGBMRegressor(n_estimators=10, use_missing=False, verbose=-1, n_jobs=1), "regression"),
        (xgboost.XGBClassifier(n_estimators=5, num_parallel_tree=3, subsample=0.5, n_jobs=1), "multiclass"),
        (DecisionTreeClassifier(max_depth=1), "multiclass"),
        (RandomForestRegressor(n_estimators=5, criterion="absolute_error", max_depth=2), "regression"),
        (DummyClassifier(strategy="most_frequent"), "binary"),
        (DummyRegressor(strategy="median"), "regression"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_unusual_settings_convert_too(estimator: Any, task: str, tmp_path: Path) -> None:
    fitted, frame = fit(estimator, task)
    info = OnnxFormat().save(fitted, tmp_path)
    matrix = nasty(frame, encode(info["encoder"], shown(frame)), None, 5_000)
    assert_equal(OnnxFormat().load(tmp_path, info).score(matrix), native(fitted, matrix), info["classes"])


def test_lightgbm_reads_tiny_values_as_zero_and_so_does_the_export(tmp_path: Path) -> None:
    frame = a_frame(ROWS, seed=0)
    model = LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1)
    fitted = make_pipeline(model, ["count", "night"], [], linear=False, task="binary").fit(frame, truth(frame, "binary"))
    text = fitted.named_steps["model"].booster_.model_to_string()
    text = re.sub(r"tree_sizes=.*\n", "", text)  # byte counts, which the edits below would make wrong
    edge = "1.0000000180025095e-35"
    assert edge in text  # where LightGBM itself puts the border between zero and more
    tiny = np.array([0.0, 1e-35, -1e-35, 1e-36, -1e-36, 9e-36, 2e-35, -2e-35], dtype=np.float32)
    matrix = np.stack([tiny, np.zeros(len(tiny), dtype=np.float32)], axis=1)
    for i, border in enumerate([edge, "-" + edge, "0", "5e-36", "-5e-36"]):
        fitted.named_steps["model"]._Booster = Booster(model_str=re.sub(r"(?<=[ =])" + re.escape(edge), border, text))
        info = OnnxFormat().save(fitted, tmp_path / str(i))
        assert_equal(OnnxFormat().load(tmp_path / str(i), info).score(matrix), native(fitted, matrix), info["classes"])


def test_missing_values_that_training_never_saw_go_where_the_model_sends_them(tmp_path: Path) -> None:
    frame = a_frame(ROWS, seed=0).with_columns(tenths=pl.col("tenths").fill_nan(0.1))
    estimators = [LGBMClassifier(n_estimators=20, verbose=-1, n_jobs=1), HistGradientBoostingClassifier(max_iter=20), RandomForestClassifier(10)]
    for i, estimator in enumerate(estimators):
        fitted = make_pipeline(estimator, NUMBERS, [], linear=False, task="binary").fit(frame, truth(frame, "binary"))
        info = OnnxFormat().save(fitted, tmp_path / str(i))
        matrix = encode(info["encoder"], frame)
        matrix[np.random.default_rng(3).random(matrix.shape) < 0.3] = np.nan
        assert_equal(OnnxFormat().load(tmp_path / str(i), info).score(matrix), native(fitted, matrix), info["classes"])


def test_a_linear_model_is_summed_in_float64_even_where_scikit_learn_sums_in_float32(tmp_path: Path) -> None:
    fitted, frame = fit(LinearRegression(), "regression", linear=True)
    info = OnnxFormat().save(fitted, tmp_path)
    matrix, model = encode(info["encoder"], shown(frame)), fitted.named_steps["model"]
    answer = OnnxFormat().load(tmp_path, info).score(matrix)
    terms = np.hstack([matrix * model.coef_.astype(np.float64), np.full((len(matrix), 1), model.intercept_, dtype=np.float64)])
    np.testing.assert_allclose(answer[:, 0], terms.sum(axis=1), rtol=1e-12, atol=1e-9)
    own_rounding = np.abs(terms).sum(axis=1) * np.finfo(np.float32).eps * 4
    assert (np.abs(answer - native(fitted, matrix))[:, 0] <= own_rounding).all()


def test_large_numbers_keep_their_digits_because_scaling_stays_in_float64(tmp_path: Path) -> None:
    seconds = 1.7e9 + np.random.default_rng(0).integers(0, 600, ROWS).astype(np.float64)
    frame = pl.DataFrame({"at": seconds})
    target = (seconds > 1.7e9 + 300).astype(int)
    fitted = make_pipeline(LogisticRegression(), ["at"], [], linear=True, task="binary").fit(frame, target)
    info = OnnxFormat().save(fitted, tmp_path)
    matrix = encode(info["encoder"], frame)
    assert len(np.unique(matrix)) == frame["at"].n_unique()
    np.testing.assert_allclose(OnnxFormat().load(tmp_path, info).score(matrix), fitted.predict_proba(frame), atol=1e-6)


@given(threshold=st.floats(allow_nan=False), value=st.floats(width=32, allow_nan=False), near=st.integers(-3, 3), beside=st.booleans())
@settings(max_examples=400, deadline=None)
def test_a_threshold_rounded_down_to_float32_keeps_every_decision(threshold: float, value: float, near: int, beside: bool) -> None:
    with np.errstate(over="ignore"):
        x = np.float32(threshold) if beside else np.float32(value)
        for _ in range(abs(near)):
            x = np.nextafter(x, np.float32(np.inf if near > 0 else -np.inf))
    exact = np.float64(x)
    assert (exact <= threshold) == bool(x <= floor32(threshold)[()])
    assert floor32(threshold).dtype == np.float32
    if threshold > -np.inf:  # nothing is below that
        assert (exact < threshold) == bool(x <= below32(threshold)[()])


@pytest.mark.parametrize(
    "estimator",
    [SVC(), KNeighborsClassifier(), MLPClassifier(max_iter=300), AdaBoostClassifier(n_estimators=3)],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_family_without_an_exact_conversion_says_why(estimator: Any, tmp_path: Path) -> None:
    fitted, _ = fit(estimator, "binary", linear=True)
    with pytest.raises(CannotConvert, match=f"{type(estimator).__name__} is not converted to ONNX: .+ 'skops'"):
        OnnxFormat().save(fitted, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (LGBMClassifier(n_estimators=2, zero_as_missing=True, verbose=-1, n_jobs=1), "zeros as missing"),
        (LGBMRegressor(n_estimators=2, linear_tree=True, verbose=-1, n_jobs=1), "linear models"),
        (LGBMRegressor(n_estimators=2, reg_sqrt=True, objective="regression", verbose=-1, n_jobs=1), "objective"),
        (xgboost.XGBRegressor(n_estimators=2, booster="gblinear", n_jobs=1), "gblinear"),
        (GradientBoostingRegressor(n_estimators=2, init=Ridge()), "starts from a Ridge"),
        (DummyClassifier(strategy="stratified"), "at random"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_without_an_exact_conversion_says_why(estimator: Any, reason: str, tmp_path: Path) -> None:
    fitted, _ = fit(estimator, "binary" if hasattr(estimator, "predict_proba") else "regression")
    with pytest.raises(CannotConvert, match=reason):
        OnnxFormat().save(fitted, tmp_path)


def test_a_model_that_takes_no_missing_values_is_given_a_fill_and_refused_without_one(tmp_path: Path) -> None:
    fitted, _ = fit(GradientBoostingClassifier(n_estimators=2), "binary")
    assert all(entry["fill"] is not None for entry in OnnxFormat().save(fitted, tmp_path)["encoder"] if entry["kind"] == "number")
    whole = a_frame(100, seed=0).with_columns(tenths=pl.lit(0.5))
    fitted = make_pipeline(RandomForestClassifier(2), NUMBERS, [], linear=False, task="binary")
    fitted.steps[-1] = ("model", GradientBoostingClassifier(n_estimators=2))
    fitted.fit(whole, truth(whole, "binary"))
    with pytest.raises(CannotConvert, match="nothing fills those of 'distance'"):
        OnnxFormat().save(fitted, tmp_path)


def test_a_class_of_ones_own_with_a_known_name_is_not_mistaken(tmp_path: Path) -> None:
    own = type("LogisticRegression", (LogisticRegression,), {"__module__": "mine"})
    fitted, _ = fit(own(), "binary", linear=True)
    with pytest.raises(CannotConvert, match="of mine"):
        OnnxFormat().save(fitted, tmp_path)


@pytest.mark.parametrize(
    ("estimator", "task"),
    [
        (KNeighborsClassifier(), "multiclass"),
        (MLPClassifier(max_iter=300), "binary"),
        (AdaBoostClassifier(n_estimators=3), "binary"),
        (LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1), "binary"),
        (xgboost.XGBRegressor(n_estimators=5, n_jobs=1), "regression"),
        (HistGradientBoostingRegressor(max_iter=5), "regression"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_skops_gives_back_the_same_estimator(estimator: Any, task: str, tmp_path: Path) -> None:
    fitted, frame = fit(estimator, task, linear=not hasattr(estimator, "n_estimators") and "Hist" not in type(estimator).__name__)
    info = json.loads(json.dumps(SkopsFormat().save(fitted, tmp_path)))
    scorer = SkopsFormat().load(tmp_path, info)
    matrix = encode(info["encoder"], shown(frame))
    np.testing.assert_array_equal(matrix, fitted[:-1].transform(shown(frame)))
    np.testing.assert_array_equal(scorer.score(matrix), native(fitted, matrix))
    with pytest.raises(InvalidRequest, match="encoded features"):
        scorer.score(matrix[:, 1:])


def test_skops_builds_only_types_that_were_recorded_and_are_known(tmp_path: Path) -> None:
    fitted, _ = fit(DecisionTreeClassifier(), "binary")
    info = SkopsFormat().save(fitted, tmp_path)
    with pytest.raises(Refused, match=r"sklearn\.tree\._tree\.Tree"):
        SkopsFormat().load(tmp_path, {**info, "types": []})
    (tmp_path / "model.skops").write_bytes(b"no archive")
    with pytest.raises(Corrupt):
        SkopsFormat().load(tmp_path, info)
    with pytest.raises(NotFound):
        SkopsFormat().load(tmp_path / "elsewhere", info)


def test_skops_packages_neither_foreign_types_nor_models_without_probabilities(tmp_path: Path) -> None:
    fitted, _ = fit(SVC(), "binary", linear=True)
    with pytest.raises(CannotConvert, match="no probabilities"):
        SkopsFormat().save(fitted, tmp_path)
    fitted, _ = fit(Mine(), "regression", linear=True)
    with pytest.raises(CannotConvert, match="Mine"):
        SkopsFormat().save(fitted, tmp_path)
    assert list(tmp_path.iterdir()) == []


class Mine(Ridge):
    """An estimator of no known library."""


def test_an_onnx_package_is_read_only_when_whole_and_self_contained(tmp_path: Path) -> None:
    import onnx

    fitted, _ = fit(LogisticRegression(), "binary", linear=True)
    format_ = OnnxFormat()
    info = format_.save(fitted, tmp_path)
    whole = (tmp_path / "model.onnx").read_bytes()
    scorer = format_.load(tmp_path, info)
    with pytest.raises(InvalidRequest, match=rf"{info['width']} encoded features"):
        scorer.score(np.zeros((2, info["width"] + 1), dtype=np.float32))
    assert scorer.score(np.zeros((0, info["width"]), dtype=np.float32)).shape == (0, 2)

    with pytest.raises(NotFound):
        format_.load(tmp_path / "elsewhere", info)
    for broken in (b"", b"no model", whole[:-20], whole[: len(whole) // 2]):
        (tmp_path / "model.onnx").write_bytes(broken)
        with pytest.raises(Corrupt):
            format_.load(tmp_path, info)
    (tmp_path / "model.onnx").write_bytes(whole)
    with pytest.raises(Corrupt, match="the package says 3"):
        format_.load(tmp_path, {**info, "width": 3})

    foreign = onnx.load_from_string(whole)
    foreign.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    (tmp_path / "model.onnx").write_bytes(foreign.SerializeToString())
    with pytest.raises(Refused, match=r"com\.microsoft"):
        format_.load(tmp_path, info)
    outside = onnx.load_from_string(whole)
    onnx.external_data_helper.set_external_data(outside.graph.initializer[0], "weights.bin")
    (tmp_path / "model.onnx").write_bytes(outside.SerializeToString())
    with pytest.raises(Refused, match="outside"):
        format_.load(tmp_path, info)
    (tmp_path / "model.onnx").write_bytes(whole)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(Refused, match="does not list"):
        format_.load(tmp_path, info)


def test_a_loaded_model_answers_several_threads_at_once(tmp_path: Path) -> None:
    fitted, frame = fit(LGBMClassifier(n_estimators=10, verbose=-1, n_jobs=1), "binary")
    info = OnnxFormat().save(fitted, tmp_path)
    scorer, matrix = OnnxFormat().load(tmp_path, info), encode(info["encoder"], frame)
    expected, answers = scorer.score(matrix), {}
    threads = [threading.Thread(target=lambda i=i: answers.update({i: scorer.score(matrix)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4
    assert all(np.array_equal(answer, expected) for answer in answers.values())


def test_serving_imports_neither_onnx_nor_a_training_library(tmp_path: Path) -> None:
    fitted, _ = fit(LGBMClassifier(n_estimators=2, verbose=-1, n_jobs=1), "binary")
    info = OnnxFormat().save(fitted, tmp_path)
    script = (
        "import json, sys, pathlib, numpy as np\n"
        "from treadle.backends.onnx_format import OnnxFormat\n"
        "info = json.loads(sys.argv[2])\n"
        "OnnxFormat().load(pathlib.Path(sys.argv[1]), info).score(np.zeros((1, info['width']), dtype=np.float32))\n"
        "print([name for name in ('onnx', 'sklearn', 'lightgbm', 'scipy', 'polars') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), json.dumps(info)], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
