"""Identifiers sort by time and stay within a grammar that is safe in a path, a URL and a shell."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core import ids
from treadle.core.errors import UsageError
from treadle.core.ids import base32, check_id, new_id


def test_a_new_id_follows_the_grammar_that_is_checked() -> None:
    made = [new_id("run") for _ in range(200)]
    assert [check_id(id) for id in made] == made
    assert len(set(made)) == 200


def test_ids_sort_by_the_moment_they_were_made(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = [0, 1, 31, 32, 999, 10**6, 1_700_000_000_000, 2**49]
    made = []
    for milliseconds in moments:
        monkeypatch.setattr(ids.time, "time_ns", lambda milliseconds=milliseconds: milliseconds * 1_000_000)
        made.append(new_id("run"))
    assert made == sorted(made)


@given(st.integers(0, 32**8 - 1), st.integers(0, 32**8 - 1))
def test_base_32_keeps_the_order_of_numbers(left: int, right: int) -> None:
    assert (base32(left, 8) < base32(right, 8)) == (left < right)
    assert len(base32(left, 8)) == 8


@pytest.mark.parametrize("text", ["a", "late-arrival", "late_arrival.v3", "run-0mf2k8x1c3-7q4d9a", "a" * 200])
def test_words_joined_by_marks_are_ids(text: str) -> None:
    assert check_id(text) == text


@pytest.mark.parametrize(
    "text", ["", "A", "1a", "-a", "a-", "a--b", "a b", "a/b", "../a", "a\n", "a;rm", "ä", "a\0", "a" * 201, "a%2f", "$(a)", "٣a", "a٣"]
)
def test_anything_else_is_refused_with_what_to_write_instead(text: str) -> None:
    with pytest.raises(UsageError, match="is not a valid prediction id") as caught:
        check_id(text, "prediction id")
    assert caught.value.hint == "Use lower-case letters and digits, joined by '-', '_' or '.'."
    assert len(str(caught.value)) < 200


@given(st.text(max_size=300))
def test_no_text_passes_that_a_shell_or_a_path_could_read_otherwise(text: str) -> None:
    try:
        check_id(text)
    except UsageError:
        return
    assert re.fullmatch(r"[a-z0-9._-]{1,200}", text)
    assert ".." not in text
    assert not text.startswith("-")
