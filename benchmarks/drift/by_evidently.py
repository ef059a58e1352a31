"""Evidently's data drift report: HTML and JSON, its defaults."""

import json
import resource
import sys
import time

begun = time.process_time()
import pandas as pd  # noqa: E402
from evidently import Report  # noqa: E402
from evidently.presets import DataDriftPreset  # noqa: E402

imported = time.process_time()
reference, now, page, answer = sys.argv[1:]
older, newer = pd.read_parquet(reference), pd.read_parquet(now)
snapshot = Report([DataDriftPreset()]).run(newer, older)
snapshot.save_html(page)
found = {}
for metric in json.loads(snapshot.json())["metrics"]:
    column = metric.get("config", {}).get("column")
    if column:
        found[column] = {"value": metric["value"], "method": metric["config"].get("method", ""), "threshold": metric["config"].get("threshold")}
with open(answer, "w") as file:
    json.dump(found, file)
worked, rss = time.process_time() - imported, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print("COST", json.dumps({"imports": imported - begun, "work": worked, "rss": rss}))
