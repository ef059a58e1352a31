"""Every watched number as Prometheus reads it (text format 0.0.4): of each model the newest judged block, the sums of its charts, the quality of the
newest window whose outcomes have come, by version, and its open alarms.

They are read from what is recorded, so any process that reaches the ledger can tell them. Names end in their unit, as Prometheus asks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from treadle.core.clock import Clock, parse_time
from treadle.core.records import Record
from treadle.monitoring import alarms, truth
from treadle.monitoring.watch import BLOCK, STATE
from treadle.ports.ledger import Ledger

_BLOCK = {
    "rows": ("treadle_block_rows", "Predictions of the newest judged block."),
    "matured": ("treadle_block_outcomes", "Predictions of it whose outcome is known."),
    "loss": ("treadle_block_loss", "Mean loss of it."),
    "expected_loss": ("treadle_block_expected_loss", "Mean loss that the model itself expected."),
    "excess": ("treadle_block_excess_loss", "Loss in excess of that."),
    "deficit": ("treadle_block_ranking_deficit", "How far the order of rows is below what the probabilities promise."),
    "gap": ("treadle_block_calibration_gap", "Mean of truth minus prediction."),
}
_SUMS = (
    ("quality", "high", "excess_loss"), ("ranking", "high", "ranking"), ("calibration", "high", "calibration_above"),
    ("calibration", "low", "calibration_below"),
)  # fmt: skip


class _Text:
    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, told: str, value: float | None, **labels: Any) -> None:
        lines = self._lines.setdefault(name, [f"# HELP {name} {told}", f"# TYPE {name} gauge"])
        if value is not None and value == value:
            inside = ",".join(f'{key}="{_escaped(str(text))}"' for key, text in labels.items())
            lines.append(f"{name}{{{inside}}} {float(value):.10g}" if inside else f"{name} {float(value):.10g}")

    def text(self) -> str:
        return "".join(line + "\n" for lines in self._lines.values() if len(lines) > 2 for line in lines)


def figures(models: Iterable[str], ledger: Ledger, clock: Clock) -> str:
    """The figures of these models, and of alarms about data. Models that nothing was judged of yet are left out."""
    text = _Text()
    for model in models:
        blocks = ledger.find(BLOCK, {"model": model}, newest_first=True, limit=1)
        state = ledger.get(STATE, model)
        if blocks:
            newest: Mapping[str, Any] = blocks[0].body
            labels = {"model": model, "version": newest["version"]}
            for key, (name, told) in _BLOCK.items():
                text.add(name, told, newest.get(key), **labels)
            age = clock.now().timestamp() - newest["end"] / 1e6
            text.add("treadle_block_age_seconds", "Time since the newest judged block ended.", age, **labels)
            for feature, value in newest.get("psi", {}).items():
                told = "Population stability index of the newest judged block against training."
                text.add("treadle_feature_psi", told, value, **labels, feature=feature)
            for feature, value in newest.get("missing", {}).items():
                told = "Share of rows without a value in the newest judged block."
                text.add("treadle_feature_missing_ratio", told, value, **labels, feature=feature)
            _beside(text, newest.get("beside") or {}, labels)
        _truth(text, model, ledger)
        if state is not None:
            labels = {"model": model, "version": state["version"]}
            for chart, side, name in _SUMS:
                value = state["state"].get(chart, {}).get(side)
                text.add("treadle_watch_cusum", "Sum of a chart; an alarm comes when it passes its threshold.", value, **labels, chart=name)
    _alarms(text, ledger, clock)
    return text.text()


def _beside(text: _Text, beside: Mapping[str, Any], labels: Mapping[str, Any]) -> None:
    """What the newest judged block said beside its outcomes and columns."""
    text.add("treadle_block_repeated_ratio", "Share of its rows that stood in it before.", beside.get("repeated"), **labels)
    text.add("treadle_block_unusual_ratio", "Share of its rows that are unlike those of training.", beside.get("odd"), **labels)
    for group, value in (beside.get("gaps") or {}).items():
        told = "Loss of a group beyond what the model expected, less that of all others."
        text.add("treadle_group_excess_loss", told, value, **labels, group=group)
    for feature, value in (beside.get("weights") or {}).items():
        text.add("treadle_feature_contribution", "Mean absolute contribution of a feature to the answers.", value, **labels, feature=feature)


def _truth(text: _Text, model: str, ledger: Ledger) -> None:
    """Of each version the newest mature window: its metrics with their intervals, what was estimated before, and how many outcomes came."""
    newest: dict[int, Record] = {}
    windows = truth.figures(model, ledger)
    for window in windows:
        newest[int(window["version"])] = window
    for number, window in sorted(newest.items()):
        labels = {"model": model, "version": number}
        text.add("treadle_truth_rows", "Predictions of the newest mature window.", window["rows"], **labels)
        text.add("treadle_truth_outcomes", "Those of them whose outcome counts.", window["matured"], **labels)
        text.add("treadle_truth_restated_total", "How often it was restated.", window["restated"], **labels)
        text.add("treadle_truth_window_end_seconds", "When it ended, in seconds since 1970.", window["end"] / 1e6, **labels)
        for metric, value in window["metrics"].items():
            for bound, told in (("value", "as it came"), ("low", "lower end of its 95 % interval"), ("high", "upper end of it")):
                name = "treadle_truth_metric" if bound == "value" else f"treadle_truth_metric_{bound}"
                text.add(name, f"Quality of the newest mature window, {told}.", value[bound], **labels, metric=metric)
        for metric, value in (window["estimate"] or {}).items():
            text.add("treadle_truth_estimate", "What was estimated of it without outcomes.", value, **labels, metric=metric)
        for metric, errors in truth.errors_of(windows, number).items():
            root = (sum(e * e for e in errors) / len(errors)) ** 0.5
            text.add("treadle_truth_estimate_error", "Root mean square error of such estimates so far.", root, **labels, metric=metric)


def _alarms(text: _Text, ledger: Ledger, clock: Clock) -> None:
    opened = ledger.find(alarms.KIND, {"status": "open"})
    counts = Counter((a["model"] or a.get("dataset", ""), a["kind"], a["severity"]) for a in opened)
    for (subject, kind, severity), count in sorted(counts.items()):
        text.add("treadle_alarms_open", "Open alarms.", count, about=subject, kind=kind, severity=severity)
    text.add("treadle_alarms_untold", "Alarms that not everybody could be told of yet.", sum(not a["told"] for a in opened))
    for alarm in opened:
        age = (clock.now() - parse_time(alarm["raised"])).total_seconds()
        subject = alarm["model"] or alarm.get("dataset", "")
        text.add("treadle_alarm_age_seconds", "Time since an open alarm was raised.", age, alarm=alarm.id, about=subject, kind=alarm["kind"])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
