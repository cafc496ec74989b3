"""Pieces: of what the record of a data type is made, each a sibling of its own.

    a version's value = MessagePack [type, path, payload]

    register   [kind, bytes]    written there
    counter    an amount        added there
    element    a name           in the set there
    flag       nil              raised

A path is a list of names; what has longer ones is a map, which needs no piece of its own. Equal
pieces are equal bytes. Coordinators make them (changing.py), and no client: so one that cannot be
read is of a newer version, or a bug, and never passed over in silence.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from everwrite.core.data.labels import UNREADABLE, Kind
from everwrite.core.errors import ProtocolError
from everwrite.core.types.operations import AMOUNT_MAX, DEPTH_MAX, Name, is_name

REGISTER, COUNTER, ELEMENT, FLAG = range(4)


class Written(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=REGISTER):
    """What was written into a register."""

    type: ClassVar[int] = REGISTER

    path: list[Name]
    payload: tuple[Kind, bytes]


class Added(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=COUNTER):
    """What was added to a counter."""

    type: ClassVar[int] = COUNTER

    path: list[Name]
    payload: int


class Element(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=ELEMENT):
    """What is in a set."""

    type: ClassVar[int] = ELEMENT

    path: list[Name]
    payload: Name


class Raised(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=FLAG):
    """A flag that is raised."""

    type: ClassVar[int] = FLAG

    path: list[Name]
    payload: None


Piece = Written | Added | Element | Raised
"""One piece, without what its version says of it."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Piece).decode

_HINT = "Update this node or client to the version that wrote it."


def encode(piece: Piece) -> bytes:
    """Return the canonical bytes of a piece."""
    return _encode(piece)


def decode(data: bytes) -> Piece:
    """Return the piece in these bytes; ProtocolError if they are none that this version knows."""
    try:
        piece = _decode(data)
    except UNREADABLE as error:
        raise ProtocolError(
            f"These {len(data)} bytes are no piece of a data type: {error}.", hint=_HINT
        ) from error
    if not _whole(piece):
        raise ProtocolError(f"These {len(data)} bytes are no piece of a data type.", hint=_HINT)
    return piece


def _whole(piece: Piece) -> bool:
    """Say whether a piece is in the one form that it may have."""
    if type(piece) is Element:
        fits = is_name(piece.payload)
    elif type(piece) is Added:
        fits = -AMOUNT_MAX - 1 <= piece.payload <= AMOUNT_MAX
    else:
        fits = True
    path = piece.path
    if len(path) == 1 and type(path[0]) is str:  # nearly always, and a record may have thousands
        return fits
    return fits and len(path) <= DEPTH_MAX and all(map(is_name, path))
