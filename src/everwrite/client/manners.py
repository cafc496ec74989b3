"""How a client behaves towards nodes that have too much to do: it does not make it worse.

Two things keep an overloaded cluster down although the load that did it has gone (a metastable
failure): tries that are made again, and work that is refused over and over. So

* all tries beyond the first of each request, but for those of a lost connection, come out of one
  *budget*: RETRIES for each request, and RETRIES_PER_S. When it is used up a request fails with
  what it was told. However much is refused, the nodes get a tenth more, not three times as much.
* a node that refuses work gets no more than BEYOND times what it takes (*throttle*): the rest goes
  to other owners, or where these have as much to do it is refused here, at once, at no cost to
  them. Without refusals for some seconds all is as before.

When a node says after what time to come again, that is spread by half to both sides: who was
refused together would else come back together.

Source: Beyer et al. 2016, "Site Reliability Engineering", ch. 21 (adaptive throttling); Finagle
(retry budgets); Bronson et al. 2021, "Metastable failures in distributed systems".
Costs: nothing on the way of a request while no node refuses.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

RETRIES = 0.1
RETRIES_PER_S = 10.0
"""For a client that asks little: it may always try again."""
BUDGET_MAX = 200.0
"""What was saved up; it covers what is in flight to a node that dies without a word."""

BEYOND = 1.5
"""More than what it takes, so that it is noticed when a node takes more."""
CREDIT = 10.0
"""What it took is not known when it refuses for the first time."""
HALF_S = 0.5
"""What a node took and refused counts half after so long."""
FORGET = 0.5
"""Of refusals, when so little is left of them the throttle goes."""
SPREAD = 0.5


class Budget:
    """The tries that may be made again."""

    __slots__ = ("_asked", "_at", "left")

    def __init__(self, now: float) -> None:
        self.left = BUDGET_MAX
        self._asked = 0
        self._at = now

    def fill(self, asked: int, now: float) -> None:
        """So many requests were begun up to now."""
        earned = RETRIES * (asked - self._asked) + RETRIES_PER_S * (now - self._at)
        self.left = min(BUDGET_MAX, self.left + earned)
        self._asked, self._at = asked, now

    def take(self) -> bool:
        """Take one try out; False if there is none left."""
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Throttle:
    """What is held back from one node: how many it took, it refused, and were refused here."""

    __slots__ = ("_at", "held", "refused", "retry_after_ms", "taken")

    def __init__(self, now: float) -> None:
        self.taken, self.refused, self.held = CREDIT, 0.0, 0.0
        self.retry_after_ms = 0
        self._at = now

    def excess(self, now: float) -> float:
        """Return which part of the requests for the node is to be refused here."""
        self._age(now)
        over = self.refused + self.held - (BEYOND - 1) * self.taken
        return over / (self.taken + self.refused + self.held + 1)

    def refuses(self, retry_after_ms: int) -> None:
        """The node has refused one."""
        self.refused += 1
        self.retry_after_ms = retry_after_ms

    def over(self, now: float) -> bool:
        """Say whether it has refused nothing for long."""
        self._age(now)
        return self.refused < FORGET

    def _age(self, now: float) -> None:
        passed = now - self._at
        if passed < HALF_S / 16:
            return
        self._at = now
        part = 0.5 ** (passed / HALF_S)
        self.held *= part
        self.taken *= part
        self.refused *= part


class Throttled(Protocol):
    """A node, and what is held back from it."""

    throttle: Throttle | None


def choose(choices: Sequence[Sequence[Throttled]], at: int, now: float) -> int:
    """Return which of these sets of nodes takes a request, from number ``at`` on: the first of
    which none is to be spared; -1: there is none.

    One draw for all: who is held back from one node is held back from others that are as strained.
    What could not go elsewhere counts for the first one only, as it was to be asked.
    """
    drawn = random.random()
    for turn in range(len(choices)):
        chosen = (at + turn) % len(choices)
        throttle = most_strained(choices[chosen], now)
        if throttle is None or drawn >= throttle.excess(now):
            return chosen
        if not turn:
            throttle.held += 1
    return -1


def most_strained(nodes: Sequence[Throttled], now: float) -> Throttle | None:
    """Return the throttle of the node that is to be spared most."""
    throttles = [node.throttle for node in nodes if node.throttle is not None]
    return max(throttles, key=lambda throttle: throttle.excess(now), default=None)


def spread(seconds: float) -> float:
    """Return about so many seconds, never the same for two."""
    return seconds * random.uniform(1 - SPREAD, 1 + SPREAD)
