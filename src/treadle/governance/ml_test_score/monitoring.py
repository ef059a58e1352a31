"""The seven tests of monitoring."""

from __future__ import annotations

from treadle.governance.ml_test_score.facts import Facts, Score, scored, version_of


def _o1(f: Facts) -> Score:
    recorded = f.current is not None and bool((f.current.get("environment") or {}).get("packages"))
    alarmed = bool(f.of("dependency.changed"))
    return scored(
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
        version_of(f),
        waits=True,
    )


def _o2(f: Facts) -> Score:
    watched = f.model.name in f.project.watches
    contract = f.model.rows.contract is not None
    return scored(
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
    skew = f.ledger.find("skew_check", {"model": f.model.name}, limit=1)
    return scored(
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
                "watch the endpoint: treadle watch computes what it logged again, and compares",
            ),
        ],
        "never compared",
        f"event {checked[-1].seq}" if checked else "",
    )


def _o4(f: Facts) -> Score:
    watch = f.project.watches.get(f.model.name)
    retrain = watch.retrain if watch is not None else None
    when = [
        *(["by the calendar"] if retrain is not None and retrain.every is not None else []),
        *(["when enough new rows are known"] if retrain is not None and retrain.new_rows is not None else []),
    ]
    young = f"a model that grew old is retrained {' and '.join(when)}"
    hint = "retrain before a model is old: tr.on_evidence(every=...) or new_rows=..."
    curve = any(v["evaluation"].get("staleness") for v in f.made)
    return scored(
        "O4",
        "Models are not too stale",
        [
            (
                bool(when) or curve,
                young if when else "what age costs is known",
                hint,
            ),
            (
                bool(when) and curve,
                f"what age costs is known, and {young}",
                "split by time, so that what age costs is measured" if when else hint,
            ),
        ],
        "nothing keeps the model young",
        version_of(f),
    )


def _o5(f: Facts) -> Score:
    parity = f.current is not None and bool(f.current.get("parity"))
    return scored(
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
        version_of(f),
        waits=True,
    )


def _o6(f: Facts) -> Score:
    timed = [v for v in f.made if v.get("measured")]
    return scored(
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
        version_of(f),
    )


def _o7(f: Facts) -> Score:
    watched = f.model.name in f.project.watches
    known = [b for b in f.blocks if b.get("matured")]
    return scored(
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


TESTS = {"O1": _o1, "O2": _o2, "O3": _o3, "O4": _o4, "O5": _o5, "O6": _o6, "O7": _o7}
