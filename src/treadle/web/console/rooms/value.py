"""What the loop is worth and what it costs: the comparisons of policies on record, runs and their seconds by month, alarms and retrainings."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec

from treadle.backtest.run import KIND
from treadle.core.clock import iso
from treadle.core.errors import NotFound
from treadle.core.records import Record
from treadle.live import retraining
from treadle.monitoring import alarms
from treadle.pipelines.run import RUN
from treadle.report import backtest
from treadle.web.console.counted import counts
from treadle.web.console.operation import Asked, Operation, Pages, listed

MONTHS = 12
DEAREST = 10  # runs shown one by one


class Compare(msgspec.Struct, frozen=True, kw_only=True):
    """What is lived through: a model, the policies (one a line; six if empty), from and to when, and what errors and work cost."""

    model: str
    policies: str = ""
    start: str = ""
    end: str = ""
    cpu_price: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    training_price: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    miss_price: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    alarm_price: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    currency: str = ""


def value(asked: Asked) -> dict[str, Any]:
    """The comparisons of policies, newest first, and what runs have cost in the last twelve months."""
    ws = asked.ws
    now = ws.clock.now()
    months = _months(now)
    runs = ws.ledger.find(RUN, after=iso(datetime.fromisoformat(f"{months[-1]}-01T00:00:00+00:00")))
    page = listed(ws, KIND, None, asked.query, told)
    models = [_model(asked, name) for name in ws.project.models]
    return {**page, "months": months, "costs": _costs(runs, months), "dearest": _dearest(runs), "models": models}


def see(asked: Asked) -> dict[str, Any]:
    """One comparison of policies, whole. Raises NotFound."""
    record = asked.ws.ledger.get(KIND, asked["backtest"])
    if record is None:
        raise NotFound(f"There is no backtest {asked['backtest']!r}.", hint="See them all on the page 'Value'.")
    return {"id": record.id, "project": asked.ws.project.name, **record.body}


def start(asked: Asked) -> dict[str, Any]:
    """Live through recorded history under several policies, in a process of its own."""
    from treadle.web.console.rooms import commands

    given, name = asked.body, asked.ws.model(asked.body.model).name
    argv = ["backtest", name]
    argv += [f"--policy={line.strip()}" for line in given.policies.splitlines() if line.strip()]
    said = {
        "from": given.start.strip(), "to": given.end.strip(), "cpu-price": given.cpu_price, "training-price": given.training_price,
        "miss-price": given.miss_price, "alarm-price": given.alarm_price, "currency": given.currency.strip(),
    }  # fmt: skip
    argv += [f"--{option}={text}" for option, text in said.items() if text]
    return dict(commands.start(asked, [*argv, "--json"]))


def told(record: Record) -> dict[str, Any]:
    """A comparison in a line."""
    best = next((p for p in record["policies"] if p["policy"] == record["best"]), None)
    gain = best["better_by"].get(record["primary"]) if best is not None else None
    return {
        "id": record.id, "model": record["model"], "made": record["made"], "from": record["from"], "to": record["to"], "rows": record["rows"],
        "policies": [p["policy"] for p in record["policies"]], "best": record["best"], "against": record["against"], "primary": record["primary"],
        "better_by": gain, "trainings": best["retrained"] if best is not None else None, "earned": best.get("earned") if best is not None else None,
        "currency": record["prices"].get("currency", ""),
    }  # fmt: skip


def _months(now: datetime) -> list[str]:
    found = []
    year, month = now.year, now.month
    for _ in range(MONTHS):
        found.append(f"{year:04d}-{month:02d}")
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
    return found


def _costs(runs: Sequence[Record], months: Sequence[str]) -> list[dict[str, Any]]:
    """Of each model and pipeline: runs, seconds on the clock and of CPU, in all and by month."""
    found: dict[str, dict[str, Any]] = defaultdict(lambda: {"runs": Counter(), "seconds": Counter(), "cpu": Counter()})
    for r in runs:
        if not r.get("replayed"):
            of, month = found[r["scope"]], r.created_at[:7]
            of["runs"][month] += 1
            of["seconds"][month] += float(r.get("seconds", 0.0))
            of["cpu"][month] += float(r.get("cpu", 0.0))
    said = [
        {"scope": scope, **{what: sum(of[what].values()) for what in of},
         "by_month": [{"month": m, **{what: of[what][m] for what in of}} for m in months]}
        for scope, of in found.items()
    ]  # fmt: skip
    return sorted(said, key=lambda s: -s["seconds"])


def _dearest(runs: Sequence[Record]) -> list[dict[str, Any]]:
    most = sorted(runs, key=lambda r: -float(r.get("seconds", 0.0)))[:DEAREST]
    wanted = ("scope", "status", "started", "seconds", "cpu")
    return [{"id": r.id, **{k: r.get(k) for k in wanted}, "because": r["cause"].get("kind", "")} for r in most]


def _model(asked: Asked, name: str) -> dict[str, Any]:
    ledger = asked.ws.ledger
    answered, outcomes = counts(asked.ws, name)
    return {
        "name": name, "alarms": ledger.count(alarms.KIND, {"model": name}), "open": ledger.count(alarms.KIND, {"model": name, "status": "open"}),
        "retrainings": ledger.count(retraining.KIND, {"model": name}), "predictions": answered, "outcomes": outcomes,
    }  # fmt: skip


def _page(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    ws = asked.ws
    return "value.html", {"d": given, "watched": [m.name for m in ws.project.models.values() if ws.watch_of(m) is not None]}


def _one(given: Mapping[str, Any], asked: Asked) -> tuple[str, Mapping[str, Any]]:
    return "backtest.html", {**backtest.shown(given), "about": f"backtest/{given['id']}"}


OPERATIONS = [
    Operation("backtest.list", "/value", "backtest.see", value, "Comparisons of policies, and what runs have cost.", query=Pages, page=_page),
    Operation("backtest.see", "/value/{backtest}", "backtest.see", see, "One comparison of policies.", page=_one),
    Operation("backtest.start", "/value/start", "backtest.run", start, "Compare policies of retraining on recorded history.", method="POST",
              body=Compare, done="The comparison begins.", status=202),
]  # fmt: skip
