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

from typing import TYPE_CHECKING, Any

import msgspec

from everwrite.core.data.labels import UNREADABLE, Kind
from everwrite.core.errors import ProtocolError
from everwrite.core.types.operations import AMOUNT_MAX, DEPTH_MAX, Name, is_name

REGISTER, COUNTER, ELEMENT, FLAG = range(4)

if TYPE_CHECKING:
    Payload = tuple[Kind, bytes] | int | Name | None
else:
    Payload = Any  # see Name


class Piece(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One piece, without what its version says of it."""

    type: int
    path: list[Name]
    payload: Payload


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Piece).decode


def encode(piece: Piece) -> bytes:
    """Return the canonical bytes of a piece."""
    return _encode(piece)


def decode(data: bytes) -> Piece:
    """Return the piece in these bytes; ProtocolError if they are none that this version knows."""
    try:
        piece = _decode(data)
    except UNREADABLE as error:
        raise ProtocolError(f"These {len(data)} bytes are no piece of a data type: {error}.") from (
            error
        )
    if piece.type == REGISTER and isinstance(piece.payload, list):
        piece = Piece(REGISTER, piece.path, tuple(piece.payload))
    if not _whole(piece):
        raise ProtocolError(
            f"A piece of type {piece.type} is not one that this version of Everwrite knows.",
            hint="Update this node or client to the version that wrote it.",
        )
    return piece


def _whole(piece: Piece) -> bool:
    payload: Any = piece.payload
    if piece.type == REGISTER:
        fits = isinstance(payload, tuple) and len(payload) == 2 and type(payload[1]) is bytes
        fits = fits and type(payload[0]) in (int, bytes)
    elif piece.type == COUNTER:
        fits = type(payload) is int and -AMOUNT_MAX - 1 <= payload <= AMOUNT_MAX
    elif piece.type == ELEMENT:
        fits = isinstance(payload, str | bytes) and is_name(payload)
    else:
        fits = piece.type == FLAG and payload is None
    return fits and len(piece.path) <= DEPTH_MAX and all(map(is_name, piece.path))
