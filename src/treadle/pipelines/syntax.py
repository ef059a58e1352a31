"""What code says: one parse per file, and for each function or class in it a digest, the names it reads and the things it changes.

The digest is blind to comments, layout, docstrings and to annotations that nothing reads when the code runs.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

Chain = tuple[str, ...]  # a dotted name: ('np', 'random', 'rand')
Import = tuple[int, str, tuple[str, ...]]  # leading dots, module, names taken from it

# Methods that change what they are called on.
_CHANGING = frozenset({
    "add", "append", "appendleft", "clear", "difference_update", "discard", "extend", "extendleft", "fit", "fit_transform", "insert",
    "intersection_update", "move_to_end", "partial_fit", "pop", "popitem", "popleft", "put", "put_nowait", "remove", "reverse", "set_params",
    "setdefault", "sort", "subtract", "symmetric_difference_update", "update", "write", "writelines",
})  # fmt: skip
_INSIDE = frozenset({"get", "setdefault", "values", "items"})  # what these return is a part of what they are called on
_CHANGES_FIRST = frozenset({
    "setattr", "delattr", "next", "heappush", "heappop", "heapify", "heapreplace", "insort", "insort_left", "insort_right", "shuffle",
})  # fmt: skip
_NO_MEANING = frozenset({"ctx", "type_comment", "kind", "type_ignores"})
_FIELDS: dict[type, tuple[str, ...]] = {}
_DEF = ast.FunctionDef | ast.AsyncFunctionDef
_MAKING = frozenset({"__init__", "__new__", "__post_init__", "__setstate__", "__init_subclass__", "__set_name__"})


@dataclass(frozen=True, slots=True, eq=False)
class Said:
    """What a piece of code says.

    Args:
        chains: the dotted names it reads, whether global or not.
        stores: the plain names it gives values to.
        changes: dotted names of things it changes in place: `CACHE[k] = v` and `CACHE.append(v)` give ('CACHE',).
        rebinds: global names it gives new values to.
        imports: modules it imports inside.
        loose: known from its byte code only: which name is an attribute of which is not known.
    """

    digest: str
    node: ast.AST | None
    chains: tuple[Chain, ...]
    stores: frozenset[str]
    changes: frozenset[Chain]
    rebinds: frozenset[str]
    imports: tuple[Import, ...]
    loose: bool = False


class _Reader:
    """Reads a syntax tree once: writes it down as text and notes names on the way."""

    def __init__(self, steps: frozenset[Chain]) -> None:
        self.steps = steps
        self.out: list[str] = []
        self.chains: set[Chain] = set()
        self.stores: set[str] = set()
        self.changes: set[Chain] = set()
        self.globals: set[str] = set()
        self.imports: dict[Import, None] = {}
        self.aliases: list[tuple[str, Chain]] = []
        self.scope = "module"
        self.typed = False

    def say(self, node: ast.AST) -> None:
        kind = type(node)
        special = _SPECIAL.get(kind)
        if special is not None:
            special(self, node)
        else:
            self.fields(node, kind)

    def fields(self, node: ast.AST, kind: type, leave: tuple[str, ...] = ()) -> None:
        names = _FIELDS.get(kind)
        if names is None:
            names = _FIELDS[kind] = tuple(f for f in kind._fields if f not in _NO_MEANING)  # type: ignore[attr-defined]
        out = self.out
        out.append(kind.__name__)
        out.append("(")
        for name in names:
            if name in leave:
                continue
            value = getattr(node, name, None)
            if value is None:
                continue
            if isinstance(value, list):
                if value:
                    out.append(name)
                    self.several(value)
            elif isinstance(value, ast.AST):
                out.append(name)
                self.say(value)
            else:
                out.append(f"{name}={value!r};")
        out.append(")")

    def several(self, nodes: Iterable[Any]) -> None:
        out = self.out
        out.append("[")
        for node in nodes:
            before = len(out)
            if isinstance(node, ast.AST):
                self.say(node)
            else:
                out.append(repr(node))
            if len(out) > before:
                out.append(",")
        out.append("]")

    def statements(self, body: Iterable[ast.stmt], scope: str) -> None:
        before, self.scope = self.scope, scope
        self.several(body)
        self.scope = before

    def annotation(self, node: ast.expr) -> None:
        self.say(node)
        for inner in ast.walk(node):
            if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
                try:
                    tree = ast.parse(inner.value, mode="eval")
                except (SyntaxError, ValueError):
                    continue
                self.chains.update(dotted for n in ast.walk(tree) if (dotted := chain(n)))

    def said(self, node: ast.AST | None) -> Said:
        changes = set(self.changes)
        for name, of in reversed(self.aliases):
            changes.update(of + c[1:] for c in list(changes) if c[0] == name)
        return Said(
            _hash("".join(self.out)), node, tuple(sorted(self.chains)), frozenset(self.stores), frozenset(changes),
            frozenset(self.globals & self.stores), tuple(self.imports),
        )  # fmt: skip


def _name(reader: _Reader, node: ast.Name) -> None:
    reader.out.append(node.id)
    reader.out.append(" ")
    if isinstance(node.ctx, ast.Load):
        reader.chains.add((node.id,))
    else:
        reader.stores.add(node.id)


def _constant(reader: _Reader, node: ast.Constant) -> None:
    reader.out.append(repr(node.value))
    reader.out.append(" ")


def _attribute(reader: _Reader, node: ast.Attribute) -> None:
    dotted = chain(node)
    if dotted is None:
        reader.fields(node, ast.Attribute)
        if not isinstance(node.ctx, ast.Load):
            _changed(reader, node.value)
        return
    reader.out.append(".".join(dotted))
    reader.out.append(" ")
    if isinstance(node.ctx, ast.Load):
        reader.chains.add(dotted)
    else:
        reader.chains.add(dotted[:-1])
        reader.changes.add(dotted)


def _subscript(reader: _Reader, node: ast.Subscript) -> None:
    reader.fields(node, ast.Subscript)
    if not isinstance(node.ctx, ast.Load):
        _changed(reader, node.value)


def _changed(reader: _Reader, node: ast.expr) -> None:
    dotted = _root(node)
    if dotted is not None:
        reader.changes.add(dotted)


def _call(reader: _Reader, node: ast.Call) -> None:
    reader.fields(node, ast.Call)
    function, given = node.func, node.args
    called = function.id if isinstance(function, ast.Name) else function.attr if isinstance(function, ast.Attribute) else ""
    if isinstance(function, ast.Attribute) and called in _CHANGING:
        _changed(reader, function.value)
    if not given:
        return
    if called in _CHANGES_FIRST:
        _changed(reader, given[0])
    elif called == "getattr" and len(given) > 1 and isinstance(given[1], ast.Constant) and isinstance(given[1].value, str):
        dotted = chain(given[0])
        if dotted is not None:
            reader.chains.add((*dotted, given[1].value))
    elif called in ("import_module", "__import__") and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
        module = given[0].value
        reader.imports[len(module) - len(module.lstrip(".")), module.lstrip("."), ()] = None


def _assign(reader: _Reader, node: ast.Assign) -> None:
    reader.fields(node, ast.Assign)
    if len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        dotted = _root(node.value)
        if dotted is not None:
            reader.aliases.append((node.targets[0].id, dotted))


def _ann_assign(reader: _Reader, node: ast.AnnAssign) -> None:
    if reader.scope == "class":  # what it declares: a dataclass field
        reader.out.append("AnnAssign(")
        reader.say(node.target)
        reader.annotation(node.annotation)
        if node.value is not None:
            reader.say(node.value)
        reader.out.append(")")
    elif node.value is not None:  # elsewhere nothing looks at it
        _assign(reader, ast.Assign(targets=[node.target], value=node.value))


def _function(reader: _Reader, node: Any) -> None:
    reader.stores.add(node.name)
    out = reader.out
    out.append(f"{type(node).__name__} {node.name}")
    decorators = [d for d in node.decorator_list if chain(d.func if isinstance(d, ast.Call) else d) not in reader.steps]
    reader.several(decorators)
    typed, reader.typed = reader.typed, bool(decorators)  # a decorator may look at annotations, nothing else does
    reader.say(node.args)
    if reader.typed and node.returns is not None:
        out.append("->")
        reader.annotation(node.returns)
    reader.typed = False
    reader.statements(node.body, "function")
    reader.typed = typed


def _argument(reader: _Reader, node: ast.arg) -> None:
    reader.out.append(node.arg)
    reader.out.append(" ")
    reader.stores.add(node.arg)
    if reader.typed and node.annotation is not None:
        reader.annotation(node.annotation)


def _class(reader: _Reader, node: ast.ClassDef) -> None:
    reader.stores.add(node.name)
    reader.out.append(f"class {node.name}")
    reader.several(node.decorator_list)
    reader.several(node.bases)
    reader.several(node.keywords)
    reader.statements(node.body, "class")


def _module(reader: _Reader, node: ast.Module) -> None:
    reader.statements(node.body, "module")


def _expression(reader: _Reader, node: ast.Expr) -> None:
    if not (isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)):  # a docstring, of whatever
        reader.fields(node, ast.Expr)


def _pass(reader: _Reader, node: ast.Pass) -> None:
    pass


def _if(reader: _Reader, node: ast.If) -> None:
    dotted = chain(node.test)
    if dotted is not None and dotted[-1] == "TYPE_CHECKING":
        for statement in node.orelse:
            reader.say(statement)
    else:
        reader.fields(node, ast.If)


def _global(reader: _Reader, node: ast.Global) -> None:
    reader.globals.update(node.names)
    reader.fields(node, ast.Global)


def _import(reader: _Reader, node: ast.Import) -> None:
    reader.fields(node, ast.Import)
    for alias in node.names:
        reader.imports[0, alias.name, ()] = None
        reader.stores.add(alias.asname or alias.name.partition(".")[0])


def _import_from(reader: _Reader, node: ast.ImportFrom) -> None:
    reader.fields(node, ast.ImportFrom)
    reader.imports[node.level, node.module or "", tuple(alias.name for alias in node.names)] = None
    reader.stores.update(alias.asname or alias.name for alias in node.names)


_SPECIAL: dict[type, Callable[[_Reader, Any], None]] = {
    ast.Name: _name, ast.Constant: _constant, ast.Attribute: _attribute, ast.Subscript: _subscript, ast.Call: _call, ast.Assign: _assign,
    ast.AnnAssign: _ann_assign, ast.FunctionDef: _function, ast.AsyncFunctionDef: _function, ast.ClassDef: _class, ast.arg: _argument,
    ast.Module: _module, ast.Expr: _expression, ast.Pass: _pass, ast.If: _if, ast.Global: _global, ast.Import: _import, ast.ImportFrom: _import_from,
}  # fmt: skip


def chain(node: ast.AST) -> Chain | None:
    """('a', 'b', 'c') for the expression a.b.c; None for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return (node.id, *reversed(parts)) if isinstance(node, ast.Name) else None


def _root(node: ast.expr) -> Chain | None:
    """The named thing that an expression is a part of: ('a', 'b') for a.b[1] and for a.b.get(k)."""
    while True:
        if isinstance(node, ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _INSIDE:
            node = node.func.value
        else:
            return chain(node)


def read(nodes: Iterable[ast.AST], steps: frozenset[Chain] = frozenset()) -> Said:
    """What these pieces of code say together.

    Args:
        steps: how Treadle's own decorator is called here. It says how a function is run, not what it means.
    """
    reader = _Reader(steps)
    several = list(nodes)
    for node in several:
        reader.say(node)
    return reader.said(several[0] if len(several) == 1 else ast.Module(body=[n for n in several if isinstance(n, ast.stmt)], type_ignores=[]))


class File:
    """One source file, parsed once.

    Args:
        young: it changed after this process began, so what was loaded may be something else: every function is compared with it.
    """

    def __init__(self, path: str, text: bytes | str, young: bool) -> None:
        self.path, self.young = path, young
        collecting = gc.isenabled()
        gc.disable()  # a tree is many small objects that all stay: looking for garbage among them doubles the time
        try:
            self.tree = ast.parse(text)
        finally:
            if collecting:
                gc.enable()
        self._text = text
        self._functions: dict[tuple[int, str], list[ast.AST]] = {}
        self._classes: dict[str, list[ast.ClassDef]] = {}
        self._outer: dict[ast.AST, ast.AST] = {}
        self._lambdas: dict[int, list[ast.Lambda]] | None = None
        self._codes: dict[tuple[int, str], list[CodeType]] | None = None
        self._said: dict[ast.AST, Said] = {}
        self.steps = frozenset(_steps(self.tree))
        self._scan(self.tree.body, "", None)

    def _scan(self, body: list[Any], inside: str, outer: ast.AST | None) -> None:
        for node in body:
            if isinstance(node, _DEF):
                line = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                self._functions.setdefault((line, node.name), []).append(node)
                if outer is not None:
                    self._outer[node] = outer
                self._scan(node.body, f"{inside}{node.name}.<locals>.", outer or node)
            elif isinstance(node, ast.ClassDef):
                self._classes.setdefault(inside + node.name, []).append(node)
                self._scan(node.body, f"{inside}{node.name}.", outer)
            elif not isinstance(node, ast.Assign | ast.Expr | ast.Import | ast.ImportFrom | ast.Return):
                for field in ("body", "orelse", "finalbody", "handlers", "cases"):
                    inner = getattr(node, field, None)
                    if isinstance(inner, list):
                        self._scan(inner, inside, outer)

    def read(self, node: ast.AST) -> Said:
        """What one piece of this file says."""
        said = self._said.get(node)
        if said is None:
            said = self._said[node] = read([node], self.steps)
        return said

    def function(self, code: CodeType) -> ast.AST | None:
        """The definition of a function; None when it is not certain which one it is, or whether the file still says what was loaded."""
        line, name = code.co_firstlineno, code.co_name
        found = self._of_lambda(code) if name == "<lambda>" else self._functions.get((line, name), [])
        if len(found) != 1 or not self._as_loaded(code):
            return None
        return found[0]

    def classes(self, name: str) -> list[ast.ClassDef]:
        """The definitions of a class, by its qualified name."""
        return self._classes.get(name, [])

    def as_loaded(self, codes: Iterable[CodeType]) -> bool:
        """Whether the file still says what these were loaded from."""
        return all(self._as_loaded(code) for code in codes)

    def outermost(self, code: CodeType) -> ast.AST | None:
        """The outermost function around a function's definition."""
        node = self.function(code)
        if node is None:
            return None
        if isinstance(node, ast.Lambda):
            for outer in (n for nodes in self._functions.values() for n in nodes if n not in self._outer):
                if any(inner is node for inner in ast.walk(outer)):
                    return outer
        return self._outer.get(node)

    def binding(self, name: str) -> tuple[list[ast.stmt], Import | None]:
        """The statements at the top of the file that give `name` its value or change it, also by a call of a function that does; and the
        import it comes from, if it does."""
        changing = {name}
        for statement in self.tree.body:
            if isinstance(statement, _DEF) and (said := self.read(statement)) and (name in said.rebinds or any(c[0] == name for c in said.changes)):
                changing.add(statement.name)
        found: list[ast.stmt] = []
        for statement in self.tree.body:
            if isinstance(statement, ast.ImportFrom):
                if any((alias.asname or alias.name) == name for alias in statement.names):
                    source = next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)
                    return [], (statement.level, statement.module or "", (source,))
                continue
            if isinstance(statement, _DEF | ast.ClassDef):
                used = {c[0] for d in statement.decorator_list for n in ast.walk(d) if (c := chain(n))}
                if used & changing:
                    found.append(statement)
                continue
            said = self.read(statement)
            roots = {c[0] for c in said.changes}
            calls = {c[0] for c in said.chains} & (changing - {name})
            if name in said.stores or name in roots or calls:
                found.append(statement)
        return found, None

    def _of_lambda(self, code: CodeType) -> list[Any]:
        if self._lambdas is None:
            self._lambdas = {}
            for node in ast.walk(self.tree):
                if isinstance(node, ast.Lambda):
                    self._lambdas.setdefault(node.lineno, []).append(node)
        found = self._lambdas.get(code.co_firstlineno, [])
        if len(found) < 2:
            return list(found)
        # co_positions counts columns in UTF-8 bytes, as ast does. Some instructions stand for no text and have column 0 or None.
        places = {(a, c) for a, _, c, e in code.co_positions() if a is not None and c is not None and e not in (None, 0)}
        bodies = {n: ((n.body.lineno, n.body.col_offset), (n.body.end_lineno or 0, n.body.end_col_offset or 0)) for n in found}
        return [n for n, (begin, end) in bodies.items() if places and all(begin <= p < end for p in places) and min(places) == _first(n.body)]

    def _as_loaded(self, code: CodeType) -> bool:
        if not self.young:
            return True
        if self._codes is None:
            self._codes = {}
            try:
                stack = [compile(self._text, self.path, "exec", dont_inherit=True)]
            except (SyntaxError, ValueError):
                return False
            while stack:
                for constant in stack.pop().co_consts:
                    if isinstance(constant, CodeType):
                        self._codes.setdefault((constant.co_firstlineno, constant.co_name), []).append(constant)
                        stack.append(constant)
        return code in self._codes.get((code.co_firstlineno, code.co_name), [])


def _steps(tree: ast.Module) -> Iterator[Chain]:
    """The names that `treadle.step` has in a file."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from ((alias.asname or "treadle", "step") for alias in node.names if alias.name == "treadle")
        elif isinstance(node, ast.ImportFrom) and node.module == "treadle" and not node.level:
            yield from ((alias.asname or "step",) for alias in node.names if alias.name == "step")


def _first(node: ast.AST) -> tuple[int, int]:
    return min((n.lineno, n.col_offset) for n in ast.walk(node) if isinstance(n, ast.expr))


def _begun() -> int:
    """When this process began, in nanoseconds since 1970; a little early rather than late."""
    now = time.time()
    try:
        with open("/proc/self/stat") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
        with open("/proc/uptime") as file:
            up = float(file.read().split()[0])
        now -= max(up - ticks / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, ValueError, IndexError):
        now = 0.0  # not known: look twice at every file
    return int((now - 0.1) * 1e9)


_BEGUN = _begun()
_FILES: dict[str, tuple[tuple[int, ...], File | None]] = {}
_CODES: dict[int, tuple[CodeType, Said]] = {}


def file(path: str) -> File | None:
    """A source file as it is now; None when there is none, or it does not parse."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return _shown(path)
    state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
    kept = _FILES.get(path)
    if kept is not None and kept[0] == state:
        return kept[1]
    parsed: File | None
    try:
        with open(path, "rb") as opened:
            parsed = File(path, opened.read(), max(found.st_mtime_ns, found.st_ctime_ns) > _BEGUN)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        parsed = None
    _FILES[path] = (state, parsed)
    return parsed


def _shown(name: str) -> File | None:
    """Code that was typed: notebooks keep what they ran where tracebacks look for it."""
    import linecache

    if name not in linecache.cache:
        return None
    text = "".join(linecache.getlines(name))
    state = (hash(text),)
    kept = _FILES.get(name)
    if kept is not None and kept[0] == state:
        return kept[1]
    parsed: File | None
    try:
        parsed = File(name, text, True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        parsed = None
    _FILES[name] = (state, parsed)
    return parsed


def of_function(code: CodeType, path: str) -> Said:
    """What a function says; by its byte code when its source is not there or does not say it any more."""
    kept = _CODES.get(id(code))
    if kept is not None:
        return kept[1]
    parsed = file(path)
    node = parsed.function(code) if parsed is not None else None
    said = parsed.read(node) if parsed is not None and node is not None else of_bytes(code)
    if len(_CODES) > 50_000:  # a process that loads a project again and again
        _CODES.clear()
    _CODES[id(code)] = (code, said)  # kept, so that no other code gets its id meanwhile
    return said


def of_bytes(code: CodeType) -> Said:
    """What byte code says."""
    import dis

    names = list(all_names(code))
    imports: dict[Import, None] = {}
    for inner in _codes(code):
        instructions = list(dis.get_instructions(inner))
        for i, instruction in enumerate(instructions):
            if instruction.opname == "IMPORT_NAME":
                imports[instructions[i - 2].argval, instruction.argval, tuple(instructions[i - 1].argval or ())] = None
    text = _hash(code_text(code))
    nothing: frozenset[Any] = frozenset()
    return Said(text, None, tuple((n,) for n in sorted(names)), nothing, nothing, nothing, tuple(imports), loose=True)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def all_names(code: CodeType) -> dict[str, None]:
    """Global names and attributes that code names, with the functions inside it."""
    return dict.fromkeys(name for inner in _codes(code) for name in inner.co_names)


def code_text(code: CodeType) -> str:
    """Byte code as text that is the same in every process."""
    constants = [code_text(c) if isinstance(c, CodeType) else _constant_text(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames))


def _constant_text(value: Any) -> str:
    if isinstance(value, frozenset):  # has no order of its own
        return f"{{{', '.join(sorted(map(_constant_text, value)))}}}"
    return f"({', '.join(map(_constant_text, value))})" if isinstance(value, tuple) else repr(value)


def restless(node: ast.ClassDef, parsed: File) -> tuple[frozenset[str], bool]:
    """Attributes that a class's own methods change, and whether methods change the object after it was made."""
    changed: set[str] = set()
    later = False
    for method in node.body:
        if isinstance(method, _DEF):
            first = next((a.arg for a in [*method.args.posonlyargs, *method.args.args]), "")
            names = {c[1] for c in parsed.read(method).changes if len(c) > 1 and c[0] in {first, "cls", "self", node.name}}
            changed |= names
            later = later or (bool(names) and method.name not in _MAKING)
    return frozenset(changed), later
