"""One simulated disk: what was written, what is safe, and every way in which a disk fails.

    write     visible to reads at once; outlives the process (kill -9), not a power cut
    sync      makes safe what was written before it began
    power cut of what was not synced some first batches stay, the rest is lost
    rot       a value is there but wrong, until it is written anew
    full      writes are refused for a while, and nothing of them is applied
    errors    reads fail for a while

A batch is whole or not there: that is what engines promise, and their own suite checks. The ledger
is told of each change, so that it always knows what is safe where.

Costs: a write is a dictionary write and a look by the ledger; a power cut copies the disk.
"""

from __future__ import annotations

import random
from typing import Protocol

from everwrite.core.errors import StorageFull
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.probes import sometimes
from everwrite.core.records import HINT, OWN, Damaged

Payload = bytes | None

COPIES = (OWN, HINT)
"""What stands under these prefixes is a copy of a record. All else (a node's own state, its
indexes) goes with the disk, and is no copy of anything.
"""


class Rotten:
    """Stands where a value was that the disk has damaged."""

    def __repr__(self) -> str:
        return "ROTTEN"


ROTTEN = Rotten()

Held = bytes | Rotten


class ReadFailed(Exception):
    """A read found no answer; ``corrupt`` says that bytes are there but wrong."""

    def __init__(self, reason: str, *, corrupt: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.corrupt = corrupt


class Witness(Protocol):
    """Who is told what becomes of every payload."""

    def wrote(self, index: int, key: bytes, payload: Payload, before: Held | None) -> int:
        """A payload was written over another; return what is known with it, as bits."""

    def refused(self, index: int, key: bytes, payload: Payload, before: Held | None) -> None:
        """A payload was not written; what it says may have been sent all the same."""

    def synced(self, index: int, key: bytes, known: int) -> None:
        """What was known with a payload is safe."""

    def dropped(self, index: int, key: bytes, held: Held | None) -> None:
        """A payload was lost or damaged."""


Batch = list[tuple[bytes, Payload, int]]


class Disk:
    """The disk of one machine."""

    def __init__(self, index: int, witness: Witness, rng: random.Random) -> None:
        self.index = index
        self.visible: dict[bytes, Held] = {}
        self.safe: dict[bytes, Held] = {}
        self._log: list[Batch] = []
        self._synced = 0
        self._witness = witness
        self._rng = rng
        self.rotted: set[bytes] = set()
        """Keys that were ever damaged."""
        self.full_until = 0
        self.errors_until = 0
        self.slow_until = 0
        self.old: dict[bytes, Held] | None = None
        """The last backup."""

    def write(self, batch: dict[bytes, Payload], now: int) -> None:
        """Apply all of it, or raise StorageFull and apply nothing."""
        if now < self.full_until:
            for key, payload in batch.items():
                self._witness.refused(self.index, key, payload, self.visible.get(key))
            raise StorageFull("The simulated disk is full.", hint="Wait.")
        visible, wrote, index = self.visible, self._witness.wrote, self.index
        entry: Batch = []
        for key, payload in batch.items():
            entry.append((key, payload, wrote(index, key, payload, visible.get(key))))
            if payload is None:
                visible.pop(key, None)
            else:
                visible[key] = payload
        self._log.append(entry)

    def mark(self) -> int:
        """Return how far a sync that begins now will reach."""
        return self._synced + len(self._log)

    def sync(self, mark: int) -> None:
        """End a sync that began at this mark."""
        count = mark - self._synced
        if count > 0:
            self._settle(self._log[:count])
            del self._log[:count]
            self._synced = mark

    def _settle(self, batches: list[Batch]) -> None:
        safe, synced, index = self.safe, self._witness.synced, self.index
        for batch in batches:
            for key, payload, known in batch:
                if payload is None:
                    safe.pop(key, None)
                else:
                    safe[key] = payload
                synced(index, key, known)

    def read(self, key: bytes, now: int) -> Payload:
        """Return the payload, None if there surely is none, or raise ReadFailed."""
        if now < self.errors_until and self._rng.random() < 0.5:
            raise ReadFailed("the simulated disk did not answer", corrupt=False)
        held = self.visible.get(key)
        if isinstance(held, Rotten):
            raise ReadFailed("the simulated disk damaged this value", corrupt=True)
        return held

    def scan(self, scan: Scan, now: int) -> Scanned:
        """Return the beginning of a range, or raise ReadFailed."""
        if now < self.errors_until and self._rng.random() < 0.5:
            raise ReadFailed("the simulated disk did not answer", corrupt=False)
        pairs: list[tuple[bytes, bytes | Damaged]] = []
        size = 0
        for key in sorted(key for key in self.visible if scan.start <= key < scan.end):
            if len(pairs) >= scan.keys or size >= scan.size:
                return Scanned(pairs, True)
            held = self.visible[key]
            if isinstance(held, Rotten):
                pairs.append((key, Damaged("the simulated disk damaged this value", True)))
            else:
                pairs.append((key, held))
                size += len(held)
        return Scanned(pairs, False)

    def readable(self, key: bytes) -> Payload:
        """Return what a healthy disk would give; None for damage too."""
        held = self.visible.get(key)
        return None if isinstance(held, Rotten) else held

    def keys(self, prefix: bytes) -> list[bytes]:
        """Return the keys with this prefix, sorted."""
        return sorted(key for key in self.visible if key.startswith(prefix))

    # -- what can happen to it ---------------------------------------------------------------------

    def cut_power(self) -> bool:
        """Lose what was not synced, all of it or the last batches; return whether any was lost."""
        log, self._log = self._log, []
        keep = self._rng.choice((0, len(log), self._rng.randint(0, len(log))))
        self._synced += keep
        self._settle(log[:keep])
        lost = {key for batch in log[keep:] for key, _, _ in batch}
        if lost:
            sometimes("the power goes with writes that were not synced")
        if 0 < keep < len(log):
            sometimes("of what was not synced some writes are there after a power cut")
        self._become(dict(self.safe), lost)
        return bool(lost)

    def lose(self) -> None:
        """Lose everything: a new disk takes the old one's place."""
        self.safe = {}
        self._log = []
        self._become({}, set(self.visible))
        self.old = None

    def back_up(self) -> None:
        """Keep what is safe now, if it is whole; ``restore`` goes back to it."""
        if ROTTEN not in self.safe.values():
            self.old = dict(self.safe)

    def restore(self) -> bool:
        """Go back to the last backup; False if there is none."""
        old = self.old
        if old is None:
            return False
        self.safe = dict(old)
        self._log = []
        self._become(dict(old), set(self.visible) | set(old))
        return True

    def _become(self, state: dict[bytes, Held], touched: set[bytes]) -> None:
        before, self.visible = self.visible, state
        for key in sorted(touched):
            held = before.get(key)
            if held is not None and held != state.get(key):
                self._witness.dropped(self.index, key, held)

    def settled_keys(self) -> list[bytes]:
        """Return the data and hint keys whose value is safe as it stands, sorted."""
        dirty = {key for batch in self._log for key, _, _ in batch}
        return sorted(
            key
            for key, held in self.safe.items()
            if key[:1] in COPIES and key not in dirty and held is not ROTTEN
        )

    def is_damaged(self, data_key: bytes) -> bool:
        """Say whether a copy of this key is damaged here, and was not written anew for good."""
        return any(self.safe.get(prefix + data_key) is ROTTEN for prefix in (OWN, HINT))

    def rot(self, key: bytes) -> None:
        """Damage one value that is safe."""
        self.rotted.add(key)
        self._witness.dropped(self.index, key, self.visible.get(key))
        self.visible[key] = ROTTEN
        self.safe[key] = ROTTEN
