"""Formulas: a small language for features of a request, read into a typed tree. Nothing is computed here, and no code of a project is run.

    >>> tree = read("distance / (air_time / 60) if air_time > 0 else missing")
    >>> tree.kind, tree.names
    ('number', {'air_time': 'number', 'distance': 'number'})

The grammar is the part of Python's expressions listed in docs/how-to/features.md. A value is a number, a truth (number 1 or 0 where a number is
wanted), a text or a moment; each may be missing, and what is computed from something missing is missing. The kinds of the columns are found
from how they are used; a column whose use does not say it is a number.
"""

from __future__ import annotations

import ast
import math
import warnings
from dataclasses import dataclass, field
from typing import Any, Literal

from treadle.core.errors import ProjectError

Kind = Literal["number", "truth", "text", "moment"]
CALENDAR = ("hour", "minute", "minute_of_day", "day", "weekday", "month", "year")
NUMERIC = ("abs", "sqrt", "exp", "log", "log1p", "floor", "ceil", "round")
FUNCTIONS = (*NUMERIC, "min", "max", "coalesce", "length", "lower", *CALENDAR, "seconds", "col")
COMPARE = ("<", "<=", ">", ">=", "==", "!=")
UNCHECKED = ("+", "-", "*", "**", "if", "coalesce")  # what may give a number that is not finite, and is checked where something else looks at it
LONGEST, MOST_NODES, DEEPEST = 2_000, 300, 80
_ARITHMETIC = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.FloorDiv: "//", ast.Mod: "%"}
_COMPARE = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!="}
_A = {"number": "a number", "truth": "a truth", "text": "a text", "moment": "a moment"}


@dataclass(frozen=True)
class Node:
    """One operation. `op` is an operator, 'name', 'literal', 'missing', 'if', 'in', 'is missing', or a function; `kind` what it gives."""

    op: str
    args: tuple[Node, ...] = ()
    value: Any = None
    at: int = field(default=0, compare=False)
    kind: Kind | None = None  # None: missing, whatever was wanted


@dataclass(frozen=True)
class Formula:
    """A formula that was read: its text, its tree, and the kind of each column it uses (in alphabetical order)."""

    text: str
    tree: Node
    names: dict[str, Kind]

    @property
    def kind(self) -> Literal["number", "text"]:
        """What it gives: 'number' (a truth is 1 or 0) or 'text'."""
        return "text" if self.tree.kind == "text" else "number"


def read(text: str, *, name: str = "", place: str | None = None) -> Formula:
    """A formula from its text. Raises ProjectError that names the character (from 1) where it does not fit."""
    return _Reader(text, name, place).formula()


class _Reader:
    def __init__(self, text: str, name: str, place: str | None) -> None:
        self._text, self._name, self._place = text, name, place
        self._kinds: dict[str, Kind | None] = {}
        self._settled: dict[tuple[int, Kind | None], Kind | None] = {}  # so that a part that is asked twice on each level is not asked 2^levels times

    def formula(self) -> Formula:
        if not isinstance(self._text, str) or not self._text.strip():
            raise ProjectError(f"Formula {self._name!r} is empty.", where=self._place, hint='Write for example "distance / air_time".')
        if len(self._text) > LONGEST:
            raise ProjectError(f"Formula {self._name!r} is longer than {LONGEST:,} characters.", where=self._place, hint="Split it.")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "is" with a literal: said better below
                body = ast.parse(self._text.strip().replace("\n", " "), mode="eval").body
        except SyntaxError as error:
            before = self._text.strip()[: max(0, (error.offset or 1) - 1)]
            raise self._error("this cannot be read", len(before.encode()), f"{error.msg}.") from None
        except (ValueError, RecursionError, MemoryError) as error:
            raise self._error(f"this cannot be read ({type(error).__name__})", 0) from None
        count = sum(1 for node in ast.walk(body) if isinstance(node, ast.expr))
        if count > MOST_NODES:
            raise self._error(f"it has {count} parts, more than {MOST_NODES}", 0, "Split it into several features.")
        if _depth(body) > DEEPEST:
            raise self._error(f"it is nested deeper than {DEEPEST}", 0, "Split it into several features.")
        tree = self._node(body)
        for _ in range(len(self._kinds) + 2):  # what one use says of a column helps another; ends when nothing more is learned
            kinds = dict(self._kinds)
            self._settled.clear()
            self._settle(tree, None)
            if self._kinds == kinds:
                break
        for column, kind in self._kinds.items():
            self._kinds[column] = kind or "number"
        if not self._kinds:
            raise self._error("it uses no column", 0)
        self._settled.clear()
        typed = self._typed(tree)
        if typed.kind is None:
            raise self._error("it is always missing", typed.at)
        if typed.kind == "moment":
            raise self._error("it gives a moment", typed.at, "A feature is a number or a text: use hour(...) or a difference of two moments.")
        return Formula(self._text, typed, {c: k for c, k in sorted(self._kinds.items()) if k is not None})

    # From Python's tree to ours: what is not in the language is refused here.

    def _node(self, node: ast.expr) -> Node:
        at = node.col_offset
        if isinstance(node, ast.Constant):
            return self._constant(node, at)
        if isinstance(node, ast.Name):
            return self._name_of(node.id, at)
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.Pow):
                return self._power(node, at)
            sign = _ARITHMETIC.get(type(node.op))
            if sign is None:
                raise self._error(f"there is no operator {_sign(node.op)!r}", at, "There are + - * / // % and ** with 2, 3 or 4.")
            return Node(sign, (self._node(node.left), self._node(node.right)), at=at)
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.Not):
                return Node("not", (self._node(node.operand),), at=at)
            if isinstance(node.op, ast.USub):
                return Node("neg", (self._node(node.operand),), at=at)
            if isinstance(node.op, ast.UAdd):
                return self._node(node.operand)
            raise self._error("there is no operator '~'", at, "Write not.")
        if isinstance(node, ast.BoolOp):
            return Node("and" if isinstance(node.op, ast.And) else "or", tuple(self._node(v) for v in node.values), at=at)
        if isinstance(node, ast.Compare):
            return self._compare(node, at)
        if isinstance(node, ast.IfExp):
            return Node("if", (self._node(node.test), self._node(node.body), self._node(node.orelse)), at=at)
        if isinstance(node, ast.Call):
            return self._call(node, at)
        raise self._error(f"{_named(node)} is not part of a formula", at)

    def _constant(self, node: ast.Constant, at: int) -> Node:
        value = node.value
        if isinstance(value, bool):
            return Node("literal", value=value, at=at, kind="truth")
        if isinstance(value, int | float):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
            if not math.isfinite(number):
                raise self._error("the number is too large", at)
            return Node("literal", value=number, at=at, kind="number")
        if isinstance(value, str):
            return Node("literal", value=value, at=at, kind="text")
        raise self._error(f"{value!r} is not part of a formula", at, "Write missing." if value is None else None)

    def _name_of(self, name: str, at: int) -> Node:
        if name == "missing":
            return Node("missing", at=at)
        self._kinds.setdefault(name, None)
        return Node("name", value=name, at=at)

    def _power(self, node: ast.BinOp, at: int) -> Node:
        power = node.right
        if not isinstance(power, ast.Constant) or type(power.value) is not int or power.value not in (2, 3, 4):
            raise self._error("** takes 2, 3 or 4", power.col_offset, "For others write exp(b * log(a)).")
        return Node("**", (self._node(node.left),), value=power.value, at=at)

    def _compare(self, node: ast.Compare, at: int) -> Node:
        parts: list[Node] = []
        left = node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, ast.Is | ast.IsNot):
                if not (isinstance(right, ast.Name) and right.id == "missing"):
                    raise self._error("'is' is for missing only", right.col_offset, "Write == to compare.")
                found = Node("is missing", (self._node(left),), at=at)
                parts.append(found if isinstance(op, ast.Is) else Node("not", (found,), at=at))
            elif isinstance(op, ast.In | ast.NotIn):
                parts.append(self._member(left, right, isinstance(op, ast.NotIn), at))
            else:
                parts.append(Node(_COMPARE[type(op)], (self._node(left), self._node(right)), at=at))
            left = right
        return parts[0] if len(parts) == 1 else Node("and", tuple(parts), at=at)

    def _member(self, left: ast.expr, right: ast.expr, negated: bool, at: int) -> Node:
        if not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
            raise self._error("'in' needs a list of values", right.col_offset, "For example carrier in ('UA', 'AA').")
        values = tuple(self._node(e) for e in right.elts)
        for value in values:
            literal = value.args[0] if value.op == "neg" else value
            if literal.op != "literal":
                raise self._error("a list of 'in' holds values only", value.at)
        values = tuple(Node("literal", value=-v.args[0].value, at=v.at, kind="number") if v.op == "neg" else v for v in values)
        if len({v.kind for v in values}) > 1:
            raise self._error("a list of 'in' holds values of one kind", right.col_offset)
        found = Node("in", (self._node(left), *values), at=at)
        return Node("not", (found,), at=at) if negated else found

    def _call(self, node: ast.Call, at: int) -> Node:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        if name not in FUNCTIONS:
            raise self._error(f"there is no function {name or ast.unparse(node.func)!r}", at, f"There are: {', '.join(FUNCTIONS)}.")
        if node.keywords:
            raise self._error(f"{name} takes no named arguments", at)
        count = len(node.args)
        if any(isinstance(a, ast.Starred) for a in node.args):
            raise self._error("'*' is not part of a formula", at)
        if name == "col":
            if count != 1 or not isinstance(node.args[0], ast.Constant) or not isinstance(node.args[0].value, str):
                raise self._error("col takes the name of a column as text", at, "For example col('air time').")
            column = node.args[0].value
            self._kinds.setdefault(column, None)
            return Node("name", value=column, at=at)
        if name in CALENDAR:
            zone = node.args[1] if count == 2 else ast.Constant("UTC")
            if count not in (1, 2) or not isinstance(zone, ast.Constant) or not isinstance(zone.value, str):
                raise self._error(f"{name} takes a moment and a time zone as text", at, f"For example {name}(at, 'Europe/Berlin').")
            from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # it loads much

            try:
                ZoneInfo(zone.value)
            except (ZoneInfoNotFoundError, ValueError):
                raise self._error(f"{zone.value!r} is not a time zone", zone.col_offset, "Use a name like 'Europe/Berlin' or 'UTC'.") from None
            return Node(name, (self._node(node.args[0]),), value=zone.value, at=at)
        if name == "seconds" and count != 2:
            raise self._error("seconds takes two moments", at, "For example seconds(ordered_at, asked_at).")
        if name in ("min", "max", "coalesce") and count < 2:
            raise self._error(f"{name} takes two values or more", at)
        if name not in ("min", "max", "coalesce", "seconds") and count != 1:
            raise self._error(f"{name} takes one value, not {count}", at)
        return Node(name, tuple(self._node(a) for a in node.args), at=at)

    # Kinds: what is wanted goes down, what is known comes up.

    def _settle(self, node: Node, want: Kind | None) -> Kind | None:
        key = (id(node), want)
        if key not in self._settled:
            self._settled[key] = self._settled_anew(node, want)
        return self._settled[key]

    def _settled_anew(self, node: Node, want: Kind | None) -> Kind | None:
        kind = self._kind(node, want)
        if node.op == "missing" or kind is None:
            return want
        if want is not None and kind != want and {kind, want} != {"number", "truth"}:
            what = f"{node.value!r} is {_A[kind]} elsewhere in it" if node.op == "name" else f"this is {_A[kind]}"
            raise self._error(f"{what}, but here {_A[want]} is wanted", node.at)
        return kind

    def _kind(self, node: Node, want: Kind | None) -> Kind | None:
        op, args = node.op, node.args
        if op == "name":
            if self._kinds[node.value] is None and want is not None:
                self._kinds[node.value] = "number" if want == "truth" else want
            return self._kinds[node.value]
        if op in ("literal", "missing"):
            return node.kind
        if op in ("+", "-") and len(args) == 2:
            return self._plus(node, want)
        if op in ("*", "**", "/", "//", "%", "neg", "min", "max", *NUMERIC):
            self._each(args, "number")
            return "number"
        if op in ("and", "or", "not"):
            self._each(args, "truth")
            return "truth"
        if op in _COMPARE.values():
            self._alike(args, None, ordered=op not in ("==", "!="))
            return "truth"
        if op == "in":
            self._alike(args, None)
            return "truth"
        if op == "is missing":
            self._settle(args[0], None)
            return "truth"
        if op == "if":
            self._settle(args[0], "truth")
            return self._alike(args[1:], want)
        if op == "coalesce":
            return self._alike(args, want)
        if op in ("length", "lower"):
            self._each(args, "text")
            return "number" if op == "length" else "text"
        self._each(args, "moment")
        return "number"

    def _plus(self, node: Node, want: Kind | None) -> Kind | None:
        left, right = (self._settle(a, None) for a in node.args)
        if node.op == "+" and "text" in (left, right, want):
            self._each(node.args, "text")
            return "text"
        if node.op == "-" and "moment" in (left, right):
            self._each(node.args, "moment")
            return "number"
        if want is None and left is None and right is None:
            return None
        self._each(node.args, "number")
        return "number"

    def _each(self, nodes: tuple[Node, ...], want: Kind) -> None:
        for node in nodes:
            self._settle(node, want)

    def _alike(self, nodes: tuple[Node, ...], want: Kind | None, *, ordered: bool = False) -> Kind | None:
        found = want
        for node in nodes:
            kind = self._settle(node, None)
            found = found or kind
            if kind == "number" and found == "truth":
                found = "number"
        if ordered and found == "text":
            raise self._error("texts have no order here", nodes[0].at, "Compare them with ==, != or in.")
        if found is not None:
            self._each(nodes, found)
        return found

    def _typed(self, node: Node) -> Node:
        args = tuple(self._typed(a) for a in node.args)
        return Node(node.op, args, node.value, node.at, self._settle(node, None))

    def _error(self, what: str, at: int, hint: str | None = None) -> ProjectError:
        # Python counts bytes, people characters; and spaces before the text were not counted.
        begins = len(self._text) - len(self._text.lstrip())
        at = begins + len(self._text.strip().encode()[:at].decode(errors="ignore"))
        shown = self._text[at : at + 30].replace("\n", " ")
        near = f": {shown}{'...' if len(self._text) > at + 30 else ''}" if shown else ""
        return ProjectError(f"Formula {self._name!r}: {what}, at character {at + 1}{near}.", where=self._place, hint=hint)


def _depth(body: ast.expr) -> int:
    """How many expressions stand inside each other."""
    deepest, look = 0, [(body, 1)]
    while look:
        node, depth = look.pop()
        deepest = max(deepest, depth)
        look += [(child, depth + 1) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]
    return deepest


def _sign(op: ast.operator) -> str:
    return {"BitAnd": "&", "BitOr": "|", "BitXor": "^", "LShift": "<<", "RShift": ">>", "MatMult": "@"}.get(type(op).__name__, type(op).__name__)


def _named(node: ast.expr) -> str:
    return {
        "Attribute": "a dot", "Subscript": "a bracket []", "Lambda": "lambda", "ListComp": "a loop", "SetComp": "a loop", "DictComp": "a loop",
        "GeneratorExp": "a loop", "Dict": "a dictionary", "Tuple": "a list", "List": "a list", "Set": "a list", "JoinedStr": "an f-text",
        "NamedExpr": ":=", "Await": "await", "Yield": "yield", "Starred": "*",
    }.get(type(node).__name__, type(node).__name__)  # fmt: skip
