"""What a client asks of a key that is a data type: a list of operations, as one put carries them.

A *path* is the list of names that leads from the key into its maps: empty for the key itself. Names
of fields, and elements of sets, are texts; what is no UTF-8 is bytes (``name_of``): so one name has
one form, whichever front it comes by.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.data.keys import VALUE_BYTES_MAX, checked_value
from everwrite.core.data.labels import KIND_BYTES, UNREADABLE, Kind, check_kind
from everwrite.core.errors import RequestError

if TYPE_CHECKING:
    Name = str | bytes
    """Invariant: bytes are no UTF-8; else it is a text."""
else:
    Name = Any  # msgspec cannot tell texts from bytes in a union: ``is_name`` does

Path = list[Name]

OPERATIONS_MAX = 16_385
"""In one put: it can remove all, and make all that a key may have (``pieces_max``)."""
ELEMENTS_MAX = 16_384
"""In all its operations: as many as a set may have."""
DEPTH_MAX = 8
"""Names in a path."""
PATH_BYTES_MAX = 1024
"""All names of a path: it stands in each piece, as a key stands in each record."""
AMOUNT_MAX = (1 << 63) - 1
"""A counter, and what is added to it, is a signed number of 64 bits: from one less than this below
zero."""


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

_OF_SETS = (Include, Exclude)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Operation]).decode


def encode(operations: list[Operation]) -> bytes:
    """Return operations as a put carries them."""
    return _encode(operations)


def decode_trusted(data: bytes) -> list[Operation]:
    """Return the operations in these bytes, which ``decode`` has seen when they came to this node;
    RequestError if they are none.
    """
    try:
        return _decode(data)
    except UNREADABLE as error:
        raise RequestError(
            f"These are no operations on a data type: {error}.", hint="Nothing was done."
        ) from error


def decode(data: bytes) -> list[Operation]:
    """Return the operations in these bytes; RequestError if they are none that can be."""
    operations = decode_trusted(data)
    if not 0 < len(operations) <= OPERATIONS_MAX:
        raise RequestError(
            f"{len(operations)} operations are not possible in one put.",
            hint=f"Nothing was done. Send 1 to {OPERATIONS_MAX}.",
        )
    elements = sum(len(each.elements) for each in operations if isinstance(each, _OF_SETS))
    if elements > ELEMENTS_MAX:
        raise RequestError(
            f"{elements} elements are not possible in one put.",
            hint=f"Nothing was done. Send {ELEMENTS_MAX} at most.",
        )
    for operation in operations:
        _check(operation)
    return operations


def _check(operation: Operation) -> None:
    """Raise RequestError for an operation that cannot be."""
    path, size = operation.path, 0
    if type(operation) is Assign and len(path) == 1 and _quick(path[0], operation):
        return  # a field of a hash, of which a put may have thousands
    for name in path:
        if type(name) is str:  # nearly always, and a put may have thousands
            size += len(name) if name.isascii() else len(name.encode())
        elif is_name(name):
            size += len(name)
        else:
            raise _no_name()
    if len(path) > DEPTH_MAX or size > PATH_BYTES_MAX:
        raise RequestError(
            f"A path of {len(path)} names and {size} bytes is not possible.",
            hint=f"Nothing was done. Use {DEPTH_MAX} names, {PATH_BYTES_MAX} bytes, or less.",
        )
    match operation:
        case Assign():
            if operation.kind != KIND_BYTES:
                check_kind(operation.kind)
            checked_value(operation.value)
        case Add() if not -AMOUNT_MAX - 1 <= operation.amount <= AMOUNT_MAX:
            raise RequestError(
                f"An amount of {operation.amount} is not possible.",
                hint="Nothing was done. Add what fits into 64 bits, with its sign.",
            )
        case Include() | Exclude() if not all(map(is_name, operation.elements)):
            raise _no_name()


def _quick(name: Name, operation: Assign) -> bool:
    """Say whether a field and its value are so small and plain that they can be."""
    return (
        type(name) is str
        and len(name) * 4 <= PATH_BYTES_MAX
        and operation.kind == KIND_BYTES
        and len(operation.value) <= VALUE_BYTES_MAX
    )


def _no_name() -> RequestError:
    return RequestError(
        "A name must be a text, or bytes that are no UTF-8.",
        hint="Nothing was done. Each name has one form only.",
    )


def name_of(raw: bytes) -> Name:
    """Return the one form of a name.

    >>> name_of(b"tea"), name_of(bytes([255]))
    ('tea', b'\\xff')
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw


def is_name(name: object) -> bool:
    """Say whether this is a name, in the one form that it may have."""
    return isinstance(name, str) or (isinstance(name, bytes) and name_of(name) is name)


def raw_of(name: Name) -> bytes:
    """Return a name's bytes."""
    return name if isinstance(name, bytes) else name.encode()
