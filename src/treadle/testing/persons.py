"""A tiny project about persons, who are invented: customers who rent bicycles, two views of them, and a model that learns who is late.

`write_persons` writes it; `ADA` is the person whom tests plant and search for.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple


class Person(NamedTuple):
    id: str
    name: str
    email: str


ADA = Person("cust-0042", "Adalind Quarrowby", "adalind.q@quarrowby.example")
OLD_EMAIL = "ada.old@quarrowby.example"  # for tests that give Ada another address at first
BAD = Person("cust-0043", "Bertolt Ümlautsson", "bertolt@ümlautsson.example")  # his birthday does not read: a row set aside
CUSTOMERS = 60

PROJECT = '''"""Who brings a bicycle back late?"""

import polars as pl

import treadle as tr

project = tr.Project("bike-rental", owner="front desk", goal="remind those who are about to be late")

customers = project.dataset(
    "customers",
    source=tr.csv("customers.csv"),
    key="customer",
    event_time="joined",
    subject="customer",
    description="Everybody who has rented a bicycle.",
    contract=tr.Contract(
        {
            "customer": tr.text(unique=True, description="the customer's number"),
            "name": tr.text(personal="name"),
            "email": tr.text(personal="email"),
            "born": tr.integer(ge=1900, le=2020, unit="year"),
            "joined": tr.timestamp(),
        }
    ),
    datasheet=tr.datasheet(motivation="To know who has our bicycles.", limits="Not for advertising.", licence="CC0-1.0"),
)

rentals = project.dataset(
    "rentals",
    source=tr.csv("rentals.csv"),
    key="rental",
    event_time="out",
    known_time="back",
    subject="customer",
    contract=tr.Contract(
        {
            "rental": tr.text(unique=True),
            "customer": tr.text(),
            "out": tr.timestamp(),
            "back": tr.timestamp(),
            "hours": tr.number(ge=0, le=48, unit="h"),
            "bike": tr.category(isin=("city", "cargo", "race")),
            "late": tr.boolean(),
            "note": tr.text(nullable=True),
        }
    ),
)

profile = project.view("profile", source=customers, entity="customer", features=["born"])
habits = project.view("habits", source=rentals, entity="customer", features={"rented_hours": pl.col("hours").sum()}, window="30d", every="1d")

late = project.model(
    "late-return",
    rows=rentals,
    target="late",
    inputs=["hours", "bike"],
    views=[profile, habits],
    candidates=[tr.candidate("logistic")],
    split=tr.by_time(test="20d"),
    trials=2,
    gates=[],
)
'''


def write_persons(folder: Path, *, mention: bool = False) -> Path:
    """The project, with its data.

    Args:
        mention: a note in another person's row says Ada's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "project.py").write_text(PROJECT, "utf-8")
    rng = random.Random(7)
    begin = datetime(2026, 1, 1)
    people = [ADA, BAD, *(Person(f"cust-{n:04d}", f"{rng.choice(_FIRST)} {rng.choice(_LAST)} {n}", f"c{n}@riders.example") for n in range(100, 158))]
    lines = ["customer,name,email,born,joined"]
    for i, p in enumerate(people):
        born = "long ago" if p is BAD else str(rng.randint(1950, 2005))
        lines.append(f"{p.id},{p.name},{p.email},{born},{(begin - timedelta(days=60 - i)).isoformat()}Z")
    (folder / "customers.csv").write_text("\n".join(lines) + "\n", "utf-8")
    lines = ["rental,customer,out,back,hours,bike,late,note"]
    for n in range(600):
        p = people[n % len(people)]
        out = begin + timedelta(hours=n * 3)
        hours = round(rng.uniform(0.5, 12), 2)
        is_late = rng.random() < (0.8 if hours > 6 else 0.2)
        note = f"left the keys with {ADA.name}" if mention and n == 5 else ""
        back = out + timedelta(hours=hours)
        lines.append(f"r-{n:05d},{p.id},{out.isoformat()}Z,{back.isoformat()}Z,{hours},{rng.choice(_BIKES)},{is_late},{note}")
    (folder / "rentals.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


_FIRST = ("Orla", "Tomas", "Wren", "Ikka", "Maelle", "Jory")
_LAST = ("Fenwater", "Stonecrop", "Ashgrove", "Larkmoor", "Pebble")
_BIKES = ("city", "cargo", "race")
