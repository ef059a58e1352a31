"""A verdict as JUnit XML, which every continuous-integration system shows: one test case a gate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from xml.sax.saxutils import quoteattr

from treadle.core.canonical import plain
from treadle.core.records import Record
from treadle.ports.ledger import Ledger
from treadle.registry import conditions


def junit(versions: Sequence[Record], ledger: Ledger, now: datetime) -> str:
    """One test suite a version. A gate that failed is a failure, one that is waived or waits for a person is skipped, with the reason."""
    suites = [_suite(v, ledger, now) for v in versions]
    totals = {k: sum(s[1][k] for s in suites) for k in ("tests", "failures", "skipped")}
    attributes = " ".join(f'{k}="{v}"' for k, v in totals.items())
    body = "\n".join(s[0] for s in suites)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="treadle" {attributes}>\n{body}\n</testsuites>\n'


def _suite(version: Record, ledger: Ledger, now: datetime) -> tuple[str, Mapping[str, int]]:
    counts = {"tests": 0, "failures": 0, "skipped": 0}
    cases = []
    for finding in version["verdict"]["findings"]:
        counts["tests"] += 1
        head = f"  <testcase classname={quoteattr(_clean(version['model']))} name={quoteattr(_clean(finding['gate']))}"
        waiver = None if finding["passed"] else conditions.in_force(version, finding["gate"], ledger, now)
        evidence = _clean(json.dumps(plain(finding["evidence"]), ensure_ascii=False))
        out = f"<system-out>{_text(_clean(finding['reason']))}\n{_text(evidence)}</system-out>"
        if waiver is not None:
            counts["skipped"] += 1
            why = f"waived by {waiver['by']} until {waiver['until'][:10]}: {waiver['reason']} ({finding['reason']})"
            cases.append(f"{head}><skipped message={quoteattr(_clean(why))}/>{out}</testcase>")
        elif not finding["passed"]:
            counts["failures"] += 1
            cases.append(f'{head}><failure type="gate" message={quoteattr(_clean(finding["reason"]))}/>{out}</testcase>')
        elif finding.get("waits"):
            counts["skipped"] += 1
            cases.append(f"{head}><skipped message={quoteattr(_clean(finding['reason']))}/>{out}</testcase>")
        else:
            cases.append(f"{head}>{out}</testcase>")
    attributes = " ".join(f'{k}="{v}"' for k, v in counts.items())
    head = f" <testsuite name={quoteattr(version.id)} timestamp={quoteattr(version.created_at[:19])} {attributes}>"
    return "\n".join([head, *cases, " </testsuite>"]), counts


def _clean(text: str) -> str:
    """Without what XML 1.0 has no place for."""
    return "".join(c for c in text if c in "\t\n\r" or "\x20" <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c >= "\U00010000")


def _text(text: str) -> str:
    from xml.sax.saxutils import escape

    return escape(text)
