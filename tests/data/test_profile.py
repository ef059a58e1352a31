"""What `treadle init --data` sees in a file of rows, however awkwardly it was written."""

from __future__ import annotations

import datetime
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from treadle.core.errors import DataError
from treadle.core.schema import Column
from treadle.data.csv_text import read_strings
from treadle.data.parsing import Unparsed, parse_columns
from treadle.data.profile import Profile, profile

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file from a header and rows of ready-made fields, in any separator and encoding."""

    def _write(header: str, rows: Iterable[Sequence[Any]] | str, *, separator: str = ",", encoding: str = "utf-8", name: str = "rows.csv") -> Path:
        body = rows if isinstance(rows, str) else "\n".join(separator.join(str(f) for f in row) for row in rows)
        path = tmp_path / name
        path.write_bytes(f"{header}\n{body}\n".encode(encoding))
        return path

    return _write


def kinds(found: Profile) -> dict[str, str | None]:
    return {c.name: c.kind for c in found.columns}


def reason(found: Profile, column: str) -> str:
    return found.column(column).left_out


def noise(rows: int = 40) -> list[float]:
    chance = random.Random(1)
    return [round(chance.uniform(0, 9), 3) for _ in range(rows)]


# --- what a file is written in


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found(write: Write, separator: str) -> None:
    found = profile(write(separator.join("ab"), [(i % 7, i % 3) for i in range(30)], separator=separator))
    assert (found.separator, kinds(found)) == (separator, {"a": "integer", "b": "integer"})


def test_semicolons_with_decimal_commas_are_numbers(write: Write) -> None:
    found = profile(write("größe;preis;ort", [(f"{i},5", f"1.{i:03},25", "a,b" if i % 2 else "c,d") for i in range(30)], separator=";"))
    assert found.decimal_comma
    assert kinds(found) == {"größe": "number", "preis": "number", "ort": "category"}
    assert found.column("preis").high == 1029.25


def test_commas_may_stand_in_the_names_and_fields_of_a_file_with_semicolons(write: Write) -> None:
    found = profile(write("name;size, cm;weight, kg", [("x", f"{i},5", f"{i},25") for i in range(30)], separator=";"))
    assert kinds(found)["size, cm"] == "number"


def test_thousands_are_grouped_by_commas_or_by_points(write: Write) -> None:
    found = profile(write("pay,x", [(f'"{i + 1},000.50"', i % 2) for i in range(30)]))
    assert not found.decimal_comma
    assert found.column("pay").high == 30000.5


def test_where_some_numbers_have_commas_and_others_points_a_warning_is_given(write: Write) -> None:
    found = profile(write("a;b", [(f"{i},5", f"{i}.5") for i in range(30)], separator=";"))
    assert kinds(found) == {"a": "text", "b": "number"}
    assert "1,5" in found.warnings[0]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "cp1252", "utf-16"])
def test_names_and_values_keep_their_umlauts_in_any_encoding(write: Write, encoding: str) -> None:
    found = profile(write("élan vital,Ort", [(i, "Zürich" if i % 2 else "Genève") for i in range(30)], encoding=encoding))
    assert found.columns[0].name == "élan vital"
    assert found.column("Ort").values == ("Genève", "Zürich")


def test_the_euro_sign_of_windows_is_read(write: Write) -> None:
    found = profile(write("x,currency", [(i % 5, "€" if i % 2 else "£") for i in range(30)], encoding="cp1252"))
    assert found.column("currency").values == ("£", "€")


def test_quoted_fields_hold_separators_quotes_and_line_breaks(write: Write) -> None:
    found = profile(write('"a\nname",note', [(i % 4, f'"line one, {i % 2}\nline ""two"""') for i in range(30)]))
    assert found.rows == 30
    assert found.column("note").values == ('line one, 0\nline "two"', 'line one, 1\nline "two"')
    assert found.columns[0].name == "a\nname"


def test_a_quote_within_a_field_is_a_letter(write: Write) -> None:
    found = profile(write("size,x", [(f'{i % 2}5" pipe', i % 3) for i in range(30)]))
    assert found.column("size").values == ('05" pipe', '15" pipe')


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_lines_end_as_on_any_machine_and_empty_ones_are_no_rows(tmp_path: Path, end: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(end.join(["a,b", *(f"{i},{i % 2}" for i in range(30)), "", ",", ""]).encode())
    assert profile(path).rows == 30


def test_missing_values_are_spelled_in_many_ways(write: Write) -> None:
    spelled = ["", "NA", "nan", "n/a", "?", "#N/A", "-", "unknown", " "]
    found = profile(write("a,b", [(spelled[i] if i < len(spelled) else i, i % 3) for i in range(40)]))
    assert (found.column("a").kind, found.column("a").missing) == ("integer", len(spelled))
    assert {"nan", "?", "-", "unknown"} <= set(found.null_values)


def test_none_is_a_value_among_words_and_missing_among_numbers(write: Write) -> None:
    words = profile(write("garage,b", [(("none", "attached", "built-in")[i % 3], i % 2) for i in range(30)]))
    assert words.column("garage").values == ("attached", "built-in", "none")
    numbers = profile(write("cars,b", [(("none", i)[i % 2], i % 3) for i in range(30)]))
    assert (numbers.column("cars").kind, numbers.null_values) == ("integer", ("none",))


def test_a_parquet_file_keeps_its_types(tmp_path: Path) -> None:
    start = datetime.datetime(2024, 1, 1)
    frame = pl.DataFrame(
        {
            "id": range(60),
            "when": [start + datetime.timedelta(hours=7 * i) for i in range(60)],
            "day": [datetime.date(2024, 1, 1 + i % 28) for i in range(60)],
            "colour": pl.Series(["red", "blue", None] * 20, dtype=pl.Categorical),
            "x": [float("nan"), 1.5, 2.5] * 20,
            "list": [[1, 2]] * 60,
            "big": pl.Series([2**64 - 1 - i % 3 for i in range(60)], dtype=pl.UInt64),
            "y": [i % 2 for i in range(60)],
        }
    )
    frame.write_parquet(tmp_path / "rows.pq")
    found = profile(tmp_path / "rows.pq", "y")
    assert found.format == "parquet"
    expected = {
        "id": "integer",
        "when": "timestamp",
        "day": "timestamp",
        "colour": "category",
        "x": "number",
        "list": None,
        "big": "category",
        "y": "boolean",
    }
    assert kinds(found) == expected
    assert (found.key, found.event_time and found.event_time.name, found.column("x").missing) == ("id", "when", 20)
    assert found.inputs == ("colour", "x", "big")


# --- what a column holds


def test_truth_is_spelled_in_pairs_and_zero_and_one_stay_numbers(write: Write) -> None:
    rows = [(("yes", "no")[i % 2], ("TRUE", "False")[i % 2], ("Y", "N")[i % 2], i % 2, ("F", "M")[i % 2]) for i in range(30)]
    assert list(kinds(profile(write("a,b,c,d,sex", rows))).values()) == ["boolean", "boolean", "boolean", "integer", "category"]


@pytest.mark.parametrize(("zero", "one"), [("0", "1"), ("0.0", "1.0"), ("no", "yes"), ("False", "True")])
def test_a_target_of_zero_and_one_is_truth(write: Write, zero: str, one: str) -> None:
    found = profile(write("x,y", [(x, one if i % 3 else zero) for i, x in enumerate(noise())]), "y")
    assert (found.column("y").kind, found.target and found.target.task) == ("boolean", "binary")


@pytest.mark.parametrize(
    "texts",
    [
        ("2013-04-01", "2013-04-02"),
        ("2013-04-01 12:30", "2013-04-01 12:31:59.5"),
        ("2013-04-01T12:30:00Z", "2013-04-01T12:30:00+02:00"),
        ("2013/4/1", "2013/4/13"),
        ("01/04/2013", "30/04/2013"),
        ("04/01/2013 1:05 PM", "04/13/2013 12:00 AM"),
        ("01.04.2013", "02.04.2013 07:30"),
    ],
)
def test_times_are_written_in_many_ways(write: Write, texts: tuple[str, str]) -> None:
    assert kinds(profile(write("t,x", [(texts[i % 2], i % 7) for i in range(30)])))["t"] == "timestamp"


def test_dates_that_do_not_tell_the_day_from_the_month_stay_text_with_a_warning(write: Write) -> None:
    found = profile(write("t,x", [(f"0{i % 9 + 1}/0{i % 4 + 1}/2013", i % 7) for i in range(30)]))
    assert kinds(found)["t"] == "text"
    assert "whether the day or the month is first" in found.warnings[0]


def test_codes_keep_their_zeros_and_their_last_digits(write: Write) -> None:
    found = profile(write("zip,account,x", [(f"0{8000 + i % 9}", 10**20 + i % 9, i % 7) for i in range(40)]))
    assert kinds(found) == {"zip": "category", "account": "category", "x": "integer"}


def test_numbers_with_a_few_odd_spellings_are_kept_as_text_with_a_warning(write: Write) -> None:
    found = profile(write("a,b", [("about 5" if i == 3 else i * 3, i % 2) for i in range(60)]))
    assert kinds(found)["a"] == "text"
    assert "'about 5'" in found.warnings[0]


# --- what a column is for


def test_a_column_that_names_each_row_once_is_the_key(write: Write) -> None:
    rows = [(x, f"K{i}", i + 1000, i % 2) for i, x in enumerate(noise())]
    assert profile(write("score,label,Customer ID,y", rows), "y").key == "Customer ID"
    assert profile(write("score,label,amount,y", rows), "y").key is None
    assert profile(write("a,label,customerId,y", rows), "y").key == "customerId"


def test_a_first_column_of_codes_is_the_key(write: Write) -> None:
    assert profile(write("tail,x,y", [(f"N{i}", x, i % 2) for i, x in enumerate(noise())]), "y").key == "tail"


def test_no_key_is_made_of_repeated_or_missing_values(write: Write) -> None:
    assert profile(write("id,x", [(i % 29, x) for i, x in enumerate(noise())])).key is None
    assert profile(write("id,x", [(i or "", x) for i, x in enumerate(noise())])).key is None


def test_the_event_time_is_found_by_its_name_and_never_a_birth_date(write: Write) -> None:
    rows = [(f"19{50 + i}-01-01", f"2024-03-{1 + i % 28:02} 09:15", f"2024-04-{1 + i % 28:02}", x) for i, x in enumerate(noise())]
    time = profile(write("birth date,ordered_at,delivered_at,x", rows)).event_time
    assert time is not None
    assert (time.name, time.clock, time.test) == ("ordered_at", True, "5d")
    assert profile(write("birth date,p,q,x", rows)).event_time is None
    assert profile(write("dob,x", [(r[0], r[3]) for r in rows])).event_time is None
    assert profile(write("p,x", [(r[1], r[3]) for r in rows])).event_time is not None


def test_what_cannot_help_is_left_out_with_the_reason(write: Write) -> None:
    chance = random.Random(0)
    rows = [
        (
            i + 5,
            chance.randrange(9000),
            "",
            "same",
            f"words number {chance.random()}",
            f"2020-01-{i % 28 + 1:02}",
            chance.random(),
            chance.choice("ab"),
        )
        for i in range(80)
    ]
    found = profile(write("id,customer_id,empty,fixed,note,t,x,y", rows), "y")
    assert found.inputs == ("x",)
    assert {c.name: c.left_out for c in found.columns if c.left_out} == {
        "id": "it is the key",
        "customer_id": "it looks like an identifier",
        "empty": "every value is missing",
        "fixed": "every row has the same value",
        "note": "every value is different",
        "t": "it is the event time",
        "y": "it is the target",
    }


def test_a_column_that_tells_the_target_is_left_out(write: Write) -> None:
    chance = random.Random(0)
    rows = []
    for _ in range(60):
        y = chance.random() < 0.5
        rows.append(
            (
                round(chance.random(), 3),
                "done" if y else "open",
                chance.choice("23") if y else "",
                chance.choice("pq") if y else chance.choice("rs"),
                int(y),
            )
        )
    found = profile(write("x,state,closed,detail,y", rows), "y")
    assert found.inputs == ("x", "detail")
    assert "one to one" in reason(found, "state")
    assert "missing exactly where" in reason(found, "closed")
    assert "'detail' alone tells the target" in found.warnings[0]


def test_a_column_that_moves_exactly_with_a_number_is_left_out(write: Write) -> None:
    celsius = noise(60)
    chance = random.Random(2)
    rows = [(round(c * 1.8 + 32, 4), -c, round(chance.random(), 3), c) for c in celsius]
    found = profile(write("fahrenheit,cold,wind,celsius", rows), "celsius")
    assert found.inputs == ("wind",)


def test_tasks_follow_from_the_target(write: Write) -> None:
    rows = [(x, "abc"[i % 3], i % 5, round(x * 3, 2), i * 37 % 101, i % 2 + 1) for i, x in enumerate(noise(60))]
    path = write("x,text,small,number,large,two", rows)
    tasks = {t: found.target.task for t in ("text", "small", "number", "large", "two") if (found := profile(path, t)).target}
    assert tasks == {"text": "multiclass", "small": "multiclass", "number": "regression", "large": "regression", "two": "binary"}


def test_rare_classes_are_warned_of(write: Write) -> None:
    found = profile(write("x,y", [(x, "rare" if i == 3 else "ab"[i % 2]) for i, x in enumerate(noise())]), "y")
    assert "'rare' (1)" in found.warnings[0]


# --- what cannot be used says so


def test_every_fault_is_one_clear_sentence(write: Write, tmp_path: Path) -> None:
    good = [(x, i % 2) for i, x in enumerate(noise())]
    cases: list[tuple[Path, str, str]] = [
        (tmp_path / "no.csv", "y", "There is no file"),
        (tmp_path, "y", "is a folder"),
        (write("x,y", good), "Y ", "Did you mean 'y'?"),
        (write("income,y", good, name="b.csv"), "incom", "Did you mean 'income'?"),
        (write("x,y", good, name="c.csv"), "zzz", "It has: 'x', 'y'."),
        (write("x,y", [], name="d.csv"), "y", "a header but no rows"),
        (write("x,y", good[:19], name="e.csv"), "y", "The file has 19 rows; fewer than 20"),
        (write("x,y", [(x, 7) for x, _ in good], name="f.csv"), "y", "is always 7"),
        (write("x,y", [(x, "" if i < 30 else i % 2) for i, (x, _) in enumerate(good)], name="g.csv"), "y", "is missing in 30 of 40 rows"),
        (write("x,y,x", [(1, 2, 3)] * 30, name="h.csv"), "y", "names column 'x' twice (columns 1 and 3)"),
        (write("x,y,,", [(1, 2, "", "")] * 30, name="i.csv"), "y", "Columns 3, 4 have no name"),
        (write("x,y", [*good[:5], (1, 2, 3), *good], name="j.csv"), "y", "Line 7 has 3 fields where the header has 2"),
        (write("x,y", [*good[:5], (1,), *good], name="k.csv"), "y", "Line 7 has 1 field where"),
        (write("x,y", '"a\nb",1\n' * 20 + "c,1,2\n" + '"d",1\n' * 20, name="l.csv"), "y", "Line 42 has 3 fields"),
        (write("x,y", [*good[:5], ('"never closed', 1), *good], name="m.csv"), "y", "Line 7 has 1 field"),
        (write("x,y", [(x, f"text {i}") for i, (x, _) in enumerate(good)], name="n.csv"), "y", "is different in every row"),
        (write("x,y", [(x, f"t{i % 35}") for i, (x, _) in enumerate(good * 2)], name="o.csv"), "y", "35 different texts; at most 30"),
        (write("x,y", [(x, f"2020-01-0{1 + i % 9}") for i, (x, _) in enumerate(good)], name="p.csv"), "y", "holds times"),
        (write("x,y", [(5, i % 2) for i in range(40)], name="q.csv"), "y", "No column is left to predict from"),
        (write("row_number,y", [(x // 1, i % 2) for i, (x, _) in enumerate(good)], name="r.csv"), "y", "does not number the rows"),
    ]
    for data, name in ((b"", "0"), (b"\n \n", "1"), (b"\xef\xbb\xbf", "2")):
        (tmp_path / name).write_bytes(data)
        cases.append((tmp_path / name, "y", "The file is empty"))
    for data, name, what in (
        (b"PK\x03\x04" + bytes(90), "a.xlsx", "an Excel workbook"), (b"\x1f\x8b\x08" + bytes(50), "a.gz", "compressed with gzip"),
        (bytes(range(256)) * 9, "a.bin", "neither text nor Parquet"), (b"PAR1" + b"x" * 100, "a.parquet", "The Parquet file does not read"),
        (b'a,b\n"' + b"x" * 200_000, "b.csv2", "a quote opened and never closed"),
    ):  # fmt: skip
        (tmp_path / name).write_bytes(data)
        cases.append((tmp_path / name, "y", what))
    for path, target, sentence in cases:
        with pytest.raises(DataError) as caught:
            profile(path, target)
        assert sentence in str(caught.value), (path.name, str(caught.value))
        assert "\n" not in str(caught.value)
        assert caught.value.hint


def test_a_file_without_a_header_is_suspected(write: Write) -> None:
    found = profile(write("5.1,3.5,setosa", [(x, i % 4, "ab"[i % 2]) for i, x in enumerate(noise())]))
    assert "is it a row of data?" in found.warnings[0]


# --- the parser that every later read uses too


def test_what_does_not_read_as_declared_is_reported_with_its_row(write: Write) -> None:
    frame = read_strings(
        write("n,i,b,t,c", [["1", "2.0", "yes", "2024-01-01", " a "], ["x", "2.5", "maybe", "2024-02-30", "b"], ["", "NA", " ", "", ""]]),
        null_values=("NA",),
    )
    columns = {
        "n": Column("number"),
        "i": Column("integer"),
        "b": Column("boolean"),
        "t": Column("timestamp"),
        "c": Column("category"),
        "gone": Column("text"),
    }
    parsed, unparsed = parse_columns(frame, columns)
    assert parsed.rows() == [
        (1.0, 2, True, datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), "a"), (None, None, None, None, "b")
    ]  # fmt: skip
    assert unparsed == [
        Unparsed(1, "n", "x", "number"), Unparsed(1, "i", "2.5", "integer"),
        Unparsed(1, "b", "maybe", "boolean"), Unparsed(1, "t", "2024-02-30", "timestamp"),
    ]  # fmt: skip


def test_typed_columns_are_converted_only_where_nothing_is_lost() -> None:
    frame = pl.DataFrame({"a": [0, 1, 2], "b": [1.0, 2.5, float("nan")], "c": [1.0, float("inf"), None], "d": [True, False, None]})
    columns = {"a": Column("boolean"), "b": Column("integer"), "c": Column("number"), "d": Column("category")}
    parsed, unparsed = parse_columns(frame, columns)
    assert parsed.to_dict(as_series=False) == {"a": [False, True, None], "b": [1, None, None], "c": [1.0, None, None], "d": ["true", "false", None]}
    assert [(u.row, u.column, u.text) for u in unparsed] == [(2, "a", "2"), (1, "b", "2.5"), (1, "c", "inf")]


def test_a_frame_without_rows_parses_to_its_types() -> None:
    kinds_ = ("number", "integer", "category", "text", "boolean", "timestamp")
    parsed, unparsed = parse_columns(pl.DataFrame(schema=dict.fromkeys(kinds_, pl.String)), {k: Column(k) for k in kinds_})  # type: ignore[arg-type]
    assert parsed.dtypes == [pl.Float64, pl.Int64, pl.String, pl.String, pl.Boolean, pl.Datetime("us", "UTC")]
    assert (parsed.height, unparsed) == (0, [])
