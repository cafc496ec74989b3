"""What the application gets back, and how its values become bytes and bytes become values again.

A value is bytes, text, or anything that JSON can say; beside its bytes travels its kind, so that it
comes back as what it was. None is no value: to write "nothing" is to delete. What the encoder would
quietly turn into a list or a text (sets, dates, bytes inside a list, ...) is refused; only tuples
come back as lists, and structs as dicts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec.structs import replace

from everwrite.client.arguments import a, merged
from everwrite.core.data.keys import checked_value, split_key
from everwrite.core.data.labels import (
    KIND_BYTES,
    KIND_JSON,
    KIND_PIECE,
    KIND_TEXT,
    Kind,
    base_of,
)
from everwrite.core.data.versions import Version, decode, live
from everwrite.core.errors import Conflict, RequestError
from everwrite.core.messages.requests import (
    ABSENT,
    BUSY,
    FOUND,
    NOT_HERE,
    REFUSED,
    STALE_VIEW,
    UNREADABLE,
    FetchReply,
    GetReply,
    Quality,
)
from everwrite.core.types.composed import Composed, Counter, Flag, Map, Register, Set
from everwrite.core.types.composing import compose_all
from everwrite.core.types.operations import Name

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


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    owner has heard of it), "deleted", "expired" (until it is forgotten, some minutes later: then
    "never"), "unknown" (not all owners could say)."""
    merge: Merge | None = None
    expires_ms: int = 0
    """When the last of the values ends, in milliseconds since 1970; 0: one of them never does."""
    time_ms: int = 0
    """The time of the read by the cluster's clock; 0: nobody said."""
    composed: Composed | None = None
    """What makes the one value, if that is a data type: ``type`` names it."""
    clash: Sequence[Composed] = ()
    """What makes the values, where writers that did not know of each other made the key several
    types: first that which whoever asks for one type is shown."""
    place: str = ""
    """The bucket and key of several values, for the Conflict that they may be."""

    def __bool__(self) -> bool:
        return bool(self.values)

    @property
    def type(self) -> str:
        """Which data type is there: "counter", "set", "map", "register", "flag"; empty: none, so
        the values are what was put.
        """
        return "" if self.composed is None else type_of(self.composed)

    @property
    def expires(self) -> datetime | None:
        """When there will be nothing left, in UTC; None if one of the values is to stay for ever,
        or nothing is there. Siblings end one by one: this is the end of the last.
        """
        return _moment(self.expires_ms)

    @property
    def expires_in(self) -> timedelta | None:
        """How long it was until then when this was read, whatever this machine's clock says."""
        return _span(self.time_ms, self.expires_ms)

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
            where = f" at {self.place}" if self.place else ""
            raise Conflict(
                f"There are {len(values)} siblings{where} where one value was asked for.",
                hint="Merge .values and put that with .context, or give the bucket a merge=.",
            )
        return merged(self.merge, values)


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
    expires_ms: int = 0
    """When the value ends (after a touch: the last of the values), in milliseconds since 1970; 0:
    never.
    """
    time_ms: int = 0
    """The time by the cluster's clock; 0: nobody said."""
    retried: bool = False
    """Whether this client, or the node that it asked, tried again when an earlier try may have been
    carried out: somebody who overwrites one of the two copies may find the other as a sibling."""

    @property
    def expires(self) -> datetime | None:
        """When the value ends, in UTC; None: never."""
        return _moment(self.expires_ms)

    @property
    def expires_in(self) -> timedelta | None:
        """How long it was until then, whatever this machine's clock says."""
        return _span(self.time_ms, self.expires_ms)


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
        why = "it refers to itself, or is nested too deep"
        raise RequestError(
            f"{a(type(value).__name__)} that cannot be written as JSON is no value: "
            f"{why if isinstance(error, RecursionError) else error}.",
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


def decode_value(kind: Kind, raw: bytes) -> Any:
    """Return the value that these bytes of this kind are; as bytes if they are not of this kind, or
    it is unknown: one bad sibling must not hide the others.
    """
    if type(kind) is bytes:
        kind = base_of(kind)
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
    record = decode(reply.record)
    versions = live(record, reply.time_ms)
    if len(versions) == 1:
        only = versions[0]
        value: Any = only.value
        if only.kind != KIND_BYTES:
            if only.kind == KIND_PIECE:
                return _typed_copy(reply, versions, quality, merge)
            value = decode_value(only.kind, value or b"")
        return Found([value], reply.context, quality, merge, only.expires, reply.time_ms)
    if not versions:
        return Found([], reply.context, _without_value(quality, record.siblings), merge)
    if any(version.kind == KIND_PIECE for version in versions):
        return _typed_copy(reply, versions, quality, merge)
    values = [decode_value(version.kind, version.value or b"") for version in versions]
    last = _last([version.expires for version in versions])
    return Found(values, reply.context, quality, merge, last, reply.time_ms)


def found_by_node(reply: GetReply, merge: Merge | None) -> Found:
    """Return what a coordinating node found."""
    if any(kind == KIND_PIECE for kind, _ in reply.values):
        made = compose_all(reply.values, reply.marks)
        return _typed(made, reply.context, reply.quality, merge, _last(reply.ends), reply.time_ms)
    values = [decode_value(kind, raw) for kind, raw in reply.values]
    return Found(values, reply.context, reply.quality, merge, _last(reply.ends), reply.time_ms)


def at(found: Found, data: bytes) -> Found:
    """Return what was found with where that was: of several values only, since it costs some."""
    bucket, key = split_key(data)
    place = f"{bucket.decode()}/{key.decode(errors='backslashreplace')}"
    return replace(found, place=place)


def plain(composed: Composed) -> Any:
    """Return a data type as Python has it.

    >>> plain(Map({"apples": Counter(2), "tags": Set(["red"]), "new": Flag(True)}))
    {'apples': 2, 'tags': {'red'}, 'new': True}
    """
    match composed:
        case Counter():
            return composed.value
        case Set():
            return set(composed.elements)
        case Register():
            return decode_value(composed.kind, composed.value)
        case Flag():
            return composed.raised
        case Map():
            fields: dict[Name, Any] = {name: plain(one) for name, one in composed.fields.items()}
            return fields


def type_of(composed: Composed) -> str:
    """Return the word for a type.

    >>> type_of(Map({}))
    'map'
    """
    return str(type(composed).__struct_config__.tag)


def replica_of(node: str, reply: FetchReply | None) -> Replica:
    """Return one owner's copy as it told it; None: it did not answer."""
    if reply is None:
        return Replica(node, "down", b"", [])
    status = _STATUS.get(reply.status, "unknown")
    if reply.status not in (FOUND, NOT_HERE) or not reply.record:
        return Replica(node, status, b"", [])
    versions = live(decode(reply.record), reply.time_ms)
    values = [decode_value(version.kind, version.value or b"") for version in versions]
    return Replica(node, status, reply.record, values)


def told(
    versions: list[Version],
) -> tuple[list[tuple[Kind, bytes]], list[tuple[bytes, int, int]]]:
    """Return live versions as the answer to a read has them: values and marks."""
    return (
        [(version.kind, version.value or b"") for version in versions],
        [(version.actor, version.counter, version.time_ms) for version in versions],
    )


def _typed_copy(
    reply: FetchReply, versions: list[Version], quality: Quality, merge: Merge | None
) -> Found:
    made = compose_all(*told(versions))
    last = _last([version.expires for version in versions])
    return _typed(made, reply.context, quality, merge, last, reply.time_ms)


def _typed(
    made: list[Composed],
    context: bytes,
    quality: Quality,
    merge: Merge | None,
    last: int,
    time_ms: int,
) -> Found:
    """Return a data type as the one value of a key; several types, in a clash, as siblings: the
    context covers all of them, so all are shown.
    """
    if not made:
        return Found([], context, _without_value(quality, []))
    if len(made) == 1:
        return Found([plain(made[0])], context, quality, None, last, time_ms, made[0])
    values = [plain(each) for each in made]
    return Found(values, context, quality, merge, last, time_ms, clash=made)


def _without_value(quality: Quality, siblings: list[Version]) -> Quality:
    """Return the quality of an answer that shows none of these siblings."""
    ended = any(version.expires for version in siblings)
    why: Literal["deleted", "expired"] = "expired" if ended else "deleted"
    return Quality(quality.owners, quality.fallbacks, quality.required, why)


def _last(ends: Sequence[int]) -> int:
    """Return the latest of these ends; 0 (never) is later than all."""
    return 0 if 0 in ends else max(ends, default=0)


def _moment(time_ms: int) -> datetime | None:
    return _EPOCH + timedelta(milliseconds=time_ms) if time_ms else None


def _span(since_ms: int, until_ms: int) -> timedelta | None:
    """Return the time between two moments; None if one of them is not known."""
    return timedelta(milliseconds=until_ms - since_ms) if since_ms and until_ms else None


_STATUS = {
    FOUND: "found",
    ABSENT: "absent",
    UNREADABLE: "unreadable",
    REFUSED: "refused",
    STALE_VIEW: "stale_view",
    BUSY: "busy",
    NOT_HERE: "not_here",
}
