"""A systemd unit that keeps a model's endpoint running: started at boot, started again when it dies, stopped in good order."""

from __future__ import annotations

from treadle.core.errors import UsageError
from treadle.stacks.grammar import MARK, checked_host, checked_name, checked_path, checked_user

UNIT = """\
# {mark} systemd`: compile again instead of editing.
# Deploy a version first (treadle deploy {model}, then treadle stop {model}); later deployments are followed without a restart.
[Unit]
Description=Treadle endpoint of {model} ({project})
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=60
StartLimitBurst=10

[Service]
Type=exec
User={user}
WorkingDirectory={folder}
ExecStart="{python}" -m treadle.web.workers --folder "{folder}" --model {model} --host {host} --port {port}{buffered}
Restart=on-failure
RestartSec=1
# Wrong use, or a wrong project: another start would not help.
RestartPreventExitStatus=2 3
TimeoutStopSec=30
NoNewPrivileges=yes
ProtectSystem=full

[Install]
WantedBy=multi-user.target
"""


def compile_systemd(
    project_name: str, model_name: str, folder: str, *, python: str, host: str, port: int, user: str, buffered: bool = False
) -> str:
    """The text of a unit file.

    Args:
        python: the absolute path of the interpreter that has Treadle.
        port: the port to listen on; a unit needs a fixed one.
        buffered: whether predictions may be written shortly after they are answered (see `serve(durability=...)`).
    Raises: UsageError for a name or path outside the grammar, or a port that is none.
    """
    if not 1 <= int(port) <= 65535:
        raise UsageError("A unit needs a fixed port.", hint="Give one: --port 8765, or project.serve(model, port=8765).")
    return UNIT.format(
        mark=MARK, model=checked_name(model_name, "model name"), project=checked_name(project_name, "project name"), user=checked_user(user),
        folder=checked_path(folder), python=checked_path(python), host=checked_host(host), port=int(port), buffered=" --buffered" if buffered else "",
    )  # fmt: skip
