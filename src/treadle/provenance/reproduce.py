"""Reproduce a version: its recorded code, packages, data and settings again, in a process and a home of their own, and compare to the last digit.

The result is 'equal'; or 'differs', with everything that differs and what is suspected; or 'impossible', with the one thing that stands in the way.
Each has a stable name, in `REASONS`. It is a record of kind `reproduction`, linked to the version, and an event `version.reproduced`.

The sources are not read: the data sets get the recorded versions, from the blobs. Nothing of the project's own home is changed but that record.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import treadle
from treadle.assemble import Workspace, open_workspace
from treadle.backends.catalog import open_backend
from treadle.core.canonical import canonical, plain
from treadle.core.clock import iso, parse_time
from treadle.core.errors import Conflict, Corrupt, NotFound, StepFailed, TreadleError
from treadle.core.ids import new_id
from treadle.core.records import Link, Record, Ref
from treadle.data import versions as data_versions
from treadle.monitoring.reference import FILE as REFERENCE
from treadle.ports.blobs import Blobs
from treadle.provenance import rebuild
from treadle.provenance.origin import environment_state, recorded_environment
from treadle.provenance.rebuild import Difference, Obstacle
from treadle.registry import foreign, packages
from treadle.registry import versions as registry
from treadle.settings import TABLE
from treadle.wheel.turn import turn

KIND = "reproduction"
AGAIN = 120.0  # seconds: a training as short as this is run twice when it differs, to see whether it differs from itself
MOST = 200  # differences that are kept
# What rests on the search's folds, or is left out without a search:
OF_SEARCH = ("conformal", "selection", "staleness", "not_asked")
ASK_SEARCH = ("covered", "better_than_luck")  # gates that look at them
COMPARED = (
    "evaluation", "verdict", "family", "params", "task", "labels", "trained_rows", "trained_to", "split", "format", "parity", "features", "gates",
)  # fmt: skip

REASONS = {
    # what makes figures differ, in the order in which it is suspected
    "rows-erased": "rows of persons who were erased since are no longer in its data",
    "package": "a package has another version",
    "local-package": "a package installed from a folder has other files",
    "python": "another Python",
    "environment-unknown": "the packages of then were not recorded",
    "platform": "another operating system or kind of machine",
    "cpu": "another processor: numeric libraries choose their code by it",
    "threads": "the number of threads was not recorded",
    "treadle": "Treadle itself changed",
    "code-incomplete": "files that were too large or lay outside the project were not recorded with the code",
    "nondeterministic": "the training gives other figures each time",
    "unknown": "nothing recorded differs, and two re-runs agree with each other",
    # what stands in the way
    "not-recorded": "the version is from before packages were recorded",
    "code-not-recorded": "the code, or its changes beyond the commit, were not recorded",
    "code-damaged": "the recorded changes or files are gone, damaged, or do not fit the commit",
    "git-missing": "there is no git",
    "repository-missing": "the project folder is in no repository any more",
    "commit-missing": "the repository does not have the commit any more",
    "data-missing": "a data version is gone",
    "data-damaged": "a data version is not what was written",
    "champion-missing": "the version it was compared with is gone or damaged",
    "environment-missing": "the list of packages is gone or damaged",
    "python-missing": "the recorded Python is not installed",
    "venv-failed": "no virtual environment could be made",
    "pip-failed": "the recorded packages could not be installed",
    "treadle-changed": "Treadle itself changed, and --strict was given",
    "training-failed": "the training did not finish",
}  # fmt: skip


@dataclass
class Attempt:
    """One reproduction under way: how it is to be done, where, and what was found so far."""

    version: Record
    here: bool
    scratch: bool
    refit: bool
    strict: bool
    say: Callable[[str], None]
    place: Path
    environment: list[Difference] = field(default_factory=list)
    how: str = ""
    seconds: float = 0.0


def reproduce(
    ws: Workspace, model: str = "", number: int | None = None, *, here: bool = False, scratch: bool = False, refit: bool = False,
    strict: bool = False, say: Callable[[str], None] = lambda line: None,
) -> Record:  # fmt: skip
    """Make a version again and compare. The project file of now is not run: it may have become another project.

    Args:
        model, number: the version; the only model, and its newest version, by default.
        here: with the packages that are installed now, whatever was recorded.
        scratch: in an environment built from nothing, although the present packages would do.
        refit: fit the recorded settings once instead of searching again.
        strict: a changed Treadle stands in the way; else it is suspected.
    Returns: the record of the reproduction: {'version', 'result', 'reason', 'reasons': [{'name', 'sentence'}], 'differences': [{'what', 'recorded',
        'reproduced', 'by'}], 'differing': how many, 'environment': [...], 'how', 'seconds', ...}.
    Raises: NotFound for an unknown model or version.
    """
    version = _version(ws, model, number)
    foreign.refuse(version, "make it again from")
    place = Path(tempfile.mkdtemp(prefix="treadle-reproduce-")).resolve()
    attempt = Attempt(version, here, scratch, refit, strict, say, place)
    begun = time.perf_counter()
    about = {"version": version.id, "model": version["model"], "number": version["number"]}
    body: dict[str, Any] = {**about, "refit": refit, "started": iso(ws.clock.now())}
    try:
        try:
            body |= _attempt(ws, attempt)
        except Obstacle as obstacle:
            error = obstacle.error
            said = {"name": obstacle.reason, "sentence": " ".join(filter(None, [error.what, error.hint]))}
            body |= {
                "result": "impossible", "reasons": [said], "differences": [], "differing": 0,
                "error": {"what": error.what, "where": error.where or "", "hint": error.hint or "", "exit_code": error.exit_code},
            }  # fmt: skip
    finally:
        shutil.rmtree(place, ignore_errors=True)
    reasons = [r["name"] for r in body["reasons"]]
    body |= {
        "reason": reasons[0] if reasons else "", "how": attempt.how, "training_seconds": round(attempt.seconds, 3),
        "seconds": round(time.perf_counter() - begun, 3), "environment": [asdict(d) for d in attempt.environment], "actor": ws.actor,
    }  # fmt: skip
    id = new_id(KIND)
    with ws.ledger.transaction():
        record = ws.ledger.put(KIND, id, body, expect=0)
        ws.ledger.link(Link(Ref(KIND, id), "reproduces", Ref(registry.KIND, version.id)))
        told = {"reproduction": id, "result": body["result"], "reasons": reasons}
        ws.ledger.append("version.reproduced", Ref(registry.KIND, version.id), told, actor=ws.actor)
    return record


def _version(ws: Workspace, model: str, number: int | None) -> Record:
    if not model:
        names = sorted({str(r["model"]) for r in ws.ledger.find(registry.KIND)})
        if len(names) != 1:
            hint = f"There are versions of: {', '.join(names)}." if names else "Run: treadle run"
            raise NotFound("Which model?" if names else "There is no version yet.", hint=hint)
        model = names[0]
    if number is not None:
        return registry.get(model, number, ws.ledger)
    known = registry.all_versions(model, ws.ledger)
    if not known:
        raise NotFound(f"There is no version of a model {model!r}.", hint="See: treadle models")
    return known[-1]


def _attempt(ws: Workspace, attempt: Attempt) -> dict[str, Any]:
    version, say = attempt.version, attempt.say
    recorded = _recorded(ws, attempt)
    data = _data(ws, version)
    champion = _champion(ws, version)
    present = environment_state()
    attempt.environment = rebuild.differences(recorded, present) if recorded else []
    changed = next((d for d in attempt.environment if d.kind == "treadle"), None)
    if changed and attempt.strict:
        what = f"Treadle itself changed from {changed.recorded} to {changed.present}."
        raise Obstacle("treadle-changed", Conflict(what, hint="Go on without --strict."))
    project = rebuild.code(version["code"] or {}, ws.folder, ws.blobs, attempt.place / "code")
    say(f"code: {_told_code(version['code'])}")
    python, attempt.how = Path(sys.executable), "here" if attempt.here else "present"
    if recorded and not attempt.here:
        built = rebuild.interpreter(recorded, present, attempt.place / "environment", scratch=attempt.scratch, say=say)
        python, attempt.how = built.python, built.how
    say(f"environment: {_told_environment(attempt)}")
    say(f"data: {', '.join(f'{v.id} ({v.rows:,} rows)' for v in data.values())}")
    settings = {"family": version["family"], "params": version["params"]} if attempt.refit else version.get("settings")
    request = {
        "folder": str(project), "model": version["model"], "as_of": version["as_of"], "settings": settings,
        "data": {name: asdict(v) for name, v in data.items()}, "champion": {"id": champion.id, "body": dict(champion.body)} if champion else None,
        "test_reads": {r.id: dict(r.body) for r in ws.ledger.find("test_reads")}, "version": version.id,
    }  # fmt: skip
    needed = [v.address for v in data.values() if "@" not in v.address] + (packages.blobs_of(champion["package"]) if champion else [])
    say("training again")
    begun = time.perf_counter()
    made, stored = _train(ws, attempt, python, request, needed, attempt.place / "first")
    attempt.seconds = time.perf_counter() - begun
    if recorded:
        attempt.environment = rebuild.differences(recorded, made["environment"])
    found = compare(version.body, made["version"], ws.blobs, stored, refit=attempt.refit and not version.get("settings"))
    found.sort(key=lambda d: not d["what"].startswith("evaluation.metrics"))  # of very many not all are kept: what matters most comes first
    reasons: list[dict[str, str]] = []
    if found:
        twice = None
        if attempt.seconds <= AGAIN:
            say("it differs: training once more, to see whether it differs from itself")
            second, beside = _train(ws, attempt, python, request, needed, attempt.place / "second")
            twice = compare(made["version"], second["version"], stored, beside)
        reasons = _suspects(version, recorded, attempt.environment, twice)
    return {
        "result": "differs" if found else "equal", "reasons": reasons, "differences": found[:MOST], "differing": len(found),
        "metrics": made["version"]["evaluation"]["metrics"], "package": made["version"]["package"]["digest"],
    }  # fmt: skip


def _recorded(ws: Workspace, attempt: Attempt) -> dict[str, Any] | None:
    address = (attempt.version.get("environment") or {}).get("packages")
    if not address:
        if attempt.here:
            return None
        what = f"Version {attempt.version.id} was made before Treadle recorded all packages."
        raise Obstacle("not-recorded", NotFound(what, hint="With --here it is trained again with those that are installed now."))
    try:
        return recorded_environment(address, ws.blobs)
    except (NotFound, Corrupt) as error:
        if attempt.here:
            return None
        raise Obstacle("environment-missing", error) from error


def _data(ws: Workspace, version: Record) -> dict[str, data_versions.Version]:
    found = {}
    for name, id in version["data"].items():
        record = ws.ledger.get(data_versions.KIND, id)
        if record is None:
            raise Obstacle("data-missing", NotFound(f"Version {id} of data set {name!r} is not in the record any more."))
        known = data_versions.read(record)
        try:
            ws.tables.verify(known.address)
        except Corrupt as error:
            what = f"The rows of data version {id} are not what was written."
            raise Obstacle("data-damaged", Corrupt(what, where=error.where, hint="Restore the file from a backup.")) from error
        except NotFound as error:
            what = f"The rows of data version {id} are gone."
            raise Obstacle("data-missing", NotFound(what, where=error.where, hint=error.hint or "Restore them from a backup.")) from error
        found[name] = known
    return found


def _champion(ws: Workspace, version: Record) -> Record | None:
    id = version.get("champion")
    if not id:
        return None
    champion = ws.ledger.get(registry.KIND, id)
    try:
        if champion is None:
            raise NotFound(f"Version {id}, which it was compared with, is not in the record any more.")
        for address in packages.blobs_of(champion["package"]):
            ws.blobs.verify(address)
    except (NotFound, Corrupt) as error:
        raise Obstacle("champion-missing", error) from error
    return champion


def _told_code(code: Mapping[str, Any]) -> str:
    if code.get("snapshot"):
        return "the files kept with the version (no git)"
    changes = " and ".join([*(["its changes"] if code.get("diff") else []), *(["files git did not know"] if code.get("untracked") else [])])
    return f"commit {code['commit'][:12]}" + (f" with {changes}" if changes else "")


def _told_environment(attempt: Attempt) -> str:
    if attempt.how == "present":
        return "the recorded packages are installed"
    if attempt.how == "here":
        return f"as it is now; {len(attempt.environment)} differences" if attempt.environment else "as it is now"
    return "built anew" if attempt.how == "scratch" else "the packages that differ, in front of those installed"


def _train(
    ws: Workspace, attempt: Attempt, python: Path, request: dict[str, Any], needed: list[str], home: Path
) -> tuple[dict[str, Any], Blobs]:
    """Train in a child process with a home of its own; what it made, and its blobs. Raises Obstacle."""
    stored = cast(Blobs, open_backend("blobs", f"file://{home / 'blobs'}"))
    for address in needed:
        stored.put(ws.blobs.path(address))
    asked, answer = home / "request.json", home / "answer.json"
    asked.write_bytes(canonical({**request, "answer": str(answer)}))
    names = ("ledger", "blobs", "online", "predictions", "notify", "executor", "keys")
    env = {
        **os.environ, "TREADLE_HOME": str(home), "PYTHONPATH": os.pathsep.join(_search_path(ws, attempt)),
        **{f"TREADLE_{name.upper()}": TABLE[name][0] for name in names},
        "TREADLE_SIGNING": "off",  # what it makes is compared and thrown away
        "TREADLE_TABLES": ws.settings["tables"],  # read only: it is given versions, and takes none
        "TREADLE_THREADS": str(attempt.version.get("threads") or ws.threads),
    }  # fmt: skip
    env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    done = subprocess.run(
        [str(python), "-m", "treadle.provenance.reproduce", str(asked)], cwd=request["folder"], env=env, capture_output=True, text=True, check=False
    )
    if not answer.exists():
        told = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
        hint = "See with --here whether it does with what is installed now."
        raise Obstacle("training-failed", StepFailed(f"The training did not finish: {told[-1]}", hint=hint))
    said: dict[str, Any] = json.loads(answer.read_bytes())
    if "error" in said:
        error = said["error"]
        failed = StepFailed(f"The training failed: {error['what']}", where=error["where"] or None, hint=error["hint"] or None)
        raise Obstacle("training-failed", failed)
    return said, stored


def _search_path(ws: Workspace, attempt: Attempt) -> list[str]:
    """Where the child looks for modules: the repository's folders that were on the path then, and nothing of the present work tree."""
    code = attempt.version["code"] or {}
    restored = [str(attempt.place / "code" / root) for root in code.get("roots", [])]
    top = ws.folder
    for _ in Path(code.get("path", "")).parts:
        top = top.parent
    inherited = [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and not Path(p).resolve().is_relative_to(top)]
    ours = Path(treadle.__file__).resolve().parents[1]
    own = [] if ours.name in rebuild.INSTALLED or attempt.how == "scratch" else [str(ours)]
    return [*restored, *inherited, *own]


def compare(
    recorded: Mapping[str, Any], made: Mapping[str, Any], then: Blobs, now: Blobs, *, refit: bool = False
) -> list[dict[str, Any]]:
    """Every value of two versions that is not the same to the last digit: metrics, verdict, settings, and the package file by file.

    Args:
        then, now: where the files of each one's package are.
        refit: `made` was fitted without a search, so that it has no answers on all folds, which its measure of what is normal is made from.
    """
    if refit:
        recorded, made = _without_search(recorded), _without_search(made)
    found = [d for name in COMPARED for d in _leaves(name, recorded.get(name), made.get(name))]
    for name in sorted({*recorded["package"]["files"], *made["package"]["files"]}):
        addresses = [side["package"]["files"].get(name) for side in (recorded, made)]
        if addresses[0] == addresses[1] or (refit and name == REFERENCE):
            continue
        texts = [_json(blobs, address) for blobs, address in zip((then, now), addresses)] if name.endswith(".json") else [None, None]
        inside = []
        if all(isinstance(t, dict) for t in texts):
            if name == packages.MANIFEST:
                texts = [{k: v for k, v in t.items() if k != "files"} for t in texts]  # type: ignore[union-attr]
            inside = _leaves(f"package {name}", *texts)
            if not inside and name == packages.MANIFEST:  # it names the other files, and those were compared
                continue
        found += inside or [{"what": f"package {name}", "recorded": addresses[0], "reproduced": addresses[1], "by": None}]
    return found


def _without_search(version: Mapping[str, Any]) -> dict[str, Any]:
    """A version without the evidence that a search brings, which a model fitted with given settings has not: answers on all folds, other settings."""
    evaluation = {k: v for k, v in version["evaluation"].items() if k not in OF_SEARCH}
    if evaluation.get("fairness"):
        evaluation["fairness"] = {k: v for k, v in evaluation["fairness"].items() if k != "mitigation"}
    findings = [f for f in version["verdict"].get("findings", []) if f["gate"] not in ASK_SEARCH]
    return {**version, "evaluation": evaluation, "verdict": {**version["verdict"], "findings": findings}}


def _json(blobs: Blobs, address: str | None) -> Any:
    try:
        return json.loads(blobs.get(address)) if address else None
    except (NotFound, Corrupt, ValueError):
        return None


def _leaves(what: str, recorded: Any, made: Any) -> list[dict[str, Any]]:
    if isinstance(recorded, dict) and isinstance(made, dict):
        return [d for k in dict.fromkeys([*recorded, *made]) for d in _leaves(f"{what}.{k}", recorded.get(k), made.get(k))]
    if isinstance(recorded, list) and isinstance(made, list) and len(recorded) == len(made):
        return [d for i, pair in enumerate(zip(recorded, made)) for d in _leaves(f"{what}[{i}]", *pair)]
    if canonical(recorded) == canonical(made):
        return []
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (recorded, made))
    shown = [_short(v) for v in (recorded, made)]
    return [{"what": what, "recorded": shown[0], "reproduced": shown[1], "by": made - recorded if numbers else None}]


def _short(value: Any) -> Any:
    return value if not isinstance(value, str | list | dict) or len(str(value)) <= 200 else f"{str(value)[:197]}..."


def _suspects(
    version: Record, recorded: Mapping[str, Any] | None, environment: list[Difference], twice: list[dict[str, Any]] | None
) -> list[dict[str, str]]:
    """What may have made the difference, in the order of `REASONS`."""
    named = {"local": "local-package"}
    found = [{"name": named.get(d.kind, d.kind), "sentence": str(d)} for d in environment]
    if version.get("trained_on_erased"):
        sentence = f"{version['trained_on_erased']:,} of its rows were of persons who were erased since: it cannot be made again as it was"
        found.append({"name": "rows-erased", "sentence": sentence})
    if recorded is None:
        found.append({"name": "environment-unknown", "sentence": REASONS["environment-unknown"]})
    if not version.get("threads"):
        found.append({"name": "threads", "sentence": REASONS["threads"]})
    if left_out := (version["code"] or {}).get("left_out"):
        found.append({"name": "code-incomplete", "sentence": f"not recorded: {', '.join(left_out[:5])}"})
    if twice:
        worst = f"two re-runs differ from each other in {len(twice)} values, for example {twice[0]['what']}"
        found.append({"name": "nondeterministic", "sentence": worst})
    if not found:
        say = "nothing recorded differs" + (", and two re-runs agree with each other" if twice is not None else "")
        found.append({"name": "unknown", "sentence": f"{say}: the training read something that no record holds (a file, the clock, the network)"})
    order = list(REASONS)
    return sorted(found, key=lambda reason: order.index(reason["name"]))


def main(asked: str) -> int:
    """The child: train as the request says, and write what came of it as JSON."""
    request = json.loads(Path(asked).read_bytes())
    answer: dict[str, Any]
    try:
        ws = open_workspace(request["folder"])
        for id, body in request["test_reads"].items():
            ws.ledger.put("test_reads", id, body)
        model = ws.model(request["model"])
        given = request["champion"]
        outcome = turn(
            ws, model, cause={"kind": "reproduction", "id": "", "text": f"reproduction of {request['version']}"},
            as_of=parse_time(request["as_of"]) if request["as_of"] else None, settings=request["settings"],
            champion=Record(registry.KIND, given["id"], given["body"]) if given else None,
            data={name: data_versions.of(v) for name, v in request["data"].items()},
        )  # fmt: skip
        made = registry.get(model.name, outcome["register"]["number"], ws.ledger)
        answer = {"version": dict(made.body), "environment": environment_state()}
    except TreadleError as error:
        answer = {"error": {"what": error.what, "where": error.where or "", "hint": error.hint or ""}}
    pending = Path(f"{request['answer']}.part")
    pending.write_text(json.dumps(plain(answer)))
    pending.rename(request["answer"])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
