"""The seven tests of features and data."""

from __future__ import annotations

from treadle.core.declare.features import Derived
from treadle.governance.ml_test_score.facts import Facts, Score, scored, version_of


def _d1(f: Facts) -> Score:
    contract = f.model.rows.contract
    about = (f.current.get("about") if f.current is not None else None) or {}
    missing = about.get("undeclared", ["?"])
    return scored(
        "D1",
        "Feature expectations are captured in a schema",
        [
            (
                contract is not None,
                "the data set has a contract",
                f"give data set {f.model.rows.name!r} a contract=tr.Contract(...)",
            ),
            (
                contract is not None and not missing,
                "every field a caller sends is declared, and checked on every row of each data version",
                f"declare in the contract: {', '.join(missing)}" if about else "train a version: treadle run",
            ),
        ],
        "there is no contract",
        _data(f),
    )


def _d2(f: Facts) -> Score:
    found = (f.evaluation.get("importance") or {}).get("features", [])
    idle = [i["name"] for i in found if i["high"] <= 0]
    return scored(
        "D2",
        "All features are beneficial",
        [
            (
                bool(found),
                f"the use of each of {len(found)} features is measured with every version; none for {', '.join(idle[:5])}",
                "train a version: its evaluation measures what each feature is worth",
            ),
            (
                not idle,
                f"each of {len(found)} features lowers the loss of the current version",
                f"leave out {', '.join(idle[:5])}, or collect more rows",
            ),
        ],
        "not measured",
        version_of(f),
    )


def _d3(f: Facts) -> Score:
    measured = (f.current.get("measured") if f.current is not None else None) or {}
    return scored(
        "D3",
        "No feature's cost is too much",
        [
            (
                "answer" in measured,
                f"answering a row takes {measured['answer']['p99_ms']:.2f} ms (99 of 100), measured with the version"
                if measured
                else "",
                "train a version: its package is timed",
            ),
            (
                "fast" in f.gates,
                "a gate holds the time of an answer, with all features, under a limit",
                "set a budget with the gate tr.fast(...)",
            ),
        ],
        "not measured",
        version_of(f),
    )


def _d4(f: Facts) -> Score:
    sent = {c for i in f.model.inputs for c in (i.columns if isinstance(i, Derived) else (i,))}
    columns = f.model.rows.contract.columns if f.model.rows.contract else {}
    tagged = {p.column for p in f.model.protected} | {n for n, c in columns.items() if getattr(c, "personal", "")}
    used = sorted(sent & tagged)
    return scored(
        "D4",
        "Features adhere to meta-level requirements",
        [
            (
                bool(tagged),
                f"protected or personal columns are named ({', '.join(sorted(tagged))})"
                + (f"; {', '.join(used)} are inputs" if used else ""),
                "name protected columns with protected=[...], or say that there are none by declaring the contract's personal columns",
            ),
            (
                bool(tagged) and not used,
                "no protected or personal column is an input",
                f"take {', '.join(used)} out of the inputs",
            ),
        ],
        "no column is marked as protected or personal",
        _data(f),
    )


def _d5(f: Facts) -> Score:
    sources = {d.name: d for d in (f.model.rows, *(v.source for v in f.model.views))}
    kept = [d for d in sources.values() if d.keep is not None or d.subject]
    erased = f.ledger.find("erasure", limit=1)
    return scored(
        "D5",
        "The data pipeline has appropriate privacy controls",
        [
            (
                bool(kept),
                f"{', '.join(d.name for d in kept)} says whom its rows are about or how long they are kept",
                "say subject= (the column that names a person) or keep= (how long) of a data set",
            ),
            (bool(erased), "an erasure was done and proved", "rehearse an erasure: treadle erase --help"),
        ],
        "no data set says whom it is about or how long it is kept",
        _data(f),
    )


def _d6(f: Facts) -> Score:
    started = f.of("deployment.started")
    changed = [v for a, v in zip(f.made, f.made[1:]) if a.get("features") != v.get("features")]
    live = {e.body.get("champion") for e in (*started, *f.of("deployment.promoted"))}
    lead = [v for v in changed if v["number"] in live]
    return scored(
        "D6",
        "New features can be added quickly",
        [
            (
                bool(started),
                "a version came from the first run to production with the definitions it was trained on",
                "deploy a version: treadle deploy",
            ),
            (
                bool(lead),
                f"a version with changed features was brought to production ({', '.join(v.id for v in lead[:3])})",
                "change or add a view, train, and let the version replace the champion: the time it takes is then on record",
            ),
        ],
        "nothing was deployed yet",
        version_of(f),
    )


def _d7(f: Facts) -> Score:
    checked = f.of("parity.checked")
    clean = [e for e in checked if e.body.get("mismatches") == 0 and e.body.get("rows", 0) > 0]
    return scored(
        "D7",
        "All input feature code is tested",
        [
            (
                bool(f.made),
                "feature functions are run on history cut off at several moments, so that none looks ahead",
                "train a version: treadle run",
            ),
            (
                bool(clean) and len(clean) == len(checked),
                f"at each of {len(checked)} deployments known rows went through the serving path, with 0 features that differ from training",
                "deploy a version: parity is checked on real rows first",
            ),
        ],
        "no feature was computed yet",
        version_of(f),
    )


def _data(f: Facts) -> str:
    return str(next(iter(f.current["data"].values()), "")) if f.current is not None else ""


TESTS = {"D1": _d1, "D2": _d2, "D3": _d3, "D4": _d4, "D5": _d5, "D6": _d6, "D7": _d7}
