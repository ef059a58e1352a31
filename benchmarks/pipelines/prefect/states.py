"""Print the state of each recorded run."""

from prefect import get_client

with get_client(sync_client=True) as client:
    for run in client.read_flow_runs():
        print("state:", run.state_name.lower())
