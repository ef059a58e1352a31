"""The command line against a server: `treadle --server URL runs` is `treadle runs` over there, printed here, with its exit code.

The token is that of `treadle login URL`, or TREADLE_TOKEN. What the command prints comes as it is printed; Ctrl-C stops it there; the file of
`--out` is written here.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import click

from treadle.cli import show
from treadle.client.server import Server
from treadle.core.errors import NotFound, StorageError, Unauthorized, UsageError
from treadle.core.ids import new_id

HERE = ("login", "logout", "--help", "-h", "--version")  # what is done on this machine even so


def wanted(given: list[str]) -> tuple[str, list[str]]:
    """The server that a command line names, '' for none, and the arguments without it. Raises UsageError."""
    for i, word in enumerate(given):
        if word == "--server":
            if i + 1 == len(given):
                raise UsageError("--server needs the address of a server.", hint="Example: treadle --server https://treadle.example.com runs")
            return given[i + 1], given[:i] + given[i + 2 :]
        if word.startswith("--server="):
            return word.partition("=")[2], given[:i] + given[i + 1 :]
        if not word.startswith("-"):
            break
    return os.environ.get("TREADLE_SERVER", ""), given


def run(url: str, argv: list[str]) -> int:
    """Run a command over there and print what it prints; returns its exit code. Raises what the server tells of, and Unavailable."""
    if "-C" in argv[:1] or "--project" in argv[:1]:
        raise UsageError("A server knows its own project folder.", hint="Leave -C away.")
    server = Server(url, token_for(url))
    begun = server.commands_start(argv=argv, key=new_id("cli"))
    try:
        code = _follow(server, begun["id"])
    except KeyboardInterrupt:
        server.commands_stop(begun["id"])
        _follow(server, begun["id"])
        raise
    if begun["file"] and code in (0, 4):
        _keep(server, begun["id"], _named(argv) or begun["file"])
    return code


def _follow(server: Server, id: str) -> int:
    out = err = 0
    while True:
        now = server.commands_see(id, out=out, err=err, wait=5.0)
        sys.stdout.write(now["out"])
        sys.stdout.flush()
        sys.stderr.write(now["err"])
        sys.stderr.flush()
        out, err = now["next_out"], now["next_err"]
        if not now["more"]:
            if now["status"] == "lost":
                print("treadle: the server lost sight of this command; see what became of it there.", file=sys.stderr)
            return int(now["code"]) if now["code"] is not None and now["code"] >= 0 else 130 if now["code"] is not None else 1


def _named(argv: list[str]) -> str:
    for i, word in enumerate(argv):
        if word == "--out" and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith("--out="):
            return word.partition("=")[2]
    return ""


def _keep(server: Server, id: str, name: str) -> None:
    try:
        content = server.commands_file(id)
    except NotFound:
        return  # it had nothing to write
    try:
        Path(name).write_bytes(content)
    except OSError as error:
        raise StorageError(f"The file cannot be written: {error.strerror}.", where=name, hint="Name another one with --out.") from None
    print(f"written here: {name}", file=sys.stderr)


@click.command(epilog="Example: treadle login https://treadle.example.com")
@click.argument("url")
@click.option("--token-stdin", is_flag=True, help="Read the token from standard input instead of asking for it.")
def login(url: str, token_stdin: bool) -> None:
    """Keep the token for a server, so that `treadle --server URL` needs no other word. It is tried first."""
    token = sys.stdin.readline().strip() if token_stdin else click.prompt("token", hide_input=True)
    me = Server(url, token).you_see()
    known = _known()
    known[url.rstrip("/")] = token
    _write(known)
    show.say(f"signed in to {url} as {me['name']} ({', '.join(me['roles']) or 'no role'})")


@click.command(epilog="Example: treadle logout https://treadle.example.com")
@click.argument("url")
def logout(url: str) -> None:
    """Forget the token for a server. It stays valid: revoke it on the page 'You'."""
    known = _known()
    if known.pop(url.rstrip("/"), None) is None:
        raise NotFound(f"No token is kept for {url}.", hint=f"Kept are those for: {', '.join(known) or 'no server'}.")
    _write(known)
    show.say(f"forgot the token for {url}")


def token_for(url: str) -> str:
    """The token to show to a server. Raises Unauthorized."""
    token = os.environ.get("TREADLE_TOKEN") or _known().get(url.rstrip("/"), "")
    if not token:
        raise Unauthorized(f"There is no token for {url}.", hint=f"Keep one with: treadle login {url}  (or set TREADLE_TOKEN)")
    return token


def _file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME", "")
    return (Path(base) if base else Path.home() / ".config") / "treadle" / "servers.json"


def _known() -> dict[str, str]:
    try:
        found = json.loads(_file().read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StorageError(f"The tokens cannot be read: {error}", where=str(_file()), hint="Remove the file, then: treadle login URL") from None
    return {str(k): str(v) for k, v in found.items()}


def _write(known: dict[str, str]) -> None:
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent)  # readable by its owner only
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            json.dump(known, opened, indent=1)
        os.replace(temporary, file)
    except OSError as error:
        raise StorageError(f"The token cannot be kept: {error.strerror}.", where=str(file)) from None
