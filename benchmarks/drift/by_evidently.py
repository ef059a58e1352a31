"""Evidently's data drift report: HTML and JSON, its defaults."""

import json
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
worked = time.process_time() - imported
with open("/proc/self/status") as status:  # not ru_maxrss, which a process inherits from the one that started it
    rss = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print("COST", json.dumps({"imports": imported - begun, "work": worked, "rss": rss}))
