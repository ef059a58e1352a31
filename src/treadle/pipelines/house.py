"""A digest of Treadle's own code, module by module: an upgrade makes stale what it may have changed."""

from __future__ import annotations

import hashlib
import os
import re
from functools import cache
from pathlib import Path

_HOUSE = str(Path(__file__).resolve().parents[1])
_IMPORT = re.compile(r"^\s*from (treadle[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)


@cache
def _house_file(name: str) -> tuple[str, tuple[str, ...]] | None:
    """One of Treadle's modules: digest of its file, and what it imports of Treadle."""
    path = os.path.join(_HOUSE, *name.split(".")[1:])
    file = os.path.join(path, "__init__.py") if os.path.isdir(path) else f"{path}.py"
    try:
        with open(file, "rb") as opened:
            said = opened.read()
    except OSError:  # `from module import name`: the name is not a module
        return None
    taken: list[str] = []
    for package, names in _IMPORT.findall(said.decode()):
        taken.append(package)
        taken.extend(f"{package}.{n.strip().split(' ')[0]}" for n in names.strip("() ").split(","))
    return hashlib.sha256(said).hexdigest()[:16], tuple(taken)


@cache
def house(module: str) -> str:
    """A digest of one of Treadle's own modules and those it imports: an upgrade of Treadle makes stale what it may have changed."""
    seen: dict[str, str] = {}
    stack, met = [module], {module}
    while stack:
        name = stack.pop()
        found = _house_file(name) if name == "treadle" or name.startswith("treadle.") else None
        if found is not None:
            seen[name] = found[0]
            fresh = [n for n in found[1] if n not in met]
            met.update(fresh)
            stack.extend(fresh)
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()[:16]
