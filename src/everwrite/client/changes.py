"""Several changes of one map that are one put: all of them happen, or none.

    changes = Changes()
    changes.counter("tea").add(2)
    changes.flag("express").enable()
    await cart.change(changes)

They are only noted here; the map's ``change`` sends them, and its coordinator carries them out in
their order, each seeing what those before have done. What is wrong with one of them is said when it
is noted.
"""

from __future__ import annotations

from typing import Any

from everwrite.client.arguments import a
from everwrite.client.results import encode_value
from everwrite.client.spot import checked_name, deeper
from everwrite.core.errors import RequestError
from everwrite.core.types.operations import (
    AMOUNT_MAX,
    Add,
    Assign,
    Disable,
    Enable,
    Exclude,
    Include,
    Name,
    Operation,
    Path,
    Remove,
)


class Changes:
    """See the module. The same object may be sent to several maps, and more than once."""

    __slots__ = ("_noted", "_path")

    def __init__(self) -> None:
        self._noted: list[Operation] = []
        self._path: Path = []

    def __len__(self) -> int:
        """Return how many changes are noted."""
        return len(self._noted)

    def __repr__(self) -> str:
        return f"<everwrite.Changes of {len(self)}>"

    def counter(self, field: str | bytes) -> CounterChanges:
        """Return the counter in a field."""
        return CounterChanges(self._noted, deeper(self._path, field))

    def set(self, field: str | bytes) -> SetChanges:
        """Return the set in a field."""
        return SetChanges(self._noted, deeper(self._path, field))

    def register(self, field: str | bytes) -> RegisterChanges:
        """Return the register in a field."""
        return RegisterChanges(self._noted, deeper(self._path, field))

    def flag(self, field: str | bytes) -> FlagChanges:
        """Return the flag in a field."""
        return FlagChanges(self._noted, deeper(self._path, field))

    def map(self, field: str | bytes) -> Changes:
        """Return the map in a field: what is noted there belongs to the same changes."""
        below = Changes()
        below._noted, below._path = self._noted, deeper(self._path, field)
        return below

    def remove(self, *fields: str | bytes) -> None:
        """Take fields away with all that is in them."""
        self._noted += removed(self._path, fields)

    def noted(self) -> list[Operation]:
        """Return them in their order."""
        return list(self._noted)


class _Noting:
    __slots__ = ("_noted", "_path")

    def __init__(self, noted: list[Operation], path: Path) -> None:
        self._noted = noted
        self._path = path


class CounterChanges(_Noting):
    """A counter in the making of changes."""

    __slots__ = ()

    def add(self, amount: int = 1) -> None:
        """Add an amount, which may be negative."""
        self._noted.append(added(self._path, amount))


class SetChanges(_Noting):
    """A set in the making of changes."""

    __slots__ = ()

    def add(self, *elements: str | bytes) -> None:
        """Put elements in."""
        self._noted.append(Include(self._path, checked_elements(elements)))

    def remove(self, *elements: str | bytes) -> None:
        """Take elements out."""
        self._noted.append(Exclude(self._path, checked_elements(elements)))


class RegisterChanges(_Noting):
    """A register in the making of changes."""

    __slots__ = ()

    def assign(self, value: Any) -> None:
        """Give it a value, as ``put`` takes them."""
        self._noted.append(assigned(self._path, value))


class FlagChanges(_Noting):
    """A flag in the making of changes."""

    __slots__ = ()

    def enable(self) -> None:
        """Raise it."""
        self._noted.append(Enable(self._path))

    def disable(self) -> None:
        """Lower it."""
        self._noted.append(Disable(self._path))


def added(path: Path, amount: int) -> Add:
    """Return the operation that adds to a counter; RequestError if the amount is none."""
    if type(amount) is not int or not -AMOUNT_MAX - 1 <= amount <= AMOUNT_MAX:
        raise RequestError(
            f"{amount!r} cannot be added to a counter.",
            hint="Use an int that fits into 64 bits.",
        )
    return Add(path, amount)


def assigned(path: Path, value: Any) -> Assign:
    """Return the operation that gives a register a value; RequestError if it cannot be kept."""
    kind, raw = encode_value(value)
    return Assign(path, raw, kind)


def removed(path: Path, fields: tuple[str | bytes, ...]) -> list[Operation]:
    """Return the operations that take fields of a map away; RequestError for none."""
    if not fields:
        raise RequestError("There is nothing to remove.", hint="Name one field or more.")
    return [Remove(deeper(path, field)) for field in fields]


def checked_elements(elements: tuple[str | bytes, ...]) -> list[Name]:
    """Return elements of a set in their one form; RequestError for what is none."""
    if not elements:
        raise RequestError("There are no elements.", hint="Give one or more, each an argument.")
    if len(elements) == 1 and isinstance(elements[0], list | tuple | set | frozenset):
        raise RequestError(
            f"{a(type(elements[0]).__name__)} is no element.", hint="Write a star before it."
        )
    return [checked_name(element, "element") for element in elements]
