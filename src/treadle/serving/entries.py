"""What of an answered request goes into the prediction log: a prediction for a row alone, one block for many. Made by the log's own thread."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from treadle.ports.prediction_blocks import Block
from treadle.ports.predictions import Prediction
from treadle.serving.recalibration import LOGGED as RECALIBRATED
from treadle.serving.rows import inputs_json

if TYPE_CHECKING:
    from treadle.serving.answers import Answered

MISSING = "__missing__"  # in the logged inputs: why views had nothing to say
KEY = "__key__"  # in the logged inputs: a hash of the caller's header that decided the side of a split
CHAMPION, CANARY = "champion", "canary"
_DAY = 86_400_000_000  # microseconds
_encode = msgspec.json.Encoder().encode


def entries(answered: Answered) -> Sequence[Prediction | Block]:
    """The entries of a request: outputs are the versions' own, beside the state through which they were told."""
    if answered.base and min(answered.moments) // _DAY == max(answered.moments) // _DAY:
        return [_block(answered)]
    if answered.missing is None and answered.other is None and answered.state is None:  # the same as below, for a row alone
        model, now, number, micros, encode = answered.model, answered.now, answered.champion.number, answered.micros, _encode
        return [
            Prediction(id, model, moment, now, number, CHAMPION, tuple(output), 0, (), encode(row), encode(values), micros)
            for id, moment, output, row, values in zip(answered.ids, answered.moments, answered.outputs, answered.rows, answered.features)
        ]
    found: list[Prediction] = []
    for i, (id, inputs) in enumerate(zip(answered.ids, _inputs(answered))):
        version, output = answered.heard(i)[0], answered.own_output(i)
        silent, unheard = answered.challenger, answered.other[i] if answered.other is not None else None
        if version is not answered.champion:
            silent, unheard = answered.champion, answered.outputs[i] if answered.own is None else answered.own[i]
        other, others = (silent.number, tuple(unheard)) if silent is not None and unheard is not None else (0, ())
        found.append(
            Prediction(
                id, answered.model, answered.moments[i], answered.now, version.number, CHAMPION if version is answered.champion else CANARY,
                tuple(output), other, others, inputs_json(inputs), _encode(answered.features[i]), answered.micros,
            )
        )  # fmt: skip
    return found


def _block(answered: Answered) -> Block:
    moments, names = answered.moments, answered.champion.sent_names
    same = moments.count(moments[0]) == len(moments)
    sent, fields = _sent(answered)
    return Block(
        base=answered.base, model=answered.model, count=len(answered.ids), moments=moments[0] if same else array("q", moments).tobytes(),
        answered=answered.now, inputs=sent, fields=fields, features=b"" if names else _encode(answered.features), names=names,
        micros=answered.micros, **outputs(answered),
    )  # fmt: skip


def _sent(answered: Answered) -> tuple[bytes, tuple[str, ...]]:
    """What was sent: the values alone and the names of the fields, where every row has all of them; else objects."""
    reader = answered.champion.reader
    if answered.missing is None and answered.state is None and not answered.caller:
        try:
            return _encode([reader.all_values(row) for row in answered.rows]), reader.names
        except TypeError:  # a field that was not sent is no value
            pass
    return _encode(_inputs(answered)), ()


def outputs(answered: Any) -> dict[str, Any]:
    """What a block says of who answered what."""
    challenger = answered.challenger if answered.other is not None else None
    own = answered.outputs if answered.own is None else answered.own
    return {
        "version": answered.champion.number, "variant": CHAMPION, "width": len(own[0]), "outputs": _packed(own),
        "other_version": 0 if challenger is None else challenger.number, "other_variant": "" if challenger is None else CANARY,
        "other_width": 0 if challenger is None else len(answered.other[0]),
        "other_outputs": b"" if challenger is None else _packed(answered.other),
        "swapped": b"" if answered.canary is None or challenger is None else bytes(answered.canary),
    }  # fmt: skip


def _packed(outputs: Sequence[Sequence[float]] | np.ndarray) -> bytes:
    if isinstance(outputs, np.ndarray):
        return np.ascontiguousarray(outputs, dtype="<f8").tobytes()
    return array("d", chain.from_iterable(outputs)).tobytes()


def _inputs(answered: Answered) -> Sequence[Any]:
    """What was sent, and what is said beside it."""
    key = hashlib.blake2b(f"{answered.model}:{answered.caller}".encode(), digest_size=8).hexdigest() if answered.caller else ""
    state = answered.state
    if not key and answered.missing is None and state is None:
        return answered.rows
    said = []
    for i, row in enumerate(answered.rows):
        missing = answered.missing[i] if answered.missing is not None else None
        more: dict[str, Any] = {**({MISSING: missing} if missing else {}), **({KEY: key} if key else {})}
        if state is not None and answered.heard(i)[0] is answered.champion:
            more[RECALIBRATED] = [state.a, state.b, state.learned]
        said.append({**answered.champion.reader.values(row), **more} if more else row)
    return said
