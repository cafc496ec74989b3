"""What a read of a key says, in Redis' words: a string, a hash, a set, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from everwrite.core.data.labels import KIND_PIECE, Kind
from everwrite.core.messages.requests import GetReply
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.composing import compose
from everwrite.core.types.operations import raw_of
from everwrite.server.redis.command import integer_in, wrong_type
from everwrite.server.redis.hyperlog import Registers, decode, encode, is_sketch, merged
from everwrite.server.redis.replies import Problem

EMBEDDED_MAX = 44
"""Bytes of a string that Redis keeps with its head."""


def shown(reply: GetReply) -> Composed | None:
    """Return what stands under a key; None: nothing does."""
    values = reply.values
    if not values:
        return None
    if len(values) == 1 and values[0][0] != KIND_PIECE:  # nearly always
        kind, value = values[0]
        return Register(value, kind)
    return _merged(compose(values, reply.marks), values)


def _merged(found: Composed | None, values: Sequence[tuple[Kind, bytes]]) -> Composed | None:
    """Return what is shown of siblings: where the last is a sketch, the merge of all that are."""
    if not isinstance(found, Register) or not is_sketch(found.value):
        return found
    sketches = _sketches(values)
    if len(sketches) < 2:
        return found
    try:
        return Register(encode(merged(map(decode, sketches))), found.kind)
    except Problem:  # one is garbled: who asks for a string is told the last one
        return found


def _sketches(values: Sequence[tuple[Kind, bytes]]) -> set[bytes]:
    return {value for kind, value in values if kind != KIND_PIECE and is_sketch(value)}


def sketch_in(reply: GetReply) -> Registers | None:
    """Return the sketch under a key, of several siblings their merge; None: nothing is there; a
    Problem if another type or another string stands there.
    """
    values = reply.values
    if not values:
        return None
    last = values[0][1]
    if len(values) > 1 or values[0][0] == KIND_PIECE:
        last = string_of(compose(values, reply.marks)) or b""
    if not is_sketch(last):
        raise Problem("WRONGTYPE Key is not a valid HyperLogLog string value.")
    return merged(map(decode, _sketches(values)))


def string(reply: GetReply) -> bytes | None:
    """Return the string under a key; a Problem if another type stands there."""
    values = reply.values
    if not values:
        return None
    if len(values) == 1 and values[0][0] != KIND_PIECE:
        return values[0][1]
    return string_of(shown(reply))


def string_of(found: Composed | None) -> bytes | None:
    """Return a register's value, or a counter's as a text; a Problem if it is neither.

    >>> string_of(Counter(-7)), string_of(None)
    (b'-7', None)
    """
    if found is None:
        return None
    if isinstance(found, Register):
        return found.value
    if isinstance(found, Counter):
        return b"%d" % found.value
    raise wrong_type()


def hash_in(reply: GetReply) -> dict[bytes, Composed]:
    """Return the fields of the hash under a key; a Problem if another type stands there."""
    found = shown(reply)
    if found is None:
        return {}
    if not isinstance(found, Map):
        raise wrong_type()
    return {raw_of(name): value for name, value in found.fields.items()}


def set_in(reply: GetReply) -> list[bytes]:
    """Return the elements of the set under a key; a Problem if another type stands there."""
    found = shown(reply)
    if found is None:
        return []
    if not isinstance(found, Set):
        raise wrong_type()
    return [raw_of(name) for name in found.elements]


def type_name(found: Composed | None) -> str:
    """Return what TYPE says."""
    match found:
        case None:
            return "none"
        case Register() | Counter():
            return "string"
        case Set():
            return "set"
        case Map():
            return "hash"
        case Flag():
            return "flag"


def encoding_name(found: Composed) -> str:
    """Return what OBJECT ENCODING says."""
    match found:
        case Register(value=value):
            if integer_in(value) is not None:
                return "int"
            return "embstr" if len(value) <= EMBEDDED_MAX else "raw"
        case Counter():
            return "int"
        case _:
            return "hashtable"
