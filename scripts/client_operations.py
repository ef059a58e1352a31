"""Writes src/treadle/client/operations.py from the server's table of operations; --check says whether it is up to date."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

import msgspec

from treadle.web.console.openapi import names_in
from treadle.web.console.operation import Operation
from treadle.web.console.table import OPERATIONS

FILE = Path(__file__).parent.parent / "src/treadle/client/operations.py"
HEAD = '''"""A method for each operation of a Treadle server. Written by scripts/client_operations.py from the server's table: do not edit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Operations:
    """What a server can be asked. Every method raises the errors of `treadle.core.errors` that the server tells of, and Unavailable."""

    def _ask(self, method: str, path: str, names: Mapping[str, str], given: Mapping[str, Any], raw: bool = False, key: str | None = None) -> Any:
        raise NotImplementedError
'''


def written() -> str:
    """The whole file."""
    return HEAD + "".join(_method(o) for o in OPERATIONS if not o.name.startswith("api."))


def _method(operation: Operation) -> str:
    names = names_in(operation.path)
    kind = operation.body if operation.method == "POST" else operation.query
    fields = msgspec.structs.fields(kind) if kind is not None else ()
    needed = [f for f in fields if f.required]
    others = [f for f in fields if not f.required]
    renamed = {f.name: f.name + "_" if f.name in names else f.name for f in fields}
    given = ["self", *(f"{n}: str" for n in names)]
    keyed = [f"{renamed[f.name]}: {_type(f)}" for f in needed] + [f"{renamed[f.name]}: {_type(f)} | None = None" for f in others]
    if operation.method == "POST":
        keyed.append("key: str | None = None")
    if keyed:
        given += ["*", *keyed]
    answer = "bytes" if operation.raw else "dict[str, Any]"
    place = "{" + ", ".join(f'"{n}": {n}' for n in names) + "}"
    values = "{" + ", ".join(f'"{f.encode_name}": {renamed[f.name]}' for f in fields) + "}"
    more = (", raw=True" if operation.raw else "") + (", key=key" if operation.method == "POST" else "")
    call = f'self._ask("{operation.method}", "{operation.path}", {place}, {values}{more})'
    head = f"    def {operation.name.replace('.', '_')}({', '.join(given)}) -> {answer}:"
    if len(head) > 150:
        lines = textwrap.wrap(", ".join(given), 140, break_long_words=False)
        head = f"    def {operation.name.replace('.', '_')}(\n        " + "\n        ".join(lines) + f"\n    ) -> {answer}:  # fmt: skip"
    body = f"        return {answer.partition('[')[0]}({call})"
    if len(body) > 150:
        lines = textwrap.wrap(call, 136, break_long_words=False, break_on_hyphens=False)
        body = f"        return {answer.partition('[')[0]}(\n            " + "\n            ".join(lines) + "\n        )  # fmt: skip"
    text = f'        """{operation.summary} Needs {operation.permission!r}."""'
    return f"\n{head}\n{text}\n{body}\n"


def _type(field: Any) -> str:
    text = str(field.type)
    for name, kind in (("bool", "bool"), ("int", "int"), ("float", "float"), ("dict", "Mapping[str, Any]"), ("list", "list[str]")):
        if f"'{name}'" in text or text.startswith((f"{name}[", name + " ", f"typing.Annotated[{name}", f"collections.abc.{name}")):
            return kind
    return "str"


def main() -> int:
    """Write the file, or say that it is old."""
    text = written()
    if "--check" in sys.argv:
        if not FILE.exists() or FILE.read_text("utf-8") != text:
            print(f"{FILE.name} is out of date: run python scripts/client_operations.py", file=sys.stderr)
            return 1
        return 0
    FILE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
