"""A formula is one text, computed over columns in training and over one request in serving: the same to the last bit, whatever comes."""

from __future__ import annotations

import ast
import math
import struct
from datetime import UTC, datetime
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import treadle as tr
from treadle.core.errors import DataError, ProjectError
from treadle.core.formula import Formula, read
from treadle.features import derived, formula, formula_columns
from treadle.serving.requests import micros

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe"]

# Formulas of every shape, and requests to try them on.
number_names, text_names = st.sampled_from(["a", "b", "c"]), st.sampled_from(["s", "t"])
literals = st.sampled_from(["0", "1", "2.5", "1e300", "1e-320", "60", "7", "0.1"])
text_literals = st.sampled_from(["'UA'", "''", "'ß'", "'straße'"])


def numbers(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return number_names | literals | number_names
    n, b, t = numbers(depth - 1), truths(depth - 1), texts(depth - 1)
    return st.one_of(
        n,
        st.builds(lambda x, o, y: f"({x} {o} {y})", n, st.sampled_from(["+", "-", "*", "/", "//", "%"]), n),
        st.builds(lambda x, p: f"({x}) ** {p}", n, st.sampled_from([2, 3])),
        st.builds(lambda f, x: f"{f}({x})", st.sampled_from(["abs", "sqrt", "exp", "log", "log1p", "floor", "ceil", "round", "-"]), n),
        st.builds(lambda f, x, y: f"{f}({x}, {y})", st.sampled_from(["min", "max", "coalesce"]), n, n),
        st.builds(lambda x, c, y: f"({x} if {c} else {y})", n, b, n | st.just("missing")),
        st.builds(lambda x, c: f"({x} + ({c}))", n, b),
        st.builds(lambda x: f"length({x})", t),
        st.builds(lambda f, z: f"{f}(at, '{z}')", st.sampled_from(["hour", "minute", "minute_of_day", "day", "weekday", "month", "year"]), st.sampled_from(ZONES)),
        st.sampled_from(["seconds(at, until)", "seconds(until, at)"]),
    )


def truths(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return st.sampled_from(["a < b", "a is missing", "s == 'UA'", "True", "0 < b <= 7"])
    n, b, t = numbers(depth - 1), truths(depth - 1), texts(depth - 1)
    return st.one_of(
        st.builds(lambda x, o, y: f"({x} {o} {y})", n, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), n),
        st.builds(lambda x, o, y: f"({x} {o} {y})", b, st.sampled_from(["and", "or"]), b),
        st.builds(lambda x: f"(not {x})", b),
        st.builds(lambda x, o: f"({x} {o} (0, 1, -2.5, 7))", n, st.sampled_from(["in", "not in"])),
        st.builds(lambda x, o: f"({x} {o} ('UA', '', 'ß'))", t, st.sampled_from(["in", "not in"])),
        st.builds(lambda x, o, y: f"({x} {o} {y})", t, st.sampled_from(["==", "!="]), text_literals),
        st.builds(lambda x, o: f"({x} {o} missing)", n | t, st.sampled_from(["is", "is not"])),
    )


def texts(depth: int) -> st.SearchStrategy[str]:
    if depth == 0:
        return st.builds(lambda x: f"lower({x})", text_names) | st.builds(lambda x: f"({x} + '')", text_names)
    b, t = truths(depth - 1), texts(depth - 1)
    return st.one_of(
        t, st.builds(lambda x, y: f"({x} + '-' + {y})", t, t), st.builds(lambda x: f"lower({x})", t),
        st.builds(lambda x, c, y: f"({x} if {c} else {y})", t, b, t | st.just("missing")), st.builds(lambda x, y: f"coalesce({x}, {y})", t, t),
    )  # fmt: skip


floats = st.none() | st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.5, 0.5, -0.5, 1.5, 60.0, 1e308, -1e308, 5e-324, 7.0, math.nan, math.inf]) | st.floats()
words = st.none() | st.sampled_from(["", "UA", "ß", "ΑΣ", "İ", "STRASSE", "\u1c89", "🎉"]) | st.text(st.characters(codec="utf-8"), max_size=5)
moments = st.none() | st.datetimes(datetime(1850, 1, 1), datetime(2099, 12, 31), timezones=st.just(UTC))
requests = st.lists(
    st.fixed_dictionaries({"a": floats, "b": floats, "c": floats, "s": words, "t": words, "at": moments, "until": moments}), min_size=1, max_size=8
)
SCHEMA = {"a": pl.Float64, "b": pl.Float64, "c": pl.Float64, "s": pl.String, "t": pl.String, "at": pl.Datetime("us", "UTC"), "until": pl.Datetime("us", "UTC")}


def both(text: str, rows: list[dict[str, Any]], schema: Any = SCHEMA) -> tuple[list[Any], list[Any]]:
    """What training and what serving computes."""
    made = read(text, name="f")
    trained = formula_columns.column(made, pl.DataFrame(rows, schema=schema)).to_list()
    serve = formula.function(made)
    return trained, [serve({k: micros(v) if isinstance(v, datetime) else v for k, v in row.items()}) for row in rows]


def bits(values: list[Any]) -> list[Any]:
    return [struct.pack("<d", v) if isinstance(v, float) else v for v in values]


def or_refused(text: str) -> Formula | str:
    """The formula, or why it is none."""
    try:
        return read(text, name="f")
    except ProjectError as error:
        return error.what


def check(text: str, rows: list[dict[str, Any]]) -> None:
    made = or_refused(text)
    if isinstance(made, str):
        assert "uses no column" in made or "more than 300" in made or "always missing" in made, made
        return
    trained, served = both(text, rows)
    assert bits(trained) == bits(served)
    assert all(v is None or isinstance(v, str if made.kind == "text" else float) for v in served)
    assert all(not isinstance(v, float) or math.isfinite(v) for v in served)


@settings(max_examples=400)
@given(numbers(3), requests)
@example("round(a)", [{"a": v} for v in (-0.3, 0.5, 1.5, 2.5, -0.5, 1e300, None)])
@example("floor(a) / 0", [{"a": -0.0}])
@example("a - b * floor(a / b)", [{"a": 5.3, "b": -0.1}, {"a": 1e308, "b": 1e-308}])
@example("a + (a is missing)", [{"a": None}])
def test_a_number_is_the_same_in_both(text: str, rows: list[dict[str, Any]]) -> None:
    check(text, rows)


@settings(max_examples=200)
@given(truths(3), requests)
@example("a < b and missing", [{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}])
@example("s == 'UA' or a", [{"s": None, "a": 1.0}, {"s": None, "a": 0.0}, {"s": "UA", "a": None}])
def test_a_truth_is_the_same_in_both(text: str, rows: list[dict[str, Any]]) -> None:
    check(text, rows)


@settings(max_examples=200)
@given(texts(3), requests)
def test_a_text_is_the_same_in_both(text: str, rows: list[dict[str, Any]]) -> None:
    check(text, rows)


@pytest.mark.parametrize(
    ("text", "row", "result"),
    [
        ("distance / (air_time / 60) if air_time > 0 else missing", {"distance": 100.0, "air_time": 30.0}, 200.0),
        ("distance / (air_time / 60) if air_time > 0 else missing", {"distance": 100.0, "air_time": 0.0}, None),
        ("a / b", {"a": 1.0, "b": 0.0}, None),
        ("a / b", {"a": 1.0}, None),
        ("a + b", {"a": 1e308, "b": 1e308}, None),
        ("a - (a + b) * 0", {"a": 1e308, "b": 1e308}, None),
        ("7 // a", {"a": -2.0}, -4.0),
        ("7 % a", {"a": -2.0}, -1.0),
        ("-a ** 2", {"a": 3.0}, -9.0),
        ("log(a)", {"a": 0.0}, None),
        ("sqrt(a)", {"a": -1.0}, None),
        ("exp(a)", {"a": 1000.0}, None),
        ("min(a, b, 3)", {"a": 5.0, "b": 4.0}, 3.0),
        ("min(a, b)", {"a": 5.0}, None),
        ("coalesce(a, b, 0)", {}, 0.0),
        ("round(a)", {"a": 2.5}, 2.0),
        ("a is missing", {}, 1.0),
        ("a > 1 and b > 1", {"a": 0.0}, 0.0),
        ("a > 1 and b > 1", {"a": 2.0}, None),
        ("0 < a < 5", {"a": 3.0}, 1.0),
        ("carrier in ('UA', 'AA')", {"carrier": "AA"}, 1.0),
        ("carrier not in ('UA', 'AA')", {"carrier": None}, None),
        ("lower(origin) + '-' + dest", {"origin": "JFK", "dest": "LAX"}, "jfk-LAX"),
        ("length(carrier)", {"carrier": "🎉é"}, 2.0),
        ("hour(at, 'Europe/Berlin')", {"at": micros(datetime(2013, 7, 1, 23, 30, tzinfo=UTC))}, 1.0),
        ("seconds(a, b)", {"a": 1_000_000, "b": 3_500_000}, 2.5),
        ("hour(b) + seconds(a, b) * 0 + (b - a)", {"a": 1_000_000, "b": 3_500_000}, 2.5),
        ("col('air time') * 2", {"air time": 4.0}, 8.0),
        ("wet + 1 if wet else missing", {"wet": 1.0}, 2.0),
    ],
)
def test_what_a_formula_gives(text: str, row: dict[str, Any], result: Any) -> None:
    assert formula.function(read(text, name="f"))(row) == result


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sin(x)", "there is no function 'sin', at character 1"), ("1 + sin(x)", r"at character 5: sin\(x\)"), ("é + sin(x)", "at character 5"),
        ("  a + b.c", "a dot is not part of a formula, at character 7"), ("a +", "cannot be read"), ("a if b", "cannot be read"), ("", "is empty"),
        ("__import__('os')", "there is no function '__import__'"), ("(lambda: 0)()", "there is no function"), ("[x for x in a]", "a loop is not part"),
        ("a[0]", "a bracket \\[\\] is not part"), ("a & b", "there is no operator '&'"), ("a ** b", "\\*\\* takes 2, 3 or 4"), ("a ** 100", "\\*\\* takes 2, 3 or 4"),
        ("s == 'UA' and s * 2 > 1", "'s' is a text elsewhere in it, but here a number is wanted, at character 15"), ("a == None", "None is not part of a formula"),
        ("a is 3", "'is' is for missing only"), ("a in b", "'in' needs a list of values"), ("a in (1, 'x')", "values of one kind"), ("missing", "uses no column"),
        ("hour(at, 'Mars/Olympus')", "'Mars/Olympus' is not a time zone, at character 10"), ("hour(at, zone)", "a time zone as text"), ("min(a)", "two values or more"),
        ("abs(a, b)", "takes one value, not 2"), ("1e999 * a", "the number is too large"), ("coalesce(at, at) if hour(at) else missing", "it gives a moment"),
        ("f'{a}'", "an f-text is not part"), ("a := 3", "cannot be read"), ("s < 'x'", "texts have no order"), ("abs(x=1)", "no named arguments"),
        ("+".join(["a"] * 400), "more than 300"), ("(" * 500 + "a" + ")" * 500, "cannot be read"), ("a" * 3000, "longer than 2,000"), ("a\0b", "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(ProjectError, match=says) as caught:
        tr.formula("f", text)
    assert "test_formula.py" in (caught.value.where or "")


@given(st.lists(st.sampled_from([*"ab01.,()+-*/%<>=!'\" \n\0é", " if ", " else ", " and ", "missing", "log", "min"]), max_size=40).map("".join))
def test_any_text_is_a_formula_or_refused_in_one_sentence(text: str) -> None:
    made = or_refused(text)
    if isinstance(made, str):
        assert made.startswith("Formula 'f'")
    else:
        ast.parse(text.strip().replace("\n", " "), mode="eval")
        assert made.names


def test_a_column_of_another_kind_is_named() -> None:
    frame = pl.DataFrame({"a": ["x"], "b": [1.0]})
    with pytest.raises(DataError, match="Formula 'f' takes 'a' as a number, but it is String") as caught:
        derived.column(tr.formula("f", "a == b"), frame)
    assert "lower(a)" in (caught.value.hint or "")
    with pytest.raises(DataError, match="Formula 'f' uses 'c', which is missing"):
        derived.column(tr.formula("f", "c + 1"), frame)


def test_whole_numbers_and_truths_are_numbers() -> None:
    frame = pl.DataFrame({"n": [3, None], "yes": [True, False]}, schema={"n": pl.Int64, "yes": pl.Boolean})
    assert formula_columns.column(read("n / 2 if yes else 0 - 1"), frame).to_list() == [1.5, -1.0]


def test_the_expression_of_a_formula_can_stand_in_a_lazy_frame() -> None:
    lazy = pl.LazyFrame({"a": [1.0, 2.0], "b": [0.0, 4.0]})
    assert lazy.select(derived.expression(tr.formula("f", "a / b").rule).alias("f")).collect()["f"].to_list() == [None, 0.5]


def test_a_long_formula_costs_no_more_than_its_length() -> None:
    """Each part is computed once: nested 75 deep, a doubling at each level would never end."""
    text = "a"
    for _ in range(25):
        text = f"sqrt(abs({text}) + 1)"
    trained, served = both(text, [{"a": 5.0}], {"a": pl.Float64})
    assert bits(trained) == bits(served)


def test_what_a_formula_holds_is_not_run() -> None:
    """Texts and names of columns come into the endpoint's code as values."""
    for nasty in ("'); import os; ('", '"""', "\\", "\n", "{0}", "__builtins__"):
        assert formula.function(read(f"col({nasty!r}) == {nasty!r}" if "\0" not in nasty else "a", name="f"))({nasty: nasty}) == 1.0
