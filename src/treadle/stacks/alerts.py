"""Prometheus alert rules for a model's endpoint: what a person must know of at once, with what to do. Limits are those the project declares."""

from __future__ import annotations

import json
from dataclasses import dataclass

from treadle.stacks.grammar import MARK, checked_name


@dataclass(frozen=True)
class Alert:
    """One rule.

    Args:
        holds: for how long the expression must be true, as Prometheus writes it.
        says: what is the matter, a sentence. do: what to do now.
    """

    name: str
    expr: str
    holds: str
    severity: str
    says: str
    do: str


def alerts(model: str, *, errors: float = 0.01, slow: float = 1.0, slow_share: float = 0.01) -> list[Alert]:
    """The rules for one model.

    Args:
        errors: the share of requests, and of calls of the model, that may fail.
        slow: seconds that at most `slow_share` of the requests may exceed.
    """
    m = f'model="{checked_name(model, "model name")}"'
    requests = f"sum(rate(treadle_requests_total{{{m}}}[5m]))"
    failing = f'sum(rate(treadle_requests_total{{{m},status=~"5.."}}[5m])) / {requests} > {errors:g}'
    calls = f'rate(request_predict_seconds_count{{model_name="{model}"}}[5m])'
    failures = f"sum by (model_version) (rate(treadle_model_failures_total{{{m}}}[5m]))"
    quantile = f"histogram_quantile({1 - slow_share:g}, sum by (le) (rate(treadle_request_seconds_bucket{{{m}}}[5m])))"
    shed = f'sum(rate(treadle_requests_total{{{m},status=~"429|503"}}[5m])) / {requests} > 0.01'
    back = f"Go back with: treadle rollback {model} --reason TEXT"
    return [
        Alert("TreadleEndpointGone", f"absent(treadle_version_info{{{m},variant=\"champion\"}})", "1m", "critical",
              f"No endpoint of {model} is seen.", f"See: treadle status. Start it with: treadle deploy {model}"),
        Alert("TreadleStopped", f"max(treadle_stopped{{{m}}}) == 1", "0m", "critical", f"{model} was stopped by a person.",
              f"Who and why: treadle rollout {model}. Go on with: treadle resume {model} --reason TEXT"),
        Alert("TreadleFallback", f"max(treadle_versions_missed{{{m}}}) > 0", "0m", "critical",
              f"A version of {model} that should answer cannot be opened; another one answers.",
              f"Which and why: treadle rollout {model}. Mend its package, or: treadle rollback {model} --reason TEXT"),
        Alert("TreadleErrors", failing, "2m", "critical", f"More than {errors:.2%} of the requests to {model} fail.",
              f"See .treadle/logs/endpoint-{model}.log. {back}"),
        Alert("TreadleModelFails", f"{failures} / ({failures} + sum by (model_version) ({calls})) > {errors:g}", "2m", "critical",
              f"Version {{{{ $labels.model_version }}}} of {model} raises or answers nonsense.", back),
        Alert("TreadleSlow", f"{quantile} > {slow:g}", "5m", "warning",
              f"More than {slow_share:.2%} of the requests to {model} take over {slow:g} s.",
              "Compare request_preprocess_seconds, request_predict_seconds and request_postprocess_seconds."),
        Alert("TreadleShedding", shed, "5m", "warning", f"{model} turns requests away: there are more than it can answer, or keys ask for too much.",
              "More workers, or talk to the callers: treadle keys list"),
        Alert("TreadleLogBehind", f"max(treadle_log_waiting{{{m}}}) > 10000 or sum(rate(treadle_log_failures_total{{{m}}}[5m])) > 0", "1m",
              "critical",
              f"The prediction log of {model} falls behind or cannot be written.", "Look at the disk."),
        Alert("TreadleStoreDown", f"sum(rate(treadle_online_failures_total{{{m}}}[5m])) > 0", "1m", "critical",
              f"The online store of {model} does not answer.", "Look at the store; see docs/how-to/online-store.md"),
        Alert("TreadleChallengerFails", f"sum(increase(treadle_challenger_failures_total{{{m}}}[15m])) > 0", "0m", "warning",
              f"A challenger of {model} fails to answer; callers do not notice.", f"See: treadle rollout {model}"),
    ]  # fmt: skip


def compile_alerts(project: str, model: str, *, errors: float = 0.01, slow: float = 1.0, slow_share: float = 0.01) -> str:
    """A file of rules for Prometheus. Raises UsageError for a name outside the grammar."""
    name = json.dumps("treadle " + checked_name(model, "model name"))
    lines = [f"# {MARK} alerts`: compile again instead of editing.", "groups:", f"  - name: {name}", "    rules:"]
    for alert in alerts(model, errors=errors, slow=slow, slow_share=slow_share):
        lines += [
            f"      - alert: {alert.name}", f"        expr: {json.dumps(alert.expr)}", f"        for: {alert.holds}", "        labels:",
            f"          severity: {alert.severity}", f"          project: {json.dumps(checked_name(project, 'project name'))}",
            f"          treadle_model: {json.dumps(model)}", "        annotations:", f"          summary: {json.dumps(alert.says)}",
            f"          description: {json.dumps(alert.do)}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"
