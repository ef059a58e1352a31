"""Read the US census rows of the nannyml wheel: Massachusetts, 2015, who is employed.

The wheel is only a carrier of data: it is found on disk and never imported. The codes of the American Community Survey are written out where a reader
needs them; nothing else is changed.
"""

import importlib.util
from pathlib import Path

import polars as pl

RACES = {"1": "white", "2": "black", "6": "asian", "8": "other", "9": "several"}
CODES = ("SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM")


def read_census() -> pl.DataFrame:
    """One row a person: age, codes as text, sex and race in words, and whether the person is employed."""
    rows = pl.read_parquet(_data_folder() / "employment_MA_reference.pq")
    text = [pl.col(c).cast(pl.String) for c in (*CODES, "SEX", "RAC1P")]
    return rows.select(
        pl.col("id").alias("person"),
        pl.col("AGEP").alias("age"),
        *[t.alias(name.lower()) for t, name in zip(text, CODES)],
        pl.col("SEX").cast(pl.String).replace_strict({"1": "male", "2": "female"}, default="unknown").alias("sex"),
        pl.col("RAC1P").cast(pl.String).replace_strict(RACES, default="native or islander").alias("race"),
        (pl.col("employed") == 1).alias("employed"),
    ).sort("person")


def _data_folder() -> Path:
    """The folder of data files inside the installed nannyml wheel."""
    spec = importlib.util.find_spec("nannyml")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the census example reads its data from the nannyml package: pip install --no-deps nannyml")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
