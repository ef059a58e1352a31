"""The main job: the whole loop on a year of real flights, from the data to the report.

Run it with `make demo`; running it again is safe and quick.
"""

import sys
import time
from pathlib import Path

from treadle.cli.main import main
from treadle.registry import versions

FOLDER = Path(__file__).parent
SHOWN = FOLDER if not FOLDER.is_relative_to(Path.cwd()) else FOLDER.relative_to(Path.cwd())
MODEL = "late-arrival"
TRAIN_UNTIL = "2013-04-01T04:00:00Z"  # midnight in New York
begun = time.perf_counter()


def treadle(*arguments: str) -> None:
    """Run one command as a user would, and stop at the first that fails."""
    print(f"\n[{time.perf_counter() - begun:5.1f} s] $ treadle -C {SHOWN} {' '.join(arguments)}", flush=True)
    code = main(["-C", str(FOLDER), *arguments])
    if code:
        sys.exit(code)


def summary() -> None:
    """What came of it, in a dozen lines, and where to look further."""
    from treadle.assemble import open_workspace
    from treadle.report import collect

    ws = open_workspace(FOLDER)
    model = ws.model(MODEL)
    told = collect(ws, model)["production"]
    months = [m for m in told["months"] if m["compared"] >= 100]
    gain = told["totals"]["better_by"]["roc_auc"]
    print(f"\nAfter {time.perf_counter() - begun:.1f} s:\n")
    print("  ROC-AUC by month   " + "  ".join(f"{m['month'][5:]:>5}" for m in months) + "    all")
    for name, who in (("frozen", "frozen in March    "), ("loop", "the loop           ")):
        print(f"  {who}" + "  ".join(f"{m[name]['roc_auc']:.3f}" for m in months) + f"  {told['totals'][name]['roc_auc']:.3f}")
    print(f"  the loop is better by {gain['value']:.4f} (95 % interval {gain['low']:.4f} to {gain['high']:.4f}), on the same flights")
    made = versions.all_versions(MODEL, ws.ledger)
    promoted = sum(v["status"] in ("champion", "retired") for v in made)
    alarms = ws.ledger.find("alarm", {"model": MODEL})
    print(
        f"\n  {len(made)} versions trained, {promoted} of them promoted on evidence, {len(alarms)} alarms"
    )
    prediction = told["example"]["id"]
    for line in (
        f"treadle -C {SHOWN} why {prediction}",
        f"treadle -C {SHOWN} models",
        f"treadle -C {SHOWN} runs",
        f"treadle -C {SHOWN} status",
        f"treadle -C {SHOWN} console",
    ):
        print(f"  look further:  .venv/bin/{line}")
    print(f"  the report:    {FOLDER / 'report.html'}")


def stop_endpoint() -> None:
    """Leave no process behind when the job is stopped or fails half-way."""
    from treadle.assemble import open_workspace
    from treadle.live.deploy import running_endpoint, stop

    ws = open_workspace(FOLDER)
    if running_endpoint(ws, MODEL) is not None:
        stop(ws, MODEL)


if __name__ == "__main__":
    try:
        treadle("run", MODEL, "--as-of", TRAIN_UNTIL)
        treadle("deploy", MODEL, "--at", TRAIN_UNTIL)
        treadle("predict", MODEL, "--sample")
        print(f"\n[{time.perf_counter() - begun:5.1f} s] the first prediction is served", flush=True)
        treadle("replay", MODEL, "--sample", "10")  # every tenth flight is asked about; all of them feed the features
        treadle("report", MODEL)
        treadle("stop", MODEL)
        summary()
    finally:
        stop_endpoint()
