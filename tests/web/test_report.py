"""The report says what the ledger and the log hold, to the last digit that matters, and is one file that asks nobody for anything."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from treadle.assemble import Workspace
from treadle.core.errors import StorageError
from treadle.monitoring import alarms
from treadle.registry import versions
from treadle.report import collect, recorded, render, write_report
from treadle.report.answers import answers
from treadle.report.summed import areas
from treadle.training.losses import auc

World = Any  # conftest's, which tests get as a fixture and cannot import


@pytest.fixture(scope="module")
def collected(world: World) -> dict[str, Any]:
    return collect(world.ws, world.model)


@pytest.fixture(scope="module")
def page(collected: dict[str, Any]) -> str:
    return render(collected)


class Page(HTMLParser):
    """What a page holds: its references, headings, scripts and tables without a caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.headings: list[int] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.tables = self.captions = self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data", "poster")]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.scripts += tag == "script"


# What it says.


def test_the_loops_auc_and_log_loss_are_those_of_the_answers_that_were_given(world: World, collected: dict[str, Any]) -> None:
    totals = collected["production"]["totals"]
    assert totals["compared"] == len(world.truth) == collected["totals"]["outcomes"]
    assert totals["loop"]["roc_auc"] == pytest.approx(roc_auc_score(world.truth, world.said[:, 1]), abs=1e-4)
    assert totals["loop"]["log_loss"] == pytest.approx(log_loss(world.truth, world.said[:, 1]), abs=1e-6)


def test_the_frozen_first_version_is_scored_on_the_same_rows(world: World, collected: dict[str, Any]) -> None:
    totals = collected["production"]["totals"]
    assert collected["production"]["frozen"] == 1
    assert totals["frozen"]["roc_auc"] == pytest.approx(roc_auc_score(world.truth, world.frozen[:, 1]), abs=1e-4)
    assert totals["frozen"]["log_loss"] == pytest.approx(log_loss(world.truth, world.frozen[:, 1]), abs=1e-6)


def test_each_month_has_its_own_numbers_and_says_who_answered(world: World, collected: dict[str, Any]) -> None:
    months = collected["production"]["months"]
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    of = np.array([f"{epoch + timedelta(microseconds=int(m)):%Y-%m}" for m in world.moments])
    assert [m["month"] for m in months] == sorted(set(of))
    assert sum(m["rows"] for m in months) == len(world.truth)
    for month in months:
        mine = of == month["month"]
        if len(set(world.truth[mine])) < 2:
            continue
        assert month["loop"]["roc_auc"] == pytest.approx(auc(world.truth[mine], world.said[mine, 1]), abs=2e-4)
        assert month["loop"]["log_loss"] == pytest.approx(log_loss(world.truth[mine], world.said[mine, 1]), abs=1e-6)
    assert months[0]["answering"] == [1]
    assert 2 in months[-1]["answering"]


def test_the_interval_of_the_difference_is_that_of_resampled_days(world: World, collected: dict[str, Any]) -> None:
    gain = collected["production"]["totals"]["better_by"]["roc_auc"]
    days = world.moments // 86_400_000_000
    _, position = np.unique(days, return_inverse=True)
    count = position.max() + 1
    draws = np.random.default_rng(1).multinomial(count, np.full(count, 1 / count), size=300)[:, position].astype(float)
    resampled = [auc(world.truth, world.said[:, 1], w) - auc(world.truth, world.frozen[:, 1], w) for w in draws]
    low, high = np.percentile(resampled, [2.5, 97.5])
    assert gain["value"] == pytest.approx(auc(world.truth, world.said[:, 1]) - auc(world.truth, world.frozen[:, 1]), abs=2e-4)
    assert gain["low"] == pytest.approx(low, abs=0.006)
    assert gain["high"] == pytest.approx(high, abs=0.006)


def test_each_day_has_its_mean_prediction_and_its_share_of_positives(world: World, collected: dict[str, Any]) -> None:
    days = world.moments // 86_400_000_000
    row = collected["production"]["days"][10]
    mine = days == int(datetime.fromisoformat(row["day"]).replace(tzinfo=UTC).timestamp() // 86400)
    assert row["rows"] == row["matured"] == mine.sum()
    assert row["predicted"] == pytest.approx(world.said[mine, 1].mean())
    assert row["observed"] == pytest.approx(world.truth[mine].mean())


def test_always_saying_the_true_shares_is_the_entropy(world: World, collected: dict[str, Any]) -> None:
    share = world.truth.mean()
    assert collected["production"]["constant"] == pytest.approx(log_loss(world.truth, np.full(len(world.truth), share)))


def test_counting_scores_by_bin_gives_the_auc_of_tied_scores_exactly() -> None:
    assert areas(np.array([1.0, 2.0, 0.0]), np.array([0.0, 1.0, 3.0])).item() == pytest.approx(
        roc_auc_score([0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 2, 2, 2])
    )
    assert np.isnan(areas(np.array([1.0, 2.0]), np.array([0.0, 0.0])).item())


def test_it_names_versions_data_trials_evidence_and_who_decided(world: World, collected: dict[str, Any]) -> None:
    assert [v["number"] for v in collected["versions"]] == [1, 2]
    assert [v["status"] for v in collected["versions"]] == ["retired", "champion"]
    assert [e["version"] for e in collected["evaluations"]] == [2, 1]
    data = collected["data"][0]
    assert (data["data_set"], data["rows"], data["quarantined"]) == ("deliveries", 2000, 0)
    done = [t for t in collected["trials"] if t["status"] == "done"]
    assert done
    assert done == sorted(done, key=lambda t: t["loss"])
    takeover = next(e for e in collected["timeline"] if e["kind"] == "deployment.promoted")
    assert (takeover["actor"], takeover["version"]) == ("bob", 2)
    assert "version 2 answers instead of version 1" in takeover["text"]
    alarm = next(a for a in collected["alarms"] if a["id"] == world.alarm)
    assert (alarm["status"], alarm["kind"]) == ("open", "quality")
    assert collected["audit"]["whole"]
    assert collected["production"]["example"]["id"] == f"p-{len(world.truth) - 1:05d}"
    assert collected["totals"]["trainings"] == 2


def test_it_is_json_without_nan(collected: dict[str, Any]) -> None:
    assert json.loads(json.dumps(collected, allow_nan=False)) == collected


def test_what_is_only_recorded_is_found_without_reading_the_log(world: World) -> None:
    quick = recorded(world.ws, world.model)
    assert quick["production"] is None
    assert quick["totals"]["requests"] == len(world.truth)


def test_the_four_questions_are_answered(collected: dict[str, Any]) -> None:
    said = {a["question"]: a for a in answers(collected)}
    assert said["Is it worth it?"]["verdict"].startswith(("Yes", "Retraining did harm"))
    assert said["Is it safe?"]["verdict"] == "Look at 1 open alarm"
    assert said["Who approved it?"]["verdict"] == "Version 2: bob"
    assert any("treadle stop deliveries-late" in line for line in said["What would stop it?"]["lines"])


# What kind of page it is.


def test_the_page_asks_nobody_for_anything(page: str) -> None:
    read = Page(page)
    assert all(r.startswith(("#", "data:,")) for r in read.references), read.references
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|new WebSocket|import\(", page)
    assert "default-src 'none'" in page


def test_every_table_has_a_caption_and_headings_go_down_one_at_a_time(page: str) -> None:
    read = Page(page)
    assert read.tables == read.captions > 5
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(read.headings, read.headings[1:]))
    assert len(read.ids) == len(set(read.ids))


def test_names_and_sentences_cannot_become_markup(page: str) -> None:
    read = Page(page)
    assert "alert('x')" not in page.replace("alert(&#39;x&#39;)", "")
    assert "&lt;/script&gt;&lt;script&gt;" in page
    assert "<b>dispatch</b>" not in page
    assert read.scripts == 2  # the charts' numbers and the charts' code
    assert not read.inline


def test_the_charts_numbers_stand_in_tables_too(collected: dict[str, Any], page: str) -> None:
    for month in collected["production"]["months"]:
        assert f"{month['loop']['roc_auc']:.4f}" in page
    for place in re.findall(r'data-chart="([^"]+)"', page):
        assert f'"{place}"' in page


def test_a_written_report_replaces_the_old_one_whole(world: World, tmp_path: Path) -> None:
    path = tmp_path / "out" / "report.html"
    assert write_report(world.ws, world.model, path) == path
    first = path.read_text("utf-8")
    assert first.endswith("</html>")
    write_report(world.ws, world.model, path)
    assert os.listdir(path.parent) == ["report.html"]


def test_a_report_that_cannot_be_written_leaves_one_sentence_and_no_file(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        write_report(world.ws, world.model, tmp_path / "file" / "report.html")
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StorageError):
        write_report(world.ws, world.model, tmp_path / "report.html")
    assert sorted(os.listdir(tmp_path)) == ["file", "report.html"]


# Other projects.


def test_a_project_whose_only_version_was_refused_says_so_first(refused: Workspace) -> None:
    found = collect(refused, refused.model())
    assert found["deployment"] is None
    assert found["production"] is None
    said = {a["question"]: a for a in answers(found)}
    assert said["Is it worth it?"]["verdict"] == "No evidence that it is"
    assert any("signal" in line or "chance" in line for line in said["Is it worth it?"]["lines"])
    assert said["Who approved it?"]["verdict"] == "Nobody"
    text = render(found)
    assert "Refused: not in production" in text
    assert "It is not in production" in text


def test_a_project_that_never_ran_has_a_page_too(tiny: Workspace) -> None:
    found = collect(tiny, tiny.model())
    assert found["versions"] == found["data"] == found["trials"] == []
    assert "Nothing trained yet" in render(found)


def test_alarms_about_the_data_a_model_is_made_from_are_told_and_those_about_other_data_are_not(tiny: Workspace) -> None:
    model = tiny.model()
    broken = {"volume": {"sentence": "The version has 3 rows; at least 100 are promised.", "stops": True, "since": "2026-01-05T00:00:00Z"}}
    for name in (model.rows.name, "other"):
        tiny.ledger.put("contract_state", name, {"dataset": name, "owner": "ann", "taken": "2026-01-05T00:00:00Z", "broken": broken})
    alarms.about_data(tiny.ledger, tiny.clock)
    found = collect(tiny, model)
    (alarm,) = found["alarms"]
    assert (alarm["kind"], alarm["about"], alarm["status"]) == ("volume", f"data set {model.rows.name}, for ann", "open")
    assert [e["text"] for e in found["timeline"]] == [f"volume of data set {model.rows.name}, for ann: The version has 3 rows; at least 100 are promised."]
    assert f"of data set {model.rows.name}, for ann" in render(found)
    tiny.ledger.put("contract_state", model.rows.name, {"dataset": model.rows.name, "owner": "ann", "taken": "2026-01-06T00:00:00Z", "broken": {}})
    alarms.about_data(tiny.ledger, tiny.clock)
    assert [a["status"] for a in collect(tiny, model)["alarms"]] == ["resolved"]


def test_a_regression_is_told_in_absolute_errors(project: Any, live: Any) -> None:
    chance = np.random.default_rng(3)
    x = chance.normal(size=300)
    y = 20 + 3 * x + chance.normal(size=300)
    body = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1)\nproject.serve(model)\n'
    ws = project(body, [f"{i},{a:.4f},{b:.4f}" for i, (a, b) in enumerate(zip(x, y))])
    outputs, truths = live(ws, float, 12)
    found = collect(ws, ws.model())
    earned = found["production"]
    assert earned["primary"] == "mae"
    assert earned["totals"]["loop"] == {"mae": pytest.approx(np.abs(np.array(truths) - outputs[:, 0]).mean())}
    assert earned["totals"]["better_by"]["mae"]["value"] == pytest.approx(0)
    assert earned["constant"] is None
    assert "mean absolute error" in render(found)


def test_many_classes_are_told_in_log_loss(project: Any, live: Any) -> None:
    chance = np.random.default_rng(4)
    x = chance.normal(size=400)
    y = np.where(x + 0.3 * chance.normal(size=400) > 0.6, "high", np.where(x < -0.6, "low", "mid"))
    body = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("logistic")], trials=1)\nproject.serve(model)\n'
    ws = project(body, [f"{i},{a:.4f},{b}" for i, (a, b) in enumerate(zip(x, y))], "tr.category()")
    outputs, truths = live(ws, str, 3)
    found = collect(ws, ws.model())
    earned = found["production"]
    assert earned["primary"] == "log_loss"
    assert earned["totals"]["loop"]["log_loss"] == pytest.approx(log_loss(truths, outputs, labels=["high", "low", "mid"]), abs=1e-5)
    assert earned["totals"]["better_by"]["log_loss"] == {"value": pytest.approx(0), "low": None, "high": None}  # three days tell nothing
    assert earned["days"][0]["observed"] == pytest.approx(
        np.mean([outputs[i].argmax() == ["high", "low", "mid"].index(truths[i]) for i in range(0, 400, 3)])
    )
    assert "too few days" in render(found)


def test_answers_without_outcomes_are_counted_and_not_judged(project: Any, live: Any) -> None:
    body = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1)\n'
    x = np.random.default_rng(6).normal(size=300)
    ws = project(body, [f"{i},{a:.4f},{2 * a + (i % 7) / 7:.4f}" for i, a in enumerate(x)])
    live(ws, None, 1, rows=1)
    found = collect(ws, ws.model())
    assert (found["production"]["rows"], found["production"]["matured"], found["production"]["totals"]) == (1, 0, None)
    text = render(found)
    assert "It answered 1 request; no outcome has come back yet." in text


def test_a_first_version_that_cannot_be_opened_leaves_the_rest_of_the_page(project: Any, live: Any) -> None:
    body = 'model = project.model("m", rows=rows, target="y", inputs=["x"], candidates=[tr.candidate("ridge")], trials=1)\n'
    x = np.random.default_rng(6).normal(size=300)
    ws = project(body, [f"{i},{a:.4f},{2 * a + (i % 7) / 7:.4f}" for i, a in enumerate(x)])
    live(ws, float, 8)
    record = versions.get("m", 1, ws.ledger)
    ws.ledger.put(versions.KIND, record.id, {**record.body, "package": {**record["package"], "digest": "0" * 64}})
    earned = collect(ws, ws.model())["production"]
    assert earned["totals"] is None
    assert "cannot be opened" in earned["problem"]
    assert earned["matured"] == 300
    assert "could not be asked again" in render(collect(ws, ws.model()))


# In a browser.

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.mark.story
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_every_chart_asks_for_nothing_and_complains_of_nothing(world: World, tmp_path: Path, scheme: Any) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    path = write_report(world.ws, world.model, tmp_path / "report.html")
    said: list[str] = []
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        tab = browser.new_context(color_scheme=scheme, viewport={"width": 400, "height": 800}).new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        places = tab.locator(".plot[data-chart]").count()
        assert places > 2
        assert tab.locator(".plot canvas").count() == places
        drawn = tab.evaluate(
            """() => [...document.querySelectorAll('.plot canvas')].map(
                c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(v => v > 0))"""
        )
        assert all(drawn)
        assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page is wider than a phone"
        browser.close()
    assert said == []
    assert asked == [path.as_uri()]


def test_the_truth_stands_on_the_page_by_window_and_version_beside_what_was_estimated(collected: dict[str, Any]) -> None:
    metric = {"value": 0.71234, "low": 0.68, "high": 0.74}
    mature = {"from": "2024-01-01T00:00:00Z", "to": "2024-01-08T00:00:00Z", "version": 1, "rows": 200, "matured": 150, "restated": 1, "early": 0, "odd": 0,
              "over_limit": 0, "mature": True, "metrics": {"roc_auc": {**metric, "estimate": 0.70, "error": None}}}  # fmt: skip
    waits = {**mature, "from": "2024-01-08T00:00:00Z", "to": "2024-01-15T00:00:00Z", "matured": None, "restated": 0, "mature": False,
             "metrics": {"roc_auc": {"value": None, "low": None, "high": None, "estimate": 0.69, "error": 0.011}}}  # fmt: skip
    truth = {"rows": [mature, waits], "names": ["roc_auc"], "assumes": "the probabilities are right", "window_days": 7.0, "unknown_ids": 3}
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", render({**collected, "truth": truth})))
    assert "The truth, as it came" in text
    assert "150 (75 %)" in text
    assert "not yet" in text
    assert "1 time" in text
    assert "3 outcomes name predictions that are not in the log" in text
    assert "The truth, as it came" not in render({**collected, "truth": None})


def test_what_the_ledger_holds_of_the_truth_is_what_the_page_gets(tiny: Workspace) -> None:
    model = tiny.model()
    body = {"model": model.name, "version": 1, "start": 0, "end": 7 * 86_400_000_000, "from": "1970-01-01", "to": "1970-01-08", "mark": "0", "at": "",
            "rows": 20, "matured": 15, "early": 0, "odd": 0, "over_limit": 0, "interval_of": "days", "restated": 2, "history": [],
            "metrics": {"log_loss": {"value": 0.5, "low": 0.4, "high": 0.6}}, "estimate": {"log_loss": 0.45}}  # fmt: skip
    from treadle.core.clock import SystemClock
    from treadle.monitoring.figures import figures
    from treadle.report import matured

    tiny.ledger.put("truth", f"{model.name}-v1-0", body)
    found = matured.told(tiny, model, waiting=False)
    text = figures([model.name], tiny.ledger, SystemClock())
    assert found is not None
    row = next(r for r in found["rows"] if r["from"] == "1970-01-01")
    assert row["metrics"]["log_loss"] == {"value": 0.5, "low": 0.4, "high": 0.6, "estimate": 0.45, "error": None}
    labels = f'model="{model.name}",version="1"'
    assert f'treadle_truth_outcomes{{{labels}}} 15' in text
    for name, value in (("metric", 0.5), ("metric_low", 0.4), ("metric_high", 0.6), ("estimate", 0.45), ("estimate_error", 0.05)):
        assert f'treadle_truth_{name}{{{labels},metric="log_loss"}} {value:g}' in text
