"""Will a construction activity keep its schedule? Two data sets, two verdicts.

`published` holds the hundred rows of a published case study: random numbers, which no evidence can promote.
`on-time` is asked of a realistic, GENERATED schedule (`schedules.py`), where there is something to learn.
"""

import polars as pl
from published_data import published_rows
from schedules import generate_schedules

import treadle as tr

project = tr.Project("construction", owner="site office", goal="see two weeks ahead which activities will not keep their date")

published_table = project.dataset(
    "published",
    source=tr.rows(published_rows, package="numpy"),
    key="activity_id",
    contract=tr.Contract(
        columns={
            "activity_id": tr.text(unique=True),
            "project_schedules": tr.integer(ge=1, le=99),
            "construction_activity_data": tr.integer(ge=1, le=99),
            "schedule_adherence": tr.integer(ge=0, le=1),
        }
    ),
)

schedule = project.dataset(
    "schedule",
    source=tr.rows(generate_schedules, package="numpy"),
    key="activity_id",
    event_time="review_at",
    known_time="finished_at",
    contract=tr.Contract(
        columns={
            "activity_id": tr.text(),
            "project_id": tr.category(),
            "trade": tr.category(),
            "crew_size": tr.integer(ge=1, le=60),
            "planned_days": tr.integer(ge=1, le=400, unit="days"),
            "float_days": tr.number(ge=0, unit="days"),
            "supplier_delay_days": tr.number(ge=0, unit="days"),
            "review_at": tr.timestamp(),
            "finished_at": tr.timestamp(nullable=True),
            "on_time": tr.boolean(nullable=True, description="missing while the work is unfinished"),
        },
        rules={"work finishes after it was reviewed": pl.col("finished_at") >= pl.col("review_at")},
        at_most=0.02,
    ),
)

published = project.model(
    "published",
    rows=published_table,
    target="schedule_adherence",
    positive=1,
    inputs=["project_schedules", "construction_activity_data"],
    split=tr.at_random(0.2),
    gates=[tr.enough_rows(), tr.signal(), tr.beats_baseline(), tr.beats_champion(), tr.certain(), tr.no_leakage()],
)

on_time = project.model(
    "on-time",
    rows=schedule,
    target="on_time",
    inputs=[
        "trade", "crew_size", "planned_days", "float_days", "supplier_delay_days", "inspections_failed", "change_orders",
        "rain_days_forecast", "percent_complete_at_review",
    ],
    split=tr.by_time(test="120d"),
    slices=["trade"],
    gates=[tr.enough_rows(500), tr.signal(), tr.beats_baseline(), tr.beats_champion(), tr.certain(0.1), tr.calibrated(0.08)],
)  # fmt: skip

project.serve(on_time)
