"""Two tables of any size are compared in little memory, and what is said about them is what is so."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from treadle.cli.main import cli, main
from treadle.core.errors import DataError
from treadle.monitoring.columns import open_file, sketch_table
from treadle.monitoring.compared import report, side
from treadle.monitoring.detectors import chi_square, jensen_shannon, ks, psi, units, wasserstein
from treadle.monitoring.drift import ColumnDrift
from treadle.monitoring.sketches import CategorySketch, NumberSketch, from_bytes, merged, sketch_column


def rows(seed: int, n: int = 5_000, **changes: Any) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    columns = {
        "temp": 55 + 18 * rng.normal(size=n), "rain": np.where(rng.random(n) < 0.8, 0, rng.exponential(size=n)), "hour": rng.integers(5, 24, n),
        "carrier": rng.choice(["UA", "AA", "DL"], n, p=[0.5, 0.3, 0.2]), "key": [f"{seed}-{i}" for i in range(n)],
        "at": pl.datetime_range(pl.datetime(2024, 1, 1), pl.datetime(2024, 1, 11), "1s", eager=True).sample(n, seed=seed).sort(),
    }
    return pl.DataFrame({**columns, **{name: change(columns) for name, change in changes.items()}})


def write(folder: Path, **frames: pl.DataFrame) -> list[Path]:
    paths = []
    for name, frame in frames.items():
        frame.write_parquet(folder / f"{name}.parquet", row_group_size=1_000)
        paths.append(folder / f"{name}.parquet")
    return paths


def found(folder: Path, **changes: Any) -> dict[str, ColumnDrift]:
    before, after = write(folder, before=rows(1), after=rows(2, **changes))
    return {c.name: c for c in report(side(open_file(before)), side(open_file(after))).columns}


def test_tables_of_one_population_are_alike_and_identifiers_are_not_compared(tmp_path: Path) -> None:
    columns = found(tmp_path)
    assert {c.verdict for n, c in columns.items() if n not in ("key", "at")} == {"alike"}
    assert columns["key"].verdict == "unlike"


@pytest.mark.parametrize(
    ("column", "change", "measure", "words"),
    [
        ("temp", lambda c: (c["temp"] - 32) * 5 / 9, "unit", "Fahrenheit to Celsius"),
        ("temp", lambda c: c["temp"] * 1000, "unit", "thousand"),
        ("temp", lambda c: np.where(np.arange(5_000) % 2, c["temp"], np.nan), "missing_jump", "50%"),
        ("temp", lambda c: np.full(5_000, 55.0), "constant", "every row has the same value"),
        ("carrier", lambda c: np.where(c["carrier"] == "UA", "United", c["carrier"]), "new_share", "'United'"),
        ("hour", lambda c: [f"{h}h" for h in c["hour"]], "type", "held numbers and now holds categories"),
    ],
)
def test_what_is_broken_is_named(tmp_path: Path, column: str, change: Any, measure: str, words: str) -> None:
    one = found(tmp_path, **{column: change})[column]
    assert one.verdict == "broken"
    assert measure in one.broken
    assert words in one.sentence


def test_a_population_that_moved_is_no_change_of_unit(tmp_path: Path) -> None:
    one = found(tmp_path, temp=lambda c: c["temp"] + 25)["temp"]
    assert one.verdict == "broken" or one.verdict == "moved"
    assert "unit" not in one.broken
    assert found(tmp_path, carrier=lambda c: np.where(np.arange(5_000) % 2, "UA", "AA"))["carrier"].verdict == "moved"


def test_a_column_that_came_or_went_is_said(tmp_path: Path) -> None:
    before, after = write(tmp_path, before=rows(1).drop("hour"), after=rows(2).drop("rain"))
    columns = {c.name: c for c in report(side(open_file(before)), side(open_file(after))).columns}
    assert "is new" in columns["hour"].sentence
    assert "is not in the new rows" in columns["rain"].sentence


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl", "folder"])
def test_every_format_gives_the_same_sketches(tmp_path: Path, format: str) -> None:
    frame = rows(3).drop("at")
    [plain] = write(tmp_path, plain=frame)
    path = tmp_path / f"rows.{format}"
    if format == "csv":
        frame.write_csv(path, separator=";")
    elif format == "jsonl":
        frame.write_ndjson(path)
    elif format == "folder":
        path.mkdir()
        for i in range(5):
            frame.slice(1_000 * i, 1_000).write_parquet(path / f"{i}.parquet")
    else:
        frame.write_parquet(path)
    for name, sketch in sketch_table(open_file(path)).items():
        assert sketch.to_bytes() == sketch_table(open_file(plain))[name].to_bytes()


@pytest.mark.parametrize("text", ["", "PAR1 but not really", "a,b\n1"])
def test_a_file_that_does_not_read_says_so_in_one_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    (tmp_path / "y.csv").write_text("c,d\n1,2\n")
    assert main(["drift", str(tmp_path / "x.csv"), str(tmp_path / "y.csv")]) == 3


def test_nothing_in_common_no_rows_and_unknown_columns_are_refused(tmp_path: Path) -> None:
    before, after, none = write(tmp_path, before=rows(1), after=pl.DataFrame({"z": [1.0]}), none=rows(1).clear())
    with pytest.raises(DataError, match="no column in common"):
        report(side(open_file(before)), side(open_file(after)))
    with pytest.raises(DataError, match="has no rows"):
        report(side(open_file(before)), side(open_file(none)))
    with pytest.raises(DataError, match="no column 'nope'"):
        side(open_file(before), ["nope"])


PARTS = st.lists(st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6, width=32), st.just(0.0)), max_size=300), min_size=1, max_size=12)


@given(PARTS, st.randoms(use_true_random=False))
def test_parts_in_any_order_merge_to_the_whole_within_its_error(parts: list[list[float | None]], order: Any) -> None:
    whole = sketch_column([v for part in parts for v in part], "number")
    shuffled = list(parts)
    order.shuffle(shuffled)
    together = merged(sketch_column(part, "number") for part in shuffled)
    assert isinstance(whole, NumberSketch)
    assert isinstance(together, NumberSketch)
    assert (together.count, together.missing, together.minimum, together.maximum) == (whole.count, whole.missing, whole.minimum, whole.maximum)
    assert together.mean == pytest.approx(whole.mean, abs=1e-6 * max(1.0, abs(whole.maximum), abs(whole.minimum)) if whole.present else 0)
    known = np.sort(np.array([v for part in parts for v in part if v is not None], dtype=np.float32))
    if len(known):
        exact = np.searchsorted(known, known, side="right") / len(known)
        assert np.abs(together.below(known) - exact).max() <= 0.02
        assert np.abs(whole.below(known) - exact).max() <= 0.02
    assert from_bytes(together.to_bytes()).to_bytes() == together.to_bytes()


@given(st.lists(st.lists(st.sampled_from([None, "a", "b", "c", True, 3.0]), max_size=60), min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_counts_of_categories_merge_exactly_in_any_order(parts: list[list[Any]], order: Any) -> None:
    whole = sketch_column([v for part in parts for v in part], "category")
    shuffled = list(parts)
    order.shuffle(shuffled)
    together = merged(sketch_column(part, "category") for part in shuffled)
    assert isinstance(whole, CategorySketch)
    assert isinstance(together, CategorySketch)
    assert (together.counts, together.count, together.missing) == (whole.counts, whole.count, whole.missing)


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_distances_are_within_their_stated_error_of_the_exact_ones(shift: float) -> None:
    """Of 200,000 rows in 20 parts: KS within 0.006, PSI within 0.005 + 2 %, Wasserstein within 0.01 standard deviations."""
    rng = np.random.default_rng(4)
    before, after = rng.normal(size=200_000), rng.normal(shift, 1.0, size=200_000)
    sketches = [merged(sketch_column(part, "number") for part in np.array_split(v, 20)) for v in (before, after)]
    exact_ks = stats.ks_2samp(before, after).statistic
    assert ks.score(*sketches) == pytest.approx(exact_ks, abs=0.006)  # type: ignore[arg-type]
    inner = np.quantile(before, np.arange(1, 10) / 10)
    q, p = (np.bincount(np.searchsorted(inner, v), minlength=10) / len(v) for v in (before, after))
    assert psi.score(*sketches).raw == pytest.approx(float(((p - q) * np.log(p / q)).sum()), abs=0.005, rel=0.02)
    exact_w = stats.wasserstein_distance(before, after) / before.std()
    assert wasserstein.score(*sketches) == pytest.approx(exact_w, abs=0.01)  # type: ignore[arg-type]
    assert jensen_shannon.of_shares(q.tolist(), p.tolist()) == pytest.approx(jensen_shannon.score(*sketches), abs=0.01)


def test_cramers_v_agrees_with_scipy_on_many_rows() -> None:
    before, after = ["a"] * 50_000 + ["b"] * 50_000, ["a"] * 70_000 + ["b"] * 30_000
    table = np.array([[50_000, 50_000], [70_000, 30_000]])
    exact = stats.contingency.association(table, method="cramer")
    assert chi_square.score(sketch_column(before, "category"), sketch_column(after, "category")) == pytest.approx(exact, abs=0.005)


@pytest.mark.parametrize(("name", "factor", "offset"), units.FORMULAS)
def test_every_formula_between_units_is_found_again(name: str, factor: float, offset: float) -> None:
    before = 40 + 12 * np.random.default_rng(5).normal(size=4_000)
    other = 40 + 12 * np.random.default_rng(6).normal(size=500)
    change = units.score(sketch_column(before, "number"), sketch_column(factor * other + offset, "number"))  # type: ignore[arg-type]
    assert change is not None
    assert change.factor == pytest.approx(factor, rel=0.12)


def test_the_command_prints_writes_a_page_and_fails_where_asked(tmp_path: Path) -> None:
    before, after = write(tmp_path, before=rows(1), after=rows(2, temp=lambda c: (c["temp"] - 32) * 5 / 9))
    page = tmp_path / "drift.html"
    run = CliRunner().invoke(cli, ["drift", str(before), str(after), "--time", "at", "--every", "1d", "--together", "--out", str(page)])
    assert run.exit_code == 0, run.output
    assert "Fahrenheit to Celsius" in run.output
    assert "ROC-AUC of 1.000" in run.output or "ROC-AUC of 0.9" in run.output
    text = page.read_text()
    assert "Fahrenheit to Celsius" in text
    assert "<script src" not in text
    shown = CliRunner().invoke(cli, ["drift", str(before), str(after), "--json", "--time", "at", "--every", "1d"])
    body = json.loads(shown.output)
    assert body["columns"][0]["name"] == "temp"
    assert len(body["days"]) == 10
    assert main(["drift", str(before), str(after), "--fail"]) == 4
    assert main(["drift", str(before), str(before), "--fail"]) == 0
    assert main(["drift", f"{before}@2024-01-01..2024-01-03", f"{after}@2024-01-03..", "--time", "at", "--columns", "rain"]) == 0


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Three million rows of four columns: less than 120 MB above what an empty comparison takes."""
    rng = np.random.default_rng(7)
    frame = pl.DataFrame({name: rng.normal(size=3_000_000) for name in "abcd"})
    frame.write_parquet(tmp_path / "big.parquet", row_group_size=250_000)
    frame.head(1_000).write_parquet(tmp_path / "small.parquet")
    program = (
        "import re, sys; from pathlib import Path; from treadle.monitoring.columns import open_file, sketch_table;"
        "s = sketch_table(open_file(Path(sys.argv[1])));"
        "print(int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) // 1024, s['a'].count)"
    )
    peaks = {}
    for name in ("small", "big"):
        said = subprocess.run([sys.executable, "-c", program, str(tmp_path / f"{name}.parquet")], capture_output=True, text=True, check=True).stdout
        peaks[name], count = map(int, said.split())
        assert count == {"small": 1_000, "big": 3_000_000}[name]
    assert peaks["big"] - peaks["small"] < 120
