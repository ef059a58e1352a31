"""What a step takes in beside its arguments: named before it runs, noticed while it runs."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from treadle.pipelines import purity
from treadle.pipelines.files import MISSING, FileMemo, content
from treadle.pipelines.purity import Hidden, hidden_inputs, observe


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    place = tmp_path / "project"
    place.mkdir()
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield place
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(str(place)):
            del sys.modules[name]


def loaded(folder: Path, **texts: str) -> ModuleType:
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    for name in texts:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    return importlib.import_module("steps")


def kinds(folder: Path, *lines: str, **others: str) -> list[tuple[str, str]]:
    module = loaded(folder, **others, steps="\n".join(lines) + "\n")
    return [(h.kind, h.name) for h in hidden_inputs(module.step, [folder])]


HIDDEN: list[tuple[str, str, str, str]] = [
    ("import time", "time.time()", "clock", "time.time"),
    ("import time", "time.time_ns()", "clock", "time.time_ns"),
    ("import time", "time.localtime()", "clock", "time.localtime"),
    ("import time", "time.strftime('%Y')", "clock", "time.strftime"),
    ("from time import time as t", "t()", "clock", "t"),
    ("from datetime import datetime", "datetime.now()", "clock", "datetime.now"),
    ("from datetime import datetime as dt", "dt.utcnow()", "clock", "dt.utcnow"),
    ("import datetime", "datetime.datetime.today()", "clock", "datetime.datetime.today"),
    ("from datetime import date", "date.today()", "clock", "date.today"),
    ("from datetime import datetime\nnow = datetime.now", "now()", "clock", "now"),
    ("from datetime import datetime", "list(map(datetime.now, x))", "clock", "datetime.now"),
    ("import random", "random.random()", "randomness", "random.random"),
    ("from random import shuffle", "shuffle(x)", "randomness", "shuffle"),
    ("import random", "random.Random()", "randomness", "random.Random"),
    ("import random", "random.SystemRandom()", "randomness", "random.SystemRandom"),
    ("import numpy as np", "np.random.rand(3)", "randomness", "np.random.rand"),
    ("import numpy as np", "np.random.default_rng()", "randomness", "np.random.default_rng"),
    ("import numpy as np", "np.random.default_rng(None)", "randomness", "np.random.default_rng"),
    ("from numpy.random import normal", "normal()", "randomness", "normal"),
    ("import numpy.random as r", "r.RandomState().rand()", "randomness", "r.RandomState"),
    ("import secrets", "secrets.token_hex()", "randomness", "secrets.token_hex"),
    ("import uuid", "uuid.uuid4()", "randomness", "uuid.uuid4"),
    ("import os", "os.urandom(3)", "randomness", "os.urandom"),
    ("from sklearn.ensemble import RandomForestClassifier", "RandomForestClassifier()", "randomness", "RandomForestClassifier"),
    ("import os", "os.environ['A']", "environment", "os.environ"),
    ("import os", "os.environ.get('A')", "environment", "os.environ.get"),
    ("from os import environ", "environ['A']", "environment", "environ"),
    ("import os", "os.getenv('A')", "environment", "os.getenv"),
    ("import httpx", "httpx.get('http://x')", "network", "httpx.get"),
    ("import httpx\nC = httpx.Client()", "C.get('http://x')", "network", "C.get"),
    ("import urllib.request", "urllib.request.urlopen('http://x')", "network", "urllib.request.urlopen"),
    ("import socket", "socket.create_connection(('x', 1))", "network", "socket.create_connection"),
    ("import http.client", "http.client.HTTPConnection('x')", "network", "http.client.HTTPConnection"),
    ("import polars as pl", "pl.read_csv('https://x/y.csv')", "network", "pl.read_csv"),
    ("import polars as pl\nWHERE = 's3://a/b'", "pl.scan_parquet(f'{WHERE}/c')", "network", "pl.scan_parquet"),
    ("import polars as pl", "pl.read_parquet('data/x.parquet')", "files", "pl.read_parquet"),
    ("import polars as pl\nfrom pathlib import Path\nHERE = Path('d')", "pl.scan_csv(HERE / 'x.csv')", "files", "pl.scan_csv"),
]


@pytest.mark.parametrize(("top", "expression", "kind", "name"), HIDDEN, ids=[f"{h[0].partition(chr(10))[0]}: {h[1]}" for h in HIDDEN])
def test_hidden_inputs_are_named(folder: Path, top: str, expression: str, kind: str, name: str) -> None:
    assert kinds(folder, top, "def step(x):", f"    return {expression}") == [(kind, name)]
    indented = "\n".join(f"    {line}" for line in top.splitlines() if "import" in line)
    rest = "\n".join(line for line in top.splitlines() if "import" not in line)
    if not rest:
        assert kinds(folder, "def step(x):", indented, f"    return {expression}") == [(kind, name)]


CLEAN: list[tuple[str, str]] = [
    ("import time", "time.perf_counter() + time.monotonic()"),
    ("import time", "time.localtime(x), time.strftime('%Y', x), time.sleep(0)"),
    ("from datetime import datetime", "datetime(2013, 1, 1), datetime.fromtimestamp(x)"),
    ("import random", "random.Random(3).random()"),
    ("import numpy as np", "np.random.default_rng(3).normal(), np.random.RandomState(seed=x)"),
    ("import numpy as np", "np.random.Generator(np.random.PCG64(3))"),
    ("def time():\n    return 3", "time()"),
    ("class time:\n    time = staticmethod(lambda: 3)", "time.time()"),
    ("class random:\n    @staticmethod\n    def random():\n        return 3", "random.random()"),
    ("import random", "[random.random() for random in x]"),
    ("import random", "(lambda random: random.random())(x)"),
    ("import random", "isinstance(x, random.Random)"),
    ("import httpx", "httpx.Response, httpx.HTTPError"),
    ("import urllib.parse", "urllib.parse.quote(x)"),
    ("import socket", "socket.timeout, socket.AF_INET"),
    ("import polars as pl", "pl.read_csv(x), pl.scan_parquet(x / 'y')"),
    ("import os", "os.path.join('a', 'b'), os.sep"),
    ("from sklearn.ensemble import RandomForestClassifier", "RandomForestClassifier(random_state=3)"),
    ("from secrets import compare_digest", "compare_digest(x, x)"),
    ("import uuid", "uuid.uuid5(uuid.NAMESPACE_DNS, 'x'), uuid.UUID(x)"),
]


@pytest.mark.parametrize(("top", "expression"), CLEAN, ids=[c[1] for c in CLEAN])
def test_what_is_no_hidden_input_is_not_named(folder: Path, top: str, expression: str) -> None:
    assert kinds(folder, top, "def step(x):", f"    return {expression}") == []


def test_they_are_found_wherever_the_step_reaches_and_nowhere_else(folder: Path) -> None:
    module = loaded(
        folder,
        tools="import time\n\n\ndef stamp():\n    return time.time()\n\n\ndef unused():\n    return time.time_ns()\n",
        late="import random\nfrom datetime import date\n\n\ndef day():\n    return date.today()\n\n\ndef unused():\n    return random.random()\n",
        steps="import os\nimport tools\n\n\nclass Maker:\n    def make(self):\n        return os.getenv('A')\n\n\ndef step(x):\n    from late import day\n\n"
        "    return tools.stamp(), day(), Maker().make()\n\n\ndef unused():\n    return os.urandom(3)\n",
    )
    found = hidden_inputs(module.step, [folder])
    assert found == [
        Hidden("clock", "date.today", "late.py:6"), Hidden("environment", "os.getenv", "steps.py:7"), Hidden("clock", "time.time", "tools.py:5"),
    ]  # fmt: skip
    assert found[0].sentence() == "it reads the clock: date.today in late.py:6"


def test_seeding_a_modules_generator_quiets_it(folder: Path) -> None:
    assert kinds(folder, "import random", "def step(x):", "    random.seed(3)", "    return random.random()") == []
    assert kinds(folder, "import random", "def step(x):", "    random.seed()", "    return random.random()") == [("randomness", "random.random")]
    top = ["import numpy as np", "def step(x):", "    np.random.seed(x)", "    return np.random.rand(), np.random.default_rng()"]
    assert kinds(folder, *top) == [("randomness", "np.random.default_rng")]


def test_setting_the_environment_is_not_reading_it(folder: Path) -> None:
    assert kinds(folder, "import os", "def step(x):", "    os.environ['OMP_NUM_THREADS'] = '1'", "    os.environ.update(x)") == []


def test_annotations_are_not_read(folder: Path) -> None:
    top = ["from __future__ import annotations", "import random", "from datetime import datetime"]
    assert kinds(folder, *top, "def step(x: random.Random, y: datetime.now = 3) -> random.random:", "    z: random.random = 3", "    return z") == []


# While it runs


def test_files_opened_for_reading_are_inputs(folder: Path, tmp_path: Path) -> None:
    (folder / "data").mkdir()
    inside, outside = folder / "data" / "rows.csv", tmp_path / "elsewhere.csv"
    inside.write_text("1")
    outside.write_text("2")
    with observe([folder], None) as seen:
        inside.read_text()
        with open(inside) as file:
            file.read()
        handle = os.open(folder / "data" / "rows.csv", os.O_RDONLY)
        os.close(handle)
        outside.read_text()
    assert seen.files == {"data/rows.csv": content(inside)}  # the other is in a temporary folder, and not the project's
    assert seen.hosts == []
    with tempfile.TemporaryDirectory(dir=Path.home()) as place:
        other = Path(place).resolve() / "other.csv"
        other.write_text("3")
        with observe([folder], None) as seen:
            other.read_text()
        assert seen.files == {str(other): content(other)}


def test_what_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = folder / ".treadle"
    home.mkdir()
    (home / "x").write_text("1")
    (folder / "late.py").write_text("N = 3\n")
    monkeypatch.chdir(folder)
    with observe([folder], home) as seen:
        (home / "x").read_text()
        Path("/proc/self/stat").read_text()
        Path("/dev/null").read_text()
        Path(threading.__file__).read_text()
        Path(pytest.__file__).read_text()
        importlib.import_module("late")
        with tempfile.TemporaryFile() as file:
            file.read()
        Path("made.txt").write_text("2")
        Path("made.txt").read_text()
        Path("moved.txt").write_text("3")
        os.replace("moved.txt", "there.txt")
        Path("there.txt").read_text()
        with open("new.txt", "w+") as file:
            file.read()
    assert seen.files == {}


def test_a_file_that_is_read_and_then_written_is_an_input_that_changed(folder: Path) -> None:
    path = folder / "count.txt"
    path.write_text("1")
    with observe([folder], None) as seen:
        path.write_text(f"{int(path.read_text()) + 100}")
    assert seen.files == {"count.txt": purity.CHANGED}


def test_looking_in_vain_counts_in_the_project(folder: Path) -> None:
    with observe([folder], None) as seen:
        for path in (folder / "override.json", folder.parent / "none.json", Path("/nowhere/at/all")):
            with pytest.raises(OSError):
                path.read_text()
    assert seen.files == {"override.json": MISSING}


def test_listing_a_folder_counts_by_the_names(folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "a.csv").write_text("1")
    for look in (os.listdir, lambda f: list(os.scandir(f)), lambda f: list(Path(f).glob("*.csv"))):
        with observe([folder], None) as seen:
            look(str(folder / "data"))
        assert set(seen.files) == {"data/*"}
    before = seen.files["data/*"]
    assert content(folder / "data/*") == before
    (folder / "data" / "b.csv").write_text("1")
    assert content(folder / "data/*") != before


def test_digests_are_remembered(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns
    monkeypatch.setattr("treadle.pipelines.files.time.time_ns", lambda: now() + 60 * 10**9)
    (folder / "a").write_text("1")
    with observe([folder], folder / ".treadle") as seen:
        (folder / "a").read_text()
    assert (folder / ".treadle" / "file_digests.json").exists()
    assert seen.files == {"a": content(folder / "a", FileMemo(folder / ".treadle"))}


def test_hosts(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with observe([folder], None) as seen:
            socket.create_connection(("localhost", port)).close()
        assert seen.hosts == ["localhost"]
        with observe([folder], None) as seen:
            raw = socket.socket()
            raw.connect(("127.0.0.1", port))
            raw.close()
        assert seen.hosts == ["127.0.0.1"]


def test_each_thread_is_observed_alone_and_threads_of_a_step_with_it(folder: Path) -> None:
    for name in "abcd":
        (folder / name).write_text(name)
    found: dict[str, set[str]] = {}
    both = threading.Barrier(2)

    def work(own: str, childs: str) -> None:
        with observe([folder], None) as seen:
            both.wait(10)
            (folder / own).read_text()
            child = threading.Thread(target=(folder / childs).read_text)
            child.start()
            child.join()
            both.wait(10)
        found[own] = set(seen.files)

    threads = [threading.Thread(target=work, args=pair) for pair in ("ab", "cd")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {"a": {"a", "b"}, "c": {"c", "d"}}


def test_an_error_of_the_step_is_its_own(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError), observe([folder], None):
        divmod(1, 0)
    with observe([folder], None) as seen, pytest.raises(TypeError):
        os.open(object(), os.O_RDONLY)  # type: ignore[call-overload]
    assert seen.files == {}
    assert purity._active == 0
