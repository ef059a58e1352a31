"""What a function means: a digest of its code and of all project code it reaches, blind to comments, formatting and docstrings.

A cached result may be reused only while this digest stands. Reached are the functions, classes, constants and modules that the code names,
as long as they belong to the project folder. Third-party packages count by their version, Treadle's own modules by their files.

A constant counts by the value it has now, wherever that came from. Only what the reached code itself changes as it runs (a cache, a counter)
counts by the statements that make it: its value says what ran before, not what the code means.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from treadle.pipelines import installed, living, syntax
from treadle.pipelines.house import house

_PLACES = frozenset({"__name__", "__file__", "__path__", "__spec__", "__package__", "__doc__", "__builtins__", "__loader__", "__cached__"})


def meaning(function: Callable[..., Any], roots: Iterable[Path] = ()) -> dict[str, str]:
    """Name of everything the function reaches to the digest of what it says.

    Args:
        function: a function, or anything callable: a method, a partial, an object with `__call__`, a class.
        roots: folders whose code counts as the project's own.
    Returns: for example {'features.clean_times': 'a1b2...', 'package:polars': '2.1.0'}.
    """
    return dict(sorted(reach(function, roots).found.items()))


@dataclass(frozen=True, slots=True)
class Spoken:
    """One function or class of the project that was reached.

    Args:
        name: 'features.clean_times'.
        file: its path.
        globals: of its module.
        held: what its closure holds, by name.
    """

    name: str
    file: str
    said: syntax.Said
    globals: Mapping[str, Any]
    held: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reached:
    """Digests of everything reached; the project's functions and classes among it; files of modules that count whole."""

    found: dict[str, str]
    spoken: list[Spoken]
    modules: dict[str, str]


def reach(function: Callable[..., Any], roots: Iterable[Path] = ()) -> Reached:
    """Everything the function reaches."""
    folders = tuple(living.real(os.fspath(root)) for root in roots)
    changed: dict[int, tuple[Any, _Place | None]] = {}
    rebound: set[tuple[int, str]] = set()
    while True:
        walk = _Walk(folders, changed, rebound)
        known = len(changed), len(rebound)
        walk.go(function)
        if not walk.late or known == (len(changed), len(rebound)):
            return Reached(walk.found, walk.spoken, walk.modules)
        # Something had counted by its value before it was known that the code changes it: once more, knowing it.


_Place = tuple[Mapping[str, Any], str]  # the names of a module, and one of them


class _Walk:
    """One walk over all that a function reaches.

    Args:
        changed: objects that reached code changes in place, by their id, with the name they have.
        rebound: (id of a module's names, a class or a function; name) of what reached code gives new values to.
    """

    def __init__(self, folders: tuple[str, ...], changed: dict[int, tuple[Any, _Place | None]], rebound: set[tuple[int, str]]) -> None:
        self.folders, self.changed, self.rebound = folders, changed, rebound
        self.found: dict[str, str] = {}
        self.spoken: list[Spoken] = []
        self.modules: dict[str, str] = {}
        self.late = False
        self._seen: dict[int, Any] = {}
        self._named: set[tuple[int, str]] = set()
        self._waiting: list[tuple[str, Any, _Place]] = []
        self._by_value: set[int] = set()
        self._restless: set[int] = set()

    def go(self, function: Any) -> None:
        self.found["package:python"] = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if living.is_a(function, living.CODE) or living.wrapped(function) is not None:
            self.thing(function)
        else:
            self.value(living.label(function, "object"), function)
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            for label, value, place in waiting:
                kind = type(value)
                if self.ours(kind):
                    self.thing(kind)
                if id(value) in self.changed or id(kind) in self._restless:
                    self.source(label, value, place)
                else:
                    self._by_value.add(id(value))
                    self.value(label, value)

    # Functions, classes and modules

    def thing(self, thing: Any) -> None:
        if id(thing) in self._seen:
            return
        self._seen[id(thing)] = thing  # kept, so that no other thing gets its id meanwhile
        if living.is_a(thing, partial):
            self.value(f"partial of {getattr(thing.func, '__qualname__', 'a function')}", (thing.args, thing.keywords))
            self.thing(thing.func)
            return
        if living.is_a(thing, types.MethodType):
            self.value(f"{getattr(thing.__func__, '__qualname__', 'method')} of", thing.__self__)
            self.thing(thing.__func__)
            return
        if living.is_a(thing, types.ModuleType):
            self.module(thing)
            return
        if living.is_a(thing, type):
            self.klass(thing)
            return
        inner = living.wrapped(thing)  # what a decorator was put around; the decorator's own function counts too
        if inner is not None:
            self.thing(inner)
        if living.is_a(thing, types.FunctionType):
            self.function(thing)
            registered = vars(thing).get("registry")  # functools.singledispatch
            if isinstance(registered, types.MappingProxyType):
                for kind, one in registered.items():
                    self.note(f"{living.label(inner, 'function')} for {getattr(kind, '__qualname__', kind)}", self.label_of(one))
                    self.thing(one)
        elif inner is None and not self.ours(type(thing)):
            self.package(getattr(thing, "__module__", None))

    def function(self, function: types.FunctionType) -> None:
        code = function.__code__
        path = living.file_of(function)
        if not living.own(path, self.folders) and not (path == "" and living.typed(function)):
            self.package(function.__globals__.get("__name__"))
            return
        said = syntax.of_function(code, path or code.co_filename)
        name = code.co_qualname if "__wrapped__" in vars(function) else function.__qualname__
        self.note(f"{self.home(path, function.__module__)}.{name}", said.digest)
        held = dict(living.held(function))
        self.spoken.append(Spoken(f"{self.home(path, function.__module__)}.{name}", path or code.co_filename, said, function.__globals__, held))
        self.changes(said, function.__globals__, held)
        self.defaults_and_closure(function, said, held)
        self.follow(said, function.__globals__, path, syntax.all_names(code))

    def defaults_and_closure(self, function: types.FunctionType, said: syntax.Said, held: Mapping[str, Any]) -> None:
        code = function.__code__
        roots = {c[0] for c in said.changes}
        given = function.__defaults__ or ()
        first = code.co_argcount - len(given)
        for i, default in enumerate(given):
            if code.co_varnames[first + i] not in roots:  # a default the function changes is no default but a memory
                self.value(f"{function.__qualname__} default {i}", default)
        for i, (name, default) in enumerate((function.__kwdefaults__ or {}).items(), start=len(given)):
            if name not in roots:
                self.value(f"{function.__qualname__} default {i}", default)
        for name, value in held.items():
            if name in roots or (name in said.stores and name in code.co_freevars):
                self.note(f"{code.co_qualname}.{name}", _made_in(function))
            elif name != "__class__":
                self.value(f"{code.co_qualname}.{name}", value)
            elif living.is_a(value, type):
                self.thing(value)

    def klass(self, thing: type) -> None:
        path, names = living.class_file(thing)
        if not living.own(path, self.folders) and not (path == "" and thing.__module__ == "__main__"):
            self.package(thing.__module__)
            return
        label = f"{self.home(path, thing.__module__)}.{thing.__qualname__}"
        methods = [(name, function) for name, value in vars(thing).items() for function in living.methods(value)]
        parsed = syntax.file(path)
        nodes = parsed.classes(thing.__qualname__) if parsed is not None else []
        if len(nodes) > 1:  # one name, defined twice: the one these methods stand in
            lines = [f.__code__.co_firstlineno for _, f in methods if f.__code__.co_qualname.startswith(thing.__qualname__ + ".")]
            nodes = [n for n in nodes if lines and all(n.lineno <= line <= (n.end_lineno or 0) for line in lines)] or nodes
        placed = [f for _, f in methods if living.file_of(f) == path]
        within = {id(f) for f in placed for n in nodes if n.lineno <= f.__code__.co_firstlineno <= (n.end_lineno or 0)}
        if parsed is not None and not parsed.as_loaded(f.__code__ for _, f in methods if id(f) in within):
            nodes, within = [], set()
        restless: set[str] = set()
        for node in nodes:
            assert parsed is not None
            said = parsed.read(node)
            self.note(label, said.digest)
            self.spoken.append(Spoken(label, path, said, names, {}))
            attributes, later = syntax.restless(node, parsed)
            restless |= attributes
            if later:
                self._restless.add(id(thing))
            self.changes(said, names, {})
            self.follow(said, names, path, None)
        if not nodes:
            self.note(label, _hash(repr((thing.__qualname__, [b.__qualname__ for b in thing.__bases__], getattr(thing, "_fields", ())))))
        for name, function in methods:
            if id(function) in within:
                self.defaults_and_closure(function, syntax.of_function(function.__code__, path), dict(living.held(function)))
            elif living.file_of(function):
                self.note(f"{label}.{name}", self.label_of(function))
                self.thing(function)
        self.attributes(thing, label, restless)
        for parent in thing.__bases__:
            self.thing(parent)
        if type(thing) is not type:
            self.thing(type(thing))

    def attributes(self, thing: type, label: str, restless: set[str]) -> None:
        """What stands in the class now: it may come from a name, or have been put there later."""
        members = vars(thing).get("_member_map_")
        if isinstance(members, dict):  # an enum
            held = {str(name): getattr(member, "_value_", None) for name, member in members.items()}
        else:
            restless = restless | {name for owner, name in self.rebound if owner == id(thing)}
            held = {
                name: value
                for name, value in vars(thing).items()
                if not name.startswith(("__", "_abc_"))
                and name not in restless
                and id(value) not in self.changed
                and (type(value) in living.SCALARS or type(value) in living.CONTAINERS or living.is_a(value, partial) or self.ours(type(value)))
            }
        plain = {name: living.text(value) for name, value in held.items() if living.plain(value)}
        if plain:
            self.note(f"{label} values", _hash(repr(sorted(plain.items()))))
        for name, value in held.items():
            if name not in plain:
                self.value(f"{label}.{name}", value)

    def module(self, module: types.ModuleType) -> None:
        """A module that code hands around: what is used of it cannot be seen."""
        path = living.module_path(module)
        if not living.own(path, self.folders):
            self.package(module.__name__)
            return
        self.whole(self.home(path, module.__name__), path, getattr(module, "__package__", None) or "")

    # Names

    def follow(self, said: syntax.Said, names: Mapping[str, Any], path: str, globals_only: Mapping[str, None] | None) -> None:
        """Everything that the code names."""
        home = self.home(path, str(names.get("__name__", "")))
        for chain in said.chains:
            if chain[0] in names and (globals_only is None or chain[0] in globals_only):
                self.dotted(f"{home}.{chain[0]}", names[chain[0]], chain[1:], (names, chain[0]))
                if said.loose and living.is_a(names[chain[0]], types.ModuleType):
                    for other in said.chains:
                        if other[0] in vars(names[chain[0]]):
                            self.dotted(f"{home}.{chain[0]}", names[chain[0]], other, (names, chain[0]))
        package = str(names.get("__package__") or "")
        for level, module, taken in said.imports:
            self.imported(level, module, taken, package)

    def dotted(self, label: str, value: Any, rest: syntax.Chain, place: _Place) -> None:
        if living.is_a(value, types.ModuleType):
            path = living.module_path(value)
            if not living.own(path, self.folders):
                self.package(value.__name__)
            elif rest and rest[0] in vars(value):
                self.dotted(f"{self.home(path, value.__name__)}.{rest[0]}", vars(value)[rest[0]], rest[1:], (vars(value), rest[0]))
            else:
                self.module(value)
            return
        key = (id(place[0]), place[1])
        if key not in self._named:
            self._named.add(key)
            self.named(label, value, place)
        if rest and living.is_a(value, types.FunctionType) and rest[0] in vars(value) and (id(value), rest[0]) not in self.rebound:
            self.value(f"{label}.{rest[0]}", vars(value)[rest[0]])

    def named(self, label: str, value: Any, place: _Place) -> None:
        """What stands under a global name."""
        if place[1] in _PLACES:  # where the code lies is not what it means
            return
        if (id(place[0]), place[1]) in self.rebound:
            self.source(label, value, place)
        elif type(value) in living.SCALARS or living.is_a(value, living.CODE) or living.wrapped(value) is not None:
            self.value(label, value)
        else:  # whether reached code changes it is known when all of it was seen
            self._waiting.append((label, value, place))

    def changes(self, said: syntax.Said, names: Mapping[str, Any], held: Mapping[str, Any]) -> None:
        """Note what this code changes as it runs."""
        for name in said.rebinds:
            if name in names and (id(names), name) not in self.rebound:
                self.rebound.add((id(names), name))
                self.late = self.late or (id(names), name) in self._named
        for chain in said.changes:
            place: _Place | None = None
            if chain[0] in held:
                value = held[chain[0]]
            elif chain[0] in names:
                value, place = names[chain[0]], (names, chain[0])
            else:
                continue
            for part in chain[1:]:
                if living.is_a(value, types.ModuleType):
                    if part not in vars(value):
                        break
                    place = (vars(value), part)
                    value = vars(value)[part]
                    if (id(place[0]), part) not in self.rebound and living.own(living.file_in(place[0]), self.folders) and len(chain) == 2:
                        self.rebound.add((id(place[0]), part))
                        self.late = self.late or (id(place[0]), part) in self._named
                elif living.is_a(value, type | types.FunctionType):
                    if (id(value), part) not in self.rebound:
                        self.rebound.add((id(value), part))
                        self.late = self.late or id(value) in self._seen
                    value, place = vars(value).get(part), None
                else:
                    break
            if type(value) not in living.SCALARS and not living.is_a(value, living.CODE) and id(value) not in self.changed:
                self.changed[id(value)] = (value, place)
                self.late = self.late or id(value) in self._by_value

    def source(self, label: str, value: Any, place: _Place) -> None:
        """Something that code changes as it runs: what makes it at the top of its file."""
        at = self.changed.get(id(value), (None, None))[1] or place
        for _ in range(8):  # through the modules it is imported from
            names, name = at
            parsed = syntax.file(living.file_in(names))
            if parsed is None:
                break
            statements, imported = parsed.binding(name)
            if imported is None:
                if not statements:
                    break
                said = syntax.read(statements, parsed.steps)
                self.note(label, f"source {said.digest}")
                self.follow(said, names, parsed.path, None)
                return
            level, module, (name,) = imported
            origin = vars(sys.modules.get(_absolute(level, module, str(names.get("__package__") or "")), types.ModuleType("none")))
            if name not in origin:
                break
            at = (origin, name)
        self.note(label, f"{type(value).__qualname__}, changed as it runs")

    # Values

    def value(self, name: str, value: Any) -> None:
        """A constant, an object or a function that code names or holds. Never raises: what cannot be told apart counts by its type."""
        try:
            self._value(name, value)
        except RecursionError:
            raise
        except Exception:  # an object that answers questions with errors
            self.note(name, type(value).__qualname__)

    def _value(self, name: str, value: Any) -> None:
        if type(value) in living.SCALARS:
            self.note(name, _hash(repr(value)))
        elif living.is_a(value, living.CODE) or living.wrapped(value) is not None:
            own = living.label(value, "")
            if not living.is_a(value, types.ModuleType) and name.rpartition(".")[2] != own.rpartition(".")[2]:
                # which function stands under which name
                self.note(name, self.label_of(value))
            self.thing(value)
        elif id(value) in self.changed:
            self.note(name, f"{type(value).__qualname__}, changed as it runs")
        elif living.plain(value):
            self.note(name, _hash(living.text(value)))
        elif id(value) not in self._seen:
            self._seen[id(value)] = value
            if living.is_a(value, list | tuple | set | frozenset | dict):
                if type(value) not in living.CONTAINERS:
                    self.thing(type(value))
                if living.is_a(value, set | frozenset):
                    entries: list[tuple[Any, Any]] = list(enumerate(sorted(value, key=self.label_of)))
                else:
                    entries = list(value.items() if living.is_a(value, dict) else enumerate(value))
                self.note(name, f"{type(value).__name__} of {len(entries)}")
                for key, entry in entries:
                    self.value(f"{name}[{key!r}]" if type(key) in living.SCALARS else f"{name}[{self.label_of(key)}]", entry)
                return
            self._object(name, value)

    def _object(self, name: str, value: Any) -> None:
        kind = type(value)
        self.thing(kind)
        if "_member_map_" in vars(kind):  # a member of an enum
            self.note(name, f"{kind.__qualname__}.{getattr(value, '_name_', '')}")
            return
        if id(kind) in self._restless:
            self.note(name, f"{kind.__qualname__}, changed as it runs")
            return
        if is_dataclass(value):
            parts = {f.name: getattr(value, f.name) for f in fields(value) if f.compare and hasattr(value, f.name)}
        elif self.ours(kind):
            parts = dict(living.state(value))
        else:
            self.note(name, self.pickled(value))
            return
        self.note(name, kind.__qualname__)
        for part, held in parts.items():
            self.value(f"{name}.{part}", held)

    def pickled(self, value: Any) -> str:
        """A foreign object by its pickle; project functions and classes in it are reached, and named by their place in the project."""
        import pickle

        walk, named = self, []

        class Writer(pickle.Pickler):
            def reducer_override(self, thing: Any) -> Any:
                if isinstance(thing, types.FunctionType | type) and (walk.ours(thing) or "<" in thing.__qualname__):
                    named.append(thing)
                    return (str, (walk.label_of(thing),))
                return NotImplemented

        for fast in (True, False):  # without the memo first: it tells equal texts from the same text, which differs from process to process
            named.clear()
            buffer = io.BytesIO()
            try:
                writer = Writer(buffer, protocol=5)
                writer.fast = fast
                writer.dump(value)
            except Exception:  # a lock, an open file: nothing that could be told apart
                continue
            for thing in list(named):
                self.thing(thing)
            return _hash(buffer.getvalue())
        return type(value).__qualname__

    # Modules and packages

    def imported(self, level: int, module: str, taken: Iterable[str], package: str) -> None:
        """A module imported inside a function counts whole, with the project's modules it imports in turn: it may not be loaded now, so what is
        used of it cannot be seen."""
        module = _absolute(level, module, package)
        parts = module.split(".")
        ours = [".".join(parts[: i + 1]) for i in range(len(parts))] + [f"{module}.{name}" for name in taken]
        files = {name: path for name in ours if (path := _module_file(name, self.folders))}
        if not files:
            self.package(module)
        for name, path in files.items():
            self.whole(name, path, name if path.endswith(f"{os.sep}__init__.py") else name.rpartition(".")[0])

    def whole(self, name: str, path: str, package: str) -> None:
        if f"module:{name}" in self.found:
            return
        parsed = syntax.file(path)
        if parsed is None:
            self.found[f"module:{name}"] = installed.bytes_of((path,))
            return
        said = parsed.read(parsed.tree)
        self.found[f"module:{name}"] = said.digest
        self.modules[name] = path
        for level, module, taken in said.imports:
            self.imported(level, module, taken, package)

    def package(self, module: Any) -> None:
        """Code that is not the project's: an installed package by its version, one that is only on the path by its files."""
        if not isinstance(module, str):
            return
        top = module.partition(".")[0]
        if top == "treadle":
            self.found[f"treadle:{module}"] = house(module)
        elif top and top not in sys.stdlib_module_names and f"package:{top}" not in self.found:
            said = installed.version(top)
            if said:
                self.found[f"package:{top}"] = said

    # Small questions

    def note(self, name: str, said: str) -> None:
        """Two things may have one name (closures of one function): then both count."""
        before = self.found.get(name, said)
        self.found[name] = said if before == said else _hash(before + said)

    def ours(self, thing: Any) -> bool:
        """Whether a function or a class is the project's."""
        path = living.file_of(thing) if living.is_a(thing, types.FunctionType) else living.class_file(thing)[0]
        return living.own(path, self.folders)

    def home(self, path: str, module: str) -> str:
        """The module by its place in the project: what it was imported as may differ from process to process."""
        return living.home(path, module, self.folders)

    def label_of(self, thing: Any) -> str:
        if living.is_a(thing, types.FunctionType):
            return f"{self.home(living.file_of(thing), thing.__module__)}.{thing.__qualname__}"
        if living.is_a(thing, type):
            return f"{self.home(living.class_file(thing)[0], thing.__module__)}.{thing.__qualname__}"
        inner = living.wrapped(thing)
        if inner is not None:
            return self.label_of(inner)
        if living.is_a(thing, living.CODE):
            return f"{getattr(thing, '__module__', '')}.{living.label(thing, '')}"
        return living.text(thing) if living.plain(thing) else f"{type(thing).__qualname__} {living.enum_name(thing)}"


def _made_in(function: types.FunctionType) -> str:
    """What the outermost function around one says: there its closure is made."""
    parsed = syntax.file(living.file_of(function))
    outer = parsed.outermost(function.__code__) if parsed is not None else None
    return "changed as it runs" if parsed is None or outer is None else parsed.read(outer).digest


def _hash(text: str | bytes) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text).hexdigest()[:16]


def _absolute(level: int, module: str, package: str) -> str:
    if not level:
        return module
    base = package.rsplit(".", level - 1)[0]
    return f"{base}.{module}" if base and module else base or module


def _module_file(module: str, folders: tuple[str, ...]) -> str:
    for folder in folders if module else ():
        stem = os.path.join(folder, *module.split("."))
        for path in (f"{stem}.py", os.path.join(stem, "__init__.py")):
            if os.path.isfile(path):
                return path
    return ""
