"""A fitted model becomes a package: in the first format that answers as it does on real rows, with what is normal for it and what explains it."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from treadle import __version__
from treadle.assemble import Workspace, formats
from treadle.core.canonical import plain
from treadle.core.declare.model import Model
from treadle.core.errors import CannotConvert, Refused
from treadle.core.records import Ref
from treadle.features import rows as feature_rows
from treadle.provenance.origin import licences
from treadle.registry import keys, mlmodel, packages
from treadle.registry import versions as registry
from treadle.serving.loaded import Loaded

PARITY_ROWS = 2_000
AT_ONCE = 2_000_000  # feature values that are lists of Python's at a time: of very wide rows fewer rows
PARITY = 1e-5


def pack(
    rows: pl.DataFrame, trained: dict[str, Any], signature: dict[str, Any], parts: Any, model: Model, name: str, *, watched: bool, ws: Workspace
) -> dict[str, Any]:  # fmt: skip
    """The first format whose answers are those of the fitted model on real rows, packed and stored.

    Args:
        parts: which rows are whose (`training.split`).
        watched: write what is normal for it beside it.
    Returns: what the registry records of a package. Raises: Refused when no format gives the same answers.
    """
    from treadle.training.search import outputs

    target = trained["target"]
    numbers, categories = feature_columns(rows)
    order = [f["name"] for f in signature["features"]]
    count = min(PARITY_ROWS, rows.height, max(100, AT_ONCE // len(order)))
    sample = rows[np.random.default_rng(model.seed).choice(rows.height, count, replace=False)]
    native = outputs(target.task, trained["pipeline"], sample.select(numbers + categories), len(target.labels))
    test = rows[parts.test]
    problems: list[str] = []
    made_by = type(trained["pipeline"][-1]).__module__.partition(".")[0]
    for format_name, make in formats().items():
        if make().library not in ("", made_by) or (make().runs_code and not ws.model_code):
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            try:
                info = make().save(trained["pipeline"], folder)
            except CannotConvert as reason:
                problems.append(f"{format_name}: {reason.what}")
                continue
            manifest = {
                "treadle": 1, "model_name": name, "task": target.task, "labels": plain(list(target.labels)), "family": trained["family"],
                "params": plain(trained["params"]), "signature": {"request": signature["request"], "features": signature["features"]},
                "views": signature["views"],
                "moment": signature["moment"], "model": info, "trained_to": trained["trained_to"],
            }  # fmt: skip
            mlmodel.write(folder, manifest, __version__)
            listed = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
            loaded = Loaded(folder, {**manifest, "files": listed}, formats())
            served = answers(loaded, sample, order)
            difference = float(np.abs(served - native).max())
            scale = max(1.0, float(np.abs(native).max())) if target.task == "regression" else 1.0
            flips = 0 if target.task == "regression" else int(np.sum(served.argmax(1) != native.argmax(1)))
            if difference > PARITY * scale or flips:
                problems.append(f"{format_name}: answers differ by up to {difference:.2g} ({flips} labels) on {len(sample)} real rows")
                continue
            manifest["parity"] = {"rows": len(sample), "largest_difference": difference, "labels_changed": flips}
            explanation = _write_explanation(folder, loaded, trained, rows[parts.search].select(numbers + categories), feature_lists(sample, order))
            if watched:
                _write_reference(folder, loaded, model, rows[parts.search], test, trained, ws)
            stored = packages.store(folder, manifest, ws.blobs)
            return {
                **stored, "format": format_name, "parity": manifest["parity"], "refused_formats": problems, "explanation": explanation,
                "measured": _measured(folder, loaded, feature_lists(sample, order)), "licences": licences(),
                "bytes": sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()),
            }  # fmt: skip
    raise Refused(f"The model has no form that serves the same answers: {'; '.join(problems)}", where=f"model {name!r}")


def _write_explanation(
    folder: Path, loaded: Loaded, trained: dict[str, Any], frame: pl.DataFrame, asked: list[list[Any]]
) -> dict[str, Any] | None:  # fmt: skip
    """What single answers are taken apart with, written beside the model and checked: the contributions of real rows add up to their answers.

    Returns: what it is and how well it adds up; None for a model that has no exact contributions, or too many terms.
    """
    from treadle.assemble import tree_table
    from treadle.core.canonical import canonical
    from treadle.serving.contributions import Contributions
    from treadle.training import explain, narrow

    pipeline = trained["pipeline"]
    frame = frame.select(narrow.used(pipeline))  # what the model does not use changes no answer
    some = frame if frame.height <= 20_000 else frame[np.sort(np.random.default_rng(0).choice(frame.height, 20_000, replace=False))]
    (folder / explain.FILE).write_bytes(canonical({"values": explain.observed(some)}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        matrix = np.asarray(pipeline[:-1].transform(some), dtype=np.float32)
    terms = explain.linear_terms(pipeline[-1], matrix)
    if terms is None:
        ensemble = tree_table(pipeline[-1])
        terms = None if ensemble is None else explain.tree_terms(ensemble, matrix)
    if terms is None:
        return None
    explain.write(folder, terms)
    contributions = Contributions(folder, loaded.encoder)
    rows = loaded.matrix(asked[:50])
    gap = max(float(np.abs(contributions.answer(row, len(loaded.labels)) - said).max()) for row, said in zip(rows, loaded.outputs(asked[:50])))
    scale = max(1.0, float(np.abs(loaded.outputs(asked[:50])).max()))
    if gap > 1e-4 * scale:  # it would explain another answer than the one that is given
        (folder / explain.TERMS).unlink()
        return None
    return {"kind": contributions.kind, "unit": contributions.unit, "largest_gap": gap, "rows": len(rows)}


def _measured(folder: Path, loaded: Loaded, asked: list[list[Any]]) -> dict[str, dict[str, float]]:
    """How long one row takes on this machine, in milliseconds: to answer, and to explain."""
    from treadle.core.errors import NotFound
    from treadle.serving.contributions import Contributions

    def times(work: Callable[[int], object], count: int) -> dict[str, float]:
        work(0)
        taken = []
        for i in range(count):
            begun = time.perf_counter()
            work(i)
            taken.append((time.perf_counter() - begun) * 1e3)
        return {"p50_ms": float(np.percentile(taken, 50)), "p99_ms": float(np.percentile(taken, 99)), "rows": float(count)}

    found = {"answer": times(lambda i: loaded.outputs([asked[i % len(asked)]]), 200)}
    try:
        contributions = Contributions(folder, loaded.encoder)
    except NotFound:
        return found
    rows = loaded.matrix(asked[:100])
    return {**found, "explanation": times(lambda i: contributions.of(rows[i % len(rows)]), 100)}


def _write_reference(
    folder: Path, loaded: Loaded, model: Model, training: pl.DataFrame, test: pl.DataFrame, trained: dict[str, Any], ws: Workspace
) -> None:
    """What is normal: the training rows, and the answers on the test rows and on each fold's validation rows, none of which were fitted on."""
    from treadle.monitoring.leaning import weigher
    from treadle.monitoring.reference import FILE, write_reference

    watch = ws.watch_of(model)
    assert watch is not None
    target, order = trained["target"], [f.name for f in loaded.features]
    unseen = pl.concat([*(training[positions] for positions, _ in trained["validation"]), test])
    outputs = np.concatenate([*(said for _, said in trained["validation"]), answers(loaded, test, order)])
    write_reference(
        folder / FILE, loaded.features, training.select(order), unseen.select(order), unseen[feature_rows.MOMENT].cast(pl.Int64).to_numpy(), outputs,
        target.codes(unseen[feature_rows.TARGET]), plain(list(target.labels)), target.task, watch, model.seed, weigher(folder, loaded.encoder, order),
    )  # fmt: skip


def sign_package(ws: Workspace, package: dict[str, Any], model: str) -> dict[str, Any]:
    """The package signed with this project's key; as it was where there is none. The first version of a project on its own makes one."""
    alone = ws.settings["signing"] == "auto" and ws.settings["ledger"].startswith("sqlite:")
    first = alone and not ws.ledger.find(registry.KIND, limit=1)
    private, made = keys.to_sign_with(ws.keys, ws.project.name, make_one=first)
    if made is not None:
        ws.ledger.append("key.made", Ref("key", made.fingerprint), {"name": made.name, "with": "the first version"}, actor=ws.actor)
    return package if private is None else packages.sign(package, model, private, ws.blobs)


def feature_columns(rows: pl.DataFrame) -> tuple[list[str], list[str]]:
    """(number features, category features) of a model's rows."""
    kinds = {c: kind for c, kind in rows.schema.items() if not c.startswith("__") and not c.startswith("slice:")}
    return [c for c, kind in kinds.items() if kind == pl.Float64], [c for c, kind in kinds.items() if kind == pl.String]


def answers(loaded: Loaded, rows: pl.DataFrame, order: Sequence[str]) -> np.ndarray:
    """What a package answers for rows with the features of `order`, some rows at a time."""
    step = max(1, AT_ONCE // len(order))
    return np.concatenate([loaded.outputs(feature_lists(rows[i : i + step], order)) for i in range(0, rows.height, step)])


def feature_lists(rows: pl.DataFrame, order: Sequence[str]) -> list[list[Any]]:
    """Feature values as a server sees them: one list a row, None for missing."""
    return [list(row) for row in rows.select(order).iter_rows()]
