"""`treadle drift` with a page and JSON: the same parts, with the time of the work told apart from that of imports."""

import json
import sys
import time
from pathlib import Path

begun = time.process_time()
from treadle.monitoring.columns import open_file  # noqa: E402
from treadle.monitoring.compared import report, side  # noqa: E402
from treadle.report.page import write_drift  # noqa: E402

imported = time.process_time()
reference, now, page, answer = sys.argv[1:]
found = report(side(open_file(Path(reference))), side(open_file(Path(now))))
write_drift(found.to_json(), Path(page))
Path(answer).write_text(json.dumps({c.name: {"verdict": c.verdict, **c.sizes} for c in found.columns}))
worked = time.process_time() - imported
with open("/proc/self/status") as status:  # not ru_maxrss, which a process inherits from the one that started it
    rss = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print("COST", json.dumps({"imports": imported - begun, "work": worked, "rss": rss}))
