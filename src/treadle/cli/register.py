"""`treadle register`: a model that was made elsewhere becomes a version like others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from treadle.cli import show
from treadle.core.errors import UsageError


@click.command(epilog='Example: treadle register file-type model.onnx --labels labels.json --reason "the vendor\'s model of May"')
@click.argument("name")
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--reason", required=True, help="Why it may be served here without evidence of its own; it goes on record with your name.")
@click.option("--labels", metavar="A,B|FILE", help="The classes in the order of the output: with commas, or a JSON file with a list of them.")
@click.option("--columns", metavar="A,B", help="Names for the columns of an input; it is one field with a list of numbers otherwise.")
@click.option("--output", default="", help="Which output is the answer, if the file has several.")
@click.option("--link", type=click.Choice(["softmax", "sigmoid"]), help="What makes probabilities of the output, if it gives log-odds.")
@click.option("--number", is_flag=True, help="The output is a number, not a probability.")
@click.option("--examples", type=click.Path(path_type=Path), help="A JSON file of rows and the answers they must get: {'row': ..., 'answer': ...}.")
@click.option("--python", type=click.Path(path_type=Path), help="For an MLmodel folder: an interpreter with what it needs; else one is made.")
@click.option("--seconds", type=click.FloatRange(0.01, 3600), default=10.0, show_default=True, help="How long a call of an MLmodel folder may take.")
@click.option("--json", "json_", is_flag=True, help="Print the version's record as JSON.")
@click.pass_context
def register(
    ctx: click.Context, name: str, source: Path, reason: str, labels: str | None, columns: str | None, output: str, link: str | None, number: bool,
    examples: Path | None, python: Path | None, seconds: float, json_: bool,
) -> None:  # fmt: skip
    """Take over a model made elsewhere: an ONNX file, or a folder with an MLmodel file. Then: treadle deploy NAME"""
    from treadle.backends.onnx_file import Wish
    from treadle.wheel import take_over

    ws = show.workspace(ctx)
    wish = Wish(
        tuple(c.strip() for c in columns.split(",")) if columns else (), tuple(_labels(labels)) if labels else (), output, link or "", number
    )
    asked = take_over.read_examples(examples) if examples else []
    if source.is_dir():
        version = take_over.mlmodel_folder(ws, name, source, wish, reason=reason, examples=asked, python=python, seconds=seconds, tell=show.say)
    else:
        version = take_over.onnx_file(ws, name, source, wish, reason=reason, examples=asked)
    if json_:
        show.as_json({"id": version.id, **version.body})
        return
    from treadle.registry.packages import told_signature

    checked = version["parity"]
    show.say(f"{version.id}: {version['task']}, {version['bytes']:,} bytes, {told_signature(version['package'], ws.blobs, ws.shelf.trust)}")
    show.say(f"{checked['rows']} examples answered as they must be" if checked else "no examples were given, so no answer of it was checked")
    show.say(f"Next: treadle deploy {name}")


def _labels(given: str) -> list[Any]:
    path = Path(given)
    if not path.is_file():
        return [part.strip() for part in given.split(",")]
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"The labels cannot be read: {error}.", where=str(path)) from None
    if not isinstance(found, list) or not all(isinstance(label, str | int | bool) for label in found):
        raise UsageError("Labels are a JSON list of texts, whole numbers or truths.", where=str(path))
    return found
