"""A cached result stands as long as the code means the same: blind to comments and layout, awake to everything the function reaches."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest

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
    assert meaning(folder.load("steps").step, [tmp_path / "elsewhere"]) == {}


def test_a_folder_whose_name_only_begins_alike_is_not_the_projects(folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside = Folder(tmp_path / "project-old")
    beside.write({"steps": "def step(x):\n    return x\n"})
    monkeypatch.syspath_prepend(str(beside.path))
    assert meaning(beside.load("steps").step, [tmp_path / "project"]) == {}
    beside.forget()


def test_two_functions_that_call_each_other_end(folder: Folder) -> None:
    text = "def step(n):\n    return other(n - 1) if n else 0\n\n\ndef other(n):\n    return step(n)\n"
    assert set(folder.meaning(text)) == {"steps.step", "steps.other"}
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
    assert set(said[0]) == {"project.LIMIT", "project.helper", "project.step"}
