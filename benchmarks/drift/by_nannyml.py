"""NannyML's univariate drift: Kolmogorov-Smirnov and Jensen-Shannon of numbers, Jensen-Shannon of categories, one chunk."""

import json
import sys
import time

begun = time.process_time()
import nannyml  # noqa: E402
import pandas as pd  # noqa: E402

imported = time.process_time()
reference, now, page, answer = sys.argv[1:]
older, newer = pd.read_parquet(reference), pd.read_parquet(now)
calculator = nannyml.UnivariateDriftCalculator(
    column_names=list(older.columns), continuous_methods=["kolmogorov_smirnov", "jensen_shannon"], categorical_methods=["jensen_shannon"],
    chunk_number=1,
)
calculator.fit(older)
result = calculator.calculate(newer).filter(period="analysis").to_df()
found = {}
for column in older.columns:
    methods = [m for m in ("kolmogorov_smirnov", "jensen_shannon") if (column, m, "value") in result.columns]
    found[column] = {m: float(result[(column, m, "value")].iloc[0]) for m in methods}
with open(answer, "w") as file:
    json.dump(found, file)
worked = time.process_time() - imported
with open("/proc/self/status") as status:  # not ru_maxrss, which a process inherits from the one that started it
    rss = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
print("COST", json.dumps({"imports": imported - begun, "work": worked, "rss": rss}))
