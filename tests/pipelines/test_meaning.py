"""A cached result stands as long as the code means the same: blind to comments and layout, awake to everything the function reaches."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import unittest.mock
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.pipelines.meaning import meaning


class Folder:
    """A project folder whose modules can be rewritten and imported anew."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, files: Mapping[str, str]) -> None:
        for name, text in files.items():
            path = self.path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def load(self, name: str) -> ModuleType:
        self.forget()
        return importlib.import_module(name)

    def forget(self) -> None:
        importlib.invalidate_caches()
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or getattr(module, "__path__", "")).find(str(self.path)) >= 0:
                del sys.modules[name]

    def meaning(self, files: Mapping[str, str] | str) -> dict[str, str]:
        """What `step` in module `steps` means when the files say this."""
        files = {"steps": files} if isinstance(files, str) else files
        self.write(files)
        return meaning(self.load("steps").step, [self.path])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions of a file within one second would share a .pyc
    folder = Folder(tmp_path)
    yield folder
    folder.forget()


STEP = "def step(rows, limit=3):\n    total = sum(rows)\n    return total > limit\n"


@pytest.mark.parametrize(
    "text",
    [
        "# a comment\n" + STEP,
        "\n\n\n" + STEP,
        'def step(rows, limit=3):\n    """Now with a docstring."""\n    total = sum(rows)  # and a comment\n\n    return (total > limit)\n',
        "def step(\n    rows,\n    limit=3,\n):\n    total = sum(\n        rows\n    )\n    return total > limit\n",
        STEP + "\n\ndef unrelated():\n    return 1\n",
        "UNRELATED = 3\n" + STEP,
    ],
    ids=["comment above", "blank lines", "docstring", "layout", "another function", "another constant"],
)
def test_the_same_code_told_otherwise_means_the_same(folder: Folder, text: str) -> None:
    assert folder.meaning(STEP) == folder.meaning(text)


def test_a_docstring_of_a_helper_and_of_a_class_mean_nothing(folder: Folder) -> None:
    plain = "class Tool:\n    def run(self, x):\n        return x\n\n\ndef helper(x):\n    return Tool().run(x)\n\n\ndef step(x):\n    return helper(x)\n"
    told = plain.replace("class Tool:\n", 'class Tool:\n    """A tool."""\n\n').replace("helper(x):\n", 'helper(x):\n    """Help."""\n')
    assert told != plain
    assert folder.meaning(plain) == folder.meaning(told)


CHANGES: list[tuple[str, dict[str, str], str, str, str]] = [
    ("its own body", {"steps": STEP}, "steps", "total > limit", "total >= limit"),
    ("a default", {"steps": STEP}, "steps", "limit=3", "limit=4"),
    ("a default that is a name", {"steps": "L = 3\n\n\ndef step(x, limit=L):\n    return x > limit\n"}, "steps", "L = 3", "L = 4"),
    ("a keyword default that is a name", {"steps": "L = 3\n\n\ndef step(x, *, limit=L):\n    return x > limit\n"}, "steps", "L = 3", "L = 4"),
    ("a helper", {"steps": "def helper(x):\n    return x + 1\n\n\ndef step(x):\n    return helper(x)\n"}, "steps", "x + 1", "x + 2"),
    (
        "a helper's helper",
        {"steps": "def deep(x):\n    return x + 1\n\n\ndef helper(x):\n    return deep(x)\n\n\ndef step(x):\n    return helper(x)\n"}, "steps", "x + 1", "x + 2",
    ),
    ("a helper inside a comprehension", {"steps": "def h(x):\n    return x + 1\n\n\ndef step(x):\n    return [h(v) for v in x]\n"}, "steps", "x + 1", "x + 2"),
    ("a constant", {"steps": "LIMIT = 3\n\n\ndef step(x):\n    return x > LIMIT\n"}, "steps", "LIMIT = 3", "LIMIT = 4"),
    ("a constant of a nested function", {"steps": "L = 3\n\n\ndef step(x):\n    return list(map(lambda v: v > L, x))\n"}, "steps", "L = 3", "L = 4"),
    ("a constant set", {"steps": "L = {'a', 'b'}\n\n\ndef step(x):\n    return x in L\n"}, "steps", "'b'", "'c'"),
    (
        "a constant moment",
        {"steps": "from datetime import datetime\n\nFROM = datetime(2013, 1, 1)\n\n\ndef step(x):\n    return x > FROM\n"}, "steps", "(2013, 1, 1)", "(2013, 1, 2)",
    ),
    ("a constant pattern", {"steps": "import re\n\nWORD = re.compile('a+')\n\n\ndef step(x):\n    return WORD.match(x)\n"}, "steps", "'a+'", "'b+'"),
    ("a constant expression", {"steps": "import polars as pl\n\nLATE = pl.col('x') > 15\n\n\ndef step(f):\n    return f.filter(LATE)\n"}, "steps", "> 15", "> 16"),
    (
        "a number between functions in a list",
        {"steps": "def f(x):\n    return x\n\n\nPLAN = [f, 3, 5]\n\n\ndef step(x):\n    return PLAN\n"}, "steps", "[f, 3, 5]", "[f, 4, 5]",
    ),
    (
        "which function stands under which name",
        {"steps": "def f(x):\n    return x\n\n\ndef g(x):\n    return -x\n\n\nPLAN = {'a': f, 'b': g}\n\n\ndef step(x):\n    return PLAN['a'](x)\n"},
        "steps", "{'a': f, 'b': g}", "{'a': g, 'b': f}",
    ),
    (
        "a function deep in a table",
        {"steps": "def f(x):\n    return x + 1\n\n\nPLAN = {'a': [f]}\n\n\ndef step(x):\n    return PLAN['a'][0](x)\n"}, "steps", "x + 1", "x + 2",
    ),
    (
        "a class method",
        {"steps": "class Tool:\n    def run(self, x):\n        return x + 1\n\n\ndef step(x):\n    return Tool().run(x)\n"}, "steps", "x + 1", "x + 2",
    ),
    (
        "what a class method uses",
        {"steps": "RATE = 2\n\n\nclass Tool:\n    @staticmethod\n    def run(x):\n        return x * RATE\n\n\ndef step(x):\n    return Tool.run(x)\n"},
        "steps", "RATE = 2", "RATE = 3",
    ),
    (
        "a method of the class above",
        {"steps": "class A:\n    def run(self):\n        return 1\n\n\nclass B(A):\n    pass\n\n\ndef step(x):\n    return B().run()\n"}, "steps", "return 1", "return 2",
    ),
    (
        "the class of an object",
        {"steps": "class A:\n    def run(self):\n        return 1\n\n\nTOOL = A()\n\n\ndef step(x):\n    return TOOL.run()\n"}, "steps", "return 1", "return 2",
    ),
    (
        "the state of an object",
        {"steps": "class A:\n    def __init__(self, n):\n        self.n = n\n\n\nTOOL = A(3)\n\n\ndef step(x):\n    return TOOL.n\n"}, "steps", "A(3)", "A(4)",
    ),
    (
        "a decorator",
        {"steps": "from functools import wraps\n\n\ndef twice(f):\n    @wraps(f)\n    def call(x):\n        return 2 * f(x)\n\n    return call\n\n\n"
                  "@twice\ndef step(x):\n    return x\n"}, "steps", "2 * f(x)", "3 * f(x)",
    ),
    ("what is decorated", {"steps": "from functools import cache\n\n\n@cache\ndef step(x):\n    return x + 1\n"}, "steps", "x + 1", "x + 2"),
    (
        "a closure's value",
        {"steps": "def make(n):\n    def inner(x):\n        return x + n\n\n    return inner\n\n\nstep = make(3)\n"}, "steps", "make(3)", "make(4)",
    ),
    (
        "a closure's function",
        {"steps": "def f(x):\n    return x\n\n\ndef g(x):\n    return -x\n\n\ndef make(h):\n    def inner(x):\n        return h(x)\n\n    return inner\n\n\nstep = make(f)\n"},
        "steps", "make(f)", "make(g)",
    ),
    (
        "what a partial is given",
        {"steps": "from functools import partial\n\n\ndef f(x, n):\n    return x + n\n\n\nstep = partial(f, n=3)\n"}, "steps", "n=3", "n=4",
    ),
    (
        "a lambda over several lines",
        {"steps": "PLAN = dict(\n    a=1, f=lambda x: [\n        v + 1 for v in x\n    ],\n)\nstep = PLAN['f']\n"}, "steps", "v + 1", "v + 2",
    ),
    (
        "a function of an imported module",
        {"tools": "def f(x):\n    return x + 1\n", "steps": "import tools\n\n\ndef step(x):\n    return tools.f(x)\n"}, "tools", "x + 1", "x + 2",
    ),
    (
        "a constant of an imported module",
        {"tools": "N = 1\n", "steps": "import tools\n\n\ndef step(x):\n    return x + tools.N\n"}, "tools", "N = 1", "N = 2",
    ),
    (
        "a function imported by name",
        {"tools": "def f(x):\n    return x + 1\n", "steps": "from tools import f\n\n\ndef step(x):\n    return f(x)\n"}, "tools", "x + 1", "x + 2",
    ),
    (
        "a module of a package",
        {"pack/__init__": "", "pack/tools": "def f(x):\n    return x + 1\n", "steps": "import pack.tools\n\n\ndef step(x):\n    return pack.tools.f(x)\n"},
        "pack/tools", "x + 1", "x + 2",
    ),
    (
        "a module imported inside the function",
        {"tools": "def f(x):\n    return x + 1\n", "steps": "def step(x):\n    from tools import f\n\n    return f(x)\n"}, "tools", "x + 1", "x + 2",
    ),
    (
        "a module of a package imported inside the function",
        {"pack/__init__": "", "pack/tools": "def f(x):\n    return x + 1\n", "steps": "def step(x):\n    from pack import tools\n\n    return tools.f(x)\n"},
        "pack/tools", "x + 1", "x + 2",
    ),
    (
        "a package imported inside the function",
        {"pack/__init__": "def f(x):\n    return x + 1\n", "steps": "def step(x):\n    import pack\n\n    return pack.f(x)\n"}, "pack/__init__", "x + 1", "x + 2",
    ),
    (
        "what a module imported inside the function imports",
        {"deep": "def g(x):\n    return x + 1\n", "tools": "from deep import g\n\n\ndef f(x):\n    return g(x)\n",
         "steps": "def step(x):\n    import tools\n\n    return tools.f(x)\n"}, "deep", "x + 1", "x + 2",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("files", "where", "before", "after"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_a_change_of_what_it_reaches_changes_its_meaning(folder: Folder, files: dict[str, str], where: str, before: str, after: str) -> None:
    assert before in files[where]
    first = folder.meaning(files)
    assert folder.meaning(files) == first
    assert folder.meaning({**files, where: files[where].replace(before, after)}) != first
    assert folder.meaning(files) == first


def test_a_package_counts_by_its_version_and_treadle_by_its_files(folder: Folder) -> None:
    text = "import polars as pl\nfrom treadle.core import clock\n\n\ndef step(f):\n    return pl.DataFrame(f), clock.span('1d')\n"
    found = folder.meaning(text)
    assert found["package:polars"] == importlib.metadata.version("polars")
    assert [name for name in found if name.startswith("treadle:")] == ["treadle:treadle.core.clock"]


def test_code_outside_the_projects_folders_counts_as_a_package(folder: Folder, tmp_path: Path) -> None:
    folder.write({"steps": "def step(x):\n    return x\n"})
    before = meaning(folder.load("steps").step, [tmp_path / "elsewhere"])
    assert set(before) == {"package:python", "package:steps"}
    folder.write({"steps": "def step(x):\n    return x + 1\n"})
    script = "import sys, json; from treadle.pipelines.meaning import meaning; import steps; print(json.dumps(meaning(steps.step, ['/nowhere'])))"
    after = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder.path).stdout
    assert json.loads(after).keys() == before.keys()
    assert json.loads(after) != before  # it has no version, so it counts by what it says


def test_a_folder_whose_name_only_begins_alike_is_not_the_projects(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Folder(tmp_path / "project-old")
    beside.write({"steps": "def step(x):\n    return x\n"})
    monkeypatch.syspath_prepend(str(beside.path))
    assert set(meaning(beside.load("steps").step, [tmp_path / "project"])) == {"package:python", "package:steps"}
    beside.forget()


def test_two_functions_that_call_each_other_end(folder: Folder) -> None:
    text = "def step(n):\n    return other(n - 1) if n else 0\n\n\ndef other(n):\n    return step(n)\n"
    assert set(folder.meaning(text)) == {"package:python", "steps.step", "steps.other"}
    looped = "LOOP = []\nLOOP.append(LOOP)\n\n\ndef step(n):\n    return LOOP\n"
    assert folder.meaning(looped) == folder.meaning(looped)


def test_the_meaning_is_the_same_in_another_process(folder: Folder) -> None:
    """Addresses in memory and the order of sets differ from process to process; a meaning that named them would never be met again."""
    text = (
        "import re\nimport polars as pl\nfrom datetime import datetime, timedelta\n\nWORDS = {'a', 'b', 'c', 'd'}\nTABLE = {'x': {'p', 'q', 'r'}, 'f': [len, sorted]}\n"
        "FROM, SPAN, WORD, LATE = datetime(2013, 1, 1), timedelta(days=1), re.compile('a+'), pl.col('x') > 15\n\n\n"
        "class Tool:\n    words = {'a', 'b'}\n\n    def __init__(self):\n        self.names = {'s', 't', 'u'}\n\n\nTOOL = Tool()\n"
        "PLAN = dict(\n    f=lambda x: [\n        v + 1 for v in x if v in {'k', 'l', 'm'}\n    ],\n)\nF = PLAN['f']\n\n\n"
        "def step(x):\n    return x in WORDS, TABLE, FROM, SPAN, WORD, LATE, TOOL, F(x)\n"
    )
    folder.write({"steps": text})
    script = "import sys; from treadle.pipelines.meaning import meaning; import steps; print(sorted(meaning(steps.step, [sys.argv[1]]).items()))"
    said = {
        subprocess.run(
            [sys.executable, "-c", script, str(folder.path)], capture_output=True, text=True, check=True, cwd=folder.path,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(folder.path)},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_a_function_of_the_project_file_means_the_same_whatever_it_was_imported_as(folder: Folder) -> None:
    """`load_project` gives the project file a module name of its own."""
    folder.write({"project": "LIMIT = 3\n\n\ndef helper(x):\n    return x > LIMIT\n\n\ndef step(x):\n    return helper(x)\n"})
    said = []
    for name in ("first_name", "second_name"):
        spec = importlib.util.spec_from_file_location(name, folder.path / "project.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        said.append(meaning(module.step, [folder.path]))
    assert said[0] == said[1]
    assert set(said[0]) == {"package:python", "project.LIMIT", "project.helper", "project.step"}


def case(*lines: str) -> str:
    return "\n".join(lines) + "\n"


# (what, files, where, before, after): a change here must be noticed as well.
MORE_CHANGES: list[tuple[str, dict[str, str], str, str, str]] = [
    (
        "a dataclass constant",
        {"steps": case("from dataclasses import dataclass", "@dataclass(frozen=True)", "class C:", "    n: int", "", "ONE = C(3)", "def step(x):", "    return x + ONE.n")},
        "steps", "C(3)", "C(4)",
    ),
    (
        "a field of a dataclass",
        {"steps": case("from dataclasses import dataclass", "@dataclass", "class C:", "    n: int = 3", "", "def step(x):", "    return C()")}, "steps", "n: int", "n: float",
    ),
    (
        "a class that a field is annotated with",
        {"steps": case("class A:", "    n = 3", "", "class B:", "    a: 'A'", "", "def step(x):", "    return decode(x, B)", "", "def decode(x, k):", "    return k")},
        "steps", "n = 3", "n = 4",
    ),
    ("a named tuple constant", {"steps": case("from typing import NamedTuple", "class P(NamedTuple):", "    x: int", "P3 = P(3)", "def step(x):", "    return P3.x")}, "steps", "P(3)", "P(4)"),
    ("a named tuple made by a call", {"steps": case("from collections import namedtuple", "P = namedtuple('P', 'a b')", "def step(x):", "    return P(1, 2)")}, "steps", "'a b'", "'b a'"),
    ("a member of an enum", {"steps": case("from enum import Enum", "class E(Enum):", "    A = 3", "def step(x):", "    return E.A.value")}, "steps", "A = 3", "A = 4"),
    ("what a member of an enum is made of", {"steps": case("from enum import Enum", "N = 3", "class E(Enum):", "    A = N", "def step(x):", "    return E.A.value")}, "steps", "N = 3", "N = 4"),
    ("which member of an enum", {"steps": case("from enum import Enum", "class E(Enum):", "    A = 3", "    B = 4", "C = E.A", "def step(x):", "    return C")}, "steps", "C = E.A", "C = E.B"),
    ("a cached helper", {"steps": case("from functools import lru_cache", "@lru_cache(maxsize=3)", "def h(x):", "    return x + 1", "def step(x):", "    return h(x)")}, "steps", "x + 1", "x + 2"),
    ("a class attribute", {"steps": case("class T:", "    n = 3", "def step(x):", "    return T.n")}, "steps", "n = 3", "n = 4"),
    ("what a class attribute is made of", {"steps": case("N = 3", "class T:", "    n = N * 2", "def step(x):", "    return T.n")}, "steps", "N = 3", "N = 4"),
    ("a class attribute that is set later", {"steps": case("class T:", "    n = 3", "T.n = 5", "def step(x):", "    return T.n")}, "steps", "T.n = 5", "T.n = 6"),
    ("a method that is put in later", {"steps": case("class T:", "    pass", "def run(self):", "    return 1", "T.run = run", "def step(x):", "    return T().run()")}, "steps", "return 1", "return 2"),
    ("a cached property", {"steps": case("from functools import cached_property", "class T:", "    @cached_property", "    def n(self):", "        return N", "N = 3", "def step(x):", "    return T().n")}, "steps", "N = 3", "N = 4"),
    ("a meta class", {"steps": case("class M(type):", "    def __call__(self):", "        return 3", "class T(metaclass=M):", "    pass", "def step(x):", "    return T()")}, "steps", "return 3", "return 4"),
    ("a star import", {"tools": case("N = 3"), "steps": case("from tools import *", "def step(x):", "    return x + N")}, "tools", "N = 3", "N = 4"),
    ("a conditional import", {"tools": case("def f(x):", "    return x + 1"), "steps": case("try:", "    import nothing_there as t", "except ImportError:", "    import tools as t", "def step(x):", "    return t.f(x)")}, "tools", "x + 1", "x + 2"),
    ("a conditional definition", {"steps": case("NEW = True", "if NEW:", "    def h(x):", "        return x + 1", "else:", "    def h(x):", "        return x + 2", "def step(x):", "    return h(x)")}, "steps", "NEW = True", "NEW = False"),
    (
        "a name an __init__ passes on",
        {"pack/__init__": "from .deep.tools import f\n", "pack/deep/__init__": "", "pack/deep/tools": "def f(x):\n    return x + 1\n", "steps": "import pack\ndef step(x):\n    return pack.f(x)\n"},
        "pack/deep/tools", "x + 1", "x + 2",
    ),
    ("a module of a package without __init__", {"pack/tools": "def f(x):\n    return x + 1\n", "steps": "from pack import tools\ndef step(x):\n    return tools.f(x)\n"}, "pack/tools", "x + 1", "x + 2"),
    ("a module that is handed around", {"tools": "def f(x):\n    return x + 1\n", "steps": "import tools\ndef step(x):\n    return run(tools)\ndef run(t):\n    return t.f(3)\n"}, "tools", "x + 1", "x + 2"),
    ("a helper by its name in a text", {"tools": "def f(x):\n    return x + 1\n", "steps": "import tools\ndef step(x):\n    return getattr(tools, 'f')(x)\n"}, "tools", "x + 1", "x + 2"),
    ("a module by its name in a text", {"tools": "def f(x):\n    return x + 1\n", "steps": "import importlib\ndef step(x):\n    return importlib.import_module('tools').f(x)\n"}, "tools", "x + 1", "x + 2"),
    ("one of two lambdas on a line", {"steps": case("a, b = lambda x: x + 1, lambda x: x + 9", "step = b")}, "steps", "x + 9", "x + 8"),
    ("a default of one of two lambdas", {"steps": case("N = 3", "a, b = (lambda x, n=N: x + n), (lambda x: x + 9)", "step = a")}, "steps", "N = 3", "N = 4"),
    ("an async function", {"steps": case("async def h(x):", "    return x + 1", "async def step(x):", "    return await h(x)")}, "steps", "x + 1", "x + 2"),
    ("a generator", {"steps": case("def h(x):", "    yield x + 1", "def step(x):", "    yield from h(x)")}, "steps", "x + 1", "x + 2"),
    (
        "the argument of a decorator",
        {"steps": case("def times(n):", "    def put(f):", "        def call(x):", "            return n * f(x)", "        return call", "    return put", "@times(3)", "def step(x):", "    return x")},
        "steps", "@times(3)", "@times(4)",
    ),
    ("a case of a match", {"steps": case("def step(x):", "    match x:", "        case {'a': [1, *rest]}:", "            return rest", "        case _:", "            return None")}, "steps", "'a': [1", "'a': [2"),
    ("a name in a match", {"steps": case("class C:", "    A = 3", "def step(x):", "    match x:", "        case C.A:", "            return 1")}, "steps", "A = 3", "A = 4"),
    ("an annotation a decorator can see", {"steps": case("def checked(f):", "    return f", "@checked", "def step(x: int):", "    return x")}, "steps", "x: int", "x: float"),
    ("a function of a single dispatch", {"steps": case("from functools import singledispatch", "@singledispatch", "def h(x):", "    return x", "@h.register", "def _(x: int):", "    return x + 1", "def step(x):", "    return h(x)")}, "steps", "x + 1", "x + 2"),
    ("an object that is called", {"steps": case("class S:", "    def __call__(self, x):", "        return x + 1", "step = S()")}, "steps", "x + 1", "x + 2"),
    ("the state of an object that is called", {"steps": case("class S:", "    def __init__(self, n):", "        self.n = n", "    def __call__(self, x):", "        return x + self.n", "step = S(3)")}, "steps", "S(3)", "S(4)"),
    ("the state of an object with slots", {"steps": case("class S:", "    __slots__ = ('n',)", "    def __init__(self, n):", "        self.n = n", "ONE = S(3)", "def step(x):", "    return ONE.n")}, "steps", "S(3)", "S(4)"),
    ("a method of an object", {"steps": case("class S:", "    def run(self, x):", "        return x + 1", "step = S().run")}, "steps", "x + 1", "x + 2"),
    ("a project function in a foreign object", {"steps": case("from operator import attrgetter", "from collections import deque", "def f(x):", "    return x + 1", "D = deque([f])", "def step(x):", "    return D[0](x)")}, "steps", "x + 1", "x + 2"),
    ("a function's attribute", {"steps": case("def h(x):", "    return h.n", "h.n = 3", "def step(x):", "    return h(x)")}, "steps", "h.n = 3", "h.n = 4"),
    ("a table filled at the top", {"steps": case("T = {}", "for i in range(3):", "    T[i] = i * 2", "def step(x):", "    return T[x]")}, "steps", "i * 2", "i * 3"),
    ("a registry filled by decorators", {"steps": case("R = {}", "def put(n):", "    def deco(f):", "        R[n] = f", "        return f", "    return deco", "@put('a')", "def a(x):", "    return x + 1", "def step(x):", "    return R['a'](x)")}, "steps", "x + 1", "x + 2"),
    (
        "a registry that code also fills as it runs",
        {"steps": case("R = {}", "def put(f):", "    R[f.__name__] = f", "    return f", "@put", "def a(x):", "    return x + 1", "def step(x):", "    put(len)", "    return R['a'](x)")},
        "steps", "x + 1", "x + 2",
    ),
    ("another step that it calls", {"steps": case("import treadle as tr", "@tr.step(retries=2)", "def a(x):", "    return x + 1", "def step(x):", "    return a(x)")}, "steps", "x + 1", "x + 2"),
    ("what a cache starts with", {"steps": case("N = 3", "C = {0: N}", "def step(x):", "    C[x] = x", "    return C")}, "steps", "N = 3", "N = 4"),
]  # fmt: skip


@pytest.mark.parametrize(("files", "where", "before", "after"), [c[1:] for c in MORE_CHANGES], ids=[c[0] for c in MORE_CHANGES])
def test_a_change_of_less_common_things_changes_its_meaning(folder: Folder, files: dict[str, str], where: str, before: str, after: str) -> None:
    assert before in files[where]
    first = folder.meaning(files)
    assert folder.meaning(files) == first
    assert folder.meaning({**files, where: files[where].replace(before, after)}) != first
    assert folder.meaning(files) == first


# (what, text, before, after): a change that must not be noticed.
SAME: list[tuple[str, str, str, str]] = [
    ("the other lambda on the line", case("a, b = lambda x: x + 1, lambda x: x + 9", "step = b"), "x + 1", "x + 2"),
    ("an annotation nothing looks at", case("def step(x: int) -> int:", "    y: int = x", "    return y"), "int", "float"),
    ("annotations added", case("def step(x):", "    return x"), "step(x)", "step(x: 'int') -> 'int'"),
    ("how often a step is tried", case("import treadle as tr", "@tr.step(retries=3)", "def f(x: int) -> int:", "    return x", "step = f.function"), "retries=3", "retries=4"),
    ("what only type checkers import", case("from typing import TYPE_CHECKING", "if TYPE_CHECKING:", "    import json", "def step(x):", "    if TYPE_CHECKING:", "        import json", "    return x"), "json", "csv"),
    ("a text that stands alone", case("def step(x):", "    x += 1", "    'a note'", "    return x"), "a note", "another"),
    ("an attribute that is named like a function", case("def clean(x):", "    return 1", "def step(x):", "    return x.clean()"), "return 1", "return 2"),
    ("a method of another module named alike", case("import json", "def loads(x):", "    return 1", "def step(x):", "    return json.loads(x)"), "return 1", "return 2"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "before", "after"), [c[1:] for c in SAME], ids=[c[0] for c in SAME])
def test_what_makes_no_difference_is_no_change(folder: Folder, text: str, before: str, after: str) -> None:
    assert before in text
    assert folder.meaning(text) == folder.meaning(text.replace(before, after))


# (what, text): running the step must not change what it means.
CACHES: list[tuple[str, str]] = [
    ("a dict", case("C = {}", "def step(x):", "    C[x] = x", "    return C[x]")),
    ("a dict in a helper", case("C = {}", "def step(x):", "    return h(x)", "def h(x):", "    if x not in C:", "        C[x] = {}", "    return C[x]")),
    ("a list", case("C = []", "def step(x):", "    C.append(x)")),
    ("a set of a dict", case("C = {'a': set()}", "def step(x):", "    C['a'].add(x)")),
    ("a dict by setdefault", case("C = {}", "def step(x):", "    C.setdefault(x, []).append(x)")),
    ("a default dict", case("from collections import defaultdict", "C = defaultdict(list)", "def step(x):", "    C[x].append(x)")),
    ("an alias", case("C = {}", "def step(x):", "    c = C", "    c[x] = x")),
    ("a global", case("C = None", "def step(x):", "    global C", "    C = object()")),
    ("a counter", case("N = 0", "def step(x):", "    global N", "    N += 1")),
    ("an iterator", case("import itertools", "N = itertools.count()", "def step(x):", "    return next(N)")),
    ("a default", case("def step(x, seen={}):", "    seen[x] = x")),
    ("a keyword default", case("def step(x, *, seen=[]):", "    seen.append(x)")),
    ("a closure", case("def make():", "    seen = {}", "    def inner(x):", "        seen[x] = x", "    return inner", "step = make()")),
    ("a closure's counter", case("def make():", "    n = 0", "    def inner(x):", "        nonlocal n", "        n += 1", "    return inner", "step = make()")),
    ("a decorator's memory", case("from functools import wraps", "def memo(f):", "    seen = {}", "    @wraps(f)", "    def call(x):", "        seen[x] = f(x)", "        return seen[x]", "    return call", "@memo", "def step(x):", "    return x")),
    ("a class attribute", case("class T:", "    seen = {}", "    @classmethod", "    def run(cls, x):", "        cls.seen[x] = x", "def step(x):", "    T.run(x)")),
    ("a class attribute from outside", case("class T:", "    n = 0", "def step(x):", "    T.n += 1")),
    ("an object", case("class T:", "    def __init__(self):", "        self.n = 0", "    def run(self):", "        self.n += 1", "TOOL = T()", "def step(x):", "    TOOL.run()")),
    ("an object from outside", case("class T:", "    n = 0", "TOOL = T()", "def step(x):", "    TOOL.n = x")),
    ("lru_cache", case("from functools import lru_cache", "@lru_cache", "def h(x):", "    return x", "def step(x):", "    return h(x)")),
    ("a function's attribute", case("def step(x):", "    step.n = x", "    return step.n")),
    ("setattr", case("class T:", "    n = 0", "TOOL = T()", "def step(x):", "    setattr(TOOL, 'n', x)")),
]  # fmt: skip


@pytest.mark.parametrize("text", [c[1] for c in CACHES], ids=[c[0] for c in CACHES])
def test_what_a_step_itself_fills_is_no_change(folder: Folder, text: str) -> None:
    folder.write({"steps": text})
    module = folder.load("steps")
    first = meaning(module.step, [folder.path])
    module.step(3)
    module.step(4)
    assert meaning(module.step, [folder.path]) == first
    assert meaning(folder.load("steps").step, [folder.path]) == first


def test_a_cache_of_another_module_is_no_change(folder: Folder) -> None:
    files = {"store": "C = {}\n", "tools": "from store import C\n\n\ndef remember(x):\n    C[x] = x\n    return C\n",
             "steps": "import tools\n\n\ndef step(x):\n    return tools.remember(x)\n"}  # fmt: skip
    folder.write(files)
    module = folder.load("steps")
    first = meaning(module.step, [folder.path])
    module.step(3)
    assert meaning(module.step, [folder.path]) == first
    assert folder.meaning({**files, "store": "C = {1: 2}\n"}) != first


def test_a_constant_that_somebody_else_changes_counts_by_its_value(folder: Folder) -> None:
    """A notebook that sets CONFIG['rate'] between two runs asks for another result."""
    folder.write({"steps": "CONFIG = {'rate': 1}\n\n\ndef step(x):\n    return x * CONFIG['rate']\n"})
    module = folder.load("steps")
    first = meaning(module.step, [folder.path])
    module.CONFIG["rate"] = 2
    assert meaning(module.step, [folder.path]) != first


def test_a_function_that_was_replaced_counts_by_what_stands_there_now(folder: Folder) -> None:
    folder.write({"tools": "def f(x):\n    return 1\n\n\ndef g(x):\n    return 2\n", "steps": "import tools\n\n\ndef step(x):\n    return tools.f(x)\n"})
    module = folder.load("steps")
    first = meaning(module.step, [folder.path])
    module.tools.f = module.tools.g
    assert meaning(module.step, [folder.path]) != first


def test_a_file_that_was_edited_after_it_was_loaded_does_not_change_what_the_loaded_code_means(folder: Folder) -> None:
    """The result would be stored as that of code which did not run."""
    folder.write({"steps": "def step(x):\n    return x + 1\n"})
    old = folder.load("steps")
    folder.write({"steps": "def step(x):\n    return x + 2\n"})
    late = meaning(old.step, [folder.path])
    new = meaning(folder.load("steps").step, [folder.path])
    assert late["steps.step"] != new["steps.step"]


def test_where_the_project_lies_does_not_count(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = case("import re", "from pathlib import Path", "from collections import deque", "HERE = 3", "def f(x):", "    return x", "D = deque([f])",
                "class T:", "    pass", "def step(x):", "    return Path(__file__).parent, __name__, D, HERE, T, [f]")  # fmt: skip
    said = []
    for place in ("one", "two"):
        other = Folder(tmp_path / place)
        other.write({"project": text})
        name = f"treadle_project_{place}"
        spec = importlib.util.spec_from_file_location(name, other.path / "project.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        said.append(meaning(module.step, [other.path]))
    assert said[0] == said[1]


def test_strange_objects_are_no_error(folder: Folder) -> None:
    text = case(
        "import threading, sys, weakref, unittest.mock, contextvars, logging", "import polars as pl", "import numpy as np",
        "class Rude:", "    def __getattr__(self, name):", "        raise RuntimeError(name)", "    def __eq__(self, other):", "        raise RuntimeError",
        "    __hash__ = None", "    def __bool__(self):", "        raise RuntimeError", "    def __repr__(self):", "        raise RuntimeError",
        "class Yes:", "    def __getattr__(self, name):", "        return Yes()", "    def __call__(self):", "        return self",
        "class Liar:", "    @property", "    def __class__(self):", "        raise ValueError", "    def __reduce_ex__(self, p):", "        raise ValueError",
        "class Meta(type):", "    def __getattribute__(cls, name):", "        if name == 'x': raise RuntimeError", "        return super().__getattribute__(name)",
        "class Odd(metaclass=Meta):", "    pass",
        "LOOP = {}", "LOOP['me'] = [LOOP]",
        "THINGS = [Rude(), Yes(), Liar(), Odd(), Odd, threading.Lock(), sys.stdout, unittest.mock.MagicMock(), contextvars.ContextVar('c'), (i for i in []),",
        "          weakref.WeakValueDictionary(), logging.getLogger('x'), pl.col, pl.col('a'), pl.DataFrame({'a': [1]}), np.arange(3), np.float64(3), ..., 3j,",
        "          type, object(), memoryview(b'x'), NotImplemented, float('nan'), '\\ud800', sys, LOOP, open, len, ''.join, int.__add__, type(sys)]",
        "ALONE, RUDE, LIAR, MOCK = Yes(), Rude(), Liar(), unittest.mock.MagicMock()",
        "def step(x):", "    return THINGS, ALONE, RUDE, LIAR, MOCK, LOOP",
    )  # fmt: skip
    folder.write({"steps": text})
    module = folder.load("steps")
    first = meaning(module.step, [folder.path])
    assert meaning(module.step, [folder.path]) == first
    for strange in (sys.modules, len, int, object(), unittest.mock.MagicMock(), sys, "".join, lambda: 3, module.Rude(), module.Liar(), module.Meta):
        assert meaning(strange, [folder.path])  # type: ignore[arg-type]


def test_code_without_a_file_counts_by_its_byte_code() -> None:
    def made(text: str) -> dict[str, str]:
        names: dict[str, object] = {"__name__": "__main__"}
        exec(text, names)
        return meaning(names["step"], [Path("/nowhere")])  # type: ignore[arg-type]

    assert made("def step(x):\n    return x + 1\n") == made("# a comment\ndef step(x):\n    return x + 1\n")
    assert made("def step(x):\n    return x + 1\n") != made("def step(x):\n    return x + 2\n")
    assert made("N = 1\ndef step(x):\n    return x + N\n") != made("N = 2\ndef step(x):\n    return x + N\n")


# Properties

names = st.sampled_from(["A", "B", "C"])
numbers = st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False, width=32) | st.sampled_from(["'x'", "'y'", "None", "True", "b'z'", "(1, 2)", "1j", "f'{1}a'"])
expressions = st.recursive(
    numbers.map(str) | names | st.just("x"),
    lambda inner: st.tuples(inner, st.sampled_from(["+", "*", "or", "==", "if x else", "in"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})")
    | inner.map(lambda e: f"[v for v in [{e}] if v]") | inner.map(lambda e: f"helper({e}, k={e})") | inner.map(lambda e: f"(lambda y, z=2: {e})(1)")
    | inner.map(lambda e: f"{{'k': {e}, **{{}}}}") | names.map(lambda e: f"f'{{{e}!r:>3}}'"),
    max_leaves=6,
)  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn, depth: int = 0) -> list[str]:
    """Lines of a function body."""
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.integers(0, 7 if depth < 2 else 1))
        said = draw(expressions)
        if kind <= 1:
            lines.append(f"x = {said}" if kind else f"print({said})")
            continue
        inner = ["    " + line for line in draw(bodies(depth + 1))]
        opening = {2: f"if {said}:", 3: f"for i in [{said}]:", 4: "try:", 5: f"with open({said}) as w:", 6: f"def inner(a, b={said}):", 7: f"while {said}:"}[kind]
        lines += [opening, *inner]
        if kind == 4:
            lines += ["except (ValueError, TypeError) as e:", "    pass"]
        if kind == 2 and draw(st.booleans()):
            lines += ["else:", *inner]
    return lines


def source(body: list[str], constants: list[str]) -> str:
    lines = [f"{name} = {value}" for name, value in zip("ABC", constants)]
    return case(*lines, "def helper(v, k):", "    return (v, k, A, B, C)", "def step(x):", *("    " + line for line in body), "    return helper(x, k=1)")


def told_otherwise(text: str, places: list[int]) -> str:
    lines = text.splitlines()
    for place in sorted({p % len(lines) for p in places}, reverse=True):
        indent = lines[place][: len(lines[place]) - len(lines[place].lstrip())]
        lines[place:place] = ["", f"{indent}# a comment", ""]
    longer = 'def step(\n    x,\n):\n    """Told."""\n\n'
    return case(*(line + "  # and one here" for line in lines)).replace("def step(x):  # and one here\n", longer)


told = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@told
@given(body=bodies(), constants=st.lists(numbers.map(str), min_size=3, max_size=3), places=st.lists(st.integers(0, 50), max_size=5))
def test_comments_layout_and_docstrings_never_change_a_meaning(folder: Folder, body: list[str], constants: list[str], places: list[int]) -> None:
    text = source(body, constants)
    first = folder.meaning(text)
    assert folder.meaning(told_otherwise(text, places)) == first
    assert folder.meaning(ast.unparse(ast.parse(text))) == first
    assert folder.meaning(text.replace("    ", "\t")) == first


@told
@given(body=bodies(), constants=st.lists(st.integers(0, 9).map(str), min_size=3, max_size=3), which=st.integers(0, 100))
def test_changing_any_constant_that_is_reached_changes_the_meaning(folder: Folder, body: list[str], constants: list[str], which: int) -> None:
    text = source(body, constants)
    first = folder.meaning(text)
    tree = ast.parse(text)
    held = [n for n in ast.walk(tree) if isinstance(n, ast.Constant) and not isinstance(n.value, tuple)]
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.JoinedStr) for n in ast.walk(f)}
    held = [n for n in held if id(n) not in inside]
    one = held[which % len(held)]
    one.value = "another" if one.value != "another" else 0
    assert folder.meaning(ast.unparse(tree)) != first
