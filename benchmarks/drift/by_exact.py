"""The exact distances, column by column, by NumPy: what the others are held against. Its cost is told as the plain way."""

import json
import sys
import time

begun = time.process_time()
import numpy as np  # noqa: E402
import polars as pl  # noqa: E402

imported = time.process_time()
reference, now, page, answer = sys.argv[1:]
found = {}
for name, dtype in pl.scan_parquet(reference).collect_schema().items():
    older, newer = (pl.read_parquet(path, columns=[name])[name] for path in (reference, now))
    if dtype.is_numeric():
        a, b = np.sort(older.to_numpy().astype(float)), np.sort(newer.to_numpy().astype(float))
        points = np.concatenate([a, b[:: max(1, len(b) // 1_000_000)]])
        points.sort()
        ks = float(np.abs(np.searchsorted(a, points, "right") / len(a) - np.searchsorted(b, points, "right") / len(b)).max())
        cuts = np.unique(np.quantile(a, np.arange(1, 10) / 10))
        q, p = (np.bincount(np.searchsorted(cuts, v), minlength=len(cuts) + 1) / len(v) for v in (a, b))
        kept = (q > 0) & (p > 0)
        found[name] = {"ks": ks, "psi": float(((p - q) * np.log(p / q))[kept].sum())}
    else:
        q, p = (dict(v.value_counts(normalize=True).iter_rows()) for v in (older, newer))
        found[name] = {"psi": float(sum((p[k] - q[k]) * np.log(p[k] / q[k]) for k in q if k in p))}
with open(answer, "w") as file:
    json.dump(found, file)
worked = time.process_time() - imported
with open("/proc/self/status") as status:  # not ru_maxrss, which a process inherits from the one that started it
    rss = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print("COST", json.dumps({"imports": imported - begun, "work": worked, "rss": rss}))
