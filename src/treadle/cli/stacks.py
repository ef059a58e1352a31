"""`treadle compile`."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
from pathlib import Path

import click

from treadle import __version__
from treadle.assemble import Workspace
from treadle.cli import show
from treadle.core.declare.model import Model
from treadle.core.errors import Conflict, UsageError


@click.command(name="compile", epilog="Example: treadle compile airflow late-arrival --schedule '0 6 * * *' --out dags/late_arrival.py")
@click.argument("engine", type=click.Choice(["airflow", "github", "systemd", "up", "container", "grafana", "alerts"]))
@click.argument("model", default="")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="The file to write; printed if not given.")
@click.option("--schedule", metavar="CRON", help="When the DAG runs (airflow).")
@click.option("--port", type=click.IntRange(1, 65535), help="The port the endpoint listens on, if the project does not say (systemd, container).")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="Only these roles of `treadle up` (up, container).")
@click.pass_context
def compile_(
    ctx: click.Context, engine: str, model: str, out: Path | None, schedule: str | None, port: int | None, roles: tuple[str, ...]
) -> None:  # fmt: skip
    """Write the project for another engine.

    airflow: a DAG of the model's steps. github: a workflow that makes and judges the model on every push.
    systemd: a unit that keeps the model's endpoint running.
    up, container: a systemd unit or a container file that keeps the whole project running (`treadle up`).
    grafana: a dashboard of the endpoint. alerts: rules for Prometheus.
    """
    if schedule and engine != "airflow":
        raise click.UsageError("--schedule is for airflow.")
    if port and engine not in ("systemd", "container"):
        raise click.UsageError("--port is for systemd and container.")
    if roles and engine not in ("up", "container"):
        raise click.UsageError("--role is for up and container.")
    ws = show.workspace(ctx)
    declared = ws.model(model)
    if engine == "airflow":
        text = _airflow(ws, declared, schedule)
    elif engine == "github":
        text = _github(ws, declared)
    elif engine in ("up", "container"):
        text = _up(ws, declared, engine, port, roles)
    elif engine in ("grafana", "alerts"):
        text = _observed(ws, declared, engine)
    else:
        text = _systemd(ws, declared, port)
    if out is None:
        print(text, end="")
        return
    _write(out, text)
    show.say(f"wrote {out}")


def _airflow(ws: Workspace, model: Model, schedule: str | None) -> str:
    from treadle.pipelines.graph import ordered
    from treadle.stacks.airflow import compile_airflow
    from treadle.wheel.turn import build

    steps = ordered(build(ws, model, as_of=None, settings=None, champion=None, cause={}))
    graph = [(step.name, list(dict.fromkeys(step.inputs.values()))) for step in steps]
    return compile_airflow(ws.project.name, model.name, graph, str(ws.folder), schedule)


def _github(ws: Workspace, model: Model) -> str:
    from treadle.stacks.github import compile_github

    root = next((folder for folder in (ws.folder, *ws.folder.parents) if (folder / ".git").exists()), ws.folder)
    place = ws.folder.relative_to(root).as_posix()
    return compile_github(ws.project.name, model.name, place, f"treadle[train,serve,monitor]=={__version__}")


def _up(ws: Workspace, model: Model, engine: str, port: int | None, roles: tuple[str, ...]) -> str:
    from treadle.live.up import ROLES
    from treadle.stacks.up import compile_container, compile_unit

    unknown = next((r for r in roles if r not in ROLES), None)
    if unknown is not None:
        raise UsageError(f"{unknown!r} is no role.", hint=f"Roles are {', '.join(ROLES)}.")
    if engine == "up":
        return compile_unit(ws.project.name, str(ws.folder), python=sys.executable, user=getpass.getuser(), roles=roles)
    requirement = f"treadle[train,serve,monitor,console,data]=={__version__}"
    return compile_container(ws.project.name, requirement=requirement, port=port or ws.serve_of(model).port or int(ws.settings["port"]), roles=roles)


def _observed(ws: Workspace, model: Model, engine: str) -> str:
    from treadle.stacks.alerts import compile_alerts
    from treadle.stacks.grafana import compile_grafana

    if engine == "grafana":
        return compile_grafana(ws.project.name, model.name)
    limits = ws.serve_of(model).rollback
    slow, share = limits.slow if limits and limits.slow else (1.0, 0.01)
    return compile_alerts(ws.project.name, model.name, errors=limits.errors if limits else 0.01, slow=slow, slow_share=share)


def _systemd(ws: Workspace, model: Model, port: int | None) -> str:
    from treadle.stacks.systemd import compile_systemd

    serve = ws.serve_of(model)
    return compile_systemd(
        ws.project.name, model.name, str(ws.folder), python=sys.executable, host=ws.settings["host"],
        port=port or serve.port or int(ws.settings["port"]), user=getpass.getuser(), buffered=serve.durability == "buffered",
    )  # fmt: skip


def _write(path: Path, text: str) -> None:
    """All of the file or nothing; never over a file that somebody wrote by hand."""
    from treadle.stacks.grammar import MARK

    try:
        before = path.read_text("utf-8") if path.exists() else MARK
    except UnicodeDecodeError:
        before = ""
    if MARK not in before:
        raise Conflict(f"{path} was not made by treadle compile.", hint="Name another file, or move that one away.")
    if path.parent.exists() and not path.parent.is_dir():
        raise UsageError(f"{path.parent} is a file.", hint="Name a folder.")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(scratch, 0o644)
        os.replace(scratch, path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
