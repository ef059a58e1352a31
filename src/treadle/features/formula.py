"""A formula computed over one request (serving); `formula_columns.py` is the same over the columns of a frame, tested to be equal to the last bit.

Numbers are 64-bit floats in both. A result that is not finite, a division by zero, the root or logarithm of what has none: missing. Truths are
three-valued: `false and missing` is false, `true and missing` is missing.

The endpoint runs Python code that is written here from the checked tree. All that comes into it from a formula are numbers and texts, by
`repr`, and the names of columns, likewise; nothing of a project's code is run.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from treadle.core.formula import CALENDAR, COMPARE, UNCHECKED, Formula, Node, read


@lru_cache(maxsize=512)
def parsed(text: str) -> Formula:
    """The formula of a text, read once."""
    return read(text)


def function(formula: Formula) -> Callable[[Mapping[str, Any]], Any]:
    """The formula over one request, a mapping of column to value (moments as microseconds since 1970 UTC): a float, a text, or None for missing."""
    return _Code(formula).compiled()


class _Code:
    """Python written from the tree: one statement an operation, each value in a local of its own, missing as None."""

    def __init__(self, formula: Formula) -> None:
        self._formula = formula
        self._lines: list[str] = []
        self._depth = 1
        self._count = 0
        self._given: dict[str, Any] = {
            "float": float, "floor": math.floor, "ceil": math.ceil, "round": round, "abs": abs, "sqrt": math.sqrt, "exp": _exp,
            "log": math.log, "log1p": math.log1p, "len": len, "__builtins__": {},
        }  # fmt: skip

    def compiled(self) -> Callable[[Mapping[str, Any]], Any]:
        self._names: dict[str, str] = {}
        for i, (column, kind) in enumerate(self._formula.names.items()):
            name = self._names[column] = f"n{i}"
            self._line(f"{name} = get({column!r})")
            if kind in ("number", "truth"):
                self._line(f"if {name} is not None:")
                self._line(f"    {name} = float({name})")
                self._line(f"    if {name} - {name} != 0.0: {name} = None")
        tree = self._formula.tree
        found = self._finite(tree) if tree.kind == "number" else self._value(tree)
        if tree.kind == "truth":
            found = self._number(tree)
        elif tree.kind == "number":
            found = self._guarded([found], f"{found} + 0.0")  # never minus zero
        self._line(f"return {found}")
        source = "def computed(row):\n    get = row.get\n" + "\n".join(self._lines)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "1.0 is None" is clumsy, and right
            code = compile(source, "<formula>", "exec")
        exec(code, self._given)
        made: Callable[[Mapping[str, Any]], Any] = self._given["computed"]
        return made

    def _line(self, text: str) -> None:
        self._lines.append("    " * self._depth + text)

    def _new(self) -> str:
        self._count += 1
        return f"t{self._count}"

    def _guarded(self, operands: list[str], expression: str, *, finite: bool = False, when: str = "") -> str:
        """A new local: None where an operand is None, or `when` does not hold, else the expression."""
        name = self._new()
        tests = [f"{o} is None" for o in dict.fromkeys(operands) if o[0] in "nt" and o != "None"] + (["True"] if "None" in operands else [])
        if when:
            tests.append(f"not ({when})")
        if tests:
            self._line(f"if {' or '.join(tests)}: {name} = None")
            self._line("else:")
            self._depth += 1
        self._line(f"{name} = {expression}")
        if finite:
            self._line(f"if {name} - {name} != 0.0: {name} = None")
        if tests:
            self._depth -= 1
        return name

    def _value(self, node: Node) -> str:
        op, args = node.op, node.args
        if op == "literal":
            return repr(node.value)
        if op == "missing":
            return "None"
        if op == "name":
            return self._names[node.value]
        if op == "+" and node.kind == "text":
            left, right = (self._value(a) for a in args)
            return self._guarded([left, right], f"{left} + {right}")
        if op == "seconds" or (op == "-" and "moment" in (args[0].kind, args[1].kind)):
            left, right = (self._value(a) for a in (reversed(args) if op == "seconds" else args))
            return self._guarded([left, right], f"float({left} - {right}) / 1000000.0")
        if op in ("+", "-", "*"):
            left, right = (self._number(a) for a in args)
            return self._guarded([left, right], f"{left} {op} {right}")
        if op == "**":
            base = self._number(args[0])
            return self._guarded([base], " * ".join([base] * node.value))
        if op in ("/", "//", "%"):
            return self._divided(op, args)
        if op == "neg":
            x = self._finite(args[0])
            return self._guarded([x], f"-({x})")
        if op in ("min", "max"):
            found = self._finite(args[0])
            for arg in args[1:]:
                other, sign = self._finite(arg), "<" if op == "min" else ">"
                found = self._guarded([found, other], f"{other} if {other} {sign} {found} else {found}")
            return found
        if op in ("abs", "floor", "ceil", "round", "sqrt", "exp", "log", "log1p"):
            return self._function(op, self._finite(args[0]))
        if op == "not":
            x = self._truth(args[0])
            return self._guarded([x], f"not {x}")
        if op in ("and", "or"):
            return self._both(op, args)
        if op in (*COMPARE, "in"):
            return self._compared(op, args)
        if op == "is missing":
            name, x = self._new(), self._finite(args[0]) if args[0].kind == "number" else self._value(args[0])
            self._line(f"{name} = {x} is None")
            return name
        if op == "if":
            return self._branch(node)
        if op == "coalesce":
            return self._first(node)
        x = self._value(args[0])
        if op == "length":
            return self._guarded([x], f"float(len({x}))")
        if op == "lower":
            return self._guarded([x], f"{x}.lower()")
        part = f"calendar{len(self._given)}"
        self._given[part] = _calendar(op, node.value)
        return self._guarded([x], f"{part}({x})")

    def _number(self, node: Node) -> str:
        x = self._value(node)
        return self._guarded([x], f"1.0 if {x} else 0.0") if node.kind == "truth" else x

    def _finite(self, node: Node) -> str:
        x = self._number(node)
        if node.op not in UNCHECKED or node.kind != "number":
            return x
        # In the same places as over columns: elsewhere a sum or product that is not finite stays what it is until something looks at it.
        return self._guarded([x], x, finite=True)

    def _truth(self, node: Node) -> str:
        if node.kind in ("truth", None):
            return self._value(node)
        x = self._finite(node)
        return self._guarded([x], f"{x} != 0.0")

    def _as(self, node: Node, kind: str | None) -> str:
        return self._finite(node) if kind == "number" else self._truth(node) if kind == "truth" else self._value(node)

    def _divided(self, op: str, args: tuple[Node, ...]) -> str:
        left, right = (self._finite(a) for a in args)
        ratio = self._guarded([left, right], f"{left} / {right}", finite=True, when=f"{right} != 0.0")
        if op == "/":
            return ratio
        whole = self._guarded([ratio], f"float(floor({ratio}))")
        return whole if op == "//" else self._guarded([whole], f"{left} - {right} * {whole}", finite=True)

    def _function(self, op: str, x: str) -> str:
        if op == "abs":
            return self._guarded([x], f"abs({x})")
        if op in ("floor", "ceil", "round"):
            return self._guarded([x], f"float({op}({x}))")
        if op == "exp":
            return self._guarded([x], f"exp({x})")
        return self._guarded([x], f"{op}({x})", when=f"{x} {'>= 0.0' if op == 'sqrt' else '> 0.0' if op == 'log' else '> -1.0'}")

    def _both(self, op: str, args: tuple[Node, ...]) -> str:
        """Three-valued, and no further than needed: what decides ends it."""
        name, ends = self._new(), "False" if op == "and" else "True"
        self._line(f"{name} = {self._truth(args[0])}")
        for arg in args[1:]:
            self._line(f"if {name} is not {ends}:")
            self._depth += 1
            other = self._truth(arg)
            self._line(f"if {other} is {ends} or {name} is not None: {name} = {other}")
            self._depth -= 1
        return name

    def _compared(self, op: str, args: tuple[Node, ...]) -> str:
        kinds = {a.kind for a in args} - {None}
        kind = "number" if "number" in kinds else next(iter(kinds), "number")
        left = self._as(args[0], kind)
        if op == "in":
            values = f"values{len(self._given)}"
            self._given[values] = frozenset(float(a.value) if kind == "number" else a.value for a in args[1:])
            return self._guarded([left], f"{left} in {values}")
        right = self._as(args[1], kind)
        return self._guarded([left, right], f"{left} {op} {right}")

    def _branch(self, node: Node) -> str:
        test, yes, no = node.args
        name, asked = self._new(), self._truth(test)
        self._line(f"if {asked} is None: {name} = None")
        for head, arm in ((f"elif {asked}:", yes), ("else:", no)):
            self._line(head)
            self._depth += 1
            self._line(f"{name} = {self._as(arm, node.kind)}")
            self._depth -= 1
        return name

    def _first(self, node: Node) -> str:
        name = self._new()
        self._line(f"{name} = {self._as(node.args[0], node.kind)}")
        for arg in node.args[1:]:
            self._line(f"if {name} is None:")
            self._depth += 1
            self._line(f"{name} = {self._as(arg, node.kind)}")
            self._depth -= 1
        return name


def _exp(x: float) -> float | None:
    try:
        return math.exp(x)
    except OverflowError:
        return None


def _calendar(op: str, zone_name: str) -> Callable[[int], float]:
    zone = ZoneInfo(zone_name)
    parts: dict[str, Callable[[datetime], int]] = {
        "hour": lambda t: t.hour, "minute": lambda t: t.minute, "minute_of_day": lambda t: t.hour * 60 + t.minute, "day": lambda t: t.day,
        "weekday": lambda t: t.isoweekday(), "month": lambda t: t.month, "year": lambda t: t.year,
    }  # fmt: skip
    assert set(parts) == set(CALENDAR)
    part = parts[op]
    # Whole seconds decide every part; floor division keeps moments before 1970 right.
    return lambda micros: float(part(datetime.fromtimestamp(micros // 1_000_000, UTC).astimezone(zone)))
