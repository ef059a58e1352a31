"""The scheduler in one process, with a clock that is set and work that only leaves a trace: what starts, when, why, how often, and what is said."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from treadle.assemble import Workspace, open_workspace
from treadle.backends.memory_ledger import MemoryLedger
from treadle.core.clock import iso, parse_time
from treadle.core.errors import Conflict, UsageError
from treadle.core.records import Record, Ref
from treadle.pipelines import schedule as plan
from treadle.pipelines.run import RUN
from treadle.wheel.scheduler import Scheduler
from treadle.wheel.schedules import pause, schedule_of, trigger, unpause

HEAD = """import treadle as tr
project = tr.Project("demo", owner="me", goal="test")
rows = project.dataset("rows", source=tr.csv("rows.csv"), key="id")
model = project.model("late", rows=rows, target="y", inputs=["a"])

@project.pipeline
def flow(part: str = "all", size: int = 1) -> None: ...
"""
START = datetime(2024, 5, 1, 10, 0, 30, tzinfo=UTC)


class Clock:
    """A clock that can be set, also back."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> datetime:
        return self.time

    def pass_(self, **length: float) -> None:
        self.time += timedelta(**length)


class World:
    """A project folder with these schedules, a scheduler, and what it started."""

    def __init__(self, folder: Path, schedules: str) -> None:
        (folder / "project.py").write_text(HEAD + schedules)
        (folder / "rows.csv").write_text("id,a,y\n1,2,3\n")
        self.clock = Clock()
        self.ws = open_workspace(folder, clock=self.clock)
        self.ws.__dict__["ledger"] = self.ledger = MemoryLedger()
        self.ws.__dict__["notifiers"] = [self]
        self.messages: list[str] = []
        self.effects: list[dict[str, Any]] = []
        self.during: Callable[[dict[str, Any]], None] = lambda effect: None
        self.cpu = 1.0
        self.said: list[str] = []
        self.scheduler = self.another()

    def another(self) -> Scheduler:
        return Scheduler(self.ws, start=self.start, resume=self.resume, lease=0.05, tell=self.said.append)

    def send(self, message: Any) -> None:
        self.messages.append(f"{message.title}: {message.text}")

    def start(self, ws: Workspace, target: str, *, cause: Mapping[str, Any], run_id: str, params: Any = None, as_of: Any = None) -> None:
        body = {"cause": dict(cause), "status": "running", "started": iso(self.clock.now()), "owner": {"host": "elsewhere", "pid": 1}}
        self.ledger.put(RUN, run_id, body, expect=0)
        effect = {"target": target, "cause": dict(cause), "run": run_id, "params": params, "as_of": as_of}
        self.effects.append(effect)
        try:
            self.during(effect)
        except Exception as error:
            self.ledger.put(RUN, run_id, {**body, "status": "failed", "error": str(error), "ended": iso(self.clock.now()), "cpu": self.cpu})
            raise
        self.ledger.put(RUN, run_id, {**body, "status": "done", "ended": iso(self.clock.now()), "cpu": self.cpu, "seconds": 1.0})

    def resume(self, ws: Workspace, run_id: str) -> None:
        run = self.ledger.get(RUN, run_id)
        assert run is not None
        self.effects.append({"run": run_id, "resumed": True})
        self.ledger.put(RUN, run_id, {**run.body, "status": "done", "ended": iso(self.clock.now()), "cpu": self.cpu}, expect=run.version)

    def tick(self, **passed: float) -> list[dict[str, Any]]:
        """What a look starts, after this time."""
        self.clock.pass_(**passed)
        before = len(self.effects)
        with self.scheduler.alive():
            self.scheduler.tick()
        return self.effects[before:]

    def slots(self) -> list[Record]:
        return self.ledger.find("slot")

    def events(self, kind: str) -> list[Any]:
        return self.ledger.events_since(limit=100_000, kinds=[kind])

    def alarm(self, id: str, kind: str = "quality", model: str = "late") -> None:
        self.ledger.put("alarm", id, {"model": model, "version": 1, "kind": kind, "status": "open", "sentence": f"{kind} fell", "told": True})


@pytest.fixture
def world(tmp_path: Path) -> Callable[[str], World]:
    return lambda schedules: World(tmp_path, schedules)


def local(effects: list[dict[str, Any]]) -> list[str]:
    return [e["cause"]["text"] for e in effects]


def test_a_slot_runs_when_it_is_due_and_says_what_started_it(world: Callable[[str], World]) -> None:
    w = world('project.schedule("hourly", flow, when=tr.cron("0 * * * *", tz="Asia/Kolkata"), params={"part": "north"})')
    assert w.tick() == []  # seen for the first time: nothing before was missed
    (ran,) = w.tick(hours=1)
    assert ran["target"] == "flow"
    assert ran["params"] == {"part": "north"}
    assert ran["cause"]["schedule"] == "hourly"
    assert ran["cause"]["kind"] == "slot"
    assert ran["cause"]["id"] == ran["cause"]["slot"] == "hourly@2024-05-01T10:30:00Z"
    assert ran["cause"]["text"] == "2024-05-01 16:00 IST of cron '0 * * * *' (Asia/Kolkata)"
    assert ran["run"] == plan.run_id("hourly@2024-05-01T10:30:00Z")
    assert w.tick() == []
    assert [s["status"] for s in w.slots()] == ["done"]


@pytest.mark.parametrize(
    ("catch_up", "ran", "left_out"),
    [("last", ["14:00"], "3 missed slots left out"), ("all", ["11:00", "12:00", "13:00", "14:00"], ""), ("none", [], "4 missed slots left out")],
)
def test_missed_slots_are_caught_up_as_the_schedule_says(world: Callable[[str], World], catch_up: str, ran: list[str], left_out: str) -> None:
    w = world(f'project.schedule("hourly", flow, when=tr.cron("0 * * * *"), catch_up="{catch_up}")')
    w.tick()
    assert [text[11:16] for text in local(w.tick(hours=4, minutes=15))] == ran
    assert w.tick(minutes=5) == []
    assert left_out in " ".join(e.body["sentence"] for e in w.events("schedule.missed"))
    assert [text[11:16] for text in local(w.tick(minutes=40))] == ["15:00"]  # noticed in time: on with the next


def test_a_model_catches_up_each_slot_with_what_was_known_then(world: Callable[[str], World]) -> None:
    w = world('project.schedule("hourly", model, when=tr.cron("0 * * * *"), catch_up="all")')
    w.tick()
    assert [e["as_of"] for e in w.tick(hours=2)] == [parse_time("2024-05-01T11:00"), parse_time("2024-05-01T12:00")]


@pytest.mark.parametrize("catch_up", ["all", "last"])
def test_a_clock_that_jumps_ahead_or_back_runs_no_slot_twice_and_leaves_none_out(world: Callable[[str], World], catch_up: str) -> None:
    w = world(f'project.schedule("often", flow, when=tr.cron("*/10 * * * *"), catch_up="{catch_up}", cooldown="1m")')
    w.tick()
    steps = [5] * 12 + [60] + [5] * 6 + [-60] + [5] * 30 + [-60, -60] + [5] * 40
    for minutes in steps:
        w.tick(minutes=minutes)
    for _ in range(200):
        w.tick(minutes=1)
    ran = [e["cause"]["slot"] for e in w.effects]
    assert len(set(ran)) == len(ran)
    newest = max(ran)
    due = ["often@" + plan.key_of(START.replace(minute=0, second=0) + timedelta(minutes=10 * i)) for i in range(1, 1000)]
    due = [slot for slot in due if slot <= newest]
    left_out = sum(e.body["slots"] for e in w.events("schedule.missed"))
    superseded = [s.id for s in w.slots() if s["status"] == "skipped"]
    assert left_out == 0 if catch_up == "all" else left_out == 5  # the hour that was jumped over, but for its newest slot
    assert len(ran) + left_out + len(superseded) == len(due)
    assert newest >= "often@" + plan.key_of(w.clock.now() - timedelta(minutes=11))


def test_a_clock_that_was_years_ahead_for_a_moment_does_not_end_a_schedule(world: Callable[[str], World]) -> None:
    w = world('project.schedule("hourly", flow, when=tr.cron("0 * * * *"))')
    w.tick()
    w.tick(days=4000)
    w.clock.time = START
    w.tick()
    assert [text[:16] for text in local(w.tick(hours=1))] == ["2024-05-01 11:00"]


def test_a_thousand_alarms_in_a_minute_start_one_run(world: Callable[[str], World]) -> None:
    w = world('project.schedule("mend", model, when=tr.on_alarm(["quality"]), debounce="2m", cooldown="1d")')
    w.tick()
    for i in range(1000):
        w.alarm(f"alarm-{i:04d}")
        if i % 100 == 99:
            assert w.tick(seconds=6) == []
    assert w.tick(seconds=90) == []
    (ran,) = w.tick(seconds=60)
    assert ran["cause"]["kind"] == "alarm"
    assert ran["cause"]["id"] == "alarm-0000"
    assert ran["cause"]["causes"] == 1000
    assert ran["cause"]["text"] == "quality fell (and 999 more)"
    slot = w.ledger.get("slot", ran["cause"]["slot"])
    assert slot is not None
    assert {c["id"] for c in slot["causes"]} == {f"alarm-{i:04d}" for i in range(1000)}
    assert len(w.ledger.links(Ref("slot", slot.id), relation="caused_by")) == 1000
    assert sum(s["status"] == "joined" and s["into"] == slot.id for s in w.slots()) == 999
    for _ in range(5):
        assert w.tick(hours=12) == []  # the alarms are open still


def test_without_quiet_a_burst_starts_after_ten_times_the_debounce(world: Callable[[str], World]) -> None:
    w = world('project.schedule("mend", model, when=tr.on_alarm("quality"), debounce="1m")')
    w.tick()
    started = []
    for i in range(30):
        w.alarm(f"alarm-{i:02d}")
        started += [i for _ in w.tick(seconds=30)]
    assert started == [20]


def test_alarms_of_other_kinds_or_models_or_those_the_watch_answers_start_nothing(world: Callable[[str], World]) -> None:
    w = world(
        'project.watch(model, retrain=tr.on_evidence(on=("calibration",)))\n'
        'project.schedule("mend", model, when=tr.on_alarm(["quality", "calibration"]))'
    )
    w.alarm("a-1", "input")
    w.alarm("a-2", model="other")
    w.alarm("a-3", "calibration")
    assert w.tick() == []
    w.alarm("a-4")
    (ran,) = w.tick()
    assert ran["cause"]["id"] == "a-4"


def test_an_alarm_about_the_data_of_a_model_starts_its_schedule_and_one_about_other_data_does_not(world: Callable[[str], World]) -> None:
    w = world(
        'other = project.dataset("other", source=tr.csv("other.csv"), key="id")\n'
        'project.schedule("mend", model, when=tr.on_alarm(["contract", "freshness", "volume", "distribution", "schema", "skew", "stale"]))\n'
        'project.schedule("tell", flow, when=tr.on_alarm("volume"))'
    )
    alarm = {"model": "", "version": None, "kind": "volume", "status": "open", "sentence": "few rows", "told": True}
    w.ledger.put("alarm", "a-1", {**alarm, "dataset": "other"})
    w.ledger.put("alarm", "a-2", {**alarm, "dataset": "rows", "view": "elsewhere", "kind": "stale"})
    assert [(e["target"], e["cause"]["id"]) for e in w.tick()] == [("flow", "a-1")]
    w.ledger.put("alarm", "a-3", {**alarm, "dataset": "rows"})
    assert sorted((e["target"], e["cause"]["id"]) for e in w.tick()) == [("flow", "a-3"), ("late", "a-3")]
    assert w.tick(hours=1) == []


def test_a_cooldown_makes_what_is_due_wait_and_loses_none_of_it(world: Callable[[str], World]) -> None:
    w = world('project.schedule("mend", model, when=tr.on_alarm("quality"), cooldown="6h")')
    w.alarm("a-1")
    assert len(w.tick()) == 1
    w.alarm("a-2")
    assert w.tick(hours=1) == []
    w.alarm("a-3")
    assert w.tick(hours=4.9) == []
    (ran,) = w.tick(hours=0.2)
    assert (ran["cause"]["id"], ran["cause"]["also"]) == ("a-2", ["a-3"])


def test_a_failing_run_is_told_stops_nobody_and_is_cooled_down_after(world: Callable[[str], World]) -> None:
    w = world(
        'project.schedule("bad", flow, when=tr.cron("0 * * * *"), cooldown="90m", params={"part": "bad"})\n'
        'project.schedule("good", flow, when=tr.cron("0 * * * *"))'
    )

    def during(effect: dict[str, Any]) -> None:
        if effect["params"]:
            raise ValueError("no such part")

    w.during = during
    w.tick()
    assert [e["cause"]["schedule"] for e in w.tick(hours=1)] == ["bad", "good"]
    assert {s["schedule"]: s["status"] for s in w.slots()} == {"bad": "failed", "good": "done"}
    assert w.messages == [f"bad: {w.effects[0]['run']} failed: no such part"]
    assert [e["cause"]["schedule"] for e in w.tick(hours=1)] == ["good"]
    assert [e["cause"]["schedule"] for e in w.tick(minutes=31)] == ["bad"]


def test_a_budget_of_runs_holds_and_says_so_once(world: Callable[[str], World]) -> None:
    w = world('project.schedule("often", flow, when=tr.cron("*/10 * * * *"), catch_up="all", budget=tr.budget(runs="3 per 1d"))')
    w.tick()
    for _ in range(60):
        w.tick(minutes=10)
    assert len(w.effects) == 3
    (held,) = w.events("schedule.held")
    assert held.body["what"] == "runs"
    assert held.body["until"].startswith("2024-05-02T10:10:30")
    assert held.body["sentence"] == "budget '3 per 1d' is spent: 3 of 3 runs in the last 1d"
    assert w.messages == [f"often is held: held until 2024-05-02 10:10 UTC: {held.body['sentence']}"]
    w.clock.time = parse_time("2024-05-02T10:10:00Z")
    assert w.tick() == []
    assert len(w.tick(seconds=31)) == 1
    assert len(w.tick(minutes=1)) == 0
    assert len(w.events("schedule.held")) == 2  # it stopped again, which is new


@pytest.mark.parametrize(
    ("budget", "runs", "says"),
    [
        ('cpu="2h per day"', 4, "budget '2h per day' is spent: 2h of 2h of CPU time in the last 1d"),
        ('money="0.06 per day", price_per_cpu_hour=0.05, currency="CHF"', 3, "budget '0.06 per day' is spent: 0.075 of 0.06 CHF in the last 1d"),
        ('runs="9 per day", cpu="1h per day"', 2, "budget '1h per day' is spent: 1h of 1h of CPU time in the last 1d"),
    ],
)
def test_a_budget_of_cpu_time_or_money_holds(world: Callable[[str], World], budget: str, runs: int, says: str) -> None:
    w = world(f'project.schedule("often", flow, when=tr.cron("*/10 * * * *"), budget=tr.budget({budget}))')
    w.cpu = 1800.0
    w.tick()
    for _ in range(20):
        w.tick(minutes=10)
    assert len(w.effects) == runs
    assert [e.body["sentence"] for e in w.events("schedule.held")] == [says]
    while len(w.effects) == runs:
        w.tick(minutes=10)
    assert w.clock.now() - START >= timedelta(days=1)


def test_an_older_run_without_cpu_counts_with_its_time() -> None:
    times = {"started": "2024-05-01T10:00:00Z", "ended": "2024-05-01T11:00:00Z"}
    runs = [Record(RUN, "a", times), Record(RUN, "b", {**times, "seconds": 5.0}), Record(RUN, "c", {**times, "seconds": 5.0, "cpu": 2.0})]
    assert [s.cpu for s in plan.spent_by(runs)] == [3600.0, 5.0, 2.0]


def test_what_a_person_asks_for_waits_for_the_budget_only(world: Callable[[str], World]) -> None:
    w = world('project.schedule("mend", flow, when=tr.on_call(), debounce="10m", cooldown="6h", budget=tr.budget(runs="2 per day"))')
    schedule = schedule_of(w.ws, "mend")
    for part in ("a", "b", "c"):
        trigger(w.ws, schedule, params={"part": part})
    assert [e["params"] for e in w.tick()] == [{"part": "a"}, {"part": "b"}]
    assert w.effects[0]["cause"]["kind"] == "person"
    assert w.tick(hours=23) == []
    assert [e["params"] for e in w.tick(hours=2)] == [{"part": "c"}]
    with pytest.raises(UsageError, match="has no parameter 'colour'"):
        trigger(w.ws, schedule, params={"colour": "red"})


def test_calls_with_the_same_parameters_run_together_and_others_apart(world: Callable[[str], World]) -> None:
    w = world('project.schedule("mend", flow, when=tr.on_call("go"), debounce="1m")')
    schedule = schedule_of(w.ws, "mend")
    for i, part in enumerate(["a", "b", "a", "b", "a"]):
        trigger(w.ws, schedule, params={"part": part}, call=f"call-{i}")
    trigger(w.ws, schedule, params={"part": "a"}, call="call-0")  # the same call again
    with pytest.raises(Conflict):
        trigger(w.ws, schedule, params={"part": "c"}, call="call-0")
    assert w.tick() == []
    assert [(e["params"], e["cause"].get("causes", 1)) for e in w.tick(minutes=1)] == [({"part": "a"}, 3), ({"part": "b"}, 2)]


def test_a_paused_schedule_keeps_its_events_and_catches_up_its_slots(world: Callable[[str], World]) -> None:
    w = world('project.schedule("mend", flow, when=[tr.cron("0 * * * *"), tr.on_alarm("quality")])')
    schedule = schedule_of(w.ws, "mend")
    w.tick()
    pause(w.ws, schedule, "the source moves")
    with pytest.raises(Conflict):
        pause(w.ws, schedule, "again")
    w.alarm("a-1")
    assert w.tick(hours=5) == []
    unpause(w.ws, schedule, "it has moved")
    assert sorted(e["cause"]["kind"] for e in w.tick()) == ["alarm", "slot"]
    assert [e.body["reason"] for e in w.events("schedule.paused") + w.events("schedule.resumed")] == ["the source moves", "it has moved"]


def test_a_source_that_changed_is_one_event_and_the_version_taken_of_it_no_other(world: Callable[[str], World], tmp_path: Path) -> None:
    w = world('project.schedule("fresh", model, when=tr.on_new_data(rows))')
    w.ledger.put("dataset_version", "rows-0", {"dataset": "rows", "rows": 1})
    taken = 0

    def take(effect: dict[str, Any]) -> None:
        nonlocal taken
        taken += 1
        w.ledger.put("dataset_version", f"rows-{taken}", {"dataset": "rows", "rows": 1})

    w.during = take
    assert w.tick() == []
    (tmp_path / "rows.csv").write_text("id,a,y\n1,2,3\n2,3,4\n")
    (ran,) = w.tick(minutes=1)
    assert ran["cause"]["kind"] == "source"
    assert ran["cause"]["text"] == "the source of rows changed"
    assert w.tick(minutes=1) == w.tick(minutes=1) == []
    (tmp_path / "rows.csv").write_text("id,a,y\n1,2,3\n")  # as it was at first: a change nevertheless
    assert len(w.tick(minutes=1)) == 1
    assert w.tick(minutes=1) == []
    trigger(w.ws, schedule_of(w.ws, "fresh"))
    assert [e["cause"]["kind"] for e in w.tick()] == ["person"]
    assert w.tick(minutes=1) == []  # the version its own run took is no news
    w.ledger.put("dataset_version", "rows-taken-by-others", {"dataset": "rows", "rows": 2})
    (tmp_path / "rows.csv").write_text("id,a,y\n7,2,3\n")
    assert [e["cause"]["kind"] for e in w.tick(minutes=1)] == ["source"]
    assert w.tick(minutes=1) == w.tick(minutes=1) == []
    w.ledger.put("dataset_version", "rows-by-hand", {"dataset": "rows", "rows": 7})
    (ran,) = w.tick(minutes=1)
    assert (ran["cause"]["kind"], ran["cause"]["id"]) == ("dataset_version", "rows-by-hand")


def test_a_source_that_is_away_is_said_once_and_stops_no_slot(world: Callable[[str], World], tmp_path: Path) -> None:
    w = world('project.schedule("fresh", model, when=[tr.on_new_data(rows), tr.cron("0 * * * *")])')
    w.tick()
    (tmp_path / "rows.csv").unlink()
    assert len(w.tick(hours=1)) == len(w.tick(hours=1)) == 1
    assert len([line for line in w.said if "There is no file 'rows.csv'" in line]) == 1


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_a_commit_that_touches_the_project_starts_a_run_and_another_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "repository" / "project"
    folder.mkdir(parents=True)
    git(tmp_path / "repository", "init", "-q")
    w = World(folder, 'project.schedule("code", flow, when=tr.on_commit())')
    assert w.tick() == []
    assert "no commit in a git repository" in w.said[-1]
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    assert w.tick() == []  # the first one seen is where it starts from
    (folder.parent / "elsewhere").write_text("x")
    git(folder.parent, "add", "elsewhere")
    git(folder, "commit", "-q", "-m", "not of the project")
    assert w.tick() == []
    for i in range(2):
        (folder / "rows.csv").write_text(f"id,a,y\n{i},2,3\n")
        git(folder, "commit", "-q", "-a", "-m", f"change {i}\n\nSecret: body")
    (ran,) = w.tick()
    newest = git(folder, "rev-parse", "HEAD")
    assert ran["cause"]["id"] == newest
    assert ran["cause"]["text"] == f"commit {newest[:12]}: change 1"
    git(folder, "checkout", "-q", "HEAD~1")
    assert w.tick() == []  # a step back is no new code
    git(folder, "checkout", "-q", "-")
    assert w.tick() == []
    (folder / "rows.csv").write_text("id,a,y\n9,2,3\n")
    git(folder, "commit", "-q", "-a", "--amend", "-m", "rewritten")
    assert len(w.tick()) == 1


def test_of_two_schedulers_one_claims_and_the_other_finds_nothing(world: Callable[[str], World]) -> None:
    w = world('project.schedule("hourly", flow, when=tr.cron("0 * * * *"))')
    w.tick()
    w.clock.pass_(hours=1)
    w.scheduler.notice(w.clock.now())
    with w.scheduler.alive(), w.another().alive() as other:
        claimed = w.scheduler.claim(w.clock.now())
        assert claimed is not None
        assert other.claim(w.clock.now()) is None
        assert w.scheduler.run(claimed) is not None
    assert len(w.effects) == 1


def test_one_that_slept_through_a_takeover_is_refused(world: Callable[[str], World]) -> None:
    w = world('project.schedule("hourly", flow, when=tr.cron("0 * * * *"))')
    w.tick()
    w.clock.pass_(hours=1)
    w.scheduler.notice(w.clock.now())
    asleep = w.scheduler.claim(w.clock.now())
    assert asleep is not None
    w.ledger.put("scheduler", w.scheduler.id, {"host": "elsewhere", "pid": 1, "beat": 7, "status": "alive"})  # where nobody can look for its process
    with w.another().alive() as other:
        taken = None
        while taken is None:  # until it has seen no beat for a whole lease, by its own monotonic clock
            taken = other.claim(w.clock.now())
        assert other.run(taken) is not None
    assert w.scheduler.run(asleep) is None
    assert len(w.effects) == 1
    assert "hourly: hourly@2024-05-01T11:00:00Z was taken over by another scheduler" in w.said
    assert [s["status"] for s in w.slots()] == ["done"]


def test_a_scheduler_on_another_machine_that_beats_is_left_alone(world: Callable[[str], World]) -> None:
    w = world('project.schedule("hourly", flow, when=tr.cron("0 * * * *"))')
    w.tick()
    w.clock.pass_(hours=1)
    w.scheduler.notice(w.clock.now())
    assert w.scheduler.claim(w.clock.now()) is not None
    other = w.another()
    for beat in range(50):
        w.ledger.put("scheduler", w.scheduler.id, {"host": "elsewhere", "pid": 1, "beat": beat, "status": "alive"})
        assert other.claim(w.clock.now()) is None


def test_a_run_left_in_the_middle_is_gone_on_with_and_one_that_ended_is_only_recorded(world: Callable[[str], World]) -> None:
    w = world('project.schedule("a", flow, when=tr.cron("0 * * * *"))\nproject.schedule("b", flow, when=tr.cron("0 * * * *"))')
    w.tick()
    w.clock.pass_(hours=1)
    w.scheduler.notice(w.clock.now())
    first, second = w.scheduler.claim(w.clock.now()), w.scheduler.claim(w.clock.now())
    assert first is not None
    assert second is not None
    dead = {"status": "interrupted", "started": iso(w.clock.now()), "cause": {}}
    w.ledger.put(RUN, first["run"], dead)
    w.ledger.put(RUN, second["run"], {**dead, "status": "done"})
    w.scheduler = w.another()  # the first has left
    assert w.tick() == [{"run": first["run"], "resumed": True}]
    assert {s["status"] for s in w.slots()} == {"done"}
