"""A realistic construction schedule, GENERATED: no building site stands behind these rows.

No open data set of planned and actual activity dates was found, so this file simulates one: 3 years of staggered projects
whose delays come from suppliers, rain, crews and changed orders, with hidden causes, noise, one change of regime, unfinished
work and broken rows.

>>> rows = generate_schedules(activities=1_000)
>>> rows.height, rows["finished_at"].null_count() > 0
(1000, True)
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

STARTS_AT = datetime(2022, 1, 3, tzinfo=UTC)
CALENDAR_DAYS = 1095
AS_OF = STARTS_AT + timedelta(days=CALENDAR_DAYS)
"""When the table was written (UTC): reviews after it have not happened, work finished after it is still open."""
REGIME_CHANGE_DAY = CALENDAR_DAYS * 4 // 5
REGIME_CHANGE_AT = STARTS_AT + timedelta(days=REGIME_CHANGE_DAY)
"""For work planned to start from here on (UTC), supplier delays double and can be caught up less, and drywall has a slower crew."""
GRACE_DAYS = 2.0
"""Days past the planned finish that still count as on time."""
BROKEN_SHARE = 0.01
"""Share of rows that break a rule on purpose, in four kinds of equal size."""
ACTIVITIES_PER_PROJECT = 60
NEW_SUBCONTRACTOR = "drywall"

# In the order in which a building grows. Columns: trade, works outdoors, needs coordination with other trades, usual crew (people).
TRADES = pl.DataFrame(
    [
        ("groundwork", True, False, 6),
        ("concrete", True, False, 9),
        ("steel", True, False, 6),
        ("roofing", True, False, 5),
        ("plumbing", False, True, 4),
        ("electrical", False, True, 4),
        ("drywall", False, False, 6),
        ("painting", False, False, 4),
    ],
    schema=["trade", "outdoor", "coordinated", "usual_crew"],
    orient="row",
)
FIELDS = (
    "project_id",
    "activity_id",
    "trade",
    "crew_size",
    "planned_start",
    "planned_days",
    "float_days",
    "supplier_delay_days",
    "inspections_failed",
    "change_orders",
    "rain_days_forecast",
    "percent_complete_at_review",
    "review_at",
    "finished_at",
    "on_time",
)


def generate_schedules(activities: int = 12_000, seed: int = 7) -> pl.DataFrame:
    """Return a generated schedule, one row an activity, sorted by review_at. The same arguments give the same rows.

    Known at review_at, the moment of prediction:
        project_id, activity_id (unique, apart from the broken rows), trade
        crew_size: people
        planned_start: UTC; planned_days: calendar days from start to planned finish
        float_days: days the start may slip without harm (slack)
        supplier_delay_days: days by which material arrived late, known before the start
        inspections_failed: failed final inspections so far of earlier activities of the same project and trade
        change_orders: count
        rain_days_forecast: days of rain forecast for the planned span
        percent_complete_at_review: 0 to 100 as reported by the site, which tends to flatter
        review_at: UTC; a quarter to a half of the way to the planned finish
    Known later:
        finished_at: UTC, the moment the truth is known; null while the work is open at AS_OF (censored)
        on_time: finished no more than GRACE_DAYS after the planned finish; null while the work is open

    About BROKEN_SHARE of the rows break a rule, so that a data contract has something to quarantine, a quarter each:
    crew_size negative, planned_days 0, trade missing, activity_id that of another activity of the project.
    Their labels stay those of the unbroken row.
    """
    rng = np.random.default_rng(seed)
    work = _carry_out(rng, _plan(rng, activities))
    rows = _review(rng, work).head(activities)
    return _break_rules(rng, rows).select(FIELDS).sort("review_at", "activity_id")


def _plan(rng: np.random.Generator, activities: int) -> pl.DataFrame:
    """What the planner writes down and what nobody sees: the skill of each crew, the rainfall that will come."""
    # Reviews after AS_OF are dropped later, hence half as many projects again, and a few for small tables.
    projects = 3 + activities * 3 // (2 * ACTIVITIES_PER_PROJECT)
    rows = projects * ACTIVITIES_PER_PROJECT
    project = np.repeat(np.arange(projects), ACTIVITIES_PER_PROJECT)

    # Evenly staggered starts in a shuffled order: any first n projects cover the whole calendar.
    project_start = (rng.permutation(projects) + rng.random(projects)) / projects * (CALENDAR_DAYS - 20)
    project_length = rng.uniform(120, 220, projects)
    place = np.sort(rng.random((projects, ACTIVITIES_PER_PROJECT)), axis=1).ravel()
    start = np.floor(project_start[project] + place * project_length[project])
    trade = np.clip(np.floor((place + rng.normal(0, 0.08, rows)) * TRADES.height), 0, TRADES.height - 1).astype(int)
    outdoor, coordinated, usual_crew = (TRADES[name].to_numpy()[trade] for name in ("outdoor", "coordinated", "usual_crew"))

    days = np.clip(np.round(rng.lognormal(np.log(12), 0.55, rows)), 3, 60)
    crew = np.maximum(1, rng.poisson(usual_crew))
    slack = np.where(rng.random(rows) < 0.35, 0, rng.geometric(0.2, rows))
    new_regime = start >= REGIME_CHANGE_DAY
    supplier_risk = rng.beta(2, 4, projects)[project]
    supplier_delay = np.where(rng.random(rows) < supplier_risk, np.ceil(rng.gamma(2.0, 3.0, rows)), 0) * np.where(new_regime, 2, 1)
    changes = rng.poisson(rng.gamma(1.5, 0.35, projects)[project])

    # Wet winters, dry summers; the forecast is right on average and wrong by a day or so.
    wetness = 0.25 + 0.15 * np.cos(2 * np.pi * (start - 15) / 365.25)
    rain = rng.binomial(days.astype(int), wetness)
    forecast = np.clip(np.round(rain + rng.normal(0, 1.2, rows)), 0, days)

    slowness = rng.normal(0, 0.13, (projects, TRADES.height))[project, trade]
    slowness = slowness + np.where(new_regime & (TRADES["trade"].to_numpy()[trade] == NEW_SUBCONTRACTOR), 0.40, 0.0)
    return pl.DataFrame(
        {
            "project": project,
            "place": np.arange(rows) % ACTIVITIES_PER_PROJECT,
            "trade": TRADES["trade"].to_numpy()[trade],
            "crew_size": crew,
            "usual_crew": usual_crew,
            "start_day": start,
            "planned_days": days.astype(np.int64),
            "float_days": slack,
            "supplier_delay_days": supplier_delay.astype(np.int64),
            "change_orders": changes,
            "rain_days_forecast": forecast.astype(np.int64),
            "rain_days": np.where(outdoor, rain, 0),
            "coordinated": coordinated,
            "slowness": slowness,
            "new_regime": new_regime,
        }
    )


def _carry_out(rng: np.random.Generator, plan: pl.DataFrame) -> pl.DataFrame:
    """What then happens on site: the days the start slips, the days the work takes, whether its final inspection fails."""
    rows = plan.height
    crew = np.log((plan["crew_size"] / plan["usual_crew"]).to_numpy())
    days, slowness, changes = (plan[name].to_numpy() for name in ("planned_days", "slowness", "change_orders"))

    # A late supplier hurts only once the float is used up, and part of what is left can be caught up: less in the new regime,
    # when every site waits for the same material.
    kept = rng.uniform(np.where(plan["new_regime"].to_numpy(), 0.4, 0.0), 1.0)
    slip = kept * np.maximum(0, (plan["supplier_delay_days"] - plan["float_days"]).to_numpy())
    # A small crew is slow; beyond some size people stand in each other's way.
    pace = -0.22 + slowness - 0.12 * np.minimum(crew, 0.3) + 0.20 * np.maximum(0, crew - 0.5) + rng.normal(0, 0.28, rows)
    # Where trades meet, a changed order costs the others' time too.
    per_change = np.where(plan["coordinated"].to_numpy(), 2.2, 1.0) * rng.gamma(3, 1 / 3, rows)
    taken = days * np.exp(pace) + 0.5 * plan["rain_days"].to_numpy() + changes * per_change
    # Never below six tenths of the plan, so that every review comes before the finish.
    taken = np.maximum(0.6 * days, taken)
    fails = rng.random(rows) < 1 / (1 + np.exp(1.6 - 7 * slowness))

    return plan.with_columns(
        slip=slip,
        taken=taken,
        finish_day=pl.Series(plan["start_day"].to_numpy() + slip + taken),
        inspection_failed=fails,
    )


def _review(rng: np.random.Generator, work: pl.DataFrame) -> pl.DataFrame:
    """What the site meeting sees part of the way through, and what the record says at AS_OF."""
    elapsed = rng.uniform(0.25, 0.5, work.height) * work["planned_days"].to_numpy()
    done = (elapsed - work["slip"].to_numpy()) / work["taken"].to_numpy()
    reported = np.clip(done + 0.04 + rng.normal(0, 0.17, work.height), 0, 1)
    review_day = work["start_day"].to_numpy() + elapsed

    seen = work.with_columns(
        review_day=pl.Series(review_day),
        percent_complete_at_review=pl.Series(np.round(100 * reported)),
    ).filter(pl.col("review_day") <= CALENDAR_DAYS)
    finished = pl.col("finish_day") <= CALENDAR_DAYS
    late_by = pl.col("finish_day") - pl.col("start_day") - pl.col("planned_days")
    return _with_failed_inspections(seen).with_columns(
        project_id=pl.format("P{}", pl.col("project").cast(pl.String).str.zfill(4)),
        activity_id=pl.format("P{}-A{}", pl.col("project").cast(pl.String).str.zfill(4), pl.col("place").cast(pl.String).str.zfill(2)),
        planned_start=_moment("start_day"),
        review_at=_moment("review_day"),
        finished_at=pl.when(finished).then(_moment("finish_day")),
        on_time=pl.when(finished).then(late_by <= GRACE_DAYS),
    )


def _with_failed_inspections(seen: pl.DataFrame) -> pl.DataFrame:
    """Count failed final inspections of the same project and trade that had taken place before the review."""
    crew = ["project", "trade"]
    failed = seen.filter("inspection_failed").select(*crew, "finish_day").sort("finish_day")
    failed = failed.with_columns(inspections_failed=pl.int_range(1, pl.len() + 1).over(crew))
    joined = seen.sort("review_day").join_asof(
        failed, left_on="review_day", right_on="finish_day", by=crew, strategy="backward", allow_exact_matches=False, check_sortedness=False
    )
    return joined.with_columns(pl.col("inspections_failed").fill_null(0)).sort("project", "place")


def _break_rules(rng: np.random.Generator, rows: pl.DataFrame) -> pl.DataFrame:
    """Spoil a quarter of BROKEN_SHARE of the rows in each of four ways; no row is spoilt twice."""
    each = round(rows.height * BROKEN_SHARE / 4)
    # A spoilt id is that of the activity before; choosing every second row of a project keeps that one as it was.
    odd = np.flatnonzero(rows.select((pl.int_range(pl.len()).over("project_id") % 2 == 1).alias("odd"))["odd"].to_numpy())
    chosen = rng.choice(odd, size=4 * each, replace=False)
    kind = np.zeros(rows.height, dtype=np.int64)
    kind[chosen] = np.repeat([1, 2, 3, 4], each)
    broken = pl.Series("broken", kind)
    return rows.with_columns(
        crew_size=pl.when(broken == 1).then(-pl.col("crew_size")).otherwise("crew_size"),
        planned_days=pl.when(broken == 2).then(0).otherwise("planned_days"),
        trade=pl.when(broken == 3).then(None).otherwise("trade"),
        activity_id=pl.when(broken == 4).then(pl.col("activity_id").shift(1)).otherwise("activity_id"),
    )


def _moment(day: str) -> pl.Expr:
    """Turn a column of days since STARTS_AT into UTC moments, to the minute."""
    return pl.lit(STARTS_AT) + pl.duration(minutes=(pl.col(day) * 24 * 60).round().cast(pl.Int64))
