"""`treadle backtest`: what a policy of retraining would have been worth, on recorded history."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from treadle.cli import show
from treadle.core.clock import parse_time


@click.command(epilog="Example: treadle backtest late-arrival --from 2013-02-01 --policy never --policy every:30d --policy quality")
@click.argument("model", default="")
@click.option("--from", "start", metavar="TIME", help="The first moment; after the first quarter of the rows if not given.")
@click.option("--to", "end", metavar="TIME", help="Stop before this moment; after the last row if not given.")
@click.option("--policy", "names", multiple=True, metavar="NAME",
              help="never, every:30d, drift, quality, new:20%, combined or project, each also with +recalibrated; six if not given.")  # fmt: skip
@click.option("--at-most", metavar="RATE", help="The budget of policies by evidence, for example '1 per 30d'; that of the project if not given.")
@click.option("--fault", "faults", multiple=True, metavar="FAULT", help="Break a feature, to see who notices: missing:temp@2013-06-01+7d.")
@click.option("--cpu-price", type=click.FloatRange(min=0), default=0.0, help="What an hour of CPU time costs.")
@click.option("--training-price", type=click.FloatRange(min=0), default=0.0, help="What a training costs beside its CPU time: people, checks.")
@click.option("--miss-price", type=click.FloatRange(min=0), default=0.0, help="What a missed positive costs; of numbers, a unit of absolute error.")
@click.option("--alarm-price", type=click.FloatRange(min=0), default=0.0, help="What acting on a negative costs.")
@click.option("--currency", default="", help="In which all prices are.")
@click.option("--at-once", type=click.IntRange(min=1), default=1, show_default=True, help="Policies lived through at the same time, in processes.")
@click.option("--again", is_flag=True, help="Do it although it is done; trainings are not repeated.")
@click.option("--out", type=click.Path(path_type=Path), help="The page to write (default: report-backtest-MODEL.html). The JSON lies beside it.")
@click.option("--json", "json_", is_flag=True, help="Print the result as JSON, and write no page.")
@click.pass_context
def backtest(
    ctx: click.Context, model: str, start: str | None, end: str | None, names: tuple[str, ...], at_most: str | None, faults: tuple[str, ...],
    cpu_price: float, training_price: float, miss_price: float, alarm_price: float, currency: str, at_once: int, again: bool, out: Path | None,
    json_: bool,
) -> None:  # fmt: skip
    """Live through recorded history under several policies of retraining and compare them: quality, trainings, CPU, money, alarms, missed faults.

    Everything happens in this process: rows are scored in bulk, and outcomes count only from when they were known. Stopped, it goes on where it was.
    """
    from treadle.backtest.compared import Prices
    from treadle.backtest.faults import fault
    from treadle.backtest.history import history_of
    from treadle.backtest.policies import policies
    from treadle.backtest.run import backtest as live
    from treadle.core.declare.operations import rate
    from treadle.core.errors import UsageError

    ws = ctx.with_resource(show.opened(ctx))
    declared = ws.model(model)
    watch = ws.watch_of(declared)
    if watch is None:
        raise UsageError(f"The project does not watch model {declared.name!r}.", where=declared.place, hint="Add: project.watch(model)")
    broken = [fault(text) for text in faults]
    compared = policies(names, watch, at_most=rate(at_most) if at_most else None)

    def tell(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    history = history_of(
        ws, declared, begin=parse_time(start) if start else None, end=parse_time(end) if end else None, faults=broken,
    )  # fmt: skip
    prices = Prices(cpu_price, training_price, miss_price, alarm_price, currency)
    told = live(ws, declared, history, compared, prices=prices, at_once=at_once, again=again, tell=tell)
    if json_:
        show.as_json(told)
        return
    primary = told["primary"]
    rows = []
    for p in told["policies"]:
        gain = p["better_by"].get(primary)
        interval = f"{gain['low']:+.4f} to {gain['high']:+.4f}" if gain and gain["low"] is not None else ""
        value = p["metrics"][primary]
        found = f"{sum(bool(f['alarm']) for f in p['faults'])} of {len(p['faults'])}"
        rows.append([
            p["policy"], "" if value is None else f"{value:.4f}", interval, f"{p['loss']:.4f}", p["retrained"], p["took_over"], f"{p['cpu']:.1f}",
            p["alarmed"], *([found] if broken else []), *([f"{p['earned']:,.0f}"] if "earned" in p else []),
        ])  # fmt: skip
    head = ["policy", primary, f"better than {told['against']}", told["loss_name"], "trainings", "took over", "CPU s", "alarms"]
    show.table([*head, *(["faults found"] if broken else []), *(["earned"] if prices.errors else [])], rows)
    import json

    from treadle.report.backtest import write_backtest

    path = write_backtest(told, out or ws.folder / f"report-backtest-{declared.name}.html")
    beside = path.with_suffix(".json")
    beside.write_text(json.dumps(told, indent=2, ensure_ascii=False), "utf-8")
    show.say(f"\nbacktest: {path} (and {beside.name})")
