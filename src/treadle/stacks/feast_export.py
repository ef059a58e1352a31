"""Our views as a Feast repository: Parquet files, a definitions file and a feature_store.yaml.

Feast joins the latest row at or before a moment. A file holds each value at the moment from which it was known, and a row without values at the
moment a value ends: so Feast's joins give what ours give, with no ttl of its own, and its online store (which applies none) serves no value that has
ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from treadle.core.declare.data import View
from treadle.core.errors import Conflict, UsageError
from treadle.features.history import AT, UNTIL

DATA, DEFINITIONS, STORE = "data", "definitions.py", "feature_store.yaml"
TIME = "event_timestamp"
_ONLINE = {"sqlite": "    type: sqlite\n    path: data/online.db\n"}


def export(project: str, views: Iterable[tuple[View, pl.DataFrame]], folder: Path, *, online: str = "sqlite") -> list[Path]:
    """Write the repository. Views come with their histories.

    Args:
        online: 'sqlite', or the address of a Redis, 'host:port' with what else Feast takes there, like 'host:port,db=1'.
    Raises: Conflict when the folder holds something else.
    """
    listed = list(views)
    if folder.exists() and any(folder.iterdir()) and not (folder / STORE).is_file():
        raise Conflict(f"{folder} is not empty, and no Feast repository.", hint="Name another folder.")
    if not listed:
        raise UsageError("The project declares no view, so there is nothing to export.")
    keys = {column for view, _ in listed for column in view.entity}
    for view, _ in listed:
        taken = next((f for f in view.feature_names() if f in keys), None)
        if taken is not None:
            raise UsageError(
                f"Feature {taken!r} of view {view.name!r} has the name of an entity, and Feast would mix them up.", where=view.place,
                hint="Give the feature another name.",
            )  # fmt: skip
    (folder / DATA).mkdir(parents=True, exist_ok=True)
    files, entities, parts = [], dict[str, str](), []
    for view, values in listed:
        rows = told(view, values)
        file = folder / DATA / f"{feast_name(view.name)}.parquet"
        rows.write_parquet(file)
        files.append(file)
        for column in view.entity:
            kind = entity_type(rows.schema[column], view, column)
            if entities.setdefault(column, kind) != kind:
                raise UsageError(f"The entity {column!r} is {kind} in view {view.name!r}, and {entities[column]} in another.", where=view.place)
        parts.append(_view(view, rows, file.name))
    lines = [
        f'"""The views of the Treadle project {project!r}. Written by `treadle feast export`; written again, it is replaced."""', "",
        "from pathlib import Path", "", "from feast import Entity, FeatureView, Field, FileSource, ValueType",
        "from feast.types import Bool, Float64, String, UnixTimestamp", "", 'DATA = Path(__file__).parent / "data"', "",
        *(f"{_entity(c)} = Entity(name={c!r}, join_keys=[{c!r}], value_type=ValueType.{kind})" for c, kind in entities.items()), "", *parts,
    ]  # fmt: skip
    (folder / DEFINITIONS).write_text("\n".join(lines), "utf-8")
    store = _ONLINE.get(online, f"    type: redis\n    connection_string: {online}\n")
    (folder / STORE).write_text(
        f"project: {feast_name(project)}\nregistry: data/registry.db\nprovider: local\nonline_store:\n{store}"
        "offline_store:\n    type: duckdb\nentity_key_serialization_version: 3\n",
        "utf-8",
    )
    return [folder / STORE, folder / DEFINITIONS, *files]


def told(view: View, values: pl.DataFrame) -> pl.DataFrame:
    """A history as Feast reads one: entity, moment, features; and a row of nulls where a value ends and no other begins."""
    entity, features = list(view.entity), list(view.feature_names())
    last = values.drop_nulls(entity).with_row_index("__row__").sort(AT, "__row__").unique([*entity, AT], keep="last", maintain_order=True)
    numbers = [pl.col(f).cast(pl.Float64) if last.schema[f].is_numeric() else pl.col(f) for f in features]
    whole = last.with_columns(numbers).select(*entity, AT, UNTIL, *features)
    following = pl.col(AT).shift(-1).over(entity)
    ends = whole.filter(pl.col(UNTIL).is_not_null() & (following.is_null() | (following > pl.col(UNTIL))))
    ends = ends.select(*entity, pl.col(UNTIL).alias(AT), *[pl.lit(None, whole.schema[f]).alias(f) for f in features])
    both = pl.concat([whole.drop(UNTIL), ends]).sort(AT, maintain_order=True)
    return both.rename({AT: TIME})


def feast_name(name: str) -> str:
    """A name that Feast takes: letters, digits and '_'."""
    return name.replace("-", "_")


def entity_type(dtype: pl.DataType, view: View, column: str) -> str:
    """Feast's name for the type of an entity. Raises UsageError for one that Feast cannot look up by."""
    if dtype.is_integer():
        return "INT64"
    if dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum):
        return "STRING"
    raise UsageError(f"The entity {column!r} of view {view.name!r} is {dtype}, which Feast does not look up by.", where=view.place)


def _view(view: View, rows: pl.DataFrame, file: str) -> str:
    name = feast_name(view.name)
    fields = "".join(
        f"        Field(name={f!r}, dtype={_type(rows.schema[f])}{f', description={text!r}' if (text := view.descriptions.get(f, '')) else ''}),\n"
        for f in view.feature_names()
    )
    tags = {"treadle_ttl": str(view.ttl)} if view.ttl else {}
    return (
        f"{name} = FeatureView(\n    name={name!r},\n    entities=[{', '.join(map(_entity, view.entity))}],\n    schema=[\n{fields}    ],\n"
        f"    source=FileSource(name={name + '_source'!r}, path=str(DATA / {file!r}), timestamp_field={TIME!r}),\n"
        f"    online=True,\n    description={view.description!r},\n    owner={view.owner!r},\n    tags={tags!r},\n)\n"
    )


def _entity(column: str) -> str:
    return "entity_" + "".join(c if c.isalnum() else "_" for c in column)


def _type(dtype: pl.DataType) -> str:
    if dtype == pl.Boolean:
        return "Bool"
    if dtype.is_numeric() or dtype == pl.Null:
        return "Float64"
    return "UnixTimestamp" if isinstance(dtype, pl.Datetime) else "String"
