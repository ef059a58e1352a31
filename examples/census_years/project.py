"""Four years of the US census of Massachusetts, to see what a policy of retraining is worth where the world changes slowly.

`treadle -C examples/census_years backtest employed` compares the policies in some minutes.
"""

from years import CODES, read_years

import treadle as tr

project = tr.Project("census-years", owner="labour desk", goal="show what retraining is worth on data that everybody can have")

people = project.dataset(
    "people",
    source=tr.rows(read_years, package="nannyml"),
    key="person",
    event_time="asked_at",
    known_time="known_at",
    contract=tr.Contract(
        columns={
            "person": tr.integer(unique=True), "asked_at": tr.timestamp(), "known_at": tr.timestamp(), "age": tr.number(ge=0, le=120, unit="years"),
            **{c.lower(): tr.category(nullable=True) for c in CODES}, "sex": tr.category(), "employed": tr.boolean(),
        }
    ),
)  # fmt: skip

employed = project.model(
    "employed",
    rows=people,
    target="employed",
    inputs=["age", *(c.lower() for c in CODES)],
    candidates=[tr.candidate("lightgbm", n_estimators=[100], learning_rate=[0.1], num_leaves=[15])],
    split=tr.by_time(test="60d"),
    slices=["sex"],
    intended_use="show how policies of retraining are compared; for no decision about anybody",
    excluded_use="any decision about a person",
    gates=[tr.enough_rows(2_000), tr.signal(), tr.beats_baseline(), tr.no_worse_than_champion(margin=0.005)],
    trials=1,
)

project.serve(employed, shadow="14d", canary="20%", canary_for="14d")
project.watch(employed, every="7d", label_window="30d", false_alarms="1 per quarter", retrain=tr.on_evidence(at_most="1 per 60d", every="365d"))
