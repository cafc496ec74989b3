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

While that is so, most of those who come would wait in vain, and are refused as they come: only as
large a *share* lines up as could be begun lately, and a little more, so that nobody is refused for
whom there is time. Who that is a hash of the request's number and key decides, as good as a throw
of dice: or it would always be those whose connection is read first. All nodes throw the same for
one request, in one second of the cluster's clock: a read asks two of them under one number, and
what one does for it is in vain if the other refuses. Where nobody waits everyone is let in,
whatever the share.

Source: Nichols & Jacobson 2012 (CoDel); Maurer 2015, "Fail at scale" (its use for requests); Floyd
and Jacobson 1993 (RED: early, and by chance); Zhou 2018 (DAGOR: all servers refuse the same
requests). Costs: a microsecond for a request that waits; nothing where none does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple

import xxhash

from everwrite.core.messages.listing import List
from everwrite.core.messages.requests import Fetch, Get, Put, Touch
from everwrite.core.outbox import Place

PATIENCE_US = 100_000
"""More than a thousand requests in a closed loop wait for one another, a tenth of a person's
patience, and less than a client waits before it asks somebody else."""
STANDING_US = 500_000
WINDOW_US = 100_000
"""Over so long a time is counted who came and who was begun."""
MORE = 1.25
"""How much larger the share is than what was begun: what was too many is refused by its age."""
BACK = 3.0
"""By how much it grows when there was time for more."""
SIDES = 1 << 32
"""Of the die: a throw is less."""
GOLDEN = 0x9E3779B1
"""SIDES by the golden ratio: the multiples of it are spread evenly (Knuth, 6.4)."""
RETRY_AFTER_MS = 200
"""When a refused request may come again: clients spread it by half to both sides."""

Asked = Get | Put | Touch | Fetch | List


class Waiting(NamedTuple):
    """One request that waits."""

    source: Place
    message: Asked
    came_us: int
    size: int


Verdict = Literal["in", "overloaded", "late"]


class Door:
    """The queue of one node."""

    __slots__ = (
        "_begun",
        "_bytes_max",
        "_came",
        "_counted_us",
        "_empty_us",
        "_share",
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
        self._share = 1.0
        """Of those who come so many may line up."""
        self._came = self._begun = self._counted_us = 0
        self.bytes = 0
        """What those that wait hold."""
        self.refused = self.late = 0
        """Requests that were refused since the start; of which so many for their own deadline."""
        self.turned_away_us = -1
        """When one was refused last; -1: never."""

    def __len__(self) -> int:
        return len(self._waiting)

    def line_up(
        self, source: Place, messages: Sequence[Asked], now_us: int, time_ms: int
    ) -> list[Asked]:
        """Let the requests of a client wait; return those that are refused, since there is no time
        or no place for them. ``time_ms`` is the time of day, which all nodes have.
        """
        if now_us - self._counted_us > WINDOW_US:
            self._count(now_us)
        self._came += len(messages)
        if not self._waiting:
            self._empty_us = now_us
        refused = []
        waiting, limit, second = self._waiting, int(self._share * SIDES), time_ms // 1000
        for message in messages:
            if limit < SIDES and waiting and _throw(message, second) >= limit:
                refused.append(message)
                continue
            size = _size(message)
            if len(waiting) >= self._waiting_max or self.bytes + size > self._bytes_max:
                refused.append(message)
                continue
            waiting.append(Waiting(source, message, now_us, size))
            self.bytes += size
        if refused:
            self.refused += len(refused)
            self.turned_away_us = now_us
        return refused

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
        else:
            self._begun += 1
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

    def _count(self, now_us: int) -> None:
        """Say how large a share may line up from now on."""
        if self._empty_us >= self._counted_us:
            self._share = min(1.0, self._share * BACK)
        elif self._came and (now_us - self._empty_us > STANDING_US or self._share < 1.0):
            self._share = min(1.0, MORE * max(1, self._begun) / self._came)
        self._came = self._begun = 0
        self._counted_us = now_us

    def _turn_away(self, now_us: int) -> None:
        self.refused += 1
        self.turned_away_us = now_us


def _throw(message: Asked, second: int) -> int:
    """Return what all nodes throw for this request in this second. The numbers of one client are
    spread evenly; those of two that began at once are the same, so the key counts, too.
    """
    key = message.after if type(message) is List else message.key  # type: ignore[union-attr]
    return ((message.rid + second) * GOLDEN + xxhash.xxh32_intdigest(key)) % SIDES


def _size(message: Asked) -> int:
    """Return how many bytes of a request count."""
    if type(message) is Put:
        size = len(message.key) + len(message.context) + len(message.value or b"")
        return size + len(message.kind) if type(message.kind) is bytes else size
    if type(message) is Get:
        return len(message.key) + len(message.seen)
    return len(message.after if isinstance(message, List) else message.key)
