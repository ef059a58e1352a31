"""Print the state of each recorded run. Metaflow's local records tell a finished run from others, not a dead one from one that runs."""

from metaflow import Flow, namespace

namespace(None)
for run in Flow("Five"):
    print("state:", "finished" if run.finished else "unfinished")
