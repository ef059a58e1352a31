"""A formula computed over the columns of a frame (training): a plan of Polars expressions. See `formula.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import polars as pl

from treadle.core.errors import DataError
from treadle.core.formula import COMPARE, UNCHECKED, Formula, Node

_KINDS: dict[str | None, Any] = {
    "number": pl.Float64, "truth": pl.Boolean, "text": pl.String, "moment": pl.Datetime("us", "UTC"), None: pl.Null,
}  # fmt: skip


def column(formula: Formula, frame: pl.DataFrame, *, name: str = "", where: str | None = None) -> pl.Series:
    """The formula over a frame: Float64 or String, missing as null. Raises DataError for a column that is missing or of another kind."""
    plan = _Plan(formula, frame, name, where)
    return plan.column()


class _Plan:
    """A plan of expressions, one column after the other: what is used twice is a column of its own, so that nothing is computed twice."""

    def __init__(self, formula: Formula, frame: pl.DataFrame, name: str, where: str | None) -> None:
        self._formula = formula
        loads = []
        for i, (column, kind) in enumerate(formula.names.items()):
            what = f"Formula {name!r}" if name else "The formula"
            if column not in frame.columns:
                raise DataError(f"{what} uses {column!r}, which is missing.", where=where, hint=f"There are: {frame.columns}.")
            dtype, load = frame.schema[column], pl.col(column)
            fits = {
                "number": dtype.is_numeric() or dtype == pl.Boolean, "text": dtype in (pl.String, pl.Categorical, pl.Enum),
                "moment": dtype == pl.Datetime,
            }  # fmt: skip
            if dtype != pl.Null and not fits[kind if kind != "truth" else "number"]:
                a = {"number": "a number", "truth": "a number", "text": "a text", "moment": "a moment"}[kind]
                hint = f"To compare two columns of text write lower({column}) == lower(...)." if fits["text"] else None
                raise DataError(f"{what} takes {column!r} as {a}, but it is {dtype}.", where=where, hint=hint)
            if kind in ("number", "truth"):
                load = load.cast(pl.Float64)
            elif kind == "text":
                load = load.cast(pl.String)
            else:
                load = load.cast(pl.Datetime("us", "UTC"))
            loads.append(load.alias(f"n{i}"))
        self._names = {column: f"n{i}" for i, column in enumerate(formula.names)}
        self._frame = frame.lazy().select(loads)
        self._count = 0
        self._known: dict[Node, pl.Expr] = {}
        finite = [pl.col(self._names[c]) for c, kind in formula.names.items() if kind in ("number", "truth")]
        if finite:
            self._frame = self._frame.with_columns(pl.when(e.is_finite()).then(e) for e in finite)

    def column(self) -> pl.Series:
        tree = self._formula.tree
        found = self._finite(tree) if tree.kind == "number" else self._expression(tree)
        if tree.kind == "truth":
            found = found.cast(pl.Float64)
        elif tree.kind == "number":
            found = self._kept(found)
            found = pl.when(found == 0.0).then(0.0).otherwise(found)  # minus zero is zero
        # As written: what an optimiser takes for the same (x + 0 and x) is not.
        return self._frame.select(found.alias("result")).collect(optimizations=pl.QueryOptFlags.none()).to_series()

    def _kept(self, expression: pl.Expr) -> pl.Expr:
        """The expression as a column of its own."""
        name = f"t{self._count}"
        self._count += 1
        self._frame = self._frame.with_columns(expression.alias(name))
        return pl.col(name)

    def _expression(self, node: Node) -> pl.Expr:
        if node.op in ("literal", "missing"):
            return self._literal(node)
        if node not in self._known:
            self._known[node] = self._kept(self._made(node))
        return self._known[node]

    def _literal(self, node: Node) -> pl.Expr:
        return pl.lit(node.value, dtype=_KINDS[node.kind])

    def _finite(self, node: Node) -> pl.Expr:
        """A number that is finite or missing. Sums and products are checked only where something else looks at them."""
        found = self._number(node)
        if node.op not in UNCHECKED or node.kind != "number":
            return found
        return self._kept(pl.when(found.is_finite()).then(found))

    def _number(self, node: Node) -> pl.Expr:
        found = self._expression(node)
        return found.cast(pl.Float64) if node.kind in ("truth", None) else found

    def _truth(self, node: Node) -> pl.Expr:
        if node.kind is None:
            return pl.lit(None, dtype=pl.Boolean)
        return self._expression(node) if node.kind == "truth" else self._finite(node) != 0.0

    def _as(self, node: Node, kind: str | None) -> pl.Expr:
        if kind == "number":
            return self._finite(node)
        if kind == "truth":
            return self._truth(node)
        return self._literal(Node("missing", kind=kind)) if node.kind is None else self._expression(node)  # type: ignore[arg-type]

    def _made(self, node: Node) -> pl.Expr:
        op, args = node.op, node.args
        if op == "name":
            return pl.col(self._names[node.value])
        if op == "+" and node.kind == "text":
            return pl.concat_str([self._as(a, "text") for a in args])
        if op == "seconds" or (op == "-" and "moment" in (args[0].kind, args[1].kind)):
            left, right = (self._as(a, "moment").cast(pl.Int64) for a in (reversed(args) if op == "seconds" else args))
            return pl.map_batches([(left - right).cast(pl.Float64), pl.lit(1_000_000.0), left], _divide, return_dtype=pl.Float64)
        if op in ("+", "-", "*"):
            left, right = (self._number(a) for a in args)
            return left + right if op == "+" else left - right if op == "-" else left * right
        if op == "**":
            base = found = self._number(args[0])
            for _ in range(node.value - 1):
                found = found * base
            return found
        if op in ("/", "//", "%"):
            left, right = (self._finite(a) for a in args)
            ratio = self._kept(pl.map_batches([left, right, pl.col(next(iter(self._names.values())))], _divide, return_dtype=pl.Float64))
            if op == "/":
                return ratio
            whole = self._kept(ratio.floor())
            if op == "//":
                return whole
            rest = self._kept(left - right * whole)
            return pl.when(rest.is_finite()).then(rest)
        if op == "neg":
            return -self._finite(args[0])
        if op in ("min", "max"):
            found = self._finite(args[0])
            for arg in args[1:]:
                other = self._finite(arg)
                better = other < found if op == "min" else other > found
                found = self._kept(pl.when(found.is_not_null() & other.is_not_null()).then(pl.when(better).then(other).otherwise(found)))
            return found
        if op in ("abs", "floor", "ceil", "round", "sqrt", "exp", "log", "log1p"):
            return self._function(op, self._finite(args[0]))
        if op == "not":
            return ~self._truth(args[0])
        if op in ("and", "or"):
            found = self._truth(args[0])
            for arg in args[1:]:
                found = found & self._truth(arg) if op == "and" else found | self._truth(arg)
            return found
        if op in (*COMPARE, "in"):
            return self._compared(op, args)
        if op == "is missing":
            inner = args[0]
            return (self._finite(inner) if inner.kind == "number" else self._expression(inner)).is_null()
        if op == "if":
            test = self._truth(args[0])
            yes, no = (self._as(a, node.kind) for a in args[1:])
            return pl.when(test.is_null()).then(self._literal(Node("missing", kind=node.kind))).when(test).then(yes).otherwise(no)
        if op == "coalesce":
            return pl.coalesce([self._as(a, node.kind) for a in args])
        if op == "length":
            return self._as(args[0], "text").str.len_chars().cast(pl.Float64)
        if op == "lower":
            return self._as(args[0], "text").map_batches(_lower, return_dtype=pl.String)
        return self._calendar(op, self._as(args[0], "moment"), node.value)

    def _function(self, op: str, x: pl.Expr) -> pl.Expr:
        if op == "abs":
            return x.abs()
        if op == "floor":
            return x.floor()
        if op == "ceil":
            return x.ceil()
        if op == "round":
            return x.round(0, mode="half_to_even")
        if op == "sqrt":
            return pl.when(x >= 0.0).then(x.sqrt())
        if op == "exp":
            found = self._kept(x.exp())
            return pl.when(found.is_finite()).then(found)
        if op == "log":
            return pl.when(x > 0.0).then(x.log())
        return pl.when(x > -1.0).then(x.log1p())

    def _compared(self, op: str, args: tuple[Node, ...]) -> pl.Expr:
        kinds = {a.kind for a in args} - {None}
        kind = "number" if "number" in kinds else next(iter(kinds), "number")
        left, *rest = (self._as(a, kind) for a in args)
        if op == "in":
            found = left == rest[0]
            for other in rest[1:]:
                found = found | (left == other)
            return left.is_in([a.value for a in args[1:]]) if kind == "text" else found
        right = rest[0]
        table: dict[str, Callable[[], pl.Expr]] = {
            "<": lambda: left < right, "<=": lambda: left <= right, ">": lambda: left > right, ">=": lambda: left >= right,
            "==": lambda: left == right, "!=": lambda: left != right,
        }  # fmt: skip
        return table[op]()

    def _calendar(self, op: str, moment: pl.Expr, zone: str) -> pl.Expr:
        local = moment.dt.convert_time_zone(zone).dt
        if op == "minute_of_day":
            return (local.hour().cast(pl.Int32) * 60 + local.minute()).cast(pl.Float64)
        found: pl.Expr = getattr(local, op)()
        return found.cast(pl.Float64)


def _divide(given: Sequence[pl.Series]) -> pl.Series:
    """The first by the second, as long as the third. By NumPy, because Polars multiplies by the inverse of a constant, which is another number."""
    import numpy as np

    with np.errstate(all="ignore"):
        ratio = np.broadcast_to(given[0].to_numpy() / given[1].to_numpy(), len(given[2]))
        return pl.Series(np.where(np.isfinite(ratio), ratio, np.nan), nan_to_null=True)


def _lower(texts: pl.Series) -> pl.Series:
    """Python's own, value by value, because Polars' follows another edition of Unicode; each different value once."""

    distinct = texts.unique().drop_nulls()
    if not len(distinct):
        return texts
    return texts.replace_strict(distinct, pl.Series([t.lower() for t in distinct.to_list()], dtype=pl.String), default=None, return_dtype=pl.String)
