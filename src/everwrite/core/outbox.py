"""What a node wants done: the only way out of the core.

The shell empties the outbox once per tick, in this order (DESIGN 3, "commit, then send"):

    1. ``writes`` as one atomic batch; if that fails, ``Node.write_failed``
    2. ``on_write`` and ``sends`` go out, one frame per destination
    3. ``on_sync`` goes out once an fsync that began after step 1 has ended, off the loop
    4. ``reads`` come back one by one as ``Node.loaded`` or ``Node.unreadable``, ``scans`` as
       ``Node.scanned`` or ``Node.unscanned``
    5. ``asks`` are questions to the shell itself; it answers their clients. ``heard`` is for this
       node's subscribers, and the shell says how many have it: ``Channels.handed_on``

A destination is a node id (8 bytes) or a client's connection (int). What a node sends to itself the
shell gives back to it as if a peer had sent it, so that a coordinator counts its own copy like any
other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.errors import check
from everwrite.core.messages.channels import Spread
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Ask

if TYPE_CHECKING:
    from everwrite.core.moving.ranges import Scan

Place = bytes | int
"""Where a message comes from or goes to: a node id, or the number of a client's connection."""


def node_at(place: Place) -> bytes:
    """Return the node at a place where only nodes can be: clients may not send such a message."""
    check(type(place) is bytes, "what only nodes send comes from a node", place=place)
    return place  # type: ignore[return-value]


class Outbox:
    """One tick's effects."""

    __slots__ = (
        "answer_bytes",
        "asks",
        "heard",
        "on_sync",
        "on_write",
        "reads",
        "scans",
        "sends",
        "writes",
    )

    def __init__(self) -> None:
        self.writes: dict[bytes, bytes | None] = {}
        self.on_write: list[tuple[Place, Message]] = []
        self.on_sync: list[tuple[Place, Message]] = []
        self.sends: dict[Place, list[Message]] = {}
        self.reads: list[bytes] = []
        self.scans: list[Scan] = []
        self.answer_bytes = 0
        """What this tick's answers to reads hold; ``Records.turn`` begins the next tick."""
        self.asks: list[tuple[Place, Ask]] = []
        self.heard: list[tuple[bytes, Spread]] = []
        """Publications, and the nodes that sent them."""

    def send(self, place: Place, message: Message) -> None:
        """Queue a message that needs no write to be safe first."""
        queue = self.sends.get(place)
        if queue is None:
            self.sends[place] = [message]
        else:
            queue.append(message)

    def __bool__(self) -> bool:
        return bool(
            self.sends
            or self.writes
            or self.on_write
            or self.on_sync
            or self.reads
            or self.scans
            or self.asks
            or self.heard
        )
