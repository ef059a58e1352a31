"""What is predicted is found from the values, and values there is nothing to learn from are refused."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import treadle as tr
from treadle.core.declare.model import Model
from treadle.core.errors import DataError
from treadle.features.rows import TARGET
from treadle.training.target import Target, target_of


def model_of(**says: Any) -> Model:
    project = tr.Project("p")
    return project.model("m", rows=project.dataset("rows", source=tr.rows(list), key="id"), target="y", inputs=["a"], **says)


def found(values: list[Any], dtype: Any = None, **says: Any) -> Target:
    return target_of(model_of(**says), pl.DataFrame({TARGET: pl.Series(values, dtype=dtype)}))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, False, True, True, None], Target("binary", (False, True))),
        ([0, 1, 0, 0], Target("binary", (0, 1))),
        ([1, 1, 0, 1], Target("binary", (1, 0))),  # the rarer class is the positive one
        (["yes", "no", "no"], Target("binary", ("no", "yes"))),
        ([0.0, 1.0, 0.0], Target("binary", (0.0, 1.0))),
        (["a", "b", "c", "a"], Target("multiclass", ("a", "b", "c"))),
        ([1, 2, 3, 1], Target("multiclass", (1, 2, 3))),
        ([0.5, 1.5, 2.5], Target("regression")),
        (list(range(30)), Target("regression")),
    ],
)
def test_the_task_is_found_from_the_values(values: list[Any], expected: Target) -> None:
    assert found(values) == expected


def test_what_is_declared_comes_before_what_is_found() -> None:
    assert found([1, 2, 3, 1], task="regression") == Target("regression")
    assert found(list(range(30)), task="multiclass").task == "multiclass"
    assert found(["yes", "no", "no"], positive="no") == Target("binary", ("yes", "no"))


@pytest.mark.parametrize(
    ("values", "dtype", "says", "sentence"),
    [
        ([None, None], pl.Int64, {}, "has no values"),
        ([1, 1, 1, None], None, {}, "is constant: it is always 1"),
        ([f"c{i}" for i in range(51)], None, {}, "has 51 different values, more than 50 classes"),
        ([0.5, float("inf"), 1.5], None, {}, "holds infinite or not-a-number values"),
        ([0.5, float("nan"), 1.5], None, {}, "holds infinite or not-a-number values"),
        (["a", "b", "c"], None, {"task": "regression"}, "holds String, not numbers"),
        (["a", "b", "c"], None, {"task": "binary"}, "has 3 different values, not two"),
        (["a", "b"], None, {"positive": "c"}, "positive='c' is not a value of 'y'"),
    ],
)
def test_a_target_there_is_nothing_to_learn_from_is_refused(values: list[Any], dtype: Any, says: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        found(values, dtype, **says)
    assert sentence in caught.value.what
    assert caught.value.hint
    assert (caught.value.where or "").startswith("model 'm' (test_target.py:")


def test_values_become_codes_in_the_order_of_the_labels() -> None:
    target = Target("binary", ("no", "yes"))
    assert target.codes(pl.Series(["yes", "no"])).tolist() == [1, 0]
    assert Target("regression").codes(pl.Series([1, 2])).tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="The target holds 'maybe', which was not among the training classes"):
        target.codes(pl.Series(["maybe"]))
