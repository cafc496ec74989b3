"""What nodes say to each other of tombstones that are to be collected."""

from __future__ import annotations

from everwrite.core.messages.message import Message


class Confirm(Message, tag=62, frozen=True):
    """What do you have of these keys, and can anything older than that still come from you?"""

    rid: int
    view: bytes
    """Of whom the cluster consists to the asker; see core/tombstones/confirm.py."""
    mark: int
    """0: for the first time. Else what the first answer was given under: nothing of these keys must
    have changed on the disk since."""
    keys: list[bytes]
    generation: int = 0
    """For the last time, in the collection of this number: all members have that, and the floors of
    the second answers, on their disks. 0: they have not."""


class Confirmed(Message, tag=63, frozen=True):
    """The answer to Confirm, once that is on the disk for good: for each key what speaks against
    its collection (core/tombstones/confirm.py), and the fingerprint of the own copy (empty: none).
    """

    rid: int
    mark: int
    objections: list[int]
    fingerprints: list[bytes]
    floor: int = 0
    """The second time: what the answerer had read up to then, by its own count, may be older."""
    generation: int = 0
    """That of the newest collection which the answerer has heard of."""


class Reap(Message, tag=64, frozen=True):
    """All have confirmed twice: nothing that was read before these floors is to be taken any more.
    With items all have confirmed once more since: these copies go, where they are still the same.
    """

    rid: int
    floors: list[tuple[bytes, int]]
    """For each member its own."""
    items: list[tuple[bytes, bytes]]
    """(data key, fingerprint); none while not all members know the floors."""
    generation: int = 0
    """Above that of any collection which went before."""


class Reaped(Message, tag=65, frozen=True):
    """The answer to Reap: it is on the disk."""

    rid: int


AnyCollecting = Confirm | Confirmed | Reap | Reaped
