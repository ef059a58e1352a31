"""Batch scoring, Parquet to Parquet: `treadle score` on the flights model, against its own scikit-learn pipeline through pandas and as MLflow pyfunc.

    python benchmarks/batch.py [--rows 1000000] [--times 2] [--json FILE]

Needs the project of `make demo` (its data and champion). Makes an environment for pandas and MLflow (about 0.5 GB, needs a package index).
All sides read the same file of real flights with their features, repeated up to the rows asked for, and write ids with a label and a probability.
Treadle checks every field and computes the calendar features itself; the others find them in the file. Each measurement is a process of its own: CPU
seconds (user + system) of the whole command, and of what it did after its imports; peak memory. The least of `--times` counts. Probabilities must be
equal within 1e-5 and labels wholly; Treadle is also run on four times the rows, to see whether memory grows.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import sklearn

from treadle.assemble import Workspace, open_workspace
from treadle.core.clock import parse_time
from treadle.registry import versions
from treadle.serving.batch import Batch
from treadle.wheel.materialise import histories
from treadle.wheel.steps import feature_columns
from treadle.wheel.turn import load_version, turn

HERE = Path(__file__).parent
FLIGHTS = HERE.parent / "examples" / "flights"
ENVIRONMENT = HERE / ".environments" / "batch"
REQUIREMENTS = [f"scikit-learn=={sklearn.__version__}", "pandas>=2.2,<4", "pyarrow>=18", "polars>=1.30", "mlflow-skinny>=3.1,<4", "msgspec>=0.19"]

MEASURE = """
import json, resource, sys, time
def used():
    r = resource.getrusage(resource.RUSAGE_SELF)
    return r.ru_utime + r.ru_stime
{imports}
begin = used()
work(*sys.argv[1:])
peak = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
print(json.dumps({{"cpu": used(), "work": used() - begin, "megabytes": peak / 1024}}))
"""
TREADLE = """
import contextlib, os
import treadle.scoring.score, treadle.backends.onnx_format, treadle.backends.onnx_trees
from treadle.cli.main import main

def work(file, out, folder):
    with contextlib.redirect_stdout(sys.stderr):
        assert main(["-C", folder, "score", "--data", file, "--to", out, "--as-sent", "--keep", "flight_id", "--again"]) == 0
"""
PIPELINE = """
import pickle
import pandas as pd

def work(file, out, model):
    pipeline, columns, classes = pickle.load(open(model, "rb"))
    frame = pd.read_parquet(file)
    p = pipeline.predict_proba(frame[columns])
    label = [bool(c) for c in (p[:, 1] > p[:, 0])]
    pd.DataFrame({"flight_id": frame["flight_id"], "prediction": label, "probability": p[:, 1]}).to_parquet(out)
"""
PYFUNC = """
import pandas as pd, mlflow.pyfunc

def work(file, out, model):
    loaded = mlflow.pyfunc.load_model(model)
    frame = pd.read_parquet(file)
    p = loaded.predict(frame.drop(columns=["flight_id", "scheduled_departure"]))
    label = [bool(c) for c in (p[:, 1] > p[:, 0])]
    pd.DataFrame({"flight_id": frame["flight_id"], "prediction": label, "probability": p[:, 1]}).to_parquet(out)
"""
ALONE = """
import polars as pl

def work(file, out, nothing):
    pl.read_parquet(file).select("flight_id", pl.lit(False).alias("prediction"), pl.col("distance").alias("probability")).write_parquet(out)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=2)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not (FLIGHTS / ".treadle").exists() and "TREADLE_FLIGHTS" not in os.environ:
        sys.exit("run `make demo` first: its project is what is measured")
    python = environment()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        shutil.copytree(os.environ.get("TREADLE_FLIGHTS", FLIGHTS), folder / "flights")
        ws = open_workspace(folder / "flights")
        prepared(ws, folder, given.rows)
        file, large = folder / "rows.parquet", folder / "large.parquet"
        said: dict[str, Any] = {}
        for _ in range(given.times):
            sides = {
                "treadle score": measured(sys.executable, TREADLE, file, folder / "treadle.parquet", ws.folder),
                "scikit-learn, pandas": measured(python, PIPELINE, file, folder / "sklearn.parquet", folder / "pipeline.pkl"),
                "MLflow pyfunc": measured(python, PYFUNC, file, folder / "mlflow.parquet", folder / "pyfunc"),
                "read and write alone": measured(sys.executable, ALONE, file, folder / "alone.parquet", folder),
            }
            for name, one in sides.items():
                if name not in said or one["cpu"] < said[name]["cpu"]:
                    said[name] = one
            compared(folder / "treadle.parquet", folder / "sklearn.parquet")
            compared(folder / "treadle.parquet", folder / "mlflow.parquet")
            (folder / "treadle.parquet").unlink()
        said["treadle score, 4 times the rows"] = measured(sys.executable, TREADLE, large, folder / "large-out.parquet", ws.folder)
    print(f"{given.rows:,} rows; rows a CPU second of the whole command, and of the work after its imports; peak memory")
    for name, one in said.items():
        rows = given.rows * (4 if name.endswith("rows") else 1)
        print(f"  {name:34}{rows / one['cpu']:12,.0f}{rows / one['work']:12,.0f}{one['megabytes']:9,.0f} MB")
    print("probabilities are equal within 1e-5, labels wholly")
    if given.json:
        given.json.write_text(json.dumps({"rows": given.rows, "sides": said}, indent=2))


def environment() -> str:
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / ".ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(ENVIRONMENT)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS], check=True)
        (ENVIRONMENT / ".ready").touch()
    return str(python)


def prepared(ws: Workspace, folder: Path, count: int) -> None:
    """The rows with their features, and the champion's own fitted pipeline, pickled and as an MLflow model."""
    model = ws.model()
    champion = [v for v in versions.all_versions(model.name, ws.ledger) if v["status"] == "champion"][-1]
    settings = {"family": champion["family"], "params": champion["params"]}
    cause = {"kind": "person", "id": "", "text": "benchmark"}
    outcome = turn(ws, model, cause=cause, as_of=parse_time(champion["as_of"]), settings=settings, until="train", also=("rows",))
    numbers, categories = feature_columns(outcome["rows"])
    loaded = load_version(ws, champion)
    source = ws.tables.scan(outcome[f"data:{model.rows.name}"]["address"]).collect()
    answered = Batch(loaded, histories(ws, model.views), now=ws.clock.now()).answer(source)
    columns = [f.name for f in loaded.features]
    requested = [f.name for f in loaded.request if f.name not in columns]
    rows = source.select("flight_id", *requested).hstack(answered.features.select(columns))
    many = pl.concat([rows] * -(-count // rows.height)).head(count)
    many.write_parquet(folder / "rows.parquet", compression="snappy")
    pl.concat([many] * 4).write_parquet(folder / "large.parquet", compression="snappy")
    with (folder / "pipeline.pkl").open("wb") as out:
        pickle.dump((outcome["train"]["pipeline"], numbers + categories, None), out)
    save = (
        "import pickle, sys, mlflow.sklearn\npipeline, columns, _ = pickle.load(open(sys.argv[1], 'rb'))\n"
        "how = {'pyfunc_predict_fn': 'predict_proba', 'serialization_format': 'cloudpickle', 'pip_requirements': []}\n"
        "mlflow.sklearn.save_model(pipeline, sys.argv[2], **how)\n"
    )
    run(str(ENVIRONMENT / "bin" / "python"), save, folder / "pipeline.pkl", folder / "pyfunc")


def measured(python: str, imports: str, file: Path, out: Path, third: Path) -> dict[str, float]:
    out.unlink(missing_ok=True)
    said: dict[str, float] = json.loads(run(python, MEASURE.format(imports=imports), file, out, third).splitlines()[-1])
    return said


def run(python: str, code: str, *arguments: Path) -> str:
    one = dict.fromkeys(("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "OPENBLAS_NUM_THREADS", "ARROW_NUM_THREADS"), "1")
    env = {**os.environ, **one, "PYTHONPATH": str(HERE.parent / "src"), "MLFLOW_DISABLE_TELEMETRY": "true"}
    done = subprocess.run([python, "-c", code, *map(str, arguments)], capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        sys.exit(f"failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def compared(ours: Path, theirs: Path) -> None:
    a, b = pl.read_parquet(ours), pl.read_parquet(theirs)
    worst = (a["probability"] - b["probability"]).abs().max()
    same = a["flight_id"].to_list() == b["flight_id"].to_list() and not (a["prediction"] != b["prediction"]).any()
    if not same or not isinstance(worst, float) or worst > 1e-5:
        sys.exit(f"the answers of {theirs.name} differ, by up to {worst}")


if __name__ == "__main__":
    main()
