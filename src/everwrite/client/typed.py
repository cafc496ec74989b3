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

from msgspec.structs import replace

from everwrite.client.arguments import a
from everwrite.client.changes import Changes, added, assigned, checked_elements, removed
from everwrite.client.results import decode_value, plain
from everwrite.client.spot import Reads, Spot, Writes, checked_name, wrong_type
from everwrite.core.data.keys import of_key, split_key
from everwrite.core.errors import RequestError, TooLarge
from everwrite.core.types import composed as shown
from everwrite.core.types.composing import integer_in
from everwrite.core.types.operations import DEPTH_MAX, Disable, Enable, Exclude, Include

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
        found = await self._spot.look(wanted, **options)
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
        return (await self._spot.change([added(self._spot.path, amount)], **options))[0]

    async def value(self, **options: Unpack[Reads]) -> int:
        """Return the sum; 0 where nobody has added anything."""
        found = await self._spot.look(shown.Counter, **options)
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
        change = Include(self._spot.path, checked_elements(elements))
        return (await self._spot.change([change], **options))[0]

    async def remove(self, *elements: str | bytes, **options: Unpack[Writes]) -> int:
        """Take elements out; return how many were there."""
        change = Exclude(self._spot.path, checked_elements(elements))
        return (await self._spot.change([change], **options))[0]

    async def members(self, **options: Unpack[Reads]) -> set[str | bytes]:
        """Return all elements."""
        found = await self._look(shown.Set, options)
        return set(found.elements) if found is not None else set()

    async def value(self, **options: Unpack[Reads]) -> set[str | bytes]:
        """Return all elements, as ``members`` does: each type has a value."""
        return await self.members(**options)

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
        try:
            change = assigned(self._spot.path, value)
        except TooLarge as error:
            raise of_key(error, self._spot.data) from None
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
        return sum(await self._spot.change(removed(self._spot.path, fields), **options))

    async def change(self, changes: Changes, **options: Unpack[Writes]) -> list[int]:
        """Carry out several changes in one put, in their order: all of them, or none.

        Returns what each came to: the value of a counter; how many elements, or fields, were new
        or gone; 1 for a register or a flag that this has changed.
        """
        if not isinstance(changes, Changes):
            raise RequestError(
                f"{a(type(changes).__name__)} is not what a map can be changed by.",
                hint="Note the changes on an everwrite.Changes().",
            )
        if not changes:
            raise RequestError("There is nothing to change.", hint="Note one change or more.")
        path = self._spot.path
        operations = [replace(each, path=[*path, *each.path]) for each in changes.noted()]
        too_deep = max(len(each.path) for each in operations)
        if too_deep > DEPTH_MAX:
            raise RequestError(
                f"A field {too_deep} maps below its key is not possible.",
                hint=f"Use up to {DEPTH_MAX}.",
            )
        return await self._spot.change(operations, **options)

    async def value(self, **options: Unpack[Reads]) -> dict[str | bytes, Any]:
        """Return all fields with what is in them: numbers, sets, values, True, dicts."""
        found = await self._look(shown.Map, options)
        return {name: plain(field) for name, field in found.fields.items()} if found else {}
