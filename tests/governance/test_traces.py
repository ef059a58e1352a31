"""Traces of a person are found wherever bytes can hide them, and nothing else is taken for one."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.governance.traces import ERASED, Marks, files

ADA = Marks(("cust-0042", "Adalind Quarrowby", "ümlaut@example.org"), frozenset({"customer"}))


def parquet(compression: str = "zstd", **columns: object) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(columns).write_parquet(out, compression=compression, statistics=False)  # type: ignore[arg-type]
    return out.getvalue()


def zipped(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", data)
    return out.getvalue()


LINES = b"nothing here\n" * 200

PLACES = {
    "plain": LINES + b"cust-0042",
    "utf-16": LINES + "Adalind Quarrowby".encode("utf-16-le"),
    "utf-16 big": LINES + "Adalind Quarrowby".encode("utf-16-be"),
    "utf-32": LINES + "cust-0042".encode("utf-32"),
    "numpy": pickle.dumps(np.array(["cust-0042", "cust-0043"])),
    "pickle": pickle.dumps({"who": ["ümlaut@example.org"]}),
    "json escapes": json.dumps({"mail": "ümlaut@example.org"}).encode(),
    "gzip": gzip.compress(LINES + b"cust-0042"),
    "zip": zipped(LINES + b"cust-0042"),
    "gzip in zip": zipped(gzip.compress(b"cust-0042")),
    "parquet": parquet(customer=[f"cust-{n:04d}" for n in range(5_000)]),
    "parquet in zip": zipped(parquet(note=["x", "by Adalind Quarrowby, on Monday"])),
    "parquet list": parquet(customer=[["a"], ["b", "cust-0042"]]),
    "parquet category": parquet(customer=pl.Series(["cust-0042", "b"], dtype=pl.Categorical)),
}


@pytest.mark.parametrize("name", PLACES)
def test_it_is_found(name: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(PLACES[name])
    assert ADA.in_file(path)
    assert ADA.in_content(PLACES[name])


def test_the_raw_bytes_of_compressed_pages_do_not_show_it() -> None:
    assert b"cust-0042" not in PLACES["parquet"], "else the test above would say nothing about pages"


def test_others_are_not_taken_for_the_person(tmp_path: Path) -> None:
    for data in (LINES, b"cust-004", parquet(customer=["cust-0043"]), zipped(LINES), b"", b"PAR1 broken", b"PK\x03\x04 broken", b"\x1f\x8b broken"):
        path = tmp_path / "file"
        path.write_bytes(data)
        assert not ADA.in_file(path)
        assert not ADA.in_content(data)


def test_an_id_that_is_part_of_another_counts_where_it_stands_alone() -> None:
    marks = Marks(("cust-1",), crowded=frozenset({"cust-1"}))
    assert not marks.in_bytes(b"cust-12 and cust-100")
    assert marks.in_bytes(b"cust-12 and cust-1, too")
    assert marks.blot("cust-12, cust-1") == f"cust-12, {ERASED}"


def test_a_short_number_counts_only_as_the_value_of_a_column_that_names_persons() -> None:
    marks = Marks(("17",), frozenset({"customer"}))
    assert marks.weak
    assert not marks.in_bytes(b"2026-11-17, 17 rows, id=17")
    assert marks.in_bytes(b'{"customer": 17, "x": 1}')
    assert marks.in_content(parquet(customer=[16, 17]))
    assert marks.in_content(parquet(customer=["17 "]))
    assert not marks.in_content(parquet(rows=[17], customer=[170]))
    assert marks.blot("17 rows on 2026-11-17") == "17 rows on 2026-11-17"
    assert marks.blotted({"customer": 17, "rows": 17, "at": "2026-11-17"}) == {"customer": None, "rows": 17, "at": "2026-11-17"}


def test_records_are_blacked_out_in_values_and_keys() -> None:
    body = {"error": "no row of cust-0042 fits", "by": {"Adalind Quarrowby": [1, "cust-0042", "cust-00421"]}, "n": 3}
    assert ADA.blotted(body) == {"error": f"no row of {ERASED} fits", "by": {ERASED: [1, ERASED, f"{ERASED}1"]}, "n": 3}


def test_the_texts_are_in_no_representation() -> None:
    assert "Quarrowby" not in repr(ADA)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=5, max_size=20).filter(lambda t: t.strip() == t), st.binary(max_size=60), st.binary(max_size=60))
def test_any_text_is_found_in_any_surroundings_and_gone_after_blotting(text: str, before: bytes, after: bytes) -> None:
    marks = Marks((text,))
    if marks.weak or marks._alone(text):
        return
    for encoding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
        assert marks.in_bytes(before + text.encode(encoding) + after)
    assert not marks.in_text(marks.blot(f"x {text} y")) or text in ERASED


def test_files_are_listed_without_links_and_without_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_text("")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [p.name for p in files(tmp_path)] == ["one", "two"]
    assert [p.name for p in files(tmp_path, leave_out=[tmp_path / "b"])] == ["one"]
    assert list(files(tmp_path / "none")) == []
