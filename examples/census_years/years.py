"""Read the US census rows of the nannyml wheel for the years 2015 to 2018: Massachusetts, who is employed.

The wheel is only a carrier of data: it is found on disk and never imported. The census says the year of a row and no day. Here the rows of a year are
spread evenly over it, in an order that mixes their numbers, and what a person answered is known 30 days later. So what changes from year to year
is real, and what seems to happen within a year is not.
"""

import importlib.util
from pathlib import Path

import polars as pl

CODES = ("SCHL", "MAR", "RELP", "DIS", "ESP", "CIT", "MIG", "MIL", "ANC", "NATIVITY", "DEAR", "DEYE", "DREM")


def read_years() -> pl.DataFrame:
    """One row a person: when it was asked, when its answer was known, age, codes as text, sex, and whether the person is employed."""
    folder = _data_folder()
    later = pl.read_parquet(folder / "employment_MA_analysis.pq").join(pl.read_parquet(folder / "employment_MA_analysis_target.pq"), on="id")
    columns = ["id", "AGEP", *CODES, "SEX", "year", "employed"]
    rows = pl.concat([pl.read_parquet(folder / "employment_MA_reference.pq").select(columns).cast(dict.fromkeys((*CODES, "SEX"), pl.String)),
                      later.select(columns).cast(dict.fromkeys((*CODES, "SEX"), pl.String))])  # fmt: skip
    place = (pl.col("id") * 48271 % 2147483647).rank("ordinal").over("year") / (pl.len().over("year") + 1)
    begin, end = pl.datetime(pl.col("year"), 1, 1, time_zone="UTC"), pl.datetime(pl.col("year") + 1, 1, 1, time_zone="UTC")
    micros = begin.dt.timestamp("us") + (place * (end.dt.timestamp("us") - begin.dt.timestamp("us"))).cast(pl.Int64)
    asked_at = pl.from_epoch(micros, time_unit="us").dt.replace_time_zone("UTC")
    return rows.select(
        pl.col("id").alias("person"), asked_at.alias("asked_at"), (asked_at + pl.duration(days=30)).alias("known_at"), pl.col("AGEP").alias("age"),
        *[pl.col(c).alias(c.lower()) for c in CODES], pl.col("SEX").alias("sex"), (pl.col("employed") == 1).alias("employed"),
    ).sort("asked_at", "person")  # fmt: skip


def _data_folder() -> Path:
    """The folder of data files inside the installed nannyml wheel."""
    spec = importlib.util.find_spec("nannyml")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("the census example reads its data from the nannyml package: pip install --no-deps nannyml")
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"
