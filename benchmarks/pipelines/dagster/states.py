"""Print the state of each recorded run."""

from dagster import DagsterInstance

with DagsterInstance.get() as instance:
    for run in instance.get_runs():
        print("state:", run.status.value.lower())
