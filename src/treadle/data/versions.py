"""Versions: what a data set held at one moment, immutable and addressed by content, with what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.clock import iso
from treadle.core.declare.data import Dataset
from treadle.core.errors import ContractViolated, DataError
from treadle.core.records import Ref
from treadle.data import contracts, sources
from treadle.ports.ledger import Ledger
from treadle.ports.tables import Tables

KIND = "dataset_version"


@dataclass(frozen=True)
class Version:
    """One version of a data set.

    Args:
        address: of its rows in the tables; also its identity.
        quarantine: address of the rows set aside, with their reasons; empty if none.
        reasons: sentence to number of rows (a row can have several); `excluded` likewise for rows out of scope.
        start, end: range of the event time, ISO; empty without one.
    """

    dataset: str
    address: str
    rows: int
    quarantined: int
    quarantine: str
    reasons: dict[str, int]
    excluded: dict[str, int]
    start: str = ""
    end: str = ""

    @property
    def id(self) -> str:
        return f"{self.dataset}-{self.address[:12]}"


def take(dataset: Dataset, folder: Path, tables: Tables) -> Version:
    """Read the source, apply exclusions and contract, store the good rows and the quarantine. The same rows give the same version.

    Raises: DataError, or ContractViolated when more rows break the contract than it allows.
    """
    frame, unparsed = sources.read(dataset, folder)
    total = frame.height
    kept, excluded = _exclude(frame.with_row_index("__row__"), dataset)
    position = {row: i for i, row in enumerate(kept["__row__"])} if unparsed else {}
    unparsed = [replace(cell, row=position[cell.row]) for cell in unparsed if cell.row in position]
    scope = kept.drop("__row__")
    reasons = contracts.check(scope, dataset, unparsed)  # a row out of scope breaks nothing, and takes no other row's key
    numbered = scope.with_row_index("__row__")
    bad = numbered.join(
        reasons.group_by("row", maintain_order=True).agg(reason=pl.col("reason").str.join("; ")), left_on="__row__", right_on="row", how="inner",
        maintain_order="left",
    )  # fmt: skip
    good = numbered.join(reasons, left_on="__row__", right_on="row", how="anti", maintain_order="left").drop("__row__")
    share = bad.height / max(1, scope.height)
    limit = dataset.contract.at_most if dataset.contract else 0.05
    counts = dict(Counter(reasons["reason"].to_list()).most_common())
    if share > limit:
        worst = "; ".join(f"{reason} ({n:,} rows)" for reason, n in list(counts.items())[:3])
        raise ContractViolated(
            f"{bad.height:,} of {scope.height:,} rows ({share:.1%}) break the contract, more than the {limit:.1%} it allows: {worst}.",
            where=f"data set {dataset.name!r} ({dataset.place})",
            hint="Correct the data, the contract's columns or rules, or raise at_most.",
        )
    if good.height == 0:
        raise DataError(f"None of the {total:,} rows is left after exclusions and contract.", where=f"data set {dataset.name!r}")
    if dataset.event_time:
        good = good.sort(dataset.event_time, *dataset.key, maintain_order=True)
    start, end = _range(good, dataset.event_time)
    quarantine = tables.write(bad.drop("__row__")) if bad.height else ""
    return Version(dataset.name, tables.write(good), good.height, bad.height, quarantine, counts, excluded, start, end)


def record(version: Version, ledger: Ledger) -> None:
    """Make the version known. Saying it twice changes nothing."""
    if ledger.get(KIND, version.id) is None:
        body: dict[str, Any] = {k: getattr(version, k) for k in version.__dataclass_fields__}
        with ledger.transaction():
            ledger.put(KIND, version.id, body)
            ledger.append("dataset.versioned", Ref(KIND, version.id), {"rows": version.rows, "quarantined": version.quarantined})


def _exclude(frame: pl.DataFrame, dataset: Dataset) -> tuple[pl.DataFrame, dict[str, int]]:
    counts: dict[str, int] = {}
    for sentence, condition in dataset.exclude.items():
        before = frame.height
        frame = frame.filter(~condition.fill_null(False))
        counts[sentence] = before - frame.height
    return frame, counts


def _range(frame: pl.DataFrame, column: str | None) -> tuple[str, str]:
    if column is None:
        return "", ""
    low, high = frame[column].min(), frame[column].max()
    return (iso(low), iso(high)) if low is not None and high is not None else ("", "")  # type: ignore[arg-type]
