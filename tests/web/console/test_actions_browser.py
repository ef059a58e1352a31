"""Everything the console can do, done by hand in a real browser before its real process: the form found on its page, filled by its labels, sent, and
what the page says then; and what it says of a form that is out of date, a button pressed twice, bad input, a new project, a long list.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from treadle.access import known, links, people, sessions, tokens
from treadle.assemble import Workspace, open_workspace
from treadle.core.records import Record, Ref
from treadle.data import quarantine
from treadle.data.write_project import write_blank
from treadle.live import deploy, retraining
from treadle.monitoring import alarms, care
from treadle.monitoring.judge import Finding
from treadle.pipelines.run import RUN
from treadle.registry import conditions, promote, versions
from treadle.review import approvals, notes, notices, owners
from treadle.testing.browser import CHROMIUM, Console, chromium, console
from treadle.web.console import commands
from treadle.web.console.answer import PRESSED_TWICE
from treadle.web.console.once import once
from treadle.web.console.show import NAV
from treadle.web.console.table import BY_NAME, OPERATIONS
from treadle.wheel.turn import turn

Tab = Any
pytestmark = [pytest.mark.story, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")]

PROJECT = """import time
from pathlib import Path

import polars as pl

import treadle as tr

HERE = Path(__file__).parent
project = tr.Project("works", owner="me", goal="test")
columns = {"id": tr.integer(), "at": tr.timestamp(), "town": tr.text(), "x": tr.number(ge=0), "y": tr.number()}
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id", event_time="at", contract=tr.Contract(columns, at_most=0.5))
ridge = {"rows": rows, "target": "y", "inputs": ["x"], "candidates": [tr.candidate("ridge")], "trials": 1, "split": tr.by_time(test="2d")}
model = project.model("m", **ridge, gates=[tr.enough_rows(20)])
asked = project.model("asked", **ridge, gates=[tr.approved(), tr.enough_rows(100_000)])
project.watch(model, every="1d", label_window="1d")
project.view("towns", source=rows, entity="town", window="1d", every="1d", features={"x_1d": pl.col("x").mean()})


@tr.step
def wait() -> int:
    while not (HERE / "go").exists():
        time.sleep(0.05)
    return 1


@tr.step
def end(found: int) -> int:
    return found


@project.pipeline
def nightly():
    found = wait()
    return end(found).after(tr.approval("Go on?", shows=found))
"""
ROWS = ["id,at,town,x,y", *(f"{i},2024-05-{1 + i // 24:02d} {i % 24:02d}:00,{'ab'[i % 2]},{i % 50},{2 * (i % 50) + (i * 7 % 5)}" for i in range(300)),
        "900,2024-05-10 01:00,a,-3,1", "901,2024-05-10 02:00,a,-5,1"]  # the last two are set aside
ROLES = ("administrator", "data_engineer", "data_scientist", "devops_engineer", "ml_engineer", "stakeholder")
WORD, OTHER_WORD = "correct horse battery", "another horse battery"
CAUSE = {"kind": "person", "id": "", "text": "a test"}
DAY = 86_400_000_000


@dataclass
class Site:
    """A project, its console, and people signed in to it, each in a tab of their own. `noted` is what one action leaves for those after it."""

    ws: Workspace
    served: Console
    browser: Any
    tabs: dict[str, Tab] = field(default_factory=dict)
    heard: list[str] = field(default_factory=list)
    noted: dict[str, str] = field(default_factory=dict)

    def tab(self, name: str, **options: Any) -> Tab:
        """The tab of a person, who signs in the first time."""
        if name not in self.tabs:
            self.tabs[name] = self.fresh(name, **options)
        return self.tabs[name]

    def fresh(self, name: str, **options: Any) -> Tab:
        """A browser of its own in which this person signs in."""
        tab = self.browser.new_context(viewport={"width": 1280, "height": 900}, **options).new_page()
        tab.set_default_timeout(10_000)
        tab.on("pageerror", lambda e: self.heard.append(f"{tab.url}: {e}"))
        tab.on("console", lambda m: self.heard.append(f"{tab.url}: {m.text}") if m.type in ("error", "warning") else None)
        key = links.make_link(name, self.ws.ledger, self.ws.clock, actor="a test")
        tab.goto(f"{self.served.base}/sign-in/link?key={key}")
        return tab

    def get(self, kind: str, id: str) -> Record:
        found = self.ws.ledger.get(kind, id)
        assert found is not None
        return found

    def newest(self, kind: str, /, **where: Any) -> Record:
        return self.ws.ledger.find(kind, where or None, newest_first=True, limit=1)[0]

    def deployed(self) -> Record:
        return promote.required("m", self.ws.ledger)

    def asked(self) -> Record:
        return versions.get("asked", 1, self.ws.ledger)

    def owner(self) -> Record | None:
        return owners.record_of(Ref("model", "m"), self.ws.ledger)

    def note(self) -> Record:
        return self.get(notes.KIND, self.noted["note"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Site]:
    """A project with three versions of a model, one that waits for approval, two alarms, a reaction that asks, and rows set aside."""
    folder = tmp_path_factory.mktemp("actions") / "works"
    folder.mkdir()
    (folder / "project.py").write_text(PROJECT)
    (folder / "rows.csv").write_text("\n".join(ROWS))
    ws = open_workspace(folder).acting_as("maker")
    for alpha in (1.0, 3.0, 9.0):
        turn(ws, ws.model("m"), cause=CAUSE, settings={"family": "ridge", "params": {"alpha": alpha}})
    turn(ws, ws.model("asked"), cause=CAUSE)
    for at, kind in enumerate(("quality", "input")):
        found = Finding(kind, "excess_loss", 5.0, 4.0, at * DAY, (at + 1) * DAY, (("x", 0.3),), f"It is worse: {kind}")
        assert alarms.raise_alarm("m", 1, found, ws.ledger, ws.clock) is not None
    ws.ledger.put(retraining.KIND, "reaction-0123456789ab", {
        "model": "m", "cause": CAUSE, "also": [], "run": "run-x", "status": "asks", "as_of": "", "version": 1, "said": "waits",
        "outside": ["its answers change by 0.4"], "change": None, "answer": None, "at": "2026-01-01T00:00:00Z", "champion": 1,
    }, expect=0)  # fmt: skip
    for role in ROLES:
        people.add_person(role, ws.ledger, ws.clock, actor="a test", roles=[role])
    people.add_person("second", ws.ledger, ws.clock, actor="a test", roles=["ml_engineer"])
    people.add_person("pat", ws.ledger, ws.clock, actor="a test", roles=["data_scientist"], password=WORD)
    try:
        with console(folder) as process:
            yield Site(ws, process, browser)
    finally:
        if deploy.running_endpoint(ws, "m") is not None:
            deploy.stop(ws, "m")
        for left in ws.ledger.find(commands.KIND, {"status": "running"}):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(int(left["pid"]), signal.SIGKILL)


# The actions


@dataclass(frozen=True)
class Act:
    """One thing done by hand.

    Args:
        operation: its name in the table.
        who: whoever does it.
        page: the page that has the form.
        button: what is pressed.
        fields: what is filled in, by label: a text, an option, several options.
        then: what must be true afterwards (it is waited for), of the site and the tab.
        before: what must have happened first, which is no part of it.
    """

    operation: str
    who: str
    page: str | Callable[[Site], str]
    button: str
    then: Callable[[Site, Tab], Any]
    fields: Mapping[str, str | list[str]] = field(default_factory=dict)
    before: Callable[[Site], Any] | None = None


NO_FORM = {"commands.start": "a list of arguments is what `treadle --server` sends; people press the buttons of what they mean"}


def note(site: Site, name: str, value: str) -> str:
    site.noted[name] = value
    return value


def page_of_run(site: Site) -> str:
    return f"/runs/{site.newest(RUN, scope='works.nightly').id}"


def status_of_run(site: Site) -> str:
    return str(site.newest(RUN, scope="works.nightly")["status"])


def page_of_command(site: Site) -> str:
    return f"/commands/{site.newest(commands.KIND).id}"


def ended(site: Site, name: str, who: str) -> bool:
    """Whether the newest command is this person's, of this name, and ended well."""
    found = site.newest(commands.KIND)
    assert (found["command"], found["by"]) == (name, who)
    assert found["status"] in ("running", "done"), commands.printed(site.ws, found, 0, 0)
    return bool(found["status"] == "done")


def page_of_alarm(site: Site, kind: str = "quality") -> str:
    return f"/alarms/{site.newest(alarms.KIND, kind=kind).id}"


def alarm(site: Site, kind: str = "quality") -> Record:
    return site.newest(alarms.KIND, kind=kind)


def write_note(site: Site) -> None:
    note(site, "note", notes.write(Ref("model", "m"), "A slip.", site.ws.ledger, site.ws.clock, by="data_scientist").id)


def offered(by: str, to: str) -> Callable[[Site], Any]:
    return lambda s: owners.hand_over(Ref("model", "m"), to, s.ws.ledger, s.ws.clock, by=by, declared="me", anyway=True)


def pending(site: Site) -> None:
    state = site.get("contract_state", "rows")
    site.ws.ledger.put("contract_state", "rows", {**state.body, "pending": {"digest": "d", "sentences": ["column x is gone"]}})


def signs_in_with_the_link(site: Site, tab: Tab) -> bool:
    link = tab.locator("#secret").inner_text()
    other = site.browser.new_context().new_page()
    other.goto(link)
    signed = other.locator("li.me").inner_text().startswith("nora")
    other.context.close()
    return bool(signed)


def signs_in_with(password: str) -> Callable[[Site, Tab], bool]:
    def then(site: Site, tab: Tab) -> bool:
        tab.get_by_label("Name").fill("pat")
        tab.get_by_label("Password").fill(password)
        tab.get_by_role("button", name="Sign in").click()
        return bool(tab.locator("li.me").inner_text().startswith("pat"))

    return then


def predicted(site: Site, tab: Tab) -> bool:
    id = note(site, "prediction", tab.locator("section.first code").last.inner_text())
    return site.ws.predictions.get(id) is not None


M, ASKED, ONE = "/deployments/m", "/models/asked/versions/1", "/models/m"
ACTS = [
    # Runs, and the commands that drive them
    Act("runs.start", "data_scientist", "/runs", "Start", lambda s, t: s.ws.ledger.count(RUN, {"scope": "works.nightly", "status": "running"}) == 1,
        {"What is run": "nightly"}),
    Act("commands.stop", "data_scientist", page_of_command, "Stop it",
        lambda s, t: s.newest(commands.KIND)["status"] != "running" and status_of_run(s) != "running"),
    Act("runs.resume", "data_scientist", page_of_run, "Go on with it", lambda s, t: ended(s, "resume", "data_scientist") and status_of_run(s) == "waiting",
        before=lambda s: (s.ws.folder / "go").touch()),
    Act("runs.answer", "data_scientist", page_of_run, "Approve", lambda s, t: s.newest("approval")["status"] == "approved",
        {"Why, for the record": "looked at it"}),
    Act("runs.stop", "data_scientist", page_of_run, "Stop it", lambda s, t: status_of_run(s) == "cancelled", {"Why it should stop": "not needed"}),
    # What answers
    Act("deployments.deploy", "devops_engineer", M, "Deploy", lambda s, t: deploy.running_endpoint(s.ws, "m") and ended(s, "deploy", "devops_engineer"),
        {"Version": "1", "Why": "the first one"}),
    Act("deployments.try_it", "devops_engineer", M + "/try", "Ask", predicted, {"x (number": "7"}),
    Act("why.judge", "data_scientist", lambda s: f"/why/{s.noted['prediction']}/truth", "This is true",
        lambda s, t: s.ws.predictions.outcomes_of(s.noted["prediction"])[-1].value == 14, {"The number": "14"}),
    Act("deployments.promote", "devops_engineer", M, "Promote", lambda s, t: s.deployed()["champion"] == 2, {"Why": "it is better"},
        before=lambda s: promote.challenge("m", 2, s.ws.ledger, s.ws.clock, actor="a test")),
    Act("deployments.roll_back", "devops_engineer", M, "Roll back", lambda s, t: s.deployed()["champion"] == 1, {"Why": "it was not"}),
    Act("deployments.reject", "devops_engineer", M, "Throw it out", lambda s, t: s.deployed()["challenger"] is None, {"Why": "it is worse"},
        before=lambda s: promote.challenge("m", 3, s.ws.ledger, s.ws.clock, actor="a test")),
    Act("deployments.stop", "devops_engineer", M, "Stop", lambda s, t: s.deployed()["stopped"]["by"] == "devops_engineer", {"Why": "wrong prices"}),
    Act("deployments.resume", "devops_engineer", M, "Let it answer", lambda s, t: not s.deployed().get("stopped"), {"Why": "mended"}),
    # Alarms
    Act("alarms.acknowledge", "devops_engineer", page_of_alarm, "I am at it", lambda s, t: alarm(s)["acknowledged"]["note"] == "calling the depot",
        {"What is being done": "calling the depot"}),
    Act("alarms.snooze", "devops_engineer", page_of_alarm, "Snooze", lambda s, t: alarm(s)["snoozed"], {"Until": "4h"}),
    Act("alarms.resolve", "devops_engineer", page_of_alarm, "Resolve", lambda s, t: alarm(s)["status"] == "resolved", {"Why it is over": "mended"}),
    Act("reactions.answer", "devops_engineer", "/alarms", "Answer",
        lambda s, t: s.get(retraining.KIND, "reaction-0123456789ab")["answer"]["by"] == "devops_engineer", {"Answer": "no", "Why": "the change is too large"}),
    # Versions
    Act("models.ask", "data_scientist", ASKED, "Ask for approval", lambda s, t: approvals.request_of(s.asked(), s.ws.ledger)["text"] == "look at it",  # type: ignore[index]
        {"Of whom": "stakeholder", "What they should know": "look at it"}),
    Act("models.withdraw", "data_scientist", ASKED, "Ask no longer", lambda s, t: approvals.request_of(s.asked(), s.ws.ledger)["status"] == "withdrawn"),  # type: ignore[index]
    Act("models.waive", "ml_engineer", ASKED, "Waive the gate", lambda s, t: conditions.waivers("asked", s.ws.ledger)[0]["reason"] == "a trial",
        {"Gate": "enough_rows", "Why": "a trial", "Until": "14d"}),
    Act("models.answer", "stakeholder", ASKED, "Answer", lambda s, t: conditions.missing(s.asked(), s.ws.ledger, s.ws.clock.now()) == [],
        {"Answer": "approve", "Why": "it is sound"}),
    # Data
    Act("quarantine.fix", "ml_engineer", "/data/rows/quarantine", "Correct the row",
        lambda s, t: [d.action for d in quarantine.standing("rows", s.ws.ledger)] == ["fix"], {"Corrections": "x=3", "Why": "a slip"}),
    Act("quarantine.release", "ml_engineer", "/data/rows/quarantine", "Let it in as it is",
        lambda s, t: len(quarantine.standing("rows", s.ws.ledger)) == 2, {"Why it is right": "a refund"}),
    Act("quarantine.undo", "ml_engineer", "/data/rows/quarantine", "Take back", lambda s, t: len(quarantine.standing("rows", s.ws.ledger)) == 1),
    Act("features.materialise", "data_engineer", "/features/towns", "Bring it up to date", lambda s, t: ended(s, "materialise", "data_engineer")),
    Act("backtest.start", "data_scientist", "/value", "Begin", lambda s, t: ended(s, "backtest", "data_scientist"), {"Model": "m", "Policies": "never"}),
    Act("data.accept", "data_engineer", "/data/rows", "Accept the change", lambda s, t: s.get("contract_state", "rows")["accepted"]["reason"] == "it is meant",
        {"Why the change is meant": "it is meant"}, pending),
    # Notes and hand-overs
    Act("notes.write", "data_scientist", ONE, "Write", lambda s, t: note(s, "note", s.newest(notes.KIND, by="data_scientist").id),
        {"Text": "Which rows?", "It is": "question", "For whom": "ml_engineer"}),
    Act("notes.edit", "data_scientist", lambda s: f"/notes/{s.noted['note']}", "Change it", lambda s, t: s.note()["text"] == "Which\nrows, please?",
        {"Text": "Which\nrows, please?"}),
    Act("notices.read", "ml_engineer", "/notes", "Mark all shown as read", lambda s, t: notices.unread("ml_engineer", s.ws.ledger) == 0),
    Act("notes.settle", "ml_engineer", lambda s: f"/notes/{s.noted['note']}", "It is settled", lambda s, t: s.note()["settled"]["by"] == "ml_engineer",
        {"How it was settled": "the last ones"}),
    Act("notes.withdraw", "data_scientist", lambda s: f"/notes/{s.noted['note']}", "Withdraw it", lambda s, t: s.note()["withdrawn"], before=write_note),
    Act("owners.offer", "ml_engineer", ONE, "Offer it", lambda s, t: s.owner()["offer"]["to"] == "second",  # type: ignore[index]
        {"To whom": "second", "What they should know": "it is yours"}),
    Act("owners.take_back", "ml_engineer", ONE, "Take it back", lambda s, t: not s.owner()["offer"]),  # type: ignore[index]
    Act("owners.accept", "second", "/notes", "Accept", lambda s, t: s.owner()["owner"] == "second", before=offered("ml_engineer", "second")),  # type: ignore[index]
    Act("owners.decline", "ml_engineer", ONE, "Decline", lambda s, t: not s.owner()["offer"] and s.owner()["owner"] == "second",  # type: ignore[index]
        before=offered("second", "ml_engineer")),
    # Who may do what
    Act("access.add_person", "administrator", "/access", "Add", lambda s, t: people.get_person("nora", s.ws.ledger).roles == ("stakeholder",),
        {"Name, as they sign in": "Nora", "Password": WORD, "Roles": ["stakeholder"]}),
    Act("access.change_person", "administrator", "/access/people/nora", "Save", lambda s, t: people.get_person("nora", s.ws.ledger).roles == ("architect",),
        {"Full name": "Nora N.", "Roles of their own": ["architect"]}),
    Act("access.set_password", "administrator", "/access/people/nora", "Set it",
        lambda s, t: people.check_password("nora", OTHER_WORD, s.ws.ledger), {"A new one": OTHER_WORD}),
    Act("access.make_link", "administrator", "/access/people/nora", "Make a one-time link", signs_in_with_the_link),
    Act("access.end_sessions", "administrator", "/access/people/nora", "End all sessions",
        lambda s, t: sessions.sessions(s.ws.ledger, s.ws.clock, person="nora") == []),
    Act("access.add_group", "administrator", "/access", "Make it", lambda s, t: known.find_group("desk", s.ws.ledger).members == ("nora",),
        {"Name": "desk", "Roles": ["stakeholder"], "Members": ["nora"]}),
    Act("access.change_group", "administrator", "/access/groups/desk", "Save", lambda s, t: set(known.find_group("desk", s.ws.ledger).members) == {"nora", "pat"},
        {"Members": ["nora", "pat"]}),
    Act("access.remove_group", "administrator", "/access/groups/desk", "Take the group away", lambda s, t: known.groups(s.ws.ledger) == []),
    Act("access.set_role", "administrator", "/access/roles/architect", "Save", lambda s, t: people.roles(s.ws.ledger)["architect"].title == "House architect",
        {"Title": "House architect"}),
    Act("access.reset_role", "administrator", "/access/roles/architect", "As it came", lambda s, t: not people.roles(s.ws.ledger)["architect"].edited),
    # One's own
    Act("you.make_token", "pat", "/you", "Make a token", lambda s, t: tokens.token_of(t.locator("#secret").inner_text(), s.ws.ledger, s.ws.clock),
        {"What is it for?": "the nightly job"}),
    Act("you.revoke_token", "pat", "/you", "Revoke", lambda s, t: all(x.revoked for x in tokens.tokens(s.ws.ledger, "pat"))),
    Act("you.end_others", "pat", "/you", "Sign out everywhere else", lambda s, t: len(sessions.sessions(s.ws.ledger, s.ws.clock, person="pat")) == 1,
        before=lambda s: sessions.open_session("pat", s.ws.ledger, s.ws.clock, how="link", address="elsewhere")),
    Act("you.set_password", "pat", "/you", "Change it", signs_in_with(OTHER_WORD), {"The one until now": WORD, "The new one": OTHER_WORD}),
]  # fmt: skip


def test_every_action_of_the_console_is_done_by_hand_here() -> None:
    posts = {o.name for o in OPERATIONS if o.method == "POST"}
    assert {a.operation for a in ACTS} == posts - set(NO_FORM)
    assert set(NO_FORM) <= posts


def form_of(tab: Tab, button: str) -> Any:
    """The form on the page that has this button; what hides it is opened."""
    found = tab.locator("form[method=post]").filter(has=tab.locator("button", has_text=button)).first
    hidden = found.locator("xpath=ancestor::details[not(@open)]/summary")
    if hidden.count():
        hidden.first.click()
    return found


def fill(form: Any, fields: Mapping[str, str | list[str]]) -> None:
    for label, value in fields.items():
        place = form.get_by_label(label).first
        if place.evaluate("e => e.tagName") == "SELECT":
            place.select_option(value)
        else:
            place.fill(value)


def until(tab: Tab, true: Callable[[], Any]) -> None:
    """Wait, as a person does who looks at the page, until something is true."""
    for _ in range(1200):
        if true():
            return
        tab.wait_for_timeout(50)
    raise AssertionError("it did not come about")


def act(site: Site, act: Act) -> None:
    """Do one thing by hand, and look at what the page says and at the record."""
    if act.before is not None:
        act.before(site)
    tab, path = site.tab(act.who), act.page if isinstance(act.page, str) else act.page(site)
    answer = tab.goto(site.served.base + path)
    assert answer.status == 200, f"{path}: {answer.status}"
    form = form_of(tab, act.button)
    fill(form, act.fields)
    question, asked = form.get_attribute("data-ask"), list[str]()
    if question:
        tab.once("dialog", lambda d: (asked.append(d.message), d.accept()))
    with tab.expect_navigation():
        form.get_by_role("button", name=act.button).first.click()
    assert asked == [q for q in [question] if q]
    said = tab.locator("p[role=status].said")
    assert said.count(), f"{tab.url} says: {tab.locator('main').inner_text()[:300]}"
    assert said.inner_text() == BY_NAME[act.operation].done
    until(tab, lambda: act.then(site, tab))


def test_every_action_is_done_and_said_and_on_record(site: Site) -> None:
    site.heard.clear()
    wrong = []
    for one in ACTS:
        try:
            act(site, one)
        except Exception as error:
            wrong.append(f"{one.operation}: {type(error).__name__}: {str(error)[:600]}")
    assert not wrong, "\n".join(wrong)
    assert not site.heard, "\n".join(site.heard)


# What is not as it should be


def press(tab: Tab, button: str, fields: Mapping[str, str | list[str]]) -> None:
    form = form_of(tab, button)
    fill(form, fields)
    with tab.expect_navigation():
        form.get_by_role("button", name=button).first.click()


def press_twice(tab: Tab, button: str, fields: Mapping[str, str | list[str]], says: str) -> None:
    """Press a button again while what it sent the first time is on its way, and wait for what the page says."""
    form = form_of(tab, button)
    fill(form, fields)
    place = form.get_by_role("button", name=button).first
    place.scroll_into_view_if_needed()
    box = place.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.click(x, y)
    tab.wait_for_timeout(15)
    tab.mouse.click(x, y)
    tab.locator("p[role=status].said", has_text=says).wait_for()


def test_whose_form_is_out_of_date_is_told_so_and_loses_nothing(site: Site) -> None:
    tab, page = site.tab("second"), page_of_alarm(site, "input")
    tab.goto(site.served.base + page)
    care.acknowledge(alarm(site, "input"), "somebody", "I was first", site.ws.ledger, site.ws.clock)
    press(tab, "I am at it", {"What is being done": "calling <b>the</b> depot"})
    shown = tab.locator("main").inner_text()
    assert "was changed since you looked at it" in shown
    assert "Load the page again" in shown
    assert "calling <b>the</b> depot" in shown
    assert alarm(site, "input")["acknowledged"]["by"] == "somebody"
    tab.get_by_role("link", name="Go back").click()
    assert tab.url == site.served.base + page
    assert "I was first" in tab.locator("main").inner_text()
    press(tab, "I am at it", {"What is being done": "calling the depot, too"})
    assert alarm(site, "input")["acknowledged"]["by"] == "second"


@pytest.mark.parametrize("script", [True, False])
def test_a_button_pressed_twice_does_it_once(site: Site, script: bool) -> None:
    tab, about = site.fresh("second", java_script_enabled=script), alarm(site, "input")
    text = f"pressed twice, {script}"
    tab.goto(f"{site.served.base}/alarms/{about.id}")
    press_twice(tab, "Write", {"Text": text}, "Your note is written.")
    assert len([n for n in notes.notes_of(Ref("alarm", about.id), site.ws.ledger) if n["text"] == text]) == 1
    if script:  # what holds a secret is not kept, so that the server could not answer the same again: the page does not send it again
        tab.goto(site.served.base + "/you")
        press_twice(tab, "Make a token", {"What is it for?": "pressed twice"}, "The token is below.")
        assert len(tokens.tokens(site.ws.ledger, "second")) == 1
        assert tokens.token_of(tab.locator("#secret").inner_text(), site.ws.ledger, site.ws.clock) is not None
    tab.context.close()


def test_the_same_form_sent_again_with_another_text_is_another_note(site: Site) -> None:
    tab, about = site.tab("second"), alarm(site, "input")
    key = ""
    for text in ("the first text", "the second text"):
        tab.goto(f"{site.served.base}/alarms/{about.id}")
        place = tab.locator("form[action='/notes'] input[name=once]")
        key = key or place.get_attribute("value")
        place.evaluate("(e, key) => { e.value = key }", key)  # as in a page that a browser kept to go back to
        press(tab, "Write", {"Text": text})
        assert tab.get_by_text("Your note is written.").count(), tab.locator("main").inner_text()[:300]
    assert {"the first text", "the second text"} <= {n["text"] for n in notes.notes_of(Ref("alarm", about.id), site.ws.ledger)}


def test_bad_input_is_said_at_its_place_with_a_way_back(site: Site) -> None:
    tab, page = site.tab("second"), page_of_alarm(site, "input")
    tab.goto(site.served.base + page)
    form_of(tab, "Resolve").get_by_role("button", name="Resolve").click()
    assert tab.evaluate("document.activeElement.matches('textarea:invalid')"), "the browser says which field is empty"
    press(tab, "Snooze", {"Until": "the day after"})
    shown = tab.locator("main").inner_text()
    assert "the day after" in shown
    assert "Go back" in shown
    tab.get_by_role("link", name="Go back").click()
    press(tab, "Offer it", {"To whom": "nobody-here"})
    assert "There is no person or group 'nobody-here' here." in tab.locator("main").inner_text()
    tab.get_by_role("link", name="Go back").click()
    assert tab.url == site.served.base + page
    tab.goto(site.served.base + "/runs?query=metric.loss+%3C")
    assert "At character" in tab.locator("main").inner_text()


def test_a_list_of_hundreds_of_runs_goes_on_by_its_link(site: Site) -> None:
    pattern = site.ws.ledger.find(RUN, {"status": "done"}, limit=1)[0]
    with site.ws.ledger.transaction():
        for number in range(300):
            site.ws.ledger.put(RUN, f"run-many-{number:03d}", {**pattern.body, "scope": "works.many"}, expect=0)
    tab, seen, pages = site.tab("second"), list[str](), 1
    tab.goto(site.served.base + "/runs?scope=works.many")
    while True:
        seen += tab.locator("tbody th a").all_inner_texts()
        further = tab.get_by_role("link", name="Next page")
        if not further.count():
            break
        further.click()
        pages += 1
    assert (len(seen), len(set(seen)), pages) == (300, 300, 6)


@pytest.mark.slow
def test_no_role_is_shown_a_button_of_what_it_may_not_do(site: Site) -> None:
    patterns = {o: re.compile(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(o.path))) for o in OPERATIONS if o.method == "POST"}
    pages = [
        "/runs", "/alarms", page_of_alarm(site, "input"), M, M + "/try", ASKED, ONE, "/data/rows", "/data/rows/quarantine", "/features/towns", "/value", "/notes",
        "/access", "/access/people/pat", "/access/roles/architect", "/you", "/commands",
    ]  # fmt: skip
    shown = dict[str, set[str]]()
    for role in people.roles(site.ws.ledger):
        name = f"only.{role.replace('_', '.')}"
        people.add_person(name, site.ws.ledger, site.ws.clock, actor="a test", roles=[role])
        person, tab = people.get_person(name, site.ws.ledger), site.fresh(name)
        for page in pages:
            answer = tab.context.request.get(site.served.base + page)
            assert answer.status in (200, 403, 404), (role, page)
            for action in set(re.findall(r'<form method="post" action="([^"]+)"', answer.text())) - {"/sign-out"}:
                found = next(o for o, pattern in patterns.items() if pattern.fullmatch(action))
                assert person.may(found.permission), f"{role} is shown {action} on {page}"
                shown.setdefault(role, set()).add(found.name)
        tab.context.close()
    assert len(shown["administrator"]) > 15, shown
    assert shown["stakeholder"] < shown["administrator"]


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[Site]:
    """A project as `treadle init` writes it, of which nothing ever ran."""
    folder = tmp_path_factory.mktemp("blank") / "deliveries"
    write_blank(folder, "deliveries")
    ws = open_workspace(folder)
    people.add_person("administrator", ws.ledger, ws.clock, actor="a test", roles=["administrator"])
    with console(folder) as process:
        yield Site(ws, process, browser)


NEXT = {  # what a page says to do where nothing ever ran
    "/": "deliveries-late was never trained", "/runs": "Start something below", "/data": "never read; a run reads it", "/models": "none yet: start a run on Runs",
    "/deployments": "once a run has made one that passed its gates", "/alarms": "treadle watch", "/why": "Deploy a version on Deployments",
    "/value": "Begin one below", "/notes": "Write the first note", "/audit": "access.signed_in", "/access": "Make a group", "/commands": "Start on Runs",
    "/models/deliveries-late": "Start a run on the page Runs", "/deployments/deliveries-late": "There is no version of it yet: start a run on Runs",
    "/monitors/deliveries-late": "treadle watch", "/data/deliveries": "Start one", "/features": "What breaks?", "/you": "Make a token",
}  # fmt: skip


def test_every_page_of_a_new_project_says_what_to_do_next(blank: Site) -> None:
    tab = blank.tab("administrator")
    assert {path for _, path, _ in NAV} <= set(NEXT)
    for path, words in NEXT.items():
        answer = tab.goto(blank.served.base + path)
        assert answer.status == 200, path
        shown = " ".join(tab.locator("main").inner_text().split())
        assert words in shown, f"{path}: {shown[:1500]}"
    tab.goto(blank.served.base)
    tab.locator("main .now a").click()
    assert form_of(tab, "Start").get_by_label("What is run").input_value() == "deliveries-late"
    assert not blank.heard, "\n".join(blank.heard)


def test_the_second_of_two_equal_forms_waits_for_the_end_of_the_first(site: Site) -> None:
    begun, may_end, answers = threading.Event(), threading.Event(), list[Any]()

    def slow() -> dict[str, int]:
        begun.set()
        assert may_end.wait(10)
        return {"done": 1}

    def send(do: Callable[[], Any]) -> None:
        answers.append(once("a-form", "pat", "notes.write", [], do, site.ws.ledger, wait=PRESSED_TWICE))

    first = threading.Thread(target=send, args=(slow,))
    first.start()
    assert begun.wait(10)
    second = threading.Thread(target=send, args=(lambda: {"done": 2},))
    second.start()
    may_end.set()
    first.join()
    second.join()
    assert sorted(answers, key=lambda a: a[1]) == [({"done": 1}, False), ({"done": 1}, True)]
