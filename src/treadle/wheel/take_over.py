"""Take a model over that was made elsewhere: its files become a signed package, a person's word stands in place of the evidence."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from treadle import __version__
from treadle.assemble import Workspace, formats
from treadle.core.canonical import canonical
from treadle.core.clock import iso
from treadle.core.errors import Conflict, DataError, Refused, UsageError
from treadle.core.records import Record
from treadle.registry import foreign, mlmodel, packages, versions
from treadle.serving.loaded import Loaded
from treadle.wheel.packaging import PARITY, sign_package

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}", re.IGNORECASE)


def take_over(
    ws: Workspace, name: str, family: str, info: Mapping[str, Any], fields: Sequence[Mapping[str, Any]], files: Callable[[Path], None],
    where: Mapping[str, Any], *, reason: str, examples: Sequence[Any] = (),
) -> Record:  # fmt: skip
    """Pack, check, sign and register a model made elsewhere.

    Args:
        family: what it is, for people: 'onnx file', for example.
        info: what its format must know, as `manifest["model"]`.
        fields: what a request has.
        files: writes the files into a folder.
        where: what it was made from.
        examples: rows with the answers they must get: `{"row": {...}, "answer": label, number or list of probabilities}`.
    Returns: the version. Raises: Refused when an example is answered otherwise; UsageError, Conflict.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no name of a model.", hint="Use letters, digits, '.', '_' and '-'.")
    if name in ws.project.models:
        raise Conflict(f"The project declares {name!r} itself.", hint="Choose another name.")
    if not reason.strip():
        raise UsageError("A model without evidence is taken over for a reason.", hint="Give one with --reason.")
    manifest = {
        "treadle": 1, "model_name": name, "task": info["task"], "labels": list(info["classes"] or []), "family": family, "params": {},
        "signature": {"request": list(fields), "features": list(fields)}, "views": {}, "moment": None, "model": dict(info), "trained_to": "",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files(folder)
        mlmodel.write(folder, manifest, __version__)
        listed = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        loaded = Loaded(folder, json.loads(canonical({**manifest, "files": listed})), formats())  # as it will be read
        checked = check(loaded, examples)
        del loaded  # and with it the process of a model that has one
        stored = packages.store(folder, {**manifest, "parity": checked}, ws.blobs)
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
    body = foreign.body(
        sign_package(ws, stored, name), manifest, {**where, "checked": checked, "bytes": size}, by=ws.actor, reason=reason.strip(),
        project=ws.project.name, at=iso(ws.clock.now()),
    )  # fmt: skip
    return versions.register(name, body, [], ws.ledger)


def check(loaded: Loaded, examples: Sequence[Any]) -> dict[str, Any] | None:
    """Ask for each example's row, and compare. Returns what is recorded of it; None without examples. Raises DataError, Refused, InvalidRequest."""
    if not examples:
        return None
    largest, names = 0.0, [f.name for f in loaded.features]
    for i, example in enumerate(examples):
        if not isinstance(example, Mapping) or "row" not in example or "answer" not in example:
            raise DataError("An example is an object with 'row' and 'answer'.", where=f"example {i}")
        values = loaded.parser.parse(example["row"], f"example {i}")
        (output,) = loaded.outputs([[values.get(name) for name in names]])
        answer = example["answer"]
        if isinstance(answer, list) or (not loaded.labels and isinstance(answer, int | float)):
            wanted = np.atleast_1d(np.array(answer, dtype=np.float64))
            gap = float(np.abs(output - wanted).max()) if wanted.shape == output.shape else float("inf")
            if gap > PARITY * max(1.0, float(np.abs(wanted).max())):
                raise Refused(f"The model answers {output.tolist()[:5]}, not {answer}.", where=f"example {i}", hint="Nothing was registered.")
            largest = max(largest, gap)
        elif loaded.labels[int(output.argmax())] != answer:
            told = f"The model answers {loaded.labels[int(output.argmax())]!r}, not {answer!r}."
            raise Refused(told, where=f"example {i}", hint="Nothing was registered.")
    return {"rows": len(examples), "largest_difference": largest, "labels_changed": 0}


def onnx_file(ws: Workspace, name: str, path: Path, wish: Any, *, reason: str, examples: Sequence[Any] = ()) -> Record:
    """Take over an ONNX file. See `backends.onnx_file`."""
    from treadle.backends.onnx_file import describe

    info, fields = describe(path, wish)
    where = {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}

    def files(folder: Path) -> None:
        shutil.copyfile(path, folder / info["file"])

    return take_over(ws, name, "onnx file", info, fields, files, where, reason=reason, examples=examples)


def mlmodel_folder(
    ws: Workspace, name: str, source: Path, wish: Any, *, reason: str, examples: Sequence[Any] = (), python: Path | None = None,
    seconds: float = 10.0, tell: Callable[[str], None] = lambda line: None,
) -> Record:  # fmt: skip
    """Take over a folder with an MLmodel file and the flavour python_function. See `backends.mlmodel_format`.

    Raises: Refused where models may not run code.
    """
    from treadle.backends import mlmodel_format

    if not ws.model_code:
        told = "A model of this kind runs code of its own, and this project does not allow that."
        raise Refused(told, where=str(source), hint="If you trust it, allow that with the setting model_code = yes.")
    info, fields = mlmodel_format.describe(source, wish, python, seconds)
    if python is None:
        tell(f"making an environment of {len(info['requirements'])} packages, if there is none yet")

    def files(folder: Path) -> None:
        mlmodel_format.copy(source, folder)

    where = {"file": source.resolve().name, "flavour": info["loader"], "logged_with": info["logged_with"]}
    return take_over(ws, name, "MLmodel folder", info, fields, files, where, reason=reason, examples=examples)


def read_examples(path: Path) -> list[Any]:
    """Examples from a file: a JSON list, or one JSON object a line. Raises UsageError."""
    try:
        text = path.read_text("utf-8")
        found = json.loads(text) if text.lstrip().startswith("[") else [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UsageError(f"The examples cannot be read: {error}.", where=str(path)) from None
    return list(found)
