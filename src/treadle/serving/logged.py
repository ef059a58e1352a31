"""What of a request the prediction log keeps: all of it, personal values as keyed hashes, or nothing.

    project.log(late, inputs="hash")

`hash` keeps who can be told apart and not who it is: the same value has the same hash, made with the project's own key, so that a person can still be
erased from the log. `none` keeps no input at all. Under both, personal values among the features are hashed, so that drift is still seen.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from treadle.core.declare.log import Log
from treadle.core.errors import StorageError
from treadle.core.records import Record, Ref
from treadle.ports.ledger import Ledger
from treadle.ports.prediction_blocks import Block, each
from treadle.ports.predictions import Outcome, Prediction, PredictionLog
from treadle.serving.recalibration import LOGGED as RECALIBRATED

Policy = Literal["full", "hash", "none"]
KIND = "log_policy"
KEY_FILE = "subject.key"  # as in data/suppressed.py, which an endpoint does not load
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


def hashed_value(key: bytes, text: str) -> str:
    """A personal value as it stands in the log: 128 bits of HMAC-SHA256 over the text."""
    return "hash:" + hmac.digest(key, b"treadle logged\x1f" + text.strip().encode("utf-8", "surrogatepass"), "sha256").hex()[:32]


class Discreet:
    """A prediction log that is written through a policy, and read as it is.

    Args:
        personal: the fields whose values are personal.
        key: of the project, see `data.suppressed.own_key`.
        when_full: what the journal does when it is behind: 'refuse' or 'drop'.
    """

    def __init__(
        self, log: PredictionLog, policy: Policy, personal: Sequence[str], key: bytes, when_full: Literal["refuse", "drop"] = "refuse"
    ) -> None:
        self.when_full = when_full
        self._log, self._policy, self._personal, self._key = log, policy, frozenset(personal), key

    def write(self, predictions: Sequence[Prediction | Block], outcomes: Sequence[Outcome] = (), *, durable: bool = True) -> None:
        kept = predictions if self._policy == "full" else [self.kept(p) for p in each(predictions)]
        self._log.write(kept, outcomes, durable=durable)

    def kept(self, p: Prediction) -> Prediction:
        """The prediction as the log keeps it."""
        inputs = _decode(p.inputs or b"{}")
        hidden = {name: self._hash(value) for name, value in inputs.items() if name in self._personal and value is not None}
        if not hidden and self._policy == "hash":
            return p
        values = {inputs[name]: text for name, text in hidden.items() if isinstance(inputs[name], str) and inputs[name]}
        features = p.features
        if values:
            features = _encode([values.get(v, v) if isinstance(v, str) else v for v in _decode(p.features or b"[]")])
        kept = {name: inputs[name] for name in (RECALIBRATED,) if name in inputs}  # of the answer, and not of who asked
        said = _encode({**inputs, **hidden} if self._policy == "hash" else kept)
        return Prediction(
            p.id, p.model, p.moment, p.answered, p.version, p.variant, p.output, p.other_version, p.other_output, said, features, p.micros
        )

    def _hash(self, value: Any) -> str:
        text = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
        return hashed_value(self._key, text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def note(ledger: Ledger, declared: Log | None, model: str, personal: Iterable[str], actor: str) -> Record | None:
    """Put a model's policy on record, for the endpoint, which does not run the project file."""
    policy = {"inputs": declared.inputs, "when_full": declared.when_full} if declared else {"inputs": "full", "when_full": "refuse"}
    body = {**policy, "personal": sorted(set(personal))}
    known = ledger.get(KIND, model)
    if (known is None and declared is None) or (known is not None and dict(known.body) == body):
        return known
    with ledger.transaction():
        record = ledger.put(KIND, model, body)
        ledger.append("log.policy", Ref(KIND, model), body, actor=actor)
    return record


def policed(log: PredictionLog, ledger: Ledger, home: Path, model: str) -> PredictionLog:
    """The log as an endpoint writes it, by what is on record. Raises StorageError when values are to be hashed and the key is not there."""
    record = ledger.get(KIND, model)
    if record is None or (record["inputs"] == "full" and record["when_full"] == "refuse"):
        return log
    key = b""
    if record["inputs"] != "full":
        try:
            key = bytes.fromhex((home / KEY_FILE).read_text("ascii").strip())
        except (OSError, ValueError):
            raise StorageError(
                "The key that personal values are hashed with is not here.", where=str(home / KEY_FILE), hint="Run: treadle deploy, on this machine."
            ) from None
    return cast(PredictionLog, Discreet(log, record["inputs"], record["personal"], key, record["when_full"]))
