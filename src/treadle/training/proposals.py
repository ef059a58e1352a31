"""Which setting to try next: all of a short list, by Optuna's TPE, or by successive halving where time is what is short.

Each way is a fixed sequence: what is proposed depends on the seed and on the losses told, never on the clock. So the same number of trials finds the
same model, and a search that was killed proposes the same settings again and takes over what is recorded of them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from treadle.core.canonical import plain
from treadle.core.declare.model import Candidate
from treadle.training import space
from treadle.training.trials import Asked, Trial

GROWING = ("n_estimators", "max_iter")
SHRINK = 3  # each level has this many times the rows of the one below, and this share of its settings
FEWEST_ROWS = 1_000  # training rows of the lowest level


class Proposals(Protocol):
    def free(self) -> int:
        """How many of the next settings do not depend on what comes of each other."""
        ...

    def ask(self, number: int) -> Asked | None:
        """The next setting to try, or None while nothing can be said before others are judged (or at all, when none is under way)."""
        ...

    def tell(self, asked: Asked, trial: Trial) -> None:
        """What came of a setting."""
        ...


class Every:
    """Each setting of lists of values, the families in their order; of each the usual setting first."""

    def __init__(self, candidates: tuple[Candidate, ...]) -> None:
        self._left: list[Asked] = []
        for candidate in candidates:
            usual, shared = space.first_of(candidate), _shared(candidate)
            settings = sorted(space.every(candidate), key=lambda params: params != usual)
            known = {_name(candidate.family, p): p for p in settings}
            self._left += [Asked(0, candidate, p, shared=shared) for p in known.values()]

    def free(self) -> int:
        return len(self._left)

    def ask(self, number: int) -> Asked | None:
        return replace(self._left.pop(0), number=number) if self._left else None

    def tell(self, asked: Asked, trial: Trial) -> None:
        """Every setting is tried whatever came of the others."""


class Guided:
    """Optuna's TPE over all families at once, after each family's usual setting; no setting twice.

    Source: Bergstra, Bardenet, Bengio and Kégl (2011), "Algorithms for Hyper-Parameter Optimization".
    """

    def __init__(self, candidates: tuple[Candidate, ...], seed: int, trials: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._fail = optuna.trial.TrialState.FAIL
        self._guided = optuna.samplers.TPESampler(seed=seed, n_startup_trials=2 * len(candidates), multivariate=True)
        self._blind = optuna.samplers.RandomSampler(seed=seed)
        self._study = optuna.create_study(sampler=self._guided)
        for candidate in candidates:
            first = {f"{candidate.family}.{k}": v for k, v in space.first_of(candidate).items()}
            self._study.enqueue_trial({"family": candidate.family, **first})
        self._by_name = {c.family: c for c in candidates}
        self._tried: set[str] = set()
        self._open: dict[int, Any] = {}
        self._all, self._left, self._blindly = space.count(candidates), 4 * trials + len(candidates), 2 * len(candidates)

    def free(self) -> int:
        return max(0, self._blindly - len(self._tried))

    def ask(self, number: int) -> Asked | None:
        while self._left > 0 and (self._all is None or len(self._tried) < self._all):
            self._left -= 1
            proposed = self._study.ask()
            family = proposed.suggest_categorical("family", list(self._by_name))
            params = space.suggest(proposed, self._by_name[family])
            name = _name(family, params)
            if name in self._tried:  # the same fit again would tell nothing new
                self._study.tell(proposed, state=self._fail)
                self._study.sampler = self._blind  # TPE would propose the best one of a short list again and again
                continue
            self._study.sampler = self._guided
            self._tried.add(name)
            self._open[number] = proposed
            return Asked(number, self._by_name[family], params)
        return None

    def tell(self, asked: Asked, trial: Trial) -> None:
        proposed = self._open.pop(asked.number)
        given_up = trial.status == "pruned" and len(trial.fold_losses) > 0
        value = trial.loss if trial.status == "done" else float(np.mean(trial.fold_losses)) if given_up else None
        if value is None:
            self._study.tell(proposed, state=self._fail)
        else:
            self._study.tell(proposed, value)


class Halving:
    """For a budget: settings are judged on few rows first, and the best third of a level goes on to three times the rows.

    Every family's usual setting comes first; the best of them goes up at once, so that there is a model early. Then new settings come from TPE, three
    of four for the family that is best so far, the fourth for the one tried least. Every second one of those that TPE learned from the highest level
    is tried there at once, where the race with the best ends it after one fold if it is worse.

    Source: Li et al. (2020), "A System for Massively Parallel Hyperparameter Tuning" (ASHA); Falkner, Klein and Hutter (2018), "BOHB".
    """

    def __init__(self, candidates: tuple[Candidate, ...], seed: int, rows: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna = optuna
        self._by_name = {c.family: c for c in candidates}
        self.levels = [r for r in (rows // SHRINK**2, rows // SHRINK) if r >= FEWEST_ROWS] + [0]
        self._seen: list[dict[str, tuple[float, Asked]]] = [{} for _ in self.levels]  # of each level: setting to its loss
        self._went_up: list[set[str]] = [set() for _ in self.levels]
        self._first = [c.family for c in candidates]
        self._made = dict.fromkeys(self._by_name, 0)
        self._fails = dict.fromkeys(self._by_name, 0)
        self._names: set[str] = set()
        self._open: dict[int, tuple[Any, str, int]] = {}
        self._low, self._high = (
            {f: optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed + i + add, multivariate=True, n_startup_trials=5))
             for i, f in enumerate(self._by_name)}
            for add in (0, 1000)
        )  # fmt: skip

    def free(self) -> int:
        return len(self._first) if len(self.levels) > 1 else 0

    def ask(self, number: int) -> Asked | None:
        if self._first:
            family = self._first.pop(0)
            return self._new(number, family, 0, first=True)
        going_up = self._promoted(number)
        if going_up is not None:
            return going_up
        families = [f for f in self._by_name if self._fails[f] < 3 or self._best(f) < np.inf]
        if not families:
            return None
        turn = sum(self._made.values())
        chosen = min(families, key=lambda f: (self._made[f], f)) if turn % 4 == 3 else min(families, key=self._best)
        top = len(self.levels) - 1
        learned = top > 0 and turn % 2 == 0 and sum(a.candidate.family == chosen for _, a in self._seen[top].values()) >= 3
        return self._new(number, chosen, top if learned else 0)

    def tell(self, asked: Asked, trial: Trial) -> None:
        proposed, family, level = self._open.pop(asked.number)
        value = trial.loss if trial.loss is not None else float(np.mean(trial.fold_losses)) if trial.fold_losses else None
        if proposed is not None:
            study, mine = proposed
            if value is None:
                study.tell(mine, state=self._optuna.trial.TrialState.FAIL)
                self._fails[family] += 1
            else:
                study.tell(mine, value)
        if value is None:
            return
        settled = {k: v for k, v in trial.params.items() if k != asked.grow}
        if trial.loss is not None:
            self._seen[level][_name(family, settled)] = (trial.loss, asked)
        if level == len(self.levels) - 1 and level > 0 and (proposed is None or proposed[0] is not self._high[family]):
            self._learn(family, asked, value)

    def _learn(self, family: str, asked: Asked, value: float) -> None:
        """Tell the highest level's study of a setting that came up from below."""
        shape = self._optuna.create_study(sampler=self._optuna.samplers.RandomSampler(seed=0)).ask()
        space.suggest(shape, self._by_name[family])
        known = {f"{family}.{k}": v for k, v in asked.params.items()}
        distributions = {k: d for k, d in shape.distributions.items() if k in known}
        try:
            made = self._optuna.trial.create_trial(params={k: known[k] for k in distributions}, distributions=distributions, value=value)
        except ValueError:  # a value that stands for a quantile or a place in a list: the study learns from its own proposals only
            return
        self._high[family].add_trial(made)

    def _best(self, family: str) -> float:
        """The family's best loss on the highest level it came to, the lower ones counting for less."""
        for level in range(len(self.levels) - 1, -1, -1):
            found = [loss for loss, asked in self._seen[level].values() if asked.candidate.family == family]
            if found:
                return min(found)
        return np.inf

    def _promoted(self, number: int) -> Asked | None:
        for level in range(len(self.levels) - 2, -1, -1):
            ranked = sorted(self._seen[level].items(), key=lambda item: item[1][0])
            quota = len(ranked) // SHRINK
            if ranked and not self._seen[-1] and not any(v == level + 1 for _, _, v in self._open.values()) and not self._went_up[level]:
                quota = max(quota, 1)
            for name, (_, asked) in ranked[:quota]:
                if name not in self._went_up[level]:
                    self._went_up[level].add(name)
                    self._open[number] = (None, asked.candidate.family, level + 1)
                    return self._asked(number, asked.candidate, asked.params, level + 1)
        return None

    def _new(self, number: int, family: str, level: int, *, first: bool = False) -> Asked | None:
        candidate = self._by_name[family]
        study = self._high[family] if level else self._low[family]
        if first:
            study.enqueue_trial({f"{family}.{k}": v for k, v in _usual(candidate).items()}, skip_if_exists=False)
        for _ in range(20):
            proposed = study.ask()
            params = space.suggest(proposed, candidate)
            name = _name(family, params)
            if name not in self._names:
                self._names.add(name)
                self._made[family] += 1
                self._open[number] = ((study, proposed), family, level)
                return self._asked(number, candidate, params, level)
            study.tell(proposed, state=self._optuna.trial.TrialState.FAIL)
        self._by_name.pop(family, None) if len(self._by_name) > 1 else None  # a short list that is used up
        return self.ask(number) if family not in self._by_name else None

    def _asked(self, number: int, candidate: Candidate, params: dict[str, Any], level: int) -> Asked:
        top = level == len(self.levels) - 1
        return Asked(number, candidate, params, rows=self.levels[level], folds=0 if top else 1, grow=grows(candidate))


def grows(candidate: Candidate) -> str:
    """The parameter that a family of the wide spaces finds itself."""
    from treadle.training.estimators import WIDE

    known = WIDE.get(candidate.family)
    return known.grows if known is not None and candidate.make is None and dict(candidate.space) == dict(known.space) else ""


def _usual(candidate: Candidate) -> dict[str, Any]:
    from treadle.training.estimators import WIDE

    known = WIDE.get(candidate.family)
    if known is None or dict(candidate.space) != dict(known.space):
        return space.first_of(candidate)
    return {k: v for k, v in known.first.items() if isinstance(known.space.get(k), tuple | list)}


def _shared(candidate: Candidate) -> str:
    """The parameter of a list that says how many trees there are: they are grown once for all its values."""
    for name in GROWING:
        values = space.space_of(candidate).get(name)
        if isinstance(values, list | tuple) and len(values) > 1 and not space.is_range(values) and all(type(v) is int and v > 0 for v in values):
            return name
    return ""


def _name(family: str, params: dict[str, Any]) -> str:
    try:
        return repr((family, plain(dict(sorted(params.items())))))
    except TypeError:
        return repr((family, sorted(params.items(), key=lambda item: item[0])))
