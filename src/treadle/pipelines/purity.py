"""What a step takes in beside its arguments: seen in its code before it runs, and noticed while it runs.

Neither sees everything. `hidden_inputs` looks at the project's own code and resolves names to the objects they stand for, so that neither an
alias hides a clock nor a project function called `time` is taken for one. `observe` hears what Python itself is asked to open or to connect
to; what Rust or C opens by itself (a Polars scan) makes no such noise.
"""

from __future__ import annotations

import ast
import os
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from treadle.pipelines import syntax
from treadle.pipelines.files import FileMemo, content
from treadle.pipelines.meaning import Reached, reach

# ---- Before it runs

_KINDS = {
    "clock": "reads the clock",
    "network": "asks the network",
    "randomness": "is random",
    "environment": "reads the environment",
    "files": "reads a file that is no argument",
}
_CLOCK = frozenset({
    "time.time", "time.time_ns", "time.clock_gettime", "time.clock_gettime_ns", "datetime.datetime.now", "datetime.datetime.utcnow",
    "datetime.datetime.today", "datetime.date.today", "pandas.Timestamp.now", "pandas.Timestamp.today", "pandas.Timestamp.utcnow",
})  # fmt: skip
# These read the clock when they are given no more arguments than this.
_CLOCK_BARE = {"time.localtime": 0, "time.gmtime": 0, "time.ctime": 0, "time.asctime": 0, "time.strftime": 1}
_ENVIRONMENT = frozenset({"os.environ", "os.environb", "os.getenv", "os.getenvb", "socket.gethostname", "getpass.getuser"})
_RANDOM = frozenset({"os.urandom", "os.getrandom", "uuid.uuid1", "uuid.uuid4", "random.SystemRandom"})
_SEEDED = frozenset({
    "random.Random", "numpy.random.default_rng", "numpy.random.RandomState", "numpy.random.SeedSequence", "numpy.random.PCG64",
    "numpy.random.PCG64DXSM", "numpy.random.MT19937", "numpy.random.Philox", "numpy.random.SFC64",
})  # fmt: skip
_SAYS_NO_NUMBER = frozenset({
    "seed", "getstate", "setstate", "get_state", "set_state", "get_bit_generator", "set_bit_generator", "bit_generator", "mtrand", "compare_digest",
})  # fmt: skip
_SEEDING = frozenset({"random.seed", "numpy.random.seed"})
# Certainly different each time without random_state. Others (logistic regression, a single tree) are so only in some settings.
_LEARNERS = frozenset({
    "RandomForestClassifier", "RandomForestRegressor", "ExtraTreesClassifier", "ExtraTreesRegressor", "IsolationForest", "BaggingClassifier",
    "BaggingRegressor", "MLPClassifier", "MLPRegressor", "KMeans", "MiniBatchKMeans", "ShuffleSplit", "StratifiedShuffleSplit",
    "GroupShuffleSplit", "train_test_split",
})  # fmt: skip
_NETWORK = (
    "requests", "httpx", "urllib.request", "urllib3", "http.client", "aiohttp", "ftplib", "smtplib", "imaplib", "poplib", "xmlrpc.client",
    "websockets", "websocket", "paramiko", "boto3", "botocore",
)  # fmt: skip
_SOCKET = frozenset({"socket.socket", "socket.create_connection", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"})
_REMOTE = ("http://", "https://", "s3://", "gs://", "gcs://", "az://", "abfs://", "abfss://", "hf://", "ftp://")
_TABLES = frozenset({"polars", "pandas", "pyarrow", "duckdb"})
_UNHEARD = frozenset({"polars", "pyarrow", "duckdb"})  # these open files without Python
_MODULES_ONLY = frozenset({"random", "secrets"})


@dataclass(frozen=True, order=True)
class Hidden:
    """Something a step reads that is no argument of it.

    Args:
        kind: 'clock', 'network', 'randomness', 'environment' or 'files'.
        name: as the code says it, 'datetime.now'.
        place: 'features.py:12'.
    """

    kind: str
    name: str
    place: str

    def sentence(self) -> str:
        """It as a warning."""
        return f"it {_KINDS[self.kind]}: {self.name} in {self.place}"


def hidden_inputs(function: Callable[..., Any], roots: Iterable[Path] = ()) -> list[Hidden]:
    """What the function, and all project code it reaches, reads beside arguments; in order of place, each once.

    Not counted: timers that only measure (perf_counter, monotonic), generators with a seed, names that are the project's own. A module's
    random functions do not count where the code seeds them.
    """
    folders = tuple(os.path.realpath(root) for root in roots)
    reached = reach(function, [Path(folder) for folder in folders])
    scans = [_Scan(s.said.node, s.file, s.globals, s.held, s.said, folders) for s in reached.spoken if s.said.node is not None]
    scans += _in_modules(reached, folders)
    uses = [use for scan in scans for use in scan.uses()]
    seeded = {use.called.rpartition(".")[0] for use in uses if use.called in _SEEDING and use.call is not None and _given(use.call)}
    found = {
        Hidden(kind, ".".join(use.chain), f"{use.scan.place}:{use.line}"): (use.scan.place, use.line)
        for use in uses
        if (kind := _kind(use)) and not (kind == "randomness" and use.called.rpartition(".")[0] in seeded and use.called not in _SEEDED)
    }
    return sorted(found, key=lambda hidden: (*found[hidden], hidden.kind, hidden.name))


@dataclass(frozen=True)
class _Use:
    """A dotted name that code reads or calls; `called` is its full name ('datetime.datetime.now'), whatever the code calls it."""

    scan: _Scan
    chain: syntax.Chain
    called: str
    line: int
    call: ast.Call | None


class _Scan:
    """Looks through one function, class or module."""

    def __init__(
        self, node: ast.AST, file: str, names: Mapping[str, Any], held: Mapping[str, Any], said: syntax.Said, folders: tuple[str, ...],
        imported: ast.AST | None = None,
    ) -> None:  # fmt: skip
        self.node, self.globals, self.held = node, names, held
        folder = next((f for f in folders if file.startswith(f + os.sep)), "")
        self.place = file[len(folder) + 1 :] if folder else os.path.basename(file)
        self._folders = folders
        self.local = (said.stores - said.rebinds) - {getattr(node, "name", "")}
        self.imported = _imports(node) | (_imports(imported) if imported is not None else {})

    def uses(self) -> Iterator[_Use]:
        calls: dict[ast.AST, ast.Call] = {}
        inner: set[ast.AST] = set()
        skipped = _annotations(self.node)
        for node in ast.walk(self.node):
            if isinstance(node, ast.Call):
                calls[node.func] = node
            if node in skipped or not isinstance(node, ast.Name | ast.Attribute):
                continue
            if node in inner:
                if isinstance(node, ast.Attribute):
                    inner.add(node.value)
                continue
            if isinstance(node, ast.Attribute):
                inner.add(node.value)
            dotted = syntax.chain(node)
            if dotted is None or not isinstance(node.ctx, ast.Load):
                continue
            called = self.called(dotted)
            if called and not (called in ("os.environ", "os.environb") and self._written(node)):
                yield _Use(self, dotted, called, node.lineno, calls.get(node))

    def called(self, dotted: syntax.Chain) -> str:
        """The full name of what a dotted name stands for; '' for the project's own and for what cannot be told."""
        root, rest = dotted[0], dotted[1:]
        if root in self.imported:
            said = self.imported[root]
            return "" if self._ours(said) else _usual(".".join((said, *rest)))
        if root in self.local and root not in self.held:
            return ""
        if root in self.held:
            value = self.held[root]
        elif root in self.globals:
            value = self.globals[root]
        else:
            return ""
        while rest and isinstance(value, types.ModuleType):
            inside = vars(value).get(rest[0], sys.modules.get(f"{value.__name__}.{rest[0]}"))
            if inside is None:
                break
            value, rest = inside, rest[1:]
        name = _name_of(value)
        return _usual(".".join((name, *rest))) if name else ""

    def _ours(self, module: str) -> bool:
        top = module.partition(".")[0]
        return any(os.path.exists(os.path.join(f, top)) or os.path.exists(os.path.join(f, f"{top}.py")) for f in self._folders)

    def _written(self, node: ast.AST) -> bool:
        """Whether os.environ is only being set here."""
        if not hasattr(self, "_setting"):
            self._setting = {n.value for n in ast.walk(self.node) if isinstance(n, ast.Subscript) and not isinstance(n.ctx, ast.Load)}
        return node in self._setting


def _imports(tree: ast.AST) -> dict[str, str]:
    """Names that imports inside a piece of code give, to what they stand for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def _annotations(tree: ast.AST) -> set[ast.AST]:
    """All nodes that stand in annotations, or in a block only type checkers read."""
    found: set[ast.AST] = set()
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = [getattr(node, "annotation", None), getattr(node, "returns", None)]
        if isinstance(node, ast.If) and (test := syntax.chain(node.test)) and test[-1] == "TYPE_CHECKING":
            parts.extend(node.body)
        for part in parts:
            if part is not None:
                found.update(ast.walk(part))
    return found


def _in_modules(reached: Reached, folders: tuple[str, ...]) -> list[_Scan]:
    """Functions and classes of modules imported inside functions, as far as anything reached mentions their names."""
    mentioned = {part for s in reached.spoken for chain in s.said.chains for part in chain}
    mentioned |= {name for s in reached.spoken for _, _, taken in s.said.imports for name in taken}
    definitions: list[tuple[ast.AST, syntax.File]] = []
    for path in set(reached.modules.values()):
        parsed = syntax.file(path)
        if parsed is not None:
            definitions += [(node, parsed) for node in parsed.tree.body]
    scans: list[_Scan] = []
    while True:
        named = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        wanted = [(node, parsed) for node, parsed in definitions if not isinstance(node, named) or node.name in mentioned]
        if not wanted:
            return scans
        for node, parsed in wanted:
            said = parsed.read(node)
            mentioned.update(part for chain in said.chains for part in chain)
            if not isinstance(node, ast.Import | ast.ImportFrom):
                scans.append(_Scan(node, parsed.path, {}, {}, said, folders, imported=parsed.tree))
        kept = {id(node) for node, _ in wanted}
        definitions = [(node, parsed) for node, parsed in definitions if id(node) not in kept]


def _name_of(value: Any) -> str:
    """The full name of an object; of an instance, its type's with '()'. '' when it has none."""
    try:
        if isinstance(value, types.ModuleType):
            return value.__name__
        if value is os.environ:
            return "os.environ"
        if isinstance(value, type):
            return f"{value.__module__}.{value.__qualname__}"
        if isinstance(value, types.FunctionType):
            return f"{value.__module__}.{value.__qualname__}"
        owner = getattr(value, "__self__", None) if isinstance(value, types.BuiltinFunctionType | types.MethodType) else None
        if isinstance(owner, types.ModuleType):
            return f"{owner.__name__}.{value.__name__}"
        if isinstance(owner, type):
            return f"{owner.__module__}.{owner.__qualname__}.{value.__name__}"
        if owner is not None:
            module = type(owner).__module__
            if module == "random":  # the functions of `random` are methods of one generator
                import random

                hidden = owner is getattr(random, "_inst", None) or isinstance(owner, random.SystemRandom)
                return f"random.{value.__name__}" if hidden else ""
            if module.startswith("numpy.random") and owner is getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None):
                return f"numpy.random.{value.__name__}"
            return f"{module}.{type(owner).__qualname__}().{value.__name__}"
        if isinstance(value, types.BuiltinFunctionType) or type(value).__name__ == "cython_function_or_method":
            return f"{value.__module__}.{value.__qualname__}"
        return f"{type(value).__module__}.{type(value).__qualname__}()"
    except Exception:  # an object that answers questions with errors
        return ""


def _usual(name: str) -> str:
    """The name under which a thing is known, where it differs from where it is defined."""
    top, _, rest = name.partition(".")
    if top in ("posix", "nt"):
        return f"os.{rest}"
    if top == "_socket":
        return f"socket.{rest}"
    if name.startswith("numpy.random.") and "(" not in name:
        return f"numpy.random.{name.rpartition('.')[2]}"
    if top == "pandas" and ".Timestamp." in name:
        return f"pandas.Timestamp.{name.rpartition('.')[2]}"
    return name


def _kind(use: _Use) -> str:
    """What kind of hidden input a use is; '' for none."""
    name, call = use.called, use.call
    top, last = name.partition(".")[0], name.rpartition(".")[2]
    if name in _CLOCK:
        return "clock"
    if name in _CLOCK_BARE:
        return "clock" if call is None or len(call.args) + len(call.keywords) <= _CLOCK_BARE[name] else ""
    if name in _ENVIRONMENT or name.startswith(("os.environ.", "os.environb.")):
        return "environment" if last != "update" else ""
    if name in _RANDOM:
        return "randomness"
    if name in _SEEDED:
        return "randomness" if call is not None and not _given(call) else ""
    if top in _MODULES_ONLY and name.count(".") == 1 and last not in _SAYS_NO_NUMBER and last[:1].islower():
        return "randomness"
    if name.startswith("numpy.random.") and last not in _SAYS_NO_NUMBER and last[:1].islower() and name.count(".") == 2:
        return "randomness"
    if call is None:
        return ""
    if name in _SOCKET or (name.startswith(_NETWORK) and any(name == n or name.startswith(f"{n}.") for n in _NETWORK)):
        return "" if "Error" in last or "Exception" in last or last in ("Request", "quote") else "network"
    if top == "sklearn" and last in _LEARNERS:
        return "" if any(k.arg in (None, "random_state") or (k.arg == "shuffle" and _false(k.value)) for k in call.keywords) else "randomness"
    if top in _TABLES and last.startswith(("read_", "scan_")):
        return _reading(use, call, top)
    return ""


def _reading(use: _Use, call: ast.Call, top: str) -> str:
    """A table that is read from an address the code itself names."""
    sources = ("source", "path", "filepath_or_buffer", "uri", "query")
    given = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg in sources), None)
    if given is None:
        return ""
    address = _begins(given, use.scan)
    if address.startswith(_REMOTE):
        return "network"
    names = {n.id for n in ast.walk(given) if isinstance(n, ast.Name)}
    literal = isinstance(given, ast.Constant | ast.JoinedStr | ast.Name | ast.Attribute | ast.BinOp | ast.Call)
    own = any(isinstance(n, ast.Call) and (syntax.chain(n.func) or ("",))[0] not in ("Path", "str", "pathlib") for n in ast.walk(given))
    return "files" if literal and top in _UNHEARD and address and not own and not names & use.scan.local else ""


def _begins(node: ast.expr, scan: _Scan) -> str:
    """How a text that code spells out begins; '' when that cannot be seen."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return _begins(node.values[0], scan) if node.values else ""
    if isinstance(node, ast.FormattedValue):
        return _begins(node.value, scan)
    if isinstance(node, ast.BinOp):
        return _begins(node.left, scan)
    if isinstance(node, ast.Call) and node.args:
        return _begins(node.args[0], scan)
    dotted = syntax.chain(node)
    if dotted is None or dotted[0] in scan.local:
        return ""
    value = scan.globals.get(dotted[0])
    for part in dotted[1:]:
        value = vars(value).get(part) if isinstance(value, types.ModuleType) else None
    return str(value) if isinstance(value, str | Path) else ""


def _given(call: ast.Call) -> bool:
    """Whether a seed is given."""
    values = [*call.args, *(k.value for k in call.keywords)]
    return any(not (isinstance(v, ast.Constant) and v.value is None) for v in values)


def _false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


# ---- While it runs


@dataclass
class Observed:
    """What a step did while it ran.

    Args:
        files: what it opened for reading: path, relative to the project folder if inside, else absolute, to a digest of what it holds
            ('missing' if it is not there; 'changed while it was read' if that happened). 'data/*' stands for the names in a folder it listed.
        hosts: names or addresses it connected to, each once, in order.
    """

    files: dict[str, str] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)


CHANGED = "changed while it was read"


class _Recorder:
    def __init__(self) -> None:
        self.read: dict[str, tuple[int, ...] | None] = {}
        self.listed: dict[str, None] = {}
        self.written: set[str] = set()
        self.hosts: dict[str, None] = {}
        self.resolved: set[Any] = set()  # ports that names were looked up for: what follows connects to numbers

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            self._opened(*args[:3])
        elif event in ("os.listdir", "os.scandir"):
            if (isinstance(args[0], str | bytes | os.PathLike) or args[0] is None) and not _by_machinery():
                self.listed[os.path.abspath(os.fsdecode(args[0] or "."))] = None
        elif event == "os.rename":
            source, target = (os.path.abspath(os.fsdecode(p)) for p in args[:2])
            if source in self.written:
                self.written.add(target)
        elif event == "socket.getaddrinfo":
            if args[0]:
                self.resolved.add(str(args[1]))
                self.hosts[_host(args[0])] = None
        elif event == "socket.connect" and isinstance(args[1], tuple) and args[1]:  # a path is a socket of this machine
            host, port = _host(args[1][0]), str(args[1][1])
            if not (port in self.resolved and _number(host)):
                self.hosts[host] = None

    def _opened(self, path: Any, mode: Any, flags: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):  # a descriptor that is open already
            return
        name = os.path.abspath(os.fsdecode(path))
        if isinstance(mode, str):
            reads, writes = "r" in mode or "+" in mode, any(c in mode for c in "wax+")
            fresh = "w" in mode or "x" in mode
        else:
            access = (flags or 0) & (os.O_RDONLY | os.O_WRONLY | os.O_RDWR)
            reads, writes = access != os.O_WRONLY, access != os.O_RDONLY
            fresh = bool((flags or 0) & (os.O_TRUNC | os.O_EXCL))
        if reads and not fresh and name not in self.written and name not in self.read and not _by_machinery(name):
            self.read[name] = _state(name)
        if writes:
            self.written.add(name)


_heard = frozenset({"open", "os.listdir", "os.scandir", "os.rename", "socket.getaddrinfo", "socket.connect"})
_local = threading.local()
_lock = threading.Lock()
_active = 0  # recorders in this process: while there is none, the hook returns at once
_installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if not _active or event not in _heard:
        return
    try:
        recorder = _of_this_thread()
        if recorder is not None and not getattr(_local, "busy", False):
            _local.busy = True
            try:
                recorder.hear(event, args)
            finally:
                _local.busy = False
    except Exception:  # an error here would become one of the step
        return


def _listen() -> None:
    """Once per process. The hook can never be taken away again."""
    global _installed
    if _installed:
        return
    sys.addaudithook(_hook)
    start = threading.Thread.start

    def start_observed(self: threading.Thread) -> None:
        """A thread that a step starts works for the step. (Python tells of new threads by themselves only from 3.12 on.)"""
        if _active:
            recorder = _of_this_thread()
            if recorder is not None:
                self._treadle_recorder = recorder  # type: ignore[attr-defined]
        start(self)

    start_observed.__wrapped__ = start  # type: ignore[attr-defined]
    threading.Thread.start = start_observed  # type: ignore[method-assign]
    _installed = True


def _of_this_thread() -> _Recorder | None:
    found: _Recorder | None = getattr(_local, "recorder", None)
    if found is None and not getattr(_local, "asked", False):
        thread = threading._active.get(threading.get_ident())  # type: ignore[attr-defined]
        if thread is not None:  # it is not listed while it is just being started
            _local.asked = True
            found = _local.recorder = getattr(thread, "_treadle_recorder", None)
    return found


@contextmanager
def observe(roots: Iterable[Path], home: Path | None = None, memo: FileMemo | None = None) -> Iterator[Observed]:
    """Note what this thread, and the threads it starts, open and connect to until the block ends; the result is complete then.

    Left out: the Python installation, /proc, /sys, /dev, system folders, temporary folders that are not the project's, `home`, modules being
    imported, and files that were written in the block before they were read.

    Args:
        roots: the project's folders; files in the first are named relative to it.
        home: where Treadle keeps its own files.
    """
    global _active
    recorder, seen = _Recorder(), Observed()
    folders = [os.path.realpath(root) for root in roots]
    own = os.path.realpath(home) if home is not None else None
    with _lock:
        _listen()
        _active += 1
    before, asked = getattr(_local, "recorder", None), getattr(_local, "asked", False)
    _local.recorder = recorder
    try:
        yield seen
    finally:
        _local.recorder, _local.asked = before, asked
        with _lock:
            _active -= 1
    seen.hosts = list(recorder.hosts)
    _settle(recorder, seen, folders, own, memo)


def _settle(recorder: _Recorder, seen: Observed, folders: list[str], home: str | None, memo: FileMemo | None) -> None:
    if not recorder.read and not recorder.listed:
        return
    left_out = _left_out() + ((home + os.sep,) if home else ())
    temporary = tuple({os.path.realpath(p) + os.sep for p in (tempfile.gettempdir(), "/tmp", "/var/tmp")})
    own = tuple(folder + os.sep for folder in folders)

    def counts(path: str) -> bool:
        return not path.startswith(left_out) and (path.startswith(own) or not path.startswith(temporary))

    memo = memo or FileMemo(Path(home) if home else None)
    for opened, state in recorder.read.items():
        path = os.path.join(os.path.realpath(os.path.dirname(opened)), os.path.basename(opened))
        real = os.path.realpath(opened)
        if not counts(path) or not counts(real) or (state is not None and os.path.isdir(real)):
            continue
        if state is None and (not path.startswith(own) or opened in recorder.written):  # looked for in vain; then perhaps made
            continue
        if state is not None and not os.path.exists(opened):  # a scratch file of the step, written by something that is not heard
            continue
        seen.files[_shown(path, folders)] = content(path, memo) if _state(opened) == state else CHANGED
    for listed in recorder.listed:
        path = os.path.realpath(listed)
        if path.startswith(own) and counts(path + os.sep) and os.path.isdir(path):
            seen.files[f"{_shown(path, folders)}/*"] = content(os.path.join(path, "*"), memo)
    memo.save()


def _shown(path: str, folders: list[str]) -> str:
    return os.path.relpath(path, folders[0]) if folders and path.startswith(folders[0] + os.sep) else path


def _left_out() -> tuple[str, ...]:
    places = {"/proc", "/sys", "/dev", "/run", "/etc", "/usr/lib", "/usr/share/zoneinfo", "/lib", "/lib64"}
    places.add(os.path.dirname(os.path.realpath(os.__file__)))
    places |= {os.path.realpath(p) for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")}
    places.add(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # Treadle itself
    if sys.prefix != sys.base_prefix:
        places.add(os.path.realpath(sys.prefix))
    return tuple(place + os.sep for place in sorted(places))


def _state(path: str) -> tuple[int, ...] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_size, found.st_mtime_ns, found.st_ino


def _by_machinery(name: str = ".py") -> bool:
    """Whether Python itself asks: an import, or the lines of a traceback."""
    if not name.endswith((".py", ".pyc", ".pyi", ".so", ".pth")):
        return False
    frame: types.FrameType | None = sys._getframe(3)
    for _ in range(5):
        if frame is None:
            return False
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib") or os.path.basename(file) in ("linecache.py", "tokenize.py", "inspect.py"):
            return True
        frame = frame.f_back
    return False


def _host(host: Any) -> str:
    return host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)


def _number(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()
