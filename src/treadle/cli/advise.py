"""`treadle advise`."""

from __future__ import annotations

import re
import sys
from typing import Any

import click

from treadle.cli import show
from treadle.core.errors import UsageError

_QUESTIONS = (
    ("latency", "How soon must an answer be there (for example 50ms, 2s, 1h)?", "1s"),
    ("volume", "How many rows a day?", "100000"),
    ("arrives", "How do rows come: request, schedule or stream?", "request"),
    ("connected", "Is there a network where the answer is needed: always, sometimes or never?", "always"),
    ("cores", "How many cores may it use?", "2"),
)
_CHOICES = {"arrives": ("request", "schedule", "stream"), "connected": ("always", "sometimes", "never")}
_RUNS = {
    "batch": "run it with: treadle score {model} --data ... --to ..., and a schedule",
    "real-time": "run it with: treadle deploy {model}",
    "streaming": "Treadle has no stream processor yet: let the consumer ask the endpoint (treadle deploy {model}), many rows a request",
    "edge": "Treadle does not ship to devices yet: the package's ONNX file is what to ship (treadle models {model})",
}
_UNITS = {"ms": 1.0, "s": 1e3, "m": 6e4, "min": 6e4, "h": 3.6e6, "d": 8.64e7}


@click.command(epilog="Example: treadle advise late-arrival --latency 100ms --volume 1000000 --peak 200")
@click.argument("model", default="")
@click.option("--latency", default="", metavar="TIME", help="How soon an answer must be there, from when its row is known: 50ms, 2s, 1h.")
@click.option("--volume", default="", metavar="ROWS", help="Rows a day.")
@click.option("--peak", type=click.FloatRange(min=0), default=0.0, help="Rows a second at the busiest; four times the mean if not given.")
@click.option("--arrives", default="", type=click.Choice(["", *_CHOICES["arrives"]]), help="How rows come.")
@click.option("--connected", default="", type=click.Choice(["", *_CHOICES["connected"]]), help="Whether there is a network where answers are needed.")
@click.option("--device-memory", default="", metavar="SIZE", help="Memory of the device, if the answer is needed on one: 64MB.")
@click.option("--cores", default="", metavar="N", help="Cores it may use.")
@click.option("--version", "number", type=int, help="The version to measure; the champion, or the newest, if not given.")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def advise(
    ctx: click.Context, model: str, latency: str, volume: str, peak: float, arrives: str, connected: str, device_memory: str, cores: str,
    number: int | None, json_: bool,
) -> None:  # fmt: skip
    """Measure a model here, and say whether it should run in batch, in real time, on a stream or on a device, and why.

    What is not given is asked for; where nobody can be asked it is assumed, and the answer says so.
    """
    from dataclasses import asdict

    from treadle.core.declare.pipeline import size
    from treadle.live.advise import measure
    from treadle.serving.modes import Needs, choices

    given = {"latency": latency, "volume": volume, "arrives": arrives, "connected": connected, "cores": cores}
    assumed = []
    for name, question, usual in _QUESTIONS:
        if not given[name] and sys.stdin.isatty() and not json_:
            given[name] = click.prompt(question, default=usual, type=click.Choice(_CHOICES[name]) if name in _CHOICES else str)
        elif not given[name]:
            given[name] = usual
            assumed.append(f"{name} {usual}")
    needs = Needs(
        _milliseconds(given["latency"]), _count(given["volume"], "--volume"), peak, given["arrives"], given["connected"],  # type: ignore[arg-type]
        float(size(device_memory)) if device_memory else 0.0, max(1, int(_count(given["cores"], "--cores"))),
    )  # fmt: skip
    with show.opened(ctx) as ws:
        declared = ws.model(model)
        version, measured = measure(ws, declared, number, (lambda line: None) if json_ else show.say)
        found = choices(needs, measured)
        if json_:
            show.as_json(_plain({"version": version.id, "needs": asdict(needs), "assumed": assumed, "measured": asdict(measured),
                                 "choices": [asdict(c) for c in found]}))  # fmt: skip
            return
        show.columns([
            ("one row", f"{measured.one:,.0f} us", f"p99 {measured.one_p99:,.0f} us, with {measured.views} features looked up"),
            ("many rows", f"{measured.bulk:,.0f} rows a CPU second", ""),
            ("package", f"{measured.bytes / 1e3:,.0f} kB", measured.format),
            ("process", f"{measured.memory / 1e6:,.0f} MB", f"answers {measured.start:.2f} s after its start"),
        ])  # fmt: skip
        if assumed:
            show.say(f"assumed, since not said: {', '.join(assumed)}")
        best = found[0]
        show.say()
        if best.can:
            show.say(f"Recommended: {best.mode}. {_RUNS[best.mode].format(model=declared.name)}.")
        else:
            show.say("Nothing fits these needs as they are:")
        for choice in found:
            show.say(f"{'+' if choice.can else '-'} {choice.mode}")
            for reason in choice.reasons:
                show.say(f"    {reason}")


def _milliseconds(text: str) -> float:
    found = re.fullmatch(r"\s*([0-9.]+)\s*([a-z]*)\s*", text)
    if not found or (found[2] or "ms") not in _UNITS or found[1].count(".") > 1 or found[1] == ".":
        raise UsageError(f"--latency {text!r} is no time.", hint="Write for example 50ms, 2s, 15m or 1h.")
    return float(found[1]) * _UNITS[found[2] or "ms"]


def _count(text: str, name: str) -> float:
    try:
        number = float(text.replace(",", "").replace("_", ""))
    except ValueError:
        number = -1.0
    if not 0 < number < 1e15:
        raise UsageError(f"{name} {text!r} is no number of anything.", hint="Write for example 100000.")
    return number


def _plain(value: Any) -> Any:
    """Without infinities, which JSON does not know."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value
