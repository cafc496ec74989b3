"""One process per data directory: an exclusive flock on ``<directory>/lock``.

The kernel drops it when the process ends, however it ends, so there is never a stale lock to clean
up. The file stays and holds the last holder's process id, for people only: no decision reads it.

flock and not fcntl's record locks: those vanish when *any* descriptor of the file is closed, and
let one process open its directory twice. Price: a child forked without exec shares the lock until
it ends too.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from everwrite.core.errors import DirectoryInUse, StorageError

LOCK_NAME = "lock"


class DirectoryLock:
    """Holds the lock from construction to ``release``."""

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK_NAME
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(path, flags, 0o600)
        except OSError as error:
            raise StorageError(
                f"The lock file {path} cannot be opened ({error.strerror}).",
                hint="Give this user write access to the data directory, or choose another one.",
            ) from error
        try:
            self._take(directory)
        except BaseException:
            os.close(self._fd)
            raise

    def _take(self, directory: Path) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise StorageError(
                    f"The data directory {directory} cannot be locked ({error.strerror}).",
                    hint="Put it on a local file system that supports flock.",
                ) from error
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            by = f"process {holder}" if holder else "another process"
            raise DirectoryInUse(
                f"The data directory {directory} is in use by {by}; nothing was changed.",
                hint="Close it there, or use another directory here.",
            ) from error
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError:
            # A full disk must not keep a node from opening its data to serve reads; the id is for
            # people only.
            return

    def release(self) -> None:
        """Let others in. The file stays: without it two processes could lock two files here."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
