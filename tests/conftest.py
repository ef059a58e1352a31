"""What every test shares: readable asserts inside the contract suites, calm property tests, and one tiny project folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("treadle.testing")

from treadle.assemble import Workspace, open_workspace  # noqa: E402
from treadle.data.write_project import write_blank  # noqa: E402

# No deadlines: a shared machine is slow at times. In CI the same examples each time: a red build must mean a changed program.
settings.register_profile("treadle", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("treadle")


@pytest.fixture
def tiny(tmp_path: Path) -> Workspace:
    """The workspace of the starter project, as `treadle init` writes it."""
    folder = tmp_path / "tiny"
    write_blank(folder, "tiny")
    return open_workspace(folder)
