"""The console in a real browser, before its real process: every page that links lead to, wide and narrow, light and dark, with and without JavaScript,
by keyboard; each role's first page; and what a page says when the record changes, the server goes away, or the session ends.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from axe_playwright_python.base import AXE_SCRIPT

from treadle.access import laptop, links, people, sessions
from treadle.access.permissions import ROLES
from treadle.assemble import open_workspace
from treadle.core.records import Ref
from treadle.monitoring import alarms, care
from treadle.review import notes, notices, owners
from treadle.testing.browser import CHROMIUM, Console, chromium, console
from treadle.testing.command import treadle
from treadle.web.console.table import OPERATIONS

World = Any
Tab = Any
pytestmark = [pytest.mark.story, pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium")]

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 400, "height": 800}
PAGES = {"/" if o.path == "/home" else o.path: o.name for o in OPERATIONS if o.method == "GET" and o.page is not None and not o.raw}
MOST = 120  # addresses at most
TWICE = {"/runs/{run}": 2}  # pages of which two are walked: a run of a model, and one of a pipeline that printed something
# What axe is asked: the rules of WCAG 2.1, A and AA. In the narrow dark window, those that depend on size and colour.
RULES = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}, "resultTypes": ["violations"]}
LOOKS = {"runOnly": {"type": "rule", "values": ["color-contrast", "scrollable-region-focusable", "meta-viewport", "link-in-text-block", "target-size"]},
         "resultTypes": ["violations"]}  # fmt: skip
FOUND = """rules => axe.run(document, rules).then(r => r.violations.map(v => v.id + ': ' + v.nodes.slice(0, 3).map(n => n.html.slice(0, 160)).join(' | ')))"""
# Every address that a page leads to: its links, and its forms that ask for another page, as they stand, with two boxes ticked where there are some.
LEADS = """() => [...document.querySelectorAll('form[method=get]')].forEach(f => [...f.querySelectorAll('[type=checkbox]')].slice(0, 2).forEach(b => { b.checked = true })) ||
  [...document.querySelectorAll('a[href]')].filter(a => !a.hasAttribute('download')).map(a => a.getAttribute('href')).concat(
  [...document.querySelectorAll('form[method=get]')].filter(f => f.checkValidity()).map(f => f.getAttribute('action') + '?' + new URLSearchParams(new FormData(f))))"""
# What a reader reads, without what charts draw by script.
TEXT = """() => { const main = document.querySelector('main').cloneNode(true);
  main.querySelectorAll('.plot, .told, script').forEach(e => e.remove()); return main.textContent.replace(/\\s+/g, ' ').trim() }"""
WIDER = "() => document.documentElement.scrollWidth - window.innerWidth"
TIMES = re.compile(r"just now|\d+ (second|minute|hour|day)s? ago|[\d.]+ (ms|s|min|h)\b|\d\d:\d\d(:\d\d)?")


class Heard:
    """What the pages said in the console, and asked of others."""

    def __init__(self, base: str) -> None:
        self.base, self.said = base, list[str]()

    def to(self, tab: Tab) -> Tab:
        tab.on("console", lambda m: self.said.append(f"{tab.url}: {m.text}") if m.type in ("error", "warning") else None)
        tab.on("pageerror", lambda e: self.said.append(f"{tab.url}: {e}"))
        tab.on("dialog", lambda d: (self.said.append(f"{tab.url}: asks {d.message}"), d.dismiss()))
        tab.on("request", lambda r: None if r.url.startswith((self.base + "/", "data:")) else self.said.append(f"{tab.url}: asked {r.url}"))
        return tab


MORE = """

# What follows is not in the starter project.
import polars as pl

project.view("cities", source=deliveries, entity="city", window="1d", every="1d", features={"late_1d": pl.col("late").cast(pl.Float64).mean()})


@tr.step
def count() -> int:
    print("2,000 rows <b>were</b> counted")
    return 2000


@project.pipeline
def nightly() -> None:
    count()
"""
ROWS = "2001,2024-06-03 11:00,Basel,5.0,3,yes,12,no\n2002,2024-06-03 11:05,Atlantis,5.0,3,yes,12,no\n"  # one more, and one that is set aside


@pytest.fixture(scope="module")
def full(world: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A copy of the world with something of every kind in it that pages show: a view, a pipeline, a row set aside, a backtest, people, notes."""
    folder = tmp_path_factory.mktemp("pages") / "deliveries"
    shutil.copytree(world.ws.folder, folder)
    (folder / "project.py").write_text((folder / "project.py").read_text() + MORE)
    (folder / "deliveries.csv").write_text((folder / "deliveries.csv").read_text() + ROWS)
    treadle(folder, "run", world.model.name, "--until", "rows")
    treadle(folder, "run", "nightly")
    treadle(folder, "backtest", "--policy", "never", "--from", "2024-05-20", "--json")
    full = replace(world, ws=open_workspace(folder))
    ledger, clock, model = full.ws.ledger, full.ws.clock, world.model.name
    for name, role in (("ada.b", "data_scientist"), ("grace.h", "ml_engineer")):
        people.add_person(name, ledger, clock, actor="a test", full=name.title(), roles=[role])
    people.add_group("the-desk", ledger, clock, actor="a test", roles=["stakeholder"], members=["ada.b"])
    asked = notes.write(Ref("model", model), "Why is rain so important?\n<b>Not bold.</b>", ledger, clock, by="ada.b", kind="question", to=["grace.h"])
    notes.write(Ref("model", model), "Because roads are wet.", ledger, clock, by="grace.h", answers=asked.id)
    owners.hand_over(Ref("model", model), "grace.h", ledger, clock, by="ada.b", text="You know it best.")
    return full


@pytest.fixture(scope="module")
def served(full: World) -> Iterator[Console]:
    me = laptop.owner(full.ws.actor, full.ws.ledger, full.ws.clock)  # whom the printed link signs in
    people.change_person(me.name, full.ws.ledger, full.ws.clock, actor="a test", roles=["administrator"])
    with console(full.ws.folder) as process:
        yield process


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def walked(served: Console, browser: Any) -> dict[str, Any]:
    """Every page that links lead to from the first one, an address a pattern, with what was wrong on it; walked once, by the administrator."""
    heard = Heard(served.base)
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    tab = heard.to(context.new_page())
    tab.goto(served.link)
    command(context, served, tab.locator("input[name=csrf]").first.get_attribute("value"))
    waiting, seen, wrong, texts = ["/"], dict[str, list[str]](), list[str](), dict[str, str]()
    while waiting and len(seen) < MOST:
        path = waiting.pop(0)
        pattern = pattern_of(path)
        if pattern is None or len(seen.setdefault(pattern, [])) >= TWICE.get(pattern, 1) or path in seen[pattern]:
            continue
        seen[pattern].append(path)
        answer = tab.goto(served.base + path)
        if answer.status != 200:
            wrong.append(f"{path}: {answer.status}")
            continue
        waiting += [there for there in (local(link, tab.url) for link in tab.evaluate(LEADS)) if there]
        texts[path] = tab.evaluate(TEXT)
        tab.evaluate(AXE_SCRIPT)
        wrong += [f"{path}, wide and light: {v}" for v in tab.evaluate(FOUND, RULES)]
        tab.set_viewport_size(NARROW)
        tab.emulate_media(color_scheme="dark")
        wrong += [f"{path}, narrow and dark: {v}" for v in tab.evaluate(FOUND, LOOKS)]
        if (over := tab.evaluate(WIDER)) > 0:
            wrong.append(f"{path} is {over} px wider than a window of 400 px")
        tab.set_viewport_size(WIDE)
        tab.emulate_media(color_scheme="light")
    state = context.storage_state()
    context.close()
    return {"pages": seen, "wrong": wrong, "heard": heard.said, "texts": texts, "state": state}


def command(context: Any, served: Console, csrf: str) -> None:
    """Have the server run a command for whoever is signed in, and wait until it has ended."""
    told = context.request.post(f"{served.base}/api/v1/commands", data={"argv": ["models", "--json"]}, headers={"x-csrf-token": csrf}).json()
    while told["status"] == "running":
        told = context.request.get(f"{served.base}/api/v1/commands/{told['id']}?wait=5").json()
    assert told["code"] == 0, told


def local(link: str, base: str) -> str:
    """The path and query of a link within the console; '' for another."""
    here, there = urlsplit(base), urlsplit(urljoin(base, link))
    if (there.scheme, there.netloc) != (here.scheme, here.netloc):
        return ""
    return there.path + (f"?{there.query}" if there.query else "")


def pattern_of(path: str) -> str | None:
    """The page of the table that a path is; None for a file, which is not a page."""
    plain = urlsplit(path).path
    return next((p for p in PAGES if re.fullmatch(re.sub(r"\\{[^}]*\\}", "[^/]+", re.escape(p)), plain)), None)


def test_links_lead_to_every_page_there_is(walked: dict[str, Any]) -> None:
    assert set(PAGES) - set(walked["pages"]) == set()


def test_every_page_keeps_the_rules_of_wcag_and_fits_a_narrow_window(walked: dict[str, Any]) -> None:
    assert not walked["wrong"], "\n".join(walked["wrong"])


def test_no_page_complains_asks_anything_or_asks_another_host(walked: dict[str, Any]) -> None:
    assert not walked["heard"], "\n".join(walked["heard"])


def test_every_page_reads_the_same_without_javascript(walked: dict[str, Any], served: Console, browser: Any) -> None:
    context = browser.new_context(viewport=WIDE, java_script_enabled=False, storage_state=walked["state"])
    tab = context.new_page()
    for path, text in walked["texts"].items():
        tab.goto(served.base + path)
        if urlsplit(path).path == "/audit":
            continue  # it grows with each page that is looked at
        assert TIMES.sub("", tab.evaluate(TEXT)) == TIMES.sub("", text), path
    context.close()


def test_the_content_and_the_tables_are_reached_by_keyboard(walked: dict[str, Any], served: Console, browser: Any) -> None:
    context = browser.new_context(viewport=WIDE, storage_state=walked["state"])
    tab = context.new_page()
    for path in ("/runs", "/audit", walked["pages"]["/models/{model}"][0]):
        tab.goto(served.base + path)
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.className") == "skip"
        assert tab.evaluate("document.activeElement.getBoundingClientRect().left >= 0"), "it is seen when it has the focus"
        tab.keyboard.press("Enter")
        for _ in range(40):
            tab.keyboard.press("Tab")
            if tab.evaluate("document.activeElement.matches('.scroll[tabindex]')"):
                break
        assert tab.evaluate("document.activeElement.getAttribute('aria-label')"), f"{path}: no table is reached"
        assert tab.evaluate("document.activeElement.closest('main') !== null")
        tab.keyboard.press("Tab")
        assert tab.evaluate("document.activeElement.closest('main, footer') !== null || document.activeElement === document.body"), "one gets out of it again"
    context.close()


def test_every_role_signs_in_and_is_shown_only_what_it_may_open(full: World, served: Console, browser: Any) -> None:
    ledger, clock = full.ws.ledger, full.ws.clock
    for role in ROLES:
        name = f"b.{role.replace('_', '.')}"
        if people.find_person(name, ledger) is None:
            people.add_person(name, ledger, clock, actor="a test", roles=[role])
        context = browser.new_context(viewport=WIDE)
        tab = context.new_page()
        tab.goto(f"{served.base}/sign-in/link?key={links.make_link(name, ledger, clock, actor='a test')}")
        assert tab.locator("li.me").inner_text().startswith(name)
        assert tab.url == served.base + "/"
        shown = {there for link in tab.evaluate(LEADS) if (there := local(link, tab.url))}
        assert len(shown) > 5
        for path in sorted(shown):
            answer = context.request.get(served.base + path, max_redirects=0)
            assert answer.status == 200, (role, path, answer.status)
        context.close()


def sign_in(context: Any, full: World, served: Console, name: str, *roles: str) -> Tab:
    """A tab in which this person signed in, whose clock stands still until it is told."""
    if people.find_person(name, full.ws.ledger) is None:
        people.add_person(name, full.ws.ledger, full.ws.clock, actor="a test", roles=roles)
    tab = context.new_page()
    tab.clock.install()
    tab.goto(f"{served.base}/sign-in/link?key={links.make_link(name, full.ws.ledger, full.ws.clock, actor='a test')}")
    return tab


def until(tab: Tab, happened: Any) -> None:
    """Let half a minute after the other pass for the page until something happened."""
    for _ in range(100):
        if happened():
            return
        tab.clock.run_for(31_000)
        tab.wait_for_timeout(100)
    raise AssertionError("it did not happen")


def test_an_open_page_follows_the_record_the_server_and_the_session(full: World, browser: Any) -> None:
    with console(full.ws.folder) as first:
        context = browser.new_context(viewport=WIDE)
        tab = sign_in(context, full, first, "live.one", "ml_engineer")
        heard = Heard(first.base)
        heard.to(tab)
        tab.evaluate("window.stayed = true")
        offline = tab.locator("#offline")
        opened = full.ws.ledger.find(alarms.KIND, {"status": "open"})
        cell = tab.locator("#loop tbody tr td").last
        assert cell.inner_text() == str(len(opened))
        care.close(opened[0], "looked at", "a test", full.ws.ledger, full.ws.clock)
        until(tab, lambda: cell.inner_text() == str(len(opened) - 1))
        assert tab.evaluate("window.stayed"), "without loading the page again"

        first.stop()
        until(tab, offline.is_visible)
        assert "does not answer" in offline.inner_text()
        again = Console(full.ws.folder, first.port)
        try:
            until(tab, offline.is_hidden)
            assert tab.evaluate("window.stayed")

            sessions.end_all("live.one", full.ws.ledger, full.ws.clock, actor="a test")
            until(tab, offline.is_visible)
            assert "signed out" in offline.inner_text()
            tab.locator("nav a", has_text="Models").click()
            tab.wait_for_url("**/sign-in?next=%2Fmodels")
            assert "Sign in to" in tab.locator("h1").inner_text()
            assert [said for said in heard.said if "net::ERR_" not in said] == []
            context.close()
        finally:
            again.stop()


def test_a_note_is_written_changed_and_withdrawn_by_hand(full: World, served: Console, browser: Any) -> None:
    context = browser.new_context(viewport=NARROW)
    heard = Heard(served.base)
    tab = sign_in(context, full, served, "live.two", "ml_engineer")
    tab.goto(f"{served.base}/models/{full.model.name}")
    tab.get_by_label("Text; @name addresses").fill("two\nlines, and a <i>tag</i> for @grace.h")
    tab.get_by_role("button", name="Write").click()
    assert tab.locator("p[role=status].said").inner_text() == "Your note is written."
    written = tab.locator("#notes ul.notes p.text").first
    assert written.inner_text() == "two\nlines, and a <i>tag</i> for @grace.h"
    assert notices.unread("grace.h", full.ws.ledger) > 0
    tab.get_by_role("link", name="Change your note").first.click()
    assert tab.get_by_label("Text", exact=True).input_value() == "two\nlines, and a <i>tag</i> for @grace.h"
    asked = list[str]()
    tab.once("dialog", lambda d: (asked.append(d.message), d.accept()))
    tab.get_by_role("button", name="Withdraw it").click()
    tab.get_by_text("Your note is withdrawn.").wait_for()
    assert asked == ["Withdraw this note? Its text will be gone."]
    assert "lines, and a" not in tab.content()
    assert heard.said == []
    context.close()


def test_the_page_of_signing_in_keeps_the_rules_too(served: Console, browser: Any) -> None:
    heard = Heard(served.base)
    context = browser.new_context(viewport=NARROW, color_scheme="dark")
    tab = heard.to(context.new_page())
    tab.goto(served.base + "/audit?who=ann")
    assert unquote(tab.url).endswith("/sign-in?next=/audit?who=ann")
    tab.evaluate(AXE_SCRIPT)
    assert tab.evaluate(FOUND, RULES) == []
    assert tab.evaluate(WIDER) <= 0
    assert heard.said == []
    context.close()
