"""The door to computing power: where the steps of a pipeline run.

Promises every executor keeps:

- `submit` returns at once, or when the function has returned (in process); the future gives what the function returned, or raises what it raised: its
  own exception, not a wrapper's. Where that is raised in another process, its traceback there is a note of it; one that cannot be pickled is replaced
  by one that has its type's name and its message.
- Standard output, standard error and log records of the function reach `log` line by line, before the future is done. `log` is called from another
  thread where tasks run in other processes; what it raises, the future raises.
- A function that runs beyond `timeout` seconds, or whose process holds more than `memory` bytes, is stopped where the executor says it `stops`, with
  the processes it started; the future raises Cancelled that names the task and the limit. One that does not stop looks at neither.
- `cancel` of the future stops a task, waiting or running, where the executor `stops`; the future then raises Cancelled (of `core/errors.py`).
- A worker that dies or is lost under a task makes the future raise WorkerLost, which is transient: the same task may be submitted again.
- What is wrong with the task itself is a UsageError in its future: more cores than there are, an argument or a result that cannot be pickled.
- At most `slots` tasks run at once, fewer where they ask for more than a core; more may be submitted and wait.
- After `close` no process of the executor is left, and what had not finished raises Cancelled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

from treadle.core.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Resources:
    """What a task needs of the machine it runs on: cores (counted whole, one at least), bytes of memory (0: any), GPUs."""

    cores: float = 1.0
    memory: int = 0
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Task:
    """One call: `function(**arguments)`. Both must be picklable where the executor has other processes.

    Args:
        name: for people: the step, and which of its tasks.
        timeout: seconds it may run; None for as long as it takes.
    """

    function: Callable[..., Any]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    resources: Resources = field(default_factory=Resources)
    timeout: float | None = None


class WorkerLost(Unavailable):
    """The process or machine a task ran on died; the task may be given to another."""

    code = "worker_lost"


class Executor(Protocol):
    @property
    def stops(self) -> bool:
        """Whether timeouts and memory limits are enforced."""
        ...

    @property
    def apart(self) -> bool:
        """Whether tasks run in other processes, so that arguments and results must be picklable."""
        ...

    @property
    def slots(self) -> int:
        """How many tasks can run at once now."""
        ...

    def submit(self, task: Task, *, log: Callable[[str], None] | None = None) -> Future[Any]:
        """Run a task as soon as there is room. Raises Unavailable when the engine cannot be reached or is closed."""
        ...

    def close(self) -> None:
        """Stop what still runs; let go of processes and connections."""
        ...
