"""`treadle score`."""

from __future__ import annotations

import glob
from pathlib import Path

import click

from treadle.cli import show


@click.command(epilog="Example: treadle score late-arrival --data tomorrow.parquet --to answers/")
@click.argument("model", default="")
@click.option("--data", required=True, help="A data set (NAME or NAME@VERSION), a file or pattern (.parquet, .csv, .jsonl), s3://, gs://, az://.")
@click.option("--to", default="", help="A file, a folder, or an address; without it the answers become a version of the table scores.MODEL.")
@click.option("--version", "number", type=int, help="The version; the champion if not given, or else the newest that may answer.")
@click.option("--keep", default="", metavar="COLUMNS", help="Columns beside the answers, with commas, or '*'; else the key.")
@click.option("--as-sent", is_flag=True, help="Take view features from columns of that name, as if they were sent, instead of looking them up.")
@click.option("--parallel", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Parts at once, on the executor of the settings.")
@click.option("--part-rows", type=click.IntRange(1), default=250_000, show_default=True, help="Rows of a part: held in memory, lost by a kill.")
@click.option("--again", is_flag=True, help="Do once more what is done already.")
@click.option("--json", "json_", is_flag=True, help="Print the record as JSON.")
@click.pass_context
def score(
    ctx: click.Context, model: str, data: str, to: str, number: int | None, keep: str, as_sent: bool, parallel: int, part_rows: int, again: bool,
    json_: bool,
) -> None:  # fmt: skip
    """Answer all rows of a data set, of files or of objects, as the endpoint would answer each; killed, the same command goes on."""
    from treadle.scoring.score import Asked
    from treadle.scoring.score import score as work

    # Paths are relative to where the command is typed, not to the project.
    if "://" not in data and (Path(data).exists() or glob.glob(data)):
        data = str(Path(data).absolute())
    if to and "://" not in to:
        to = str(Path(to).absolute()) + ("/" if to.endswith("/") else "")
    with show.opened(ctx) as ws:
        columns = tuple(c.strip() for c in keep.split(",") if c.strip())
        asked = Asked(data, to, number, columns, as_sent, parallel, part_rows, again)
        record = work(ws, ws.model(model), asked, (lambda line: None) if json_ else show.say)
        if json_:
            show.as_json({"scoring": record.id, **record.body})
        else:
            said = record["output"]
            where = f"table {said['table']}, version {said['number']}" if "table" in said else next(iter(said.values()))
            show.say(f"{record.id}: {where}")
