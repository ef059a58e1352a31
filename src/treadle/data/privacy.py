"""Which columns hold personal data: a suggestion from the names of columns and from what their values look like.

A content rule speaks when nearly all values fit it; where there is a checksum (IBAN, card and national numbers) the values must pass it. Names of
people, addresses and birth dates are told by the column's name, and confirmed by the values. Coordinates are personal only beside a person:
those of an airport are not. It is a suggestion: what is declared (`personal=`) decides.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import polars as pl

MOST = 2_000  # different values looked at in a column
_SURE = 0.9  # the share of values that must fit
_LEAST = 3  # different values, before their look says anything

_EMAIL = re.compile(r"[^@\s,;<>]+@[^@\s,;<>]+\.[A-Za-z]{2,}")
_PHONE = re.compile(
    r"(?:\+|00)[1-9][\d ()./-]{6,18}\d|\(?0\d{1,4}\)?[ /.-][\d ./-]{5,12}\d|\(\d{3}\) ?\d{3}[-. ]\d{4}|\d{3}[-. ]\d{3}[-. ]\d{4}"
)
_DATE = re.compile(r"\d{1,2}[-/. ]\d{1,2}[-/. ](?:\d{2}|\d{4})\b|(?:19|20)\d{2}[-/. ]\d{1,2}[-/. ]\d{1,2}\b")
_DIGITS = re.compile(r"\+?\d{7,15}")
_CARD = re.compile(r"[3-6]\d{3}[ -]?\d{4}[ -]?\d{4}[ -]?\d{1,7}|3[47]\d{2}[ -]?\d{6}[ -]?\d{5}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}")
_POINT = re.compile(r"\(?\s*-?\d{1,2}\.\d{3,}\s*[,; ]\s*-?\d{1,3}\.\d{3,}\s*\)?")
_PERSON = re.compile(r"[^\W\d_][^\W\d_.'’-]*(?:[ '’-][^\W\d_][^\W\d_.'’-]*\.?){0,4}")
_STREET = re.compile(r"(?=.*[^\W\d_]{3})(?=.*\d).{5,}", re.S)

_WORDS: Mapping[str, set[str]] = {
    "email": {"email", "emails", "mail"},
    "phone": {"phone", "phones", "mobile", "tel", "telephone", "telefon", "cellphone", "cell", "fax", "msisdn", "handy"},
    "iban": {"iban"},
    "card": {"card", "creditcard", "pan", "cc"},
    "ip": {"ip", "ipv4", "ipv6", "ipaddress"},
    "national_id": {"ssn", "ahv", "avs", "pesel", "nin", "nino", "bsn", "cpf", "dni", "nir", "passport"},
    "address": {"street", "address", "addr", "strasse", "adresse", "rue"},
}
_WHICH = ("first", "last", "full", "given", "family", "middle", "maiden")
_GIVEN = {"surname", "forename", "vorname", "nachname", *(f"{which}name" for which in _WHICH)}
_GIVEN_PAIRS = {(which, "name") for which in _WHICH}
_OF_PEOPLE = {"customer", "client", "user", "person", "patient", "employee", "member", "passenger", "driver", "owner", "contact", "guest",
              "student", "teacher", "doctor", "applicant", "holder", "buyer", "recipient", "sender", "courier", "rider", "cardholder",
              "beneficiary"}  # fmt: skip
_BIRTH = {"birth", "birthday", "birthdate", "born", "dob", "dateofbirth", "geburtsdatum", "geburtstag"}
_LATITUDE, _LONGITUDE = {"lat", "latitude"}, {"lon", "lng", "long", "longitude"}
_HOME = _OF_PEOPLE | {"home", "gps", "residence"}
_COMMON = (  # enough to tell a column of people from one of things
    "james mary john patricia robert jennifer michael linda david elizabeth william barbara richard susan joseph jessica thomas sarah charles karen "
    "lisa daniel nancy matthew anthony mark paul steven andrew joshua kevin brian george edward anna maria peter hans julia laura marie sophie emma "
    "lena mia noah liam oliver lucas leon felix max jan tom tim ben nina eva sara sofia olga ivan pavel jose juan carlos luis pedro ana carmen luca "
    "marco giulia paolo francesca pierre jean claire camille ahmed mohamed fatima ali omar wei li ming yuki kenji priya raj amit ada alan grace "
    "alice bob carol dave erin frank heidi oscar victor walter ruth helen diana martha rose jack harry emily chloe lucy ella amelia"
)
_FIRST_NAMES = frozenset(_COMMON.split())


@dataclass(frozen=True)
class Suspicion:
    """That a column holds personal data of a sort, and why."""

    column: str
    kind: str
    why: str


def suspicions(frame: pl.DataFrame) -> list[Suspicion]:
    """The columns of a table that seem to hold personal data, in their order."""
    found: dict[str, Suspicion] = {}
    later: list[tuple[str, str]] = []
    for name in frame.columns:
        values = _sample(frame[name])
        kind, why = _kind(name, frame[name].dtype, values)
        if kind == "location":
            later.append((name, why))
        elif kind:
            found[name] = Suspicion(name, kind, why)
    for name, why in later:
        if found or set(words(name)) & _HOME:
            found[name] = Suspicion(name, "location", why)
    return [found[name] for name in frame.columns if name in found]


def words(name: str) -> list[str]:
    """The words of a column name, lower case: 'customerEmail' and 'Customer E-Mail' both give customer, email."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    plain = [w for w in re.split(r"[\W_]+", split.casefold()) if w]
    joined: list[str] = []
    for word in plain:
        if joined and joined[-1] == "e" and word == "mail":
            joined[-1] = "email"
        else:
            joined.append(word)
    return joined


def _sample(values: pl.Series) -> list[str]:
    if not (values.dtype == pl.String or values.dtype.is_integer() or isinstance(values.dtype, pl.Categorical | pl.Enum)):
        return []
    texts = values.drop_nulls().cast(pl.String).str.strip_chars()
    texts = texts.filter(texts != "").unique(maintain_order=True)
    return texts.gather_every(max(1, len(texts) // MOST)).head(MOST).to_list()


def _kind(name: str, dtype: pl.DataType, values: list[str]) -> tuple[str, str]:
    said = words(name)
    dated, placed = isinstance(dtype, pl.Datetime | pl.Date) or dtype == pl.String, dtype.is_float() or dtype == pl.String
    if dated and set(said) & _BIRTH and not set(said) & {"place", "country", "city", "weight", "order", "rate"}:
        return "birth_date", "its name says birth"
    if placed and set(said) & (_LATITUDE | _LONGITUDE) and not set(said) & {"distance", "term", "run"}:
        return "location", "its name says where something is, beside what names a person"
    if not values:
        return "", ""
    text = dtype == pl.String or not dtype.is_integer()
    for kind, what, fits, needs_text in _CONTENT:
        named = bool(set(said) & _WORDS.get(kind, set()))
        share = sum(map(fits, values)) / len(values)
        looks = (text or not needs_text) and share >= _SURE and (len(values) >= _LEAST or named)
        if looks or (named and text and share >= 0.5):
            return kind, f"{share:.0%} of its values are {what}"
    if set(said) & _WORDS["phone"] and _share(_DIGITS.fullmatch, values) >= _SURE:
        return "phone", "its name says phone, and its values are numbers as long"
    if not text:
        return "", ""
    by_name = bool(set(said) & _GIVEN) or any(pair in _GIVEN_PAIRS for pair in pairwise(said))
    of_people = "name" in said and bool(set(said) & _OF_PEOPLE)
    if (by_name or of_people) and _share(_PERSON.fullmatch, values) >= 0.8:
        return "name", "its name says that it names people"
    if said == ["name"] or set(said) & _OF_PEOPLE:
        first = [v.split()[0].casefold() in _FIRST_NAMES for v in values if _PERSON.fullmatch(v)]
        if len(first) >= _LEAST and sum(first) / len(values) >= 0.3:
            return "name", f"{sum(first) / len(values):.0%} of its values begin with a first name"
    if set(said) & _WORDS["address"] and not set(said) & {"mac", "wallet", "memory", "web", "url"} and _share(_STREET.fullmatch, values) >= 0.6:
        return "address", "its name says address, and its values are words with a number"
    if _share(_POINT.fullmatch, values) >= _SURE and len(values) >= _LEAST:
        return "location", "its values are coordinates"
    return "", ""


def _share(fits: Callable[[str], object], values: list[str]) -> float:
    return sum(1 for v in values if fits(v)) / len(values)


def _is_email(text: str) -> bool:
    return _EMAIL.fullmatch(text) is not None


def _is_phone(text: str) -> bool:
    return _PHONE.fullmatch(text) is not None and _DATE.match(text) is None and 7 <= sum(c.isdigit() for c in text) <= 15


def _is_ip(text: str) -> bool:
    if not ("." in text or ":" in text):
        return False
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_iban(text: str) -> bool:
    """Whether a text is an account number whose check digits are right (ISO 13616: the number, moved round by four, is 1 modulo 97).

    >>> is_iban("CH93 0076 2011 6238 5295 7"), is_iban("CH93 0076 2011 6238 5295 8")
    (True, False)
    """
    plain = text.replace(" ", "").upper()
    if not _IBAN.fullmatch(plain):
        return False
    return int("".join(str(int(c, 36)) for c in plain[4:] + plain[:4])) % 97 == 1


def is_card(text: str) -> bool:
    """Whether a text is a payment card number whose last digit is right (Luhn, ISO/IEC 7812).

    >>> is_card("4111 1111 1111 1111"), is_card("4111 1111 1111 1112")
    (True, False)
    """
    if not _CARD.fullmatch(text):
        return False
    digits = [int(c) for c in text if c.isdigit()]
    doubled = [d if i % 2 == 0 else d * 2 - 9 * (d > 4) for i, d in enumerate(reversed(digits))]
    return 13 <= len(digits) <= 19 and sum(doubled) % 10 == 0


def is_national_id(text: str) -> bool:
    """Whether a text is a number that a state gives its people and that passes its checksum, or, where it has none, its form.

    Known: AHV/AVS (CH), PESEL (PL), NIR (FR), DNI (ES), codice fiscale (IT), BSN (NL), CPF (BR), SSN (US), National Insurance (UK).

    >>> is_national_id("756.9217.0769.85"), is_national_id("756.9217.0769.86"), is_national_id("078-05-1120")
    (True, False, True)
    """
    return any(check(text.strip()) for check in _NATIONAL)


def _ahv(text: str) -> bool:
    if not re.fullmatch(r"756\.?\d{4}\.?\d{4}\.?\d{2}", text):
        return False
    d = [int(c) for c in text if c.isdigit()]
    return (10 - sum(v * (1, 3)[i % 2] for i, v in enumerate(d[:12])) % 10) % 10 == d[12]


def _pesel(text: str) -> bool:
    if not re.fullmatch(r"\d{11}", text) or not (1 <= int(text[2:4]) % 20 <= 12 and 1 <= int(text[4:6]) <= 31):
        return False
    return sum(int(c) * w for c, w in zip(text, (1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1))) % 10 == 0


def _nir(text: str) -> bool:
    plain = text.replace(" ", "")
    if not re.fullmatch(r"[12]\d{4}(?:\d{2}|2A|2B)\d{8}", plain):
        return False
    number = int(plain[:13].replace("2A", "19").replace("2B", "18"))
    return 97 - number % 97 == int(plain[13:])


def _dni(text: str) -> bool:
    match = re.fullmatch(r"([XYZ]?)(\d{7,8})-?([A-Z])", text)
    if match is None or len(match[1]) + len(match[2]) != 8:
        return False
    number = int({"X": "0", "Y": "1", "Z": "2", "": ""}[match[1]] + match[2])
    return "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == match[3]


def _codice_fiscale(text: str) -> bool:
    plain = text.upper()
    if not re.fullmatch(r"[A-Z]{6}\d{2}[A-EHLMPRST]\d{2}[A-Z]\d{3}[A-Z]", plain):
        return False
    letters = (1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23)
    odd = {**dict(zip("0123456789", letters)), **{chr(65 + i): value for i, value in enumerate(letters)}}
    total = sum(odd[c] if i % 2 == 0 else (int(c) if c.isdigit() else ord(c) - 65) for i, c in enumerate(plain[:15]))
    return chr(65 + total % 26) == plain[15]


def _bsn(text: str) -> bool:
    if not re.fullmatch(r"\d{9}", text) or text == "000000000":
        return False
    return sum(int(c) * w for c, w in zip(text, (9, 8, 7, 6, 5, 4, 3, 2, -1))) % 11 == 0


def _cpf(text: str) -> bool:
    if not re.fullmatch(r"\d{3}\.?\d{3}\.?\d{3}-?\d{2}", text):
        return False
    d = [int(c) for c in text if c.isdigit()]
    if len(set(d)) == 1:
        return False
    return all(sum(v * w for v, w in zip(d, range(n + 1, 1, -1))) * 10 % 11 % 10 == d[n] for n in (9, 10))


def _ssn(text: str) -> bool:
    return re.fullmatch(r"(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}", text) is not None


def _nino(text: str) -> bool:
    return re.fullmatch(r"(?!BG|GB|NK|KN|TN|NT|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?\d{2} ?\d{2} ?\d{2} ?[A-D]", text) is not None


_NATIONAL = (_ahv, _pesel, _nir, _dni, _codice_fiscale, _bsn, _cpf, _ssn, _nino)
_CONTENT: tuple[tuple[str, str, Callable[[str], bool], bool], ...] = (
    ("email", "e-mail addresses", _is_email, True),
    ("iban", "account numbers with right check digits", is_iban, True),
    ("national_id", "national numbers with right check digits or form", is_national_id, False),
    ("card", "card numbers with a right check digit", is_card, False),
    ("ip", "IP addresses", _is_ip, True),
    ("phone", "telephone numbers", _is_phone, True),
)
