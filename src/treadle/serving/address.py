"""Which ports of this machine are free."""

from __future__ import annotations

import socket


def port_free(host: str, port: int) -> bool:
    """Whether nothing listens there."""
    if _bound(host, port, socket.SO_REUSEADDR):
        return True
    # Connections of an endpoint that was killed stay half open for a minute. They keep nobody from listening who shares the port, as endpoints do.
    with socket.socket() as probe:
        probe.settimeout(1.0)
        listens = probe.connect_ex((host, port)) == 0
    return not listens and _bound(host, port, socket.SO_REUSEPORT)


def _bound(host: str, port: int, option: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str) -> int:
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
