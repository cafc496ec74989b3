"""What clients have asked and nobody has begun yet: who waits for how long, and who is refused.

A node takes in at once what its clients send, so that nothing lies in buffers where nobody sees how
old it is, and works it off for some milliseconds of each turn of its loop. What other nodes say
comes first in each turn: a request that was let in is not held up by those that were not, and no
node is taken for dead since its clients ask too much.

When more comes than can be done, all waits ever longer, until everything is done for clients that
have given up: a node that works hard and helps nobody. So what waited too long is refused, which
costs a tenth of doing it, and the rest is done in time. *Too long* is PATIENCE_US, while somebody
had to wait at every moment of the last STANDING_US: then it is no burst, and shortness helps all.
Before that it is STANDING_US. Whose own deadline is over is not served in any case.

Source: Nichols & Jacobson 2012 (CoDel); Maurer 2015, "Fail at scale" (its use for requests).
Costs: 0.5 us for a request that waits; nothing where none does.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from everwrite.core.messages.listing import List
from everwrite.core.messages.requests import Fetch, Get, Put, Touch

PATIENCE_US = 100_000
"""More than a thousand requests in a closed loop wait for one another, a tenth of a person's
patience, and less than a client waits before it asks somebody else."""
STANDING_US = 500_000
RETRY_AFTER_MS = 200
"""When a refused request may come again: clients spread it by half to both sides."""

Asked = Get | Put | Touch | Fetch | List


class Waiting(NamedTuple):
    """One request that waits."""

    source: int
    message: Asked
    came_us: int
    size: int


Verdict = Literal["in", "overloaded", "late"]


class Door:
    """The queue of one node."""

    __slots__ = (
        "_bytes_max",
        "_empty_us",
        "_waiting",
        "_waiting_max",
        "bytes",
        "late",
        "refused",
        "turned_away_us",
    )

    def __init__(self, waiting_max: int, bytes_max: int) -> None:
        self._waiting: deque[Waiting] = deque()
        self._waiting_max = waiting_max
        self._bytes_max = bytes_max
        self._empty_us = 0
        """When nobody waited last."""
        self.bytes = 0
        """What those that wait hold."""
        self.refused = self.late = 0
        """Requests that were refused since the start; of which so many for their own deadline."""
        self.turned_away_us = -1
        """When one was refused last; -1: never."""

    def __len__(self) -> int:
        return len(self._waiting)

    def line_up(self, source: int, message: Asked, now_us: int) -> bool:
        """Let a request wait; False, and it is refused, if as many do as may."""
        waiting = self._waiting
        if not waiting:
            self._empty_us = now_us
        size = len(message.after if isinstance(message, List) else message.key)
        if type(message) is Put:
            size += len(message.context) + len(message.value or b"")
            if type(message.kind) is bytes:
                size += len(message.kind)
        elif type(message) is Get:
            size += len(message.seen)
        if len(waiting) >= self._waiting_max or self.bytes + size > self._bytes_max:
            self._turn_away(now_us)
            return False
        waiting.append(Waiting(source, message, now_us, size))
        self.bytes += size
        return True

    def next(self, now_us: int) -> tuple[Waiting, Verdict] | None:
        """Take the request that waits longest, and say what becomes of it; None: nobody waits."""
        if not self._waiting:
            return None
        first = self._waiting.popleft()
        self.bytes -= first.size
        waited_us = now_us - first.came_us
        message = first.message
        left_ms = message.left_ms if isinstance(message, Fetch) else message.timeout_ms
        verdict: Verdict = "in"
        if waited_us > self.patience_us(now_us):
            verdict = "overloaded"
            self._turn_away(now_us)
        elif 0 < left_ms * 1000 <= waited_us:
            verdict = "late"
            self.late += 1
            self._turn_away(now_us)
        if not self._waiting:
            self._empty_us = now_us
        return first, verdict

    def patience_us(self, now_us: int) -> int:
        """Return how long a request may have waited by now."""
        standing = now_us - self._empty_us > STANDING_US
        return PATIENCE_US if standing else STANDING_US

    def oldest_us(self, now_us: int) -> int:
        """Return how long the first one has waited; 0: nobody does."""
        return now_us - self._waiting[0].came_us if self._waiting else 0

    def forget(self) -> None:
        """Nobody will be served any more."""
        self._waiting.clear()
        self.bytes = 0

    def _turn_away(self, now_us: int) -> None:
        self.refused += 1
        self.turned_away_us = now_us
