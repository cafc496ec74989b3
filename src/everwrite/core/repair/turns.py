"""Whose turn it is: which partitions are shared with each peer, and how far the round with it is.

A question for roots names many partitions at once, and is one request until it is answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.local import Local, Request
from everwrite.core.messages.message import Message
from everwrite.core.messages.trees import Rooted
from everwrite.core.outbox import Place

if TYPE_CHECKING:
    from everwrite.core.repair.repairs import Repairs


class Peer:
    """How far the round with one peer is."""

    __slots__ = ("agreed_ms", "asked_ms", "at", "due_ms", "partitions", "shared")

    def __init__(self) -> None:
        self.shared = 0
        """Bit p: both own and serve partition p."""
        self.partitions: list[int] = []
        """The same, as numbers."""
        self.at = 0
        """Which of them is next."""
        self.due_ms = 0
        self.asked_ms = -1
        self.agreed_ms: dict[int, int] = {}
        """When each was the same on both sides last, if it was in this life."""


class Round(Request):
    """One question for roots, until it is answered."""

    __slots__ = ("_local", "_partitions", "_peer", "_repairs", "rid")

    def __init__(self, local: Local, repairs: Repairs, peer: bytes, partitions: list[int]) -> None:
        self._local = local
        self._repairs = repairs
        self._peer = peer
        self._partitions = partitions
        self.rid = 0

    def begin(self) -> None:
        local = self._local
        self.rid = local.open_request(self, local.now + local.config.repair_retry_ms)
        local.background += 1
        roots = self._repairs.roots_of(self.rid, self._partitions, [])
        self._repairs.tell(self._peer, roots)

    def replied(self, source: Place, reply: Message) -> None:
        if source == self._peer and isinstance(reply, Rooted):
            self._close()
            self._repairs.rooted(self._peer, self._partitions, reply.verdicts)

    def lost(self, peer: bytes) -> None:
        if peer == self._peer:
            self._close()

    def wake(self) -> None:
        self._close()  # the next round asks again

    def _close(self) -> None:
        if self._local.requests.pop(self.rid, None) is not None:
            self._local.background -= 1
            self._repairs.forget(self._peer, self._partitions)
