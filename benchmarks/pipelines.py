"""Pipelines: Treadle against Hamilton, Kedro, DVC, Metaflow, Prefect, ZenML, Dagster and Airflow, and against plain Python.

    python benchmarks/pipelines.py [--only treadle,hamilton,kedro] [--rows p6,p6b,p6c,p6d] [--minutes 28] [--json FILE]

p6    twenty no-op steps, the whole command: CPU seconds of a first and a second run
p6b   four steps handing on a table of 100 MB, each result kept: CPU seconds and what lies on the disk
p6c   what makes a step with a kept result run again
p6d   kill -9 in step three of five, then the same command again

Each tool has its own virtual environment in benchmarks/.environments, made on first use (this needs a package index; nothing else uses the
network: proxies point nowhere, telemetry is off). Every measurement has a fresh temporary folder. Treadle is the one that runs this file.
CPU is user + system of everything the command started, also of servers that outlive it (see pipelines/processes.py). Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROGRAMS, ENVIRONMENTS = HERE / "pipelines", HERE / ".environments"
sys.path.insert(0, str(PROGRAMS))

from peers import BY_HAND, PEERS, Peer, bin_folder  # noqa: E402
from processes import Done, adopt_orphans, run  # noqa: E402

ROWS = ("p6", "p6b", "p6c", "p6d")
STEPS, MORE_STEPS = 20, 220
COMMAND = 300  # seconds one command may take
NUMBERS = [3, 1, 4, 1, 5]
# What is done to the files or parameters of P6c, one after the other in one project, and which of its steps are then to run. Each change
# is found in whichever file of the program holds the text; `None` as text: the parameter, or the bytes of the input file.
MATRIX: list[tuple[str, tuple[str, str] | None, set[str]]] = [
    ("nothing", None, set()),
    ("comment", ('    ran("clean")\n', '    # said in passing\n    ran("clean")\n'), set()),
    ("formatting", ("_shift(helpers.scale(value)) * factor", "_shift(\n            helpers.scale(value)\n        ) * factor"), set()),
    ("docstring", ("Each value, scaled and shifted.", "Scale and shift each value."), set()),
    ("equal result", ("int(line) for", "int(line) + 0 for"), {"load"}),
    ("step code", ("answer(sum(", "answer(2 * sum("), {"total"}),
    ("parameter", None, {"clean", "total"}),
    ("helper, same module", ("return value + 1", "return value + 2"), {"clean", "total"}),
    ("helper, other module", ("return value * 3", "return value * 4"), {"clean", "total"}),
    ("bytes of the input", None, {"load", "clean", "total"}),
]


class Unavailable(Exception):
    """Something could not be installed or run; the message says why."""


@dataclass
class Place:
    """The fresh folder of one measurement, and what its commands are given."""

    peer: Peer
    home: Path
    outside: Path
    environment: dict[str, str]
    values: dict[str, str]
    deadline: float

    def command(self, words: list[str]) -> list[str]:
        return [re.sub(r"\{(\w+)\}", lambda found: self.values[found[1]], word) for word in words]

    def run(self, words: list[str], *, killed_in_step_three: bool = False) -> Done:
        """Run a command in this folder. Raises Unavailable when it fails, though not when it was killed as wanted."""
        left = self.deadline - time.monotonic()
        if left < 5:
            raise Unavailable("out of time")
        command = self.command(words)
        kill_when = (lambda: "3" in self.ran()) if killed_in_step_three else None
        done = run(command, self.home, self.environment, seconds=min(COMMAND, left), kill_when=kill_when)
        if done.code is None and not (killed_in_step_three and "3" in self.ran()):
            raise Unavailable(f"{' '.join(words)} was stopped after {done.wall:.0f} s")
        if done.code not in (0, None):
            raise Unavailable(f"{' '.join(words)} ended with {done.code}:\n{done.last_lines}")
        return done

    def ran(self) -> list[str]:
        """The steps whose bodies were entered since the last `forget`."""
        file = self.outside / "ran"
        return file.read_text().split() if file.exists() else []

    def answer(self) -> Any:
        file = self.outside / "answer"
        return json.loads(file.read_text()) if file.exists() else None

    def forget(self) -> None:
        for name in ("ran", "answer"):
            (self.outside / name).unlink(missing_ok=True)

    def set_up(self) -> float:
        """What is needed once after installation; returns its CPU seconds."""
        return sum(self.run(words).cpu for words in self.peer.setup)


@contextmanager
def fresh_place(peer: Peer, table: Path, deadline: float) -> Iterator[Place]:
    """A copy of a tool's programs in a new folder that is also the home of its commands."""
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as temporary:
        home, outside = Path(temporary) / "project", Path(temporary) / "outside"
        shutil.copytree(PROGRAMS / peer.tool, home, ignore=shutil.ignore_patterns("__pycache__", "requirements.txt"))
        outside.mkdir()
        values = {
            "env": bin_folder(peer.tool, str(ENVIRONMENTS)), "home": str(home), "table": str(table), "steps": str(STEPS),
            "path": str(home / peer.place / "input.txt"), "factor": "1",
        }  # fmt: skip
        (home / peer.place / "input.txt").write_text("\n".join(map(str, NUMBERS)) + "\n")
        (outside / "tmp").mkdir()
        environment = {
            "PATH": f"{values['env']}:/usr/local/bin:/usr/bin:/bin", "HOME": str(home), "USER": "bench", "LANG": "C.UTF-8",
            "TMPDIR": str(outside / "tmp"), "PYTHONPATH": str(PROGRAMS / "witness"), "TABLE": str(table), "STEPS": str(STEPS), "COLUMNS": "200",
            "WITNESS_RAN": str(outside / "ran"), "WITNESS_ANSWER": str(outside / "answer"), "WITNESS_HOLD": str(outside / "hold"),
            **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
            **dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost,::1"),
            **{k: re.sub(r"\{(\w+)\}", lambda found: values[found[1]], v) for k, v in peer.environment.items()},
        }  # fmt: skip
        yield Place(peer, home, outside, environment, values, deadline)


def install(tool: str) -> None:
    """Make a tool's virtual environment if it is not there as its requirements say. Raises Unavailable."""
    if tool == "treadle":
        if not (Path(sys.prefix) / "bin" / "treadle").exists():
            raise Unavailable("run this file with the Python that Treadle is installed in")
        return
    folder, wanted = ENVIRONMENTS / tool, (PROGRAMS / tool / "requirements.txt").read_bytes()
    mark, digest = folder / ".requirements", hashlib.sha256(wanted).hexdigest()
    if mark.exists() and mark.read_text() == digest:
        return
    say(f"{tool}: making its environment")
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--compile", "-r", str(PROGRAMS / tool / "requirements.txt")],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        except subprocess.TimeoutExpired:
            raise Unavailable("its installation took more than 15 minutes") from None
        if done.returncode != 0:
            raise Unavailable(f"it could not be installed: {done.stderr.strip().splitlines()[-1:]}")
    mark.write_text(digest)


def version_of(peer: Peer) -> str:
    if peer.tool == "treadle":
        return version("treadle")
    found = re.search(rf"^{re.escape(peer.package)}==(\S+)", (PROGRAMS / peer.tool / "requirements.txt").read_text(), re.MULTILINE)
    number = found[1] if found else "?"
    return f"{peer.package} {number}" if peer.tool == "plain" else number


def no_op_steps(peer: Peer, table: Path, deadline: float) -> dict[str, Any]:
    """P6. Raises Unavailable."""
    best: dict[str, Any] = {}
    for _ in range(3):  # what is quick is measured three times, and the lowest of each figure told
        with fresh_place(peer, table, deadline) as place:
            setup = place.set_up()
            first = place.run(peer.runs["p6"])
            expect(place.answer(), STEPS)
            count = len(place.ran())
            place.forget()
            second = place.run(peer.runs["p6"])
            again = len(place.ran())
        found = {
            "first": first.cpu, "second": second.cpu, "setup": setup, "wall": first.wall, "peak": first.peak, "ran": count, "again": again,
            "left_over": first.left_over,
        }  # fmt: skip
        if peer.name in ("plain", "treadle", "hamilton", "kedro"):
            with fresh_place(peer, table, deadline) as place:
                place.environment["STEPS"] = place.values["steps"] = str(MORE_STEPS)
                found["many"] = place.run(peer.runs["p6"]).cpu
                expect(place.answer(), MORE_STEPS)
        best = {k: min(v, best.get(k, v)) for k, v in found.items()}
        if first.cpu + second.cpu > 6:
            break
    if "many" in best:
        best["each"] = (best["many"] - best["first"]) / (MORE_STEPS - STEPS)
    return best


def big_table(peer: Peer, table: Path, deadline: float) -> dict[str, Any]:
    """P6b. Raises Unavailable."""
    best: dict[str, Any] = {}
    for _ in range(3):  # as above
        with fresh_place(peer, table, deadline) as place:
            place.set_up()
            before = size(place.home)
            done = place.run(peer.runs["p6b"])
            if not best or done.cpu < best["cpu"]:
                best = {"cpu": done.cpu, "wall": done.wall, "peak": done.peak, "disk": size(place.home) - before, "answer": place.answer()}
        if done.cpu > 6:
            break
    return best


def what_runs_again(peer: Peer, table: Path, deadline: float, command: list[str]) -> dict[str, Any]:
    """P6c: for each change, which steps ran. Raises Unavailable."""
    with fresh_place(peer, table, deadline) as place:
        place.set_up()
        place.run(command)
        expect(place.answer(), sum(3 * n + 1 for n in NUMBERS))
        found: dict[str, Any] = {}
        for what, text, _ in MATRIX:
            if text is not None:
                change(place.home, *text)
            elif what == "parameter":
                place.values["factor"] = "2"
                change(place.home, "factor: 1", "factor: 2", needed=False)
            elif what.startswith("bytes"):
                (place.home / peer.place / "input.txt").write_text("\n".join(map(str, [*NUMBERS[:-1], 9])) + "\n")
            place.forget()
            place.run(command)
            found[what] = sorted(set(place.ran()))
            if what == "nothing" and found[what]:
                break  # it keeps no result: the rest would say the same
        return found


def killed(peer: Peer, table: Path, deadline: float) -> dict[str, Any]:
    """P6d: which steps run after a kill -9 in the third, and what is recorded. Raises Unavailable."""
    found: dict[str, Any] = {}
    for name, command in (("again", peer.runs["p6d"]), ("resume", peer.resume)):
        if not command:
            continue
        with fresh_place(peer, table, deadline) as place:
            place.set_up()
            hold = place.outside / "hold"
            hold.touch()
            place.run(peer.runs["p6d"], killed_in_step_three=True)
            hold.unlink()
            place.forget()
            try:
                place.run(command)
                expect(place.answer(), 5)
            except Unavailable as reason:
                if name == "again":
                    raise
                found["refused"] = str(reason).splitlines()[-1]
            found[name] = place.ran()
            if name == "again" and peer.states:
                found["states"] = place.run(peer.states).output
    return found


def change(home: Path, old: str, new: str, *, needed: bool = True) -> None:
    """Replace a text in the files of P6c's program. Raises Unavailable if it is nowhere."""
    changed = 0
    for file in [*home.rglob("*.py"), *home.rglob("*.yaml"), *home.rglob("*.yml")]:
        parts = file.relative_to(home).parts
        if any(part.startswith((".", "p6d", "p6b")) or part == "p6.py" for part in parts):
            continue
        text = file.read_text()
        if old in text:
            file.write_text(text.replace(old, new))
            changed += 1
    if needed and not changed:
        raise Unavailable(f"the text {old!r} is in none of its files")


def expect(got: Any, wanted: Any) -> None:
    if got != wanted:
        raise Unavailable(f"the answer is {got}, not {wanted}")


def size(folder: Path) -> int:
    """Bytes of the files in a folder."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file() and not f.is_symlink())


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGUN:5.0f} s] {text}", file=sys.stderr, flush=True)


BEGUN = time.monotonic()


def measure(chosen: list[Peer], rows: list[str], minutes: float) -> dict[str, Any]:
    """Make the environments, then measure row by row what time allows."""
    results: dict[str, Any] = {
        "date": date.today().isoformat(), "python": platform.python_version(), "cores": os.cpu_count(), "versions": {}, "unavailable": {},
        **{row: {} for row in rows},
    }  # fmt: skip
    installed = []
    for peer in chosen:
        try:
            install("plain")  # makes the table of P6b
            install(peer.tool)
        except Unavailable as reason:
            results["unavailable"][peer.name] = str(reason)
            say(f"{peer.name}: {reason}")
        else:
            installed.append(peer)
            results["versions"][peer.name] = version_of(peer)
    deadline = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory(prefix="bench-table-") as temporary:
        table = Path(temporary) / "table.parquet"
        if "p6b" in rows and installed:
            subprocess.run([str(ENVIRONMENTS / "plain/bin/python"), str(PROGRAMS / "plain/table.py"), str(table)], check=True, capture_output=True)
        for row in rows:
            for peer in installed:
                if row not in peer.runs:
                    continue
                say(f"{row}: {peer.name}")
                try:
                    results[row].update(one(row, peer, table, deadline))
                except Unavailable as reason:
                    results["unavailable"][f"{peer.name}, {row}"] = str(reason)
                    say(f"{row}: {peer.name}: {reason}")
    return results


def one(row: str, peer: Peer, table: Path, deadline: float) -> dict[str, Any]:
    """The figures of one tool in one row; in P6c two lines for a tool that can be told by hand what it does not see."""
    if row == "p6":
        return {peer.name: no_op_steps(peer, table, deadline)}
    if row == "p6b":
        return {peer.name: big_table(peer, table, deadline)}
    if row == "p6d":
        return {peer.name: killed(peer, table, deadline)}
    found = {peer.name: what_runs_again(peer, table, deadline, peer.runs["p6c"])}
    if peer.name in BY_HAND:
        found[f"{peer.name}, told by hand"] = what_runs_again(peer, table, deadline, BY_HAND[peer.name])
    return found


def show(results: Mapping[str, Any]) -> None:
    """Print the tables, as Markdown."""
    print(f"\n{results['date']}, Python {results['python']}, {results['cores']} cores. Ratios are to Treadle in the same run.\n")
    versions = results["versions"]
    if results.get("p6"):
        ours = results["p6"].get("treadle", {})
        print(f"### P6: {STEPS} no-op steps, whole command\n")
        header("tool", "version", "first run, CPU s", "ratio", "second, CPU s", "ratio", "run again", "a further step, CPU ms", "set up once, CPU s")
        for name, f in sorted(results["p6"].items(), key=lambda item: item[1]["first"]):
            line(
                name, versions[name], f"{f['first']:.2f}", ratio(f["first"], ours.get("first")),
                f"{f['second']:.2f}", ratio(f["second"], ours.get("second")), f"{f['again']} of {f['ran']}",
                f"{1000 * f['each']:.2f}" if "each" in f else "", f"{f['setup']:.1f}" if f["setup"] else "",
            )  # fmt: skip
    if results.get("p6b"):
        ours = results["p6b"].get("treadle", {})
        print("\n### P6b: four steps handing on a table of 100 MB, each result kept\n")
        header("tool", "version", "CPU s", "ratio", "wall s", "peak MB", "kept on disk, MB")
        reference = next(iter(results["p6b"].values()))["answer"]
        for name, f in sorted(results["p6b"].items(), key=lambda item: item[1]["cpu"]):
            if f["answer"][:2] != reference[:2] or abs(f["answer"][2] / reference[2] - 1) > 1e-9:
                sys.exit(f"the answers differ: {name} says {f['answer']}, not {reference}")
            used = ratio(f["cpu"], ours.get("cpu"))
            line(name, versions[name], f"{f['cpu']:.2f}", used, f"{f['wall']:.1f}", f"{f['peak']:.0f}", f"{f['disk'] / 1e6:.0f}")
        print("\nAll answers are equal.")
    if results.get("p6c"):
        print("\n### P6c: what makes a kept result be computed again (**bold**: not as it should be)\n")
        keep = {name: found for name, found in results["p6c"].items() if not found["nothing"]}
        header("changed", *keep)
        for what, _, wanted in MATRIX:
            line(what, *(verdict(found[what], wanted) for found in keep.values()))
        none = [name for name in results["p6c"] if name not in keep]
        if none:
            print(f"\nWithout any change these run all steps again, as they keep no result for another run: {', '.join(none)}.")
    if results.get("p6d"):
        print("\n### P6d: kill -9 in step 3 of 5\n")
        header("tool", "version", "same command again runs", "its command for resuming runs", "recorded afterwards")
        for name, f in results["p6d"].items():
            resumed = f"refused: {f['refused']}" if "refused" in f else " ".join(f.get("resume", []))
            line(name, versions[name], " ".join(f["again"]), resumed, states(f.get("states")))
    print()
    for peer in PEERS:
        if peer.name in versions:
            print(f"- {peer.name}: {peer.note}{f' Results kept: {peer.keeps}.' if peer.keeps else ' Keeps no result for another run.'}")
    for what, why in results["unavailable"].items():
        print(f"- not measured: {what}: {why}")


def header(*cells: str) -> None:
    line(*cells)
    print("|" + "---|" * len(cells))


def line(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |")


def ratio(value: float, ours: float | None) -> str:
    return f"{value / ours:.1f}" if ours else "-"


def verdict(ran: list[str], wanted: set[str]) -> str:
    """What ran after a change, in words."""
    missed, needless = sorted(wanted - set(ran)), sorted(set(ran) - wanted)
    if missed:
        return "**stale**" if len(missed) == len(wanted) else f"**stale: {', '.join(missed)}**"
    if needless:
        return f"**needless: {', '.join(needless)}**"
    return "seen" if wanted else "not run"


def states(listing: str | None) -> str:
    """The states of runs that a listing names, counted."""
    if listing is None:
        return "records no runs"
    said = re.findall(r"^state: (\S+)", listing, re.MULTILINE)
    return ", ".join(f"{said.count(s)} {s}" for s in dict.fromkeys(said)) or "no runs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names of tools, with commas between; all if left out")
    parser.add_argument("--rows", default=",".join(ROWS), help="rows, with commas between")
    parser.add_argument("--minutes", type=float, default=28, help="how long to measure, without making environments; 28 if left out")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    given = parser.parse_args()
    wanted, rows = [w for w in given.only.split(",") if w], given.rows.split(",")
    for unknown in {*wanted} - {p.name for p in PEERS} - {p.tool for p in PEERS} | {*rows} - {*ROWS}:
        parser.error(f"there is no {unknown!r}; tools: {', '.join(p.name for p in PEERS)}; rows: {', '.join(ROWS)}")
    adopt_orphans()
    results = measure([p for p in PEERS if not wanted or {p.name, p.tool} & {*wanted}], rows, given.minutes)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    show(results)


if __name__ == "__main__":
    main()
