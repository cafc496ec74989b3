"""The cart: a value that merges by union, and the books by which losses are counted exactly.

A cart is two sets: items added, each under an id that is used once in the whole run, and ids of
items removed. In the cart is what was added and not removed. Union of both sets is commutative,
associative and idempotent, so the order in which siblings are merged does not matter, and a removed
item cannot come back by a merge (that flaw of the paper's own cart, section 4.4, is why ids are
used once).

Whatever a shopper writes contains all that it had read. So an acknowledged addition is lost exactly
if its id is in no sibling of the cart any more; the ledger says which ids must be there
(acknowledged), which may be (the outcome is unknown), and which must not (the error said: surely
not written).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import TypedDict

import msgspec


class Cart(TypedDict):
    """The value of one key, as JSON: item id -> what it is, and the ids removed."""

    added: dict[str, str]
    removed: list[str]


def union(carts: Iterable[Cart]) -> Cart:
    """Return the cart that knows all that these know.

    >>> mine = {"added": {"a1": "tea"}, "removed": []}
    >>> union([mine, {"added": {"b1": "jam"}, "removed": ["b1"]}])
    {'added': {'a1': 'tea', 'b1': 'jam'}, 'removed': ['b1']}
    """
    added: dict[str, str] = {}
    removed: set[str] = set()
    for cart in carts:
        added.update(cart["added"])
        removed.update(cart["removed"])
    return {"added": added, "removed": sorted(removed)}


def contents(cart: Cart) -> dict[str, str]:
    """Return what is in the cart: item id -> what it is."""
    removed = set(cart["removed"])
    return {item: what for item, what in cart["added"].items() if item not in removed}


def with_item(cart: Cart, item: str, what: str) -> Cart:
    """Return the cart with one more item."""
    return {"added": {**cart["added"], item: what}, "removed": cart["removed"]}


def without_item(cart: Cart, item: str) -> Cart:
    """Return the cart without an item that is in it."""
    return {"added": cart["added"], "removed": sorted({*cart["removed"], item})}


class Fate(enum.Enum):
    """What the client was told about a change."""

    ACKNOWLEDGED = "acknowledged"
    UNKNOWN = "unknown"
    """It may have happened: an error said so, or no answer came before the end."""
    REFUSED = "refused"
    """An error said that it has surely not happened."""


class Attempt(msgspec.Struct):
    """One put of one changed item; UNKNOWN from before it is sent until an answer comes."""

    cart: str
    item: str
    removes: bool
    fate: Fate = Fate.UNKNOWN


class Findings(msgspec.Struct):
    """What is wrong with a cart, as item ids; all empty if nothing is."""

    missing: set[str]
    """Acknowledged additions that the cart does not know."""
    returned: set[str]
    """Items in the cart whose removal was acknowledged."""
    impossible: set[str]
    """Changes in the cart that nobody tried, or of which an error said: surely not written."""


class Ledger:
    """All attempts, by cart. Several shoppers may try to remove one item; each is an attempt."""

    def __init__(self) -> None:
        self.carts: dict[str, list[Attempt]] = {}

    def begin(self, cart: str, item: str, *, removes: bool) -> Attempt:
        """Note that a change is about to be sent; the caller sets its fate when it knows it."""
        attempt = Attempt(cart, item, removes)
        self.carts.setdefault(cart, []).append(attempt)
        return attempt

    def items(self, fate: Fate, *, removes: bool) -> int:
        """Return how many items had an addition (or removal) that ended so."""
        return sum(len(_items(attempts, removes, fate=fate)) for attempts in self.carts.values())

    def judge(self, name: str, cart: Cart) -> Findings:
        """Compare what a cart holds with what its shoppers were told."""
        attempts = self.carts.get(name, [])
        added, removed = set(cart["added"]), set(cart["removed"])
        return Findings(
            missing=_items(attempts, False, fate=Fate.ACKNOWLEDGED) - added,
            returned=_items(attempts, True, fate=Fate.ACKNOWLEDGED) & (added - removed),
            impossible=(added - _items(attempts, False, but=Fate.REFUSED))
            | (removed - _items(attempts, True, but=Fate.REFUSED)),
        )


def _items(
    attempts: Iterable[Attempt], removes: bool, *, fate: Fate | None = None, but: Fate | None = None
) -> set[str]:
    """Return the items of the attempts with this fate, or with any ``but`` that one."""
    return {
        attempt.item
        for attempt in attempts
        if attempt.removes == removes
        and (fate is None or attempt.fate is fate)
        and attempt.fate is not but
    }
