"""Results and runs in a few words. What a step returned is read only where that is cheap: of a large one only the size is said."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from treadle.assemble import Workspace
from treadle.core.errors import TreadleError
from treadle.core.masking import masked, masked_within, personal_columns
from treadle.core.records import Record
from treadle.pipelines.graph import Slot
from treadle.pipelines.run import STEP, Outcome
from treadle.ports.blobs import Blobs

LONGEST = 200  # characters of a value
_LARGEST = 10_000_000  # bytes of a result that is read to be shown
_WORDS = {
    "done": "ran", "reused": "reused", "skipped": "left out", "failed": "failed", "waiting": "waiting", "rejected": "rejected",
    "cancelled": "stopped",
}  # fmt: skip


def counted(counts: Mapping[str, int]) -> str:
    """'3 ran, 16 reused, 1 left out'"""
    return ", ".join(f"{counts[state]:,} {word}" for state, word in _WORDS.items() if counts.get(state)) or "nothing to do"


def in_words(outcome: Outcome, personal: Mapping[str, str]) -> str:
    """What a pipeline returned, in a line; '' for nothing. What stands under the name of a personal column is masked."""
    text = _words(outcome.template, outcome, personal)
    return "" if text == "None" else shortened(text)


def as_data(outcome: Outcome, personal: Mapping[str, str]) -> Any:
    """What a pipeline returned, for JSON: tables and objects as {'codec', 'address'}. What stands under the name of a personal column is masked."""
    return masked_within(_data(outcome.template, outcome), personal)


def result(codec: str, address: str, blobs: Blobs, personal: Mapping[str, str]) -> str:
    """One stored result in words; `personal` says under which names values are masked."""
    try:
        size = blobs.path(address).stat().st_size
        if codec in ("json", "list") and size <= _LARGEST:
            return shortened(_json(codec, address, blobs, personal))
        if codec == "frame" and "polars" in sys.modules:  # a project that makes tables has loaded it anyway
            import polars as pl

            scan = pl.scan_parquet(blobs.path(address))
            return f"a table of {scan.select(pl.len()).collect().item():,} rows and {len(scan.collect_schema())} columns"
    except (TreadleError, OSError, ValueError):
        return "a result that is gone"
    return f"{ {'frame': 'a table', 'json': 'plain values', 'list': 'a list'}.get(codec, 'an object')} of {_bytes(size)}"


def shows(asked: Record, ws: Workspace) -> str:
    """What an approval shows, in words; '' for nothing."""
    waits = ws.ledger.get(STEP, asked.id)
    told = []
    for source in (waits.get("inputs") or {}).values() if waits is not None else ():
        made = ws.ledger.get(STEP, f"{asked['run']}/{source}")
        if made is not None and made.get("address"):
            told.append(f"{source}: {result(made['codec'], made['address'], ws.blobs, personal_columns(ws.project.datasets.values()))}")
    return "; ".join(told)


def shortened(text: str, longest: int = LONGEST) -> str:
    """Text in one line that is not too long."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 3] + "..."


def _words(template: Any, outcome: Outcome, personal: Mapping[str, str]) -> str:
    if isinstance(template, Slot):
        if template.input not in outcome.stored:
            return "None"
        codec, address = outcome.stored[template.input]
        if template.path and codec == "json":
            hidden = next((personal[p] for p in template.path if isinstance(p, str) and personal.get(p)), "")
            return repr(masked(masked_within(_part(outcome, template), personal), hidden))
        return result(codec, address, outcome._blobs, personal) + (f", of which {list(template.path)}" if template.path else "")
    if isinstance(template, list | tuple):
        return f"[{', '.join(_words(t, outcome, personal) for t in template)}]"
    if isinstance(template, dict):
        return f"{{{', '.join(f'{k}: {_words(v, outcome, personal)}' for k, v in template.items())}}}"
    return repr(template)


def _data(template: Any, outcome: Outcome) -> Any:
    if isinstance(template, Slot):
        if template.input not in outcome.stored:
            return None
        codec, address = outcome.stored[template.input]
        if codec == "json":
            return _part(outcome, template)
        if codec == "list" and all(c == "json" for c, _ in _listed(address, outcome._blobs)):
            return _part(outcome, template)
        return {"codec": codec, "address": address, **({"path": list(template.path)} if template.path else {})}
    if isinstance(template, list | tuple):
        return [_data(t, outcome) for t in template]
    if isinstance(template, dict):
        return {str(k): _data(v, outcome) for k, v in template.items()}
    try:
        json.dumps(template)
    except (TypeError, ValueError):
        return repr(template)
    return template


def _part(outcome: Outcome, template: Slot) -> Any:
    value = outcome[template.input]
    for key in template.path:
        value = value[key]
    return value


def _json(codec: str, address: str, blobs: Blobs, personal: Mapping[str, str]) -> str:
    value = json.loads(blobs.get(address))
    if codec == "json":
        return repr(masked_within(value, personal))
    parts = [repr(masked_within(json.loads(blobs.get(part)), personal)) if kind == "json" else kind for kind, part in value[:20]]
    return f"[{', '.join(parts)}{', ...' if len(value) > 20 else ''}]" + (f" ({len(value):,} in all)" if len(value) > 20 else "")


def _listed(address: str, blobs: Blobs) -> list[tuple[str, str]]:
    return [(codec, part) for codec, part in json.loads(blobs.get(address))]


def _bytes(size: int) -> str:
    return f"{size:,} bytes" if size < 10_000 else f"{size / 1e3:,.0f} kB" if size < 10_000_000 else f"{size / 1e6:,.0f} MB"
