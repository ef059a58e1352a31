"""The page of a run says what each step did, why, when and what it waited for; it asks nobody for anything, and stays small however large the run was."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.core.clock import iso
from treadle.core.errors import NotFound, StepFailed, StorageError, UsageError
from treadle.pipelines.run import APPROVAL, RUN, STEP
from treadle.report import drawn
from treadle.report.graph import graph_of, graph_of_run
from treadle.report.page import write_graph
from treadle.testing.command import treadle
from treadle.testing.console import signed_in
from treadle.wheel.start import resume, start

PROJECT = '''
import time
import treadle as tr

project = tr.Project("figures", owner="me", goal="<b>draw</b>")


@tr.step
def load(n: int) -> int:
    print("loading <i>rows</i>", n)
    return n


@tr.step
def score(part: int, base: int) -> int:
    time.sleep(0.01)
    if part > 90:
        raise ValueError("</pre><script>alert('task')</script>")
    return part + base


@tr.step
def best(scores: list[int]) -> int:
    return max(scores)


@tr.step
def large(x: int) -> bool:
    return x > 100


@tr.step
def publish(x: int) -> int:
    return x


@tr.step(name="<script>alert(1)<_script>")
def odd(x: int) -> int:
    return x


@project.pipeline
def inner(x: int) -> int:
    return publish(publish(x))


@project.pipeline
def nightly(n: int = 3, parts: list[int] = [1, 2, 3], says: str = "<script>alert('param')</script>") -> int:
    rows = load(n)
    top = best(score.map(parts, base=rows))
    with tr.when(large(top)):
        publish(top)
    odd(inner(top))
    ok = tr.approval("Publish <b>them</b>?", shows=top)
    last = publish.with_options(name="last")(rows).after(ok)
    return last
'''
World = Any  # conftest's, which tests get as a fixture and cannot import
PERSON = {"kind": "person", "id": "", "text": "</p><script>alert('cause')</script>"}
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("figures")
    (made / "project.py").write_text(PROJECT)
    return made


@pytest.fixture(scope="module")
def ws(folder: Path) -> Iterator[Workspace]:
    opened = open_workspace(folder)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def runs(ws: Workspace) -> dict[str, str]:
    """Four runs: one that waits, the same approved, one with parts of it reused, one that failed."""
    first = start(ws, "nightly", cause=PERSON).run
    waiting = graph_of_run(ws, first)
    asked = ws.ledger.get(APPROVAL, f"{first.id}/approval")
    assert asked is not None
    ws.ledger.put(APPROVAL, asked.id, {**asked.body, "status": "approved", "by": "ann", "reason": "fine", "at": iso(ws.clock.now())})
    resume(ws, first.id)
    again = start(ws, "nightly", cause=PERSON, params={"parts": [1, 2, 3, 4]}).run
    with pytest.raises(StepFailed):
        start(ws, "nightly", cause=PERSON, params={"parts": [1, 99]})
    failed = ws.ledger.find(RUN, newest_first=True, limit=1)[0]
    return {"waiting": json.dumps(waiting), "done": first.id, "again": again.id, "failed": failed.id}


def steps(graph: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {s["name"]: s for s in graph["steps"]}


def page(ws: Workspace, graph: dict[str, Any], tmp_path: Path) -> str:
    return write_graph(graph, tmp_path / "graph.html").read_text("utf-8")


# What it says.


def test_a_run_has_its_steps_in_order_with_states_reasons_and_times(ws: Workspace, runs: dict[str, str]) -> None:
    graph = graph_of(ws, runs["done"])
    found = steps(graph)
    assert graph["target"] == {"kind": "pipeline", "name": "nightly"}
    assert found["load"]["state"] == "done"
    assert found["load"]["reason"] == "never ran"
    assert found["publish"]["state"] == "skipped"
    assert found["publish"]["reason"] == "large is not true"
    assert found["load"]["log"] == ["loading <i>rows</i> 3"]
    assert 0 <= found["load"]["from"] <= found["load"]["to"] <= found["score"]["from"] < found["score"]["to"] <= found["best"]["from"]
    assert found["best"]["waited"] == pytest.approx(found["best"]["from"] - found["score"]["to"])
    assert graph["totals"]["states"] == {"done": 9, "skipped": 1}


def test_inputs_conditions_and_mere_order_are_told_apart(ws: Workspace, runs: dict[str, str]) -> None:
    found = steps(graph_of(ws, runs["done"]))
    assert found["publish"]["needs"] == [{"step": "best", "kind": "input"}, {"step": "large", "kind": "when"}]
    assert found["last"]["needs"] == [{"step": "load", "kind": "input"}, {"step": "approval", "kind": "after"}]


def test_a_fan_out_is_one_step_with_its_tasks_counted(ws: Workspace, runs: dict[str, str]) -> None:
    tasks = steps(graph_of(ws, runs["done"]))["score"]["tasks"]
    assert tasks["count"] == 3
    assert tasks["states"] == {"done": 3}
    assert 0.01 <= tasks["least"] <= tasks["median"] <= tasks["most"]
    assert {t["name"] for t in tasks["slowest"]} == {"score[0]", "score[1]", "score[2]"}


def test_what_was_used_again_saved_the_seconds_it_had_taken(ws: Workspace, runs: dict[str, str]) -> None:
    once, again = steps(graph_of(ws, runs["done"])), graph_of(ws, runs["again"])
    found = steps(again)
    assert found["load"]["state"] == "reused"
    assert found["load"]["saved"] == pytest.approx(once["load"]["seconds"], abs=1e-3)
    assert found["score"]["state"] == "done"
    assert found["score"]["tasks"]["states"] == {"reused": 3, "done": 1}
    assert found["score"]["saved"] == pytest.approx(once["score"]["tasks"]["seconds"], abs=1e-3)
    assert again["totals"]["hits"] >= 4
    assert again["totals"]["saved"] == pytest.approx(sum(s["saved"] or 0 for s in again["steps"]))


def test_the_longest_chain_is_a_path_of_the_graph_with_the_most_time(ws: Workspace, runs: dict[str, str]) -> None:
    graph = graph_of(ws, runs["again"])
    found = steps(graph)
    for before, after in zip(graph["chain"], graph["chain"][1:]):
        assert before in [n["step"] for n in found[after]["needs"]]

    def far(name: str) -> float:
        return float(found[name]["span"]) + max((far(n["step"]) for n in found[name]["needs"]), default=0.0)

    assert graph["totals"]["chain"] == pytest.approx(max(far(name) for name in found))
    assert {s["name"] for s in graph["steps"] if s["critical"]} == set(graph["chain"])


def test_a_run_that_waits_shows_the_question_and_what_comes_after_it(runs: dict[str, str]) -> None:
    found = steps(json.loads(runs["waiting"]))
    assert (found["approval"]["state"], found["approval"]["question"]) == ("waiting", "Publish <b>them</b>?")
    assert found["last"]["state"] == "waiting"
    assert found["last"]["reason"] == "after load, approval"


def test_an_answered_question_took_the_persons_time(ws: Workspace, runs: dict[str, str]) -> None:
    found = steps(graph_of(ws, runs["done"]))
    assert found["approval"]["state"] == "done"
    assert found["approval"]["to"] > found["approval"]["from"]
    assert found["last"]["from"] >= found["approval"]["to"]


def test_a_failed_run_names_the_task_its_error_and_what_was_not_reached(ws: Workspace, runs: dict[str, str]) -> None:
    graph = graph_of(ws, runs["failed"])
    found = steps(graph)
    assert graph["run"]["status"] == "failed"
    assert found["score"]["state"] == "failed"
    assert found["score"]["tasks"]["failed"][0]["name"] == "score[1]"
    assert "Traceback" in found["score"]["traceback"]
    assert found["best"]["state"] == found["last"]["state"] == "not reached"


def test_a_run_whose_pipeline_was_changed_since_is_told_by_its_record_alone(ws: Workspace, runs: dict[str, str]) -> None:
    record = ws.ledger.get(RUN, runs["failed"])
    assert record is not None
    from dataclasses import replace

    gone = graph_of_run(ws, replace(record, body={**record.body, "request": {"pipeline": "gone", "params": {}}}))
    assert "best" not in steps(gone)
    assert steps(gone)["score"]["state"] == "failed"


def test_without_a_run_it_is_what_would_be_done_and_why(ws: Workspace, runs: dict[str, str]) -> None:
    before = len(ws.ledger.find(RUN))
    graph = graph_of(ws, "nightly", {"n": "4"})
    found = steps(graph)
    assert graph["run"] is None
    assert found["load"]["state"] == "would run"
    assert found["load"]["reason"] == "parameter n changed from 3 to 4"
    assert found["score"]["reason"] == "after load"
    assert steps(graph_of(ws, "nightly"))["load"]["state"] == "up to date"
    assert graph["totals"]["expected"] > 0
    assert len(ws.ledger.find(RUN)) == before


def test_the_newest_run_is_taken_when_nothing_is_named_and_an_unknown_name_is_refused(ws: Workspace, runs: dict[str, str]) -> None:
    assert graph_of(ws)["run"]["id"] == runs["failed"]
    with pytest.raises(NotFound, match="no run, model or pipeline 'nope'"):
        graph_of(ws, "nope")
    with pytest.raises(UsageError, match="no parameter 'm'"):
        graph_of(ws, "nightly", {"m": "1"})


def test_a_models_turn_has_a_graph_too(world: World) -> None:
    planned = graph_of(world.ws, world.model.name)
    assert planned["target"]["kind"] == "model"
    assert {"rows", "train", "evaluate", "register"} <= set(steps(planned))
    found = graph_of_run(world.ws, world.ws.ledger.find(RUN)[0])
    assert found["target"]["kind"] == "model"
    assert steps(found)["train"]["state"] == "done"


# The page.


class Page(HTMLParser):
    """What a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.headings: list[int] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.unnamed: list[str] = []
        self.tables = self.captions = self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "action", "srcset", "data", "poster")]
        self.inline += [name for name, _ in attrs if name.startswith("on") or name == "style"]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag == "svg" or "tabindex" in given:
            self.unnamed += [tag] if not given.get("aria-label") else []
        self.tables += tag == "table"
        self.captions += tag == "caption"
        self.scripts += tag == "script"


@pytest.mark.parametrize("which", ["done", "again", "failed", "nightly"])
def test_it_is_one_file_that_asks_nobody_and_holds_to_the_basics(ws: Workspace, runs: dict[str, str], tmp_path: Path, which: str) -> None:
    text = page(ws, graph_of(ws, runs.get(which, which)), tmp_path)
    read = Page(text)
    assert all(r.startswith(("#", "data:,")) for r in read.references), read.references
    assert {r[1:] for r in read.references if r.startswith("#")} <= set(read.ids)
    assert not re.search(r"url\(|@import|fetch\(", text)
    assert "default-src 'none'" in text
    assert read.tables == read.captions == 1
    assert read.headings[0] == 1
    assert read.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(read.headings, read.headings[1:]))
    assert len(read.ids) == len(set(read.ids))
    assert not read.unnamed, "each picture and each part that scrolls has a name"
    assert read.scripts == 0, "it needs no script"


@pytest.mark.parametrize("which", ["done", "failed", "nightly"])
def test_names_reasons_logs_and_errors_cannot_become_markup(ws: Workspace, runs: dict[str, str], tmp_path: Path, which: str) -> None:
    text = page(ws, graph_of(ws, runs.get(which, which)), tmp_path)
    read = Page(text)
    assert read.scripts == 0
    assert not read.inline
    assert "&lt;script&gt;alert(1)&lt;_script&gt;" in text
    assert "<i>rows" not in text
    assert "<b>them" not in text


def test_everything_in_the_picture_stands_in_the_table(ws: Workspace, runs: dict[str, str], tmp_path: Path) -> None:
    graph = graph_of(ws, runs["done"])
    text = page(ws, graph, tmp_path)
    table = text[text.index("<table") :]
    for s in graph["steps"]:
        assert f'id="step-{s["index"]}"' in table
    assert "Publish &lt;b&gt;them&lt;/b&gt;?" in table
    assert "large is not true" in table
    assert "loading &lt;i&gt;rows" in table


def test_lines_of_conditions_and_of_order_look_different(ws: Workspace, runs: dict[str, str], tmp_path: Path) -> None:
    text = page(ws, graph_of(ws, runs["done"]), tmp_path)
    assert 'class="edge when' in text
    assert 'class="edge after' in text
    assert "runs on its condition" in text
    assert "only comes after it" in text


def test_a_sub_pipeline_has_a_frame_and_a_fan_out_a_stack_with_a_bar(ws: Workspace, runs: dict[str, str]) -> None:
    picture = drawn.shown(graph_of(ws, runs["again"]))["picture"]
    boxes = {b["name"]: b for row in picture["rows"] for b in row["boxes"]}
    assert {f["name"] for row in picture["rows"] for f in row["frames"]} == {"inner"}
    assert boxes["inner/publish"]["label"] == "publish"
    assert boxes["score"]["stack"]
    assert [(p["state"], p["count"]) for p in boxes["score"]["bar"]] == [("done", 1), ("reused", 3)]
    assert sum(p["width"] for p in boxes["score"]["bar"]) == pytest.approx(boxes["score"]["width"] - 24, abs=0.2)


def test_a_page_that_cannot_be_written_leaves_one_sentence_and_no_file(ws: Workspace, runs: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="The graph cannot be written"):
        write_graph(graph_of(ws, runs["done"]), tmp_path / "file" / "graph.html")


def test_the_command_writes_the_page_or_prints_what_it_shows(folder: Path, runs: dict[str, str], tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    assert treadle(folder, "graph", runs["done"], "--out", str(out)).stdout.strip() == f"graph: {out}"
    assert runs["done"] in out.read_text("utf-8")
    printed = treadle(folder, "graph", "nightly", "--set", "n=7", "--json")
    assert json.loads(printed.stdout)["params"]["n"] == "7"
    assert "no run, model or pipeline" in treadle(folder, "graph", "nope", expect=NotFound.exit_code).stderr
    assert "is a run" in treadle(folder, "graph", runs["done"], "--set", "n=7", expect=UsageError.exit_code).stderr


def test_the_consoles_page_of_a_run_has_the_same_picture(ws: Workspace, runs: dict[str, str]) -> None:
    client = signed_in(ws)
    text = client.get(f"/runs/{runs['done']}").text
    read = Page(text)
    assert 'class="frame"' in text
    assert "longest chain" in text
    assert not read.inline
    assert len(read.ids) == len(set(read.ids))
    assert client.get(f"/api/v1/runs/{runs['done']}").json()["graph"]["chain"]


# Times, from records that are made up.


def recorded(ws: Workspace, id: str, entries: list[dict[str, Any]], status: str = "done") -> dict[str, Any]:
    """A run with these steps; `at` and `took` are seconds since it began."""
    body = {
        "scope": "figures.nightly", "project": "figures", "pipeline": "nightly", "cause": PERSON, "status": status, "started": iso(EPOCH), "ended": "",
        "seconds": 1.0, "cpu": 0.5, "counts": {}, "epoch": 1, "owner": {"host": "elsewhere", "pid": 1, "token": "t", "seen": 0},
    }  # fmt: skip
    with ws.ledger.transaction():
        record = ws.ledger.put(RUN, id, body)
        for i, e in enumerate(entries):
            at, took = e.pop("at", None), e.pop("took", 0.0)
            times = {} if at is None else {"started": iso(EPOCH + timedelta(seconds=at)), "ended": iso(EPOCH + timedelta(seconds=at + took))}
            blank = {"status": "done", "key": "", "reason": "", "seconds": took, "cpu": took, "inputs": {}, "after": []}
            ws.ledger.put(STEP, f"{id}/{e['step']}", {**blank, "run": id, "index": i, **times, **e})
    return graph_of_run(ws, record)


def test_the_wait_of_a_step_is_from_the_end_of_its_needs_without_its_failed_attempts(ws: Workspace) -> None:
    found = steps(recorded(ws, "run-waits", [
        {"step": "a", "at": 1.0, "took": 2.0}, {"step": "b", "at": 1.0, "took": 1.0},
        {"step": "c", "at": 10.0, "took": 1.0, "after": ["a", "b"], "attempt": 2, "failures": [{"attempt": 1, "error": "x", "seconds": 3.0}]},
    ]))  # fmt: skip
    assert (found["a"]["waited"], found["c"]["waited"]) == (1.0, 4.0)


def test_the_chain_is_the_longest_by_time_not_by_number_of_steps(ws: Workspace) -> None:
    graph = recorded(ws, "run-chain", [
        {"step": "a", "at": 0.0, "took": 1.0}, {"step": "b", "at": 1.0, "took": 1.0, "after": ["a"]}, {"step": "c", "at": 2.0, "took": 1.0, "after": ["b"]},
        {"step": "long", "at": 0.0, "took": 9.0}, {"step": "end", "at": 9.0, "took": 1.0, "after": ["c", "long"]},
    ])  # fmt: skip
    assert graph["chain"] == ["long", "end"]
    assert graph["totals"]["chain"] == 10.0


def test_a_night_in_which_nothing_ran_is_cut_out_of_the_timeline(ws: Workspace) -> None:
    graph = recorded(ws, "run-night", [{"step": "a", "at": 0.0, "took": 5.0}, {"step": "b", "at": 40_000.0, "took": 5.0, "after": ["a"]}])
    timeline = drawn.shown(graph)["timeline"]
    assert [k["text"] for k in timeline["breaks"]] == ["11 h 6 min"]
    assert [lane["width"] > 200 for lane in timeline["lanes"]] == [True, True]


def test_a_step_that_an_ended_run_left_running_was_interrupted(ws: Workspace) -> None:
    assert steps(recorded(ws, "run-cut", [{"step": "a", "status": "running"}], "interrupted"))["a"]["state"] == "interrupted"
    assert steps(recorded(ws, "run-stopped", [{"step": "a", "status": "running"}], "cancelled"))["a"]["state"] == "cancelled"


def test_a_run_without_any_step_has_a_page(ws: Workspace, tmp_path: Path) -> None:
    assert "0 steps" in page(ws, recorded(ws, "run-empty", [], "failed"), tmp_path)


# Large runs.


def large(ws: Workspace, id: str, count: int, wide: int) -> dict[str, Any]:
    log = ws.blobs.put(("<tag> & \"quoted\" text of a log line\n" * 60).encode())
    return recorded(ws, id, [
        {
            "step": f"part{i % wide}/step-{i}", "at": float(i // wide), "took": 0.5, "after": [f"part{(i + k) % wide}/step-{i - wide + k}" for k in range(min(2, wide))] if i >= wide else [],
            "log": log, "lines": 60, "reason": "parameter <x> changed from 'a' to 'b'", "warnings": ["it asked example.org; the cache does not know"],
        }
        for i in range(count)
    ])  # fmt: skip


@pytest.mark.parametrize(("count", "wide"), [(300, 1), (300, 12), (300, 300), (1500, 30)])
def test_a_run_of_hundreds_of_steps_stays_a_small_page(ws: Workspace, tmp_path: Path, count: int, wide: int) -> None:
    graph = large(ws, f"run-large-{count}-{wide}", count, wide)
    text = page(ws, graph, tmp_path)
    assert len(text.encode()) < 2_000_000
    shown = drawn.shown(graph)
    assert shown["picture"]["boxes"] <= drawn.MOST
    assert all(row["width"] < 1.3 * drawn.ROW for row in shown["picture"]["rows"])
    assert text.count("<tr id=") == min(count, drawn.ROWS)
    if count > drawn.ROWS:
        assert "500 more steps are not in the table" in text


def test_a_fan_out_of_thousands_is_one_box_that_shows_its_one_failure(ws: Workspace, tmp_path: Path) -> None:
    tasks: list[dict[str, Any]] = [
        {"step": f"score[{i}]", "of": "score", "task": i, "at": i / 100, "took": 0.01, "status": "failed" if i == 4321 else "done", "error": "<b>bad</b>"}
        for i in range(5000)
    ]
    graph = recorded(ws, "run-flood", [{"step": "score", "at": 0.0, "took": 50.0, "tasks": 5000, "status": "failed"}, *tasks], "failed")
    assert graph["totals"]["tasks"] == 5000
    assert steps(graph)["score"]["tasks"]["states"] == {"done": 4999, "failed": 1}
    text = page(ws, graph, tmp_path)
    assert len(text.encode()) < 100_000
    assert "score[4321]" in text
    bar = drawn.shown(graph)["picture"]["rows"][0]["boxes"][0]["bar"]
    assert min(p["width"] for p in bar) >= 2


# In a browser.

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
CONTRAST = """() => {
  const light = c => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 });
    return .2126 * r + .7152 * g + .0722 * b };
  const ratio = (a, b) => (Math.max(light(a), light(b)) + .05) / (Math.min(light(a), light(b)) + .05);
  return [...document.querySelectorAll('.graph .box text, .pill')].map(t => {
    const ground = t.closest('.box') ? getComputedStyle(t.closest('.box').querySelector('.main')).fill : getComputedStyle(t).backgroundColor;
    const ink = t.closest('.box') ? getComputedStyle(t).fill : getComputedStyle(t).color;
    return [ratio(ink, ground), t.textContent] }).filter(([r]) => r < 4.5) }"""
OUTSIDE = """() => [...document.querySelectorAll('.graph .box')].flatMap(box => { const main = box.querySelector('.main').getBBox();
  return [...box.querySelectorAll('text')].filter(t => t.getBBox().x + t.getBBox().width > main.x + main.width + 1).map(t => t.textContent) })"""


@pytest.mark.story
@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")
@pytest.mark.parametrize(
    ("width", "scheme"), [(400, "dark"), (1280, "light"), *(pytest.param(*other, marks=pytest.mark.slow) for other in ((400, "light"), (1280, "dark")))]
)
def test_a_browser_shows_it_without_script_or_request_in_light_and_dark_wide_and_narrow(
    ws: Workspace, runs: dict[str, str], tmp_path: Path, scheme: Any, width: int
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    pages = {name: write_graph(graph_of(ws, runs.get(name, name)), tmp_path / f"{name}.html") for name in ("done", "again", "failed", "nightly")}
    pages["large"] = write_graph(large(ws, "run-browser", 300, 12), tmp_path / "large.html")
    said: list[str] = []
    asked: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        tab = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800}).new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        for name, path in pages.items():
            tab.goto(path.as_uri())
            assert tab.locator(".graph .box").count() == (300 if name == "large" else 10)
            assert tab.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{name} is wider than the window"
            assert tab.evaluate(CONTRAST) == []
            assert tab.evaluate(OUTSIDE) == []
            assert tab.locator("details[open]").count() == 0
        tab.goto(pages["failed"].as_uri())
        tab.locator("a.box", has_text="score").focus()
        tab.keyboard.press("Enter")
        row = tab.locator("tr:target")
        assert row.locator("th").inner_text().startswith("score")
        row.locator("summary").focus()
        tab.keyboard.press("Enter")
        assert "Traceback" in row.locator("pre").last.inner_text()
        plain = browser.new_context(java_script_enabled=False).new_page()
        plain.goto(pages["done"].as_uri())
        assert plain.locator(".graph .box").count() == 10
        plain.locator("summary").first.click()
        assert plain.locator("details[open]").count() == 1
        browser.close()
    assert said == []
    assert {url.partition("#")[0] for url in asked} == {p.as_uri() for p in pages.values()}
