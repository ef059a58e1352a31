"""The scheduler: what is due by the project's schedules is noticed, claimed, run, and its end recorded.

Any number of schedulers may look at one ledger. Each slot is claimed by one of them and its run's id is made from the slot's, so it runs once;
a slot whose scheduler is gone is taken over by another, which starts its run or goes on with it. A scheduler that was paused meanwhile is
refused by the ledger when it wakes up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from treadle.assemble import Workspace
from treadle.core.canonical import digest
from treadle.core.clock import iso, parse_time
from treadle.core.declare.data import Dataset
from treadle.core.declare.model import Model
from treadle.core.declare.schedule import Alarm, Commit, Cron, NewData, Schedule
from treadle.core.errors import Cancelled, Conflict, NotFound, RunStopped, TreadleError
from treadle.core.ids import new_id
from treadle.core.records import Record, Ref
from treadle.data import filesets, sources, versions
from treadle.monitoring import alarms
from treadle.pipelines import lease
from treadle.pipelines import schedule as plan
from treadle.pipelines.run import RUN
from treadle.pipelines.schedule import SLOT, STATE, Due, Go, Wait
from treadle.ports.notifier import Message
from treadle.wheel.commits import newest_commit, older
from treadle.wheel.schedules import SCHEDULER, cause_of, first_sight, look, spent, until_words

LEASE = 30.0  # seconds without a beat after which a scheduler counts as gone
ENDED = ("done", "failed", "cancelled", "rejected", "waiting")
Tell = Callable[[str], None]
Slots = list[tuple[str, dict[str, Any]]]  # ids and bodies of slots to be recorded


def tick(ws: Workspace, now: datetime | None = None) -> list[str]:
    """Notice and run everything that is due, once; returns what was done, in words. A run that fails does not stop the others."""
    with Scheduler(ws).alive() as scheduler:
        return scheduler.tick(now)


def follow(
    ws: Workspace, every: float = 30.0, *, stop: threading.Event | None = None, wake: threading.Event | None = None,
    tell: Tell = lambda line: None,
) -> None:  # fmt: skip
    """Be the scheduler until `stop` is set. Runs go on in a thread of their own, one at a time, so that slots are noticed when they are due.

    Args:
        every: seconds between looks; `wake` makes it look at once.
        stop: whoever sets it sets `wake` too. A run that is going on is left to the next scheduler, which resumes it; the caller must then end
            the process.
    """
    stop, wake = stop or threading.Event(), wake or threading.Event()
    with Scheduler(ws, tell=tell).alive(at_once=True) as scheduler:
        worker: threading.Thread | None = None
        while not stop.is_set():
            now = ws.clock.now()
            scheduler.safely("looking for what is due", lambda: scheduler.notice(now))  # noqa: B023
            if worker is None or not worker.is_alive():
                slot = scheduler.safely("claiming what is due", lambda: scheduler.claim(now))  # noqa: B023
                if slot is not None and not stop.is_set():

                    def work(slot: Record = slot) -> None:
                        scheduler.safely("running what is due", lambda: scheduler.run(slot))
                        wake.set()  # what waited for this one need not wait for the next look

                    worker = threading.Thread(target=work, name=f"run of {slot.id}", daemon=True)
                    worker.start()
            wake.wait(every)
            wake.clear()
        if worker is not None:
            worker.join(2.0)


class Scheduler:
    """One scheduler: what it is known by, and what it saw of the others.

    Args:
        start, resume: do the work; those of `treadle.wheel.start` if not given.
        lease: seconds.
        tell: told each thing it does, in words.
    """

    def __init__(
        self, ws: Workspace, *, start: Callable[..., Any] | None = None, resume: Callable[..., Any] | None = None, lease: float = LEASE,
        tell: Tell = lambda line: None,
    ) -> None:  # fmt: skip
        if start is None or resume is None:
            from treadle.wheel import start as work

            start, resume = start or work.start, resume or work.resume
        self.ws, self.id = ws, new_id(SCHEDULER)
        self._start, self._resume, self._lease, self._tell = start, resume, lease, tell
        self._owner = lease_owner()
        self._doing: set[str] = set()
        self._beats: dict[str, tuple[int, float]] = {}
        self._said: dict[str, str] = {}
        self._prints: dict[str, tuple[Any, str | None]] = {}
        self._begun: tuple[datetime, float] | None = None
        self._show: Callable[[], None] = lambda: None

    @contextmanager
    def alive(self, *, at_once: bool = False) -> Iterator[Scheduler]:
        """Show that this scheduler lives, by a beat every third of a lease: `at_once`, or from the first slot it claims."""
        ledger, stop = self.ws.ledger, threading.Event()

        def say(beat: int, status: str = "alive") -> None:
            ledger.put(SCHEDULER, self.id, {**self._owner, "beat": beat, "status": status, "since": since})

        def beat() -> None:
            count = 1
            while not stop.wait(self._lease / 3):
                count += 1
                try:
                    say(count)
                except Exception:  # a ledger that is away must not end the scheduler; others may take over meanwhile, and this one is refused then
                    continue

        since = iso(self.ws.clock.now())
        thread = threading.Thread(target=beat, name="scheduler's heartbeat", daemon=True)

        def show() -> None:
            if not thread.is_alive():
                say(1)
                thread.start()

        self._show = show
        if at_once:
            show()
        try:
            yield self
        finally:
            self._show = lambda: None
            stop.set()
            if thread.is_alive():
                thread.join()
                self.safely("leaving", lambda: say(-1, "left"))

    def tick(self, now: datetime | None = None) -> list[str]:
        """Notice and run everything that is due, once; returns what was done, in words."""
        done: list[str] = []
        before = self._tell

        def tell(line: str) -> None:
            done.append(line)
            before(line)

        self._tell = tell
        self._begun = ((now or self.ws.clock.now()).astimezone(UTC), time.monotonic())
        try:
            self.safely("looking for what is due", lambda: self.notice(self.now()))
            while (slot := self.safely("claiming what is due", lambda: self.claim(self.now()))) is not None:
                self.safely(f"running {slot.id}", lambda: self.run(slot))
        finally:
            self._tell, self._begun = before, None
        return done

    def now(self) -> datetime:
        """The present: the clock's, or during a tick the moment it was given and the time since."""
        if self._begun is None:
            return self.ws.clock.now()
        return self._begun[0] + timedelta(seconds=time.monotonic() - self._begun[1])

    def safely(self, doing: str, what: Callable[[], Any]) -> Any:
        """The result, or None when the store is away or somebody else was first: the next look tries again. Cancelled and Ctrl-C go through."""
        try:
            result = what()
        except (Cancelled, KeyboardInterrupt):
            raise
        except Conflict:
            return None
        except Exception as error:
            self._once(doing, f"{doing}: {error}")
            return None
        self._said.pop(doing, None)
        return result

    def _once(self, about: str, line: str) -> None:
        """Say it, unless it was the last that was said about this."""
        if self._said.get(about) != line:
            self._said[about] = line
            self._tell(line)

    # Noticing: slots and events become records

    def notice(self, now: datetime) -> None:
        """Record what each schedule's triggers say as slots that wait to be run."""
        for schedule in self.ws.project.schedules.values():
            self.safely(f"schedule {schedule.name}", lambda: self._notice(schedule, now))  # noqa: B023

    def _notice(self, schedule: Schedule, now: datetime) -> None:
        ledger = self.ws.ledger
        state = ledger.get(STATE, schedule.name)
        if state is None:
            state = first_sight(schedule, now, self.ws)
        changed: dict[str, Any] = dict(state.body)
        slots: Slots = []
        events: list[dict[str, Any]] = []
        self._clock_went_back(schedule, changed, now)
        for trigger in schedule.when:
            if isinstance(trigger, Cron) and not changed["paused"]:
                if parse_time(changed["upto"]) > now + plan.ASTRAY:
                    changed["upto"] = iso(now)
                due = plan.due(trigger, schedule.catch_up, parse_time(changed["upto"]), now)
                if due is not None:
                    changed["upto"] = iso(due.upto)
                    slots += [_cron_slot(schedule, trigger, moment) for moment in due.run]
                    events += [_left_out(due, trigger)] if due.left_out else []
            elif isinstance(trigger, Alarm | Commit | NewData):
                try:
                    slots += self._events(schedule, trigger, changed, now)
                except TreadleError as error:  # a file that is away must not stop the clock
                    self._once(f"{schedule.name} {trigger}", f"{schedule.name}: {trigger}: {error}")
                else:
                    self._said.pop(f"{schedule.name} {trigger}", None)
        new = [(id, body) for id, body in slots if ledger.get(SLOT, id) is None]
        if not new and changed == state.body:
            return
        with ledger.transaction():
            if changed != state.body:
                ledger.put(STATE, schedule.name, changed, expect=state.version)
            for id, body in new:
                ledger.put(SLOT, id, body, expect=0)
            for event in events:
                ledger.append("schedule.missed", Ref(STATE, schedule.name), event)
        for event in events:
            self._tell(f"{schedule.name}: {event['sentence']} (catch_up={schedule.catch_up!r})")

    def _clock_went_back(self, schedule: Schedule, changed: dict[str, Any], now: datetime) -> None:
        """What was recorded by a clock that was ahead happened just now, or else waiting would last as much longer as it was ahead."""
        if changed["last"] and parse_time(changed["last"]["ended"]) > now:
            changed["last"] = {**changed["last"], "ended": iso(now)}
        if schedule.debounce:
            for slot in plan.pending(schedule.name, self.ws.ledger):
                if slot["trigger"] not in ("cron", "person") and parse_time(slot["at"]) > now:
                    self.ws.ledger.put(SLOT, slot.id, {**slot.body, "at": iso(now)}, expect=slot.version)

    def _events(self, schedule: Schedule, trigger: Alarm | Commit | NewData, changed: dict[str, Any], now: datetime) -> Slots:
        if isinstance(trigger, Alarm):
            return self._alarms(schedule, trigger, now)
        return self._commits(schedule, changed, now) if isinstance(trigger, Commit) else self._data(schedule, trigger.dataset, changed, now)

    def _alarms(self, schedule: Schedule, trigger: Alarm, now: datetime) -> Slots:
        model = schedule.target if isinstance(schedule.target, Model) else None
        watch = self.ws.watch_of(model) if model else None
        others = watch.retrain.on if watch is not None and watch.retrain is not None else ()  # the watch answers these
        found: Slots = []
        for alarm in self.ws.ledger.find(alarms.KIND, {"status": "open"}):
            if alarm["kind"] in trigger.kinds and alarm["kind"] not in others and (model is None or alarms.concerns(alarm, model)):
                cause = {"kind": alarms.KIND, "id": alarm.id, "text": alarm["sentence"]}
                run = f"run-{digest([alarms.KIND, alarm.id])[:12]}" if model else ""  # as `reactions` would name it: one retraining for one alarm
                found.append(plan.new_slot(schedule, alarm.id, "alarm", now, cause, run=run))
        return found

    def _commits(self, schedule: Schedule, changed: dict[str, Any], now: datetime) -> Slots:
        newest = newest_commit(self.ws.folder)
        last = changed["seen"].get("commit")
        if newest is None:
            raise NotFound("The project folder has no commit in a git repository.", where=str(self.ws.folder))
        if newest[0] == last:
            return []
        changed["seen"] = {**changed["seen"], "commit": newest[0]}
        if last is None or older(newest[0], last, self.ws.folder):  # the first one seen, or a step back
            return []
        cause = {"kind": "commit", "id": newest[0], "text": f"commit {newest[0][:12]}: {newest[1]}"}
        return [plan.new_slot(schedule, newest[0], "commit", now, cause)]

    def _data(self, schedule: Schedule, dataset: Dataset, changed: dict[str, Any], now: datetime) -> Slots:
        """A source that changed is one event; the next version taken of it belongs to it, and so do those that are new at that look.

        Other new versions are events of their own, but for those that runs of this very schedule took.
        """
        key = f"data:{dataset.name}"
        records = self.ws.ledger.find(versions.KIND, {"dataset": dataset.name})  # before the source: its change comes before its version
        print_ = self._fingerprint(dataset)
        seen = changed["seen"].get(key)
        if seen is None:
            changed["seen"] = {**changed["seen"], key: {"print": print_, "count": 0, "awaits": "", "versions": [r.id for r in records]}}
            return []
        seen, found = dict(seen), []
        if print_ is not None and print_ != seen["print"]:
            count = seen["count"] + 1
            cause = {"kind": "source", "id": f"{dataset.name}@{print_[:12]}", "text": f"the source of {dataset.name} changed"}
            slot = plan.new_slot(schedule, f"{dataset.name}.{print_[:12]}.{count}", "data", now, cause)
            seen.update(print=print_, count=count, awaits=slot[0])
            found.append(slot)
        known = {r.id for r in records} if found else set(seen["versions"])
        for record in (r for r in records if r.id not in known):
            if seen["awaits"]:
                seen["awaits"] = ""
            elif not self._taken_by(schedule, record):
                cause = {"kind": versions.KIND, "id": record.id, "text": f"new version {record.id} with {record['rows']:,} rows"}
                found.append(plan.new_slot(schedule, record.id, "data", now, cause))
        seen["versions"] = [r.id for r in records]
        if seen["awaits"] and not found and (slot_ := self.ws.ledger.get(SLOT, seen["awaits"])) is not None and slot_["status"] == "done":
            seen["awaits"] = ""  # the same rows as before: they have their version
        changed["seen"] = {**changed["seen"], key: seen}
        return found

    def _taken_by(self, schedule: Schedule, version: Record) -> bool:
        """Whether a run of this very schedule took the version. Both times are the ledger's."""
        runs = self.ws.ledger.find(RUN, {"cause.schedule": schedule.name})
        return any(r.created_at <= version.created_at and (r["status"] == "running" or version.created_at <= r.updated_at) for r in runs)

    def _fingerprint(self, dataset: Dataset) -> str | None:
        """As `data.sources` says; files are read again only when their sizes or times changed."""
        if dataset.source.kind == filesets.KIND:
            return filesets.fingerprint(dataset, self.ws.folder)
        if not sources.is_local(dataset.source):
            return sources.fingerprint(dataset, self.ws.folder, self.ws.reach)
        stat = [(str(p), (s := p.stat()).st_size, s.st_mtime_ns, s.st_ino) for p in sources.files(dataset.source, self.ws.folder)]
        known = self._prints.get(dataset.name)
        if known is None or known[0] != stat:
            known = self._prints[dataset.name] = (stat, sources.fingerprint(dataset, self.ws.folder))
        return known[1]

    # Claiming

    def claim(self, now: datetime) -> Record | None:
        """Make one slot mine that may run now: of a scheduler that is gone, else the one that has waited longest. None when there is none."""
        ready: list[tuple[bool, str, Schedule, Go, Record]] = []
        for schedule in self.ws.project.schedules.values():
            state = self.ws.ledger.get(STATE, schedule.name)
            if state is None:
                continue
            if state["active"]:
                slot = self._left_behind(state["active"])
                if slot is not None:
                    self._show()
                    self._tell(f"{schedule.name}: takes over {slot.id}, whose scheduler is gone")
                    return self._mine(plan.take_over(slot, self.id, now, self.ws.ledger))
                continue
            found = look(self.ws, schedule, state, now)
            if isinstance(found, Wait) and found.what in ("runs", "cpu", "money"):
                if plan.hold(schedule, found, state, self.ws.ledger):
                    self._tell(f"{schedule.name}: {self._held(schedule, found)}")
                    self._message(f"{schedule.name}-held-{iso(found.until)}", f"{schedule.name} is held", self._held(schedule, found), "medium")
            elif isinstance(found, Go):
                ready.append((found.lead["trigger"] != "person", found.lead["at"], schedule, found, state))
        for _, _, schedule, go, state in sorted(ready, key=lambda r: r[:2]):
            self._show()
            try:
                return self._mine(plan.claim(schedule, go, state, self.id, now, self.ws.ledger))
            except Conflict:  # somebody else was first
                continue
        return None

    def claim_this(self, slot: str, now: datetime) -> Record | Wait | None:
        """Make one certain pending slot mine, or say what it waits for. None when it is somebody else's, or another of its schedule is being run."""
        record = self.ws.ledger.get(SLOT, slot)
        schedule = self.ws.project.schedules[record["schedule"]] if record else None
        state = self.ws.ledger.get(STATE, schedule.name) if schedule else None
        if record is None or schedule is None or state is None or record["status"] != "pending" or state["active"]:
            return None
        found = plan.choose(schedule, [record], None, lambda: spent(self.ws, schedule), now)
        if not isinstance(found, Go):
            return found
        self._show()
        try:
            return self._mine(plan.claim(schedule, found, state, self.id, now, self.ws.ledger))
        except Conflict:
            return None

    def _mine(self, slot: Record) -> Record:
        self._doing.add(slot.id)
        return slot

    def _left_behind(self, id: str) -> Record | None:
        """The slot, if nobody goes on with it."""
        slot = self.ws.ledger.get(SLOT, id)
        if slot is None or slot["status"] not in ("claimed", "running") or id in self._doing:
            return None
        who = slot["claimed_by"]
        if who and who != self.id and not self._gone(who):
            return None
        run = self.ws.ledger.get(RUN, slot["run"])
        if run is not None and run["status"] == "running" and not lease.gone(run["owner"]):
            claimer = self.ws.ledger.get(SCHEDULER, who) if who else None
            mine = claimer is not None and all(claimer.get(k) == run["owner"].get(k) for k in ("host", "pid"))
            return slot if mine else None  # driven by a process that is no scheduler of ours: somebody said `treadle resume`
        return slot

    def _gone(self, scheduler: str) -> bool:
        """Whether a scheduler has left, died (where that can be seen) or not beaten for a whole lease by my own monotonic clock."""
        record = self.ws.ledger.get(SCHEDULER, scheduler)
        if record is None or record["status"] == "left" or lease.gone(record.body):
            return True
        seen = self._beats.get(scheduler)
        if seen is None or seen[0] != record["beat"]:
            self._beats[scheduler] = (int(record["beat"]), time.monotonic())
            return False
        return time.monotonic() - seen[1] > self._lease

    # Running

    def run(self, slot: Record) -> Record | None:
        """Start the run of a slot I claimed, or go on with it, and record how it ended. None when the slot was taken over meanwhile."""
        try:
            return self._run(slot)
        finally:
            self._doing.discard(slot.id)

    def _run(self, slot: Record) -> Record | None:
        ws, name = self.ws, slot["schedule"]
        schedule = ws.project.schedules[name]
        try:
            slot = plan.begin(slot, ws.ledger)
        except Conflict:
            self._tell(f"{name}: {slot.id} was taken over by another scheduler")
            return None
        known = ws.ledger.get(RUN, slot["run"])
        error = ""
        self._tell(f"{name}: {'goes on with' if known else 'starts'} {slot['run']}: {slot['cause']['text']}")
        try:
            if known is None:
                params = {**schedule.params, **slot["params"]}
                self._start(ws, slot["target"], cause=cause_of(slot), run_id=slot["run"], params=params or None, as_of=_as_of(schedule, slot))
            elif known["status"] not in ENDED:
                self._resume(ws, slot["run"])
        except (KeyboardInterrupt, Cancelled):
            plan.finish(slot, "cancelled", "stopped by hand", self.now(), ws.ledger)
            raise
        except Conflict as conflict:
            return self._outrun(slot, conflict)
        except RunStopped:  # the run's record says it; the schedule goes on
            pass
        except Exception as failure:
            error = str(failure)
        run = ws.ledger.get(RUN, slot["run"])
        status = "failed" if error else run["status"] if run is not None and run["status"] in ENDED else "done"
        return self._finish(slot, status, error or str(run.get("error") or "" if run is not None and status == "failed" else ""))

    def _outrun(self, slot: Record, conflict: Conflict) -> Record | None:
        """The run was there, or another process drives it: leave it to that, unless it has ended."""
        run = self.ws.ledger.get(RUN, slot["run"])
        if run is None or run["status"] != "running":
            ended = run is not None and run["status"] in ENDED
            return self._finish(slot, run["status"] if run and ended else "failed", str(run.get("error") or "") if run and ended else str(conflict))
        try:
            plan.let_go(slot, self.ws.ledger)
        except Conflict:
            self._tell(f"{slot['schedule']}: {slot.id} was taken over by another scheduler")
            return None
        self._tell(f"{slot['schedule']}: {slot.id} waits: {conflict}")
        return None

    def _finish(self, slot: Record, status: str, error: str) -> Record | None:
        name = slot["schedule"]
        try:
            ended = plan.finish(slot, status, error, self.now(), self.ws.ledger)
        except Conflict:
            self._tell(f"{name}: {slot.id} was taken over by another scheduler")
            return None
        self._tell(f"{name}: {slot['run']} {status}" + (f": {error}" if error else ""))
        if status == "failed":
            self._message(f"{slot['run']}-failed", f"{name}: {slot['run']} failed", error, "high")
        return ended

    def _held(self, schedule: Schedule, wait: Wait) -> str:
        return f"held until {until_words(schedule, wait.until)}: {wait.sentence}"

    def _message(self, id: str, title: str, text: str, severity: str) -> None:
        for notifier in self.ws.notifiers:
            try:
                notifier.send(Message(id, title, text, severity))
            except TreadleError as error:
                self.ws.ledger.append("schedule.not_told", Ref(STATE, title), {"error": str(error)})


def _as_of(schedule: Schedule, slot: Record) -> datetime | None:
    """With catch_up='all' each slot of a model is its own moment: it sees what was known by then."""
    return parse_time(slot["at"]) if slot["trigger"] == "cron" and schedule.catch_up == "all" and isinstance(schedule.target, Model) else None


def lease_owner() -> dict[str, Any]:
    """This process, as others can look for it."""
    return {k: v for k, v in lease.owner().items() if k in ("host", "pid", "born")}


def _cron_slot(schedule: Schedule, cron: Cron, moment: datetime) -> tuple[str, dict[str, Any]]:
    key = plan.key_of(moment)
    cause = {"kind": SLOT, "id": plan.slot_id(schedule.name, key), "text": f"{moment.astimezone(cron.zone):%Y-%m-%d %H:%M %Z} of {cron}"}
    return plan.new_slot(schedule, key, "cron", moment, cause)


def _left_out(due: Due, cron: Cron) -> dict[str, Any]:
    first = (due.first or due.upto).astimezone(cron.zone)
    count = f"more than {due.left_out:,}" if due.more else f"{due.left_out:,}"
    sentence = f"{count} missed slot{'s' if due.left_out > 1 else ''} left out, from {first:%Y-%m-%d %H:%M %Z}"
    return {"slots": due.left_out, "from": iso(first), "sentence": sentence}
