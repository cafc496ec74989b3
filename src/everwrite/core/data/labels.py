"""What a value's bytes are, in its writer's words: a content type, and metadata under names.

Most values need none: that they are bytes, text or JSON is a number, their *kind*. Whoever says
more gives a *label*, and the version has its bytes in the place of the number. So what nobody uses
costs nothing, on the disk or on the way; and each sibling keeps its own.

    label = MessagePack [kind, content type, {name: text}]      names in their order

Equal labels are equal bytes. No node looks into one but to check what a client sends; who reads the
value does. A label of a newer version, or one that is garbled, is a value of plain bytes.
"""

from __future__ import annotations

import msgspec

from everwrite.core.errors import RequestError, TooLarge

KIND_BYTES, KIND_TEXT, KIND_JSON = range(3)

KIND_PIECE = 3
"""A piece of a data type (core/types/pieces.py): coordinators make them, and no client may."""

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, OverflowError)
"""What msgspec raises for bytes that are not what they should be."""

Kind = int | bytes
"""KIND_BYTES, KIND_TEXT, KIND_JSON, or a label; KIND_PIECE in a record."""

LABEL_BYTES_MAX = 4096
"""It is kept with each version and sent with each answer: a name and an origin, no second value."""

TYPES = ("application/octet-stream", "text/plain; charset=utf-8", "application/json")
"""The content types of the kinds: a value that has one of them, and no metadata, needs no label."""


class Label(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Invariant: ``kind`` is a number, and the names of ``meta`` are in their order."""

    kind: int
    content_type: str
    meta: dict[str, str]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Label).decode


def kind_of(kind: int, content_type: str = "", meta: dict[str, str] | None = None) -> Kind:
    """Return what a version keeps of this: the number alone where that says it all; TooLarge over
    LABEL_BYTES_MAX.
    """
    if not meta and content_type in ("", TYPES[kind]):
        return kind
    label = _encode(Label(kind, content_type or TYPES[kind], dict(sorted((meta or {}).items()))))
    if len(label) > LABEL_BYTES_MAX:
        raise too_long(len(label))
    return label


def label_of(kind: Kind) -> Label:
    """Return what a version says of its value, whatever it says it with."""
    if type(kind) is bytes:
        try:
            label = _decode(kind)
        except UNREADABLE:
            return Label(KIND_BYTES, TYPES[KIND_BYTES], {})
        return label if 0 <= label.kind < len(TYPES) else _of_newer(label)
    number = kind if isinstance(kind, int) and 0 <= kind < len(TYPES) else KIND_BYTES
    return Label(number, TYPES[number], {})


def base_of(kind: Kind) -> int:
    """Return the number within: how to read the bytes."""
    return kind if isinstance(kind, int) else label_of(kind).kind


def check_kind(kind: Kind) -> None:
    """Raise RequestError for what a client may not store."""
    if isinstance(kind, int):
        if not KIND_BYTES <= kind <= KIND_JSON:
            raise RequestError(f"A value of kind {kind} is not possible.", hint=_KINDS)
        return
    if len(kind) > LABEL_BYTES_MAX:
        raise too_long(len(kind))
    try:
        label = _decode(kind)
    except UNREADABLE as error:
        raise RequestError(f"The value's label cannot be read: {error}.", hint=_KINDS) from error
    if not KIND_BYTES <= label.kind <= KIND_JSON or _encode(label) != kind:
        raise RequestError("The value's label is not as a client makes it.", hint=_KINDS)
    if list(label.meta) != sorted(label.meta):
        raise RequestError("The names of the value's metadata are out of order.", hint=_KINDS)


def too_long(size: int) -> TooLarge:
    """Return the error for a label over the limit."""
    return TooLarge(
        f"The value's content type and metadata have {size} bytes; the most is {LABEL_BYTES_MAX}.",
        hint="Nothing was written. Keep long texts in the value.",
    )


def _of_newer(label: Label) -> Label:
    return Label(KIND_BYTES, label.content_type, label.meta)


_KINDS = (
    f"Use {KIND_BYTES} (bytes), {KIND_TEXT} (text) or {KIND_JSON} (JSON), or a label with one of "
    "them, a content type and metadata."
)
