"""The progress of a run as it happens: a line for each thing that ended, and in a terminal, below them, what runs and waits now.

The lines are the same with and without a terminal. What is below them is drawn again once a second, by a thread of its own; rich is loaded only
when a run lasts long enough for that. Whatever happens to the terminal, the run goes on.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO

from treadle.pipelines.run import Progress

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

Watch = Callable[[Progress], None]
_TASK = re.compile(r"(.+)\[\d+\]")
_MARKS = {
    "done": "✓", "reused": "=", "failed": "✗", "rejected": "✗", "cancelled": "✗", "interrupted": "✗", "skipped": "-", "waiting": "?", "retry": "↻",
    "warning": "!",
}  # fmt: skip
_COLORS = {"✓": "32", "✗": "31", "?": "33", "↻": "33", "!": "33", "=": "2", "-": "2"}
_TOLD = 5  # retries and warnings of one fan-out's tasks that are told one by one
PATIENCE = 0.5  # seconds a run must last before anything but lines is drawn
EVERY = 1.0  # seconds between two drawings where nothing happened
NOTES = 15.0  # seconds between two lines about a step that goes on
_SOON = 0.2  # seconds that lines may wait for each other


@dataclass
class _Fan:
    tasks: int
    done: int = 0
    reused: int = 0
    failed: int = 0
    retries: int = 0
    warnings: int = 0

    def ended(self) -> str:
        parts = [f"{count:,} {word}" for count, word in ((self.done, "done"), (self.reused, "reused"), (self.failed, "failed")) if count]
        again = f", {self.retries:,} retr{'y' if self.retries == 1 else 'ies'}" if self.retries else ""
        return f"{self.tasks:,} task{'' if self.tasks == 1 else 's'}" + (f", {', '.join(parts)}" if parts else "") + again


@dataclass
class Board:
    """What is known of a run from its progress so far. Not for several threads at once."""

    run: str = ""
    waits: Mapping[str, Sequence[str]] = field(default_factory=dict)
    begun: float = 0.0
    running: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    fans: dict[str, _Fan] = field(default_factory=dict)

    def note(self, p: Progress, now: float) -> list[str]:
        """Take in what happened; returns the lines that say so, without an end."""
        if p.state == "planned":
            self.__init__(p.run, p.waits, now)  # type: ignore[misc]
            return []
        task = _TASK.fullmatch(p.step)
        fan = self.fans.get(task[1]) if task is not None and p.step not in self.waits else None
        if fan is not None:
            return self._note_task(p, fan)
        if p.state == "started":
            self.running[p.step] = now
            self.again.pop(p.step, None)
            self.reasons[p.step] = p.reason
            if p.tasks:
                self.fans[p.step] = _Fan(p.tasks)
            return []
        if p.state == "note":
            self.reasons[p.step] = p.reason
            return []
        if p.state == "retry":
            self.running.pop(p.step, None)
            self.again[p.step] = now + p.seconds
        elif p.state != "warning":
            self.running.pop(p.step, None)
            self.again.pop(p.step, None)
            self.ended[p.step] = p.state
        return [_line(p.step, p.state, self._said(p))]

    def _note_task(self, p: Progress, fan: _Fan) -> list[str]:
        if p.state in ("done", "reused", "failed"):
            setattr(fan, p.state, getattr(fan, p.state) + 1)
        if p.state == "retry":
            fan.retries += 1
        if p.state == "warning":
            fan.warnings += 1
        told = p.state == "failed" or (p.state == "retry" and fan.retries <= _TOLD) or (p.state == "warning" and fan.warnings <= _TOLD)
        return [_line(p.step, p.state, self._said(p))] if told else []

    def _said(self, p: Progress) -> str:
        fan = self.fans.get(p.step)
        reason = next(iter(p.reason.splitlines()), "")
        if p.state == "reused":
            return "not changed, reused"
        if p.state == "done" and not p.seconds and p.reason == "done before in this run":
            return p.reason
        if p.state == "skipped":
            return f"left out: {reason}"
        if p.state == "waiting":
            return f"waits for an answer: {reason}"
        if p.state == "retry":
            return f"again in {p.seconds:.1f} s: {reason}" if p.seconds else f"again: {reason}"
        if p.state in ("done", "failed"):
            counted = f", {fan.ended()}" if fan is not None else ""
            return f"{p.seconds:.2f} s{counted}" + (f", {reason}" if reason else "")
        return reason

    def left(self) -> list[str]:
        """Fan-outs that are not going to end, because the run has: a line each."""
        return [_line(name, "failed" if fan.failed else "cancelled", fan.ended()) for name, fan in self.fans.items() if name not in self.ended]

    def now(self, now: float, most: int = 12) -> list[tuple[str, str, str, str]]:
        """What runs and waits: (mark, step, time, note), at most `most` of them, what runs first."""
        rows = []
        for name, since in self.running.items():
            fan = self.fans.get(name)
            counter = f"{fan.done + fan.reused}/{fan.tasks}" + (f", {fan.reused} reused" if fan.reused else "") if fan is not None else ""
            if fan is not None and fan.retries:
                counter += f", {fan.retries} tried again"
            rows.append(("▸", name, span(now - since), counter or self.reasons.get(name, "")))
        rows += [("↻", name, "", f"again in {max(0.0, due - now):.0f} s") for name, due in self.again.items()]
        for name, needs in self.waits.items():
            if name in self.running or name in self.ended or name in self.again:
                continue
            open_ = [need for need in dict.fromkeys(needs) if self.ended.get(need) not in ("done", "reused", "skipped")]
            stuck = next((need for need in open_ if need in self.ended), None)
            more = f" and {len(open_) - 3} more" if len(open_) > 3 else ""
            note = f"waits for {', '.join(open_[:3])}{more}" if open_ else "waits for a free place"
            if stuck is not None:
                note = f"waits for {stuck}, which {'waits for an answer' if self.ended[stuck] == 'waiting' else self.ended[stuck]}"
            rows.append(("·", name, "", note))
        if len(rows) > most:
            rows = [*rows[: most - 1], ("·", f"and {len(rows) - most + 1} more", "", "")]
        return rows

    def total(self, now: float) -> str:
        """One line about the whole run."""
        counts = {word: sum(state == word for state in self.ended.values()) for word in ("done", "reused", "failed", "skipped", "waiting")}
        said = ", ".join(f"{n} {'left out' if word == 'skipped' else word}" for word, n in counts.items() if n)
        return f"{len(self.ended)} of {len(self.waits)} steps{f' ({said})' if said else ''}, {span(now - self.begun)}"


def span(seconds: float) -> str:
    """'7 s', '3 min 20 s', '2 h 5 min'"""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"


def _line(step: str, state: str, note: str) -> str:
    mark = _MARKS["reused"] if state == "done" and note == "done before in this run" else _MARKS.get(state, "·")
    return f"  {mark} {step:<22} {note}".rstrip()


class Lines:
    """Lines on a stream, for logs and pipes."""

    def __init__(self, stream: TextIO, *, color: bool = False) -> None:
        self._stream, self._color, self._board = stream, color, Board()
        self._noted = time.monotonic()

    def watch(self, progress: Progress) -> None:
        """Tell it. Of a step that says how far it is, a line now and then."""
        now = time.monotonic()
        lines = self._board.note(progress, now)
        if progress.state == "note" and now - self._noted >= NOTES:
            self._noted, lines = now, [_line(progress.step, "note", progress.reason)]
        self.write(lines)

    def write(self, lines: Sequence[str]) -> None:
        if not lines:
            return
        with suppress(OSError, ValueError):  # the stream is gone, or closed: the run is what counts
            self._stream.write("".join(f"{painted(line) if self._color else line}\n" for line in lines))
            self._stream.flush()

    def close(self) -> None:
        """The run has ended."""
        self.write(self._board.left())


class Live:
    """Lines in a terminal, and below them what runs and waits now."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._lines = stream, Lines(stream, color=colored())
        self._board = Board()
        self._lock = threading.Lock()
        self._pending: list[str] = []
        self._live: Any = None
        self._drawn = time.monotonic()
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self._broken = False
        self._thread = threading.Thread(target=self._draw_on, name="progress", daemon=True)
        self._thread.start()

    def watch(self, progress: Progress) -> None:
        """Note it; it is drawn with what follows within a moment."""
        with self._lock:
            lines = self._board.note(progress, time.monotonic())
            if self._live is None:
                self._lines.write(lines)
            else:
                self._pending += lines

    def close(self) -> None:
        """The run has ended: what is not true any more is wiped away, the lines stay."""
        self._stop.set()
        self._thread.join(2.0)
        with self._lock:
            lines = [*self._pending, *self._board.left()]
            self._pending = []
            if self._live is not None:
                with suppress(Exception):
                    self._live.stop()
            self._lines.write(lines)

    def _draw_on(self) -> None:
        while not self._stop.wait(_SOON if self._live is not None else PATIENCE):
            try:
                self._draw()
            except Exception:  # the terminal went away, or is none: lines will do, as long as they can be written
                with self._lock:
                    self._live, self._broken = None, True
                    self._lines.write(self._pending)
                    self._pending = []
                return

    def _draw(self) -> None:
        now = time.monotonic()
        with self._lock:
            if not self._board.waits or (self._live is not None and not self._pending and now - self._drawn < EVERY):
                return
        if self._live is None:
            opened = self._opened()
            with self._lock:
                self._live = opened
        console: Console = self._live.console
        with self._lock:
            lines, self._pending, self._drawn = self._pending, [], now
            rows, total = self._board.now(now, max(3, min(14, console.height - 4))), self._board.total(now)
        # Written without the lock: a terminal that takes nothing (Ctrl-S) must not stop the run.
        self._live.update(picture(rows, total), refresh=not lines)
        if lines:
            from rich.text import Text

            console.print(Text.from_ansi("\n".join(painted(line) for line in lines)), soft_wrap=True)  # which draws what is below anew, too

    def _opened(self) -> Any:
        from rich.console import Console
        from rich.live import Live as RichLive

        console = Console(file=self._stream)
        if console.is_dumb_terminal or not console.is_terminal:
            raise OSError("nothing can be drawn here")
        live = RichLive(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        live.start()
        return live


def picture(rows: Sequence[tuple[str, str, str, str]], total: str) -> RenderableType:
    """What runs and waits now (as `Board.now` and `Board.total` say it), for rich."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(no_wrap=True, overflow="ellipsis")
    for mark, name, took, note in rows:
        style = {"▸": "cyan", "↻": "yellow"}.get(mark, "dim")
        grid.add_row(Text(f"  {mark} {name:<22}", style=style), Text(took), Text(note, style="dim"))
    return Group(grid, Text(f"  {total}", style="bold"))


def painted(line: str) -> str:
    """A line with its mark in colour."""
    mark = line[2:3]
    return f"  \033[{_COLORS[mark]}m{mark}\033[0m{line[3:]}" if mark in _COLORS and colored() else line


def colored() -> bool:
    """Whether the user did not ask for text without colours."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@contextmanager
def following(quiet: bool = False) -> Iterator[Watch | None]:
    """Something to hand to a run as `watch`, on standard error; None if nothing is to be shown."""
    if quiet or sys.stderr is None:  # none where the process was started with it closed
        yield None
        return
    try:
        terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    except (OSError, ValueError):
        terminal = False
    shown: Live | Lines = Live(sys.stderr) if terminal else Lines(sys.stderr)
    try:
        yield shown.watch
    finally:
        shown.close()
