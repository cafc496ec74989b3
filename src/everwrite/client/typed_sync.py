"""Data types that merge themselves, blocking: the same names as in typed.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Unpack

from everwrite.client.changes import Changes
from everwrite.client.spot import Reads, Writes
from everwrite.client.typed import AsyncCounter, AsyncFlag, AsyncMap, AsyncRegister, AsyncSet

Run = Callable[[Any], Any]
"""Runs a coroutine in the client's thread, and returns what that does."""


class Counter:
    """A number to which many add at a time: see AsyncCounter."""

    __slots__ = ("_run", "_typed")

    def __init__(self, typed: AsyncCounter, run: Run) -> None:
        self._typed = typed
        self._run = run

    def __repr__(self) -> str:
        return repr(self._typed).replace("Async", "", 1)

    def add(self, amount: int = 1, **options: Unpack[Writes]) -> int:
        """Add an amount, which may be negative; return the value then, as far as its coordinator
        knows.
        """
        value: int = self._run(self._typed.add(amount, **options))
        return value

    def value(self, **options: Unpack[Reads]) -> int:
        """Return the sum; 0 where nobody has added anything."""
        value: int = self._run(self._typed.value(**options))
        return value


class Set:
    """Texts and bytes, each once: see AsyncSet."""

    __slots__ = ("_run", "_typed")

    def __init__(self, typed: AsyncSet, run: Run) -> None:
        self._typed = typed
        self._run = run

    def __repr__(self) -> str:
        return repr(self._typed).replace("Async", "", 1)

    def add(self, *elements: str | bytes, **options: Unpack[Writes]) -> int:
        """Put elements in; return how many were not there."""
        added: int = self._run(self._typed.add(*elements, **options))
        return added

    def remove(self, *elements: str | bytes, **options: Unpack[Writes]) -> int:
        """Take elements out; return how many were there."""
        removed: int = self._run(self._typed.remove(*elements, **options))
        return removed

    def members(self, **options: Unpack[Reads]) -> set[str | bytes]:
        """Return all elements."""
        members: set[str | bytes] = self._run(self._typed.members(**options))
        return members

    def value(self, **options: Unpack[Reads]) -> set[str | bytes]:
        """Return all elements, as ``members`` does: each type has a value."""
        return self.members(**options)

    def __contains__(self, element: str | bytes) -> bool:
        return self.contains(element)

    def contains(self, element: str | bytes, **options: Unpack[Reads]) -> bool:
        """Say whether an element is there."""
        there: bool = self._run(self._typed.contains(element, **options))
        return there


class Register:
    """A value of which the last one counts: see AsyncRegister."""

    __slots__ = ("_run", "_typed")

    def __init__(self, typed: AsyncRegister, run: Run) -> None:
        self._typed = typed
        self._run = run

    def __repr__(self) -> str:
        return repr(self._typed).replace("Async", "", 1)

    def assign(self, value: Any, **options: Unpack[Writes]) -> bool:
        """Give it a value, as ``put`` takes them; say whether there was none."""
        new: bool = self._run(self._typed.assign(value, **options))
        return new

    def value(self, **options: Unpack[Reads]) -> Any:
        """Return the value; None where there is none."""
        return self._run(self._typed.value(**options))


class Flag:
    """Raised or not: see AsyncFlag."""

    __slots__ = ("_run", "_typed")

    def __init__(self, typed: AsyncFlag, run: Run) -> None:
        self._typed = typed
        self._run = run

    def __repr__(self) -> str:
        return repr(self._typed).replace("Async", "", 1)

    def enable(self, **options: Unpack[Writes]) -> bool:
        """Raise it; say whether it was not raised."""
        changed: bool = self._run(self._typed.enable(**options))
        return changed

    def disable(self, **options: Unpack[Writes]) -> bool:
        """Lower it; say whether it was raised."""
        changed: bool = self._run(self._typed.disable(**options))
        return changed

    def value(self, **options: Unpack[Reads]) -> bool:
        """Say whether it is raised."""
        raised: bool = self._run(self._typed.value(**options))
        return raised


class Map:
    """Fields, each a data type, maps among them: see AsyncMap."""

    __slots__ = ("_run", "_typed")

    def __init__(self, typed: AsyncMap, run: Run) -> None:
        self._typed = typed
        self._run = run

    def __repr__(self) -> str:
        return repr(self._typed).replace("Async", "", 1)

    def counter(self, field: str | bytes) -> Counter:
        """Return the counter in a field."""
        return Counter(self._typed.counter(field), self._run)

    def set(self, field: str | bytes) -> Set:
        """Return the set in a field."""
        return Set(self._typed.set(field), self._run)

    def register(self, field: str | bytes) -> Register:
        """Return the register in a field."""
        return Register(self._typed.register(field), self._run)

    def flag(self, field: str | bytes) -> Flag:
        """Return the flag in a field."""
        return Flag(self._typed.flag(field), self._run)

    def map(self, field: str | bytes) -> Map:
        """Return the map in a field."""
        return Map(self._typed.map(field), self._run)

    def remove(self, *fields: str | bytes, **options: Unpack[Writes]) -> int:
        """Take fields away with all that is in them; return how many there were."""
        removed: int = self._run(self._typed.remove(*fields, **options))
        return removed

    def change(self, changes: Changes, **options: Unpack[Writes]) -> list[int]:
        """Carry out several changes in one put, in their order: all of them, or none."""
        results: list[int] = self._run(self._typed.change(changes, **options))
        return results

    def value(self, **options: Unpack[Reads]) -> dict[str | bytes, Any]:
        """Return all fields with what is in them: numbers, sets, values, True, dicts."""
        found: dict[str | bytes, Any] = self._run(self._typed.value(**options))
        return found
