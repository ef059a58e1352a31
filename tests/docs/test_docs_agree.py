"""The documents agree with the program: commands, exit codes, settings and links are those there are, and the reference is up to date."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import treadle
from treadle.cli.main import COMMANDS
from treadle.core import errors
from treadle.governance.gates import GATES
from treadle.stacks.alerts import alerts
from treadle.web.api import endpoint, exchange, metrics

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(p for p in (ROOT / "examples").rglob("*.md") if ".treadle" not in p.parts)])


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def rows(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    below = page.split(f"\n{heading}\n", 1)[1].splitlines()
    start = next(i for i, line in enumerate(below) if line.startswith("|"))
    found = []
    for line in below[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([c.strip() for c in line.strip("|").split("|")])
    return found


def exit_codes() -> set[int]:
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, errors.TreadleError)]
    return {0, *(k.exit_code for k in kinds)}


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("treadle_reference", ROOT / "scripts" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_readme_lists_the_commands_there_are_each_with_its_own_words() -> None:
    listed = {cells[0].strip("`").removeprefix("treadle "): cells[1] for cells in rows(text("README.md"), "## Commands")}
    assert listed == {name: line for name, (_, line) in COMMANDS.items()}


@pytest.mark.parametrize(("page", "heading"), [("README.md", "### Exit codes"), ("docs/reference/cli.md", "## Exit codes")])
def test_the_exit_codes_are_those_of_the_error_tree(page: str, heading: str) -> None:
    assert {int(cells[0]) for cells in rows(text(page), heading)} == exit_codes()


def test_the_generated_reference_is_up_to_date(reference: ModuleType) -> None:
    stale = [path.name for path, wanted in reference.pages().items() if path.read_text("utf-8") != wanted]
    assert not stale, "run: make docs"


def test_the_reference_is_written_the_same_each_time(reference: ModuleType) -> None:
    assert reference.pages() == reference.pages()


def test_every_gate_has_a_section() -> None:
    page = text("docs/how-to/gates.md")
    for name in GATES:
        assert f"### `tr.{name}(" in page


def test_every_name_a_project_file_may_use_is_explained() -> None:
    known = "declare-a-project features gates search fairness schedules pipelines contracts sources data-versions datasheets rollout"
    page = "".join(text(f"docs/how-to/{name}.md") for name in known.split())
    for name in treadle.__all__:
        assert f"tr.{name}" in page or name == "__version__", name


def test_every_route_and_every_status_of_an_endpoint_is_explained() -> None:
    page = text("docs/how-to/serving.md")
    routes = re.findall(r"(?:GET|POST) +(/[\w/]*)", endpoint.__doc__ or "")
    assert len(routes) >= 6
    for route in routes:
        assert route in page
    for code, status in exchange.STATUS.items():
        assert f"| {status} |" in page, code


def test_every_metric_and_alert_of_an_endpoint_is_explained() -> None:
    page = text("docs/how-to/observe.md")
    for name in (*metrics.HELP, *(alert.name for alert in alerts("late"))):
        assert f"`{name}`" in page


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    content = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    targets = [*re.findall(r"\]\(([^)\s]+)\)", content), *re.findall(r'(?:src|href)="([^"]+)"', content)]
    for target in targets:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), f"{target} leads nowhere"
        if anchor:
            assert anchor in anchors(found.read_text("utf-8")), f"{target} names no heading"


def anchors(content: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", content, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.replace("`", "").lower()).replace(" ", "-") for h in headings}


def test_the_declarations_of_the_guide_are_accepted() -> None:
    names: dict[str, object] = {"__name__": "project"}
    for block in re.findall(r"^```python\n(.*?)^```", text("docs/how-to/declare-a-project.md"), flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, "declare-a-project.md", "exec"), names)
    project = names["project"]
    assert isinstance(project, treadle.Project)
    assert set(project.models) == set(project.serves) == set(project.watches) == {"late"}
    assert len(project.views) == 3


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_python_in_the_documents_compiles(page: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE):
        if "reference" not in page.parts:
            compile(block, str(page), "exec")
