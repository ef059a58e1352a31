"""What a function means: a digest of its code and of all project code it reaches, blind to comments, formatting and docstrings.

A cached result may be reused only while this digest stands. Reached are the functions, classes, constants and modules that the code names,
as long as they belong to the project folder or to Treadle; third-party packages count by their version.
"""

from __future__ import annotations

import ast
import builtins
import hashlib
import importlib.metadata
import inspect
import sys
import textwrap
import types
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

_HOUSE = str(Path(__file__).resolve().parents[1])


def meaning(function: Callable[..., Any], roots: Iterable[Path] = ()) -> dict[str, str]:
    """Name of everything the function reaches to the digest of what it says.

    Args:
        roots: folders whose code counts as the project's own; Treadle's own code always does.
    Returns: for example {'features.clean_times': 'a1b2...', 'package:polars': '2.1.0'}.
    """
    found: dict[str, str] = {}
    folders = (_HOUSE, *(str(Path(r).resolve()) for r in roots))
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
        elif not hasattr(builtins, name) and name in sys.modules:
            _package(name, found)


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
    elif value is None or isinstance(value, str | int | float | bool | bytes | tuple | list | dict | set | frozenset):
        found[name] = hashlib.sha256(repr(sorted(value, key=repr) if isinstance(value, set | frozenset) else value).encode()).hexdigest()[:16]


@cache
def _all_names(code: types.CodeType) -> tuple[str, ...]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.extend(_all_names(constant))
    return tuple(dict.fromkeys(names))


def _package(module: str | None, found: dict[str, str]) -> None:
    top = (module or "").split(".")[0]
    if not top or top in sys.stdlib_module_names or top == "treadle":
        return
    version = _version(top)
    if version:
        found[f"package:{top}"] = version


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
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return hashlib.sha256(ast.dump(tree, annotate_fields=False, include_attributes=False).encode()).hexdigest()[:16]
