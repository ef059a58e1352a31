"""What is recommended follows from what is needed and what was measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.serving.modes import Measured, Needs, choices

MEASURED = Measured(80.0, 200.0, 300_000.0, 200_000, 150_000_000, 0.8, "onnx", 3)


@pytest.mark.parametrize(
    ("needs", "mode"),
    [
        (Needs(100, 1e6), "real-time"),
        (Needs(3.6e6, 1e7, arrives="schedule"), "batch"),
        (Needs(500, 1e7, arrives="stream"), "streaming"),
        (Needs(5, 1e4, connected="always"), "edge"),  # no network answers within 5 ms
        (Needs(100, 1e4, connected="sometimes"), "edge"),
    ],
)
def test_the_way_rows_come_and_answers_are_needed_decides(needs: Needs, mode: str) -> None:
    best = choices(needs, MEASURED)[0]
    assert (best.mode, best.can) == (mode, True)
    assert best.reasons


def test_where_nothing_fits_that_is_said_with_the_reasons() -> None:
    found = choices(Needs(100, 1e4, connected="never"), MEASURED)  # its features are looked up, and there is nothing to ask
    assert not any(c.can for c in found)
    assert any("looked up in the online store" in reason for c in found for reason in c.reasons)
    assert choices(Needs(100, 1e4, connected="never"), replace(MEASURED, views=0))[0].mode == "edge"
    assert not choices(Needs(100, 1e4, connected="never"), replace(MEASURED, views=0, format="skops"))[0].can
    assert not choices(Needs(100, 1e4, connected="never", device_memory=300_000), replace(MEASURED, views=0))[0].can


def test_more_rows_a_second_than_the_cores_answer_are_no_real_time() -> None:
    found = {c.mode: c for c in choices(Needs(1_000, 1e9, peak=50_000), MEASURED)}
    assert not found["real-time"].can
    assert found["real-time"].reasons[-1] == "that is more than the 2 cores there are"


_needs = st.builds(
    Needs, st.floats(0.1, 1e8), st.floats(1, 1e10), st.floats(0, 1e6), st.sampled_from(["request", "schedule", "stream"]),
    st.sampled_from(["always", "sometimes", "never"]), st.sampled_from([0.0, 1e5, 1e9]), st.integers(1, 64),
)  # fmt: skip


@given(needs=_needs)
def test_every_mode_is_judged_with_reasons_and_what_can_comes_first(needs: Needs) -> None:
    found = choices(needs, MEASURED)
    assert sorted(c.mode for c in found) == ["batch", "edge", "real-time", "streaming"]
    assert all(c.reasons for c in found)
    assert [c.can for c in found] == sorted((c.can for c in found), reverse=True)


@given(needs=_needs)
def test_allowing_more_time_never_rules_a_way_out(needs: Needs) -> None:
    before = {c.mode: c.can for c in choices(needs, MEASURED)}
    after = {c.mode: c.can for c in choices(replace(needs, latency=needs.latency * 3), MEASURED)}
    assert all(after[mode] for mode, can in before.items() if can)
