"""The page: one HTML file that needs nothing else, neither a network nor, to be read, a script."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from treadle.assemble import Workspace
from treadle.core.declare.model import Model
from treadle.core.errors import StorageError
from treadle.report import drawn, drifted
from treadle.report.answers import answers, state
from treadle.report.charts import charts
from treadle.report.collect import collect
from treadle.report.show import FILTERS, HIGHER
from treadle.report.wheel import wheel

PAGES = "treadle.web.pages"  # a folder of templates; no code is imported from there
SCRIPTS = ("vendor/uPlot.iife.min.js", "charts.js")
STYLES = ("vendor/uPlot.min.css", "page.css")


def write_report(ws: Workspace, model: Model, path: Path) -> Path:
    """Write the report of a model to `path`, whole or not at all. Raises StorageError."""
    return write(render(collect(ws, model)), path, "report")


def write_graph(collected: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a collected graph to `path`, whole or not at all. Raises StorageError."""
    return write(template("graph.html", **drawn.shown(collected)), path, "graph")


def write_drift(collected: Mapping[str, Any], path: Path) -> Path:
    """Write the page of a drift report (`DriftReport.to_json()`) to `path`, whole or not at all. Raises StorageError."""
    return write(template("drift.html", **drifted.shown(collected)), path, "drift report")


def write(text: str, path: Path, noun: str) -> Path:
    """Write a page, whole or not at all. Raises StorageError, which calls it by the noun."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(f"The {noun} cannot be written: {error.strerror or error}.", where=str(path), hint="Name another file.") from None
    return path


def render(collected: Mapping[str, Any], **console: Any) -> str:
    """What was collected, as a page. The console hands in its own frame (`nav`, `nonce`); without one the page forbids every request."""
    return template("report.html", **shown(collected), **console)


def shown(collected: Mapping[str, Any]) -> dict[str, Any]:
    """What the report's template asks for."""
    words, tone = state(collected)
    return {
        "d": collected, "answers": answers(collected), "wheel": wheel(collected), "charts": charts(collected),
        "state": {"words": words, "tone": tone},
    }  # fmt: skip


def template(name: str, /, **values: Any) -> str:
    """Render one of the pages. Every value is escaped."""
    blank = {"nonce": secrets.token_urlsafe(16), "nav": [], "console": False, "charts": {}, "panel": None}
    return environment().get_template(name).render({**blank, **values})


@cache
def environment() -> jinja2.Environment:
    """The pages' templates, with the filters that write numbers."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, auto_reload=False,
    )  # fmt: skip
    made.filters.update(FILTERS)
    made.globals["higher_is_better"] = HIGHER
    made.globals["tones"] = drawn.TONES
    made.globals["edge_kinds"] = drawn.KINDS
    made.globals["styles"] = Markup("\n".join(_text(name) for name in STYLES))
    made.globals["scripts"] = Markup("\n".join(_text(name) for name in SCRIPTS))
    return made


def _text(name: str) -> str:
    return resources.files(PAGES).joinpath(name).read_text("utf-8")


def _read(name: str) -> str | None:
    try:
        return _text(name)
    except FileNotFoundError:
        return None
