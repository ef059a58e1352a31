"""The ML Test Score of a model, computed from what is recorded: 28 tests in four sections, 0, 0.5 or 1 each, and the score is the weakest section.

Source: Breck, Cai, Nielsen, Salib and Sculley (2017), "The ML Test Score: A Rubric for ML Production Readiness and Technical Debt Reduction", IEEE
Big Data. Half a point is for a test that was done, by hand or once, a whole one for a test that is done by itself each time. Nothing is typed in:
each score names the record it rests on, and what would gain the next half point. Some tests wait for parts of Treadle that are not built yet;
those say so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from treadle.core.declare.features import Derived
from treadle.core.declare.model import Model
from treadle.core.declare.project import Project
from treadle.core.records import Event, Record, Ref
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


@dataclass(frozen=True)
class Score:
    """One test. `points` is 0, 0.5 or 1; `because` names the evidence; `next` what gains the next half point; `waits` for a part not built yet."""

    id: str
    test: str
    points: float
    because: str
    next: str = ""
    evidence: str = ""
    waits: bool = False


@dataclass(frozen=True)
class Facts:
    """What the tests look at, read once."""

    project: Project
    model: Model
    ledger: Ledger
    made: list[Record]
    current: Record | None
    events: list[Event]
    runs: list[Record]
    blocks: list[Record]

    @property
    def evaluation(self) -> Mapping[str, Any]:
        return self.current["evaluation"] if self.current is not None else {}

    @property
    def gates(self) -> set[str]:
        return {g.name for g in self.model.gates}

    def of(self, kind: str) -> list[Event]:
        """Events of a kind about this model."""
        about = {Ref(versions.DEPLOYMENT, self.model.name), *(Ref(versions.KIND, v.id) for v in self.made)}
        return [e for e in self.events if e.kind == kind and e.subject in about]


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


def _score(id: str, test: str, steps: list[tuple[bool, str, str]], floor: str, evidence: str = "", waits: bool = False) -> Score:
    """Half a point for each of up to two steps that is met, in order. A step is (met, what is so then, what to do to get there)."""
    points, because = 0.0, floor
    for met, words, todo in steps:
        if not met:
            return Score(id, test, points, because, todo, evidence, waits)
        points, because = points + 0.5, words
    return Score(id, test, points, because, "", evidence)


# Data


def _d1(f: Facts) -> Score:
    contract = f.model.rows.contract
    about = (f.current.get("about") if f.current is not None else None) or {}
    missing = about.get("undeclared", ["?"])
    return _score(
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
    return _score(
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
        _version(f),
    )


def _d3(f: Facts) -> Score:
    measured = (f.current.get("measured") if f.current is not None else None) or {}
    return _score(
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
        _version(f),
    )


def _d4(f: Facts) -> Score:
    sent = {c for i in f.model.inputs for c in (i.columns if isinstance(i, Derived) else (i,))}
    columns = f.model.rows.contract.columns if f.model.rows.contract else {}
    tagged = {p.column for p in f.model.protected} | {n for n, c in columns.items() if getattr(c, "personal", "")}
    used = sorted(sent & tagged)
    return _score(
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
    return _score(
        "D5",
        "The data pipeline has appropriate privacy controls",
        [
            (
                bool(kept),
                f"{', '.join(d.name for d in kept)} says whom its rows are about or how long they are kept",
                "say subject= (the column that names a person) or keep= (how long) of a data set",
            ),
            (bool(erased), "an erasure was done and proved", "rehearse an erasure"),
        ],
        "no data set says whom it is about or how long it is kept",
        _data(f),
        waits=not erased,
    )


def _d6(f: Facts) -> Score:
    started = f.of("deployment.started")
    changed = [v for a, v in zip(f.made, f.made[1:]) if a.get("features") != v.get("features")]
    live = {e.body.get("champion") for e in (*started, *f.of("deployment.promoted"))}
    lead = [v for v in changed if v["number"] in live]
    return _score(
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
        _version(f),
    )


def _d7(f: Facts) -> Score:
    checked = f.of("parity.checked")
    clean = [e for e in checked if e.body.get("mismatches") == 0 and e.body.get("rows", 0) > 0]
    return _score(
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
        _version(f),
    )


# Model


def _m1(f: Facts) -> Score:
    code = (f.current.get("code") if f.current is not None else None) or {}
    approved = f.current is not None and any(a["answer"] == "approved" for a in _approvals(f))
    return _score(
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
        _version(f),
    )


def _m2(f: Facts) -> Score:
    pairs = _both(f)
    enough = len(pairs) >= 3 and all(np.ptp([p[i] for p in pairs]) > 0 for i in (0, 1))
    r = float(np.corrcoef(*np.array(pairs).T)[0, 1]) if enough else None
    told = f", correlation {r:.2f}" if r is not None else ""
    return _score(
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
                f"have at least three versions in production whose outcomes are known (now {len(pairs)}{told})",
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
    return _score(
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
    return _score(
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
    return _score(
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
        _version(f),
    )


def _m6(f: Facts) -> Score:
    judged = [s for s in f.evaluation.get("slices", []) if s.get("high") is not None]
    looked = (f.evaluation.get("worst_slices") or {}).get("looked_at", 0)
    gated = {"every_slice", "no_weak_slice"} & f.gates
    return _score(
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
        _version(f),
    )


def _m7(f: Facts) -> Score:
    found = f.evaluation.get("fairness") or {}
    judged = [a for a in found.get("attributes", []) if a["judged"] >= 2]
    return _score(
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
        _version(f),
    )


# Infrastructure


def _i1(f: Facts) -> Score:
    done = [r for v in f.made for r in f.ledger.find("reproduction", {"version": v.id})]
    equal = [r for r in done if r["result"] == "equal"]
    return _score(
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
        equal[-1].id if equal else _version(f),
    )


def _i2(f: Facts) -> Score:
    resumed = [r for r in f.runs if r.get("epoch", 1) > 1 and r["status"] == "done"]
    return _score(
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
    return _score(
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
    return _score(
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
        _version(f),
    )


def _i5(f: Facts) -> Score:
    terms = (f.current.get("explanation") if f.current is not None else None) or {}
    return _score(
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
        _version(f),
    )


def _i6(f: Facts) -> Score:
    shadow, canary = f.of("deployment.shadow"), f.of("deployment.canary")
    return _score(
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
    return _score(
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


# Monitoring


def _o1(f: Facts) -> Score:
    recorded = f.current is not None and bool((f.current.get("environment") or {}).get("packages"))
    alarmed = bool(f.of("dependency.changed"))
    return _score(
        "O1",
        "Dependency changes result in notification",
        [
            (
                recorded,
                "every version names all installed packages, so that a change is found by treadle reproduce and treadle diff",
                "train a version: treadle run",
            ),
            (alarmed, "a changed dependency was notified", "a notification by itself waits for the operations part of Treadle"),
        ],
        "the environment is not recorded",
        _version(f),
        waits=True,
    )


def _o2(f: Facts) -> Score:
    watched = f.model.name in f.project.watches
    contract = f.model.rows.contract is not None
    return _score(
        "O2",
        "Data invariants hold for inputs",
        [
            (
                contract and bool(f.of("deployment.started")),
                "the endpoint checks each request against the contract",
                "give the data set a contract, and deploy",
            ),
            (
                watched and bool(f.blocks),
                f"{len(f.blocks)} blocks of requests were compared with the training rows, with a stated rate of false alarms",
                "declare project.watch(model), and let it look: treadle watch",
            ),
        ],
        "nothing checks what comes in",
        "blocks of the watch",
    )


def _o3(f: Facts) -> Score:
    checked = f.of("parity.checked")
    skew = f.ledger.find("skew", {"model": f.model.name}, limit=1)
    return _score(
        "O3",
        "Training and serving are not skewed",
        [
            (
                any(e.body.get("mismatches") == 0 for e in checked),
                f"at {len(checked)} deployments known rows gave the same features through the serving path",
                "deploy a version: parity is checked first",
            ),
            (
                bool(skew),
                "features logged in production are computed again and compared",
                "comparing logged features waits for the data part of Treadle",
            ),
        ],
        "never compared",
        f"event {checked[-1].seq}" if checked else "",
        waits=True,
    )


def _o4(f: Facts) -> Score:
    watch = f.project.watches.get(f.model.name)
    every = watch is not None and watch.retrain is not None and watch.retrain.every is not None
    curve = any(v["evaluation"].get("staleness") for v in f.made)
    return _score(
        "O4",
        "Models are not too stale",
        [
            (
                every or curve,
                "a model that grew old is retrained by the calendar" if every else "what age costs is known",
                "retrain by the calendar: tr.on_evidence(every=...)",
            ),
            (
                every and curve,
                "what age costs is known, and a model that grew old is retrained by the calendar",
                "split by time, so that what age costs is measured"
                if every
                else "retrain by the calendar: tr.on_evidence(every=...)",
            ),
        ],
        "nothing keeps the model young",
        _version(f),
    )


def _o5(f: Facts) -> Score:
    parity = f.current is not None and bool(f.current.get("parity"))
    return _score(
        "O5",
        "Models are numerically stable",
        [
            (
                parity,
                "answers that are not finite are refused in serving, and infinite targets in training",
                "train a version: treadle run",
            ),
            (
                bool(f.of("numbers.unstable")),
                "an alarm tells of values that are not finite",
                "an alarm waits for the operations part of Treadle",
            ),
        ],
        "nothing was packaged",
        _version(f),
        waits=True,
    )


def _o6(f: Facts) -> Score:
    timed = [v for v in f.made if v.get("measured")]
    return _score(
        "O6",
        "Computing performance has not regressed",
        [
            (bool(timed), "the time of an answer is measured with the version", "train a version: its package is timed"),
            (
                len(timed) > 1 and "fast" in f.gates,
                f"{len(timed)} versions were timed, and a gate refuses one that is too slow",
                "train a second version, and set a limit with tr.fast(...)",
            ),
        ],
        "not measured",
        _version(f),
    )


def _o7(f: Facts) -> Score:
    watched = f.model.name in f.project.watches
    known = [b for b in f.blocks if b.get("matured")]
    return _score(
        "O7",
        "Prediction quality has not regressed",
        [
            (watched, "quality and calibration are watched, with a stated rate of false alarms", "declare project.watch(model)"),
            (
                bool(known),
                f"{len(known)} blocks of predictions were judged by their outcomes",
                "give outcomes to the endpoint, and let it look: treadle watch",
            ),
        ],
        "nobody watches",
        "blocks of the watch",
    )


TESTS: dict[str, Callable[[Facts], Score]] = {
    "D1": _d1,
    "D2": _d2,
    "D3": _d3,
    "D4": _d4,
    "D5": _d5,
    "D6": _d6,
    "D7": _d7,
    "M1": _m1,
    "M2": _m2,
    "M3": _m3,
    "M4": _m4,
    "M5": _m5,
    "M6": _m6,
    "M7": _m7,
    "I1": _i1,
    "I2": _i2,
    "I3": _i3,
    "I4": _i4,
    "I5": _i5,
    "I6": _i6,
    "I7": _i7,
    "O1": _o1,
    "O2": _o2,
    "O3": _o3,
    "O4": _o4,
    "O5": _o5,
    "O6": _o6,
    "O7": _o7,
}


def _version(f: Facts) -> str:
    return f.current.id if f.current is not None else ""


def _data(f: Facts) -> str:
    return str(next(iter(f.current["data"].values()), "")) if f.current is not None else ""


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
