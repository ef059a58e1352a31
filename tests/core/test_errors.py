"""Errors say what, where and what to do; their kinds are told apart by code and exit status; they survive a process boundary."""

from __future__ import annotations

import inspect
import pickle

import pytest

from treadle.core import errors
from treadle.core.errors import InvalidRequest, TreadleError

KINDS = [v for v in vars(errors).values() if inspect.isclass(v) and issubclass(v, TreadleError)]


def test_every_kind_has_a_code_of_its_own() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_kinds_of_trouble_that_a_script_must_tell_apart_have_exit_codes_of_their_own() -> None:
    named = {
        errors.UsageError: 2, errors.DataError: 3, errors.Refused: 4, errors.NotFound: 5, errors.Conflict: 6, errors.StorageError: 7,
        errors.Unavailable: 8, errors.Cancelled: 130,
    }  # fmt: skip
    assert {kind: kind.exit_code for kind in named} == named
    assert all(0 < kind.exit_code < 256 for kind in KINDS)


def test_only_what_may_pass_by_itself_is_tried_again() -> None:
    assert [kind for kind in KINDS if kind.transient] == [errors.TooMany, errors.Unavailable, errors.Transient]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_through_a_process_boundary_whole(kind: type[TreadleError]) -> None:
    error = kind("The disk is full.", where="step 'train'", hint="Free some space.")
    if isinstance(error, InvalidRequest):
        error.fields = {"origin": "is missing"}
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert (back.what, back.where, back.hint, back.code) == (error.what, error.where, error.hint, error.code)
    assert str(back) == str(error) == "step 'train': The disk is full. Free some space."
    assert getattr(back, "fields", None) == getattr(error, "fields", None)


def test_an_error_without_place_and_hint_is_its_sentence() -> None:
    assert str(TreadleError("It failed.")) == "It failed."
