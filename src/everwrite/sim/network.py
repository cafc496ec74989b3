"""The simulated network: frames between machines, and between clients and machines.

Every message is encoded and decoded by core/wire.py. Between machines a frame may be delayed, lost,
sent twice, overtaken, or come again much later; what a partition swallows is gone. That is worse
than TCP, on purpose: reconnections reorder and lose, and the handlers claim to be idempotent. One
thing is spared, since no connection does it: a frame with a client's put in it is not sent twice.
A client's connection keeps its order and breaks as a whole.

Costs: one encoding and one event for each frame.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import log

from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Put
from everwrite.core.wire import encode_frame
from everwrite.sim.options import Options

Later = Callable[..., None]
"""``later(delay_us, action, *arguments)``: how the world is asked for an event."""

KEPT_MAX = 200

SOON_US = 200_000
"""Half of all replays come within this time, while their like may still be under way."""


class Network:
    """Who can reach whom, and how long it takes."""

    def __init__(
        self,
        options: Options,
        rng: random.Random,
        later: Later,
        count: Callable[[str], None],
        deliver: Callable[[int, int, bytes], None],
    ) -> None:
        faults = options.faults
        self._random = rng.random
        self._later = later
        self._count = count
        self._deliver = deliver
        self._near = options.near_us
        self._spread = options.spread_us
        self.loss = faults.get("loss", 0.0)
        self.duplicate = faults.get("duplicate", 0.0)
        self.reorder = faults.get("reorder", 0.0)
        self.replay = faults.get("replay", 0.0)
        self._chaos_us = options.chaos_ms * 1000
        self._hour_late = faults.get("hour_late", 0.0)
        self.kept: list[tuple[int, int, bytes]] = []
        """Frames that will come once more an hour later: (from, to, frame), at most KEPT_MAX."""
        self.cut: dict[tuple[int, int], int] = {}
        """(from, to) -> how many faults hold this direction cut now."""
        self.clogged: dict[tuple[int, int], int] = {}
        """(from, to) -> extra delay of each frame."""
        self.quiet_at = 0
        """When the last of all frames that were ever sent arrives."""
        self._last: dict[tuple[int, int], int] = {}
        self._now: Callable[[], int] = lambda: 0
        self.upset: Callable[[tuple[int, int]], None] = lambda link: None
        self.failed: Callable[[tuple[int, int]], None] = lambda link: None
        """Hear of each link that changes, and of each that did not carry a message rightly."""

    def keep_time(self, now: Callable[[], int]) -> None:
        """Say where the time is to be read."""
        self._now = now

    def send(self, source: int, to: int, messages: Sequence[Message]) -> None:
        """Carry one frame from a machine to another."""
        data = encode_frame(messages)
        link = (source, to)
        if link in self.cut:
            self._count("frames_cut")
            return
        chance = self._random
        if self.loss and chance() < self.loss:
            self._count("loss")
            self.failed(link)
            return
        delay = self._near - int(self._spread * log(1.0 - chance()))
        if link in self.clogged:
            delay += self.clogged[link]
        at = self._now() + delay
        if self.reorder and chance() < self.reorder:
            self._count("reorder")
            self.failed(link)
            at += int(chance() * 20 * (self._near + self._spread))
        else:
            at = self._last[link] = max(at, self._last.get(link, 0) + 1)
        self._carry(at - self._now(), source, to, data)
        if self.duplicate and chance() < self.duplicate and _may_repeat(messages):
            self._count("duplicate")
            again = at + int(chance() * 5 * (self._near + self._spread)) + 1
            self._carry(again - self._now(), source, to, data)
        if self._hour_late and len(self.kept) < KEPT_MAX:
            self._keep(source, to, messages, data)
        if self.replay and chance() < self.replay and _may_repeat(messages):
            self._count("replay")
            longest = self._chaos_us if chance() < 0.5 else SOON_US
            self._carry(int(chance() * longest), source, to, data)

    def _keep(self, source: int, to: int, messages: Sequence[Message], data: bytes) -> None:
        if self._random() < self._hour_late and _may_repeat(messages):
            self.kept.append((source, to, data))

    def bring_kept(self) -> None:
        """Let the frames that were kept arrive, in another order, within a second."""
        kept, self.kept = self.kept, []
        for source, to, data in kept:
            delay = int(self._random() * 1_000_000)
            self._later(delay, self._count, "hour_late")
            self._carry(delay, source, to, data)

    def _carry(self, delay_us: int, source: int, to: int, data: bytes) -> None:
        self.quiet_at = max(self.quiet_at, self._now() + delay_us)
        self._later(delay_us, self._deliver, source, to, data)

    def client_delay(self) -> int:
        """Return how long a frame between a client and a machine takes."""
        return self._near - int(self._spread * log(1.0 - self._random()))

    def is_cut(self, source: int, to: int) -> bool:
        return (source, to) in self.cut

    def cut_link(self, source: int, to: int) -> None:
        """Swallow all frames in this direction from now on."""
        self.cut[source, to] = self.cut.get((source, to), 0) + 1
        self.upset((source, to))

    def mend_link(self, source: int, to: int) -> None:
        """End one of the cuts of this direction."""
        left = self.cut.get((source, to), 0) - 1
        self.upset((source, to))
        if left > 0:
            self.cut[source, to] = left
        else:
            self.cut.pop((source, to), None)

    def clear(self, source: int, to: int) -> None:
        """End whatever is wrong with one direction of a link."""
        self.cut.pop((source, to), None)
        self.clogged.pop((source, to), None)
        self.upset((source, to))

    def heal(self) -> None:
        """End every fault of the network."""
        self.cut.clear()
        self.clogged.clear()
        self.calm()

    def calm(self) -> None:
        """Lose, repeat, reorder and keep no message any more."""
        self._hour_late = 0.0
        self.loss = self.duplicate = self.reorder = self.replay = 0.0


def _may_repeat(messages: Sequence[Message]) -> bool:
    return not any(isinstance(message, Put) for message in messages)
