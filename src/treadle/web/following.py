"""What the deployment record asks for, loaded as far as it can be: who answers instead of a version that cannot be opened, when it is tried again.

A challenger that cannot be opened is left out. A champion that cannot be (a flipped byte, a signature that does not count) leaves its place to
what answers now; in a process that has just begun, to the last champion before it that may still answer and can be opened. It is tried again,
later and later up to half a minute, until it opens or the record asks for something else.

A version whose loading killed the process twice waits too, so that the process that follows has somebody to answer with.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from treadle.assemble import Workspace, formats, tree_scorer
from treadle.core.errors import Corrupt, TreadleError
from treadle.core.records import Record, Ref
from treadle.registry import intervene, packages, promote, versions
from treadle.serving.endpoint import Missed, Traffic
from treadle.serving.loaded import Loaded
from treadle.serving.recalibration import applied

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between tries of a version that cannot be opened, doubled each time
DEATHS = 2  # of the process while it loads a version, before it is let be
DEATH_PAUSE, LONGEST_DEATH_PAUSE = 10.0, 300.0  # seconds until it is tried again after that, doubled with each further death
_log = logging.getLogger("treadle.endpoint")


class Following:
    """The loaded versions of one process.

    Args:
        index: which of the workers this is: each notes for itself what it was loading.
    """

    def __init__(self, ws: Workspace, model: str, index: int = 0) -> None:
        self._ws, self._model = ws, model
        self._loaded: dict[int, Loaded] = {}
        self._marks = ws.settings.home / "endpoints" / model
        self._index = index
        self._pause, self._again = 0.0, 0.0

    def due(self) -> bool:
        """Whether it is time to try again what could not be opened."""
        return time.monotonic() >= self._again

    def traffic(self, record: Record, now: Traffic) -> Traffic:
        """Who answers by the record, or instead of what it asks for (`missed` says so).

        Args:
            now: who answers at present.
        Raises: why the champion cannot be opened, when there is nobody else; Unavailable when a store does not answer now.
        """
        # In its trial a new champion has the one before beside it, unheard: as a challenger in shadow.
        other = record["challenger"] if record["challenger"] is not None else record.get("beside")
        stage = "stopped" if record.get("stopped") else "canary" if record["stage"] in promote.HEARD else str(record["stage"])
        alone = "stopped" if record.get("stopped") else "none"
        champion, why_not = self._tried(record, int(record["champion"]), "champion")
        beside, nor = (None, None) if other is None or champion is None else self._tried(record, int(other), "challenger")
        missed = tuple(missing for missing, _ in filter(None, (why_not, nor)))
        if why_not is not None:
            champion, stage = self._instead(record, now, why_not[1]), alone
        elif nor is not None:
            stage = alone
        found = Traffic(champion, beside, stage, float(record["share"]), str(record.get("rules", {}).get("key", "")), missed)
        for number in set(self._loaded) - {version.number for version in (found.champion, found.challenger) if version is not None}:
            del self._loaded[number]
        self._pause = min(LONGEST_PAUSE, 2 * self._pause or FIRST_PAUSE) if missed else 0.0
        self._again = time.monotonic() + self._pause
        return found

    def tell(self, record: Record, before: Traffic, now: Traffic) -> None:
        """Of what should answer and cannot: into the log, and by the first worker on record, once for each reason."""
        assert now.champion is not None
        for missed in now.missed:
            if missed not in before.missed:
                _log.error("version %d (%s) of deployment %s is refused; version %d answers: %s", missed.number, missed.role, record.version,
                           now.champion.number, missed.error)  # fmt: skip
                says = {"deployment": record.version, "version": missed.number, "role": missed.role, "answers": now.champion.number}
                self._event("endpoint.refused", {**says, "error": missed.error})
        if before.missed and not now.missed:
            _log.info("version %d answers again as deployment %s says", now.champion.number, record.version)
            self._event("endpoint.converged", {"deployment": record.version, "answers": now.champion.number})

    def recalibrate(self, champion: Loaded) -> None:
        """Have a champion answered through the weights that are on record for it. One assignment: a request is answered through one state."""
        before, now = champion.recalibration, applied(self._ws.ledger, self._model, champion.number)
        if now != before:
            champion.recalibration = now
        if (before is None) != (now is None):
            self._event("endpoint.not_recalibrated" if now is None else "endpoint.recalibrated", {"version": champion.number})

    def _event(self, kind: str, says: dict[str, Any]) -> None:
        if not self._index:
            self._ws.ledger.append(kind, Ref("deployment", self._model), says)

    def _tried(self, record: Record, number: int, role: str) -> tuple[Loaded | None, tuple[Missed, TreadleError] | None]:
        try:
            return self._opened(record, number), None
        except TreadleError as error:
            if error.transient:
                raise
            return None, (Missed(number, role, error.what, str(error)), error)

    def _instead(self, record: Record, now: Traffic, why_not: TreadleError) -> Loaded:
        """Who answers in the champion's place: who does so now, else the last one before it that may and can."""
        present = now.champion
        if present is not None and versions.get(self._model, present.number, self._ws.ledger)["status"] != "rejected":
            return present
        for number in intervene.earlier(record, self._ws.ledger, self._ws.clock):
            with contextlib.suppress(TreadleError):
                return self._opened(record, number)
        if present is not None:  # it was thrown out, and nothing else can be opened
            return present
        raise why_not

    def _opened(self, record: Record, number: int) -> Loaded:
        """A version, opened and warm. Raises: why it cannot be."""
        if number not in self._loaded:
            with self._marked(record, number):
                registered = versions.get(self._model, number, self._ws.ledger)
                folder, manifest = packages.open_package(registered["package"], self._ws.blobs, self._ws.shelf)
                try:
                    loaded = Loaded(folder, manifest, formats(), number, partial(tree_scorer, folder, dict(manifest["model"])))
                except TreadleError:
                    raise
                except Exception as error:  # what a library says of a file that it cannot take, or of memory that is not there
                    raise Corrupt(f"Version {number} cannot be loaded: {type(error).__name__}: {error}"[:300]) from error
                loaded.promises = (registered.get("evaluation") or {}).get("conformal") or ()
                loaded.recalibration = applied(self._ws.ledger, self._model, number)
                loaded.warm()
                self._loaded[number] = loaded
        return self._loaded[number]

    @contextlib.contextmanager
    def _marked(self, record: Record, number: int) -> Iterator[None]:
        """A mark lies on the disk while a version is being loaded: who finds one knows that the process before died of it, or in it."""
        mark = self._marks / f"loading-{self._index}-{number}.json"
        deaths = _deaths(mark, record.version)
        if deaths >= DEATHS:
            pause = min(LONGEST_DEATH_PAUSE, DEATH_PAUSE * 2 ** (deaths - DEATHS))
            with contextlib.suppress(OSError):
                if time.time() - mark.stat().st_mtime < pause:
                    raise Corrupt(
                        f"The process died {deaths} times while it loaded version {number}.",
                        hint="It is tried again later; or go back with: treadle rollback",
                    )
        with contextlib.suppress(OSError):  # a full disk must not stop what can be loaded
            self._marks.mkdir(parents=True, exist_ok=True)
            mark.write_text(json.dumps({"deployment": record.version, "deaths": deaths + 1}))
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)


def _deaths(mark: Path, deployment: int) -> int:
    """How often a process died while it loaded a version under this deployment record: another record is a new beginning."""
    try:
        said = json.loads(mark.read_text())
        return int(said["deaths"]) if said["deployment"] == deployment else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
