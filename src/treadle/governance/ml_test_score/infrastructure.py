"""The seven tests of infrastructure."""

from __future__ import annotations

from treadle.governance.ml_test_score.facts import Facts, Score, scored, version_of


def _i1(f: Facts) -> Score:
    done = [r for v in f.made for r in f.ledger.find("reproduction", {"version": v.id})]
    equal = [r for r in done if r["result"] == "equal"]
    return scored(
        "I1",
        "Training is reproducible",
        [
            (bool(f.made), "seed, code, data and environment are recorded with every version", "train a version: treadle run"),
            (
                bool(equal),
                f"{equal[-1]['version'] if equal else ''} was made again and is equal to the last digit",
                "make a version again: treadle reproduce MODEL",
            ),
        ],
        "nothing was trained",
        equal[-1].id if equal else version_of(f),
    )


def _i2(f: Facts) -> Score:
    resumed = [r for r in f.runs if r.get("epoch", 1) > 1 and r["status"] == "done"]
    return scored(
        "I2",
        "Model specs are unit tested",
        [
            (
                bool(f.runs),
                "every declaration is checked each time the project is loaded, against the data where there are some",
                "run the project: treadle run",
            ),
            (
                bool(resumed),
                f"run {resumed[-1].id if resumed else ''} was interrupted and went on from where it was",
                "interrupt a run and go on: treadle resume",
            ),
        ],
        "the project was never loaded by a run",
        resumed[-1].id if resumed else "",
    )


def _i3(f: Facts) -> Score:
    whole = [r for r in f.runs if r["status"] == "done"]
    causes = {r["cause"].get("kind") for r in whole}
    by_itself = causes & {"commit", "schedule", "alarm", "slot", "on_commit"}
    return scored(
        "I3",
        "The ML pipeline is integration tested",
        [
            (bool(whole), f"{len(whole)} whole runs from data to registered version are on record", "run it: treadle run"),
            (
                bool(by_itself),
                f"whole runs start by themselves ({', '.join(sorted(str(c) for c in by_itself))})",
                "start it on every commit: project.schedule(..., when=tr.on_commit(...)), or treadle compile github",
            ),
        ],
        "no whole run is on record",
        whole[-1].id if whole else "",
    )


def _i4(f: Facts) -> Score:
    beats = {"beats_baseline"} & f.gates
    champion = {"beats_champion", "no_worse_than_champion"} & f.gates
    return scored(
        "I4",
        "Model quality is validated before serving",
        [
            (bool(f.made and f.gates), f"{len(f.gates)} gates are asked of every version", "declare gates"),
            (
                bool(f.made) and bool(beats) and bool(champion),
                f"every version must beat the baseline and be judged against the champion ({len(f.gates)} gates)",
                "use tr.beats_baseline() and tr.beats_champion() or tr.no_worse_than_champion()",
            ),
        ],
        "no version was judged",
        version_of(f),
    )


def _i5(f: Facts) -> Score:
    terms = (f.current.get("explanation") if f.current is not None else None) or {}
    return scored(
        "I5",
        "The model is debuggable",
        [
            (
                bool(f.made),
                "every prediction can be followed from its id to features, version, data and code: treadle why",
                "train a version: treadle run",
            ),
            (
                bool(terms),
                f"each answer can be taken apart into contributions that add up to it (checked on {terms.get('rows', 0)} rows)",
                "use a family with exact contributions: linear, or trees",
            ),
        ],
        "nothing to look into",
        version_of(f),
    )


def _i6(f: Facts) -> Score:
    shadow, canary = f.of("deployment.shadow"), f.of("deployment.canary")
    return scored(
        "I6",
        "Models are canaried before serving",
        [
            (
                bool(shadow or f.model.name in f.project.serves),
                "a challenger runs in shadow first" if shadow else "shadow and canary are declared",
                "declare project.serve(model, shadow=..., canary=...)",
            ),
            (
                bool(canary),
                f"{len(canary)} versions answered a share of the requests first, and statistics decided",
                "let a retrained version come to its canary stage",
            ),
        ],
        "no canary is declared",
        f"event {canary[-1].seq}" if canary else "",
    )


def _i7(f: Facts) -> Score:
    back = [
        e
        for e in (*f.of("deployment.promoted"), *f.of("deployment.rejected"))
        if e.kind == "deployment.rejected" or int(e.body.get("champion", 0)) < int(e.body.get("instead_of") or 0)
    ]
    return scored(
        "I7",
        "Serving models can be rolled back",
        [
            (
                len(f.made) > 1 and bool(f.of("deployment.started")),
                "earlier versions are kept whole, and any of them can be deployed by one command",
                "have a second version, and deploy",
            ),
            (
                bool(back),
                f"{len(back)} times a version was taken back, on record",
                "rehearse it: treadle deploy MODEL --version N --now",
            ),
        ],
        "there is nothing to go back to",
        f"event {back[-1].seq}" if back else "",
    )


TESTS = {"I1": _i1, "I2": _i2, "I3": _i3, "I4": _i4, "I5": _i5, "I6": _i6, "I7": _i7}
