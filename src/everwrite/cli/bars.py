"""How far the nodes of a cluster are with what they are to take in and let go.

Nodes say what is left, not how much there was; so the whole is what was left when a node was first
seen with something to do, and grows when more is planned meanwhile. Rates are those of the last
seconds; the time left is what is left at the pace of the last seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from everwrite.cli.output import duration, size
from everwrite.cli.reports import Seat, Transfers

WINDOW_S = 10.0
"""Long enough that partitions, which come one by one, make an even pace."""


class Bar(msgspec.Struct, frozen=True):
    """One node's progress."""

    name: str
    standing: str
    answers: bool
    """False: what is known of it is what another node has heard."""
    gained: int
    to_gain: int
    """The whole, not what is left."""
    shed: int
    to_shed: int
    bytes_per_s: float | None
    left_s: float | None

    @property
    def busy(self) -> bool:
        """Say whether something is left."""
        return self.gained < self.to_gain or self.shed < self.to_shed

    def line(self) -> str:
        """Return it as a few words.

        >>> Bar("n4", "in", True, 48, 192, 0, 0, 2.0 * (1 << 20), 90.0).line()
        'n4 gained 48/192 at 2.0 MiB/s, 90.0 s left'
        """
        parts = []
        if self.gained < self.to_gain:
            rate = "" if self.bytes_per_s is None else f" at {size(round(self.bytes_per_s))}/s"
            left = "" if self.left_s is None else f", {duration(self.left_s * 1000)} left"
            parts.append(f"gained {self.gained}/{self.to_gain}{rate}{left}")
        if self.shed < self.to_shed:
            parts.append(f"shed {self.shed}/{self.to_shed}")
        silent = "" if self.answers else " (no answer)"
        return f"{self.name}{silent} {', '.join(parts) or 'is done'}"


class _Course:
    """How one number of partitions that are left goes down."""

    def __init__(self) -> None:
        self.whole = self.left = 0

    def take(self, left: int) -> None:
        if self.left == 0 and left > 0:
            self.whole = left
        elif left > self.left:
            self.whole += left - self.left
        self.left = left

    @property
    def done(self) -> int:
        return self.whole - self.left


class Bars:
    """The progress of all nodes, from one look at the cluster to the next."""

    def __init__(self) -> None:
        self._gains: dict[str, _Course] = {}
        self._sheds: dict[str, _Course] = {}
        self._looks: dict[str, deque[tuple[float, int, int]]] = {}
        """(when, bytes taken in since the node's start, partitions left to gain)."""

    def take(
        self, now_s: float, seats: Sequence[Seat], answers: Mapping[str, Transfers | None]
    ) -> list[Bar]:
        """Take a look at the cluster in; return the bar of each node, by name."""
        return [
            self._take(now_s, seat, answers.get(seat.name))
            for seat in sorted(seats, key=lambda seat: seat.name)
        ]

    def _take(self, now_s: float, seat: Seat, answer: Transfers | None) -> Bar:
        gain = self._gains.setdefault(seat.id, _Course())
        shed = self._sheds.setdefault(seat.id, _Course())
        gain.take(seat.to_gain)
        shed.take(seat.to_shed)
        looks = self._looks.setdefault(seat.id, deque())
        rate = left_s = None
        if answer is not None:
            looks.append((now_s, answer.counters.get("bytes_in", 0), seat.to_gain))
            rate, left_s = _pace(looks)
        return Bar(
            name=seat.name,
            standing=seat.standing,
            answers=answer is not None,
            gained=gain.done,
            to_gain=gain.whole,
            shed=shed.done,
            to_shed=shed.whole,
            bytes_per_s=rate if gain.left else None,
            left_s=left_s if gain.left else None,
        )


def _pace(looks: deque[tuple[float, int, int]]) -> tuple[float | None, float | None]:
    """Return bytes a second, and the seconds that what is left takes, as far as one can say."""
    now_s, carried, left = looks[-1]
    if len(looks) > 1 and (carried < looks[-2][1] or left > looks[-2][2]):
        looks.clear()  # the node was started anew, or has more to do than before
        looks.append((now_s, carried, left))
    while now_s - looks[0][0] > WINDOW_S:
        looks.popleft()
    began_s, carried_then, left_then = looks[0]
    elapsed = now_s - began_s
    if elapsed <= 0:
        return None, None
    gained = left_then - left
    return (carried - carried_then) / elapsed, left * elapsed / gained if gained > 0 else None


def seats_of(asked: Transfers, others: Mapping[str, Transfers | None]) -> list[Seat]:
    """Return each node's place: its own word if it answers, else that of the node that was asked.

    A node that goes by another placement has not heard of the last change, or has heard of one
    more: then the greater number is taken, so that nothing seems done before it is begun.
    """
    known: dict[str, Seat] = {}
    for answer in (asked, *(other for other in others.values() if other is not None)):
        for seat in answer.nodes:
            known.setdefault(seat.id, seat)
    seats = []
    for seat in known.values():
        own = asked if seat.id == asked.id else others.get(seat.name)
        said = next((each for each in own.nodes if each.id == seat.id), None) if own else None
        if own is None or said is None:
            seats.append(seat)
        elif own.view == asked.view:
            seats.append(said)
        else:
            seats.append(
                msgspec.structs.replace(
                    said,
                    to_gain=max(said.to_gain, seat.to_gain),
                    to_shed=max(said.to_shed, seat.to_shed),
                )
            )
    return seats
