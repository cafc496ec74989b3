"""What a client asks of a key that is a data type: a list of operations, as one put carries them.

A *path* is the list of names that leads from the key into its maps: empty for the key itself. Names
of fields, and elements of sets, are texts; what is no UTF-8 is bytes (``name_of``), so that one name
has one form whichever front it comes by.
"""

from __future__ import annotations

import msgspec

from everwrite.core.data.labels import Kind
from everwrite.core.errors import RequestError

Name = str | bytes
"""Invariant: bytes are no UTF-8; else it is a text."""

Path = list[Name]

OPERATIONS_MAX = 4096
"""In one put."""
DEPTH_MAX = 8
"""Names in a path."""


class Add(msgspec.Struct, tag="add", array_like=True, frozen=True, gc=False):
    """Add an amount, which may be negative, to the counter there. Result: its value then."""

    path: Path
    amount: int


class Include(msgspec.Struct, tag="include", array_like=True, frozen=True, gc=False):
    """Put elements into the set there. Result: how many were not in it."""

    path: Path
    elements: list[Name]


class Exclude(msgspec.Struct, tag="exclude", array_like=True, frozen=True, gc=False):
    """Take elements out of the set there. Result: how many were in it."""

    path: Path
    elements: list[Name]


class Assign(msgspec.Struct, tag="assign", array_like=True, frozen=True, gc=False):
    """Give the register there a value. Result: 1 if nothing was there, else 0."""

    path: Path
    value: bytes
    kind: Kind = 0


class Enable(msgspec.Struct, tag="enable", array_like=True, frozen=True, gc=False):
    """Raise the flag there. Result: 1 if it was not raised, else 0."""

    path: Path


class Disable(msgspec.Struct, tag="disable", array_like=True, frozen=True, gc=False):
    """Lower the flag there. Result: 1 if it was raised, else 0."""

    path: Path


class Remove(msgspec.Struct, tag="remove", array_like=True, frozen=True, gc=False):
    """Remove all that is there, whatever its type. Result: 1 if something was, else 0."""

    path: Path


Operation = Add | Include | Exclude | Assign | Enable | Disable | Remove

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Operation]).decode


def encode(operations: list[Operation]) -> bytes:
    """Return operations as a put carries them."""
    return _encode(operations)


def decode(data: bytes) -> list[Operation]:
    """Return the operations in these bytes; RequestError if they are none that can be."""
    try:
        operations = _decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise RequestError(
            f"These are no operations on a data type: {error}.", hint="Nothing was done."
        ) from error
    if not 0 < len(operations) <= OPERATIONS_MAX:
        raise RequestError(
            f"{len(operations)} operations are not possible in one put.",
            hint=f"Nothing was done. Send 1 to {OPERATIONS_MAX}.",
        )
    return operations


def name_of(raw: bytes) -> Name:
    """Return the one form of a name.

    >>> name_of(b"tea"), name_of(bytes([255]))
    ('tea', b'\\xff')
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def raw_of(name: Name) -> bytes:
    """Return a name's bytes."""
    return name if isinstance(name, bytes) else name.encode()
