"""How a model should run: in batch, in real time, on a stream, or on a device. Pure: from what is needed and what was measured to advice."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

Mode = Literal["batch", "real-time", "streaming", "edge"]
NETWORK_MS = 20.0  # what a request and its answer take over an ordinary network, beside the model
BUSY = 0.6  # the share of a core that may be busy before answers wait for each other (at 0.6 an answer waits 1.5 times its own length, M/M/1)
SCHEDULED_MS = 15 * 60_000.0  # the shortest wait that a schedule can keep
EVENT_MS = 50.0  # the shortest that a consumer of a broker keeps in the 99th percentile, with reading and writing


@dataclass(frozen=True)
class Needs:
    """What is asked of a model's answers.

    Args:
        latency: milliseconds from the moment the row is known until the answer must be there, at the 99th percentile.
        volume: rows a day. peak: rows a second at the busiest; four times the mean if 0.
        arrives: how rows come: 'request' one asks and waits, 'schedule' they lie there at times, 'stream' as events of a broker.
        connected: whether there is a network where the answer is needed: 'always', 'sometimes', 'never'.
        device_memory: bytes on the device, if the answer is needed on one. cores: how many may be used for it.
    """

    latency: float
    volume: float
    peak: float = 0.0
    arrives: Literal["request", "schedule", "stream"] = "request"
    connected: Literal["always", "sometimes", "never"] = "always"
    device_memory: float = 0.0
    cores: int = 2

    @property
    def busiest(self) -> float:
        return self.peak or 4 * self.volume / 86_400


@dataclass(frozen=True)
class Measured:
    """This very model, measured.

    Args:
        one, one_p99: CPU microseconds of one row, from request to answer without the network: parsing, features, lookups, model; the median.
        bulk: rows a CPU second, many at once.
        bytes: of the package. memory: bytes of a process that has loaded it and answered. start: seconds until it has.
        format: of the package. views: features that are looked up in the online store.
    """

    one: float
    one_p99: float
    bulk: float
    bytes: int
    memory: int
    start: float
    format: str
    views: int


@dataclass(frozen=True)
class Choice:
    """One way to run it: whether it can, for and against in sentences, and what it costs in cores that are busy on average."""

    mode: Mode
    can: bool
    reasons: list[str] = field(default_factory=list)
    cores: float = 0.0


def choices(needs: Needs, measured: Measured) -> list[Choice]:
    """All four, the recommended one first: of those that can, the one whose way of asking is that of the rows; then the cheapest."""
    found = [_batch(needs, measured), _real_time(needs, measured), _streaming(needs, measured), _edge(needs, measured)]
    natural: dict[str, Mode] = {"request": "real-time", "schedule": "batch", "stream": "streaming"}
    wanted: Mode = natural[needs.arrives] if needs.connected == "always" else "edge"
    return sorted(found, key=lambda c: (not c.can, c.mode != wanted, c.cores))


def _batch(needs: Needs, m: Measured) -> Choice:
    cores = needs.volume / m.bulk / 86_400
    reasons = [f"{needs.volume:,.0f} rows take {_time(needs.volume / m.bulk)} of one core at {m.bulk:,.0f} rows a CPU second"]
    can = True
    if needs.latency < SCHEDULED_MS:
        can = False
        reasons.append(f"an answer is needed within {_ms(needs.latency)}; a schedule keeps {_ms(SCHEDULED_MS)} at best")
    if needs.connected != "always":
        can = False
        reasons.append("answers made elsewhere do not reach a place without a network")
    if needs.arrives == "request" and can:
        reasons.append("whoever asks must be able to wait for the next run, and rows must be known before they are asked about")
    return Choice("batch", can, reasons, cores)


def _real_time(needs: Needs, m: Measured) -> Choice:
    wanted = needs.busiest * m.one / 1e6 / BUSY
    reasons = [
        f"one row takes {m.one:,.0f} us, {m.one_p99:,.0f} us at the 99th percentile; {needs.busiest:,.1f} rows a second at the busiest keep "
        f"{wanted:.2f} cores {BUSY:.0%} busy"
    ]
    can = True
    total = m.one_p99 / 1000 + NETWORK_MS
    if needs.connected != "always":
        can = False
        reasons.append("there is not always a network to ask over")
    if total > needs.latency:
        can = False
        reasons.append(f"with about {NETWORK_MS:g} ms of network an answer takes {total:,.1f} ms, and {_ms(needs.latency)} are allowed")
    if wanted > needs.cores:
        can = False
        reasons.append(f"that is more than the {needs.cores} cores there are")
    if can:
        reasons.append(f"a process starts in {m.start:.1f} s and takes {m.memory / 1e6:,.0f} MB, and runs also while nobody asks")
    return Choice("real-time", can, reasons, needs.volume * m.one / 1e6 / 86_400)


def _streaming(needs: Needs, m: Measured) -> Choice:
    reasons = []
    can = needs.arrives == "stream"
    if not can:
        reasons.append("rows do not come as events of a broker")
    if needs.latency < EVENT_MS:
        can = False
        reasons.append(f"within {_ms(needs.latency)} an event is not read, answered and written back ({EVENT_MS:g} ms is what a broker keeps)")
    if needs.connected != "always":
        can = False
        reasons.append("there is not always a network to the broker")
    if needs.busiest / m.bulk > needs.cores:
        can = False
        reasons.append(f"{needs.busiest:,.0f} events a second are more than {needs.cores} cores answer")
    if can:
        reasons.append(f"events that wait are answered together: {needs.busiest:,.1f} a second take {needs.busiest / m.bulk:.4f} cores")
    return Choice("streaming", can, reasons, needs.volume / m.bulk / 86_400)


def _edge(needs: Needs, m: Measured) -> Choice:
    reasons = [f"the package has {m.bytes / 1e3:,.0f} kB, and one row takes {m.one:,.0f} us here (a device is slower)"]
    can = True
    if m.format != "onnx":
        can = False
        reasons.append(f"it is a package of format {m.format!r}, which needs the library that trained it; a device takes ONNX")
    if m.views and needs.connected == "never":
        can = False
        reasons.append(f"{m.views} of its features are looked up in the online store, which such a device cannot ask; train one without them")
    elif m.views:
        reasons.append(f"{m.views} of its features are looked up: they must be sent to the device beforehand, and grow old there")
    if needs.device_memory and m.bytes > needs.device_memory / 2:
        can = False
        reasons.append(f"the device has {needs.device_memory / 1e6:,.1f} MB, of which a model may take half")
    if needs.connected == "always" and can:
        reasons.append("with a network at all times, one place to watch, correct and roll back is worth more")
    return Choice("edge", can, reasons, math.inf if needs.connected == "always" else 0.0)


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:g} ms" if milliseconds < 1000 else _time(milliseconds / 1000)


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
