"""The dashboard and the alert rules are what Prometheus takes, and ask for what the endpoint really says; an alert really fires."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from treadle.assemble import Workspace
from treadle.client import Endpoint
from treadle.core.errors import UsageError
from treadle.live import deploy
from treadle.live.switch import stop
from treadle.registry import promote
from treadle.stacks.alerts import alerts, compile_alerts
from treadle.stacks.grafana import compile_grafana, panels
from treadle.stacks.grammar import MARK
from treadle.testing.command import treadle
from treadle.testing.servers import prometheus

ROW = {"distance": 733, "seats": 150, "carrier": "UA", "wet": True, "zone": 7}


def promtool(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, text=True, check=False, timeout=60)


def test_the_rules_are_taken_by_promtool_and_say_what_to_do(tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text(compile_alerts("flights", "late-arrival", errors=0.02, slow=0.2))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stderr
    assert f"SUCCESS: {len(alerts('late-arrival'))} rules found" in checked.stdout
    assert MARK in file.read_text().splitlines()[0]
    rules = yaml.safe_load(file.read_text())["groups"][0]["rules"]
    assert {r["labels"]["severity"] for r in rules} == {"critical", "warning"}
    assert all(r["annotations"]["summary"] and r["annotations"]["description"] for r in rules)
    assert "> 0.02" in next(r["expr"] for r in rules if r["alert"] == "TreadleErrors")


def test_the_rules_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(compile_alerts("flights", "late", errors=0.05))
    m = 'model="late"'
    unit: dict[str, Any] = {
        "rule_files": [str(rules)], "evaluation_interval": "1m",
        "tests": [{
            "interval": "1m",
            "input_series": [
                {"series": f'treadle_requests_total{{{m},status="200"}}', "values": "0+600x30"},
                {"series": f'treadle_requests_total{{{m},status="500"}}', "values": "0x10 60+60x20"},
                {"series": f'treadle_version_info{{{m},variant="champion",model_version="1"}}', "values": "1x10 _x20"},
                {"series": f"treadle_stopped{{{m}}}", "values": "0x20 1x10"},
                {"series": f"treadle_log_waiting{{{m}}}", "values": "0x30"},
            ],
            "alert_rule_test": [
                {"eval_time": at, "alertname": name, "exp_alerts": [_expected(rules, name)] if fires else []}
                for name, at, fires in (
                    ("TreadleErrors", "9m", False), ("TreadleErrors", "20m", True), ("TreadleEndpointGone", "9m", False),
                    ("TreadleEndpointGone", "20m", True), ("TreadleStopped", "9m", False), ("TreadleStopped", "25m", True),
                    ("TreadleLogBehind", "25m", False), ("TreadleSlow", "25m", False),
                )
            ],
        }],
    }  # fmt: skip
    file = tmp_path / "unit.yml"
    file.write_text(json.dumps(unit))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def _expected(rules: Path, name: str) -> dict[str, Any]:
    rule = next(r for r in yaml.safe_load(rules.read_text())["groups"][0]["rules"] if r["alert"] == name)
    says = {k: v.replace("{{ $labels.model_version }}", "") for k, v in rule["annotations"].items()}
    labels = {"model": "late", "variant": "champion"} if name == "TreadleEndpointGone" else {}
    return {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": says}


def test_a_live_prometheus_reads_the_endpoint_and_every_panel_and_rule_gets_an_answer(served: Callable[..., Workspace], tmp_path: Path) -> None:
    ws = served(2)
    promote.challenge("late", 2, ws.ledger, ws.clock)
    promote.canary("late", 0.5, {}, ws.ledger, ws.clock)
    record = deploy.start(ws, ws.model())
    rules = tmp_path / "rules.yml"
    treadle(ws.folder, "compile", "alerts", "--out", str(rules))
    text = Endpoint(record["url"]).metrics()
    assert promtool("check", "metrics", stdin=text).returncode == 0, promtool("check", "metrics", stdin=text).stderr
    server = prometheus(
        f"global: {{scrape_interval: 250ms, evaluation_interval: 250ms}}\nrule_files: [{rules}]\n"
        f"scrape_configs: [{{job_name: treadle, static_configs: [{{targets: ['127.0.0.1:{record['port']}']}}]}}]\n"
    )
    try:
        endpoint = Endpoint(record["url"])

        def ask(expr: str) -> list[Any]:
            query = urllib.parse.urlencode({"query": expr.replace("$__rate_interval", "1m")})
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/api/v1/query?{query}", timeout=20) as answer:
                return list(json.load(answer)["data"]["result"])  # a wrong expression is an HTTP error

        wanted = {title: [expr for expr, _ in targets] for title, _, targets in panels("late")}
        silent = {"Refused before they were read, a second", "Age of the newest feature values"}  # nothing was refused, and no feature is fresh
        end = time.monotonic() + 60
        while time.monotonic() < end:
            endpoint.predict_many([ROW] * 20)
            missing = [e for title, exprs in wanted.items() if title not in silent for e in exprs if not ask(e)]
            if not missing:
                break
            time.sleep(0.25)
        assert not missing
        for expr in [e for exprs in wanted.values() for e in exprs] + [a.expr for a in alerts("late")]:
            ask(expr)
        versions = {(r["metric"]["model_version"], r["metric"]["variant"]) for r in ask("request_predict_seconds_count")}
        assert versions == {("1", "champion"), ("2", "canary")}
        stop(ws, ws.model(), "fire")
        while time.monotonic() < end + 30 and not ask('ALERTS{alertname="TreadleStopped",alertstate="firing"}'):
            time.sleep(0.25)
        assert ask('ALERTS{alertname="TreadleStopped",alertstate="firing",treadle_model="late"}')
    finally:
        server.stop()
        deploy.stop(ws, "late")


def test_the_dashboard_has_its_panels_side_by_side_and_says_where_it_comes_from() -> None:
    board = json.loads(compile_grafana("flights", "late-arrival"))
    assert MARK in board["description"]
    assert len({p["id"] for p in board["panels"]}) == len(board["panels"]) == len(panels("late-arrival"))
    taken = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in board["panels"]}
    assert len(taken) == len(board["panels"])
    assert max(p["gridPos"]["x"] + p["gridPos"]["w"] for p in board["panels"]) == 24
    assert {t["datasource"]["uid"] for p in board["panels"] for t in p["targets"]} == {"${source}"}


@pytest.mark.parametrize("wrong", ['late"} or vector(1)', "late\n", "", "LATE"])
def test_a_name_that_would_break_out_of_a_query_is_refused(wrong: str) -> None:
    for compiled in (compile_alerts, compile_grafana):
        with pytest.raises(UsageError):
            compiled("flights", wrong)
