"""Who seems up, in the eyes of this node alone. It decides whom to skip now, and never who owns
what (Dynamo 4.8.3).

A peer is up from its first frame on, and down when its connection breaks or it was silent for
``down_after_ms`` although it was asked. Quick for a dead process (the connection breaks at once),
tolerant of a slow one.
"""

from __future__ import annotations


class Liveness:
    """When each peer was heard last; ``up`` is the answer to "may I send to it?"."""

    def __init__(self, down_after_ms: int) -> None:
        self._down_after_ms = down_after_ms
        self._heard: dict[bytes, int] = {}
        self.up: set[bytes] = set()

    def heard(self, peer: bytes, now: int) -> bool:
        """Take note of a frame; return whether the peer was down until now."""
        self._heard[peer] = now
        if peer in self.up:
            return False
        self.up.add(peer)
        return True

    def lost(self, peer: bytes) -> bool:
        """Take note of a broken connection; return whether the peer was up until now."""
        if peer not in self.up:
            return False
        self.up.discard(peer)
        return True

    def silent_ms(self, peer: bytes, now: int) -> int:
        """Return how long nothing was heard of a peer; -1 if nothing ever was."""
        heard = self._heard.get(peer)
        return -1 if heard is None else now - heard

    def overdue(self, now: int) -> list[bytes]:
        """Return the peers that are taken for up but were silent for too long, in order of
        their ids.
        """
        return sorted(peer for peer in self.up if now - self._heard[peer] > self._down_after_ms)
