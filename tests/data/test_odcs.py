"""Contract files: what is written is as the standard says (its official JSON schema, version 3.1.0, lies beside this file: Apache-2.0, Bitol, a
project of LF AI & Data), and reads back as the same contract; what others write is read as far as it has a counterpart, and the rest is named."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import treadle as tr
from treadle.core.declare.data import PROMISES, Contract, Dataset
from treadle.core.errors import DataError, NotFound
from treadle.core.schema import Column
from treadle.data import odcs

SCHEMA = json.loads((Path(__file__).parent / "odcs-json-schema-v3.1.0.json").read_text("utf-8"))
OFFICIAL = jsonschema.Draft201909Validator(SCHEMA)

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=12)
FINITE = st.floats(-1e6, 1e6)


@st.composite
def columns(draw: st.DrawFn) -> Column:
    kind = draw(st.sampled_from(["number", "integer", "category", "text", "boolean", "timestamp"]))
    said: dict[str, Any] = {
        "nullable": draw(st.booleans()), "description": draw(TEXTS), "personal": draw(st.sampled_from(["", "email", "name"])),
        "policy": draw(st.sampled_from(["", "deprecated", "protected"])),
    }  # fmt: skip
    if kind in ("number", "integer"):
        bound = st.none() | (FINITE if kind == "number" else st.integers(-1000, 1000))
        said |= {"ge": draw(bound), "le": draw(bound), "unit": draw(TEXTS)}
        if said["ge"] is not None and said["le"] is not None and said["ge"] > said["le"]:
            said["ge"], said["le"] = said["le"], said["ge"]
    if kind in ("text", "category"):
        said |= {"pattern": draw(st.sampled_from(["", "[A-Z]{2}", "a|b", "x.*", "^y$"]))}
        low, high = draw(st.none() | st.integers(0, 5)), draw(st.none() | st.integers(5, 9))
        said |= {"min_length": low, "max_length": high}
    if kind == "category":
        said["isin"] = draw(st.none() | st.lists(TEXTS | st.integers(0, 9), min_size=1, max_size=4, unique_by=str).map(tuple))
    if kind in ("integer", "text"):
        said["unique"] = draw(st.booleans())
    if kind == "timestamp":
        said["not_after"] = draw(st.sampled_from(["", "now", "2030-01-01", "2030-01-01T10:00:00Z"]))
        said["tolerance"] = timedelta(seconds=draw(st.integers(0, 7200)))
    return Column(kind, **said)


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    cols = draw(st.dictionaries(NAMES, columns(), min_size=1, max_size=5))
    named = list(cols)
    volume = draw(st.none() | st.tuples(st.none() | st.integers(0, 50), st.none() | st.integers(50, 90)))
    contract = Contract(
        cols,
        draw(st.dictionaries(TEXTS.filter(lambda t: t.strip() == t and t), st.sampled_from(["a <= b", "x IN ('p', 'q')", "(a + b) > 0"]), max_size=2)),
        draw(st.floats(0, 1)),
        unique=tuple(draw(st.lists(st.lists(st.sampled_from(named), min_size=1, max_size=2, unique=True).map(tuple), max_size=2))),
        fresh=draw(st.none() | st.integers(1, 10**6).map(lambda s: timedelta(seconds=s))),
        volume=volume,
        volume_change=draw(st.none() | st.floats(0.01, 3)),
        like=draw(st.none() | st.just(tr.like("previous", {named[0]: {"psi": 0.2, "missing": 0.05}}))),
        stop_on=tuple(draw(st.lists(st.sampled_from(PROMISES), unique=True))),
    )
    return tr.Project("shop", owner=draw(TEXTS)).dataset(
        "orders", source=tr.csv("orders.csv"), key=tuple(draw(st.lists(st.sampled_from([*named, "extra"]), min_size=1, max_size=2, unique=True))),
        event_time=draw(st.none() | st.just("at")) if contract.fresh is None else "at", contract=contract, description=draw(TEXTS),
        subject=draw(st.sampled_from(["", named[0]])),
    )  # fmt: skip


@given(datasets())
def test_a_contract_that_is_written_and_read_is_the_same_and_its_file_is_as_the_standard_says(dataset: Dataset) -> None:
    text = odcs.export(dataset, project="shop")
    document = yaml.safe_load(text)
    assert [e.message for e in OFFICIAL.iter_errors(document)] == []
    back = odcs.parse(text)
    assert back.left_out == ()
    assert back.contract == dataset.contract
    assert (back.name, back.key, back.event_time, back.subject) == (dataset.name, dataset.key, dataset.event_time, dataset.subject)
    assert back.owner == dataset.owner
    assert back.description == dataset.description


def test_the_validator_is_strict_about_what_it_is_given() -> None:
    good = yaml.safe_load(odcs.export(shop()))
    assert not list(OFFICIAL.iter_errors(good))
    assert list(OFFICIAL.iter_errors({**good, "columns": []}))
    del good["id"]
    assert list(OFFICIAL.iter_errors(good))


def shop(rules: Any = None) -> Dataset:
    contract = tr.Contract({"id": tr.integer(unique=True), "paid": tr.number(ge=0), "amount": tr.number(ge=0)}, rules or {})
    return tr.Project("shop", owner="sales").dataset("orders", source=tr.csv("orders.csv"), key="id", contract=contract)


@pytest.mark.parametrize(
    "rule",
    [
        pl.col("paid") <= pl.col("amount"), pl.col("paid").is_between(0, 3) | pl.col("id").is_null(), pl.col("at").dt.hour() < 20,
        pl.col("city").str.to_lowercase().is_in(["basel", "zug"]),
    ],
)  # fmt: skip
def test_a_rule_of_polars_is_written_and_read_as_the_same_expression(rule: pl.Expr) -> None:
    text = odcs.export(shop({"holds": rule}))
    assert not list(OFFICIAL.iter_errors(yaml.safe_load(text)))
    assert odcs.parse(text).contract.rules["holds"].meta.eq(rule)


def test_a_rule_that_calls_python_is_not_written_and_not_read() -> None:
    calls = pl.col("paid").map_batches(lambda values: values > 1, return_dtype=pl.Boolean)
    with pytest.raises(DataError, match="'holds' cannot be written into a contract file: it uses AnonymousFunction"):
        odcs.export(shop({"holds": calls}))
    text = yaml.safe_load(odcs.export(shop({"holds": pl.col("paid") > 1})))
    rule = next(q for q in text["schema"][0]["quality"] if q["name"] == "holds")
    rule["implementation"]["polars"] = json.loads(calls.meta.serialize(format="json"))
    with pytest.raises(DataError, match="'holds' of the contract file is refused: it uses AnonymousFunction"):
        odcs.parse(yaml.safe_dump(text))


FOREIGN = """
apiVersion: v3.1.0
kind: DataContract
id: 53581432-6c55-4ba2-a65f-72344a91553a
version: 2.1.0
status: active
team: {name: finance, members: [{username: ada, role: owner}]}
slaProperties:
  - {property: latency, value: 4, unit: days, element: orders.at}
  - {property: retention, value: 3, unit: y}
schema:
  - name: orders
    quality:
      - {metric: rowCount, mustBeGreaterThan: 1000}
      - {type: text, description: people have looked at it}
      - {type: custom, engine: soda, implementation: "checks"}
    properties:
      - {name: order_id, primaryKey: true, primaryKeyPosition: 2, logicalType: integer, required: true, logicalTypeOptions: {exclusiveMinimum: 0}}
      - {name: shop, primaryKey: true, primaryKeyPosition: 1, logicalType: string, required: true, logicalTypeOptions: {pattern: "[A-Z]+"}}
      - {name: at, logicalType: timestamp, logicalTypeOptions: {minimum: "2020-01-01"}}
      - name: state
        logicalType: string
        quality: [{metric: invalidValues, arguments: {validValues: [open, paid]}, mustBe: 0}]
      - {name: tags, logicalType: array, items: {logicalType: string}}
"""


def test_a_file_of_others_is_read_as_far_as_it_has_a_counterpart_and_the_rest_is_named() -> None:
    assert not list(OFFICIAL.iter_errors(yaml.safe_load(FOREIGN)))
    found = odcs.parse(FOREIGN)
    assert found.key == ("shop", "order_id")
    assert found.owner == "ada"
    assert found.contract.fresh == timedelta(days=4)
    assert found.contract.volume == (1001, None)
    assert found.contract.columns == {
        "order_id": Column("integer", ge=1), "shop": Column("text", pattern=r"[\s\S]*(?:[A-Z]+)[\s\S]*"), "at": Column("timestamp", nullable=True),
        "state": Column("category", nullable=True, isin=("open", "paid")),
    }  # fmt: skip
    assert found.left_out == (
        "column 'at': minimum='2020-01-01' has no counterpart, and is not checked",
        "column 'tags': array has no counterpart, and is not checked",
        "quality rule 'people have looked at it' is not checked",
        "quality rule 'custom' is not checked",
        "service level 'retention': it is agreed between people, and not checked",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML"),
        ("just words", "does not say 'kind: DataContract'"),
        ("kind: DataContract\napiVersion: v2.2.2", "The contract is of ODCS 'v2.2.2'"),
        ("kind: DataContract\napiVersion: v3.1.0\nschema: [{name: a, properties: [1]}]", "is not as the standard says"),
        ("kind: DataContract\napiVersion: v3.1.0\nschema: [{name: a, properties: [{name: b, logicalType: integer, primaryKeyPosition: x, primaryKey: true}]}]",
         "is not as the standard says"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_contract_is_refused_in_a_sentence(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        odcs.parse(text)


def test_of_several_tables_one_must_be_named() -> None:
    text = yaml.safe_dump({"kind": "DataContract", "apiVersion": "v3.1.0", "schema": [{"name": "a"}, {"name": "b"}]})
    with pytest.raises(NotFound, match="The contract has 2 tables"):
        odcs.parse(text)
    assert odcs.parse(text, table="b").name == "b"
    with pytest.raises(NotFound, match="no table 'c'"):
        odcs.parse(text, table="c")


def test_a_project_reads_the_contract_that_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "orders.odcs.yaml").write_text(odcs.export(shop()), encoding="utf-8")
    file = tmp_path / "project.py"
    file.write_text("import treadle as tr\ncontract = tr.contract_from('orders.odcs.yaml')\n", encoding="utf-8")
    scope: dict[str, Any] = {}
    exec(compile(file.read_text("utf-8"), str(file), "exec"), scope)
    assert scope["contract"] == shop().contract
