"""A change that begins with the removal of the whole key: nothing of what stood there is looked at.

`EXPIRE` and `PERSIST` of a hash, and whoever writes a value anew, remove all and make it again. All
pieces go by their dots, whatever they say; the tree of places (composing.py) is needed only to tell
a clash, and where all pieces are of one type their first bytes say that there is none. Of a hash of
16,384 fields that is half of the change.

Costs: linear in siblings.
"""

from __future__ import annotations

from everwrite.core.data.labels import KIND_PIECE
from everwrite.core.data.versions import Dot, Record
from everwrite.core.types.operations import DEPTH_MAX, Operation, Remove
from everwrite.core.types.pieces import COUNTER, ELEMENT, FLAG, REGISTER

_PLAIN = b"plain"
"""A value that is no piece; no head is that long."""

_BELOW, _HERE = (
    frozenset(
        bytes([0x93, which, 0x90 | depth])
        for which in (REGISTER, COUNTER, ELEMENT, FLAG)
        for depth in depths
    )
    for depths in (range(1, DEPTH_MAX + 1), (0,))
)
"""With what pieces of a map begin, and those of other types: a list of three, the type, and how
many names the path has."""
_HEADS = _BELOW | _HERE | {_PLAIN}


def emptied(record: Record, operations: list[Operation], time_ms: int) -> set[Dot] | None:
    """Return the dots of all that lives in a record, if the first of these operations removes it
    and it is of one type; None: the operations are to be carried out one by one.
    """
    first = operations[0]
    if not isinstance(first, Remove) or first.path:
        return None
    dots: set[Dot] = set()
    heads: set[bytes] = set()
    for version in record.siblings:
        value = version.value
        if value is not None and not 0 < version.expires <= time_ms:
            dots.add((version.actor, version.counter))
            heads.add(value[:3] if version.kind == KIND_PIECE else _PLAIN)
    if len(heads) > 1 and not heads <= _BELOW:
        return None  # several types, or a number: who looks closer tells them apart
    return dots if heads <= _HEADS else None  # what cannot be read is not passed over
