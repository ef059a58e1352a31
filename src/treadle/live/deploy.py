"""From an approved version to an answering endpoint: prove parity, fill the online store, set the traffic, start the process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from treadle.assemble import Workspace, formats
from treadle.backends.catalog import open_backend
from treadle.client import Endpoint
from treadle.core.clock import iso
from treadle.core.declare.model import Model
from treadle.core.declare.operations import Serve
from treadle.core.errors import Conflict, NotFound, Refused, TreadleError, Unavailable
from treadle.core.masking import personal_columns
from treadle.core.records import Record, Ref
from treadle.data import suppressed
from treadle.data import versions as data_versions
from treadle.features import parity
from treadle.features.online import Materialiser
from treadle.pipelines.run import Outcome, alive
from treadle.registry import conditions, packages, promote, versions
from treadle.serving import logged
from treadle.serving.address import free_port, port_free
from treadle.serving.loaded import Loaded
from treadle.serving.requests import micros
from treadle.settings import scheme
from treadle.wheel.materialise import materialise, note_stale
from treadle.wheel.turn import in_memory, load_version, turn, view_histories

ENDPOINT, PARITY = "endpoint", "parity"
START_SECONDS = 30.0


def deploy(
    ws: Workspace, model: Model, *, number: int | None = None, now: bool = False, port: int = 0, at: datetime | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Record:  # fmt: skip
    """Make a version answer, and start the endpoint if it does not run.

    The first version becomes champion. A later one becomes challenger (shadow first) unless `now`, which promotes it at once, by a person.

    Args:
        number: the version; the newest approved one if not given.
        at: fill the online store as of this moment instead of now (for a replay).
    Returns: the endpoint's record. Raises: Refused, NotFound, Conflict (port), Unavailable.
    """
    chosen = versions.get(model.name, number, ws.ledger) if number is not None else _newest(ws, model)
    deployed = promote.deployment(model.name, ws.ledger)
    changes = deployed is None or deployed["champion"] != chosen["number"]
    if chosen.get("foreign") and changes:
        load_version(ws, chosen)  # before anything is on record: its signature holds, its environment is there, it can be opened
    if not chosen.get("foreign") and (changes or (model.views and running_endpoint(ws, model.name) is None)):
        outcome = _features(ws, model, chosen)
        if changes:
            prove(ws, model, chosen, outcome, tell)
        if at is not None:
            fill_online(ws, model, outcome, at, tell)
        else:
            running = running_endpoint(ws, model.name) is not None
            bring_up(ws, model, outcome, tell, replaced=now and not running)
    if changes:
        if deployed is None:
            promote.first(model.name, chosen["number"], ws.ledger, ws.clock, actor=ws.actor, rules=ws.serve_of(model).rules())
            tell(f"version {chosen['number']} answers")
        else:
            if deployed["challenger"] != chosen["number"]:
                promote.challenge(model.name, chosen["number"], ws.ledger, ws.clock, actor=ws.actor)
            if now:
                rollback = ws.serve_of(model).rollback
                trial = rollback is not None and bool(rollback.trial)
                promote.promote(model.name, {"by": "a person", "asked": "at once"}, ws.ledger, ws.clock, actor=ws.actor, trial=trial)
            tell(f"version {chosen['number']} {'answers' if now else 'runs in shadow beside version ' + str(deployed['champion'])}")
    promote.set_rules(model.name, ws.serve_of(model).rules(), ws.ledger, actor=ws.actor)
    stopped = promote.required(model.name, ws.ledger).get("stopped")
    if stopped:
        tell(f"it was stopped by {stopped['by']} ({stopped['reason']}) and stays so until: treadle resume {model.name} --reason TEXT")
    return start(ws, model, port=port, tell=tell)


def connect(ws: Workspace, url: str, *, timeout: float = 30.0, retries: int = 3) -> Endpoint:
    """A connection to an endpoint of this project, from this machine: with the API key and the certificate of the settings."""
    return Endpoint(url, timeout=timeout, retries=retries, key=ws.settings["api_key"], trust=ws.settings["tls_cert"], named=False)


def _newest(ws: Workspace, model: Model) -> Record:
    """The newest version that may answer: approved, or already in production."""
    known = versions.all_versions(model.name, ws.ledger)
    standing = ("champion", "challenger")
    usable = [
        v for v in known
        if v["status"] in standing or (v["status"] in ("approved", "refused") and not conditions.missing(v, ws.ledger, ws.clock.now()))
    ] or [v for v in known if v["status"] == "approved"]  # it waits for people; asking for it says for whom
    if usable:
        return usable[-1]
    if known:
        lacks = conditions.missing(known[-1], ws.ledger, ws.clock.now())
        raise Refused(
            f"No version of {model.name!r} may go to production: {'; '.join(lacks) or known[-1]['status']}.",
            hint=f"See: treadle models {model.name}",
        )
    raise NotFound(f"Model {model.name!r} has no version yet.", hint=f"Run: treadle run {model.name}")


def _features(ws: Workspace, model: Model, version: Record) -> Outcome:
    """The model's rows and view histories, computed if they are not there."""
    from treadle.core.clock import parse_time

    as_of = parse_time(version["as_of"]) if version["as_of"] else None
    return turn(ws, model, cause={"kind": "deployment", "id": "", "text": f"deploy {version.id}"}, as_of=as_of, until="signature", also=("rows",))


def prove(ws: Workspace, model: Model, version: Record, outcome: Outcome, tell: Callable[[str], None]) -> None:
    """Serve known rows through the real path; any feature that differs from training refuses the deployment."""
    evidence, mismatches = serve_again(ws, model, version, outcome)
    if mismatches:
        first = mismatches[0]
        raise Refused(
            f"Serving computes {len(mismatches)} feature values otherwise than training, first {first.feature!r} of row {first.key!r}: "
            f"{first.serving!r} instead of {first.training!r}.",
            where=version.id, hint=f"This version is not deployed. See: treadle features check {model.name}",
        )  # fmt: skip
    tell(f"parity: {evidence['rows']} rows through the serving path, 0 features differ from training")


def serve_again(ws: Workspace, model: Model, version: Record, outcome: Outcome, most: int = 300) -> tuple[Record, list[parity.Mismatch]]:
    """Serve up to `most` known rows as in production: parser, online store (an embedded one), features of the request, encoding. Returns what is
    recorded of it (kind `parity`), and what differs from training."""
    folder, manifest = packages.open_package(version["package"], ws.blobs, ws.shelf)
    loaded = Loaded(folder, manifest, formats(), version["number"])
    source = ws.tables.scan(outcome[f"data:{model.rows.name}"]["address"]).collect()
    with tempfile.TemporaryDirectory() as temporary:
        store = open_backend("online", f"sqlite:///{temporary}/online.db")

        def serve(request: Any) -> list[Any]:
            values = loaded.parser.parse(request)
            moment = values.get(loaded.moment_field) if loaded.moment_field else None
            return loaded.feature_values(values, moment if moment is not None else micros(ws.clock.now()), store)[0]

        views = view_histories(ws, model, outcome)
        served, mismatches = parity.check(
            model, source, outcome["rows"], views, store, [f.name for f in loaded.request], [f.name for f in loaded.features], serve, most,
            loaded.matrix,
        )  # fmt: skip
    found = [{"row": m.key, "feature": m.feature, "training": str(m.training), "serving": str(m.serving)} for m in mismatches[:20]]
    body = {
        "model": model.name, "version": version["number"], "rows": served, "features": len(loaded.features), "mismatches": len(mismatches),
        "examples": found, "package": version["package"]["digest"], "data": dict(version["data"]), "at": iso(ws.clock.now()),
    }  # fmt: skip
    with ws.ledger.transaction():
        record = ws.ledger.put(PARITY, version.id, body)
        ws.ledger.append("parity.checked", Ref(versions.KIND, version.id), {"rows": served, "mismatches": len(mismatches)}, actor=ws.actor)
    return record, mismatches


def fill_online(ws: Workspace, model: Model, outcome: Outcome, moment: datetime, tell: Callable[[str], None] = lambda line: None) -> Materialiser:
    """Make the online store what it was at `moment`, for a replay: what it holds is forgotten."""
    for view in model.views:
        ws.online.clear(view.name)
    material = Materialiser(ws.online, [(view, in_memory(view, values)) for view, values in view_histories(ws, model, outcome)])
    written = material.fill(moment)
    if model.views:
        tell(f"online store: {written:,} values of {len(model.views)} views as known at {moment:%Y-%m-%d %H:%M} UTC")
    return material


def bring_up(ws: Workspace, model: Model, outcome: Outcome, tell: Callable[[str], None], *, replaced: bool = False) -> None:
    """Bring the online store to what is known now. What it holds stays until something newer is there, so that whoever answers meanwhile has no gap.

    Args:
        replaced: no version that is deployed now will answer any more.
    """
    now, written = ws.clock.now(), 0
    for view in model.views:
        taken = data_versions.of(outcome[f"data:{view.source.name}"])
        filled = materialise(ws, view, version=taken, instead_of=model.name if replaced else "")
        written += filled.written
    if model.views:
        tell(f"online store: {written:,} newer values of {len(model.views)} views as known at {now:%Y-%m-%d %H:%M} UTC")


def refresh(ws: Workspace, model: Model) -> int:
    """Bring the online store of a deployed model up to now: read the data again where it changed, write what is newer. Returns how many values were.

    Values that are there are never taken away or replaced by older ones, so requests may be answered meanwhile.
    """
    deployed = promote.deployment(model.name, ws.ledger)
    if deployed is None or not model.views:
        return 0
    written = sum(materialise(ws, view).written for view in model.views)
    note_stale(ws, model.views)
    return written


def start(ws: Workspace, model: Model, *, port: int = 0, tell: Callable[[str], None] = lambda line: None) -> Record:
    """Start the endpoint's process and wait until it answers; the record of one that runs is returned as it is."""
    running = running_endpoint(ws, model.name)
    if running is not None:
        with contextlib.suppress(TreadleError):  # it looks by itself twice a second
            connect(ws, running["url"]).reload()
        running = ws.ledger.get(ENDPOINT, model.name) or running
        for sentence in missed(running).values():
            tell(sentence)
        return running
    serve = ws.serve_of(model)
    host = ws.settings["host"]
    wanted = port or serve.port or int(ws.settings["port"])
    if wanted and not port_free(host, wanted):
        raise Conflict(f"Port {wanted} on {host} is in use.", hint="Stop what listens there, or give another one: treadle deploy --port N")
    wanted = wanted or free_port(host)
    note_log(ws, model)
    if host not in ("127.0.0.1", "localhost", "::1") and not serve.keys:
        tell(f"anybody who reaches {host} may ask this endpoint: declare project.serve(..., keys=True), or keep a proxy before it")
    log = ws.settings.home / "logs" / f"endpoint-{model.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "treadle.web.workers", "--folder", str(ws.folder), "--model", model.name, "--host", host, "--port", str(wanted)]
    with log.open("ab") as output:
        child = subprocess.Popen(
            [*command, "--store-down", serve.store_down, *_workers(ws, serve), *(["--buffered"] if serve.durability == "buffered" else [])],
            stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True, cwd=str(ws.folder),
        )  # fmt: skip
    begun = time.monotonic()
    client = connect(ws, f"{scheme(ws.settings)}://{host}:{wanted}", timeout=5)
    while time.monotonic() - begun < START_SECONDS:
        if child.poll() is not None:
            last = log.read_text(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
            raise Unavailable(f"The endpoint ended at once: {last[0]}", where=str(log))
        record = ws.ledger.get(ENDPOINT, model.name)
        if record is not None and record["pid"] == child.pid and record["status"] == "serving" and client.live():
            tell(f"endpoint: {record['url']} (process {child.pid}), ready after {time.monotonic() - begun:.2f} s")
            for sentence in missed(record).values():
                tell(sentence)
            return record
        time.sleep(0.02)
    child.terminate()
    raise Unavailable(f"The endpoint did not answer within {START_SECONDS:.0f} s.", where=str(log))


def note_log(ws: Workspace, model: Model) -> None:
    """Put on record what the endpoint logs of a request, with the key that it hashes personal values with."""
    declared = ws.project.logs.get(model.name)
    if declared is not None and declared.inputs != "full":
        suppressed.own_key(ws.settings.home, ws.ledger)
    logged.note(ws.ledger, declared, model.name, personal_columns(ws.project.datasets.values()), ws.actor)


def _workers(ws: Workspace, serve: Serve) -> list[str]:
    """How many processes answer, how long a request may wait, and how large one may grow."""
    from treadle.core.declare.pipeline import size

    count, memory = serve.workers or int(ws.settings["workers"]) or 1, size(ws.settings["worker_memory"] or "0B")
    return ["--workers", str(count), "--seconds", f"{serve.answer_within.total_seconds():g}", "--worker-memory", str(memory)]


def running_endpoint(ws: Workspace, model: str) -> Record | None:
    """The record of the model's endpoint, if its process runs."""
    record = ws.ledger.get(ENDPOINT, model)
    if record is None or record["status"] != "serving" or not alive(int(record["pid"])) or not _is_ours(int(record["pid"])):
        return None
    return record


def missed(running: Record | None) -> dict[int, str]:
    """Of a running endpoint: each version that should answer and cannot be opened, with a sentence that says who answers instead, and why."""
    said = {}
    for m in (running.get("missed") or ()) if running is not None else ():
        instead = f"version {running['answers']} answers instead" if m["role"] == "champion" else "the champion answers alone"  # type: ignore[index]
        said[int(m["version"])] = f"Version {m['version']} should answer as {m['role']} and cannot be opened, so {instead}: {m['why']}"
    return said


def stop(ws: Workspace, model: str, seconds: float = 15.0) -> int:
    """Ask the endpoint's process to leave in good order, and wait; returns its number. Raises NotFound when none runs."""
    record = running_endpoint(ws, model)
    if record is None:
        raise NotFound(f"No endpoint of {model!r} runs.", hint="Start one with: treadle deploy")
    pid = int(record["pid"])
    os.kill(pid, signal.SIGTERM)
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)
    if alive(pid):
        os.kill(pid, signal.SIGKILL)
    ws.ledger.append("endpoint.stopped", Ref(ENDPOINT, model), {"pid": pid}, actor=ws.actor)
    return pid


def _is_ours(pid: int) -> bool:
    """A number may have been given to another process since; ours names its module."""
    try:
        return b"treadle.web." in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return not Path("/proc").exists()
