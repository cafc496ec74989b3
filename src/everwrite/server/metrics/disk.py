"""What a data directory takes, and what is free there. A disk may hang: ask on a thread."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec


class DiskSpace(msgspec.Struct, frozen=True):
    """Bytes."""

    taken: int
    free: int


def look_at(directory: Path) -> DiskSpace:
    """Return what a directory takes; files that go while it is looked at count as nothing."""
    taken = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            taken += _blocks(os.path.join(folder, name)) * 512
    found = os.statvfs(directory)
    return DiskSpace(taken, found.f_bavail * found.f_frsize)


def _blocks(path: str) -> int:
    try:
        return os.stat(path).st_blocks
    except FileNotFoundError:
        return 0
