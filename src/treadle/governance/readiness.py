"""The ML Test Score of a model, computed from what is recorded: 28 tests in four sections, 0, 0.5 or 1 each, and the score is the weakest section.

Source: Breck, Cai, Nielsen, Salib and Sculley (2017), "The ML Test Score: A Rubric for ML Production Readiness and Technical Debt Reduction", IEEE
Big Data. Half a point is for a test that was done, by hand or once, a whole one for a test that is done by itself each time. Nothing is typed in:
each score names the record it rests on, and what would gain the next half point. Some tests wait for parts of Treadle that are not built yet;
those say so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from treadle.core.declare.model import Model
from treadle.core.declare.project import Project
from treadle.core.records import Event
from treadle.governance.ml_test_score import data, infrastructure, monitoring
from treadle.governance.ml_test_score import model as development
from treadle.governance.ml_test_score.facts import Facts, Score
from treadle.ports.ledger import Ledger
from treadle.registry import promote, versions

SECTIONS = {"D": "Data", "M": "Model", "I": "Infrastructure", "O": "Monitoring"}
READING = (
    (0.0, "more of a research project than a productionised system"),
    (1.0, "not totally untested, but serious holes are possible"),
    (2.0, "a first pass at productionising, more investment may be needed"),
    (3.0, "reasonably tested, more of it could be automated"),
    (5.0, "strongly tested and watched, fit for critical systems"),
    (7.0, "exceptional"),
)
"""Up to which score which words hold."""
_EVENTS = (
    "parity.checked",
    "deployment.started",
    "deployment.shadow",
    "deployment.canary",
    "deployment.promoted",
    "deployment.rejected",
    "run.resumed",
    "features.skewed",
    "alarm.raised",
    "alarm.answered",
)

TESTS: dict[str, Callable[[Facts], Score]] = {**data.TESTS, **development.TESTS, **infrastructure.TESTS, **monitoring.TESTS}


def readiness(project: Project, model: Model, ledger: Ledger) -> dict[str, Any]:
    """The score as JSON: {'model', 'version', 'score', 'reading', 'sections': [{'id', 'name', 'points', 'tests': [...]}]}."""
    made = versions.all_versions(model.name, ledger)
    deployed = promote.deployment(model.name, ledger)
    current = next((v for v in made if deployed is not None and v["number"] == deployed["champion"]), made[-1] if made else None)
    found = Facts(
        project,
        model,
        ledger,
        made,
        current,
        _events(ledger),
        ledger.find("run", {"model": model.name}),
        ledger.find("block", {"model": model.name}),
    )
    sections: list[dict[str, Any]] = []
    for letter, name in SECTIONS.items():
        scores = [test(found) for id, test in TESTS.items() if id[0] == letter]
        sections.append(
            {
                "id": letter,
                "name": name,
                "points": sum(s.points for s in scores),
                "of": len(scores),
                "tests": [vars(s) for s in scores],
            }
        )
    score = min(float(s["points"]) for s in sections)
    reading = next(words for most, words in READING if score <= most)
    return {
        "model": model.name,
        "version": current.id if current is not None else "",
        "score": score,
        "reading": reading,
        "sections": sections,
    }


def _events(ledger: Ledger) -> list[Event]:
    found: list[Event] = []
    while batch := ledger.events_since(found[-1].seq if found else 0, kinds=_EVENTS):
        found.extend(batch)
    return found
