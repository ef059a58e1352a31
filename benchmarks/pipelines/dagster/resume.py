"""Run the last run of P6d again from where it stopped, as Dagster's documentation on re-execution has it."""

from dagster import DagsterInstance, ReexecutionOptions, execute_job, reconstructable
from p6d import chain


def job():
    return chain.to_job("default")


if __name__ == "__main__":
    with DagsterInstance.get() as instance:
        last = instance.get_runs(limit=1)[0]
        options = ReexecutionOptions.from_failure(last.run_id, instance)
        execute_job(reconstructable(job), instance, reexecution_options=options, raise_on_error=True)
