"""What a data type is in JSON: to HTTP, and to scripts that read what the command line prints.

Each has its ``type``, and its ``value``: of a counter a number, of a set a list, of a map an object
whose members are such documents, of a flag true. Names of fields and elements are texts; what is no
text is in base64 (with padding): an element as {"b64": "..."}, fields under ``value_b64``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from everwrite.core.data.labels import KIND_JSON, KIND_TEXT, label_of
from everwrite.core.types import composed as types
from everwrite.core.types.operations import Name, name_of


class Bytes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A name that is no text, in base64."""

    b64: bytes


JsonName = str | Bytes


class CounterValue(msgspec.Struct, tag_field="type", tag="counter"):
    """The sum of what was added."""

    value: int


class SetValue(msgspec.Struct, tag_field="type", tag="set"):
    """All elements, in the order of their bytes."""

    value: list[JsonName]


class RegisterValue(
    msgspec.Struct, tag_field="type", tag="register", kw_only=True, omit_defaults=True
):
    """What was written last: JSON or text under ``value``, any other under ``value_b64``."""

    value: Any = msgspec.UNSET
    value_b64: bytes | msgspec.UnsetType = msgspec.UNSET
    content_type: str
    meta: dict[str, str] = {}


class FlagValue(msgspec.Struct, tag_field="type", tag="flag"):
    """Whether it is raised. One that is lowered is not there."""

    value: bool


class MapValue(msgspec.Struct, tag_field="type", tag="map", omit_defaults=True):
    """All fields, in the order of their names' bytes."""

    value: dict[str, TypedValue]
    value_b64: dict[str, TypedValue] = {}
    """Those whose names are no text: under these in base64."""


TypedValue = CounterValue | SetValue | RegisterValue | FlagValue | MapValue


def name_in(name: JsonName) -> Name:
    """Return the name that JSON says.

    >>> name_in(Bytes(b"tea")), name_in(Bytes(bytes([255])))
    ('tea', b'\\xff')
    """
    return name if isinstance(name, str) else name_of(name.b64)


def document(composed: types.Composed) -> TypedValue:
    """Return a value as JSON has it.

    >>> msgspec.json.encode(document(types.Map({"tea": types.Counter(2), "new": types.Flag(True)})))
    b'{"type":"map","value":{"tea":{"type":"counter","value":2},"new":{"type":"flag","value":true}}}'
    """
    match composed:
        case types.Counter():
            return CounterValue(composed.value)
        case types.Set():
            return SetValue([_said(name) for name in composed.elements])
        case types.Register():
            return _register(composed)
        case types.Flag():
            return FlagValue(composed.raised)
        case types.Map():
            fields = composed.fields.items()
            return MapValue(
                {name: document(one) for name, one in fields if isinstance(name, str)},
                {_base64(name): document(one) for name, one in fields if isinstance(name, bytes)},
            )


def _register(composed: types.Register) -> RegisterValue:
    label, raw = label_of(composed.kind), composed.value
    found = RegisterValue(content_type=label.content_type, meta=label.meta)
    try:
        if label.kind == KIND_TEXT:
            found.value = raw.decode()
        elif label.kind == KIND_JSON:
            raw.decode()
            found.value = msgspec.json.decode(raw, type=msgspec.Raw)
        else:
            found.value_b64 = raw
    except (UnicodeDecodeError, msgspec.MsgspecError, RecursionError):
        found.value_b64 = raw  # its writer said what is not so
    return found


def _said(name: Name) -> JsonName:
    return name if isinstance(name, str) else Bytes(name)


def _base64(raw: bytes) -> str:
    text = msgspec.to_builtins(raw)
    assert isinstance(text, str)
    return text
