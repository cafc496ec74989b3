"""What the application gets back, and how its values become bytes and bytes become values again.

A value is bytes, text, or anything that JSON can say; beside its bytes travels its kind, so that it
comes back as what it was. None is no value: to write "nothing" is to delete. What the encoder would
quietly turn into a list or a text (sets, dates, bytes inside a list, ...) is refused; only tuples
come back as lists, and structs as dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any
from uuid import UUID

import msgspec

from everwrite.core.data.keys import checked_value
from everwrite.core.data.versions import decode, live
from everwrite.core.errors import Conflict, RequestError
from everwrite.core.messages import (
    ABSENT,
    BUSY,
    FOUND,
    KIND_BYTES,
    KIND_JSON,
    KIND_TEXT,
    NOT_HERE,
    REFUSED,
    STALE_VIEW,
    UNREADABLE,
    FetchReply,
    GetReply,
    Quality,
)

Value = Any
"""bytes, str, or what JSON can say: numbers, booleans, lists, dicts with text keys, and structs
that become them. Tuples become lists."""

Merge = Callable[[list[Any]], Any]
"""Makes one value of siblings (two or more, in no order that means anything): see resolvers.py."""

_to_json = msgspec.json.Encoder(order="deterministic").encode
_from_json = msgspec.json.Decoder().decode

_SCALARS = frozenset((str, int, float, bool, type(None)))
_TEXT = frozenset((str,))

_ENCODED: tuple[tuple[type | tuple[type, ...], str], ...] = (
    ((set, frozenset), "a sorted list"),
    ((bytes, bytearray, memoryview), "the bytes as the whole value, or text such as base64"),
    ((date, time, timedelta), "text (isoformat()) or a number"),  # a datetime is a date, too
    ((UUID, Decimal), "str() of it"),
    (Enum, "its .value"),
)
"""What the encoder makes something else of that does not come back; and what to write instead."""


class Found(msgspec.Struct, frozen=True):
    """What a read found. True if there is a value."""

    values: list[Any]
    """All siblings: none if absent, one mostly, several after writes that did not know of each
    other.
    """
    context: bytes
    """Give it to the put or delete that this read leads to: it supersedes exactly what was read."""
    quality: Quality
    """How good the answer is; ``quality.absent`` says why nothing is there: "never" (no
    owner has heard of it), "deleted", "unknown" (not all owners could say)."""
    merge: Merge | None = None

    def __bool__(self) -> bool:
        return bool(self.values)

    @property
    def value(self) -> Any:
        """The one value; siblings merged by the bucket's ``merge``, or Conflict without one; None
        if absent.
        """
        values = self.values
        if len(values) == 1:
            return values[0]
        if not values:
            return None
        if self.merge is None:
            raise Conflict(
                f"There are {len(values)} siblings where one value was asked for.",
                hint="Merge .values and put that with .context, or give the bucket a merge=.",
            )
        return self.merge(list(values))


class Stored(msgspec.Struct, frozen=True):
    """What a put or delete came to."""

    context: bytes
    """Covers what was written and what it superseded: for the next write of the same writer."""
    owners: int
    fallbacks: int
    durable: int
    """How many of the acks stand for an fsync."""
    siblings: int
    """Values that there are now; over 1: somebody else wrote, too, and the next reader merges."""
    required: int


class Replica(msgspec.Struct, frozen=True):
    """One owner's own copy of a key."""

    node: str
    status: str
    """"found", "absent", "unreadable", "busy", "refused", "stale_view", "not_here" (it does not
    serve the key's partition: what it has counts for nothing), or "down": it did not answer.
    """
    record: bytes
    values: list[Any]


def encode_value(value: Any) -> tuple[int, bytes]:
    """Return the kind and bytes of a value; RequestError if it cannot be one, or would come back as
    something else (tuples may: they are lists to JSON).
    """
    try:
        if isinstance(value, str):
            kind, raw = KIND_TEXT, value.encode()
        elif isinstance(value, bytes | bytearray | memoryview):
            kind, raw = KIND_BYTES, bytes(value)
        elif value is None:
            raise RequestError("None is no value.", hint="Use delete() to take the value away.")
        else:
            if type(value) not in _SCALARS:
                _check_sayable(value)
            kind, raw = KIND_JSON, _to_json(value)
            if b"null" in raw:
                _check_finite(msgspec.to_builtins(value))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise RequestError(
            f"A {type(value).__name__} that cannot be written as JSON is no value: {error}.",
            hint="Use bytes, text, or numbers, booleans, lists and dicts of such.",
        ) from error
    return kind, checked_value(raw)


def _check_sayable(value: Any) -> None:
    """Raise RequestError if there is something in it that would come back as something else.

    Lists and dicts of plain scalars, the most of all values, cost one C loop over their types.
    """
    if isinstance(value, dict):
        if not _TEXT.issuperset(map(type, value)):
            _check_names(value)
        items: Iterable[Any] = value.values()
    elif isinstance(value, list | tuple):
        items = value
    else:
        _check_known(value)
        return
    if not _SCALARS.issuperset(map(type, items)):
        for item in items:
            if type(item) not in _SCALARS:
                _check_sayable(item)


def _check_names(value: dict[Any, Any]) -> None:
    for name in value:
        if not isinstance(name, str):
            raise RequestError(
                f"A dict with the key {name!r} is no value: in JSON a dict's keys are text.",
                hint="Use str keys, such as str(key).",
            )


def _check_known(value: Any) -> None:
    if isinstance(value, str | int | float):  # enums that are one, too: they equal what comes back
        return
    for kinds, instead in _ENCODED:
        if isinstance(value, kinds):
            raise RequestError(
                f"JSON has no {type(value).__name__}: it would come back as something else.",
                hint=f"Write {instead}.",
            )


def _check_finite(value: Any) -> None:
    """Raise ValueError if there is a number in it that JSON has no word for: it became null."""
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"JSON has no word for {value}")
    inner = value.values() if isinstance(value, dict) else value
    if isinstance(inner, Iterable) and not isinstance(inner, str):
        for item in inner:
            _check_finite(item)


def decode_value(kind: int, raw: bytes) -> Any:
    """Return the value that these bytes of this kind are; as bytes if they are not of this kind, or
    it is unknown: one bad sibling must not hide the others.
    """
    try:
        if kind == KIND_TEXT:
            return raw.decode()
        return _from_json(raw) if kind == KIND_JSON else raw
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        return raw


def found_in_copy(reply: FetchReply, quality: Quality, merge: Merge | None) -> Found:
    """Return what the record says that R owners agree on; ``quality`` is that of such an answer
    with a value.
    """
    versions = live(decode(reply.record))
    if len(versions) == 1 and versions[0].kind == KIND_BYTES:
        return Found([versions[0].value], reply.context, quality, merge)
    if not versions:
        return Found([], reply.context, _deleted(quality), merge)
    values = [decode_value(version.kind, version.value or b"") for version in versions]
    return Found(values, reply.context, quality, merge)


def found_by_node(reply: GetReply, merge: Merge | None) -> Found:
    """Return what a coordinating node found."""
    values = [decode_value(kind, raw) for kind, raw in reply.values]
    return Found(values, reply.context, reply.quality, merge)


def replica_of(node: str, reply: FetchReply | None) -> Replica:
    """Return one owner's copy as it told it; None: it did not answer."""
    if reply is None:
        return Replica(node, "down", b"", [])
    status = _STATUS.get(reply.status, "unknown")
    if reply.status not in (FOUND, NOT_HERE) or not reply.record:
        return Replica(node, status, b"", [])
    versions = live(decode(reply.record))
    values = [decode_value(version.kind, version.value or b"") for version in versions]
    return Replica(node, status, reply.record, values)


def _deleted(quality: Quality) -> Quality:
    return Quality(quality.owners, quality.fallbacks, quality.required, "deleted")


_STATUS = {
    FOUND: "found",
    ABSENT: "absent",
    UNREADABLE: "unreadable",
    REFUSED: "refused",
    STALE_VIEW: "stale_view",
    BUSY: "busy",
    NOT_HERE: "not_here",
}
