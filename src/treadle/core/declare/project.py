"""The project: everything one project file declares, by name, checked as it is declared."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeVar

from treadle.core.declare import gates as g
from treadle.core.declare import log as lg
from treadle.core.declare import model as m
from treadle.core.declare import operations as ops
from treadle.core.declare import pipeline as p
from treadle.core.declare import rollout as ro
from treadle.core.declare import schedule as sched
from treadle.core.declare.data import Contract, Dataset, View, names, optional_span
from treadle.core.declare.datasheet import Datasheet
from treadle.core.declare.features import Derived, Within
from treadle.core.declare.gates import Gate
from treadle.core.declare.levels import Levels
from treadle.core.declare.online import Recalibrate
from treadle.core.declare.place import here, length
from treadle.core.declare.policy import check_policy
from treadle.core.declare.source import Source
from treadle.core.declare.truth import Truth
from treadle.core.errors import ProjectError

_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*", re.ASCII)
AUTO = "auto"
T = TypeVar("T")

_ROLLBACK = ro.Rollback()


class Project:
    """One machine-learning project.

    Args:
        name: lower-case words joined by '-' or '_'.
        owner: who answers for it.
        goal: what it is for, in the words of the person who pays for it.
        description: anything else a reader should know.

        >>> import treadle as tr
        >>> project = tr.Project("demo", owner="me", goal="show a declaration")
        >>> data = project.dataset("rows", source=tr.csv("rows.csv"), key="id")
        >>> project.model("first", rows=data, target="y", inputs=["a", "b"]).name
        'first'
    """

    def __init__(self, name: str, *, owner: str = "", goal: str = "", description: str = "") -> None:
        self.place = here()
        self.name = _checked(name, "project", self.place)
        self.owner, self.goal, self.description = owner, goal, description
        self.datasets: dict[str, Dataset] = {}
        self.views: dict[str, View] = {}
        self.models: dict[str, m.Model] = {}
        self.serves: dict[str, ops.Serve] = {}
        self.watches: dict[str, ops.Watch] = {}
        self.truths: dict[str, Truth] = {}
        self.logs: dict[str, lg.Log] = {}
        self.recalibrations: dict[str, Recalibrate] = {}
        self.schedules: dict[str, sched.Schedule] = {}
        self.pipelines: dict[str, p.Pipeline] = {}

    def dataset(
        self,
        name: str,
        *,
        source: Source,
        key: str | tuple[str, ...] | list[str],
        event_time: str | None = None,
        known_time: str | None = None,
        contract: Contract | None = None,
        exclude: Mapping[str, Any] | None = None,
        owner: str = "",
        description: str = "",
        subject: str = "",
        keep: str | timedelta | None = None,
        datasheet: Datasheet | None = None,
    ) -> Dataset:
        """Declare a data set. See `Dataset` for what each argument means."""
        place = here()
        if not isinstance(source, Source):
            raise ProjectError(
                f"Data set {name!r} has source={source!r}.", where=place, hint="Use tr.csv(...), tr.parquet(...) or tr.rows(function)."
            )
        if contract is not None and contract.fresh is not None and not (event_time or known_time):
            raise ProjectError(
                f"Data set {name!r} promises to be fresh, but declares no time.", where=place,
                hint="Give event_time= or known_time=, or leave out fresh=.",
            )  # fmt: skip
        declared = Dataset(
            _checked(name, "data set", place), source, names(key), event_time, known_time, contract, dict(exclude or {}),
            owner or self.owner, description, place, subject, optional_span(keep), datasheet or Datasheet(),
        )  # fmt: skip
        return _add(self.datasets, name, declared, "data set", place)

    def view(
        self,
        name: str = "",
        *,
        source: Dataset,
        entity: str | tuple[str, ...] | list[str],
        features: Iterable[str] | Mapping[str, Any] = (),
        window: str | timedelta | None = None,
        every: str | timedelta | None = None,
        ttl: str | timedelta | None = None,
        fresh: str | timedelta | None = None,
        owner: str = "",
        description: str = "",
        descriptions: Mapping[str, str] | None = None,
    ) -> Any:
        """Declare a feature view, or decorate the function that computes one. See `View`.

        Args:
            fresh: how old the newest value in the online store may be; older is an alarm to the view's owner. Its ttl if not given, or two steps of
                `every`.

        A decorated function takes the source as a lazy frame and returns a lazy frame with the entity, the source's time column(s) and the
        features; it may look back, never ahead, which is checked on the data by running it on history cut off at several moments.
        """
        place = here()
        if not isinstance(source, Dataset):
            raise ProjectError(f"View {name!r} has source={source!r}.", where=place, hint="Pass what project.dataset(...) returned.")

        def declare(view_name: str, function: Callable[[Any], Any] | None) -> View:
            given = dict(features) if isinstance(features, Mapping) else {}
            aggregates = {f: a.aggregate if isinstance(a, Within) else a for f, a in given.items()}
            windows = {f: a.window for f, a in given.items() if isinstance(a, Within)}
            columns = () if aggregates else names(features)
            unknown = next((f for f in descriptions or {} if f not in aggregates and f not in columns), None)
            if unknown is not None:
                raise ProjectError(
                    f"View {view_name!r} describes {unknown!r}, which is no feature of it.", where=place, hint=f"It has: {[*aggregates, *columns]}."
                )
            if aggregates and (every is None or (window is None and len(windows) < len(aggregates))):
                raise ProjectError(
                    f"View {view_name!r} aggregates without window= and every=.", where=place, hint="For example window='7d', every='1h'."
                )
            for what, value in (("window", window), ("every", every)):
                if value is not None and not length(value):
                    raise ProjectError(
                        f"View {view_name!r} has {what}={value!r}, which is no time.", where=place, hint="For example window='7d', every='1h'."
                    )
            if aggregates and not (source.known_time or source.event_time):
                raise ProjectError(f"View {view_name!r} aggregates over {source.name!r}, which has no known_time or event_time.", where=place)
            if fresh is not None and not length(fresh):
                raise ProjectError(f"View {view_name!r} has fresh={fresh!r}, which is no time.", where=place, hint="For example fresh='2h'.")
            if fresh is not None and not (source.known_time or source.event_time):
                raise ProjectError(
                    f"View {view_name!r} is to be fresh, and its source {source.name!r} has no known_time or event_time.", where=place,
                    hint="Name the time column of the data set, or leave fresh out.",
                )  # fmt: skip
            if not aggregates and not columns:
                raise ProjectError(f"View {view_name!r} names no features.", where=place, hint="List them in features=[...].")
            declared = View(
                _checked(view_name, "view", place), source, names(entity), columns, aggregates, function,
                optional_span(window), optional_span(every), optional_span(ttl), owner or self.owner,
                description or (getattr(function, "__doc__", None) or "").strip().partition("\n")[0], place, windows, dict(descriptions or {}),
                optional_span(fresh),
            )  # fmt: skip
            return _add(self.views, view_name, declared, "view", place)

        if name:
            return declare(name, None)
        return lambda function: declare(function.__name__, function)

    def model(
        self,
        name: str,
        *,
        rows: Dataset,
        target: str,
        inputs: Iterable[str | Derived],
        views: Iterable[View] = (),
        task: m.Task | m.Kind | None = None,
        positive: Any = None,
        candidates: str | Iterable[m.Candidate] = AUTO,
        split: m.Split | None = None,
        slices: Iterable[str] = (),
        gates: Iterable[Gate] | None = None,
        trials: int | None = None,
        seed: int = 0,
        parallel_trials: int = 1,
        trial_resources: Mapping[str, Any] | None = None,
        description: str = "",
        allow: Mapping[str, str] | None = None,
        metric: str = "",
        budget: str | timedelta | None = None,
        trial_limit: str | timedelta | None = None,
        protected: str | m.Protected | Iterable[str | m.Protected] = (),
        invariances: Iterable[Any] = (),
        intended_use: str = "",
        excluded_use: str = "",
    ) -> m.Model:
        """Declare a model.

        Args:
            rows: the data set whose rows are predicted.
            target: the column to predict; known at the data set's known_time.
            inputs: columns the caller sends, and features derived from them.
            views: features looked up by entity, as they were known at the row's event_time.
            task: 'binary', 'multiclass' or 'regression', found from the target if not given; or tr.ranking(...), tr.forecast(...), tr.anomaly(...).
            positive: the class a binary model gives the probability of; the rarer one if not given.
            candidates: 'auto', or the families to try. A trivial baseline is always among them.
            split: rows kept from every search; by time where the data set has event_time (last fifth), else at random.
            slices: columns whose values are judged one by one.
            gates: evidence required for promotion; a sound set if not given.
            trials: how many settings the search tries in all: 12, or as many as the budget allows.
            parallel_trials: how many of them are tried at once where the executor has room; the search learns from them together, so that
                another number may find another model, and another executor does not.
            trial_resources: what each of them needs where the executor has room, {'cores': 2, 'memory': '4GB', 'gpus': 1}; one core if not given.
                Memory is a limit. What is found does not depend on it.
            seed: everything random starts from it.
            allow: column to the reason why the model may use it although it is deprecated, protected or personal.
            metric: what the search goes by: 'roc_auc', 'brier' or 'accuracy', 'rmse'; the mean loss of a row if not given (log loss, absolute error).
            budget: time the search may take, '2m' for example. It begins with few rows and takes more of them for the better settings.
            protected: columns of the rows over whose values, and pairs of values, the model must be fair; numbers as tr.bands(...). They need not
                be inputs.
            invariances: what must not matter: names of features, whose value is then exchanged between rows, or functions that take the features
                as a frame and return it changed.
            intended_use, excluded_use: what the model is for, and what it must not be used for, in words; they stand in its card.
            trial_limit: time one trial may take. A trial that takes longer is stopped and counts as failed; trials then run in worker processes.
        """
        place = here()
        if not isinstance(rows, Dataset):
            raise ProjectError(f"Model {name!r} has rows={rows!r}.", where=place, hint="Pass what project.dataset(...) returned.")
        inputs, views, slices = (inputs,) if isinstance(inputs, str) else tuple(inputs), tuple(views), names(slices)
        kind = task if isinstance(task, m.Kind) else None
        split = split or (m.by_group(kind.group) if kind and kind.group else m.Split("time", 0.2) if rows.event_time else m.at_random())
        limits = {what: optional_span(value) for what, value in (("budget", budget), ("trial_limit", trial_limit))}
        _check_search(name, place, kind, split, inputs, trials, limits, metric)
        if not inputs and not views:
            raise ProjectError(f"Model {name!r} has neither inputs nor views.", where=place)
        from_views = {f for v in views for f in v.feature_names()}
        needed = [c for i in inputs for c in ([c for c in i.columns if c not in from_views] if isinstance(i, Derived) else (i,))]
        needed += [c for v in views for c in v.entity] + [target, *slices]
        if target in needed[: -1 - len(slices)]:
            raise ProjectError(f"Model {name!r} uses its target {target!r} as an input.", where=place, hint="Remove it from inputs.")
        features = [i.name if isinstance(i, Derived) else i for i in inputs] + [f for v in views for f in v.feature_names()]
        twice = next((f for i, f in enumerate(features) if f in features[:i]), None)
        if twice is not None:
            raise ProjectError(
                f"Model {name!r} has two features named {twice!r}.", where=place, hint="Remove one, or give it another name in its view."
            )
        if views and not rows.event_time:
            raise ProjectError(f"Model {name!r} uses views, but data set {rows.name!r} declares no event_time.", where=rows.place)
        if not isinstance(parallel_trials, int) or parallel_trials < 1:
            raise ProjectError(f"Model {name!r} has parallel_trials={parallel_trials!r}.", where=place, hint="Give a whole number from 1 on.")
        if split.method == "time" and not rows.event_time:
            raise ProjectError(f"Model {name!r} splits by time, but data set {rows.name!r} declares no event_time.", where=place)
        if isinstance(candidates, str) and candidates != AUTO:
            raise ProjectError(f"candidates={candidates!r} is not known.", where=place, hint="Use 'auto' or a list of tr.candidate(...).")
        declared = m.Model(
            _checked(name, "model", place), rows, target, inputs, views, task.base if isinstance(task, m.Kind) else task, positive,
            () if isinstance(candidates, str) else tuple(candidates), split,
            slices, tuple(default_gates() if gates is None else gates),
            trials or (0 if budget is not None else 12), seed, int(parallel_trials), description, place,
            kind, metric, limits["budget"], limits["trial_limit"], _protected(protected), tuple(invariances), intended_use, excluded_use,
            allow=dict(allow or {}), trial_resources=p.resources(trial_resources or {}),
        )  # fmt: skip
        check_policy(declared)
        return _add(self.models, name, declared, "model", place)

    def serve(
        self,
        model: m.Model,
        *,
        shadow: str | timedelta = "1d",
        canary: str | float = "10%",
        canary_for: str | timedelta = "1d",
        least_outcomes: int = 200,
        durability: Literal["acknowledged", "buffered"] = "acknowledged",
        port: int = 0,
        store_down: Literal["refuse", "answer"] = "refuse",
        workers: int = 0,
        answer_within: str | timedelta = "10s",
        rollback: ro.Rollback | None = _ROLLBACK,
        takeover: Literal["canary", "blue_green"] | ro.ABTest = "canary",
        key: str = "",
        keys: bool = False,
    ) -> ops.Serve:
        """Declare how a model is served. See `Serve`."""
        place = here()
        self._own(model, place)
        if store_down not in ("refuse", "answer"):
            raise ProjectError(f"store_down={store_down!r} is not known.", where=place, hint="Use 'refuse' or 'answer'.")
        if not isinstance(takeover, ro.ABTest) and takeover not in ro.STRATEGIES:
            raise ProjectError(f"takeover={takeover!r} is not known.", where=place, hint="Use 'canary', 'blue_green' or tr.ab_test(...).")
        key = ro.checked_key(key)
        fields = {c for i in model.inputs for c in (i.columns if isinstance(i, Derived) else (i,))} | {c for v in model.views for c in v.entity}
        if key.startswith("field:") and key[6:] not in fields:
            raise ProjectError(f"key={key!r} is no field of a request of {model.name!r}.", where=place, hint="Or use a header: key='header:x-user'.")
        within = length(answer_within)
        if not 0 <= workers <= 64 or not timedelta(0) < within <= timedelta(minutes=10):
            raise ProjectError("workers is not from 0 to 64, or answer_within not a length of time up to 10 minutes.", where=place)
        stages = (length(shadow), ops.share(canary), length(canary_for))
        declared = ops.Serve(
            model, *stages, least_outcomes, durability, port, place, store_down, workers, within,
            rollback=rollback, takeover=takeover, key=key, keys=bool(keys),
        )  # fmt: skip
        return _add(self.serves, model.name, declared, "endpoint for model", place)

    def log(
        self, model: m.Model, *, inputs: Literal["full", "hash", "none"] = "full", when_full: Literal["refuse", "drop"] = "refuse",
        files_after: str | timedelta = "2d", keep: str | timedelta | None = None,
    ) -> lg.Log:  # fmt: skip
        """Declare how the predictions of a model are logged. See `Log`."""
        place = here()
        self._own(model, place)
        for name, given, known in (("inputs", inputs, lg.INPUTS), ("when_full", when_full, lg.WHEN_FULL)):
            if given not in known:
                raise ProjectError(f"{name}={given!r} is not known.", where=place, hint=f"Use one of {', '.join(map(repr, known))}.")
        declared = lg.Log(model, inputs, when_full, length(files_after), None if keep is None else length(keep), place)
        return _add(self.logs, model.name, declared, "log of model", place)

    def watch(
        self,
        model: m.Model,
        *,
        every: str | timedelta = "1d",
        label_window: str | timedelta = "1d",
        false_alarms: str = "1 per quarter",
        retrain: ops.Retrain | None = None,
        skew_limit: str | float = 0.0,
        skew_sample: int = 200,
        kinds: Sequence[str] = ops.JUDGED,
        groups: Sequence[str] | None = None,
        fairness_gap: str | float | None = None,
        levels: Levels | None = None,
    ) -> ops.Watch:
        """Declare what is watched and what evidence may start. See `Watch`."""
        place = here()
        self._own(model, place)
        if length(every) <= timedelta(0):
            raise ProjectError(f"every={every!r} is not a length of time above zero.", where=place, hint="For example '1d'.")
        limit, sample = ops.share(skew_limit), int(skew_sample)
        judged = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        unknown = next((kind for kind in judged if kind not in ops.JUDGED), None)
        if unknown is not None:
            raise ProjectError(f"There is no kind of finding {unknown!r}.", where=place, hint=f"Choose from {', '.join(ops.JUDGED)}.")
        named = None if groups is None else (groups,) if isinstance(groups, str) else tuple(groups)
        gap = None if fairness_gap is None else ops.share(fairness_gap)
        declared = ops.Watch(
            model, length(every), length(label_window), ops.rate(false_alarms), retrain, place, limit, sample, judged, named, gap, levels or Levels(),
        )  # fmt: skip
        return _add(self.watches, model.name, declared, "watch of model", place)

    def truth(
        self, model: m.Model, *, window: str | timedelta = "7d", restate_for: str | timedelta = "60d",
        per_source: Mapping[str, str | float] | None = None, review: str | float = 0.0,
    ) -> Truth:  # fmt: skip
        """Declare how the truth of a model's predictions is settled, if not by the defaults. See `Truth`."""
        place = here()
        self._own(model, place)
        if length(window) < timedelta(minutes=1):
            raise ProjectError(f"window={window!r} is less than a minute.", where=place, hint="For example '7d'.")
        limits = {source: ops.share(part) for source, part in (per_source or {}).items()}
        declared = Truth(model, length(window), length(restate_for), limits, ops.share(review), place)
        return _add(self.truths, model.name, declared, "truth of model", place)

    def recalibrate(
        self, model: m.Model, *, rate_a: float = 0.0005, rate_b: float = 0.01, pull: float = 0.002, horizon: str | timedelta = "2d",
        least_outcomes: int = 1_000,
    ) -> Recalibrate:  # fmt: skip
        """Let two weights over a binary model's answers learn from outcomes as they become known. See `Recalibrate`."""
        place = here()
        self._own(model, place)
        if not (0 <= rate_a < 1 and 0 < rate_b < 1 and 0 <= pull < 1) or least_outcomes < 1:
            raise ProjectError("The rates and the pull of a recalibration are numbers from 0 on and below 1.", where=place)
        declared = Recalibrate(model, float(rate_a), float(rate_b), float(pull), length(horizon), int(least_outcomes), place)
        return _add(self.recalibrations, model.name, declared, "recalibration of model", place)

    def pipeline(self, function: Callable[..., Any] | None = None, /, *, name: str = "", description: str = "") -> Any:
        """Declare a pipeline: `@project.pipeline` above a function that calls steps. Its parameters are those of a run, with their defaults."""
        place = here()

        def declare(wrapped: Callable[..., Any]) -> p.Pipeline:
            given = name or getattr(wrapped, "__name__", "")
            if given in self.models:
                raise ProjectError(f"There is a model named {given!r}; a pipeline needs another name.", where=place)
            if not callable(wrapped) or isinstance(wrapped, p.StepFunction):
                raise ProjectError(f"{wrapped!r} cannot be a pipeline.", where=place, hint="Put @project.pipeline above a function that calls steps.")
            made = p.Pipeline(wrapped, _checked(given, "pipeline", place), description or (wrapped.__doc__ or "").strip().partition("\n")[0], place)
            return _add(self.pipelines, given, made, "pipeline", place)

        return declare if function is None else declare(function)

    def schedule(
        self,
        name: str,
        target: Any,
        *,
        when: sched.Trigger | Sequence[sched.Trigger],
        params: Mapping[str, Any] | None = None,
        catch_up: Literal["last", "all", "none"] = "last",
        debounce: str | timedelta = "0s",
        cooldown: str | timedelta = "0s",
        budget: sched.Budget | None = None,
        description: str = "",
    ) -> sched.Schedule:
        """Declare when a model or pipeline runs by itself; `treadle schedule run` does it. See `Schedule`."""
        place = here()
        declared = sched.declared(
            _checked(name, "schedule", place), target, targets=[*self.models.values(), *self.pipelines.values()],
            datasets=self.datasets.values(), others=self.schedules.values(), when=when, params=params, catch_up=catch_up, debounce=debounce,
            cooldown=cooldown, budget=budget, description=description, place=place,
        )  # fmt: skip
        return _add(self.schedules, name, declared, "schedule", place)

    def _own(self, model: m.Model, place: str) -> None:
        if not isinstance(model, m.Model) or self.models.get(model.name) is not model:
            raise ProjectError(f"{model!r} is not a model of project {self.name!r}.", where=place, hint="Pass what project.model(...) returned.")


def _protected(given: str | m.Protected | Iterable[str | m.Protected]) -> tuple[m.Protected, ...]:
    several = (given,) if isinstance(given, str | m.Protected) else tuple(given)
    return tuple(m.Protected(p) if isinstance(p, str) else p for p in several)


def default_gates() -> tuple[Gate, ...]:
    """The evidence asked for when a project does not say."""
    return (g.enough_rows(), g.signal(), g.beats_baseline(), g.beats_champion(), g.certain(), g.no_leakage())


def _check_search(
    name: str, place: str, kind: m.Kind | None, split: m.Split, inputs: tuple[Any, ...], trials: int | None,
    limits: Mapping[str, timedelta | None], metric: str,
) -> None:  # fmt: skip
    if trials is not None and (not isinstance(trials, int) or trials < 1):
        raise ProjectError(f"Model {name!r} has trials={trials!r}.", where=place, hint="Give a whole number from 1 on.")
    for what, value in limits.items():
        if value is not None and value <= timedelta(0):
            raise ProjectError(f"Model {name!r} has {what}={value}, which is no time.", where=place, hint="For example '2m'.")
    if metric and metric not in m.METRICS:
        raise ProjectError(f"There is no metric {metric!r} to search by.", where=place, hint=f"Use one of {', '.join(m.METRICS)}.")
    if kind is not None and kind.name == "forecast" and kind.naive not in inputs:
        raise ProjectError(f"Model {name!r} has no input {kind.naive!r}, its naive forecast.", where=place, hint="Add it to inputs.")
    if kind is not None and kind.group and split.by != kind.group and split.method != "time":
        raise ProjectError(f"Model {name!r} ranks within {kind.group!r}, but its split may part a group.", where=place, hint="Use tr.by_group(...).")


def _checked(name: str, what: str, place: str) -> str:
    if not isinstance(name, str) or len(name) > 60 or not _NAME.fullmatch(name):
        raise ProjectError(f"{name!r} is not a name for a {what}.", where=place, hint="Use lower-case words joined by '-' or '_'.")
    return name


def _add(table: dict[str, T], name: str, declared: T, what: str, place: str) -> T:
    if name in table:
        raise ProjectError(f"The {what} {name!r} is declared twice.", where=place)
    table[name] = declared
    return declared
