"""Takes the pictures of the console in docs/images/ anew: a real console over the project of the console's tests, in Debian's Chromium.

    python scripts/screenshots.py            # all
    python scripts/screenshots.py home run   # these
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from treadle.access import people
from treadle.core.records import Ref
from treadle.registry import versions
from treadle.review import notes
from treadle.testing.browser import chromium, console

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
WIDTH, HEIGHT = 1280, 860
PEOPLE = (("ada.b", "Ada Birk", "data_scientist"), ("grace.h", "Grace Holm", "ml_engineer"), ("kai.n", "Kai Nord", "stakeholder"))


def main(wanted: Sequence[str]) -> int:
    """Write the pictures that are named, all if none is. Returns 2 for a name that is none."""
    os.environ["TREADLE_ACTOR"] = "ann"  # who is signed in on the pictures
    with tempfile.TemporaryDirectory() as folder:
        world = built(Path(folder) / "deliveries")
        addresses = paths(world)
        if unknown := [name for name in wanted if name not in addresses]:
            print(f"There is no picture {unknown[0]!r}; there are: {', '.join(addresses)}", file=sys.stderr)
            return 2
        IMAGES.mkdir(parents=True, exist_ok=True)
        with console(world.ws.folder) as process, chromium() as browser:
            tab = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
            tab.goto(process.link)
            for name in wanted or addresses:
                answer = tab.goto(process.base + addresses[name])
                if answer.status != 200:
                    raise SystemExit(f"{addresses[name]} answers {answer.status}")
                tab.wait_for_timeout(300)  # charts are drawn
                file = IMAGES / f"console-{name}.png"
                tab.screenshot(path=str(file))
                print(f"{file.relative_to(ROOT)}  {file.stat().st_size / 1000:,.0f} kB")
    return 0


def built(folder: Path) -> Any:
    """The world of tests/web/conftest.py, with people who talk about it."""
    spec = importlib.util.spec_from_file_location("console_world", ROOT / "tests/web/conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["console_world"] = module
    spec.loader.exec_module(module)
    world = module.build(
        folder, owner="dispatch desk", goal="Say at dispatch which deliveries will be late.",
        sentence="Answers are worse than when version 1 was approved: log loss is 0.04 above it, more than chance explains.",
    )  # fmt: skip
    ledger, clock, model = world.ws.ledger, world.ws.clock, world.model.name
    for name, full, role in PEOPLE:
        people.add_person(name, ledger, clock, actor="ann", full=full, roles=[role])
    people.add_group("dispatch-desk", ledger, clock, actor="ann", roles=["stakeholder"], members=["kai.n"])
    asked = notes.write(Ref("alarm", world.alarm), "Is this the new depot, @ada.b?", ledger, clock, by="grace.h", kind="question")
    notes.write(Ref("alarm", world.alarm), "It began before the depot opened. I look at rain first.", ledger, clock, by="ada.b", answers=asked.id)
    notes.write(Ref("model_version", f"{model}.v2"), "We can live with the false alarms at this threshold.", ledger, clock, by="kai.n")
    return world


def paths(world: Any) -> dict[str, str]:
    """Name of a picture to the page that it shows."""
    model = world.model.name
    run = versions.get(model, 2, world.ws.ledger)["run"]
    return {
        "home": "/", "run": f"/runs/{run}", "version": f"/models/{model}/versions/2", "deployment": f"/deployments/{model}",
        "alarm": f"/alarms/{world.alarm}", "why": "/why/p-00007", "audit": "/audit", "access": "/access",
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
