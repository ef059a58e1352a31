"""The process around an endpoint's workers: it holds the address, starts them, and replaces one that dies, hangs or grows too large.

Started by `treadle deploy` as `python -m treadle.web.workers`; the workers are `python -m treadle.web.server`. Each worker has a listening socket
of its own on the one address, and the kernel spreads connections over them (SO_REUSEPORT). The sockets belong to this process and are handed down:
while a worker is replaced, connections wait in its socket instead of being refused.

A worker writes a byte into a pipe several times a second. One that is silent for longer than a request may take is killed; what it had
acknowledged is in the prediction log. SIGTERM lets the workers finish what they answer. If this process dies, the workers notice and leave too.

SIGUSR2 asks for more: a switch (a rollback, a stop) is waited for, so a worker that is silent for a second is replaced at once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NoReturn

BEAT = 0.25  # seconds between the bytes of a worker
START_SECONDS = 60.0  # until the first
LONGEST_PAUSE = 10.0  # between two starts of a worker that ends at once
SETTLED = 5.0  # seconds after which a worker counts as one that works
AWAKE = 1.0  # seconds without a byte that are too many when a switch is waited for


@dataclass
class Worker:
    """One place for a worker, and who has it now."""

    index: int
    listening: socket.socket
    process: subprocess.Popen[bytes] | None = None
    pipe: int = -1
    last: float = 0.0  # when it was heard
    begun: float = 0.0
    ready: bool = False
    leaving: bool = False
    failures: int = 0
    again: float = field(default=0.0)  # not to be started before


class Workers:
    """Starts and watches the workers of one endpoint.

    Args:
        command: of a worker; `--index`, `--descriptor` and `--pipe` are added.
        silence: seconds without a byte after which a worker is killed.
        memory: bytes of a worker's memory above which it is replaced; 0 for any.
    """

    def __init__(self, host: str, port: int, count: int, command: Sequence[str], silence: float, memory: int = 0, grace: float = 15.0) -> None:
        self._command, self._silence, self._memory, self._grace = list(command), silence, memory, grace
        self._selector = selectors.DefaultSelector()
        self._stopping = self._ever = self._switching = False
        self._workers = [Worker(i, listen(host, port, count > 1)) for i in range(count)]

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a worker cannot be started the first time; the exit code."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGUSR2, self._switch)
        wake, woken = os.pipe()
        for end in (wake, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken)
        self._selector.register(wake, selectors.EVENT_READ)
        next_look = 0.0
        while not self._stopping:
            now = time.monotonic()
            for worker in self._workers:
                if worker.process is None and now >= worker.again:
                    self._start(worker)
            for key, _ in self._selector.select(BEAT):
                if key.fd == wake:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake, 4096)
                else:
                    self._hear(key.data)
            code = self._look(time.monotonic())
            if code is not None:
                self._end()
                return code
            if self._memory and time.monotonic() >= next_look:
                next_look = time.monotonic() + 1
                self._weigh()
        return self._end()

    def _start(self, worker: Worker) -> None:
        pipe, theirs = os.pipe()
        os.set_blocking(pipe, False)
        descriptor = worker.listening.fileno()
        added = ["--index", str(worker.index), "--descriptor", str(descriptor), "--pipe", str(theirs)]
        worker.process = subprocess.Popen([*self._command, *added], pass_fds=(descriptor, theirs), stdin=subprocess.DEVNULL)
        os.close(theirs)
        worker.pipe, worker.ready, worker.leaving, worker.begun = pipe, False, False, time.monotonic()
        worker.last = worker.begun
        self._selector.register(pipe, selectors.EVENT_READ, worker)

    def _hear(self, worker: Worker) -> None:
        with contextlib.suppress(BlockingIOError):
            if os.read(worker.pipe, 4096):
                worker.last, worker.ready, self._ever = time.monotonic(), True, True
            else:  # it has closed its end: it is ending
                self._selector.unregister(worker.pipe)

    def _look(self, now: float) -> int | None:
        """Replace who has ended or is silent; an exit code when nothing can come of it."""
        for worker in self._workers:
            process = worker.process
            if process is None:
                continue
            code = process.poll()
            if code is None:
                if now - worker.last > (START_SECONDS if not worker.ready else AWAKE if self._switching else self._silence):
                    say(f"worker {worker.index} (process {process.pid}) was silent for {now - worker.last:.1f} s and is killed")
                    process.kill()
                    process.wait()
                else:
                    continue
            if not self._ever:  # the first one says why it cannot
                return process.returncode if process.returncode and process.returncode > 0 else 1
            self._forget(worker)
            worker.failures = 0 if now - worker.begun > SETTLED else worker.failures + 1
            worker.again = now + (min(LONGEST_PAUSE, 0.1 * 2**worker.failures) if worker.failures > 1 else 0.0)
            say(f"worker {worker.index} (process {process.pid}) ended with {process.returncode} and is started again")
        self._switching = False
        return None

    def _weigh(self) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.ready and not worker.leaving and resident(worker.process.pid) > self._memory:
                say(f"worker {worker.index} (process {worker.process.pid}) takes more than {self._memory / 1e6:.0f} MB and is replaced")
                worker.process.send_signal(signal.SIGUSR1)  # finish, and say nothing: another one takes the place
                worker.leaving = True

    def _forget(self, worker: Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.pipe)
        os.close(worker.pipe)
        worker.process, worker.pipe = None, -1

    def _end(self) -> int:
        """Let the workers finish, then go."""
        running = [worker.process for worker in self._workers if worker.process is not None]
        for process in running:
            process.terminate()
        end = time.monotonic() + self._grace
        for process in running:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for worker in self._workers:
            worker.listening.close()
        return 0

    def _stop(self, number: int, frame: object) -> None:
        self._stopping = True

    def _switch(self, number: int, frame: object) -> None:
        self._switching = True


def listen(host: str, port: int, shared: bool) -> socket.socket:
    """A listening socket; several may have one address when it is shared."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    opened.bind((host, port))
    opened.listen(1024)
    opened.setblocking(False)
    return opened


def resident(pid: int) -> int:
    """Bytes of memory a process takes; 0 when it is not known."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0


def say(what: str) -> None:
    """One line into the endpoint's log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} treadle.workers {what}", file=sys.stderr, flush=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="python -m treadle.web.workers", description=__doc__, add_help=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--worker-memory", type=int, default=0)
    mine, _ = parser.parse_known_args(given)
    command = [sys.executable, "-m", "treadle.web.server", *given]
    try:
        workers = Workers(mine.host, mine.port, mine.workers, command, mine.seconds + 5.0, mine.worker_memory)
    except OSError as error:
        print(f"treadle: {mine.host}:{mine.port} cannot be listened on: {error.strerror or error}. Give another port.", file=sys.stderr)
        sys.exit(6)
    sys.exit(workers.run())


if __name__ == "__main__":
    main()
