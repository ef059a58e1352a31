"""What would run and why: a step's key is a digest of everything its result depends on. Pure but for looking results up."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from treadle.core.canonical import digest
from treadle.core.errors import UsageError
from treadle.core.records import Record
from treadle.pipelines.files import FileMemo, file_params
from treadle.pipelines.graph import Slot, Step
from treadle.pipelines.meaning import meaning
from treadle.ports.ledger import Ledger

RESULT = "result"
LATEST = "latest_result"
_SHORT = 80
_HEXADECIMAL = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True)
class Ingredients:
    """What a result depends on: code, parameters and files by name (digests, or values where they are short), inputs by their content's address."""

    code: Mapping[str, str]
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)

    def key(self, step: str) -> str:
        """The digest of all of them."""
        return digest([step, dict(self.code), dict(self.params), dict(self.inputs), dict(self.files)])

    def body(self) -> dict[str, Any]:
        """For the ledger."""
        return {"code": dict(self.code), "params": dict(self.params), "inputs": dict(self.inputs), "files": dict(self.files)}


def ingredients(step: Step, inputs: Mapping[str, str], roots: Sequence[Path], memo: FileMemo | None = None) -> Ingredients:
    """What a step's result depends on, given the content addresses of its inputs.

    A parameter that is a path, or the name of an existing file, counts by the file's content.
    """
    code = meaning(step.function, roots)
    for function in step.code:
        code.update(meaning(function, roots))
    params = {name: param_digest(step.name, name, value) for name, value in step.params.items()}
    for name, template in step.templates.items():
        params[name] = digest(_shape(template))
    return Ingredients(code, params, dict(inputs), file_params(step.params, roots[0], memo) if roots else {})


def element(whole: Ingredients, over: str, value: str) -> Ingredients:
    """What one task of a fan-out depends on: as the whole, but its own element (by digest or address) in place of the list."""
    return replace(
        whole, params={**{k: v for k, v in whole.params.items() if k != over}, over: value},
        inputs={k: v for k, v in whole.inputs.items() if k != over},
        files={k: v for k, v in whole.files.items() if k != over and not k.startswith((f"{over}[", f"{over}."))},
    )  # fmt: skip


def param_digest(step: str, name: str, value: Any) -> Any:
    """A parameter as the record keeps it: itself where it is short and plain, else a digest."""
    if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _SHORT):
        return value
    try:
        return f"sha256:{digest(value)}"
    except TypeError:
        pass
    try:
        return f"sha256:{hashlib.sha256(pickle.dumps(value, protocol=5)).hexdigest()}"
    except Exception as error:
        raise UsageError(
            f"Argument {name!r} is a {type(value).__name__}, which cannot be told from another one: {error}", where=f"step {step!r}",
            hint="Give plain values, or let a step make the object.",
        ) from None  # fmt: skip


def reason(step: str, now: Ingredients, ledger: Ledger, scope: str) -> str:
    """Why a step must run, in one line: what changed since it last ran in this project and model."""
    last = ledger.get(LATEST, f"{scope}.{step}")
    found = ledger.get(RESULT, last["key"]) if last is not None else None
    if found is not None and found.get("erased"):
        return "its stored result was dropped when a person was erased"
    if found is None or "ingredients" not in found.body:
        return "never ran"
    changed = changes(found["ingredients"], now.body())
    return changed[0] if changed else "its stored result is gone"


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between the ingredients of two results, a line each: code first, then parameters, files, inputs."""
    said = []
    for name, value in now["code"].items():
        before = then["code"].get(name)
        if before is None:
            said.append(f"{_short(name)} is new")
        elif before != value:
            said.append(f"package {name[8:]} changed from {before} to {value}" if name.startswith("package:") else f"{_short(name)} changed")
    said += [f"{_short(name)} is no longer used" for name in then["code"] if name not in now["code"]]
    for name in sorted({*now["params"], *then["params"]}):
        a, b = then["params"].get(name), now["params"].get(name)
        if a != b or type(a) is not type(b):
            told = not any(is_digest(v) for v in (a, b))
            said.append(f"parameter {name} changed from {a!r} to {b!r}" if told else f"parameter {name} changed")
    for name in sorted({*now.get("files", {}), *then.get("files", {})}):
        if then.get("files", {}).get(name) != now.get("files", {}).get(name):
            said.append(f"the file in parameter {name} changed")
    for name in sorted({*now["inputs"], *then["inputs"]}):
        if then["inputs"].get(name) != now["inputs"].get(name):
            said.append(f"input {name} changed")
    return said


def is_digest(value: Any) -> bool:
    """Whether a recorded parameter is a digest of what it was, which says nothing to a person."""
    return isinstance(value, str) and (value.startswith("sha256:") or _HEXADECIMAL.fullmatch(value) is not None)


def stored(key: str, ledger: Ledger) -> Record | None:
    """The recorded result for a key, or None; one that was dropped with a person's data is none."""
    found = ledger.get(RESULT, key)
    return None if found is None or found.get("erased") else found


def fill(template: Any, inputs: Mapping[str, Any]) -> Any:
    """A template with the results in their places. Raises KeyError, IndexError or TypeError where a result has no such part."""
    if isinstance(template, Slot):
        value = inputs[template.input]
        for key in template.path:
            value = value[key]
        return value
    if type(template) in (list, tuple):
        return type(template)(fill(v, inputs) for v in template)
    if isinstance(template, dict):
        return {k: fill(v, inputs) for k, v in template.items()}
    return template


def _shape(template: Any) -> Any:
    if isinstance(template, Slot):
        return {"slot": template.input, "path": list(template.path)}
    if isinstance(template, list | tuple):
        return [type(template).__name__, *map(_shape, template)]
    if isinstance(template, dict):
        return {str(k): _shape(v) for k, v in template.items()}
    return param_digest("", "", template)


def _short(name: str) -> str:
    if name.startswith("treadle:"):
        return f"Treadle itself ({name[8:]})"
    if name.startswith("module:"):
        return f"module {name[7:]}"
    module, _, last = name.rpartition(".")
    return f"{last} in {module.rpartition('.')[2]}" if module else last
