"""What a function means: a digest of its code and of all project code it reaches, blind to comments, formatting and docstrings.

A cached result may be reused only while this digest stands. Reached are the functions, classes, constants and modules that the code names,
as long as they belong to the project folder. Third-party packages count by their version, Treadle's own modules by their files.
"""

from __future__ import annotations

import ast
import dis
import hashlib
import importlib.metadata
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

_HOUSE = str(Path(__file__).resolve().parents[1])
_IMPORT = re.compile(r"^\s*from (treadle[\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)


def meaning(function: Callable[..., Any], roots: Iterable[Path] = ()) -> dict[str, str]:
    """Name of everything the function reaches to the digest of what it says.

    Args:
        roots: folders whose code counts as the project's own.
    Returns: for example {'features.clean_times': 'a1b2...', 'package:polars': '2.1.0'}.
    """
    found: dict[str, str] = {}
    folders = tuple(str(Path(r).resolve()) for r in roots)
    _reach(function, folders, found, set())
    return dict(sorted(found.items()))


def _reach(thing: Any, folders: tuple[str, ...], found: dict[str, str], seen: set[int]) -> None:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, partial):
        _reach(thing.func, folders, found, seen)
        return
    if isinstance(thing, types.MethodType):
        thing = thing.__func__
    thing = inspect.unwrap(thing) if callable(thing) and hasattr(thing, "__wrapped__") else thing
    if isinstance(thing, types.ModuleType):
        _package(thing.__name__, found)
        return
    if not isinstance(thing, types.FunctionType | type):
        return
    module = sys.modules.get(thing.__module__)
    file = getattr(module, "__file__", None) or (thing.__code__.co_filename if isinstance(thing, types.FunctionType) else "")
    if not str(Path(file).resolve() if file else "").startswith(folders):
        _package(thing.__module__, found)
        return
    name = f"{thing.__module__}.{thing.__qualname__}"
    if isinstance(thing, type):
        found[name] = _source_digest(thing)
        for value in vars(thing).values():
            inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(inner, types.FunctionType):
                _names(inner, folders, found, seen)
        for parent in thing.__bases__:
            _reach(parent, folders, found, seen)
        return
    found[name] = _source_digest(thing)
    _names(thing, folders, found, seen)


def _names(function: types.FunctionType, folders: tuple[str, ...], found: dict[str, str], seen: set[int]) -> None:
    """Follow everything the function's code names: globals, attributes of modules, closures, defaults, local imports."""
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        _value(f"{function.__qualname__} default", default, folders, found, seen)
    for cell_name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            _value(f"{function.__qualname__}.{cell_name}", cell.cell_contents, folders, found, seen)
        except ValueError:  # a cell that is not filled yet
            continue
    for name in _all_names(function.__code__):
        if name in function.__globals__:
            value = function.__globals__[name]
            if isinstance(value, types.ModuleType):
                _module_attributes(value, function.__code__, folders, found, seen)
            else:
                _value(f"{function.__module__}.{name}", value, folders, found, seen)
    for module in _local_imports(function.__code__):
        _imported(module, folders, found)


def _module_attributes(module: types.ModuleType, code: types.CodeType, folders: tuple[str, ...], found: dict[str, str], seen: set[int]) -> None:
    file = str(getattr(module, "__file__", "") or "")
    if not file.startswith(folders):
        _package(module.__name__, found)
        return
    for name in _all_names(code):
        if name in vars(module):
            _value(f"{module.__name__}.{name}", vars(module)[name], folders, found, seen)


def _value(name: str, value: Any, folders: tuple[str, ...], found: dict[str, str], seen: set[int]) -> None:
    if isinstance(value, types.FunctionType | type | types.ModuleType | types.MethodType | partial):
        _reach(value, folders, found, seen)
    elif isinstance(value, list | tuple | dict) and any(callable(v) for v in (value.values() if isinstance(value, dict) else value)):
        for entry in value.values() if isinstance(value, dict) else value:
            _value(name, entry, folders, found, seen)
    elif value is None or isinstance(value, str | int | float | bool | bytes | tuple | list | dict | set | frozenset):
        found[name] = hashlib.sha256(repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value).encode()).hexdigest()[:16]


@cache
def _all_names(code: types.CodeType) -> tuple[str, ...]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.extend(_all_names(constant))
    return tuple(dict.fromkeys(names))


@cache
def _local_imports(code: types.CodeType) -> tuple[str, ...]:
    """Modules that a function imports inside its body."""
    found = [i.argval for i in dis.get_instructions(code) if i.opname == "IMPORT_NAME"]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.extend(_local_imports(constant))
    return tuple(dict.fromkeys(found))


def _imported(module: str, folders: tuple[str, ...], found: dict[str, str]) -> None:
    """A module imported inside a function counts whole: it may not be loaded now, so what is used of it cannot be seen."""
    file = next((f for folder in folders for f in (Path(folder) / (module.replace(".", "/") + ".py"),) if f.is_file()), None)
    if file is not None:
        found[f"module:{module}"] = hashlib.sha256(_normal(file.read_text("utf-8")).encode()).hexdigest()[:16]
    else:
        _package(module, found)


def _package(module: str | None, found: dict[str, str]) -> None:
    top = (module or "").split(".")[0]
    if top == "treadle":
        found[f"treadle:{module}"] = house(str(module))
        return
    if not top or top in sys.stdlib_module_names:
        return
    version = _version(top)
    if version:
        found[f"package:{top}"] = version


@cache
def house(module: str) -> str:
    """A digest of one of Treadle's own modules and those it imports: an upgrade of Treadle makes stale what it may have changed."""
    seen: dict[str, bytes] = {}
    stack = [module]
    while stack:
        name = stack.pop()
        if name in seen or not name.startswith("treadle"):
            continue
        path = Path(_HOUSE, *name.split(".")[1:])
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.is_file():  # `from module import name`: the name is not a module
            continue
        seen[name] = file.read_bytes()
        for package, names in _IMPORT.findall(seen[name].decode()):
            stack.append(package)
            stack.extend(f"{package}.{n.strip().split(' ')[0]}" for n in names.strip("() ").split(","))
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()[:16]


@cache
def _version(top: str) -> str:
    distribution = {"sklearn": "scikit-learn", "xgboost": "xgboost-cpu"}.get(top, top)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _source_digest(thing: types.FunctionType | type) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    except (OSError, TypeError, SyntaxError):
        code = getattr(thing, "__code__", None)
        return hashlib.sha256(repr((code.co_code, code.co_consts, code.co_names) if code else thing).encode()).hexdigest()[:16]
    return hashlib.sha256(_dumped(tree).encode()).hexdigest()[:16]


def _normal(source: str) -> str:
    return _dumped(ast.parse(source))


def _dumped(tree: ast.AST) -> str:
    """A syntax tree as text, without docstrings and places."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree, annotate_fields=False, include_attributes=False)
