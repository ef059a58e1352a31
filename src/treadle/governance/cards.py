"""The model card: what stands in the record about a version, in the nine sections of Mitchell and others (2019), "Model Cards for Model Reporting".

Every sentence is made of something recorded. What nobody declared or measured is listed as missing, never written around. The same card is told as
Markdown with a Hugging Face header, as a page, as JSON, and as an ML bill of materials (CycloneDX 1.7).
"""

from __future__ import annotations

import html as escaping
import json
from collections.abc import Mapping, Sequence
from typing import Any

from treadle import __version__
from treadle.core.canonical import digest, plain
from treadle.core.records import Record
from treadle.ports.ledger import Ledger
from treadle.registry import conditions

REQUIRED = {"owner": "an owner", "intended_use": "an intended use", "slices": "metrics on slices"}
FORMATS = ("markdown", "html", "json", "bom")
_PIPELINE = {"binary": "tabular-classification", "multiclass": "tabular-classification", "regression": "tabular-regression"}


def card(version: Record, ledger: Ledger, manifest: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The card of a version as JSON: {'title', 'sections': [{'name', 'items': [...]}], 'missing', 'facts'}.

    Args:
        manifest: of the version's package; with it the inputs are listed.
    An item is {'label', 'text'} or {'label', 'table': [head, *rows]}; 'missing' lists what the card must have and has not.
    """
    e, about = version["evaluation"], version.get("about") or {}
    made = version.get("measured") or {}
    sections: list[tuple[str, list[dict[str, Any]]]] = [
        ("Model details", [
            _said("Version", f"{version.id}, registered {version.created_at[:19].replace('T', ' ')} UTC, status {version['status']}"),
            _said("Owner", version.get("owner", "")), _said("Description", about.get("description", "")),
            _said("Kind", f"{version['family']} ({version['task']}), settings {_settings(version['params'])}"),
            _said("Made by", f"run {version['run'] or 'unknown'}, because: {version['cause'].get('text', '')}"),
            _said("Code", _code(version.get("code") or {})),
            _said("Package", f"{version['format']}, {version['package']['digest'][:16]}" + _size(version)),
            _said("Answers", _speed(made)), _said("Licences", _licences(version.get("licences") or {})),
        ]),
        ("Intended use", [
            _said("Goal of the project", version.get("goal", "")), _said("Intended use", about.get("intended_use", "")),
            _said("Not to be used for", about.get("excluded_use", "")),
        ]),
        ("Factors", [
            _said("Slices judged one by one", ", ".join(sorted({s["column"] for s in e["slices"]}))),
            _said("Protected attributes", ", ".join(about.get("protected", []))),
            _said("Inputs", ", ".join(f["name"] for f in manifest["signature"]["request"]) if manifest else ""),
        ]),
        ("Metrics", [
            {"label": "On rows no search has seen", "table": _metrics(e)},
            _said("Promised intervals", _conformal(e)), _said("Calibration", _calibration(e)),
        ]),
        ("Evaluation data", [
            _said("Rows", f"{e['rows']:,} rows in {e['blocks']:,} independent blocks; this test set was read {_times(e.get('test_reads', 1))}"),
            _said("Split", _split(version["split"])),
        ]),
        ("Training data", [
            _said("Rows", f"{version['trained_rows']:,}" + (f", the last of {version['trained_to'][:10]}" if version["trained_to"] else "")),
            *[_said(name, _data(ledger, id)) for name, id in version["data"].items()],
        ]),
        ("Quantitative analyses", [
            {"label": "Slices", "table": _slices(e)}, {"label": "Worst parts found", "table": _worst(e)},
            *_fairness(e), {"label": "What matters most", "table": _importance(e)},
            _said("Noise and gaps", _robustness(e)), _said("Ageing", _staleness(e)), _said("Price of choosing", _selection(e)),
        ]),
        ("Ethical considerations", [
            _said("Leakage", _leakage(e)), _said("Explanations", _explanation(version)),
            *[_said(f"Waiver of {w['gate']}", f"{w['by']}, until {w['until'][:10]}: {w['reason']}") for w in _waived(version, ledger)],
            *[_said(f"{a['answer'].capitalize()} by {a['by']}", a["reason"] or a["at"][:10]) for a in conditions.approvals(version, ledger)],
        ]),
        ("Caveats and recommendations", [
            _said("Verdict", "all gates passed" if version["verdict"]["passed"] else "refused"),
            *[_said(f"Gate {f['gate']} {'passed' if f['passed'] else 'FAILED'}", f["reason"]) for f in version["verdict"]["findings"]],
        ]),
    ]  # fmt: skip
    kept = [{"name": name, "items": [i for i in items if i.get("text") or len(i.get("table", [])) > 1]} for name, items in sections]
    return {
        "title": f"{version['model']} version {version['number']}", "sections": kept, "missing": missing(version),
        "unsaid": [f"{s['name']}: {i['label']}" for s, (_, items) in zip(kept, sections) for i in items if i not in s["items"]],
        "facts": {
            "id": version.id, "task": version["task"], "metrics": e["metrics"]["model"], "primary": e["primary"], "data": dict(version["data"]),
        },
    }  # fmt: skip


def missing(version: Record) -> list[str]:
    """What a card must have and this version's has not."""
    about = version.get("about") or {}
    there = {
        "owner": bool(version.get("owner", "").strip()), "intended_use": bool(about.get("intended_use", "").strip()),
        "slices": any(s.get("high") is not None for s in version["evaluation"]["slices"]),
    }  # fmt: skip
    return [words for name, words in REQUIRED.items() if not there[name]]


# How it is told


def markdown(made: Mapping[str, Any]) -> str:
    """The card as Markdown, with the header that model hubs read."""
    lines = ["---", *_header(made), "---", "", f"# {_md(made['title'])}", ""]
    if made["missing"]:
        lines += [f"**Missing: {_md(', '.join(made['missing']))}.**", ""]
    for section in made["sections"]:
        lines += [f"## {section['name']}", ""]
        if not section["items"]:
            lines += ["Nothing is recorded.", ""]
        for item in section["items"]:
            if "table" in item:
                head, *rows = item["table"]
                lines += ["", f"**{_md(item['label'])}**", "", _row(head), _row(["---"] * len(head)), *(_row(r) for r in rows), ""]
            else:
                lines.append(f"- **{_md(item['label'])}**: {_md(item['text'])}")
        lines.append("")
    if made["unsaid"]:
        lines += ["## Not recorded", "", *(f"- {_md(u)}" for u in made["unsaid"]), ""]
    text = "\n".join(lines)
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.rstrip() + "\n"


def _header(made: Mapping[str, Any]) -> list[str]:
    facts = made["facts"]
    tags = ["treadle", "tabular"]
    results = [
        f"      - {{type: {json.dumps(name)}, value: {m['value']:.6g}, name: {json.dumps(name)}}}"
        for name, m in facts["metrics"].items() if m["value"] is not None
    ]  # fmt: skip
    task = _PIPELINE.get(facts["task"], "tabular-regression")
    data = next(iter(facts["data"].items()), ("data", ""))
    return [
        "library_name: treadle", f"tags: [{', '.join(tags)}]", f"pipeline_tag: {task}", f"metrics: [{', '.join(facts['metrics'])}]",
        "model-index:", f"  - name: {json.dumps(made['title'])}", "    results:", f"    - task: {{type: {task}}}",
        f"      dataset: {{name: {json.dumps(data[0])}, type: {json.dumps(data[0])}, revision: {json.dumps(data[1])}}}", "      metrics:", *results,
    ]  # fmt: skip


def html(made: Mapping[str, Any]) -> str:
    """The card as one self-contained page."""
    e = escaping.escape
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>", f"<title>{e(made['title'])}</title>",
        "<meta name='viewport' content='width=device-width, initial-scale=1'><style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;"
        "margin:2rem auto;padding:0 1rem;color:#1a1a1a}table{border-collapse:collapse;margin:.5rem 0}"
        "td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left}"
        "dt{font-weight:600}dd{margin:0 0 .4rem}.missing{background:#fdecea;padding:.6rem 1rem}</style></head><body>",
        f"<h1>{e(made['title'])}</h1>",
    ]  # fmt: skip
    if made["missing"]:
        parts.append(f"<p class='missing'>Missing: {e(', '.join(made['missing']))}.</p>")
    for section in made["sections"]:
        parts.append(f"<h2>{e(section['name'])}</h2>")
        if not section["items"]:
            parts.append("<p>Nothing is recorded.</p>")
        for item in section["items"]:
            if "table" in item:
                head, *rows = item["table"]
                cells = "".join(f"<th>{e(str(c))}</th>" for c in head)
                body = "".join("<tr>" + "".join(f"<td>{e(str(c))}</td>" for c in r) + "</tr>" for r in rows)
                parts.append(f"<h3>{e(item['label'])}</h3><table><tr>{cells}</tr>{body}</table>")
            else:
                parts.append(f"<dl><dt>{e(item['label'])}</dt><dd>{e(item['text'])}</dd></dl>")
    if made["unsaid"]:
        parts.append("<h2>Not recorded</h2><ul>" + "".join(f"<li>{e(u)}</li>" for u in made["unsaid"]) + "</ul>")
    return "\n".join([*parts, "</body></html>", ""])


def bom(version: Record, made: Mapping[str, Any], ledger: Ledger, packages: Mapping[str, str] | None = None) -> dict[str, Any]:
    """An ML bill of materials, CycloneDX 1.7: the model with its card, the data it was trained on, the packages it was made with.

    Args:
        packages: name to version of the packages; those the version names if not given.
    """
    e, about = version["evaluation"], version.get("about") or {}
    licences = version.get("licences") or {}
    environment = version.get("environment") or {}
    named = packages or {n: v for n, v in environment.items() if n not in ("python", "machine", "packages", "treadle")}
    data = [
        {"type": "data", "bom-ref": f"data/{id}", "name": name, "version": id, "data": [{"type": "dataset", "name": name}],
         "description": _data(ledger, id)} for name, id in version["data"].items()
    ]  # fmt: skip
    libraries = [
        {"type": "library", "bom-ref": f"pkg:pypi/{n}@{v}", "name": n, "version": v, "purl": f"pkg:pypi/{n}@{v}",
         **({"licenses": [{"license": {"name": licences[n]}}]} if licences.get(n) else {})} for n, v in sorted(named.items())
    ]  # fmt: skip
    measures = [
        {"type": name, "value": f"{m['value']:.6g}",
         **({"confidenceInterval": {"lowerBound": f"{m['low']:.6g}", "upperBound": f"{m['high']:.6g}"}} if m["low"] is not None else {})}
        for name, m in e["metrics"]["model"].items() if m["value"] is not None
    ] + [
        {"type": s["metric"], "value": f"{s['value_of_metric']:.6g}", "slice": f"{s['column']}={s['value']}",
         "confidenceInterval": {"lowerBound": f"{s['low']:.6g}", "upperBound": f"{s['high']:.6g}"}}
        for s in e["slices"] if s.get("low") is not None and s.get("value_of_metric") is not None
    ]  # fmt: skip
    considerations: dict[str, Any] = {}
    if about.get("intended_use"):
        considerations["useCases"] = [about["intended_use"]]
    limits = [about["excluded_use"]] if about.get("excluded_use") else []
    limits += [f["reason"] for f in version["verdict"]["findings"] if not f["passed"]]
    if limits:
        considerations["technicalLimitations"] = limits
    fair = [
        {"groupAtRisk": f"{a['attribute']}: {a['between'][0]}", "harms": f"selection rates stand in {a['ratio']['value']:.3f}"}
        for a in (e.get("fairness") or {}).get("attributes", []) if a.get("ratio") and a["ratio"]["value"] is not None
    ]  # fmt: skip
    if fair:
        considerations["fairnessAssessments"] = fair
    model: dict[str, Any] = {
        "type": "machine-learning-model", "bom-ref": version.id, "name": version["model"], "version": str(version["number"]),
        "hashes": [{"alg": "SHA-256", "content": version["package"]["digest"]}],
        "modelCard": {
            "modelParameters": {
                "approach": {"type": "supervised"}, "task": version["task"], "architectureFamily": version["family"],
                "modelArchitecture": f"{version['family']} {json.dumps(plain(version['params']), sort_keys=True)}",
                "datasets": [{"ref": d["bom-ref"]} for d in data],
            },
            "quantitativeAnalysis": {"performanceMetrics": measures},
            **({"considerations": considerations} if considerations else {}),
        },
    }  # fmt: skip
    if version.get("owner"):
        model["supplier"] = {"name": version["owner"]}
    serial = digest([version.id, version["package"]["digest"]])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.7.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.7",
        "serialNumber": f"urn:uuid:{serial[:8]}-{serial[8:12]}-4{serial[13:16]}-8{serial[17:20]}-{serial[20:32]}", "version": 1,
        "metadata": {
            "timestamp": version.created_at[:19] + "Z",
            "tools": {"components": [{"type": "application", "name": "treadle", "version": __version__}]}, "component": model,
        },
        "components": [*data, *libraries],
        "dependencies": [{"ref": version.id, "dependsOn": sorted({c["bom-ref"] for c in [*data, *libraries]})}],
    }  # fmt: skip


# What the record says, in words


def _said(label: str, text: str) -> dict[str, Any]:
    return {"label": label, "text": str(text or "").strip()}


def _settings(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {v:.4g}" if isinstance(v, float) else f"{k} = {v}" for k, v in params.items()) or "none"


def _code(code: Mapping[str, Any]) -> str:
    if code.get("commit"):
        return f"commit {code['commit'][:12]}" + (", with changes that are stored" if code.get("dirty") else "")
    return f"archive {code['snapshot'][:19]}" if code.get("snapshot") else ""


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _size(version: Record) -> str:
    return f", {version['bytes'] / 1e6:.2f} MB" if version.get("bytes") else ""


def _speed(measured: Mapping[str, Any]) -> str:
    parts = [f"a row is {word} within {measured[n]['p99_ms']:.2f} ms (99 of 100)" for n, word in
             (("answer", "answered"), ("explanation", "explained")) if n in measured]  # fmt: skip
    return ", ".join(parts)


def _licences(found: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {said or 'says none'}" for name, said in sorted(found.items()))


def _metrics(e: Mapping[str, Any]) -> list[list[str]]:
    who = list(e["metrics"])
    return [["metric", *who], *([name, *(_value(e["metrics"][w][name]) for w in who)] for name in e["metrics"]["model"])]


def _value(m: Mapping[str, Any]) -> str:
    if m["value"] is None:
        return "not defined"
    return f"{m['value']:.4g}" + (f" ({m['low']:.4g} to {m['high']:.4g})" if m["low"] is not None else "")


def _conformal(e: Mapping[str, Any]) -> str:
    if "conformal" in e.get("not_asked", {}):
        return f"not asked: {e['not_asked']['conformal']}"
    parts = []
    for c in e.get("conformal") or []:
        size = f"{c['size']:.2f} classes on average"
        if e["task"] in ("regression", "forecast"):
            size = f"plus or minus {c['size'] / 2:.4g}"
        if e["task"] == "quantile":
            size = f"below the answer {c['size']:+.4g}"
        parts.append(f"{c['level']:.0%} promised, {c['coverage']:.1%} measured ({c['low']:.1%} to {c['high']:.1%}), {size}")
    return "; ".join(parts)


def _calibration(e: Mapping[str, Any]) -> str:
    if "calibration" not in e:
        return ""
    span = e.get("calibration_interval")
    return f"expected calibration error {e['calibration']['error']:.3f}" + (f" ({span[0]:.3f} to {span[1]:.3f})" if span else "")


def _split(split: Mapping[str, Any]) -> str:
    if split.get("method") == "time":
        return f"by time, tested on {split.get('test_from', '')[:10]} to {split.get('test_to', '')[:10]}"
    return ", ".join(f"{k} {v}" for k, v in split.items())


def _data(ledger: Ledger, id: str) -> str:
    record = ledger.get("dataset_version", id)
    if record is None:
        return id
    span = f", {record['start'][:10]} to {record['end'][:10]}" if record.get("start") and record.get("end") else ""
    return f"{id}: {record['rows']:,} rows{span}, {record['quarantined']:,} set aside"


def _slices(e: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [f"{s['column']} = {s['value']}", f"{s['rows']:,}", f"{s['metric']} {_value({**s, 'value': s.get('value_of_metric')})}"]
        for s in e["slices"] if s.get("high") is not None
    ]  # fmt: skip
    return [["slice", "rows", "metric"], *rows]


def _worst(e: Mapping[str, Any]) -> list[list[str]]:
    found = e.get("worst_slices") or {"worst": []}
    return [["where", "rows", "worse than it says by", "p, corrected"], *(
        [" and ".join(f"{n} {v}" for n, v in s["where"]), f"{s['rows']:,}", f"{s['excess']:.3f}", f"{s['p']:.2g}"] for s in found["worst"]
    )]  # fmt: skip


def _fairness(e: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = []
    for a in (e.get("fairness") or {}).get("attributes", []):
        if not a["groups"]:
            continue
        names = [n for n in a["groups"][0] if n not in ("value", "rows")]
        rows = [[g["value"], f"{g['rows']:,}", *(_value(g[n]) for n in names)] for g in a["groups"]]
        found.append({"label": f"Groups of {a['attribute']}", "table": [["group", "rows", *names], *rows]})
        told = [f"{words} {_value(a[n])}" for n, words in (
            ("ratio", "lowest over highest selection rate"), ("odds", "equalised odds difference"), ("gap", "gap in quality")) if n in a]  # fmt: skip
        if told:
            found.append(_said(f"Between groups of {a['attribute']}", "; ".join(told)))
    left = (e.get("fairness") or {}).get("not_asked")
    return [*found, _said("Not asked of", left)] if left else found


def _importance(e: Mapping[str, Any]) -> list[list[str]]:
    found = (e.get("importance") or {}).get("features", [])[:10]
    return [["feature", "loss grows without it by", "from", "to"], *(
        [f["name"], f"{f['importance']:.4f}", f"{f['low']:.4f}", f"{f['high']:.4f}"] for f in found
    )]  # fmt: skip


def _robustness(e: Mapping[str, Any]) -> str:
    changes = (e.get("robustness") or {}).get("changes", [])
    told = [f"{c['change']} {c['amount']:.0%}: loss {c['relative']:+.1%}" for c in changes]
    told += [f"{i['name']} must not matter: {i['moved']:.1%} of the answers change" for i in (e.get("robustness") or {}).get("invariances", [])]
    return "; ".join(told)


def _staleness(e: Mapping[str, Any]) -> str:
    found = e.get("staleness")
    if not found:
        return ""
    return "; ".join(f"{p['age_days']:g} days older: {found['loss']} {p['worse_by']:+.4f} ({p['low']:+.4f} to {p['high']:+.4f})"
                     for p in found["points"][1:])  # fmt: skip


def _selection(e: Mapping[str, Any]) -> str:
    s = e.get("selection")
    if not s:
        return ""
    expected = f"{s['expected']:.4f} ({s['low']:.4f} to {s['high']:.4f}) was to be expected"
    return f"the best of {s['tried']} settings showed {s['loss']} {s['seen']:.4f}; {expected}"


def _leakage(e: Mapping[str, Any]) -> str:
    if "leakage" not in e:
        return ""
    found = "; ".join(f"{f['kind']}: {f['sentence']}" for f in e["leakage"]["found"])
    noted = "".join(f"; worth a look: {f['sentence']}" for f in e["leakage"]["noted"])
    return (found or f"no sign in {len(e['leakage']['looked_at'])} ways it is known to happen") + noted


def _explanation(version: Record) -> str:
    found = version.get("explanation")
    return f"each answer can be taken apart into contributions ({found['unit']}), which add up to it" if found else ""


def _waived(version: Record, ledger: Ledger) -> Sequence[Record]:
    return [w for w in conditions.waivers(version["model"], ledger) if w["number"] in (None, version["number"])]


def _md(text: Any) -> str:
    """Text that cannot break out of its place: no markup of its own, no new lines, no table cells."""
    plain_text = " ".join(str(text).split())
    for mark in ("\\", "`", "*", "_", "[", "]", "<", ">", "|", "#"):
        plain_text = plain_text.replace(mark, "\\" + mark)
    return plain_text


def _row(cells: Sequence[Any]) -> str:
    return "| " + " | ".join("---" if c == "---" else _md(c) for c in cells) + " |"
