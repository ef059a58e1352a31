"""The tour is true: each of its console blocks is typed as written, and what comes back is what it says.

Lines with `$ ` are typed into one shell, `> ` goes on with the line before. What follows is the expected output: `...` in a line stands for any text,
a line that is only `...` for any number of lines. A command must succeed unless the next one is `echo $?`. The port of the tour is replaced by a free one.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from treadle.serving.address import free_port

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour.md"
PORT = "8765"
MARK = "<<treadle tour>>"
SECONDS = 120.0


def steps(text: str) -> list[tuple[int, str, list[str]]]:
    """(line number, command, expected output lines) of every console block."""
    found: list[tuple[int, str, list[str]]] = []
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            inside = line == "```console"
        elif inside and line.startswith("$ "):
            found.append((number, line[2:], []))
        elif inside and line.startswith("> ") and not found[-1][2]:
            found[-1] = (found[-1][0], f"{found[-1][1]}\n{line[2:]}", [])
        elif inside:
            found[-1][2].append(line)
    return found


def matches(expected: list[str], got: list[str]) -> bool:
    """Whether the output is what was expected, `...` standing for anything.

    >>> matches(["a...c", "...", "z"], ["abc", "x", "y", "z"]), matches(["a"], ["a", "b"])
    (True, False)
    """
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"\n" for line in expected)
    return re.fullmatch(pattern, "".join(line.rstrip() + "\n" for line in got)) is not None


class Shell:
    """One shell that keeps its folder, as a reader's does."""

    def __init__(self, folder: Path) -> None:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TREADLE_")} | {"PATH": path}
        self._process = subprocess.Popen(
            ["sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder, env=environment, text=True, bufsize=1
        )

    def type(self, command: str) -> tuple[int, list[str]]:
        """The exit code of a command and the lines it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        late = threading.Timer(SECONDS, self._process.kill)
        late.start()
        # Braces keep `cd` and `$?` in this shell; the command must not read what is typed next.
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\ntreadle_code=$?; printf '\\n{MARK}%d\\n' $treadle_code; (exit $treadle_code)\n")
        self._process.stdin.flush()
        lines: list[str] = []
        for line in self._process.stdout:
            if line.startswith(MARK):
                late.cancel()
                return int(line.removeprefix(MARK)), lines[:-1] if lines and not lines[-1] else lines
            lines.append(line.rstrip("\n"))
        raise AssertionError(f"The shell ended in {command!r}; it said:\n" + "\n".join(lines))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    opened = Shell(tmp_path)
    yield opened
    opened.type("treadle stop || true")  # an endpoint that a failed tour left behind
    opened.close()


@pytest.mark.story
def test_what_the_tour_says_is_what_happens(shell: Shell) -> None:
    port = str(free_port("127.0.0.1"))
    script = steps(TOUR.read_text("utf-8").replace(PORT, port))
    assert len(script) >= 10
    for i, (line, command, expected) in enumerate(script):
        code, got = shell.type(command)
        said = f"docs/tour.md:{line}: $ {command}\n" + "\n".join(got)
        assert matches(expected, got), f"{said}\n--- expected\n" + "\n".join(expected)
        asked = i + 1 < len(script) and script[i + 1][1] == "echo $?"
        assert code == 0 or asked, f"{said}\n--- exit code {code}"
