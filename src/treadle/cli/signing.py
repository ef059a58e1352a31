"""`treadle signing`: the keys that packages are signed with, and what is signed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from treadle.assemble import Workspace
from treadle.cli import show
from treadle.core.clock import iso, parse_time
from treadle.core.errors import NotFound, Refused, UsageError
from treadle.core.records import Ref


@click.group(epilog="Example: treadle signing verify")
def signing() -> None:
    """Keys and signatures of packages, after OpenSSF Model Signing.

    With a key in place, each new version is signed when it is registered, and only packages signed by a trusted key are opened.
    """


@signing.command()
@click.option("--name", default="", help="What the key is called; the project's name if not given.")
@click.option("--existing", is_flag=True, help="Sign the versions that are registered already, too.")
@click.pass_context
def init(ctx: click.Context, name: str, existing: bool) -> None:
    """Make a key to sign with, and trust it."""
    from treadle.registry import keys

    ws = show.workspace(ctx)
    unsigned = [v for v in _all(ws) if not v["package"].get("signature")]
    if unsigned and not existing:
        told = f"{len(unsigned)} registered versions are unsigned and would not open any more."
        raise Refused(told, hint="If you trust them, add --existing: they are signed too.")
    key = keys.make(ws.keys, name or ws.project.name)
    _note(ws, "key.made", key.fingerprint, {"name": key.name})
    show.say(f"new versions are signed with {key.name} ({key.fingerprint[:16]}), and only what a trusted key signed is opened")
    show.say(f"private key: {ws.keys / keys.PRIVATE} (mode 600). Copy it to nobody; back it up where you keep secrets.")
    for version in unsigned:
        _sign(ws, version, "signed when the key was made")


@signing.command("keys")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def keys_(ctx: click.Context, json_: bool) -> None:
    """List the keys whose signatures count, and those that were revoked."""
    from treadle.registry import keys
    from treadle.registry.signing import fingerprint, public_of

    ws = show.workspace(ctx)
    private = keys.private_key(ws.keys)
    own = fingerprint(public_of(private)) if private else ""
    found = [
        {
            "name": k.name, "fingerprint": k.fingerprint, "signs": k.fingerprint == own, "until": iso(k.until) if k.until else None,
            "revoked": k.revoked,
            "counts": not k.revoked and (k.until is None or k.until > ws.clock.now()),
        }
        for k in keys.known(ws.keys)
    ]  # fmt: skip
    if json_:
        show.as_json(found)
        return
    if not found:
        show.say("No key is trusted: packages are neither signed nor checked. Make one with: treadle signing init")
    told = [(k["name"], str(k["fingerprint"])[:16], "signs" if k["signs"] else "", _state(k)) for k in found]
    show.table(["name", "fingerprint", "", "state"], told)


@signing.command("show")
@click.argument("key", default="")
@click.pass_context
def show_(ctx: click.Context, key: str) -> None:
    """Print a public key as PEM, to be trusted elsewhere: the one that signs here, or the one named."""
    from treadle.registry import keys
    from treadle.registry.signing import public_of

    ws = show.workspace(ctx)
    if key:
        show.say(keys.find(keys.known(ws.keys), key).public.rstrip())
        return
    private = keys.private_key(ws.keys)
    if private is None:
        raise NotFound("There is no key to sign with.", hint="Make one with: treadle signing init")
    show.say(public_of(private).rstrip())


@signing.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What the key is called here.")
@click.option("--until", metavar="TIME", help="When its signatures stop to count; never if not given.")
@click.pass_context
def trust(ctx: click.Context, file: Path, name: str, until: str | None) -> None:
    """Let the signatures of a public key (a PEM file) count: of a colleague, or of the machine that trains."""
    from treadle.registry import keys

    ws = show.workspace(ctx)
    try:
        public = file.read_text("ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.", hint="Give a public key as PEM: treadle signing show") from None
    key = keys.add(ws.keys, public, name, parse_time(until) if until else None)
    _note(ws, "key.trusted", key.fingerprint, {"name": name, "until": iso(key.until) if key.until else None})
    show.say(f"signatures of {name} ({key.fingerprint[:16]}) count" + (f" until {key.until:%Y-%m-%d %H:%M} UTC" if key.until else ""))


@signing.command()
@click.option("--name", default="", help="What the new key is called.")
@click.pass_context
def rotate(ctx: click.Context, name: str) -> None:
    """Sign with a new key from now on. What the old one signed still counts, until it is revoked."""
    from treadle.registry import keys

    ws = show.workspace(ctx)
    old, key = keys.rotate(ws.keys, name or f"{ws.project.name} {ws.clock.now():%Y-%m-%d}")
    _note(ws, "key.rotated", key.fingerprint, {"name": key.name, "instead_of": old})
    show.say(f"new versions are signed with {key.name} ({key.fingerprint[:16]}); what {old[:16]} signed still counts")


@signing.command()
@click.argument("key")
@click.option("--reason", required=True, help="Why; it is shown wherever the key is met.")
@click.pass_context
def revoke(ctx: click.Context, key: str, reason: str) -> None:
    """Let a key's signatures count no more. KEY is its name or the beginning of its fingerprint."""
    from treadle.registry import keys

    ws = show.workspace(ctx)
    gone = keys.revoke(ws.keys, key, reason)
    _note(ws, "key.revoked", gone.fingerprint, {"name": gone.name, "reason": reason})
    hit = [v.id for v in _all(ws) if (v["package"].get("signature") or {}).get("key") == gone.fingerprint]
    show.say(f"{gone.name} ({gone.fingerprint[:16]}) counts no more; versions signed with it: {', '.join(hit) or 'none'}")
    if hit:
        show.say("They open no more. An endpoint that answers with one goes on until it starts again or is given another version.")


@signing.command()
@click.argument("version")
@click.option("--reason", required=True, help="Why you trust these files.")
@click.pass_context
def sign(ctx: click.Context, version: str, reason: str) -> None:
    """Sign a registered version (MODEL.vN) with the present key: one that is unsigned, or whose key was replaced."""
    _sign(ws := show.workspace(ctx), _named(ws, version), reason)


@signing.command()
@click.argument("version", default="")
@click.option("--json", "json_", is_flag=True, help="Print as JSON.")
@click.pass_context
def verify(ctx: click.Context, version: str, json_: bool) -> None:
    """Check the package of a version (MODEL.vN), or of every version: its signature, and each byte of its files.

    Ends with 7 when bytes were changed and with 4 when a package is not signed as it must be.
    """
    from treadle.core.errors import Corrupt, TreadleError
    from treadle.registry import packages

    ws = show.workspace(ctx)
    worst: TreadleError | None = None
    found: list[dict[str, Any]] = []
    for record in [_named(ws, version)] if version else _all(ws):
        said = packages.told_signature(record["package"], ws.blobs, ws.shelf.trust)
        try:
            packages.open_package(record["package"], ws.blobs, ws.shelf)
            problem = ""
        except TreadleError as error:
            problem = f"{error.what}{f' {error.hint}' if error.hint else ''}"
            worst = error if worst is None or isinstance(error, Corrupt) else worst
        found.append({"version": record.id, "signature": said, "opens": not problem, "problem": problem})
    if json_:
        show.as_json(found)
    else:
        rows = [(f["version"], "yes" if f["opens"] else "NO", f["signature"], f["problem"]) for f in found]
        show.table(["version", "opens", "signature", ""], rows)
    if worst is not None:
        ctx.exit(worst.exit_code)


def _state(key: dict[str, Any]) -> str:
    if key["revoked"]:
        return f"revoked: {key['revoked']}"
    return "counts" + (f" until {key['until']}" if key["until"] else "") if key["counts"] else f"ended {key['until']}"


def _all(ws: Workspace) -> list[Any]:
    from treadle.registry import versions

    return sorted(ws.ledger.find(versions.KIND), key=lambda r: (r["model"], int(r["number"])))


def _named(ws: Workspace, version: str) -> Any:
    from treadle.registry import versions

    found = ws.ledger.get(versions.KIND, version)
    if found is None:
        raise NotFound(f"There is no version {version!r}.", hint="Versions are named MODEL.vN; see: treadle models")
    return found


def _sign(ws: Workspace, version: Any, reason: str) -> None:
    """Check that the files are those that were registered, sign them, and record who did and why."""
    from treadle.registry import keys, packages, versions

    private = keys.private_key(ws.keys)
    if private is None:
        raise NotFound("There is no key to sign with.", hint="Make one with: treadle signing init")
    for address in version["package"]["files"].values():
        ws.blobs.verify(address)
    signed = packages.sign(version["package"], version["model"], private, ws.blobs)
    with ws.ledger.transaction():
        ws.ledger.put(versions.KIND, version.id, {**version.body, "package": signed}, expect=version.version)
        says = {"key": signed["signature"]["key"], "reason": reason}
        ws.ledger.append("version.signed", Ref(versions.KIND, version.id), says, actor=ws.actor)
    show.say(f"{version.id} is signed ({signed['signature']['key'][:16]})")


def _note(ws: Workspace, event: str, fingerprint: str, says: dict[str, Any]) -> None:
    ws.ledger.append(event, Ref("key", fingerprint), says, actor=ws.actor)
