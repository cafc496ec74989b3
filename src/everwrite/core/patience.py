"""Who may wait, and how many at a time: requests that wait for a node which is late but up.

They may take a quarter of the room that all requests have, in number and in bytes. Where one more
would not fit, the one that has waited longest gives up, and no other: so what waiting saves is
given back one for one, at the pace at which requests come, and never all at once.
"""

from __future__ import annotations

from typing import Protocol

PART = 4
"""A quarter of the room: the rest is for those that are served."""


class Waiting(Protocol):
    """A request that waits."""

    def give_up_waiting(self) -> None:
        """Do at once what was put off; the request is not among those that wait any more."""


class Patience:
    """The requests of one node that wait for somebody late."""

    def __init__(self, in_flight_max: int, held_bytes_max: int) -> None:
        self._count_max = in_flight_max // PART
        self._bytes_max = held_bytes_max // PART
        self._waiting: dict[int, tuple[Waiting, int]] = {}
        """By number, who began to wait first at the beginning; and the bytes that each holds."""
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def wait(self, rid: int, request: Waiting, held_bytes: int) -> bool:
        """Say whether this request may wait, or go on to; others may have to give up for it."""
        if rid not in self._waiting:
            self._waiting[rid] = request, held_bytes
            self._bytes += held_bytes
        while len(self._waiting) > self._count_max or self._bytes > self._bytes_max:
            oldest = next(iter(self._waiting))
            first, _ = self._waiting[oldest]
            self.end(oldest)
            if oldest == rid:
                return False
            first.give_up_waiting()
        return True

    def end(self, rid: int) -> None:
        """This request waits no more."""
        if found := self._waiting.pop(rid, None):
            self._bytes -= found[1]
