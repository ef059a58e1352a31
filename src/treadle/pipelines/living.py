"""Questions about functions, classes, modules and values as they are in memory, asked so that no project code runs and no object can lie."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any

SCALARS = frozenset({str, int, float, bool, bytes, complex, type(None), type(...), type(NotImplemented)})
CONTAINERS = frozenset({list, tuple, dict, set, frozenset})
BUILTIN = types.BuiltinFunctionType | types.MethodDescriptorType | types.WrapperDescriptorType | types.MethodWrapperType
CODE = types.FunctionType | type | types.ModuleType | types.MethodType | BUILTIN | partial


def is_a(value: Any, kinds: Any) -> bool:
    """isinstance that does not ask the object: some claim to be what they are not, or answer with an error."""
    return issubclass(type(value), kinds)


def label(thing: Any, otherwise: str) -> str:
    try:
        return str(getattr(thing, "__qualname__", None) or getattr(thing, "__name__", None) or otherwise)
    except Exception:
        return otherwise


def enum_name(thing: Any) -> str:
    return str(getattr(thing, "_name_", "")) if "_member_map_" in vars(type(thing)) else ""


def wrapped(thing: Any) -> Any:
    """What a decorated function was put around, or None. Asks the object itself, never its `__getattr__`: some answer to every name."""
    if is_a(thing, type) or type(thing) in SCALARS or type(thing) in CONTAINERS:
        return None
    try:
        inner = object.__getattribute__(thing, "__dict__").get("__wrapped__")
    except Exception:
        inner = None
    if inner is None and any("__wrapped__" in vars(kind) for kind in type(thing).__mro__):
        try:
            inner = thing.__wrapped__
        except Exception:
            inner = None
    return inner if callable(inner) else None


def held(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a cell that is not filled yet
            continue


def methods(value: Any) -> Iterator[types.FunctionType]:
    """The functions that a class's attribute holds: methods, properties, cached and decorated ones."""
    for _ in range(8):
        if is_a(value, property):
            yield from (f for f in (value.fget, value.fset, value.fdel) if isinstance(f, types.FunctionType))
            return
        if is_a(value, types.FunctionType):
            yield value
        inner = wrapped(value)
        if inner is None and not is_a(value, type | types.FunctionType):
            held = getattr(value, "__dict__", None)
            inner = getattr(value, "__func__", None) or (held.get("func") if isinstance(held, dict) else None)
        if inner is None or inner is value:
            return
        value = inner


def state(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object of a project class holds, by name."""
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                yield name, getattr(value, name)
    yield from getattr(value, "__dict__", {}).items()


def typed(function: types.FunctionType) -> bool:
    """Whether a function without a file was typed in by somebody: not one that a library made."""
    return function.__globals__.get("__name__") == "__main__" or function.__code__.co_filename.startswith("<ipython")


@cache
def real(path: str) -> str:
    return os.path.realpath(path)


@cache
def existing(path: str) -> str:
    """The file's real path; '' for code that has none ('<string>', a notebook's cell)."""
    return os.path.realpath(path) if path and not path.startswith("<") and os.path.exists(path) else ""


def file_of(function: types.FunctionType) -> str:
    name = function.__code__.co_filename
    found = existing(name)
    return found or (file_in(function.__globals__) if not name.startswith("<") and function.__globals__.get("__name__") != "__main__" else "")


def file_in(names: Mapping[str, Any]) -> str:
    file = names.get("__file__")
    return existing(file) if isinstance(file, str) else ""


def module_path(module: types.ModuleType) -> str:
    places = vars(module)
    found = file_in(places)
    if not found and isinstance(places.get("__path__"), Iterable):  # a package without __init__.py
        found = next((os.path.join(real(str(p)), "__init__.py") for p in places["__path__"]), "")
    return found


def class_file(thing: type) -> tuple[str, Mapping[str, Any]]:
    """The file a class is in, and the names of its module."""
    if thing.__module__ == "builtins":
        return "", {}
    loaded = sys.modules.get(thing.__module__)
    if loaded is not None and vars(loaded).get(thing.__qualname__.partition(".")[0]) is thing:
        return file_in(vars(loaded)), vars(loaded)
    # A module may have been loaded anew, or taken out of the list of modules.
    for value in vars(thing).values():
        for function in methods(value):
            if function.__module__ == thing.__module__ and function.__globals__.get("__name__") == thing.__module__:
                return file_in(function.__globals__), function.__globals__
    return (file_in(vars(loaded)), vars(loaded)) if loaded is not None else ("", {})


def own(path: str, folders: tuple[str, ...]) -> bool:
    """Whether a file is the project's: in one of its folders, and not among the packages installed there."""
    return any(path.startswith(folder + os.sep) for folder in folders) and f"{os.sep}site-packages{os.sep}" not in path


def home(path: str, module: str, folders: tuple[str, ...]) -> str:
    folder = next((f for f in folders if path.startswith(f + os.sep)), None)
    return module if folder is None else path[len(folder) + 1 :].removesuffix(".py").replace(os.sep, ".").removesuffix(".__init__")


def plain(value: Any, inside: tuple[int, ...] = ()) -> bool:
    """Whether it holds nothing but scalars, however deep."""
    if type(value) in SCALARS:
        return True
    if type(value) not in CONTAINERS or id(value) in inside:
        return False
    inner = (*inside, id(value))
    return all(plain(v, inner) for v in value) and (not is_a(value, dict) or all(plain(v, inner) for v in value.values()))


def text(value: Any) -> str:
    """A plain value as text that is the same in every process: sets have no order of their own."""
    if is_a(value, set | frozenset):
        return f"{{{', '.join(sorted(map(text, value)))}}}"
    if is_a(value, dict):
        return f"{{{', '.join(f'{text(k)}: {text(v)}' for k, v in value.items())}}}"
    return f"{type(value).__name__}({', '.join(map(text, value))})" if is_a(value, list | tuple) else repr(value)
