"""Data types that merge themselves, as async callers see them.

    await carts.counter("visits").add(3)
    cart = carts.map("alice")
    await cart.counter("apples").add(2)
    await cart.value()      # {"apples": 2}

An object is a place and no value: making one asks nobody, and each call goes to the nodes. Names of
fields and elements of sets are texts or bytes; bytes that are UTF-8 come back as text.
"""

from __future__ import annotations

from typing import Any, TypeVar, Unpack

from everwrite.client.arguments import a
from everwrite.client.results import decode_value, encode_value, plain
from everwrite.client.spot import Reads, Spot, Writes, checked_name, wrong_type
from everwrite.core.data.keys import split_key
from everwrite.core.errors import RequestError
from everwrite.core.types import composed as shown
from everwrite.core.types.composing import integer_in
from everwrite.core.types.operations import (
    AMOUNT_MAX,
    Add,
    Assign,
    Disable,
    Enable,
    Exclude,
    Include,
    Name,
    Remove,
)

Shown = TypeVar("Shown", shown.Counter, shown.Set, shown.Register, shown.Flag, shown.Map)


class _Typed:
    __slots__ = ("_spot",)

    def __init__(self, spot: Spot) -> None:
        self._spot = spot

    def __repr__(self) -> str:
        bucket, key = split_key(self._spot.data)
        place = f"{bucket.decode()}/{key.decode(errors='backslashreplace')}"
        names = "".join(f" {name!r}" for name in self._spot.path)
        return f"<everwrite.{type(self).__name__} {place!r}{names}>"

    async def _look(self, wanted: type[Shown], options: Reads) -> Shown | None:
        found = await self._spot.look(**options)
        if found is None or isinstance(found, wanted):
            return found
        raise wrong_type(found, wanted)


class AsyncCounter(_Typed):
    """A number to which many add at a time: no addition is lost, or counted twice."""

    __slots__ = ()

    async def add(self, amount: int = 1, **options: Unpack[Writes]) -> int:
        """Add an amount, which may be negative; return the value then, as far as its coordinator
        knows.
        """
        if type(amount) is not int or not -AMOUNT_MAX - 1 <= amount <= AMOUNT_MAX:
            raise RequestError(
                f"{amount!r} cannot be added to a counter.",
                hint="Use an int that fits into 64 bits.",
            )
        return (await self._spot.change([Add(self._spot.path, amount)], **options))[0]

    async def value(self, **options: Unpack[Reads]) -> int:
        """Return the sum; 0 where nobody has added anything."""
        found = await self._spot.look(**options)
        if isinstance(found, shown.Register) and (number := integer_in(found.value)) is not None:
            return number  # what was put as a plain number is one that can be added to
        if found is None or isinstance(found, shown.Counter):
            return found.value if found is not None else 0
        raise wrong_type(found, shown.Counter)


class AsyncSet(_Typed):
    """Texts and bytes, each once. What one adds while another takes it out stays."""

    __slots__ = ()

    async def add(self, *elements: str | bytes, **options: Unpack[Writes]) -> int:
        """Put elements in; return how many were not there."""
        change = Include(self._spot.path, _elements(elements))
        return (await self._spot.change([change], **options))[0]

    async def remove(self, *elements: str | bytes, **options: Unpack[Writes]) -> int:
        """Take elements out; return how many were there."""
        change = Exclude(self._spot.path, _elements(elements))
        return (await self._spot.change([change], **options))[0]

    async def members(self, **options: Unpack[Reads]) -> set[str | bytes]:
        """Return all elements."""
        found = await self._look(shown.Set, options)
        return set(found.elements) if found is not None else set()

    async def contains(self, element: str | bytes, **options: Unpack[Reads]) -> bool:
        """Say whether an element is there."""
        name = checked_name(element, "element")
        return name in await self.members(**options)


class AsyncRegister(_Typed):
    """A value of which the last one counts; of two that were written at a time, the one with the
    later clock.
    """

    __slots__ = ()

    async def assign(self, value: Any, **options: Unpack[Writes]) -> bool:
        """Give it a value, as ``put`` takes them; say whether there was none."""
        kind, raw = encode_value(value)
        change = Assign(self._spot.path, raw, kind)
        return bool((await self._spot.change([change], **options))[0])

    async def value(self, **options: Unpack[Reads]) -> Any:
        """Return the value; None where there is none."""
        found = await self._look(shown.Register, options)
        return None if found is None else decode_value(found.kind, found.value)


class AsyncFlag(_Typed):
    """Raised or not. One that somebody raises while another lowers it is raised."""

    __slots__ = ()

    async def enable(self, **options: Unpack[Writes]) -> bool:
        """Raise it; say whether it was not raised."""
        return bool((await self._spot.change([Enable(self._spot.path)], **options))[0])

    async def disable(self, **options: Unpack[Writes]) -> bool:
        """Lower it; say whether it was raised."""
        return bool((await self._spot.change([Disable(self._spot.path)], **options))[0])

    async def value(self, **options: Unpack[Reads]) -> bool:
        """Say whether it is raised."""
        found = await self._look(shown.Flag, options)
        return found is not None and found.raised


class AsyncMap(_Typed):
    """Fields, each a data type, maps among them."""

    __slots__ = ()

    def counter(self, field: str | bytes) -> AsyncCounter:
        """Return the counter in a field."""
        return AsyncCounter(self._spot.below(field))

    def set(self, field: str | bytes) -> AsyncSet:
        """Return the set in a field."""
        return AsyncSet(self._spot.below(field))

    def register(self, field: str | bytes) -> AsyncRegister:
        """Return the register in a field."""
        return AsyncRegister(self._spot.below(field))

    def flag(self, field: str | bytes) -> AsyncFlag:
        """Return the flag in a field."""
        return AsyncFlag(self._spot.below(field))

    def map(self, field: str | bytes) -> AsyncMap:
        """Return the map in a field."""
        return AsyncMap(self._spot.below(field))

    async def remove(self, *fields: str | bytes, **options: Unpack[Writes]) -> int:
        """Take fields away with all that is in them; return how many there were. What others have
        put there meanwhile stays.
        """
        if not fields:
            raise RequestError("There is nothing to remove.", hint="Name one field or more.")
        spots = [self._spot.below(field) for field in fields]
        return sum(await self._spot.change([Remove(spot.path) for spot in spots], **options))

    async def value(self, **options: Unpack[Reads]) -> dict[str | bytes, Any]:
        """Return all fields with what is in them: numbers, sets, values, True, dicts."""
        found = await self._look(shown.Map, options)
        return {name: plain(field) for name, field in found.fields.items()} if found else {}


def _elements(elements: tuple[str | bytes, ...]) -> list[Name]:
    if not elements:
        raise RequestError("There are no elements.", hint="Give one or more, each an argument.")
    if len(elements) == 1 and isinstance(elements[0], list | tuple | set | frozenset):
        raise RequestError(
            f"{a(type(elements[0]).__name__)} is no element.", hint="Write a star before it."
        )
    return [checked_name(element, "element") for element in elements]
