"""A data set as Croissant (MLCommons, version 1.1 of the format, with its Responsible AI part): JSON-LD that other tools find and load it by.

What nobody declared is left out, not filled with prose. Format: https://docs.mlcommons.org/croissant/docs/croissant-spec.html
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import polars as pl

from treadle.core.errors import NotFound
from treadle.governance.datasheet import Sheet
from treadle.ports.tables import Tables

CONFORMS = "http://mlcommons.org/croissant/1.1"
_RAI = "http://mlcommons.org/croissant/RAI/1.0"
_TYPES = {
    "number": "sc:Float", "integer": "sc:Integer", "category": "sc:Text", "text": "sc:Text", "boolean": "sc:Boolean", "timestamp": "sc:DateTime",
}  # fmt: skip
_CONTEXT: dict[str, Any] = {
    "@language": "en", "@vocab": "https://schema.org/", "arrayShape": "cr:arrayShape", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "containedIn": "cr:containedIn", "description": {"@container": "@language"}, "isArray": "cr:isArray",
    "name": {"@container": "@language"}, "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/", "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace", "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/", "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip


def describe(sheet: Sheet, file: Path | None, url: str) -> dict[str, Any]:
    """The JSON-LD document.

    Args:
        file: the Parquet file with the newest version's rows; without one the document describes, and loads nothing.
        url: where the document says the file is, relative to itself or absolute.
    """
    d, newest = sheet.declared, sheet.newest
    about: dict[str, Any] = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "name": sheet.name, "conformsTo": [CONFORMS, _RAI],
        "description": sheet.description, "license": d.licence, "url": d.url, "citeAs": d.citation,
        "creator": {"@type": "Organization", "name": sheet.owner} if sheet.owner else "",
        "datePublished": newest.get("taken", "")[:10], "version": f"{newest['number'] or len(sheet.versions)}.0.0" if newest else "",
        "keywords": [sheet.project], "isLiveDataset": True,
        "temporalCoverage": f"{newest['start']}/{newest['end']}" if newest.get("start") else "",
        "rai:dataCollection": d.collection, "rai:dataPreprocessingProtocol": [d.preprocessing] if d.preprocessing else "",
        "rai:dataUseCases": [d.uses] if d.uses else "", "rai:dataLimitations": [d.limits] if d.limits else "",
        "rai:dataReleaseMaintenancePlan": d.maintenance,
        "rai:personalSensitiveInformation": [f"{c.name}: {', '.join(c.nature)}" for c in sheet.columns if _personal(c)],
    }  # fmt: skip
    if file is not None:
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        about["distribution"] = [{
            "@type": "cr:FileObject", "@id": "rows-file", "name": file.name, "contentUrl": url, "contentSize": f"{file.stat().st_size} B",
            "encodingFormat": "application/x-parquet", "sha256": digest,
        }]  # fmt: skip
        records = {
            "@type": "cr:RecordSet", "@id": "rows", "name": "rows", "description": d.composition,
            "key": [{"@id": f"rows/{_id(k)}"} for k in sheet.key], "field": [_field(c) for c in sheet.columns],
        }  # fmt: skip
        about["recordSet"] = [{k: v for k, v in records.items() if v}]
    else:  # the format has no columns without a file they are in; schema.org has
        about["variableMeasured"] = [_variable(c) for c in sheet.columns]
    return {k: v for k, v in about.items() if v not in ("", [], {})}


def _field(c: Any) -> dict[str, Any]:
    said = {
        "@type": "cr:Field", "@id": f"rows/{_id(c.name)}", "name": c.name, "description": _told(c), "dataType": _TYPES.get(c.kind, "sc:Text"),
        "source": {"fileObject": {"@id": "rows-file"}, "extract": {"column": c.name}},
    }  # fmt: skip
    return {k: v for k, v in said.items() if v}


def _variable(c: Any) -> dict[str, Any]:
    said = {"@type": "PropertyValue", "name": c.name, "description": _told(c), "unitText": c.unit}
    return {k: v for k, v in said.items() if v}


def _told(c: Any) -> str:
    return "; ".join(filter(None, [c.description, f"unit: {c.unit}" if c.unit else "", ", ".join(c.nature)]))


def _personal(c: Any) -> bool:
    return any(n.startswith("personal") or n == "names the person" for n in c.nature)


def _id(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", name)


def text(sheet: Sheet, tables: Tables, folder: Path, *, place: Path | None, rows: bool) -> str:
    """The document as JSON text.

    Args:
        folder: where the newest version's rows go as one Parquet file, if `rows`.
        place: the file the document is written to, which its link to the rows starts from.
    Raises: NotFound when there are rows to be written and no version was taken.
    """
    file = None
    url = ""
    if rows:
        if not sheet.newest:
            raise NotFound(f"Data set {sheet.name!r} has no version yet.", hint="Take one with: treadle run")
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"{sheet.newest['id']}.parquet"
        # Moments without a zone: readers of this format know none, and all of ours are UTC.
        scan = tables.scan(sheet.newest["address"])
        zoned = [n for n, dtype in scan.collect_schema().items() if isinstance(dtype, pl.Datetime) and dtype.time_zone]
        scan.with_columns(pl.col(zoned).dt.replace_time_zone(None)).collect().write_parquet(file)
        base = (place.parent if place is not None else Path()).resolve()
        url = file.resolve().relative_to(base).as_posix() if file.resolve().is_relative_to(base) else file.resolve().as_uri()
    return json.dumps(describe(sheet, file, url), indent=2, ensure_ascii=False) + "\n"
