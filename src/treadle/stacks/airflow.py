"""A project's steps as an Airflow 3 DAG: one task a step, each running `treadle run --until STEP`.

What earlier tasks made comes from the project's store, so the DAG makes the same model as `treadle run` does, step by step.

    >>> print(compile_airflow("demo", "late", [("rows", []), ("train", ["rows"])], "/srv/demo"))   # doctest: +ELLIPSIS
    \"""Model 'late' of project 'demo', one task a step. Compiled by `treadle compile airflow`: ...
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from treadle.core.errors import UsageError
from treadle.stacks.grammar import MARK, checked_name, checked_path, checked_schedule, checked_step

Steps = Sequence[tuple[str, Sequence[str]]]

HEAD = '''"""Model {model!r} of project {project!r}, one task a step. {mark} airflow`: compile again instead of editing.

Workers need `treadle` on their PATH, and the folder. A task that fails with code 4 was refused by the evidence; its log says why.
"""

from datetime import datetime, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

with DAG(
    dag_id={dag_id!r},
    schedule={schedule!r},
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    tags=["treadle", {project!r}],
):
    tasks = {{}}
'''


def compile_airflow(project_name: str, model_name: str, steps: Steps, folder: str, schedule: str | None = None) -> str:
    """The text of a DAG file.

    Args:
        steps: (name, names of the steps it takes from), each after those.
        folder: the project folder as the workers see it.
        schedule: a cron expression; without one the DAG runs when it is triggered.
    Raises: UsageError for a name, path or schedule outside the grammar, and for a step whose inputs do not come before it.
    """
    project, model = checked_name(project_name, "project name"), checked_name(model_name, "model name")
    run = f"treadle -C {shlex.quote(checked_path(folder))} run {model}"
    text = HEAD.format(
        model=model, project=project, mark=MARK, dag_id=f"{project}.{model}", schedule=checked_schedule(schedule) if schedule else None
    )
    used = {source for _, inputs in steps for source in inputs}
    last = [name for name, _ in steps if name not in used]
    ids: dict[str, str] = {}
    for name, inputs in steps:
        ids[name] = task_id(name)
        # The one last step runs without --until: then the verdict decides the exit code, as on the command line.
        command = run if last == [name] else f"{run} --until {checked_step(name)}"
        # The space at the end keeps Airflow from taking a command that ends in .sh for the name of a template file.
        text += f"    tasks[{ids[name]!r}] = BashOperator(task_id={ids[name]!r}, bash_command={command + ' '!r})\n"
        for source in inputs:
            if source not in ids or source == name:
                raise UsageError(f"Step {name!r} takes from {source!r}, which does not come before it.")
            text += f"    tasks[{ids[source]!r}] >> tasks[{ids[name]!r}]\n"
    return text


def task_id(step: str) -> str:
    """A step's name as Airflow takes it: 'data:flights' is 'data__flights', which no name can be by itself."""
    return checked_step(step).replace(":", "__")
