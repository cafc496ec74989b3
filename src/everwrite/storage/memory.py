"""The memory engine: a sorted map in this process, gone when it ends. The model that the others are
tested against.

Also what the simulator and the tests run on, and what a cache-like node may choose. Nothing here
can fail, so the code is the contract in its shortest form.

Representation: a dict is the truth; beside it a sorted list of its keys, brought up to date only
when somebody scans. So a write costs a dict write. A scan after a few new keys puts each in its
place; after many it sorts them and merges (timsort), which is linear in all. Deleted keys are
passed over, and taken out once they are half of the list: so whoever scans, deletes what it found
and scans again pays for what it finds, not for all that is there.

Invariant: each key of the dict is in ``_sorted`` or in ``_unsorted``. Both may also hold deleted
keys, and ``_sorted`` a key twice in a row where it was written anew: ``_dead`` such entries, or
fewer.
"""

from __future__ import annotations

import threading
import weakref
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from everwrite.core.errors import StorageError
from everwrite.storage.engine import Batch, refuse_closed

FEW = 256
"""New keys that are put in their places one by one: 0.3 us each, and up to 100 us among millions.
"""


class MemoryEngine:
    """Keeps the Engine contract without a disk: ``sync`` does nothing, ``checkpoint`` refuses."""

    name: ClassVar[str] = "memory"
    blocking_reads: ClassVar[bool] = False
    durable: ClassVar[bool] = False

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}
        self._sorted: list[bytes] = []
        self._unsorted: list[bytes] = []
        self._dead = 0
        self._closed = False
        self._snapshots: weakref.WeakSet[MemoryEngine] = weakref.WeakSet()
        # Makes a batch appear at once to readers of several keys; one key's read is atomic by
        # itself.
        self._lock = threading.Lock()

    def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""
        if self._closed:
            raise refuse_closed(self.name)
        return self._values.get(key)

    def may_have(self, key: bytes) -> bool:
        """Say whether the key is there."""
        if self._closed:
            raise refuse_closed(self.name)
        return key in self._values

    def get_many(self, keys: Sequence[bytes]) -> list[bytes | StorageError | None]:
        """Return the values, all as of one moment."""
        with self._lock:
            self._check_open()
            return [self._values.get(key) for key in keys]

    def write(self, batch: Batch) -> None:
        """Apply the batch."""
        with self._lock:
            self._check_open()
            values = self._values
            for key, value in batch:
                if value is None:
                    if values.pop(key, None) is not None:
                        self._dead += 1
                else:
                    if key not in values:
                        self._unsorted.append(key)
                    values[key] = value

    def sync(self) -> None:
        """Do nothing: there is no disk, and whoever chose this engine knows it."""
        self._check_open()

    def scan(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first pairs of the range."""
        with self._lock:
            self._check_open()
            return self._range(start, end, limit)

    def delete_range(self, start: bytes, end: bytes) -> None:
        """Delete the range."""
        with self._lock:
            self._check_open()
            for key, _ in self._range(start, end, len(self._values)):
                del self._values[key]
                self._dead += 1

    def snapshot(self) -> MemoryEngine:
        """Return a copy that nobody writes to: linear in the keys, which is fine for a model."""
        with self._lock:
            self._check_open()
            frozen = MemoryEngine()
            frozen._values = dict(self._values)
            frozen._sorted = list(self._values)
            frozen._sorted.sort()
            self._snapshots.add(frozen)
            return frozen

    def checkpoint(self, path: Path) -> None:
        """Refuse: a copy on disk of what is not on disk would be another engine's directory."""
        raise StorageError(
            "The memory engine keeps nothing on disk, so it makes no checkpoint.",
            hint="Use the engine 'rocksdb' or 'sqlite'.",
        )

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            for snapshot in list(self._snapshots):
                snapshot.close()
            self._values = {}
            self._sorted = []
            self._unsorted = []

    def _range(self, start: bytes, end: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the first pairs of a range, in the order of their keys."""
        self._bring_up_to_date()
        order, values = self._sorted, self._values
        found: list[tuple[bytes, bytes]] = []
        last = None
        for index in range(bisect_left(order, start), len(order)):
            key = order[index]
            if key >= end or len(found) >= limit:
                break
            value = values.get(key)
            if value is not None and key != last:
                found.append((key, value))
                last = key
        return found

    def _bring_up_to_date(self) -> None:
        order, new = self._sorted, self._unsorted
        if len(new) <= FEW:
            for key in new:
                index = bisect_left(order, key)
                if index == len(order) or order[index] != key:
                    order.insert(index, key)
        else:
            new.sort()
            order += new
            order.sort()  # two sorted runs: one linear merge
        self._unsorted = []
        if 2 * self._dead > len(order):
            self._sorted = [key for key in dict.fromkeys(order) if key in self._values]
            self._dead = 0

    def _check_open(self) -> None:
        if self._closed:
            raise refuse_closed(self.name)
