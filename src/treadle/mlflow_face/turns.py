"""Treadle's own runs and trials, found in the ledger and put together with the versions they made."""

from __future__ import annotations

from mlflow.entities import Run
from mlflow.utils.uri import append_to_uri_path

from treadle.core.records import Record
from treadle.mlflow_face import convert
from treadle.pipelines.run import RUN, STEP
from treadle.ports.ledger import Ledger
from treadle.registry import versions

TRIAL = "trial"


def scopes(ledger: Ledger) -> dict[str, list[Record]]:
    """'project.model' of every run there is, with the runs."""
    by_scope: dict[str, list[Record]] = {}
    for record in ledger.find(RUN):
        by_scope.setdefault(record["scope"], []).append(record)
    return by_scope


def runs_of(scope: str, ledger: Ledger, place: str) -> list[Run]:
    """All turns and trials of a 'project.model'. `place`: the artifact folder of its experiment."""
    return as_runs(scope, [*ledger.find(RUN, {"scope": scope}), *ledger.find(TRIAL, {"scope": scope})], ledger, place)


def as_runs(scope: str, records: list[Record], ledger: Ledger, place: str) -> list[Run]:
    """Turns and trials of one scope as MLflow's runs."""
    by_run = versions_of(scope, ledger)
    searched = {v["trials"]: v["run"] for v in reversed(_registered(scope, ledger))}  # the first version of a search names its run
    shown = []
    for record in records:
        artifacts = append_to_uri_path(place, record.id, "artifacts")
        if record.kind == TRIAL:
            shown.append(convert.trial_run(record, searched.get(record["group"], ""), artifacts))
        else:
            shown.append(convert.turn_run(record, by_run.get(record.id), artifacts))
    return shown


def versions_of(scope: str, ledger: Ledger) -> dict[str, Record]:
    """Run id to version. A run that found everything made already carries the version whose evaluation and package it reused."""
    runs = {r.id: r for r in ledger.find(RUN, {"scope": scope})}
    made = {v["run"]: v for v in _registered(scope, ledger) if v["run"] in runs}
    results = _results(ledger)
    by_result = {results[id]: version for id, version in made.items() if id in results}
    return {**{id: by_result[results[id]] for id in runs if results.get(id) in by_result}, **made}


def _registered(scope: str, ledger: Ledger) -> list[Record]:
    project, _, model = scope.partition(".")
    return [v for v in versions.all_versions(model, ledger) if v["project"] == project]


def _results(ledger: Ledger) -> dict[str, tuple[str, str]]:
    """Run to the contents of its evaluation and its package, for those that came that far."""
    evaluated, packaged = ({s["run"]: s.get("address", "") for s in ledger.find(STEP, {"step": step})} for step in ("evaluate", "package"))
    return {run: (address, packaged[run]) for run, address in evaluated.items() if address and packaged.get(run)}
