"""What the operating system says about a disk, in the words of the house."""

from __future__ import annotations

import errno
from pathlib import Path

from treadle.core.errors import StorageError

_MEANING = {
    errno.ENOSPC: ("is on a disk that is full", "Free some space and try again."),
    errno.EDQUOT: ("is over the disk quota", "Free some space or raise the quota, then try again."),
    errno.EFBIG: ("would exceed the largest file size allowed here", "Raise the limit (ulimit -f) or free some space, then try again."),
    errno.EROFS: ("is on a read-only file system", "Choose a writable place or mount it for writing."),
    errno.EACCES: ("may not be written or read by this user", "Check the owner and the permissions."),
    errno.EPERM: ("may not be written or read by this user", "Check the owner and the permissions."),
    errno.EIO: ("is on a disk that reports errors", "Check the disk, then restore from a backup if needed."),
    errno.ENOTDIR: ("has a file where a folder should be", "Move that file away or choose another place."),
    errno.EEXIST: ("has a file where a folder should be", "Move that file away or choose another place."),
}


def storage_error(error: OSError, path: Path) -> StorageError:
    """The StorageError that says which place failed, why, and what to do."""
    what, hint = _MEANING.get(error.errno or 0, (f"could not be used: {error.strerror or error}.", "Check the disk and the path."))
    return StorageError(f"{path} {what.rstrip('.')}.", hint=hint)
