"""What would run and why: a step's key is a digest of everything its result depends on. Pure but for looking results up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from treadle.core.canonical import digest
from treadle.core.records import Record
from treadle.pipelines.graph import Step
from treadle.pipelines.meaning import meaning
from treadle.ports.ledger import Ledger

RESULT = "result"
LATEST = "latest_result"


@dataclass(frozen=True)
class Ingredients:
    """What a result depends on: code (name to digest), parameters, and the address of each input's content."""

    code: Mapping[str, str]
    params: Mapping[str, Any]
    inputs: Mapping[str, str]

    def key(self, step: str) -> str:
        """The digest of all of them."""
        return digest([step, dict(self.code), dict(self.params), dict(self.inputs)])


def ingredients(step: Step, inputs: Mapping[str, str], roots: Sequence[Path]) -> Ingredients:
    """What a step's result depends on, given the content addresses of its inputs."""
    code = meaning(step.function, roots)
    for function in step.code:
        code.update(meaning(function, roots))
    return Ingredients(code, dict(step.params), dict(inputs))


def reason(step: str, now: Ingredients, ledger: Ledger, scope: str) -> str:
    """Why a step must run, in one line: what changed since it last ran in this project and model."""
    last = ledger.get(LATEST, f"{scope}.{step}")
    if last is None:
        return "never ran"
    then = last["ingredients"]
    for name in now.code:
        if name not in then["code"]:
            return f"{_short(name)} is new"
        if then["code"][name] != now.code[name]:
            if name.startswith("package:"):
                return f"package {name[8:]} changed from {then['code'][name]} to {now.code[name]}"
            return f"{_short(name)} changed"
    for name in then["code"]:
        if name not in now.code:
            return f"{_short(name)} is no longer used"
    for name, value in now.params.items():
        if digest(then["params"].get(name)) != digest(value):
            return f"parameter {name} changed"
    for name, address in now.inputs.items():
        if then["inputs"].get(name) != address:
            return f"input {name} changed"
    return "its stored result is gone"


def _short(name: str) -> str:
    if name.startswith("treadle:"):
        return f"Treadle itself ({name[8:]})"
    if name.startswith("module:"):
        return f"module {name[7:]}"
    module, _, last = name.rpartition(".")
    return f"{last} in {module.rpartition('.')[2]}" if module else last


def stored(key: str, ledger: Ledger) -> Record | None:
    """The recorded result for a key, or None."""
    return ledger.get(RESULT, key)
