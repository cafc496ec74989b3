"""The quarantine: own copies that cannot be read, and how they get out of it.

    found by a read, a scan or the scrub -> listed, here and on the disk; its leaf leaves it out
    -> each ``mend_every_ms`` some are looked at again: readable by now? off the list
       damaged still? the other owners are asked, and their join takes its place (mend.py)

A copy is damaged if the disk gives other bytes than were written. Where the disk gives nothing (an
input/output error) nothing is known of the copy, and nothing is listed: it may be well.

A damaged copy is never taken for absent, and never removed for being damaged: while an owner is
down, or no other one has the key, it stays, and the list says since when. That the tree leaves it
out lets exchanges find that it is missing here, so the others bring it even if this list forgets.

Cap: LISTED_MAX keys. What is found beyond is counted only; the scrub comes upon it again.
"""

from __future__ import annotations

from collections.abc import Iterable

from everwrite.core.cluster.holdings import SERVES
from everwrite.core.local import Local
from everwrite.core.messages.message import Message
from everwrite.core.probes import sometimes
from everwrite.core.records import MISSING, OWN, STATE, Damaged
from everwrite.core.trees.mend import mend

SPOILT = STATE + b"spoilt"
"""Before a data key: its own copy is damaged, since this time of day (8 bytes)."""

LISTED_MAX = 10_000
BATCH = 16
"""Copies that are looked at again at a time: each is a read of all owners."""


class Recheck(Message, frozen=True, tag=119):
    """To oneself: is this key's own copy still damaged?"""

    key: bytes


class Quarantine:
    """The damaged copies of one node."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self.since: dict[bytes, int] = {}
        """By data key the time of day at which it was found, the one first that waits longest to be
        looked at again."""
        self.found_ever = 0
        """Damaged copies that were found in this run."""
        self.mended = 0
        """Copies of the list that were well again."""
        self.beyond = 0
        """Copies that found the list full."""
        self._next_ms = local.now

    def restore(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """At the start: (data key, time) as the disk has them."""
        for data_key, since in entries:
            self.since[data_key] = int.from_bytes(since, "big")

    def found(self, data_key: bytes) -> bool:
        """An own copy is damaged; say whether that is news."""
        local = self._local
        self._take_written()
        if data_key in self.since:
            return False
        self.found_ever += 1
        if len(self.since) >= LISTED_MAX:
            self.beyond += 1
            return True
        since = local.time_ms
        self.since[data_key] = since
        local.records.enter(SPOILT + data_key, since.to_bytes(8, "big"))
        self._next_ms = min(self._next_ms, local.now)
        return True

    def knows(self, disk_key: bytes) -> bool:
        """Say whether the copy under this disk key is listed as damaged."""
        return disk_key[:1] == OWN and disk_key[1:] in self.since

    def wake(self) -> None:
        """Look again at those that have waited longest."""
        local = self._local
        self._take_written()
        if not self.since or local.now < self._next_ms:
            return
        wait_ms = local.pace.wait_ms("repair", local.now)
        if wait_ms:
            self._next_ms = local.now + wait_ms
            return
        self._next_ms = local.now + local.config.mend_every_ms
        for data_key in list(self.since)[:BATCH]:
            self.since[data_key] = self.since.pop(data_key)
            self.recheck(Recheck(data_key))

    def next_wake_ms(self) -> int | None:
        return self._next_ms if self.since else None

    def recheck(self, message: Recheck) -> None:
        local, key = self._local, message.key
        payload = local.records.look(OWN + key)
        if payload is MISSING:
            # At the cap of parked messages the next pass tries again.
            local.records.park(OWN + key, local.me, message, local.now)
        elif not isinstance(payload, Damaged):
            self._well(key)
        elif payload.corrupt and local.routes.role(key) == SERVES:
            mend(local, key)

    def _take_written(self) -> None:
        """What was written over is well again; if its batch was not written after all, its leaf is
        in doubt, and who makes that anew comes upon it.
        """
        written = self._local.trees.unknown
        if written:
            for disk_key in written:
                self._well(disk_key[1:])
            written.clear()

    def _well(self, data_key: bytes) -> None:
        if self.since.pop(data_key, None) is not None:
            sometimes("a damaged copy is well again")
            self.mended += 1
            self._local.records.enter(SPOILT + data_key, None)
