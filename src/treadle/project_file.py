"""The project file run, and the modules beside it imported: always what the files say now.

Python takes kept byte code for current when the source has the size and the second of its last change that it had then. Someone who edits and runs
twice within a second, as scripts do, would get the old code under the key of the new. So byte code that was written within two seconds of the
source's last change is not believed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import time
import traceback
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
from pathlib import Path
from types import CodeType

from treadle.core.canonical import digest
from treadle.core.declare.project import Project
from treadle.core.errors import ProjectError, TreadleError

PROJECT_FILE = "project.py"
_RACY = 2.0  # seconds
_folders: set[str] = set()
_INSTALLED = {"site-packages", "dist-packages"}


class FreshLoader(SourceFileLoader):
    """A loader of source files that does not believe byte code which may be older than it seems."""

    def get_code(self, fullname: str) -> CodeType | None:
        try:
            kept = importlib.util.cache_from_source(self.path)
            changed = os.stat(self.path).st_mtime
            racy = os.stat(kept).st_mtime < changed + _RACY
            if racy and time.time() < changed + _RACY:
                return self.source_to_code(self.get_data(self.path), self.path)
            if racy:
                os.unlink(kept)
        except (OSError, NotImplementedError):
            pass
        return super().get_code(fullname)


_KINDS = ((ExtensionFileLoader, EXTENSION_SUFFIXES), (FreshLoader, SOURCE_SUFFIXES))


def _finder(path: str) -> FileFinder:
    inside = next((f for f in _folders if path == f or path.startswith(f + os.sep)), None)
    if inside is None or not os.path.isdir(path) or _INSTALLED & set(path[len(inside) :].split(os.sep)):
        raise ImportError("not a project's folder", path=path)
    return FileFinder(path, *_KINDS)


def believe_sources(folder: Path) -> None:
    """Import the modules of a folder with `FreshLoader` from now on."""
    if not _folders:
        sys.path_hooks.insert(0, _finder)
    name = str(folder)
    if name not in _folders:
        _folders.add(name)
        for path in [p for p in sys.path_importer_cache if p == name or p.startswith(name + os.sep)]:
            del sys.path_importer_cache[path]


def load_project(folder: Path) -> Project:
    """Run a project file and return what it declares. Raises ProjectError naming the line when it cannot be loaded."""
    file = folder / PROJECT_FILE
    believe_sources(folder)
    name = f"treadle_project_{digest(str(folder))[:16]}"  # the same in every process: stored objects name the module of their class
    spec = importlib.util.spec_from_file_location(name, file, loader=FreshLoader(name, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        spec.loader.exec_module(module)
    except TreadleError:
        raise
    except SyntaxError as error:
        raise ProjectError(f"It does not parse: {error.msg}.", where=f"{error.filename or file}:{error.lineno}") from error
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        inside = [f for f in traceback.extract_tb(error.__traceback__) if f.filename.startswith(str(folder))]
        line = f"{Path(inside[-1].filename).name}:{inside[-1].lineno}" if inside else PROJECT_FILE
        raise ProjectError(f"It raised {type(error).__name__}: {error}", where=line, hint="Correct the line; --debug shows the traceback.") from error
    found = [value for value in vars(module).values() if isinstance(value, Project)]
    if len({id(p) for p in found}) != 1:
        raise ProjectError(
            "It declares no project." if not found else "It declares more than one project.", where=str(file), hint="One tr.Project(...) a file."
        )
    return found[0]
