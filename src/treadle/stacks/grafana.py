"""A Grafana dashboard for a model's endpoint: who answers, how much, how fast, what fails, and how far the log and the features are behind."""

from __future__ import annotations

import json
from typing import Any

from treadle.stacks.grammar import MARK, checked_name

SOURCE = {"type": "prometheus", "uid": "${source}"}
WIDTH, HEIGHT = 8, 8


def panels(model: str) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """(title, unit, [(PromQL, legend)]) of each panel."""
    m, k = f'model="{checked_name(model, "model name")}"', f'model_name="{model}"'

    def quantile(q: float, name: str, labels: str, by: str = "") -> str:
        return f"histogram_quantile({q}, sum by (le{by}) (rate({name}_bucket{{{labels}}}[$__rate_interval])))"

    return [
        ("Versions", "none", [(f"treadle_version_info{{{m}}}", "version {{model_version}}: {{variant}} ({{stage}})")]),
        ("Requests a second, by status", "reqps", [(f"sum by (status) (rate(treadle_requests_total{{{m}}}[$__rate_interval]))", "{{status}}")]),
        ("Answered rows a second, by version and variant", "short",
         [(f"sum by (model_version, variant) (rate(treadle_predictions_total{{{m}}}[$__rate_interval]))", "version {{model_version}}, {{variant}}")]),
        ("Time of requests", "s", [(quantile(q, "treadle_request_seconds", m), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)]),
        ("Time of the model, p95", "s",
         [(quantile(0.95, "request_predict_seconds", k, ", model_version, variant"), "version {{model_version}}, {{variant}}")]),
        ("Time before and after the model, p95", "s",
         [(quantile(0.95, "request_preprocess_seconds", k), "before"), (quantile(0.95, "request_postprocess_seconds", k), "after")]),
        ("Calls of the model that failed, a second", "short",
         [(f"sum by (model_version) (rate(treadle_model_failures_total{{{m}}}[$__rate_interval]))", "version {{model_version}}")]),
        ("Refused before they were read, a second", "reqps",
         [(f"sum by (status) (rate(treadle_refused_total{{{m}}}[$__rate_interval]))", "{{status}}")]),
        ("Log entries not yet written", "short", [(f"sum(treadle_log_waiting{{{m}}})", "waiting")]),
        ("Age of the newest feature values", "s", [(f"max by (view) (treadle_online_age_seconds{{{m}}})", "{{view}}")]),
        ("Online store did not answer, a second", "short", [(f"sum(rate(treadle_online_failures_total{{{m}}}[$__rate_interval]))", "failures")]),
        ("Stopped by a person", "bool", [(f"max(treadle_stopped{{{m}}})", "stopped")]),
    ]  # fmt: skip


def compile_grafana(project: str, model: str) -> str:
    """The dashboard as JSON, to import or to provision. Raises UsageError for a name outside the grammar."""
    drawn: list[dict[str, Any]] = []
    for i, (title, unit, targets) in enumerate(panels(model)):
        drawn.append({
            "id": i + 1, "type": "timeseries", "title": title, "datasource": SOURCE,
            "gridPos": {"x": i % 3 * WIDTH, "y": i // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
            "targets": [
                {"refId": chr(65 + n), "datasource": SOURCE, "expr": expr, "legendFormat": legend} for n, (expr, legend) in enumerate(targets)
            ],
        })  # fmt: skip
    changes = {
        "name": "Deployments", "enable": True, "iconColor": "blue", "datasource": SOURCE,
        "expr": f'changes(treadle_version_info{{model="{model}"}}[1m]) > 0',
        "titleFormat": "{{model_version}} {{variant}}", "step": "60s",
    }  # fmt: skip
    board = {
        "title": f"{checked_name(project, 'project name')}: {model}", "uid": f"treadle-{model}"[:40], "tags": ["treadle", model], "schemaVersion": 39,
        "description": f"{MARK} grafana`: compile again instead of editing.", "refresh": "10s", "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}]},
        "annotations": {"list": [changes]}, "panels": drawn,
    }  # fmt: skip
    return json.dumps(board, indent=2) + "\n"
