"""Values as HTTP has them: bytes with a content type and metadata, raw or in an envelope.

What a request says of its body becomes the version's kind or label (core/data/labels.py), and comes
back as it was said. JSON and text are checked once, when they are written: so every client that
reads them gets what their type promises.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from everwrite.core.data.base64url import encode64
from everwrite.core.data.labels import (
    KIND_BYTES,
    KIND_JSON,
    KIND_PIECE,
    KIND_TEXT,
    TYPES,
    Kind,
    base_of,
    kind_of,
    label_of,
)
from everwrite.core.errors import Conflict, RequestError, WrongType
from everwrite.core.messages.requests import GetReply
from everwrite.server.http.problems import Header

META = b"meta-"
NAME_MAX = 64
TYPE_MAX = 256

_KNOWN: dict[bytes | None, Kind] = {
    None: KIND_BYTES,
    **{name.encode(): kind for kind, name in enumerate(TYPES)},
}
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")
_TYPE = re.compile(
    r"([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)[ \t]*(;[\x20-\x7e\t]*)?", re.IGNORECASE
)
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\";\s]+)", re.IGNORECASE)
_TEXT = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_RAW = msgspec.json.Decoder(msgspec.Raw)
_ordered = msgspec.json.Encoder(order="deterministic").encode


class Sibling(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One of the values of a key: JSON or text under ``value``, any other under ``value_b64``."""

    value: Any = msgspec.UNSET
    value_b64: str | msgspec.UnsetType = msgspec.UNSET
    content_type: str
    meta: dict[str, str] = {}
    modified: str = ""
    """By the clock of its coordinator: for people, no order follows from it."""
    dot: str = ""
    """Which write it was."""
    expires: str = ""


class Quality(msgspec.Struct, kw_only=True):
    """How good an answer is: who has answered."""

    owners: int
    fallbacks: int
    required: int
    unreadable: int = 0


class Envelope(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All that a read found."""

    bucket: str
    key: str = ""
    key_b64: str = ""
    """In the place of ``key`` where that is no text: base64url."""
    context: str
    siblings: list[Sibling]
    quality: Quality
    absent: str = ""


# -- what is written -------------------------------------------------------------------------------


def kind_in(headers: Mapping[bytes, bytes], body: bytes) -> Kind:
    """Return what a request says of its body; RequestError if that cannot be, or is not so."""
    meta: dict[str, str] | None = None
    for name in headers:
        if name.startswith(META):
            meta = meta or {}
            meta[name[len(META) :].decode("latin-1")] = headers[name].decode("latin-1")
    content_type = headers.get(b"content-type")
    if meta is None and content_type in _KNOWN:
        kind = _KNOWN[content_type]
        if kind:
            check_body(base_of(kind), body)
        return kind
    said = content_type.decode("latin-1") if content_type is not None else ""
    return kind_said(said, meta or {}, body)


def kind_said(content_type: str, meta: Mapping[str, str], body: bytes) -> Kind:
    """Return the kind or label for a value of this type, with this metadata."""
    base = _base_of_type(content_type) if content_type else KIND_BYTES
    if base == KIND_TEXT and not _CHARSET.search(content_type):
        base = KIND_TEXT if _is_text(body) else KIND_BYTES
    check_body(base, body)
    for name, text in meta.items():
        if not _NAME.fullmatch(name):
            raise RequestError(
                f"Meta-{name[:NAME_MAX]} is no name of metadata.",
                hint=f"Use up to {NAME_MAX} small letters, digits and hyphens.",
            )
        if not _TEXT.fullmatch(text) or not _is_latin(text):
            raise RequestError(
                f"The metadata {name!r} has what no header can hold.",
                hint="Percent-encode it, or keep it in the value.",
            )
    return kind_of(base, content_type, dict(meta))


def _base_of_type(content_type: str) -> int:
    """Return how to read bytes of a content type."""
    match = _TYPE.fullmatch(content_type) if len(content_type) <= TYPE_MAX else None
    if match is None:
        raise RequestError(
            f"{content_type[:64]!r} is no content type.", hint="Use one like image/png."
        )
    kind = match[1].lower()
    if kind == "application/json" or kind.endswith("+json"):
        return KIND_JSON
    charset = _CHARSET.search(content_type)
    utf8 = charset is None or charset[1].lower() in ("utf-8", "utf8", "us-ascii")
    return KIND_TEXT if kind.startswith("text/") and utf8 else KIND_BYTES


def check_body(base: int, body: bytes) -> None:
    """Raise RequestError if bytes are not what their type says."""
    try:
        if base == KIND_JSON:
            _RAW.decode(body)
        if base != KIND_BYTES and not body.isascii():
            body.decode()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = "JSON" if base == KIND_JSON else "UTF-8 text"
        raise RequestError(
            f"The value is no {what}: {error}.",
            hint="Nothing was written. Send it as what it is: application/octet-stream takes all.",
        ) from error


def _is_text(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_latin(text: str) -> bool:
    return all(ord(letter) < 256 for letter in text)


# -- what is read ----------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def headers_of(kind: Kind) -> tuple[Header, ...]:
    """Return the headers that say what a value is. What no header can hold is left out."""
    label = label_of(kind)
    said = label.content_type
    content_type = said if _TYPE.fullmatch(said) and len(said) <= TYPE_MAX else TYPES[KIND_BYTES]
    found = [(b"content-type", content_type.encode("latin-1"))]
    for name, text in label.meta.items():
        if _NAME.fullmatch(name) and _TEXT.fullmatch(text) and _is_latin(text):
            found.append((META + name.encode(), text.encode("latin-1")))
    return tuple(found)


def siblings_of(reply: GetReply) -> list[Sibling]:
    """Return all values of an answer."""
    ends = reply.ends or [0] * len(reply.values)
    marks = reply.marks or [(b"", 0, 0)] * len(reply.values)
    return [
        sibling_of(kind, value, end, mark)
        for (kind, value), end, mark in zip(reply.values, ends, marks, strict=True)
    ]


def sibling_of(kind: Kind, value: bytes, end: int, mark: tuple[bytes, int, int]) -> Sibling:
    """Return one value as an envelope has it."""
    label = label_of(kind)
    found = Sibling(
        content_type=label.content_type,
        meta=label.meta,
        modified=moment(mark[2]),
        dot=dot_of(mark),
        expires=moment(end),
    )
    try:
        if label.kind == KIND_BYTES:
            found.value_b64 = base64.b64encode(value).decode()
        elif label.kind == KIND_TEXT:
            found.value = value.decode()
        else:
            check_body(KIND_JSON, value)
            found.value = msgspec.Raw(value)
    except (RequestError, UnicodeDecodeError):  # written by a client that says what is not so
        found.value_b64 = base64.b64encode(value).decode()
    return found


def dot_of(mark: tuple[bytes, int, int]) -> str:
    """Return the name of a write."""
    actor, counter, _ = mark
    return f"{actor.hex()}-{counter}" if actor else ""


def moment(time_ms: int) -> str:
    """Return a time of day as RFC 3339 has it; empty for 0."""
    if not time_ms:
        return ""
    found = datetime.fromtimestamp(time_ms / 1000, UTC)
    return found.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def envelope_of(bucket: bytes, key: bytes, reply: GetReply) -> Envelope:
    """Return all that a read found."""
    quality = reply.quality
    found = Envelope(
        bucket=bucket.decode(),
        context=encode64(reply.context).decode(),
        siblings=siblings_of(reply),
        quality=Quality(
            owners=quality.owners,
            fallbacks=quality.fallbacks,
            required=quality.required,
            unreadable=quality.unreadable,
        ),
        absent=quality.absent,
    )
    found.key, found.key_b64 = key_in_json(key)
    return found


def key_in_json(key: bytes) -> tuple[str, str]:
    """Return a key as text, or else as base64url."""
    try:
        return key.decode(), ""
    except UnicodeDecodeError:
        return "", encode64(key).decode()


def check_plain(reply: GetReply) -> None:
    """Raise WrongType if what a read found is a data type: its siblings are pieces of one value."""
    pieces = sum(kind == KIND_PIECE for kind, _ in reply.values)
    if 0 < pieces < len(reply.values):
        raise WrongType(
            "A plain value stands beside a data type at this key.",
            hint="Read both at /v1/crdt/{bucket}/{key}. A DELETE with the context of that PUT "
            "takes its value alone away; a change of the data type that it hides says so, too.",
        )
    if pieces:
        raise WrongType(
            "The key is a data type, and no plain value.",
            hint="Read it at /v1/crdt/{bucket}/{key}.",
        )


# -- one of several --------------------------------------------------------------------------------


def resolve(how: str, reply: GetReply) -> tuple[Kind, bytes]:
    """Return one value for several: that with the latest time ("lww"), or the union of JSON lists.

    Nothing is changed by that: until a put with the context of the answer all of them stand.
    """
    if len(reply.values) == 1:
        return reply.values[0]
    if how == "lww":
        latest = max(
            range(len(reply.values)),
            key=lambda at: (reply.marks[at][2], reply.marks[at][0], reply.marks[at][1]),
        )
        return reply.values[latest]
    items: dict[bytes, Any] = {}
    for kind, value in reply.values:
        found = _list_in(kind, value)
        items |= {_ordered(item): item for item in found}
    return KIND_JSON, _ordered([items[item] for item in sorted(items)])


def _list_in(kind: Kind, value: bytes) -> list[Any]:
    try:
        found = msgspec.json.decode(value) if base_of(kind) == KIND_JSON else None
    except (msgspec.MsgspecError, RecursionError):
        found = None
    if not isinstance(found, list):
        raise Conflict(
            "Not all siblings are JSON lists, so they have no union.",
            hint="Read the envelope (format=envelope), merge, and put that with its context.",
        )
    return found


def bytes_of(value: Any, value_b64: str | None, content_type: str) -> tuple[bytes, str]:
    """Return the bytes and the content type of a value in JSON; RequestError if it is none."""
    if value_b64 is not None:
        if value is not msgspec.UNSET:
            raise RequestError("value and value_b64 are two values.", hint="Give one of them.")
        try:
            return base64.b64decode(value_b64, validate=True), content_type
        except (ValueError, binascii.Error) as error:
            raise RequestError("value_b64 is no base64.", hint="Use padded base64.") from error
    if value is msgspec.UNSET:
        raise RequestError("A put needs a value.", hint="Give value, or value_b64 for bytes.")
    if content_type and _base_of_type(content_type) != KIND_JSON:
        try:
            return msgspec.json.decode(value, type=str).encode(), content_type
        except (msgspec.MsgspecError, UnicodeEncodeError) as error:
            raise RequestError(
                f"A value of type {content_type} is a text, or value_b64.",
                hint="Leave out content_type for JSON.",
            ) from error
    return bytes(value), content_type or TYPES[KIND_JSON]
