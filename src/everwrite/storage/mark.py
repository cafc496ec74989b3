"""The mark: how far an engine's log was synced, so that what is missing from it later is noticed.

A log is replayed up to the first record that is not whole. Behind a crash that is its torn end,
which nobody was promised. But if a byte rots in the middle, all behind it is dropped as quietly:
synced and acknowledged copies, which would then read as absent, or as what they were before. The
library cannot tell the two apart. The mark can: an engine notes here, after each sync, how far the
log went before it; what is recovered at the next start must reach as far.

Twenty-four bytes: two numbers whose meaning is the engine's, and their checksum. They lie within
one sector and are overwritten in place, which takes no room on a full disk. A mark is written only
after its sync, so at worst it lags and says less than is true; so it needs no fsync on the way of
an ack. ``fsync`` of the mark itself comes with a later mark, at most once a second, and at the
close: a killed process loses nothing of it, a power cut what came since, up to a second of a store
that is written to, and of one that is idle as long as the kernel kept it back (30 s on Linux).

Costs: one ``pwrite`` per sync, about 4 microseconds, and one fsync of one sector per second.
"""

from __future__ import annotations

import os
import struct
import time
from contextlib import suppress
from pathlib import Path

import xxhash

from everwrite.core.errors import StorageError
from everwrite.storage.engine import CorruptData
from everwrite.storage.manifest import RESTORE, sync_directory

MARK_SYNC_S = 1.0
"""A mark older than this is fsynced with the next one."""

_NUMBERS = struct.Struct("<QQ")
_CHECKSUM = struct.Struct("<Q")


class Mark:
    """The mark in one file, which is made if it does not exist; the caller lets one thread in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._synced_s = time.monotonic()
        try:
            if not path.exists():
                _begin(path)
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise StorageError(
                f"The file {path} cannot be used ({error.strerror}).",
                hint="Check the directory's permissions and its free space.",
            ) from error

    def set(self, first: int, second: int = 0) -> None:
        """Note how far the log is synced. If that fails the mark lags, which is no lie."""
        with suppress(OSError):
            os.pwrite(self._file, _sealed(first, second), 0)
            if time.monotonic() - self._synced_s >= MARK_SYNC_S:
                os.fsync(self._file)
                self._synced_s = time.monotonic()

    def close(self) -> None:
        """Make it durable and let go of the file; closing twice is fine."""
        if self._file < 0:
            return
        with suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)
        self._file = -1


def read_mark(path: Path) -> tuple[int, int]:
    """Return the two numbers, zeros if there is no such file; CorruptData if it is damaged."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return 0, 0
    except OSError as error:
        raise StorageError(
            f"The file {path} cannot be read ({error.strerror}).",
            hint="Check the disk (dmesg) and the directory's permissions.",
        ) from error
    numbers = raw[: _NUMBERS.size]
    if len(raw) != _NUMBERS.size + _CHECKSUM.size or _sealed(*_NUMBERS.unpack(numbers)) != raw:
        raise CorruptData(
            f"The file {path} is damaged, so nobody can tell whether the log beside it is whole. "
            "Nothing was changed.",
            hint="Check the disk (dmesg, smartctl). If it is sound and the log is known to be "
            "whole, remove this one file. Else: " + RESTORE,
        )
    first, second = _NUMBERS.unpack(numbers)
    return first, second


def lost_synced(what: str, recovered: int, marked: int) -> CorruptData:
    """Return the error of a log from which synced writes are missing."""
    return CorruptData(
        f"The log of {what} is damaged: it was synced up to {marked}, but can be read only up to "
        f"{recovered}. Acknowledged writes are missing.",
        hint=f"Check the disk (dmesg, smartctl). {RESTORE}",
    )


def _begin(path: Path) -> None:
    """Write the first mark whole, so that all later ones overwrite it within its sector."""
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as file:
        file.write(_sealed(0, 0))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_directory(path.parent)


def _sealed(first: int, second: int) -> bytes:
    numbers = _NUMBERS.pack(first, second)
    return numbers + _CHECKSUM.pack(xxhash.xxh3_64_intdigest(numbers))
