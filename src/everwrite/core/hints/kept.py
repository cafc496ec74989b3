"""The index of hints: for whom which keys are kept, since when, and how much that is.

It is in memory, says what stands on the disk, and is made anew from there at a start. A hint on the
disk:

    disk key    b"h" + data key
    payload     own epoch (8), count (1), for each owner: its id (8) and since when (5), the record

``since`` is in seconds since 1970, by the cluster's clock. A hint's *size* is that of disk key and
payload. It counts once in ``bytes``, and for each of its owners in theirs.

Costs: about 250 bytes for each note, in objects that the collector does not look at. Every change
is a few dictionary look-ups; so is asking for the oldest note of an owner, over time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import Literal

import msgspec

from everwrite.core.errors import check
from everwrite.core.records import HINT

OWNER_BYTES = 8
SINCE_BYTES = 5
HEAD_BYTES = 9
ENTRY_BYTES = OWNER_BYTES + SINCE_BYTES

Owners = Mapping[bytes, int]
"""Since when a copy is kept for each of these nodes."""


def split_hint(payload: bytes) -> tuple[bytes, dict[bytes, int], bytes]:
    """Return (own epoch, owners and since when, record) of a hint's payload."""
    end = HEAD_BYTES + ENTRY_BYTES * payload[8]
    check(len(payload) >= end, "a hint names all its owners", payload=payload[:16])
    owners = {}
    for at in range(HEAD_BYTES, end, ENTRY_BYTES):
        middle = at + OWNER_BYTES
        owners[payload[at:middle]] = int.from_bytes(payload[middle : at + ENTRY_BYTES], "big")
    return payload[:8], owners, payload[end:]


def join_hint(epoch: bytes, owners: Owners, record: bytes) -> bytes:
    """Return the payload of a hint; its owners in order, so that equal hints are equal bytes."""
    entries = [owner + owners[owner].to_bytes(SINCE_BYTES, "big") for owner in sorted(owners)]
    return epoch + bytes((len(owners),)) + b"".join(entries) + record


def record_of(payload: bytes) -> bytes:
    """Return the record in a hint's payload."""
    return payload[HEAD_BYTES + ENTRY_BYTES * payload[8] :]


def size_of(key: bytes, owners: int, record: bytes) -> int:
    """Return how many bytes a hint for so many owners takes on the disk."""
    return len(HINT) + len(key) + HEAD_BYTES + ENTRY_BYTES * owners + len(record)


Came = Literal["restored", "stored", "turned_to", "recounted"]
"""Found at the start; written for a put; made for the new owners of a key; found later on."""
Went = Literal["delivered", "turned", "given_up", "missed"]
"""Its owner has it for good; it was for one who owns the key no more; its bytes are damaged, or it
was not on the disk."""


class Flow(msgspec.Struct):
    """Where the notes of this life came from and where they went: what is left is there now."""

    restored: int = 0
    stored: int = 0
    turned_to: int = 0
    recounted: int = 0
    delivered: int = 0
    turned: int = 0
    given_up: int = 0
    missed: int = 0

    @property
    def left(self) -> int:
        came = self.restored + self.stored + self.turned_to + self.recounted
        return came - self.delivered - self.turned - self.given_up - self.missed


class Waiting:
    """What waits for one owner."""

    __slots__ = ("_at", "_seconds", "bytes", "queue", "since")

    def __init__(self) -> None:
        self.since: dict[bytes, int] = {}
        """For each data key since when it waits."""
        self.queue: deque[bytes] = deque()
        """In which order they are to be brought. Some may have gone meanwhile."""
        self.bytes = 0
        self._at: dict[int, int] = {}
        """How many wait since each second,"""
        self._seconds: list[int] = []
        """and these seconds as a heap; some may be empty by now."""

    def __len__(self) -> int:
        return len(self.since)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.since)

    def __contains__(self, key: bytes) -> bool:
        return key in self.since

    def add(self, key: bytes, since: int) -> None:
        self.since[key] = since
        self.queue.append(key)
        count = self._at.get(since, 0)
        if not count:
            heappush(self._seconds, since)
        self._at[since] = count + 1

    def remove(self, key: bytes) -> None:
        since = self.since.pop(key)
        self._at[since] -= 1
        if not self._at[since]:
            del self._at[since]

    @property
    def oldest(self) -> int:
        """The second since when the oldest waits."""
        seconds = self._seconds
        while seconds[0] not in self._at:
            heappop(seconds)
        return seconds[0]


class Kept:
    """The index of one node. Who changes the disk changes it in the same tick."""

    def __init__(self) -> None:
        self.owners_of: dict[bytes, tuple[bytes, ...]] = {}
        """For each data key the owners for whom a copy is kept."""
        self.sizes: dict[bytes, int] = {}
        self.waiting: dict[bytes, Waiting] = {}
        """For each owner what waits for it."""
        self.notes = 0
        self.bytes = 0
        self.flow = Flow()
        self._groups: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        """One object for all keys of the same owners."""

    def note(self, key: bytes, owner: bytes, since: int, came: Came) -> None:
        """A copy is kept for one more owner; nothing new if it is already."""
        owners = self.owners_of.get(key, ())
        if owner in owners:
            return
        group = (*owners, owner)
        group = self._groups.setdefault(group, group)
        self.owners_of[key] = group
        waiting = self.waiting.get(owner)
        if waiting is None:
            waiting = self.waiting[owner] = Waiting()
        waiting.add(key, since)
        waiting.bytes += self.sizes.get(key, 0)
        self.notes += 1
        setattr(self.flow, came, getattr(self.flow, came) + 1)

    def resize(self, key: bytes, size: int) -> None:
        """The hint of a key takes so many bytes from now on."""
        grown = size - self.sizes.get(key, 0)
        if grown:
            self.sizes[key] = size
            self.bytes += grown
            for owner in self.owners_of.get(key, ()):
                self.waiting[owner].bytes += grown

    def strike(self, key: bytes, owner: bytes, went: Went) -> bool:
        """A copy is kept for this owner no more; say whether it was."""
        owners = self.owners_of.get(key, ())
        if owner not in owners:
            return False
        waiting = self.waiting[owner]
        waiting.remove(key)
        waiting.bytes -= self.sizes.get(key, 0)
        if not waiting.since:
            del self.waiting[owner]
        group = tuple(each for each in owners if each != owner)
        if group:
            self.owners_of[key] = self._groups.setdefault(group, group)
        else:
            del self.owners_of[key]
            self.bytes -= self.sizes.pop(key, 0)
        self.notes -= 1
        setattr(self.flow, went, getattr(self.flow, went) + 1)
        return True
