"""What the published recipe claims on its hundred rows, next to what Treadle says of the same rows, and of a schedule with something to learn.

Run it with `make construction`.
"""

import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent
SHOWN = FOLDER if not FOLDER.is_relative_to(Path.cwd()) else FOLDER.relative_to(Path.cwd())
sys.path.insert(0, str(FOLDER))

from published_data import published_rows  # noqa: E402
from published_recipe import claim_lines, run_recipe  # noqa: E402

from treadle.cli.main import main  # noqa: E402

REFUSED = 4
begun = time.perf_counter()


def treadle(*arguments: str, expect: int = 0) -> None:
    """Run one command as a user would; a result that is not the expected one ends the comparison."""
    print(f"\n[{time.perf_counter() - begun:5.1f} s] $ treadle -C {SHOWN} {' '.join(arguments)}", flush=True)
    code = main(["-C", str(FOLDER), *arguments])
    if code != expect:
        sys.exit(f"expected exit code {expect}, got {code}")


if __name__ == "__main__":
    print("1. The published recipe, on its own 100 rows:\n")
    print("\n".join(claim_lines(run_recipe(published_rows()))), flush=True)
    print("\n2. Treadle, on the same 100 rows:")
    treadle("run", "published", expect=REFUSED)
    treadle("deploy", "published", expect=REFUSED)
    print("\n3. Treadle, on a realistic GENERATED schedule of 12,000 activities:")
    treadle("run", "on-time")
    treadle("deploy", "on-time")
    treadle("predict", "on-time", "--sample")
    treadle("stop", "on-time")
    print(f"\nThe hundred random rows are refused, the schedule is promoted: {time.perf_counter() - begun:.1f} s")
