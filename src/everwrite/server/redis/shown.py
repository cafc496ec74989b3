"""What a read of a key says, in Redis' words: a string, a hash, a set, or nothing."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import msgpack

from everwrite.core.data.labels import KIND_PIECE, Kind
from everwrite.core.messages.requests import GetReply
from everwrite.core.types import pieces
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.composing import compose
from everwrite.core.types.operations import name_of, raw_of
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
    return merged(map(decode, _sketches(values) or [last]))


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


def strings_in(reply: GetReply) -> dict[bytes, bytes]:
    """Return the fields of a hash and their values; a Problem if one is of another type."""
    return {name: string_of(value) or b"" for name, value in hash_in(reply).items()}


# -- a part of it ----------------------------------------------------------------------------------

# The pieces of a hash or a set as Redis has it begin with one of these. Where all do nothing
# clashes, and what was not asked for changes nothing of an answer: it is not composed.

FIELD_HEADS = frozenset(
    msgpack.encode([which, [""], None])[:3] for which in (pieces.REGISTER, pieces.COUNTER)
)
"""Then comes the name."""
ELEMENT_HEAD = msgpack.encode([pieces.ELEMENT, [], ""])[:3]
_ELEMENT_HEADS = frozenset([ELEMENT_HEAD])
"""Then comes the element."""
NAMES_MAX = 16
"""Fields that are looked for one by one."""


def _all_begin(reply: GetReply, heads: frozenset[bytes]) -> bool:
    """Say whether there are pieces, and all begin so."""
    values = reply.values
    return {kind for kind, _ in values} == {KIND_PIECE} and heads.issuperset(
        {value[:3] for _, value in values}
    )


def fields_in(reply: GetReply, names: Sequence[bytes]) -> dict[bytes, bytes]:
    """As ``strings_in``, of these fields at least."""
    if len(names) > NAMES_MAX or not _all_begin(reply, FIELD_HEADS):
        return strings_in(reply)
    wanted = tuple(msgpack.encode(name_of(name)) for name in names)  # none begins another
    values, marks = reply.values, reply.marks
    there = [at for at, (_, value) in enumerate(values) if value.startswith(wanted, 3)]
    found = compose([values[at] for at in there], [marks[at] for at in there])
    if found is None:
        return {}
    assert isinstance(found, Map)
    return {raw_of(name): string_of(value) or b"" for name, value in found.fields.items()}


def count_in_hash(reply: GetReply) -> int:
    """Return how many fields the hash under a key has; a Problem if another type stands there."""
    if not _all_begin(reply, FIELD_HEADS):
        return len(strings_in(reply))
    return len({pieces.decode(value).path[0] for _, value in reply.values})


def in_set(reply: GetReply, elements: Sequence[bytes]) -> list[bool]:
    """Return which of these are in the set under a key; a Problem if another type stands there."""
    if not _all_begin(reply, _ELEMENT_HEADS):
        there = set(set_in(reply))
        return [each in there for each in elements]
    values = {value for _, value in reply.values}
    return [ELEMENT_HEAD + msgpack.encode(name_of(each)) in values for each in elements]


def count_in_set(reply: GetReply) -> int:
    """Return how many elements the set under a key has; a Problem if another type stands there."""
    if not _all_begin(reply, _ELEMENT_HEADS):
        return len(set_in(reply))
    return len({value for _, value in reply.values})


# -- what it is called -----------------------------------------------------------------------------


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
