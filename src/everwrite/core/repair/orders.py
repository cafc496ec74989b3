"""Repairs that a person asked for: which pairs of a partition and a peer are still to be seen
through, and why they are not yet.

An order is done when each of its pairs was the same on both sides after it was given. It lives on
one node, and speaks for that node's pairs: whoever wants all owners to agree gives it to each
(``everwrite repair`` does so), again until nothing was left to move.

A run's numbers begin elsewhere than those of the run before: who asks about an order that went with
a restart must not be told of somebody else's.

At most ``ORDERS_MAX`` at a time; one that nobody has asked about for ``FORGET_MS`` is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterable

ORDERS_MAX = 8
FORGET_MS = 120_000
SOME = 1024
"""Pairs of an order that are looked at in one go: some milliseconds."""
_NUMBER_BITS = 20
"""A million orders in a run before its numbers could be those of another one."""
LOOK_MS = 100
"""How often an order is looked after, and how soon what waits for its turn is tried again."""

Pair = tuple[int, bytes]
"""(partition, peer)."""


class Order:
    """See the module."""

    __slots__ = ("_at", "_pairs", "agreed", "asked_ms", "bytes", "keys", "leaf", "left", "number")

    def __init__(self, number: int, leaf: int | None, pairs: Iterable[Pair], now: int) -> None:
        self.number = number
        self.leaf = leaf
        """The only leaf to look at; None: all of each partition."""
        self._pairs = list(pairs)
        self._at = 0
        """Which of them is looked at next."""
        self.left: dict[Pair, str] = dict.fromkeys(self._pairs, "")
        """What is still to be seen through, and why it was not yet."""
        self.agreed = 0
        self.keys = self.bytes = 0
        """What was moved on its way: copies, in both directions."""
        self.asked_ms = now

    def some(self) -> list[Pair]:
        """Return some that are left, others each time: with many partitions all would be too many
        at once.
        """
        chosen = self._pairs[self._at : self._at + SOME]
        self._at += SOME
        if self._at >= len(self._pairs):
            self._at = 0
            self._pairs = [pair for pair in self._pairs if pair in self.left]
        return [pair for pair in chosen if pair in self.left]


class Orders:
    """The orders of one node."""

    def __init__(self, salt: int) -> None:
        self._orders: dict[int, Order] = {}
        self._number = salt << _NUMBER_BITS

    def __bool__(self) -> bool:
        return bool(self._orders)

    def give(self, pairs: Iterable[Pair], leaf: int | None, now: int) -> Order | None:
        """Return a new order; None if there are as many as may be."""
        self._forget(now)
        if len(self._orders) >= ORDERS_MAX:
            return None
        self._number += 1
        order = self._orders[self._number] = Order(self._number, leaf, pairs, now)
        return order

    def look(self, number: int, now: int) -> Order | None:
        """Return an order that somebody asks about; None if it is forgotten, or never was."""
        order = self._orders.get(number)
        if order is None:
            return None
        order.asked_ms = now
        if not order.left:
            del self._orders[number]
        return order

    def open(self, now: int) -> list[Order]:
        """Return the orders that are not done."""
        self._forget(now)
        return [order for order in self._orders.values() if order.left]

    def same(self, pair: Pair) -> None:
        """The two are the same in all of the partition."""
        for order in self._orders.values():
            if order.left.pop(pair, None) is not None:
                order.agreed += 1

    def through(self, pair: Pair, leaf: int, keys: int, size: int) -> None:
        """The two have given each other what they lacked in this leaf."""
        for order in self._orders.values():
            if order.leaf == leaf and order.left.pop(pair, None) is not None:
                order.agreed += 1
                order.keys += keys
                order.bytes += size

    def moved(self, pair: Pair, keys: int, size: int) -> None:
        """An exchange has moved so much."""
        for order in self._orders.values():
            if order.leaf is None and pair in order.left:
                order.keys += keys
                order.bytes += size

    def failed(self, pair: Pair, why: str) -> None:
        """It was tried, and is to be tried again."""
        for order in self._orders.values():
            if pair in order.left:
                order.left[pair] = why

    def _forget(self, now: int) -> None:
        old = [n for n, order in self._orders.items() if now - order.asked_ms > FORGET_MS]
        for number in old:
            del self._orders[number]
