"""What a reader is shown of a key that is a data type: made of its pieces by composing.py."""

from __future__ import annotations

import msgspec

from everwrite.core.data.labels import Kind
from everwrite.core.types.operations import Name


class Counter(msgspec.Struct, tag="counter", frozen=True):
    """A sum of amounts."""

    value: int


class Set(msgspec.Struct, tag="set", frozen=True):
    """Elements, in the order of their bytes, texts and bytes alike."""

    elements: list[Name]


class Register(msgspec.Struct, tag="register", frozen=True):
    """The value that was written last. A key that was put as a plain value is one, too."""

    value: bytes
    kind: Kind


class Flag(msgspec.Struct, tag="flag", frozen=True):
    """Whether it is raised: one that is lowered is not there, so this says True."""

    raised: bool


class Map(msgspec.Struct, tag="map", frozen=True):
    """Fields, each of a type, in the order of their names' bytes."""

    fields: dict[Name, Composed]


Composed = Counter | Set | Register | Flag | Map
