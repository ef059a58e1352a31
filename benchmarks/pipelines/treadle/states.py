"""Print the state of each recorded run."""

import json
import subprocess

listed = subprocess.run(["treadle", "-C", "p6d", "runs", "--json"], capture_output=True, text=True, check=True).stdout
for run in json.loads(listed):
    print("state:", run["status"])
