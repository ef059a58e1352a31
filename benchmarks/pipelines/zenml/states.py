"""Print the state of each recorded run."""

from zenml.client import Client

for run in Client().list_pipeline_runs():
    print("state:", run.status.value)
