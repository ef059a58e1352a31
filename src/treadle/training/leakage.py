"""Leakage: news of the answer that reached the model by a way it will not have in production. Each suspicion is named, with its evidence.

What is looked at: a feature that gives the target away; test rows that are copies, or nearly, of training rows; one entity on both sides of a random
split; training on rows that were known only later than the test rows; preprocessing that has seen the test rows; a feature that is filled in only
when the answer is known. The kinds are those of Kapoor and Narayanan (2023), "Leakage and the reproducibility crisis in machine-learning-based
science".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl

from treadle.features.rows import KNOWN, MOMENT, TARGET
from treadle.training.copies import copies, near_copies
from treadle.training.looked import FEW, Looked, Suspect
from treadle.training.telling import feature_skill, gives_away

__all__ = ["KINDS", "Looked", "Suspect", "suspects"]

KINDS = ("target", "not-yet-known", "overlap", "near-duplicates", "group", "time", "preprocessing")


def suspects(looked: Looked) -> dict[str, Any]:
    """Every suspicion, as JSON: 'looked_at' names the kinds that were looked for, 'found' the suspects, 'noted' what is worth a look and suspected of
    nothing, 'skill' each feature's own."""
    skill = feature_skill(looked)
    telling = gives_away(looked, skill)
    found = [
        *(s for s in telling if s.evidence["suspected"]), *not_yet_known(looked), *copies(looked), *near_copies(looked),
        *shared_entities(looked, skill), *out_of_order(looked), *prefitted(looked), *scaled_before(looked),
    ]  # fmt: skip
    return {"looked_at": list(KINDS), "found": [asdict(s) for s in found], "noted": [asdict(s) for s in telling if s not in found], "skill": skill}


def not_yet_known(looked: Looked) -> list[Suspect]:
    """Features that are there only when the answer is: empty on the rows without a truth, or telling the time until it was known."""
    found = []
    if looked.known_column:
        found.append(Suspect(
            "not-yet-known", looked.known_column, f"{looked.known_column} is the moment at which the truth became known; no request can carry it", {}
        ))  # fmt: skip
    rows = looked.rows
    unlabelled = rows[TARGET].is_null().to_numpy()
    open_rows, closed = int(unlabelled.sum()), int((~unlabelled).sum())
    own = [n for n in (*looked.numbers, *looked.categories) if n not in looked.looked_up]
    for name in own if open_rows >= 20 and closed >= 20 else ():
        empty = _missing(rows[name])
        gone, there = float(empty[unlabelled].mean()), float(empty[~unlabelled].mean())
        if gone >= 0.95 and there <= 0.05:
            found.append(Suspect(
                "not-yet-known", name,
                f"{name} is empty on {gone:.0%} of the {open_rows:,} rows whose truth is not known yet, and on {there:.0%} of the others: "
                "it is filled in with the answer",
                {"empty_without_truth": gone, "empty_with_truth": there, "rows_without_truth": open_rows},
            ))  # fmt: skip
    timed = (rows[KNOWN] - rows[MOMENT]).dt.total_microseconds().cast(pl.Float64).to_numpy()
    for name in looked.numbers:
        if name in looked.looked_up:
            continue
        values = rows[name].to_numpy()
        both = np.isfinite(timed) & np.isfinite(values)
        if both.sum() < FEW:
            continue
        x, t = values[both], timed[both]
        if np.unique(t[:1000]).size < 10 or x.std() == 0:
            continue
        r = float(np.corrcoef(x, t)[0, 1])
        if abs(r) > 0.99999:
            found.append(Suspect(
                "not-yet-known", name, f"{name} is the time between the prediction and its truth (correlation {r:.6f}): it is known only afterwards",
                {"correlation": r, "rows": int(both.sum())},
            ))  # fmt: skip
    return found


def shared_entities(looked: Looked, skill: Mapping[str, float]) -> list[Suspect]:
    """The same person, machine or site on both sides of a split that is not by time: the model may know it again."""
    found: list[Suspect] = []
    if looked.method == "time":
        return found
    if looked.entity is not None:
        column, values = looked.entity
        array = np.array(["" if v is None else str(v) for v in values], dtype=object)
        seen = set(array[looked.search]) - {""}
        both = float(np.mean([v in seen for v in array[looked.test]]))
        if both >= 0.05:
            found.append(Suspect(
                "group", column,
                f"{both:.0%} of the test rows are about a {column} that is in the training rows too: "
                "split by group, or what is measured is recognition",
                {"share": both, "entities": len(set(array) - {""})},
            ))  # fmt: skip
    for name in looked.categories:
        if name in looked.looked_up or skill.get(name, 0.0) < 0.5 or (looked.entity is not None and name == looked.entity[0]):
            continue
        levels = looked.rows[name].gather(looked.search).n_unique()
        if max(20, len(looked.search) / 20) <= levels <= len(looked.search) / 2:
            found.append(Suspect(
                "group", name,
                f"{name} names {levels:,} things in {len(looked.search):,} training rows and tells the target with skill {skill[name]:.2f}: "
                "the same things are in the test rows, and new ones will not be known",
                {"levels": levels, "skill": skill[name]},
            ))  # fmt: skip
    return found


def out_of_order(looked: Looked) -> list[Suspect]:
    """Training rows whose truth became known only after a test row was asked about."""
    moments, known = (looked.rows[c].cast(pl.Int64).to_numpy().astype(np.float64) for c in (MOMENT, KNOWN))
    asked, learned = moments[looked.test], np.where(np.isfinite(known), known, moments)[looked.search]
    asked, learned = asked[np.isfinite(asked)], np.sort(learned[np.isfinite(learned)])
    if len(asked) < 10 or len(learned) < 10 or asked.max() == asked.min():
        return []
    later = 1 - float(np.searchsorted(learned, asked, side="right").mean()) / len(learned)
    if later <= 0.001:
        return []
    return [Suspect(
        "time", "split",
        f"for the mean test row {later:.0%} of the training rows became known only after it was asked about: it is judged by the future",
        {"later": later, "method": looked.method},
    )]  # fmt: skip


def prefitted(looked: Looked) -> list[Suspect]:
    """Parts of the project's own estimator that are fitted before the training begins, and encoders that have seen more rows than there are."""
    found = []
    for path, part in _parts("estimator", looked.make):
        if _fitted(part):
            seen = getattr(part, "n_samples_seen_", None)
            count = int(np.max(seen)) if seen is not None else None
            text = f", on {count:,} rows; there are {len(looked.search):,} to train on" if count is not None else ""
            found.append(Suspect(
                "preprocessing", path, f"{type(part).__name__} in {path} is fitted before the training begins{text}: it may have seen the test rows",
                {"rows_seen": count, "training_rows": len(looked.search)},
            ))  # fmt: skip
    for path, part in _parts("pipeline", looked.fitted):
        seen = getattr(part, "n_samples_seen_", None)
        if seen is not None and int(np.max(seen)) > len(looked.search):
            found.append(Suspect(
                "preprocessing", path, f"{type(part).__name__} was fitted on {int(np.max(seen)):,} rows, {len(looked.search):,} are to be trained on",
                {"rows_seen": int(np.max(seen)), "training_rows": len(looked.search)},
            ))  # fmt: skip
    return found


def scaled_before(looked: Looked) -> list[Suspect]:
    """Columns that have mean 0 and deviation 1 over training and test rows together, and over neither alone: a scaler saw all of them."""
    if len(looked.search) < 10 or len(looked.test) < 5:
        return []
    found = []
    everything = np.concatenate([looked.search, looked.test])
    for name in looked.numbers:
        if name in looked.looked_up:
            continue
        values, alone = looked.rows[name].gather(everything).to_numpy(), looked.rows[name].gather(looked.search).to_numpy()
        if not np.isfinite(values).all() or np.unique(values[:200]).size < 3:
            continue
        n = len(values)
        scales = [values.std(), values.std() * math.sqrt(n / (n - 1))]
        if abs(values.mean()) < 1e-6 and min(abs(s - 1) for s in scales) < 1e-6 and abs(alone.mean()) > 1e-5:
            found.append(Suspect(
                "preprocessing", name,
                f"{name} has mean 0 and deviation 1 over the training and test rows together ({n:,}), "
                f"and mean {alone.mean():+.4f} over the training rows: it was scaled before the split",
                {"rows": n, "mean_of_training_rows": float(alone.mean())},
            ))  # fmt: skip
    return found


def _missing(values: pl.Series) -> np.ndarray:
    if values.dtype == pl.String:
        return (values.fill_null("") == "").to_numpy()
    return np.asarray(np.isnan(values.cast(pl.Float64).to_numpy()))


def _parts(path: str, part: Any, depth: int = 0) -> list[tuple[str, Any]]:
    """The estimators and transformers inside one, by name; itself too."""
    if part is None or isinstance(part, str) or depth > 4:
        return []
    found = [(path, part)] if hasattr(part, "fit") else []
    inner: list[tuple[str, Any]] = []
    for name in ("steps", "transformers", "transformers_", "estimators"):
        inside = getattr(part, name, None)
        if isinstance(inside, list) and all(isinstance(i, tuple) and len(i) >= 2 for i in inside):
            inner = [(str(i[0]), i[1]) for i in inside] or inner
    for name in ("estimator", "base_estimator", "regressor", "transformer", "classifier"):
        if hasattr(getattr(part, name, None), "fit"):
            inner.append((name, getattr(part, name)))
    return found + [p for name, value in inner for p in _parts(f"{path}.{name}", value, depth + 1)]


def _fitted(part: Any) -> bool:
    """Whether something has learnt already. A pipeline is what its parts are; those are asked one by one."""
    if hasattr(part, "steps") or type(part).__name__ == "ColumnTransformer":
        return False
    learnt = [v for v in vars(part) if v.endswith("_") and not v.startswith("_")] if hasattr(part, "__dict__") else []
    return bool(learnt) or type(part).__name__ == "FrozenEstimator"
