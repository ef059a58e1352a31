"""The seven tests of model development."""

from __future__ import annotations

import numpy as np

from treadle.core.records import Record
from treadle.governance.ml_test_score.facts import Facts, Score, scored, version_of


def _m1(f: Facts) -> Score:
    code = (f.current.get("code") if f.current is not None else None) or {}
    approved = f.current is not None and any(a["answer"] == "approved" for a in _approvals(f))
    return scored(
        "M1",
        "Model specs are reviewed and submitted",
        [
            (
                bool(code.get("commit")) and not code.get("dirty"),
                f"the version was made from commit {str(code.get('commit'))[:12]}, without changes beyond it",
                "commit the project before it is trained" if code else "keep the project in a git repository",
            ),
            (
                approved,
                "another person approved the version",
                "ask for it with the gate tr.approved(), and approve: treadle approve MODEL.vN",
            ),
        ],
        "the version's code is not a clean commit",
        version_of(f),
    )


def _m2(f: Facts) -> Score:
    pairs = _both(f)
    enough = len(pairs) >= 3 and all(np.ptp([p[i] for p in pairs]) > 0 for i in (0, 1))
    r = float(np.corrcoef(*np.array(pairs).T)[0, 1]) if enough else None
    return scored(
        "M2",
        "Offline and online metrics correlate",
        [
            (
                bool(pairs),
                f"{len(pairs)} versions have a loss on their test rows and one in production",
                "watch the endpoint, and give it outcomes",
            ),
            (
                r is not None and r > 0.5,
                f"over {len(pairs)} versions the two correlate with {r:.2f}" if r is not None else "",
                f"have at least three versions in production whose outcomes are known (now {len(pairs)})" if r is None else
                f"the two must correlate with more than 0.5 (now {r:.2f} over {len(pairs)} versions): test rows like what comes, more versions",
            ),
        ],
        "no version has outcomes in production",
        "blocks of the watch",
    )


def _m3(f: Facts) -> Score:
    selection = f.evaluation.get("selection") or {}
    trials = len(f.ledger.find("trial", {"group": f.current["trials"]})) if f.current is not None else 0
    before = next((v for v in f.made if f.current is not None and v["family"] == f.current["family"] and _searched(f, v)), None)
    tried = trials if trials > 1 else len(f.ledger.find("trial", {"group": before["trials"]})) if before is not None else trials
    return scored(
        "M3",
        "All hyperparameters have been tuned",
        [
            (tried > 0, f"{tried} settings on record", "train a version: treadle run"),
            (
                tried > 1,
                f"{tried} settings were tried and are on record" + (f", {selection['judged']} to the end" if selection else ""),
                "let it try more than one setting: trials=, candidates=",
            ),
        ],
        "no search is on record",
        f"trials {f.current['trials']}" if f.current is not None else "",
    )


def _m4(f: Facts) -> Score:
    curves = [v for v in f.made if v["evaluation"].get("staleness")]
    compared = [v for v in f.made if "champion" in v["evaluation"]["against"]]
    return scored(
        "M4",
        "The impact of model staleness is known",
        [
            (
                bool(curves or compared),
                f"{len(compared)} older versions were judged on newer rows"
                if compared
                else "older versions of the recipe were judged",
                "declare event_time and known_time, and split by time: then the same recipe is judged at several ages",
            ),
            (
                bool(curves),
                f"with {curves[-1].id if curves else ''} the recipe was judged at several ages on the same newer rows",
                "split by time (event_time=, known_time=), with enough rows in the first half of the training span",
            ),
        ],
        "no older version was judged on newer rows",
        curves[-1].id if curves else "",
    )


def _m5(f: Facts) -> Score:
    against = f.evaluation.get("against", {})
    families = {t["family"] for t in f.ledger.find("trial", {"model": f.model.name})}
    simple = families & {"logistic", "ridge", "linear", "elastic", "lasso"}
    return scored(
        "M5",
        "A simpler model is not better",
        [
            (
                "baseline" in against,
                f"compared with {f.evaluation.get('baseline_family', 'a baseline')} on the same rows",
                "train a version: treadle run",
            ),
            (
                bool(simple) and "baseline" in against,
                f"a linear family ({', '.join(sorted(simple))}) was among what was tried and compared",
                "let a linear family take part: candidates='auto' or tr.candidate('logistic')",
            ),
        ],
        "nothing simpler was compared",
        version_of(f),
    )


def _m6(f: Facts) -> Score:
    judged = [s for s in f.evaluation.get("slices", []) if s.get("high") is not None]
    looked = (f.evaluation.get("worst_slices") or {}).get("looked_at", 0)
    gated = {"every_slice", "no_weak_slice"} & f.gates
    return scored(
        "M6",
        "Model quality is sufficient on important data slices",
        [
            (
                bool(judged or looked),
                f"{len(judged)} declared slices have metrics with intervals, {looked} parts were searched for weak ones",
                "declare slices=[...]",
            ),
            (
                bool(judged) and bool(gated),
                f"{len(judged)} declared slices, held by {', '.join(sorted(gated))}",
                "declare slices=[...] and hold them with tr.every_slice(...) or tr.no_weak_slice()",
            ),
        ],
        "no slice was judged",
        version_of(f),
    )


def _m7(f: Facts) -> Score:
    found = f.evaluation.get("fairness") or {}
    judged = [a for a in found.get("attributes", []) if a["judged"] >= 2]
    return scored(
        "M7",
        "The model is tested for considerations of inclusion",
        [
            (
                bool(judged),
                f"groups of {', '.join(a['attribute'] for a in judged)} are compared with intervals",
                "declare protected=[...]",
            ),
            ("fair" in f.gates, "and held within limits by tr.fair", "hold them with the gate tr.fair(...)"),
        ],
        "no protected attribute is declared",
        version_of(f),
    )


def _approvals(f: Facts) -> list[Record]:
    from treadle.registry.conditions import approvals

    return approvals(f.current, f.ledger) if f.current is not None else []


def _searched(f: Facts, version: Record) -> bool:
    return len(f.ledger.find("trial", {"group": version["trials"]}, limit=2)) > 1


def _both(f: Facts) -> list[tuple[float, float]]:
    """For each version with outcomes in production: its loss on the test rows, and the mean loss of its blocks."""
    found = []
    for version in f.made:
        metrics = version["evaluation"]["metrics"]["model"]
        name = next((n for n in ("log_loss", "mae") if n in metrics and metrics[n]["value"] is not None), None)
        blocks = [
            (b["loss"], b.get("matured", 1)) for b in f.blocks if b["version"] == version["number"] and b.get("loss") is not None
        ]
        if name is not None and blocks:
            loss = np.array([b[0] for b in blocks], dtype=np.float64)
            found.append((float(metrics[name]["value"]), float(np.average(loss, weights=[max(1, b[1]) for b in blocks]))))
    return found


TESTS = {"M1": _m1, "M2": _m2, "M3": _m3, "M4": _m4, "M5": _m5, "M6": _m6, "M7": _m7}
