"""The card says what is recorded, all of it readable by machines, and names what is missing."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import ReplayClock
from treadle.core.records import Record
from treadle.governance import cards
from treadle.governance.junit import junit
from treadle.registry import conditions

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def test_a_card_has_the_nine_sections_and_its_numbers_are_the_recorded_ones(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    made = cards.card(make(), ledger)
    assert [s["name"] for s in made["sections"]] == [
        "Model details", "Intended use", "Factors", "Metrics", "Evaluation data", "Training data", "Quantitative analyses", "Ethical considerations",
        "Caveats and recommendations",
    ]  # fmt: skip
    assert made["missing"] == []
    assert ["roc_auc", "0.72 (0.67 to 0.77)", "0.5 (0.45 to 0.55)"] in made["sections"][3]["items"][0]["table"]


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"owner": " "}, ["an owner"]), ({"about__intended_use": ""}, ["an intended use"]), ({"evaluation__slices": []}, ["metrics on slices"]),
        ({"owner": "", "about": {}, "evaluation__slices": [{"column": "c", "value": "x", "rows": 3, "metric": "roc_auc"}]},
         ["an owner", "an intended use", "metrics on slices"]),
    ],
)  # fmt: skip
def test_what_a_card_must_have_and_has_not_is_named(changes: dict[str, Any], missing: list[str], make: Callable[..., Record], ledger: MemoryLedger) -> None:
    made = cards.card(make(**changes), ledger)
    assert made["missing"] == missing
    assert f"**Missing: {', '.join(missing)}.**" in cards.markdown(made)


def test_nothing_is_written_around_what_nobody_said(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    made = cards.card(make(), ledger)
    assert "Intended use: Not to be used for" in made["unsaid"]
    assert "Model details: Description" in made["unsaid"]
    assert not any(i["label"] == "Not to be used for" for s in made["sections"] for i in s["items"])


def test_the_header_is_what_model_hubs_read(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    text = cards.markdown(cards.card(make(), ledger))
    header = yaml.safe_load(text.split("---\n")[1])
    assert header["library_name"] == "treadle"
    assert header["pipeline_tag"] == "tabular-classification"
    (entry,) = header["model-index"]
    assert entry["results"][0]["metrics"][0] == {"type": "roc_auc", "value": 0.72, "name": "roc_auc"}
    assert entry["results"][0]["dataset"] == {"name": "flights", "type": "flights", "revision": "flights-abc"}


def test_a_slice_named_like_markup_stays_text(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    made = cards.card(make(evaluation__primary="roc_auc", owner="<script>alert(1)</script>"), ledger)
    page, text = cards.html(made), cards.markdown(made)
    assert "<script>" not in page
    assert "&lt;UA&gt;|*x*" in page
    assert "\\<UA\\>\\|\\*x\\*" in text


def test_the_bill_of_materials_follows_the_schema(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    version = make(evaluation__fairness={"attributes": [
        {"attribute": "sex", "judged": 2, "groups": [], "between": ["f", "m"], "ratio": {"value": 0.7, "low": 0.6, "high": 0.8}},
    ]})  # fmt: skip
    made = cards.bom(version, cards.card(version, ledger), ledger)
    assert JsonStrictValidator(SchemaVersion.V1_7).validate_str(json.dumps(made)) is None
    model = made["metadata"]["component"]
    assert model["type"] == "machine-learning-model"
    assert model["modelCard"]["considerations"]["useCases"] == ["decide before departure about standby crews"]
    assert [c["name"] for c in made["components"]] == ["flights", "numpy"]
    assert cards.bom(version, cards.card(version, ledger), ledger) == made


def test_a_waiver_stands_in_the_card(make: Callable[..., Record], ledger: MemoryLedger) -> None:
    version = make()
    conditions.waive("late", "certain", ledger, ReplayClock(NOW), person="bea", reason="agreed", until=NOW + timedelta(days=3))
    assert "**Waiver of certain**: bea, until 2026-03-04: agreed" in cards.markdown(cards.card(version, ledger))


def test_a_verdict_as_junit_tells_failed_waived_and_waiting_gates(make: Callable[..., Record], ledger: MemoryLedger, tmp_path: Path) -> None:
    def finding(gate: str, passed: bool, waits: bool = False) -> dict[str, Any]:
        return {"gate": gate, "passed": passed, "reason": f'{gate} & "reason" <{passed}> \x00', "evidence": {"p": 0.5}, "waits": waits}

    version = make(
        status="refused",
        verdict={"passed": False, "reasons": [], "findings": [finding("signal", True), finding("certain", False), finding("calibrated", False), finding("approved", True, True)]},
    )
    conditions.waive("late", "calibrated", ledger, ReplayClock(NOW), person="bea", reason="agreed", until=NOW + timedelta(days=3))
    root = ElementTree.fromstring(junit([version], ledger, NOW))
    assert root.attrib == {"name": "treadle", "tests": "4", "failures": "1", "skipped": "2"}
    told = {c.attrib["name"]: [e.tag for e in c] for c in root.iter("testcase")}
    assert told == {"signal": ["system-out"], "certain": ["failure", "system-out"], "calibrated": ["skipped", "system-out"], "approved": ["skipped", "system-out"]}
    waived = next(e for e in root.iter("skipped"))
    assert "waived by bea until 2026-03-04: agreed" in waived.attrib["message"]
