"""Which puts this node has taken lately: so that a late or repeated try of one is not minted again.

A put whose version still stands is found in the record by its request id. One that was superseded
meanwhile is not: minted again it would come back, although its successor knew it. So each replica
remembers the request ids that it stored as an owner, the last 32,768 at least, in two generations.
Not those of hints: a hint goes when it is delivered, but an owner's copy knows what it was told
until that is collected (docs/design/tombstones.md), and so bears out what the table says.

A batch that was not written, or a copy that is damaged, empties the table: it would claim what is
nowhere. So does a restart; what a try then finds neither here nor in a record may be minted twice.
"""

from __future__ import annotations

GENERATION = 32_768
"""At ten thousand puts a second three seconds; tries of one put lie a quarter of a second apart."""


class RecentPuts:
    """Request ids, in two generations."""

    __slots__ = ("_old", "_young")

    def __init__(self) -> None:
        self._young: set[bytes] = set()
        self._old: set[bytes] = set()

    def add(self, op: bytes) -> None:
        """Remember a put that this tick's batch writes."""
        self._young.add(op)
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, set()

    def __contains__(self, op: bytes) -> bool:
        return op in self._young or op in self._old

    def clear(self) -> None:
        """Forget all: a batch was not written."""
        self._young.clear()
        self._old.clear()
