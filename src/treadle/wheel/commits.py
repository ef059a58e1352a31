"""What became of a project folder's git history since it was last looked at."""

from __future__ import annotations

from pathlib import Path

from treadle.provenance.git import told


def newest_commit(folder: Path) -> tuple[str, str] | None:
    """(id, first line) of the newest commit of HEAD that touches the folder; None outside a git repository, or without one."""
    said = told(folder, "log", "-1", "--format=%H%x00%s", "HEAD", "--", ".").decode(errors="replace").strip()
    commit, _, line = said.partition("\x00")
    return (commit, line[:200]) if commit else None


def older(commit: str, than: str, folder: Path) -> bool:
    """Whether a commit lies in the history of another."""
    return told(folder, "merge-base", commit, than).decode().strip() == commit
