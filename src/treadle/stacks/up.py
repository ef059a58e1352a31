"""What keeps `treadle up` running: a systemd unit for a machine, and a container file for everything else."""

from __future__ import annotations

import re
from collections.abc import Sequence

from treadle.core.errors import UsageError
from treadle.stacks.grammar import MARK, checked_name, checked_path, checked_user

_UNIT = """\
# {mark} up`: compile again instead of editing.
[Unit]
Description=Treadle keeps {project} up ({roles})
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=exec
User={user}
WorkingDirectory={folder}
ExecStart="{python}" -m treadle.cli.main -C "{folder}" up{given}
Restart=on-failure
RestartSec=1
# Wrong use, or a wrong project: another start would not help.
RestartPreventExitStatus=2 3
# It lets its parts leave by itself; what is left after that is ended.
KillMode=mixed
TimeoutStopSec=60
NoNewPrivileges=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""

_CONTAINER = """\
# {mark} container`: compile again instead of editing.
# Build and run, with a volume for what is recorded:
#   buildah build -t {project} -f Containerfile .
#   podman run --init -v {project}:/project/.treadle -p {port}:{port} {project}
FROM docker.io/library/python:3.11-slim
RUN pip install --no-cache-dir "{requirement}" && useradd --create-home --uid 10001 treadle
WORKDIR /project
COPY --chown=treadle:treadle . /project
RUN mkdir -p /project/.treadle && chown treadle:treadle /project /project/.treadle
USER treadle
# The endpoint listens on every address of the container; which of them are reached is said by -p.
ENV TREADLE_HOST=0.0.0.0 TREADLE_PORT={port} TREADLE_ACTOR={project}
VOLUME /project/.treadle
EXPOSE {port}
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s CMD ["treadle", "-C", "/project", "up", "--status"]
ENTRYPOINT ["treadle", "-C", "/project"]
CMD ["up"{given}]
"""
_REQUIREMENT = re.compile(r"treadle\[[a-z0-9,]+\]==[0-9A-Za-z.]+")


def compile_unit(project: str, folder: str, *, python: str, user: str, roles: Sequence[str] = (), every: float = 60.0) -> str:
    """The text of a unit file that runs `treadle up`.

    Args:
        python: the absolute path of the interpreter that has Treadle. roles: which; all if none is named. every: seconds between looks of the watch.
    Raises: UsageError for a name or path outside the grammar.
    """
    given = "".join(f" --role {checked_name(r, 'role')}" for r in roles) + f" --every {float(every):g}"
    return _UNIT.format(
        mark=MARK, project=checked_name(project, "project name"), folder=checked_path(folder), python=checked_path(python), user=checked_user(user),
        roles=", ".join(roles) or "all roles", given=given,
    )  # fmt: skip


def compile_container(project: str, *, requirement: str, port: int, roles: Sequence[str] = ()) -> str:
    """The text of a container file that runs `treadle up`.

    Args:
        requirement: what pip installs, for example 'treadle[train,serve,monitor]==0.1.0'. port: where the endpoint listens.
    Raises: UsageError for a name outside the grammar, or a port that is none.
    """
    if not 1 <= int(port) <= 65535:
        raise UsageError("A container needs a fixed port.", hint="Give one: --port 8765, or project.serve(model, port=8765).")
    if not _REQUIREMENT.fullmatch(requirement):
        raise UsageError(f"{requirement!r} is no requirement of Treadle.")
    given = "".join(f', "--role", "{checked_name(r, "role")}"' for r in roles)
    return _CONTAINER.format(mark=MARK, project=checked_name(project, "project name"), requirement=requirement, port=int(port), given=given)
