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
import os
import pickle
import re
import sys
import textwrap
import types
from collections.abc import Callable, Iterable
from dataclasses import fields, is_dataclass
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
    _reach(function, folders, found, {})
    return dict(sorted(found.items()))


def _reach(thing: Any, folders: tuple[str, ...], found: dict[str, str], seen: dict[Any, Any]) -> None:
    if id(thing) in seen:
        return
    seen[id(thing)] = thing  # kept, so that no other thing gets its id meanwhile
    if isinstance(thing, partial):
        label = f"partial of {getattr(thing.func, '__qualname__', 'a function')}"
        _value(label, (thing.args, thing.keywords), folders, found, seen)
        _reach(thing.func, folders, found, seen)
        return
    if isinstance(thing, types.MethodType):
        _value(f"{thing.__func__.__qualname__} of", thing.__self__, folders, found, seen)
        thing = thing.__func__
    inner = getattr(thing, "__wrapped__", None)  # what a decorator was put around; the decorator's own function counts too
    if callable(inner) and not isinstance(thing, type):
        _reach(inner, folders, found, seen)
    if isinstance(thing, types.ModuleType):
        _package(thing.__name__, found)
        return
    if not isinstance(thing, types.FunctionType | type):
        return
    file = _file_of(thing)
    if not _inside(file, folders):
        _package(thing.__globals__.get("__name__") if isinstance(thing, types.FunctionType) else thing.__module__, found)
        return
    if isinstance(thing, type):
        _note(found, f"{_home(thing, folders)}.{thing.__qualname__}", _source_digest(thing))
        for value in vars(thing).values():
            method = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(method, types.FunctionType):
                _names(method, folders, found, seen)
        for parent in thing.__bases__:
            _reach(parent, folders, found, seen)
        return
    name = thing.__code__.co_qualname if inner is not None else thing.__qualname__
    _note(found, f"{_home(thing, folders)}.{name}", _source_digest(thing))
    _names(thing, folders, found, seen)


def _file_of(thing: types.FunctionType | type) -> str:
    if isinstance(thing, types.FunctionType):
        file = thing.__code__.co_filename
    else:
        file = getattr(sys.modules.get(thing.__module__), "__file__", None) or ""
    return str(Path(file).resolve()) if file else ""


def _inside(file: str, folders: tuple[str, ...]) -> bool:
    return any(file.startswith(folder + os.sep) for folder in folders)


def _home(thing: types.FunctionType | type, folders: tuple[str, ...]) -> str:
    """The module by its place in the project: what it was imported as may differ from process to process."""
    file = _file_of(thing)
    folder = next((f for f in folders if file.startswith(f + os.sep)), None)
    return thing.__module__ if folder is None else file[len(folder) + 1 :].removesuffix(".py").replace(os.sep, ".").removesuffix(".__init__")


def _note(found: dict[str, str], name: str, said: str) -> None:
    """Two things may have one name (closures of one function): then both count."""
    found[name] = said if found.get(name, said) == said else _hash(found[name] + said)


def _hash(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()[:16]


def _names(function: types.FunctionType, folders: tuple[str, ...], found: dict[str, str], seen: dict[Any, Any]) -> None:
    """Follow everything the function's code names: globals, attributes of modules, closures, defaults, local imports."""
    for i, default in enumerate((*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())):
        _value(f"{function.__qualname__} default {i}", default, folders, found, seen)
    for cell_name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            _value(f"{function.__code__.co_qualname}.{cell_name}", cell.cell_contents, folders, found, seen)
        except ValueError:  # a cell that is not filled yet
            continue
    for name in _all_names(function.__code__):
        if name in function.__globals__:
            value = function.__globals__[name]
            if isinstance(value, types.ModuleType):
                _module_attributes(value, function.__code__, folders, found, seen)
            else:
                _value(f"{_home(function, folders)}.{name}", value, folders, found, seen)
    package = function.__globals__.get("__package__") or ""
    for level, module, names in _local_imports(function.__code__):
        _imported(level, module, names, package, folders, found)


def _module_attributes(module: types.ModuleType, code: types.CodeType, folders: tuple[str, ...], found: dict[str, str], seen: dict[Any, Any]) -> None:
    if (id(module), id(code)) in seen:
        return
    seen[id(module), id(code)] = module
    places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
    if not any(_inside(str(Path(place).resolve()), folders) for place in places if place):
        _package(module.__name__, found)
        return
    for name in _all_names(code):
        value = vars(module).get(name)
        if isinstance(value, types.ModuleType):  # a module of a package
            _module_attributes(value, code, folders, found, seen)
        elif name in vars(module):
            _value(f"{module.__name__}.{name}", value, folders, found, seen)


_CODE = types.FunctionType | type | types.ModuleType | types.MethodType | types.BuiltinFunctionType | partial
_SCALAR = str | int | float | bool | bytes | None


def _value(name: str, value: Any, folders: tuple[str, ...], found: dict[str, str], seen: dict[Any, Any]) -> None:
    """A constant, an object or a function that code names or holds."""
    if isinstance(value, _CODE) or (callable(value) and hasattr(value, "__wrapped__")):
        own = getattr(value, "__name__", "")
        if not isinstance(value, types.ModuleType) and name.rpartition(".")[2] != own:  # which function stands under which name
            _note(found, name, f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', own)}")
        _reach(value, folders, found, seen)
    elif _plain(value):
        _note(found, name, _hash(_text(value)))
    elif id(value) not in seen:
        seen[id(value)] = value
        if isinstance(value, list | tuple | set | frozenset | dict):
            entries = list(value.items() if isinstance(value, dict) else enumerate(value))
            _note(found, name, f"{type(value).__name__} of {len(entries)}")
            for key, entry in entries:
                _value(f"{name}[{key!r}]" if isinstance(key, _SCALAR) else name, entry, folders, found, seen)
            return
        _reach(type(value), folders, found, seen)
        if is_dataclass(value):
            parts = {f.name: getattr(value, f.name) for f in fields(value) if f.compare}
        elif _inside(_file_of(type(value)), folders) and hasattr(value, "__dict__"):
            parts = vars(value)
        else:
            _note(found, name, _pickled(value))
            return
        _note(found, name, type(value).__qualname__)
        for part, held in parts.items():
            _value(f"{name}.{part}", held, folders, found, seen)


def _plain(value: Any, inside: tuple[int, ...] = ()) -> bool:
    """Whether it holds nothing but scalars, however deep."""
    if isinstance(value, _SCALAR):
        return True
    if type(value) not in (list, tuple, dict, set, frozenset) or id(value) in inside:
        return False
    inner = (*inside, id(value))
    return all(_plain(v, inner) for v in value) and (not isinstance(value, dict) or all(_plain(v, inner) for v in value.values()))


def _text(value: Any) -> str:
    """A plain value as text that is the same in every process: sets have no order of their own."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(k)}: {_text(v)}' for k, v in value.items())}}}"
    return f"{type(value).__name__}({', '.join(map(_text, value))})" if isinstance(value, list | tuple) else repr(value)


def _pickled(value: Any) -> str:
    try:
        return _hash(pickle.dumps(value, protocol=5))
    except Exception:  # a lock, an open file: nothing that could be told apart
        return type(value).__qualname__


@cache
def _all_names(code: types.CodeType) -> tuple[str, ...]:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.extend(_all_names(constant))
    return tuple(dict.fromkeys(names))


@cache
def _local_imports(code: types.CodeType) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    """What a function imports inside its body: (leading dots, module, names taken from it)."""
    instructions = list(dis.get_instructions(code))
    found = [
        (instructions[i - 2].argval, instruction.argval, tuple(instructions[i - 1].argval or ()))
        for i, instruction in enumerate(instructions)
        if instruction.opname == "IMPORT_NAME"
    ]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found.extend(_local_imports(constant))
    return tuple(dict.fromkeys(found))


def _imported(level: int, module: str, names: Iterable[str], package: str, folders: tuple[str, ...], found: dict[str, str]) -> None:
    """A module imported inside a function counts whole, with the project's modules it imports in turn: it may not be loaded now, so what is
    used of it cannot be seen."""
    if level:
        base = package.rsplit(".", level - 1)[0]
        module = f"{base}.{module}" if base and module else base or module
    parts = module.split(".")
    ours = [".".join(parts[: i + 1]) for i in range(len(parts))] + [f"{module}.{name}" for name in names]
    files = {name: file for name in ours if (file := _module_file(name, folders)) is not None}
    if not files:
        _package(module, found)
    for name, file in files.items():
        if f"module:{name}" in found:
            continue
        tree = ast.parse(file.read_text("utf-8"))
        imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
        found[f"module:{name}"] = _hash(_dumped(tree))
        within = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for node in imports:
            if isinstance(node, ast.ImportFrom):
                _imported(node.level, node.module or "", [alias.name for alias in node.names], within, folders, found)
            else:
                for alias in node.names:
                    _imported(0, alias.name, (), within, folders, found)


def _module_file(module: str, folders: tuple[str, ...]) -> Path | None:
    stems = [Path(folder, *module.split(".")) for folder in folders if module]
    return next((file for stem in stems for file in (stem.with_suffix(".py"), stem / "__init__.py") if file.is_file()), None)


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
        # By its code, not by the function: for a decorator's function inspect would show what it was put around.
        tree = ast.parse(textwrap.dedent(inspect.getsource(thing.__code__ if isinstance(thing, types.FunctionType) else thing)))
    except (OSError, TypeError, SyntaxError):
        return _hash(_code_text(thing.__code__) if isinstance(thing, types.FunctionType) else repr(thing))
    return _hash(_dumped(tree))


def _code_text(code: types.CodeType) -> str:
    """Byte code as text, for code whose source does not stand alone (a lambda over several lines)."""
    constants = [_code_text(c) if isinstance(c, types.CodeType) else _text(c) for c in code.co_consts]
    return repr((code.co_code, constants, code.co_names, code.co_varnames))


def _dumped(tree: ast.AST) -> str:
    """A syntax tree as text, without docstrings and places."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.dump(tree, annotate_fields=False, include_attributes=False)
