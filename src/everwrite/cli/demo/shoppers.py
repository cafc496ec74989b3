"""Shoppers: clients that read a cart, think, merge what they found, change it, and write it back.

Many of them share few carts, so they meet siblings all the time; each goes through the node that
its client reached first. A cart that holds many items is left for a fresh one, so values stay
small.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from everwrite.cli.demo.carts import Cart, Fate, Ledger, contents, union, with_item, without_item
from everwrite.cli.histogram import Histogram
from everwrite.core.errors import EverwriteError

if TYPE_CHECKING:
    from everwrite.client import AsyncBucket

SHELF = ("apples", "bread", "cheese", "dates", "eggs", "figs", "grapes", "honey", "jam", "tea")

_THINK_SECONDS = 0.03
"""Mean time between a read and its write: so long that two shoppers often have one cart open."""
_REMOVE_SHARE = 0.3
_ITEMS_MAX = 120
"""Items ever put in one cart (about 3 KB); then shoppers take a fresh one."""
_RETRY_SECONDS = 0.05


class Tally(msgspec.Struct):
    """What the shoppers have seen so far."""

    reads: int = 0
    reads_failed: int = 0
    writes: int = 0
    writes_failed: int = 0
    """Surely not written."""
    writes_unknown: int = 0
    siblings_met: int = 0
    """Reads that returned several values."""
    siblings_merged: int = 0
    """Siblings that a write has replaced by their union."""
    accepted_at: float = 0.0
    drought_seconds: float = 0.0
    """Longest time without an accepted write."""
    errors: dict[str, int] = {}
    read_us: Histogram = msgspec.field(default_factory=Histogram)
    write_us: Histogram = msgspec.field(default_factory=Histogram)
    recent_us: Histogram = msgspec.field(default_factory=Histogram)
    """Writes since somebody who shows them has put a new one here."""

    def accepted(self, began: float) -> None:
        """Note an accepted write that was sent then."""
        now = time.perf_counter()
        micros = round((now - began) * 1e6)
        self.write_us.record(micros)
        self.recent_us.record(micros)
        if self.accepted_at:
            self.drought_seconds = max(self.drought_seconds, now - self.accepted_at)
        self.accepted_at = now
        self.writes += 1

    def failed(self, error: EverwriteError) -> None:
        """Note an error by its code."""
        self.errors[error.code] = self.errors.get(error.code, 0) + 1


class Shop:
    """The carts that all shoppers share, and their books."""

    def __init__(self, run: str, carts: int) -> None:
        self.ledger = Ledger()
        self.tally = Tally()
        self.closing = asyncio.Event()
        self._run = run
        self._fresh = [0] * carts

    async def closed_within(self, seconds: float) -> bool:
        """Wait so long; True, and at once, if the shop closes or is closed."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self.closing.wait()
        except TimeoutError:
            return False
        return True

    def cart(self, rng: random.Random) -> tuple[int, str]:
        """Return the place and the name of some cart in use."""
        place = rng.randrange(len(self._fresh))
        return place, f"{self._run}-{place:02d}-{self._fresh[place]}"

    def leave(self, place: int, name: str) -> None:
        """Have the next shoppers take a fresh cart at this place."""
        if name.endswith(f"-{self._fresh[place]}"):
            self._fresh[place] += 1


class Shopper:
    """One shopper; ids of its items begin with its number, so no other shopper uses them."""

    def __init__(self, number: int, shop: Shop, bucket: AsyncBucket, rng: random.Random) -> None:
        self._number = number
        self._shop = shop
        self._bucket = bucket
        self._rng = rng
        self._items = 0

    async def shop(self) -> None:
        """Change carts until the shop closes; a change that has begun is finished."""
        while not self._shop.closing.is_set():
            place, name = self._shop.cart(self._rng)
            found = await self._read(name)
            if found is None:
                await asyncio.sleep(_RETRY_SECONDS * self._rng.random())
                continue
            carts, context = found
            await asyncio.sleep(self._rng.expovariate(1 / _THINK_SECONDS))
            cart = union(carts)
            if len(cart["added"]) >= _ITEMS_MAX:
                self._shop.leave(place, name)
                continue
            if await self._change(name, cart, context):
                self._shop.tally.siblings_merged += len(carts) if len(carts) > 1 else 0
            await asyncio.sleep(self._rng.expovariate(1 / _THINK_SECONDS))

    async def _read(self, name: str) -> tuple[Sequence[Cart], bytes] | None:
        tally = self._shop.tally
        began = time.perf_counter()
        try:
            found = await self._bucket.get(name)
        except EverwriteError as error:
            tally.reads_failed += 1
            tally.failed(error)
            return None
        tally.read_us.record(round((time.perf_counter() - began) * 1e6))
        tally.reads += 1
        tally.siblings_met += len(found.values) > 1
        return [msgspec.convert(value, Cart) for value in found.values], found.context

    async def _change(self, name: str, cart: Cart, context: bytes) -> bool:
        """Add or remove one item; say whether that was acknowledged."""
        inside = sorted(contents(cart))
        removes = bool(inside) and self._rng.random() < _REMOVE_SHARE
        if removes:
            item = self._rng.choice(inside)
            changed = without_item(cart, item)
        else:
            self._items += 1
            item = f"{self._number}.{self._items}"
            changed = with_item(cart, item, self._rng.choice(SHELF))
        attempt = self._shop.ledger.begin(name, item, removes=removes)
        attempt.fate = await self._write(name, changed, context)
        return attempt.fate is Fate.ACKNOWLEDGED

    async def _write(self, name: str, cart: Cart, context: bytes) -> Fate:
        tally = self._shop.tally
        began = time.perf_counter()
        try:
            await self._bucket.put(name, cart, context=context)
        except EverwriteError as error:
            tally.failed(error)
            if error.outcome == "none":
                tally.writes_failed += 1
                return Fate.REFUSED
            tally.writes_unknown += 1
            return Fate.UNKNOWN
        tally.accepted(began)
        return Fate.ACKNOWLEDGED
