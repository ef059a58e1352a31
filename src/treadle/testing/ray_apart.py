"""Tests with Ray run in a pytest of their own: Ray ends its driver when its raylet or GCS seems dead, as it may on a busy machine, and must not take
with it the process that runs all other tests. What Ray ends is one failed test, with all that was said.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# How long a Ray on one busy machine may take before it counts as dead. Tests carry no token; memory is watched by Treadle itself.
TOLERANT = {
    "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300", "RAY_worker_register_timeout_seconds": "300",
    "RAY_health_check_initial_delay_ms": "60000", "RAY_health_check_period_ms": "10000", "RAY_health_check_timeout_ms": "60000",
    "RAY_health_check_failure_threshold": "10", "RAY_gcs_rpc_server_reconnect_timeout_s": "300", "RAY_gcs_rpc_server_connect_timeout_s": "60",
    "RAY_gcs_server_request_timeout_seconds": "300", "RAY_grpc_client_keepalive_timeout_ms": "300000", "RAY_memory_monitor_refresh_ms": "0",
}  # fmt: skip
_HERE = "TREADLE_TEST_OF_RAY"


def here() -> bool:
    """Whether this is such a pytest."""
    return _HERE in os.environ


def run(request: pytest.FixtureRequest, node: str = "") -> None:
    """Run a test, or this one, in a pytest of its own; fails where that does."""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-rA", node or request.node.nodeid]
    done = subprocess.run(
        command, cwd=request.config.rootpath, env={**plain, **TOLERANT, _HERE: "1"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"ended with {done.returncode}\n{done.stdout[-20_000:]}"
    print(done.stdout)


def elsewhere(request: pytest.FixtureRequest) -> bool:
    """At the beginning of a test: True when it has just passed in a pytest of its own; False in that."""
    if here():
        return False
    run(request)
    return True
