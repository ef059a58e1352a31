"""A console as people have it: the real process of `treadle console`, and Debian's Chromium without a window before it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE = 60.0  # seconds until a process that does not end is killed


class Console:
    """The process of a project's console. `base` is its address, `link` the one-time link that it printed.

    Args:
        port: where it listens; a free one if 0.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        environment = {**os.environ, "TREADLE_THREADS": "1"}
        command = [sys.executable, "-m", "treadle.cli.main", "-C", str(folder), "console", "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("console: http://"):
            raise AssertionError(line + self._process.stdout.read())
        self.link = line.split()[1]
        self.base = self.link.partition("/sign-in/")[0]
        self.port = int(self.base.rpartition(":")[2])
        for _ in range(int(PATIENCE * 10)):  # it prints before it listens
            try:
                with urllib.request.urlopen(self.base + "/health"):
                    return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise AssertionError("the console does not answer")

    def stop(self) -> None:
        """Tell it to stop, and wait until it has."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


@contextmanager
def console(folder: Path) -> Iterator[Console]:
    """The console of a project, until the block ends."""
    made = Console(folder)
    try:
        yield made
    finally:
        made.stop()


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser of playwright, until the block ends."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
