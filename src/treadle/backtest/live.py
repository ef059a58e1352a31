"""Living through a history under one policy: answer, watch, react, roll out, block after block, on a simulated clock.

The parts are those of production: the judgement of a block (`monitoring.judge`), the rules of a retraining (`governance.reaction`), the gates that
can be asked without a package (`governance.gates`), the verdict of shadow and canary (`serving.traffic`). What is left out is HTTP, the prediction
log and the packages. A training takes no time on the simulated clock, as in `treadle replay`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from treadle.assemble import Workspace
from treadle.backtest.history import History, moment_of
from treadle.backtest.policies import Policy
from treadle.backtest.trained import Version, trained
from treadle.backtest.watching import Watching
from treadle.core.canonical import plain
from treadle.core.clock import iso, parse_time
from treadle.core.declare.model import Model
from treadle.core.errors import DataError, UsageError
from treadle.features.rows import KEY
from treadle.governance import gates, reaction
from treadle.serving.recalibration import prequential
from treadle.serving.traffic import Pair, decide
from treadle.training.evaluate import block_weights, compare
from treadle.training.losses import row_loss

ASKED = (
    "enough_rows", "signal", "beats_baseline", "beats_champion", "no_worse_than_champion", "certain", "calibrated", "every_slice",
)  # fmt: skip
"""Gates that a backtest asks; the others need the package or much time, and are passed over."""
DAY = 86_400_000_000


@dataclass
class Lived:
    """What came of a policy.

    Args:
        heard: for each row from `begin` on, what was answered; (n, classes) or (n, 1), float32.
        answered: the number of the version that answered each, by the order of training.
    """

    policy: str
    heard: np.ndarray
    answered: np.ndarray
    trainings: list[dict[str, Any]] = field(default_factory=list)
    alarms: list[dict[str, Any]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    def body(self) -> dict[str, Any]:
        """All but the answers, as JSON values."""
        return {"policy": self.policy, "trainings": self.trainings, "alarms": self.alarms, "events": self.events}


class _Loop:
    """One policy's loop and where it is."""

    def __init__(self, ws: Workspace, model: Model, history: History, policy: Policy, first: Version, tell: Callable[[str], None]) -> None:
        self.ws, self.model, self.history, self.policy, self.tell = ws, model, history, policy, tell
        self.serve, watch = ws.serve_of(model), ws.watch_of(model)
        assert watch is not None
        self.label_window = round(watch.label_window.total_seconds() * 1e6)
        self.versions = [first]
        self.champion, self.challenger, self.stage, self.since = 0, -1, "none", 0
        self.watching = Watching(watch)
        self.judged_to = history.blocks()[0]
        self.newest = first.as_of
        self.before: list[reaction.Before] = []
        self.open: dict[str, dict[str, Any]] = {}
        rows = history.between(history.begin, history.end)
        self.rows = rows
        count = rows.stop - rows.start
        self.lived = Lived(policy.name, np.empty((count, first.outputs.shape[1]), np.float32), np.zeros(count, np.int32))
        self.canary = _shares(history.rows[KEY][rows.start : rows.stop].to_list())
        self._note_training(first, {"kind": "first", "id": "", "text": "the first version"}, "champion", "")

    def run(self) -> Lived:
        for start in self.history.blocks():
            end = start + self.history.every
            self.answer(max(start, self.history.begin), min(end, self.history.end))
            if end > self.history.end:
                break
            self.look(end)
            self.roll_out(end)
            self.react(end)
        return self.lived

    def answer(self, start: int, end: int) -> None:
        rows = self.history.between(start, end)
        if rows.start == rows.stop:
            return
        at = slice(rows.start - self.rows.start, rows.stop - self.rows.start)
        self.lived.heard[at] = self.versions[self.champion].of(rows)
        self.lived.answered[at] = self.champion
        if self.stage == "canary":
            mine = np.flatnonzero(self.canary[at] < self.serve.canary)
            self.lived.heard[at.start + mine] = self.versions[self.challenger].of(rows.start + mine)
            self.lived.answered[at.start + mine] = self.challenger

    def look(self, now: int) -> None:
        while self.judged_to + self.history.every + self.label_window <= now:
            start, self.judged_to = self.judged_to, self.judged_to + self.history.every
            if start < self.history.begin - self.history.every:
                continue
            for finding in self.watching.judge(self.history, self.versions[self.champion], start, now):
                if finding.kind in self.open:
                    continue
                alarm = {
                    "id": f"{self.policy.name}-{len(self.lived.alarms) + 1}", "kind": finding.kind, "raised": iso(moment_of(now)),
                    "version": self.champion + 1, "sentence": finding.sentence, "features": [name for name, _ in finding.features],
                    "since": iso(moment_of(finding.window_start)), "resolved": "", "resolution": "",
                }  # fmt: skip
                self.open[finding.kind] = alarm
                self.lived.alarms.append(alarm)

    def roll_out(self, now: int) -> None:
        if self.challenger < 0:
            return
        rows = self.history.between(self.since, now)
        known = np.flatnonzero(self.history.known[rows] <= now) + rows.start
        ours, theirs = (self._losses(number, known) for number in (self.champion, self.challenger))
        pairs = [Pair(int(d), float(a), float(b)) for d, a, b in zip(self.history.moments[known] // DAY, ours, theirs)]
        least = self.serve.shadow if self.stage == "shadow" else self.serve.canary_for
        decision = decide(self.stage, moment_of(self.since), moment_of(now), least, self.serve.least_outcomes, pairs)
        if decision.action == "wait":
            return
        self.event(now, decision.action, f"version {self.challenger + 1}: {decision.reason}")
        if decision.action == "canary":
            self.stage, self.since = "canary", now
            return
        training = self.lived.trainings[self.challenger]
        training["status"] = "took over" if decision.action == "promote" else "thrown out"
        training["settled"] = iso(moment_of(now))
        if decision.action == "promote":
            self.champion, self.watching = self.challenger, self.watching.anew()
            self._close(list(self.open), now, f"version {self.champion + 1} took over")
        else:
            self._close(list(self.open), now, f"version {self.challenger + 1} was thrown out")
        self.challenger, self.stage = -1, "none"

    def react(self, now: int) -> None:
        policy = self.policy.retrain
        if policy is None or self.challenger >= 0:
            return
        evidence = [reaction.Evidence(a["id"], a["kind"], parse_time(a["raised"]), a["sentence"]) for a in self.open.values()]
        fresh = 0
        if policy.new_rows is not None:
            upto = int(np.searchsorted(self.history.moments, now))
            known = self.history.known[:upto]
            fresh = int(np.count_nonzero((known <= now) & (known > self.newest)))
        found = reaction.due(
            policy, moment_of(now), model=self.model.name, alarms=evidence, newest=moment_of(self.newest), before=self.before, rows=fresh,
            learned_from=self.versions[self.champion].learned,
        )  # fmt: skip
        if isinstance(found, reaction.Cause):
            self.retrain(found, now)

    def retrain(self, cause: reaction.Cause, now: int) -> None:
        champion = self.versions[self.champion]
        policy = self.policy.retrain
        assert policy is not None
        said = {"kind": cause.kind, "id": cause.id, "text": cause.text}
        answered = [a["kind"] for a in self.open.values() if a["id"] in (cause.id, *cause.also)]
        self.newest = now
        try:
            version = trained(
                self.ws, self.model, self.history, now, settings={"family": champion.family, "params": champion.params},
                window=round(policy.window.total_seconds() * 1e6) if policy.window else None,
            )  # fmt: skip
        except DataError as error:
            self.before.append(reaction.Before(moment_of(now)))
            self.event(now, "failed", f"a retraining could not be done: {error.what}")
            self._close(answered, now, f"its retraining could not be done: {error.what}")
            return
        self.before.append(reaction.Before(moment_of(now), version.cpu))
        number = len(self.versions)
        self.versions.append(version)
        reasons = self.refused(version)
        self._note_training(version, said, "thrown out" if reasons else "in shadow", "; ".join(reasons))
        if reasons:
            self.event(now, "refused", f"version {number + 1} was refused: {'; '.join(reasons)}")
            self._close(answered, now, f"version {number + 1} was refused")
            return
        self.event(now, "shadow", f"version {number + 1} runs in shadow: {cause.text}")
        self.challenger, self.stage, self.since = number, "shadow", now

    def refused(self, version: Version) -> list[str]:
        """Why the gates that are asked do not let it through."""
        task = self.history.target.judged_as
        evaluation: Mapping[str, Any] = version.evaluation
        champion = self.versions[self.champion]
        if int(version.test.min()) >= champion.first:
            truth = self.history.truth[version.test]
            against = compare(task, truth, version.of(version.test), champion.of(version.test), block_weights(version.days, self.model.seed))
            evaluation = {**evaluation, "against": {**evaluation["against"], "champion": against}}
        asked = [g for g in self.model.gates if g.name in ASKED and g.function is None]
        return gates.judge(asked, {**evaluation, "test_reads": 1}).reasons

    def event(self, now: int, kind: str, text: str) -> None:
        self.lived.events.append({"at": iso(moment_of(now)), "kind": kind, "text": text})
        self.tell(f"{self.policy.name}: {moment_of(now):%Y-%m-%d} {text}")

    def _losses(self, number: int, rows: np.ndarray) -> np.ndarray:
        return row_loss(self.history.target.judged_as, self.history.truth[rows], self.versions[number].of(rows))

    def _close(self, kinds: list[str], now: int, why: str) -> None:
        for kind in kinds:
            alarm = self.open.pop(kind)
            alarm["resolved"], alarm["resolution"] = iso(moment_of(now)), why

    def _note_training(self, version: Version, cause: Mapping[str, str], status: str, why: str) -> None:
        primary = version.evaluation["primary"]
        self.lived.trainings.append({
            "version": len(self.lived.trainings) + 1, "at": iso(moment_of(version.as_of)), "cause": dict(cause), "rows": version.learned,
            "cpu": version.cpu, "status": status, "why": why, "settled": "", "metric": primary,
            "value": plain(version.evaluation["metrics"]["model"][primary]["value"]),
        })  # fmt: skip


def live(
    ws: Workspace, model: Model, history: History, policy: Policy, first: Version, tell: Callable[[str], None] = lambda line: None
) -> Lived:  # fmt: skip
    """Live through the history from its beginning, with `first` answering."""
    lived = _Loop(ws, model, history, policy, first, tell).run()
    if policy.recalibrated:
        if history.target.judged_as != "binary":
            raise UsageError("Only answers of a binary task can be recalibrated.", where=model.place, hint="Leave +recalibrated out.")
        rows = history.between(history.begin, history.end)
        said = prequential(lived.heard.astype(np.float64), lived.answered, history.truth[rows], history.moments[rows], history.known[rows])[0]
        lived.heard = said.astype(np.float32)
    return lived


def _shares(keys: list[str]) -> np.ndarray:
    """A number from 0 to 1 for each row, the same in every policy: whether it falls into a canary's share."""
    return np.array([int.from_bytes(hashlib.blake2b(k.encode(), digest_size=4).digest(), "big") for k in keys]) / 2**32


