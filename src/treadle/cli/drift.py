"""`treadle drift`."""

from __future__ import annotations

from pathlib import Path

import click

from treadle.cli import show


@click.command(epilog="Example: treadle drift january.parquet june.parquet --out drift.html")
@click.argument("reference")
@click.argument("now")
@click.option("--columns", help="Only these columns, separated by commas.")
@click.option("--time", "time_", metavar="COLUMN", default="", help="The column of moments, for windows and for --every.")
@click.option("--every", metavar="SPAN", help="Also compare each block of time of the newer rows, such as 1d or 6h.")
@click.option("--together", is_flag=True, help="Also ask whether a model can tell the two sides apart (needs scikit-learn).")
@click.option("--out", type=click.Path(path_type=Path), help="Write an HTML page with charts there.")
@click.option("--fail", is_flag=True, help="End with exit code 4 when a column is broken or has moved.")
@click.option("--json", "json_", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def drift(
    ctx: click.Context, reference: str, now: str, columns: str | None, time_: str, every: str | None, together: bool, out: Path | None, fail: bool,
    json_: bool,
) -> int:  # fmt: skip
    """Compare two tables, windows or versions: which columns moved, by how much, and which are broken.

    Each side is a file (Parquet, CSV, JSON lines), a data set of the project or a model. NAME@3 is its version 3, and NAME@2013-01-01..2013-02-01 the
    rows of a window. A model as the older side is what its champion was trained on; as the newer, what it was asked.
    """
    from treadle.core.errors import UsageError
    from treadle.live import sides
    from treadle.monitoring import compared

    wanted = [c.strip() for c in columns.split(",") if c.strip()] if columns else None
    older = sides.find(reference, lambda: show.workspace(ctx), time=time_, columns=wanted, older=True)
    newer = sides.find(now, lambda: show.workspace(ctx), time=time_, columns=wanted)
    if (every or together) and (newer.table is None or (together and older.table is None)):
        raise UsageError("--every and --together read rows, which a model's sketches do not hold.", hint="Name a file or a data set.")
    days = None
    if every and newer.table is not None:
        moment = newer.time or time_
        if not moment:
            raise UsageError("--every needs a column of moments.", hint="Name it: --time COLUMN")
        days = compared.by_block(older.side, newer.table, moment, every, wanted)
    told = None
    if together and older.table is not None and newer.table is not None:
        both = [c for c in older.side.sketches if c in newer.side.sketches and c not in (time_, newer.time)]
        told = compared.told_apart(older.table, newer.table, both)
    found = compared.report(older.side, newer.side, days, told)
    body = found.to_json()
    if json_:
        show.as_json(body)
    else:
        show.say(f"{found.now.name}: {found.now.rows:,} rows, against {found.reference.rows:,} of {found.reference.name}")
        show.table(
            ["column", "verdict", "PSI", "KS", "missing", "what"],
            [(c.name, c.verdict, _number(c.sizes.get("psi")), _number(c.sizes.get("ks")), f"{c.missing[1]:.1%}", c.sentence) for c in found.columns],
        )
        if told is not None:
            show.say(f"a model tells the two sides apart with a ROC-AUC of {told.auc:.3f} (0.5: not at all)")
    if out is not None:
        from treadle.report.page import write_drift

        written = write_drift(body, out)
        if not json_:
            show.say(f"page: {written}")
    return 4 if fail and any(c.verdict in ("broken", "moved") for c in found.columns) else 0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
