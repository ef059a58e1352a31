"""A call of a step's function, packed as bytes for another process; and its answer, on the way back.

A call is two pickles in a row: where the function is found, and its arguments. The function is named, not copied: module and name, and the module's
file, for modules that are not on the path (a project file, a script). An answer is a tuple whose first word says what it is, see `unpack`.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from treadle.core.errors import UsageError

Answer = tuple[Any, ...]


def pack(function: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> bytes:
    """A call, as bytes. `what` names the task in errors. Raises UsageError when a part of it cannot be sent to another process."""
    stream = io.BytesIO()
    place = _place(function)
    if place is not None and place[0] == "__main__":
        # In a worker a script's module is __mp_main__, as multiprocessing has it, so that it does not start its work again; what it returns says so.
        sys.modules.setdefault("__mp_main__", sys.modules["__main__"])
    try:
        pickle.dump((os.getcwd(), place or function), stream, 5)
    except Exception as error:
        raise UsageError(
            f"The function of {what} cannot be sent to another process: {error}.",
            hint="Define it at the top level of a file, not inside a function and not as a lambda; or run it with the executor inprocess:",
        ) from error
    try:
        pickle.dump(dict(arguments), stream, 5)
    except Exception as error:
        name, reason = next(((name, text) for name, value in arguments.items() if (text := _unpicklable(value))), ("?", str(error)))
        raise UsageError(
            f"The argument {name!r} of {what} cannot be sent to another process: {reason}.",
            hint="Hand on what it is made from (a path, an address), or run the step with the executor inprocess:",
        ) from error
    return stream.getvalue()


def perform(packed: bytes | bytearray) -> Answer:
    """Make a packed call, in this process. Whatever happens is in the answer; nothing is raised."""
    stream = io.BytesIO(packed)
    try:
        folder, found = pickle.load(stream)
        if folder != os.getcwd() and os.path.isdir(folder):
            os.chdir(folder)
        function = _attribute(_module(found[0], found[2]), found[1]) if isinstance(found, tuple) else found
        arguments = pickle.load(stream)
    except BaseException as error:
        return ("unreadable", f"{type(error).__name__}: {error}", _text(error))
    del stream, packed, found
    try:
        value = function(**arguments)
    except BaseException as error:
        return ("raised", _pickled(error), traceback.format_exception_only(error)[0].strip(), _text(error))
    try:
        return ("returned", pickle.dumps(value, 5))
    except Exception as error:
        return ("unsendable", f"{type(value).__name__}: {error}")


def unpack(answer: Answer, what: str) -> Any:
    """What the function returned; raises what it raised, with the worker's traceback as a note, and UsageError for what could not be sent or read."""
    kind, said, *more = answer
    if kind == "returned":
        try:
            return pickle.loads(said)
        except Exception as broken:
            raise UsageError(f"What {what} returned cannot be read back: {type(broken).__name__}: {broken}.", hint="Return plain data.") from broken
    if kind == "unsendable":
        raise UsageError(
            f"What {what} returned cannot be sent back from another process: {said}.", hint="Return plain data: numbers, text, lists, tables, arrays."
        )
    if kind == "unreadable":
        unreadable = UsageError(
            f"{what[0].upper()}{what[1:]} cannot be loaded in a worker process: {said}.", hint="The worker must be able to import the same code."
        )
        unreadable.add_note(more[0])
        raise unreadable
    text, trace = more
    error = _unpickled(said) or StandIn(text)
    error.add_note(trace)
    try:
        raise error
    finally:
        del error  # else it and its traceback are a ring, and what this call held stays until the next collection


class StandIn(Exception):
    """In place of an exception that cannot be pickled: its type's name and its message."""


def _place(function: Callable[..., Any]) -> tuple[str, str, str | None] | None:
    """Where a function is found: module, name, and file of the module. None when it has no such place."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module not in sys.modules:
        return None
    try:
        found = _attribute(sys.modules[module], name)
    except AttributeError:
        return None
    return (module, name, getattr(sys.modules[module], "__file__", None)) if found is function else None


def _module(name: str, file: str | None) -> Any:
    if name != "__main__":
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if file is None or not (name + ".").startswith(f"{error.name}."):
                raise
    elif file is None:
        raise ModuleNotFoundError("it was typed into an interactive session; put it into a file")
    elif getattr(sys.modules["__main__"], "__file__", None) == file:
        return sys.modules["__main__"]
    spec = importlib.util.spec_from_file_location(name if name != "__main__" else "__mp_main__", file)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _attribute(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _pickled(error: BaseException) -> bytes:
    try:
        return pickle.dumps(error, 5)
    except Exception:
        return b""


def _unpickled(data: bytes) -> BaseException | None:
    try:
        error = pickle.loads(data)
    except Exception:
        return None
    return error if isinstance(error, BaseException) else None


def _unpicklable(value: Any) -> str:
    try:
        pickle.dumps(value, 5)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _text(error: BaseException) -> str:
    trace = error.__traceback__.tb_next if error.__traceback__ else None  # without the frame of this file
    return "In the worker:\n" + "".join(traceback.format_exception(type(error), error, trace)).rstrip()
