"""What the page on contracts declares is accepted, and what it promises of columns is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import treadle as tr
from treadle.core.errors import ProjectError

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "contracts.md").read_text("utf-8")


def test_the_declarations_of_the_page_are_accepted() -> None:
    names: dict[str, object] = {"__name__": "project"}
    for block in re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE):
        exec(compile(block, "contracts.md", "exec"), names)
    project = names["project"]
    assert isinstance(project, tr.Project)
    orders = project.datasets["orders"]
    with pytest.raises(ProjectError, match="uses column 'gender'"):
        project.model("late", rows=orders, target="late", inputs=["amount", "gender"])
    allowed = re.search(r"^    (project\.model\(.*\))$", PAGE, flags=re.MULTILINE)
    assert allowed is not None
    exec(allowed[1], names)
    assert project.models["late"].allow == {"gender": "the audit of bias of May 2026"}
