"""Is a person employed? Asked of the US census of Massachusetts, 2015, to show how fairness is measured and what evening out costs.

Sex and race are protected and no inputs; age is both. `employed` is what the census says, not what anybody deserves.
"""

from census import CODES, read_census

import treadle as tr

project = tr.Project("census", owner="fairness desk", goal="show how groups are treated, on data that everybody can have")

people = project.dataset(
    "people",
    source=tr.rows(read_census, package="nannyml"),
    key="person",
    contract=tr.Contract(
        columns={
            "person": tr.integer(unique=True), "age": tr.number(ge=0, le=120, unit="years"), **{c.lower(): tr.category(nullable=True) for c in CODES},
            "sex": tr.category(), "race": tr.category(), "employed": tr.boolean(),
        }
    ),
)  # fmt: skip

employed = project.model(
    "employed",
    rows=people,
    target="employed",
    inputs=["age", *(c.lower() for c in CODES)],
    candidates=[
        tr.candidate("logistic"), tr.candidate("lightgbm", n_estimators=[100], learning_rate=(0.05, 0.15, "log"), num_leaves=[15, 31]),
    ],
    split=tr.at_random(0.25, folds=3),
    slices=["sex", "race"],
    protected=["sex", "race"],
    invariances=["mig"],
    intended_use="show how Treadle measures fairness; for no decision about anybody",
    excluded_use="any decision about a person",
    gates=[
        tr.enough_rows(2_000), tr.signal(), tr.beats_baseline(), tr.no_leakage(), tr.calibrated(0.05), tr.better_than_luck(), tr.covered(),
        tr.no_weak_slice(0.1), tr.robust(), tr.fair(ratio=0.8, odds=0.2), tr.explained(), tr.fast(), tr.small(), tr.licensed(),
        tr.signature(), tr.carded(),
    ],
    trials=5,
)  # fmt: skip
