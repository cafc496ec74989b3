"""The table of requests in flight: what its rows need of it, and what is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from everwrite.client.limits import LATE_MAX, Timing
from everwrite.client.manners import Budget

if TYPE_CHECKING:
    from everwrite.client.connection import Connection, Request


class Counters(msgspec.Struct):
    """What the client did besides plain requests; all count up."""

    hedges: int = 0
    """Tries made beside one that was silent."""
    failovers: int = 0
    """Tries made since one was lost or refused."""
    fallbacks: int = 0
    """Client-coordinated reads that became node-coordinated ones."""
    late: int = 0
    """Answers that came after their request was over."""
    strays: int = 0
    """Answers to what was never asked, or a second one to the same: a node with a bug."""
    refreshes: int = 0
    """Times that the members were asked for."""
    losses: int = 0
    """Connections lost."""
    held_back: int = 0
    """Requests that were refused here, since their node refuses what is too much."""


class Late:
    """Requests that are over whose answers may still come: those are dropped without a word.

    Any other answer that nobody waits for is a stray.
    """

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._due: dict[int, int] = {}

    def expect(self, rid: int, answers: int) -> None:
        """Take note that so many answers to a request that is over may come."""
        self._due[rid] = answers
        if len(self._due) > LATE_MAX:
            del self._due[next(iter(self._due))]

    def take(self, rid: int) -> None:
        """Take an answer that nobody waits for."""
        answers = self._due.get(rid)
        if answers is None:
            self._counters.strays += 1
            return
        self._counters.late += 1
        if answers > 1:
            self._due[rid] = answers - 1
        else:
            del self._due[rid]


class Table(Protocol):
    """What a request needs of the cluster that it runs in."""

    pending: dict[int, Request]
    """All requests in flight by request id."""
    counters: Counters
    late: Late
    budget: Budget
    timing: Timing
    view: bytes

    def now(self) -> float: ...

    def next_rid(self) -> int: ...

    def order(self, key: bytes) -> tuple[Connection, ...]: ...

    def refresh_soon(self, *, urgent: bool = True) -> None: ...

    def moved(self, key: bytes) -> None: ...

    def why_unreachable(self, since: float) -> str: ...


def left_ms(seconds: float) -> int:
    """Return the time to give a node: a little less than is left, so that its answer, which knows
    more than our own deadline, comes before it.
    """
    return int(seconds * 950) or 1
