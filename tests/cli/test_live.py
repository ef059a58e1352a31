"""The progress of a run: lines for what ended, and in a terminal what runs and waits now."""

from __future__ import annotations

import io
import os
import pty
import sys
import time
from contextlib import suppress
from typing import Any

import pytest
from rich.console import Console

from treadle.cli import live
from treadle.cli.live import Board, Lines, Live, following, painted, picture, span
from treadle.pipelines.run import Progress

WAITS = {"load": [], "score": ["load"], "best": ["score"], "ask": ["best"], "publish": ["best", "ask"]}


def board(*happened: Progress, at: float = 0.0) -> Board:
    made = Board()
    made.note(Progress("", "planned", run="run-1", waits=WAITS), at)
    for progress in happened:
        made.note(progress, at)
    return made


def lines(*happened: Progress) -> list[str]:
    stream = io.StringIO()
    shown = Lines(stream)
    for progress in (Progress("", "planned", run="run-1", waits=WAITS), *happened):
        shown.watch(progress)
    shown.close()
    return stream.getvalue().splitlines()


def test_each_thing_that_ended_is_a_line() -> None:
    assert lines(
        Progress("load", "started", reason="never ran"),
        Progress("load", "retry", 1.5, "ConnectionError: no\nmore of it"),
        Progress("load", "warning", reason="reads the clock (project.py:3)"),
        Progress("load", "done", 0.5, "never ran"),
        Progress("best", "reused"),
        Progress("ask", "waiting", reason="Publish?"),
        Progress("publish", "skipped", reason="best is not true"),
        Progress("score", "failed", 2.0, "ValueError: x"),
    ) == [
        "  ↻ load                   again in 1.5 s: ConnectionError: no",
        "  ! load                   reads the clock (project.py:3)",
        "  ✓ load                   0.50 s, never ran",
        "  = best                   not changed, reused",
        "  ? ask                    waits for an answer: Publish?",
        "  - publish                left out: best is not true",
        "  ✗ score                  2.00 s, ValueError: x",
    ]


def test_the_tasks_of_a_fan_out_are_one_line_at_its_end() -> None:
    told = lines(
        Progress("score", "started", reason="score in project changed", tasks=40),
        *(Progress(f"score[{i}]", "reused") for i in range(2)),
        *(Progress(f"score[{i}]", "done", 0.1) for i in range(2, 40)),
        Progress("score", "done", 4.0, "score in project changed"),
    )
    assert told == ["  ✓ score                  4.00 s, 40 tasks, 38 done, 2 reused, score in project changed"]


def test_of_many_retries_in_a_fan_out_only_the_first_are_told_one_by_one_and_failures_always() -> None:
    told = lines(
        Progress("score", "started", tasks=40),
        *(Progress(f"score[{i}]", "retry", 1.0, "no") for i in range(20)),
        Progress("score[7]", "failed", 1.0, "no"),
    )
    assert len(told) == 7
    assert told[-2] == "  ✗ score[7]               1.00 s, no"
    assert told[-1] == "  ✗ score                  40 tasks, 1 failed, 20 retries"


def test_a_step_that_is_named_like_a_task_is_a_step() -> None:
    made = Board()
    made.note(Progress("", "planned", waits={"a": [], "a[1]": []}), 0.0)
    made.note(Progress("a", "started", tasks=3), 0.0)
    assert made.note(Progress("a[1]", "done", 1.0), 0.0) == ["  ✓ a[1]                   1.00 s"]


def test_what_runs_and_what_waits_for_what() -> None:
    now = board(
        Progress("load", "done", 1.0), Progress("score", "started", tasks=40),
        *(Progress(f"score[{i}]", "done", 1.0) for i in range(3)), Progress("score[4]", "retry", 1.0, "no"),
    ).now(75.0)  # fmt: skip
    assert now == [
        ("▸", "score", "1 min 15 s", "3/40, 1 tried again"),
        ("·", "best", "", "waits for score"),
        ("·", "ask", "", "waits for best"),
        ("·", "publish", "", "waits for best, ask"),
    ]
    rows = board(*(Progress(s, "done", 1.0) for s in ("load", "score", "best")), Progress("ask", "waiting")).now(1.0)
    assert rows == [("·", "publish", "", "waits for ask, which waits for an answer")]
    assert len(board().now(0.0, most=3)) == 3
    assert board().now(0.0, most=3)[-1][1] == "and 3 more"


def test_a_step_that_says_how_far_it_is_stands_with_that_and_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    far = [Progress("load", "note", reason=f"{n:,} rows read") for n in (1_000, 2_000)]
    assert board(Progress("load", "started", reason="never ran"), *far).now(3.0)[0] == ("▸", "load", "3 s", "2,000 rows read")
    assert lines(Progress("load", "started"), *far) == []
    monkeypatch.setattr(live, "NOTES", 0.0)
    assert lines(Progress("load", "started"), *far) == ["  · load                   1,000 rows read", "  · load                   2,000 rows read"]


def test_the_picture_in_a_terminal() -> None:
    made = board(Progress("load", "reused"), Progress("score", "started", tasks=40), *(Progress(f"score[{i}]", "done", 1.0) for i in range(3)))
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(picture(made.now(12.0), made.total(12.0)))
    text = [line.rstrip() for line in console.export_text().splitlines()]
    assert text == [
        "  ▸ score                   12 s  3/40",
        "  · best                          waits for score",
        "  · ask                           waits for best",
        "  · publish                       waits for best, ask",
        "  1 of 5 steps (1 reused), 12 s",
    ]


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (59.9, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_spans(seconds: float, said: str) -> None:
    assert span(seconds) == said


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_is_gone_does_not_stop_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream in (Gone(), None):
        monkeypatch.setattr(sys, "stderr", stream)
        with following() as watch:
            if watch is not None:
                watch(Progress("", "planned", waits=WAITS))
                watch(Progress("load", "done", 1.0))
    with following(quiet=True) as watch:
        assert watch is None


def read_all(end: int) -> str:
    os.set_blocking(end, False)
    data = b""
    while True:
        try:
            piece = os.read(end, 65536)
        except BlockingIOError:
            return data.decode()
        data += piece


def test_a_terminal_shows_what_runs_and_keeps_only_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(live, "PATIENCE", 0.05)
    here, there = pty.openpty()
    with os.fdopen(there, "w") as stream:
        shown = Live(stream)
        shown.watch(Progress("", "planned", waits=WAITS))
        shown.watch(Progress("load", "started", reason="never ran"))
        time.sleep(0.6)
        first = read_all(here)
        assert "▸ load" in first
        assert "waits for load" in first
        shown.watch(Progress("load", "done", 0.6, "never ran"))
        shown.close()
        rest = read_all(here)
        assert rest.rstrip().endswith("✓ load                   0.60 s, never ran")
    os.close(here)


def test_a_terminal_that_closes_or_takes_nothing_does_not_hold_the_run_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PATIENCE", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    here, there = pty.openpty()
    stream = os.fdopen(there, "w")
    shown = Live(stream)
    shown.watch(Progress("", "planned", waits=WAITS))
    time.sleep(0.6)
    os.close(here)
    for _ in range(3):
        shown.watch(Progress("load", "done", 0.6, "never ran"))
        time.sleep(0.3)
    shown.close()
    with suppress(OSError):
        stream.close()


def test_colours_can_be_had_without(monkeypatch: pytest.MonkeyPatch) -> None:
    line: Any = "  ✓ load"
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert painted(line) == "  \033[32m✓\033[0m load"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted(line) == line
