"""The `MLmodel` file of a package: with it `mlflow.pyfunc.load_model` opens a package that was downloaded, in an environment that has Treadle.

    late = mlflow.pyfunc.load_model("late-arrival.v3")
    late.predict(frame)  # columns as in a request; features that views would look up may be columns too

The loader is `treadle.mlflow_face.package`. The format: https://mlflow.org/docs/latest/ml/model/
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILES = ("MLmodel", "requirements.txt", "python_env.yaml")
LOADER = "treadle.mlflow_face.package"
KINDS = {"number": "double", "integer": "long", "category": "string", "text": "string", "boolean": "boolean", "timestamp": "datetime"}
RUNTIMES = {"onnx": "serve", "skops": "serve,train", "lightgbm": "serve,train", "xgboost": "serve,xgboost", "torch": "serve,torch"}


def write(folder: Path, manifest: Mapping[str, Any], version: str) -> None:
    """Write the file, and what pip needs to make an environment with this version of Treadle, beside a package's other files."""
    format_name = str(manifest["model"]["format"])
    extras = RUNTIMES.get(format_name, "serve")
    (folder / "requirements.txt").write_text(f"treadle[{extras}]=={version}\n", encoding="utf-8")
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "python_env.yaml").write_text(f'python: "{python}"\ndependencies:\n  - -r requirements.txt\n', encoding="utf-8")
    lines = [
        "flavors:",
        "  python_function:",
        f"    loader_module: {LOADER}",
        f'    python_version: "{python}"',
        "    env:",
        "      virtualenv: python_env.yaml",
        "  treadle:",
        "    manifest: manifest.json",
        f"    format: {format_name}",
        f'    version: "{version}"',
        "signature:",
        f"  inputs: {_quoted(inputs(manifest))}",
        f"  outputs: {_quoted(outputs(manifest))}",
    ]
    (folder / "MLmodel").write_text("\n".join(lines) + "\n", encoding="utf-8")


def inputs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What MLflow checks a frame against: the request's fields, and the features of views, which may be left out."""
    request = manifest["signature"]["request"]
    names = {field["name"] for field in request}
    looked_up = [f for f in manifest["signature"]["features"] if f.get("source") == "view" and f["name"] not in names]
    return [_column(field, required=not field.get("nullable", True)) for field in request] + [_column(field, required=False) for field in looked_up]


def outputs(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The columns of an answer: the prediction, and one probability a class."""
    labels = manifest["labels"]
    if not labels:
        return [{"name": "prediction", "type": "double", "required": True}]
    kind = "boolean" if all(isinstance(v, bool) for v in labels) else "string" if any(isinstance(v, str) for v in labels) else "double"
    if kind == "double" and all(isinstance(v, int) for v in labels):
        kind = "long"
    said = [{"name": probability(label), "type": "double", "required": True} for label in labels]
    return [{"name": "prediction", "type": kind, "required": True}, *said]


def probability(label: Any) -> str:
    """The column that holds a class's probability."""
    return f"probability_{label if isinstance(label, str) else json.dumps(label)}"


def _column(field: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    if field["kind"] == "vector":
        return {"name": field["name"], "type": "array", "items": {"type": "double"}, "required": required}
    kind = KINDS[field["kind"]]
    # A column of whole numbers with gaps is one of floats in pandas, which MLflow would refuse for `long`.
    return {"name": field["name"], "type": "double" if kind == "long" and not required else kind, "required": required}


def _quoted(value: Any) -> str:
    """JSON as a single-quoted text of YAML."""
    return "'" + json.dumps(value).replace("'", "''") + "'"
